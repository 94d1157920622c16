//! What a data file's bytes are: compressed, a pointer to another file, or of another kind than its name says.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::data_file::DataFile;
use super::names::Compression;
use crate::files::Blob;
use crate::task::TaskError;

/// A file that unpacks to more is no dataset, but a trap.
const LARGEST: u64 = 8 << 30;
/// Enough of a file's beginning to know what it is.
const BEGINNING: u64 = 1 << 10;
/// What a decoder may hold at a time, beside what its format makes it hold.
const BUFFER: usize = 1 << 16;

/// A text from its first byte on, without the byte order mark that some editors begin a file with.
pub(super) type Text = Box<dyn BufRead>;

/// What to do with a page that came in a file's place.
const OF_A_PAGE: &str = "fetch the file itself: a link to a page of the hub has `blob` where the file's has `resolve`";

/// Kinds of files by their first bytes, and what to do with one.
const KINDS: [(&[u8], &str, &str); 13] = [
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the data",
        "run `git lfs pull` in its folder, or name the dataset by its hub id",
    ),
    (b"\x1f\x8b", "gzip", "name it `….gz`, or unpack it: `gunzip`"),
    (b"\x28\xb5\x2f\xfd", "zstd", "name it `….zst`, or unpack it: `unzstd`"),
    (b"\xfd7zXZ\0", "xz", "unpack it: `unxz`"),
    (b"BZh", "bzip2", "unpack it: `bunzip2`"),
    (b"PK\x03\x04", "a zip archive", "unpack it: `unzip`"),
    (b"PAR1", "parquet", "name it `….parquet`"),
    (b"ARROW1", "Arrow IPC", "write it as parquet or as jsonl"),
    (b"\xff\xfe", "UTF-16 text", "write the file in UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "write the file in UTF-8"),
    (b"<!DOCTYPE", "a page of HTML", OF_A_PAGE),
    (b"<!doctype", "a page of HTML", OF_A_PAGE),
    (b"<html", "a page of HTML", OF_A_PAGE),
];

/// A text file's bytes as they are to be read: unpacked where its name says that it is compressed.
pub(super) fn text(file: &DataFile) -> Result<Text, TaskError> {
    let (mut beginning, rest) = opened(file, b"")?;
    if beginning.starts_with("\u{feff}".as_bytes()) {
        beginning.drain(..3);
    }
    Ok(Box::new(Cursor::new(beginning).chain(rest)))
}

/// A parquet file, of which parts are read wherever they stand. One that is compressed as a whole is unpacked into a file without a name.
pub(super) fn parquet(file: &DataFile) -> Result<Arc<Blob>, TaskError> {
    let (beginning, rest) = opened(file, b"PAR1")?;
    if Compression::of(&file.label).is_none() {
        return Ok(Arc::clone(&file.blob));
    }
    let unpacked = tempfile::tempfile().and_then(|mut unpacked| {
        io::copy(&mut Cursor::new(beginning).chain(rest), &mut unpacked)?;
        Ok(Blob::File { path: PathBuf::from(&file.label), file: unpacked })
    });
    unpacked.map(Arc::new).map_err(|error| broken(file, &error))
}

/// A file that cannot be read on: what is wrong with it.
pub(super) fn broken(file: &DataFile, error: &io::Error) -> TaskError {
    let (what, hint) = match Compression::of(&file.label) {
        Some(_) => ("unpacked", "the file is truncated, damaged or no dataset: fetch or write it again"),
        None => ("read", "check the file and its permissions"),
    };
    TaskError::invalid(format!("{} cannot be {what}: {error}", file.label), hint)
}

/// The first bytes, which are those of the kind that begins with `wanted`, and what comes behind them.
fn opened(file: &DataFile, wanted: &[u8]) -> Result<(Vec<u8>, Text), TaskError> {
    let stored: Text = Box::new(BufReader::with_capacity(BUFFER, file.reader()));
    let Some(compression) = Compression::of(&file.label) else { return checked(file, stored, wanted) };
    let (beginning, rest) = checked(file, stored, compression.magic())?;
    let stored = Cursor::new(beginning).chain(rest);
    let unpacked: Box<dyn Read> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(stored).map_err(|error| broken(file, &error))?)
        }
    };
    checked(file, Box::new(BufReader::with_capacity(BUFFER, Bounded { inner: unpacked, left: LARGEST })), wanted)
}

/// Takes the first bytes off and refuses those of another kind.
fn checked(file: &DataFile, mut bytes: Text, wanted: &[u8]) -> Result<(Vec<u8>, Text), TaskError> {
    let mut beginning = Vec::new();
    bytes.by_ref().take(BEGINNING).read_to_end(&mut beginning).map_err(|error| broken(file, &error))?;
    check(file, &beginning, wanted)?;
    Ok((beginning, bytes))
}

/// Ends with an error where more comes than there may be.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| io::Error::other(format!("it is more than {} GiB", LARGEST >> 30)))?;
        Ok(read)
    }
}

/// Refuses bytes of another kind than the one that begins with `wanted`.
fn check(file: &DataFile, bytes: &[u8], wanted: &[u8]) -> Result<(), TaskError> {
    let refuse = |what: &str, hint: &str| Err(TaskError::invalid(format!("{} is {what}", file.label), hint));
    match KINDS.iter().find(|(magic, _, _)| bytes.starts_with(magic)) {
        Some((magic, _, _)) if *magic == wanted => Ok(()),
        Some((_, what, hint)) => refuse(what, hint),
        None if wanted == b"PAR1" && !wanted.starts_with(bytes) && is_text(bytes) => {
            refuse("text, not parquet", "name it after what it holds: .jsonl, .json, .csv or .tsv")
        }
        // A parquet file that lacks its beginning is for its reader to describe.
        None if wanted.is_empty() || wanted == b"PAR1" => Ok(()),
        None => {
            let name = KINDS.iter().find(|(magic, _, _)| *magic == wanted).map_or("compressed", |(_, name, _)| name);
            refuse(&format!("not {name}, as its name says"), "name it after what it holds, or fetch it again")
        }
    }
}

/// Whether the beginning of a file is UTF-8, as far as it goes.
fn is_text(beginning: &[u8]) -> bool {
    std::str::from_utf8(beginning).map_or_else(|error| error.error_len().is_none(), |_| true)
}
