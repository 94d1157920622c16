// Device functions that every kernel file may use; compiled in front of each of them.
//
// Types     element: the type of weights and stored activations, chosen by the constant ELEMENT (0 binary32 float, 1 binary16 half_t,
//           2 bfloat16 bfloat_t). Arithmetic on elements happens in binary32: `widen` converts to float, `narrow` rounds to nearest even.
// PTX       NVRTC ships no cuda_fp16.h, so conversions, tensor-core and asynchronous-copy instructions are written as inline PTX and
//           no toolkit headers are needed.
// Order     warp_sum and block_sum add in one fixed order (butterfly within a warp, then warps 0, 1, 2, …): the same inputs give the
//           same bits in every launch.
// Host      blockDim.x is a multiple of 32. Pointers of 16-byte accesses (copy_async, load_matrices, load_no_allocate<4>) are 16-byte
//           aligned.

typedef unsigned char uint8;
typedef signed char int8;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef unsigned long long uint64;

#ifndef ELEMENT
#define ELEMENT 1
#endif

struct half_t { uint16 bits; };
struct bfloat_t { uint16 bits; };

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(half_t x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ float widen(bfloat_t x) { return __uint_as_float((uint32)x.bits << 16); }

template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ half_t narrow<half_t>(float x) {
    half_t y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
template <> __device__ __forceinline__ bfloat_t narrow<bfloat_t>(float x) {
    bfloat_t y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

#if ELEMENT == 0
typedef float element;
#elif ELEMENT == 1
typedef half_t element;
#else
typedef bfloat_t element;
#endif

// Two 16-bit elements in a 32-bit word, to and from binary32; element 0 is the lower half.
template <typename T> __device__ __forceinline__ float2 widen2(uint32 pair) {
    float2 y;
    T low, high;
    low.bits = (uint16)(pair & 0xffff);
    high.bits = (uint16)(pair >> 16);
    y.x = widen(low);
    y.y = widen(high);
    return y;
}
template <typename T> __device__ __forceinline__ uint32 narrow2(float low, float high) {
    return (uint32)narrow<T>(low).bits | ((uint32)narrow<T>(high).bits << 16);
}

// x rounded to the element type, as storing and reading it again would.
__device__ __forceinline__ float stored(float x) { return widen(narrow<element>(x)); }

// A norm's weight; with ZERO_CENTRED_NORMS stored less 1.
__device__ __forceinline__ float norm_weight(element weight) {
#ifdef ZERO_CENTRED_NORMS
    return 1.0f + widen(weight);
#else
    return widen(weight);
#endif
}

// Sum and maximum over a warp; every lane gets the result. Fixed order.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

// Sum over a block of THREADS threads; every thread gets it. scratch [THREADS / 32] in shared memory may be reused afterwards.
template <int THREADS> __device__ __forceinline__ float block_sum(float x, float* scratch) {
    x = warp_sum(x);
    if (THREADS == 32) return x;
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = x;
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int warp = 0; warp < THREADS / 32; warp++) total += scratch[warp];
    __syncthreads();
    return total;
}

// Programmatic dependent launch (compute capability 9.0 and later): wait until the previous kernel of the stream has finished and its
// writes are visible; allow the next kernel to start. No-ops in a launch without the attribute.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// narrow2<element> in one instruction.
#if ELEMENT != 0
__device__ __forceinline__ uint32 pack2(float low, float high) {
    uint32 pair;
#if ELEMENT == 1
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#endif
    return pair;
}

// mma.m16n8k16: d += a · b on a warp's tensor core. a [16, 16] row-major, b [16, 8] column-major, d [16, 8] in binary32.
// Fragment layout, with g = lane / 4 and t = lane % 4; (row, column), 16-bit operands two to a register:
//   a0 (g, 2t..2t+1)   a1 (g+8, 2t..2t+1)   a2 (g, 2t+8..2t+9)   a3 (g+8, 2t+8..2t+9)
//   b0 (2t..2t+1, g)   b1 (2t+8..2t+9, g)
//   d0 (g, 2t)   d1 (g, 2t+1)   d2 (g+8, 2t)   d3 (g+8, 2t+1)
__device__ __forceinline__ void mma(
    float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
#if ELEMENT == 1
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#endif
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif

// ldmatrix.x4: four 8 × 8 matrices of 16-bit elements from shared memory. Lane i passes the address of row i % 8 of matrix i / 8
// (16 bytes, aligned). Register m of a lane receives (lane / 4, 2 · (lane % 4) .. + 1) of matrix m, or of its transpose.
__device__ __forceinline__ void load_matrices(uint32 (&to)[4], uint32 row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}
__device__ __forceinline__ void load_matrices(uint32 (&to)[4], const void* row) {
    load_matrices(to, (uint32)__cvta_generic_to_shared(row));
}
__device__ __forceinline__ void load_matrices_transposed(uint32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((uint32)__cvta_generic_to_shared(row))
                 : "memory");
}

// movmatrix: transposes an 8 × 8 matrix of 16-bit elements that is spread over a warp as above.
__device__ __forceinline__ uint32 transposed(uint32 x) {
    uint32 y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

// cp.async: 16 bytes from global to shared memory without registers in between; writes zeros and reads nothing where !valid.
__device__ __forceinline__ void copy_async(uint32 to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
    copy_async((uint32)__cvta_generic_to_shared(to), from, valid);
}
// Closes this thread's group of asynchronous copies; waits until at most PENDING of its groups are incomplete.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Loads WORDS (4, 2, 1) 32-bit words that are read once, without allocating them in the L1 cache.
template <int WORDS> __device__ __forceinline__ void load_no_allocate(uint32* to, const void* from) {
    if (WORDS == 4) {
        asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "l"(from));
    } else if (WORDS == 2) {
        asm volatile("ld.global.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
    } else {
        asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
    }
}

// 2^x within two units in the last place; exactly 1 at 0 and 0 at −∞.
__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
