//! What is typed after `evalsuite golden`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::exit::HELP as EXIT_CODES;
use crate::cli::output::DataArguments;

pub(in crate::cli) const EXAMPLES: &str = "\
Examples:
  evalsuite golden accept --suite gsm8k --model ./model --dtype f32,f16 \\
      -- --limit 40
      run the first 40 problems and keep what comes as golden files
  evalsuite golden check
      run what every golden file is of, and say where outputs have changed
  evalsuite golden check --suite quality --model ./model --dtype awq
      one of them
  evalsuite golden review
      walk through what changed, and accept, reject or skip it by one key
  evalsuite golden accept --all
      take everything that changed
  evalsuite golden accept --rerun --model bundled
      run what the golden files of a model are of, and take what comes

Golden files lie in golden/SUITE/MODEL/DTYPE.json. A check leaves what changed
beside them, as DTYPE.json.new; with --ci, or where the environment variable CI
is set, nothing is written and nothing is asked. Golden files whose model is not
on this machine are left out, and listed with the way to get it; with
--require-all they fail.";

const TIERS: &str = "\
Tiers, chosen by each prompt of a set (its key `tier`), or else by --tier:
  tokens       every token, the text, and what every rule and check says
  answer       what every rule extracts and every check says
  statistical  no worse: right answers (by the headline rule) or prompts
               that pass all checks, paired; the lower end of Tango's 95 %
               score interval (1998) lies above minus --margin. Other weights
               are no difference in this tier.";

const CHECK_JSON: &str = "\
--format json: kind (\"golden check\"), format (1), holds (all of them do), common
(what several golden files have in common, each with what, is_note, outputs: how
many it touches, and golden_files: their paths) and golden_files, each with
suite, model, dtype, path, status (ok, changed, pending, orphaned, missing,
failed, left out), summary, is_pending, and, without what is common, notes and
differences, each with id (null: of several outputs, or of the whole file), what
and, of several, outputs: their ids. Differences are all told there.";

const REVIEW_JSON: &str = "\
--format json asks for nothing and prints what is pending: kind (\"golden
review\"), format (1), and pending, each with suite, model, dtype, path,
pending_path, and differences, each with id (null: of several outputs, or of the
whole file), what and, of several, outputs: their ids.";

const ACCEPT_JSON: &str = "\
--format json: kind (\"golden accept\"), format (1), and accepted, each with
suite, model, dtype, path, outputs and tier.";

const LIST_JSON: &str = "\
--format json: kind (\"golden list\"), format (1), and golden_files, each with
suite, model, dtype, path, status, what (where it is not ok), and of a golden
file that can be read outputs, tier, engine, date, model_sha256, and the ids
that are orphaned and missing.";

/// `evalsuite golden`.
#[derive(Debug, Clone, Args)]
pub struct GoldenArguments {
    /// What to do.
    #[command(subcommand)]
    pub action: GoldenAction,
}

/// What there is to do with golden files.
#[derive(Debug, Clone, Subcommand)]
pub enum GoldenAction {
    /// Run what golden files are of, or take a run, and compare
    #[command(after_help = format!("{TIERS}\n\n{CHECK_JSON}\n\n{EXIT_CODES}"))]
    Check(Box<CheckArguments>),
    /// Walk through what changed: a accept, r reject, s skip, q quit
    #[command(after_help = format!("{REVIEW_JSON}\n\n{EXIT_CODES}"))]
    Review(LookArguments),
    /// Make pending files, or what runs anew, the golden files
    #[command(after_help = format!("{TIERS}\n\n{ACCEPT_JSON}\n\n{EXIT_CODES}"))]
    Accept(Box<AcceptArguments>),
    /// List golden files: ok, pending, orphaned, missing; runs nothing
    #[command(after_help = format!("{LIST_JSON}\n\n{EXIT_CODES}"))]
    List(LookArguments),
}

/// Where golden files lie.
#[derive(Debug, Clone, Args)]
pub struct FolderArguments {
    /// Folder of the golden files
    #[arg(long, value_name = "DIR", default_value = "golden")]
    pub golden: PathBuf,
}

/// `evalsuite golden review` and `evalsuite golden list`.
#[derive(Debug, Clone, Args)]
pub struct LookArguments {
    #[command(flatten)]
    /// Where golden files lie.
    pub folder: FolderArguments,
    #[command(flatten)]
    /// How to print them.
    pub data: DataArguments,
}

/// Which golden files, and by what they are run.
#[derive(Debug, Clone, Args)]
pub struct ScopeArguments {
    #[command(flatten)]
    /// Where they lie.
    pub folder: FolderArguments,
    /// `quality` or `gsm8k` [default: both]
    #[arg(long, value_name = "SUITE")]
    pub suite: Option<String>,
    /// A model as `--model` of its suite takes it, or as its golden files are
    /// named [default: every model that has some; bundled for new ones]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Precisions [default: those that there are; for new ones, those that the
    /// model offers]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub dtype: Vec<String>,
    /// A further checkpoint as a column of its own, as `--variant` of its suite
    /// takes it; repeatable
    #[arg(long, value_name = "NAME=SOURCE")]
    pub variant: Vec<String>,
    /// AWQ weights of the model, as `--awq` of its suite takes them
    #[arg(long, value_name = "AWQ")]
    pub awq: Option<String>,
    /// The engine [default: that of the golden file; cpu for new ones]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Use only what is on this machine; ask no hub
    #[arg(long)]
    pub offline: bool,
    /// Take the outputs of this run's folder, and run nothing
    #[arg(long, value_name = "RUN", conflicts_with_all = ["suite", "model", "variant", "awq", "engine", "threads", "arguments"])]
    pub run: Option<PathBuf>,
    /// Other flags of the suite's command instead of the golden file's own, such as
    /// `--limit 40`, or `--only copying --max-tokens 24`
    #[arg(last = true, value_name = "FLAGS")]
    pub arguments: Vec<String>,
}

/// `evalsuite golden check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    /// Which golden files.
    pub scope: ScopeArguments,
    /// Write nothing and ask nothing, as where the environment variable CI is set
    #[arg(long)]
    pub ci: bool,
    /// Fail where a model is not on this machine; else its golden files are left
    /// out, unless --model asks for it
    #[arg(long)]
    pub require_all: bool,
    #[command(flatten)]
    /// How to print what was found.
    pub data: DataArguments,
}

/// Flags of what runs anew, or of a finished run; what is pending is taken as it is.
const OF_A_RUN: [&str; 9] = ["suite", "model", "dtype", "variant", "awq", "engine", "arguments", "run", "rerun"];

/// `evalsuite golden accept`.
#[derive(Debug, Clone, Args)]
pub struct AcceptArguments {
    // First, for what stands behind `--` is the last of the places.
    /// Pending files, their golden files, or folders of them
    #[arg(value_name = "PATHS", conflicts_with_all = OF_A_RUN, conflicts_with = "all")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    /// Which golden files.
    pub scope: ScopeArguments,
    /// Every pending file
    #[arg(long, conflicts_with_all = OF_A_RUN)]
    pub all: bool,
    /// Run anew what the golden files are of, and take what comes; --suite does too,
    /// and makes golden files where there are none
    #[arg(long)]
    pub rerun: bool,
    /// How strictly outputs are held: tokens, answer, statistical [default: as
    /// before; tokens for new ones]
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,
    /// Percentage points that may be lost in the tier statistical [default: as
    /// before; 5 for new ones]
    #[arg(long, value_name = "POINTS")]
    pub margin: Option<f64>,
    #[command(flatten)]
    /// How to print what was accepted.
    pub data: DataArguments,
}
