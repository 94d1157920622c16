// One decode step in its plainest form: the same step that decode.cu computes in one fused kernel. Its tests hold the fused kernel against
// it, and it is the place to read first what a step is and how weights, cache and rows are laid out.
//
//   x = table[tokens]                                                         embed
//   for every layer:
//       h = norm(x)                                                           norm_rows
//       qkv = h · Wqkvᵀ (+ bias)                                              linear
//       q, k = RoPE(q, k); k and v into the cache                             rope_and_store_kv
//       attention = softmax(q · Kᵀ / √HEAD_DIM) · V                           attend
//       x += attention · Woᵀ (+ bias)                                         linear_add
//       h = norm(x)                                                           norm_rows
//       up = h · Wupᵀ (+ bias)                                                linear
//       activation = silu(gate) · up, or relu(up)                             activate
//       x += activation · Wdownᵀ (+ bias)                                     linear_add
//   logits = norm(x) · tableᵀ                                                 norm_rows, logits
//
// Shapes, row-major; a row is the next token of one sequence:
//   x, h [rows, HIDDEN]; qkv [rows, QKV]: HEADS queries, KV_HEADS keys, KV_HEADS values of HEAD_DIM elements each; attention [rows,
//   HEADS · HEAD_DIM]; up [rows, 2 · INTERMEDIATE]: gate, then up, or [rows, INTERMEDIATE] where !GATED; activation [rows, INTERMEDIATE];
//   all of `element`. logits f32 [rows, VOCABULARY].
//   keys, values element [blocks, KV_HEADS, BLOCK_TOKENS, HEAD_DIM]; tables i32 [slots, table_stride]; tokens, positions, slots i32 [rows];
//   next_tokens i32 [slots]; cos_sin f32 [2, CONTEXT, HEAD_DIM / 2].
// A token of −1 stands for next_tokens[slot]. A position below 0 marks a padding row: nothing is cached, and its attention is 0.
//
// One thread computes one output (a RoPE pair in rope_and_store_kv) and shares nothing with others: grids are ⌈outputs / blockDim⌉. Sums are
// binary64 in ascending order; what is stored is rounded to `element`, at the same places as in decode.cu. Nothing has to be aligned.
//
// Constants: as for decode.cu, of which ROWS, DEPTH, GRID_BLOCKS and RING_END mean nothing here.

#define DENSE 0
#define INT8 1
#define AWQ 2
#define HALF (HEAD_DIM / 2)

__device__ int this_index() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ element rounded(double x) { return narrow<element>((float)x); }

// Element (row, column) of a weight matrix [outputs, inputs] in one of the formats that decode_weights.cuh describes.
// span: AWQ stores rows p and p + span of every 2 · span rows as a pair, and eight pairs as a tile.
__device__ double weight(const void* weights, const void* scales, int kind, int inputs, int span, int row, int column) {
    if (kind == INT8) {
        const int stride = (inputs + 15) / 16 * 16;
        return (double)((const int8*)weights)[(size_t)row * stride + column] * ((const float*)scales)[row];
    }
    if (kind == AWQ) {
        const int half = row % (2 * span) / span, pair = row / (2 * span) * span + row % span, tile = pair / 8, g = pair % 8;
        // The code: four bits in word i of the 16-byte chunk t of this row's part of the block of 128 inputs.
        const int blocks = (inputs + 127) / 128, block = column / 128, i = column % 128 / 32, p = column % 32 / 8, t = column % 8 / 2;
        const size_t chunk = (((size_t)tile * blocks + block) * 2 + half) * 32 + g * 4 + t;
        const int code = ((const uint32*)weights)[chunk * 4 + i] >> (4 * p + 16 * (column % 2)) & 15;
        // The group's word: one for every segment, the longest part of a block that divides blocks and groups.
        int segment = 128;
        while ((GROUP_SIZE == 0 ? inputs : GROUP_SIZE) % segment != 0) segment /= 2;
        const size_t segments = (size_t)tile * (blocks * (128 / segment)) + column / segment;
        const uint32 group = ((const uint32*)scales)[(segments * 2 + half) * 8 + g];
        half_t scale;
        scale.bits = (uint16)(group & 0xffff);
        return (double)(code - (int)(group >> 16 & 15)) * widen(scale);
    }
    return widen(((const element*)weights)[(size_t)row * inputs + column]);
}

// Where a KV head's elements of one position begin in keys and in values.
__device__ size_t cache_offset(const int* tables, int table_stride, int slot, int kv_head, int position) {
    const size_t block = tables[(size_t)slot * table_stride + position / BLOCK_TOKENS];
    return ((block * KV_HEADS + kv_head) * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM;
}

extern "C" __global__ void embed(const int* tokens, const int* next_tokens, const int* positions, const int* slots, const element* table,
                                 const element* position_table, int rows, element* x) {
    const int row = this_index() / HIDDEN, column = this_index() % HIDDEN;
    if (row >= rows) return;
    const int token = tokens[row] < 0 ? next_tokens[slots[row]] : tokens[row];
    float value = widen(table[(size_t)token * HIDDEN + column]);
    if (POSITION_OFFSET >= 0) value += widen(position_table[(size_t)(positions[row] + POSITION_OFFSET) * HIDDEN + column]);
    x[(size_t)row * HIDDEN + column] = narrow<element>(value);
}

// RMSNorm, or LayerNorm. Every thread computes its row's statistics anew.
extern "C" __global__ void norm_rows(const element* x, const element* weight, const element* bias, int rows, element* h) {
    const int row = this_index() / HIDDEN, column = this_index() % HIDDEN;
    if (row >= rows) return;
    const element* const from = x + (size_t)row * HIDDEN;
    double mean = 0.0, squares = 0.0;
    if (LAYER_NORM) {
        for (int i = 0; i < HIDDEN; i++) mean += widen(from[i]);
        mean /= HIDDEN;
    }
    for (int i = 0; i < HIDDEN; i++) squares += (widen(from[i]) - mean) * (widen(from[i]) - mean);
    double y = (widen(from[column]) - mean) / sqrt(squares / HIDDEN + EPSILON) * widen(weight[column]);
    if (LAYER_NORM) y += widen(bias[column]);
    h[(size_t)row * HIDDEN + column] = rounded(y);
}

// Σ x[row, i] · weight[output, i] (+ bias[output]).
__device__ double dot(const element* x, const void* weights, const void* scales, const element* bias, int kind, int span, int inputs,
                      int row, int output) {
    double sum = 0.0;
    for (int i = 0; i < inputs; i++) {
        sum += widen(x[(size_t)row * inputs + i]) * weight(weights, scales, kind, inputs, span, output, i);
    }
    return bias == nullptr ? sum : sum + widen(bias[output]);
}

// y [rows, outputs] = x · Wᵀ (+ bias).
extern "C" __global__ void linear(const element* x, const void* weights, const void* scales, const element* bias, int span, int outputs,
                                  int inputs, int rows, element* y) {
    const int row = this_index() / outputs, output = this_index() % outputs;
    if (row >= rows) return;
    y[(size_t)row * outputs + output] = rounded(dot(x, weights, scales, bias, WEIGHTS, span, inputs, row, output));
}

// y [rows, outputs] += x · Wᵀ (+ bias), rounded once.
extern "C" __global__ void linear_add(const element* x, const void* weights, const void* scales, const element* bias, int span, int outputs,
                                      int inputs, int rows, element* y) {
    const int row = this_index() / outputs, output = this_index() % outputs;
    if (row >= rows) return;
    element& to = y[(size_t)row * outputs + output];
    to = rounded(widen(to) + dot(x, weights, scales, bias, WEIGHTS, span, inputs, row, output));
}

// logits [rows, VOCABULARY] = h · tableᵀ; the table is dense in every format.
extern "C" __global__ void logits(const element* h, const element* table, int rows, float* logits) {
    const int row = this_index() / VOCABULARY, output = this_index() % VOCABULARY;
    if (row >= rows) return;
    logits[(size_t)row * VOCABULARY + output] = (float)dot(h, table, nullptr, nullptr, DENSE, 1, HIDDEN, row, output);
}

// A thread takes elements i and i + HALF of one head: queries and keys are rotated in place, then keys and values are cached.
extern "C" __global__ void rope_and_store_kv(element* qkv, const int* positions, const int* slots, const int* tables, int table_stride,
                                             const float* cos_sin, int rows, element* keys, element* values) {
    const int row = this_index() / (QKV / 2), head = this_index() % (QKV / 2) / HALF, i = this_index() % HALF;
    if (row >= rows || positions[row] < 0) return;
    const int position = positions[row];
    element* const from = qkv + (size_t)row * QKV + head * HEAD_DIM + i;
    if (ROTARY && head < HEADS + KV_HEADS) {
        const float cosine = cos_sin[position * HALF + i], sine = cos_sin[(CONTEXT + position) * HALF + i];
        const float a = widen(from[0]), b = widen(from[HALF]);
        from[0] = narrow<element>(__fadd_rn(__fmul_rn(a, cosine), -__fmul_rn(b, sine)));
        from[HALF] = narrow<element>(__fadd_rn(__fmul_rn(b, cosine), __fmul_rn(a, sine)));
    }
    if (head < HEADS) return;
    element* const cache = head < HEADS + KV_HEADS ? keys : values;
    element* const to = cache + cache_offset(tables, table_stride, slots[row], (head - HEADS) % KV_HEADS, position) + i;
    to[0] = from[0];
    to[HALF] = from[HALF];
}

// A thread takes one dim of one head, and computes the head's scores anew.
extern "C" __global__ void attend(const element* qkv, const element* keys, const element* values, const int* positions, const int* slots,
                                  const int* tables, int table_stride, int rows, element* attention) {
    const int row = this_index() / (HEADS * HEAD_DIM), head = this_index() % (HEADS * HEAD_DIM) / HEAD_DIM, dim = this_index() % HEAD_DIM;
    if (row >= rows) return;
    const int position = positions[row], kv_head = head / (HEADS / KV_HEADS);
    const int first = WINDOW > 0 && position >= WINDOW ? position + 1 - WINDOW : 0;
    const element* const query = qkv + (size_t)row * QKV + head * HEAD_DIM;
    auto score = [&](int at) {
        const element* const key = keys + cache_offset(tables, table_stride, slots[row], kv_head, at);
        double sum = 0.0;
        for (int i = 0; i < HEAD_DIM; i++) sum += (double)widen(query[i]) * widen(key[i]);
        return sum * SCALE;
    };
    double highest = 0.0, total = 0.0, sum = 0.0;
    for (int at = first; at <= position; at++) highest = at == first ? score(at) : max(highest, score(at));
    for (int at = first; at <= position; at++) {
        const double exponential = exp(score(at) - highest);
        total += exponential;
        sum += exponential * widen(values[cache_offset(tables, table_stride, slots[row], kv_head, at) + dim]);
    }
    attention[((size_t)row * HEADS + head) * HEAD_DIM + dim] = rounded(position < 0 ? 0.0 : sum / total);
}

extern "C" __global__ void activate(const element* up, int rows, element* activation) {
    const int row = this_index() / INTERMEDIATE, column = this_index() % INTERMEDIATE;
    if (row >= rows) return;
    const element* const from = up + (size_t)row * (GATED ? 2 : 1) * INTERMEDIATE + column;
    const double first = widen(from[0]);
    const double y = GATED ? first / (1.0 + exp(-first)) * widen(from[GATED ? INTERMEDIATE : 0]) : max(first, 0.0);
    activation[(size_t)row * INTERMEDIATE + column] = rounded(y);
}
