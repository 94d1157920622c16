//! What the kernels' parity tests share: inputs with outliers, guarded outputs, tolerances.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::compile::{Options, Source, cubin};
use super::device::{Device, find_libraries, is_present};
use super::element::ElementType;
use crate::model::{Family, ModelConfig};

/// The GPU, or a loud line and nothing.
pub(super) fn gpu() -> Option<Device> {
    if is_present() {
        return Some(Device::open(0).unwrap());
    }
    crate::skip::skip("gpu", "no GPU (or no driver, NVRTC or cuBLASLt) on this machine");
    None
}

/// Compiles every source for the oldest supported GPU and for Hopper, for which NVRTC suffices; without it, a loud line.
pub(super) fn compiles(sources: impl IntoIterator<Item = (Source, Options)>) {
    compiles_for(&[(8, 0), (9, 0)], sources);
}

/// The same for these compute capabilities.
pub(super) fn compiles_for(capabilities: &[(i32, i32)], sources: impl IntoIterator<Item = (Source, Options)>) {
    find_libraries();
    // SAFETY: asks whether a library loads.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        crate::skip::skip("nvrtc", "NVRTC is not on this machine; name its folder in EVALSUITE_CUDA_LIBRARIES");
        return;
    }
    let sources: Vec<(Source, Options)> = sources.into_iter().collect();
    sources.par_iter().for_each(|(source, options)| {
        for capability in capabilities {
            match cubin(*source, options, *capability) {
                Ok(image) => assert!(!image.is_empty(), "{options:?} for {capability:?}: no machine code"),
                Err(error) => panic!("{options:?} for {capability:?}: {error}"),
            }
        }
    });
}

/// Shapes of real families, small: heads of 64 in groups of three, 96 with a window, 128 with biases, 80 with learned positions.
pub(super) const CONFIGS: [fn() -> ModelConfig; 4] = [
    || base(Family::Llama, (192, 320), (3, 1, 64)),
    || ModelConfig { sliding_window: Some(40), ..base(Family::Mistral, (576, 1536), (6, 2, 96)) },
    || base(Family::Qwen2, (2048, 5632), (16, 2, 128)),
    || base(Family::Opt, (320, 1280), (4, 4, 80)),
];

fn base(
    family: Family,
    (hidden, intermediate): (usize, usize),
    (heads, kv_heads, head_dim): (usize, usize, usize),
) -> ModelConfig {
    let example = ModelConfig::example(family).unwrap();
    ModelConfig { vocabulary: 515, hidden, intermediate, heads, kv_heads, head_dim, ..example }
}

/// Repeatable random numbers.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Roughly normal: twelve uniform numbers, less six.
    pub(super) fn normal(&mut self) -> f32 {
        (0..3)
            .map(|_| self.next())
            .map(|bits| (0..4).map(|i| (bits >> (16 * i) & 0xffff) as f32).sum::<f32>())
            .sum::<f32>()
            / 65536.0
            - 6.0
    }

    /// Normal numbers of this spread, one in 97 of them ten times as large.
    pub(super) fn matrix(&mut self, rows: usize, columns: usize, spread: f32) -> Vec<f32> {
        let mut element = || {
            let outlier = if self.below(97) == 0 { 10.0 } else { 1.0 };
            self.normal() * spread * outlier
        };
        (0..rows * columns).map(|_| element()).collect()
    }
}

/// Numbers of about 1, one in 97 thirty times as large; the same for the same seed.
pub(super) fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|index| if index % 97 == 13 { 30.0 * next() } else { next() }).collect()
}

/// Rounded to the element type, as device memory holds them.
pub(super) fn rounded(values: &[f32], element: ElementType) -> Vec<f32> {
    let round = |value: &f32| match element {
        ElementType::F32 => *value,
        ElementType::F16 => half::f16::from_f32(*value).to_f32(),
        ElementType::Bf16 => half::bf16::from_f32(*value).to_f32(),
    };
    values.iter().map(round).collect()
}

/// In device memory, as elements.
pub(super) fn upload(device: &Device, values: &[f32], element: ElementType) -> Buffer {
    Buffer::of(device, &element.encode(values)).unwrap()
}

/// Memory between two guards of 0xFF, itself 0xFF (NaN in every element type) until something is written.
pub(super) struct Guarded {
    buffer: Buffer,
    bytes: usize,
}

const GUARD: usize = 4096;

impl Guarded {
    pub(super) fn new(device: &Device, bytes: usize) -> Self {
        let buffer = Buffer::new(device, bytes + 2 * GUARD).unwrap();
        buffer.fill(device, 0xff).unwrap();
        Self { buffer, bytes }
    }

    pub(super) fn of(device: &Device, values: &[f32], element: ElementType) -> Self {
        let guarded = Self::new(device, values.len() * element.bytes());
        guarded.buffer.write(device, GUARD, &element.encode(values)).unwrap();
        guarded
    }

    pub(super) fn pointer(&self) -> u64 {
        self.buffer.at(GUARD)
    }

    /// What is inside; the guards must be untouched.
    pub(super) fn bytes(&self, device: &Device) -> Vec<u8> {
        let all: Vec<u8> = self.buffer.read(device, 0, self.bytes + 2 * GUARD).unwrap();
        let inside = GUARD..GUARD + self.bytes;
        assert!(
            all[..GUARD].iter().chain(&all[inside.end..]).all(|byte| *byte == 0xff),
            "something was written beside the output"
        );
        all[inside].to_vec()
    }
}

/// Elements as binary32.
pub(super) fn read(device: &Device, guarded: &Guarded, count: usize, element: ElementType) -> Vec<f32> {
    let bytes = guarded.bytes(device);
    let value = |bytes: &[u8]| match element {
        ElementType::F32 => f32::from_le_bytes(bytes.try_into().unwrap()),
        ElementType::F16 => half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
        ElementType::Bf16 => half::bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
    };
    let values: Vec<f32> = bytes.chunks(element.bytes()).map(value).collect();
    assert_eq!(values.len(), count);
    values
}

/// Each value is within the rounding of its element type and a binary32 sum of `terms` terms, the latter relative to the largest
/// expected value: a sum in any order errs by at most terms · 2⁻²⁴ of the sum of magnitudes, and √terms · 2⁻²⁴ of it is what random
/// signs leave; four of these, since outliers dominate single terms.
pub(super) fn assert_close(what: &str, found: &[f32], expected: &[f64], element: ElementType, terms: usize) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let unit = match element {
        ElementType::F32 => 0.0,
        ElementType::F16 => 2.0_f64.powi(-11),
        ElementType::Bf16 => 2.0_f64.powi(-8),
    };
    let sum = 4.0 * (terms as f64).sqrt() * 2.0_f64.powi(-24) * largest;
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = unit * expected.abs() + sum + 2.0_f64.powi(-24);
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= allowed,
            "{what}[{index}]: {found} instead of {expected}, off by {error:e}, allowed {allowed:e}"
        );
    }
}

/// Times a launch by events around many of them, and prints the median beside the time that reading its bytes takes at least.
/// `launch` is given a number that never repeats, to rotate buffers beyond the L2 cache.
pub(super) fn report(device: &Device, name: &str, bytes: usize, launch: impl Fn(usize)) {
    const LAUNCHES: usize = 40;
    let timing = Some(cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT);
    let mut times: Vec<f32> = (0..15)
        .map(|repeat| {
            let start = device.stream.record_event(timing).unwrap();
            (0..LAUNCHES).for_each(|i| launch(repeat * LAUNCHES + i));
            let end = device.stream.record_event(timing).unwrap();
            start.elapsed_ms(&end).unwrap() * 1000.0 / LAUNCHES as f32
        })
        .collect();
    times.sort_by(f32::total_cmp);
    let median = times[times.len() / 2];
    // 4.65 TB/s, what an H200 reads.
    let least = bytes as f32 / 4.65e6;
    println!("{name}: {median:.2} µs, {:.0} GB/s, at least {least:.2} µs", bytes as f32 / median / 1000.0);
}
