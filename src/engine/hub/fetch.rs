//! One file's way from the hub into the cache.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, Repo};
use indicatif::ProgressBar;

use super::cache;
use crate::files::Blob;
use crate::shown::outgoing;
use crate::text;

/// Downloads one file and checks what came: its length, and its hash if the hub gives one. Progress is shown under the name
/// `shown_as`, if there is one.
pub(super) fn fetch(
    remote: &ApiRepo,
    file: &str,
    metadata: &Metadata,
    blob: &Path,
    shown_as: Option<&String>,
) -> Result<(), ApiError> {
    let size = metadata.size() as u64;
    let part = blob.with_extension("part");
    if std::fs::metadata(&part).is_ok_and(|part| part.len() >= size) {
        // Nothing is left to ask for, and the hub refuses a range beyond the end.
        std::fs::remove_file(&part)?;
    }
    // indicatif draws nothing where stderr is no terminal; one line a file then has to do.
    let bar = if shown_as.is_some() { ProgressBar::new(size) } else { ProgressBar::hidden() };
    if let Some(subject) = shown_as.filter(|_| bar.is_hidden()) {
        eprintln!("{}", outgoing(&format!("fetching {subject} ({})", text::bytes(size)), false));
    }
    let path = remote.download_with_progress(file, bar)?;
    let length = std::fs::metadata(&path)?.len();
    if length < size {
        // The connection closed early without an error: put the part back to be resumed.
        std::fs::remove_file(&path)?;
        std::fs::rename(blob, &part)?;
        return Err(broken(format!("the connection broke off after {length} of {size} bytes")));
    }
    let damaged = length > size || cache::is_sha256(metadata.etag()) && Blob::open(blob)?.sha256()? != metadata.etag();
    if damaged {
        std::fs::remove_file(&path)?;
        std::fs::remove_file(blob)?;
        return Err(broken("what came does not have the hash that the hub names".to_owned()));
    }
    Ok(())
}

fn broken(what: String) -> ApiError {
    ApiError::IoError(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what))
}

/// Links a snapshot's file to a blob that is there already, with the relative link that `huggingface_hub` makes.
pub(super) fn link_blob(cache: &Cache, repo: &Repo, blob: &Path, link: &Path) -> Result<(), ApiError> {
    let folder = cache.path().join(repo.folder_name());
    let (Some(parent), Some(name), Ok(inside)) = (link.parent(), blob.file_name(), link.strip_prefix(&folder)) else {
        return Err(broken(format!("{} lies outside the cache", link.display())));
    };
    std::fs::create_dir_all(parent)?;
    let up: PathBuf = std::iter::repeat_n("..", inside.components().count() - 1).collect();
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
