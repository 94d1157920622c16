//! Layers in compressed-tensors' `pack-quantized` layout, and the section of config.json that says so.
//!
//! With N outputs, K inputs and G groups of inputs: `weight_packed` i32 `[N, ⌈K/8⌉]`, nibble i of word j the code of input 8j + i;
//! `weight_scale` f16 `[N, G]`; `weight_shape` i64 `[2]`, N and K; and `weight_zero_point` i32 `[⌈N/8⌉, G]`, packed along the outputs, where
//! the scheme is not symmetric. Codes and zero points are whole numbers from −8 to 7, stored with 8 added; a weight is (q − z) · s.

use half::f16;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::round::Codes;
use super::scheme::Groups;
use super::{QuantizeError, Scheme};
use crate::checkpoint::safetensors::Tensor;

/// Codes in a word.
const PACKED: usize = 8;

/// The tensors of a layer `[outputs, inputs]` of this name; refused where a scale does not fit into binary16.
pub(super) fn layer(
    name: &str,
    [outputs, inputs]: [usize; 2],
    codes: &Codes,
    scheme: Scheme,
) -> Result<Vec<Tensor>, QuantizeError> {
    if let Some(scale) = codes.scales.iter().find(|scale| !scale.is_finite()) {
        return Err(QuantizeError::invalid(
            format!("{name} cannot be packed: a scale is {scale} in binary16"),
            "its weights are beyond what scales in f16 reach: take another checkpoint of the model",
        ));
    }
    let groups = inputs / scheme.group_of(inputs);
    let part =
        |part: &str, element, shape: &[usize], bytes| Tensor::new(format!("{name}.{part}"), element, shape, bytes);
    let scales = codes.scales.iter().copied().flat_map(f16::to_le_bytes).collect();
    let shape = [outputs, inputs].into_iter().flat_map(|size| (size as i64).to_le_bytes()).collect();
    let mut tensors = vec![
        part("weight_packed", "I32", &[outputs, inputs.div_ceil(PACKED)], pack_rows(&codes.q, inputs)),
        part("weight_scale", "F16", &[outputs, groups], scales),
        part("weight_shape", "I64", &[2], shape),
    ];
    if !scheme.symmetric {
        let zeros = pack_columns(&codes.zeros, groups);
        tensors.push(part("weight_zero_point", "I32", &[outputs.div_ceil(PACKED), groups], zeros));
    }
    Ok(tensors)
}

/// Words of rows of `columns` codes each; the last word of a row is filled up with zeros.
fn pack_rows(codes: &[u8], columns: usize) -> Vec<u8> {
    let words = columns.div_ceil(PACKED) * size_of::<u32>();
    let mut packed = vec![0; codes.len() / columns * words];
    packed.par_chunks_mut(words).zip(codes.par_chunks(columns)).for_each(|(row, codes)| {
        for (byte, pair) in row.iter_mut().zip(codes.chunks(2)) {
            *byte = pair[0] | pair.get(1).map_or(0, |high| high << 4);
        }
    });
    packed
}

/// `[rows, columns]` of codes to words `[⌈rows / 8⌉, columns]`.
fn pack_columns(codes: &[u8], columns: usize) -> Vec<u8> {
    let words = codes.chunks(PACKED * columns).flat_map(|rows| {
        (0..columns).map(move |column| {
            let column = rows.iter().skip(column).step_by(columns).enumerate();
            column.fold(0_u32, |word, (row, code)| word | u32::from(*code) << (4 * row))
        })
    });
    words.flat_map(u32::to_le_bytes).collect()
}

/// The value of `quantization_config`; `kept` are linear layers that stay as they are.
pub(super) fn section(scheme: Scheme, kept: &[String]) -> Value {
    let (strategy, group_size) = match scheme.groups {
        Groups::Size(size) => ("group", Value::from(size)),
        Groups::Channel => ("channel", Value::Null),
    };
    json!({
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": scheme.symmetric,
                "strategy": strategy,
                "group_size": group_size,
                "actorder": null,
                "block_structure": null,
                "dynamic": false,
            },
            "input_activations": null,
            "output_activations": null,
        }},
        "ignore": kept,
        "kv_cache_scheme": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector() {
        let codes: Vec<u8> = [-8_i8, -7, -1, 0, 1, 5, 6, 7].iter().map(|q| (q + 8).cast_unsigned()).collect();
        assert_eq!(pack_rows(&codes, 8), 0xfed9_8710_u32.to_le_bytes());
        assert_eq!(pack_columns(&codes, 1), 0xfed9_8710_u32.to_le_bytes());
    }

    #[test]
    fn what_does_not_fill_a_word_is_filled_up_with_zeros() {
        // Two rows of three codes, and three columns of two rows.
        let codes = [1, 2, 3, 4, 5, 6];
        let words = |bytes: Vec<u8>| {
            bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect::<Vec<u32>>()
        };
        assert_eq!(words(pack_rows(&codes, 3)), [0x321, 0x654]);
        assert_eq!(words(pack_columns(&codes, 3)), [0x41, 0x52, 0x63]);
        let nine: Vec<u8> = (0..18).map(|code| code % 16).collect();
        assert_eq!(words(pack_columns(&nine, 2)), [0xeca8_6420, 0xfdb9_7531, 0x0, 0x1]);
    }
}
