// Decode attention in binary16 and bfloat16 on tensor cores: one query row a sequence. Part of attention.cu and of decode.cu;
// attention.cuh gives the formula and all tensors.
//
// A block takes one row and one KV head (with more than 16 query heads a KV head, one tile of them); its DECODE_WARPS warps own equal,
// fixed parts of each chunk's 256 keys, 16 or 32 at a time (a step). `attend` (decode.cu) computes one chunk, from registers; attention.cu
// all of a row's, from a ring of steps in shared memory. Keys and values are the 16-row
// operand (m) and the query heads the 8 columns (n), so that a group of 8 query heads fills the instruction.
//
// Scores = keys · queriesᵀ. The order of the summed dims is free as long as keys and queries agree: a lane loads dims
// 32 · section + 8t … + 7 of key g, and passes them as dims 2t, 2t + 1, 2t + 8, 2t + 9 of two instructions of 16 dims.
// Outputs = valuesᵀ · weightsᵀ. The order of output dims is free: a lane loads dims 64 · section + 8g … + 7 of keys 2t, 2t + 1, 2t + 8,
// 2t + 9, so that a 32-bit word of each gives rows g and g + 8 of one instruction, its dims being the word's two halves.
// Masked positions are replaced by the nearest visible one (no other memory is touched), with weight 0.

constexpr int HEAD_TILES = (GROUP + 15) / 16;
constexpr int TILE_HEADS = (GROUP + HEAD_TILES - 1) / HEAD_TILES;
constexpr int COLUMNS = (TILE_HEADS + 7) / 8;  // tiles of 8 query heads
constexpr int STEP = HEAD_DIM <= 64 && COLUMNS == 1 && CHUNK / DECODE_WARPS >= 32 ? 32 : 16;
constexpr int STEPS = CHUNK / DECODE_WARPS / STEP;
constexpr int PARTS = STEP / 16;
constexpr int WIDTH = HEAD_DIM / 16;

struct KeyStep { uint32 words[PARTS][2][HEAD_DIM / 8]; };  // keys g and g + 8
struct ValueStep { uint32 words[PARTS][4][WIDTH]; };       // keys 2t, 2t + 1, 2t + 8, 2t + 9

// Loads neighbouring 32-bit words of a row, from its dim `dim + of_lane` on, from the KV cache (once) or from shared memory.
struct FromCache {
    const element* row;
    template <int COUNT> __device__ __forceinline__ void load(uint32* to, int dim, int of_lane) const {
        load_no_allocate<COUNT>(to, row + dim + of_lane);
    }
};
struct FromShared {
    const element* row;
    template <int COUNT> __device__ __forceinline__ void load(uint32* to, int dim, int of_lane) const {
#pragma unroll
        for (int i = 0; i < COUNT; i++) to[i] = ((const uint32*)(row + dim + of_lane))[i];
    }
};

// A lane's dims of a key or query row, along which products are summed: see above.
template <typename From> __device__ __forceinline__ void load_summed(uint32 (&to)[HEAD_DIM / 8], const From& from, int t) {
#pragma unroll
    for (int section = 0; section < HEAD_DIM / 32; section++) from.template load<4>(to + section * 4, section * 32, t * 8);
    if (HEAD_DIM % 32) from.template load<2>(to + HEAD_DIM / 32 * 4, HEAD_DIM / 32 * 32, t * 4);
}

// The first of the four dims in words 2 · step and 2 · step + 1 of load_summed.
__device__ __forceinline__ int summed_dim(int step, int t) {
    if (step < HEAD_DIM / 32 * 2) return step / 2 * 32 + t * 8 + step % 2 * 4;
    return HEAD_DIM / 32 * 32 + t * 4;
}

// A lane's dims of a value row: output dims.
template <typename From> __device__ __forceinline__ void load_outputs(uint32 (&to)[WIDTH], const From& from, int g) {
#pragma unroll
    for (int section = 0; section < HEAD_DIM / 64; section++) from.template load<4>(to + section * 4, section * 64, g * 8);
    if (HEAD_DIM % 64 >= 32) from.template load<2>(to + HEAD_DIM / 64 * 4, HEAD_DIM / 64 * 64, g * 4);
    if (HEAD_DIM % 32) from.template load<1>(to + HEAD_DIM / 32 * 2, HEAD_DIM / 32 * 32, g * 2);
}

// The first of the two dims in word `i` of load_outputs.
__device__ __forceinline__ int output_dim(int i, int g) {
    if (i < HEAD_DIM / 64 * 4) return i / 4 * 64 + g * 8 + i % 4 * 2;
    if (i < HEAD_DIM / 32 * 2) return HEAD_DIM / 64 * 64 + g * 4 + i % 2 * 2;
    return HEAD_DIM / 32 * 32 + g * 2;
}

// A load from shared memory that the compiler does not keep in registers.
__device__ __forceinline__ uint2 load_again(const uint2* from) {
    uint2 x;
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"((uint32)__cvta_generic_to_shared(from)) : "memory");
    return x;
}

// Queries stay in shared memory, each lane's words together: in registers they would cost one in eight resident warps.
constexpr int QUERY_WORDS = COLUMNS * WIDTH * 32;

// The queries of `heads` heads of a row, from its element `first` on; zeros for the heads that a tile lacks. By all THREADS threads: from
// memory, and then into shared memory.
template <int THREADS> struct Queries {
    static constexpr int EACH = (QUERY_WORDS + THREADS - 1) / THREADS;
    uint2 words[EACH];

    template <typename Tensors> __device__ __forceinline__ void load(const Tensors& tensors, int row, int first, int heads) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            // Word pair `step` of a lane: its operand of the instruction for 16 dims.
            int index = threadIdx.x + i * THREADS, head = index / (WIDTH * 32) * 8 + g, step = index / 32 % WIDTH;
            uint32 query[2] = {0, 0};
            if (index < QUERY_WORDS && head < heads) tensors.load(query, row, first + head * HEAD_DIM + summed_dim(step, t));
            words[i] = make_uint2(query[0], query[1]);
        }
    }
    __device__ __forceinline__ void store(uint2* queries) const {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int index = threadIdx.x + i * THREADS;
            if (index < QUERY_WORDS) queries[index] = words[i];
        }
    }
};

// A warp's sums over its keys of a chunk: Σ exp(score − max_score) · value of each head, with heads 2t and 2t + 1 of each column.
struct ChunkSums {
    float output[COLUMNS][WIDTH][4];
    float max_score[COLUMNS][2], sum_exp[COLUMNS][2];  // sum_exp of this lane's keys alone

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
#pragma unroll
            for (int i = 0; i < WIDTH; i++) output[column][i][0] = output[column][i][1] = output[column][i][2] = output[column][i][3] = 0.0f;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                max_score[column][i] = NEG_INFINITY;
                sum_exp[column][i] = 0.0f;
            }
        }
    }

    // Scores of keys g and g + 8 of each part, not yet scaled.
    __device__ __forceinline__ static void multiply_keys(float (&score)[COLUMNS][PARTS][4], KeyStep& keys, const uint2* queries, int lane) {
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
#pragma unroll
            for (int column = 0; column < COLUMNS; column++) {
                uint2 b = load_again(queries + (column * WIDTH + i) * 32 + lane);
#pragma unroll
                for (int part = 0; part < PARTS; part++) {
                    uint32(&a)[2][HEAD_DIM / 8] = keys.words[part];
                    mma(score[column][part], a[0][2 * i], a[1][2 * i], a[0][2 * i + 1], a[1][2 * i + 1], b.x, b.y);
                }
            }
        }
    }

    // Softmax weights of the keys from `key` on, of which those from `start` to `position` are visible.
    __device__ __forceinline__ void weigh(uint32 (&weights)[COLUMNS][PARTS][2], float (&score)[COLUMNS][PARTS][4], int key, int start,
                                          int position, int g) {
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
            float rescale[2];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float new_max = max_score[column][i];
#pragma unroll
                for (int part = 0; part < PARTS; part++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        int at = key + part * 16 + half * 8 + g;
                        float& x = score[column][part][half * 2 + i];
                        x = at >= start && at <= position ? score_of(x) : NEG_INFINITY;
                        new_max = fmaxf(new_max, x);
                    }
                }
#pragma unroll
                for (int offset = 4; offset < 32; offset *= 2) {
                    new_max = fmaxf(new_max, __shfl_xor_sync(0xffffffffu, new_max, offset));
                }
                rescale[i] = exp_score(max_score[column][i] - new_max);
                max_score[column][i] = new_max;
                sum_exp[column][i] *= rescale[i];
            }
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float* x = &score[column][part][half * 2];
                    uint32 pair = pack2(exp_score(x[0] - max_score[column][0]), exp_score(x[1] - max_score[column][1]));
                    float2 rounded = widen2<element>(pair);
                    sum_exp[column][0] += rounded.x;
                    sum_exp[column][1] += rounded.y;
                    weights[column][part][half] = transposed(pair);
                }
            }
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                output[column][i][0] *= rescale[0];
                output[column][i][1] *= rescale[1];
                output[column][i][2] *= rescale[0];
                output[column][i][3] *= rescale[1];
            }
        }
    }

    __device__ __forceinline__ void add_values(ValueStep& values, uint32 (&weights)[COLUMNS][PARTS][2]) {
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            uint32(&v)[4][WIDTH] = values.words[part];
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                uint32 a0 = __byte_perm(v[0][i], v[1][i], 0x5410), a1 = __byte_perm(v[0][i], v[1][i], 0x7632);
                uint32 a2 = __byte_perm(v[2][i], v[3][i], 0x5410), a3 = __byte_perm(v[2][i], v[3][i], 0x7632);
#pragma unroll
                for (int column = 0; column < COLUMNS; column++) {
                    mma(output[column][i], a0, a1, a2, a3, weights[column][part][0], weights[column][part][1]);
                }
            }
        }
    }

    // Leaves them where the warps' sums are merged.
    __device__ __forceinline__ void give_to(ChunkMerge<DECODE_WARPS, TILE_HEADS>& merge, int warp, int g, int t) {
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int head = column * 8 + t * 2 + i;
#pragma unroll
                for (int offset = 4; offset < 32; offset *= 2) {
                    sum_exp[column][i] += __shfl_xor_sync(0xffffffffu, sum_exp[column][i], offset);
                }
                if (head < TILE_HEADS) {
#pragma unroll
                    for (int word = 0; word < WIDTH; word++) {
                        int at = warp * TILE_HEADS * HEAD_DIM + merge.swizzled(head, output_dim(word, g));
                        *(float2*)&merge.outputs[at] = make_float2(output[column][word][i], output[column][word][2 + i]);
                    }
                    if (g == 0) {
                        merge.max_score[warp * TILE_HEADS + head] = max_score[column][i];
                        merge.sum_exps[warp * TILE_HEADS + head] = sum_exp[column][i];
                    }
                }
            }
        }
    }
};

// Attention of one row at `position`, cache blocks `table`, for one `tile` of query heads and one chunk, the `split`-th of `splits` at most;
// `index` numbers (row, tile) for the workspace. Called by all threads. `tensors` has the layer's `keys` and `values` and the `workspace`, and
// accessors: load(to, row, at) reads four neighbouring elements of a qkv row, store(row, at, low, high) writes two elements of the output.
// The row's new key and value are not in the cache yet: they are read from qkv and written there.
template <typename Tensors>
__device__ INLINE_ATTEND void attend(const Tensors tensors, int row, int position, const int* table, int tile, int index, int split,
                                     int splits, uint4* shared) {
    ChunkMerge<DECODE_WARPS, TILE_HEADS> merge((float*)shared);
    uint2* queries = (uint2*)((float*)shared + merge.SHARED);

    int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * TILE_HEADS;
    int heads = min(TILE_HEADS, GROUP - first_head);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

    if (position < 0) return;  // a padding row
    int start = first_position(position);
    int chunk = start / CHUNK + split, last_chunk = position / CHUNK;
    if (chunk > last_chunk) return;
    int chunks = last_chunk - start / CHUNK + 1;

    constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;
    const element* head_keys = tensors.keys + kv_head * BLOCK_TOKENS * HEAD_DIM;
    const element* head_values = tensors.values + kv_head * BLOCK_TOKENS * HEAD_DIM;
    KeyStep key_step;
    ValueStep value_step;
    // A step lies in one block of the cache and is skipped unless it holds a visible position, so no load leaves that block.
    auto visible = [&](int key) { return key <= position && key + STEP > start; };
    auto nearest = [&](int key) { return min(max(key, start), position) % BLOCK_TOKENS; };
    static_assert(STEPS == 1, "a warp's first step is its only one of a chunk");
    const int key = chunk * CHUNK + warp * STEP;
    if (visible(key)) {
        int block = table[key / BLOCK_TOKENS];
        const element* from = head_keys + (long long)block * BLOCK;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                load_summed(key_step.words[part][half], FromCache{from + nearest(key + part * 16 + half * 8 + g) * HEAD_DIM}, t);
            }
        }
        from = head_values + (long long)block * BLOCK;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int at = key + part * 16 + i / 2 * 8 + t * 2 + i % 2;
                load_outputs(value_step.words[part][i], FromCache{from + nearest(at) * HEAD_DIM}, g);
            }
        }
    }

    Queries<DECODE_WARPS * 32> of_row;
    of_row.load(tensors, row, (kv_head * GROUP + first_head) * HEAD_DIM, heads);
    of_row.store(queries);
    // The row's new key and value, [2, HEAD_DIM].
    element* new_kv = (element*)(queries + QUERY_WORDS);
    constexpr int FOURS = HEAD_DIM / 4;
    const bool has_new_kv = chunk == last_chunk;
    // Loaded by the last warps; the first ones load queries.
    for (int i = DECODE_WARPS * 32 - 1 - threadIdx.x; has_new_kv && i < 2 * FOURS; i += DECODE_WARPS * 32) {
        uint32 four[2];
        tensors.load(four, row, (HEADS + i / FOURS * KV_HEADS + kv_head) * HEAD_DIM + i % FOURS * 4);
        ((uint2*)new_kv)[i] = make_uint2(four[0], four[1]);
    }
    __syncthreads();
    if (has_new_kv && key <= position && position < key + STEP) {
        auto is_new = [&](int at) { return max(at, start) >= position; };
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if (is_new(key + part * 16 + half * 8 + g)) load_summed(key_step.words[part][half], FromShared{new_kv}, t);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (is_new(key + part * 16 + i / 2 * 8 + t * 2 + i % 2)) {
                    load_outputs(value_step.words[part][i], FromShared{new_kv + HEAD_DIM}, g);
                }
            }
        }
    }
    // Several blocks (tiles of heads) may write the same key and value: all write the same bits.
    const long long line = (long long)(has_new_kv ? table[position / BLOCK_TOKENS] : 0) * BLOCK
                         + (kv_head * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM;
    for (int i = threadIdx.x; has_new_kv && i < 2 * FOURS; i += DECODE_WARPS * 32) {
        *(uint2*)((i < FOURS ? tensors.keys : tensors.values) + line + i % FOURS * 4) = ((const uint2*)new_kv)[i];
    }
    ChunkSums sums;
    sums.clear();
    if (visible(key)) {
        float score[COLUMNS][PARTS][4] = {};
        uint32 weights[COLUMNS][PARTS][2];
        sums.multiply_keys(score, key_step, queries, lane);
        sums.weigh(weights, score, key, start, position, g);
        sums.add_values(value_step, weights);
    }
    sums.give_to(merge, warp, g, t);
    if (splits == 1 || chunks == 1) {
        merge.add_chunk();
    } else {
        float* partials = (float*)(tensors.workspace + COUNTERS) + (long long)index * splits * merge.STRIDE;
        if (!merge.publish_chunk(partials, tensors.workspace + index, chunk - start / CHUNK, chunks)) return;
    }
    const int first_dim = (kv_head * GROUP + first_head) * HEAD_DIM;
    merge.store_heads(heads, [&](int at, float low, float high) { tensors.store(row, first_dim + at, low, high); });
}
