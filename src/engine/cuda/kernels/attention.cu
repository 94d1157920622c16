// Attention in binary16 and bfloat16 on tensor cores, sums in binary32: the prefill and decode kernels of the large-batch path.
// attention.cuh gives the formula and all tensors. HEAD_DIM is a multiple of 16.
//
//   attention_prefill   many positions of a sequence at a time: tiles of rows (below)
//   attention_decode    one position a sequence: attention_decode.cuh
//
// Softmax weights are rounded to the element type before they are multiplied with the values, and the rounded weights are summed, so that
// they add up to one.
//
// Order: keys in ascending order of absolute positions; a row's bits depend on its position and its sequence alone.
// Host: qkv, keys, values, out 16-byte aligned; dynamic shared memory as in ops/attention.rs.

// ---- Prefill -------------------------------------------------------------------------------------------------------------------
//
// tiles i32 [tiles, 4]: {first row, rows, slot, first position}; rows · GROUP ≤ 64. A block takes one tile and one KV head. Its 64 query
// rows are the tile's positions times the query heads of the KV head (grouped-query attention), so that all heads of a group share every
// key that is loaded and few scores are computed only to be masked. Four warps own 16 query rows each. Keys come in tiles of 64 at
// absolute positions, ascending, with online softmax (FlashAttention-2: Dao, 2023). A key tile that is masked for a row leaves the row's
// state unchanged, bit for bit. Double buffering: the next tile's keys are copied during softmax and P · V, its values during the next
// scores. Grid: tiles · KV_HEADS, last tile (latest positions, longest work) first.

constexpr int PREFILL_ROWS = 64;
constexpr int PREFILL_THREADS = 128;
// Wider heads leave no registers for a warp's queries: they are read again for every key tile.
constexpr bool KEEPS_QUERIES = HEAD_DIM <= 128;
constexpr int PADDED = HEAD_DIM + 8;  // row stride: 16 bytes more, so that eight rows of ldmatrix use different banks

// Copies a tile of BLOCK_TOKENS rows; zeros from row valid_rows on, where memory may hold NaN.
__device__ __forceinline__ void copy_tile(element* to, const element* from, int valid_rows) {
    constexpr int VECTORS = HEAD_DIM / 8;
#pragma unroll
    for (int i = 0; i < BLOCK_TOKENS * VECTORS / PREFILL_THREADS; i++) {
        int vector = threadIdx.x + i * PREFILL_THREADS;
        int row = vector / VECTORS, column = vector % VECTORS * 8;
        bool valid = row < valid_rows;
        copy_async(to + row * PADDED + column, from + (valid ? row * HEAD_DIM + column : 0), valid);
    }
}

extern "C" __global__ void __launch_bounds__(PREFILL_THREADS, HEAD_DIM <= 64 ? 3 : 2)
    attention_prefill(const element* qkv, const element* keys, const element* values, const int* tables, int table_stride,
                     const int4* tiles, element* out SINKS_PARAMETER) {
    extern __shared__ uint4 shared[];
    element* query_tile = (element*)shared;
    element* key_tile = query_tile + PREFILL_ROWS * PADDED;
    element* value_tile = key_tile + BLOCK_TOKENS * PADDED;

    launch_dependents();
    wait_for_previous_kernel();
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

    constexpr int VECTORS = HEAD_DIM / 8;
#pragma unroll
    for (int i = 0; i < PREFILL_ROWS * VECTORS / PREFILL_THREADS; i++) {
        int vector = threadIdx.x + i * PREFILL_THREADS;
        int row = vector / VECTORS, column = vector % VECTORS * 8;
        bool valid = row < rows * GROUP;
        long long from = (long long)(first_row + row / GROUP) * QKV + (kv_head * GROUP + row % GROUP) * HEAD_DIM + column;
        copy_async(query_tile + row * PADDED + column, qkv + (valid ? from : 0), valid);
    }
    long long block = table[key_block];
    copy_tile(key_tile, head_keys + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    commit_copies();
    copy_tile(value_tile, head_values + block * BLOCK, last + 1 - key_block * BLOCK_TOKENS);
    commit_copies();

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int low = warp * 16 + g, high = low + 8;
    int low_position = first + low / GROUP, high_position = first + high / GROUP;
    int warp_first = first + warp * 16 / GROUP, warp_last = min(last, first + (warp * 16 + 15) / GROUP);
    bool warp_active = warp * 16 < rows * GROUP;

    float output[HEAD_DIM / 8][4] = {};
    float max_score[2] = {NEG_INFINITY, NEG_INFINITY}, sum_exp[2] = {0.0f, 0.0f};
    uint32 query[KEEPS_QUERIES ? HEAD_DIM / 16 : 1][4];
    bool queries_loaded = false;
    auto load_query = [&](uint32 (&to)[4], int step) {
        load_matrices(to, query_tile + (warp * 16 + lane % 16) * PADDED + step * 16 + lane / 16 * 8);
    };

    for (; key_block <= last_block; key_block++) {
        bool has_next = key_block < last_block;
        if (has_next) block = table[key_block + 1];
        int next_rows = last + 1 - (key_block + 1) * BLOCK_TOKENS;
        int key = key_block * BLOCK_TOKENS;
        bool active = warp_active && key <= warp_last && key + BLOCK_TOKENS > first_position(warp_first);

        wait_for_copies<1>();  // keys have arrived; values may be in flight
        __syncthreads();
        float score[8][4] = {};
        if (KEEPS_QUERIES && !queries_loaded) {
#pragma unroll
            for (int step = 0; step < HEAD_DIM / 16; step++) load_query(query[KEEPS_QUERIES ? step : 0], step);
            queries_loaded = true;
        }
        if (active) {
#pragma unroll
            for (int step = 0; step < HEAD_DIM / 16; step++) {
                if (!KEEPS_QUERIES) load_query(query[0], step);
#pragma unroll
                for (int pair = 0; pair < 4; pair++) {
                    // The four 8 × 8 matrices: keys 0–7 at dims 0–7 and 8–15, keys 8–15 at dims 0–7 and 8–15.
                    uint32 b[4];
                    load_matrices(b, key_tile + (pair * 16 + lane / 16 * 8 + lane % 8) * PADDED + step * 16 + lane / 8 % 2 * 8);
                    uint32(&a)[4] = query[KEEPS_QUERIES ? step : 0];
                    mma(score[2 * pair], a[0], a[1], a[2], a[3], b[0], b[1]);
                    mma(score[2 * pair + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
                }
            }
        }
        __syncthreads();
        if (has_next) copy_tile(key_tile, head_keys + block * BLOCK, next_rows);
        commit_copies();

        uint32 weights[8][2];
        if (active) {
            bool all_unmasked = key + BLOCK_TOKENS - 1 <= warp_first && key >= first_position(warp_last);
#pragma unroll
            for (int n = 0; n < 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int position = i < 2 ? low_position : high_position, at = key + n * 8 + t * 2 + i % 2;
                    bool unmasked = all_unmasked || (at <= position && at >= first_position(position));
                    score[n][i] = unmasked ? score_of(score[n][i]) : NEG_INFINITY;
                }
            }
            float rescale[2];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float new_max = max_score[half];
#pragma unroll
                for (int n = 0; n < 8; n++) new_max = fmaxf(new_max, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
                new_max = fmaxf(new_max, __shfl_xor_sync(0xffffffffu, new_max, 1));
                new_max = fmaxf(new_max, __shfl_xor_sync(0xffffffffu, new_max, 2));
                rescale[half] = exp_score(max_score[half] - finite_max(new_max));
                max_score[half] = new_max;
                float sum = 0.0f;
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    weights[n][half] = pack2(exp_score(score[n][2 * half] - finite_max(new_max)),
                                             exp_score(score[n][2 * half + 1] - finite_max(new_max)));
                    float2 rounded = widen2<element>(weights[n][half]);
                    sum += rounded.x + rounded.y;
                }
                sum_exp[half] = sum_exp[half] * rescale[half] + sum;
            }
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                output[n][0] *= rescale[0];
                output[n][1] *= rescale[0];
                output[n][2] *= rescale[1];
                output[n][3] *= rescale[1];
            }
        }

        wait_for_copies<1>();  // values have arrived; the next keys may be in flight
        __syncthreads();
        if (active) {
#pragma unroll
            for (int step = 0; step < 4; step++) {
#pragma unroll
                for (int pair = 0; pair < HEAD_DIM / 16; pair++) {
                    // The four 8 × 8 matrices: dims 0–7 at keys 0–7 and 8–15, dims 8–15 at keys 0–7 and 8–15.
                    uint32 b[4];
                    load_matrices_transposed(b, value_tile + (step * 16 + lane % 16) * PADDED + pair * 16 + lane / 16 * 8);
                    uint32(&first_keys)[2] = weights[2 * step];
                    uint32(&last_keys)[2] = weights[2 * step + 1];
                    mma(output[2 * pair], first_keys[0], first_keys[1], last_keys[0], last_keys[1], b[0], b[1]);
                    mma(output[2 * pair + 1], first_keys[0], first_keys[1], last_keys[0], last_keys[1], b[2], b[3]);
                }
            }
        }
        __syncthreads();
        if (has_next) copy_tile(value_tile, head_values + block * BLOCK, next_rows);
        commit_copies();
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        sum_exp[half] += __shfl_xor_sync(0xffffffffu, sum_exp[half], 1);
        sum_exp[half] += __shfl_xor_sync(0xffffffffu, sum_exp[half], 2);
        int row = half ? high : low;
        if (row < rows * GROUP) {
            element* to = out + (long long)(first_row + row / GROUP) * (HEADS * HEAD_DIM)
                        + (kv_head * GROUP + row % GROUP) * HEAD_DIM + t * 2;
#ifdef SINKS
            sum_exp[half] += sink_weight(sinks[kv_head * GROUP + row % GROUP], max_score[half]);
#endif
            float inverse = 1.0f / sum_exp[half];
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                store_pair(to + n * 8, output[n][2 * half] * inverse, output[n][2 * half + 1] * inverse);
            }
        }
    }
}

// ---- Decode --------------------------------------------------------------------------------------------------------------------
//
// qkv rows first_row .. first_row + rows. Their own keys and values are in the cache already, or with new_kv still in qkv alone, from where
// they are stored. A row with positions[r] < 0 is padding: its output is not written.
// A task is a row, a KV head (and tile of its query heads), and of the row's chunks number split, split + splits, …. Tasks are numbered by
// split, row, KV head; block b computes tasks b, b + gridDim.x, …. Grid: as many blocks as are resident, or as there are tasks.
//
// The work is bound by reading keys and values. Each warp copies its own into a ring of RING steps in shared memory, in the order in which it
// will read them, across the ends of chunks and of tasks: what is in flight does not take registers, and nothing interrupts it. Keys and
// values of earlier steps of the engine are there before the previous kernel ends.

struct QkvTensors {
    const element* qkv;
    __device__ __forceinline__ void load(uint32 (&to)[2], int row, int at) const {
        load_no_allocate<2>(to, qkv + (long long)row * QKV + at);
    }
};

// A step of keys or values in shared memory: rows of HEAD_DIM elements. Sixteens are permuted within rows of a multiple of 128 bytes, so that
// the lanes of `load_summed` (rows g, sixteens t) and of `load_outputs` (every second row, sixteens g) use different banks.
struct StepInShared {
    static constexpr int SIXTEENS = HEAD_DIM / 8, BYTES = STEP * HEAD_DIM * 2;
    static constexpr bool SWIZZLED = SIXTEENS % 8 == 0;
    uint32 base;

    __device__ __forceinline__ uint32 at(int row, int sixteen) const {
        const int place = SWIZZLED ? sixteen ^ (row / 2 % 4 * 2) ^ (row % 2 * 4) : sixteen;
        return base + row * (HEAD_DIM * 2) + place * 16;
    }
};

// A row of it, for load_summed and load_outputs.
struct RowInShared {
    StepInShared step;
    int row;
    template <int COUNT> __device__ __forceinline__ void load(uint32* to, int dim, int of_lane) const {
        const int word = dim / 2 + of_lane / 2;
        const uint32 from = step.at(row, word / 4) + word % 4 * 4;
        if (COUNT == 4) {
            asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(from) : "memory");
        } else if (COUNT == 2) {
            asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(from) : "memory");
        } else {
            asm volatile("ld.shared.u32 %0, [%1];" : "=r"(to[0]) : "r"(from) : "memory");
        }
    }
};

// The steps that a warp reads, in order: those that hold a visible position.
struct Steps {
    const int *tables, *positions, *slots;
    int table_stride, first_row, pairs, splits, tasks;  // pairs: (row, tile), of which each split has its own task
    int task, key, row, position, start, kv_head, block;
    const int* table;
    int next_position, next_slot;  // of the next task, asked for in time
    bool more;

    __device__ __forceinline__ void ask() {
        const int next = task + gridDim.x;
        const int row = first_row + next % pairs / (KV_HEADS * HEAD_TILES);
        if (next < tasks) next_position = positions[row], next_slot = slots[row];
    }
    __device__ __forceinline__ void begin(int warp) {
        task = (int)blockIdx.x - (int)gridDim.x;
        key = 1, position = 0;  // behind its end
        ask();
        seek(warp);
    }
    // From `key` on to the first step with a visible position; a step lies in one block of the cache.
    __device__ __forceinline__ void seek(int warp) {
        for (;;) {
            if (key > position) {
                task += gridDim.x;
                more = task < tasks;
                if (!more) return;
                position = next_position;
                table = tables + (long long)next_slot * table_stride;
                start = first_position(position);
                row = first_row + task % pairs / (KV_HEADS * HEAD_TILES);
                kv_head = task % pairs % (KV_HEADS * HEAD_TILES) / HEAD_TILES;
                key = (start / CHUNK + task / pairs) * CHUNK + warp * STEP;
                ask();
            } else if (key + STEP > start) {
                block = table[key / BLOCK_TOKENS];
                return;
            } else {
                skip(warp);
            }
        }
    }
    __device__ __forceinline__ void skip(int warp) {
        const int next = key + DECODE_WARPS * STEP;
        key = next / CHUNK == key / CHUNK ? next : (key / CHUNK + splits) * CHUNK + warp * STEP;
    }
};

extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32, DECODE_BLOCKS_PER_SM)
    attention_decode(const element* qkv, element* keys, element* values, const int* tables, int table_stride,
                    const int* positions, const int* slots, int first_row, uint32* workspace, element* out, int rows, int splits,
                    int new_kv SINKS_PARAMETER) {
    // Ring, then what ChunkMerge takes, then queries.
    extern __shared__ __align__(128) uint4 shared[];
    constexpr int SLOT = 2 * StepInShared::BYTES, RING_BYTES = DECODE_WARPS * RING * SLOT;
    constexpr int TILES = KV_HEADS * HEAD_TILES, BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32 ring = (uint32)__cvta_generic_to_shared(shared) + warp * RING * SLOT;
    const int pairs = rows * TILES, tasks = pairs * splits;
    launch_dependents();

    Steps steps;
    steps.tables = tables, steps.positions = positions, steps.slots = slots, steps.table_stride = table_stride;
    steps.first_row = first_row, steps.pairs = pairs, steps.splits = splits, steps.tasks = tasks;
    steps.begin(warp);
    bool waited = false;
    auto copy = [&](int slot) {
        if (steps.more) {
            if (!waited && steps.key + STEP > steps.position) {
                wait_for_previous_kernel();
                waited = true;
            }
            const long long from = (long long)steps.block * BLOCK + steps.kv_head * (BLOCK_TOKENS * HEAD_DIM);
            const element* const fresh = qkv + (long long)steps.row * QKV + (HEADS + steps.kv_head) * HEAD_DIM;
            const StepInShared to_keys = {ring + slot * SLOT}, to_values = {ring + slot * SLOT + StepInShared::BYTES};
            constexpr int SIXTEENS = StepInShared::SIXTEENS;
#pragma unroll
            for (int i = 0; i < STEP * SIXTEENS / 32; i++) {
                const int index = i * 32 + lane, at = index / SIXTEENS, sixteen = index % SIXTEENS;
                // The nearest visible position in place of one that is not, which may hold NaN.
                const int nearest = min(max(steps.key + at, steps.start), steps.position);
                const long long line = from + nearest % BLOCK_TOKENS * HEAD_DIM;
                const bool is_new = new_kv && nearest == steps.position;
                copy_async(to_keys.at(at, sixteen), (is_new ? fresh : keys + line) + sixteen * 8, true);
                copy_async(to_values.at(at, sixteen), (is_new ? fresh + KV_HEADS * HEAD_DIM : values + line) + sixteen * 8, true);
            }
            steps.skip(warp);
            steps.seek(warp);
        }
        commit_copies();
    };
#pragma unroll 1
    for (int slot = 0; slot < RING; slot++) copy(slot);
    if (!waited) wait_for_previous_kernel();
    waited = true;

    Queries<DECODE_WARPS * 32> next_queries;
    auto load_queries = [&](int task) {
        if (task >= tasks) return;
        const int tile = task % pairs % TILES, first_head = tile % HEAD_TILES * TILE_HEADS;
        next_queries.load(QkvTensors{qkv}, first_row + task % pairs / TILES, (tile / HEAD_TILES * GROUP + first_head) * HEAD_DIM,
                          min(TILE_HEADS, GROUP - first_head));
    };
    load_queries(blockIdx.x);

    int slot = 0;
    for (int task = blockIdx.x; task < tasks; task += gridDim.x) {
        const int pair = task % pairs, row = first_row + pair / TILES, tile = pair % TILES;
        const int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * TILE_HEADS;
        const int heads = min(TILE_HEADS, GROUP - first_head), first_dim = (kv_head * GROUP + first_head) * HEAD_DIM;
        const int position = positions[row], start = first_position(position);
        const int first_chunk = start / CHUNK, last_chunk = position / CHUNK, chunks = last_chunk - first_chunk + 1;
        int chunk = first_chunk + task / pairs;

        ChunkMerge<DECODE_WARPS, TILE_HEADS> merge((float*)((char*)shared + RING_BYTES));
        uint2* const queries = (uint2*)(merge.outputs + merge.SHARED);
        next_queries.store(queries);
        load_queries(task + gridDim.x);
        if (position < 0 || chunk > last_chunk) continue;  // a padding row, or a split without a chunk
        __syncthreads();
        if (new_kv && (last_chunk - chunk) % splits == 0 && threadIdx.x < 2 * StepInShared::SIXTEENS) {
            // Several tiles of query heads store the same bits.
            const int of_value = threadIdx.x / StepInShared::SIXTEENS, at = threadIdx.x % StepInShared::SIXTEENS * 8;
            const long long block = tables[(long long)slots[row] * table_stride + position / BLOCK_TOKENS];
            const long long line = block * BLOCK + (kv_head * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM + at;
            const element* const fresh = qkv + (long long)row * QKV + (HEADS + of_value * KV_HEADS + kv_head) * HEAD_DIM + at;
            *(uint4*)((of_value ? values : keys) + line) = *(const uint4*)fresh;
        }
        bool merged = true;
        for (; chunk <= last_chunk; chunk += splits) {
            ChunkSums sums;
            sums.clear();
#pragma unroll 1
            for (int step = 0; step < STEPS; step++) {
                const int key = chunk * CHUNK + (step * DECODE_WARPS + warp) * STEP;
                if (key > position || key + STEP <= start) continue;
                wait_for_copies<RING - 1>();
                __syncwarp();
                const StepInShared from_keys = {ring + slot * SLOT}, from_values = {ring + slot * SLOT + StepInShared::BYTES};
                KeyStep key_step;
                float score[COLUMNS][PARTS][4] = {};
#pragma unroll
                for (int part = 0; part < PARTS; part++) {
                    load_summed(key_step.words[part][0], RowInShared{from_keys, part * 16 + g}, t);
                    load_summed(key_step.words[part][1], RowInShared{from_keys, part * 16 + 8 + g}, t);
                }
                sums.multiply_keys(score, key_step, queries, lane);
                ValueStep value_step;
#pragma unroll
                for (int part = 0; part < PARTS; part++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        load_outputs(value_step.words[part][i], RowInShared{from_values, part * 16 + i / 2 * 8 + t * 2 + i % 2}, g);
                    }
                }
                __syncwarp();  // every lane has read the slot
                copy(slot);
                slot = slot + 1 == RING ? 0 : slot + 1;
                uint32 weights[COLUMNS][PARTS][2];
                sums.weigh(weights, score, key, start, position, g);
                sums.add_values(value_step, weights);
            }
            sums.give_to(merge, warp, g, t);
            if (splits == 1 || chunks == 1) {
                merge.add_chunk();
            } else {
                float* const partials = (float*)(workspace + COUNTERS) + (long long)pair * splits * merge.STRIDE;
                merged = merge.publish_chunk(partials, workspace + pair, chunk - first_chunk, chunks);
            }
        }
        if (merged) {
#ifdef SINKS
            merge.add_sinks(sinks + kv_head * GROUP + first_head, heads);
#endif
            merge.store_heads(heads, [&](int at, float low, float high) {
                store_pair(out + (long long)row * (HEADS * HEAD_DIM) + first_dim + at, low, high);
            });
        }
    }
}
