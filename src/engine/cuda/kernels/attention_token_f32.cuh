// Attention of generated tokens in binary32, as decode.cu takes it: many warps on few rows. attention.cuh says how tensors lie.
//
// A block takes one row and up to TOKEN_HEADS query heads of one KV head. LANES lanes share a key, four dims each, so that a warp
// reads KEYS keys at a time, straight into registers; LOADS of these are a step. Positions that the row must not see are replaced
// by the nearest that it may (no other memory is touched), weight 0.

constexpr int TOKEN_HEADS = 2;
constexpr int HEAD_TILES = (GROUP + TOKEN_HEADS - 1) / TOKEN_HEADS;
constexpr int HEADS_NOW = (GROUP + HEAD_TILES - 1) / HEAD_TILES;
constexpr int PIECES = HEAD_DIM / 4;  // 16-byte pieces of a row
constexpr int LANES = PIECES <= 8 ? 8 : PIECES <= 16 ? 16 : 32;
constexpr int KEYS = 32 / LANES;
constexpr int OWN_KEYS = CHUNK / TOKEN_WARPS;
constexpr int LOADS = OWN_KEYS / KEYS < 8 ? OWN_KEYS / KEYS : 8;
constexpr int STEP = LOADS * KEYS;
constexpr int STEPS = OWN_KEYS / STEP;
static_assert(STEPS >= 1 && STEP <= BLOCK_TOKENS && BLOCK_TOKENS % STEP == 0, "a step lies in one block of the cache");

// Chunk `split` of one row, at `position` with its blocks in `table`, and tile of heads; `index` numbers the two
// among all, for the workspace. All threads. Rows: `keys` and `values` of the layer, `workspace`; `load(to, row, at)` for four
// neighbouring elements of a qkv row, `store(row, at, low, high)` for two of the output. Where it is APART, the row's own key and
// value are not in the cache yet, and go there from its qkv; every chunk must then have a block, which does no other.
template <typename Rows>
__device__ INLINE_ATTEND void attend(const Rows rows, int row, int position, const int* table, int tile, int index, int split,
                                     int splits, uint4* shared) {
    Gathering<TOKEN_WARPS, HEADS_NOW> gathering((float*)shared);
    float* queries = (float*)shared + gathering.SHARED;
    const int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * HEADS_NOW;
    const int heads = min(HEADS_NOW, GROUP - first_head);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, place = lane / LANES, piece = lane % LANES;
    if (position < 0) return;  // a row that only fills the grid
    const int start = first_position(position);
    int chunk = start / CHUNK + split;
    const int last_chunk = position / CHUNK, chunks = last_chunk - start / CHUNK + 1;
    if (chunk > last_chunk) return;

    constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;
    const bool holds = PIECES == LANES || piece < PIECES;
    const float* head_keys = rows.keys + kv_head * BLOCK_TOKENS * HEAD_DIM + piece * 4;
    const float* head_values = rows.values + kv_head * BLOCK_TOKENS * HEAD_DIM + piece * 4;
    // The row's own key and value, side by side.
    float* const own = queries + HEADS_NOW * HEAD_DIM;
    const bool has_own = chunk == last_chunk;
    static_assert(Rows::APART, "reads the row's own key and value from qkv");
    for (int i = threadIdx.x; i < (HEADS_NOW + 2) * PIECES; i += TOKEN_WARPS * 32) {
        const int line = i / PIECES, at = i % PIECES * 4;
        const int part = line < HEADS_NOW ? kv_head * GROUP + first_head + line
                                          : HEADS + (line - HEADS_NOW) * KV_HEADS + kv_head;
        float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (line >= HEADS_NOW ? has_own : line < heads) rows.load(four, row, part * HEAD_DIM + at);
        *(float4*)(queries + i * 4) = four;
    }
    __syncthreads();
    // Of several blocks that need them each writes the same.
    const long long new_line = (long long)(has_own ? table[position / BLOCK_TOKENS] : 0) * BLOCK
                             + (kv_head * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM;
    for (int i = threadIdx.x; has_own && i < 2 * PIECES; i += TOKEN_WARPS * 32) {
        *(float4*)((i < PIECES ? rows.keys : rows.values) + new_line + i % PIECES * 4) = *(const float4*)(own + i * 4);
    }

    // Once round. Without the loop no register is spilled, and a step takes 2 to 6 % longer (H200).
    for (; chunk <= last_chunk; chunk += splits) {
        float4 output[HEADS_NOW] = {};  // of this lane's keys and dims alone
        float highest[HEADS_NOW], total[HEADS_NOW];
#pragma unroll
        for (int head = 0; head < HEADS_NOW; head++) {
            highest[head] = LOWEST;
            total[head] = 0.0f;
        }
#pragma unroll 1
        for (int step = 0; step < STEPS; step++) {
            const int key = chunk * CHUNK + (step * TOKEN_WARPS + warp) * STEP;
            if (key > position || key + STEP <= start) continue;
            const long long block = (long long)table[key / BLOCK_TOKENS] * BLOCK;
            float4 k[LOADS], v[LOADS];
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const int at = min(max(key + i * KEYS + place, start), position), line = at % BLOCK_TOKENS * HEAD_DIM;
                k[i] = v[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (holds && at == position) {
                    k[i] = *(const float4*)(own + piece * 4);
                    v[i] = *(const float4*)(own + HEAD_DIM + piece * 4);
                } else if (holds) {
                    load_once<4>((uint32*)&k[i], head_keys + block + line);
                    load_once<4>((uint32*)&v[i], head_values + block + line);
                }
            }
#pragma unroll
            for (int head = 0; head < HEADS_NOW; head++) {
                const float4 q = holds ? *(const float4*)(queries + head * HEAD_DIM + piece * 4) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                float score[LOADS], top = highest[head];
#pragma unroll
                for (int i = 0; i < LOADS; i++) {
                    float dot = __fmul_rn(q.x, k[i].x);
                    dot = __fmaf_rn(q.y, k[i].y, dot);
                    dot = __fmaf_rn(q.z, k[i].z, dot);
                    dot = __fmaf_rn(q.w, k[i].w, dot);
#pragma unroll
                    for (int offset = 1; offset < LANES; offset *= 2) dot += __shfl_xor_sync(0xffffffffu, dot, offset);
                    const int at = key + i * KEYS + place;
                    score[i] = at >= start && at <= position ? dot * SCALE : LOWEST;
                    top = fmaxf(top, score[i]);
                }
#pragma unroll
                for (int offset = LANES; offset < 32; offset *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
                const float shrink = weight(highest[head] - top);
                highest[head] = top;
                float4& sum = output[head];
                total[head] *= shrink;
                sum = make_float4(sum.x * shrink, sum.y * shrink, sum.z * shrink, sum.w * shrink);
#pragma unroll
                for (int i = 0; i < LOADS; i++) {
                    const float w = weight(score[i] - top);
                    total[head] += w;
                    sum.x = __fmaf_rn(w, v[i].x, sum.x);
                    sum.y = __fmaf_rn(w, v[i].y, sum.y);
                    sum.z = __fmaf_rn(w, v[i].z, sum.z);
                    sum.w = __fmaf_rn(w, v[i].w, sum.w);
                }
            }
        }

#pragma unroll
        for (int head = 0; head < HEADS_NOW; head++) {
#pragma unroll
            for (int offset = LANES; offset < 32; offset *= 2) {
                total[head] += __shfl_xor_sync(0xffffffffu, total[head], offset);
                output[head].x += __shfl_xor_sync(0xffffffffu, output[head].x, offset);
                output[head].y += __shfl_xor_sync(0xffffffffu, output[head].y, offset);
                output[head].z += __shfl_xor_sync(0xffffffffu, output[head].z, offset);
                output[head].w += __shfl_xor_sync(0xffffffffu, output[head].w, offset);
            }
            if (place == 0 && holds) {
                float* to = gathering.outputs + warp * HEADS_NOW * HEAD_DIM;
                *(float2*)(to + gathering.place(head, piece * 4)) = make_float2(output[head].x, output[head].y);
                *(float2*)(to + gathering.place(head, piece * 4 + 2)) = make_float2(output[head].z, output[head].w);
            }
            if (lane == 0) {
                gathering.highest[warp * HEADS_NOW + head] = highest[head];
                gathering.totals[warp * HEADS_NOW + head] = total[head];
            }
        }
        if (splits == 1 || chunks == 1) {
            gathering.take();
        } else {
            float* partials = (float*)(rows.workspace + COUNTERS) + (long long)index * splits * gathering.STRIDE;
            if (!gathering.leave(partials, rows.workspace + index, chunk - start / CHUNK, chunks)) return;
        }
    }
    const int first_dim = (kv_head * GROUP + first_head) * HEAD_DIM;
    gathering.give(heads, [&](int at, float low, float high) { rows.store(row, first_dim + at, low, high); });
}
