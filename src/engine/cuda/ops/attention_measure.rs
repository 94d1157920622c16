//! What attention costs on a GPU: `cargo test --release --lib measure_attention -- --ignored --nocapture`.

use cudarc::driver::sys::CUevent_flags;

use super::{
    Attention, BLOCK_TOKENS, Buffer, DecodeRows, Device, Dtype, PagedCache, Random, Shape, cut, element_bytes, gpu,
};

/// Bytes a second that the GPU reads: what times are compared with.
const BANDWIDTH: f64 = 4.3e12;

/// Sequences with a cache of random numbers, blocks in random order.
struct Load {
    shape: Shape,
    keys: Buffer,
    values: Buffer,
    tables: Buffer,
    stride: usize,
    blocks: usize,
}

impl Load {
    /// The first `shared` tokens (whole blocks) of all sequences are the same blocks.
    fn new(device: &Device, shape: Shape, lengths: &[usize], shared: usize) -> Self {
        let shared = shared / BLOCK_TOKENS;
        let stride = lengths.iter().max().unwrap().div_ceil(BLOCK_TOKENS);
        let own: usize = lengths.iter().map(|length| length.div_ceil(BLOCK_TOKENS) - shared).sum();
        let blocks = shared + own;
        let mut random = Random(1);
        let mut order: Vec<i32> = (0..blocks as i32).collect();
        for i in (1..blocks).rev() {
            order.swap(i, random.bits() as usize % (i + 1));
        }
        let mut free = order[shared..].iter().copied();
        let mut tables = Vec::new();
        for length in lengths {
            let mut row = order[..shared].to_vec();
            row.extend(free.by_ref().take(length.div_ceil(BLOCK_TOKENS) - shared));
            row.resize(stride, 0);
            tables.extend(row);
        }
        let bytes = blocks * shape.kv_heads * BLOCK_TOKENS * shape.head_dim * element_bytes(shape.dtype);
        // A stretch of random numbers, over and over.
        let stretch: Vec<f32> = (0..1 << 20).map(|_| random.normal()).collect();
        let stretch = super::encoded(&stretch, shape.dtype);
        let filled = || {
            let buffer = Buffer::new(device, bytes).unwrap();
            for start in (0..bytes).step_by(stretch.len()) {
                buffer.write(device, start, &stretch[..stretch.len().min(bytes - start)]).unwrap();
            }
            buffer
        };
        let (keys, values) = (filled(), filled());
        let tables = Buffer::of(device, &tables).unwrap();
        Self { shape, keys, values, tables, stride, blocks }
    }

    fn paged(&self) -> PagedCache {
        PagedCache {
            keys: self.keys.pointer(),
            values: self.values.pointer(),
            tables: self.tables.pointer(),
            table_stride: self.stride,
            sinks: 0,
        }
    }

    fn queries(&self, device: &Device, rows: usize) -> Buffer {
        let Shape { heads, kv_heads, head_dim, dtype, .. } = self.shape;
        let mut random = Random(2);
        let values: Vec<f32> = (0..rows * (heads + 2 * kv_heads) * head_dim).map(|_| random.normal()).collect();
        Buffer::of(device, &super::encoded(&values, dtype)).unwrap()
    }

    fn out(&self, device: &Device, rows: usize) -> Buffer {
        let Shape { heads, head_dim, dtype, .. } = self.shape;
        Buffer::new(device, rows * heads * head_dim * element_bytes(dtype)).unwrap()
    }

    /// Bytes of keys and values of so many positions.
    fn bytes(&self, positions: usize) -> f64 {
        (2 * positions * self.shape.kv_heads * self.shape.head_dim * element_bytes(self.shape.dtype)) as f64
    }
}

/// Median microseconds of `work` over 30 launches.
fn microseconds(device: &Device, mut work: impl FnMut()) -> f64 {
    let event = || device.context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    let mut times: Vec<f64> = (0..35)
        .map(|_| {
            let (begin, end) = (event(), event());
            begin.record(&device.stream).unwrap();
            work();
            end.record(&device.stream).unwrap();
            f64::from(begin.elapsed_ms(&end).unwrap()) * 1e3
        })
        .skip(5)
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[test]
#[ignore = "needs a GPU of its own"]
fn measure_attention_of_tokens() {
    let Some(device) = gpu() else { return };
    // About 220 tokens each, as GSM8K's questions with half their answers.
    let lengths = |rows: usize| -> Vec<usize> { (0..rows).map(|i| 150 + i * 53 % 141).collect() };
    let tiny = |dtype| Shape::new(32, 4, 64, 0, dtype);
    let cases = [
        ("TinyLlama, 1319", tiny(Dtype::F16), lengths(1319), 0),
        ("TinyLlama, 1319", tiny(Dtype::F32), lengths(1319), 0),
        ("Llama-2-7B, 600", Shape::new(32, 32, 128, 0, Dtype::F16), lengths(600), 0),
        ("Mistral-7B, 1200", Shape::new(32, 8, 128, 4096, Dtype::F16), lengths(1200), 0),
        ("TinyLlama, 1319 behind 1024", tiny(Dtype::F16), lengths(1319).iter().map(|x| x + 1024).collect(), 1024),
        ("OPT-125M, 64 of 768", Shape::new(12, 12, 64, 0, Dtype::F16), vec![768; 64], 0),
        ("OPT-125M, 64 of 520", Shape::new(12, 12, 64, 0, Dtype::F16), vec![520; 64], 0),
        ("TinyLlama, 64", tiny(Dtype::F16), lengths(64), 0),
        ("TinyLlama, 200 of 2000", tiny(Dtype::F16), vec![2000; 200], 0),
    ];
    for (name, shape, lengths, shared) in cases {
        let load = Load::new(&device, shape, &lengths, shared);
        let rows = lengths.len();
        let (qkv, out) = (load.queries(&device, rows), load.out(&device, rows));
        let positions =
            Buffer::of(&device, &lengths.iter().map(|length| *length as i32 - 1).collect::<Vec<_>>()).unwrap();
        let slots = Buffer::of(&device, &(0..rows as i32).collect::<Vec<_>>()).unwrap();
        let longest = *lengths.iter().max().unwrap();
        // Each block once; what is shared comes from the L2 cache and is counted beside it.
        let (own, all) = (load.bytes(load.blocks * BLOCK_TOKENS), load.bytes(lengths.iter().sum()));
        let configurations: &[(usize, usize)] = if shape.is_f32() {
            &[(4, 1), (4, 2), (8, 1)]
        } else {
            &[(8, 2), (8, 3), (8, 1), (4, 3), (4, 4), (4, 5), (4, 6)]
        };
        for (decode_warps, decode_blocks_per_sm) in configurations.iter().copied() {
            let shape = Shape { decode_warps, decode_blocks_per_sm, ..shape };
            if shape.decode_shared_bytes() > device.shared_bytes {
                continue;
            }
            let attention = Attention::of(&device, shape).unwrap();
            let workspace = Buffer::new(&device, attention.workspace_bytes(rows, longest)).unwrap();
            workspace.fill(&device, 0).unwrap();
            let rows = DecodeRows {
                positions: positions.pointer(),
                slots: slots.pointer(),
                first_row: 0,
                count: rows,
                longest,
                new_kv: false,
                workspace: workspace.pointer(),
                overlaps: false,
            };
            let time = microseconds(&device, || {
                attention.decode(&device, qkv.pointer(), load.paged(), &rows, out.pointer()).unwrap();
            });
            println!(
                "{name} rows, {:?}, {decode_warps} warps × {decode_blocks_per_sm}: {time:.1} µs, {:.0} GB/s read, floor {:.1} µs",
                shape.dtype,
                all / time / 1e3,
                all.min(own) / BANDWIDTH * 1e6,
            );
        }
    }
}

#[test]
#[ignore = "needs a GPU of its own"]
fn measure_attention_of_one_request() {
    const LAUNCHES: usize = 256;
    let Some(device) = gpu() else { return };
    for (name, shape, tokens) in [
        ("TinyLlama", Shape::new(32, 4, 64, 0, Dtype::F16), 300),
        ("TinyLlama", Shape::new(32, 4, 64, 0, Dtype::F16), 128),
        ("TinyLlama", Shape::new(32, 4, 64, 0, Dtype::F16), 1024),
        ("TinyLlama", Shape::new(32, 4, 64, 0, Dtype::F32), 300),
        ("Llama-2-7B", Shape::new(32, 32, 128, 0, Dtype::F16), 300),
    ] {
        // A sequence a launch, so that nothing is read twice; together they are larger than the L2 cache.
        let load = Load::new(&device, shape, &[tokens; LAUNCHES], 0);
        let attention = Attention::of(&device, shape).unwrap();
        let (qkv, out) = (load.queries(&device, LAUNCHES), load.out(&device, LAUNCHES));
        let positions = Buffer::of(&device, &[tokens as i32 - 1; LAUNCHES]).unwrap();
        let slots = Buffer::of(&device, &(0..LAUNCHES as i32).collect::<Vec<_>>()).unwrap();
        let workspace = Buffer::new(&device, attention.workspace_bytes(1, tokens)).unwrap();
        workspace.fill(&device, 0).unwrap();
        for overlaps in [false, true] {
            let launch = |first_row| {
                let rows = DecodeRows {
                    positions: positions.pointer(),
                    slots: slots.pointer(),
                    first_row,
                    count: 1,
                    longest: tokens,
                    new_kv: false,
                    workspace: workspace.pointer(),
                    overlaps,
                };
                attention.decode(&device, qkv.pointer(), load.paged(), &rows, out.pointer())
            };
            let graph = device.capture(|| (0..LAUNCHES).try_for_each(launch)).unwrap().unwrap().unwrap();
            let time = microseconds(&device, || graph.launch().unwrap()) / LAUNCHES as f64;
            let way = if overlaps { "overlapping" } else { "one after another" };
            println!("{name}, {:?}, one row of {tokens} tokens, in a graph, {way}: {time:.2} µs", shape.dtype);
        }
    }
}

#[test]
#[ignore = "needs a GPU of its own"]
fn measure_attention_of_prompts() {
    let Some(device) = gpu() else { return };
    let tiny = |dtype| Shape::new(32, 4, 64, 0, dtype);
    for (name, shape, prompts, shared, own) in [
        ("TinyLlama", tiny(Dtype::F16), 1319, 0, 92),
        ("TinyLlama", tiny(Dtype::F32), 1319, 0, 92),
        ("TinyLlama", tiny(Dtype::F16), 32, 0, 1000),
        ("TinyLlama", tiny(Dtype::F32), 32, 0, 1000),
        ("TinyLlama", tiny(Dtype::F16), 512, 1024, 92),
        ("Llama-2-7B", Shape::new(32, 32, 128, 0, Dtype::F16), 32, 0, 1000),
        ("Llama-2-7B", Shape::new(32, 32, 128, 0, Dtype::F16), 600, 0, 92),
    ] {
        let load = Load::new(&device, shape, &vec![shared + own; prompts], shared);
        let attention = Attention::of(&device, shape).unwrap();
        let rows = prompts * own;
        let (qkv, out) = (load.queries(&device, rows), load.out(&device, rows));
        let tiles: Vec<_> = (0..prompts).flat_map(|i| cut(i * own, own, i, shared, attention.tile())).collect();
        let tiles_buffer = Buffer::of(&device, tiles.as_flattened()).unwrap();
        let time = microseconds(&device, || {
            let tiles = (tiles_buffer.pointer(), tiles.len());
            attention.prefill(&device, qkv.pointer(), load.paged(), tiles, out.pointer(), false).unwrap();
        });
        // Two dot products of head_dim multiply-adds for each head and pair of positions.
        let pairs = prompts * (own * shared + own * (own + 1) / 2);
        let operations = (4 * pairs * shape.heads * shape.head_dim) as f64;
        println!(
            "{name}, {:?}, {prompts} prompts of {own} tokens behind {shared}: {time:.1} µs, {:.1} TFLOP/s",
            shape.dtype,
            operations / time / 1e6
        );
    }
}
