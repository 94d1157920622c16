// What lies between the matrix products of the big-batch path: embeddings, norms, rotary embedding and cache writes,
// activations; and the casts of loading.
//
// Rows are tokens; every kernel gives a row to one block (norms, embeddings, rotations) or packs of PACK elements to threads.
// A row's result depends on that row alone, in an order fixed by the row's length. Kernels of a step first wait for the one
// before them, as they may be launched while it ends.
//
// Constants: ELEMENT, PACK (elements a 16-byte access, or fewer where sizes do not divide), HIDDEN, INTERMEDIATE, HEADS,
// KV_HEADS, HEAD_DIM, BLOCK_TOKENS, LAYER_NORM (0 root mean square, 1 mean and variance), ROTARY (0, 1),
// POSITION_OFFSET (of learned positions, -1 where there are none).

#define THREADS 256
#define QKV ((HEADS + 2 * KV_HEADS) * HEAD_DIM)
#define HALF (HEAD_DIM / 2)

struct alignas(sizeof(element) * PACK) pack { element at[PACK]; };

// x[row] = embedding[token] (+ positions[position + offset]). A token of -1 stands for next_tokens[slot]: the one that the card
// itself chose last for this sequence.
extern "C" __global__ void embed(const int* tokens, const int* next_tokens, const int* positions, const int* slots,
                                 const element* table, const element* position_table, element* x) {
    wait_for_previous();
    let_next_begin();
    int row = blockIdx.x;
    int token = tokens[row];
    if (token < 0) token = max(next_tokens[slots[row]], 0);
    const pack* from = (const pack*)(table + (size_t)token * HIDDEN);
    pack* to = (pack*)(x + (size_t)row * HIDDEN);
#if POSITION_OFFSET >= 0
    const pack* where = (const pack*)(position_table + (size_t)(positions[row] + POSITION_OFFSET) * HIDDEN);
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

// h[row] = norm(x[list[row]]) · weight (+ bias), or of x[row] where there is no list.
extern "C" __global__ void __launch_bounds__(THREADS) norm_rows(const element* x, const int* list, const element* weight,
                                                           const element* bias, float epsilon, element* h) {
    wait_for_previous();
    let_next_begin();
    __shared__ float scratch[THREADS / 32];
    constexpr int PACKS = HIDDEN / PACK;
    constexpr int EACH = (PACKS + THREADS - 1) / THREADS;
    size_t row = list ? list[blockIdx.x] : blockIdx.x;
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
            pack w = ((const pack*)weight)[i], out;
#if LAYER_NORM
            pack b = ((const pack*)bias)[i];
#endif
#pragma unroll
            for (int j = 0; j < PACK; j++) {
                float y = value[e][j] * scale * widen(w.at[j]);
#if LAYER_NORM
                y += widen(b.at[j]);
#endif
                out.at[j] = narrow<element>(y);
            }
            to[i] = out;
        }
    }
}

// The rows of x and of attention that the list names, one behind the other.
template <int WIDTH> __device__ __forceinline__ void copy_row(const element* from, element* to) {
    for (int i = threadIdx.x; i < WIDTH / PACK; i += blockDim.x) ((pack*)to)[i] = ((const pack*)from)[i];
}
extern "C" __global__ void take_rows(const element* x, const element* attention, const int* list, element* x_to,
                                     element* attention_to) {
    wait_for_previous();
    let_next_begin();
    constexpr int WIDTH = HEADS * HEAD_DIM;
    const size_t row = list[blockIdx.x], to = blockIdx.x;
    copy_row<HIDDEN>(x + row * HIDDEN, x_to + to * HIDDEN);
    copy_row<WIDTH>(attention + row * WIDTH, attention_to + to * WIDTH);
}

// Turns q in place and writes turned k and v into the layer's cache `[blocks][KV_HEADS][BLOCK_TOKENS][HEAD_DIM]`.
// cosines and sines are `[context][HALF]`.
extern "C" __global__ void rotate_and_store(element* qkv, const int* positions, const int* slots, const int* tables,
                                            int table_stride, const float* cosines, const float* sines, element* keys,
                                            element* values) {
    wait_for_previous();
    let_next_begin();
    int row = blockIdx.x, position = positions[row];
    element* q = qkv + (size_t)row * QKV;
    const element* v = q + (HEADS + KV_HEADS) * HEAD_DIM;
    size_t block = tables[(size_t)slots[row] * table_stride + position / BLOCK_TOKENS];
    // Of head 0 at this position; a head is BLOCK_TOKENS * HEAD_DIM further.
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

// y = silu(gate) · up; a row of x holds gate, then up.
extern "C" __global__ void silu_gated(const element* x, int rows, element* y) {
    wait_for_previous();
    let_next_begin();
    constexpr int PACKS = INTERMEDIATE / PACK;
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)rows * PACKS) return;
    size_t row = i / PACKS, at = i % PACKS * PACK;
    pack gate = *(const pack*)(x + row * 2 * INTERMEDIATE + at), up = *(const pack*)(x + row * 2 * INTERMEDIATE + INTERMEDIATE + at);
#pragma unroll
    for (int j = 0; j < PACK; j++) {
        float g = widen(gate.at[j]);
        gate.at[j] = narrow<element>(g / (1.0f + expf(-g)) * widen(up.at[j]));
    }
    *(pack*)(y + row * INTERMEDIATE + at) = gate;
}

// y = max(x, 0).
extern "C" __global__ void relu(const element* x, int rows, element* y) {
    wait_for_previous();
    let_next_begin();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)rows * (INTERMEDIATE / PACK)) return;
    pack value = ((const pack*)x)[i];
#pragma unroll
    for (int j = 0; j < PACK; j++) value.at[j] = narrow<element>(fmaxf(widen(value.at[j]), 0.0f));
    ((pack*)y)[i] = value;
}

// Casts `count` values of a file's type (0 binary32, 1 binary16, 2 bfloat16) to the element type. `flag` is set where a value is
// not finite, before or after.
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
