//! Checkpoints whose packed layers are read as the dense tensors that they stand for.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::EngineError;
use crate::model::weights::{OpenedWeights, RawTensor, TensorData, TensorPlace, TensorValues, Tensors};

/// Outputs and inputs of a block where a config names none, as in vLLM.
pub(super) const BLOCK: [usize; 2] = [128, 128];

/// A format that is read that way: how its section is known, and how its layers are found.
pub(in crate::model) struct UnpackedFormat {
    /// `quant_method` in the section.
    pub(super) method: &'static str,
    /// Which of its variants are read, in words.
    pub(super) reads: &'static str,
    /// Refuses variants that are not read by what the section says; the second argument names the file in messages.
    pub(super) check: fn(&Map<String, Value>, &str) -> Result<(), EngineError>,
    /// Finds the layers, and says what they are stored as.
    pub(super) find: Find,
    /// Endings of the names of tensors that belong to a packed layer.
    pub(super) parts: &'static [&'static str],
}

/// Finds the packed layers of a checkpoint by its section, and says what they are stored as.
pub(super) type Find = fn(&Map<String, Value>, &Stored<'_>) -> Result<(Layers, String), EngineError>;

/// Reads a layer's weights, `[outputs, inputs]`.
pub(super) type Read = dyn Fn(&Pieces<'_>) -> Result<Vec<f32>, EngineError> + Send + Sync;

/// Packed layers by name, without `.weight`.
pub(super) type Layers = BTreeMap<String, Layer>;

/// One packed layer.
pub(super) struct Layer {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Its weights, `[outputs, inputs]`.
    pub(super) read: Box<Read>,
}

/// The tensors of a checkpoint.
pub(super) struct Stored<'a> {
    pub(super) tensors: &'a dyn Tensors,
    pub(super) shapes: &'a BTreeMap<String, Vec<usize>>,
    /// Where the files are, for messages.
    pub(super) place: &'a str,
}

impl<'a> Stored<'a> {
    /// Names of layers that have a part of this ending.
    pub(super) fn layers_with(&self, part: &str) -> impl Iterator<Item = &'a str> {
        let ending = format!(".{part}");
        self.shapes.keys().filter_map(move |name| name.strip_suffix(&ending))
    }

    pub(super) fn pieces<'b>(&'b self, layer: &'b str) -> Pieces<'b> {
        Pieces { tensors: self.tensors, layer, place: self.place }
    }

    /// The shape of a layer's part, if it has it.
    pub(super) fn shape(&self, layer: &str, part: &str) -> Option<&'a [usize]> {
        self.shapes.get(&format!("{layer}.{part}")).map(Vec::as_slice)
    }

    /// The shape of a part that must be there and have so many dimensions.
    pub(super) fn matrix(&self, layer: &str, part: &str) -> Result<[usize; 2], EngineError> {
        match self.shape(layer, part) {
            Some([rows, columns]) => Ok([*rows, *columns]),
            Some(other) => Err(self.refused(layer, part, &format!("has shape {other:?}, not two dimensions"))),
            None => Err(self.refused(layer, part, "is missing")),
        }
    }

    /// The element type of a part, as safetensors spells it.
    pub(super) fn element(&self, layer: &str, part: &str) -> Option<&'a str> {
        self.tensors.element(&format!("{layer}.{part}"))
    }

    pub(super) fn refused(&self, layer: &str, part: &str, what: &str) -> EngineError {
        refused(self.place, layer, part, what)
    }
}

fn refused(place: &str, layer: &str, part: &str, what: &str) -> EngineError {
    EngineError::invalid(
        format!("tensor `{layer}.{part}` of {place} {what}"),
        "take the weights and config.json from one repository and one revision; where they are, the layout is another \
         than config.json says",
    )
}

/// The parts of one layer.
pub(super) struct Pieces<'a> {
    tensors: &'a dyn Tensors,
    layer: &'a str,
    place: &'a str,
}

impl Pieces<'_> {
    pub(super) fn raw(&self, part: &str) -> Result<RawTensor, EngineError> {
        self.tensors.raw(&format!("{}.{part}", self.layer))
    }

    /// One entry along the first dimension of a tensor by its whole name.
    pub(super) fn entry(&self, name: &str, index: usize) -> Result<RawTensor, EngineError> {
        self.tensors.raw_entry(name, index)
    }

    pub(super) fn words(&self, part: &str) -> Result<Vec<u32>, EngineError> {
        let raw = self.raw(part)?;
        raw.words().ok_or_else(|| self.refused(part, &format!("is stored as {}, not I32", raw.element)))
    }

    pub(super) fn integers(&self, part: &str) -> Result<Vec<i64>, EngineError> {
        let raw = self.raw(part)?;
        raw.integers().ok_or_else(|| self.refused(part, &format!("is stored as {}, not as whole numbers", raw.element)))
    }

    pub(super) fn floats(&self, part: &str) -> Result<Vec<f32>, EngineError> {
        let raw = self.raw(part)?;
        raw.floats()
            .ok_or_else(|| self.refused(part, &format!("is stored as {}, not as floating numbers", raw.element)))
    }

    /// As many scales as the grid has places.
    pub(super) fn scales(&self, part: &str, grid: Grid) -> Result<Vec<f32>, EngineError> {
        let scales = self.floats(part)?;
        if scales.len() == grid.len() {
            Ok(scales)
        } else {
            Err(self.refused(part, "has another length than its shape"))
        }
    }

    pub(super) fn refused(&self, part: &str, what: &str) -> EngineError {
        refused(self.place, self.layer, part, what)
    }
}

/// Code number `index` of a row of `bits` bits each, one behind the other from the lowest bit of the first word.
pub(super) fn code(row: &[u32], index: usize, bits: usize) -> u32 {
    let (word, shift) = (index * bits / 32, index * bits % 32);
    let low = u64::from(row[word]);
    let high = if shift + bits > 32 { u64::from(row[word + 1]) } else { 0 };
    ((high << 32 | low) >> shift & ((1 << bits) - 1)) as u32
}

/// Where the weights of a group get their scale from: `scales` `[rows, columns]` over `[outputs, inputs]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    rows: usize,
    columns: usize,
    /// Outputs and inputs that share a scale.
    block: [usize; 2],
}

impl Grid {
    /// Of scales of this shape: one number, one an output, one a group of inputs, or one a block of `block`.
    pub(super) fn of(shape: &[usize], outputs: usize, inputs: usize, block: [usize; 2]) -> Option<Self> {
        let (rows, columns) = match shape {
            [] | [1] => (1, 1),
            [rows] => (*rows, 1),
            [rows, columns] => (*rows, *columns),
            _ => return None,
        };
        if rows == 0 || columns == 0 {
            return None;
        }
        if (rows, columns) == (1, 1) {
            return Some(Self { rows, columns, block: [outputs, inputs] });
        }
        if rows == outputs && inputs.is_multiple_of(columns) {
            return Some(Self { rows, columns, block: [1, inputs / columns] });
        }
        let fits = rows == outputs.div_ceil(block[0]) && columns == inputs.div_ceil(block[1]);
        fits.then_some(Self { rows, columns, block })
    }

    /// Which of the scales belongs to a weight.
    pub(super) fn index(&self, output: usize, input: usize) -> usize {
        output / self.block[0] * self.columns + input / self.block[1]
    }

    pub(super) fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Each of the values `[outputs, inputs]` with its scale applied.
    pub(super) fn scaled(
        &self,
        mut values: Vec<f32>,
        scales: &[f32],
        inputs: usize,
        apply: impl Fn(f32, f32) -> f32,
    ) -> Vec<f32> {
        for (output, row) in values.chunks_mut(inputs.max(1)).enumerate() {
            for (group, values) in row.chunks_mut(self.block[1]).enumerate() {
                let scale = scales[self.index(output, group * self.block[1])];
                for value in values {
                    *value = apply(*value, scale);
                }
            }
        }
        values
    }

    /// In words, for tables.
    pub(super) fn in_words(&self) -> String {
        match (self.rows, self.columns, self.block) {
            (1, 1, _) => "tensor".to_owned(),
            (_, 1, [1, _]) => "channel".to_owned(),
            (_, _, [1, group]) => format!("group {group}"),
            (_, _, [outputs, inputs]) => format!("blocks of {outputs} × {inputs}"),
        }
    }
}

/// A checkpoint's tensors, its packed layers under the names of their weights.
struct UnpackedTensors {
    stored: Box<dyn Tensors>,
    layers: Layers,
    parts: &'static [&'static str],
    place: String,
}

/// Finds the packed layers; the shapes that come back are those of the dense tensors.
pub(in crate::model) fn open(
    format: &UnpackedFormat,
    section: &Map<String, Value>,
    opened: OpenedWeights,
    place: &str,
) -> Result<OpenedWeights, EngineError> {
    let OpenedWeights { tensors: stored, shapes: stored_shapes, bytes, .. } = opened;
    let found = Stored { tensors: stored.as_ref(), shapes: &stored_shapes, place };
    let (layers, stored_as) = (format.find)(section, &found)?;
    if layers.is_empty() {
        return Err(EngineError::invalid(
            format!("no packed layer in {place}, though its config says {}", format.method),
            "take the weights and config.json from one repository and one revision",
        ));
    }
    let tensors = UnpackedTensors { stored, layers, parts: format.parts, place: place.to_owned() };
    let mut shapes: BTreeMap<String, Vec<usize>> =
        stored_shapes.into_iter().filter(|(name, _)| !tensors.is_part(name)).collect();
    for (name, layer) in &tensors.layers {
        shapes.insert(format!("{name}.weight"), vec![layer.outputs, layer.inputs]);
    }
    Ok(OpenedWeights { tensors: Box::new(tensors), shapes, stored_as, bytes })
}

impl UnpackedTensors {
    fn is_part(&self, name: &str) -> bool {
        name.rsplit_once('.').is_some_and(|(layer, part)| self.parts.contains(&part) && self.layers.contains_key(layer))
    }

    fn layer(&self, name: &str) -> Option<(&str, &Layer)> {
        let (name, layer) = self.layers.get_key_value(name.strip_suffix(".weight")?)?;
        Some((name, layer))
    }
}

impl Tensors for UnpackedTensors {
    fn names(&self) -> Vec<String> {
        let mut names = self.stored.names();
        names.retain(|name| !self.is_part(name) && self.layer(name).is_none());
        names.extend(self.layers.keys().map(|layer| format!("{layer}.weight")));
        names.sort_unstable();
        names
    }

    fn read(&self, name: &str) -> Result<TensorData, EngineError> {
        let Some((name, layer)) = self.layer(name) else { return self.stored.read(name) };
        let pieces = Pieces { tensors: self.stored.as_ref(), layer: name, place: &self.place };
        let values = TensorValues::F32((layer.read)(&pieces)?);
        Ok(TensorData { shape: vec![layer.outputs, layer.inputs], values })
    }

    fn element(&self, name: &str) -> Option<&str> {
        if self.layer(name).is_some() { Some("F32") } else { self.stored.element(name) }
    }

    fn raw(&self, name: &str) -> Result<RawTensor, EngineError> {
        self.stored.raw(name)
    }

    fn raw_entry(&self, name: &str, index: usize) -> Result<RawTensor, EngineError> {
        self.stored.raw_entry(name, index)
    }

    fn place(&self, name: &str) -> Option<TensorPlace<'_>> {
        if self.layer(name).is_some() { None } else { self.stored.place(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_any_width_lie_one_behind_the_other() {
        // The published vectors: −8, −7, −1, 0, 1, 5, 6, 7 with 8 added, and 0 to 7.
        let codes = |word: u32| (0..8).map(|index| code(&[word], index, 4)).collect::<Vec<_>>();
        assert_eq!(codes(0xfed9_8710), [0, 1, 7, 8, 9, 13, 14, 15]);
        assert_eq!(codes(0x7654_3210), [0, 1, 2, 3, 4, 5, 6, 7]);
        for bits in 1..=8_usize {
            let written: Vec<u32> = (0..50).map(|index| (index * 37 + 11) % (1 << bits)).collect();
            let mut row = vec![0_u32; (50 * bits).div_ceil(32)];
            for (index, code) in written.iter().enumerate() {
                for bit in 0..bits {
                    let at = index * bits + bit;
                    row[at / 32] |= (code >> bit & 1) << (at % 32);
                }
            }
            assert_eq!((0..50).map(|index| code(&row, index, bits)).collect::<Vec<_>>(), written);
        }
    }

    #[test]
    fn scales_lie_as_their_shape_says() {
        let grid = |shape: &[usize]| Grid::of(shape, 200, 256, [128, 128]);
        assert_eq!(grid(&[1]).unwrap().index(199, 255), 0);
        assert_eq!(grid(&[200]).unwrap().index(7, 255), 7);
        assert_eq!(grid(&[200, 1]).unwrap().index(7, 255), 7);
        assert_eq!(grid(&[200, 8]).unwrap().index(3, 64), 26);
        assert_eq!(grid(&[2, 2]).unwrap().index(130, 127), 2);
        assert!(grid(&[3, 2]).is_none() && grid(&[200, 7]).is_none() && grid(&[0]).is_none());
        let words = |shape: &[usize]| grid(shape).unwrap().in_words();
        assert_eq!(
            [words(&[]), words(&[200, 1]), words(&[200, 2]), words(&[2, 2])],
            ["tensor", "channel", "group 128", "blocks of 128 × 128"]
        );
    }
}
