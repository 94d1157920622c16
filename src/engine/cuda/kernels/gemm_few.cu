// GEMM in binary16 and bfloat16 for few rows, as decode steps have them: y = x · Wᵀ (+ bias) (+ y), or with an activation; or of each row the
// highest output alone.
//
// x    element [rows, inputs]       row-major; rows = M, inputs = K
// w    element [outputs, inputs]    row-major; outputs = N; gated: the first outputs / 2 rows are gates, the rest up
// bias element [outputs] or null
// y    element or f32 [rows, outputs], or element [rows, outputs / 2] where gated, or u64 [rows] (HIGHEST): keys (highest.cuh), each of which
//      the highest of its row's takes the place of where it is higher
//
// Such a GEMM is bound by reading the weights, and by what lies between one kernel and the next. Weights do not depend on the previous
// kernel: with programmatic dependent launch all stages of the pipeline are filled with them before this kernel waits for that one.
//
// Work split: a block computes TILE_ROWS × TILE sums over all inputs. Up to four warps multiply, 16 rows each or the same rows and other outputs;
// two copy weights and two copy x, a stage of STEP inputs at a time, so that no copy's instructions stand between two multiplications. One
// barrier a step says that the next stage has arrived and that the last one is free; it lies in the middle of a step, where nobody waits
// for it. Lines of a stage are permuted by sixteen bytes, so that ldmatrix meets no bank twice.
//
// Where tiles are few and inputs are many, the blocks of a cluster (compute capability 9.0) sum over PARTS equal parts of the inputs, and the
// first adds up their sums in ascending order, through distributed shared memory.
//
// Order of summation in a part: inputs ascending, one mma.m16n8k16 after the other, in binary32. It depends on nothing else, and of one part is that of cuBLASLt's
// algorithms that do not split sums, like these roundings: to the element type before y is added, and of gates and ups before they are used.
//
// Host: inputs % 8 == 0, outputs even (gated: a multiple of 4), x, w and y 16-byte aligned. Grid: (column tiles, row tiles).

constexpr int CONSUMERS = 128;        // threads that multiply
constexpr int LOADERS = 64;           // threads that copy weights, and as many that copy x
constexpr int THREADS = CONSUMERS + 2 * LOADERS;
enum { STORE, ADD, RELU, HIGHEST };

__device__ __forceinline__ void block_barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

#if __CUDA_ARCH__ >= 900
// Of all threads of a cluster that have not ended: what they wrote before is seen behind it.
__device__ __forceinline__ void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Four numbers at a shared address of this block, as they are in the block of that rank.
__device__ __forceinline__ float4 load_of_rank(uint32 address, int rank) {
    uint32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    float4 x;
    asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "r"(there) : "memory");
    return x;
}
#endif

template <int TILE_ROWS, int TILE, int STEP, int STAGES, bool GATED, int PARTS = 1>
__device__ __forceinline__ void gemm(const element* __restrict__ x, const element* __restrict__ w, const element* __restrict__ bias,
                                     void* y, int rows, int outputs, int inputs, int epilogue, int f32_output) {
    // Warps that multiply: in small tiles not all. Gated: two fragments of eight outputs a warp at least, gates and ups.
    constexpr int WARP_ROWS = TILE_ROWS / 16, MOST_COLUMNS = TILE / (GATED ? 16 : 8);
    constexpr int WARP_COLUMNS = MOST_COLUMNS < 4 / WARP_ROWS ? MOST_COLUMNS : 4 / WARP_ROWS, FRAGMENTS = TILE / WARP_COLUMNS / 8;
    constexpr int LINE = STEP * 2, CHUNKS = LINE / 16;  // of a line: bytes, sixteens of them
    constexpr int STAGE = (TILE_ROWS + TILE) * LINE;
    static_assert(WARP_ROWS * WARP_COLUMNS <= 4 && FRAGMENTS > 0 && (!GATED || FRAGMENTS % 2 == 0), "warps divide the tile");
    static_assert(STAGES >= 3, "one being read, one free, one on its way");
    extern __shared__ __align__(128) uint8 shared[];
    const uint32 base = (uint32)__cvta_generic_to_shared(shared);
    const int first_row = blockIdx.y * TILE_ROWS, first_output = blockIdx.x * TILE;  // gated: of both halves interleaved
    const int all_steps = (inputs + STEP - 1) / STEP, rank = PARTS > 1 ? blockIdx.z : 0, half = outputs / 2;
    const int first_step = rank * all_steps / PARTS, steps = (rank + 1) * all_steps / PARTS - first_step;
    launch_dependents();

    if (threadIdx.x >= CONSUMERS) {
        // A loader copies one sixteen-byte chunk of every PASS-th line.
        constexpr int PASS = LOADERS / CHUNKS;
        const bool loads_weights = threadIdx.x < CONSUMERS + LOADERS;
        const int loader = threadIdx.x % LOADERS, chunk = loader % CHUNKS, line = loader / CHUNKS;
        const int first_line = (loads_weights ? GATED ? first_output / 2 : first_output : first_row) + line;
        const int first_input = first_step * STEP + chunk * 8;
        const element* const from = (loads_weights ? w : x) + (long long)first_line * inputs + first_input;
        const int lines_left = (loads_weights ? (GATED ? half : outputs) : rows) - first_line;
        auto load = [&](int step, int stage) {
            const bool inside = step * STEP + first_input < inputs;
            const element* const here = from + step * STEP;
            const uint32 to = base + stage * STAGE;
            if (loads_weights) {
#pragma unroll
                for (int p = 0; p < TILE / PASS; p++) {
                    // Gated: lines in groups of eight, gates and ups alternately.
                    const int l = line + p * PASS, down = GATED ? p * PASS / 16 * 8 + p * PASS % 8 : p * PASS;
                    const bool valid = inside && down < lines_left;
                    const long long offset = (long long)(down + (GATED && p * PASS / 8 % 2 ? half : 0)) * inputs;
                    copy_async(to + (TILE_ROWS + l) * LINE + (chunk ^ l % 8) * 16, valid ? here + offset : w, valid);
                }
            } else {
#pragma unroll
                for (int p = 0; p < TILE_ROWS / PASS; p++) {
                    const int l = line + p * PASS;
                    const bool valid = inside && p * PASS < lines_left;
                    copy_async(to + l * LINE + (chunk ^ l % 8) * 16, valid ? here + (long long)p * PASS * inputs : x, valid);
                }
            }
        };
        if (!loads_weights) wait_for_previous_kernel();
        for (int s = 0; s < STAGES; s++) {
            if (s < steps) load(s, s);
            commit_copies();
        }
        wait_for_copies<STAGES - 1>();
        block_barrier();
        // Before barrier number `step` its stage is there; behind it, all have read the stage of step - 2.
        int stage = STAGES - 1;
        for (int step = 1; step < steps; step++) {
            wait_for_copies<STAGES - 3>();
            block_barrier();
            if (step >= 2 && step - 2 + STAGES < steps) load(step - 2 + STAGES, stage);
            commit_copies();
            if (++stage == STAGES) stage = 0;
        }
        return;
    }

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    if (warp >= WARP_ROWS * WARP_COLUMNS) {
        for (int step = 0; step < steps; step++) block_barrier();
        return;
    }
    const int warp_row = warp % WARP_ROWS * 16, warp_output = warp / WARP_ROWS * FRAGMENTS * 8;
    const int output = GATED ? first_output / 2 + warp_output / 2 + 2 * t : first_output + warp_output + 2 * t;
    const int row = first_row + warp_row + g;
    constexpr int PIECES = GATED ? FRAGMENTS / 2 : FRAGMENTS;  // pairs of neighbouring outputs of a lane in each of its two rows
    const int width = GATED ? half : outputs;
    uint32 biases[FRAGMENTS], added[PIECES][2];
#pragma unroll
    for (int j = 0; j < FRAGMENTS; j++) {
        const int at = GATED ? output + j / 2 * 8 : output + j * 8;
        biases[j] = bias && at < width ? *(const uint32*)(bias + at + (GATED && j % 2 ? half : 0)) : 0;
    }
    wait_for_previous_kernel();
    if (!GATED && epilogue == ADD && rank == 0) {
#pragma unroll
        for (int j = 0; j < PIECES; j++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const bool valid = row + i * 8 < rows && output + j * 8 < width;
                added[j][i] = valid ? *(const uint32*)((const element*)y + (long long)(row + i * 8) * width + output + j * 8) : 0;
            }
        }
    }

    float sums[FRAGMENTS][4] = {};
    // Operands of PIECE inputs, one set being multiplied and one being read.
    constexpr int PIECE = FRAGMENTS >= 4 ? 16 : 32, STEP_PIECES = STEP / PIECE;
    uint32 a[2][PIECE / 16][4], b[2][FRAGMENTS * PIECE / 32][4];
    const int swizzle = lane % 8;
    const uint32 my_x = base + (warp_row + lane % 16) * LINE;
    const uint32 my_w = base + (TILE_ROWS + warp_output + (PIECE == 16 ? lane / 16 * 8 : 0) + lane % 8) * LINE;
    auto fetch = [&](int set, uint32 at, int part) {
#pragma unroll
        for (int i = 0; i < PIECE / 16; i++) load_matrices(a[set][i], my_x + at + ((part * (PIECE / 8) + i * 2 + lane / 16) ^ swizzle) * 16);
        if (PIECE == 32) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS; j++) load_matrices(b[set][j], my_w + at + j * 8 * LINE + ((part * 4 + lane / 8) ^ swizzle) * 16);
        } else {
#pragma unroll
            for (int j = 0; j < FRAGMENTS / 2; j++) load_matrices(b[set][j], my_w + at + j * 16 * LINE + ((part * 2 + lane / 8 % 2) ^ swizzle) * 16);
        }
    };
    auto multiply = [&](int set) {
#pragma unroll
        for (int i = 0; i < PIECE / 16; i++) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS; j++) {
                uint32(&x)[4] = a[set][i];
                const uint32* w = PIECE == 32 ? &b[set][j][2 * i] : &b[set][j / 2][j % 2 * 2];
                mma(sums[j], x[0], x[1], x[2], x[3], w[0], w[1]);
            }
        }
    };
    uint32 at = 0;
    block_barrier();
    fetch(0, 0, 0);
    for (int step = 0; step < steps; step++) {
        const uint32 next = at + STAGE == STAGES * STAGE ? 0 : at + STAGE;
#pragma unroll
        for (int part = 0; part < STEP_PIECES; part++) {
            if (part + 1 < STEP_PIECES) {
                fetch((part + 1) % 2, at, part + 1);
            } else if (step + 1 < steps) {
                fetch((part + 1) % 2, next, 0);
            }
            multiply(part % 2);
            if (part == STEP_PIECES / 2 - 1 && step + 1 < steps) block_barrier();
        }
        at = next;
    }

#if __CUDA_ARCH__ >= 900
    if constexpr (PARTS > 1) {
        // Behind the stages: each thread's sums, a fragment of all threads after the other.
        const uint32 mine = base + STAGES * STAGE + threadIdx.x * 16;
#pragma unroll
        for (int j = 0; j < FRAGMENTS; j++) {
            float(&x)[4] = sums[j];
            asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(mine + j * CONSUMERS * 16), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
                         : "memory");
        }
        cluster_barrier();
        if (rank == 0) {
            float4 others[PARTS - 1][FRAGMENTS];
#pragma unroll
            for (int other = 1; other < PARTS; other++) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS; j++) others[other - 1][j] = load_of_rank(mine + j * CONSUMERS * 16, other);
            }
#pragma unroll
            for (int other = 0; other < PARTS - 1; other++) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS; j++) {
                    sums[j][0] += others[other][j].x, sums[j][1] += others[other][j].y;
                    sums[j][2] += others[other][j].z, sums[j][3] += others[other][j].w;
                }
            }
        }
        cluster_barrier();  // the first block has read the others' memory
        if (rank > 0) return;
    }
#endif

    if constexpr (!GATED && PARTS == 1) {
        if (epilogue == HIGHEST) {
            uint64 tops[2] = {0, 0};
#pragma unroll
            for (int j = 0; j < PIECES; j++) {
                const int column = output + j * 8;
                const float2 added = widen2<element>(biases[j]);
                if (column >= width) continue;
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float2 sum = make_float2(sums[j][2 * i], sums[j][2 * i + 1]);
                    if (bias) sum.x += added.x, sum.y += added.y;
                    tops[i] = higher(tops[i], higher(key_of(sum.x, column), key_of(sum.y, column + 1)));
                }
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                tops[i] = higher(tops[i], __shfl_xor_sync(0xffffffffu, tops[i], 1));
                tops[i] = higher(tops[i], __shfl_xor_sync(0xffffffffu, tops[i], 2));
            }
            const int mine = row + t * 8;
            if (t >= 2 || mine >= rows) return;
            const uint64 top = t == 0 ? tops[0] : tops[1];
            volatile uint64* const best = (volatile uint64*)y + mine;
            // Most are not higher than what is there, and need no atomic operation.
            if (top > *best) atomicMax((uint64*)best, top);
            return;
        }
    }
#pragma unroll
    for (int j = 0; j < PIECES; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int column = output + j * 8;
            if (row + i * 8 >= rows || column >= width) continue;
            const long long place = (long long)(row + i * 8) * width + column;
            if constexpr (GATED) {
                const float2 gate_bias = widen2<element>(biases[2 * j]), up_bias = widen2<element>(biases[2 * j + 1]);
                float2 gate = make_float2(sums[2 * j][2 * i] + gate_bias.x, sums[2 * j][2 * i + 1] + gate_bias.y);
                float2 up = make_float2(sums[2 * j + 1][2 * i] + up_bias.x, sums[2 * j + 1][2 * i + 1] + up_bias.y);
                gate = make_float2(stored(gate.x), stored(gate.y)), up = make_float2(stored(up.x), stored(up.y));
                *(uint32*)((element*)y + place) =
                    pack2(gate.x / (1.0f + expf(-gate.x)) * up.x, gate.y / (1.0f + expf(-gate.y)) * up.y);
            } else {
                const float2 first = widen2<element>(biases[j]);
                float2 sum = make_float2(sums[j][2 * i], sums[j][2 * i + 1]);
                if (bias) sum.x += first.x, sum.y += first.y;
                if (epilogue == ADD) {
                    const float2 old = widen2<element>(added[j][i]);
                    sum = make_float2(stored(sum.x) + old.x, stored(sum.y) + old.y);
                }
                if (epilogue == RELU) sum.x = fmaxf(sum.x, 0.0f), sum.y = fmaxf(sum.y, 0.0f);
                if (f32_output) {
                    *(float2*)((float*)y + place) = sum;
                } else {
                    *(uint32*)((element*)y + place) = pack2(sum.x, sum.y);
                }
            }
        }
    }
}

#define KERNEL(NAME, TILE_ROWS, TILE, STEP, STAGES, GATED)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME(const element* x, const element* w, const element* bias, void* y, \
                                                                  int rows, int outputs, int inputs, int epilogue, int f32_output) { \
        gemm<TILE_ROWS, TILE, STEP, STAGES, GATED>(x, w, bias, y, rows, outputs, inputs, epilogue, f32_output);                     \
    }
// As in TILES of ops/gemm_few.rs.
KERNEL(gemm_16_16, 16, 16, 128, 12, false)
KERNEL(gemm_16_32, 16, 32, 128, 8, false)
KERNEL(gemm_16_64, 16, 64, 128, 5, false)
KERNEL(gemm_32_32, 32, 32, 128, 6, false)
KERNEL(gemm_32_64, 32, 64, 64, 8, false)
KERNEL(gemm_64_32, 64, 32, 64, 8, false)
KERNEL(gemm_64_64, 64, 64, 64, 6, false)
KERNEL(gemm_16_32_gated, 16, 32, 128, 8, true)
KERNEL(gemm_16_64_gated, 16, 64, 128, 5, true)

// The same with sums in parts, for few tiles and many inputs. Grid: (column tiles, row tiles, PARTS).
#define SPLIT_KERNEL(NAME, TILE_ROWS, TILE, STEP, STAGES, PARTS)                                                                            \
    extern "C" __global__ void __cluster_dims__(1, 1, PARTS) __launch_bounds__(THREADS, 2)                                                  \
        NAME(const element* x, const element* w, const element* bias, void* y, int rows, int outputs, int inputs, int epilogue,             \
             int f32_output) {                                                                                                              \
        gemm<TILE_ROWS, TILE, STEP, STAGES, false, PARTS>(x, w, bias, y, rows, outputs, inputs, epilogue, f32_output);                      \
    }
#if __CUDA_ARCH__ >= 900
SPLIT_KERNEL(gemm_16_32_split_4, 16, 32, 128, 6, 4)
SPLIT_KERNEL(gemm_32_32_split_2, 32, 32, 128, 6, 2)
SPLIT_KERNEL(gemm_32_32_split_4, 32, 32, 128, 6, 4)
#endif
