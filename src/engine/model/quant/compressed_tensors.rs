//! compressed-tensors, the layouts of llm-compressor: packed whole numbers, plain whole numbers and FP8, FP4. Weights
//! alone are read; activations stay as the run computes them.

use serde_json::{Map, Value};

use super::section::{damaged, other_layout};
use super::small_floats::{e2m1_pairs, e8m0};
use super::unpacked::{BLOCK, Grid, Layer, Layers, Pieces, Stored, UnpackedFormat, code};
use crate::EngineError;

/// What is read, in words.
const READS: &str = "compressed-tensors' pack-quantized, int-quantized, float-quantized, nvfp4 and mxfp4 layouts";

/// `format` of the section or of a group in it.
const FORMATS: [&str; 8] = [
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mixed-precision",
    "dense",
];

pub(super) const FORMAT: UnpackedFormat = UnpackedFormat {
    method: "compressed-tensors",
    reads: READS,
    check,
    find,
    parts: &[
        "weight_packed",
        "weight_scale",
        "weight_zero_point",
        "weight_shape",
        "weight_g_idx",
        "weight_global_scale",
        "input_scale",
        "input_zero_point",
        "input_global_scale",
        "output_scale",
    ],
};

fn check(section: &Map<String, Value>, file: &str) -> Result<(), EngineError> {
    let groups = groups(section).filter_map(|group| group.get("format"));
    for format in section.get("format").into_iter().chain(groups).filter(|format| !format.is_null()) {
        let format = format.as_str().ok_or_else(|| damaged(file, "`format`", format))?;
        if !FORMATS.contains(&format) {
            return Err(other_layout(file, &format!("compressed-tensors, {format}"), READS));
        }
    }
    if section.get("sparsity_config").and_then(|sparse| sparse.get("format")).is_some_and(|format| format != "dense") {
        return Err(other_layout(file, "compressed-tensors, sparse", READS));
    }
    Ok(())
}

/// The schemes of the section.
fn groups(section: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let groups = section.get("config_groups").and_then(Value::as_object);
    groups.into_iter().flat_map(|groups| groups.values().filter_map(Value::as_object))
}

/// What the schemes say of weights.
struct Schemes {
    /// Bits of a code; the tensors decide where there are several.
    bits: Vec<usize>,
    /// Whether any scheme is not symmetric.
    asymmetric: bool,
    block: [usize; 2],
}

impl Schemes {
    fn of(section: &Map<String, Value>) -> Self {
        let weights: Vec<&Map<String, Value>> =
            groups(section).filter_map(|group| group.get("weights")?.as_object()).collect();
        let mut bits: Vec<usize> =
            weights.iter().filter_map(|weights| weights.get("num_bits")?.as_u64()).map(|bits| bits as usize).collect();
        // A preset stands for its scheme by name.
        let presets = section.get("config_groups").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        bits.extend(presets.filter_map(|name| name.strip_prefix('W')?.split('A').next()?.parse::<usize>().ok()));
        bits.sort_unstable();
        bits.dedup();
        bits.retain(|bits| (1..=8).contains(bits));
        let block = weights.iter().find_map(|weights| match weights.get("block_structure")? {
            Value::Array(sizes) => Some([sizes.first()?.as_u64()? as usize, sizes.get(1)?.as_u64()? as usize]),
            Value::String(text) => {
                let (rows, columns) = text.split_once('x')?;
                Some([rows.parse().ok()?, columns.parse().ok()?])
            }
            _ => None,
        });
        let asymmetric = weights.iter().any(|weights| weights.get("symmetric") == Some(&Value::Bool(false)));
        Self { bits, asymmetric, block: block.filter(|block| block.iter().all(|size| *size > 0)).unwrap_or(BLOCK) }
    }
}

fn find(section: &Map<String, Value>, stored: &Stored<'_>) -> Result<(Layers, String), EngineError> {
    let schemes = Schemes::of(section);
    let mut layers = Layers::new();
    let mut named = None;
    for (sparse, name) in [("bitmask", "a sparse layout"), ("compressed", "a sparse layout"), ("meta", "marlin-24")] {
        if let Some(layer) = stored.layers_with(sparse).next() {
            return Err(stored.refused(layer, sparse, &format!("belongs to {name}, which is not read")));
        }
    }
    for layer in stored.layers_with("weight_packed") {
        let (found, words) = match stored.element(layer, "weight_packed") {
            Some("U8") => fp4(layer, stored)?,
            _ => packed(layer, stored, &schemes)?,
        };
        named.get_or_insert(words);
        layers.insert(layer.to_owned(), found);
    }
    for layer in stored.layers_with("weight_scale") {
        if stored.shape(layer, "weight").is_some() && !layers.contains_key(layer) {
            let (found, words) = plain(layer, stored, &schemes)?;
            named.get_or_insert(words);
            layers.insert(layer.to_owned(), found);
        }
    }
    Ok((layers, named.map(|words| format!("compressed-tensors {words}")).unwrap_or_default()))
}

/// `pack-quantized`: codes of `bits` bits along the inputs, counted from 2^(bits − 1).
fn packed(layer: &str, stored: &Stored<'_>, schemes: &Schemes) -> Result<(Layer, String), EngineError> {
    let shape = stored.pieces(layer).integers("weight_shape")?;
    let [outputs, inputs] = shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect::<Vec<_>>()[..] else {
        return Err(stored.refused(layer, "weight_shape", &format!("is {shape:?}, not two sizes")));
    };
    let [rows, words] = stored.matrix(layer, "weight_packed")?;
    let fits = |bits: &usize| rows == outputs && inputs > 0 && words == (inputs * bits).div_ceil(32);
    let bits = match schemes.bits[..] {
        [] => [4, 8].into_iter().find(fits),
        _ => schemes.bits.iter().copied().find(fits),
    };
    let bits = bits.ok_or_else(|| {
        let what = format!(
            "has shape [{rows}, {words}], which does not hold {outputs} × {inputs} codes of {:?} bits",
            schemes.bits
        );
        stored.refused(layer, "weight_packed", &what)
    })?;
    let grid = grid(layer, stored, outputs, inputs, schemes)?;
    let zeros = match stored.shape(layer, "weight_zero_point") {
        None if schemes.asymmetric && schemes.bits.len() < 2 => {
            return Err(stored.refused(
                layer,
                "weight_zero_point",
                "is missing, and config.json says `symmetric`: false",
            ));
        }
        None => false,
        Some(_) => true,
    };
    let reordered = stored.shape(layer, "weight_g_idx").is_some();
    let read = move |pieces: &Pieces<'_>| {
        let codes = pieces.words("weight_packed")?;
        let scales = pieces.scales("weight_scale", grid)?;
        let middle = 1_i64 << (bits - 1);
        let zeros = if zeros { Some(zero_points(pieces, grid, outputs, bits)?) } else { None };
        let groups = if reordered { group_index(pieces, inputs, grid)? } else { None };
        let mut weights = Vec::with_capacity(outputs * inputs);
        for output in 0..outputs {
            let row = &codes[output * words..(output + 1) * words];
            for input in 0..inputs {
                let at = match &groups {
                    Some(groups) => grid.index(output, 0) + groups[input],
                    None => grid.index(output, input),
                };
                let zero = zeros.as_ref().map_or(0, |zeros| zeros[at]);
                let q = i64::from(code(row, input, bits)) - middle - zero;
                weights.push(q as f32 * scales[at]);
            }
        }
        Ok(weights)
    };
    Ok((Layer { outputs, inputs, read: Box::new(read) }, format!("int{bits} ({})", grid.in_words())))
}

/// Zero points, one a scale: packed along the outputs, or plain.
fn zero_points(pieces: &Pieces<'_>, grid: Grid, outputs: usize, bits: usize) -> Result<Vec<i64>, EngineError> {
    let part = "weight_zero_point";
    let raw = pieces.raw(part)?;
    let middle = 1_i64 << (bits - 1);
    let columns = grid.len() / outputs.max(1);
    let words = (outputs * bits).div_ceil(32);
    match raw.words() {
        Some(packed) if raw.shape == [words, columns] && grid.len() == outputs * columns => {
            let mut zeros = vec![0; grid.len()];
            for column in 0..columns {
                let along: Vec<u32> = (0..words).map(|word| packed[word * columns + column]).collect();
                for output in 0..outputs {
                    zeros[output * columns + column] = i64::from(code(&along, output, bits)) - middle;
                }
            }
            Ok(zeros)
        }
        _ => {
            let zeros = pieces.integers(part)?;
            if zeros.len() == grid.len() {
                Ok(zeros)
            } else {
                Err(pieces.refused(part, &format!("has shape {:?}, where there are {} scales", raw.shape, grid.len())))
            }
        }
    }
}

/// The group of every input; none where the indices were never set.
fn group_index(pieces: &Pieces<'_>, inputs: usize, grid: Grid) -> Result<Option<Vec<usize>>, EngineError> {
    let part = "weight_g_idx";
    let groups = pieces.integers(part)?;
    if groups.contains(&-1) {
        return Ok(None);
    }
    let columns = grid.index(1, 0);
    let groups: Option<Vec<usize>> =
        groups.iter().map(|group| usize::try_from(*group).ok().filter(|group| *group < columns)).collect();
    match groups {
        Some(groups) if groups.len() == inputs => Ok(Some(groups)),
        _ => Err(pieces.refused(part, &format!("does not name one of {columns} groups for each of {inputs} inputs"))),
    }
}

/// `int-quantized` and `float-quantized`: a code of eight bits a weight.
fn plain(layer: &str, stored: &Stored<'_>, schemes: &Schemes) -> Result<(Layer, String), EngineError> {
    let element = stored.element(layer, "weight").unwrap_or_default();
    let [outputs, inputs] = stored.matrix(layer, "weight")?;
    let grid = grid(layer, stored, outputs, inputs, schemes)?;
    let zeros = stored.shape(layer, "weight_zero_point").is_some();
    let words = match element {
        "I8" => format!("int8 ({})", grid.in_words()),
        "F8_E4M3" => format!("fp8 ({})", grid.in_words()),
        other => return Err(stored.refused(layer, "weight", &format!("is stored as {other}, not I8 or F8_E4M3"))),
    };
    let read = move |pieces: &Pieces<'_>| {
        let raw = pieces.raw("weight")?;
        let zeros = if zeros { zero_points(pieces, grid, outputs, 8)? } else { vec![0; grid.len()] };
        let codes = match raw.integers() {
            Some(codes) => codes
                .into_iter()
                .enumerate()
                .map(|(at, code)| (code - zeros[grid.index(at / inputs, at % inputs)]) as f32)
                .collect(),
            None if zeros.iter().any(|zero| *zero != 0) => {
                return Err(pieces.refused("weight_zero_point", "is not 0, and the weights are FP8"));
            }
            None => pieces.floats("weight")?,
        };
        let scales = pieces.scales("weight_scale", grid)?;
        Ok(grid.scaled(codes, &scales, inputs, |q, scale| q * scale))
    };
    Ok((Layer { outputs, inputs, read: Box::new(read) }, words))
}

/// `nvfp4-pack-quantized` and `mxfp4-pack-quantized`: two codes a byte, a scale for 16 or 32 of them.
fn fp4(layer: &str, stored: &Stored<'_>) -> Result<(Layer, String), EngineError> {
    let [outputs, bytes] = stored.matrix(layer, "weight_packed")?;
    let inputs = 2 * bytes;
    let global = stored.shape(layer, "weight_global_scale").is_some();
    let grid = Grid::of(&stored.matrix(layer, "weight_scale")?, outputs, inputs, BLOCK);
    let grid = grid.ok_or_else(|| stored.refused(layer, "weight_scale", "has the shape of no group"))?;
    let words = format!("{} ({})", if global { "nvfp4" } else { "mxfp4" }, grid.in_words());
    let read = move |pieces: &Pieces<'_>| {
        let codes = pieces.raw("weight_packed")?.bytes;
        let scales: Vec<f32> = if global {
            // The scale of scales divides.
            let by = pieces.floats("weight_global_scale")?;
            let by = *by.first().ok_or_else(|| pieces.refused("weight_global_scale", "is empty"))?;
            pieces.floats("weight_scale")?.into_iter().map(|scale| scale / by).collect()
        } else {
            pieces.raw("weight_scale")?.bytes.into_iter().map(e8m0).collect()
        };
        Ok(grid.scaled(e2m1_pairs(&codes), &scales, inputs, |q, scale| q * scale))
    };
    Ok((Layer { outputs, inputs, read: Box::new(read) }, words))
}

fn grid(
    layer: &str,
    stored: &Stored<'_>,
    outputs: usize,
    inputs: usize,
    schemes: &Schemes,
) -> Result<Grid, EngineError> {
    let shape =
        stored.shape(layer, "weight_scale").ok_or_else(|| stored.refused(layer, "weight_scale", "is missing"))?;
    Grid::of(shape, outputs, inputs, schemes.block).ok_or_else(|| {
        let what = format!("has shape {shape:?}, which fits neither groups nor blocks of {outputs} × {inputs} weights");
        stored.refused(layer, "weight_scale", &what)
    })
}
