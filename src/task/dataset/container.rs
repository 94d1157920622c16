//! What a data file's bytes are: compressed, a pointer to another file, or of another kind than its name says.

use std::borrow::Cow;
use std::io::Read;

use super::data_file::DataFile;
use super::names::{Compression, Format};
use crate::task::TaskError;

/// A file that unpacks to more is no dataset, but a trap.
const LARGEST: u64 = 8 << 30;

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

/// The file as its format is to read it: unpacked where its name says that it is compressed.
pub(super) fn opened(file: &DataFile) -> Result<Cow<'_, DataFile>, TaskError> {
    let unpacked = match Compression::of(&file.label) {
        None => Cow::Borrowed(file),
        Some(compression) => {
            check(file, compression.magic())?;
            Cow::Owned(DataFile { label: file.label.clone(), bytes: unpack(file, compression)? })
        }
    };
    match Format::of(&file.label) {
        Some(Format::Parquet) => check(&unpacked, b"PAR1")?,
        _ => check(&unpacked, b"")?,
    }
    Ok(unpacked)
}

/// Refuses bytes of another kind than the one that begins with `wanted`.
fn check(file: &DataFile, wanted: &[u8]) -> Result<(), TaskError> {
    let bytes = file.bytes.as_slice();
    let refuse = |what: &str, hint: &str| Err(TaskError::invalid(format!("{} is {what}", file.label), hint));
    match KINDS.iter().find(|(magic, _, _)| bytes.starts_with(magic)) {
        Some((magic, _, _)) if *magic == wanted => Ok(()),
        Some((_, what, hint)) => refuse(what, hint),
        None if wanted == b"PAR1" && !wanted.starts_with(bytes) && std::str::from_utf8(bytes).is_ok() => {
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

fn unpack(file: &DataFile, compression: Compression) -> Result<Vec<u8>, TaskError> {
    let mut bytes = Vec::new();
    let read = match compression {
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(&file.bytes[..]).take(LARGEST + 1).read_to_end(&mut bytes)
        }
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&file.bytes[..])
            .and_then(|decoder| decoder.take(LARGEST + 1).read_to_end(&mut bytes)),
    };
    let failed = |what: String, hint: &str| Err(TaskError::invalid(format!("{} {what}", file.label), hint));
    match read {
        Ok(length) if length as u64 > LARGEST => failed(
            format!("unpacks to more than {} GiB", LARGEST >> 30),
            "give a smaller file: the split alone, in parts",
        ),
        Ok(_) => Ok(bytes),
        Err(error) => {
            failed(format!("cannot be unpacked: {error}"), "the file is truncated or damaged: fetch or write it again")
        }
    }
}
