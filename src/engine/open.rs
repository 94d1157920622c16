//! The engines there are, and the way to one of them.

use std::sync::Arc;

use super::cuda::{self, Device};
use super::kind::{EngineEntry, EngineKind, OpenOptions};
use super::model::ModelSource;
use super::{Dtype, Engine, EngineError};

/// Whatever is fastest here.
const AUTO: EngineEntry = EngineEntry {
    name: "auto",
    description: "cuda where there is a usable GPU, else cpu",
    dtypes: &Dtype::ALL,
    on_gpu: cuda::is_present,
    open: |source, options| {
        let fastest = if cuda::is_present() { EngineKind::Cuda } else { EngineKind::Cpu };
        (fastest.entry().open)(source, options)
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

/// Refuses a device that this engine cannot run on, whatever the model. Once before a job: each precision's engine would
/// say the same, with a run folder begun.
pub fn check_device(kind: EngineKind, device: usize) -> Result<(), EngineError> {
    if on_gpu(kind, device)? {
        Device::open(device)?;
    }
    Ok(())
}

/// Whether the engine runs on a GPU here.
fn on_gpu(kind: EngineKind, device: usize) -> Result<bool, EngineError> {
    let on_gpu = (kind.entry().on_gpu)();
    if device != 0 && !on_gpu {
        return Err(EngineError::invalid(
            format!("--device {device}: the engine asked for runs on the CPU, which is one device"),
            "leave `--device` out; it numbers GPUs",
        ));
    }
    Ok(on_gpu)
}

/// Loads a model into an engine, ready for the first request.
pub fn open(source: &Arc<ModelSource>, options: &OpenOptions) -> Result<Box<dyn Engine>, EngineError> {
    on_gpu(options.kind, options.device)?;
    (options.kind.entry().open)(source, options)
}

#[cfg(test)]
mod tests {
    use super::*;

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
