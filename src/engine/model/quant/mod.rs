//! Weight formats: how the weights of linear layers within blocks are held. Each is a file here and a line in the list
//! below; norms, biases, embeddings and the output projection stay in the run's arithmetic in every format.

mod awq;
mod dense;
mod int8;

use crate::engine::arithmetic::Arithmetic;

/// Everything that is particular to a format, for those who list formats and those who run in them.
#[derive(Debug)]
pub struct FormatEntry {
    /// The name on the command line and in every file; a dense precision goes by the name of its arithmetic.
    pub name: &'static str,
    /// Other names that it goes by.
    pub aliases: &'static [&'static str],
    /// One line for lists.
    pub description: &'static str,
    /// The arithmetics that it runs in: one, unless it is dense.
    pub arithmetics: &'static [Arithmetic],
    /// Bits a weight takes in memory, its share of scales included; `None` takes the arithmetic's.
    pub bits: Option<u64>,
    /// Where the packed weights come from.
    pub origin: Origin,
}

/// Where the weights of a format come from.
#[derive(Debug)]
pub enum Origin {
    /// Any checkpoint: a packed one is read as the dense tensors that it stands for.
    Any,
    /// Packed while loading, from a checkpoint that is not packed itself.
    Packed,
    /// A checkpoint in this very format.
    Checkpoint {
        /// What such a checkpoint is called in messages.
        title: &'static str,
        /// What helps where there is none.
        hint: &'static str,
    },
}

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
}
