//! What weights are rounded to, and what the checkpoint stores them as.

use super::QuantizeError;

/// Group sizes, the one to try first first.
pub const GROUP_SIZES: [usize; 3] = [128, 64, 32];

/// The layout of the checkpoint's packed layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredFormat {
    /// `AutoAWQ`'s GEMM layout, with zero points.
    Awq,
    /// compressed-tensors' `pack-quantized`.
    CompressedTensors,
}

impl StoredFormat {
    /// Names on the command line.
    pub const NAMES: [&str; 2] = ["awq", "compressed-tensors"];

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Awq, Self::CompressedTensors].into_iter().find(|format| format.name() == name)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Awq => "awq",
            Self::CompressedTensors => "compressed-tensors",
        }
    }
}

/// Inputs that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// So many.
    Size(usize),
    /// All of an output's.
    Channel,
}

impl Groups {
    /// `128`, `channel`.
    pub fn in_words(self) -> String {
        match self {
            Self::Size(size) => size.to_string(),
            Self::Channel => "channel".to_owned(),
        }
    }
}

/// How weights become codes of four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Inputs that share a scale.
    pub groups: Groups,
    /// Codes are counted from the middle, without zero points.
    pub symmetric: bool,
}

impl Scheme {
    /// Inputs that share a scale in a layer with this many.
    pub const fn group_of(self, inputs: usize) -> usize {
        match self.groups {
            Groups::Size(size) => size,
            Groups::Channel => inputs,
        }
    }
}

/// Refuses what a format cannot hold.
pub(super) fn check(format: StoredFormat, groups: Option<Groups>, symmetric: bool) -> Result<(), QuantizeError> {
    let flag = match groups {
        _ if format != StoredFormat::Awq => return Ok(()),
        _ if symmetric => "--symmetric",
        Some(Groups::Channel) => "--group-size channel",
        _ => return Ok(()),
    };
    Err(QuantizeError::invalid(
        format!("{flag} needs another layout than AutoAWQ's, which has groups with a zero point each"),
        "add `--format compressed-tensors`, or leave the flag out",
    ))
}
