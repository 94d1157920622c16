//! What this machine offers, and where it was found.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value};

use super::exit::Exit;
use super::output::{DataArguments, print_data, print_json};
use crate::checkpoint::free_bytes;
use crate::engine::cpu::InstructionSet;
use crate::engine::{Devices, EngineKind, check_devices, gpu_description};
use crate::hub::{Hub, HubError, HubSettings};
use crate::jobs::JobError;
use crate::record::Machine;
use crate::system::available_memory_bytes;
use crate::text::bytes;

/// The longest that a look at the hub may take.
const HUB_TIMEOUT: Duration = Duration::from_secs(3);

/// What follows from that.
const MEMORY_UNKNOWN: &str = "unknown: KV caches take 4 GB at most, and no model is refused for its size";

/// For `--help`.
pub(super) const JSON: &str = "\
--format json has the keys kind (\"doctor\"), format (1), program, cpu, gpu,
folders and hub; each of the last five holds texts under the names of the
lines, in lower case with _ for blanks.";

/// `evalsuite doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArguments {
    #[command(flatten)]
    /// How to print it.
    pub data: DataArguments,
}

/// Runs the command.
pub(super) fn run(arguments: &DoctorArguments) -> Result<Exit, JobError> {
    let is_json = arguments.data.is_json()?;
    let client = Hub::from_environment(false);
    let settings = client.as_ref().map(Hub::settings);
    let sections = [versions(), processor(), gpu(), caches(settings), hub(settings)];
    if is_json {
        print_json("doctor", &json(&sections))?;
    } else {
        print_data(&sections.iter().map(|(title, lines)| section(title, lines)).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Success)
}

fn json(sections: &[Section]) -> Map<String, Value> {
    let key = |name: &str| name.to_lowercase().replace(' ', "_");
    let object = |lines: &[(String, String)]| {
        Value::Object(lines.iter().map(|(name, value)| (key(name), Value::from(value.as_str()))).collect())
    };
    sections.iter().map(|(title, lines)| (key(title), object(lines))).collect()
}

type Section = (&'static str, Vec<(String, String)>);

fn section(title: &str, lines: &[(String, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!("{title}\n");
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:width$}  {value}");
    }
    text
}

fn line(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn versions() -> Section {
    let machine = Machine::detect();
    let lines = vec![
        line("evalsuite", env!("CARGO_PKG_VERSION")),
        line("engines", EngineKind::NAMES.join(", ")),
        line("dtypes", dtypes()),
        line("protocols", crate::task::Protocol::names().join(", ")),
        line("system", machine.system),
        line("kernel", machine.kernel),
    ];
    ("Program", lines)
}

/// `cpu, cuda: f32, f16, …; candle: …`.
fn dtypes() -> String {
    let names = |kind: EngineKind| kind.dtypes().iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ");
    format!("cpu, cuda: {}; candle: {}", names(EngineKind::Cpu), names(EngineKind::Candle))
}

fn processor() -> Section {
    let machine = Machine::detect();
    let unknown = || "unknown".to_owned();
    let lines = vec![
        line("model", machine.cpu),
        line("cores", format!("{} usable", machine.cores)),
        line("instruction sets", machine.instruction_sets.join(" ")),
        line("engine uses", instruction_set()),
        line("memory", machine.memory_bytes.map_or_else(unknown, bytes)),
        line("of it available", available_memory_bytes().map_or_else(|| MEMORY_UNKNOWN.to_owned(), bytes)),
    ];
    ("CPU", lines)
}

/// What the CPU engine computes with, or why it does not.
fn instruction_set() -> String {
    match check_devices(EngineKind::Cpu, &Devices::default()) {
        Ok(_) => InstructionSet::detected().name().to_owned(),
        Err(error) => error.to_string().replace("\nhint:", ":"),
    }
}

fn gpu() -> Section {
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
    let driver = driver.as_deref().and_then(|text| text.lines().next());
    let mut lines = vec![line("driver", driver.unwrap_or("none (no /proc/driver/nvidia/version)"))];
    lines.extend(gpu_description().into_iter().map(|(name, value)| line(name, value)));
    ("GPU", lines)
}

fn caches(hub: Result<&HubSettings, &HubError>) -> Section {
    let cache = match hub {
        Ok(settings) => folder_line("hub cache", &settings.cache),
        Err(error) => line("hub cache", error.0.what.as_str()),
    };
    ("Folders", vec![cache, folder_line("runs", &Path::new(".").join("runs"))])
}

fn folder_line(name: &str, path: &Path) -> (String, String) {
    // A folder that is not made yet lies on its nearest existing parent's disk.
    let existing = path.ancestors().find(|path| path.exists());
    let free = existing.and_then(free_bytes);
    let free = free.map_or_else(|| "free space unknown".to_owned(), |free| format!("{} free", bytes(free)));
    let state = if path.exists() { "" } else { ", not made yet" };
    line(name, format!("{} ({free}{state})", path.display()))
}

fn hub(settings: Result<&HubSettings, &HubError>) -> Section {
    let Ok(settings) = settings else { return ("Hub", Vec::new()) };
    let reachable =
        if settings.offline { "not asked: HF_HUB_OFFLINE is set".to_owned() } else { reach(&settings.endpoint) };
    let token = if settings.token.is_some() { "there is one" } else { "none in HF_TOKEN or from `hf auth login`" };
    let endpoint = settings.endpoint.as_str();
    ("Hub", vec![line("endpoint", endpoint), line("reachable", reachable), line("token", token)])
}

/// Any answer at all, an error page included, shows that the hub is there.
fn reach(endpoint: &str) -> String {
    let config = ureq::Agent::config_builder().timeout_global(Some(HUB_TIMEOUT)).http_status_as_error(false).build();
    let begun = Instant::now();
    match ureq::Agent::new_with_config(config).head(endpoint).call() {
        Ok(response) => format!("yes (HTTP {} in {} ms)", response.status().as_u16(), begun.elapsed().as_millis()),
        Err(error) => format!("no ({error}); local folders and files still work"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_is_described_with_or_without_one() {
        let lines = gpu_description();
        let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
        assert!(
            names.starts_with(&["libcuda.so.1", "libnvrtc.so.13", "libcublasLt.so.13", "kernel cache"]),
            "{names:?}"
        );
    }

    #[test]
    fn an_unreachable_hub_is_an_answer_within_the_time_limit() {
        let begun = Instant::now();
        // Port 9 of this very machine: nothing listens there.
        assert!(reach("http://127.0.0.1:9").starts_with("no ("));
        assert!(begun.elapsed() < HUB_TIMEOUT + Duration::from_secs(2));
    }

    #[test]
    fn a_folder_that_is_not_there_still_has_free_space() {
        let (_, value) = folder_line("runs", Path::new("/tmp/no/such/folder"));
        assert!(value.contains("free, not made yet"), "{value}");
    }
}
