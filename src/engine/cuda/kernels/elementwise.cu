// The operations between the GEMMs of the large-batch path (prefill, and decode of many sequences), and the cast of loaded weights:
//
//   embed               x[r] = table[tokens[r]] (+ position_table[positions[r] + POSITION_OFFSET])
//   norm_rows           h[r] = (x − mean) / √(variance + ε) · weight + bias (LAYER_NORM), or x / √(mean(x²) + ε) · weight (RMSNorm)
//   gather_rows         x_rows[r] = x[indices[r]], attention_rows[r] = attention[indices[r]]
//   rope_and_store_kv   q in place: q · cos + rotate_half(q) · sin; k likewise and v as it is into the paged KV cache
//   silu_gated, relu    y = silu(gate) · up; y = max(x, 0)
//   gelu_gated, gelu    y = gelu(gate) · up; y = gelu(x), where the model has GELU
//   cast                f32, f16 or bf16 of a file → element
//
// Shapes, all row-major: x, h [rows, HIDDEN]; qkv [rows, (HEADS + 2 · KV_HEADS) · HEAD_DIM], queries, keys, values; KV cache of a layer:
// keys, values [blocks, KV_HEADS, BLOCK_TOKENS, HEAD_DIM], position p of slot s in block tables[s · table_stride + p / BLOCK_TOKENS] at
// p % BLOCK_TOKENS; cosines, sines f32 [context, HEAD_DIM / 2]. Everything else is of `element`; arithmetic is binary32, rounded once.
//
// A row is one token. embed, norm_rows, gather_rows and rope_and_store_kv take one block a row; the activations take one thread for
// PACK elements. A row's result depends on that row alone, and its sums run in an order fixed by HIDDEN: bits do not depend on the batch.
//
// Host: every row's size is a multiple of PACK elements (16 bytes where sizes allow) and pointers are aligned to PACK elements. Kernels
// may be launched with programmatic dependent launch: each waits for the previous one before it reads anything but weights and the arrays
// that came with the step.
//
// Constants: ELEMENT, PACK, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, BLOCK_TOKENS, LAYER_NORM (0 RMSNorm, 1 LayerNorm), ROTARY
// (0, 1), POSITION_OFFSET (of learned positions, −1 where there are none), GELU (0 none, by the error function 1, by tanh 2),
// ZERO_CENTRED_NORMS where norms multiply by 1 + weight.

#define THREADS 256
#define QKV ((HEADS + 2 * KV_HEADS) * HEAD_DIM)
#define HALF (HEAD_DIM / 2)

struct alignas(sizeof(element) * PACK) pack { element at[PACK]; };

// x[row] = table[token] (+ position_table[position + POSITION_OFFSET]). A token of −1 stands for next_tokens[slot]: the one that was
// sampled on the device in the sequence's last step. A padding row (position below 0) takes the first position.
extern "C" __global__ void embed(const int* tokens, const int* next_tokens, const int* positions, const int* slots,
                                 const element* table, const element* position_table, element* x) {
    launch_dependents();
    wait_for_previous_kernel();
    int row = blockIdx.x;
    int token = tokens[row];
    if (token < 0) token = max(next_tokens[slots[row]], 0);
    const pack* from = (const pack*)(table + (size_t)token * HIDDEN);
    pack* to = (pack*)(x + (size_t)row * HIDDEN);
#if POSITION_OFFSET >= 0
    const pack* where = (const pack*)(position_table + (size_t)(max(positions[row], 0) + POSITION_OFFSET) * HIDDEN);
#endif
    for (int i = threadIdx.x; i < HIDDEN / PACK; i += blockDim.x) {
        pack value = from[i];
#if POSITION_OFFSET >= 0
        pack position = where[i];
#pragma unroll
        for (int j = 0; j < PACK; j++) value.at[j] = narrow<element>(widen(value.at[j]) + widen(position.at[j]));
#endif
        to[i] = value;
    }
}

// h[row] = norm(x[indices[row]]) · weight (+ bias); indices null: of x[row]. Two passes over registers: mean, then squared deviations.
extern "C" __global__ void __launch_bounds__(THREADS) norm_rows(const element* x, const int* indices, const element* weight,
                                                                const element* bias, float epsilon, element* h) {
    launch_dependents();
    __shared__ float scratch[THREADS / 32];
    constexpr int PACKS = HIDDEN / PACK;
    constexpr int EACH = (PACKS + THREADS - 1) / THREADS;
    // What does not depend on the previous kernel is read before it ends.
    pack weights[EACH], biases[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        int i = e * THREADS + threadIdx.x;
        if (i < PACKS) weights[e] = ((const pack*)weight)[i];
#if LAYER_NORM
        if (i < PACKS) biases[e] = ((const pack*)bias)[i];
#endif
    }
    size_t row = indices ? indices[blockIdx.x] : blockIdx.x;
    wait_for_previous_kernel();
    const pack* from = (const pack*)(x + row * HIDDEN);
    float value[EACH][PACK];
    float sum = 0.0f;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        int i = e * THREADS + threadIdx.x;
        pack p;
        if (i < PACKS) p = from[i];
#pragma unroll
        for (int j = 0; j < PACK; j++) {
            value[e][j] = i < PACKS ? widen(p.at[j]) : 0.0f;
            sum += value[e][j];
        }
    }
#if LAYER_NORM
    float mean = block_sum<THREADS>(sum, scratch) / (float)HIDDEN;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        bool inside = e * THREADS + threadIdx.x < PACKS;
#pragma unroll
        for (int j = 0; j < PACK; j++) value[e][j] = inside ? value[e][j] - mean : 0.0f;
    }
#endif
    float squares = 0.0f;
#pragma unroll
    for (int e = 0; e < EACH; e++)
#pragma unroll
        for (int j = 0; j < PACK; j++) squares = fmaf(value[e][j], value[e][j], squares);
    float scale = 1.0f / sqrtf(block_sum<THREADS>(squares, scratch) / (float)HIDDEN + epsilon);
    pack* to = (pack*)(h + (size_t)blockIdx.x * HIDDEN);
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        int i = e * THREADS + threadIdx.x;
        if (i < PACKS) {
            pack out;
#pragma unroll
            for (int j = 0; j < PACK; j++) {
                float y = value[e][j] * scale * norm_weight(weights[e].at[j]);
#if LAYER_NORM
                y += widen(biases[e].at[j]);
#endif
                out.at[j] = narrow<element>(y);
            }
            to[i] = out;
        }
    }
}

// x_to[r] = x[indices[r]], attention_to[r] = attention[indices[r]].
template <int WIDTH> __device__ __forceinline__ void copy_row(const element* from, element* to) {
    for (int i = threadIdx.x; i < WIDTH / PACK; i += blockDim.x) ((pack*)to)[i] = ((const pack*)from)[i];
}
extern "C" __global__ void gather_rows(const element* x, const element* attention, const int* indices, element* x_to,
                                       element* attention_to) {
    launch_dependents();
    wait_for_previous_kernel();
    constexpr int WIDTH = HEADS * HEAD_DIM;
    const size_t row = indices[blockIdx.x], to = blockIdx.x;
    copy_row<HIDDEN>(x + row * HIDDEN, x_to + to * HIDDEN);
    copy_row<WIDTH>(attention + row * WIDTH, attention_to + to * WIDTH);
}

// RoPE with halves rotated as in Hugging Face's layout: (a, b) = elements i and i + HALF of a head become (a cos − b sin, b cos + a sin).
// q is rotated in place, k on its way into the cache, v copied there. cosines and sines f32 [context, HALF]. A padding row (position
// below 0) is left alone.
extern "C" __global__ void rope_and_store_kv(element* qkv, const int* positions, const int* slots, const int* tables,
                                             int table_stride, const float* cosines, const float* sines, element* keys,
                                             element* values) {
    launch_dependents();
    int row = blockIdx.x, position = positions[row];
    if (position < 0) return;
    element* q = qkv + (size_t)row * QKV;
    const element* v = q + (HEADS + KV_HEADS) * HEAD_DIM;
    size_t block = tables[(size_t)slots[row] * table_stride + position / BLOCK_TOKENS];
    wait_for_previous_kernel();
    // Offset of KV head 0 at this position; the next head is BLOCK_TOKENS * HEAD_DIM further.
    size_t place = (block * KV_HEADS * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM;
#if ROTARY
    constexpr int PACKS = HALF / PACK;
    for (int i = threadIdx.x; i < (HEADS + KV_HEADS) * PACKS; i += blockDim.x) {
        int head = i / PACKS, at = i % PACKS * PACK;
        pack low = *(const pack*)(q + head * HEAD_DIM + at), high = *(const pack*)(q + head * HEAD_DIM + HALF + at);
        const float* cosine = cosines + (size_t)position * HALF + at;
        const float* sine = sines + (size_t)position * HALF + at;
#pragma unroll
        for (int j = 0; j < PACK; j++) {
            float a = widen(low.at[j]), b = widen(high.at[j]), c = cosine[j], s = sine[j];
            low.at[j] = narrow<element>(a * c - b * s);
            high.at[j] = narrow<element>(b * c + a * s);
        }
        element* to = head < HEADS ? q + head * HEAD_DIM
                                   : keys + place + (size_t)(head - HEADS) * (BLOCK_TOKENS * HEAD_DIM);
        *(pack*)(to + at) = low;
        *(pack*)(to + HALF + at) = high;
    }
#else
    constexpr int KEY_PACKS = HEAD_DIM / PACK;
    const element* k = q + HEADS * HEAD_DIM;
    for (int i = threadIdx.x; i < KV_HEADS * KEY_PACKS; i += blockDim.x) {
        int head = i / KEY_PACKS, at = i % KEY_PACKS * PACK;
        *(pack*)(keys + place + (size_t)head * (BLOCK_TOKENS * HEAD_DIM) + at) = *(const pack*)(k + head * HEAD_DIM + at);
    }
#endif
    constexpr int VALUE_PACKS = HEAD_DIM / PACK;
    for (int i = threadIdx.x; i < KV_HEADS * VALUE_PACKS; i += blockDim.x) {
        int head = i / VALUE_PACKS, at = i % VALUE_PACKS * PACK;
        *(pack*)(values + place + (size_t)head * (BLOCK_TOKENS * HEAD_DIM) + at) = *(const pack*)(v + head * HEAD_DIM + at);
    }
}

__device__ __forceinline__ float silu_of(float v) { return v / (1.0f + expf(-v)); }
__device__ __forceinline__ float relu_of(float v) { return fmaxf(v, 0.0f); }
#if GELU
__device__ __forceinline__ float gelu_of(float v) {
#if GELU == 2
    return 0.5f * v * (1.0f + tanhf(0.7978845608028654f * (v + 0.044715f * v * v * v)));
#else
    return 0.5f * v * (1.0f + erff(v * 0.7071067811865476f));
#endif
}
#endif

// y [rows, INTERMEDIATE] = OF(gate) · up; x [rows, 2 · INTERMEDIATE] holds gate, then up.
template <float (*OF)(float)> __device__ __forceinline__ void activate_gated(const element* x, int rows, element* y) {
    launch_dependents();
    wait_for_previous_kernel();
    constexpr int PACKS = INTERMEDIATE / PACK;
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)rows * PACKS) return;
    size_t row = i / PACKS, at = i % PACKS * PACK;
    pack gate = *(const pack*)(x + row * 2 * INTERMEDIATE + at), up = *(const pack*)(x + row * 2 * INTERMEDIATE + INTERMEDIATE + at);
#pragma unroll
    for (int j = 0; j < PACK; j++) gate.at[j] = narrow<element>(OF(widen(gate.at[j])) * widen(up.at[j]));
    *(pack*)(y + row * INTERMEDIATE + at) = gate;
}

// y = OF(x), both [rows, INTERMEDIATE].
template <float (*OF)(float)> __device__ __forceinline__ void activate(const element* x, int rows, element* y) {
    launch_dependents();
    wait_for_previous_kernel();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)rows * (INTERMEDIATE / PACK)) return;
    pack value = ((const pack*)x)[i];
#pragma unroll
    for (int j = 0; j < PACK; j++) value.at[j] = narrow<element>(OF(widen(value.at[j])));
    ((pack*)y)[i] = value;
}

extern "C" __global__ void silu_gated(const element* x, int rows, element* y) { activate_gated<silu_of>(x, rows, y); }
extern "C" __global__ void relu(const element* x, int rows, element* y) { activate<relu_of>(x, rows, y); }
#if GELU
extern "C" __global__ void gelu_gated(const element* x, int rows, element* y) { activate_gated<gelu_of>(x, rows, y); }
extern "C" __global__ void gelu(const element* x, int rows, element* y) { activate<gelu_of>(x, rows, y); }
#endif

// Casts `count` values of a file's type (kind: 0 binary32, 1 binary16, 2 bfloat16) to the element type; sets *flag where a value is not
// finite before or after.
extern "C" __global__ void cast(const void* from, int kind, element* to, int count, int* flag) {
    bool bad = false;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        float value = kind == 0   ? ((const float*)from)[i]
                      : kind == 1 ? widen(((const half_t*)from)[i])
                                  : widen(((const bfloat_t*)from)[i]);
        element out = narrow<element>(value);
        bad |= !isfinite(widen(out));
        to[i] = out;
    }
    if (bad) *flag = 1;
}
