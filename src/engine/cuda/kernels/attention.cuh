// What the attention kernels share; in front of attention.cu, attention_f32.cu and decode.cu.
//
//   out[r, h] = softmax(q[r, h] · K[kv]ᵀ · SCALE) · V[kv], kv = h / GROUP, over positions max(0, p + 1 − WINDOW) ..= p
//
// where p = positions[r] is the position of row r. Tensors, row-major:
//   qkv       element [rows, QKV]: queries [HEADS, HEAD_DIM], then keys and values [KV_HEADS, HEAD_DIM] each; q and k with RoPE applied
//   keys      element [blocks, KV_HEADS, BLOCK_TOKENS, HEAD_DIM], values the same: the paged KV cache of one layer
//   tables    i32 [slots, table_stride]: position p of slot s is in block tables[s, p / BLOCK_TOKENS] at p % BLOCK_TOKENS
//   out       element [rows, HEADS, HEAD_DIM]
//   workspace u32 [COUNTERS] zeros, then f32 partial results of split rows
//
// Decode attention cuts a row's positions into chunks of CHUNK at fixed places (split-KV). Within a chunk each warp owns fixed positions;
// the warps' results are merged in order of warps, the chunks' in order of chunks. Whether one block computes all chunks of a row or each
// chunk has its own block changes who computes, not what: a row's bits depend on that row alone.
//
// With SINKS each head has a score more, sinks[h], whose weight is part of the softmax's sum and has no value. With a CAP the scores are CAP · tanh(q · k · SCALE / CAP).
//
// Constants: HEADS, KV_HEADS, HEAD_DIM, QKV = (HEADS + 2 · KV_HEADS) · HEAD_DIM, WINDOW (0: none), BLOCK_TOKENS 64, DECODE_WARPS, SCALE
// (most often 1 / √HEAD_DIM), CAP and SINKS where the model has them.

constexpr int GROUP = HEADS / KV_HEADS;
constexpr int CHUNK = 256;
// Split launches have at most this many (row, head tile) pairs: one arrival counter each, at the start of the workspace.
constexpr int COUNTERS = 1024;
#define NEG_INFINITY __int_as_float(0xff800000)  // −∞: the score of a masked position

__device__ __forceinline__ int first_position(int position) {
    return WINDOW > 0 && position + 1 > WINDOW ? position + 1 - WINDOW : 0;
}

// The kernels' last parameter.
#ifdef SINKS
#define SINKS_PARAMETER , const element* sinks
#else
#define SINKS_PARAMETER
#endif

// Exponential of a score difference: e^x in binary32; in half precision 2^x, of scores that are already scaled by log2(e).
#if ELEMENT == 0
#define SCORE_UNIT 1.0f
__device__ __forceinline__ float exp_score(float difference) { return expf(difference); }
#else
#define SCORE_UNIT 1.4426950408889634f
__device__ __forceinline__ float exp_score(float difference) { return exp2_approx(difference); }
#endif

// The score of q · k, as exp_score takes it.
__device__ __forceinline__ float score_of(float product) {
#ifdef CAP
    return CAP * tanhf(product * SCALE / CAP) * SCORE_UNIT;
#else
    return product * (SCALE * SCORE_UNIT);
#endif
}

// exp(sink − max_score). Where it overflows, the head's output is 0, as far as binary32 tells.
__device__ __forceinline__ float sink_weight(element sink, float max_score) { return exp_score(widen(sink) * SCORE_UNIT - max_score); }

// The maximum to subtract: 0 in place of −∞, for a row that has no unmasked position so far (−∞ − −∞ is no number).
__device__ __forceinline__ float finite_max(float max_score) { return max_score == NEG_INFINITY ? 0.0f : max_score; }

// Partial softmax result for two neighbouring elements of a head: output = Σ exp(score − max_score) · value, not yet divided by sum_exp.
struct Partial {
    float2 output;
    float max_score;
    float sum_exp;
};

// Merges partial results, a before b. Rounding intrinsics, so that no caller's context contracts the operations differently.
__device__ __forceinline__ Partial merge_partials(Partial a, Partial b) {
    Partial y;
    y.max_score = fmaxf(a.max_score, b.max_score);
    float from_a = exp_score(a.max_score - finite_max(y.max_score)), from_b = exp_score(b.max_score - finite_max(y.max_score));
    y.sum_exp = __fmaf_rn(a.sum_exp, from_a, __fmul_rn(b.sum_exp, from_b));
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

// In decode.cu attention is inlined, except for AWQ, whose matrix code needs the most registers: there a call is 4 % faster.
#if defined(DEPTH) && WEIGHTS == 2
#define INLINE_ATTEND __noinline__
#else
#define INLINE_ATTEND __forceinline__
#endif

// The second half of decode attention: merges the partial results of WARPS warps, then of chunks, into the output of TILE_HEADS heads.
// Shared memory: f32 outputs [WARPS, TILE_HEADS, HEAD_DIM] (swizzled), max_score, sum_exps and factors [WARPS, TILE_HEADS].
template <int WARPS, int TILE_HEADS> struct ChunkMerge {
    static constexpr int THREADS = WARPS * 32;
    static constexpr int PAIRS = TILE_HEADS * HEAD_DIM / 2;
    static constexpr int PAIRS_PER_THREAD = (PAIRS + THREADS - 1) / THREADS;
    // Size of these arrays, in floats.
    static constexpr int SHARED = WARPS * TILE_HEADS * (HEAD_DIM + 3);
    // A chunk's result in the workspace, in floats: outputs, maxima, sums of exponentials.
    static constexpr int STRIDE = TILE_HEADS * (HEAD_DIM + 2);

    float* outputs;
    float* max_score;
    float* sum_exps;
    float* factors;
    Partial state[PAIRS_PER_THREAD];

    __device__ __forceinline__ ChunkMerge(float* shared)
        : outputs(shared),
          max_score(shared + WARPS * TILE_HEADS * HEAD_DIM),
          sum_exps(max_score + WARPS * TILE_HEADS),
          factors(sum_exps + WARPS * TILE_HEADS) {
#pragma unroll
        for (int i = 0; i < PAIRS_PER_THREAD; i++) state[i] = Partial{make_float2(0.0f, 0.0f), NEG_INFINITY, 0.0f};
    }

    // Index of an element. Pairs of elements are permuted (XOR swizzle) so that lanes which hold different heads use different banks.
    __device__ __forceinline__ static int swizzled(int head, int dim) {
        int pair = HEAD_DIM % 8 == 0 ? (dim >> 1) ^ ((head >> 1) & 3) : dim >> 1;
        return head * HEAD_DIM + pair * 2 + (dim & 1);
    }

    // A head's maximum score over all warps.
    __device__ __forceinline__ float max_over_warps(int head) const {
        float new_max = NEG_INFINITY;
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++) new_max = fmaxf(new_max, max_score[warp * TILE_HEADS + head]);
        return new_max;
    }

    // Merges the warps' results of a chunk. Called by all threads; afterwards the shared memory may be reused.
    __device__ __forceinline__ void merge_warps(Partial (&partial)[PAIRS_PER_THREAD]) {
        __syncthreads();
        for (int i = threadIdx.x; i < WARPS * TILE_HEADS; i += THREADS) {
            factors[i] = exp_score(max_score[i] - finite_max(max_over_warps(i % TILE_HEADS)));
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < PAIRS_PER_THREAD; i++) {
            int pair = threadIdx.x + i * THREADS;
            if (PAIRS % THREADS == 0 || pair < PAIRS) {
                int head = pair / (HEAD_DIM / 2), at = swizzled(head, pair % (HEAD_DIM / 2) * 2);
                float2 sum = make_float2(0.0f, 0.0f);
                float sum_exp = 0.0f;
#pragma unroll
                for (int warp = 0; warp < WARPS; warp++) {
                    float factor = factors[warp * TILE_HEADS + head];
                    sum_exp = __fmaf_rn(sum_exps[warp * TILE_HEADS + head], factor, sum_exp);
                    float2 part = *(const float2*)&outputs[warp * TILE_HEADS * HEAD_DIM + at];
                    sum.x = __fmaf_rn(part.x, factor, sum.x);
                    sum.y = __fmaf_rn(part.y, factor, sum.y);
                }
                partial[i] = Partial{sum, max_over_warps(head), sum_exp};
            }
        }
        __syncthreads();
    }

    // One block computes all chunks of its row: merges the next one into `state`.
    __device__ __forceinline__ void add_chunk() {
        Partial partial[PAIRS_PER_THREAD];
        merge_warps(partial);
#pragma unroll
        for (int i = 0; i < PAIRS_PER_THREAD; i++) {
            if (PAIRS % THREADS == 0 || threadIdx.x + i * THREADS < PAIRS) state[i] = merge_partials(state[i], partial[i]);
        }
    }

    // Each chunk has its own block: writes this chunk's result to the workspace. In the last block to arrive, merges all chunks in order
    // and returns true; the counter is then 0 again.
    __device__ __forceinline__ bool publish_chunk(float* partials, uint32* counter, int index, int count) {
        Partial partial[PAIRS_PER_THREAD];
        merge_warps(partial);
        float* to = partials + index * STRIDE;
#pragma unroll
        for (int i = 0; i < PAIRS_PER_THREAD; i++) {
            int pair = threadIdx.x + i * THREADS;
            if (PAIRS % THREADS == 0 || pair < PAIRS) {
                *(float2*)(to + pair * 2) = partial[i].output;
                if (pair % (HEAD_DIM / 2) == 0) {
                    to[TILE_HEADS * HEAD_DIM + pair / (HEAD_DIM / 2)] = partial[i].max_score;
                    to[TILE_HEADS * (HEAD_DIM + 1) + pair / (HEAD_DIM / 2)] = partial[i].sum_exp;
                }
            }
        }
        __threadfence();
        __syncthreads();
        // `outputs` is free after merge_warps.
        volatile uint32* arrived = (volatile uint32*)outputs;
        if (threadIdx.x == 0) *arrived = atomicInc(counter, (uint32)(count - 1));
        __syncthreads();
        if (*arrived != (uint32)(count - 1)) return false;
        __threadfence();
        for (int part = 0; part < count; part++) {
            const float* from = partials + part * STRIDE;
#pragma unroll
            for (int i = 0; i < PAIRS_PER_THREAD; i++) {
                int pair = threadIdx.x + i * THREADS;
                if (PAIRS % THREADS == 0 || pair < PAIRS) {
                    int head = pair / (HEAD_DIM / 2);
                    Partial partial;
                    partial.output = __ldcg((const float2*)(from + pair * 2));
                    partial.max_score = __ldcg(from + TILE_HEADS * HEAD_DIM + head);
                    partial.sum_exp = __ldcg(from + TILE_HEADS * (HEAD_DIM + 1) + head);
                    state[i] = merge_partials(state[i], partial);
                }
            }
        }
        return true;
    }

#ifdef SINKS
    // Takes the first `heads` heads' sinks into their sums; they count as the last score.
    __device__ __forceinline__ void add_sinks(const element* sinks, int heads) {
#pragma unroll
        for (int i = 0; i < PAIRS_PER_THREAD; i++) {
            int pair = threadIdx.x + i * THREADS;
            if (pair < heads * (HEAD_DIM / 2)) state[i].sum_exp += sink_weight(sinks[pair / (HEAD_DIM / 2)], state[i].max_score);
        }
    }
#endif

    // Divides by sum_exp and passes the first `heads` heads to store(index, element, next element).
    template <typename Store> __device__ __forceinline__ void store_heads(int heads, Store store) {
#pragma unroll
        for (int i = 0; i < PAIRS_PER_THREAD; i++) {
            int pair = threadIdx.x + i * THREADS;
            if (pair < heads * (HEAD_DIM / 2)) {
                store(pair * 2, state[i].output.x / state[i].sum_exp, state[i].output.y / state[i].sum_exp);
            }
        }
    }
};
