//! What some families compute between the GEMMs of the large-batch path beyond the plain decoder. A model has the kernels that it needs, most
//! have none.

use super::elementwise::{NormWeights, PositionTables, Rows, launch_rope};
use crate::EngineError;
use crate::cuda::BLOCK_TOKENS;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::element::ElementType;
use crate::cuda::kernel::{Grid, Kernel, Module};
use crate::model::{ModelConfig, QueryKeyNorm};

const SOURCE: Source = Source { name: "features", text: include_str!("../kernels/features.cu") };

/// As in the kernels.
const THREADS: usize = 256;

/// The kernels that a model needs, compiled for it.
#[derive(Debug, Default)]
pub(crate) struct FeatureKernels {
    scale_embeddings: Option<Kernel>,
    norm_queries_keys: Option<Kernel>,
    /// For layers that know no positions.
    store_kv: Option<Kernel>,
    /// For all others, where a part of each head is rotated.
    rope_and_store_kv: Option<Kernel>,
    add_rows: Option<Kernel>,
    finish_logits: Option<Kernel>,
}

/// Whether what attention and MLP put out is not added as it is.
pub(crate) fn adds_changed_rows(config: &ModelConfig) -> bool {
    config.features.has_norms_after() || config.features.residual_scale.is_some()
}

impl FeatureKernels {
    /// Compiles or finds the kernels.
    pub(crate) fn load(device: &Device, config: &ModelConfig, element: ElementType) -> Result<Self, EngineError> {
        let features = &config.features;
        if features.is_plain() {
            return Ok(Self::default());
        }
        let module = Module::load(device, SOURCE, &options(config, element))?;
        let kernel = |wanted: bool, name| wanted.then(|| module.kernel(name, 0)).transpose();
        Ok(Self {
            scale_embeddings: kernel(features.embedding_scale.is_some(), "scale_embeddings")?,
            norm_queries_keys: kernel(features.query_key_norm.is_some(), "norm_queries_keys")?,
            store_kv: kernel(features.layers.iter().any(|kind| !kind.rotated), "store_kv")?,
            rope_and_store_kv: kernel(features.rotated_elements.is_some(), "rope_and_store_kv")?,
            add_rows: kernel(adds_changed_rows(config), "add_rows")?,
            finish_logits: kernel(features.logits_divisor.is_some() || features.logits_cap.is_some(), "finish_logits")?,
        })
    }

    /// x `[rows, hidden]` times the embeddings' factor. Here and below, `overlaps` means programmatic dependent launch, and what a model does
    /// not have does nothing.
    pub(crate) fn scale_embeddings(
        &self,
        device: &Device,
        (rows, overlaps): (usize, bool),
        x: u64,
    ) -> Result<(), EngineError> {
        let Some(kernel) = &self.scale_embeddings else { return Ok(()) };
        kernel.launch(device, Grid { overlaps, ..Grid::line(rows, THREADS) }, &[x.into()])
    }

    /// Norms of the queries and keys within qkv `[rows, …]`, in place.
    pub(crate) fn norm_queries_keys(
        &self,
        device: &Device,
        (rows, overlaps): (usize, bool),
        qkv: u64,
        norms: Option<&[NormWeights; 2]>,
    ) -> Result<(), EngineError> {
        let (Some(kernel), Some([queries, keys])) = (&self.norm_queries_keys, norms) else { return Ok(()) };
        let arguments = [qkv.into(), queries.weight.into(), keys.weight.into(), queries.epsilon.into()];
        kernel.launch(device, Grid { overlaps, ..Grid::line(rows, THREADS) }, &arguments)
    }

    /// Rotates and stores in place of [`Elementwise::rope_and_store_kv`](super::elementwise::Elementwise::rope_and_store_kv), where that does
    /// not fit the layer: `rotated` says whether this one knows positions. Whether it did.
    pub(crate) fn rope_and_store_kv(
        &self,
        device: &Device,
        rows: &Rows,
        (positions, rotated): (&PositionTables, bool),
        qkv: u64,
        (keys, values): (u64, u64),
    ) -> Result<bool, EngineError> {
        let kernel = if rotated { &self.rope_and_store_kv } else { &self.store_kv };
        let Some(kernel) = kernel else { return Ok(false) };
        launch_rope(kernel, device, rows, positions, qkv, (keys, values))?;
        Ok(true)
    }

    /// x `[rows, hidden]` += y `[rows, hidden]`, normalised and scaled as the model has it.
    pub(crate) fn add_rows(
        &self,
        device: &Device,
        (rows, overlaps): (usize, bool),
        x: u64,
        y: u64,
        norm: Option<&NormWeights>,
    ) -> Result<(), EngineError> {
        let Some(kernel) = &self.add_rows else { return Ok(()) };
        let (weight, epsilon) = norm.map_or((0, 0.0), |norm| (norm.weight, norm.epsilon));
        let arguments = [x.into(), y.into(), weight.into(), epsilon.into()];
        kernel.launch(device, Grid { overlaps, ..Grid::line(rows, THREADS) }, &arguments)
    }

    /// Whether logits are not what the last GEMM puts out.
    pub(crate) fn finishes_logits(&self) -> bool {
        self.finish_logits.is_some()
    }

    /// `count` logits f32, divided and capped in place.
    pub(crate) fn finish_logits(
        &self,
        device: &Device,
        (count, overlaps): (usize, bool),
        logits: u64,
    ) -> Result<(), EngineError> {
        let Some(kernel) = &self.finish_logits else { return Ok(()) };
        let grid = Grid { overlaps, ..Grid::line(count.div_ceil(THREADS), THREADS) };
        kernel.launch(device, grid, &[logits.into(), (count as u64).into()])
    }
}

fn options(config: &ModelConfig, element: ElementType) -> Options {
    let features = &config.features;
    let number = |factor: Option<f64>| format!("{:?}f", factor.unwrap_or(1.0) as f32);
    let mut options = Options::default()
        .with("ELEMENT", element.code())
        .with("HIDDEN", config.hidden)
        .with("HEADS", config.heads)
        .with("KV_HEADS", config.kv_heads)
        .with("HEAD_DIM", config.head_dim)
        .with("ROTATED", config.rotated_elements())
        .with("BLOCK_TOKENS", BLOCK_TOKENS)
        .with(
            "QUERY_KEY_NORM",
            match features.query_key_norm {
                None => 0,
                Some(QueryKeyNorm::Head) => 1,
                Some(QueryKeyNorm::Row) => 2,
            },
        )
        .with("NORM_AFTER", u8::from(features.has_norms_after()))
        .with("EMBEDDING_SCALE", number(features.embedding_scale))
        .with("RESIDUAL_SCALE", number(features.residual_scale))
        .with("LOGITS_DIVISOR", number(features.logits_divisor));
    if features.logits_cap.is_some() {
        options = options.with("LOGITS_CAP", number(features.logits_cap));
    }
    if features.zero_centred_norms {
        options = options.with("ZERO_CENTRED_NORMS", 1);
    }
    options
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
