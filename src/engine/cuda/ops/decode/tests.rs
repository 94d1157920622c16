//! The fused decode kernel's shapes: every kernel compiles, and what is supported.

use super::fixture::{models, seven, tiny};
use super::plain;
use super::shape::{DEPTHS, Shape, Variant};
use super::{Packing, supports};
use crate::Dtype;
use crate::cuda::testing::compiles;
use crate::model::ModelConfig;

/// Multiprocessors, and a block's shared memory.
const HOPPER: (usize, usize) = (132, 227 * 1024);

#[test]
fn every_kernel_compiles() {
    for (config, dtype, packing) in &models() {
        assert!(supports(config, *dtype, *packing, HOPPER), "{config:?}");
    }
    // Every precision in one size; tests on a GPU compile them all.
    let few = models().into_iter().filter(|(config, dtype, packing)| match (config.hidden, *dtype) {
        (576, Dtype::F32) | (768, Dtype::Bf16) | (2048, Dtype::F16) | (400, Dtype::Int8) => true,
        (576 | 768, Dtype::Awq) => *packing != Packing::Awq { group_size: Some(32) },
        _ => false,
    });
    // And one on a GPU that has fewer multiprocessors than the model has heads.
    let small = (16, 99 * 1024);
    let wide = ModelConfig { heads: 20, kv_heads: 20, head_dim: 64, ..tiny() };
    let cases = few.map(|model| (model, HOPPER)).chain([((wide, Dtype::F16, Packing::Dense), small)]);
    let sources = cases.flat_map(|((config, dtype, packing), gpu)| {
        let shape = Shape::new(&config, dtype, packing, gpu);
        let mut sources = vec![(plain::SOURCE, shape.options(shape.variants()[0]))];
        sources.extend(shape.variants().into_iter().map(|variant| (shape.source(), shape.options(variant))));
        sources
    });
    compiles(sources);
}

#[test]
fn what_the_kernel_does_not_support_takes_the_large_batch_path() {
    let config = tiny();
    assert!(supports(&config, Dtype::Awq, Packing::Awq { group_size: None }, HOPPER));
    assert!(!supports(&config, Dtype::Awq, Packing::Awq { group_size: Some(96) }, HOPPER), "96 does not divide 2048");
    assert!(!supports(&config, Dtype::Awq, Packing::Awq { group_size: Some(4) }, HOPPER));
    let dense = |config: &ModelConfig, dtype| supports(config, dtype, Packing::Dense, HOPPER);
    assert!(!dense(&ModelConfig { hidden: 2052, ..tiny() }, Dtype::F16));
    assert!(
        !dense(&ModelConfig { heads: 3, kv_heads: 3, head_dim: 24, ..tiny() }, Dtype::F16),
        "24 is no multiple of 16"
    );
    // So wide that not even one row fits into shared memory.
    assert!(!dense(&ModelConfig { intermediate: 200_000, ..tiny() }, Dtype::F32));
}

#[test]
fn variants_take_as_many_rows_as_shared_memory_holds() {
    let variants = |config: &ModelConfig, dtype, packing| Shape::new(config, dtype, packing, HOPPER).variants();
    let variant = |rows, depth| Variant { rows, depth };
    assert_eq!(variants(&tiny(), Dtype::F16, Packing::Dense), [variant(2, 6), variant(8, 6)]);
    assert_eq!(variants(&tiny(), Dtype::F32, Packing::Dense).len(), 4);
    let awq = Packing::Awq { group_size: Some(128) };
    for (packing, dtype) in [(awq, Dtype::Awq), (Packing::Dense, Dtype::F16), (Packing::Dense, Dtype::F32)] {
        let shape = Shape::new(&seven(), dtype, packing, HOPPER);
        let variants = shape.variants();
        assert!(variants.iter().all(|variant| DEPTHS.contains(&variant.depth)), "{variants:?}");
        assert!(variants.iter().all(|variant| shape.shared_bytes(*variant) <= shape.max_shared_bytes), "{variants:?}");
        assert!(variants.is_sorted_by(|a, b| a.rows < b.rows), "{variants:?}");
    }
}
