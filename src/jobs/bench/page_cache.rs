//! The weight files and the system's page cache: put in before loads that shall be warm, taken out before one that shall be cold.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;

use super::ReadThrough;
use crate::engine::EngineError;
use crate::engine::model::ModelSource;
use crate::fault::IoFault;
use crate::system::{available_memory_bytes, field, read};

/// Reads files once, so that every load finds them in the page cache (as far as memory holds them); `None` where there are none.
pub(super) fn read_through(paths: &[PathBuf]) -> Result<Option<ReadThrough>, EngineError> {
    if paths.is_empty() {
        return Ok(None);
    }
    let available_memory_bytes = available_memory_bytes();
    let begun = Instant::now();
    let read = |path: &PathBuf| {
        let hint = |_| "check the disk that the file lies on";
        read_file(path).map_err(|source| EngineError::Read(IoFault::new("read", path, source, hint)))
    };
    let lengths = paths.par_iter().map(read).collect::<Result<Vec<u64>, EngineError>>()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Some(ReadThrough { bytes: lengths.iter().sum(), seconds, available_memory_bytes }))
}

fn read_file(path: &Path) -> io::Result<u64> {
    const PIECE: usize = 4 << 20;
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(total),
            length => total += length as u64,
        }
    }
}

/// Takes files out of the page cache. Whether the system did it, the bytes that the next reading takes from the disk tell.
pub(super) fn evict(paths: &[PathBuf]) {
    for file in paths.iter().filter_map(|path| File::open(path).ok()) {
        // Pages that are not on the disk yet would stay.
        let _ = file.sync_all();
        #[cfg(target_os = "linux")]
        let _ = nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

/// Bytes of files; `None` where there are none.
pub(super) fn file_bytes(paths: &[PathBuf]) -> Option<u64> {
    let length = |path: &PathBuf| std::fs::metadata(path).ok().map(|metadata| metadata.len());
    paths.iter().map(length).sum::<Option<u64>>().filter(|_| !paths.is_empty())
}

/// Bytes that this process has had read from disks until now, what the page cache held left out (`read_bytes` of proc(5)); `None`
/// where the system does not say.
pub(super) fn bytes_from_disk() -> Option<u64> {
    field(&read("/proc/self/io"), "read_bytes")?.parse().ok()
}

/// The files on disk that a model's weights are read from; none where they are compiled in.
pub(super) fn weight_files(source: &ModelSource) -> Vec<PathBuf> {
    let Some(files) = &source.files else {
        return Some(PathBuf::from(&source.source)).filter(|path| path.is_file()).into_iter().collect();
    };
    let of = |extension: &str| -> Vec<PathBuf> {
        let has = |path: &&Path| path.extension().is_some_and(|found| found == extension);
        files.paths().filter(has).map(Path::to_path_buf).collect()
    };
    let safetensors = of("safetensors");
    if safetensors.is_empty() { of("bin") } else { safetensors }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_evicted_is_read_from_the_disk_and_what_was_read_is_not() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("weights.bin");
        std::fs::write(&path, vec![7_u8; 32 << 20]).unwrap();
        let paths = [path];
        assert_eq!((file_bytes(&paths), file_bytes(&[])), (Some(32 << 20), None));
        let from_disk = || {
            let before = bytes_from_disk()?;
            read_through(&paths).unwrap().filter(|read| read.bytes == 32 << 20)?;
            bytes_from_disk()?.checked_sub(before)
        };
        evict(&paths);
        let Some(cold) = from_disk().filter(|bytes| *bytes > 0) else {
            crate::skip::skip("disk", "this system's disk does not tell what is read from it");
            return;
        };
        // Other tests of this process read too; none of them so much.
        assert!(cold >= 32 << 20, "{cold}");
        let warm = from_disk().unwrap();
        assert!(warm < 16 << 20, "{warm}");
    }
}
