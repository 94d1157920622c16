// Attention in binary32: softmax(q · Kᵀ / √d) · V, causal, plain multiply-adds in IEEE single precision. attention.cuh says how
// tensors lie. HEAD_DIM is a multiple of 4.

constexpr int PIECES = HEAD_DIM / 4;          // 16-byte pieces of a row
constexpr int PADDED = HEAD_DIM + 4;          // rows that lanes read side by side start in different banks
constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;

__device__ __forceinline__ void multiply_add4(float& sum, float4 a, float4 b) {
    sum = __fmaf_rn(a.x, b.x, sum);
    sum = __fmaf_rn(a.y, b.y, sum);
    sum = __fmaf_rn(a.z, b.z, sum);
    sum = __fmaf_rn(a.w, b.w, sum);
}

// ---- Rows of prompts -----------------------------------------------------------------------------------------------------------
//
// As in attention.cu: a tile {first row, rows, slot, first position} and one KV head a block, positions times query heads in 64
// rows, keys in tiles of 64 at absolute positions, ascending, online softmax. A thread owns rows y + 16i and keys x + 16j of the
// scores, and dims 4x … 4x + 3 (+ 64) of the same rows of the output; a half warp owns whole rows.
// Grid: tiles · KV_HEADS, the tile of the latest positions first.

constexpr int PROMPT_ROWS = 64;
constexpr int PROMPT_THREADS = 256;
constexpr int WEIGHT_STRIDE = BLOCK_TOKENS + 4;
constexpr int SECTIONS = (HEAD_DIM + 63) / 64;

// Copies a tile of BLOCK_TOKENS rows; zeros behind the last row wanted, for what lies there may be no number.
__device__ __forceinline__ void copy_tile(float* to, const float* from, int wanted) {
    for (int piece = threadIdx.x; piece < BLOCK_TOKENS * PIECES; piece += PROMPT_THREADS) {
        int row = piece / PIECES, column = piece % PIECES * 4;
        bool valid = row < wanted;
        copy_later(to + row * PADDED + column, from + (valid ? row * HEAD_DIM + column : 0), valid);
    }
}

extern "C" __global__ void __launch_bounds__(PROMPT_THREADS, HEAD_DIM <= 64 ? 2 : 1)
    attention_prompt(const float* qkv, const float* keys, const float* values, const int* tables, int table_stride,
                     const int4* tiles, float* out) {
    extern __shared__ uint4 shared[];
    float* query_tile = (float*)shared;
    float* key_tile = query_tile + PROMPT_ROWS * PADDED;
    float* value_tile = key_tile + BLOCK_TOKENS * PADDED;
    float* weights = value_tile + BLOCK_TOKENS * PADDED;

    wait_for_previous();
    let_next_begin();
    int kv_head = blockIdx.x % KV_HEADS;
    int4 tile = tiles[gridDim.x / KV_HEADS - 1 - blockIdx.x / KV_HEADS];
    int first_row = tile.x, rows = tile.y, first = tile.w;
    if (rows <= 0) return;
    const int* table = tables + (long long)tile.z * table_stride;
    int last = first + rows - 1;
    int key_block = first_position(first) / BLOCK_TOKENS, last_block = last / BLOCK_TOKENS;
    const float* head_keys = keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const float* head_values = values + kv_head * BLOCK_TOKENS * HEAD_DIM;

    for (int piece = threadIdx.x; piece < PROMPT_ROWS * PIECES; piece += PROMPT_THREADS) {
        int row = piece / PIECES, column = piece % PIECES * 4;
        bool valid = row < rows * GROUP;
        long long from = (long long)(first_row + row / GROUP) * QKV + (kv_head * GROUP + row % GROUP) * HEAD_DIM + column;
        copy_later(query_tile + row * PADDED + column, qkv + (valid ? from : 0), valid);
    }
    long long block = table[key_block];
    copy_tile(key_tile, head_keys + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    close_copies();
    copy_tile(value_tile, head_values + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    close_copies();

    int x = threadIdx.x % 16, y = threadIdx.x / 16;
    float4 output[4][SECTIONS] = {};
    float highest[4], total[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        highest[i] = LOWEST;
        total[i] = 0.0f;
    }

    for (; key_block <= last_block; key_block++) {
        bool more = key_block < last_block;
        if (more) block = table[key_block + 1];
        int next_wanted = last + 1 - (key_block + 1) * BLOCK_TOKENS;

        wait_for_copies<1>();  // the keys; the values are still on their way
        __syncthreads();
        float score[4][4] = {};
#pragma unroll 4
        for (int piece = 0; piece < PIECES; piece++) {
            float4 q[4], k[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                q[i] = *(const float4*)&query_tile[(y + 16 * i) * PADDED + piece * 4];
                k[i] = *(const float4*)&key_tile[(x + 16 * i) * PADDED + piece * 4];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) multiply_add4(score[i][j], q[i], k[j]);
            }
        }
        __syncthreads();
        if (more) copy_tile(key_tile, head_keys + block * BLOCK, next_wanted);
        close_copies();

#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = y + 16 * i, position = first + row / GROUP;
            float top = highest[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int at = key_block * BLOCK_TOKENS + x + 16 * j;
                score[i][j] = at <= position && at >= first_position(position) ? score[i][j] * SCALE : LOWEST;
                top = fmaxf(top, score[i][j]);
            }
#pragma unroll
            for (int offset = 1; offset < 16; offset *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
            float shrink = weight(highest[i] - finite(top)), sum = 0.0f;
            highest[i] = top;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float w = weight(score[i][j] - finite(top));
                sum += w;
                weights[row * WEIGHT_STRIDE + x + 16 * j] = w;
            }
            total[i] = __fmaf_rn(total[i], shrink, sum);
#pragma unroll
            for (int section = 0; section < SECTIONS; section++) {
                output[i][section].x *= shrink;
                output[i][section].y *= shrink;
                output[i][section].z *= shrink;
                output[i][section].w *= shrink;
            }
        }

        wait_for_copies<1>();  // the values; the next keys are on their way
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
        if (more) copy_tile(value_tile, head_values + block * BLOCK, next_wanted);
        close_copies();
    }

#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = y + 16 * i;
#pragma unroll
        for (int offset = 1; offset < 16; offset *= 2) total[i] += __shfl_xor_sync(0xffffffffu, total[i], offset);
        if (row < rows * GROUP) {
            float* to = out + (long long)(first_row + row / GROUP) * (HEADS * HEAD_DIM)
                      + (kv_head * GROUP + row % GROUP) * HEAD_DIM;
#pragma unroll
            for (int section = 0; section < SECTIONS; section++) {
                int dim = section * 64 + x * 4;
                float4 o = output[i][section];
                if (dim < HEAD_DIM) *(float4*)(to + dim) = make_float4(o.x / total[i], o.y / total[i], o.z / total[i], o.w / total[i]);
            }
        }
    }
}

// ---- Generated tokens ----------------------------------------------------------------------------------------------------------
//
// A block takes one row and one KV head (one tile of at most 8 of its query heads); its four warps own 32 keys each of every 128.
// A warp copies its keys and values to shared memory, keys of the next step during this one's values and the other way round.
// For scores a lane owns a key, for outputs it owns dims lane, lane + 32, …
// Grid: (rows · KV_HEADS · HEAD_TILES, 1) with each block computing all chunks, or (…, chunks of the longest row).

constexpr int WARPS = TOKEN_WARPS;
constexpr int HEAD_TILES = (GROUP + 7) / 8;
constexpr int HEADS_NOW = (GROUP + HEAD_TILES - 1) / HEAD_TILES;
constexpr int STEP = 32;
constexpr int STEPS = CHUNK / WARPS / STEP;
constexpr int QUADS = (HEADS_NOW + 3) / 4;
constexpr int LANES = (HEAD_DIM + 31) / 32;  // dims of a lane

extern "C" __global__ void __launch_bounds__(WARPS * 32, TOKEN_RESIDENT)
    attention_token(const float* qkv, const float* keys, const float* values, const int* tables, int table_stride,
                    const int* positions, const int* slots, int first_row, uint32* workspace, float* out) {
    extern __shared__ uint4 shared[];
    Gathering<WARPS, HEADS_NOW> gathering((float*)shared);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float* queries = (float*)shared + gathering.SHARED;
    float* weights = queries + HEADS_NOW * HEAD_DIM + warp * STEP * QUADS * 4;
    float* key_tile = queries + HEADS_NOW * HEAD_DIM + WARPS * STEP * QUADS * 4 + warp * STEP * (PADDED + HEAD_DIM);
    float* value_tile = key_tile + STEP * PADDED;

    wait_for_previous();
    let_next_begin();
    constexpr int TILES = KV_HEADS * HEAD_TILES;
    int row = first_row + blockIdx.x / TILES, tile = blockIdx.x % TILES;
    int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * HEADS_NOW;
    int heads = min(HEADS_NOW, GROUP - first_head);
    int position = positions[row];
    const int* table = tables + (long long)slots[row] * table_stride;
    if (position < 0) return;  // a row that only fills the grid
    int start = first_position(position);
    int chunk = start / CHUNK + blockIdx.y, last_chunk = position / CHUNK;
    if (chunk > last_chunk) return;
    int chunks = last_chunk - start / CHUNK + 1;

    const float* head_keys = keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const float* head_values = values + kv_head * BLOCK_TOKENS * HEAD_DIM;
    // A step lies in one block of the cache, and holds a visible position or is left out, so no copy leaves that block.
    // Positions that the row must not see are replaced by the nearest that it may, weight 0.
    auto visible = [&](int key) { return key <= position && key + STEP > start; };
    auto copy = [&](float* to, int stride, const float* head, int key, long long block) {
        for (int i = 0; i < PIECES; i++) {
            int piece = lane + i * 32, row = piece / PIECES, column = piece % PIECES * 4;
            int from = min(max(key + row, start), position) % BLOCK_TOKENS;
            copy_later(to + row * stride + column, head + block * BLOCK + from * HEAD_DIM + column, true);
        }
    };

    int key = chunk * CHUNK + warp * STEP;
    if (visible(key)) copy(key_tile, PADDED, head_keys, key, table[key / BLOCK_TOKENS]);
    close_copies();
    if (visible(key)) copy(value_tile, HEAD_DIM, head_values, key, table[key / BLOCK_TOKENS]);
    close_copies();
    const float* from = qkv + (long long)row * QKV + (kv_head * GROUP + first_head) * HEAD_DIM;
    for (int i = threadIdx.x; i < HEADS_NOW * HEAD_DIM; i += WARPS * 32) queries[i] = i < heads * HEAD_DIM ? from[i] : 0.0f;
    __syncthreads();

    for (; chunk <= last_chunk; chunk += gridDim.y) {
        float output[HEADS_NOW][LANES] = {};
        float highest[HEADS_NOW], total[HEADS_NOW];  // totals of this lane's keys alone
#pragma unroll
        for (int head = 0; head < HEADS_NOW; head++) {
            highest[head] = LOWEST;
            total[head] = 0.0f;
        }
        for (int step = 0; step < STEPS; step++) {
            int next = step + 1 < STEPS ? chunk * CHUNK + ((step + 1) * WARPS + warp) * STEP
                                        : (chunk + (int)gridDim.y) * CHUNK + warp * STEP;
            bool works = visible(key), more = visible(next);
            long long block = more ? table[next / BLOCK_TOKENS] : 0;
            float score[QUADS * 4] = {};
            wait_for_copies<1>();  // the keys; the values are still on their way
            __syncwarp();
            if (works) {
#pragma unroll 4
                for (int piece = 0; piece < PIECES; piece++) {
                    float4 k = *(const float4*)&key_tile[lane * PADDED + piece * 4];
#pragma unroll
                    for (int head = 0; head < HEADS_NOW; head++) {
                        multiply_add4(score[head], *(const float4*)&queries[head * HEAD_DIM + piece * 4], k);
                    }
                }
            }
            __syncwarp();
            if (more) copy(key_tile, PADDED, head_keys, next, block);
            close_copies();
            if (works) {
                bool seen = key + lane >= start && key + lane <= position;
#pragma unroll
                for (int head = 0; head < HEADS_NOW; head++) {
                    float x = seen ? score[head] * SCALE : LOWEST;
                    float top = fmaxf(highest[head], warp_max(x));
                    float shrink = weight(highest[head] - top);
                    highest[head] = top;
                    score[head] = weight(x - top);
                    total[head] = __fmaf_rn(total[head], shrink, score[head]);
#pragma unroll
                    for (int i = 0; i < LANES; i++) output[head][i] *= shrink;
                }
#pragma unroll
                for (int quad = 0; quad < QUADS; quad++) {
                    *(float4*)&weights[(lane * QUADS + quad) * 4] =
                        make_float4(score[quad * 4], score[quad * 4 + 1], score[quad * 4 + 2], score[quad * 4 + 3]);
                }
            }
            wait_for_copies<1>();  // the values; the next keys are on their way
            __syncwarp();
            if (works) {
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
                        for (int head = 0; head < HEADS_NOW; head++) output[head][i] = __fmaf_rn(w[head], v, output[head][i]);
                    }
                }
            }
            __syncwarp();
            if (more) copy(value_tile, HEAD_DIM, head_values, next, block);
            close_copies();
            key = next;
        }

#pragma unroll
        for (int head = 0; head < HEADS_NOW; head++) {
            float sum = warp_sum(total[head]);
#pragma unroll
            for (int i = 0; i < LANES; i++) {
                int dim = lane + i * 32;
                if (HEAD_DIM % 32 == 0 || dim < HEAD_DIM) {
                    gathering.outputs[warp * HEADS_NOW * HEAD_DIM + gathering.place(head, dim)] = output[head][i];
                }
            }
            if (lane == 0) {
                gathering.highest[warp * HEADS_NOW + head] = highest[head];
                gathering.totals[warp * HEADS_NOW + head] = sum;
            }
        }
        if (gridDim.y == 1 || chunks == 1) {
            gathering.take();
        } else {
            float* partials = (float*)(workspace + COUNTERS) + (long long)blockIdx.x * gridDim.y * gathering.STRIDE;
            if (!gathering.leave(partials, workspace + blockIdx.x, chunk - start / CHUNK, chunks)) return;
        }
    }
    float* const to = out + (long long)row * (HEADS * HEAD_DIM) + (kv_head * GROUP + first_head) * HEAD_DIM;
    gathering.give(heads, [&](int at, float low, float high) { store_pair(to + at, low, high); });
}
