// What logits say of the token that follows, and how far they are from a reference's; arithmetic in binary64.
//
// logits      f32 [rows, VOCABULARY]
// reference   f32 [rows, VOCABULARY], or null
// tokens      i32 [rows]: the tokens that followed, below VOCABULARY
// out         f64 [rows, 6]: ln p(token); the most probable token (the lowest among equals); its ln p; KL(reference ‖ this) in nats; the
//             reference's ln p of the most probable token; 1 where every logit is finite, else 0 (and the others mean nothing)
//
// A thread block a row. Sums are taken by thread, then in a fixed tree: the same bits in every launch.
// Host: grid (rows), THREADS threads.

#define THREADS 512

struct Top {
    float value;
    int index;
};

__device__ __forceinline__ Top higher(Top a, Top b) {
    return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

// Every thread gets the sum.
__device__ double sum_all(double x, double* scratch) {
    __syncthreads();
    scratch[threadIdx.x] = x;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
        __syncthreads();
    }
    return scratch[0];
}

// Every thread gets the highest; −1 as index where a value is not finite.
__device__ Top highest(const float* from, Top* scratch) {
    Top top = {-3.402823466e38f, VOCABULARY};
    bool finite = true;
    for (int i = threadIdx.x; i < VOCABULARY; i += THREADS) {
        const float value = from[i];
        finite = finite && isfinite(value);
        top = higher(top, {value, i});
    }
    finite = __syncthreads_and(finite);
    scratch[threadIdx.x] = top;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) scratch[threadIdx.x] = higher(scratch[threadIdx.x], scratch[threadIdx.x + half]);
        __syncthreads();
    }
    top = scratch[0];
    __syncthreads();
    if (!finite) top.index = -1;
    return top;
}

__device__ double log_sum_exp(const float* from, float top, double* scratch) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < VOCABULARY; i += THREADS) sum += exp((double)from[i] - (double)top);
    return (double)top + log(sum_all(sum, scratch));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    token_scores(const float* logits, const float* reference, const int* tokens, double* out) {
    __shared__ double scratch[THREADS];
    const size_t row = blockIdx.x;
    const float* own = logits + row * VOCABULARY;
    const Top best = highest(own, (Top*)scratch);
    const double own_sum = log_sum_exp(own, best.value, scratch);
    double divergence = 0.0, of_best = 0.0;
    bool finite = best.index >= 0;
    if (reference != nullptr) {
        const float* truth = reference + row * VOCABULARY;
        const Top truth_best = highest(truth, (Top*)scratch);
        const double truth_sum = log_sum_exp(truth, truth_best.value, scratch);
        finite = finite && truth_best.index >= 0;
        for (int i = threadIdx.x; i < VOCABULARY; i += THREADS) {
            const double log_p = (double)truth[i] - truth_sum, log_q = (double)own[i] - own_sum;
            divergence += exp(log_p) * (log_p - log_q);
        }
        divergence = sum_all(divergence, scratch);
        if (finite) of_best = (double)truth[best.index] - truth_sum;
    }
    if (threadIdx.x == 0) {
        double* to = out + row * 6;
        to[0] = (double)own[tokens[row]] - own_sum;
        to[1] = (double)best.index;
        to[2] = (double)best.value - own_sum;
        to[3] = fmax(divergence, 0.0);
        to[4] = of_best;
        to[5] = finite ? 1.0 : 0.0;
    }
}
