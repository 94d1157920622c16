// The linear layers of a step with one to eight rows, each with what lies before and behind it:
//
//   norm_qkv     qkv[·][q] and the cache   from x: norm, W · h (+ bias), rotation of q and k
//   output       x +=                      W · attention (+ bias)
//   norm_up      activation                from x: norm, silu(W_gate · h) · (W_up · h), or relu(W · h + bias)
//   down         x +=                      W · activation (+ bias)
//   norm_logits  logits, binary32          from x: norm, table · h
//
// x [rows, HIDDEN], qkv [rows, QKV], attention [rows, HEADS · HEAD_DIM], activation [rows, INTERMEDIATE], all of `element`;
// sums are binary32, and what is stored is rounded once.
//
// One block of 16 warps a multiprocessor. Outputs go in pairs that must meet at the end: the two halves of a rotated head,
// gate and up, or neighbours. A block owns a run of pairs and takes them in tiles of eight, sixteen rows of weights; its warps
// share out the inputs of a row, block by block (gemv_weights.cuh), each through a ring in shared memory that it fills itself,
// DEPTH blocks ahead; their sums meet in shared memory, in the order of the warps. What can be read before the kernel in front
// has ended is: the ring's first weights, some of those behind them into the second-level cache, the norm's weights into
// registers. Registers are held to a half of the multiprocessor's, so that the next kernel can begin the same way beside this one.
//
// The order of every sum depends on the sizes of the model alone: a row's results are the same bits whatever the other rows
// hold and however many they are.

#define HALF (HEAD_DIM / 2)
#define BLOCK_TOKENS 64
#define ATTENTION (HEADS * HEAD_DIM)
#define GROUP_OF(inputs) (GROUP_SIZE == 0 ? (inputs) : GROUP_SIZE)
// Blocks that a warp has on their way at once.
#define DEPTH 4
// Blocks before its last request at which a warp lets the next kernel begin: that one then asks for its own weights while this one
// works off what it has asked for. Earlier, they push each other out.
#define LEAD 4
// Lines of 128 bytes that a block asks for ahead of time.
#define LINES_AHEAD 256

// What another kernel wrote is read around the first-level cache, which may hold what was there before.
__device__ __forceinline__ int load_fresh(const int* from) {
    int x;
    asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(x) : "l"(from) : "memory");
    return x;
}
__device__ __forceinline__ float load_fresh(const float* from) {
    float x;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x) : "l"(from) : "memory");
    return x;
}
#if ELEMENT != 0
__device__ __forceinline__ float load_fresh(const element* from) {
    element x;
    asm volatile("ld.global.cg.u16 %0, [%1];" : "=h"(x.bits) : "l"(from) : "memory");
    return widen(x);
}
#endif
__device__ __forceinline__ uint4 load_fresh(const uint4* from) {
    uint4 x;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(from) : "memory");
    return x;
}
// A barrier of the four warps that share a norm.
__device__ __forceinline__ void synchronize_group(int group) {
    asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}
// END OF INSTRUCTIONS

#define NORM_THREADS 128
#define CHUNK_ELEMENTS (16 / (int)sizeof(element))

// The elements of 16 bytes as binary32, and back.
__device__ __forceinline__ void unpack(uint4 bits, float (&x)[CHUNK_ELEMENTS]) {
#if ELEMENT == 0
    x[0] = __uint_as_float(bits.x);
    x[1] = __uint_as_float(bits.y);
    x[2] = __uint_as_float(bits.z);
    x[3] = __uint_as_float(bits.w);
#else
    const uint32 words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = widen2<element>(words[i]);
        x[2 * i] = pair.x;
        x[2 * i + 1] = pair.y;
    }
#endif
}
__device__ __forceinline__ void pack(element* to, const float (&x)[CHUNK_ELEMENTS]) {
#if ELEMENT == 0
    *(float4*)to = make_float4(x[0], x[1], x[2], x[3]);
#else
    *(uint4*)to = make_uint4(narrow2<element>(x[0], x[1]), narrow2<element>(x[2], x[3]), narrow2<element>(x[4], x[5]),
                             narrow2<element>(x[6], x[7]));
#endif
}

// The sum over a group's 128 threads, in a fixed order; `scratch` holds four floats of the group's own.
__device__ __forceinline__ float group_sum(float x, float* scratch, int group) {
    x = warp_sum(x);
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5 & 3] = x;
    synchronize_group(group);
    const float total = ((scratch[0] + scratch[1]) + scratch[2]) + scratch[3];
    synchronize_group(group);
    return total;
}

// Activations as they are.
template <int K, int STRIDE> struct Plain {
    const element* x;

    __device__ __forceinline__ void before() {}

    __device__ __forceinline__ void fill(element* h, int rows, float*) const {
        constexpr int CHUNKS = K / CHUNK_ELEMENTS;
#pragma unroll 4
        for (int i = threadIdx.x; i < rows * CHUNKS; i += THREADS) {
            const int row = i / CHUNKS, at = i % CHUNKS * CHUNK_ELEMENTS;
            *(uint4*)(h + row * STRIDE + at) = load_fresh((const uint4*)(x + (size_t)row * K + at));
        }
    }
};

// Activations behind a norm: four rows at a time, four warps each. A thread keeps its chunks of a row in registers.
template <int K, int STRIDE> struct Normed {
    static constexpr int CHUNKS = K / CHUNK_ELEMENTS, MINE = divide_up(CHUNKS, NORM_THREADS);
    const element *x, *weight, *bias;
    uint4 weights[MINE], shifts[LAYER_NORM ? MINE : 1];

    // The chunk number `i` of this thread; the last one again where there is none.
    static __device__ __forceinline__ int chunk(int i) {
        return min((int)threadIdx.x % NORM_THREADS + i * NORM_THREADS, CHUNKS - 1);
    }
    static __device__ __forceinline__ bool exists(int i) {
        return CHUNKS % NORM_THREADS == 0 || (int)threadIdx.x % NORM_THREADS + i * NORM_THREADS < CHUNKS;
    }

    __device__ __forceinline__ void before() {
#pragma unroll
        for (int i = 0; i < MINE; i++) {
            weights[i] = __ldg((const uint4*)weight + chunk(i));
            if (LAYER_NORM) shifts[i] = __ldg((const uint4*)bias + chunk(i));
        }
    }

    __device__ __forceinline__ void fill(element* h, int rows, float* scratch) const {
        const int group = threadIdx.x / NORM_THREADS;
        for (int row = group; row < rows; row += THREADS / NORM_THREADS) {
            uint4 chunks[MINE];
#pragma unroll
            for (int i = 0; i < MINE; i++) chunks[i] = load_fresh((const uint4*)(x + (size_t)row * K) + chunk(i));
            float mean = 0.0f, v[CHUNK_ELEMENTS];
            if (LAYER_NORM) {
                float sum = 0.0f;
#pragma unroll
                for (int i = 0; i < MINE; i++) {
                    if (!exists(i)) continue;
                    unpack(chunks[i], v);
#pragma unroll
                    for (int e = 0; e < CHUNK_ELEMENTS; e++) sum += v[e];
                }
                mean = group_sum(sum, scratch + 4 * group, group) / (float)K;
            }
            float squares = 0.0f;
#pragma unroll
            for (int i = 0; i < MINE; i++) {
                if (!exists(i)) continue;
                unpack(chunks[i], v);
#pragma unroll
                for (int e = 0; e < CHUNK_ELEMENTS; e++) squares = fmaf(v[e] - mean, v[e] - mean, squares);
            }
            const float scale = 1.0f / sqrtf(group_sum(squares, scratch + 4 * group, group) / (float)K + EPSILON);
#pragma unroll
            for (int i = 0; i < MINE; i++) {
                if (!exists(i)) continue;
                float w[CHUNK_ELEMENTS];
                unpack(chunks[i], v);
                unpack(weights[i], w);
#pragma unroll
                for (int e = 0; e < CHUNK_ELEMENTS; e++) v[e] = (v[e] - mean) * scale * w[e];
                if (LAYER_NORM) {
                    unpack(shifts[i], w);
#pragma unroll
                    for (int e = 0; e < CHUNK_ELEMENTS; e++) v[e] += w[e];
                }
                pack(h + row * STRIDE + chunk(i) * CHUNK_ELEMENTS, v);
            }
        }
    }
};

// How a launch is cut: pairs a block, and the logarithm of the pairs (32 or 64) whose sums meet in shared memory at a time.
struct Cut {
    int pairs_a_block, pass_shift;
};

// The product with what is before it (Input) and behind it (Output). Output says which rows of weights are a pair, reads what
// finishing a pair needs (`fetch`), and finishes it.
template <int M, int K, typename Input, typename Output>
__device__ __forceinline__ void product(
    Input& input, const Output& output, Weights weights, const element* bias, int rows, Cut cut) {
    constexpr int GROUP = GROUP_OF(K);
    typedef Layout<K, GROUP> L;

    extern __shared__ uint4 shared[];
    __shared__ float scratch[4 * THREADS / NORM_THREADS];
    const int pass_pairs = 1 << cut.pass_shift;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2;
    Stage<L>* const ring = (Stage<L>*)shared + warp * DEPTH;
    float2* const parts = (float2*)((Stage<L>*)shared + WARPS * DEPTH);
    element* const h = (element*)(parts + WARPS * rows * pass_pairs);

    const int first_pair = blockIdx.x * cut.pairs_a_block;
    const int pairs = min(cut.pairs_a_block, Output::PAIRS - first_pair);
    const int tiles = divide_up(pairs, 8);
    // Blocks of a row that are this warp's, and of all tiles.
    const int steps = L::BLOCKS % WARPS == 0 ? L::STEPS : (L::BLOCKS - warp + WARPS - 1) / WARPS;
    const int blocks = tiles * steps;

    // Blocks are asked for in order, tile after tile, DEPTH ahead of the products.
    Cursor<L> cursor;
    int load_tile = 0, load_step = 0;
    auto aim = [&]() {
        const int pair = first_pair + min(load_tile * 8 + g, pairs - 1);
        cursor.point_at(weights, first_pair / 8 + load_tile, Output::first(pair),
                        Output::second(Output::has_second(pair) ? pair : 0));
    };
    auto load = [&](Stage<L>& stage, bool wanted) {
        if (wanted) {
            cursor.load(stage, load_step * WARPS + warp);
            if (++load_step < steps) {
                cursor.advance(WARPS);
            } else {
                load_step = 0, load_tile++;
                // AWQ's tiles lie one behind the other.
                if (WEIGHTS == AWQ) cursor.advance(L::BLOCKS - (steps - 1) * WARPS);
                else aim();
            }
        }
        close_copies();
    };
    aim();
#pragma unroll
    for (int slot = 0; slot < DEPTH; slot++) load(ring[slot], slot < blocks);
    // What lies behind the ring's is fetched to the second-level cache.
#if WEIGHTS == AWQ
    for (int i = threadIdx.x; i < min(LINES_AHEAD, (tiles * L::BLOCKS - DEPTH * WARPS) * 8); i += THREADS) {
        fetch_to_l2(weights.chunks + ((size_t)(first_pair / 8) * L::BLOCKS + DEPTH * WARPS) * 64 + i * 8);
    }
#else
    {
        // Four lines of each of a tile's sixteen rows, then the next four, tile after tile.
        constexpr int LINES = divide_up(L::CHUNKS, 8), QUADS = divide_up(LINES, 4);
        constexpr int WHOLE_TILES = DEPTH / L::STEPS;
        constexpr int FIRST_QUAD = WHOLE_TILES > 0 ? 0 : DEPTH * WARPS / 8;
        for (int i = threadIdx.x; i < LINES_AHEAD; i += THREADS) {
            const int quad = FIRST_QUAD + (i >> 6), line = quad % QUADS * 4 + (i & 3);
            const int inside = (WHOLE_TILES + quad / QUADS) * 8 + (i >> 2 & 7);
            if (inside >= pairs || line >= LINES) continue;
            const int pair = first_pair + inside;
            const bool second = (i & 32) != 0;
            if (second && !Output::has_second(pair)) continue;
            const size_t row = second ? Output::second(pair) : Output::first(pair);
            fetch_to_l2(weights.chunks + row * L::CHUNKS + line * 8);
        }
    }
#endif
    input.before();
    if (blocks <= DEPTH + LEAD) let_next_begin();
    wait_for_previous();

    // The pair that this thread finishes at the end of each pass.
    const int my_row = threadIdx.x >> cut.pass_shift, my_place = threadIdx.x & (pass_pairs - 1);
    typename Output::Context context;
    int pass = 0;
    if (my_row < rows && my_place < pairs) output.fetch(context, first_pair + my_place, my_row);

    // Zeros behind the inputs, where blocks are longer than they.
    constexpr int BEHIND = L::BLOCKS * L::BLOCK - K;
    if (BEHIND > 0) {
        for (int i = threadIdx.x; i < rows * BEHIND; i += THREADS) {
            const int row = i / max(BEHIND, 1), at = i % max(BEHIND, 1);
            h[row * L::STRIDE + K + at] = narrow<element>(0.0f);
        }
    }
    input.fill(h, rows, scratch);
    __syncthreads();

    Sums<M> sums;
    clear(sums);
    int block = 0, slot = 0;
    for (int tile = 0; tile < tiles; tile++) {
        for (int step = 0; step < steps; step++, block++) {
            wait_for_copies<DEPTH - 1>();
            if (WEIGHTS == AWQ) __syncwarp();  // a lane reads words that others asked for
            multiply<L, M>(sums, ring[slot], h, rows, step * WARPS + warp);
            if (WEIGHTS == AWQ) __syncwarp();
            load(ring[slot], block + DEPTH < blocks);
            slot = slot + 1 == DEPTH ? 0 : slot + 1;
            if (block + DEPTH + LEAD + 1 == blocks) let_next_begin();
        }
        leave<M>(sums, parts + warp * rows * pass_pairs + tile * 8 - pass, pass_pairs, rows);
        clear(sums);
        const bool last = tile + 1 == tiles;
        if (!last && (tile + 1) * 8 - pass < pass_pairs) continue;
        __syncthreads();
        if (my_row < rows && pass + my_place < pairs) {
            const int pair = first_pair + pass + my_place;
            const int first = Output::first(pair), second = Output::has_second(pair) ? Output::second(pair) : first;
            float a = 0.0f, b = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                const float2 part = parts[(w * rows + my_row) * pass_pairs + my_place];
                a += part.x;
                b += part.y;
            }
#if WEIGHTS == INT8
            a *= ((const float*)weights.scales)[first];
            b *= ((const float*)weights.scales)[second];
#endif
            if (bias != nullptr) {
                a += widen(bias[first]);
                b += widen(bias[second]);
            }
            output.finish(context, pair, my_row, a, b);
        }
        if (last) break;
        __syncthreads();
        pass += pass_pairs;
        if (my_row < rows && pass + my_place < pairs) output.fetch(context, first_pair + pass + my_place, my_row);
    }
}

// q into qkv, k and v into the cache; a pair is i and i + HALF of one head.
struct Heads {
    static constexpr int PAIRS = QKV / 2;
    element *qkv, *keys, *values;
    const int *tables, *positions, *slots;
    int table_stride;
    const float* turns;

    struct Context {
        element* to;
        float cosine, sine;
    };
    static __device__ __forceinline__ int first(int pair) { return pair / HALF * HEAD_DIM + pair % HALF; }
    static __device__ __forceinline__ int second(int pair) { return first(pair) + HALF; }
    static __device__ __forceinline__ bool has_second(int) { return true; }

    __device__ __forceinline__ void fetch(Context& context, int pair, int row) const {
        const int head = pair / HALF, i = pair % HALF, position = load_fresh(positions + row);
        context.cosine = 1.0f;
        context.sine = 0.0f;
        if (ROTARY && head < HEADS + KV_HEADS && position >= 0) {
            context.cosine = turns[(size_t)position * HALF + i];
            context.sine = turns[(size_t)(CONTEXT + position) * HALF + i];
        }
        if (head < HEADS) {
            context.to = qkv + (size_t)row * QKV + head * HEAD_DIM + i;
        } else if (position < 0) {
            context.to = nullptr;
        } else {
            const int slot = load_fresh(slots + row);
            const int block = load_fresh(tables + (size_t)slot * table_stride + position / BLOCK_TOKENS);
            const bool is_key = head < HEADS + KV_HEADS;
            const int kv_head = head - HEADS - (is_key ? 0 : KV_HEADS);
            const size_t line = ((size_t)block * KV_HEADS + kv_head) * BLOCK_TOKENS + position % BLOCK_TOKENS;
            context.to = (is_key ? keys : values) + line * HEAD_DIM + i;
        }
    }

    __device__ __forceinline__ void finish(const Context& context, int pair, int, float a, float b) const {
        if (context.to == nullptr) return;
        if (ROTARY && pair / HALF < HEADS + KV_HEADS) {
            // Rounded before the rotation, and not contracted: as the processor's engine does.
            const float x = stored(a), y = stored(b);
            a = __fadd_rn(__fmul_rn(x, context.cosine), -__fmul_rn(y, context.sine));
            b = __fadd_rn(__fmul_rn(y, context.cosine), __fmul_rn(x, context.sine));
        }
        context.to[0] = narrow<element>(a);
        context.to[HALF] = narrow<element>(b);
    }
};

// Rows 2p and 2p + 1.
template <int OUTPUTS> struct Neighbours {
    static constexpr int PAIRS = (OUTPUTS + 1) / 2;
    static __device__ __forceinline__ int first(int pair) { return 2 * pair; }
    static __device__ __forceinline__ int second(int pair) { return 2 * pair + 1; }
    static __device__ __forceinline__ bool has_second(int pair) { return OUTPUTS % 2 == 0 || 2 * pair + 1 < OUTPUTS; }
};

// Added to x.
struct Residual : Neighbours<HIDDEN> {
    element* x;
    struct Context { float first, second; };

    __device__ __forceinline__ void fetch(Context& context, int pair, int row) const {
        const element* from = x + (size_t)row * HIDDEN + 2 * pair;
        context.first = load_fresh(from);
        context.second = load_fresh(from + 1);
    }
    __device__ __forceinline__ void finish(const Context& context, int pair, int row, float a, float b) const {
        element* to = x + (size_t)row * HIDDEN + 2 * pair;
        to[0] = narrow<element>(context.first + a);
        to[1] = narrow<element>(context.second + b);
    }
};

#if GATED
// silu(gate) · up; a pair is row p of each.
struct Activated {
    static constexpr int PAIRS = INTERMEDIATE;
    element* activation;
    struct Context {};
    static __device__ __forceinline__ int first(int pair) { return pair; }
    static __device__ __forceinline__ int second(int pair) { return pair + INTERMEDIATE; }
    static __device__ __forceinline__ bool has_second(int) { return true; }
    __device__ __forceinline__ void fetch(Context&, int, int) const {}
    __device__ __forceinline__ void finish(const Context&, int pair, int row, float gate, float up) const {
        gate = stored(gate);
        // The short forms are good to a few units of binary32, far below a unit of 16-bit elements.
        const float silu = ELEMENT == 0 ? gate / (1.0f + expf(-gate)) : __fdividef(gate, 1.0f + __expf(-gate));
        activation[(size_t)row * INTERMEDIATE + pair] = narrow<element>(silu * stored(up));
    }
};
#else
struct Activated : Neighbours<INTERMEDIATE> {
    element* activation;
    struct Context {};
    __device__ __forceinline__ void fetch(Context&, int, int) const {}
    __device__ __forceinline__ void finish(const Context&, int pair, int row, float a, float b) const {
        element* to = activation + (size_t)row * INTERMEDIATE + 2 * pair;
        to[0] = narrow<element>(fmaxf(a, 0.0f));
        to[1] = narrow<element>(fmaxf(b, 0.0f));
    }
};
#endif

struct Logits : Neighbours<VOCABULARY> {
    float* logits;
    struct Context {};
    __device__ __forceinline__ void fetch(Context&, int, int) const {}
    __device__ __forceinline__ void finish(const Context&, int pair, int row, float a, float b) const {
        float* to = logits + (size_t)row * VOCABULARY + 2 * pair;
        to[0] = a;
        if (has_second(pair)) to[1] = b;
    }
};

template <int K> struct InputOf {
    typedef Plain<K, Layout<K, GROUP_OF(K)>::STRIDE> Copied;
    typedef Normed<K, Layout<K, GROUP_OF(K)>::STRIDE> Norm;
};

// Weights and activations of every kernel, and how the launch is cut.
#define OPERANDS \
    const uint4 *chunks, const void *scales, const element *bias, const element *x, int rows, int pairs_a_block, int pass_shift
// Two blocks fit on a multiprocessor, this kernel's and the next one's; binary32's sums of many rows need the room.
#define KERNEL(M) extern "C" __global__ void __launch_bounds__(THREADS, ELEMENT == 0 && M > 2 ? 1 : 2)

// The kernels for up to M rows. (Tensor cores take eight at no greater cost than one.)
#define KERNELS(M)                                                                                                         \
    KERNEL(M) norm_qkv_##M(OPERANDS, const element* weight, const element* shift, element* qkv, element* keys,              \
                        element* values, const int* tables, int table_stride, const int* positions, const int* slots,    \
                        const float* turns) {                                                                             \
        InputOf<HIDDEN>::Norm input = {x, weight, shift};                                                           \
        Heads output;                                                                                                     \
        output.qkv = qkv, output.keys = keys, output.values = values, output.tables = tables;                            \
        output.table_stride = table_stride, output.positions = positions, output.slots = slots, output.turns = turns;    \
        product<M, HIDDEN>(input, output, {chunks, scales}, bias, rows, {pairs_a_block, pass_shift});                     \
    }                                                                                                                     \
    KERNEL(M) output_##M(OPERANDS, element* to) {                                                                            \
        InputOf<ATTENTION>::Copied input = {x};                                                                     \
        Residual output;                                                                                                  \
        output.x = to;                                                                                                    \
        product<M, ATTENTION>(input, output, {chunks, scales}, bias, rows, {pairs_a_block, pass_shift});                  \
    }                                                                                                                     \
    KERNEL(M) norm_up_##M(OPERANDS, const element* weight, const element* shift, element* activation) {                     \
        InputOf<HIDDEN>::Norm input = {x, weight, shift};                                                           \
        Activated output;                                                                                                 \
        output.activation = activation;                                                                                   \
        product<M, HIDDEN>(input, output, {chunks, scales}, bias, rows, {pairs_a_block, pass_shift});                     \
    }                                                                                                                     \
    KERNEL(M) down_##M(OPERANDS, element* to) {                                                                              \
        InputOf<INTERMEDIATE>::Copied input = {x};                                                                  \
        Residual output;                                                                                                  \
        output.x = to;                                                                                                    \
        product<M, INTERMEDIATE>(input, output, {chunks, scales}, bias, rows, {pairs_a_block, pass_shift});               \
    }
#define LOGITS_KERNEL(M)                                                                                                  \
    KERNEL(M) norm_logits_##M(OPERANDS, const element* weight, const element* shift, float* logits) {                       \
        InputOf<HIDDEN>::Norm input = {x, weight, shift};                                                           \
        Logits output;                                                                                                    \
        output.logits = logits;                                                                                           \
        product<M, HIDDEN>(input, output, {chunks, scales}, bias, rows, {pairs_a_block, pass_shift});                     \
    }

#if ELEMENT == 0
KERNELS(1)
KERNELS(2)
KERNELS(4)
#endif
KERNELS(8)
#if WEIGHTS == DENSE
#if ELEMENT == 0
LOGITS_KERNEL(1)
LOGITS_KERNEL(2)
LOGITS_KERNEL(4)
#endif
LOGITS_KERNEL(8)
#endif
