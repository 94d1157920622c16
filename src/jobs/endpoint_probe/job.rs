//! What the user asked for, checked as far as that goes without a connection.

use std::path::PathBuf;

use crate::engine::model::ModelSpec;
use crate::jobs::EndpointSettings;
use crate::openai::Address;
use crate::report::Format;

/// One probe of one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointProbeJob {
    /// The command line, word by word, for provenance.
    pub command: Vec<String>,
    /// Where the endpoint is.
    pub address: Address,
    /// How it is asked.
    pub settings: EndpointSettings,
    /// The same model's files: the endpoint's tokens are held against f32.
    pub model: Option<ModelSpec>,
    /// Checks by name; empty means all.
    pub only: Vec<String>,
    /// Where the record goes, if anywhere.
    pub out: Option<PathBuf>,
    /// How the table is printed.
    pub format: Format,
}
