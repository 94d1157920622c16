//! The KV cache on the device: its blocks, and the tables that say which belong to which slot.

use super::BLOCK_TOKENS;
use super::buffer::Buffer;
use super::device::Device;
use super::element::ElementType;
use crate::EngineError;
use crate::model::ModelConfig;

/// The cache of one engine.
#[derive(Debug)]
pub(crate) struct Cache {
    /// element `[layers][keys, values][blocks][kv_heads][BLOCK_TOKENS][head_dim]`.
    memory: Buffer,
    /// i32 `[slots + READ_TEXTS][table_stride]`; the last are for texts that are read.
    tables: Buffer,
    pub(crate) table_stride: usize,
    /// Blocks there are.
    pub(crate) blocks: usize,
    /// Bytes of keys (or values) of one layer.
    layer_bytes: usize,
    /// Slots for requests; those from here on are for texts that are read.
    pub(crate) slots: usize,
}

/// Of the memory that is free once everything else is there, the cache takes this many hundredths at most.
const MAX_PERCENT: usize = 95;

/// Texts that one step reads at most.
pub(crate) const READ_TEXTS: usize = 128;

impl Cache {
    /// Takes as much of the free memory as `slots` requests of full length can use.
    pub(crate) fn new(
        device: &Device,
        config: &ModelConfig,
        element: ElementType,
        slots: usize,
    ) -> Result<Self, EngineError> {
        let table_stride = config.context_tokens.div_ceil(BLOCK_TOKENS);
        let block_bytes = Self::block_bytes(config, element);
        let tables = Buffer::new(device, (slots + READ_TEXTS) * table_stride * size_of::<i32>())?;
        let memory = device.memory()?;
        let blocks = (slots * table_stride).min(memory.free / 100 * MAX_PERCENT / block_bytes);
        if blocks == 0 {
            let what = format!("the cache of {BLOCK_TOKENS} tokens");
            return Err(memory.too_little(&device.name, &what, block_bytes));
        }
        Ok(Self {
            memory: Buffer::new(device, blocks * block_bytes)?,
            tables,
            table_stride,
            blocks,
            layer_bytes: blocks * block_bytes / (2 * config.layers),
            slots,
        })
    }

    /// Bytes of a block in all layers.
    pub(crate) fn block_bytes(config: &ModelConfig, element: ElementType) -> usize {
        2 * config.layers * config.kv_heads * BLOCK_TOKENS * config.head_dim * element.bytes()
    }

    /// Addresses of a layer's keys and values.
    pub(crate) fn layer(&self, layer: usize) -> (u64, u64) {
        (self.memory.at(2 * layer * self.layer_bytes), self.memory.at((2 * layer + 1) * self.layer_bytes))
    }

    /// Bytes of so many blocks.
    pub(crate) fn bytes_of(&self, blocks: usize) -> u64 {
        (self.memory.bytes() / self.blocks * blocks) as u64
    }

    /// The tables' address.
    pub(crate) fn tables(&self) -> u64 {
        self.tables.pointer()
    }

    /// Enqueues a slot's table: the blocks of its positions, in order.
    pub(crate) fn assign(&self, device: &Device, slot: usize, blocks: &[u32]) -> Result<(), EngineError> {
        self.tables.write(device, slot * self.table_stride * size_of::<i32>(), blocks)
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.bytes() + self.tables.bytes()
    }
}
