//! Writes small GGUF files: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use crate::tiny_model::{self, TOKENS, f32_bytes, values};

const ALIGNMENT: usize = 32;

/// A GGUF file in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct GgufWriter {
    keys: Vec<(String, u32, Vec<u8>)>,
    /// Name, dimensions innermost first, ggml type, bytes.
    pub(crate) tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl GgufWriter {
    fn key(&mut self, name: &str, kind: u32, bytes: Vec<u8>) -> &mut Self {
        self.keys.retain(|(key, _, _)| key != name);
        self.keys.push((name.to_owned(), kind, bytes));
        self
    }

    pub(crate) fn remove(&mut self, name: &str) -> &mut Self {
        self.keys.retain(|(key, _, _)| key != name);
        self
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.key(name, 8, string(value))
    }

    pub(crate) fn count(&mut self, name: &str, value: u32) -> &mut Self {
        self.key(name, 4, value.to_le_bytes().to_vec())
    }

    pub(crate) fn number(&mut self, name: &str, value: f32) -> &mut Self {
        self.key(name, 6, value.to_le_bytes().to_vec())
    }

    pub(crate) fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.key(name, 7, vec![u8::from(value)])
    }

    pub(crate) fn texts(&mut self, name: &str, values: &[&str]) -> &mut Self {
        self.array(name, 8, values.len(), values.iter().flat_map(|value| string(value)).collect())
    }

    pub(crate) fn numbers(&mut self, name: &str, values: &[f32]) -> &mut Self {
        self.array(name, 6, values.len(), f32_bytes(values))
    }

    pub(crate) fn counts(&mut self, name: &str, values: &[i32]) -> &mut Self {
        self.array(name, 5, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn array(&mut self, name: &str, kind: u32, length: usize, elements: Vec<u8>) -> &mut Self {
        let head = kind.to_le_bytes().into_iter().chain((length as u64).to_le_bytes());
        self.key(name, 9, head.chain(elements).collect())
    }

    /// The shape is given outermost first.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], kind: u32, bytes: Vec<u8>) -> &mut Self {
        self.tensors.retain(|(tensor, _, _, _)| tensor != name);
        let dimensions = shape.iter().rev().map(|size| *size as u64).collect();
        self.tensors.push((name.to_owned(), dimensions, kind, bytes));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.keys.len() as u64).to_le_bytes());
        for (name, kind, bytes) in &self.keys {
            file.extend(string(name));
            file.extend(kind.to_le_bytes());
            file.extend(bytes);
        }
        let mut offset = 0;
        for (name, dimensions, kind, bytes) in &self.tensors {
            file.extend(string(name));
            file.extend((dimensions.len() as u32).to_le_bytes());
            file.extend(dimensions.iter().flat_map(|size| size.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend((offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(ALIGNMENT);
        }
        for (_, _, _, bytes) in &self.tensors {
            // Padding stands before a tensor and not behind the last, so that every byte that is cut off is missed.
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
            file.extend(bytes);
        }
        file
    }
}

fn string(text: &str) -> Vec<u8> {
    (text.len() as u64).to_le_bytes().into_iter().chain(text.bytes()).collect()
}

/// The model of [`tiny_model`] as llama.cpp would write it for `architecture`, in f32.
pub(crate) fn tiny(architecture: &str) -> GgufWriter {
    let mut file = GgufWriter::default();
    let key = |name: &str| format!("{architecture}.{name}");
    file.text("general.architecture", architecture)
        .count(&key("block_count"), 2)
        .count(&key("context_length"), 64)
        .count(&key("embedding_length"), 8)
        .count(&key("feed_forward_length"), 16)
        .count(&key("attention.head_count"), 2)
        .count(&key("attention.head_count_kv"), 1)
        .number(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .number(&key("rope.freq_base"), 5000.0)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .texts("tokenizer.ggml.tokens", &TOKENS)
        .counts("tokenizer.ggml.token_type", &[3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1])
        .texts("tokenizer.ggml.merges", &["a b", "Ġ ab"])
        .count("tokenizer.ggml.bos_token_id", 3)
        .count("tokenizer.ggml.eos_token_id", 2)
        .text("tokenizer.chat_template", "{{ messages[0].content }}");
    for (seed, (name, shape)) in tiny_model::tensors().into_iter().enumerate() {
        let name = llama_cpp_name(&name);
        file.tensor(&name, &shape, 0, f32_bytes(&values(seed, shape.iter().product())));
    }
    file
}

/// `model.layers.1.self_attn.q_proj.weight` → `blk.1.attn_q.weight`.
pub(crate) fn llama_cpp_name(name: &str) -> String {
    [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ]
    .iter()
    .fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours))
}
