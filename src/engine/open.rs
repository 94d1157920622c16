//! The engines there are, and the way to one of them.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::cpu::InstructionSet;
use super::cuda::{self, Device};
use super::devices::{Devices, label};
use super::kind::{EngineEntry, EngineKind, OpenOptions};
use super::model::ModelSource;
use super::replicas::{Replica, Replicas, check_alike};
use super::{Dtype, Engine, EngineError};

/// Whatever is fastest here.
const AUTO: EngineEntry = EngineEntry {
    name: "auto",
    description: "cuda where there is a usable GPU, else cpu",
    dtypes: &Dtype::ALL,
    on_gpu: cuda::is_present,
    open: |source, options, device| {
        let fastest = if cuda::is_present() { EngineKind::Cuda } else { EngineKind::Cpu };
        (fastest.entry().open)(source, options, device)
    },
};

#[expect(non_upper_case_globals, reason = "engines read like the variants of one type")]
impl EngineKind {
    /// The fastest that this machine has.
    pub const Auto: Self = Self::new(&AUTO);

    /// Every engine.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Cpu, Self::Cuda, Self::Candle];

    /// Names on the command line.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = Self::ALL[index].name();
            index += 1;
        }
        names
    };

    /// Whether this machine has what it needs.
    pub fn is_available(self) -> bool {
        !(self.entry().on_gpu)() || cuda::is_present()
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Devices that were found to be usable, kept open: an engine that opens meanwhile has no context of the driver's to make.
#[derive(Debug)]
pub struct OpenDevices {
    _held: Vec<Device>,
}

/// Refuses devices that this engine cannot run on, whatever the model. Once before a job: each precision's engine would
/// say the same, with a run folder begun.
pub fn check_devices(kind: EngineKind, devices: &Devices) -> Result<OpenDevices, EngineError> {
    InstructionSet::check_environment()?;
    let numbers = if on_gpu(kind, devices)? { devices.numbers() } else { &[] };
    let opened = numbers.iter().map(|number| Device::open(*number)).collect::<Result<Vec<_>, _>>()?;
    let named = numbers.iter().zip(&opened).map(|(number, device)| (label(*number), device.arithmetic()));
    check_alike(&named.collect::<Vec<_>>())?;
    Ok(OpenDevices { _held: opened })
}

/// Whether the engine runs on GPUs here.
fn on_gpu(kind: EngineKind, devices: &Devices) -> Result<bool, EngineError> {
    let on_gpu = (kind.entry().on_gpu)();
    if *devices != Devices::default() && !on_gpu {
        return Err(EngineError::invalid(
            format!("--device {devices}: the engine asked for runs on the CPU, which is one device"),
            "leave `--device` out; it numbers GPUs",
        ));
    }
    Ok(on_gpu)
}

/// Loads a model into an engine, ready for the first request: onto one device, or onto each of several at once, which share requests.
pub fn open(source: &Arc<ModelSource>, options: &OpenOptions) -> Result<Box<dyn Engine>, EngineError> {
    on_gpu(options.kind, &options.devices)?;
    let open = options.kind.entry().open;
    if let [device] = options.devices.numbers() {
        return open(source, options, *device);
    }
    let begin = Instant::now();
    let numbers = options.devices.numbers();
    let replicas = thread::scope(|scope| {
        let loads: Vec<_> = numbers
            .iter()
            .map(|number| {
                let threads = rayon::current_num_threads().div_ceil(numbers.len());
                let load = move || apart(threads, || open(source, options, *number));
                (label(*number), thread::Builder::new().name(label(*number)).spawn_scoped(scope, load))
            })
            .collect();
        let replicas = loads.into_iter().map(|(name, thread)| {
            let thread = thread.map_err(|error| no_threads(&error).of(&name))?;
            let loaded = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let engine = loaded.map_err(|error| error.of(&name))?;
            Ok(Replica { name, engine })
        });
        replicas.collect::<Result<Vec<_>, EngineError>>()
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let each: Vec<&str> = replicas.iter().map(|replica| replica.engine.info().device.as_str()).collect();
    let device = options.devices.in_words(&each);
    Ok(Box::new(Replicas::new(replicas, device, seconds)?))
}

/// Runs this with so many threads of its own. A thread of the pool that all share might, while it waits, take up a part of another device's
/// work, and that device's context with it.
fn apart<T: Send>(threads: usize, work: impl FnOnce() -> Result<T, EngineError> + Send) -> Result<T, EngineError> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| no_threads(&error))?.install(work)
}

fn no_threads(error: &dyn std::error::Error) -> EngineError {
    EngineError::failed(
        format!("cannot start the threads that load the model: {error}"),
        "end other programs, or raise the limit of threads (`ulimit -u`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_devices_are_refused_where_there_is_one_and_named() {
        let devices = Devices::new(vec![0, 1]).unwrap();
        for kind in [EngineKind::Cpu, EngineKind::Candle] {
            let text = check_devices(kind, &devices).unwrap_err().to_string();
            assert!(
                text.starts_with("--device 0,1: the engine asked for runs on the CPU, which is one device\nhint: "),
                "{text}"
            );
            assert!(text.contains("leave `--device` out"), "{text}");
            assert!(check_devices(kind, &Devices::default()).is_ok());
        }
    }

    #[test]
    fn every_engine_is_found_by_its_own_name() {
        assert_eq!(EngineKind::NAMES[..4], ["auto", "cpu", "cuda", "candle"]);
        for kind in EngineKind::ALL {
            assert_eq!(EngineKind::parse(kind.name()), Some(kind));
            assert!(!kind.entry().description.is_empty() && kind.dtypes().starts_with(&Dtype::FLOATING));
        }
        assert_eq!(EngineKind::parse("gpu"), None);
    }
}
