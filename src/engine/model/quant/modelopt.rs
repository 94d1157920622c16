//! NVIDIA `ModelOpt`: NVFP4 and FP8. Weights alone are read; activations stay as the run computes them.

use serde_json::{Map, Value};

use super::section::other_layout;
use super::small_floats::e2m1_pairs;
use super::unpacked::{BLOCK, Grid, Layer, Layers, Pieces, Stored, UnpackedFormat};
use crate::EngineError;

/// What is read, in words.
const READS: &str = "ModelOpt's NVFP4 and FP8";

pub(super) const FORMAT: UnpackedFormat = UnpackedFormat {
    method: "modelopt",
    reads: READS,
    check,
    find,
    parts: &["weight_scale", "weight_scale_2", "input_scale", "output_scale", "k_scale", "v_scale"],
};

fn check(section: &Map<String, Value>, file: &str) -> Result<(), EngineError> {
    let inner = section.get("quantization").and_then(Value::as_object).unwrap_or(section);
    match inner.get("quant_algo").and_then(Value::as_str) {
        None | Some("NVFP4" | "FP8") => Ok(()),
        Some(other) => Err(other_layout(file, &format!("modelopt, {other}"), READS)),
    }
}

fn find(_: &Map<String, Value>, stored: &Stored<'_>) -> Result<(Layers, String), EngineError> {
    let mut layers = Layers::new();
    let mut stored_as = String::new();
    for layer in stored.layers_with("weight_scale") {
        let [rows, columns] = stored.matrix(layer, "weight")?;
        let element = stored.element(layer, "weight").unwrap_or_default();
        let fp4 = match element {
            "U8" => true,
            "F8_E4M3" => false,
            other => return Err(stored.refused(layer, "weight", &format!("is stored as {other}, not U8 or F8_E4M3"))),
        };
        let (outputs, inputs) = (rows, if fp4 { 2 * columns } else { columns });
        let shape = stored.shape(layer, "weight_scale").unwrap_or_default();
        let grid = Grid::of(shape, outputs, inputs, BLOCK).ok_or_else(|| {
            stored.refused(layer, "weight_scale", &format!("has shape {shape:?}, which fits no group"))
        })?;
        if stored_as.is_empty() {
            stored_as = format!("modelopt {} ({})", if fp4 { "nvfp4" } else { "fp8" }, grid.in_words());
        }
        let read = move |pieces: &Pieces<'_>| {
            let mut scales = pieces.scales("weight_scale", grid)?;
            let weights = if fp4 {
                // The scale of scales multiplies.
                let by = pieces.floats("weight_scale_2")?;
                let by = *by.first().ok_or_else(|| pieces.refused("weight_scale_2", "is empty"))?;
                for scale in &mut scales {
                    *scale *= by;
                }
                e2m1_pairs(&pieces.raw("weight")?.bytes)
            } else {
                pieces.floats("weight")?
            };
            Ok(grid.scaled(weights, &scales, inputs, |q, scale| q * scale))
        };
        layers.insert(layer.to_owned(), Layer { outputs, inputs, read: Box::new(read) });
    }
    Ok((layers, stored_as))
}
