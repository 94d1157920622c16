"""What a bare stream through rings in shared memory reads: pieces of rows, rings on a line or off it, bulk copies, plain loads.

Usage (on a machine with a GPU, PyTorch and CuPy): python3 benches/shared_memory_lines.py
Tables: benches/results/2026-11-27-gpu.md. One block of 16 warps a multiprocessor, 96 KB under way in each, 4 GB read.
"""
import cupy
import torch

BLOCKS = torch.cuda.get_device_properties(0).multi_processor_count
BYTES, WARPS, ROWS = 1 << 32, 16, 16
SOURCE = r"""
typedef unsigned int uint32;
extern __shared__ __align__(1024) char shared[];
__device__ __forceinline__ uint32 address(const void* p) { return (uint32)__cvta_generic_to_shared(p); }
// Keeps the compiler from leaving the reads out.
__device__ __forceinline__ void use(uint4 sum, uint4* out) { if (sum.x == 12345 && sum.y == 77) *out = sum; }
__device__ __forceinline__ void add(uint4& sum, uint4 x) { sum.x ^= x.x, sum.y ^= x.y; }

// Tiles of 16 rows of ROW_BYTES; a warp's stage is PIECE bytes of each row, or one piece of 16 · PIECE where ROW_BYTES is 0.
extern "C" __global__ void __launch_bounds__(512, 1) copies(const char* from, long long bytes, uint4* out) {
    constexpr int STAGE = 16 * PIECE, LANES = PIECE / 16, STAGES_A_TILE = ROW_BYTES == 0 ? 1 : ROW_BYTES / (16 * PIECE);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    char* const ring = shared + OFF + warp * DEPTH * STAGE;
    const long long tiles = bytes / (16 * STAGE * STAGES_A_TILE), count = tiles / gridDim.x * STAGES_A_TILE;
    auto load = [&](int slot, long long i) {
        if (i < count) {
            const char* tile = from + (i / STAGES_A_TILE * gridDim.x + blockIdx.x) * (16LL * STAGE * STAGES_A_TILE);
            const int at = (int)(i % STAGES_A_TILE) * 16 + warp;
#pragma unroll
            for (int k = 0; k < STAGE / 512; k++) {
                const char* piece = ROW_BYTES == 0 ? tile + warp * STAGE + k * 512 + lane * 16
                                                   : tile + (k * (32 / LANES) + lane / LANES) * (long long)ROW_BYTES + at * PIECE + lane % LANES * 16;
                asm volatile("cp.async.cg.shared.global" HINT " [%0], [%1], 16;" ::"r"(address(ring + slot * STAGE + k * 512 + lane * 16)), "l"(piece) : "memory");
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    for (int i = 0; i < DEPTH; i++) load(i, i);
    uint4 sum = make_uint4(0, 0, 0, 0);
    int slot = 0;
    for (long long i = 0; i < count; i++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(DEPTH - 1) : "memory");
        for (int k = 0; k < STAGE / 512; k++) add(sum, *(const uint4*)(ring + slot * STAGE + k * 512 + lane * 16));
        load(slot, i + DEPTH);
        slot = slot + 1 == DEPTH ? 0 : slot + 1;
    }
    use(sum, out);
}

// The same by bulk copies of STAGE = 16 · PIECE bytes.
extern "C" __global__ void __launch_bounds__(512, 1) bulk(const char* from, long long bytes, uint4* out) {
    constexpr int STAGE = 16 * PIECE;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    char* const ring = shared + 2048 + warp * DEPTH * STAGE;
    const uint32 barrier = address(shared + warp * DEPTH * 8);
    const long long count = bytes / (16 * STAGE) / gridDim.x;
    if (lane == 0) {
        for (int i = 0; i < DEPTH; i++) asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(barrier + 8 * i));
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    __syncthreads();
    auto load = [&](int slot, long long i) {
        if (lane != 0 || i >= count) return;
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier + 8 * slot), "r"(STAGE) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address(ring + slot * STAGE)),
                     "l"(from + ((i * gridDim.x + blockIdx.x) * 16 + warp) * STAGE), "r"(STAGE), "r"(barrier + 8 * slot) : "memory");
    };
    for (int i = 0; i < DEPTH; i++) load(i, i);
    uint4 sum = make_uint4(0, 0, 0, 0);
    uint32 parity = 0;
    int slot = 0;
    for (long long i = 0; i < count; i++) {
        asm volatile("{.reg .pred p; W: mbarrier.try_wait.parity.shared.b64 p, [%0], %1; @p bra D; bra W; D:}" ::"r"(barrier + 8 * slot), "r"(parity) : "memory");
        for (int k = 0; k < STAGE / 512; k++) add(sum, *(const uint4*)(ring + slot * STAGE + k * 512 + lane * 16));
        __syncwarp();
        load(slot, i + DEPTH);
        if (++slot == DEPTH) slot = 0, parity ^= 1;
    }
    use(sum, out);
}

extern "C" __global__ void plain(const char* from, long long bytes, uint4* out) {
    const uint4* const p = (const uint4*)from;
    const long long count = bytes / 16, stride = (long long)gridDim.x * blockDim.x;
    uint4 sum = make_uint4(0, 0, 0, 0);
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i + 3 * stride < count; i += 4 * stride) {
        const uint4 a = __ldcs(p + i), b = __ldcs(p + i + stride), c = __ldcs(p + i + 2 * stride), d = __ldcs(p + i + 3 * stride);
        add(sum, a), add(sum, b), add(sum, c), add(sum, d);
    }
    use(sum, out);
}
"""


def rate(kernel, blocks, threads, shared, **constants):
    hint = constants.pop("HINT", ".L2::128B")
    names = dict(dict(PIECE=64, DEPTH=6, OFF=0, ROW_BYTES=0), **constants)
    defines = f'#define HINT "{hint}"\n' + "".join(f"#define {name} {value}\n" for name, value in names.items())
    function = cupy.RawModule(code=defines + SOURCE, options=("--std=c++17",)).get_function(kernel)
    if shared:
        function.max_dynamic_shared_size_bytes = shared
    times = []
    for _ in range(6):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function((blocks,), (threads,), (cupy.uint64(data.data_ptr()), cupy.int64(BYTES), cupy.uint64(out.data_ptr())), shared_mem=shared)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return BYTES / min(times[1:]) / 1e9


cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream).use()
data = torch.randint(0, 2**31 - 1, (BYTES // 4,), dtype=torch.int32, device="cuda")
out = torch.zeros(4, dtype=torch.int32, device="cuda")
print(f"plain loads: {rate('plain', 2 * BLOCKS, 1024, 0):.2f} TB/s")
for row_bytes, piece, depth, hint in [(0, 64, 6, ".L2::128B"), (8192, 256, 2, ".L2::128B"), (8192, 128, 3, ".L2::128B"),
                                      (8192, 64, 6, ".L2::128B"), (8192, 64, 6, "")]:
    on, off = (rate("copies", BLOCKS, 512, WARPS * depth * ROWS * piece + 64, ROW_BYTES=row_bytes, PIECE=piece, DEPTH=depth, HINT=hint, OFF=by)
               for by in (0, 16))
    what = f"{piece} bytes of each of 16 rows" if row_bytes else "1 KB in one piece"
    print(f"{what}, hint {hint or 'none'}: {on:.2f} TB/s with rings on a line, {off:.2f} with rings 16 bytes off")
for stage, depth in [(512, 6), (1024, 6), (2048, 6), (4096, 3)]:
    print(f"bulk copies of {stage} bytes: {rate('bulk', BLOCKS, 512, WARPS * depth * stage + 2048, PIECE=stage // 16, DEPTH=depth):.2f} TB/s")
