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
