//! GPTQ (Frantar et al., 2022) as `AutoGPTQ` and `GPTQModel` write it, in both of its formats: v1 stores a zero point less
//! one, v2 as it is.

use serde_json::{Map, Value};

use super::section::{group_size, other_layout, text, whole_number};
use super::unpacked::{Layer, Layers, Pieces, Stored, UnpackedFormat, code};
use crate::EngineError;

/// What is read, in words.
const READS: &str = "GPTQ of 2, 4 and 8 bits in the formats gptq and gptq_v2";

pub(super) const FORMAT: UnpackedFormat = UnpackedFormat {
    method: "gptq",
    reads: READS,
    check: |section, file| Settings::of(section, file).map(|_| ()),
    find,
    parts: &["qweight", "qzeros", "scales", "g_idx"],
};

/// What the section says.
#[derive(Debug, Clone, Copy)]
struct Settings {
    bits: usize,
    /// Inputs that share a scale; `None` means all of a layer's.
    group: Option<usize>,
    /// The zero points are stored less one.
    less_one: bool,
}

impl Settings {
    fn of(section: &Map<String, Value>, file: &str) -> Result<Self, EngineError> {
        let format = match text(section, "checkpoint_format", file)? {
            Some(format) => format,
            None => text(section, "format", file)?.unwrap_or("gptq"),
        };
        let less_one = match format {
            "gptq" => true,
            "gptq_v2" => false,
            other => return Err(other_layout(file, &format!("gptq, {other}"), READS)),
        };
        let bits = whole_number(section, ["bits", "w_bit"], file)?.unwrap_or(4);
        if ![2, 4, 8].contains(&bits) {
            return Err(other_layout(file, &format!("gptq, {bits} bits"), READS));
        }
        match text(section, "pack_dtype", file)? {
            None | Some("int32") => {}
            Some(other) => return Err(other_layout(file, &format!("gptq, packed into {other}"), READS)),
        }
        Ok(Self { bits: bits as usize, group: group_size(section, -1, file)?, less_one })
    }
}

fn find(section: &Map<String, Value>, stored: &Stored<'_>) -> Result<(Layers, String), EngineError> {
    let settings = Settings::of(section, "config.json")?;
    let mut layers = Layers::new();
    for layer in stored.layers_with("qweight") {
        layers.insert(layer.to_owned(), layer_of(layer, stored, settings)?);
    }
    let group = settings.group.map_or_else(|| "one group a row".to_owned(), |group| format!("group {group}"));
    Ok((layers, format!("gptq-int{} ({group})", settings.bits)))
}

fn layer_of(layer: &str, stored: &Stored<'_>, settings: Settings) -> Result<Layer, EngineError> {
    let Settings { bits, group, less_one } = settings;
    let per_word = 32 / bits;
    let [words, outputs] = stored.matrix(layer, "qweight")?;
    let inputs = words * per_word;
    let group = group.unwrap_or(inputs);
    let [groups, _] = stored.matrix(layer, "scales")?;
    let zero_words = outputs.div_ceil(per_word);
    for (part, expected) in [("scales", [groups, outputs]), ("qzeros", [groups, zero_words])] {
        let found = stored.matrix(layer, part)?;
        if found != expected || groups == 0 || inputs == 0 {
            let what =
                format!("has shape {found:?}, but `qweight` of shape [{words}, {outputs}] calls for {expected:?}");
            return Err(stored.refused(layer, part, &what));
        }
    }
    let reordered = match stored.shape(layer, "g_idx") {
        None => false,
        Some([length]) if *length == inputs => true,
        Some(other) => {
            return Err(stored.refused(layer, "g_idx", &format!("has shape {other:?}, not one of {inputs} inputs")));
        }
    };
    if !reordered && groups != inputs.div_ceil(group) {
        let what =
            format!("has {groups} groups, where {inputs} inputs in groups of {group} have {}", inputs.div_ceil(group));
        return Err(stored.refused(layer, "scales", &what));
    }
    let read = move |pieces: &Pieces<'_>| {
        let (codes, zeros) = (pieces.words("qweight")?, pieces.words("qzeros")?);
        let scales = pieces.floats("scales")?;
        let groups_of: Vec<usize> = if reordered {
            let index = pieces.integers("g_idx")?;
            let index = index.iter().map(|at| usize::try_from(*at).ok().filter(|at| *at < groups));
            index
                .collect::<Option<_>>()
                .ok_or_else(|| pieces.refused("g_idx", &format!("names a group beyond the {groups} that there are")))?
        } else {
            (0..inputs).map(|input| input / group).collect()
        };
        let largest = (1_u32 << bits) - 1;
        let mut zero_points = Vec::with_capacity(groups * outputs);
        for row in zeros.chunks_exact(zero_words) {
            zero_points.extend((0..outputs).map(|output| code(row, output, bits)));
        }
        if less_one {
            // 2^bits − 1 is the zero point 0 less one, wrapped, to some programs, and 2^bits to others.
            let wrapped = zero_points.iter().filter(|zero| **zero == largest).count();
            if wrapped > 0 {
                let what = format!(
                    "holds {wrapped} zero points of {largest}, which the format `gptq` does not tell from {} or 0",
                    largest + 1
                );
                return Err(pieces.refused("qzeros", &what));
            }
            for zero in &mut zero_points {
                *zero += 1;
            }
        }
        let mut weights = vec![0.0; outputs * inputs];
        for (input, at) in groups_of.iter().enumerate() {
            let row = &codes[input / per_word * outputs..(input / per_word + 1) * outputs];
            for (output, word) in row.iter().enumerate() {
                let q = *word >> (bits * (input % per_word)) & largest;
                let place = at * outputs + output;
                let level = i64::from(q) - i64::from(zero_points[place]);
                weights[output * inputs + input] = level as f32 * scales[place];
            }
        }
        Ok(weights)
    };
    Ok(Layer { outputs, inputs, read: Box::new(read) })
}
