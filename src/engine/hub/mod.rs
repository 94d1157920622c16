//! The Hugging Face hub: one client for models and datasets.
//!
//! The cache is laid out as Python's `huggingface_hub` lays it out, so that either finds what the other fetched:
//! `models--owner--name/{refs/<revision>, snapshots/<commit>/<file> → blobs/<etag>}`.

mod cache;
mod client;
mod error;
mod failure;
mod fetch;
mod repository;
mod settings;
mod transport;

pub use cache::cached_sha256;
pub use client::{Hub, HubFile};
pub use error::HubError;
pub use repository::RepositoryKind;
pub use settings::HubSettings;

/// A repository's revision unless the user says otherwise.
pub const DEFAULT_REVISION: &str = "main";
