//! GGUF: tensors, tokenizers and configuration, from small files written here and from a real one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use evalsuite::engine::model::{Family, ModelSource, PositionKind, RotaryScaling, TensorValues};
use half::{bf16, f16};

use crate::gguf_writer::{GgufWriter, llama_cpp_name, tiny};
use crate::skip::skip;
use crate::tiny_model::{open, refusal, tensors, values};
use crate::{shared, smollm2};

pub(crate) struct GgufFile {
    folder: tempfile::TempDir,
}

impl GgufFile {
    pub(crate) fn new(file: &GgufWriter) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tiny.gguf"), file.bytes()).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tiny.gguf")
    }

    pub(crate) fn open(&self) -> ModelSource {
        open(&self.path()).unwrap()
    }
}

pub(crate) fn f32s(source: &ModelSource, name: &str) -> Vec<f32> {
    match source.tensors.read(name).unwrap().values {
        TensorValues::F32(values) => values,
        TensorValues::F16(values) => values.into_iter().map(f16::to_f32).collect(),
        TensorValues::Bf16(values) => values.into_iter().map(bf16::to_f32).collect(),
        TensorValues::I32(_) => panic!("{name} holds whole numbers"),
    }
}

/// Rows of each head of 4 as llama.cpp's converter leaves them: 0, 2, 1, 3 of the Hugging Face order.
fn interleave(values: &[f32], row: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks(row).collect();
    rows.chunks(4).flat_map(|head| [head[0], head[2], head[1], head[3]].concat()).collect()
}

#[test]
fn llama_rows_of_q_and_k_are_put_back_in_order_and_qwen2_rows_left_alone() {
    for (architecture, family) in [("llama", Family::Llama), ("qwen2", Family::Qwen2)] {
        let mut file = tiny(architecture);
        for (seed, part) in [(50, "q"), (51, "k"), (52, "v")] {
            let width = if part == "q" { 8 } else { 4 };
            for layer in 0..2 {
                let bytes = crate::tiny_model::f32_bytes(&values(seed, width));
                file.tensor(&format!("blk.{layer}.attn_{part}.bias"), &[width], 0, bytes);
            }
        }
        let source = GgufFile::new(&file).open();
        assert_eq!((source.config.family, source.config.qkv_bias), (family, true));
        assert_eq!((source.name.as_str(), source.stored_as.as_str()), ("tiny", "f32"));
        assert!(source.config.tied_embeddings);
        for (seed, (name, shape)) in tensors().iter().enumerate() {
            let stored = values(seed, shape.iter().product());
            let read = f32s(&source, name);
            if family == Family::Llama && (name.contains("q_proj") || name.contains("k_proj")) {
                assert_ne!(read, stored, "{name}");
                assert_eq!(interleave(&read, 8), stored, "{name}");
            } else {
                assert_eq!(read, stored, "{name}");
            }
        }
        let bias = f32s(&source, "model.layers.1.self_attn.q_proj.bias");
        let expected = values(50, 8);
        assert_eq!(if family == Family::Llama { interleave(&bias, 1) } else { bias }, expected);
    }
}

#[test]
fn the_configuration_comes_from_the_keys() {
    let source = GgufFile::new(&tiny("llama")).open();
    let config = &source.config;
    assert_eq!((config.vocabulary, config.hidden, config.intermediate, config.layers), (12, 8, 16, 2));
    assert_eq!((config.heads, config.kv_heads, config.head_dim, config.context_tokens), (2, 1, 4, 64));
    assert_eq!((config.norm_epsilon as f32).to_bits(), 1e-5f32.to_bits());
    assert_eq!(config.position, PositionKind::Rotary { theta: 5000.0, scaling: RotaryScaling::None });
    let mut linear = tiny("llama");
    linear.text("llama.rope.scaling.type", "linear").number("llama.rope.scaling.factor", 4.0);
    let scaling = RotaryScaling::Linear { factor: 4.0 };
    let position = |file: &GgufWriter| GgufFile::new(file).open().config.position;
    assert_eq!(position(&linear), PositionKind::Rotary { theta: 5000.0, scaling });
    // A factor without a type is a linear one; its key was another before November 2023, and 0 is none.
    linear.remove("llama.rope.scaling.type");
    assert_eq!(position(&linear), PositionKind::Rotary { theta: 5000.0, scaling });
    linear.number("llama.rope.scale_linear", 2.0);
    assert_eq!(position(&linear), PositionKind::Rotary { theta: 5000.0, scaling }, "the newer key comes first");
    linear.remove("llama.rope.scaling.factor").number("llama.rope.scale_linear", 4.0);
    assert_eq!(position(&linear), PositionKind::Rotary { theta: 5000.0, scaling });
    linear.text("llama.rope.scaling.type", "linear");
    assert_eq!(position(&linear), PositionKind::Rotary { theta: 5000.0, scaling });
    let unscaled = PositionKind::Rotary { theta: 5000.0, scaling: RotaryScaling::None };
    linear.number("llama.rope.scale_linear", 0.0);
    assert_eq!(position(&linear), unscaled);
    linear.number("llama.rope.scale_linear", 4.0).text("llama.rope.scaling.type", "none");
    assert_eq!(position(&linear), unscaled);
    linear
        .text("llama.rope.scaling.type", "yarn")
        .number("llama.rope.scaling.factor", 4.0)
        .count("llama.rope.scaling.original_context_length", 32);
    let PositionKind::Rotary { scaling, .. } = position(&linear) else { panic!("rotary") };
    let magnitude = 0.1 * 4.0_f64.ln() + 1.0;
    let yarn = RotaryScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_context_tokens: 32,
        truncate: true,
        magnitude,
    };
    assert_eq!(scaling, yarn);
    linear.remove("llama.rope.scaling.factor").remove("llama.rope.scaling.type");
    linear.number("llama.rope.scale_linear", -4.0);
    assert!(refusal(&GgufFile::new(&linear).path()).contains("`llama.rope.scale_linear` is -4"));
}

/// Random-looking blocks of a ggml type, and their values by the formulas of the format's description.
struct Blocks {
    name: &'static str,
    number: u32,
    elements: usize,
    bytes: usize,
    /// Where in a block binary16 scales stand.
    scales: &'static [usize],
    value: fn(&[u8], usize) -> f32,
}

fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Element `i` of 32 four-bit numbers: the low nibbles first, then the high ones.
fn nibble(packed: &[u8], i: usize) -> u8 {
    if i < 16 { packed[i] & 15 } else { packed[i - 16] >> 4 }
}

fn fifth_bit(block: &[u8], at: usize, i: usize) -> u8 {
    (block[at + i / 8] >> (i % 8) & 1) << 4
}

/// Six-bit scale and minimum of sub-block `j` out of twelve bytes.
fn scale_and_minimum(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

fn k_nibble(packed: &[u8], i: usize) -> u8 {
    let byte = packed[i / 64 * 32 + i % 32];
    if (i / 32).is_multiple_of(2) { byte & 15 } else { byte >> 4 }
}

const BLOCKS: [Blocks; 8] = [
    Blocks {
        name: "Q8_0",
        number: 8,
        elements: 32,
        bytes: 34,
        scales: &[0],
        value: |b, i| scale(b, 0) * f32::from(b[2 + i].cast_signed()),
    },
    Blocks {
        name: "Q4_0",
        number: 2,
        elements: 32,
        bytes: 18,
        scales: &[0],
        value: |b, i| scale(b, 0) * (f32::from(nibble(&b[2..], i)) - 8.0),
    },
    Blocks {
        name: "Q4_1",
        number: 3,
        elements: 32,
        bytes: 20,
        scales: &[0, 2],
        value: |b, i| scale(b, 0) * f32::from(nibble(&b[4..], i)) + scale(b, 2),
    },
    Blocks {
        name: "Q5_0",
        number: 6,
        elements: 32,
        bytes: 22,
        scales: &[0],
        value: |b, i| scale(b, 0) * (f32::from(nibble(&b[6..], i) | fifth_bit(b, 2, i)) - 16.0),
    },
    Blocks {
        name: "Q5_1",
        number: 7,
        elements: 32,
        bytes: 24,
        scales: &[0, 2],
        value: |b, i| scale(b, 0) * f32::from(nibble(&b[8..], i) | fifth_bit(b, 4, i)) + scale(b, 2),
    },
    Blocks {
        name: "Q4_K",
        number: 12,
        elements: 256,
        bytes: 144,
        scales: &[0, 2],
        value: |b, i| {
            let (s, m) = scale_and_minimum(&b[4..16], i / 32);
            scale(b, 0) * s * f32::from(k_nibble(&b[16..], i)) - scale(b, 2) * m
        },
    },
    Blocks {
        name: "Q5_K",
        number: 13,
        elements: 256,
        bytes: 176,
        scales: &[0, 2],
        value: |b, i| {
            let (s, m) = scale_and_minimum(&b[4..16], i / 32);
            let high = (b[16 + i % 32] >> (i / 32) & 1) << 4;
            scale(b, 0) * s * f32::from(k_nibble(&b[48..], i) | high) - scale(b, 2) * m
        },
    },
    Blocks {
        name: "Q6_K",
        number: 14,
        elements: 256,
        bytes: 210,
        scales: &[208],
        value: |b, i| {
            // Two halves of 128; in each, four runs of 32 share 64 bytes of low and 32 of high bits.
            let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
            let low = b[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15;
            let high = b[128 + half * 32 + l] >> (run * 2) & 3;
            let sub_scale = f32::from(b[192 + i / 16].cast_signed());
            scale(b, 208) * sub_scale * (f32::from(low | high << 4) - 32.0)
        },
    },
];

#[test]
fn blocks_of_every_type_dequantise_to_the_formats_formulas() {
    for blocks in &BLOCKS {
        // One row of the embedding is one or more whole blocks; the model is as wide as the widest block.
        let width = 256;
        let mut file = GgufWriter::default();
        file.clone_from(&tiny("llama"));
        file.count("llama.embedding_length", width)
            .count("llama.attention.head_count", 64)
            .count("llama.attention.head_count_kv", 32);
        let width = width as usize;
        for (name, shape) in tensors() {
            let shape: Vec<usize> = match llama_cpp_name(&name) {
                part if part.contains("attn_q") || part.contains("attn_output") => vec![width, width],
                part if part.contains("attn_k") || part.contains("attn_v") => vec![width / 2, width],
                part if part.contains("ffn_down") => vec![width, 16],
                _ => shape.into_iter().map(|size| if size == 8 { width } else { size }).collect(),
            };
            let zeros = vec![0; shape.iter().product::<usize>() * 4];
            file.tensor(&llama_cpp_name(&name), &shape, 0, zeros);
        }
        let count = 12 * width / blocks.elements;
        let mut bytes: Vec<u8> = (0..count * blocks.bytes).map(|i| ((i * i * 7 + i * 13) >> 3) as u8).collect();
        for (i, block) in bytes.chunks_mut(blocks.bytes).enumerate() {
            for at in blocks.scales {
                let scale = f16::from_f32(0.01 + i as f32 * 0.003 - *at as f32 * 0.0001);
                block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        file.tensor("token_embd.weight", &[12, width], blocks.number, bytes.clone());
        let expected: Vec<f32> = bytes
            .chunks(blocks.bytes)
            .flat_map(|block| (0..blocks.elements).map(|i| (blocks.value)(block, i)))
            .collect();
        let source = GgufFile::new(&file).open();
        assert_eq!(f32s(&source, "model.embed_tokens.weight"), expected, "{}", blocks.name);
    }
}

/// The tiny model in two parts, as `llama-gguf-split` cuts: the first has the keys.
fn split(folder: &std::path::Path) -> [PathBuf; 2] {
    let (mut first, mut second) = (tiny("llama"), GgufWriter::default());
    let whole = first.tensors.len() as u32;
    second.tensors = first.tensors.split_off(whole as usize / 2);
    for (number, part) in [&mut first, &mut second].into_iter().enumerate() {
        part.count("split.no", number as u32).count("split.count", 2).count("split.tensors.count", whole);
    }
    let paths = [1, 2].map(|number| folder.join(format!("tiny-{number:05}-of-00002.gguf")));
    std::fs::write(&paths[0], first.bytes()).unwrap();
    std::fs::write(&paths[1], second.bytes()).unwrap();
    paths
}

#[test]
fn a_split_file_is_read_whole_from_any_of_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let paths = split(folder.path());
    let whole = GgufFile::new(&tiny("llama")).open();
    let sources = paths.each_ref().map(|path| open(path).unwrap());
    for source in &sources {
        assert_eq!(source.tensors.names(), whole.tensors.names());
        for name in whole.tensors.names() {
            assert_eq!(f32s(source, &name), f32s(&whole, &name), "{name}");
        }
        assert_eq!((&source.config, source.sha256.wait().unwrap()), (&whole.config, sources[0].sha256.wait().unwrap()));
    }
    let bytes = std::fs::read(&paths[1]).unwrap();
    std::fs::write(&paths[1], [&bytes[..bytes.len() - 1], &[bytes[bytes.len() - 1] ^ 1]].concat()).unwrap();
    assert_ne!(
        open(&paths[0]).unwrap().sha256.wait().unwrap(),
        sources[0].sha256.wait().unwrap(),
        "every part decides"
    );
}

#[test]
fn parts_that_do_not_make_a_whole_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = split(folder.path());
    let away = folder.path().join("away");
    std::fs::rename(&second, &away).unwrap();
    let error = refusal(&first);
    assert!(error.contains("part 1 of 2 (`split.count`)") && error.contains("tiny-00002-of-00002.gguf"), "{error}");
    std::fs::copy(&first, &second).unwrap();
    assert!(refusal(&first).contains("`split.no`"));
    std::fs::rename(&away, &second).unwrap();
    let other = folder.path().join("other.gguf");
    std::fs::copy(&first, &other).unwrap();
    assert!(refusal(&other).contains("x-00001-of-00002.gguf"));
    let mut smaller = GgufWriter::default();
    smaller.count("split.no", 1).count("split.count", 2);
    std::fs::write(&second, smaller.bytes()).unwrap();
    assert!(refusal(&first).contains("`split.tensors.count`"));
}

#[test]
fn half_precisions_stay_as_they_are() {
    let numbers = values(0, 96);
    let f16s: Vec<f16> = numbers.iter().map(|x| f16::from_f32(*x)).collect();
    let bf16s: Vec<bf16> = numbers.iter().map(|x| bf16::from_f32(*x)).collect();
    let mut file = tiny("llama");
    file.tensor("token_embd.weight", &[12, 8], 1, f16s.iter().flat_map(|x| x.to_le_bytes()).collect());
    let read = GgufFile::new(&file).open().tensors.read("model.embed_tokens.weight").unwrap();
    assert_eq!((read.shape, read.values), (vec![12, 8], TensorValues::F16(f16s)));
    file.tensor("token_embd.weight", &[12, 8], 30, bf16s.iter().flat_map(|x| x.to_le_bytes()).collect());
    let read = GgufFile::new(&file).open().tensors.read("model.embed_tokens.weight").unwrap();
    assert_eq!(read.values, TensorValues::Bf16(bf16s));
}

#[test]
fn the_byte_level_tokenizer_follows_its_keys() {
    let mut file = tiny("llama");
    let tokenizer = GgufFile::new(&file).open().tokenizer;
    assert_eq!(tokenizer.encode("ab ab12<|im_end|>", true).unwrap(), [10, 11, 8, 9, 2]);
    assert_eq!(tokenizer.decode(&[10, 11, 8, 2]).unwrap(), "ab ab1");
    assert_eq!(tokenizer.bos_token.as_deref(), Some("<s>"));
    assert_eq!(tokenizer.eos_ids, BTreeSet::from([2]));
    assert_eq!(tokenizer.chat_template.as_deref(), Some("{{ messages[0].content }}"));
    file.flag("tokenizer.ggml.add_bos_token", true).count("tokenizer.ggml.eot_token_id", 4);
    let tokenizer = GgufFile::new(&file).open().tokenizer;
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [3, 10]);
    assert_eq!(tokenizer.encode("ab", false).unwrap(), [10]);
    assert_eq!(tokenizer.eos_ids, BTreeSet::from([2, 4]));
    assert_eq!(GgufFile::new(&qwen2()).open().tokenizer.bos_id, None, "Qwen2 has no BOS");
}

fn qwen2() -> GgufWriter {
    let mut file = tiny("qwen2");
    file.text("tokenizer.ggml.pre", "qwen2");
    file
}

#[test]
fn the_pre_tokenizer_decides_how_digits_are_cut() {
    let mut file = tiny("llama");
    let mut tokens = crate::tiny_model::TOKENS.to_vec();
    // Merges across digits show where a word of digits ends: nowhere, at every digit, after three of them.
    tokens[7] = "12";
    tokens[11] = "121";
    file.texts("tokenizer.ggml.tokens", &tokens).texts("tokenizer.ggml.merges", &["1 2", "12 1"]);
    for (pre, expected) in [
        ("gpt-2", vec![8, 11]),
        ("default", vec![8, 11]),
        ("smollm", vec![8, 8, 9, 8]),
        ("qwen2", vec![8, 8, 9, 8]),
        ("llama-bpe", vec![3, 8, 7, 8]),
        // What llama.cpp takes for one of these.
        ("phi-2", vec![8, 11]),
        ("exaone4", vec![8, 11]),
        ("deepseek-r1-qwen", vec![8, 8, 9, 8]),
        ("kormo", vec![8, 8, 9, 8]),
        ("f2llmv2", vec![8, 8, 9, 8]),
        ("megrez", vec![8, 8, 9, 8]),
        ("llama3", vec![3, 8, 7, 8]),
        ("llama-v3", vec![3, 8, 7, 8]),
        ("falcon3", vec![3, 8, 7, 8]),
    ] {
        file.text("tokenizer.ggml.pre", pre);
        assert_eq!(GgufFile::new(&file).open().tokenizer.encode("1121", true).unwrap(), expected, "{pre}");
    }
    file.text("tokenizer.ggml.pre", "qwen3");
    let error = refusal(&GgufFile::new(&file).path());
    assert!(error.contains("unknown pre-tokenizer `qwen3`") && error.contains("did you mean `qwen2`"), "{error}");
}

/// Pieces with scores, the bytes of `é` among them.
fn sentence_piece() -> GgufWriter {
    let pieces = [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<0xC3>", 0.0, 6),
        ("<0xA9>", 0.0, 6),
        ("▁", -20.0, 1),
        ("a", -21.0, 1),
        ("b", -22.0, 1),
        ("c", -23.0, 1),
        ("ab", -1.0, 1),
        ("bc", -2.0, 1),
        ("▁a", -3.0, 1),
    ];
    let mut file = tiny("llama");
    file.text("tokenizer.ggml.model", "llama")
        .remove("tokenizer.ggml.pre")
        .remove("tokenizer.ggml.merges")
        .texts("tokenizer.ggml.tokens", &pieces.map(|(piece, _, _)| piece))
        .numbers("tokenizer.ggml.scores", &pieces.map(|(_, score, _)| score))
        .counts("tokenizer.ggml.token_type", &pieces.map(|(_, _, kind)| kind))
        .count("tokenizer.ggml.bos_token_id", 1)
        .count("tokenizer.ggml.eos_token_id", 2);
    file
}

#[test]
fn sentencepiece_joins_the_best_neighbours_first() {
    let file = GgufFile::new(&sentence_piece());
    let tokenizer = file.open().tokenizer;
    let cases: [(&str, &[u32]); 8] = [
        // ▁ a b c: `ab` (-1) beats `bc` (-2) and `▁a` (-3).
        ("abc", &[5, 9, 8]),
        // ▁ b c: only `bc` can be joined.
        ("bc", &[5, 10]),
        ("a", &[11]),
        // Two words: ▁ ab ▁a.
        ("ab a", &[5, 9, 11]),
        // `é` is no piece: its two bytes.
        ("aé", &[11, 3, 4]),
        // `z` is no piece, and its byte neither.
        ("az", &[11, 0]),
        // Unknowns in a row are one.
        ("zzb", &[5, 0, 7]),
        ("a</s>", &[11, 2]),
    ];
    for (text, expected) in cases {
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{text}");
    }
    assert_eq!(tokenizer.encode("a", true).unwrap(), [1, 11], "BOS unless the file says otherwise");
    assert_eq!(tokenizer.decode(&[1, 5, 9, 8, 11, 3, 4, 2]).unwrap(), "abc aé");
    let mut plain = sentence_piece();
    plain.flag("tokenizer.ggml.add_bos_token", false).flag("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = GgufFile::new(&plain).open().tokenizer;
    assert_eq!(tokenizer.encode("abc", true).unwrap(), [9, 8]);
}

#[test]
fn variants_of_the_equations_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut GgufWriter)| {
        let mut file = tiny("llama");
        change(&mut file);
        refusal(&GgufFile::new(&file).path())
    };
    let has =
        |error: String, word: &str| assert!(error.contains(word) && error.contains("tiny.gguf"), "{word}: {error}");
    has(refused(&|file| _ = file.text("general.architecture", "lama")), "unknown family `lama`");
    has(refused(&|file| _ = file.count("llama.expert_count", 8)), "mixture of experts");
    has(refused(&|file| _ = file.count("llama.rope.dimension_count", 2)), "a part of each head");
    has(refused(&|file| _ = file.counts("llama.attention.head_count_kv", &[1, 1])), "from layer to layer");
    has(refused(&|file| _ = file.tensor("rope_freqs.weight", &[2], 0, vec![0; 8])), "rope_freqs.weight");
    has(refused(&|file| _ = file.text("llama.rope.scaling.type", "longrope")), "unknown rotary scaling `longrope`");
    has(refused(&|file| _ = file.text("tokenizer.ggml.model", "bert")), "unknown tokenizer model `bert`");
    has(refused(&|file| _ = file.tensor("token_embd.weight", &[12, 8], 16, vec![0; 96])), "ggml type 16");
    has(refused(&|file| _ = file.remove("llama.block_count")), "`llama.block_count` is missing");
    has(refused(&|file| _ = file.count("tokenizer.ggml.eos_token_id", 99)), "`tokenizer.ggml.eos_token_id` is 99");
    has(refused(&|file| _ = file.numbers("tokenizer.ggml.token_type", &[1.0])), "1 long, but there are 12");
    has(refused(&|file| _ = file.texts("tokenizer.ggml.merges", &["ab"])), "not a pair");
    has(refused(&|file| _ = file.count("general.alignment", 0)), "not a power of two");
}

fn present(path: PathBuf, variable: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let need = if variable == "EVALSUITE_SMOLLM2" { "smollm2" } else { "shared" };
    skip(need, format!("{} is absent; {variable} can name it elsewhere", path.display()));
    None
}

#[test]
fn a_file_s_own_label_is_what_tables_say() {
    // Blocks of 32 values of zeros: a scale, and sixteen bytes of codes.
    let labelled = |label: u32, element: u32, bytes: usize| {
        let mut file = tiny("llama");
        file.count("general.file_type", label);
        file.tensor("blk.0.extra.weight", &[2, 32], element, vec![0; bytes]);
        GgufFile::new(&file).open()
    };
    let mixture = labelled(15, 2, 2 * 18);
    assert_eq!(mixture.stored_as, "Q4_K_M");
    assert!(mixture.is_quantized(), "though most bytes are f32");
    let plain = labelled(15, 0, 2 * 32 * 4);
    assert_eq!((plain.stored_as.as_str(), plain.is_quantized()), ("f32", false), "no tensor bears the label out");
    assert_eq!(plain.weight_bytes - mixture.weight_bytes, 2 * (32 * 4 - 18));
    assert_eq!(labelled(1024 + 2, 2, 2 * 18).stored_as, "Q4_0", "the converter guessed");
    assert_eq!(labelled(999, 2, 2 * 18).stored_as, "f32");
}

#[test]
fn smollm2_is_what_it_is_published_as() {
    let Some(path) = present(smollm2(), "EVALSUITE_SMOLLM2") else { return };
    let source = open(&path).unwrap();
    let config = &source.config;
    assert_eq!((config.layers, config.hidden, config.heads, config.kv_heads), (30, 576, 9, 3));
    assert_eq!((config.vocabulary, config.intermediate, config.context_tokens), (49152, 1536, 8192));
    assert!(config.tied_embeddings && !config.qkv_bias);
    assert_eq!(config.position, PositionKind::Rotary { theta: 100_000.0, scaling: RotaryScaling::None });
    assert_eq!((source.stored_as.as_str(), source.weight_bytes), ("Q4_1", 96_576_768));
    assert!(source.tokenizer.chat_template.as_deref().unwrap().contains("add_generation_prompt"));
    assert_eq!(source.tokenizer.eos_ids, BTreeSet::from([0, 2]));
    assert_eq!(
        source.tokenizer.sha256.wait().unwrap(),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
}

#[test]
fn smollm2_tokenizes_the_reference_prompts() {
    let Some(path) = present(smollm2(), "EVALSUITE_SMOLLM2") else { return };
    let reference = shared().join("reference/smollm2-f32-greedy.json");
    let Some(reference) = present(reference, "EVALSUITE_SHARED") else { return };
    let tokenizer = open(&path).unwrap().tokenizer;
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    let samples = reference["samples"].as_array().unwrap();
    assert!(!samples.is_empty());
    for sample in samples {
        let expected: Vec<u32> = serde_json::from_value(sample["prompt_token_ids"].clone()).unwrap();
        let text = sample["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{}", sample["id"]);
    }
}

/// `EVALSUITE_SMOLLM2_FOLDER` is what `gguf_to_hf.py SmolLM2….gguf FOLDER f32` wrote: the same tensors and the same
/// tokenizer, read by Python.
#[test]
fn smollm2_equals_the_folder_that_python_made_of_it() {
    let Some(path) = present(smollm2(), "EVALSUITE_SMOLLM2") else { return };
    let Some(folder) = std::env::var_os("EVALSUITE_SMOLLM2_FOLDER") else {
        skip(
            "smollm2-folder",
            "set EVALSUITE_SMOLLM2_FOLDER to what gguf_to_hf.py wrote in f32 to compare every tensor",
        );
        return;
    };
    let (ours, theirs) = (open(&path).unwrap(), open(&PathBuf::from(folder)).unwrap());
    assert_eq!(ours.tensors.names(), theirs.tensors.names());
    for name in ours.tensors.names() {
        assert!(ours.tensors.read(&name).unwrap() == theirs.tensors.read(&name).unwrap(), "{name} differs");
    }
    assert_eq!(ours.tokenizer.tokenizer.get_vocab(true), theirs.tokenizer.tokenizer.get_vocab(true));
    assert_eq!(ours.tokenizer.chat_template, theirs.tokenizer.chat_template);
    assert_eq!(ours.tokenizer.eos_ids, theirs.tokenizer.eos_ids);
}
