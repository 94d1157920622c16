// Weights of four and eight bits, into the layouts that the kernel for few rows reads (decode_weights.cuh) and into dense
// binary16 for the matrix products. One thread works on one piece; pieces lie side by side in the output.
//
//   awq_pack      AutoAWQ's GEMM tensors → codes [tile, block, first or second, g, chunk of 16 bytes], at a row of a stacked matrix
//   awq_groups    its zero points and scales → words [tile, block, segment, first or second, g], likewise
//   awq_dense     codes and words → f16 [outputs, inputs], round((q − z) · s)
//   int8_pack     dense [outputs, inputs] → codes [outputs, ⌈inputs / 16⌉ · 16] with zeros behind, f32 scales [outputs]
//   int8_dense    codes and scales → f16 [outputs, inputs], round(q · s)

// In AutoAWQ's words column 0, 1, 2 … of the eight has nibble 0, 4, 1, 5, 2, 6, 3, 7.
__device__ __forceinline__ int nibble_of(int column) { return (column & 1) * 4 + (column >> 1); }

// Where a row of a stacked matrix lies. Rows p and p + span of every 2 span rows are a pair, as the matrix-vector kernel that
// reads them wants it; eight pairs are a tile.
struct Place {
    size_t tile;
    int half, g;
};
__device__ __forceinline__ Place place_of(int row, int span) {
    const int above = row / (2 * span), inside = row % (2 * span), half = inside >= span;
    const int pair = above * span + inside - half * span;
    return {(size_t)(pair >> 3), half, pair & 7};
}

// qweight [inputs, outputs / 8]. A thread takes chunk t of a block for a word's eight columns.
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
        const Place place = place_of(first_output + word * 8 + j, span);
        codes[((place.tile * blocks + block) * 2 + place.half) * 32 + place.g * 4 + t] =
            make_uint4(out[j][0], out[j][1], out[j][2], out[j][3]);
    }
}

// qzeros [groups, words], scales f16 [groups, 8 · words]; a thread for a segment and an output.
extern "C" __global__ void awq_groups(const uint32* qzeros, const uint16* scales, int inputs, int group_size, int segment, int words,
                                      uint32* to, int first_output, int span) {
    const int output = blockIdx.x * blockDim.x + threadIdx.x, begin = blockIdx.y * segment;
    if (output >= 8 * words) return;
    // Behind the inputs, codes are zero and meet zeros.
    const int group = min(begin, inputs - 1) / group_size;
    const uint32 zero = qzeros[(size_t)group * words + output / 8] >> (4 * nibble_of(output & 7)) & 15;
    const uint32 scale = scales[(size_t)group * 8 * words + output];
    const Place place = place_of(first_output + output, span);
    to[((place.tile * gridDim.y + blockIdx.y) * 2 + place.half) * 8 + place.g] = scale | (0x6400u | zero) << 16;
}

__device__ __forceinline__ uint32 halves(float low, float high) { return narrow2<half_t>(low, high); }

// A thread for eight inputs of an output: lane t's pair of them is word c / 4 of chunk t, at bits 4 (c % 4), for the block's
// eight number c.
extern "C" __global__ void awq_dense(const uint32* codes, const uint32* words, int inputs, int segment, int span, uint4* to) {
    const int eight = blockIdx.y * blockDim.x + threadIdx.x, row = blockIdx.x;
    if (eight >= inputs / 8) return;
    const int blocks = (inputs + 127) / 128, c = eight & 15;
    const Place place = place_of(row, span);
    const uint32 group = words[((place.tile * (blocks * (128 / segment)) + eight * 8 / segment) * 2 + place.half) * 8 + place.g];
    half_t bits;
    bits.bits = (uint16)(group & 0xffff);
    const float scale = widen(bits), zero = (float)(group >> 16 & 15);
    const uint32* chunks = codes + (((place.tile * blocks + eight / 16) * 2 + place.half) * 32 + place.g * 4) * 4;
    uint32 out[4];
#pragma unroll
    for (int t = 0; t < 4; t++) {
        const uint32 word = chunks[t * 4 + c / 4] >> (4 * (c & 3));
        out[t] = halves(((float)(word & 15) - zero) * scale, ((float)(word >> 16 & 15) - zero) * scale);
    }
    to[(size_t)row * (inputs / 8) + eight] = make_uint4(out[0], out[1], out[2], out[3]);
}

// A block of 256 threads for a row: scale = max|w| / 127, code = w / scale to nearest, ties to even; zeros where the scale is
// zero.
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

// A thread for eight inputs of an output.
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
