//! GEMMs: y = x · Wᵀ (+ bias) (+ y), sums in binary32 or wider; in binary32 on Hopper also with the MLP's gates.
//!
//! Binary32 on Hopper is computed by our own kernel (`ops/gemm_f32.rs`), which is faster there than cuBLAS's and more exact; half precision of
//! few rows by another (`ops/gemm_few.rs`) where that is found to be faster; everything else by cuBLASLt. Its safe wrapper asks the heuristic at every call and turns TF32 on for binary32; this one keeps the
//! algorithm of each shape and computes IEEE binary32.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Mutex;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{self, cudaDataType_t as DataType};

use super::buffer::Buffer;
use super::device::{Device, give_back};
use super::element::ElementType;
pub(crate) use super::ops::gemm_f32::{Epilogue, Gemm, Reduction};
use super::ops::gemm_f32::{GemmF32, reads, supports};
use super::ops::gemm_few::{GemmFew, MAX_ROWS};
use crate::EngineError;

/// Scratch memory that an algorithm may use; what NVIDIA recommends on Hopper.
const WORKSPACE_BYTES: usize = 64 << 20;

/// The number of rows for which invariant GEMMs choose their one algorithm.
const INVARIANT_ROWS: usize = 1024;

/// Rows and outputs of the GEMMs that are run only to have kernels loaded.
const SMALL: (usize, usize) = (16, 128);

mod choice;
mod invariance;
pub(crate) use choice::Trial;

/// How a GEMM is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// By an algorithm of cuBLASLt.
    Library(sys::cublasLtMatmulAlgo_t),
    /// By [`GemmF32`].
    F32,
    /// By one of [`GemmFew`]'s tiles.
    Few(usize),
}

/// cuBLASLt with the algorithms found so far, and our own kernels where the GPU supports them.
#[derive(Debug)]
pub(crate) struct Matmul {
    handle: sys::cublasLtHandle_t,
    workspace: Buffer,
    element: ElementType,
    /// For binary32 on Hopper.
    own: Option<GemmF32>,
    /// For half precision.
    few: Option<GemmFew>,
    ways: Mutex<HashMap<Shape, Way>>,
}

// SAFETY: the handle may be used from any thread.
unsafe impl Send for Matmul {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    outputs: usize,
    inputs: usize,
    rows: usize,
    bias: bool,
    epilogue: Epilogue,
    f32_output: bool,
    invariant: bool,
}

impl Shape {
    fn of(gemm: &Gemm, rows: usize, reduction: Reduction) -> Self {
        Self {
            outputs: gemm.outputs,
            inputs: gemm.inputs,
            rows,
            bias: gemm.bias != 0,
            epilogue: gemm.epilogue,
            f32_output: gemm.f32_output,
            invariant: reduction == Reduction::Invariant,
        }
    }
}

impl Matmul {
    /// Opens cuBLASLt, and compiles or finds our own kernels.
    pub(crate) fn open(device: &Device, element: ElementType) -> Result<Self, EngineError> {
        // cuBLASLt asks the thread's context for its limits.
        device.bind()?;
        let handle = result::create_handle().map_err(|error| failed("open", error))?;
        let workspace = Buffer::new(device, WORKSPACE_BYTES)?;
        let own = if element == ElementType::F32 { GemmF32::load(device)? } else { None };
        let few = GemmFew::load(device, element)?;
        Ok(Self { handle, workspace, element, own, few, ways: Mutex::new(HashMap::new()) })
    }

    /// Whether our own kernel computes every GEMM of these numbers of inputs.
    pub(crate) fn is_own(&self, inputs: &[usize]) -> bool {
        self.own.is_some() && inputs.iter().all(|inputs| reads(*inputs))
    }

    /// Enqueues a GEMM. Whether by a kernel of ours, behind which the next may be launched to overlap it.
    pub(crate) fn launch(&self, device: &Device, gemm: &Gemm, reduction: Reduction) -> Result<bool, EngineError> {
        if gemm.rows == 0 {
            return Ok(false);
        }
        let way = self.way(gemm, reduction)?;
        self.launch_by(device, gemm, &way, reduction)?;
        Ok(!matches!(way, Way::Library(_)))
    }

    /// Whether this GEMM, with an epilogue that only kernels of ours have, was found to be faster than without.
    pub(crate) fn has_epilogue(&self, gemm: &Gemm, reduction: Reduction) -> bool {
        self.ways().contains_key(&Shape::of(gemm, bucket(gemm.rows), reduction))
    }

    fn launch_by(&self, device: &Device, gemm: &Gemm, way: &Way, reduction: Reduction) -> Result<(), EngineError> {
        match (way, &self.own, &self.few) {
            (Way::F32, Some(kernel), _) => kernel.launch(device, gemm, reduction),
            (Way::Few(tile), _, Some(kernels)) => kernels.launch(device, gemm, *tile),
            (Way::Library(algorithm), ..) => self.call(device, gemm, algorithm).map_err(|error| {
                failed(&format!("multiply {} rows by [{}, {}]", gemm.rows, gemm.outputs, gemm.inputs), error)
            }),
            _ => unreachable!("{way:?} of a kernel that was not loaded"),
        }
    }

    /// Finds the algorithms of GEMMs like these, and has cuBLASLt load their kernels, which it otherwise does at first use: for
    /// 0.2 s on an H100. Of the addresses only whether there is a bias counts, 0 for none.
    pub(crate) fn prepare(&mut self, device: &Device, gemms: &[Gemm], reduction: Reduction) -> Result<(), EngineError> {
        if self.own.is_some() {
            return Ok(()); // our own kernel is loaded
        }
        device.bind()?;
        let (rows, outputs) = SMALL;
        let inputs = gemms.iter().map(|gemm| gemm.inputs).max().unwrap_or(0);
        let bytes = |count: usize| (count * size_of::<f32>()).next_multiple_of(256);
        let sizes = [rows * inputs, outputs * inputs, rows * outputs, outputs].map(bytes);
        let scratch = Buffer::new(device, sizes.iter().sum())?;
        for gemm in gemms {
            // A bias needs a valid address, or cuBLASLt finds no algorithm.
            let bias = if gemm.bias == 0 { 0 } else { scratch.at(sizes[0] + sizes[1] + sizes[2]) };
            let gemm = Gemm { bias, ..*gemm };
            let way = self.way(&gemm, reduction)?;
            let small = Gemm {
                rows: gemm.rows.min(rows),
                outputs: gemm.outputs.min(outputs),
                x: scratch.at(0),
                weights: scratch.at(sizes[0]),
                y: scratch.at(sizes[0] + sizes[1]),
                ..gemm
            };
            // An algorithm that does not support so small a GEMM is loaded at first use after all.
            let _ = self.launch_by(device, &small, &way, reduction);
        }
        device.synchronize()
    }

    fn call(&self, device: &Device, gemm: &Gemm, algorithm: &sys::cublasLtMatmulAlgo_t) -> Result<(), CublasError> {
        let call = Call::new(self.element, gemm)?;
        let one = 1.0_f32;
        let beta = if gemm.epilogue == Epilogue::Add { 1.0_f32 } else { 0.0 };
        // SAFETY: the layouts describe the memory that the caller's addresses stand for; scalars live through the call.
        unsafe {
            result::matmul(
                self.handle,
                call.description,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                gemm.weights as *const c_void,
                call.weights,
                gemm.x as *const c_void,
                call.x,
                gemm.y as *const c_void,
                call.y,
                gemm.y as *mut c_void,
                call.y,
                algorithm,
                self.workspace.pointer() as *mut c_void,
                WORKSPACE_BYTES,
                device.stream.cu_stream().cast(),
            )
        }
    }

    fn way(&self, gemm: &Gemm, reduction: Reduction) -> Result<Way, EngineError> {
        if self.own.as_ref().is_some_and(|_| supports(gemm)) {
            return Ok(Way::F32);
        }
        let invariant = reduction == Reduction::Invariant;
        let mut ways = self.ways();
        let mut shape = Shape::of(gemm, bucket(gemm.rows), reduction);
        // In invariant mode the one for many rows, unless one with its bits was found for few (`make_invariant`).
        if invariant && !ways.contains_key(&shape) {
            shape.rows = INVARIANT_ROWS;
        }
        if let Some(way) = ways.get(&shape) {
            return Ok(*way);
        }
        let own = matches!(gemm.epilogue, Epilogue::Gate | Epilogue::Highest);
        assert!(!own, "{gemm:?} is supported by our own kernels only");
        let typical = Gemm { rows: shape.rows, ..*gemm };
        let candidates = self.ask(&typical, invariant).map_err(|error| failed("choose an algorithm", error))?;
        let unsupported = CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED);
        let algorithm = *candidates.first().ok_or_else(|| failed("choose an algorithm", unsupported))?;
        ways.insert(shape, Way::Library(algorithm));
        Ok(Way::Library(algorithm))
    }

    fn ways(&self) -> std::sync::MutexGuard<'_, HashMap<Shape, Way>> {
        self.ways.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn keep(&self, shape: Shape, way: Way) {
        self.ways().insert(shape, way);
    }

    /// The heuristic's choices, the best first; in invariant mode those that do not split the sum.
    fn ask(&self, gemm: &Gemm, invariant: bool) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
        const MOST: usize = 32;
        let call = Call::new(self.element, gemm)?;
        let preference = result::create_matmul_pref()?;
        // SAFETY: an all-zero result is a valid one; `found` says how many were filled in.
        let mut results: [sys::cublasLtMatmulHeuristicResult_t; MOST] = unsafe { std::mem::zeroed() };
        let mut found = 0;
        // SAFETY: every handle is alive; attributes have the types that the library documents.
        let asked = unsafe {
            let set = |attribute, value: *const c_void, bytes| {
                result::set_matmul_pref_attribute(preference, attribute, value, bytes)
            };
            let (workspace, no_reduction) = (WORKSPACE_BYTES, 0_u32);
            let mut asked = set(
                Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const workspace).cast(),
                size_of::<usize>(),
            );
            if invariant {
                let mask = Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK;
                asked = asked.and_then(|()| set(mask, (&raw const no_reduction).cast(), size_of::<u32>()));
            }
            asked.and_then(|()| {
                sys::cublasLtMatmulAlgoGetHeuristic(
                    self.handle,
                    call.description,
                    call.weights,
                    call.x,
                    call.y,
                    call.y,
                    preference,
                    MOST as i32,
                    results.as_mut_ptr(),
                    &raw mut found,
                )
                .result()
            })
        };
        // SAFETY: created above.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        asked?;
        let fits = |result: &&sys::cublasLtMatmulHeuristicResult_t| {
            result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS && (!invariant || splits(&result.algo) <= 1)
        };
        Ok(results[..found as usize].iter().filter(fits).map(|result| result.algo).collect())
    }
}

impl Drop for Matmul {
    fn drop(&mut self) {
        // SAFETY: created in `open`, destroyed here only.
        let _ = give_back(|| unsafe { result::destroy_handle(self.handle) });
    }
}

/// Parts that an algorithm splits a sum into.
fn splits(algorithm: &sys::cublasLtMatmulAlgo_t) -> i32 {
    let mut splits = 0_i32;
    let mut written = 0;
    // SAFETY: the buffer has the size that is passed.
    let asked = unsafe {
        sys::cublasLtMatmulAlgoConfigGetAttribute(
            algorithm,
            sys::cublasLtMatmulAlgoConfigAttributes_t::CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
            (&raw mut splits).cast(),
            size_of::<i32>(),
            &raw mut written,
        )
    };
    if asked.result().is_ok() { splits } else { i32::MAX }
}

/// Rows that share an algorithm: within a power of two up to 128, then within steps of 64, 128 and 512.
fn bucket(rows: usize) -> usize {
    match rows {
        0..=128 => rows.next_power_of_two().max(16),
        129..=512 => rows.next_multiple_of(64),
        513..=2048 => rows.next_multiple_of(128),
        _ => rows.next_multiple_of(512),
    }
}

/// The number of rows whose ways so few rows take; none where ours are not for them.
pub(crate) fn few(rows: usize) -> Option<usize> {
    (rows <= MAX_ROWS).then(|| bucket(rows))
}

/// A GEMM in cuBLASLt's column-major terms: D `[outputs, rows]` = Wᵀ · x.
struct Call {
    description: sys::cublasLtMatmulDesc_t,
    weights: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
}

impl Call {
    fn new(element: ElementType, gemm: &Gemm) -> Result<Self, CublasError> {
        use sys::cublasLtEpilogue_t as Kind;
        let kind = match element {
            ElementType::F32 => DataType::CUDA_R_32F,
            ElementType::F16 => DataType::CUDA_R_16F,
            ElementType::Bf16 => DataType::CUDA_R_16BF,
        };
        let f32_output = if gemm.f32_output { DataType::CUDA_R_32F } else { kind };
        let (outputs, inputs, rows) = (gemm.outputs as u64, gemm.inputs as u64, gemm.rows as u64);
        let call = Self {
            description: result::create_matmul_desc(
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                DataType::CUDA_R_32F,
            )?,
            weights: result::create_matrix_layout(kind, inputs, outputs, inputs as i64)?,
            x: result::create_matrix_layout(kind, inputs, rows, inputs as i64)?,
            y: result::create_matrix_layout(f32_output, outputs, rows, outputs as i64)?,
        };
        call.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, &1_i32)?;
        let epilogue = match (gemm.epilogue == Epilogue::Relu, gemm.bias != 0) {
            (false, false) => Kind::CUBLASLT_EPILOGUE_DEFAULT,
            (false, true) => Kind::CUBLASLT_EPILOGUE_BIAS,
            (true, false) => Kind::CUBLASLT_EPILOGUE_RELU,
            (true, true) => Kind::CUBLASLT_EPILOGUE_RELU_BIAS,
        };
        call.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE, &(epilogue as i32))?;
        if gemm.bias != 0 {
            call.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &gemm.bias)?;
        }
        Ok(call)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), CublasError> {
        // SAFETY: the value has the type that the library documents for the attribute.
        unsafe {
            result::set_matmul_desc_attribute(
                self.description,
                attribute,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed here only.
        unsafe {
            let _ = result::destroy_matrix_layout(self.weights);
            let _ = result::destroy_matrix_layout(self.x);
            let _ = result::destroy_matrix_layout(self.y);
            let _ = result::destroy_matmul_desc(self.description);
        }
    }
}

fn failed(what: &str, error: CublasError) -> EngineError {
    EngineError::failed(
        format!("cuBLASLt could not {what}: {error}"),
        "this is a fault of the engine or of an untested CUDA version: report it; `--engine cpu` works instead",
    )
}

#[cfg(test)]
#[path = "matmul_tests.rs"]
mod tests;
