//! The machine that a run ran on, and the memory that it took (Linux's /proc).

use std::fs;

use serde::{Deserialize, Serialize};

use crate::engine::EngineInfo;
use crate::system::{field, kilobytes, read};

/// What a result depends on besides the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model name.
    pub cpu: String,
    /// Hardware threads that this process may use.
    pub cores: usize,
    /// Instruction sets that matter to a matrix product.
    pub instruction_sets: Vec<String>,
    /// Physical memory; `None` where the system does not say.
    pub memory_bytes: Option<u64>,
    /// The distribution.
    pub system: String,
    /// Kernel release.
    pub kernel: String,
}

impl Machine {
    /// This machine.
    pub fn detect() -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            instruction_sets: instruction_sets(),
            memory_bytes: kilobytes(&read("/proc/meminfo"), "MemTotal"),
            system: read("/etc/os-release")
                .lines()
                .find_map(|line| line.strip_prefix("PRETTY_NAME="))
                .map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned()),
            kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_owned())
                .filter(|release| !release.is_empty())
                .unwrap_or_else(unknown),
        }
    }
}

/// What a peak of memory covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryScope {
    /// Since the dtype's engine began to load.
    Dtype,
    /// Since the process began: the kernel did not let the mark be reset.
    Process,
}

/// The most memory that was resident at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakMemory {
    /// Bytes (`VmHWM`).
    pub bytes: u64,
    /// What it covers.
    pub scope: MemoryScope,
}

/// What an engine took of a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMemory {
    /// Weights.
    pub weights_bytes: u64,
    /// Keys and values at their fullest.
    pub kv_cache_bytes: u64,
    /// Activations and scratch.
    pub workspace_bytes: u64,
    /// What the engine reserved: the whole KV cache, full or not.
    pub reserved_bytes: u64,
}

impl DeviceMemory {
    /// Of an engine whose requests held so much of the KV cache at once; `None` for an engine without a GPU.
    pub fn of(engine: &EngineInfo, kv_cache_bytes: u64) -> Option<Self> {
        let (reserved, weights) = (engine.device_bytes?, engine.weight_bytes?);
        let workspace = reserved.saturating_sub(weights).saturating_sub(engine.cache_bytes?);
        Some(Self { weights_bytes: weights, kv_cache_bytes, workspace_bytes: workspace, reserved_bytes: reserved })
    }

    /// What the work needed.
    pub const fn needed_bytes(&self) -> u64 {
        self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes
    }
}

/// Resets the kernel's high-water mark, if it lets us (`5` into `/proc/self/clear_refs`, see proc(5)).
pub fn reset_peak_memory() -> MemoryScope {
    match fs::write("/proc/self/clear_refs", "5") {
        Ok(()) => MemoryScope::Dtype,
        Err(_) => MemoryScope::Process,
    }
}

/// The high-water mark since the reset that gave `scope`; `None` where the system keeps none.
pub fn peak_memory(scope: MemoryScope) -> Option<PeakMemory> {
    kilobytes(&read("/proc/self/status"), "VmHWM").map(|bytes| PeakMemory { bytes, scope })
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<String> {
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512fp16", is_x86_feature_detected!("avx512fp16")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("amx-bf16", read("/proc/cpuinfo").contains("amx_bf16")),
    ];
    found.into_iter().filter(|(_, present)| *present).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_sets() -> Vec<String> {
    vec![std::env::consts::ARCH.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_follows_an_allocation_where_the_kernel_tells_it() {
        let scope = reset_peak_memory();
        let Some(before) = peak_memory(scope) else {
            crate::skip::skip("VmHWM", "this system has no VmHWM in /proc/self/status");
            return;
        };
        let block = vec![1_u8; 64 << 20];
        let after = peak_memory(scope).expect("it was there a moment ago");
        assert!(std::hint::black_box(&block).iter().all(|byte| *byte == 1));
        // In process scope an earlier test may have set a higher mark; the mark never falls.
        assert!(after.bytes >= before.bytes);
        if scope == MemoryScope::Dtype {
            assert!(after.bytes >= 64 << 20, "{after:?}");
        }
    }
}
