//! The names of a model's tensors, in Hugging Face's spelling, and the shapes that go with them.

use super::config::{Family, ModelConfig, NormKind, PositionKind};
use super::features::Experts;

/// In front of the names of a language model that stands beside one that reads images.
const LANGUAGE_MODEL: &str = "language_model.";

/// The tensors of one block, without `.weight` and `.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNames {
    /// The norm before attention.
    pub attention_norm: String,
    /// q, k and v projections.
    pub qkv: [String; 3],
    /// The norms of queries and keys, where there are any.
    pub query_key_norms: [String; 2],
    /// The attention's output projection.
    pub output: String,
    /// The norm behind attention, where there is one.
    pub attention_after: String,
    /// The norm before the MLP.
    pub mlp_norm: String,
    /// gate and up, or up alone where the MLP is not gated.
    pub up: Vec<String>,
    /// The MLP's output projection.
    pub down: String,
    /// The norm behind the MLP, where there is one.
    pub mlp_after: String,
    /// What each head's attention may look at in place of a token, the whole name.
    pub sinks: String,
}

/// The tensors of a layer's experts, without `.weight` and `.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertNames {
    /// The router.
    pub router: String,
    /// The gate of the shared MLP.
    pub shared_gate: String,
    shared: String,
    experts: String,
}

impl ExpertNames {
    /// In front of the experts' numbers.
    pub(super) fn prefix(&self) -> &str {
        &self.experts
    }

    /// gate, up and down of an expert; of the shared MLP where that is `None`.
    pub fn mlp(&self, expert: Option<usize>) -> [String; 3] {
        let prefix = expert.map_or_else(|| self.shared.clone(), |number| format!("{}.{number}", self.experts));
        ["gate_proj", "up_proj", "down_proj"].map(|part| format!("{prefix}.{part}"))
    }
}

/// The names of a model's tensors, under the prefix that the files at hand use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorNames {
    prefix: String,
    family: Family,
}

impl TensorNames {
    /// `present` is every name in the files: a base model is sometimes saved without the leading `model.`, and the language
    /// model of one that reads images too has names of its own.
    pub fn new(config: &ModelConfig, present: &[String]) -> Self {
        let names = config.family.entry().names;
        let rest = names.prefix.split_once('.').map_or("", |(_, rest)| rest);
        let known = [
            names.prefix.to_owned(),
            rest.to_owned(),
            format!("{LANGUAGE_MODEL}{}", names.prefix),
            format!("model.language_model.{rest}"),
        ];
        let is_there = |prefix: &String| present.contains(&format!("{prefix}{}.weight", names.embedding));
        let prefix = known.into_iter().find(is_there).unwrap_or_else(|| names.prefix.to_owned());
        Self { prefix, family: config.family }
    }

    /// The embedding table.
    pub fn embedding(&self) -> String {
        format!("{}{}", self.prefix, self.family.entry().names.embedding)
    }

    /// The table of learned positions.
    pub fn positions(&self) -> String {
        format!("{}{}", self.prefix, self.family.entry().names.positions.unwrap_or_default())
    }

    /// The norm before the output projection.
    pub fn final_norm(&self) -> String {
        format!("{}{}", self.prefix, self.family.entry().names.final_norm)
    }

    /// The output projection, where it is not the embedding table.
    pub fn output(&self) -> String {
        // Beside a vision model the language model has its own.
        let inner = if self.prefix.starts_with(LANGUAGE_MODEL) { LANGUAGE_MODEL } else { "" };
        format!("{inner}{}", self.family.entry().names.head)
    }

    /// One block.
    pub fn block(&self, layer: usize) -> BlockNames {
        let names = self.family.entry().names;
        let name = |rest: &str| self.in_block(layer, rest);
        BlockNames {
            attention_norm: name(names.attention_norm),
            qkv: names.qkv.map(name),
            query_key_norms: names.query_key_norms.map(name),
            output: name(names.output),
            attention_after: name(names.attention_after),
            mlp_norm: name(names.mlp_norm),
            up: names.up.iter().map(|up| name(up)).collect(),
            down: name(names.down),
            mlp_after: name(names.mlp_after),
            sinks: name("self_attn.sinks"),
        }
    }

    /// The experts of one block.
    pub fn experts(&self, layer: usize) -> ExpertNames {
        let name = |rest: &str| self.in_block(layer, rest);
        ExpertNames {
            router: name(self.family.entry().names.router),
            shared_gate: name("mlp.shared_expert_gate"),
            shared: name("mlp.shared_expert"),
            experts: name("mlp.experts"),
        }
    }

    /// Something in a block by its name there.
    pub(super) fn in_block(&self, layer: usize, name: &str) -> String {
        format!("{}{}.{layer}.{name}", self.prefix, self.family.entry().names.blocks)
    }

    /// Name and shape of every tensor that a checkpoint of `config` holds, dense. One block at a time: a damaged config
    /// may claim more blocks than fit into memory, and the first that is missing ends the search.
    pub fn tensors(self, config: &ModelConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
        let outside = self.outside_blocks(config);
        outside.into_iter().chain((0..config.layers).flat_map(move |layer| in_block(config, layer, &self)))
    }

    fn outside_blocks(&self, config: &ModelConfig) -> Tensors {
        let (hidden, table) = (config.hidden, vec![config.vocabulary, config.hidden]);
        let mut tensors = with_bias(&self.embedding(), table.clone(), false);
        if let PositionKind::Learned { offset } = config.position {
            tensors.extend(with_bias(&self.positions(), vec![config.context_tokens + offset, hidden], false));
        }
        tensors.extend(with_bias(&self.final_norm(), vec![hidden], config.norm == NormKind::Layer));
        if !config.tied_embeddings {
            tensors.extend(with_bias(&self.output(), table, false));
        }
        tensors
    }
}

type Tensors = Vec<(String, Vec<usize>)>;

fn in_block(config: &ModelConfig, layer: usize, names: &TensorNames) -> Tensors {
    let (experts, names) = (names.experts(layer), &names.block(layer));
    let (hidden, inside) = (config.hidden, config.intermediate);
    let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let layered = config.norm == NormKind::Layer;
    let [q, k, v] = &names.qkv;
    let mut tensors = Vec::new();
    for (name, shape, bias) in [
        (q, vec![query, hidden], config.qkv_bias),
        (k, vec![key, hidden], config.qkv_bias),
        (v, vec![key, hidden], config.qkv_bias),
        (&names.output, vec![hidden, query], config.output_bias),
    ] {
        tensors.extend(with_bias(name, shape, bias));
    }
    for (norm, width) in norms(config, names) {
        tensors.extend(with_bias(norm, vec![width], layered));
    }
    if config.features.attention_sinks {
        tensors.push((names.sinks.clone(), vec![config.heads]));
    }
    let Some(Experts { count, intermediate, shared, biased, .. }) = config.experts_of(layer) else {
        for up in &names.up {
            tensors.extend(with_bias(up, vec![inside, hidden], config.mlp_bias));
        }
        tensors.extend(with_bias(&names.down, vec![hidden, inside], config.mlp_bias));
        return tensors;
    };
    let mut mlp = |expert, inside| {
        let [gate, up, down] = experts.mlp(expert);
        for (name, shape) in [(gate, vec![inside, hidden]), (up, vec![inside, hidden]), (down, vec![hidden, inside])] {
            tensors.extend(with_bias(&name, shape, biased));
        }
    };
    (0..count).for_each(|expert| mlp(Some(expert), intermediate));
    if let Some(inside) = shared {
        mlp(None, inside);
        tensors.extend(with_bias(&experts.shared_gate, vec![1, hidden], false));
    }
    tensors.extend(with_bias(&experts.router, vec![count, hidden], biased));
    tensors
}

/// Names and widths of a block's norms.
fn norms<'a>(config: &ModelConfig, names: &'a BlockNames) -> Vec<(&'a str, usize)> {
    let mut norms = Vec::new();
    if config.features.has_norms_before() {
        norms.extend([(names.attention_norm.as_str(), config.hidden), (&names.mlp_norm, config.hidden)]);
    }
    if config.features.has_norms_after() {
        norms.extend([(names.attention_after.as_str(), config.hidden), (&names.mlp_after, config.hidden)]);
    }
    let query_key = config.query_key_norms().into_iter().flatten();
    norms.extend(names.query_key_norms.iter().map(String::as_str).zip(query_key));
    norms
}

fn with_bias(name: &str, shape: Vec<usize>, bias: bool) -> Tensors {
    let width = vec![shape.first().copied().unwrap_or_default()];
    let mut tensors = vec![(format!("{name}.weight"), shape)];
    if bias {
        tensors.push((format!("{name}.bias"), width));
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_model_beside_another_has_an_output_of_its_own() {
        let config = ModelConfig::example(Family::Llama).unwrap();
        let output = |embedding: &str| TensorNames::new(&config, &[embedding.to_owned()]).output();
        let alone = output("model.embed_tokens.weight");
        assert_eq!(output("language_model.model.embed_tokens.weight"), format!("language_model.{alone}"));
        assert_eq!(output("model.language_model.embed_tokens.weight"), alone);
    }
}
