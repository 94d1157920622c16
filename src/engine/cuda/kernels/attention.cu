// Attention in binary16 and bfloat16: softmax(q · Kᵀ / √d) · V, causal, on tensor cores, sums in binary32. attention.cuh says how
// tensors lie. HEAD_DIM is a multiple of 16. Weights are rounded to the element type before they meet the values, and it is the
// rounded ones that are summed: they add up to one.

// ---- Rows of prompts -----------------------------------------------------------------------------------------------------------
//
// A block takes a tile {first row, rows, slot, first position} and one KV head. Its 64 rows of the product are the tile's
// positions times the query heads of the KV head, so that grouped heads share every key that is loaded and few keys are computed
// only to be masked. Four warps own 16 of these rows each. Keys come in tiles of 64 at absolute positions, ascending, with online
// softmax (Dao, 2023): a tile that is masked for a row leaves the row's state as it was, bit for bit, so a row's bits depend on
// its position alone. The next tile's keys are copied during softmax and values, its values during the next scores.
// Grid: tiles · KV_HEADS, the tile of the latest positions (the longest work) first.

constexpr int PROMPT_ROWS = 64;
constexpr int PROMPT_THREADS = 128;
constexpr int PADDED = HEAD_DIM + 8;  // 16 bytes more, an odd number of them: eight rows meet eight different bank groups

// Copies a tile of BLOCK_TOKENS rows; zeros behind the last row wanted, for what lies there may be no number.
__device__ __forceinline__ void copy_tile(element* to, const element* from, int wanted) {
    constexpr int PIECES = HEAD_DIM / 8;
#pragma unroll
    for (int i = 0; i < BLOCK_TOKENS * PIECES / PROMPT_THREADS; i++) {
        int piece = threadIdx.x + i * PROMPT_THREADS;
        int row = piece / PIECES, column = piece % PIECES * 8;
        bool valid = row < wanted;
        copy_later(to + row * PADDED + column, from + (valid ? row * HEAD_DIM + column : 0), valid);
    }
}

extern "C" __global__ void __launch_bounds__(PROMPT_THREADS, HEAD_DIM <= 64 ? 3 : 2)
    attention_prompt(const element* qkv, const element* keys, const element* values, const int* tables, int table_stride,
                     const int4* tiles, element* out) {
    extern __shared__ uint4 shared[];
    element* query_tile = (element*)shared;
    element* key_tile = query_tile + PROMPT_ROWS * PADDED;
    element* value_tile = key_tile + BLOCK_TOKENS * PADDED;

    wait_for_previous();
    let_next_begin();
    int kv_head = blockIdx.x % KV_HEADS;
    int4 tile = tiles[gridDim.x / KV_HEADS - 1 - blockIdx.x / KV_HEADS];
    int first_row = tile.x, rows = tile.y, first = tile.w;
    if (rows <= 0) return;
    const int* table = tables + (long long)tile.z * table_stride;
    int last = first + rows - 1;
    int key_block = first_position(first) / BLOCK_TOKENS, last_block = last / BLOCK_TOKENS;
    constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;
    const element* head_keys = keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const element* head_values = values + kv_head * BLOCK_TOKENS * HEAD_DIM;

    constexpr int PIECES = HEAD_DIM / 8;
#pragma unroll
    for (int i = 0; i < PROMPT_ROWS * PIECES / PROMPT_THREADS; i++) {
        int piece = threadIdx.x + i * PROMPT_THREADS;
        int row = piece / PIECES, column = piece % PIECES * 8;
        bool valid = row < rows * GROUP;
        long long from = (long long)(first_row + row / GROUP) * QKV + (kv_head * GROUP + row % GROUP) * HEAD_DIM + column;
        copy_later(query_tile + row * PADDED + column, qkv + (valid ? from : 0), valid);
    }
    long long block = table[key_block];
    copy_tile(key_tile, head_keys + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    close_copies();
    copy_tile(value_tile, head_values + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    close_copies();

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int low = warp * 16 + g, high = low + 8;
    int low_position = first + low / GROUP, high_position = first + high / GROUP;
    int warp_first = first + warp * 16 / GROUP, warp_last = min(last, first + (warp * 16 + 15) / GROUP);
    bool warp_works = warp * 16 < rows * GROUP;

    float output[HEAD_DIM / 8][4] = {};
    float highest[2] = {LOWEST, LOWEST}, total[2] = {0.0f, 0.0f};
    uint32 query[HEAD_DIM / 16][4];
    bool queries_held = false;

    for (; key_block <= last_block; key_block++) {
        bool more = key_block < last_block;
        if (more) block = table[key_block + 1];
        int next_wanted = last + 1 - (key_block + 1) * BLOCK_TOKENS;
        int key = key_block * BLOCK_TOKENS;
        bool works = warp_works && key <= warp_last && key + BLOCK_TOKENS > first_position(warp_first);

        wait_for_copies<1>();  // the keys; the values are still on their way
        __syncthreads();
        float score[8][4] = {};
        if (!queries_held) {
#pragma unroll
            for (int step = 0; step < HEAD_DIM / 16; step++) {
                load_matrices(query[step], query_tile + (warp * 16 + lane % 16) * PADDED + step * 16 + lane / 16 * 8);
            }
            queries_held = true;
        }
        if (works) {
#pragma unroll
            for (int step = 0; step < HEAD_DIM / 16; step++) {
#pragma unroll
                for (int pair = 0; pair < 4; pair++) {
                    // Matrices: keys 0–7 at dims 0–7 and 8–15, keys 8–15 at both.
                    uint32 b[4];
                    load_matrices(b, key_tile + (pair * 16 + lane / 16 * 8 + lane % 8) * PADDED + step * 16 + lane / 8 % 2 * 8);
                    uint32(&a)[4] = query[step];
                    multiply_add(score[2 * pair], a[0], a[1], a[2], a[3], b[0], b[1]);
                    multiply_add(score[2 * pair + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
                }
            }
        }
        __syncthreads();
        if (more) copy_tile(key_tile, head_keys + block * BLOCK, next_wanted);
        close_copies();

        uint32 weights[8][2];
        if (works) {
            bool all_seen = key + BLOCK_TOKENS - 1 <= warp_first && key >= first_position(warp_last);
#pragma unroll
            for (int n = 0; n < 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int position = i < 2 ? low_position : high_position, at = key + n * 8 + t * 2 + i % 2;
                    bool seen = all_seen || (at <= position && at >= first_position(position));
                    score[n][i] = seen ? score[n][i] * SCORE_FACTOR : LOWEST;
                }
            }
            float shrink[2];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float top = highest[half];
#pragma unroll
                for (int n = 0; n < 8; n++) top = fmaxf(top, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
                top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
                top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
                shrink[half] = weight(highest[half] - finite(top));
                highest[half] = top;
                float sum = 0.0f;
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    weights[n][half] = pack2(weight(score[n][2 * half] - finite(top)), weight(score[n][2 * half + 1] - finite(top)));
                    float2 rounded = widen2<element>(weights[n][half]);
                    sum += rounded.x + rounded.y;
                }
                total[half] = total[half] * shrink[half] + sum;
            }
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                output[n][0] *= shrink[0];
                output[n][1] *= shrink[0];
                output[n][2] *= shrink[1];
                output[n][3] *= shrink[1];
            }
        }

        wait_for_copies<1>();  // the values; the next keys are on their way
        __syncthreads();
        if (works) {
#pragma unroll
            for (int step = 0; step < 4; step++) {
#pragma unroll
                for (int pair = 0; pair < HEAD_DIM / 16; pair++) {
                    // Matrices: dims 0–7 at keys 0–7 and 8–15, dims 8–15 at both.
                    uint32 b[4];
                    load_matrices_transposed(b, value_tile + (step * 16 + lane % 16) * PADDED + pair * 16 + lane / 16 * 8);
                    uint32(&first_keys)[2] = weights[2 * step];
                    uint32(&last_keys)[2] = weights[2 * step + 1];
                    multiply_add(output[2 * pair], first_keys[0], first_keys[1], last_keys[0], last_keys[1], b[0], b[1]);
                    multiply_add(output[2 * pair + 1], first_keys[0], first_keys[1], last_keys[0], last_keys[1], b[2], b[3]);
                }
            }
        }
        __syncthreads();
        if (more) copy_tile(value_tile, head_values + block * BLOCK, next_wanted);
        close_copies();
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
        int row = half ? high : low;
        if (row < rows * GROUP) {
            element* to = out + (long long)(first_row + row / GROUP) * (HEADS * HEAD_DIM)
                        + (kv_head * GROUP + row % GROUP) * HEAD_DIM + t * 2;
            float inverse = 1.0f / total[half];
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                store_pair(to + n * 8, output[n][2 * half] * inverse, output[n][2 * half + 1] * inverse);
            }
        }
    }
}

// ---- Generated tokens ----------------------------------------------------------------------------------------------------------
//
// Grid: (rows · KV_HEADS · HEAD_TILES, 1) with each block computing all chunks, or (…, chunks of the longest row).

struct PlainRows {
    const element *qkv, *keys, *values;
    uint32* workspace;
    element* out;
    static constexpr bool APART = false;

    __device__ __forceinline__ void load(uint32 (&to)[2], int row, int at) const {
        load_once<2>(to, qkv + (long long)row * QKV + at);
    }
    __device__ __forceinline__ void store(int row, int at, float low, float high) const {
        store_pair(out + (long long)row * (HEADS * HEAD_DIM) + at, low, high);
    }
};

extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32, TOKEN_RESIDENT)
    attention_token(const element* qkv, const element* keys, const element* values, const int* tables, int table_stride,
                    const int* positions, const int* slots, int first_row, uint32* workspace, element* out) {
    extern __shared__ uint4 shared[];
    wait_for_previous();
    let_next_begin();
    constexpr int TILES = KV_HEADS * HEAD_TILES;
    const int row = first_row + blockIdx.x / TILES;
    const int* table = tables + (long long)slots[row] * table_stride;
    const PlainRows rows = {qkv, keys, values, workspace, out};
    attend(rows, row, positions[row], table, blockIdx.x % TILES, blockIdx.x, blockIdx.y, gridDim.y, shared);
}
