//! MXFP4 as gpt-oss has it: the experts of a layer in one tensor of blocks, two codes a byte, and one of scales, a power of two for 32 codes.

use serde_json::{Map, Value};

use super::small_floats::{e2m1_pairs, e8m0};
use super::unpacked::{Layer, Layers, Pieces, Stored, UnpackedFormat};
use crate::EngineError;

/// Weights that share a scale, and their bytes.
const GROUP: usize = 32;
const GROUP_BYTES: usize = GROUP / 2;

pub(super) const FORMAT: UnpackedFormat = UnpackedFormat {
    method: "mxfp4",
    reads: "gpt-oss's MXFP4 (experts in `_blocks` and `_scales`)",
    check: |_: &Map<String, Value>, _: &str| Ok(()),
    find,
    parts: &[],
};

/// Each expert's projections, under the names that single experts have. gate and up lie output by output.
fn find(_: &Map<String, Value>, stored: &Stored<'_>) -> Result<(Layers, String), EngineError> {
    let mut layers = Layers::new();
    for (stem, projections) in [("gate_up_proj", &["gate_proj", "up_proj"][..]), ("down_proj", &["down_proj"])] {
        let blocks = format!("{stem}_blocks");
        for place in stored.layers_with(&blocks) {
            let shape = stored.shape(place, &blocks).unwrap_or_default();
            let &[experts, rows, groups, GROUP_BYTES] = shape else {
                return Err(stored.refused(
                    place,
                    &blocks,
                    &format!("has shape {shape:?}, not experts in groups of 32"),
                ));
            };
            let scales = format!("{stem}_scales");
            let expected = [experts, rows, groups];
            if stored.shape(place, &scales) != Some(&expected[..]) {
                return Err(stored.refused(place, &scales, &format!("has another shape than {expected:?}")));
            }
            let (outputs, inputs, step) = (rows / projections.len(), groups * GROUP, projections.len());
            for expert in 0..experts {
                for (first, projection) in projections.iter().enumerate() {
                    let names = [format!("{place}.{blocks}"), format!("{place}.{scales}")];
                    let read = move |pieces: &Pieces<'_>| {
                        let [blocks, scales] = [&names[0], &names[1]].map(|name| pieces.entry(name, expert));
                        let (blocks, scales) = (blocks?.bytes, scales?.bytes);
                        let mut values = Vec::with_capacity(outputs * inputs);
                        for row in (first..rows).step_by(step) {
                            let codes =
                                e2m1_pairs(&blocks[row * groups * GROUP_BYTES..(row + 1) * groups * GROUP_BYTES]);
                            let scales = &scales[row * groups..(row + 1) * groups];
                            for (codes, scale) in codes.chunks(GROUP).zip(scales) {
                                let scale = e8m0(*scale);
                                values.extend(codes.iter().map(|code| code * scale));
                            }
                        }
                        Ok(values)
                    };
                    let name = format!("{place}.{expert}.{projection}");
                    layers.insert(name, Layer { outputs, inputs, read: Box::new(read) });
                }
            }
        }
    }
    Ok((layers, "mxfp4 (group 32)".to_owned()))
}
