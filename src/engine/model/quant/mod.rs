//! Weight formats: how the weights of linear layers within blocks are held. Each is a file here, which says all that is
//! particular to it, and a line in the list below; norms, biases, embeddings and the output projection stay in the
//! run's arithmetic in every format.

mod awq;
mod compressed_tensors;
mod dense;
mod detect;
mod entry;
mod fp8;
mod gptq;
mod int8;
mod modelopt;
mod mxfp4;
mod packed;
mod section;
mod small_floats;
mod unpacked;

pub use entry::{CheckpointFormat, FormatEntry, Layout, Origin, Quantization};

pub(super) use detect::{Detected, OLDER_FILES, of_config_json, read};
pub(super) use packed::PackedTensors;
pub(super) use small_floats::e4m3;
pub(super) use unpacked::open as open_unpacked;

use unpacked::UnpackedFormat;

/// Formats of checkpoints that are read as the dense tensors that they stand for: each is a file here and a line in this list.
const UNPACKED: [&UnpackedFormat; 5] =
    [&compressed_tensors::FORMAT, &gptq::FORMAT, &fp8::FORMAT, &modelopt::FORMAT, &mxfp4::FORMAT];

/// Declares the formats: their names in code and their entries.
macro_rules! formats {
    ($($(#[$doc:meta])* $format:ident => $entry:path,)+) => {
        /// A weight format.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum WeightFormat {
            $($(#[$doc])* $format,)+
        }

        impl WeightFormat {
            /// Every format.
            pub const ALL: &[Self] = &[$(Self::$format,)+];

            /// What there is to know about it.
            pub const fn entry(self) -> &'static FormatEntry {
                match self {
                    $(Self::$format => &$entry,)+
                }
            }
        }
    };
}

formats! {
    /// Every weight an element of the arithmetic.
    Dense => dense::ENTRY,
    /// Eight bits a weight, a scale a row.
    Int8 => int8::ENTRY,
    /// AWQ's four bits a weight, a scale and a zero point a group of inputs.
    Awq => awq::ENTRY,
}

impl WeightFormat {
    /// The name in messages; see [`FormatEntry::name`].
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// Whether weights are codes, to be unpacked on their way into a product.
    pub const fn is_packed(self) -> bool {
        !matches!(self, Self::Dense)
    }

    /// How checkpoints in this format are read, where there are such.
    pub const fn checkpoint(self) -> Option<&'static CheckpointFormat> {
        match &self.entry().origin {
            Origin::Checkpoint(checkpoint) => Some(checkpoint),
            Origin::Any | Origin::Packed => None,
        }
    }
}
