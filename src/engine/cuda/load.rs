//! Weights from disk to device memory: read by several threads into pinned memory, copied while the next part is read, cast there.
//!
//! Straight from a memory map the driver copies up to eleven times slower; a few reusable pinned buffers keep the bus busy.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use cudarc::driver::CudaEvent;
use half::{bf16, f16};

use super::buffer::{Buffer, Pinned};
use super::device::{Device, failed};
use super::element::ElementType;
use super::ops::elementwise::Elementwise;
use crate::fault::IoFault;
use crate::model::{ModelSource, TensorValues};
use crate::{Arithmetic, EngineError};

/// Bytes that one thread reads at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// Pinned buffers in circulation: half being filled, half being copied to the device.
const CHUNKS: usize = 16;

/// Threads that read.
const READERS: usize = 8;

/// A tensor to transfer: its name in the files and its place in device memory.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    /// Name in the files.
    pub(crate) name: String,
    /// The shape that the configuration promises.
    pub(crate) shape: Vec<usize>,
    /// Where its first element goes; the elements follow each other.
    pub(crate) to: u64,
}

impl Transfer {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Fetches every tensor and casts it to the element type. Values that are not finite, or not in the element type, are errors.
pub(crate) fn transfer(
    device: &Device,
    source: &ModelSource,
    arithmetic: Arithmetic,
    elementwise: &Elementwise,
    transfers: &[Transfer],
) -> Result<(), EngineError> {
    let flags = Buffer::new(device, transfers.len() * size_of::<i32>())?;
    flags.fill(device, 0)?;
    let mut upload = Upload::new(device, elementwise, &flags)?;
    let pieces = pieces(source, transfers);
    let next = AtomicUsize::new(0);
    let (filled_in, filled) = sync_channel(CHUNKS);
    let (free_in, free) = channel();
    let free = Mutex::new(free);
    for _ in 0..CHUNKS {
        let chunk = Chunk {
            memory: Pinned::new(device, CHUNK_BYTES)?,
            bytes: 0,
            element: ElementType::F32,
            tensor: 0,
            first: 0,
        };
        let _ = free_in.send(chunk);
    }
    std::thread::scope(|scope| {
        for _ in 0..READERS.min(pieces.len()) {
            let reader =
                Reader { source, transfers, pieces: &pieces, next: &next, free: &free, filled: filled_in.clone() };
            scope.spawn(move || reader.run());
        }
        drop(filled_in);
        // Both ends are dropped with this closure: a reader that waits for either ends with it.
        let (filled, free_in) = (filled, free_in);
        upload.run(transfers, &filled, &free_in)
    })?;
    device.synchronize()?;
    for (transfer, flag) in transfers.iter().zip(flags.read::<i32>(device, 0, transfers.len())?) {
        if flag != 0 {
            // The kernel only flags that something is wrong; the CPU finds out what.
            let values = source.values(&transfer.name, &transfer.shape)?;
            source.check_range(&transfer.name, &values, arithmetic)?;
        }
    }
    Ok(())
}

/// A part of a tensor that can be copied from a file, or a whole tensor that has to be computed.
#[derive(Debug, Clone, Copy)]
struct Piece {
    tensor: usize,
    /// Elements, within the tensor.
    first: usize,
    count: usize,
    /// Where the file holds it in this type; `None` where it has to be computed.
    element: Option<ElementType>,
}

fn pieces(source: &ModelSource, transfers: &[Transfer]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (tensor, transfer) in transfers.iter().enumerate() {
        let element = source.tensors.place(&transfer.name).and_then(|place| element_named(place.element));
        let count = transfer.count();
        let step = element.map_or(count, |element| CHUNK_BYTES / element.bytes()).max(1);
        pieces.extend((0..count).step_by(step).map(|first| Piece {
            tensor,
            first,
            count: step.min(count - first),
            element,
        }));
    }
    // What has to be computed takes longest: first.
    pieces.sort_by_key(|piece| piece.element.is_some());
    pieces
}

fn element_named(name: &str) -> Option<ElementType> {
    match name {
        "f32" => Some(ElementType::F32),
        "f16" => Some(ElementType::F16),
        "bf16" => Some(ElementType::Bf16),
        _ => None,
    }
}

/// A pinned buffer in circulation.
struct Chunk {
    memory: Pinned<u8>,
    bytes: usize,
    element: ElementType,
    tensor: usize,
    first: usize,
}

type Filled = Result<Chunk, EngineError>;

struct Reader<'a> {
    source: &'a ModelSource,
    transfers: &'a [Transfer],
    pieces: &'a [Piece],
    next: &'a AtomicUsize,
    free: &'a Mutex<Receiver<Chunk>>,
    filled: SyncSender<Filled>,
}

impl Reader<'_> {
    fn run(self) {
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let read = match piece.element {
                Some(element) => self.read(piece, element),
                None => self.compute(piece),
            };
            match read {
                Ok(true) => {}
                Ok(false) => return, // the receiver is gone
                Err(error) => {
                    let _ = self.filled.send(Err(error));
                    return;
                }
            }
        }
    }

    fn read(&self, piece: &Piece, element: ElementType) -> Result<bool, EngineError> {
        let transfer = &self.transfers[piece.tensor];
        let Some(place) = self.source.tensors.place(&transfer.name) else { return Ok(true) };
        let bytes = piece.count * element.bytes();
        if place.bytes != (transfer.count() * element.bytes()) as u64 {
            self.source.values(&transfer.name, &transfer.shape)?; // says what is wrong with the shape
        }
        self.send(piece.tensor, piece.first, element, bytes, |memory| {
            let offset = place.offset + (piece.first * element.bytes()) as u64;
            let hint = |_| "fetch the file again; it changed or cannot be read any more";
            let read = place.blob.read_into(offset, memory);
            read.map_err(|source| EngineError::Read(IoFault::new("read", &place.blob.path(), source, hint)))
        })
    }

    fn compute(&self, piece: &Piece) -> Result<bool, EngineError> {
        let transfer = &self.transfers[piece.tensor];
        let values = self.source.tensors.read(&transfer.name)?.values;
        match &values {
            TensorValues::F32(values) => self.send_all(piece.tensor, ElementType::F32, values, f32::to_le_bytes),
            TensorValues::F16(values) => self.send_all(piece.tensor, ElementType::F16, values, f16::to_le_bytes),
            TensorValues::Bf16(values) => self.send_all(piece.tensor, ElementType::Bf16, values, bf16::to_le_bytes),
            TensorValues::I32(_) => self.source.values(&transfer.name, &transfer.shape).map(|_| true),
        }
    }

    fn send_all<T: Copy, const N: usize>(
        &self,
        tensor: usize,
        element: ElementType,
        values: &[T],
        bytes_of: impl Fn(T) -> [u8; N],
    ) -> Result<bool, EngineError> {
        if values.len() != self.transfers[tensor].count() {
            let transfer = &self.transfers[tensor];
            self.source.values(&transfer.name, &transfer.shape)?;
        }
        for (index, values) in values.chunks(CHUNK_BYTES / N).enumerate() {
            let sent = self.send(tensor, index * (CHUNK_BYTES / N), element, values.len() * N, |memory| {
                for (bytes, value) in memory.chunks_exact_mut(N).zip(values) {
                    bytes.copy_from_slice(&bytes_of(*value));
                }
                Ok(())
            })?;
            if !sent {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a free chunk, fills it, sends it. False where the receiver is gone.
    fn send(
        &self,
        tensor: usize,
        first: usize,
        element: ElementType,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), EngineError>,
    ) -> Result<bool, EngineError> {
        let free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
        let Ok(mut chunk) = free else { return Ok(false) };
        fill(&mut chunk.memory[..bytes])?;
        (chunk.bytes, chunk.element, chunk.tensor, chunk.first) = (bytes, element, tensor, first);
        Ok(self.filled.send(Ok(chunk)).is_ok())
    }
}

/// The device's side: chunks are copied into a ring of staging memory and cast from there.
struct Upload<'a> {
    device: &'a Device,
    elementwise: &'a Elementwise,
    flags: &'a Buffer,
    staging: Buffer,
    events: Vec<CudaEvent>,
}

impl<'a> Upload<'a> {
    /// Chunks being copied at most; as many again can be filled meanwhile.
    const IN_FLIGHT: usize = CHUNKS / 2;

    fn new(device: &'a Device, elementwise: &'a Elementwise, flags: &'a Buffer) -> Result<Self, EngineError> {
        let staging = Buffer::new(device, Self::IN_FLIGHT * CHUNK_BYTES)?;
        let events = (0..Self::IN_FLIGHT).map(|_| device.context.new_event(None)).collect::<Result<_, _>>();
        let events = events.map_err(|error| failed("make an event", error))?;
        Ok(Self { device, elementwise, flags, staging, events })
    }

    fn run(
        &mut self,
        transfers: &[Transfer],
        filled: &Receiver<Filled>,
        free: &Sender<Chunk>,
    ) -> Result<(), EngineError> {
        let mut in_flight: VecDeque<Chunk> = VecDeque::new();
        let mut slot = 0;
        while let Ok(chunk) = filled.recv() {
            let chunk = chunk?;
            if in_flight.len() == Self::IN_FLIGHT
                && let Some(done) = in_flight.pop_front()
            {
                self.events[slot].synchronize().map_err(|error| failed("copy weights", error))?;
                let _ = free.send(done);
            }
            let (device, offset) = (self.device, slot * CHUNK_BYTES);
            self.staging.write(device, offset, &chunk.memory[..chunk.bytes])?;
            let to = transfers[chunk.tensor].to + (chunk.first * self.elementwise.element().bytes()) as u64;
            let count = chunk.bytes / chunk.element.bytes();
            let flag = self.flags.at(chunk.tensor * size_of::<i32>());
            self.elementwise.cast(device, self.staging.at(offset), chunk.element, to, count, flag)?;
            self.events[slot].record(&device.stream).map_err(|error| failed("record an event", error))?;
            in_flight.push_back(chunk);
            slot = (slot + 1) % Self::IN_FLIGHT;
        }
        // Pinned memory must stay until the device has read it.
        self.device.synchronize()
    }
}
