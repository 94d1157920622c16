// What stands before and behind the products of a decoder's layer: where activations come from, which rows of weights meet, and
// what becomes of their sums. Part of decode.cu.
//
// Outputs go in pairs that must meet at the end: the two halves of a rotated head, gate and up, or neighbours. An output says how
// many PAIRS there are and which rows of weights are one (`first`, `second`), and finishes a pair, which is the block's number `mine`
// of the row, in a phase.

#define HALF (HEAD_DIM / 2)

// Pairs of `pairs` that a block finishes at most: whole tiles of eight.
__host__ __device__ constexpr int most_pairs(int pairs) { return divide_up(divide_up(pairs, 8), GRID_BLOCKS) * 8; }

// The phases of a layer, each of which reads what all blocks have written in the one before. The last layer has one more, the logits.
enum Phase { QKV_PHASE, ATTEND_PHASE, OUTPUT_PHASE, UP_PHASE, DOWN_PHASE, PHASES_A_LAYER };

__device__ __forceinline__ int layer_of(int phase) { return min(phase / PHASES_A_LAYER, LAYERS - 1); }

// Threads that share a row's norm: all of them, or a quarter where rows are many.
constexpr int NORM_THREADS = ROWS <= 2 ? THREADS : 128;

// What one phase writes and another reads, on other multiprocessors, are words of a value and a tag: the number of the layer or
// half layer that wrote it, 0 before any has. A reader looks again until all its words have the tag that it waits for: no fence, which
// would also wait for the weights that are on their way.
#if ELEMENT == 0
typedef uint64 word;
#else
typedef uint32 word;
#endif
constexpr int WORDS = 16 / (int)sizeof(word);  // in 16 bytes

__device__ __forceinline__ word tagged(float x, int tag) {
#if ELEMENT == 0
    return (uint64)tag << 32 | __float_as_uint(x);
#else
    return (uint32)tag << 16 | narrow<element>(x).bits;
#endif
}
__device__ __forceinline__ float value(word w) {
#if ELEMENT == 0
    return __uint_as_float((uint32)w);
#else
    element x;
    x.bits = (uint16)w;
    return widen(x);
#endif
}
// What a phase gives its words; and x, which has 1 at first and another behind each of its two sums a layer.
__device__ __forceinline__ int tag_of(int phase) { return layer_of(phase) + 1; }
__device__ __forceinline__ int x_tag_of(int phase) {
    const int layer = layer_of(phase), part = phase - layer * PHASES_A_LAYER;
    return 2 * layer + 1 + (part >= OUTPUT_PHASE) + (part >= DOWN_PHASE);
}
__device__ __forceinline__ int tag(word w) { return (int)(w >> (sizeof(word) * 4)); }
__device__ __forceinline__ void publish(word* to, word w) {
#if ELEMENT == 0
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(w) : "memory");
#else
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(w) : "memory");
#endif
}
struct alignas(16) Words { word at[WORDS]; };
__device__ __forceinline__ Words look(const word* from) {
    Words x;
#if ELEMENT == 0
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(x.at[0]), "=l"(x.at[1]) : "l"(from) : "memory");
#else
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.at[0]), "=r"(x.at[1]), "=r"(x.at[2]), "=r"(x.at[3])
                 : "l"(from)
                 : "memory");
#endif
    return x;
}
// Fills `to` from places(0), places(1), … as soon as all words have the tag.
template <int COUNT, typename Places> __device__ __forceinline__ void await(Words (&to)[COUNT], int wanted, Places places) {
    bool whole;
    do {
#pragma unroll
        for (int i = 0; i < COUNT; i++) to[i] = look(places(i));
        whole = true;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
#pragma unroll
            for (int w = 0; w < WORDS; w++) whole = whole && tag(to[i].at[w]) == wanted;
        }
    } while (!whole);
}

// WORDS elements side by side.
struct alignas(sizeof(element) * WORDS) Few { element at[WORDS]; };

// Activations as they are, x [rows, K].
template <int K, int STRIDE> struct Plain {
    const word* x;
    int wanted;

    __device__ __forceinline__ void before() {}

    __device__ __forceinline__ void fill(element* h, int rows, float*) const {
        constexpr int CHUNKS = K / WORDS, AT_ONCE = max_of(min_of(divide_up(CHUNKS, THREADS), 8), 1);
        const int all = rows * CHUNKS;
        for (int first = this_thread(); first < all; first += AT_ONCE * THREADS) {
            Words chunks[AT_ONCE];
            await(chunks, wanted, [&](int i) { return x + min(first + i * THREADS, all - 1) * WORDS; });
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int chunk = first + i * THREADS;
                Few few;
#pragma unroll
                for (int w = 0; w < WORDS; w++) few.at[w] = narrow<element>(value(chunks[i].at[w]));
                if (chunk < all) *(Few*)(h + chunk / CHUNKS * STRIDE + chunk % CHUNKS * WORDS) = few;
            }
        }
    }
};

// The sum over the threads that share a norm, in a fixed order; `scratch` holds a float for every warp. All threads.
__device__ __forceinline__ float norm_sum(float x, float* scratch) {
    constexpr int NORM_WARPS = NORM_THREADS / 32;
    x = warp_sum(x);
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = x;
    __syncthreads();
    const float* const from = scratch + threadIdx.x / NORM_THREADS * NORM_WARPS;
    float total = 0.0f;
#pragma unroll
    for (int warp = 0; warp < NORM_WARPS; warp++) total += from[warp];
    __syncthreads();
    return total;
}

// Activations behind a norm, x [rows, K]. A thread keeps its chunks of a row in registers.
template <int K, int STRIDE> struct Normed {
    static constexpr int CHUNKS = K / WORDS, MINE = divide_up(CHUNKS, NORM_THREADS);
    const word* x;
    int wanted;
    const element *weight, *bias;
    Few weights[MINE], shifts[LAYER_NORM ? MINE : 1];

    // The chunk number `i` of this thread; the last one again where there is none.
    static __device__ __forceinline__ int chunk(int thread, int i) {
        return min(thread % NORM_THREADS + i * NORM_THREADS, CHUNKS - 1);
    }
    static __device__ __forceinline__ bool exists(int thread, int i) {
        return CHUNKS % NORM_THREADS == 0 || thread % NORM_THREADS + i * NORM_THREADS < CHUNKS;
    }

    __device__ __forceinline__ void before() {
        const int thread = this_thread();
#pragma unroll
        for (int i = 0; i < MINE; i++) {
            weights[i] = ((const Few*)weight)[chunk(thread, i)];
            if (LAYER_NORM) shifts[i] = ((const Few*)bias)[chunk(thread, i)];
        }
    }

    __device__ __forceinline__ void fill(element* h, int rows, float* scratch) const {
        const int thread = this_thread();
        // Every group of threads goes round equally often, for the barriers are the block's.
        for (int first = 0; first < rows; first += THREADS / NORM_THREADS) {
            const int row = first + thread / NORM_THREADS;
            const word* const from = x + (size_t)min(row, rows - 1) * K;
            Words chunks[MINE];
            await(chunks, wanted, [&](int i) { return from + chunk(thread, i) * WORDS; });
            float mean = 0.0f;
            if (LAYER_NORM) {
                float sum = 0.0f;
#pragma unroll
                for (int i = 0; i < MINE; i++) {
#pragma unroll
                    for (int w = 0; w < WORDS; w++) sum += exists(thread, i) ? value(chunks[i].at[w]) : 0.0f;
                }
                mean = norm_sum(sum, scratch) / (float)K;
            }
            float squares = 0.0f;
#pragma unroll
            for (int i = 0; i < MINE; i++) {
#pragma unroll
                for (int w = 0; w < WORDS; w++) {
                    const float v = exists(thread, i) ? value(chunks[i].at[w]) - mean : 0.0f;
                    squares = fmaf(v, v, squares);
                }
            }
            const float scale = 1.0f / sqrtf(norm_sum(squares, scratch) / (float)K + EPSILON);
#pragma unroll
            for (int i = 0; i < MINE; i++) {
                if (row >= rows || !exists(thread, i)) continue;
                Few few;
#pragma unroll
                for (int w = 0; w < WORDS; w++) {
                    float v = (value(chunks[i].at[w]) - mean) * scale * widen(weights[i].at[w]);
                    if (LAYER_NORM) v += widen(shifts[i].at[w]);
                    few.at[w] = narrow<element>(v);
                }
                *(Few*)(h + row * STRIDE + chunk(thread, i) * WORDS) = few;
            }
        }
    }
};

// q, k and v into qkv [rows, QKV]; a pair is i and i + HALF of one head.
struct Heads {
    static constexpr int PAIRS = QKV / 2;
    static constexpr int MINE = most_pairs(PAIRS);
    word* qkv;
    const float2* turns;  // of the block's pairs

    static __device__ __forceinline__ int first(int pair) { return pair / HALF * HEAD_DIM + pair % HALF; }
    static __device__ __forceinline__ int second(int pair) { return first(pair) + HALF; }
    static __device__ __forceinline__ bool has_second(int) { return true; }

    // Cosine and sine, of f32 [2, CONTEXT, HALF].
    static __device__ __forceinline__ float2 turn(const float* all, int position, int pair) {
        if (!ROTARY || pair / HALF >= HEADS + KV_HEADS || position < 0) return make_float2(1.0f, 0.0f);
        return make_float2(all[(size_t)position * HALF + pair % HALF], all[(size_t)(CONTEXT + position) * HALF + pair % HALF]);
    }

    __device__ __forceinline__ void finish(int phase, int pair, int row, int mine, float a, float b) const {
        if (ROTARY && pair / HALF < HEADS + KV_HEADS) {
            const float2 turn = turns[row * MINE + mine];
            // Rounded before the rotation, and not contracted: as the processor's engine does.
            const float x = stored(a), y = stored(b);
            a = __fadd_rn(__fmul_rn(x, turn.x), -__fmul_rn(y, turn.y));
            b = __fadd_rn(__fmul_rn(y, turn.x), __fmul_rn(x, turn.y));
        }
        const int tag = tag_of(phase);
        word* const to = qkv + (size_t)row * QKV + first(pair);
        publish(to, tagged(a, tag));
        publish(to + HALF, tagged(b, tag));
    }
};

// Rows 2p and 2p + 1.
template <int OUTPUTS> struct Neighbours {
    static constexpr int PAIRS = (OUTPUTS + 1) / 2;
    static __device__ __forceinline__ int first(int pair) { return 2 * pair; }
    static __device__ __forceinline__ int second(int pair) { return 2 * pair + 1; }
    static __device__ __forceinline__ bool has_second(int pair) { return OUTPUTS % 2 == 0 || 2 * pair + 1 < OUTPUTS; }
};

// Added to x [rows, HIDDEN], of which the block keeps its pairs.
struct Residual : Neighbours<HIDDEN> {
    static constexpr int MINE = most_pairs(PAIRS);
    word* x;
    float2* kept;

    __device__ __forceinline__ void finish(int phase, int pair, int row, int mine, float a, float b) const {
        float2& held = kept[row * MINE + mine];
        const int tag = x_tag_of(phase);
        const word first = tagged(held.x + a, tag), second = tagged(held.y + b, tag);
        word* const to = x + (size_t)row * HIDDEN + 2 * pair;
        publish(to, first);
        publish(to + 1, second);
        held = make_float2(value(first), value(second));
    }
};

// activation [rows, INTERMEDIATE].
#if GATED
// silu(gate) · up; a pair is row p of each.
struct Activated {
    static constexpr int PAIRS = INTERMEDIATE;
    word* activation;
    static __device__ __forceinline__ int first(int pair) { return pair; }
    static __device__ __forceinline__ int second(int pair) { return pair + INTERMEDIATE; }
    static __device__ __forceinline__ bool has_second(int) { return true; }
    __device__ __forceinline__ void finish(int phase, int pair, int row, int, float gate, float up) const {
        gate = stored(gate);
        // The short forms are good to a few units of binary32, far below a unit of 16-bit elements.
        const float silu = ELEMENT == 0 ? gate / (1.0f + expf(-gate)) : __fdividef(gate, 1.0f + __expf(-gate));
        publish(activation + (size_t)row * INTERMEDIATE + pair, tagged(silu * stored(up), tag_of(phase)));
    }
};
#else
struct Activated : Neighbours<INTERMEDIATE> {
    word* activation;
    __device__ __forceinline__ void finish(int phase, int pair, int row, int, float a, float b) const {
        word* const to = activation + (size_t)row * INTERMEDIATE + 2 * pair;
        publish(to, tagged(fmaxf(a, 0.0f), tag_of(phase)));
        publish(to + 1, tagged(fmaxf(b, 0.0f), tag_of(phase)));
    }
};
#endif

// logits [rows, VOCABULARY], which nothing in this kernel reads.
struct Logits : Neighbours<VOCABULARY> {
    float* logits;
    __device__ __forceinline__ void finish(int, int pair, int row, int, float a, float b) const {
        float* to = logits + (size_t)row * VOCABULARY + 2 * pair;
        to[0] = a;
        if (has_second(pair)) to[1] = b;
    }
};
