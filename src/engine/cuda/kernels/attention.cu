// Attention in binary16 and bfloat16: softmax(q · Kᵀ / √d) · V, causal, on tensor cores, sums in binary32. attention.cuh says how
// tensors lie. HEAD_DIM is a multiple of 16. Weights are rounded to the element type before they meet the values, and it is the
// rounded ones that are summed: they add up to one.

constexpr float SCORE_FACTOR = SCALE * 1.4426950408889634f;

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
// One query row a sequence. A block takes one row and one KV head (with more than 16 query heads a KV head, one tile of them);
// its eight warps own 32 keys each of a chunk of 256. Everything is bound by reading keys and values, so both go from memory
// straight into the registers from which the tensor cores read, in 16-byte loads, a step of 16 or 32 keys ahead of the arithmetic:
// keys and values are the 16-row operands and the query heads the 8 columns, so that a group of 8 leaves nothing idle.
//
// Scores are keys · queriesᵀ. The order of the summed dims is free as long as keys and queries agree: a lane holds dims
// 32 · section + 8t … + 7 of key g, which the hardware takes for dims 2t, 2t + 1, 2t + 8, 2t + 9 of two steps of 16.
// Outputs are valuesᵀ · weightsᵀ. The order of output dims is free: a lane holds dims 64 · section + 8g … + 7 of keys 2t, 2t + 1,
// 2t + 8, 2t + 9, so that a 32-bit word of each gives rows g and g + 8 of one product, its dims being the word's two halves.
// Positions that the row must not see are replaced by the nearest that it may (no other memory is touched), weight 0.
//
// Grid: (rows · KV_HEADS · HEAD_TILES, 1) with each block computing all chunks, or (…, chunks of the longest row).

constexpr int WARPS = TOKEN_WARPS;
constexpr int HEAD_TILES = (GROUP + 15) / 16;
constexpr int HEADS_NOW = (GROUP + HEAD_TILES - 1) / HEAD_TILES;
constexpr int COLUMNS = (HEADS_NOW + 7) / 8;  // tiles of 8 query heads
constexpr int STEP = HEAD_DIM <= 64 && COLUMNS == 1 ? 32 : 16;
constexpr int STEPS = CHUNK / WARPS / STEP;
constexpr int PARTS = STEP / 16;
constexpr int WIDTH = HEAD_DIM / 16;

struct KeyStep { uint32 words[PARTS][2][HEAD_DIM / 8]; };  // of keys g and g + 8
struct ValueStep { uint32 words[PARTS][4][WIDTH]; };       // of keys 2t, 2t + 1, 2t + 8, 2t + 9

// A lane's share of a row along dims that are summed: see above.
__device__ __forceinline__ void load_summed(uint32 (&to)[HEAD_DIM / 8], const element* row, int t) {
#pragma unroll
    for (int section = 0; section < HEAD_DIM / 32; section++) load_once<4>(to + section * 4, row + section * 32 + t * 8);
    if (HEAD_DIM % 32) load_once<2>(to + HEAD_DIM / 32 * 4, row + HEAD_DIM / 32 * 32 + t * 4);
}

// The first of the four dims in its words 2 · step and 2 · step + 1.
__device__ __forceinline__ int summed_dim(int step, int t) {
    if (step < HEAD_DIM / 32 * 2) return step / 2 * 32 + t * 8 + step % 2 * 4;
    return HEAD_DIM / 32 * 32 + t * 4;
}

// A lane's share of a row along dims that are outputs.
__device__ __forceinline__ void load_outputs(uint32 (&to)[WIDTH], const element* row, int g) {
#pragma unroll
    for (int section = 0; section < HEAD_DIM / 64; section++) load_once<4>(to + section * 4, row + section * 64 + g * 8);
    constexpr int DONE = HEAD_DIM / 64 * 64;
    if (HEAD_DIM % 64 >= 32) load_once<2>(to + DONE / 16, row + DONE + g * 4);
    constexpr int DONE_TOO = HEAD_DIM / 32 * 32;
    if (HEAD_DIM % 32) load_once<1>(to + DONE_TOO / 16, row + DONE_TOO + g * 2);
}

// The first of the two dims in word `i` of them.
__device__ __forceinline__ int output_dim(int i, int g) {
    if (i < HEAD_DIM / 64 * 4) return i / 4 * 64 + g * 8 + i % 4 * 2;
    if (i < HEAD_DIM / 32 * 2) return HEAD_DIM / 64 * 64 + g * 4 + i % 2 * 2;
    return HEAD_DIM / 32 * 32 + g * 2;
}

// From shared memory, each time anew.
__device__ __forceinline__ uint2 load_again(const uint2* from) {
    uint2 x;
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"((uint32)__cvta_generic_to_shared(from)) : "memory");
    return x;
}

extern "C" __global__ void __launch_bounds__(WARPS * 32, TOKEN_RESIDENT)
    attention_token(const element* qkv, const element* keys, const element* values, const int* tables, int table_stride,
                    const int* positions, const int* slots, int first_row, uint32* workspace, element* out) {
    extern __shared__ uint4 shared[];
    Gathering<WARPS, HEADS_NOW> gathering((float*)shared);
    uint2* queries = (uint2*)((float*)shared + WARPS * HEADS_NOW * (HEAD_DIM + 2));

    wait_for_previous();
    let_next_begin();
    constexpr int TILES = KV_HEADS * HEAD_TILES;
    int row = first_row + blockIdx.x / TILES, tile = blockIdx.x % TILES;
    int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * HEADS_NOW;
    int heads = min(HEADS_NOW, GROUP - first_head);
    int position = positions[row];
    const int* table = tables + (long long)slots[row] * table_stride;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

    if (position < 0) return;  // a row that only fills the grid
    int start = first_position(position);
    int chunk = start / CHUNK + blockIdx.y, last_chunk = position / CHUNK;
    if (chunk > last_chunk) return;
    int chunks = last_chunk - start / CHUNK + 1;

    constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;
    const element* head_keys = keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const element* head_values = values + kv_head * BLOCK_TOKENS * HEAD_DIM;
    KeyStep key_step;
    ValueStep value_step;
    // A step lies in one block of the cache, and holds a visible position or is left out, so no load leaves that block.
    auto visible = [&](int key) { return key <= position && key + STEP > start; };
    auto nearest = [&](int key) { return min(max(key, start), position) % BLOCK_TOKENS; };
    auto load_keys = [&](int key, int block) {
        const element* from = head_keys + (long long)block * BLOCK;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                load_summed(key_step.words[part][half], from + nearest(key + part * 16 + half * 8 + g) * HEAD_DIM, t);
            }
        }
    };
    auto load_values = [&](int key, int block) {
        const element* from = head_values + (long long)block * BLOCK;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int at = key + part * 16 + i / 2 * 8 + t * 2 + i % 2;
                load_outputs(value_step.words[part][i], from + nearest(at) * HEAD_DIM, g);
            }
        }
    };

    // Queries go to shared memory, each lane's words together: in registers they would cost a warp in eight of those resident.
    constexpr int QUERY_WORDS = COLUMNS * WIDTH * 32;
    uint32 query[QUERY_WORDS / (WARPS * 32) + 1][2];
    const element* row_queries = qkv + (long long)row * QKV + (kv_head * GROUP + first_head) * HEAD_DIM;
#pragma unroll
    for (int i = 0; i < QUERY_WORDS / (WARPS * 32) + 1; i++) {
        // Word pair `step` of a lane: what the hardware takes for the 16 dims of this step.
        int index = threadIdx.x + i * WARPS * 32, head = index / (WIDTH * 32) * 8 + g, step = index / 32 % WIDTH;
        query[i][0] = query[i][1] = 0;
        if (index < QUERY_WORDS && head < heads) load_once<2>(query[i], row_queries + head * HEAD_DIM + summed_dim(step, t));
    }

    int key = chunk * CHUNK + warp * STEP;
    if (visible(key)) {
        int block = table[key / BLOCK_TOKENS];
        load_keys(key, block);
        load_values(key, block);
    }
#pragma unroll
    for (int i = 0; i < QUERY_WORDS / (WARPS * 32) + 1; i++) {
        int index = threadIdx.x + i * WARPS * 32;
        if (index < QUERY_WORDS) queries[index] = make_uint2(query[i][0], query[i][1]);
    }
    __syncthreads();
    for (; chunk <= last_chunk; chunk += gridDim.y) {
        float output[COLUMNS][WIDTH][4] = {};
        float highest[COLUMNS][2], total[COLUMNS][2];  // of heads 2t and 2t + 1; totals of this lane's keys alone
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                highest[column][i] = LOWEST;
                total[column][i] = 0.0f;
            }
        }
#pragma unroll 1
        for (int step = 0; step < STEPS; step++) {
            int next = step + 1 < STEPS ? chunk * CHUNK + ((step + 1) * WARPS + warp) * STEP
                                        : (chunk + (int)gridDim.y) * CHUNK + warp * STEP;
            bool works = visible(key), more = visible(next);
            int block = more ? table[next / BLOCK_TOKENS] : 0;
            float score[COLUMNS][PARTS][4] = {};  // keys g and g + 8 of each part, heads 2t and 2t + 1
            if (works) {
#pragma unroll
                for (int i = 0; i < WIDTH; i++) {
#pragma unroll
                    for (int column = 0; column < COLUMNS; column++) {
                        uint2 b = load_again(queries + (column * WIDTH + i) * 32 + lane);
#pragma unroll
                        for (int part = 0; part < PARTS; part++) {
                            uint32(&a)[2][HEAD_DIM / 8] = key_step.words[part];
                            multiply_add(score[column][part], a[0][2 * i], a[1][2 * i], a[0][2 * i + 1], a[1][2 * i + 1], b.x, b.y);
                        }
                    }
                }
            }
            if (more) load_keys(next, block);
            if (works) {
                uint32 weights[COLUMNS][PARTS][2];
#pragma unroll
                for (int column = 0; column < COLUMNS; column++) {
                    float shrink[2];
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        float top = highest[column][i];
#pragma unroll
                        for (int part = 0; part < PARTS; part++) {
#pragma unroll
                            for (int half = 0; half < 2; half++) {
                                int at = key + part * 16 + half * 8 + g;
                                float& x = score[column][part][half * 2 + i];
                                x = at >= start && at <= position ? x * SCORE_FACTOR : LOWEST;
                                top = fmaxf(top, x);
                            }
                        }
#pragma unroll
                        for (int offset = 4; offset < 32; offset *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
                        shrink[i] = weight(highest[column][i] - top);
                        highest[column][i] = top;
                        total[column][i] *= shrink[i];
                    }
#pragma unroll
                    for (int part = 0; part < PARTS; part++) {
#pragma unroll
                        for (int half = 0; half < 2; half++) {
                            float* x = &score[column][part][half * 2];
                            uint32 pair = pack2(weight(x[0] - highest[column][0]), weight(x[1] - highest[column][1]));
                            float2 rounded = widen2<element>(pair);
                            total[column][0] += rounded.x;
                            total[column][1] += rounded.y;
                            weights[column][part][half] = transposed(pair);
                        }
                    }
#pragma unroll
                    for (int i = 0; i < WIDTH; i++) {
                        output[column][i][0] *= shrink[0];
                        output[column][i][1] *= shrink[1];
                        output[column][i][2] *= shrink[0];
                        output[column][i][3] *= shrink[1];
                    }
                }
#pragma unroll
                for (int part = 0; part < PARTS; part++) {
                    uint32(&v)[4][WIDTH] = value_step.words[part];
#pragma unroll
                    for (int i = 0; i < WIDTH; i++) {
                        uint32 a0 = __byte_perm(v[0][i], v[1][i], 0x5410), a1 = __byte_perm(v[0][i], v[1][i], 0x7632);
                        uint32 a2 = __byte_perm(v[2][i], v[3][i], 0x5410), a3 = __byte_perm(v[2][i], v[3][i], 0x7632);
#pragma unroll
                        for (int column = 0; column < COLUMNS; column++) {
                            multiply_add(output[column][i], a0, a1, a2, a3, weights[column][part][0], weights[column][part][1]);
                        }
                    }
                }
            }
            if (more) load_values(next, block);
            key = next;
        }

#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int head = column * 8 + t * 2 + i;
#pragma unroll
                for (int offset = 4; offset < 32; offset *= 2) {
                    total[column][i] += __shfl_xor_sync(0xffffffffu, total[column][i], offset);
                }
                if (head < HEADS_NOW) {
#pragma unroll
                    for (int word = 0; word < WIDTH; word++) {
                        int at = warp * HEADS_NOW * HEAD_DIM + gathering.place(head, output_dim(word, g));
                        *(float2*)&gathering.outputs[at] = make_float2(output[column][word][i], output[column][word][2 + i]);
                    }
                    if (g == 0) {
                        gathering.highest[warp * HEADS_NOW + head] = highest[column][i];
                        gathering.totals[warp * HEADS_NOW + head] = total[column][i];
                    }
                }
            }
        }
        if (gridDim.y == 1 || chunks == 1) {
            gathering.take();
        } else {
            float* partials = (float*)(workspace + COUNTERS) + (long long)blockIdx.x * gridDim.y * gathering.STRIDE;
            if (!gathering.leave(partials, workspace + blockIdx.x, chunk - start / CHUNK, chunks)) return;
        }
    }
    gathering.store(out + (long long)row * (HEADS * HEAD_DIM) + (kv_head * GROUP + first_head) * HEAD_DIM, heads);
}
