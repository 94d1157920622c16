// Mixtures of experts: MLPs of which a router chooses CHOSEN for each row. Between the GEMMs of `forward.rs`:
//
//   route       scores [rows, EXPERTS] → the CHOSEN largest of each row in the order of their numbers, and their weights: of a softmax over
//               all, or over the chosen (NORMALISED)
//   group       an order of all assignments (row · CHOSEN + i) in which those of an expert stand together, cut into tiles of one expert
//   multiply_*  y[assignment] = W[expert] · x[assignment / divisor] (+ bias[expert]), for tiles of 16 or 64 assignments
//   gate        y = silu(gate) · up, of rows of any width; with a SWIGLU_LIMIT g · sigmoid(SWIGLU_ALPHA · g) · (u + 1), g = min(gate, limit),
//               u = up within ± limit
//   combine     x += Σ weight · y of the row's experts, in the order of their numbers, + sigmoid(gate · h) · shared (SHARED)
//
// Shapes, row-major: scores, x, y of `element`; chosen i32 and weights f32 [rows, CHOSEN]; order i32 [rows · CHOSEN]; tiles int4 [max_tiles]
// {expert, first place in order, assignments, 0}, expert below 0 for none; W [EXPERTS, outputs, inputs], bias [EXPERTS, outputs] or null.
//
// The host knows the number of rows alone: grids are as large as any choice of experts may need, and what a launch does not need ends at once.
// Which assignments share a tile depends on the batch, and their order within an expert even on chance; yet a row's bits depend on that row
// alone: every output of a tile is a sum of its own, over inputs in ascending order, by one chain of additions whatever the tile.
//
// Constants: ELEMENT, HIDDEN, EXPERTS, CHOSEN, NORMALISED (0, 1), SHARED (0, 1), SWIGLU_ALPHA and SWIGLU_LIMIT where they are. Host: inputs are multiples of 8 (binary32: 4), outputs are
// even, pointers are 16-byte aligned.

#define THREADS 256
constexpr int TILE_OUTPUTS = 64;

// A warp a row. Of equal scores the first. What is no number counts as −∞.
extern "C" __global__ void __launch_bounds__(THREADS) route(const element* scores, int rows, int* chosen, float* weights) {
    launch_dependents();
    wait_for_previous_kernel();
    constexpr int EACH = (EXPERTS + 31) / 32;
    static_assert(EACH <= 32 && CHOSEN <= EXPERTS, "a lane has a bit for each of its experts");
    const float least = __int_as_float(0xff800000);
    const int row = (blockIdx.x * THREADS + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float score[EACH], highest = least;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int expert = i * 32 + lane;
        score[i] = expert < EXPERTS ? fmaxf(widen(scores[(size_t)row * EXPERTS + expert]), least) : least;
        highest = fmaxf(highest, score[i]);
    }
    highest = warp_max(highest);
    uint32 taken = 0;  // bit i: this lane's expert i · 32 + lane
    for (int k = 0; k < CHOSEN; k++) {
        float best = least;
        int at = EXPERTS;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int expert = i * 32 + lane;
            const bool free = expert < EXPERTS && !(taken >> i & 1);
            if (free && (at == EXPERTS || score[i] > best)) best = score[i], at = expert;
        }
#pragma unroll
        for (int offset = 16; offset > 0; offset >>= 1) {
            const float other = __shfl_xor_sync(0xffffffffu, best, offset);
            const int other_at = __shfl_xor_sync(0xffffffffu, at, offset);
            // Where one has none left, its number is behind all others.
            if (at == EXPERTS || other_at < EXPERTS && (other > best || other == best && other_at < at)) best = other, at = other_at;
        }
        if (at % 32 == lane) taken |= 1u << (at / 32);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        score[i] = expf(score[i] - highest);
        if (!NORMALISED || taken >> i & 1) sum += score[i];
    }
    sum = warp_sum(sum);
    int before = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const bool is_taken = taken >> i & 1;
        const uint32 all = __ballot_sync(0xffffffffu, is_taken);
        if (is_taken) {
            const size_t place = (size_t)row * CHOSEN + before + __popc(all & ((1u << lane) - 1));
            chosen[place] = i * 32 + lane;
            weights[place] = stored(score[i] / sum);
        }
        before += __popc(all);
    }
}

// One block. `tile`: the most assignments of a tile.
extern "C" __global__ void __launch_bounds__(1024) group(const int* chosen, int count, int tile, int* order, int4* tiles, int max_tiles) {
    __shared__ int counts[EXPERTS], starts[EXPERTS], first_tiles[EXPERTS], all_tiles;
    launch_dependents();
    wait_for_previous_kernel();
    for (int expert = threadIdx.x; expert < EXPERTS; expert += blockDim.x) counts[expert] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) atomicAdd(&counts[chosen[i]], 1);
    __syncthreads();
    if (threadIdx.x < 32) {
        // Running sums over the experts, 32 at a time.
        int start = 0, first = 0;
        for (int base = 0; base < EXPERTS; base += 32) {
            const int expert = base + threadIdx.x, own = expert < EXPERTS ? counts[expert] : 0, own_tiles = (own + tile - 1) / tile;
            int sum = own, sum_tiles = own_tiles;
#pragma unroll
            for (int offset = 1; offset < 32; offset *= 2) {
                const int a = __shfl_up_sync(0xffffffffu, sum, offset), b = __shfl_up_sync(0xffffffffu, sum_tiles, offset);
                if (threadIdx.x >= offset) sum += a, sum_tiles += b;
            }
            if (expert < EXPERTS) starts[expert] = start + sum - own, first_tiles[expert] = first + sum_tiles - own_tiles;
            start += __shfl_sync(0xffffffffu, sum, 31);
            first += __shfl_sync(0xffffffffu, sum_tiles, 31);
        }
        if (threadIdx.x == 0) all_tiles = first;
    }
    __syncthreads();
    for (int expert = threadIdx.x; expert < EXPERTS; expert += blockDim.x) {
        for (int done = 0; done < counts[expert]; done += tile) {
            tiles[first_tiles[expert] + done / tile] = make_int4(expert, starts[expert] + done, min(tile, counts[expert] - done), 0);
        }
    }
    for (int i = all_tiles + threadIdx.x; i < max_tiles; i += blockDim.x) tiles[i] = make_int4(-1, 0, 0, 0);
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) order[atomicAdd(&starts[chosen[i]], 1)] = i;
}

// A tile of assignments by TILE_OUTPUTS outputs; grid: (outputs / TILE_OUTPUTS, max_tiles). Inputs come in steps of INPUTS through a ring of
// STAGES steps in shared memory.
#if ELEMENT == 0
constexpr int TILE_THREADS = 256, INPUTS = 32, STAGES = 2, PADDED = INPUTS + 4, VECTOR = 4;
#else
constexpr int TILE_THREADS = 128, INPUTS = 64, STAGES = 3, PADDED = INPUTS + 8, VECTOR = 8;
#endif

#if ELEMENT == 0
// Thread (x, y) of 16 × 16 owns rows y + 16i and outputs x + 16j.
template <int TILE_ROWS> struct Sums {
    float of[TILE_ROWS / 16][4] = {};

    __device__ __forceinline__ void add(const float* rows, const float* weights) {
        const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
        for (int vector = 0; vector < INPUTS / 4; vector++) {
            float4 a[TILE_ROWS / 16], b[4];
#pragma unroll
            for (int i = 0; i < TILE_ROWS / 16; i++) a[i] = *(const float4*)(rows + (y + 16 * i) * PADDED + vector * 4);
#pragma unroll
            for (int j = 0; j < 4; j++) b[j] = *(const float4*)(weights + (x + 16 * j) * PADDED + vector * 4);
#pragma unroll
            for (int i = 0; i < TILE_ROWS / 16; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    float& sum = of[i][j];
                    sum = __fmaf_rn(a[i].x, b[j].x, sum);
                    sum = __fmaf_rn(a[i].y, b[j].y, sum);
                    sum = __fmaf_rn(a[i].z, b[j].z, sum);
                    sum = __fmaf_rn(a[i].w, b[j].w, sum);
                }
            }
        }
    }
    // store(row, output, sum) of every sum.
    template <typename Store> __device__ __forceinline__ void store(Store store) const {
#pragma unroll
        for (int i = 0; i < TILE_ROWS / 16; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) store(threadIdx.x / 16 + 16 * i, threadIdx.x % 16 + 16 * j, of[i][j]);
        }
    }
};
#else
// TILE_ROWS / 16 warps side by side take 16 rows each, the others share out the outputs.
template <int TILE_ROWS> struct Sums {
    static constexpr int ROW_WARPS = TILE_ROWS / 16, COLUMN_WARPS = 4 / ROW_WARPS, COLUMNS = TILE_OUTPUTS / COLUMN_WARPS;
    float of[COLUMNS / 8][4] = {};

    __device__ __forceinline__ static int row() { return threadIdx.x / 32 % ROW_WARPS * 16; }
    __device__ __forceinline__ static int column() { return threadIdx.x / 32 / ROW_WARPS * COLUMNS; }

    __device__ __forceinline__ void add(const element* rows, const element* weights) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int step = 0; step < INPUTS / 16; step++) {
            uint32 a[4];
            load_matrices(a, rows + (row() + lane % 16) * PADDED + step * 16 + lane / 16 * 8);
#pragma unroll
            for (int pair = 0; pair < COLUMNS / 16; pair++) {
                // The four 8 × 8 matrices: outputs 0–7 at inputs 0–7 and 8–15, outputs 8–15 at inputs 0–7 and 8–15.
                uint32 b[4];
                load_matrices(b, weights + (column() + pair * 16 + lane / 16 * 8 + lane % 8) * PADDED + step * 16 + lane / 8 % 2 * 8);
                mma(of[2 * pair], a[0], a[1], a[2], a[3], b[0], b[1]);
                mma(of[2 * pair + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
            }
        }
    }
    template <typename Store> __device__ __forceinline__ void store(Store store) const {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) store(row() + g + i / 2 * 8, column() + n * 8 + t * 2 + i % 2, of[n][i]);
        }
    }
};
#endif

template <int TILE_ROWS>
__device__ __forceinline__ void multiply(const element* x, int divisor, const element* weights, const element* bias, int outputs,
                                         int inputs, const int* order, const int4* tiles, element* y) {
    extern __shared__ __align__(128) uint4 shared[];
    __shared__ int assignments[TILE_ROWS];
    constexpr int ROWS = TILE_ROWS + TILE_OUTPUTS, STAGE = ROWS * PADDED;
    launch_dependents();
    wait_for_previous_kernel();
    const int4 tile = tiles[blockIdx.y];
    const int expert = tile.x, count = tile.z, first_output = blockIdx.x * TILE_OUTPUTS;
    if (expert < 0) return;
    for (int i = threadIdx.x; i < TILE_ROWS; i += TILE_THREADS) assignments[i] = i < count ? order[tile.y + i] : 0;
    __syncthreads();
    const element* const matrix = weights + (size_t)expert * outputs * inputs;
    const int steps = (inputs + INPUTS - 1) / INPUTS;
    auto copy = [&](int step) {
        element* const to = (element*)shared + step % STAGES * STAGE;
#pragma unroll 4
        for (int i = threadIdx.x; i < ROWS * (INPUTS / VECTOR); i += TILE_THREADS) {
            const int row = i / (INPUTS / VECTOR), column = i % (INPUTS / VECTOR) * VECTOR, input = step * INPUTS + column;
            const int output = first_output + row - TILE_ROWS;
            const bool valid = input < inputs && (row < TILE_ROWS ? row < count : output < outputs);
            const element* from = matrix;
            if (valid) {
                from = (row < TILE_ROWS ? x + (size_t)(assignments[row] / divisor) * inputs : matrix + (size_t)output * inputs) + input;
            }
            copy_async(to + row * PADDED + column, from, valid);
        }
    };
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < steps) copy(step);
        commit_copies();
    }
    Sums<TILE_ROWS> sums;
    for (int step = 0; step < steps; step++) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // the step has arrived for all, and all are through with the one before it
        if (step + STAGES - 1 < steps) copy(step + STAGES - 1);
        commit_copies();
        const element* const rows = (const element*)shared + step % STAGES * STAGE;
        sums.add(rows, rows + TILE_ROWS * PADDED);
    }
    sums.store([&](int row, int output, float sum) {
        output += first_output;
        if (row >= count || output >= outputs) return;
        if (bias) sum += widen(bias[(size_t)expert * outputs + output]);
        y[(size_t)assignments[row] * outputs + output] = narrow<element>(sum);
    });
}
extern "C" __global__ void __launch_bounds__(TILE_THREADS) multiply_few(const element* x, int divisor, const element* weights,
                                                                        const element* bias, int outputs, int inputs, const int* order,
                                                                        const int4* tiles, element* y) {
    multiply<16>(x, divisor, weights, bias, outputs, inputs, order, tiles, y);
}
extern "C" __global__ void __launch_bounds__(TILE_THREADS) multiply_many(const element* x, int divisor, const element* weights,
                                                                         const element* bias, int outputs, int inputs, const int* order,
                                                                         const int4* tiles, element* y) {
    multiply<64>(x, divisor, weights, bias, outputs, inputs, order, tiles, y);
}

// y [rows, width]; x [rows, 2 · width] holds gate, then up.
extern "C" __global__ void gate(const element* x, int rows, int width, element* y) {
    launch_dependents();
    wait_for_previous_kernel();
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)rows * width) return;
    const size_t row = i / width, at = i % width;
    const float g = widen(x[row * 2 * width + at]), up = widen(x[row * 2 * width + width + at]);
#ifdef SWIGLU_LIMIT
    const float clamped = fminf(g, SWIGLU_LIMIT), shifted = fminf(fmaxf(up, -SWIGLU_LIMIT), SWIGLU_LIMIT) + 1.0f;
    y[i] = narrow<element>(shifted * clamped / (1.0f + expf(-SWIGLU_ALPHA * clamped)));
#else
    y[i] = narrow<element>(g / (1.0f + expf(-g)) * up);
#endif
}

// One block a row. h, x, shared [rows, HIDDEN], y [rows · CHOSEN, HIDDEN]; gate_weight [HIDDEN]. Every term and every sum is stored, as if
// each were an operation of its own.
extern "C" __global__ void __launch_bounds__(THREADS) combine(const element* y, const float* weights, const element* h, const element* shared,
                                                              const element* gate_weight, element* x) {
    launch_dependents();
    wait_for_previous_kernel();
    const size_t row = blockIdx.x;
#if SHARED
    __shared__ float scratch[THREADS / 32];
    float dot = 0.0f;
    for (int i = threadIdx.x; i < HIDDEN; i += THREADS) dot = fmaf(widen(h[row * HIDDEN + i]), widen(gate_weight[i]), dot);
    const float open = stored(1.0f / (1.0f + expf(-stored(block_sum<THREADS>(dot, scratch)))));
#endif
    for (int i = threadIdx.x; i < HIDDEN; i += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < CHOSEN; k++) {
            const size_t assignment = row * CHOSEN + k;
            sum = stored(sum + stored(__fmul_rn(widen(y[assignment * HIDDEN + i]), weights[assignment])));
        }
#if SHARED
        sum = stored(sum + stored(__fmul_rn(widen(shared[row * HIDDEN + i]), open)));
#endif
        x[row * HIDDEN + i] = narrow<element>(widen(x[row * HIDDEN + i]) + sum);
    }
}
