// y [rows, outputs] = x [rows, inputs] · Wᵀ (+ bias) (+ y), all binary32. Operands widen to binary64 on their way to the tensor
// cores that multiply binary64 (Hopper's do so as fast as its other units multiply binary32): products are exact, sums are
// binary64, and what is stored is rounded once.
//
// Blocks of four warps, two a multiprocessor, as many as fit at once. A block takes whole tiles of TILE_ROWS (64, or 16 for few
// rows) × 64 outputs, `rounds` of them, one in every gridDim.x; the tiles that are left are shared out step by step of 32 inputs
// ("stream-K": Osama et al., 2023, arXiv 2301.03598), so that all blocks end together. They leave their parts of shared tiles in
// memory, and once all parts of a tile are there up to PIECES of its blocks add up a share each, in the order of the inputs: the
// order of every sum depends on the launch's sizes alone. Without a share, it is the order of the inputs. Blocks wait for each other
// because all of a launch's fit at once; where other work takes room, blocks start in order, those of a tile are neighbours, and they
// are far fewer than fit.
//
// A gated product takes the first half of W's rows as gates of the second: y [rows, outputs / 2] = silu(x · gatesᵀ) · (x · restᵀ).
// A tile then holds 32 of each, in turns of eight, so that a lane has both of an output.

#define TILE 64
#define STEP 32
#define THREADS 128
// Lines of 32 inputs in a stage: the tile's rows of x, then its rows of W. Few rows are bound by memory, and ask further ahead.
#define STAGE ((TILE_ROWS + TILE) * STEP)
#define STAGES (TILE_ROWS == 64 ? 3 : 6)
// A warp's part of the tile: fragments of 16 rows and of 8 outputs. Warps lie two by two, or side by side where rows are few.
#define WARPS_DOWN (TILE_ROWS == 64 ? 2 : 1)
#define FRAGMENTS_DOWN (TILE_ROWS / WARPS_DOWN / 16)
#define FRAGMENTS_ACROSS (TILE / (THREADS / 32 / WARPS_DOWN) / 8)

// d += a · b, a 16 × 16 by rows, b 16 × 8 by columns. With g = lane / 4 and t = lane % 4 a lane holds of a the places
// (g, t + 4 i) and (g + 8, t + 4 i) in turn, of b (t + 4 i, g), of d (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void multiply_add(double (&d)[4], const double (&a)[8], const double (&b)[4]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5,%6,%7,%8,%9,%10,%11}, {%12,%13,%14,%15}, "
        "{%0,%1,%2,%3};"
        : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
        : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(a[4]), "d"(a[5]), "d"(a[6]), "d"(a[7]), "d"(b[0]), "d"(b[1]),
          "d"(b[2]), "d"(b[3]));
}

// The tiles of a product. They go down a panel of rows, then across: what blocks read at a time stays in the second-level cache.
struct Tiles {
    int down, across, panel;
    // The first row and output of a tile.
    __device__ __forceinline__ void corner(int tile, int& row, int& output) const {
        const int above = tile / (panel * across) * panel, inside = tile - above * across, width = min(panel, down - above);
        row = (above + inside % width) * TILE_ROWS;
        output = inside / width * TILE;
    }
};

// A block's steps: those of its whole tiles, then its share of the tiles that are left.
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

// The sums of a tile that a lane has in one place: of two fragments beside each other, two neighbours in one row.
struct Piece { double at[2][2]; };
#define PIECES (2 * FRAGMENTS_DOWN * FRAGMENTS_ACROSS / 2)

// Where finished sums go.
template <bool GATED> struct Outputs {
    const float* bias;
    float* y;
    int rows, outputs;
    bool accumulate;

    // Stores a piece: `output` is where the first of its four lies in a row of y, of a gated one's two.
    __device__ __forceinline__ void put(const Piece& sums, int row, int output) const {
        if (row >= rows) return;
        if constexpr (GATED) {
            const int half = outputs / 2;
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = output + e;
                if (at >= half) continue;
                const float gate = (float)(bias ? sums.at[0][e] + bias[at] : sums.at[0][e]);
                const float rest = (float)(bias ? sums.at[1][e] + bias[half + at] : sums.at[1][e]);
                y[(size_t)row * half + at] = gate / (1.0f + expf(-gate)) * rest;
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

// `share` steps a block of the tiles behind the rounds; partial: double2 [2 · blocks, PIECES, 2, THREADS]; arrivals: int [tiles that
// are left], zero before and after.
template <bool GATED>
__device__ __forceinline__ void product(const float* __restrict__ x, const float* __restrict__ w, Outputs<GATED> to_memory, int inputs,
                                        int rounds, int share, int panel, double2* partial, int* arrivals) {
    // Whole lines of shared memory for whole lines of memory: 16 bytes off cost a tenth of everything.
    extern __shared__ __align__(128) float shared[];
    const int rows = to_memory.rows, outputs = to_memory.outputs;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int warp_row = warp % WARPS_DOWN * (FRAGMENTS_DOWN * 16), warp_output = warp / WARPS_DOWN * (FRAGMENTS_ACROSS * 8);
    const Tiles tiles = {(rows + TILE_ROWS - 1) / TILE_ROWS, (outputs + TILE - 1) / TILE, panel};
    const int count = tiles.down * tiles.across;
    Work work;
    work.steps = (inputs + STEP - 1) / STEP;
    work.rounds = rounds - (rounds > 0 && blockIdx.x + (rounds - 1) * gridDim.x >= count);
    work.first_left = rounds * gridDim.x;
    const int steps_left = max(count - work.first_left, 0) * work.steps;
    work.first_shared = min((int)blockIdx.x * share, steps_left);
    work.end = work.rounds * work.steps + min(share, steps_left - work.first_shared);

    // Eight threads bring a line's 128 bytes; odd lines have their halves swapped, so that reading fragments meets every bank.
    constexpr int LINES_A_PASS = THREADS / 8, X_PASSES = TILE_ROWS / LINES_A_PASS, W_PASSES = TILE / LINES_A_PASS;
    const int chunk = threadIdx.x & 7, line = threadIdx.x >> 3;
    float* const my_line = shared + line * STEP + (chunk ^ (line & 1) << 2) * 4;
    int load_position = 0, load_tile, load_step;
    // Where this thread's first line of x and of W begins, and how many of the tile's lines there are from it on.
    uint32 row_from, output_from;
    int rows_left, outputs_left;
    auto aim = [&]() {
        int row, output;
        work.find(load_position, load_tile, load_step);
        tiles.corner(load_tile, row, output);
        row += line, output = GATED ? output / 2 + (line & 7) : output + line;
        rows_left = rows - row, outputs_left = (GATED ? outputs / 2 : outputs) - output;
        if (GATED) output += (line >> 3) * (outputs / 2);
        row_from = (uint32)row * inputs + chunk * 4, output_from = (uint32)output * inputs + chunk * 4;
    };
    // Lines of x, of W or of both of the step that is loaded next; zeros for what does not exist.
    auto bring = [&](bool of_x, bool of_w) {
        float* stage = my_line + load_position % STAGES * STAGE;
        const uint32 k = load_step * STEP, stride = LINES_A_PASS * inputs;
        const bool exists = k + chunk * 4 < inputs;
#pragma unroll
        for (int p = 0; p < X_PASSES + W_PASSES; p++) {
            float* there = stage + p * LINES_A_PASS * STEP;
            if (p < X_PASSES) {
                if (of_x) copy_later(there, x + (row_from + k + p * stride), exists && p * LINES_A_PASS < rows_left);
            } else {
                constexpr int APART = GATED ? LINES_A_PASS / 2 : LINES_A_PASS;
                const int q = p - X_PASSES;
                if (of_w) copy_later(there, w + (output_from + k + q * APART * inputs), exists && q * APART < outputs_left);
            }
        }
    };
    // Weights do not depend on the kernel in front.
    for (; load_position < min(STAGES - 1, work.end); load_position++) {
        aim();
        bring(false, true);
    }
    wait_for_previous();
    let_next_begin();
    load_position = 0;
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (load_position < work.end) {
            aim();
            bring(true, false);
            load_position++;
            load_step++;
        }
        close_copies();
    }

    float4 raw_x[FRAGMENTS_DOWN][2], raw_w[FRAGMENTS_ACROSS];
    const float* const my_x = shared + (warp_row + g) * STEP + t * 4;
    const float* const my_w = shared + (TILE_ROWS + warp_output + g) * STEP + t * 4;
    // Sixteen inputs of a step: a lane takes four neighbours, which both operands count as inputs t, t + 4, t + 8 and t + 12.
    auto fetch = [&](int stage, int half) {
        const int at = stage * STAGE + (half ^ (g & 1)) * 16;
#pragma unroll
        for (int i = 0; i < FRAGMENTS_DOWN; i++) {
            raw_x[i][0] = *(const float4*)(my_x + at + i * 16 * STEP);
            raw_x[i][1] = *(const float4*)(my_x + at + (i * 16 + 8) * STEP);
        }
#pragma unroll
        for (int j = 0; j < FRAGMENTS_ACROSS; j++) raw_w[j] = *(const float4*)(my_w + at + j * 8 * STEP);
    };
    double sums[FRAGMENTS_DOWN][FRAGMENTS_ACROSS][4];
    auto clear = [&]() {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_DOWN; i++) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS_ACROSS; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0.0;
        }
    };
    clear();
    // Stores a piece of fragments (i, j) and (i, j + 1), of their upper or lower halves.
    auto put = [&](const Piece& piece, int first_row, int first_output, int i, int j, int half) {
        const int output = first_output + warp_output + j * 8;
        to_memory.put(piece, first_row + warp_row + i * 16 + half * 8 + g, (GATED ? output / 2 : output) + 2 * t);
    };
    // A block has at most two parts of tiles: of the one that its share begins in, and of the one that it ends in.
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
            if (load_step == work.steps) aim();
            bring(true, true);
            load_position++;
            load_step++;
        }
        close_copies();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            double a[FRAGMENTS_DOWN][8], b[FRAGMENTS_ACROSS][4];
#pragma unroll
            for (int i = 0; i < FRAGMENTS_DOWN; i++) {
                const float4 u = raw_x[i][0], v = raw_x[i][1];
                a[i][0] = u.x, a[i][1] = v.x, a[i][2] = u.y, a[i][3] = v.y, a[i][4] = u.z, a[i][5] = v.z, a[i][6] = u.w, a[i][7] = v.w;
            }
#pragma unroll
            for (int j = 0; j < FRAGMENTS_ACROSS; j++) {
                b[j][0] = raw_w[j].x, b[j][1] = raw_w[j].y, b[j][2] = raw_w[j].z, b[j][3] = raw_w[j].w;
            }
            // The next sixteen inputs are on their way while these are multiplied.
            if (half == 0) {
                fetch(stage, 1);
            } else {
                wait_for_copies<STAGES - 2>();
                __syncthreads();
                fetch(next, 0);
            }
#pragma unroll
            for (int i = 0; i < FRAGMENTS_DOWN; i++) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS_ACROSS; j++) multiply_add(sums[i][j], a[i], b[j]);
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
        for (int i = 0; i < FRAGMENTS_DOWN; i++) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS_ACROSS; j += 2) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    Piece piece;
#pragma unroll
                    for (int e = 0; e < 4; e++) piece.at[e >> 1][e & 1] = sums[i][j + (e >> 1)][2 * half + (e & 1)];
                    if (whole) {
                        put(piece, first_row, first_output, i, j, half);
                    } else {
                        double2* to = part + ((i * FRAGMENTS_ACROSS + j) * 2 + half * 2) * THREADS;
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

    // Blocks end together: what others do of this block's shared tiles is there or about to be.
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
            // Who is last to have seen all parts leaves a zero.
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
            put(piece, first_row, first_output, p / FRAGMENTS_ACROSS, p % FRAGMENTS_ACROSS / 2 * 2, p % 2);
        }
    }
}

#define PARAMETERS                                                                                                            \
    const float *__restrict__ x, const float *__restrict__ w, const float *bias, float *y, int rows, int outputs, int inputs, \
        int accumulate, int rounds, int share, int panel, double2 *partial, int *arrivals
extern "C" __global__ void __launch_bounds__(THREADS, 2) product_plain(PARAMETERS) {
    product<false>(x, w, {bias, y, rows, outputs, accumulate != 0}, inputs, rounds, share, panel, partial, arrivals);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) product_gated(PARAMETERS) {
    product<true>(x, w, {bias, y, rows, outputs, false}, inputs, rounds, share, panel, partial, arrivals);
}
