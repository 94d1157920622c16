//! The element types that a model computes in.

/// The type that stored activations are rounded to, and the weights that no format packs. Sums are binary32 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arithmetic {
    /// IEEE binary32: the ground truth.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
}

impl Arithmetic {
    /// Every arithmetic, the ground truth first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The name on the command line and in every file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Other names that it goes by.
    pub const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::F32 => &["fp32", "float32", "float"],
            Self::F16 => &["fp16", "float16", "half"],
            Self::Bf16 => &["bfloat16"],
        }
    }

    /// One line for lists.
    pub const fn description(self) -> &'static str {
        match self {
            Self::F32 => "weights and activations in IEEE binary32: the ground truth",
            Self::F16 => "weights and activations in IEEE binary16, sums in binary32",
            Self::Bf16 => "weights and activations in bfloat16, sums in binary32",
        }
    }

    /// Bytes an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The largest number, where it is smaller than what binary32 and bfloat16 can hold.
    pub const fn largest(self) -> Option<f32> {
        match self {
            Self::F16 => Some(65_504.0),
            Self::F32 | Self::Bf16 => None,
        }
    }
}

impl std::fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
