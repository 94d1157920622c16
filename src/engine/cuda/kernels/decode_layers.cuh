// Inputs and epilogues of the GEMMs of a decoder layer: where activations come from, which weight rows are paired, what becomes of their
// sums. Part of decode.cu.
//
// Inputs copy activations x [rows, K] to shared memory as `element` [rows, STRIDE]: CopyInput as they are, NormInput behind RMSNorm or
// LayerNorm. Outputs are finished in pairs that depend on each other: the two halves of a head (RoPE), gate and up, or neighbours. An output
// type gives the number of PAIRS and the weight rows of a pair (`first`, `second`), and finish(phase, pair, row, block_pair, a, b) stores
// the sums a and b of pair number `block_pair` of this thread block.

#define HALF (HEAD_DIM / 2)

// The most pairs of `pairs` that a thread block finishes: whole tiles of eight.
__host__ __device__ constexpr int max_block_pairs(int pairs) { return divide_up(divide_up(pairs, 8), GRID_BLOCKS) * 8; }

// The phases of a layer; each reads what all thread blocks have written in the one before. After the last layer follows the logits' phase.
enum Phase { QKV_PHASE, ATTEND_PHASE, OUTPUT_PHASE, UP_PHASE, DOWN_PHASE, PHASES_A_LAYER };

__device__ __forceinline__ int layer_of(int phase) { return min(phase / PHASES_A_LAYER, LAYERS - 1); }

// Threads that compute the norm of one row: all of them, or a quarter where there are more rows.
constexpr int NORM_THREADS = ROWS <= 2 ? THREADS : 128;

// Thread blocks exchange activations through global memory in tagged words: a value in the lower half and a tag in the upper, the number of
// the layer (of half layers for x) that wrote it, 0 at the beginning of a step. A reader polls until all its words carry the tag that it
// expects. There is no barrier and no fence: a fence would also wait for the weight copies in flight.
#if ELEMENT == 0
typedef uint64 word;
#else
typedef uint32 word;
#endif
constexpr int WORDS = 16 / (int)sizeof(word);  // in a 16-byte vector

__device__ __forceinline__ word tagged(float x, int tag) {
#if ELEMENT == 0
    return (uint64)tag << 32 | __float_as_uint(x);
#else
    return (uint32)tag << 16 | narrow<element>(x).bits;
#endif
}
__device__ __forceinline__ float word_value(word w) {
#if ELEMENT == 0
    return __uint_as_float((uint32)w);
#else
    element x;
    x.bits = (uint16)w;
    return widen(x);
#endif
}
// The tag that a phase writes to qkv, attention and activation; and the tag of x after a phase: 1 from the embedding, + 1 with each of
// the two residual additions of a layer.
__device__ __forceinline__ int tag_of(int phase) { return layer_of(phase) + 1; }
__device__ __forceinline__ int x_tag_of(int phase) {
    const int layer = layer_of(phase), part = phase - layer * PHASES_A_LAYER;
    return 2 * layer + 1 + (part >= OUTPUT_PHASE) + (part >= DOWN_PHASE);
}
__device__ __forceinline__ int word_tag(word w) { return (int)(w >> (sizeof(word) * 4)); }
__device__ __forceinline__ void store_word(word* to, word w) {
#if ELEMENT == 0
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(w) : "memory");
#else
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(w) : "memory");
#endif
}
struct alignas(16) WordVector { word at[WORDS]; };
__device__ __forceinline__ WordVector load_words(const word* from) {
    WordVector x;
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
// Loads `to` from addresses(0), addresses(1), … until all words have the expected tag.
template <int COUNT, typename Addresses>
__device__ __forceinline__ void wait_for_tag(WordVector (&to)[COUNT], int expected_tag, Addresses addresses) {
    bool whole;
    do {
#pragma unroll
        for (int i = 0; i < COUNT; i++) to[i] = load_words(addresses(i));
        whole = true;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
#pragma unroll
            for (int w = 0; w < WORDS; w++) whole = whole && word_tag(to[i].at[w]) == expected_tag;
        }
    } while (!whole);
}

// WORDS neighbouring elements.
struct alignas(sizeof(element) * WORDS) ElementVector { element at[WORDS]; };

// h = x [rows, K].
template <int K, int STRIDE> struct CopyInput {
    const word* x;
    int expected_tag;

    __device__ __forceinline__ void prefetch() {}

    __device__ __forceinline__ void fill(element* h, int rows, float*) const {
        constexpr int CHUNKS = K / WORDS, AT_ONCE = max_of(min_of(divide_up(CHUNKS, THREADS), 8), 1);
        const int total = rows * CHUNKS;
        for (int first = this_thread(); first < total; first += AT_ONCE * THREADS) {
            WordVector chunks[AT_ONCE];
            wait_for_tag(chunks, expected_tag, [&](int i) { return x + min(first + i * THREADS, total - 1) * WORDS; });
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int chunk = first + i * THREADS;
                ElementVector vector;
#pragma unroll
                for (int w = 0; w < WORDS; w++) vector.at[w] = narrow<element>(word_value(chunks[i].at[w]));
                if (chunk < total) *(ElementVector*)(h + chunk / CHUNKS * STRIDE + chunk % CHUNKS * WORDS) = vector;
            }
        }
    }
};

// Sum over the NORM_THREADS threads of a row, in a fixed order; scratch f32 [WARPS] in shared memory. Called by all threads.
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

// h = norm(x) · weight (+ bias), x [rows, K]. A thread keeps its vectors of a row in registers: mean first, then squared deviations.
template <int K, int STRIDE> struct NormInput {
    static constexpr int CHUNKS = K / WORDS, THREAD_CHUNKS = divide_up(CHUNKS, NORM_THREADS);
    const word* x;
    int expected_tag;
    const element *weight, *bias;
    ElementVector weights[THREAD_CHUNKS], shifts[LAYER_NORM ? THREAD_CHUNKS : 1];

    // Index of this thread's i-th vector; the last one of the row again where there is none.
    static __device__ __forceinline__ int chunk(int thread, int i) {
        return min(thread % NORM_THREADS + i * NORM_THREADS, CHUNKS - 1);
    }
    static __device__ __forceinline__ bool exists(int thread, int i) {
        return CHUNKS % NORM_THREADS == 0 || thread % NORM_THREADS + i * NORM_THREADS < CHUNKS;
    }

    __device__ __forceinline__ void prefetch() {
        const int thread = this_thread();
#pragma unroll
        for (int i = 0; i < THREAD_CHUNKS; i++) {
            weights[i] = ((const ElementVector*)weight)[chunk(thread, i)];
            if (LAYER_NORM) shifts[i] = ((const ElementVector*)bias)[chunk(thread, i)];
        }
    }

    __device__ __forceinline__ void fill(element* h, int rows, float* scratch) const {
        const int thread = this_thread();
        // All groups of threads run the same number of iterations, because norm_sum contains barriers of the whole block.
        for (int first = 0; first < rows; first += THREADS / NORM_THREADS) {
            const int row = first + thread / NORM_THREADS;
            const word* const from = x + (size_t)min(row, rows - 1) * K;
            WordVector chunks[THREAD_CHUNKS];
            wait_for_tag(chunks, expected_tag, [&](int i) { return from + chunk(thread, i) * WORDS; });
            float mean = 0.0f;
            if (LAYER_NORM) {
                float sum = 0.0f;
#pragma unroll
                for (int i = 0; i < THREAD_CHUNKS; i++) {
#pragma unroll
                    for (int w = 0; w < WORDS; w++) sum += exists(thread, i) ? word_value(chunks[i].at[w]) : 0.0f;
                }
                mean = norm_sum(sum, scratch) / (float)K;
            }
            float squares = 0.0f;
#pragma unroll
            for (int i = 0; i < THREAD_CHUNKS; i++) {
#pragma unroll
                for (int w = 0; w < WORDS; w++) {
                    const float v = exists(thread, i) ? word_value(chunks[i].at[w]) - mean : 0.0f;
                    squares = fmaf(v, v, squares);
                }
            }
            const float scale = 1.0f / sqrtf(norm_sum(squares, scratch) / (float)K + EPSILON);
#pragma unroll
            for (int i = 0; i < THREAD_CHUNKS; i++) {
                if (row >= rows || !exists(thread, i)) continue;
                ElementVector vector;
#pragma unroll
                for (int w = 0; w < WORDS; w++) {
                    float v = (word_value(chunks[i].at[w]) - mean) * scale * widen(weights[i].at[w]);
                    if (LAYER_NORM) v += widen(shifts[i].at[w]);
                    vector.at[w] = narrow<element>(v);
                }
                *(ElementVector*)(h + row * STRIDE + chunk(thread, i) * WORDS) = vector;
            }
        }
    }
};

// Epilogue of the QKV GEMM: RoPE on q and k, into qkv [rows, QKV]. A pair is elements i and i + HALF of one head.
struct QkvOutput {
    static constexpr int PAIRS = QKV / 2;
    static constexpr int BLOCK_PAIRS = max_block_pairs(PAIRS);
    word* qkv;
    const float2* rotations;  // (cos, sin) [rows, BLOCK_PAIRS] of the block's pairs

    static __device__ __forceinline__ int first(int pair) { return pair / HALF * HEAD_DIM + pair % HALF; }
    static __device__ __forceinline__ int second(int pair) { return first(pair) + HALF; }
    static __device__ __forceinline__ bool has_second(int) { return true; }

    // (cos, sin) of a pair, from cos_sin f32 [2, CONTEXT, HALF]; (1, 0) where nothing is rotated.
    static __device__ __forceinline__ float2 rotation(const float* cos_sin, int position, int pair) {
        if (!ROTARY || pair / HALF >= HEADS + KV_HEADS || position < 0) return make_float2(1.0f, 0.0f);
        const int at = pair % HALF;
        return make_float2(cos_sin[(size_t)position * HALF + at], cos_sin[(size_t)(CONTEXT + position) * HALF + at]);
    }

    __device__ __forceinline__ void finish(int phase, int pair, int row, int block_pair, float a, float b) const {
        if (ROTARY && pair / HALF < HEADS + KV_HEADS) {
            const float2 rotation = rotations[row * BLOCK_PAIRS + block_pair];
            // Rounded to the element type before the rotation, and not contracted to fused multiply-adds: as the CPU engine does.
            const float x = stored(a), y = stored(b);
            a = __fadd_rn(__fmul_rn(x, rotation.x), -__fmul_rn(y, rotation.y));
            b = __fadd_rn(__fmul_rn(y, rotation.x), __fmul_rn(x, rotation.y));
        }
        const int tag = tag_of(phase);
        word* const to = qkv + (size_t)row * QKV + first(pair);
        store_word(to, tagged(a, tag));
        store_word(to + HALF, tagged(b, tag));
    }
};

// Pairs of rows 2p and 2p + 1.
template <int OUTPUTS> struct AdjacentRows {
    static constexpr int PAIRS = (OUTPUTS + 1) / 2;
    static __device__ __forceinline__ int first(int pair) { return 2 * pair; }
    static __device__ __forceinline__ int second(int pair) { return 2 * pair + 1; }
    static __device__ __forceinline__ bool has_second(int pair) { return OUTPUTS % 2 == 0 || 2 * pair + 1 < OUTPUTS; }
};

// Epilogue of the output and down projections: added to the residual stream x [rows, HIDDEN], of which the block keeps its pairs in shared
// memory.
struct ResidualOutput : AdjacentRows<HIDDEN> {
    static constexpr int BLOCK_PAIRS = max_block_pairs(PAIRS);
    word* x;
    float2* residual;

    __device__ __forceinline__ void finish(int phase, int pair, int row, int block_pair, float a, float b) const {
        float2& x_pair = residual[row * BLOCK_PAIRS + block_pair];
        const int tag = x_tag_of(phase);
        const word first = tagged(x_pair.x + a, tag), second = tagged(x_pair.y + b, tag);
        word* const to = x + (size_t)row * HIDDEN + 2 * pair;
        store_word(to, first);
        store_word(to + 1, second);
        x_pair = make_float2(word_value(first), word_value(second));
    }
};

// Epilogue of the gate and up projections: activation [rows, INTERMEDIATE].
#if GATED
// silu(gate) · up; a pair is row p of the gate matrix and row p of the up matrix.
struct MlpOutput {
    static constexpr int PAIRS = INTERMEDIATE;
    word* activation;
    static __device__ __forceinline__ int first(int pair) { return pair; }
    static __device__ __forceinline__ int second(int pair) { return pair + INTERMEDIATE; }
    static __device__ __forceinline__ bool has_second(int) { return true; }
    __device__ __forceinline__ void finish(int phase, int pair, int row, int, float gate, float up) const {
        gate = stored(gate);
        // The fast intrinsics are accurate to a few units of binary32, far below a unit of 16-bit elements.
        const float silu = ELEMENT == 0 ? gate / (1.0f + expf(-gate)) : __fdividef(gate, 1.0f + __expf(-gate));
        store_word(activation + (size_t)row * INTERMEDIATE + pair, tagged(silu * stored(up), tag_of(phase)));
    }
};
#else
struct MlpOutput : AdjacentRows<INTERMEDIATE> {
    word* activation;
    __device__ __forceinline__ void finish(int phase, int pair, int row, int, float a, float b) const {
        word* const to = activation + (size_t)row * INTERMEDIATE + 2 * pair;
        store_word(to, tagged(fmaxf(a, 0.0f), tag_of(phase)));
        store_word(to + 1, tagged(fmaxf(b, 0.0f), tag_of(phase)));
    }
};
#endif

// Epilogue of the logits: f32 [rows, VOCABULARY], read by later kernels only, hence not tagged.
struct LogitsOutput : AdjacentRows<VOCABULARY> {
    float* logits;
    __device__ __forceinline__ void finish(int, int pair, int row, int, float a, float b) const {
        float* to = logits + (size_t)row * VOCABULARY + 2 * pair;
        to[0] = a;
        if (has_second(pair)) to[1] = b;
    }
};
