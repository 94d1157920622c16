// Greedy decoding's token: tokens[r] = the lowest index i that maximises logits[r, i], or −1 where any logit of the row is not finite.
//
// logits        f32 [rows, VOCABULARY], row-major
// best          u64 [rows], arrived u32 [rows]: workspace; zero before a launch and zero again after it
// out_tokens    i32 [rows]
// next_tokens   i32 [slots]: next_tokens[slots[r]] = the token (0 where there is none), unless slots[r] < 0
// slots         i32 [rows]
//
// argmax: grid (parts, rows), THREADS threads. The `parts` blocks of a row read interleaved stripes of it. A candidate is a key (highest.cuh);
// the highest is the answer. Blocks combine their keys by atomicMax; the last to arrive writes the answer and resets the workspace.
//
// take_highest: the same from the rows' highest keys, which the GEMM that made the logits left in `best` (gemm_few.cu). A thread a row.
//
// Deterministic: a maximum does not depend on the order in which blocks arrive.
// Host: logits 16-byte aligned where VOCABULARY % 4 == 0; rows ≤ 65535 (grid y).

#define THREADS 256

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

__device__ __forceinline__ void answer(uint64 top, int row, int* out_tokens, int* next_tokens, const int* slots) {
    const int token = top == NOT_FINITE ? -1 : (int)~(uint32)top;
    out_tokens[row] = token;
    const int slot = load_slot(slots + row);
    // A row without an answer continues with token 0, a valid id: its sequence is about to be ended.
    if (slot >= 0) next_tokens[slot] = token < 0 ? 0 : token;
}

extern "C" __global__ void __launch_bounds__(THREADS) argmax(
    const float* logits, uint64* best, uint32* arrived, int* out_tokens, int* next_tokens, const int* slots) {
    __shared__ uint64 tops[THREADS / 32];
    launch_dependents();
    wait_for_previous_kernel();
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
    answer(top, row, out_tokens, next_tokens, slots);
}

extern "C" __global__ void __launch_bounds__(THREADS) take_highest(uint64* best, int* out_tokens, int* next_tokens, const int* slots, int rows) {
    launch_dependents();
    wait_for_previous_kernel();
    const int row = blockIdx.x * THREADS + threadIdx.x;
    if (row >= rows) return;
    const uint64 top = best[row];
    best[row] = 0;
    answer(top, row, out_tokens, next_tokens, slots);
}
