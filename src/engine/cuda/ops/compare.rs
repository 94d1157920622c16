//! Whether two stretches of device memory hold the same bits.

use crate::EngineError;
use crate::cuda::buffer::Buffer;
use crate::cuda::compile::{Options, Source};
use crate::cuda::device::Device;
use crate::cuda::kernel::{Grid, Kernel, Module};

const SOURCE: Source = Source { name: "compare", text: include_str!("../kernels/compare.cu") };
const THREADS: usize = 256;

/// The kernel, and where it leaves its answer.
#[derive(Debug)]
pub(crate) struct Compare {
    kernel: Kernel,
    /// i32.
    differs: Buffer,
}

impl Compare {
    /// Compiles or finds the kernel.
    pub(crate) fn load(device: &Device) -> Result<Self, EngineError> {
        let module = Module::load(device, SOURCE, &Options::default())?;
        Ok(Self { kernel: module.kernel("compare", 0)?, differs: Buffer::new(device, size_of::<i32>())? })
    }

    /// Whether the `bytes` (an even number, up to 4 GB) at two addresses are the same. Waits for everything enqueued before.
    pub(crate) fn same(&self, device: &Device, a: u64, b: u64, bytes: usize) -> Result<bool, EngineError> {
        let count = bytes / size_of::<u16>();
        self.differs.fill(device, 0)?;
        let grid = Grid::line(count.div_ceil(THREADS).clamp(1, 8 * device.multiprocessors), THREADS);
        self.kernel.launch(device, grid, &[a.into(), b.into(), count.into(), self.differs.pointer().into()])?;
        Ok(self.differs.read::<i32>(device, 0, 1)? == [0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{compiles, gpu};

    #[test]
    fn the_kernel_compiles() {
        compiles([(SOURCE, Options::default())]);
    }

    #[test]
    fn one_bit_makes_a_difference_wherever_it_is() {
        let Some(device) = gpu() else { return };
        let compare = Compare::load(&device).unwrap();
        for count in [2, 513, 1_000_003] {
            let zeros = vec![0_u8; 2 * count];
            let a = Buffer::of(&device, &zeros).unwrap();
            for changed in [0, count, 2 * count - 1] {
                let mut values = zeros.clone();
                values[changed] = 0x10;
                let b = Buffer::of(&device, &values).unwrap();
                assert!(
                    !compare.same(&device, a.pointer(), b.pointer(), 2 * count).unwrap(),
                    "byte {changed} of {count}"
                );
                assert!(compare.same(&device, b.pointer(), b.pointer(), 2 * count).unwrap());
            }
        }
    }
}
