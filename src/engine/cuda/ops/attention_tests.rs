//! Attention's kernels: they compile everywhere, and on a GPU they match float64 and depend on their own row alone.

use half::{bf16, f16};
use rayon::prelude::*;

use super::*;
use crate::cuda::buffer::Buffer;
use crate::cuda::element::ElementType;
use crate::cuda::testing::{compiles, gpu};

/// Heads, KV heads, elements of a head, window: `TinyLlama`, `SmolLM2`, groups of 7 and 14, Mistral's of 4 with a window,
/// groups of 1 in OPT's sizes, a group in two tiles of heads, and Gemma's widths.
const SHAPES: [(usize, usize, usize, usize); 14] = [
    (32, 4, 64, 0),
    (9, 3, 64, 0),
    (14, 2, 64, 0),
    (28, 2, 64, 70),
    (28, 4, 128, 0),
    (32, 8, 128, 200),
    (12, 12, 64, 0),
    (5, 5, 80, 0),
    (6, 3, 96, 100),
    (3, 3, 128, 0),
    (20, 1, 32, 0),
    (4, 1, 256, 0),
    (4, 2, 256, 100),
    (12, 1, 192, 0),
];
const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];
/// Lengths of the sequences, a slot each.
pub(crate) const LENGTHS: [usize; 9] = [1, 2, 63, 64, 65, 127, 300, 512, 1025];

#[test]
fn every_kernel_compiles() {
    compiles(every_shape().map(|shape| (shape.source(), shape.options())));
}

#[test]
fn segments_are_cut_into_whole_tiles_in_order() {
    assert_eq!(cut(7, 20, 3, 100, 8), [[7, 8, 3, 100], [15, 8, 3, 108], [23, 4, 3, 116]]);
    assert_eq!(cut(7, 8, 3, 100, 8), [[7, 8, 3, 100]]);
    assert!(cut(0, 0, 0, 0, 8).is_empty());
}

#[test]
fn workspaces_hold_every_split() {
    let shape = Shape::new(32, 4, 64, 0, Dtype::F16);
    let chunk = 8 * 66 * 4;
    assert_eq!(shape.splits(1, 300), 2);
    assert_eq!(shape.workspace_bytes(1, 300), 4096 + 4 * 2 * chunk);
    assert_eq!(shape.splits(1319, 2000), 1, "a full GPU needs no splits");
    // Positions 0 ..= 199, 100 ..= 299: a window of 200 touches at most two chunks, wherever it lies.
    assert_eq!(Shape::new(32, 8, 128, 200, Dtype::F16).chunks(4000), 2);
}

#[test]
fn a_gpu_whose_blocks_have_too_little_shared_memory_is_refused() {
    let (ada, ampere) = (99 * 1024, 163 * 1024);
    for (dtype, (heads, kv_heads, head_dim, window)) in all_shapes() {
        let shape = Shape::new(heads, kv_heads, head_dim, window, dtype);
        shape.check_gpu("an H200", 227 * 1024).unwrap();
        if dtype != Dtype::F32 || head_dim <= 128 {
            shape.check_gpu("an A100", ampere).unwrap();
        }
        if head_dim <= 80 || dtype != Dtype::F32 && head_dim <= 128 {
            shape.check_gpu("an L40S", ada).unwrap();
        }
    }
    let text = Shape::new(32, 8, 128, 0, Dtype::F32).check_gpu("an L40S", ada).unwrap_err().to_string();
    assert!(text.starts_with("heads of 128 elements in f32 need ") && text.contains("; an L40S has "), "{text}");
    assert!(text.contains("\nhint: ") && text.contains("--engine cpu") && text.contains("--dtype f16"), "{text}");
}

#[test]
fn decode_matches_float64_alone_and_among_others() {
    let Some(device) = gpu() else { return };
    for shape in every_shape() {
        let Shape { heads, head_dim, dtype, .. } = shape;
        let attention = Attention::of(&device, shape).unwrap();
        let cache = Cache::new(&device, shape);
        // A row that is not part of the launch; each sequence's last position; other positions of the same sequences; and another.
        let others = (0..200).map(|i| (i % LENGTHS.len(), i * 37 % LENGTHS[i % LENGTHS.len()]));
        let rows: Vec<(usize, usize)> = LENGTHS.iter().map(|length| length - 1).enumerate().chain(others).collect();
        let (first_row, count) = (1, rows.len());
        let column = |f: fn(&(usize, usize)) -> usize| -> Vec<i32> {
            let inner = rows.iter().map(|row| f(row) as i32);
            std::iter::once(i32::MAX).chain(inner).chain([i32::MAX]).collect()
        };
        let positions = Buffer::of(&device, &column(|row| row.1)).unwrap();
        let slots = Buffer::of(&device, &column(|row| row.0)).unwrap();
        let qkv = cache.queries(count + 2, 3);
        let qkv_buffer = Buffer::of(&device, &encoded(&qkv, dtype)).unwrap();
        let max_chunks = shape.chunks(1025);
        let bytes = COUNTERS * 4 + count * shape.tiles_a_row() * max_chunks * shape.heads_a_tile() * (head_dim + 2) * 4;
        let workspace = Buffer::new(&device, bytes).unwrap();
        workspace.fill(&device, 0xff).unwrap();
        workspace.write(&device, 0, &vec![0_u8; COUNTERS * 4]).unwrap();
        let run = |first_row: usize, count: usize, splits: usize| -> Vec<u8> {
            let out = cache.poisoned_out(&device, rows.len() + 2);
            let (positions, slots, workspace) = (positions.pointer(), slots.pointer(), workspace.pointer());
            let longest = 1025;
            let rows = DecodeRows {
                positions,
                slots,
                first_row,
                count,
                longest,
                new_kv: false,
                workspace,
                overlaps: count == 1,
            };
            attention.decode_in(&device, qkv_buffer.pointer(), cache.paged(), &rows, splits, out.pointer()).unwrap();
            out.read(&device, 0, out.bytes()).unwrap()
        };
        let together = run(first_row, count, 1);
        let width = heads * head_dim * element_bytes(dtype);
        let is_poison = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0xff);
        assert!(
            is_poison(&together[..width]) && is_poison(&together[(count + 1) * width..]),
            "{shape:?}: beyond its rows"
        );
        let out = decoded(&together, dtype);
        rows.par_iter().enumerate().for_each(|(i, (slot, position))| {
            cache.check(&qkv, &out, first_row + i, *slot, *position);
        });
        // Split launches have a counter for each (row, tile); there are not enough for all rows at once.
        let part = count.min(COUNTERS / shape.tiles_a_row());
        for _ in 0..3 {
            let split = run(first_row, part, max_chunks);
            assert!(split[..(part + 1) * width] == together[..(part + 1) * width], "{shape:?}: split rows differ");
        }
        for row in (first_row..first_row + LENGTHS.len()).chain([57, count]) {
            for splits in [1, max_chunks] {
                let alone = run(row, 1, splits);
                let here = row * width..(row + 1) * width;
                assert!(alone[here.clone()] == together[here.clone()], "{shape:?}: row {row} alone differs");
                assert!(is_poison(&alone[..here.start]) && is_poison(&alone[here.end..]), "{shape:?}: row {row} alone");
            }
        }
        let counters: Vec<u32> = workspace.read(&device, 0, COUNTERS).unwrap();
        assert!(counters.iter().all(|counter| *counter == 0), "{shape:?}: counters are left as they were found");
    }
}

/// Of the rows' own positions, which the cache does not hold yet.
#[test]
fn new_keys_and_values_are_read_from_their_row_and_stored() {
    let Some(device) = gpu() else { return };
    for shape in every_shape().filter(|shape| shape.dtype != Dtype::F32) {
        let Shape { heads, kv_heads, head_dim, dtype, .. } = shape;
        let attention = Attention::of(&device, shape).unwrap();
        let cache = Cache::new(&device, shape);
        let count = LENGTHS.len();
        let mut qkv = cache.queries(count, 6);
        let width = (heads + 2 * kv_heads) * head_dim;
        for (slot, length) in LENGTHS.iter().enumerate() {
            for head in 0..kv_heads {
                let from = cache.at(slot, head, length - 1);
                let to = slot * width + (heads + head) * head_dim;
                qkv[to..][..head_dim].copy_from_slice(&cache.keys[from..][..head_dim]);
                qkv[to + kv_heads * head_dim..][..head_dim].copy_from_slice(&cache.values[from..][..head_dim]);
            }
        }
        let qkv = Buffer::of(&device, &encoded(&qkv, dtype)).unwrap();
        let [positions, slots] = [LENGTHS.map(|length| length as i32 - 1), std::array::from_fn(|slot| slot as i32)]
            .map(|values| Buffer::of(&device, &values).unwrap());
        let bytes = attention.workspace_bytes(count, 1025).max(COUNTERS * 4 + count * shape.tiles_a_row() * 70_000);
        let workspace = Buffer::new(&device, bytes).unwrap();
        workspace.fill(&device, 0).unwrap();
        let run = |splits: usize, new_kv: bool| -> Vec<u8> {
            let out = cache.poisoned_out(&device, count);
            let (positions, slots, workspace) = (positions.pointer(), slots.pointer(), workspace.pointer());
            let (first_row, longest, overlaps) = (0, 1025, false);
            let rows = DecodeRows { positions, slots, first_row, count, longest, new_kv, workspace, overlaps };
            attention.decode_in(&device, qkv.pointer(), cache.paged(), &rows, splits, out.pointer()).unwrap();
            out.read(&device, 0, out.bytes()).unwrap()
        };
        let held = |buffer: &Buffer| -> Vec<u8> { buffer.read(&device, 0, buffer.bytes()).unwrap() };
        let wanted = run(1, false);
        let before = [held(&cache.buffers[0]), held(&cache.buffers[1])];
        for splits in [1, shape.chunks(1025)] {
            for (slot, length) in LENGTHS.iter().enumerate() {
                for (head, buffer) in (0..kv_heads).flat_map(|head| cache.buffers[..2].iter().map(move |b| (head, b))) {
                    let at = cache.at(slot, head, length - 1) * element_bytes(dtype);
                    buffer.write(&device, at, &vec![0xff_u8; head_dim * element_bytes(dtype)]).unwrap();
                    device.synchronize().unwrap();
                }
            }
            assert!(run(splits, true) == wanted, "{shape:?}, {splits} splits: other bits");
            let after = [held(&cache.buffers[0]), held(&cache.buffers[1])];
            assert!(after == before, "{shape:?}, {splits} splits: not stored");
        }
    }
}

#[test]
fn padding_rows_are_not_written() {
    let Some(device) = gpu() else { return };
    for dtype in DTYPES {
        let shape = Shape::new(8, 2, 64, 0, dtype);
        let attention = Attention::of(&device, shape).unwrap();
        let cache = Cache::new(&device, shape);
        let positions = Buffer::of(&device, &[-1_i32, 64, -1]).unwrap();
        let slots = Buffer::of(&device, &[0_i32, 6, 0]).unwrap();
        let qkv = cache.queries(3, 5);
        let qkv_buffer = Buffer::of(&device, &encoded(&qkv, dtype)).unwrap();
        let workspace = Buffer::new(&device, attention.workspace_bytes(3, 300)).unwrap();
        workspace.fill(&device, 0).unwrap();
        let out = cache.poisoned_out(&device, 3);
        let (positions, slots, workspace) = (positions.pointer(), slots.pointer(), workspace.pointer());
        let rows = DecodeRows {
            positions,
            slots,
            first_row: 0,
            count: 3,
            longest: 300,
            new_kv: false,
            workspace,
            overlaps: false,
        };
        attention.decode(&device, qkv_buffer.pointer(), cache.paged(), &rows, out.pointer()).unwrap();
        let bytes: Vec<u8> = out.read(&device, 0, out.bytes()).unwrap();
        cache.check(&qkv, &decoded(&bytes, dtype), 1, 6, 64);
        let width = bytes.len() / 3;
        assert!(bytes[..width].iter().chain(&bytes[2 * width..]).all(|byte| *byte == 0xff), "{shape:?}");
    }
}

#[test]
fn prefill_matches_float64_however_it_is_tiled() {
    let Some(device) = gpu() else { return };
    for shape in every_shape() {
        let Shape { heads, head_dim, dtype, .. } = shape;
        let attention = Attention::of(&device, shape).unwrap();
        let cache = Cache::new(&device, shape);
        // Every position of every sequence, one after another; row 0 and the last belong to no one.
        let starts: Vec<usize> =
            LENGTHS.iter().scan(1, |next, length| Some(std::mem::replace(next, *next + length))).collect();
        let rows = LENGTHS.iter().sum::<usize>() + 2;
        let qkv = cache.queries(rows, 4);
        let qkv_buffer = Buffer::of(&device, &encoded(&qkv, dtype)).unwrap();
        let run = |tiles: &[Tile]| -> Vec<u8> {
            let out = cache.poisoned_out(&device, rows);
            let tiles_buffer = Buffer::of(&device, tiles.as_flattened()).unwrap();
            let tiles = (tiles_buffer.pointer(), tiles.len());
            attention.prefill(&device, qkv_buffer.pointer(), cache.paged(), tiles, out.pointer(), false).unwrap();
            out.read(&device, 0, out.bytes()).unwrap()
        };
        let tile = attention.tile();
        let segment =
            |slot: usize, from: usize, to: usize, tile: usize| cut(starts[slot] + from, to - from, slot, from, tile);
        let whole: Vec<Tile> = (0..LENGTHS.len()).flat_map(|slot| segment(slot, 0, LENGTHS[slot], tile)).collect();
        let together = run(&whole);
        let width = heads * head_dim * element_bytes(dtype);
        assert!(together[..width].iter().chain(&together[(rows - 1) * width..]).all(|byte| *byte == 0xff), "{shape:?}");
        let out = decoded(&together, dtype);
        for (slot, length) in LENGTHS.iter().enumerate() {
            // Of the longer ones every seventh row and the ends, for the reference is slow.
            (0..*length).into_par_iter().for_each(|position| {
                if *length < 130 || position % 7 == 0 || position + 3 > *length {
                    cache.check(&qkv, &out, starts[slot] + position, slot, position);
                }
            });
        }
        // Other tiles, other chunks, a tile that is empty, and a single sequence on its own.
        let cuts = |position: usize| [0, position.min(37), position.min(101), position.min(257), position];
        let mut pieces: Vec<Tile> = (0..LENGTHS.len())
            .flat_map(|slot| {
                cuts(LENGTHS[slot]).windows(2).map(move |pair| (slot, pair[0], pair[1])).collect::<Vec<_>>()
            })
            .flat_map(|(slot, from, to)| segment(slot, from, to, (tile / 2 + 1).min(tile)))
            .collect();
        pieces.push([0, 0, 0, 0]);
        assert!(run(&pieces) == together, "{shape:?}: other cuts differ");
        let slot = 6;
        let alone = run(&segment(slot, 0, LENGTHS[slot], tile));
        let here = starts[slot] * width..(starts[slot] + LENGTHS[slot]) * width;
        assert!(alone[here.clone()] == together[here], "{shape:?}: a prompt alone differs");
        let single = run(&segment(slot, 0, LENGTHS[slot], 1));
        assert!(single == alone, "{shape:?}: rows in tiles of their own differ");
    }
}

pub(crate) fn all_shapes() -> impl Iterator<Item = (Dtype, (usize, usize, usize, usize))> {
    let tiny = [(Dtype::F32, (6, 2, 12, 0)), (Dtype::F32, (6, 6, 8, 0))];
    DTYPES.into_iter().flat_map(|dtype| SHAPES.map(|shape| (dtype, shape))).chain(tiny)
}

/// These, and some whose scores are scaled and capped otherwise.
fn every_shape() -> impl Iterator<Item = Shape> {
    let of = |(dtype, (heads, kv_heads, head_dim, window))| Shape::new(heads, kv_heads, head_dim, window, dtype);
    let capped = |dtype| [(4, 2, 64, 0), (4, 2, 256, 100)].map(|shape| (dtype, shape));
    let capped = DTYPES.into_iter().flat_map(capped).map(of);
    let with_sinks = |dtype| [(16, 2, 64, 100), (6, 3, 128, 0)].map(|shape| (dtype, shape));
    let with_sinks = DTYPES.into_iter().flat_map(with_sinks).map(of);
    all_shapes()
        .map(of)
        .chain(capped.map(|shape| Shape { scale: 0.1, cap: Some(2.0), ..shape }))
        .chain(with_sinks.map(|shape| Shape { sinks: true, ..shape }))
}

fn element_bytes(dtype: Dtype) -> usize {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

fn encoded(values: &[f32], dtype: Dtype) -> Vec<u8> {
    ElementType::of(dtype.arithmetic).encode(values)
}

fn decoded(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        Dtype::Bf16 => halves().map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
        _ => halves().map(|x| f16::from_le_bytes(*x).to_f32()).collect(),
    }
}

/// Numbers of about unit variance from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: f32 = (0..4).map(|i| ((bits >> (16 * i)) & 0xffff) as f32 / 65536.0).sum();
        (sum - 2.0) * 1.73
    }
}

/// A layer's cache of one sequence for each of [`LENGTHS`], here and in device memory.
pub(crate) struct Cache {
    shape: Shape,
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
    tables: Vec<i32>,
    stride: usize,
    /// Scores of the heads that stand for no position.
    sinks: Vec<f32>,
    buffers: [Buffer; 4],
}

impl Cache {
    /// Of one layer of a model.
    pub(crate) fn of(device: &Device, config: &ModelConfig, dtype: Dtype) -> Self {
        Self::new(device, Shape::of(config, dtype).unwrap())
    }

    /// Index of a position of a sequence in `keys` and `values`.
    pub(crate) fn at(&self, slot: usize, kv_head: usize, position: usize) -> usize {
        let block = self.tables[slot * self.stride + position / BLOCK_TOKENS] as usize;
        ((block * self.shape.kv_heads + kv_head) * BLOCK_TOKENS + position % BLOCK_TOKENS) * self.shape.head_dim
    }

    /// Blocks are in random order; slots 7 and 8 share their first two. Unused positions hold NaN, and unused table entries no valid
    /// block.
    fn new(device: &Device, shape: Shape) -> Self {
        let Shape { kv_heads, head_dim, dtype, .. } = shape;
        let mut random = Random(1);
        let needed: usize = LENGTHS.iter().map(|length| length.div_ceil(BLOCK_TOKENS)).sum();
        let mut order: Vec<usize> = (0..needed).collect();
        for i in (1..needed).rev() {
            order.swap(i, random.bits() as usize % (i + 1));
        }
        let mut free = order.into_iter();
        let stride = LENGTHS.len() * 2;
        let mut tables = vec![i32::MAX / 2; LENGTHS.len() * stride];
        let elements = needed * kv_heads * BLOCK_TOKENS * head_dim;
        let (mut keys, mut values) = (vec![f32::NAN; elements], vec![f32::NAN; elements]);
        for (slot, length) in LENGTHS.iter().enumerate() {
            for index in 0..length.div_ceil(BLOCK_TOKENS) {
                let shared = slot == 8 && index < 2;
                let block = if shared { tables[7 * stride + index] } else { free.next().unwrap() as i32 };
                tables[slot * stride + index] = block;
                if shared {
                    continue;
                }
                for head in 0..kv_heads {
                    for token in 0..BLOCK_TOKENS.min(length - index * BLOCK_TOKENS) {
                        let position = index * BLOCK_TOKENS + token;
                        // Some keys are so long that one weight is nearly 1. Some values, those beside every border among
                        // them, are so large that leaving one out would show.
                        let long = if random.bits().is_multiple_of(61) { 5.0 } else { 1.0 };
                        let border = token == 0 || token + 1 == BLOCK_TOKENS || position + 1 == *length;
                        let large = if border || random.bits().is_multiple_of(47) { 300.0 } else { 1.0 };
                        let at = ((block as usize * kv_heads + head) * BLOCK_TOKENS + token) * head_dim;
                        for dim in 0..head_dim {
                            keys[at + dim] = random.normal() * long;
                            values[at + dim] = random.normal() * large;
                        }
                    }
                }
            }
        }
        // As device memory holds them.
        let round = |values: &[f32]| decoded(&encoded(values, dtype), dtype);
        let (keys, values) = (round(&keys), round(&values));
        // Some take nothing, some nearly all.
        let sinks = round(&(0..shape.heads).map(|head| [0.5, 3.0, -20.0, 12.0][head % 4]).collect::<Vec<f32>>());
        let buffers = [
            Buffer::of(device, &encoded(&keys, dtype)).unwrap(),
            Buffer::of(device, &encoded(&values, dtype)).unwrap(),
            Buffer::of(device, &tables).unwrap(),
            Buffer::of(device, &encoded(&sinks, dtype)).unwrap(),
        ];
        Self { shape, keys, values, tables, stride, sinks, buffers }
    }

    pub(crate) fn paged(&self) -> PagedCache {
        let [keys, values, tables, sinks] = &self.buffers;
        PagedCache {
            keys: keys.pointer(),
            values: values.pointer(),
            tables: tables.pointer(),
            table_stride: self.stride,
            sinks: sinks.pointer(),
        }
    }

    /// Rows of q, k and v; k and v are not the kernel's to read.
    pub(crate) fn queries(&self, rows: usize, seed: u64) -> Vec<f32> {
        let Shape { heads, kv_heads, head_dim, dtype, .. } = self.shape;
        let mut random = Random(seed);
        let width = (heads + 2 * kv_heads) * head_dim;
        let row = (0..rows * width).map(|i| if i % width < heads * head_dim { random.normal() } else { f32::NAN });
        decoded(&encoded(&row.collect::<Vec<f32>>(), dtype), dtype)
    }

    fn poisoned_out(&self, device: &Device, rows: usize) -> Buffer {
        let Shape { heads, head_dim, dtype, .. } = self.shape;
        let out = Buffer::new(device, rows * heads * head_dim * element_bytes(dtype)).unwrap();
        out.fill(device, 0xff).unwrap();
        out
    }

    /// Holds a row of `out` against float64.
    pub(crate) fn check(&self, qkv: &[f32], out: &[f32], row: usize, slot: usize, position: usize) {
        let Shape { heads, kv_heads, head_dim, window, scale, cap, dtype, .. } = self.shape;
        let (scale, cap) = (f64::from(scale), cap.map(f64::from));
        let start = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
        // Half a unit in the last place; then what a weight below binary16's normal numbers may be off by.
        let (unit, tiny) = match dtype {
            Dtype::F32 => (2_f64.powi(-24), 0.0),
            Dtype::Bf16 => (2_f64.powi(-8), 0.0),
            _ => (2_f64.powi(-11), 2_f64.powi(-25)),
        };
        // The tensor cores cut off where adders round: a whole unit in the last place of binary32 for each addition.
        let addition = 2_f64.powi(-23);
        for head in 0..heads {
            let at = |position: usize| self.at(slot, head / (heads / kv_heads), position);
            let query = &qkv[row * (heads + 2 * kv_heads) * head_dim + head * head_dim..][..head_dim];
            let mut weights = Vec::new();
            let mut magnitude = 0.0_f64;
            for position in start..=position {
                let products = query.iter().zip(&self.keys[at(position)..]).map(|(q, k)| f64::from(*q) * f64::from(*k));
                let (sum, absolute) = products.fold((0.0, 0.0), |(sum, absolute), x| (sum + x, absolute + x.abs()));
                weights.push(cap.map_or(sum * scale, |cap| cap * (sum * scale / cap).tanh()));
                magnitude = magnitude.max(absolute * scale);
            }
            let highest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for weight in &mut weights {
                *weight = (*weight - highest).exp();
            }
            let sink = if self.shape.sinks { (f64::from(self.sinks[head]) - highest).exp() } else { 0.0 };
            let total = weights.iter().sum::<f64>() + sink;
            // A score is a sum of head_dim products, then scaled, shifted and raised: an absolute error, hence a relative one
            // of the weight. The weight is rounded, at most twice; weights and values are summed in as many additions as there
            // are keys, and merged in a few more.
            let score_error = (head_dim + 8) as f64 * addition * magnitude;
            let weight_error = 2.0 * (score_error + 2.0 * unit + 8.0 * addition);
            let sum_error = 2.0 * (weights.len() + 64) as f64 * addition;
            let mut sums = vec![(0.0_f64, 0.0_f64, 0.0_f64); head_dim];
            for (weight, position) in weights.iter().zip(start..) {
                for ((expected, absolute, largest), value) in sums.iter_mut().zip(&self.values[at(position)..]) {
                    let value = f64::from(*value);
                    *expected += weight / total * value;
                    *absolute += weight / total * value.abs();
                    *largest = largest.max(value.abs());
                }
            }
            for (dim, (expected, absolute, largest)) in sums.into_iter().enumerate() {
                let tolerance = absolute * (weight_error + sum_error)
                    + expected.abs() * unit
                    + tiny * (1.0 + 2.0 * largest * weights.len() as f64 / total);
                let got = f64::from(out[row * heads * head_dim + head * head_dim + dim]);
                assert!(
                    (got - expected).abs() <= tolerance,
                    "{:?}: row {row}, position {position}, head {head}, dim {dim}: {got}, expected {expected} ± {tolerance}",
                    self.shape
                );
            }
        }
    }
}

#[path = "attention_measure.rs"]
mod measure;
