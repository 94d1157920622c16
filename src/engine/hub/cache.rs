//! The cache folder: lookups without the network.

use std::path::Path;

use super::repository::Repository;

/// Whether a revision is a full commit hash, which never means anything else later.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && is_hex(revision)
}

/// The commit that a revision had when it was last resolved.
pub(super) fn commit(cache: &Path, repository: &Repository) -> Option<String> {
    let revision = &repository.revision;
    if is_commit(revision) {
        return repository.snapshot(cache, revision).is_dir().then(|| revision.clone());
    }
    let commit = std::fs::read_to_string(repository.reference(cache)).ok()?.trim().to_owned();
    is_commit(&commit).then_some(commit)
}

/// Keeps what a revision means.
pub(super) fn remember(cache: &Path, repository: &Repository, commit: &str) -> std::io::Result<()> {
    repository.cached(cache).create_ref(commit)
}

/// The names of a snapshot's files, sorted, folders included as `folder/file`.
pub(super) fn names(snapshot: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![snapshot.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let (true, Ok(name)) = (path.exists(), path.strip_prefix(snapshot)) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort_unstable();
    names
}

/// The SHA-256 of a cached large file, known without reading it: the hub's etag of a file in Git LFS is the SHA-256 of
/// its content, and the cache names the blob after the etag. [`super::Hub::file`] has checked it after the download.
pub fn cached_sha256(path: &Path) -> Option<String> {
    let blob = std::fs::canonicalize(path).ok()?;
    let in_blobs = blob.parent()?.file_name()? == "blobs" && blob.parent()?.parent()?.join("snapshots").is_dir();
    let name = blob.file_name()?.to_str()?;
    (in_blobs && is_sha256(name)).then(|| name.to_owned())
}

/// Whether an etag is the SHA-256 of the content.
pub(super) fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && is_hex(etag)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
