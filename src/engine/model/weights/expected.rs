//! The tensors that a configuration calls for, held against those that the files have.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::engine::model::{ModelConfig, NormKind, PositionKind};

/// Refuses weights that lack a tensor of the model or have one in another shape; `place` names the files.
pub(in crate::engine::model) fn check(
    config: &ModelConfig,
    shapes: &BTreeMap<String, Vec<usize>>,
    place: &str,
) -> Result<(), EngineError> {
    let family = format!("{:?}", config.family).to_lowercase();
    let check_one = |(name, shape): (String, Vec<usize>)| match find(shapes, &name) {
        None => Err(EngineError::invalid(
            format!("no tensor `{name}` in {place}: a {family} model needs one of shape {shape:?}"),
            "fetch the weights again, and take them and config.json from one repository",
        )),
        Some(found) if *found != shape => Err(EngineError::invalid(
            format!("tensor `{name}` in {place} has shape {found:?}, but the config calls for {shape:?}"),
            "take the weights and config.json from one repository and one revision",
        )),
        Some(_) => Ok(()),
    };
    expected(config).try_for_each(check_one)
}

/// Name and shape of every tensor that a configuration calls for. One block at a time: a damaged config may claim more
/// blocks than fit into memory, and the first that is missing ends the search.
pub(in crate::engine::model) fn expected(config: &ModelConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
    outside_blocks(config).into_iter().chain((0..config.layers).flat_map(|layer| block(config, layer)))
}

/// OPT checkpoints were saved with and without the leading `model.`.
fn find<'a>(shapes: &'a BTreeMap<String, Vec<usize>>, name: &str) -> Option<&'a Vec<usize>> {
    shapes.get(name).or_else(|| shapes.get(name.strip_prefix("model.").filter(|rest| rest.starts_with("decoder."))?))
}

type Expected = Vec<(String, Vec<usize>)>;

fn outside_blocks(config: &ModelConfig) -> Expected {
    let table = vec![config.vocabulary, config.hidden];
    let mut tensors = match config.position {
        PositionKind::Rotary { .. } => vec![("model.embed_tokens.weight".to_owned(), table.clone())],
        PositionKind::Learned { offset } => vec![
            ("model.decoder.embed_tokens.weight".to_owned(), table.clone()),
            ("model.decoder.embed_positions.weight".to_owned(), vec![config.context_tokens + offset, config.hidden]),
        ],
    };
    let norm = match config.norm {
        NormKind::Rms => "model.norm",
        NormKind::Layer => "model.decoder.final_layer_norm",
    };
    tensors.extend(with_bias(norm, vec![config.hidden], config.norm == NormKind::Layer));
    if !config.tied_embeddings {
        tensors.push(("lm_head.weight".to_owned(), table));
    }
    tensors
}

fn block(config: &ModelConfig, layer: usize) -> Expected {
    let (hidden, inside) = (config.hidden, config.intermediate);
    let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let layered = config.norm == NormKind::Layer;
    let (prefix, names) = if layered {
        let names = ["self_attn.out_proj", "self_attn_layer_norm", "final_layer_norm"];
        (format!("model.decoder.layers.{layer}"), names)
    } else {
        let names = ["self_attn.o_proj", "input_layernorm", "post_attention_layernorm"];
        (format!("model.layers.{layer}"), names)
    };
    let [output, attention_norm, mlp_norm] = names;
    let mut parts = vec![
        ("self_attn.q_proj", vec![query, hidden], config.qkv_bias),
        ("self_attn.k_proj", vec![key, hidden], config.qkv_bias),
        ("self_attn.v_proj", vec![key, hidden], config.qkv_bias),
        (output, vec![hidden, query], config.output_bias),
        (attention_norm, vec![hidden], layered),
        (mlp_norm, vec![hidden], layered),
    ];
    if layered {
        parts.push(("fc1", vec![inside, hidden], config.mlp_bias));
        parts.push(("fc2", vec![hidden, inside], config.mlp_bias));
    } else {
        parts.push(("mlp.gate_proj", vec![inside, hidden], config.mlp_bias));
        parts.push(("mlp.up_proj", vec![inside, hidden], config.mlp_bias));
        parts.push(("mlp.down_proj", vec![hidden, inside], config.mlp_bias));
    }
    parts.into_iter().flat_map(|(name, shape, bias)| with_bias(&format!("{prefix}.{name}"), shape, bias)).collect()
}

fn with_bias(name: &str, shape: Vec<usize>, bias: bool) -> Expected {
    let width = vec![shape.first().copied().unwrap_or_default()];
    let mut tensors = vec![(format!("{name}.weight"), shape)];
    if bias {
        tensors.push((format!("{name}.bias"), width));
    }
    tensors
}
