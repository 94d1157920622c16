//! Bytes from files or from the program itself, hashes, and writes that are whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A file that is read at random places: on disk, or compiled into the program.
#[derive(Debug)]
pub enum Blob {
    /// A file on disk, read with positioned reads so that many threads can share it.
    File {
        /// Where it is.
        path: PathBuf,
        /// Open for reading.
        file: File,
    },
    /// Part of the program.
    Embedded {
        /// A name for messages.
        name: String,
        /// Its bytes.
        bytes: &'static [u8],
    },
}

impl Blob {
    /// Opens a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::File { path: path.to_path_buf(), file: File::open(path)? })
    }

    /// A part of the program as a blob.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self::Embedded { name: name.to_owned(), bytes }
    }

    /// The path, or the name of an embedded file, for messages.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Embedded { name, .. } => PathBuf::from(format!("(bundled)/{name}")),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        match self {
            Self::File { file, .. } => Ok(file.metadata()?.len()),
            Self::Embedded { bytes, .. } => Ok(bytes.len() as u64),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads exactly `length` bytes from `offset`.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        self.read_into(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// Fills `buffer` with what stands from `offset` on.
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File { file, .. } => read_exact_at(file, buffer, offset),
            Self::Embedded { bytes, .. } => {
                let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
                let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// Everything in it.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        self.read_at(0, self.len()? as usize)
    }

    /// SHA-256 of everything in it, in hexadecimal.
    pub fn sha256(&self) -> io::Result<String> {
        const CHUNK: usize = 1 << 20;
        let mut hasher = Sha256::new();
        let length = self.len()?;
        let mut offset = 0;
        while offset < length {
            let size = CHUNK.min((length - offset) as usize);
            hasher.update(self.read_at(offset, size)?);
            offset += size as u64;
        }
        Ok(hex(&hasher.finalize()))
    }
}

/// A blob's bytes from `offset` on, one after the other.
#[derive(Debug)]
pub struct BlobReader {
    /// What is read.
    pub blob: Arc<Blob>,
    /// Where the next byte stands.
    pub offset: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.len()?.saturating_sub(self.offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.blob.read_into(self.offset, &mut buffer[..length])?;
        self.offset += length as u64;
        Ok(length)
    }
}

/// Fills `buffer` with a file's bytes from `offset` on, wherever the file is being read.
#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` with a file's bytes from `offset` on.
#[cfg(windows)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}

/// Writes all of `bytes` from `offset` on, wherever the file is being written.
#[cfg(unix)]
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` from `offset` on.
#[cfg(windows)]
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match std::os::windows::fs::FileExt::seek_write(file, &bytes[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => done += written,
        }
    }
    Ok(())
}

/// SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Replaces the file at `path` by `bytes` so that a reader, or a crash, sees the old one or the new one and nothing between. A link
/// stays, and what it names is replaced; what is no regular file (a device, a pipe) is written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some((path, temporary)) = places(path)? else {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    };
    let result = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    })();
    if result.is_err() {
        // The half-written file is of no use to anyone; the error that matters is the one returned.
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Whether [`write_atomically`] may write at `path`, as far as can be known before.
pub fn check_writable(path: &Path) -> io::Result<()> {
    let Some((_, temporary)) = places(path)? else { return Ok(()) };
    match OpenOptions::new().write(true).create_new(true).open(&temporary) {
        Ok(_) => std::fs::remove_file(&temporary),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file that a write at `path` replaces, and the one beside it that is written first; `None` for what is no regular file.
fn places(path: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let path = match std::fs::metadata(path) {
        Ok(there) if !there.is_file() && !there.is_dir() => return Ok(None),
        Ok(_) => std::fs::canonicalize(path)?,
        Err(_) => path.to_owned(),
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    Ok(Some((path, PathBuf::from(temporary))))
}

/// Reads a whole text file.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_matches_the_published_vector() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), expected);
        assert_eq!(Blob::embedded("abc", b"abc").sha256().unwrap(), expected);
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        assert!(Blob::embedded("abc", b"abc").read_at(1, 3).is_err());
        assert_eq!(Blob::embedded("abc", b"abc").read_at(1, 2).unwrap(), b"bc");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        write_atomically(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        check_writable(&link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read_text(&file).unwrap(), "new");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        use std::os::unix::fs::FileTypeExt as _;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || read_text(&pipe).unwrap()
        });
        write_atomically(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_failed_atomic_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, b"old").unwrap();
        std::fs::create_dir(folder.path().join("a.tmp")).unwrap();
        assert!(write_atomically(&path, b"new").is_err());
        assert_eq!(read_text(&path).unwrap(), "old");
    }
}
