//! Exit codes: what a script may rely on.

use std::process::ExitCode;

use crate::jobs::JobError;
use crate::jobs::eval::{EvalRecord, UntilRecord, lowest_accuracy, unreadable};

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done as asked.
    Success = 0,
    /// The score is below `--min-accuracy`, a check against `--baseline` failed, or `--until` does not show that nothing is worse.
    BelowMinimum = 1,
    /// The user's mistake: flags, files, network, disk. Clap's own code for a wrong flag.
    UserMistake = 2,
    /// The engine failed.
    EngineFailure = 3,
    /// Outputs are not those of their golden files.
    Differs = 4,
    /// Ctrl-C; what is kept depends on the command, which says it. 128 + SIGINT, as shells have it.
    Interrupted = 130,
}

/// For `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0    success
  1    the score is below --min-accuracy, --baseline finds the run worse,
       --until shows a variant worse or cannot tell, --deny-notes finds
       something implausible, determinism sees something move, or probe finds
       what harms an evaluation
  2    a mistake in the command, its files, the network or the disk
  3    the engine failed, or a server did not answer every request
  4    outputs are not those of their golden files
  130  interrupted with Ctrl-C; the last lines say what is kept of it";

impl Exit {
    /// `--min-accuracy`: the lowest accuracy of any precision under the headline rule, against `minimum`
    /// percent. No accuracy at all is below any minimum.
    pub fn of_accuracy(record: &EvalRecord, minimum: f64) -> Self {
        let reached = lowest_accuracy(record).is_ok_and(|accuracy| accuracy * 100.0 >= minimum);
        if reached { Self::Success } else { Self::BelowMinimum }
    }

    /// `--until`: a run that it ended succeeds where every variant is shown to be no worse; one without it, always.
    pub fn of_until(record: &EvalRecord) -> Self {
        let reads = |until: &UntilRecord| record.dtypes.iter().all(|dtype| unreadable(dtype, &until.rule).is_none());
        let kept = record.until.as_ref().is_none_or(|until| until.is_kept() && reads(until));
        if kept { Self::Success } else { Self::BelowMinimum }
    }
}

impl From<&JobError> for Exit {
    fn from(error: &JobError) -> Self {
        if error.is_engine_failure() { Self::EngineFailure } else { Self::UserMistake }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
