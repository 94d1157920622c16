// Attention in binary32, IEEE fused multiply-adds throughout: the prefill and decode kernels of the large-batch path. attention.cuh gives
// the formula and all tensors. HEAD_DIM is a multiple of 4.
//
// Order: keys in ascending order of absolute positions, dims in ascending order; a row's bits depend on its position and its sequence
// alone. Host: qkv, keys, values, out 16-byte aligned; dynamic shared memory as in ops/attention.rs.

constexpr int VECTORS = HEAD_DIM / 4;          // 16-byte vectors of a row
constexpr int PADDED = HEAD_DIM + 4;          // row stride: rows that lanes read side by side start in different banks
constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;

__device__ __forceinline__ void dot4(float& sum, float4 a, float4 b) {
    sum = __fmaf_rn(a.x, b.x, sum);
    sum = __fmaf_rn(a.y, b.y, sum);
    sum = __fmaf_rn(a.z, b.z, sum);
    sum = __fmaf_rn(a.w, b.w, sum);
}

// ---- Prefill -------------------------------------------------------------------------------------------------------------------
//
// As in attention.cu: a block takes a tile {first row, rows, slot, first position} and one KV head; 64 query rows are positions times
// query heads; keys come in tiles of 64 at absolute positions, ascending, with online softmax. Thread (x, y) of 16 × 16 owns scores of rows
// y + 16i and keys x + 16j, and output dims 4x … 4x + 3 (+ 64) of the same rows; a half warp owns whole rows.
// Grid: tiles · KV_HEADS, last tile first.

constexpr int PREFILL_ROWS = 64;
constexpr int PREFILL_THREADS = 256;
constexpr int WEIGHT_STRIDE = BLOCK_TOKENS + 4;
constexpr int SECTIONS = (HEAD_DIM + 63) / 64;

// Copies a tile of BLOCK_TOKENS rows; zeros from row valid_rows on, where memory may hold NaN.
__device__ __forceinline__ void copy_tile(float* to, const float* from, int valid_rows) {
    for (int vector = threadIdx.x; vector < BLOCK_TOKENS * VECTORS; vector += PREFILL_THREADS) {
        int row = vector / VECTORS, column = vector % VECTORS * 4;
        bool valid = row < valid_rows;
        copy_async(to + row * PADDED + column, from + (valid ? row * HEAD_DIM + column : 0), valid);
    }
}

extern "C" __global__ void __launch_bounds__(PREFILL_THREADS, HEAD_DIM <= 64 ? 2 : 1)
    attention_prefill(const float* qkv, const float* keys, const float* values, const int* tables, int table_stride,
                     const int4* tiles, float* out SINKS_PARAMETER) {
    extern __shared__ uint4 shared[];
    float* query_tile = (float*)shared;
    float* key_tile = query_tile + PREFILL_ROWS * PADDED;
    float* value_tile = key_tile + BLOCK_TOKENS * PADDED;
    float* weights = value_tile + BLOCK_TOKENS * PADDED;

    wait_for_previous_kernel();
    launch_dependents();
    int kv_head = blockIdx.x % KV_HEADS;
    int4 tile = tiles[gridDim.x / KV_HEADS - 1 - blockIdx.x / KV_HEADS];
    int first_row = tile.x, rows = tile.y, first = tile.w;
    if (rows <= 0) return;
    const int* table = tables + (long long)tile.z * table_stride;
    int last = first + rows - 1;
    int key_block = first_position(first) / BLOCK_TOKENS, last_block = last / BLOCK_TOKENS;
    const float* head_keys = keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const float* head_values = values + kv_head * BLOCK_TOKENS * HEAD_DIM;

    for (int vector = threadIdx.x; vector < PREFILL_ROWS * VECTORS; vector += PREFILL_THREADS) {
        int row = vector / VECTORS, column = vector % VECTORS * 4;
        bool valid = row < rows * GROUP;
        long long from = (long long)(first_row + row / GROUP) * QKV + (kv_head * GROUP + row % GROUP) * HEAD_DIM + column;
        copy_async(query_tile + row * PADDED + column, qkv + (valid ? from : 0), valid);
    }
    long long block = table[key_block];
    copy_tile(key_tile, head_keys + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    commit_copies();
    copy_tile(value_tile, head_values + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    commit_copies();

    int x = threadIdx.x % 16, y = threadIdx.x / 16;
    float4 output[4][SECTIONS] = {};
    float max_score[4], sum_exp[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        max_score[i] = NEG_INFINITY;
        sum_exp[i] = 0.0f;
    }

    for (; key_block <= last_block; key_block++) {
        bool has_next = key_block < last_block;
        if (has_next) block = table[key_block + 1];
        int next_rows = last + 1 - (key_block + 1) * BLOCK_TOKENS;

        wait_for_copies<1>();  // keys have arrived; values may be in flight
        __syncthreads();
        float score[4][4] = {};
#pragma unroll 4
        for (int vector = 0; vector < VECTORS; vector++) {
            float4 q[4], k[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                q[i] = *(const float4*)&query_tile[(y + 16 * i) * PADDED + vector * 4];
                k[i] = *(const float4*)&key_tile[(x + 16 * i) * PADDED + vector * 4];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) dot4(score[i][j], q[i], k[j]);
            }
        }
        __syncthreads();
        if (has_next) copy_tile(key_tile, head_keys + block * BLOCK, next_rows);
        commit_copies();

#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = y + 16 * i, position = first + row / GROUP;
            float new_max = max_score[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int at = key_block * BLOCK_TOKENS + x + 16 * j;
                score[i][j] = at <= position && at >= first_position(position) ? score_of(score[i][j]) : NEG_INFINITY;
                new_max = fmaxf(new_max, score[i][j]);
            }
#pragma unroll
            for (int offset = 1; offset < 16; offset *= 2) new_max = fmaxf(new_max, __shfl_xor_sync(0xffffffffu, new_max, offset));
            float rescale = exp_score(max_score[i] - finite_max(new_max)), sum = 0.0f;
            max_score[i] = new_max;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float w = exp_score(score[i][j] - finite_max(new_max));
                sum += w;
                weights[row * WEIGHT_STRIDE + x + 16 * j] = w;
            }
            sum_exp[i] = __fmaf_rn(sum_exp[i], rescale, sum);
#pragma unroll
            for (int section = 0; section < SECTIONS; section++) {
                output[i][section].x *= rescale;
                output[i][section].y *= rescale;
                output[i][section].z *= rescale;
                output[i][section].w *= rescale;
            }
        }

        wait_for_copies<1>();  // values have arrived; the next keys may be in flight
        __syncthreads();
#pragma unroll 2
        for (int quad = 0; quad < BLOCK_TOKENS / 4; quad++) {
            float4 w[4];
#pragma unroll
            for (int i = 0; i < 4; i++) w[i] = *(const float4*)&weights[(y + 16 * i) * WEIGHT_STRIDE + quad * 4];
#pragma unroll
            for (int section = 0; section < SECTIONS; section++) {
                int dim = section * 64 + x * 4;
                if (dim < HEAD_DIM) {
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        float4 v = *(const float4*)&value_tile[(quad * 4 + k) * PADDED + dim];
#pragma unroll
                        for (int i = 0; i < 4; i++) {
                            float p = k == 0 ? w[i].x : k == 1 ? w[i].y : k == 2 ? w[i].z : w[i].w;
                            output[i][section].x = __fmaf_rn(p, v.x, output[i][section].x);
                            output[i][section].y = __fmaf_rn(p, v.y, output[i][section].y);
                            output[i][section].z = __fmaf_rn(p, v.z, output[i][section].z);
                            output[i][section].w = __fmaf_rn(p, v.w, output[i][section].w);
                        }
                    }
                }
            }
        }
        __syncthreads();
        if (has_next) copy_tile(value_tile, head_values + block * BLOCK, next_rows);
        commit_copies();
    }

#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = y + 16 * i;
#pragma unroll
        for (int offset = 1; offset < 16; offset *= 2) sum_exp[i] += __shfl_xor_sync(0xffffffffu, sum_exp[i], offset);
        if (row < rows * GROUP) {
#ifdef SINKS
            sum_exp[i] += sink_weight(sinks[kv_head * GROUP + row % GROUP], max_score[i]);
#endif
            float* to = out + (long long)(first_row + row / GROUP) * (HEADS * HEAD_DIM)
                      + (kv_head * GROUP + row % GROUP) * HEAD_DIM;
#pragma unroll
            for (int section = 0; section < SECTIONS; section++) {
                int dim = section * 64 + x * 4;
                float4 o = output[i][section];
                const float sum = sum_exp[i];
                if (dim < HEAD_DIM) *(float4*)(to + dim) = make_float4(o.x / sum, o.y / sum, o.z / sum, o.w / sum);
            }
        }
    }
}

// ---- Decode --------------------------------------------------------------------------------------------------------------------
//
// A block takes one row and one KV head (one tile of at most 8 of its query heads); its four warps own 32 keys each of every 128. A warp
// copies its keys and values to shared memory, double-buffered. For scores a lane owns a key, for outputs dims lane, lane + 32, …
// Grid: (rows · KV_HEADS · HEAD_TILES, 1), each block computing all chunks of its row, or (…, chunks of the longest row).

constexpr int WARPS = DECODE_WARPS;
constexpr int HEAD_TILES = (GROUP + 7) / 8;
constexpr int TILE_HEADS = (GROUP + HEAD_TILES - 1) / HEAD_TILES;
constexpr int STEP = 32;
constexpr int STEPS = CHUNK / WARPS / STEP;
constexpr int QUADS = (TILE_HEADS + 3) / 4;
constexpr int LANES = (HEAD_DIM + 31) / 32;  // dims of a lane

extern "C" __global__ void __launch_bounds__(WARPS * 32, DECODE_BLOCKS_PER_SM)
    attention_decode(const float* qkv, const float* keys, const float* values, const int* tables, int table_stride,
                    const int* positions, const int* slots, int first_row, uint32* workspace, float* out SINKS_PARAMETER) {
    extern __shared__ uint4 shared[];
    ChunkMerge<WARPS, TILE_HEADS> merge((float*)shared);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float* queries = (float*)shared + merge.SHARED;
    float* weights = queries + TILE_HEADS * HEAD_DIM + warp * STEP * QUADS * 4;
    float* key_tile = queries + TILE_HEADS * HEAD_DIM + WARPS * STEP * QUADS * 4 + warp * STEP * (PADDED + HEAD_DIM);
    float* value_tile = key_tile + STEP * PADDED;

    wait_for_previous_kernel();
    launch_dependents();
    constexpr int TILES = KV_HEADS * HEAD_TILES;
    int row = first_row + blockIdx.x / TILES, tile = blockIdx.x % TILES;
    int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * TILE_HEADS;
    int heads = min(TILE_HEADS, GROUP - first_head);
    int position = positions[row];
    const int* table = tables + (long long)slots[row] * table_stride;
    if (position < 0) return;  // a padding row
    int start = first_position(position);
    int chunk = start / CHUNK + blockIdx.y, last_chunk = position / CHUNK;
    if (chunk > last_chunk) return;
    int chunks = last_chunk - start / CHUNK + 1;

    const float* head_keys = keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const float* head_values = values + kv_head * BLOCK_TOKENS * HEAD_DIM;
    // A step lies in one block of the cache and is skipped unless it holds a visible position, so no copy leaves that block. Masked
    // positions are replaced by the nearest visible one, with weight 0.
    auto visible = [&](int key) { return key <= position && key + STEP > start; };
    auto copy = [&](float* to, int stride, const float* head, int key, long long block) {
        for (int i = 0; i < VECTORS; i++) {
            int vector = lane + i * 32, row = vector / VECTORS, column = vector % VECTORS * 4;
            int from = min(max(key + row, start), position) % BLOCK_TOKENS;
            copy_async(to + row * stride + column, head + block * BLOCK + from * HEAD_DIM + column, true);
        }
    };

    int key = chunk * CHUNK + warp * STEP;
    if (visible(key)) copy(key_tile, PADDED, head_keys, key, table[key / BLOCK_TOKENS]);
    commit_copies();
    if (visible(key)) copy(value_tile, HEAD_DIM, head_values, key, table[key / BLOCK_TOKENS]);
    commit_copies();
    const float* from = qkv + (long long)row * QKV + (kv_head * GROUP + first_head) * HEAD_DIM;
    for (int i = threadIdx.x; i < TILE_HEADS * HEAD_DIM; i += WARPS * 32) queries[i] = i < heads * HEAD_DIM ? from[i] : 0.0f;
    __syncthreads();

    for (; chunk <= last_chunk; chunk += gridDim.y) {
        float output[TILE_HEADS][LANES] = {};
        float max_score[TILE_HEADS], sum_exp[TILE_HEADS];  // sum_exp: of this lane's keys alone
#pragma unroll
        for (int head = 0; head < TILE_HEADS; head++) {
            max_score[head] = NEG_INFINITY;
            sum_exp[head] = 0.0f;
        }
        for (int step = 0; step < STEPS; step++) {
            int next = step + 1 < STEPS ? chunk * CHUNK + ((step + 1) * WARPS + warp) * STEP
                                        : (chunk + (int)gridDim.y) * CHUNK + warp * STEP;
            bool active = visible(key), has_next = visible(next);
            long long block = has_next ? table[next / BLOCK_TOKENS] : 0;
            float score[QUADS * 4] = {};
            wait_for_copies<1>();  // keys have arrived; values may be in flight
            __syncwarp();
            if (active) {
#pragma unroll 4
                for (int vector = 0; vector < VECTORS; vector++) {
                    float4 k = *(const float4*)&key_tile[lane * PADDED + vector * 4];
#pragma unroll
                    for (int head = 0; head < TILE_HEADS; head++) {
                        dot4(score[head], *(const float4*)&queries[head * HEAD_DIM + vector * 4], k);
                    }
                }
            }
            __syncwarp();
            if (has_next) copy(key_tile, PADDED, head_keys, next, block);
            commit_copies();
            if (active) {
                bool unmasked = key + lane >= start && key + lane <= position;
#pragma unroll
                for (int head = 0; head < TILE_HEADS; head++) {
                    float x = unmasked ? score_of(score[head]) : NEG_INFINITY;
                    float new_max = fmaxf(max_score[head], warp_max(x));
                    float rescale = exp_score(max_score[head] - new_max);
                    max_score[head] = new_max;
                    score[head] = exp_score(x - new_max);
                    sum_exp[head] = __fmaf_rn(sum_exp[head], rescale, score[head]);
#pragma unroll
                    for (int i = 0; i < LANES; i++) output[head][i] *= rescale;
                }
#pragma unroll
                for (int quad = 0; quad < QUADS; quad++) {
                    *(float4*)&weights[(lane * QUADS + quad) * 4] =
                        make_float4(score[quad * 4], score[quad * 4 + 1], score[quad * 4 + 2], score[quad * 4 + 3]);
                }
            }
            wait_for_copies<1>();  // values have arrived; the next keys may be in flight
            __syncwarp();
            if (active) {
#pragma unroll 4
                for (int k = 0; k < STEP; k++) {
                    float w[QUADS * 4];
#pragma unroll
                    for (int quad = 0; quad < QUADS; quad++) {
                        float4 four = *(const float4*)&weights[(k * QUADS + quad) * 4];
                        w[quad * 4] = four.x;
                        w[quad * 4 + 1] = four.y;
                        w[quad * 4 + 2] = four.z;
                        w[quad * 4 + 3] = four.w;
                    }
#pragma unroll
                    for (int i = 0; i < LANES; i++) {
                        int dim = lane + i * 32;
                        float v = HEAD_DIM % 32 == 0 || dim < HEAD_DIM ? value_tile[k * HEAD_DIM + dim] : 0.0f;
#pragma unroll
                        for (int head = 0; head < TILE_HEADS; head++) output[head][i] = __fmaf_rn(w[head], v, output[head][i]);
                    }
                }
            }
            __syncwarp();
            if (has_next) copy(value_tile, HEAD_DIM, head_values, next, block);
            commit_copies();
            key = next;
        }

#pragma unroll
        for (int head = 0; head < TILE_HEADS; head++) {
            float sum = warp_sum(sum_exp[head]);
#pragma unroll
            for (int i = 0; i < LANES; i++) {
                int dim = lane + i * 32;
                if (HEAD_DIM % 32 == 0 || dim < HEAD_DIM) {
                    merge.outputs[warp * TILE_HEADS * HEAD_DIM + merge.swizzled(head, dim)] = output[head][i];
                }
            }
            if (lane == 0) {
                merge.max_score[warp * TILE_HEADS + head] = max_score[head];
                merge.sum_exps[warp * TILE_HEADS + head] = sum;
            }
        }
        if (gridDim.y == 1 || chunks == 1) {
            merge.add_chunk();
        } else {
            float* partials = (float*)(workspace + COUNTERS) + (long long)blockIdx.x * gridDim.y * merge.STRIDE;
            if (!merge.publish_chunk(partials, workspace + blockIdx.x, chunk - start / CHUNK, chunks)) return;
        }
    }
#ifdef SINKS
    merge.add_sinks(sinks + kv_head * GROUP + first_head, heads);
#endif
    float* const to = out + (long long)row * (HEADS * HEAD_DIM) + (kv_head * GROUP + first_head) * HEAD_DIM;
    merge.store_heads(heads, [&](int at, float low, float high) { store_pair(to + at, low, high); });
}
