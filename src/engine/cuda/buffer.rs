//! Device memory, and pinned host memory.

use std::sync::Arc;

use cudarc::driver::sys::{CUdeviceptr, CUresult};
use cudarc::driver::{CudaContext, CudaStream, result};

use super::device::{Device, failed, give_back, held_bytes};
use crate::EngineError;

/// Plain numbers: any bits are a value, and there is no padding.
pub(crate) trait Element: Copy + Default + Send + 'static {}

impl Element for u8 {}
impl Element for i32 {}
impl Element for u32 {}
impl Element for u64 {}
impl Element for f32 {}
impl Element for f64 {}
impl Element for half::f16 {}
impl Element for half::bf16 {}

/// Device memory, freed when dropped; uninitialised.
#[derive(Debug)]
pub(crate) struct Buffer {
    context: Arc<CudaContext>,
    pointer: CUdeviceptr,
    bytes: usize,
}

impl Buffer {
    /// Room for `bytes`, at least 16.
    pub(crate) fn new(device: &Device, bytes: usize) -> Result<Self, EngineError> {
        let bytes = bytes.max(16);
        let allocate = || {
            device.context.bind_to_thread()?;
            // SAFETY: the context is current; the memory is freed once, in drop.
            unsafe { result::malloc_sync(bytes) }
        };
        let pointer = allocate().map_err(|error| match (error.0, device.memory()) {
            (CUresult::CUDA_ERROR_OUT_OF_MEMORY, Ok(memory)) => {
                memory.too_little(&device.name, "the model's next part", bytes)
            }
            _ => failed(&format!("reserve {} of memory", crate::text::bytes(bytes as u64)), error),
        })?;
        held_bytes(device.context.ordinal(), |held| held + bytes);
        Ok(Self { context: Arc::clone(&device.context), pointer, bytes })
    }

    /// The same, holding `values`; they are there when this returns.
    pub(crate) fn of<T: Element>(device: &Device, values: &[T]) -> Result<Self, EngineError> {
        let buffer = Self::new(device, size_of_val(values))?;
        buffer.write(device, 0, values)?;
        device.synchronize()?;
        Ok(buffer)
    }

    /// The address of the first byte.
    pub(crate) fn pointer(&self) -> u64 {
        self.pointer
    }

    /// The address of a byte inside.
    pub(crate) fn at(&self, offset: usize) -> u64 {
        debug_assert!(offset <= self.bytes, "offset {offset} of {} bytes", self.bytes);
        self.pointer + offset as u64
    }

    /// Size.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Enqueues a copy of `values` to the byte `offset`. From pageable memory the driver makes its own copy before it returns; pinned
    /// memory must stay unchanged until the stream has executed the copy.
    pub(crate) fn write<T: Element>(&self, device: &Device, offset: usize, values: &[T]) -> Result<(), EngineError> {
        assert!(offset + size_of_val(values) <= self.bytes, "a copy beyond the buffer's end");
        // SAFETY: the range lies inside the buffer, as was just checked.
        unsafe { result::memcpy_htod_async(self.at(offset), values, device.stream.cu_stream()) }
            .map_err(|error| failed("copy from the host", error))
    }

    /// Enqueues a copy from the byte `offset` into `values`; they are valid once the stream has executed the copy.
    pub(crate) fn read_later<T: Element>(
        &self,
        device: &Device,
        offset: usize,
        values: &mut [T],
    ) -> Result<(), EngineError> {
        assert!(offset + size_of_val(values) <= self.bytes, "a copy from beyond the buffer's end");
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(values, self.at(offset), device.stream.cu_stream()) }
            .map_err(|error| failed("copy to the host", error))
    }

    /// `count` elements from the byte `offset`, waiting for everything enqueued before.
    pub(crate) fn read<T: Element>(&self, device: &Device, offset: usize, count: usize) -> Result<Vec<T>, EngineError> {
        let mut values = vec![T::default(); count];
        self.read_later(device, offset, &mut values)?;
        device.synchronize()?;
        Ok(values)
    }

    /// Enqueues setting every byte.
    pub(crate) fn fill(&self, device: &Device, byte: u8) -> Result<(), EngineError> {
        self.fill_part(device, 0, self.bytes, byte)
    }

    /// Enqueues setting `bytes` bytes from the byte `offset` on.
    pub(crate) fn fill_part(&self, device: &Device, offset: usize, bytes: usize, byte: u8) -> Result<(), EngineError> {
        assert!(offset + bytes <= self.bytes, "setting memory beyond the buffer's end");
        // SAFETY: the range lies inside the buffer, as was just checked.
        unsafe { result::memset_d8_async(self.at(offset), byte, bytes, device.stream.cu_stream()) }
            .map_err(|error| failed("set memory", error))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The driver waits for work that still uses the memory. A failure here has been reported elsewhere before.
        let _ = self.context.bind_to_thread();
        // SAFETY: allocated in `new`, freed here only.
        let _ = give_back(|| unsafe { result::free_sync(self.pointer) });
        held_bytes(self.context.ordinal(), |held| held.saturating_sub(self.bytes));
    }
}

/// Page-locked host memory, which the device reads and writes directly.
#[derive(Debug)]
pub(crate) struct Pinned<T: Element> {
    stream: Arc<CudaStream>,
    pointer: *mut T,
    length: usize,
}

// SAFETY: it is memory of this process like any other; nothing is tied to a thread.
unsafe impl<T: Element> Send for Pinned<T> {}

impl<T: Element> Pinned<T> {
    /// `length` elements, all zero.
    pub(crate) fn new(device: &Device, length: usize) -> Result<Self, EngineError> {
        let allocate = || {
            device.context.bind_to_thread()?;
            // SAFETY: freed once, in drop. Flags 0: cached, because the host reads it too.
            unsafe { result::malloc_host((length * size_of::<T>()).max(1), 0) }
        };
        let pointer = allocate().map_err(|error| failed("lock pages of this machine's memory", error))?.cast::<T>();
        // SAFETY: freshly allocated, of this length.
        unsafe { pointer.write_bytes(0, length) };
        Ok(Self { stream: Arc::clone(&device.stream), pointer, length })
    }

    /// The address, which is the same for the device.
    pub(crate) fn pointer(&self) -> u64 {
        self.pointer as u64
    }
}

impl<T: Element> std::ops::Deref for Pinned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: allocated with this length, initialised, alive.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

impl<T: Element> std::ops::DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.length) }
    }
}

impl<T: Element> Drop for Pinned<T> {
    fn drop(&mut self) {
        let _ = self.stream.context().bind_to_thread();
        // A copy may still be in flight where an error ended whoever would have waited for it. All are in this stream.
        let _ = self.stream.synchronize();
        // SAFETY: allocated in `new`, freed here only.
        let _ = give_back(|| unsafe { result::free_host(self.pointer.cast()) });
    }
}
