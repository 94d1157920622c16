// The highest logit of each row, the lowest index among equals.
//
// One block a row. chosen[row] = -1 where any logit is not finite; next_tokens[slots[row]] = the token for the next step's
// embedding. Constants: VOCABULARY.

#define THREADS 1024

extern "C" __global__ void __launch_bounds__(THREADS) argmax(const float* logits, int* chosen, int* next_tokens,
                                                             const int* slots) {
    __shared__ float values[32];
    __shared__ int indices[32];
    __shared__ int bad;
    wait_for_previous();
    if (threadIdx.x == 0) bad = 0;
    __syncthreads();
    const float* row = logits + (size_t)blockIdx.x * VOCABULARY;
    float best = -__int_as_float(0x7f800000);
    int index = 0x7fffffff;
    bool finite = true;
    for (int i = threadIdx.x; i < VOCABULARY; i += THREADS) {
        float value = row[i];
        finite &= isfinite(value) != 0;
        if (value > best) best = value, index = i;  // ascending: the first among equals stays
    }
    if (!finite) bad = 1;
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
        float other = __shfl_xor_sync(0xffffffffu, best, offset);
        int where = __shfl_xor_sync(0xffffffffu, index, offset);
        if (other > best || (other == best && where < index)) best = other, index = where;
    }
    if ((threadIdx.x & 31) == 0) values[threadIdx.x >> 5] = best, indices[threadIdx.x >> 5] = index;
    __syncthreads();
    if (threadIdx.x < 32) {
        best = values[threadIdx.x], index = indices[threadIdx.x];
#pragma unroll
        for (int offset = 16; offset > 0; offset >>= 1) {
            float other = __shfl_xor_sync(0xffffffffu, best, offset);
            int where = __shfl_xor_sync(0xffffffffu, index, offset);
            if (other > best || (other == best && where < index)) best = other, index = where;
        }
        if (threadIdx.x == 0) {
            chosen[blockIdx.x] = bad ? -1 : index;
            next_tokens[slots[blockIdx.x]] = bad ? 0 : index;
        }
    }
}
