// Weights as the fused decode kernel reads them, and their multiplication with up to ROWS rows of activations. Part of decode.cu.
//
// A matrix is [outputs, K], row-major. Whatever the format, a row is a sequence of 16-byte chunks, and a warp takes a block of 16 rows × 4
// chunks at a time: lane 4g + t holds chunk t of row g ("first") and chunk t of row g + 8 ("second"), so that every row contributes 64
// contiguous bytes. KIND says what a chunk holds:
//
//   DENSE  4 or 8 weights of `element`. Rows as cuBLASLt reads them, [outputs, K].
//   INT8   16 codes, s8; an f32 scale a row, applied to the finished sum. Rows are padded to whole chunks.
//   AWQ    32 codes of four bits; rows padded to whole blocks (128 inputs). Chunk t, word i: bits 4p … 4p + 3 hold input 32i + 8p + 2t of
//          the block, bits 16 + 4p … 19 + 4p the input after it. Codes are stored by tiles of eight pairs of rows in the order in which they
//          are read, [tile, block, first or second, lane], and so are the groups' words, [tile, block, segment, first or second, g]: the f16
//          scale in the lower half, the f16 number 1024 + zero point in the upper. A segment is a run of inputs of one group.
//
// 16-bit activations: mma.m16n8k16 with binary32 sums; m = the sixteen weight rows, n = the up to eight activation rows. Which 16 inputs an
// instruction takes is free as long as both operands agree. Binary32: fused multiply-adds. An activation row meets the same instructions in
// the same order whatever the other rows are.

constexpr int WARPS = 16;
constexpr int THREADS = 32 * WARPS;
#define DENSE 0
#define INT8 1
#define AWQ 2

// cp.async of sixteen bytes of weights to a shared-memory address; the second form only where `valid`, without a branch.
__device__ __forceinline__ void copy_weights(uint32 to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void copy_weights_if(bool valid, uint32 to, const void* from) {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p cp.async.cg.shared.global.L2::128B [%0], [%1], 16; }" ::"r"(to), "l"(from),
                 "r"((uint32)valid)
                 : "memory");
}

// Loads from a shared-memory address.
__device__ __forceinline__ uint32 load_word(uint32 at) {
    uint32 x;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(at) : "memory");
    return x;
}
__device__ __forceinline__ uint4 load_chunk(uint32 at) {
    uint4 x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(at) : "memory");
    return x;
}

// mma.m16n8k8, binary16: eight inputs.
__device__ __forceinline__ void mma_k8(float (&d)[4], uint32 a0, uint32 a1, uint32 b0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(b0));
}

// Arithmetic on pairs of binary16.
__device__ __forceinline__ uint32 subtract2(uint32 a, uint32 b) {
    uint32 y;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
    return y;
}
__device__ __forceinline__ uint32 multiply_add2(uint32 a, uint32 b, uint32 c) {
    uint32 y;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
    return y;
}
// END OF INSTRUCTIONS

__host__ __device__ constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int max_of(int a, int b) { return a > b ? a : b; }
__host__ __device__ constexpr int min_of(int a, int b) { return a < b ? a : b; }
__host__ __device__ constexpr int common_divisor(int a, int b) { return b == 0 ? a : common_divisor(b, a % b); }

// Geometry of a weight matrix of format KIND_ with K inputs.
template <int KIND_, int K> struct Layout {
    static constexpr int KIND = KIND_;
    // Inputs of a quantisation group.
    static constexpr int GROUP_INPUTS = GROUP_SIZE == 0 ? K : GROUP_SIZE;
    // Weights in a chunk; inputs in a block.
    static constexpr int CHUNK_INPUTS = KIND == DENSE ? 16 / (int)sizeof(element) : KIND == INT8 ? 16 : 32;
    static constexpr int BLOCK_INPUTS = 4 * CHUNK_INPUTS;
    static constexpr int BLOCKS = divide_up(K, BLOCK_INPUTS);
    // Chunks in a row.
    static constexpr int CHUNKS = KIND == AWQ ? 4 * BLOCKS : divide_up(K, CHUNK_INPUTS);
    // Elements between two activation rows in shared memory: zeros up to whole blocks, then padding against bank conflicts.
    static constexpr int PADDING = KIND != DENSE ? 8 : ELEMENT == 0 || BLOCKS % 2 == 1 ? 0 : 32;
    static constexpr int STRIDE = BLOCKS * BLOCK_INPUTS + PADDING;
    // AWQ: the longest equal parts of a block within which all inputs share a scale, and their number.
    static constexpr int SEGMENT = KIND == AWQ ? common_divisor(GROUP_INPUTS, 128) : 128;
    static constexpr int SEGMENTS = KIND == AWQ ? 128 / SEGMENT : 0;
    static_assert(K % 8 == 0, "rows of weights and activations are read 16 bytes at a time");
    static_assert(KIND != AWQ || (SEGMENT % 8 == 0 && K % GROUP_INPUTS == 0), "groups are whole and multiples of eight");
};

// One stage of a warp's ring in shared memory: a block's chunks, [lane] each, and the group words of its sixteen rows. Aligned to 128
// bytes: copies that straddle lines of shared memory cost 4 to 16 % of a whole step (H100).
template <int SEGMENTS> struct alignas(128) StageOf {
    uint4 first[32], second[32];
    uint32 groups[SEGMENTS][16];
};
template <> struct alignas(128) StageOf<0> {
    uint4 first[32], second[32];
};
// Byte offsets: of a lane's second chunk from its first, and of `groups` from the stage's beginning.
constexpr int SECOND = 32 * sizeof(uint4), GROUPS = 64 * sizeof(uint4);

// A lane's accumulators for weight rows g and g + 8: of ROWS activation rows (binary32), or of activation rows 2t and 2t + 1 (tensor cores:
// both[0], both[1] of row g, both[2], both[3] of row g + 8).
struct Sums {
#if ELEMENT == 0
    float first[ROWS] = {}, second[ROWS] = {};
#else
    float both[4] = {};
#endif
};

// Pairs of 1024 + zero point and of −64 − zero point. Group words past a row's end are 0: their codes meet activations that are 0.
struct Zeros { uint32 low, high; };
__device__ __forceinline__ Zeros zeros_of(uint32 group) {
    Zeros zeros;
    zeros.low = __byte_perm(group, 0, 0x3232);
    zeros.high = subtract2(0x63806380u, zeros.low);
    return zeros;
}
__device__ __forceinline__ float scale_of(uint32 group) {
    half_t scale;
    scale.bits = (uint16)(group & 0xffff);
    return widen(scale);
}
// (a & b) | c in one lop3, which the compiler does not emit where b and c are constants.
__device__ __forceinline__ uint32 and_or(uint32 a, uint32 b, uint32 c) {
    uint32 y;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
    return y;
}
// q − z for the pair of codes at bits 0 and 16 (PAIR 0) or 4 and 20 (PAIR 1). A code placed in the mantissa of 1024 is 1024 + q or
// 1024 + 16q; every step is exact in binary16.
template <int PAIR> __device__ __forceinline__ uint32 codes2(uint32 word, Zeros zeros) {
    if (PAIR == 0) return subtract2(and_or(word, 0x000f000fu, 0x64006400u), zeros.low);
    return multiply_add2(and_or(word, 0x00f000f0u, 0x64006400u), 0x2c002c00u, zeros.high);
}
__device__ __forceinline__ void add_scaled(float (&sums)[4], float (&part)[4], uint32 first, uint32 second) {
    const float a = scale_of(first), b = scale_of(second);
    sums[0] += a * part[0];
    sums[1] += a * part[1];
    sums[2] += b * part[2];
    sums[3] += b * part[3];
    part[0] = part[1] = part[2] = part[3] = 0.0f;
}

// int8 codes 2 · PAIR and 2 · PAIR + 1 of a word in binary16, exactly: 1024 + (code + 128) − 1152.
template <int PAIR> __device__ __forceinline__ uint32 codes2(uint32 word) {
    return subtract2(__byte_perm(word ^ 0x80808080u, 0x64646464u, PAIR == 0 ? 0x4140 : 0x4342), 0x64806480u);
}

// threadIdx.x by a volatile read: values derived from it are recomputed in each phase, not kept in registers (or spilled) across layers.
__device__ __forceinline__ int this_thread() {
    int thread;
    asm volatile("mov.u32 %0, %tid.x;" : "=r"(thread));
    return thread;
}

// Offset, in elements, of this lane's activations of a block in x [rows, STRIDE]. Rows from `rows` on repeat the last one.
template <typename L> __device__ __forceinline__ int activation_offset(int lane, int rows) {
    const int g = lane >> 2, t = lane & 3;
    if (ELEMENT == 0) return t * 4;
    if (L::KIND == AWQ) return min(lane & 7, rows - 1) * L::STRIDE + (lane >> 3) * 8;
    return min(g, rows - 1) * L::STRIDE + t * L::CHUNK_INPUTS;
}

// sums += the block's weights · activations. stage, x: shared-memory addresses of this lane's chunks and of its activations.
template <typename L> __device__ __forceinline__ void multiply_block(Sums& sums, uint32 stage, uint32 x, int rows, int lane) {
    const uint4 first = load_chunk(stage), second = load_chunk(stage + SECOND);
#if ELEMENT == 0
    const float4 a = *(const float4*)&first, b = *(const float4*)&second;
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
        const uint4 chunk = load_chunk(x + min(m, rows - 1) * (L::STRIDE * 4));
        const float4 c = *(const float4*)&chunk;
        sums.first[m] = fmaf(a.w, c.w, fmaf(a.z, c.z, fmaf(a.y, c.y, fmaf(a.x, c.x, sums.first[m]))));
        sums.second[m] = fmaf(b.w, c.w, fmaf(b.z, c.z, fmaf(b.y, c.y, fmaf(b.x, c.x, sums.second[m]))));
    }
#else
    const uint4 &a = first, &b = second;
    if constexpr (L::KIND == DENSE) {
        // A lane's eight inputs are passed as inputs 2t, 2t + 1, 2t + 8, 2t + 9 of two instructions.
        const uint4 c = load_chunk(x);
        mma(sums.both, a.x, b.x, a.y, b.y, c.x, c.y);
        mma(sums.both, a.z, b.z, a.w, b.w, c.z, c.w);
    } else if constexpr (L::KIND == INT8) {
        const uint4 low = load_chunk(x), high = load_chunk(x + 16);
        mma(sums.both, codes2<0>(a.x), codes2<0>(b.x), codes2<1>(a.x), codes2<1>(b.x), low.x, low.y);
        mma(sums.both, codes2<0>(a.y), codes2<0>(b.y), codes2<1>(a.y), codes2<1>(b.y), low.z, low.w);
        mma(sums.both, codes2<0>(a.z), codes2<0>(b.z), codes2<1>(a.z), codes2<1>(b.z), high.x, high.y);
        mma(sums.both, codes2<0>(a.w), codes2<0>(b.w), codes2<1>(a.w), codes2<1>(b.w), high.z, high.w);
    } else {
        const uint32 firsts[4] = {first.x, first.y, first.z, first.w}, seconds[4] = {second.x, second.y, second.z, second.w};
        uint32 first_groups[L::SEGMENTS], second_groups[L::SEGMENTS];
#pragma unroll
        for (int s = 0; s < L::SEGMENTS; s++) {
            const uint32 group = stage + GROUPS + s * 64 - lane * 16 + (lane >> 2) * 4;
            first_groups[s] = load_word(group);
            second_groups[s] = load_word(group + 32);
        }
        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        // c[i][p]: inputs 32i + 8p … + 7 of the block.
        uint32 c[4][4];
        load_matrices(c[0], x);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i < 3) load_matrices(c[i + 1], x + 64 * (i + 1));
#pragma unroll
            for (int p = 0; p < 4; p += 2) {
                const uint32 a = firsts[i] >> (4 * p), b = seconds[i] >> (4 * p);
                const int from = 32 * i + 8 * p, segment = from / L::SEGMENT;
                const Zeros za = zeros_of(first_groups[segment]), zb = zeros_of(second_groups[segment]);
                if (L::SEGMENT >= 16) {
                    mma(part, codes2<0>(a, za), codes2<0>(b, zb), codes2<1>(a, za), codes2<1>(b, zb), c[i][p], c[i][p + 1]);
                    if ((from + 16) % L::SEGMENT == 0) {
                        add_scaled(sums.both, part, first_groups[segment], second_groups[segment]);
                    }
                } else {
                    const int next = (from + 8) / L::SEGMENT;
                    const Zeros ya = zeros_of(first_groups[next]), yb = zeros_of(second_groups[next]);
                    mma_k8(part, codes2<0>(a, za), codes2<0>(b, zb), c[i][p]);
                    add_scaled(sums.both, part, first_groups[segment], second_groups[segment]);
                    mma_k8(part, codes2<1>(a, ya), codes2<1>(b, yb), c[i][p + 1]);
                    add_scaled(sums.both, part, first_groups[next], second_groups[next]);
                }
            }
        }
    }
#endif
}

// Writes a warp's sums to shared memory for the block to add up: float2 (row g, row g + 8) of activation row m at to[m * row_pairs + g].
__device__ __forceinline__ void store_sums(const Sums& sums, float2* to, int row_pairs, int rows, int lane) {
    const int g = lane >> 2, t = lane & 3;
#if ELEMENT == 0
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
        float a = sums.first[m], b = sums.second[m];
        a += __shfl_xor_sync(0xffffffffu, a, 1);
        b += __shfl_xor_sync(0xffffffffu, b, 1);
        a += __shfl_xor_sync(0xffffffffu, a, 2);
        b += __shfl_xor_sync(0xffffffffu, b, 2);
        if (t == (m & 3) && m < rows) to[m * row_pairs + g] = make_float2(a, b);
    }
#else
    const int m = 2 * t;
    if (m < rows) to[m * row_pairs + g] = make_float2(sums.both[0], sums.both[2]);
    if (m + 1 < rows) to[(m + 1) * row_pairs + g] = make_float2(sums.both[1], sums.both[3]);
#endif
}
