//! FP8 as `DeepSeek` and Qwen write it: E4M3 weights with a scale for the tensor or for each block. Weights alone are
//! read; activations stay as the run computes them.

use serde_json::{Map, Value};

use super::section::{damaged, other_layout};
use super::unpacked::{BLOCK, Grid, Layer, Layers, Pieces, Stored, UnpackedFormat};
use crate::EngineError;

/// What is read, in words.
const READS: &str = "FP8 E4M3 with a scale a tensor, a channel or a block";

pub(super) const FORMAT: UnpackedFormat = UnpackedFormat {
    method: "fp8",
    reads: READS,
    check,
    find,
    parts: &["weight_scale", "weight_scale_inv", "input_scale", "activation_scale"],
};

fn check(section: &Map<String, Value>, file: &str) -> Result<(), EngineError> {
    match section.get("fmt").or_else(|| section.get("format")).and_then(Value::as_str) {
        None | Some("e4m3" | "float8_e4m3fn" | "fp8") => {}
        Some(other) => return Err(other_layout(file, &format!("fp8, {other}"), READS)),
    }
    block(section).map(|_| ()).ok_or_else(|| damaged(file, "`weight_block_size`", &section["weight_block_size"]))
}

/// `weight_block_size`; `None` where it makes no sense.
fn block(section: &Map<String, Value>) -> Option<[usize; 2]> {
    match section.get("weight_block_size") {
        None | Some(Value::Null) => Some(BLOCK),
        Some(sizes) => {
            let size = |at: usize| sizes.get(at)?.as_u64().filter(|size| *size > 0).map(|size| size as usize);
            Some([size(0)?, size(1)?])
        }
    }
}

fn find(section: &Map<String, Value>, stored: &Stored<'_>) -> Result<(Layers, String), EngineError> {
    let block = block(section).unwrap_or(BLOCK);
    // GPTQModel writes real inverses under the name by which everyone else means factors.
    let quantizer = section.get("meta").map(Value::to_string).unwrap_or_default();
    let divides = quantizer.to_lowercase().contains("gptqmodel");
    let mut layers = Layers::new();
    let mut stored_as = String::new();
    for (part, inverse) in [("weight_scale_inv", divides), ("weight_scale", false)] {
        for layer in stored.layers_with(part) {
            if stored.element(layer, "weight") != Some("F8_E4M3") {
                let element = stored.element(layer, "weight").unwrap_or("nothing");
                return Err(stored.refused(layer, "weight", &format!("is stored as {element}, not F8_E4M3")));
            }
            let [outputs, inputs] = stored.matrix(layer, "weight")?;
            let shape = stored.shape(layer, part).unwrap_or_default();
            let grid = Grid::of(shape, outputs, inputs, block).ok_or_else(|| {
                let what = format!("has shape {shape:?}, which fits no blocks of {block:?} in {outputs} × {inputs}");
                stored.refused(layer, part, &what)
            })?;
            if stored_as.is_empty() {
                stored_as = format!("fp8 ({})", grid.in_words());
            }
            let read = move |pieces: &Pieces<'_>| {
                let scales = pieces.scales(part, grid)?;
                let apply = |q: f32, scale: f32| if inverse { q / scale } else { q * scale };
                Ok(grid.scaled(pieces.floats("weight")?, &scales, inputs, apply))
            };
            layers.insert(layer.to_owned(), Layer { outputs, inputs, read: Box::new(read) });
        }
    }
    Ok((layers, stored_as))
}
