//! `evalsuite resume`: a run folder knows its command; this gives it again, where it was given.

use std::path::{Path, PathBuf};

use clap::Args;

use super::baseline::BaselineArguments;
use super::exit::Exit;
use super::flags::{FLAGS, OnResume, parts};
use super::output::{OutputArguments, colour};
use super::printer::{is_quiet, note};
use super::show::print_run;
use crate::jobs::JobError;
use crate::record::{Glance, RunStatus};
use crate::text::command_line;

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite resume runs/RUN
      go on where Ctrl-C, a crash or a full disk ended it
  evalsuite resume runs/RUN --threads 4 --format markdown
      with other threads, and its table in Markdown

The folder knows the command, and the folder that it was given in: relative
paths are meant from there. What decides answers stays; the flags here are those
that may differ, and those left out stay as they were. Of a run that is complete
the table is printed.";

/// `evalsuite resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArguments {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Which GPUs, where the engine runs on one: one, or several such as 0,1
    #[arg(long, value_name = "LIST", help_heading = "Model")]
    pub device: Option<String>,
    /// When a GPU fails in mid-run: `stop`, or let the `cpu` go on
    #[arg(long, value_name = "ACTION", help_heading = "Model")]
    pub on_gpu_failure: Option<String>,
    /// CPU threads
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub threads: Option<usize>,
    /// Use only what is on this machine; ask no hub
    #[arg(long, help_heading = "Model")]
    pub offline: bool,
    /// Of an endpoint: ask for whole answers
    #[arg(long, help_heading = "Endpoint")]
    pub no_stream: bool,
    /// Of an endpoint: the environment variable that holds the key
    #[arg(long, value_name = "NAME", help_heading = "Endpoint")]
    pub api_key_env: Option<String>,
    /// Of an endpoint: longest wait for an answer
    #[arg(long, value_name = "SECONDS", help_heading = "Endpoint")]
    pub timeout: Option<usize>,
    /// Ask until this is shown; a run that its own `--until` ended asks the rest
    /// without it
    #[arg(long, value_name = "CLAIM", help_heading = "Results")]
    pub until: Option<String>,
    /// What an hour of the machine costs: adds what right answers cost in money
    #[arg(long, value_name = "PRICE", allow_negative_numbers = true, help_heading = "Results")]
    pub price_per_hour: Option<f64>,
    /// Exit with 1 if any precision's accuracy (headline rule) is below this
    #[arg(long, value_name = "PERCENT", help_heading = "Results")]
    pub min_accuracy: Option<f64>,
    /// The rule that decides: first table, verdict, --min-accuracy, --baseline
    /// [default: the one that the command names, else the protocol's headline]
    #[arg(long, value_name = "RULE", help_heading = "Results")]
    pub rule: Option<String>,
    /// Exit with 1 if anything about the results is implausible
    #[arg(long, help_heading = "Results")]
    pub deny_notes: bool,
    /// Of a quality run: word diffs of the N answers that differ most
    #[arg(long, value_name = "N", help_heading = "Results")]
    pub diffs: Option<usize>,
    /// `terminal`, `markdown`, `json`, or `html` (of quality runs)
    #[arg(long, help_heading = "Results")]
    pub format: Option<String>,
    /// A tera template of your own instead
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub template: Option<PathBuf>,
    #[command(flatten)]
    /// What a stored run demands.
    pub baseline: BaselineArguments,
}

/// What there is to do.
pub(super) enum Next {
    /// Nothing; how the program ends.
    Done(Exit),
    /// This command, word by word, in the folder that is now the working one.
    Command(Vec<String>),
}

/// Finds out what there is to do. `program` is the first word of every command line.
pub(super) fn run(arguments: &ResumeArguments, program: &str) -> Result<Next, JobError> {
    let begun = Glance::read(&arguments.run)?;
    if begun.status == RunStatus::Complete && !arguments.judges() {
        print_run(&arguments.run, &arguments.output().format(colour())?, None)?;
        return Ok(Next::Done(Exit::Success));
    }
    if let Some(protocol) = &begun.generated_under {
        return Err(JobError::invalid(
            format!("{} holds answers that were scored anew: there is nothing to run", arguments.run.display()),
            format!("finish the run that they come from, under the protocol {protocol}, and rescore it again"),
        ));
    }
    if begun.is_made_elsewhere {
        return Err(JobError::invalid(
            format!("{} holds completions that were made elsewhere: there is nothing to run", arguments.run.display()),
            "`evalsuite show` and `evalsuite report` read it; `evalsuite score` scores a file of completions anew",
        ));
    }
    let words = arguments.words(program, &begun)?;
    if let Some(folder) = &begun.working_directory {
        enter(folder)?;
    }
    note(&format!("resuming by `{}`", command_line(words.iter().map(String::as_str))));
    Ok(Next::Command(words))
}

/// Makes the folder in which the command was given the working one.
fn enter(folder: &Path) -> Result<(), JobError> {
    if !folder.is_dir() {
        note(&format!(
            "note: the run was begun in {}, which is not there: its relative paths are taken from here",
            folder.display()
        ));
        return Ok(());
    }
    std::env::set_current_dir(folder).map_err(|error| {
        JobError::invalid(
            format!("cannot enter {}, where the run was begun: {error}", folder.display()),
            "allow it, or give the run's command (in plan.json) with `--resume` and `--out RUN` from another folder",
        )
    })
}

impl ResumeArguments {
    fn output(&self) -> OutputArguments {
        OutputArguments {
            format: self.format.clone().unwrap_or_else(|| "terminal".to_owned()),
            template: self.template.clone(),
        }
    }

    /// Whether the results are held against anything, which the run's own command does.
    fn judges(&self) -> bool {
        self.min_accuracy.is_some()
            || self.baseline.baseline.is_some()
            || self.deny_notes
            || self.rule.is_some()
            || self.price_per_hour.is_some()
    }

    /// The flags that were given, as clap names them, with their values; paths as they are from any folder.
    fn given(&self) -> Result<Vec<(&'static str, Option<String>)>, JobError> {
        let number = |value: Option<usize>| value.map(|value| Some(value.to_string()));
        let real = |value: Option<f64>| value.map(|value| Some(value.to_string()));
        let path = |value: &Option<PathBuf>| value.as_deref().map(|path| absolute(path).map(Some)).transpose();
        let all = [
            ("device", self.device.clone().map(Some)),
            ("on_gpu_failure", self.on_gpu_failure.clone().map(Some)),
            ("threads", number(self.threads)),
            ("offline", self.offline.then_some(None)),
            ("no_stream", self.no_stream.then_some(None)),
            ("api_key_env", self.api_key_env.clone().map(Some)),
            ("timeout", number(self.timeout)),
            ("until", self.until.clone().map(Some)),
            ("price_per_hour", real(self.price_per_hour)),
            ("min_accuracy", real(self.min_accuracy)),
            ("rule", self.rule.clone().map(Some)),
            ("deny_notes", self.deny_notes.then_some(None)),
            ("diffs", number(self.diffs)),
            ("format", self.format.clone().map(Some)),
            ("template", path(&self.template)?),
            ("baseline", path(&self.baseline.baseline)?),
            ("margin", real(self.baseline.margin)),
            ("min_speed_ratio", real(self.baseline.min_speed_ratio)),
            ("noise", path(&self.baseline.noise)?),
            ("quiet", is_quiet().then_some(None)),
            ("out", Some(Some(absolute(&self.run)?))),
            ("resume", Some(None)),
        ];
        Ok(all.into_iter().filter_map(|(id, value)| Some((id, value?))).collect())
    }

    /// The run's own command, with what is given anew in the place of what was.
    fn words(&self, program: &str, begun: &Glance) -> Result<Vec<String>, JobError> {
        let given = self.given()?;
        let mut words = vec![program.to_owned()];
        for part in parts(&begun.command) {
            let is_kept = part.flag.is_none_or(|flag| {
                // What a run has ended at does not end it again.
                let is_reached = flag.id == "until" && begun.status == RunStatus::Decided;
                let is_replaced = flag.on_resume == OnResume::Free && given.iter().any(|(id, _)| *id == flag.id);
                !is_reached && !is_replaced
            });
            if is_kept {
                words.extend_from_slice(part.words);
            }
        }
        for (id, value) in given {
            let long = FLAGS.iter().find(|flag| flag.id == id).map(super::flags::Flag::long);
            words.extend(long.map(|long| match value {
                Some(value) => format!("{long}={value}"),
                None => long,
            }));
        }
        Ok(words)
    }
}

fn absolute(path: &Path) -> Result<String, JobError> {
    let absolute = std::path::absolute(path).map_err(|error| {
        JobError::invalid(
            format!("cannot say where {} is: {error}", path.display()),
            "run from a folder that is there, or give the whole path",
        )
    })?;
    Ok(absolute.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(command: &str) -> Glance {
        Glance {
            path: "/runs/r".into(),
            command: command.split(' ').map(str::to_owned).collect(),
            working_directory: None,
            started: String::new(),
            model: String::new(),
            task: None,
            protocol: None,
            generated_under: None,
            is_made_elsewhere: false,
            variants: Vec::new(),
            status: RunStatus::Interrupted,
        }
    }

    fn arguments() -> ResumeArguments {
        let baseline = BaselineArguments { baseline: None, margin: None, min_speed_ratio: None, noise: None };
        ResumeArguments {
            run: "/runs/r".into(),
            device: None,
            on_gpu_failure: None,
            threads: None,
            offline: false,
            no_stream: false,
            api_key_env: None,
            timeout: None,
            until: None,
            price_per_hour: None,
            min_accuracy: None,
            rule: None,
            deny_notes: false,
            diffs: None,
            format: None,
            template: None,
            baseline,
        }
    }

    fn words(command: &str, given: impl FnOnce(&mut ResumeArguments)) -> String {
        let mut arguments = arguments();
        given(&mut arguments);
        arguments.words("evalsuite", &begun(command)).unwrap().join(" ")
    }

    #[test]
    fn a_run_goes_on_by_its_own_command_in_its_own_folder() {
        assert_eq!(
            words("bin/evalsuite gsm8k --limit 4 --out there --resume --threads 2", |_| {}),
            "evalsuite gsm8k --limit 4 --threads 2 --out=/runs/r --resume"
        );
    }

    #[test]
    fn a_run_that_until_has_ended_asks_the_rest_and_one_that_was_interrupted_goes_on() {
        let command = "evalsuite gsm8k --until 2 --limit 4";
        assert_eq!(words(command, |_| {}), "evalsuite gsm8k --until 2 --limit 4 --out=/runs/r --resume");
        let ended = |given: Option<&str>| {
            let arguments = ResumeArguments { until: given.map(str::to_owned), ..arguments() };
            let begun = Glance { status: RunStatus::Decided, ..begun(command) };
            arguments.words("evalsuite", &begun).unwrap().join(" ")
        };
        assert_eq!(ended(None), "evalsuite gsm8k --limit 4 --out=/runs/r --resume");
        assert_eq!(ended(Some("1")), "evalsuite gsm8k --limit 4 --until=1 --out=/runs/r --resume");
    }

    #[test]
    fn what_is_given_anew_takes_the_place_of_what_was() {
        let given = |arguments: &mut ResumeArguments| {
            arguments.threads = Some(4);
            arguments.format = Some("json".to_owned());
            arguments.min_accuracy = Some(50.5);
        };
        assert_eq!(
            words("evalsuite gsm8k --threads=2 --stop --format --format markdown --min-accuracy 60", given),
            "evalsuite gsm8k --stop --format --threads=4 --min-accuracy=50.5 --format=json --out=/runs/r --resume",
            "the value of --stop is no flag"
        );
    }
}
