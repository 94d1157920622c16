// Weights as the kernel for few rows reads them, for K inputs. Whatever the precision, a row of weights is a line of 16-byte
// chunks, and a warp takes a block of four chunks of sixteen rows at a time: lane 4g + t holds chunk t of row g ("first") and of
// row g + 8 ("second"), so that every row gives 64 bytes in one piece. A matrix's KIND says what a chunk holds:
//
//   0  dense, of `element`: 4 or 8 weights. Rows as cuBLASLt reads them, [outputs, K].
//   1  int8: 16 codes, and an f32 scale a row, which is applied to the finished sum. Rows are padded to whole chunks.
//   2  AWQ: 32 codes of four bits, rows padded to whole blocks (128 inputs). Chunk t, word i, bits 4p to 4p + 3 hold input
//      32 i + 8 p + 2 t of the block, bits 16 + 4p to 19 + 4p the one behind it. The codes of eight pairs of rows lie as they
//      are read: [tile, block, first or second, lane]. So do their groups, a word each, with the f16 scale below and the f16
//      number 1024 + zero point above: [tile, block, segment, first or second, g], a segment being inputs of one group.
//
// 16-bit activations are multiplied on the tensor cores, with binary32 sums: the sixteen rows are the m of m16n8k16, the up to
// eight rows of activations its n. Which 16 inputs an instruction takes is free as long as both operands agree. Binary32 is
// multiplied by fused multiply-adds. A row of activations meets the same instructions whatever the other rows are.

constexpr int WARPS = 16;
constexpr int THREADS = 32 * WARPS;
#define DENSE 0
#define INT8 1
#define AWQ 2

// Sixteen bytes of weights on their way to an address in shared memory; and without a branch, where `wanted`.
__device__ __forceinline__ void copy_weights(uint32 to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void copy_weights_if(bool wanted, uint32 to, const void* from) {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p cp.async.cg.shared.global.L2::128B [%0], [%1], 16; }" ::"r"(to), "l"(from),
                 "r"((uint32)wanted)
                 : "memory");
}

// From an address in shared memory.
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

// multiply_add for eight inputs, binary16.
__device__ __forceinline__ void mma_k8(float (&d)[4], uint32 a0, uint32 a1, uint32 b0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(b0));
}

// Pairs of binary16.
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

// Geometry of a matrix of KIND_ with K inputs.
template <int KIND_, int K> struct Layout {
    static constexpr int KIND = KIND_;
    // Inputs that share a scale, where weights are in groups.
    static constexpr int GROUP_INPUTS = GROUP_SIZE == 0 ? K : GROUP_SIZE;
    // Weights in a chunk; inputs in a block.
    static constexpr int IN_CHUNK = KIND == DENSE ? 16 / (int)sizeof(element) : KIND == INT8 ? 16 : 32;
    static constexpr int IN_BLOCK = 4 * IN_CHUNK;
    static constexpr int BLOCKS = divide_up(K, IN_BLOCK);
    // Chunks in a row of the matrix.
    static constexpr int CHUNKS = KIND == AWQ ? 4 * BLOCKS : divide_up(K, IN_CHUNK);
    // Elements between two rows of activations in shared memory: zeros up to whole blocks, then what spreads the rows over
    // the banks.
    static constexpr int PADDING = KIND != DENSE ? 8 : ELEMENT == 0 || BLOCKS % 2 == 1 ? 0 : 32;
    static constexpr int STRIDE = BLOCKS * IN_BLOCK + PADDING;
    // AWQ: inputs that surely share a scale, and how many such segments a block has.
    static constexpr int SEGMENT = KIND == AWQ ? common_divisor(GROUP_INPUTS, 128) : 128;
    static constexpr int SEGMENTS = KIND == AWQ ? 128 / SEGMENT : 0;
    static_assert(K % 8 == 0, "rows of weights and activations are read 16 bytes at a time");
    static_assert(KIND != AWQ || (SEGMENT % 8 == 0 && K % GROUP_INPUTS == 0), "groups are whole and multiples of eight");
};

// A block in shared memory: every lane's two chunks, and the words of the sixteen rows' groups. Copies that do not fill whole lines
// of shared memory as they fill whole lines of memory cost 4 to 16 % of all that a step takes (H100).
template <int SEGMENTS> struct alignas(128) StageOf {
    uint4 first[32], second[32];
    uint32 groups[SEGMENTS][16];
};
template <> struct alignas(128) StageOf<0> {
    uint4 first[32], second[32];
};
// Where a lane's second chunk, and the groups, lie behind its first one, and behind the first of all.
constexpr int SECOND = 32 * sizeof(uint4), GROUPS = 64 * sizeof(uint4);

// The sums that a lane has under way: of rows g and g + 8, for ROWS rows of activations (binary32) or for the two rows 2t and
// 2t + 1 (tensor cores: both[0] and [1] of row g, [2] and [3] of row g + 8).
struct Sums {
#if ELEMENT == 0
    float first[ROWS] = {}, second[ROWS] = {};
#else
    float both[4] = {};
#endif
};

// 1024 + zero point, twice, and −64 − zero point, twice; a word that does not exist gives zeros that meet zeros.
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
// (a & b) | c in one instruction, which the compiler does not find where b and c are constants.
__device__ __forceinline__ uint32 and_or(uint32 a, uint32 b, uint32 c) {
    uint32 y;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
    return y;
}
// q − z of the pairs at bits 0 and 16 (PAIR 0) or 4 and 20 (PAIR 1). A code below the exponent of 1024 is 1024 + q or
// 1024 + 16 q; every step is exact in binary16.
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

// Codes 2 PAIR and 2 PAIR + 1 of a word in binary16, exactly: 1024 + (code + 128) − 1152.
template <int PAIR> __device__ __forceinline__ uint32 codes2(uint32 word) {
    return subtract2(__byte_perm(word ^ 0x80808080u, 0x64646464u, PAIR == 0 ? 0x4140 : 0x4342), 0x64806480u);
}

// threadIdx.x, read anew: what follows from it is not kept in registers, let alone spilled, from one layer to the next, nor asked for
// again and again in a loop.
__device__ __forceinline__ int this_thread() {
    int thread;
    asm volatile("mov.u32 %0, %tid.x;" : "=r"(thread));
    return thread;
}

// Where this lane's activations of a block lie, in elements from the block's in the first row of [rows, STRIDE]. Rows beyond `rows`
// repeat the last.
template <typename L> __device__ __forceinline__ int activations_of(int lane, int rows) {
    const int g = lane >> 2, t = lane & 3;
    if (ELEMENT == 0) return t * 4;
    if (L::KIND == AWQ) return min(lane & 7, rows - 1) * L::STRIDE + (lane >> 3) * 8;
    return min(g, rows - 1) * L::STRIDE + t * L::IN_CHUNK;
}

// Adds a block's products. stage: this lane's part of a stage; x: its activations of the block. Both in shared memory.
template <typename L> __device__ __forceinline__ void multiply(Sums& sums, uint32 stage, uint32 x, int rows, int lane) {
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
        // Lane t's eight inputs are places 2t, 2t + 1, 2t + 8, 2t + 9 of two instructions.
        const uint4 c = load_chunk(x);
        multiply_add(sums.both, a.x, b.x, a.y, b.y, c.x, c.y);
        multiply_add(sums.both, a.z, b.z, a.w, b.w, c.z, c.w);
    } else if constexpr (L::KIND == INT8) {
        const uint4 low = load_chunk(x), high = load_chunk(x + 16);
        multiply_add(sums.both, codes2<0>(a.x), codes2<0>(b.x), codes2<1>(a.x), codes2<1>(b.x), low.x, low.y);
        multiply_add(sums.both, codes2<0>(a.y), codes2<0>(b.y), codes2<1>(a.y), codes2<1>(b.y), low.z, low.w);
        multiply_add(sums.both, codes2<0>(a.z), codes2<0>(b.z), codes2<1>(a.z), codes2<1>(b.z), high.x, high.y);
        multiply_add(sums.both, codes2<0>(a.w), codes2<0>(b.w), codes2<1>(a.w), codes2<1>(b.w), high.z, high.w);
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
        // Inputs 32 i + 8 p + (0 … 7) of the block are c[i][p].
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
                    multiply_add(part, codes2<0>(a, za), codes2<0>(b, zb), codes2<1>(a, za), codes2<1>(b, zb), c[i][p], c[i][p + 1]);
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

// Leaves a warp's sums for the block to add up: float2 (first row, second row) at to[m * row_pairs + g].
__device__ __forceinline__ void leave(const Sums& sums, float2* to, int row_pairs, int rows, int lane) {
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
