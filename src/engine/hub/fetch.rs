//! One file's way from the hub into the cache.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::cache;
use super::failure::Failure;
use super::repository::Repository;
use super::transport::{FileFacts, Transport};
use crate::files::Blob;
use crate::shown::outgoing;
use crate::text;

/// How long another process may fetch the same file.
const LOCKED: Duration = Duration::from_secs(5);

/// Downloads one file into `blob` and checks what came: its length, and its hash if the hub gives one. Progress is shown under
/// the name `shown_as`, if there is one.
pub(super) fn fetch(
    transport: &Transport<'_>,
    repository: &Repository,
    file: &str,
    facts: &FileFacts,
    blob: &Path,
    shown_as: Option<&String>,
) -> Result<(), Failure> {
    if let Some(folder) = blob.parent() {
        fs::create_dir_all(folder)?;
    }
    let _lock = lock(&blob.with_extension("lock"), transport)?;
    let part = blob.with_extension("part");
    if fs::metadata(&part).is_ok_and(|part| part.len() >= facts.bytes) {
        // Nothing is left to ask for, and the hub refuses a range beyond the end.
        fs::remove_file(&part)?;
    }
    let bar = if shown_as.is_some() { ProgressBar::new(facts.bytes) } else { ProgressBar::hidden() };
    if let Some(subject) = shown_as {
        // indicatif draws nothing where stderr is no terminal; one line a file then has to do.
        if bar.is_hidden() {
            eprintln!("{}", outgoing(&format!("fetching {subject} ({})", text::bytes(facts.bytes)), false));
        }
        let style = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(outgoing(subject, false));
    }
    let came = transport.download(repository, file, facts.bytes, &part, &bar);
    bar.finish_and_clear();
    came?;
    let length = fs::metadata(&part)?.len();
    let damaged = length != facts.bytes || cache::is_sha256(&facts.etag) && Blob::open(&part)?.sha256()? != facts.etag;
    if damaged {
        fs::remove_file(&part)?;
        return Err(Failure::Network("what came does not have the hash that the hub names".to_owned()));
    }
    Ok(fs::rename(&part, blob)?)
}

/// So that two processes do not write into one part.
fn lock(path: &Path, transport: &Transport<'_>) -> Result<File, Failure> {
    let file = File::create(path)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= LOCKED => return Err(Failure::Locked),
            Err(TryLockError::WouldBlock) => {
                transport.go_on()?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Links a snapshot's file to a blob that is there, with the relative link that `huggingface_hub` makes.
pub(super) fn link_blob(folder: &Path, blob: &Path, link: &Path) -> Result<(), Failure> {
    let (Some(parent), Some(name), Ok(inside)) = (link.parent(), blob.file_name(), link.strip_prefix(folder)) else {
        return Err(Failure::Protocol(format!("{} lies outside the cache", link.display())));
    };
    fs::create_dir_all(parent)?;
    let up: std::path::PathBuf = std::iter::repeat_n("..", inside.components().count() - 1).collect();
    if !link.exists() {
        link_file(&up.join("blobs").join(name), blob, link)?;
    }
    Ok(())
}

#[cfg(unix)]
fn link_file(relative: &Path, _: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, link)
}

/// Links are a privilege here: a copy stands for one, as `huggingface_hub` has it.
#[cfg(not(unix))]
fn link_file(_: &Path, blob: &Path, link: &Path) -> std::io::Result<()> {
    std::fs::copy(blob, link).map(|_| ())
}
