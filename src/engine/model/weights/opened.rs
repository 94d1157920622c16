//! What a reader of weights gives.

use std::collections::BTreeMap;

use super::Tensors;

/// Opened weights, before they are held against the configuration.
pub(in crate::model) struct OpenedWeights {
    /// The tensors.
    pub(in crate::model) tensors: Box<dyn Tensors>,
    /// Shape of every tensor.
    pub(in crate::model) shapes: BTreeMap<String, Vec<usize>>,
    /// What the weights are stored as: a format's own name of it, or what most bytes are stored in.
    pub(in crate::model) stored_as: String,
    /// Of all tensors in the files.
    pub(in crate::model) bytes: u64,
}
