//! AWQ-int4 checkpoints.

use super::{FormatEntry, Origin};
use crate::engine::arithmetic::Arithmetic;

pub(super) const ENTRY: FormatEntry = FormatEntry {
    name: "awq",
    aliases: &["awq-int4"],
    description: "linear layers of an AWQ checkpoint in four bits, a scale and a zero point a group; the rest in f16",
    arithmetics: &[Arithmetic::F16],
    // Four, and a scale and a zero point for some 32 to 128 of them.
    bits: Some(5),
    origin: Origin::Checkpoint { title: "AWQ", hint: "make one: `evalsuite quantize --model MODEL --out DIR`" },
};
