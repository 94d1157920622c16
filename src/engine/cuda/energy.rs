//! What a GPU has used, by NVML's counter: the driver's own library, loaded where it is there.

use std::ffi::{CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use libloading::Library;

use super::device::Device;

/// NVML's success.
const SUCCESS: c_int = 0;

type Init = unsafe extern "C" fn() -> c_int;
type HandleByBus = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type TotalEnergy = unsafe extern "C" fn(*mut c_void, *mut c_ulonglong) -> c_int;

/// The counter of one GPU.
#[derive(Debug)]
pub(super) struct EnergyCounter {
    /// NVML's handle, which stays good for as long as the library is loaded: until the process ends.
    handle: usize,
    total: TotalEnergy,
}

impl EnergyCounter {
    /// Of an open GPU; `None` where there is no NVML, or the GPU has no counter (those before Volta).
    pub(super) fn of(device: &Device) -> Option<Self> {
        let attribute = |attribute| device.context.attribute(attribute).ok();
        let domain = attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?;
        let bus = attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?;
        let slot = attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?;
        // NVML and CUDA number GPUs differently, and `CUDA_VISIBLE_DEVICES` is CUDA's alone.
        let address = CString::new(bus_address(domain as c_uint, bus as c_uint, slot as c_uint)).ok()?;
        let library = library()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: both functions have these signatures in every NVML since version 4 (nvml.h), and the library is never unloaded.
        let (by_bus, total) = unsafe {
            let by_bus = *library.get::<HandleByBus>(b"nvmlDeviceGetHandleByPciBusId_v2\0").ok()?;
            (by_bus, *library.get::<TotalEnergy>(b"nvmlDeviceGetTotalEnergyConsumption\0").ok()?)
        };
        // SAFETY: the address is a C string, and the handle is written to.
        if unsafe { by_bus(address.as_ptr(), &raw mut handle) } != SUCCESS {
            return None;
        }
        let counter = Self { handle: handle as usize, total };
        counter.joules().is_some().then_some(counter)
    }

    /// Joules since the driver was loaded, all that the GPU did.
    pub(super) fn joules(&self) -> Option<f64> {
        let mut millijoules: c_ulonglong = 0;
        // SAFETY: the handle is NVML's own, and the number is written to.
        let status = unsafe { (self.total)(self.handle as *mut c_void, &raw mut millijoules) };
        (status == SUCCESS).then(|| millijoules as f64 / 1000.0)
    }
}

/// As NVML writes it: `00000000:1B:00.0`.
fn bus_address(domain: c_uint, bus: c_uint, slot: c_uint) -> String {
    format!("{domain:08X}:{bus:02X}:{slot:02X}.0")
}

/// NVML, initialised once.
fn library() -> Option<&'static Library> {
    static LOADED: OnceLock<Option<Library>> = OnceLock::new();
    let load = || {
        let names = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
        // SAFETY: NVIDIA's library does nothing on loading that could break this process.
        let library = names.iter().find_map(|name| unsafe { Library::new(*name) }.ok())?;
        // SAFETY: the function takes nothing and returns a number (nvml.h).
        let status = unsafe { library.get::<Init>(b"nvmlInit_v2\0").ok()?() };
        (status == SUCCESS).then_some(library)
    };
    LOADED.get_or_init(load).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_found_by_its_place_on_the_bus() {
        assert_eq!(bus_address(0, 0x1b, 0), "00000000:1B:00.0");
        assert_eq!(bus_address(0x10, 4, 2), "00000010:04:02.0");
    }
}
