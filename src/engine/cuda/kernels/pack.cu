// Repacking of quantised weights, once at load: into the layouts that the fused decode kernel reads (decode_weights.cuh), and into
// dense binary16 for the GEMMs of the large-batch path.
//
//   awq_pack     qweight u32 [inputs, outputs / 8] (AutoAWQ's GEMM format) → codes, 16-byte chunks [tile, block, half, g, chunk t]
//   awq_groups   qzeros u32 [groups, outputs / 8], scales f16 [groups, outputs] → u32 [tile, block, segment, half, g]:
//                the f16 scale in the lower 16 bits, the f16 number 1024 + zero point in the upper 16
//   awq_dense    codes and groups → f16 [outputs, inputs] = round((q − z) · s)
//   int8_pack    dense [outputs, inputs] → codes s8 [outputs, ⌈inputs / 16⌉ · 16], zero-padded, and scales f32 [outputs] = max|w| / 127
//   int8_dense   codes and scales → f16 [outputs, inputs] = round(q · s)
//
// tile = 8 pairs of rows (16 rows), block = 128 inputs, half = first or second row of a pair, g = pair within the tile: see packed_row.
// All tensors are row-major. A stacked matrix (q, k, v; gate, up) is packed tensor by tensor, each from row `first_output` on.
//
// A thread produces one 16-byte chunk column (awq_pack), one group word (awq_groups) or eight dense weights; int8_pack takes a block of
// 256 threads a row. No sums: every output is one exactly defined number, whatever the grid.
// Host: inputs a multiple of 8 for the dense kernels; group_size a multiple of 8 that divides inputs; outputs a multiple of 8.

// AutoAWQ interleaves a word's eight columns: column 0, 1, 2 … is nibble 0, 4, 1, 5, 2, 6, 3, 7.
__device__ __forceinline__ int nibble_of(int column) { return (column & 1) * 4 + (column >> 1); }

// Where a row of a stacked matrix lies in packed order. Rows p and p + span of every 2 · span rows are a pair, because the decode kernel
// finishes them together (RoPE halves, gate and up, neighbours: ops/decode, pair_spans); eight pairs are a tile.
struct PackedRow {
    size_t tile;
    int half, g;
};
__device__ __forceinline__ PackedRow packed_row(int row, int span) {
    const int above = row / (2 * span), inside = row % (2 * span), half = inside >= span;
    const int pair = above * span + inside - half * span;
    return {(size_t)(pair >> 3), half, pair & 7};
}

// qweight u32 [inputs, words], words = outputs / 8. Grid (⌈words / (blockDim / 4)⌉, blocks of inputs): a thread makes chunk t of one
// block for the eight columns of a word.
extern "C" __global__ void awq_pack(const uint32* qweight, int inputs, int words, uint4* codes, int first_output, int span) {
    const int blocks = (inputs + 127) / 128;
    const int t = threadIdx.x & 3;
    const int word = blockIdx.x * (blockDim.x / 4) + threadIdx.x / 4, block = blockIdx.y;
    if (word >= words) return;
    uint32 out[8][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) out[j][i] = 0;
#pragma unroll
        for (int p = 0; p < 4; p++) {
#pragma unroll
            for (int next = 0; next < 2; next++) {
                const int input = block * 128 + 32 * i + 8 * p + 2 * t + next;
                const uint32 eight = input < inputs ? qweight[(size_t)input * words + word] : 0;
#pragma unroll
                for (int j = 0; j < 8; j++) out[j][i] |= (eight >> (4 * nibble_of(j)) & 15) << (4 * p + 16 * next);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const PackedRow at = packed_row(first_output + word * 8 + j, span);
        codes[((at.tile * blocks + block) * 2 + at.half) * 32 + at.g * 4 + t] =
            make_uint4(out[j][0], out[j][1], out[j][2], out[j][3]);
    }
}

// qzeros u32 [groups, words], scales f16 [groups, 8 · words]. Grid (⌈outputs / blockDim⌉, segments of inputs): a thread a segment and output.
extern "C" __global__ void awq_groups(const uint32* qzeros, const uint16* scales, int inputs, int group_size, int segment, int words,
                                      uint32* to, int first_output, int span) {
    const int output = blockIdx.x * blockDim.x + threadIdx.x, begin = blockIdx.y * segment;
    if (output >= 8 * words) return;
    // Segments past the last input have codes 0 and meet activations 0: any finite scale will do.
    const int group = min(begin, inputs - 1) / group_size;
    const uint32 zero = qzeros[(size_t)group * words + output / 8] >> (4 * nibble_of(output & 7)) & 15;
    const uint32 scale = scales[(size_t)group * 8 * words + output];
    const PackedRow at = packed_row(first_output + output, span);
    to[((at.tile * gridDim.y + blockIdx.y) * 2 + at.half) * 8 + at.g] = scale | (0x6400u | zero) << 16;
}

__device__ __forceinline__ uint32 halves(float low, float high) { return narrow2<half_t>(low, high); }

// Grid (outputs, ⌈inputs / 8 / blockDim⌉): a thread dequantises eight inputs of one output. Of the block's c-th eight, inputs 2t and
// 2t + 1 are in word c / 4 of chunk t, at bits 4 (c % 4) and 16 + 4 (c % 4).
extern "C" __global__ void awq_dense(const uint32* codes, const uint32* words, int inputs, int segment, int span, uint4* to) {
    const int eight = blockIdx.y * blockDim.x + threadIdx.x, row = blockIdx.x;
    if (eight >= inputs / 8) return;
    const int blocks = (inputs + 127) / 128, c = eight & 15;
    const PackedRow at = packed_row(row, span);
    const uint32 group = words[((at.tile * (blocks * (128 / segment)) + eight * 8 / segment) * 2 + at.half) * 8 + at.g];
    half_t bits;
    bits.bits = (uint16)(group & 0xffff);
    const float scale = widen(bits), zero = (float)(group >> 16 & 15);
    const uint32* chunks = codes + (((at.tile * blocks + eight / 16) * 2 + at.half) * 32 + at.g * 4) * 4;
    uint32 out[4];
#pragma unroll
    for (int t = 0; t < 4; t++) {
        const uint32 word = chunks[t * 4 + c / 4] >> (4 * (c & 3));
        out[t] = halves(((float)(word & 15) - zero) * scale, ((float)(word >> 16 & 15) - zero) * scale);
    }
    to[(size_t)row * (inputs / 8) + eight] = make_uint4(out[0], out[1], out[2], out[3]);
}

// Grid (outputs), 256 threads a row: scale = max|w| / 127, code = w / scale rounded to nearest even; codes 0 where the scale is 0.
template <typename T>
__device__ __forceinline__ void quantize(const T* weights, int inputs, signed char* codes, float* scales) {
    __shared__ float tops[8];
    const int row = blockIdx.x, stride = (inputs + 15) / 16 * 16;
    weights += (size_t)row * inputs;
    codes += (size_t)row * stride;
    float top = 0.0f;
    for (int i = threadIdx.x; i < inputs; i += 256) top = fmaxf(top, fabsf(widen(weights[i])));
    top = warp_max(top);
    if ((threadIdx.x & 31) == 0) tops[threadIdx.x >> 5] = top;
    __syncthreads();
#pragma unroll
    for (int warp = 0; warp < 8; warp++) top = fmaxf(top, tops[warp]);
    const float scale = __fdiv_rn(top, 127.0f);
    if (threadIdx.x == 0) scales[row] = scale;
    for (int i = threadIdx.x; i < stride; i += 256) {
        float code = i < inputs && scale > 0.0f ? rintf(__fdiv_rn(widen(weights[i]), scale)) : 0.0f;
        codes[i] = (signed char)(int)fminf(fmaxf(code, -128.0f), 127.0f);
    }
}
extern "C" __global__ void __launch_bounds__(256)
    int8_pack_f32(const float* weights, int inputs, signed char* codes, float* scales) {
    quantize(weights, inputs, codes, scales);
}
extern "C" __global__ void __launch_bounds__(256)
    int8_pack_f16(const half_t* weights, int inputs, signed char* codes, float* scales) {
    quantize(weights, inputs, codes, scales);
}
extern "C" __global__ void __launch_bounds__(256)
    int8_pack_bf16(const bfloat_t* weights, int inputs, signed char* codes, float* scales) {
    quantize(weights, inputs, codes, scales);
}

// Grid (outputs, ⌈inputs / 8 / blockDim⌉): a thread dequantises eight inputs of one output.
extern "C" __global__ void int8_dense(const signed char* codes, const float* scales, int inputs, uint4* to) {
    const int eight = blockIdx.y * blockDim.x + threadIdx.x, row = blockIdx.x;
    if (eight >= inputs / 8) return;
    const size_t stride = (inputs + 15) / 16 * 16;
    const signed char* from = codes + row * stride + eight * 8;
    const float scale = scales[row];
    uint32 out[4];
#pragma unroll
    for (int i = 0; i < 4; i++) out[i] = halves((float)from[2 * i] * scale, (float)from[2 * i + 1] * scale);
    to[(size_t)row * (inputs / 8) + eight] = make_uint4(out[0], out[1], out[2], out[3]);
}
