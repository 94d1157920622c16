// Attention of generated tokens in binary16 and bfloat16, on tensor cores; part of attention.cu and decode.cu.
//
// One query row a sequence. A block takes one row and one KV head (with more than 16 query heads a KV head, one tile of them);
// its TOKEN_WARPS warps own equal parts of a chunk's 256 keys. Everything is bound by reading keys and values, so both go from memory
// straight into the registers from which the tensor cores read, in 16-byte loads, a step of 16 or 32 keys ahead of the arithmetic:
// keys and values are the 16-row operands and the query heads the 8 columns, so that a group of 8 leaves nothing idle.
//
// Scores are keys · queriesᵀ. The order of the summed dims is free as long as keys and queries agree: a lane holds dims
// 32 · section + 8t … + 7 of key g, which the hardware takes for dims 2t, 2t + 1, 2t + 8, 2t + 9 of two steps of 16.
// Outputs are valuesᵀ · weightsᵀ. The order of output dims is free: a lane holds dims 64 · section + 8g … + 7 of keys 2t, 2t + 1,
// 2t + 8, 2t + 9, so that a 32-bit word of each gives rows g and g + 8 of one product, its dims being the word's two halves.
// Positions that the row must not see are replaced by the nearest that it may (no other memory is touched), weight 0.

constexpr float SCORE_FACTOR = SCALE * 1.4426950408889634f;
constexpr int HEAD_TILES = (GROUP + 15) / 16;
constexpr int HEADS_NOW = (GROUP + HEAD_TILES - 1) / HEAD_TILES;
constexpr int COLUMNS = (HEADS_NOW + 7) / 8;  // tiles of 8 query heads
constexpr int STEP = HEAD_DIM <= 64 && COLUMNS == 1 && CHUNK / TOKEN_WARPS >= 32 ? 32 : 16;
constexpr int STEPS = CHUNK / TOKEN_WARPS / STEP;
constexpr int PARTS = STEP / 16;
constexpr int WIDTH = HEAD_DIM / 16;

struct KeyStep { uint32 words[PARTS][2][HEAD_DIM / 8]; };  // of keys g and g + 8
struct ValueStep { uint32 words[PARTS][4][WIDTH]; };       // of keys 2t, 2t + 1, 2t + 8, 2t + 9

// Words from the cache, or from shared memory.
struct FromCache {
    template <int COUNT> static __device__ __forceinline__ void load(uint32* to, const element* from) { load_once<COUNT>(to, from); }
};
struct FromShared {
    template <int COUNT> static __device__ __forceinline__ void load(uint32* to, const element* from) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) to[i] = ((const uint32*)from)[i];
    }
};

// A lane's share of a row along dims that are summed: see above.
template <typename From> __device__ __forceinline__ void load_summed(uint32 (&to)[HEAD_DIM / 8], const element* row, int t) {
#pragma unroll
    for (int section = 0; section < HEAD_DIM / 32; section++) {
        From::template load<4>(to + section * 4, row + section * 32 + t * 8);
    }
    if (HEAD_DIM % 32) From::template load<2>(to + HEAD_DIM / 32 * 4, row + HEAD_DIM / 32 * 32 + t * 4);
}

// The first of the four dims in its words 2 · step and 2 · step + 1.
__device__ __forceinline__ int summed_dim(int step, int t) {
    if (step < HEAD_DIM / 32 * 2) return step / 2 * 32 + t * 8 + step % 2 * 4;
    return HEAD_DIM / 32 * 32 + t * 4;
}

// A lane's share of a row along dims that are outputs.
template <typename From> __device__ __forceinline__ void load_outputs(uint32 (&to)[WIDTH], const element* row, int g) {
#pragma unroll
    for (int section = 0; section < HEAD_DIM / 64; section++) {
        From::template load<4>(to + section * 4, row + section * 64 + g * 8);
    }
    constexpr int DONE = HEAD_DIM / 64 * 64;
    if (HEAD_DIM % 64 >= 32) From::template load<2>(to + DONE / 16, row + DONE + g * 4);
    constexpr int DONE_TOO = HEAD_DIM / 32 * 32;
    if (HEAD_DIM % 32) From::template load<1>(to + DONE_TOO / 16, row + DONE_TOO + g * 2);
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

// Chunks split, split + splits, … of one row, at `position` with its blocks in `table`, and tile of heads; `index` numbers the two
// among all, for the workspace. All threads. Rows: `keys` and `values` of the layer, `workspace`; `load(to, row, at)` for four
// neighbouring elements of a qkv row, `store(row, at, low, high)` for two of the output. Where it is APART, the row's own key and
// value are not in the cache yet, and go there from its qkv; every chunk must then have a block, which does no other.
template <typename Rows>
__device__ INLINE_ATTEND void attend(const Rows rows, int row, int position, const int* table, int tile, int index, int split,
                                     int splits, uint4* shared) {
    Gathering<TOKEN_WARPS, HEADS_NOW> gathering((float*)shared);
    uint2* queries = (uint2*)((float*)shared + gathering.SHARED);

    int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * HEADS_NOW;
    int heads = min(HEADS_NOW, GROUP - first_head);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

    if (position < 0) return;  // a row that only fills the grid
    int start = first_position(position);
    int chunk = start / CHUNK + split, last_chunk = position / CHUNK;
    if (chunk > last_chunk) return;
    int chunks = last_chunk - start / CHUNK + 1;

    constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;
    const element* head_keys = rows.keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const element* head_values = rows.values + kv_head * BLOCK_TOKENS * HEAD_DIM;
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
                load_summed<FromCache>(key_step.words[part][half], from + nearest(key + part * 16 + half * 8 + g) * HEAD_DIM, t);
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
                load_outputs<FromCache>(value_step.words[part][i], from + nearest(at) * HEAD_DIM, g);
            }
        }
    };

    int key = chunk * CHUNK + warp * STEP;
    if (visible(key)) {
        int block = table[key / BLOCK_TOKENS];
        load_keys(key, block);
        load_values(key, block);
    }

    // Queries go to shared memory, each lane's words together: in registers they would cost a warp in eight of those resident.
    constexpr int QUERY_WORDS = COLUMNS * WIDTH * 32;
    const int queries_at = (kv_head * GROUP + first_head) * HEAD_DIM;
#pragma unroll
    for (int i = 0; i < QUERY_WORDS / (TOKEN_WARPS * 32) + 1; i++) {
        // Word pair `step` of a lane: what the hardware takes for the 16 dims of this step.
        int index = threadIdx.x + i * TOKEN_WARPS * 32, head = index / (WIDTH * 32) * 8 + g, step = index / 32 % WIDTH;
        uint32 query[2] = {0, 0};
        if (index < QUERY_WORDS && head < heads) rows.load(query, row, queries_at + head * HEAD_DIM + summed_dim(step, t));
        if (index < QUERY_WORDS) queries[index] = make_uint2(query[0], query[1]);
    }
    // The row's own key and value, side by side.
    element* own = (element*)(queries + QUERY_WORDS);
    constexpr int FOURS = HEAD_DIM / 4;
    const bool has_own = Rows::APART && chunk == last_chunk;
    static_assert(!Rows::APART || STEPS == 1, "a warp's first step is its only one of a chunk");
    if constexpr (Rows::APART) {
        // The last warps, for the first fetch queries.
        for (int i = TOKEN_WARPS * 32 - 1 - threadIdx.x; has_own && i < 2 * FOURS; i += TOKEN_WARPS * 32) {
            uint32 four[2];
            rows.load(four, row, (HEADS + i / FOURS * KV_HEADS + kv_head) * HEAD_DIM + i % FOURS * 4);
            ((uint2*)own)[i] = make_uint2(four[0], four[1]);
        }
    }
    __syncthreads();
    if constexpr (Rows::APART) {
        if (has_own && key <= position && position < key + STEP) {
            auto is_own = [&](int at) { return max(at, start) >= position; };
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    if (is_own(key + part * 16 + half * 8 + g)) load_summed<FromShared>(key_step.words[part][half], own, t);
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (is_own(key + part * 16 + i / 2 * 8 + t * 2 + i % 2)) {
                        load_outputs<FromShared>(value_step.words[part][i], own + HEAD_DIM, g);
                    }
                }
            }
        }
        // Of several blocks that need them each writes the same.
        const long long line = (long long)(has_own ? table[position / BLOCK_TOKENS] : 0) * BLOCK
                             + (kv_head * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM;
        for (int i = threadIdx.x; has_own && i < 2 * FOURS; i += TOKEN_WARPS * 32) {
            *(uint2*)((i < FOURS ? rows.keys : rows.values) + line + i % FOURS * 4) = ((const uint2*)own)[i];
        }
    }
    for (; chunk <= last_chunk; chunk += splits) {
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
            int next = step + 1 < STEPS ? chunk * CHUNK + ((step + 1) * TOKEN_WARPS + warp) * STEP
                                        : (chunk + splits) * CHUNK + warp * STEP;
            bool works = visible(key), more = !Rows::APART && visible(next);
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
        if (splits == 1 || chunks == 1) {
            gathering.take();
        } else {
            float* partials = (float*)(rows.workspace + COUNTERS) + (long long)index * splits * gathering.STRIDE;
            if (!gathering.leave(partials, rows.workspace + index, chunk - start / CHUNK, chunks)) return;
        }
        if (Rows::APART) break;
    }
    const int first_dim = (kv_head * GROUP + first_head) * HEAD_DIM;
    gathering.give(heads, [&](int at, float low, float high) { rows.store(row, first_dim + at, low, high); });
}
