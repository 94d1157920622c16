//! The card and CUDA's libraries: found, or refused with the reason.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, CudaStream, DriverError};

use crate::engine::EngineError;

/// The oldest compute capability that the kernels are written for: Ampere brought the 16-byte asynchronous copies and
/// bfloat16 in the tensor cores.
const OLDEST_CAPABILITY: (i32, i32) = (8, 0);

/// An open card with one stream of work.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) context: Arc<CudaContext>,
    /// Everything of an engine runs in this stream, in the order it was enqueued.
    pub(crate) stream: Arc<CudaStream>,
    /// `NVIDIA H200`.
    pub(crate) name: String,
    /// Compute capability, major and minor.
    pub(crate) capability: (i32, i32),
    /// Streaming multiprocessors.
    pub(crate) multiprocessors: usize,
    /// Shared memory that a block may have at most.
    pub(crate) shared_bytes: usize,
}

impl Device {
    /// Opens the card with this number.
    pub(crate) fn open(ordinal: usize) -> Result<Self, EngineError> {
        find_libraries();
        // SAFETY: asks whether a library loads; nothing else is touched.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err(missing("libcuda.so.1", "NVIDIA's driver", "install NVIDIA's driver (580 or later)"));
        }
        let count = count()?;
        if ordinal >= count {
            return Err(EngineError::invalid(
                format!("there is no GPU {ordinal}: the driver sees {count}"),
                match count {
                    0 => "check `nvidia-smi` and CUDA_VISIBLE_DEVICES; `--engine cpu` works without a GPU".to_owned(),
                    _ => format!("give `--device` from 0 to {}", count - 1),
                },
            ));
        }
        // SAFETY: as above.
        if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
            return Err(missing("libnvrtc.so.13", "CUDA's run-time compiler", INSTALL));
        }
        // SAFETY: as above.
        if !unsafe { cudarc::cublaslt::sys::is_culib_present() } {
            return Err(missing("libcublasLt.so.13", "CUDA's matrix library", INSTALL));
        }
        let opened = || -> Result<Self, DriverError> {
            let context = CudaContext::new(ordinal)?;
            // SAFETY: there is one stream; nothing has to be tracked between streams.
            unsafe { context.disable_event_tracking() };
            let stream = context.new_stream()?;
            let multiprocessors = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize;
            let (name, capability) = (context.name()?, context.compute_capability()?);
            let shared = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
            let shared_bytes = context.attribute(shared)? as usize;
            Ok(Self { context, stream, name, capability, multiprocessors, shared_bytes })
        };
        let device = opened().map_err(|error| open_error(ordinal, error))?;
        if device.capability < OLDEST_CAPABILITY {
            let (major, minor) = device.capability;
            return Err(EngineError::invalid(
                format!(
                    "GPU {ordinal}, {}, has compute capability {major}.{minor}; at least 8.0 is needed",
                    device.name
                ),
                "choose another card with `--device`, or run with `--engine cpu`",
            ));
        }
        Ok(device)
    }

    /// Bytes of the card's memory: free and in all.
    pub(crate) fn memory(&self) -> Result<(usize, usize), EngineError> {
        self.context.mem_get_info().map_err(|error| failed("ask the card for its memory", error))
    }

    /// Name, size and state.
    fn in_words(&self) -> String {
        let (major, minor) = self.capability;
        let memory = self.memory().map_or_else(
            |error| first_line(&error),
            |(free, all)| format!("{} of {} free", crate::text::bytes(free as u64), crate::text::bytes(all as u64)),
        );
        format!("{}, compute capability {major}.{minor}, {} multiprocessors, {memory}", self.name, self.multiprocessors)
    }

    /// Makes the card current for this thread; launches need it.
    pub(crate) fn bind(&self) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(|error| failed("be chosen by this thread", error))
    }

    /// Waits for everything that was enqueued.
    pub(crate) fn synchronize(&self) -> Result<(), EngineError> {
        self.stream.synchronize().map_err(|error| failed("wait for the GPU's work", error))
    }
}

/// Whether a card can be used here, without opening it: the driver loads and sees one, and the libraries are there.
pub fn is_present() -> bool {
    find_libraries();
    // SAFETY: asks whether libraries load; nothing else is touched.
    let libraries = unsafe {
        cudarc::driver::sys::is_culib_present()
            && cudarc::nvrtc::sys::is_culib_present()
            && cudarc::cublaslt::sys::is_culib_present()
    };
    libraries && count().is_ok_and(|count| count > 0)
}

/// What a GPU engine would find here, by name and in words.
pub fn describe() -> Vec<(&'static str, String)> {
    find_libraries();
    // SAFETY: asks whether libraries load; nothing else is touched.
    let found = unsafe {
        [
            ("libcuda.so.1", cudarc::driver::sys::is_culib_present()),
            ("libnvrtc.so.13", cudarc::nvrtc::sys::is_culib_present()),
            ("libcublasLt.so.13", cudarc::cublaslt::sys::is_culib_present()),
        ]
    };
    let present = |found: bool| if found { "found" } else { "not found" }.to_owned();
    let mut lines: Vec<_> = found.into_iter().map(|(name, found)| (name, present(found))).collect();
    let cache = super::compile::cache_folder();
    lines.push(("kernel cache", cache.map_or_else(|| "none".to_owned(), |folder| folder.display().to_string())));
    let count = if found[0].1 { count().unwrap_or(0) } else { 0 };
    for ordinal in 0..count {
        lines.push((
            "device",
            Device::open(ordinal).map_or_else(|error| first_line(&error), |device| device.in_words()),
        ));
    }
    lines
}

fn first_line(error: &EngineError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// A failure of the driver while it did `what`.
pub(crate) fn failed(what: &str, error: DriverError) -> EngineError {
    use cudarc::driver::sys::cudaError_enum as Code;
    let hint = match error.0 {
        Code::CUDA_ERROR_OUT_OF_MEMORY => {
            "the card's memory is full: end other programs on it (`nvidia-smi` lists them), or give a smaller `--batch`"
        }
        Code::CUDA_ERROR_ILLEGAL_ADDRESS | Code::CUDA_ERROR_LAUNCH_FAILED => {
            "this is a fault of the engine: report it with the command; `--engine cpu` works instead"
        }
        _ => "`nvidia-smi` shows the card's state; `--engine cpu` works without it",
    };
    EngineError::failed(format!("the GPU could not {what}: {}", words(error)), hint)
}

const INSTALL: &str = "install CUDA 13's libraries (or `pip install nvidia-cuda-nvrtc nvidia-cublas`) and name their folder in \
                       EVALSUITE_CUDA_LIBRARIES or LD_LIBRARY_PATH";

fn missing(file: &str, what: &str, hint: &str) -> EngineError {
    let searched = folders().into_iter().map(|folder| folder.display().to_string());
    let places: Vec<String> = std::iter::once("the loader's paths".to_owned()).chain(searched).collect();
    EngineError::invalid(
        format!("{file} ({what}) is not on this machine; looked in {}", places.join(", ")),
        format!("{hint}; `--engine cpu` works without a GPU"),
    )
}

fn count() -> Result<usize, EngineError> {
    match CudaContext::device_count() {
        Ok(count) => Ok(count as usize),
        Err(error) => Err(open_error(0, error)),
    }
}

fn open_error(ordinal: usize, error: DriverError) -> EngineError {
    use cudarc::driver::sys::cudaError_enum as Code;
    let hint = match error.0 {
        Code::CUDA_ERROR_NO_DEVICE => "check `nvidia-smi` and CUDA_VISIBLE_DEVICES; `--engine cpu` works without a GPU",
        Code::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another program holds the card exclusively: wait for it, choose `--device`, or run with `--engine cpu`"
        }
        Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | Code::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the driver is too old: CUDA 13 needs 580 or later; `--engine cpu` works instead"
        }
        Code::CUDA_ERROR_OUT_OF_MEMORY => {
            "the card's memory is full: end other programs on it (`nvidia-smi` lists them), or choose `--device`"
        }
        _ => "`nvidia-smi` shows the card's state; `--engine cpu` works without it",
    };
    EngineError::invalid(format!("GPU {ordinal} cannot be opened: {}", words(error)), hint)
}

fn words(error: DriverError) -> String {
    let name = format!("{:?}", error.0);
    match error.error_string() {
        Ok(text) => format!("{} ({name})", text.to_string_lossy()),
        Err(_) => name,
    }
}

/// Loads CUDA's libraries from folders that the loader does not know, so that it finds them by name afterwards.
pub(crate) fn find_libraries() {
    static DONE: OnceLock<Vec<libloading::Library>> = OnceLock::new();
    DONE.get_or_init(|| {
        // NVRTC opens its built-in functions by name, too late for a search of ours: they come first.
        let builtins = "libnvrtc-builtins.so.13";
        ["libnvrtc.so.13", "libcublasLt.so.13"].iter().flat_map(|name| load_first(name, builtins)).collect()
    });
}

/// The first library of this name, from the loader's paths or from a folder, there with what begins with `companion`.
fn load_first(name: &str, companion: &str) -> Vec<libloading::Library> {
    // SAFETY: NVIDIA's libraries do nothing on loading that could break this process.
    let load = |path: &Path| unsafe { libloading::Library::new(path) }.ok();
    if let Some(library) = load(Path::new(name)) {
        return vec![library];
    }
    for folder in folders() {
        let beside =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(companion));
        if folder.join(name).is_file() {
            let companions: Vec<_> = entries(&folder).filter(beside).filter_map(|path| load(&path)).collect();
            if let Some(library) = load(&folder.join(name)) {
                return companions.into_iter().chain([library]).collect();
            }
        }
    }
    Vec::new()
}

/// Where CUDA's libraries may lie: named by the user, the toolkit's place, pip's packages.
fn folders() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(variable("EVALSUITE_CUDA_LIBRARIES"));
    folders.extend(["CUDA_HOME", "CUDA_PATH"].iter().filter_map(|name| Some(variable(name)?.join("lib64"))));
    folders.push(PathBuf::from("/usr/local/cuda/lib64"));
    let packages = variable("VIRTUAL_ENV").into_iter().chain(variable("HOME").map(|home| home.join(".local")));
    for root in packages.chain([PathBuf::from("/usr/local"), PathBuf::from("/usr")]) {
        for python in entries(&root.join("lib")).filter(|path| path.to_string_lossy().contains("python3")) {
            for kind in ["site-packages", "dist-packages"] {
                folders.extend(entries(&python.join(kind).join("nvidia")).map(|package| package.join("lib")));
            }
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter()
}
