// What some families compute between the GEMMs of the large-batch path beyond the plain decoder (`elementwise.cu`):
//
//   scale_embeddings    x = x · EMBEDDING_SCALE
//   norm_queries_keys   q, k of each row in place: x / √(mean(x²) + ε) · weight, over every head (QUERY_KEY_NORM 1) or all heads of q, and
//                       of k, together (2)
//   store_kv            k and v as they are into the paged KV cache: layers that know no positions
//   rope_and_store_kv   the same with the first ROTATED elements of each head of q (in place) and k rotated
//   add_rows            x += RESIDUAL_SCALE · y, y normalised before where NORM_AFTER is 1
//   finish_logits       x = x / LOGITS_DIVISOR, then LOGITS_CAP · tanh(x / LOGITS_CAP) where there is one, in binary32
//
// Shapes as in `elementwise.cu`; cosines, sines f32 [context, ROTATED / 2]. Each stored value is rounded once more where a step before it
// stores its own. A row's result depends on that row alone, and its sums run in an order fixed by the shapes: bits do not depend on the
// batch. Each kernel waits for the previous one before it reads anything.
//
// Constants: ELEMENT, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, ROTATED, BLOCK_TOKENS, QUERY_KEY_NORM (0 none), NORM_AFTER (0, 1),
// EMBEDDING_SCALE, RESIDUAL_SCALE, LOGITS_DIVISOR; LOGITS_CAP and ZERO_CENTRED_NORMS (norms multiply by 1 + weight) where the model has them.

#define THREADS 256
#define QUERIES (HEADS * HEAD_DIM)
#define KEYS (KV_HEADS * HEAD_DIM)
#define QKV (QUERIES + 2 * KEYS)
#define HALF (ROTATED / 2)

extern "C" __global__ void scale_embeddings(element* x) {
    launch_dependents();
    wait_for_previous_kernel();
    element* row = x + (size_t)blockIdx.x * HIDDEN;
    for (int i = threadIdx.x; i < HIDDEN; i += blockDim.x) row[i] = narrow<element>(widen(row[i]) * stored(EMBEDDING_SCALE));
}

// x[0..WIDTH] of one row in place, by all threads of a block.
template <int WIDTH> __device__ __forceinline__ void norm_span(element* x, const element* weight, float epsilon, float* scratch) {
    float squares = 0.0f;
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) squares = fmaf(widen(x[i]), widen(x[i]), squares);
    float scale = 1.0f / sqrtf(block_sum<THREADS>(squares, scratch) / (float)WIDTH + epsilon);
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) x[i] = narrow<element>(widen(x[i]) * scale * norm_weight(weight[i]));
}

// One block a row; over heads, one warp a head.
extern "C" __global__ void __launch_bounds__(THREADS) norm_queries_keys(element* qkv, const element* query_weight,
                                                                        const element* key_weight, float epsilon) {
    launch_dependents();
    wait_for_previous_kernel();
    element* row = qkv + (size_t)blockIdx.x * QKV;
#if QUERY_KEY_NORM == 2
    __shared__ float scratch[THREADS / 32];
    norm_span<QUERIES>(row, query_weight, epsilon, scratch);
    norm_span<KEYS>(row + QUERIES, key_weight, epsilon, scratch);
#else
    int lane = threadIdx.x & 31;
    for (int head = threadIdx.x >> 5; head < HEADS + KV_HEADS; head += THREADS / 32) {
        element* x = row + head * HEAD_DIM;
        const element* weight = head < HEADS ? query_weight : key_weight;
        float squares = 0.0f;
        for (int i = lane; i < HEAD_DIM; i += 32) squares = fmaf(widen(x[i]), widen(x[i]), squares);
        float scale = 1.0f / sqrtf(warp_sum(squares) / (float)HEAD_DIM + epsilon);
        for (int i = lane; i < HEAD_DIM; i += 32) x[i] = narrow<element>(widen(x[i]) * scale * norm_weight(weight[i]));
    }
#endif
}

// A padding row (position below 0) is left alone.
template <bool ROTATES> __device__ __forceinline__ void store_row(element* qkv, const int* positions, const int* slots, const int* tables,
                                                                  int table_stride, const float* cosines, const float* sines,
                                                                  element* keys, element* values) {
    int row = blockIdx.x, position = positions[row];
    if (position < 0) return;
    element* q = qkv + (size_t)row * QKV;
    size_t block = tables[(size_t)slots[row] * table_stride + position / BLOCK_TOKENS];
    // Offset of KV head 0 at this position; the next head is BLOCK_TOKENS * HEAD_DIM further.
    size_t place = (block * KV_HEADS * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM;
    // A thread takes a pair that is rotated, or one element that is not.
    constexpr int UNITS = ROTATES ? HEAD_DIM - HALF : HEAD_DIM;
    for (int unit = threadIdx.x; unit < (HEADS + KV_HEADS) * UNITS; unit += blockDim.x) {
        int head = unit / UNITS, at = unit % UNITS;
        element* from = q + head * HEAD_DIM;
        element* to = head < HEADS ? from : keys + place + (size_t)(head - HEADS) * (BLOCK_TOKENS * HEAD_DIM);
        if (ROTATES && at < HALF) {
            float a = widen(from[at]), b = widen(from[at + HALF]);
            float c = cosines[(size_t)position * HALF + at], s = sines[(size_t)position * HALF + at];
            to[at] = narrow<element>(a * c - b * s);
            to[at + HALF] = narrow<element>(b * c + a * s);
        } else {
            int rest = ROTATES ? at + HALF : at;
            to[rest] = from[rest];
        }
    }
    const element* v = q + QUERIES + KEYS;
    for (int i = threadIdx.x; i < KEYS; i += blockDim.x)
        values[place + (size_t)(i / HEAD_DIM) * (BLOCK_TOKENS * HEAD_DIM) + i % HEAD_DIM] = v[i];
}
extern "C" __global__ void store_kv(element* qkv, const int* positions, const int* slots, const int* tables, int table_stride,
                                    const float* cosines, const float* sines, element* keys, element* values) {
    launch_dependents();
    wait_for_previous_kernel();
    store_row<false>(qkv, positions, slots, tables, table_stride, cosines, sines, keys, values);
}
extern "C" __global__ void rope_and_store_kv(element* qkv, const int* positions, const int* slots, const int* tables,
                                             int table_stride, const float* cosines, const float* sines, element* keys,
                                             element* values) {
    launch_dependents();
    wait_for_previous_kernel();
    store_row<true>(qkv, positions, slots, tables, table_stride, cosines, sines, keys, values);
}

extern "C" __global__ void __launch_bounds__(THREADS) add_rows(element* x, const element* y, const element* weight, float epsilon) {
    launch_dependents();
    wait_for_previous_kernel();
    element* to = x + (size_t)blockIdx.x * HIDDEN;
    const element* from = y + (size_t)blockIdx.x * HIDDEN;
#if NORM_AFTER
    __shared__ float scratch[THREADS / 32];
    float squares = 0.0f;
    for (int i = threadIdx.x; i < HIDDEN; i += THREADS) squares = fmaf(widen(from[i]), widen(from[i]), squares);
    float scale = 1.0f / sqrtf(block_sum<THREADS>(squares, scratch) / (float)HIDDEN + epsilon);
#endif
    for (int i = threadIdx.x; i < HIDDEN; i += THREADS) {
        float value = widen(from[i]);
#if NORM_AFTER
        value = stored(value * scale * norm_weight(weight[i]));
#endif
        to[i] = narrow<element>(widen(to[i]) + stored(value * RESIDUAL_SCALE));
    }
}

extern "C" __global__ void finish_logits(float* x, uint64 count) {
    launch_dependents();
    wait_for_previous_kernel();
    uint64 i = (uint64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float logit = x[i] / LOGITS_DIVISOR;
#ifdef LOGITS_CAP
    logit = LOGITS_CAP * tanhf(logit / LOGITS_CAP);
#endif
    x[i] = logit;
}
