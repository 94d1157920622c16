//! `evalsuite list`: what there is: runs, and what this program knows of tasks, protocols, families, formats, engines.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::exit::Exit;
use super::output::{DataArguments, print_data, print_json};
use super::printer::print_error;
use super::session::RUNS;
use super::table::{table, wrapped};
use crate::engine::model::family;
use crate::engine::{Dtype, EngineKind};
use crate::fault::Fault;
use crate::jobs::JobError;
use crate::record::Glance;
use crate::task::{Protocol, Task};

/// For `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  evalsuite list
      everything: runs, tasks, protocols, families, formats, engines
  evalsuite list runs --runs ./results
      the run folders in another folder, the newest first
  evalsuite list protocols --format json
      for a program

A run is complete, incomplete (something failed: `evalsuite resume` tries it
again), interrupted (`evalsuite resume` goes on), or running.

--format json has the keys kind (\"list\"), format (1), and one a list asked for.
  runs       path, started, model, task, protocol, generated_under, variants,
             status
  tasks      name, description, dataset, split, protocol, licence
  protocols  name, version, description, source, max_tokens, examples
  families   name, description
  formats    name, aliases, description
  engines    name, description, formats, is_available";

/// `evalsuite list`.
#[derive(Debug, Clone, Args)]
pub struct ListArguments {
    /// runs, tasks, protocols, families, formats, or engines [default: all]
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// Folder of the run folders
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    pub runs: PathBuf,
    #[command(flatten)]
    /// How to print it.
    pub data: DataArguments,
}

/// One list: its name, as text, and for programs.
struct List {
    name: &'static str,
    text: String,
    data: Value,
}

type Lister = fn(&ListArguments) -> Result<List, JobError>;

/// Every list, in the order in which they are printed.
const LISTS: [(&str, Lister); 6] = [
    ("runs", runs),
    ("tasks", tasks),
    ("protocols", protocols),
    ("families", families),
    ("formats", formats),
    ("engines", engines),
];

/// Runs the command.
pub(super) fn run(arguments: &ListArguments) -> Result<Exit, JobError> {
    let is_json = arguments.data.is_json()?;
    let known = LISTS.map(|(name, _)| name);
    if let Some(stranger) = arguments.what.iter().find(|what| !known.contains(&what.as_str())) {
        return Err(Fault::unknown("list", stranger, &known).into());
    }
    let wanted = |name: &str| arguments.what.is_empty() || arguments.what.iter().any(|what| what == name);
    let lists = LISTS.iter().filter(|(name, _)| wanted(name)).map(|(_, list)| list(arguments));
    let lists = lists.collect::<Result<Vec<List>, JobError>>()?;
    if is_json {
        let data: Map<String, Value> = lists.into_iter().map(|list| (list.name.to_owned(), list.data)).collect();
        print_json("list", &data)?;
    } else if let [list] = &lists[..] {
        print_data(&list.text)?;
    } else {
        let titled = |list: &List| format!("{}{}\n{}", list.name[..1].to_uppercase(), &list.name[1..], list.text);
        print_data(&lists.iter().map(titled).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Success)
}

/// A run for programs.
#[derive(Serialize)]
struct RunData {
    path: PathBuf,
    started: String,
    model: String,
    task: Option<String>,
    protocol: Option<String>,
    generated_under: Option<String>,
    variants: Vec<String>,
    status: &'static str,
}

fn runs(arguments: &ListArguments) -> Result<List, JobError> {
    let (runs, unread) = Glance::all_in(&arguments.runs)?;
    for error in unread {
        print_error(&error.to_string());
    }
    if runs.is_empty() {
        let text = format!("there is no run in {}\n", arguments.runs.display());
        return Ok(List { name: "runs", text, data: json!([]) });
    }
    let head = ["started", "status", "model", "task", "protocol", "variants"].map(str::to_owned).to_vec();
    let row = |run: &Glance| {
        let minutes = run.started.get(..16).unwrap_or(&run.started).replace('T', " ");
        let model = run.model.rsplit('/').next().unwrap_or_default().to_owned();
        let or_none = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            minutes,
            run.status.name().to_owned(),
            model,
            or_none(&run.task),
            or_none(&run.protocol),
            run.variants.join(","),
        ]
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(runs.iter().map(row)).collect();
    let mut text = String::new();
    for (index, line) in table(&rows).into_iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
        if let Some(run) = index.checked_sub(1).and_then(|index| runs.get(index)) {
            let _ = writeln!(text, "  {}", run.path.display());
        }
    }
    let data = runs.into_iter().map(|run| RunData {
        path: run.path,
        started: run.started,
        model: run.model,
        task: run.task,
        protocol: run.protocol,
        generated_under: run.generated_under,
        variants: run.variants,
        status: run.status.name(),
    });
    list("runs", text, &data.collect::<Vec<_>>())
}

fn tasks(_: &ListArguments) -> Result<List, JobError> {
    let all = Task::names().iter().map(|name| Task::open(name)).collect::<Result<Vec<_>, _>>()?;
    let data: Vec<Value> = all
        .iter()
        .map(|task| {
            json!({
                "name": task.name,
                "description": task.description,
                "dataset": task.dataset,
                "split": task.split,
                "protocol": task.protocol,
                "licence": task.licence,
            })
        })
        .collect();
    list("tasks", described(all.iter().map(|one| (one.name.as_str(), one.description.as_str()))), &data)
}

fn protocols(_: &ListArguments) -> Result<List, JobError> {
    let all = Protocol::names().into_iter().map(Protocol::open).collect::<Result<Vec<_>, _>>()?;
    let data: Vec<Value> = all
        .iter()
        .map(|protocol| {
            json!({
                "name": protocol.name,
                "version": protocol.version,
                "description": protocol.description,
                "source": protocol.source,
                "max_tokens": protocol.max_tokens,
                "examples": protocol.fewshot_count,
            })
        })
        .collect();
    list("protocols", described(all.iter().map(|one| (one.name.as_str(), one.description.as_str()))), &data)
}

fn families(_: &ListArguments) -> Result<List, JobError> {
    let all = family::ALL.map(|family| (family.name(), family.entry().description));
    let data = all.map(|(name, description)| json!({ "name": name, "description": description }));
    list("families", described(all), &data.to_vec())
}

fn formats(_: &ListArguments) -> Result<List, JobError> {
    let data =
        Dtype::ALL.map(|one| json!({ "name": one.name(), "aliases": one.aliases(), "description": one.description() }));
    list("formats", described(Dtype::ALL.map(|one| (one.name(), one.description()))), &data.to_vec())
}

fn engines(_: &ListArguments) -> Result<List, JobError> {
    let (mut data, mut lines) = (Vec::new(), Vec::new());
    for kind in EngineKind::ALL {
        let (name, description, is_available) = (kind.name(), kind.entry().description, kind.is_available());
        let formats: Vec<&str> = kind.dtypes().iter().map(|dtype| dtype.name()).collect();
        let absent = if is_available { "" } else { "; there is no GPU here" };
        lines.push((name, format!("{description}; runs in {}{absent}", formats.join(", "))));
        data.push(json!({
            "name": name, "description": description, "formats": formats, "is_available": is_available,
        }));
    }
    list("engines", described(lines.iter().map(|(name, text)| (*name, text.as_str()))), &data)
}

fn list(name: &'static str, text: String, data: &impl Serialize) -> Result<List, JobError> {
    let data = serde_json::to_value(data).map_err(|error| {
        JobError::invalid(format!("cannot write {name} as JSON: {error}"), "this is a fault of evalsuite")
    })?;
    Ok(List { name, text, data })
}

/// A name a line, with what it is beside it.
fn described<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let entries: Vec<(&str, &str)> = entries.into_iter().collect();
    let width = entries.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = entries.iter().map(|(name, text)| format!("{name:width$}  {}", wrapped(text, width + 2)));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
