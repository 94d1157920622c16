//! `evalsuite blame`: typed, resolved, run, said.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::model::ModelArguments;
use super::of_run::with_model_of_run;
use super::output::{OutputArguments, colour, print_and_keep};
use super::printer::say;
use super::session::with_context;
use super::values::at_least_one;
use crate::engine::Batching;
use crate::jobs::JobError;
use crate::jobs::blame::{BlameFinished, BlameJob, execute};

pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite blame runs/RUN
      what awq lost of f32's answers, and by which layers and projections
  evalsuite blame runs/RUN --variant g32 --limit 50 --out blame.json
      of another checkpoint of the run, 50 answers, with a record in JSON
  evalsuite report blame.json --format html --out blame.html
      the damage map as a heat map, on a page

The answers are those that are right in f32 (or the run's reference) and wrong in
the variant; where they are fewer than --limit, those with the fewest tokens in
common beside them. Each is read again up to the first token that differs. Then the weights of one
layer after the other, and of one projection after the other, are put back to the
reference's, in the variant's arithmetic, and the answers read again: what raises
the margin of the reference's token over the variant's was to blame. Scales that
AWQ has folded into norms and rows are heeded.

At last layers are put back together, up to a quarter of the model's (two at
least), until most answers have their token back; `evalsuite quantize --keep`
makes such a checkpoint. Ctrl-C keeps what was read.";

/// `evalsuite blame`.
#[derive(Debug, Clone, Args)]
pub struct BlameArguments {
    /// Finished run folder with greedy answers of the variant and its reference
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The run's variant to explain
    #[arg(long = "variant", value_name = "NAME", default_value = "awq")]
    pub explained: String,
    /// Answers that are looked at, at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// The rule that says which answers are right [default: the run's headline]
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,

    /// The run's model, where it lies elsewhere now
    #[arg(id = "model", long, value_name = "MODEL", help_heading = "Model")]
    pub source: Option<String>,
    /// Its AWQ weights, where they lie elsewhere now
    #[arg(long, value_name = "AWQ", help_heading = "Model")]
    pub awq: Option<String>,
    /// `auto`, `cpu`, `cuda` (on one device)
    #[arg(long, default_value = "auto", help_heading = "Model")]
    pub engine: String,
    /// Which GPU, where the engine runs on one; of several the first
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0", help_heading = "Model")]
    pub device: Vec<usize>,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub threads: Option<usize>,
    /// Use only what is on this machine; ask no hub
    #[arg(long, help_heading = "Model")]
    pub offline: bool,

    /// Write the record, with every number and its provenance, to this file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    /// How to print the tables.
    pub output: OutputArguments,
}

impl BlameArguments {
    /// The run's model and variants, as far as nothing else is named.
    fn model(&self, typed: &[String]) -> Result<ModelArguments, JobError> {
        // `--variant` names one of the run's here, and none of its own.
        let typed: Vec<String> = without_variant(typed);
        let own = ModelArguments {
            source: self.source.clone().unwrap_or_else(|| crate::bundled::NAME.to_owned()),
            revision: crate::hub::DEFAULT_REVISION.to_owned(),
            dtype: Vec::new(),
            variant: Vec::new(),
            reference: None,
            awq: self.awq.clone(),
            engine: self.engine.clone(),
            device: self.device.clone(),
            batching: None,
            threads: self.threads,
            offline: self.offline,
        };
        with_model_of_run(&own, &typed, &self.run)
    }
}

/// A command line without `--variant` and its value.
fn without_variant(words: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--variant" {
            words.next();
        } else if !word.starts_with("--variant=") {
            left.push(word.clone());
        }
    }
    left
}

/// Runs the command.
pub(super) fn run(arguments: &BlameArguments, command: Vec<String>) -> Result<Exit, JobError> {
    at_least_one(&[("--limit", Some(arguments.limit))])?;
    let model = arguments.model(&command)?;
    let job = BlameJob {
        target: model.resolve(Batching::default(), Some(1))?,
        command,
        run: arguments.run.clone(),
        variant: arguments.explained.clone(),
        rule: arguments.rule.clone(),
        limit: arguments.limit,
        out: arguments.out.clone(),
        format: arguments.output.format(colour())?,
    };
    let hub = model.start()?;
    let finished = with_context(|context| execute(&job, &hub, context))?;
    conclude(&job, &finished)
}

/// Prints what was found.
fn conclude(job: &BlameJob, finished: &BlameFinished) -> Result<Exit, JobError> {
    let BlameFinished { record, report } = finished;
    let Some(report) = report else {
        say("interrupted before the first answers were read: there is nothing to report");
        return Ok(Exit::Interrupted);
    };
    print_and_keep(report, job.out.as_deref(), !record.complete, |path| record.write(path))?;
    if record.complete {
        return Ok(Exit::Success);
    }
    say("interrupted: the figures are of what was read\nhint: a smaller `--limit` takes less time");
    Ok(Exit::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_that_is_explained_is_none_of_the_model_s_flags() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let left = without_variant(&words("evalsuite blame runs/RUN --variant awq --model m --variant=g32"));
        assert_eq!(left, words("evalsuite blame runs/RUN --model m"));
    }
}
