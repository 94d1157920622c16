// What attention's kernels share, in front of attention.cu and attention_f32.cu.
//
// Constants: HEADS, KV_HEADS, HEAD_DIM, QKV (elements of a qkv row), WINDOW (0: none), BLOCK_TOKENS 64.
// qkv [rows][QKV]: queries of all heads, then keys, then values. Cache of a layer: keys and values, each
// [blocks][KV_HEADS][BLOCK_TOKENS][HEAD_DIM]; position p of slot s lies in block tables[s · table_stride + p / 64] at p % 64.
// out [rows][HEADS · HEAD_DIM]. A row at position p attends to positions max(0, p + 1 − WINDOW) ..= p.
//
// A generated token's positions are cut into chunks of CHUNK at fixed places. Within a chunk each warp owns fixed positions; a
// chunk's result is the warps' results merged in order, and a row's result is its chunks' results merged in order. Whether one
// block computes all chunks of a row or each chunk has a block of its own changes who computes, not what: the bits depend on
// the row alone.

constexpr int GROUP = HEADS / KV_HEADS;
constexpr int CHUNK = 256;
// Split launches have at most this many (row, head tile) pairs: one counter each, at the start of the workspace.
constexpr int COUNTERS = 1024;
#define LOWEST __int_as_float(0xff800000)  // −∞: the score of what is not seen

__device__ __forceinline__ int first_position(int position) {
    return WINDOW > 0 && position + 1 > WINDOW ? position + 1 - WINDOW : 0;
}

// Exponentials: binary32 takes the library's e^x of scores; half precision takes 2^x of scores that carry the factor log2(e).
#if ELEMENT == 0
__device__ __forceinline__ float weight(float difference) { return expf(difference); }
#else
__device__ __forceinline__ float weight(float difference) { return power_of_two(difference); }
#endif

// e^(score − highest), for which a row without any position so far (−∞) is no exception.
__device__ __forceinline__ float finite(float highest) { return highest == LOWEST ? 0.0f : highest; }

// Two neighbouring elements of a head's output, not yet divided: Σ weight · value, beside the highest score and Σ weight.
struct Share {
    float2 output;
    float highest;
    float total;
};

// What `a` and then `b` amount to. Spelled out so that no caller's context contracts it differently.
__device__ __forceinline__ Share merged(Share a, Share b) {
    Share y;
    y.highest = fmaxf(a.highest, b.highest);
    float from_a = weight(a.highest - finite(y.highest)), from_b = weight(b.highest - finite(y.highest));
    y.total = __fmaf_rn(a.total, from_a, __fmul_rn(b.total, from_b));
    y.output.x = __fmaf_rn(a.output.x, from_a, __fmul_rn(b.output.x, from_b));
    y.output.y = __fmaf_rn(a.output.y, from_a, __fmul_rn(b.output.y, from_b));
    return y;
}

__device__ __forceinline__ void store_pair(element* to, float low, float high) {
#if ELEMENT == 0
    *(float2*)to = make_float2(low, high);
#else
    *(uint32*)to = pack2(low, high);
#endif
}

// Where decode.cu reads AWQ, whose products need the most registers, attention is kept apart from them (4 %); all else is faster as one.
#if defined(DEPTH) && WEIGHTS == 2
#define INLINE_ATTEND __noinline__
#else
#define INLINE_ATTEND __forceinline__
#endif

// The second half of the kernels for generated tokens: from the results of WARPS warps to the output of HEADS_NOW heads.
// outputs [WARPS][HEADS_NOW][HEAD_DIM] (elements at `place`), highest, totals and factors [WARPS][HEADS_NOW].
template <int WARPS, int HEADS_NOW> struct Gathering {
    static constexpr int THREADS = WARPS * 32;
    static constexpr int PAIRS = HEADS_NOW * HEAD_DIM / 2;
    static constexpr int OWN = (PAIRS + THREADS - 1) / THREADS;
    // What it all takes of shared memory, in floats.
    static constexpr int SHARED = WARPS * HEADS_NOW * (HEAD_DIM + 3);
    // A chunk in the workspace, in floats: outputs, highest scores, totals.
    static constexpr int STRIDE = HEADS_NOW * (HEAD_DIM + 2);

    float* outputs;
    float* highest;
    float* totals;
    float* factors;
    Share state[OWN];

    __device__ __forceinline__ Gathering(float* shared)
        : outputs(shared),
          highest(shared + WARPS * HEADS_NOW * HEAD_DIM),
          totals(highest + WARPS * HEADS_NOW),
          factors(totals + WARPS * HEADS_NOW) {
#pragma unroll
        for (int i = 0; i < OWN; i++) state[i] = Share{make_float2(0.0f, 0.0f), LOWEST, 0.0f};
    }

    // Where a warp's element lies. Pairs of a head change places so that lanes that hold different heads meet different banks.
    __device__ __forceinline__ static int place(int head, int dim) {
        int pair = HEAD_DIM % 8 == 0 ? (dim >> 1) ^ ((head >> 1) & 3) : dim >> 1;
        return head * HEAD_DIM + pair * 2 + (dim & 1);
    }

    // Of all warps' highest scores of a head the highest.
    __device__ __forceinline__ float top(int head) const {
        float top = LOWEST;
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++) top = fmaxf(top, highest[warp * HEADS_NOW + head]);
        return top;
    }

    // Merges the warps' results. All threads; ends with the shared memory free again.
    __device__ __forceinline__ void chunk(Share (&share)[OWN]) {
        __syncthreads();
        for (int i = threadIdx.x; i < WARPS * HEADS_NOW; i += THREADS) factors[i] = weight(highest[i] - finite(top(i % HEADS_NOW)));
        __syncthreads();
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            int pair = threadIdx.x + i * THREADS;
            if (PAIRS % THREADS == 0 || pair < PAIRS) {
                int head = pair / (HEAD_DIM / 2), at = place(head, pair % (HEAD_DIM / 2) * 2);
                float2 sum = make_float2(0.0f, 0.0f);
                float total = 0.0f;
#pragma unroll
                for (int warp = 0; warp < WARPS; warp++) {
                    float factor = factors[warp * HEADS_NOW + head];
                    total = __fmaf_rn(totals[warp * HEADS_NOW + head], factor, total);
                    float2 part = *(const float2*)&outputs[warp * HEADS_NOW * HEAD_DIM + at];
                    sum.x = __fmaf_rn(part.x, factor, sum.x);
                    sum.y = __fmaf_rn(part.y, factor, sum.y);
                }
                share[i] = Share{sum, top(head), total};
            }
        }
        __syncthreads();
    }

    // The block computes all chunks of its row: merge one more.
    __device__ __forceinline__ void take() {
        Share share[OWN];
        chunk(share);
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            if (PAIRS % THREADS == 0 || threadIdx.x + i * THREADS < PAIRS) state[i] = merged(state[i], share[i]);
        }
    }

    // Each chunk has a block: leave this one's in the workspace. The last block to arrive merges them all, in order, and is
    // told so; the counter is then at 0 again.
    __device__ __forceinline__ bool leave(float* partials, uint32* counter, int index, int count) {
        Share share[OWN];
        chunk(share);
        float* to = partials + index * STRIDE;
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            int pair = threadIdx.x + i * THREADS;
            if (PAIRS % THREADS == 0 || pair < PAIRS) {
                *(float2*)(to + pair * 2) = share[i].output;
                if (pair % (HEAD_DIM / 2) == 0) {
                    to[HEADS_NOW * HEAD_DIM + pair / (HEAD_DIM / 2)] = share[i].highest;
                    to[HEADS_NOW * (HEAD_DIM + 1) + pair / (HEAD_DIM / 2)] = share[i].total;
                }
            }
        }
        __threadfence();
        __syncthreads();
        // `outputs` is free since `chunk`.
        volatile uint32* arrived = (volatile uint32*)outputs;
        if (threadIdx.x == 0) *arrived = atomicInc(counter, (uint32)(count - 1));
        __syncthreads();
        if (*arrived != (uint32)(count - 1)) return false;
        __threadfence();
        for (int part = 0; part < count; part++) {
            const float* from = partials + part * STRIDE;
#pragma unroll
            for (int i = 0; i < OWN; i++) {
                int pair = threadIdx.x + i * THREADS;
                if (PAIRS % THREADS == 0 || pair < PAIRS) {
                    int head = pair / (HEAD_DIM / 2);
                    Share share;
                    share.output = __ldcg((const float2*)(from + pair * 2));
                    share.highest = __ldcg(from + HEADS_NOW * HEAD_DIM + head);
                    share.total = __ldcg(from + HEADS_NOW * (HEAD_DIM + 1) + head);
                    state[i] = merged(state[i], share);
                }
            }
        }
        return true;
    }

    // Divides, and gives the first `heads` heads away: two neighbouring elements of the output at a time, and where they lie.
    template <typename Store> __device__ __forceinline__ void give(int heads, Store store) {
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            int pair = threadIdx.x + i * THREADS;
            if (pair < heads * (HEAD_DIM / 2)) {
                store(pair * 2, state[i].output.x / state[i].total, state[i].output.y / state[i].total);
            }
        }
    }
};
