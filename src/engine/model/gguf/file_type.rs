//! What a GGUF file calls the mixture of types that its tensors are stored in: llama.cpp's `general.file_type`.

use super::header::{Header, Value};

/// Added by llama.cpp's converter where it guessed.
const GUESSED: u64 = 1024;

/// The label of a file as its makers name it, `Q4_K_M`; plain types in small letters, as everywhere here.
pub(in crate::model) fn file_type(header: &Header) -> Option<&'static str> {
    let number = match header.get("general.file_type")? {
        Value::Unsigned(number) => *number,
        Value::Signed(number) => u64::try_from(*number).ok()?,
        _ => return None,
    };
    label(number & !GUESSED)
}

fn label(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "f32",
        1 => "f16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "bf16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        39 => "NVFP4",
        40 => "Q1_0",
        _ => return None,
    })
}
