// What travels between host and device with a step, read from and written to pinned host memory. Copies by the copy engine would keep the
// step's kernels waiting, 5 us each way.
//
// receive_arrays   on_device[i] = up[turn][i], i < fours
// send_tokens      down[turn][i] = sampled[i], i < count; then turn = (turn + 1) % RING
//
// up     int4 [RING, up_fours], down i32 [RING, down_words]   host memory
// turn   i32 [1]                                              the ring slot of the step, the same at both ends of it
//
// Grids: receive_arrays a thread for sixteen bytes; send_tokens one block. Constants: RING, the ring's slots.
// Host: receive_arrays does not overlap the kernel before it, nor the kernel behind it this one: the others read arrays before they wait.

#define THREADS 512

extern "C" __global__ void __launch_bounds__(THREADS) receive_arrays(const int4* up, const int* turn, int up_fours, int4* on_device,
                                                                     int fours) {
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= fours) return;
    int4 x;
    // No cache may hold what lay there before.
    asm volatile("ld.volatile.global.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(up + (size_t)*turn * up_fours + i)
                 : "memory");
    on_device[i] = x;
}

extern "C" __global__ void __launch_bounds__(THREADS) send_tokens(const int* sampled, int* down, int* turn, int down_words, int count) {
    wait_for_previous_kernel();
    const int now = *turn;
    for (int i = threadIdx.x; i < count; i += THREADS) down[(size_t)now * down_words + i] = sampled[i];
    __syncthreads();
    if (threadIdx.x == 0) *turn = (now + 1) % RING;
}
