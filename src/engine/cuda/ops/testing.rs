//! What the tests of the operations share.

use crate::engine::cuda::device::Device;
pub(super) use crate::engine::cuda::testing::{card, compiles};

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

/// Times a launch by events around many of them, and prints the median beside the floor of the bytes that it must move.
/// `launch` is given a number that never repeats, to rotate buffers beyond the second-level cache.
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
    let floor = bytes as f32 / 4.65e6;
    println!("{name}: {median:.2} µs, {:.0} GB/s, floor {floor:.2} µs", bytes as f32 / median / 1000.0);
}
