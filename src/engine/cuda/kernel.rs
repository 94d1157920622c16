//! Loaded kernels and their launches.

use std::ffi::{CString, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::result;
use cudarc::driver::sys::{
    self, CUfunction, CUfunction_attribute as FunctionAttribute, CUlaunchAttribute, CUlaunchAttributeID,
    CUlaunchConfig, CUmodule,
};

use super::compile::{Options, Source, cubin};
use super::device::{Device, failed, give_back};
use crate::EngineError;

/// The kernels of one source file, loaded on a device.
#[derive(Debug)]
pub(crate) struct Module {
    loaded: Arc<Loaded>,
    name: &'static str,
}

#[derive(Debug)]
struct Loaded {
    context: Arc<CudaContext>,
    module: CUmodule,
}

// SAFETY: module handles may be used from any thread whose context is current.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = self.context.bind_to_thread();
        // SAFETY: loaded once; every kernel of it holds this alive.
        let _ = give_back(|| unsafe { result::module::unload(self.module) });
    }
}

impl Module {
    /// Compiles (or finds) and loads a source.
    pub(crate) fn load(device: &Device, source: Source, options: &Options) -> Result<Self, EngineError> {
        let image = cubin(source, options, device.capability)?;
        let load = || {
            device.context.bind_to_thread()?;
            // SAFETY: the image is a whole ELF file compiled for this device.
            unsafe { result::module::load_data(image.as_ptr().cast()) }
        };
        let module = load().map_err(|error| failed(&format!("load the kernels of {}", source.name), error))?;
        let loaded = Arc::new(Loaded { context: Arc::clone(&device.context), module });
        Ok(Self { loaded, name: source.name })
    }

    /// One kernel of it. `shared_bytes` is the most dynamic shared memory of its launches. Up to 48 KB, static arrays (which are small)
    /// included, need no attribute.
    pub(crate) fn kernel(&self, name: &str, shared_bytes: usize) -> Result<Kernel, EngineError> {
        let find = || {
            self.loaded.context.bind_to_thread()?;
            let symbol = CString::new(name).unwrap_or_default();
            // SAFETY: the module is loaded and stays so as long as the kernel holds it.
            let function = unsafe { result::module::get_function(self.loaded.module, symbol) }?;
            if shared_bytes > 40 * 1024 {
                let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: a setting of this function alone.
                unsafe { result::function::set_function_attribute(function, attribute, shared_bytes as i32) }?;
            }
            Ok(function)
        };
        let function = find().map_err(|error| failed(&format!("find the kernel {name} in {}", self.name), error))?;
        Ok(Kernel { _loaded: Arc::clone(&self.loaded), function, name: name.to_owned() })
    }
}

/// A kernel that can be launched.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// Keeps the module loaded.
    _loaded: Arc<Loaded>,
    function: CUfunction,
    name: String,
}

// SAFETY: as for the module.
unsafe impl Send for Kernel {}
// SAFETY: as for the module.
unsafe impl Sync for Kernel {}

/// A launch's size, and how it follows the launch before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Blocks in x, y, z.
    pub(crate) blocks: (usize, usize, usize),
    /// Threads a block.
    pub(crate) threads: usize,
    /// Dynamic shared memory a block.
    pub(crate) shared_bytes: usize,
    /// Programmatic dependent launch: the kernel may begin while the one before it ends, and waits by itself
    /// (`griddepcontrol.wait`) before it reads what that one wrote.
    pub(crate) overlaps: bool,
}

impl Grid {
    /// Blocks in one dimension.
    pub(crate) const fn line(blocks: usize, threads: usize) -> Self {
        Self { blocks: (blocks, 1, 1), threads, shared_bytes: 0, overlaps: false }
    }
}

/// A kernel's argument by value: an address, a whole number, a number.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Argument(u64);

impl From<u64> for Argument {
    fn from(address: u64) -> Self {
        Self(address)
    }
}

impl From<usize> for Argument {
    /// As C's `int`.
    fn from(value: usize) -> Self {
        Self(u64::from(value as u32))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self(u64::from(value.to_bits()))
    }
}

impl Kernel {
    /// Enqueues the kernel. Nothing is launched where the grid is empty.
    ///
    /// The callers in `ops/` guarantee that arguments match the kernel's parameters and that every address is valid for what the kernel
    /// does with it.
    pub(crate) fn launch(&self, device: &Device, grid: Grid, arguments: &[Argument]) -> Result<(), EngineError> {
        let overlaps = CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        self.enqueue(device, grid, arguments, grid.overlaps.then_some(overlaps))
    }

    /// The same for blocks that wait for each other: all are resident at once, or the launch fails.
    pub(crate) fn launch_cooperative(
        &self,
        device: &Device,
        grid: Grid,
        arguments: &[Argument],
    ) -> Result<(), EngineError> {
        self.enqueue(device, grid, arguments, Some(CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE))
    }

    /// `switch`: a launch attribute to turn on, whose value is an int.
    fn enqueue(
        &self,
        device: &Device,
        grid: Grid,
        arguments: &[Argument],
        switch: Option<CUlaunchAttributeID>,
    ) -> Result<(), EngineError> {
        let (x, y, z) = grid.blocks;
        if x * y * z == 0 {
            return Ok(());
        }
        let mut pointers: Vec<*mut c_void> =
            arguments.iter().map(|argument| (&raw const argument.0).cast_mut().cast()).collect();
        let mut attribute = switch.map(|id| {
            // SAFETY: all-zero bytes are a valid attribute.
            let mut attribute: CUlaunchAttribute = unsafe { MaybeUninit::zeroed().assume_init() };
            attribute.id = id;
            // The union's fields for both attributes are an int at its beginning.
            attribute.value.cooperative = 1;
            attribute
        });
        let config = CUlaunchConfig {
            gridDimX: x as u32,
            gridDimY: y as u32,
            gridDimZ: z as u32,
            blockDimX: grid.threads as u32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: grid.shared_bytes as u32,
            hStream: device.stream.cu_stream(),
            numAttrs: u32::from(attribute.is_some()),
            attrs: attribute.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut),
        };
        // SAFETY: every pointer is to a live value for the duration of the call, which copies them.
        unsafe { sys::cuLaunchKernelEx(&raw const config, self.function, pointers.as_mut_ptr(), std::ptr::null_mut()) }
            .result()
            .map_err(|error| failed(&format!("launch {}", self.name), error))
    }
}
