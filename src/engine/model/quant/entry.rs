//! What a weight format's entry says.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::EngineError;
use crate::arithmetic::Arithmetic;
use crate::model::AwqTensor;
use crate::model::weights::Tensors;

/// Everything that is particular to a format.
pub struct FormatEntry {
    /// The name on the command line and in every file; a dense precision goes by the name of its arithmetic.
    pub name: &'static str,
    /// Other names that it goes by.
    pub aliases: &'static [&'static str],
    /// One line for lists.
    pub description: &'static str,
    /// The arithmetics that it runs in: one, unless it is dense.
    pub arithmetics: &'static [Arithmetic],
    /// Which of the engines' kernels compute from it.
    pub layout: Layout,
    /// Bits a weight takes in memory, its share of scales included; `None` takes the arithmetic's.
    pub bits: Option<u64>,
    /// Where the packed weights come from.
    pub origin: Origin,
}

/// How engines hold the weights of a linear layer. A format of its own layout needs kernels in every engine; one that
/// is read into a layout that is there needs nothing but its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Elements of the arithmetic.
    Dense,
    /// Eight bits, symmetric, a scale a row.
    Int8,
    /// Four bits, a scale and a zero point a group of inputs: an [`AwqTensor`].
    Int4,
}

/// Where the weights of a format come from.
pub enum Origin {
    /// Any checkpoint: a packed one is read as the dense tensors that it stands for.
    Any,
    /// Packed while loading, from a checkpoint that is not packed itself.
    Packed,
    /// A checkpoint in this very format.
    Checkpoint(CheckpointFormat),
}

/// How checkpoints of a format are known and read.
pub struct CheckpointFormat {
    /// `quant_method` in the section `quantization_config` of `config.json`.
    pub method: &'static str,
    /// What such a checkpoint is called: `AWQ`.
    pub title: &'static str,
    /// What its weights are stored as: `awq-int4`.
    pub stored_as: &'static str,
    /// Which of its variants are read, in words.
    pub reads: &'static str,
    /// What helps where a model has no such checkpoint.
    pub hint: &'static str,
    /// The endings of the names of the tensors that make up a packed layer.
    pub(in crate::model) parts: &'static [&'static str],
    /// Endings of tensors that give away another format, and its name.
    pub(in crate::model) strangers: &'static [(&'static str, &'static str)],
    /// Reads the section; refuses variants that are not read. The second argument names the file in messages.
    pub(in crate::model) parse: fn(&Map<String, Value>, &str) -> Result<Quantization, EngineError>,
    /// The dimensions of the layer of this name, with the shapes of its parts held against each other.
    pub(in crate::model) find: fn(&str, &Found<'_>) -> Result<PackedShape, EngineError>,
    /// Reads the layer of this name from its parts; the last argument names the files in messages.
    pub(in crate::model) read: fn(&str, PackedShape, &dyn Tensors, &str) -> Result<AwqTensor, EngineError>,
}

/// What a checkpoint's files say of how its linear layers are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    /// Inputs that share a scale; `None` (in files −1) means all of a layer's.
    pub group_size: Option<usize>,
    /// Codes are counted from 8 where a layer stores no zero points.
    pub symmetric: bool,
    /// Parts of the names of linear layers that are left as they are. The tensors themselves decide which.
    pub modules_to_not_convert: Vec<String>,
}

impl Quantization {
    /// The group of a layer with this many inputs.
    pub fn group_of(&self, inputs: usize) -> usize {
        self.group_size.unwrap_or(inputs)
    }
}

/// The tensors of a checkpoint, for whoever looks for packed layers in it.
pub(in crate::model) struct Found<'a> {
    /// Of every tensor.
    pub(in crate::model) shapes: &'a BTreeMap<String, Vec<usize>>,
    pub(in crate::model) quantization: &'a Quantization,
    /// Where the files are, for messages.
    pub(in crate::model) place: &'a str,
}

/// The dimensions of a packed layer.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct PackedShape {
    pub(in crate::model) outputs: usize,
    pub(in crate::model) inputs: usize,
    pub(in crate::model) group_size: usize,
    pub(in crate::model) stores_zeros: bool,
}
