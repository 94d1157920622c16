//! The GPU and CUDA's libraries: found, or refused with the reason.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaGraph, CudaStream, DriverError, sys};

use super::compile::nvrtc_version;
use super::requirements::{
    CUBLASLT, DRIVER, Library, Memory, NVRTC, check_capability, check_driver, check_library, check_ordinal, missing,
    not_opened, version,
};
use crate::EngineError;
use crate::fault::caught;
use crate::text::bytes;

/// Bytes that this process holds on each device, by the driver's number, of all its engines: they may share a GPU.
static HELD_BYTES: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

/// The bytes that this process holds on a device, after `change`.
pub(super) fn held_bytes(ordinal: usize, change: impl FnOnce(usize) -> usize) -> usize {
    let mut held = HELD_BYTES.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = held.entry(ordinal).or_default();
    *bytes = change(*bytes);
    *bytes
}

/// Read while a stream is captured, written while something is given back: giving back waits for the device, which breaks off every capture
/// of the process.
static CAPTURES: RwLock<()> = RwLock::new(());

thread_local! {
    /// Whether this thread is capturing.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// Gives something back to the driver while no other thread captures.
pub(super) fn give_back<T>(release: impl FnOnce() -> T) -> T {
    if CAPTURING.get() {
        return release();
    }
    let _alone = CAPTURES.write().unwrap_or_else(PoisonError::into_inner);
    release()
}

/// An open GPU with one stream of work.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) context: Arc<CudaContext>,
    /// All work of an engine runs in this stream, in the order in which it was enqueued.
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
    /// Records what `work` enqueues as a CUDA graph, and executes none of it. The outer error is `work`'s, which may be the cause of the
    /// driver's, the inner one.
    pub(crate) fn capture<E>(
        &self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<Option<CudaGraph>, DriverError>, E> {
        let _captures = CAPTURES.read().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) {
            return Ok(Err(error));
        }
        CAPTURING.set(true);
        let done = work();
        CAPTURING.set(false);
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = self.stream.end_capture(flags);
        done.map(|()| graph)
    }

    /// Opens the GPU with this number.
    pub(crate) fn open(ordinal: usize) -> Result<Self, EngineError> {
        // The driver is only looked for in the loader's paths.
        require(&DRIVER, &[])?;
        check_driver(driver_version()?)?;
        check_ordinal(ordinal, count()?)?;
        require(&NVRTC, &folders())?;
        require(&CUBLASLT, &folders())?;
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
        let device = with_symbols(opened)?.map_err(|error| not_opened(ordinal, error.0, &words(error)))?;
        check_capability(ordinal, &device.name, device.capability)?;
        Ok(device)
    }

    /// The device memory as it is now.
    pub(crate) fn memory(&self) -> Result<Memory, EngineError> {
        let (free, total) = self.context.mem_get_info().map_err(|error| failed("report its memory", error))?;
        Ok(Memory { free, total, own: held_bytes(self.context.ordinal(), |held| held) })
    }

    /// Everything but the engine's own version that decides a result's last bits.
    pub(crate) fn arithmetic(&self) -> String {
        let ((major, minor), (nvrtc_major, nvrtc_minor)) = (self.capability, nvrtc_version());
        // SAFETY: the library was found before the device was opened; it returns a number.
        let cublaslt = unsafe { cudarc::cublaslt::sys::cublasLtGetVersion() };
        let cublaslt = format!("{}.{}.{}", cublaslt / 10_000, cublaslt / 100 % 100, cublaslt % 100);
        let name = &self.name;
        format!("{name}, compute capability {major}.{minor}, NVRTC {nvrtc_major}.{nvrtc_minor}, cuBLASLt {cublaslt}")
    }

    /// Name, size and state.
    fn in_words(&self) -> String {
        let (major, minor) = self.capability;
        let memory = self.memory().map_or_else(
            |error| first_line(&error),
            |Memory { free, total, .. }| format!("{} of {} free", bytes(free as u64), bytes(total as u64)),
        );
        format!("{}, compute capability {major}.{minor}, {} multiprocessors, {memory}", self.name, self.multiprocessors)
    }

    /// Makes the device's context current for this thread; launches need it.
    pub(crate) fn bind(&self) -> Result<(), EngineError> {
        self.context.bind_to_thread().map_err(|error| failed("be made current for this thread", error))
    }

    /// Waits for everything that was enqueued.
    pub(crate) fn synchronize(&self) -> Result<(), EngineError> {
        self.stream.synchronize().map_err(|error| failed("wait for the GPU's work", error))
    }
}

/// Whether there is a GPU, without opening it: the driver loads and sees one, and the libraries are there. A driver that fails counts as
/// a GPU, so that opening it reports why.
pub fn is_present() -> bool {
    LIBRARIES.iter().all(loads) && count().map_or(true, |count| count > 0)
}

/// What a GPU engine would find here, by name and in words.
pub fn describe() -> Vec<(&'static str, String)> {
    let found = |library: &Library| match cuda_of(library) {
        Some(cuda) => check_library(library, cuda)
            .map_or_else(|error| first_line(&error), |()| format!("found, CUDA {}", version(cuda))),
        None => if loads(library) { "found" } else { "not found" }.to_owned(),
    };
    let mut lines: Vec<_> = LIBRARIES.iter().map(|library| (library.file, found(library))).collect();
    let cache = super::compile::cache_folder();
    lines.push(("kernel cache", cache.map_or_else(|| "none".to_owned(), |folder| folder.display().to_string())));
    let count = if loads(&DRIVER) { count() } else { Ok(0) };
    lines.extend(count.as_ref().err().map(|error| ("device", first_line(error))));
    for ordinal in 0..count.unwrap_or(0) {
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
            "the GPU's memory is full: end other programs on it (`nvidia-smi` lists them), or give a smaller `--batch`"
        }
        Code::CUDA_ERROR_ILLEGAL_ADDRESS | Code::CUDA_ERROR_LAUNCH_FAILED => {
            "this is a fault of the engine: report it with the command; `--engine cpu` works instead"
        }
        _ => "`nvidia-smi` shows the GPU's state; `--engine cpu` works without it",
    };
    EngineError::failed(format!("the GPU could not {what}: {}", words(error)), hint)
}

const LIBRARIES: [Library; 3] = [DRIVER, NVRTC, CUBLASLT];

fn loads(library: &Library) -> bool {
    find_libraries();
    // SAFETY: asks whether a library loads; nothing else is touched.
    unsafe {
        match *library {
            NVRTC => cudarc::nvrtc::sys::is_culib_present(),
            CUBLASLT => cudarc::cublaslt::sys::is_culib_present(),
            _ => sys::is_culib_present(),
        }
    }
}

fn require(library: &Library, folders: &[PathBuf]) -> Result<(), EngineError> {
    if !loads(library) {
        return Err(missing(library, folders));
    }
    cuda_of(library).map_or(Ok(()), |cuda| check_library(library, cuda))
}

/// The CUDA version of a library of the toolkit: 1000 a major version, 10 a minor one.
fn cuda_of(library: &Library) -> Option<i32> {
    if !loads(library) {
        return None;
    }
    match *library {
        NVRTC => {
            let (major, minor) = nvrtc_version();
            Some(1000 * major + 10 * minor)
        }
        // SAFETY: the library is there; it returns a number.
        CUBLASLT => i32::try_from(unsafe { cudarc::cublaslt::sys::cublasLtGetCudartVersion() }).ok(),
        _ => None,
    }
}

/// The newest CUDA version that the driver supports: 1000 a major version, 10 a minor one.
fn driver_version() -> Result<i32, EngineError> {
    let mut version = 0;
    // SAFETY: the driver is there; it writes one number to the address, and needs no initialisation.
    let asked = with_symbols(|| unsafe { sys::cuDriverGetVersion(&raw mut version) }.result())?;
    asked.map(|()| version).map_err(|error| failed("report its driver's version", error))
}

/// Calls the driver, whose functions are looked for by name at the first call of each: a library that has not all of them is none.
fn with_symbols<T>(call: impl FnOnce() -> T) -> Result<T, EngineError> {
    caught(call).ok_or_else(|| {
        EngineError::invalid(
            format!("{} lacks functions of CUDA's driver", DRIVER.file),
            "another library of this name is found first, or the driver is damaged: install NVIDIA's anew, or run with `--engine cpu`",
        )
    })
}

/// GPUs that the driver sees.
fn count() -> Result<usize, EngineError> {
    match with_symbols(CudaContext::device_count)? {
        Ok(count) => Ok(count as usize),
        // What a driver without a GPU reports.
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        Err(error) => Err(not_opened(0, error.0, &words(error))),
    }
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
        // NVRTC opens its built-in functions by name after our search: load them first.
        let builtins = "libnvrtc-builtins.so.13";
        ["libnvrtc.so.13", "libcublasLt.so.13"].iter().flat_map(|name| load_first(name, builtins)).collect()
    });
}

/// The first library of this name, from the loader's paths or from a folder, there together with files that begin with `companion`.
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

/// Folders of CUDA's libraries: named by the user, the toolkit's, pip's packages.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::cuda::buffer::{Buffer, Pinned};
    use crate::cuda::testing::gpu;

    #[test]
    fn what_is_given_back_elsewhere_breaks_no_capture_off() {
        let Some(device) = gpu() else { return };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let other = Device::open(0).unwrap();
                    while !done.load(Ordering::Relaxed) {
                        drop((Buffer::new(&other, 1 << 20).unwrap(), Pinned::<u8>::new(&other, 1 << 12).unwrap()));
                    }
                });
            }
            let buffer = Buffer::new(&device, 64).unwrap();
            let captured = (0..200).all(|_| {
                let graph = device.capture(|| (0..100).try_for_each(|_| buffer.fill(&device, 1)));
                graph.is_ok_and(|graph| graph.is_ok_and(|graph| graph.is_some()))
            });
            done.store(true, Ordering::Relaxed);
            assert!(captured);
        });
    }
}
