//! Keys and values in blocks of a fixed number of positions, which sequences share and pass on.

use crate::model::ModelConfig;

/// Positions of a block.
pub(crate) const BLOCK_TOKENS: usize = 16;

/// f32 `[layers][keys, values][BLOCK_TOKENS][kv_heads · head_dim]` a block. A block's memory comes with its first write.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// By number; empty until written.
    blocks: Vec<Box<[f32]>>,
    layers: usize,
    /// `kv_heads · head_dim`.
    row_elements: usize,
}

impl KvCache {
    /// No memory yet.
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self::of_layers(config.layers, config)
    }

    /// The same for other than the model's number of layers.
    pub(crate) fn of_layers(layers: usize, config: &ModelConfig) -> Self {
        Self { blocks: Vec::new(), layers, row_elements: config.kv_heads * config.head_dim }
    }

    /// Bytes of a block.
    pub(crate) fn block_bytes(config: &ModelConfig) -> usize {
        let cache = Self::new(config);
        cache.layers * cache.layer_elements() * size_of::<f32>()
    }

    /// Writes one position's keys and values, `[kv_heads · head_dim]` each, into a block.
    pub(crate) fn write(&mut self, layer: usize, block: u32, position: usize, keys: &[f32], values: &[f32]) {
        let (number, layer_elements) = (block as usize, self.layer_elements());
        if number >= self.blocks.len() {
            self.blocks.resize_with(number + 1, Box::default);
        }
        let block = &mut self.blocks[number];
        if block.is_empty() {
            *block = vec![0.0; self.layers * layer_elements].into_boxed_slice();
        }
        let (all_keys, all_values) = block[layer * layer_elements..][..layer_elements].split_at_mut(layer_elements / 2);
        let row = position % BLOCK_TOKENS * self.row_elements;
        all_keys[row..row + self.row_elements].copy_from_slice(keys);
        all_values[row..row + self.row_elements].copy_from_slice(values);
    }

    /// What one layer reads.
    pub(crate) fn layer(&self, layer: usize) -> LayerCache<'_> {
        let elements = self.layer_elements();
        LayerCache { blocks: &self.blocks, first: layer * elements, elements, row_elements: self.row_elements }
    }

    /// Frees the memory of blocks whose content is of no use.
    pub(crate) fn free(&mut self, is_free: impl Fn(u32) -> bool) {
        for (number, block) in (0..).zip(&mut self.blocks) {
            if !block.is_empty() && is_free(number) {
                *block = Box::default();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn blocks_in_memory(&self) -> usize {
        self.blocks.iter().filter(|block| !block.is_empty()).count()
    }

    fn layer_elements(&self) -> usize {
        2 * BLOCK_TOKENS * self.row_elements
    }
}

/// The keys and values of one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerCache<'a> {
    blocks: &'a [Box<[f32]>],
    first: usize,
    elements: usize,
    /// Elements of a position's keys, and of its values.
    pub(crate) row_elements: usize,
}

impl<'a> LayerCache<'a> {
    /// `[BLOCK_TOKENS][row_elements]`.
    pub(crate) fn keys(&self, block: u32) -> &'a [f32] {
        &self.blocks[block as usize][self.first..self.first + self.elements / 2]
    }

    /// `[BLOCK_TOKENS][row_elements]`.
    pub(crate) fn values(&self, block: u32) -> &'a [f32] {
        &self.blocks[block as usize][self.first + self.elements / 2..self.first + self.elements]
    }
}
