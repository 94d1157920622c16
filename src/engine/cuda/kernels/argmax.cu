// The token that greedy decoding takes: of every row of logits [rows, VOCABULARY] the lowest index of the highest.
//
// A block takes a part of a row, `parts` blocks a row (grid x is the part, y the row). What it finds is one number whose order
// is the answer's: the logit's bits, made to sort as numbers do, above the complement of the index. Parts meet in
// `best` [rows] by an atomic maximum, which no order of arrival changes; the last of them (`arrived` [rows] counts) writes the
// answer and leaves both at zero for the next launch.

#define THREADS 256

// Above every finite number.
#define NOT_FINITE 0xffffffffffffffffull

__device__ __forceinline__ float4 load_four(const float4* from) {
    float4 x;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "l"(from)
                 : "memory");
    return x;
}
__device__ __forceinline__ float load_one(const float* from) {
    float x;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x) : "l"(from) : "memory");
    return x;
}
__device__ __forceinline__ int load_slot(const int* from) {
    int x;
    asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(x) : "l"(from) : "memory");
    return x;
}
// END OF INSTRUCTIONS

__device__ __forceinline__ uint64 key_of(float logit, int index) {
    // −0 becomes 0, as both are the same number.
    const uint32 bits = __float_as_uint(logit + 0.0f);
    if ((bits & 0x7f800000u) == 0x7f800000u) return NOT_FINITE;
    const uint32 sorted = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return (uint64)sorted << 32 | (uint32)~index;
}
__device__ __forceinline__ uint64 higher(uint64 a, uint64 b) { return a > b ? a : b; }

extern "C" __global__ void __launch_bounds__(THREADS) argmax(
    const float* logits, uint64* best, uint32* arrived, int* out_tokens, int* next_tokens, const int* slots) {
    __shared__ uint64 tops[THREADS / 32];
    let_next_begin();
    wait_for_previous();
    const int parts = gridDim.x, row = blockIdx.y;
    const float* from = logits + (size_t)row * VOCABULARY;
    uint64 top = 0;
    if (VOCABULARY % 4 == 0) {
        constexpr int FOURS = VOCABULARY / 4;
#pragma unroll 4
        for (int i = blockIdx.x * THREADS + threadIdx.x; i < FOURS; i += parts * THREADS) {
            const float4 x = load_four((const float4*)from + i);
            top = higher(top, higher(higher(key_of(x.x, 4 * i), key_of(x.y, 4 * i + 1)),
                                     higher(key_of(x.z, 4 * i + 2), key_of(x.w, 4 * i + 3))));
        }
    } else {
#pragma unroll 4
        for (int i = blockIdx.x * THREADS + threadIdx.x; i < VOCABULARY; i += parts * THREADS) {
            top = higher(top, key_of(load_one(from + i), i));
        }
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) top = higher(top, __shfl_xor_sync(0xffffffffu, top, offset));
    if ((threadIdx.x & 31) == 0) tops[threadIdx.x >> 5] = top;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < THREADS / 32; warp++) top = higher(top, tops[warp]);
    if (parts > 1) {
        atomicMax(best + row, top);
        __threadfence();
        if (atomicAdd(arrived + row, 1) != parts - 1) return;
        __threadfence();
        top = atomicExch(best + row, 0ull);
        arrived[row] = 0;
    }
    const int token = top == NOT_FINITE ? -1 : (int)~(uint32)top;
    out_tokens[row] = token;
    const int slot = load_slot(slots + row);
    // A row without an answer goes on with token 0: its sequence is about to be ended, and every token must exist.
    if (slot >= 0) next_tokens[slot] = token < 0 ? 0 : token;
}
