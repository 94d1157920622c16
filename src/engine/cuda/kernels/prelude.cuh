// What every kernel may use. NVRTC brings no cuda_fp16.h: half precision is spelled here in PTX, so that the program does not
// depend on a toolkit's headers.
//
// ELEMENT (0 binary32, 1 binary16, 2 bfloat16) chooses the type that weights and stored activations have; sums are binary32
// everywhere.

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

// Two elements in 32 bits, to and from binary32; the lower half is the first.
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

// x as it is when stored: rounded to the element type.
__device__ __forceinline__ float stored(float x) { return widen(narrow<element>(x)); }

// Sums and maxima over a warp; every lane gets the result. The order is fixed.
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

// Sum over a block of THREADS threads; every thread gets it. `scratch` holds THREADS / 32 floats and is free again after it.
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

// Programmatic dependent launch: wait for the kernel before this one, and let the next one begin. Without it both do nothing.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Two numbers rounded to the element type in 32 bits; the lower half is the first. One instruction.
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

// d += a · b on a warp's tensor core: a 16 × 16 by rows, b 16 × 8 by columns, d 16 × 8 in binary32. With g = lane / 4 and
// t = lane % 4 a lane holds a: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each with its right neighbour;
// b: (2t, g), (2t + 8, g), each with the one below; d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void multiply_add(
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

// Four 8 × 8 matrices of 16-bit elements from shared memory; lane i names row i % 8 of matrix i / 8 (16 bytes, aligned). Of each
// a lane gets (lane / 4, 2 · (lane % 4)) and its right neighbour; transposed, of the matrix turned over.
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

// An 8 × 8 matrix of 16-bit elements, spread over a warp as above, turned over.
__device__ __forceinline__ uint32 transposed(uint32 x) {
    uint32 y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

// 16 bytes from global to shared memory without passing through registers; zeros where `wanted` is false, and nothing is read.
__device__ __forceinline__ void copy_later(void* to, const void* from, bool wanted) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32)__cvta_generic_to_shared(to)), "l"(from),
                 "r"(wanted ? 16 : 0)
                 : "memory");
}
// Closes a group of copies; then, waits until at most `PENDING` of this thread's groups are still under way.
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// 16, 8 or 4 bytes that are read once: they do not displace what the first-level cache holds.
template <int WORDS> __device__ __forceinline__ void load_once(uint32* to, const void* from) {
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

// 2^x to two units in the last place; 1 at 0 and 0 at −∞, exactly.
__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
