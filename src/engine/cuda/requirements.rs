//! What the engine requires of a machine, and the errors where it is missing: decisions on plain values that `device.rs` queries.

use std::path::PathBuf;

use cudarc::driver::sys::CUresult;

use crate::EngineError;
use crate::text::bytes;

/// The oldest compute capability that the kernels are written for: Ampere brought the 16-byte asynchronous copies and
/// bfloat16 in the tensor cores.
const OLDEST_CAPABILITY: (i32, i32) = (8, 0);

/// The oldest CUDA version of driver and libraries, as both report it: 1000 a major version, 10 a minor one.
const OLDEST_CUDA: i32 = 13_000;

/// A library of NVIDIA's that is loaded when the engine opens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Library {
    /// `libcuda.so.1`.
    pub(super) file: &'static str,
    what: &'static str,
    remedy: &'static str,
}

const INSTALL: &str = "install CUDA 13's libraries (or `pip install nvidia-cuda-nvrtc nvidia-cublas`) and name their folder in \
                       EVALSUITE_CUDA_LIBRARIES or LD_LIBRARY_PATH";

pub(super) const DRIVER: Library = Library {
    file: "libcuda.so.1",
    what: "NVIDIA's driver",
    remedy: "install NVIDIA's driver (580 or later); in a container, start it with the GPU (`docker run --gpus all`)",
};

pub(super) const NVRTC: Library = Library { file: "libnvrtc.so.13", what: "CUDA's run-time compiler", remedy: INSTALL };

pub(super) const CUBLASLT: Library =
    Library { file: "libcublasLt.so.13", what: "CUDA's matrix library", remedy: INSTALL };

/// A library that does not load; `folders`: where it was looked for besides the loader's paths.
pub(super) fn missing(library: &Library, folders: &[PathBuf]) -> EngineError {
    let folders = folders.iter().map(|folder| folder.display().to_string());
    let places: Vec<String> = std::iter::once("the loader's paths".to_owned()).chain(folders).collect();
    let Library { file, what, remedy } = library;
    EngineError::invalid(
        format!("{file} ({what}) is not on this machine; looked in {}", places.join(", ")),
        format!("{remedy}; `--engine cpu` works without a GPU"),
    )
}

/// Refuses a library by its CUDA version: the loader takes the first of its name, whatever its version.
pub(super) fn check_library(library: &Library, cuda: i32) -> Result<(), EngineError> {
    if cuda >= OLDEST_CUDA {
        return Ok(());
    }
    let (name, what) = (library.file.split('.').next().unwrap_or_default(), library.what);
    Err(EngineError::invalid(
        format!(
            "the {name} ({what}) that this machine's loader finds first is of CUDA {}, and 13.0 is needed",
            version(cuda)
        ),
        format!(
            "put a folder first in LD_LIBRARY_PATH where {name}.so is CUDA 13's, a link to {} if need be; `--engine cpu` works \
             without",
            library.file
        ),
    ))
}

/// `13.0` of 13000.
pub(super) fn version(cuda: i32) -> String {
    format!("{}.{}", cuda / 1000, cuda % 1000 / 10)
}

/// Refuses a driver by the CUDA version that it supports.
pub(super) fn check_driver(cuda: i32) -> Result<(), EngineError> {
    if cuda >= OLDEST_CUDA {
        return Ok(());
    }
    Err(EngineError::invalid(
        format!("NVIDIA's driver on this machine is too old: it speaks CUDA {}, and 13.0 is needed", version(cuda)),
        "install driver 580 or later (`nvidia-smi` shows the one there is); `--engine cpu` works without it",
    ))
}

/// Refuses a number that is no GPU's; there are `count` GPUs.
pub(super) fn check_ordinal(ordinal: usize, count: usize) -> Result<(), EngineError> {
    if ordinal < count {
        return Ok(());
    }
    Err(EngineError::invalid(
        format!("there is no GPU {ordinal}: the driver sees {count}"),
        match count {
            0 => "check `nvidia-smi` and CUDA_VISIBLE_DEVICES; `--engine cpu` works without a GPU".to_owned(),
            1 => "leave `--device` out, or give `--device 0`".to_owned(),
            _ => format!("give `--device` from 0 to {}", count - 1),
        },
    ))
}

/// Refuses a GPU that is older than the kernels support.
pub(super) fn check_capability(ordinal: usize, gpu: &str, (major, minor): (i32, i32)) -> Result<(), EngineError> {
    if (major, minor) >= OLDEST_CAPABILITY {
        return Ok(());
    }
    Err(EngineError::invalid(
        format!("GPU {ordinal}, {gpu}, is too old: compute capability {major}.{minor}, and 8.0 (Ampere) is needed"),
        "choose another GPU with `--device`, or run with `--engine cpu`",
    ))
}

/// What a driver's refusal to open a GPU means; `words`: the driver's message.
pub(super) fn not_opened(ordinal: usize, code: CUresult, words: &str) -> EngineError {
    let hint = match code {
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another program holds the GPU exclusively: wait for it, choose `--device`, or run with `--engine cpu`"
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "libcuda and the kernel's driver are of different versions: restart after an update of the driver, and take \
             CUDA's compat folder out of LD_LIBRARY_PATH; `--engine cpu` works meanwhile"
        }
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "libcuda is the toolkit's stub, made for linking only: take its folder out of LD_LIBRARY_PATH, or run with \
             `--engine cpu`"
        }
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "other programs hold all of the GPU's memory: end them (`nvidia-smi` lists them), choose `--device`, or run \
             with `--engine cpu`"
        }
        _ => "`nvidia-smi` shows the GPU's state; `--engine cpu` works without it",
    };
    EngineError::invalid(format!("GPU {ordinal} cannot be opened: {words}"), hint)
}

/// Device memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) free: usize,
    pub(crate) total: usize,
    /// What this process holds already.
    pub(crate) own: usize,
}

impl Memory {
    /// `what` needs more bytes than are free. Whether the rest is other programs' or was never there decides what helps.
    pub(crate) fn too_little(self, gpu: &str, what: &str, need: usize) -> EngineError {
        let Self { free, total, own } = self;
        let others = total.saturating_sub(free + own);
        let words = |count: usize| bytes(count as u64);
        // A tenth: the driver itself and the context of every program take something too.
        let (spare, fits_alone) = (total / 10, need + own <= total - total / 10);
        if fits_alone && others > spare {
            return EngineError::invalid(
                format!(
                    "{what} needs {}; of {gpu}'s {} only {} are free: other programs hold {}",
                    words(need),
                    words(total),
                    words(free),
                    words(others)
                ),
                "end them (`nvidia-smi` lists them), choose another GPU with `--device`, or run with `--engine cpu`",
            );
        }
        EngineError::invalid(
            format!("{what} needs {}; {gpu} has {}, of which {} are free", words(need), words(total), words(free)),
            "use a smaller model, a smaller `--batch`, one precision at a time, or `--dtype f16`, which takes the least on a \
             GPU; or run with `--engine cpu`",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: std::fmt::Debug>(result: Result<T, EngineError>) -> String {
        let text = result.expect_err("this must be refused").to_string();
        assert!(text.contains("\nhint: ") && text.contains("--engine cpu"), "{text}");
        text
    }

    #[test]
    fn a_missing_library_is_named_with_where_it_was_looked_for() {
        let folders = ["/opt/cuda/lib64", "/usr/lib/x"].map(PathBuf::from);
        for (library, remedy) in [(&NVRTC, "nvidia-cuda-nvrtc"), (&CUBLASLT, "nvidia-cublas"), (&DRIVER, "580")] {
            let text = text::<()>(Err(missing(library, &folders)));
            let looked = "is not on this machine; looked in the loader's paths, /opt/cuda/lib64, /usr/lib/x\n";
            assert!(text.starts_with(library.file) && text.contains(looked) && text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn a_library_of_an_older_cuda_is_not_taken_for_a_newer_one() {
        assert!(check_library(&NVRTC, 13_000).is_ok() && check_library(&CUBLASLT, 13_020).is_ok());
        let text = text(check_library(&CUBLASLT, 12_040));
        assert!(text.starts_with("the libcublasLt (CUDA's matrix library) ") && text.contains("CUDA 12.4,"), "{text}");
        assert!(text.contains("where libcublasLt.so is CUDA 13's, a link to libcublasLt.so.13 if"), "{text}");
    }

    #[test]
    fn a_driver_is_as_old_as_the_cuda_that_it_speaks() {
        assert!(check_driver(13_000).is_ok() && check_driver(13_010).is_ok());
        for (version, words) in [(12_080, "CUDA 12.8,"), (12_090, "CUDA 12.9,"), (11_040, "CUDA 11.4,")] {
            let text = text(check_driver(version));
            assert!(text.contains("too old") && text.contains(words) && text.contains("driver 580"), "{text}");
        }
    }

    #[test]
    fn gpus_are_numbered_from_0() {
        assert!(check_ordinal(0, 1).is_ok() && check_ordinal(7, 8).is_ok());
        assert!(text(check_ordinal(0, 0)).contains("there is no GPU 0: the driver sees 0\nhint: check `nvidia-smi`"));
        let hint = |ordinal, count| check_ordinal(ordinal, count).unwrap_err().to_string();
        assert!(hint(1, 1).contains("sees 1\nhint: leave `--device` out"));
        assert!(hint(8, 8).contains("sees 8\nhint: give `--device` from 0 to 7"));
    }

    #[test]
    fn a_gpu_before_ampere_is_too_old() {
        for capability in [(8, 0), (8, 9), (9, 0), (12, 0)] {
            assert!(check_capability(0, "a GPU", capability).is_ok(), "{capability:?}");
        }
        let text = text(check_capability(1, "Tesla T4", (7, 5)));
        assert!(text.starts_with("GPU 1, Tesla T4, is too old: compute capability 7.5, and 8.0"), "{text}");
    }

    #[test]
    fn a_gpu_that_does_not_open_says_what_is_in_the_way() {
        for (code, part) in [
            (CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE, "exclusively"),
            (CUresult::CUDA_ERROR_OUT_OF_MEMORY, "other programs hold all of the GPU's memory"),
            (CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "different versions"),
            (CUresult::CUDA_ERROR_STUB_LIBRARY, "stub"),
            (CUresult::CUDA_ERROR_UNKNOWN, "nvidia-smi"),
        ] {
            let text = text::<()>(Err(not_opened(2, code, "so it is")));
            assert!(text.starts_with("GPU 2 cannot be opened: so it is\n") && text.contains(part), "{text}");
        }
    }

    #[test]
    fn memory_that_others_hold_is_told_from_memory_that_is_not_there() {
        const GIB: usize = 1 << 30;
        let said = |free, need, own| {
            let memory = Memory { free: free * GIB, total: 80 * GIB, own: own * GIB };
            text::<()>(Err(memory.too_little("NVIDIA H100", "a model in f16", need * GIB)))
        };
        let busy = said(3, 14, 0);
        assert!(
            busy.contains("other programs hold") && busy.contains("nvidia-smi") && busy.contains("--device"),
            "{busy}"
        );
        for (free, need, own) in [
            (79, 140, 0), // never fits
            (3, 140, 0),  // never fits, whoever is there
            (2, 8, 75),   // what is taken is our own
        ] {
            let small = said(free, need, own);
            assert!(small.contains("of which") && small.contains("--dtype f16"), "{small}");
            assert!(!small.contains("other programs"), "{small}");
        }
    }
}
