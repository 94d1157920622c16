//! Kernels from source to machine code, by NVRTC, kept on disk.
//!
//! Every kernel is compiled for one model: its sizes are constants ([`Options`]), so that loops unroll and no kernel carries
//! a general case. The key of the cache is everything that decides the machine code.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::nvrtc::{result, sys};

use crate::EngineError;
use crate::files::sha256;

/// What every kernel source may use: element types, loads, reductions, tensor-core instructions.
const PRELUDE: &str = include_str!("kernels/prelude.cuh");

/// A lock for each image that this process has asked for, by its key.
static COMPILING: Mutex<BTreeMap<String, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());

/// A kernel source of this crate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// The file's name, for messages.
    pub(crate) name: &'static str,
    /// Its text, without the prelude.
    pub(crate) text: &'static str,
}

/// Constants that a source is compiled with, as `-DNAME=value`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options(Vec<(&'static str, String)>);

impl Options {
    /// Adds a constant.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "numbers and short words, written where they are passed")]
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.push((name, value.to_string()));
        self
    }
}

/// Machine code for compute capability `(major, minor)`, an ELF image: compiled, or what an earlier run compiled.
pub(crate) fn cubin(source: Source, options: &Options, capability: (i32, i32)) -> Result<Vec<u8>, EngineError> {
    let arguments = arguments(options, capability);
    let (major, minor) = nvrtc_version();
    let key = sha256(format!("nvrtc {major}.{minor}\n{arguments:?}\n{PRELUDE}\n{}", source.text).as_bytes());
    let path = cache_folder().map(|folder| folder.join(format!("{}-{}.cubin", source.name, &key[..32])));
    // Engines that open at once on several devices want the same: the first compiles, the others read what it wrote.
    let compiling =
        Arc::clone(COMPILING.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
    let _alone = compiling.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = path.as_deref().and_then(|path| read_cached(path, &key)) {
        return Ok(image);
    }
    let image = compile(source, &arguments)?;
    if let Some(path) = path {
        // A cache that cannot be written costs the next start a second and nothing else.
        let _ = write_cached(&path, &key, &image);
    }
    Ok(image)
}

/// Hopper-only instructions need the architecture-specific target (`sm_90a`), whose code runs on no other architecture.
fn arguments(options: &Options, (major, minor): (i32, i32)) -> Vec<String> {
    let suffix = if major >= 9 { "a" } else { "" };
    let fixed = [format!("--gpu-architecture=sm_{major}{minor}{suffix}"), "--std=c++17".to_owned()];
    fixed.into_iter().chain(options.0.iter().map(|(name, value)| format!("-D{name}={value}"))).collect()
}

fn compile(source: Source, arguments: &[String]) -> Result<Vec<u8>, EngineError> {
    let fault = |what: String| {
        EngineError::failed(
            format!("kernel {}: {what}", source.name),
            "this is a fault of the engine or of an untested CUDA version: report it; `--engine cpu` works instead",
        )
    };
    let text = CString::new(format!("{PRELUDE}\n#line 1 \"{}.cu\"\n{}", source.name, source.text))
        .map_err(|_| fault("its source holds a zero byte".to_owned()))?;
    let program = result::create_program(&text, None).map_err(|error| fault(error.to_string()))?;
    // SAFETY: the program was just created and is destroyed once, below.
    let compiled = unsafe { result::compile_program(program, arguments) };
    let image = match compiled {
        // SAFETY: the buffer has the size that NVRTC asked for.
        Ok(()) => unsafe {
            let mut size = 0;
            let asked = sys::nvrtcGetCUBINSize(program, &raw mut size).result();
            let mut image = vec![0_u8; size];
            asked
                .and_then(|()| sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast::<c_char>()).result())
                .map(|()| image)
        }
        .map_err(|error| fault(error.to_string())),
        Err(error) => Err(fault(format!("{error}\n{}", log(program)))),
    };
    // SAFETY: created above and not used again.
    let _ = unsafe { result::destroy_program(program) };
    image
}

fn log(program: sys::nvrtcProgram) -> String {
    // SAFETY: the program is alive; the log ends with a zero.
    let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
    let bytes: Vec<u8> = log.iter().map(|byte| *byte as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map(|log| log.to_string_lossy().into_owned()).unwrap_or_default()
}

/// NVRTC's version, major and minor; the library must be there.
pub(super) fn nvrtc_version() -> (i32, i32) {
    let (mut major, mut minor): (c_int, c_int) = (0, 0);
    // SAFETY: both pointers are to live integers.
    let _ = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    (major, minor)
}

/// Where compiled kernels are kept: `EVALSUITE_KERNEL_CACHE`, or the user's cache folder.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("EVALSUITE_KERNEL_CACHE").or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(cache.join("evalsuite").join("kernels"))
    })
}

/// The checksum that follows an image in the cache: a truncated or changed image, or another kernel's, is compiled anew, because the
/// driver might run it.
fn checksum(key: &str, image: &[u8]) -> String {
    sha256(&[key.as_bytes(), image].concat())
}

fn read_cached(path: &Path, key: &str) -> Option<Vec<u8>> {
    let mut image = std::fs::read(path).ok()?;
    let found = image.split_off(image.len().checked_sub(checksum(key, &[]).len())?);
    (found == checksum(key, &image).as_bytes()).then_some(image)
}

fn write_cached(path: &Path, key: &str, image: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // A name of its own: other threads and processes compile at the same time, and only what is whole may get the path.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".unfinished-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut unfinished = builder.tempfile_in(folder)?;
    unfinished.write_all(image)?;
    unfinished.write_all(checksum(key, image).as_bytes())?;
    unfinished.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_written_at_the_same_time_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = |writer: u8| folder.path().join(format!("{writer}.cubin"));
        // Longer than what one write carries, and of lengths that tell them apart.
        let image = |writer: u8| vec![writer; 300_000 + usize::from(writer)];
        std::thread::scope(|scope| {
            for writer in 0..8 {
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_cached(&path(writer), "key", &image(writer)).unwrap();
                        assert_eq!(read_cached(&path(writer), "key"), Some(image(writer)));
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 8, "nothing is left beside them");
    }

    #[test]
    fn an_image_that_is_not_what_was_written_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cubin");
        let image = b"\x7fELF and machine code";
        write_cached(&path, "a", image).unwrap();
        assert_eq!(read_cached(&path, "a").as_deref(), Some(&image[..]));
        assert_eq!(read_cached(&path, "b"), None, "another kernel's");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read_cached(&path, "a"), None, "cut short after {length} bytes");
        }
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert_eq!(read_cached(&path, "a"), None, "byte {index} changed");
        }
    }
}
