// *differs = 1 where any of `count` 16-bit words of a and b differ; else it is left alone.
//
// a, b      u16 [count]
// differs   i32
//
// Any grid.

extern "C" __global__ void compare(const unsigned short* a, const unsigned short* b, int count, int* differs) {
    bool same = true;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x) {
        same &= a[i] == b[i];
    }
    if (!same) *differs = 1;
}
