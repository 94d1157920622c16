// GEMM in binary32 on Hopper's FP64 tensor cores: y = x · Wᵀ (+ bias) (+ y), or gated: y = silu(x · Wgateᵀ) · (x · Wupᵀ).
//
// x       f32 [rows, inputs]               row-major; rows = M, inputs = K
// w       f32 [outputs, inputs]            row-major; outputs = N; gated: the first outputs / 2 rows are gates, the rest up
// bias    f32 [outputs] or null
// y       f32 [rows, outputs], or [rows, outputs / 2] where gated
// partial f64 [2 · blocks, TILE_ROWS · TILE], arrivals i32 [2 · blocks]: workspace; arrivals are zero before and after a launch
//
// Arithmetic: operands are widened to binary64 on their way into the tensor cores, which Hopper multiplies as fast as its FP32 units
// multiply binary32. Products are exact, sums are binary64, the result is rounded once.
//
// Work split: blocks of four warps, two a multiprocessor, as many as are resident at once. Output tiles are TILE_ROWS (64, or 16 for few
// rows) × TILE; a block first computes `rounds` whole tiles, number blockIdx.x + i · gridDim.x. The K loops of the tiles that are left
// are cut into steps of 32 inputs and every block takes `share` consecutive steps ("stream-K": Osama et al., 2023, arXiv 2301.03598), so
// that all blocks end together. Blocks write their partial sums of shared tiles to `partial`; when all parts of a tile have arrived, its
// blocks each add up some of the tile's sums, part by part in ascending K. A gated tile holds 32 gate and 32 up outputs, in groups of
// eight alternately, so that one lane holds both of an output.
//
// Order of summation: inputs ascending within a part, then parts ascending. It depends on (rows, outputs, inputs, gridDim.x) alone; where
// no tile is left after the rounds, on inputs alone, hence not on the number of rows.
//
// Host: inputs % 4 == 0, x and w 16-byte aligned, rows · inputs and outputs · inputs below 2³². Blocks wait for each other on shared
// tiles, so the grid must be resident at once: gridDim.x = 2 · multiprocessors. Where other work takes room, blocks start in order, and a
// tile's blocks are neighbours and far fewer than fit.

#define TILE 64
#define STEP 32
#define THREADS 128
// Floats of a pipeline stage: STEP inputs of the tile's rows of x, then of its rows of W. Small tiles are memory-bound: more stages.
#define STAGE ((TILE_ROWS + TILE) * STEP)
#define STAGES (TILE_ROWS == 64 ? 3 : 6)
// A warp's part of the tile, in mma fragments of 16 rows and of 8 outputs. Warps are arranged 2 × 2, or 1 × 4 for 16-row tiles.
#define WARP_ROWS (TILE_ROWS == 64 ? 2 : 1)
#define ROW_FRAGMENTS (TILE_ROWS / WARP_ROWS / 16)
#define COLUMN_FRAGMENTS (TILE / (THREADS / 32 / WARP_ROWS) / 8)

// mma.m16n8k16 in binary64: d += a · b, a [16, 16] row-major, b [16, 8] column-major, d [16, 8]. With g = lane / 4, t = lane % 4:
// a[2i] = (g, t + 4i), a[2i + 1] = (g + 8, t + 4i); b[i] = (t + 4i, g); d = (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void mma_f64(double (&d)[4], const double (&a)[8], const double (&b)[4]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5,%6,%7,%8,%9,%10,%11}, {%12,%13,%14,%15}, "
        "{%0,%1,%2,%3};"
        : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
        : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(a[4]), "d"(a[5]), "d"(a[6]), "d"(a[7]), "d"(b[0]), "d"(b[1]),
          "d"(b[2]), "d"(b[3]));
}

// Numbering of output tiles: down a panel of `panel` row tiles, then on to the next column, so that what concurrent blocks read stays
// in the L2 cache.
struct Tiles {
    int row_tiles, column_tiles, panel;
    // The first row and output of a tile.
    __device__ __forceinline__ void corner(int tile, int& row, int& output) const {
        const int above = tile / (panel * column_tiles) * panel, inside = tile - above * column_tiles;
        const int width = min(panel, row_tiles - above);
        row = (above + inside % width) * TILE_ROWS;
        output = inside / width * TILE;
    }
};

// A block's sequence of steps: those of its whole tiles, then its share of the tiles that are left. find: position → (tile, K step).
struct Work {
    int rounds, steps, first_left, first_shared, end;
    __device__ __forceinline__ void find(int position, int& tile, int& step) const {
        const int whole = rounds * steps;
        if (position < whole) {
            tile = blockIdx.x + position / steps * gridDim.x;
            step = position % steps;
        } else {
            tile = first_left + (first_shared + position - whole) / steps;
            step = (first_shared + position - whole) % steps;
        }
    }
};

__device__ __forceinline__ int load_acquire(const int* from) {
    int value;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}

// A lane's sums in two horizontally adjacent fragments: [fragment][column], two neighbouring columns of one row each.
struct Piece { double at[2][2]; };
#define PIECES (2 * ROW_FRAGMENTS * COLUMN_FRAGMENTS / 2)

// Epilogue: bias, residual or gating, and the store.
template <bool GATED> struct Outputs {
    const float* bias;
    float* y;
    int rows, outputs;
    bool accumulate;

    // `output`: column of the piece's first sum in y; the pieces of a gated tile hold two gates and the two ups that belong to them.
    __device__ __forceinline__ void store(const Piece& sums, int row, int output) const {
        if (row >= rows) return;
        if constexpr (GATED) {
            const int half = outputs / 2;
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = output + e;
                if (at >= half) continue;
                const float gate = (float)(bias ? sums.at[0][e] + bias[at] : sums.at[0][e]);
                const float up = (float)(bias ? sums.at[1][e] + bias[half + at] : sums.at[1][e]);
                y[(size_t)row * half + at] = gate / (1.0f + expf(-gate)) * up;
            }
        } else {
#pragma unroll
            for (int j = 0; j < 2; j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int at = output + j * 8 + e;
                    if (at >= outputs) continue;
                    double sum = sums.at[j][e];
                    if (bias) sum += bias[at];
                    float* to = y + (size_t)row * outputs + at;
                    if (accumulate) sum += *to;
                    *to = (float)sum;
                }
            }
        }
    }
};

// share: steps a block of the tiles after the rounds. partial: double2 [2 · blocks, PIECES, 2, THREADS]; arrivals: int [tiles left].
template <bool GATED>
__device__ __forceinline__ void gemm(const float* __restrict__ x, const float* __restrict__ w, Outputs<GATED> output_to, int inputs,
                                     int rounds, int share, int panel, double2* partial, int* arrivals) {
    // 128-byte aligned, so that asynchronous copies fill whole lines of shared memory: an offset of 16 bytes costs 10 % of the kernel.
    extern __shared__ __align__(128) float shared[];
    const int rows = output_to.rows, outputs = output_to.outputs;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int warp_row = warp % WARP_ROWS * (ROW_FRAGMENTS * 16), warp_output = warp / WARP_ROWS * (COLUMN_FRAGMENTS * 8);
    const Tiles tiles = {(rows + TILE_ROWS - 1) / TILE_ROWS, (outputs + TILE - 1) / TILE, panel};
    const int count = tiles.row_tiles * tiles.column_tiles;
    Work work;
    work.steps = (inputs + STEP - 1) / STEP;
    work.rounds = rounds - (rounds > 0 && blockIdx.x + (rounds - 1) * gridDim.x >= count);
    work.first_left = rounds * gridDim.x;
    const int steps_left = max(count - work.first_left, 0) * work.steps;
    work.first_shared = min((int)blockIdx.x * share, steps_left);
    work.end = work.rounds * work.steps + min(share, steps_left - work.first_shared);

    // Eight threads load the 128 bytes of a line (STEP inputs of one row). Odd lines have their halves swapped, so that fragment reads
    // are free of bank conflicts.
    constexpr int LINES_A_PASS = THREADS / 8, X_PASSES = TILE_ROWS / LINES_A_PASS, W_PASSES = TILE / LINES_A_PASS;
    const int chunk = threadIdx.x & 7, line = threadIdx.x >> 3;
    float* const my_line = shared + line * STEP + (chunk ^ (line & 1) << 2) * 4;
    int load_position = 0, load_tile, load_step;
    // Offsets of this thread's first line of x and of W, and how many lines of the tile exist from there on.
    uint32 row_from, output_from;
    int rows_left, outputs_left;
    auto set_source = [&]() {
        int row, output;
        work.find(load_position, load_tile, load_step);
        tiles.corner(load_tile, row, output);
        row += line, output = GATED ? output / 2 + (line & 7) : output + line;
        rows_left = rows - row, outputs_left = (GATED ? outputs / 2 : outputs) - output;
        if (GATED) output += (line >> 3) * (outputs / 2);
        row_from = (uint32)row * inputs + chunk * 4, output_from = (uint32)output * inputs + chunk * 4;
    };
    // Issues the copies of the next step's lines of x, of W or of both; zeros beyond the matrices' edges.
    auto load_lines = [&](bool of_x, bool of_w) {
        float* stage = my_line + load_position % STAGES * STAGE;
        const uint32 k = load_step * STEP, stride = LINES_A_PASS * inputs;
        const bool exists = k + chunk * 4 < inputs;
#pragma unroll
        for (int p = 0; p < X_PASSES + W_PASSES; p++) {
            float* there = stage + p * LINES_A_PASS * STEP;
            if (p < X_PASSES) {
                if (of_x) copy_async(there, x + (row_from + k + p * stride), exists && p * LINES_A_PASS < rows_left);
            } else {
                constexpr int APART = GATED ? LINES_A_PASS / 2 : LINES_A_PASS;
                const int q = p - X_PASSES;
                if (of_w) copy_async(there, w + (output_from + k + q * APART * inputs), exists && q * APART < outputs_left);
            }
        }
    };
    // Weights do not depend on the previous kernel: load them before waiting for it.
    for (; load_position < min(STAGES - 1, work.end); load_position++) {
        set_source();
        load_lines(false, true);
    }
    wait_for_previous_kernel();
    launch_dependents();
    load_position = 0;
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (load_position < work.end) {
            set_source();
            load_lines(true, false);
            load_position++;
            load_step++;
        }
        commit_copies();
    }

    float4 raw_x[ROW_FRAGMENTS][2], raw_w[COLUMN_FRAGMENTS];
    const float* const my_x = shared + (warp_row + g) * STEP + t * 4;
    const float* const my_w = shared + (TILE_ROWS + warp_output + g) * STEP + t * 4;
    // Sixteen inputs of a step. A lane loads four neighbouring inputs with one 16-byte access, which both operands pass as inputs t, t + 4,
    // t + 8 and t + 12 of the instruction: a permutation of K, the same for a and b.
    auto fetch = [&](int stage, int half) {
        const int at = stage * STAGE + (half ^ (g & 1)) * 16;
#pragma unroll
        for (int i = 0; i < ROW_FRAGMENTS; i++) {
            raw_x[i][0] = *(const float4*)(my_x + at + i * 16 * STEP);
            raw_x[i][1] = *(const float4*)(my_x + at + (i * 16 + 8) * STEP);
        }
#pragma unroll
        for (int j = 0; j < COLUMN_FRAGMENTS; j++) raw_w[j] = *(const float4*)(my_w + at + j * 8 * STEP);
    };
    double sums[ROW_FRAGMENTS][COLUMN_FRAGMENTS][4];
    auto clear = [&]() {
#pragma unroll
        for (int i = 0; i < ROW_FRAGMENTS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMN_FRAGMENTS; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0.0;
        }
    };
    clear();
    // Stores the piece of fragments (i, j) and (i, j + 1), rows g (half 0) or g + 8 (half 1).
    auto store = [&](const Piece& piece, int first_row, int first_output, int i, int j, int half) {
        const int output = first_output + warp_output + j * 8;
        output_to.store(piece, first_row + warp_row + i * 16 + half * 8 + g, (GATED ? output / 2 : output) + 2 * t);
    };
    // A block has at most two partial tiles: the one in which its share begins, and the one in which it ends.
    auto part_of = [&](int block, int tile) {
        const bool second = block * share < (tile - work.first_left) * work.steps;
        return partial + (size_t)(2 * block + second) * (2 * PIECES) * THREADS + threadIdx.x;
    };
    wait_for_copies<STAGES - 2>();
    __syncthreads();
    fetch(0, 0);
    int stage = 0, tile, step;
    work.find(0, tile, step);
    int first_step = step;
    for (int position = 0; position < work.end; position++) {
        const int next = stage + 1 == STAGES ? 0 : stage + 1;
        if (load_position < work.end) {
            if (load_step == work.steps) set_source();
            load_lines(true, true);
            load_position++;
            load_step++;
        }
        commit_copies();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            double a[ROW_FRAGMENTS][8], b[COLUMN_FRAGMENTS][4];
#pragma unroll
            for (int i = 0; i < ROW_FRAGMENTS; i++) {
                const float4 u = raw_x[i][0], v = raw_x[i][1];
                a[i][0] = u.x, a[i][1] = v.x, a[i][2] = u.y, a[i][3] = v.y, a[i][4] = u.z, a[i][5] = v.z, a[i][6] = u.w, a[i][7] = v.w;
            }
#pragma unroll
            for (int j = 0; j < COLUMN_FRAGMENTS; j++) {
                b[j][0] = raw_w[j].x, b[j][1] = raw_w[j].y, b[j][2] = raw_w[j].z, b[j][3] = raw_w[j].w;
            }
            // Load the next sixteen inputs into registers while these are multiplied.
            if (half == 0) {
                fetch(stage, 1);
            } else {
                wait_for_copies<STAGES - 2>();
                __syncthreads();
                fetch(next, 0);
            }
#pragma unroll
            for (int i = 0; i < ROW_FRAGMENTS; i++) {
#pragma unroll
                for (int j = 0; j < COLUMN_FRAGMENTS; j++) mma_f64(sums[i][j], a[i], b[j]);
            }
        }
        stage = next;
        step++;
        if (step < work.steps && position + 1 < work.end) continue;

        int first_row, first_output;
        tiles.corner(tile, first_row, first_output);
        const bool whole = first_step == 0 && step == work.steps;
        double2* part = whole ? nullptr : part_of(blockIdx.x, tile);
#pragma unroll
        for (int i = 0; i < ROW_FRAGMENTS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMN_FRAGMENTS; j += 2) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    Piece piece;
#pragma unroll
                    for (int e = 0; e < 4; e++) piece.at[e >> 1][e & 1] = sums[i][j + (e >> 1)][2 * half + (e & 1)];
                    if (whole) {
                        store(piece, first_row, first_output, i, j, half);
                    } else {
                        double2* to = part + ((i * COLUMN_FRAGMENTS + j) * 2 + half * 2) * THREADS;
                        __stcg(to, make_double2(piece.at[0][0], piece.at[0][1]));
                        __stcg(to + THREADS, make_double2(piece.at[1][0], piece.at[1][1]));
                    }
                }
            }
        }
        clear();
        if (position + 1 < work.end) work.find(position + 1, tile, step);
        first_step = step;
    }

    // All blocks finish at about the same time: the other parts of this block's shared tiles are there or about to be.
    const int shared_steps = work.end - work.rounds * work.steps;
    if (shared_steps == 0) return;
    const int first_tile = work.first_shared / work.steps, last_tile = (work.first_shared + shared_steps - 1) / work.steps;
    auto first_block_of = [&](int tile) { return tile * work.steps / share; };
    auto parts_of = [&](int tile) { return ((tile + 1) * work.steps - 1) / share + 1 - first_block_of(tile); };
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        for (int tile = first_tile; tile <= last_tile; tile++) {
            if (parts_of(tile) > 1) atomicAdd(arrivals + tile, 1);
        }
        for (int tile = first_tile; tile <= last_tile; tile++) {
            const int parts = parts_of(tile);
            if (parts == 1) continue;
            while (load_acquire(arrivals + tile) < parts) {}
            // The last block to have seen all parts resets the counter.
            if (atomicAdd(arrivals + tile, 1) == 2 * parts - 1) arrivals[tile] = 0;
        }
    }
    __syncthreads();
    for (int tile = first_tile; tile <= last_tile; tile++) {
        const int first_block = first_block_of(tile), parts = parts_of(tile);
        if (parts == 1) continue;
        int first_row, first_output;
        tiles.corner(work.first_left + tile, first_row, first_output);
        for (int p = 0; p < PIECES; p++) {
            if (p * parts / PIECES != (int)blockIdx.x - first_block) continue;
            Piece piece = {};
#pragma unroll 4
            for (int block = first_block; block < first_block + parts; block++) {
                const double2* from = part_of(block, work.first_left + tile) + p * 2 * THREADS;
                const double2 first = __ldcg(from), second = __ldcg(from + THREADS);
                piece.at[0][0] += first.x, piece.at[0][1] += first.y, piece.at[1][0] += second.x, piece.at[1][1] += second.y;
            }
            store(piece, first_row, first_output, p / COLUMN_FRAGMENTS, p % COLUMN_FRAGMENTS / 2 * 2, p % 2);
        }
    }
}

#define PARAMETERS                                                                                                            \
    const float *__restrict__ x, const float *__restrict__ w, const float *bias, float *y, int rows, int outputs, int inputs, \
        int accumulate, int rounds, int share, int panel, double2 *partial, int *arrivals
extern "C" __global__ void __launch_bounds__(THREADS, 2) gemm_f32_plain(PARAMETERS) {
    gemm<false>(x, w, {bias, y, rows, outputs, accumulate != 0}, inputs, rounds, share, panel, partial, arrivals);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) gemm_f32_gated(PARAMETERS) {
    gemm<true>(x, w, {bias, y, rows, outputs, false}, inputs, rounds, share, panel, partial, arrivals);
}
