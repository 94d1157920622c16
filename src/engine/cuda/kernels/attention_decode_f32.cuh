// Decode attention in binary32 for the fused decode kernel (many warps, few rows); part of decode.cu. attention.cuh gives the formula and
// all tensors.
//
// A block takes one row and up to MAX_TILE_HEADS query heads of one KV head. LANES lanes share a key, four dims each, so that a warp loads
// KEYS keys at a time straight into registers; LOADS of these make a step. Masked positions are replaced by the nearest visible one (no
// other memory is touched), with weight 0.
//
// Order: dims within a lane, then a butterfly over its LANES lanes; keys in ascending order within a lane, then lanes, warps, chunks.

constexpr int MAX_TILE_HEADS = 2;
constexpr int HEAD_TILES = (GROUP + MAX_TILE_HEADS - 1) / MAX_TILE_HEADS;
constexpr int TILE_HEADS = (GROUP + HEAD_TILES - 1) / HEAD_TILES;
constexpr int VECTORS = HEAD_DIM / 4;  // 16-byte vectors of a row
constexpr int LANES = VECTORS <= 8 ? 8 : VECTORS <= 16 ? 16 : 32;
constexpr int KEYS = 32 / LANES;
constexpr int WARP_KEYS = CHUNK / DECODE_WARPS;
constexpr int LOADS = WARP_KEYS / KEYS < 8 ? WARP_KEYS / KEYS : 8;
constexpr int STEP = LOADS * KEYS;
constexpr int STEPS = WARP_KEYS / STEP;
static_assert(STEPS >= 1 && STEP <= BLOCK_TOKENS && BLOCK_TOKENS % STEP == 0, "a step lies in one block of the cache");

// Attention of one row at `position`, cache blocks `table`, for one `tile` of query heads and the one chunk number `split`; parameters as
// in attention_decode.cuh.
template <typename Tensors>
__device__ INLINE_ATTEND void attend(const Tensors tensors, int row, int position, const int* table, int tile, int index, int split,
                                     int splits, uint4* shared) {
    ChunkMerge<DECODE_WARPS, TILE_HEADS> merge((float*)shared);
    float* queries = (float*)shared + merge.SHARED;
    const int kv_head = tile / HEAD_TILES, first_head = tile % HEAD_TILES * TILE_HEADS;
    const int heads = min(TILE_HEADS, GROUP - first_head);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, key_in_warp = lane / LANES, vector = lane % LANES;
    if (position < 0) return;  // a padding row
    const int start = first_position(position);
    int chunk = start / CHUNK + split;
    const int last_chunk = position / CHUNK, chunks = last_chunk - start / CHUNK + 1;
    if (chunk > last_chunk) return;

    constexpr int BLOCK = KV_HEADS * BLOCK_TOKENS * HEAD_DIM;
    const bool holds = VECTORS == LANES || vector < VECTORS;
    const float* head_keys = tensors.keys + kv_head * BLOCK_TOKENS * HEAD_DIM + vector * 4;
    const float* head_values = tensors.values + kv_head * BLOCK_TOKENS * HEAD_DIM + vector * 4;
    // The row's new key and value, [2, HEAD_DIM].
    float* const new_kv = queries + TILE_HEADS * HEAD_DIM;
    const bool has_new_kv = chunk == last_chunk;
    for (int i = threadIdx.x; i < (TILE_HEADS + 2) * VECTORS; i += DECODE_WARPS * 32) {
        const int line = i / VECTORS, at = i % VECTORS * 4;
        const int part = line < TILE_HEADS ? kv_head * GROUP + first_head + line
                                          : HEADS + (line - TILE_HEADS) * KV_HEADS + kv_head;
        float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (line >= TILE_HEADS ? has_new_kv : line < heads) tensors.load(four, row, part * HEAD_DIM + at);
        *(float4*)(queries + i * 4) = four;
    }
    __syncthreads();
    // Several blocks (tiles of heads) may write the same key and value: all write the same bits.
    const long long new_line = (long long)(has_new_kv ? table[position / BLOCK_TOKENS] : 0) * BLOCK
                             + (kv_head * BLOCK_TOKENS + position % BLOCK_TOKENS) * HEAD_DIM;
    for (int i = threadIdx.x; has_new_kv && i < 2 * VECTORS; i += DECODE_WARPS * 32) {
        *(float4*)((i < VECTORS ? tensors.keys : tensors.values) + new_line + i % VECTORS * 4) = *(const float4*)(new_kv + i * 4);
    }

    // Runs once. Without the loop no register is spilled, yet a step takes 2 to 6 % longer (H200).
    for (; chunk <= last_chunk; chunk += splits) {
        float4 output[TILE_HEADS] = {};  // of this lane's keys and dims alone
        float max_score[TILE_HEADS], sum_exp[TILE_HEADS];
#pragma unroll
        for (int head = 0; head < TILE_HEADS; head++) {
            max_score[head] = NEG_INFINITY;
            sum_exp[head] = 0.0f;
        }
#pragma unroll 1
        for (int step = 0; step < STEPS; step++) {
            const int key = chunk * CHUNK + (step * DECODE_WARPS + warp) * STEP;
            if (key > position || key + STEP <= start) continue;
            const long long block = (long long)table[key / BLOCK_TOKENS] * BLOCK;
            float4 k[LOADS], v[LOADS];
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const int at = min(max(key + i * KEYS + key_in_warp, start), position), line = at % BLOCK_TOKENS * HEAD_DIM;
                k[i] = v[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (holds && at == position) {
                    k[i] = *(const float4*)(new_kv + vector * 4);
                    v[i] = *(const float4*)(new_kv + HEAD_DIM + vector * 4);
                } else if (holds) {
                    load_no_allocate<4>((uint32*)&k[i], head_keys + block + line);
                    load_no_allocate<4>((uint32*)&v[i], head_values + block + line);
                }
            }
#pragma unroll
            for (int head = 0; head < TILE_HEADS; head++) {
                const float4 q =
                    holds ? *(const float4*)(queries + head * HEAD_DIM + vector * 4) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                float score[LOADS], new_max = max_score[head];
#pragma unroll
                for (int i = 0; i < LOADS; i++) {
                    float dot = __fmul_rn(q.x, k[i].x);
                    dot = __fmaf_rn(q.y, k[i].y, dot);
                    dot = __fmaf_rn(q.z, k[i].z, dot);
                    dot = __fmaf_rn(q.w, k[i].w, dot);
#pragma unroll
                    for (int offset = 1; offset < LANES; offset *= 2) dot += __shfl_xor_sync(0xffffffffu, dot, offset);
                    const int at = key + i * KEYS + key_in_warp;
                    score[i] = at >= start && at <= position ? score_of(dot) : NEG_INFINITY;
                    new_max = fmaxf(new_max, score[i]);
                }
#pragma unroll
                for (int offset = LANES; offset < 32; offset *= 2) {
                    new_max = fmaxf(new_max, __shfl_xor_sync(0xffffffffu, new_max, offset));
                }
                const float rescale = exp_score(max_score[head] - new_max);
                max_score[head] = new_max;
                float4& sum = output[head];
                sum_exp[head] *= rescale;
                sum = make_float4(sum.x * rescale, sum.y * rescale, sum.z * rescale, sum.w * rescale);
#pragma unroll
                for (int i = 0; i < LOADS; i++) {
                    const float w = exp_score(score[i] - new_max);
                    sum_exp[head] += w;
                    sum.x = __fmaf_rn(w, v[i].x, sum.x);
                    sum.y = __fmaf_rn(w, v[i].y, sum.y);
                    sum.z = __fmaf_rn(w, v[i].z, sum.z);
                    sum.w = __fmaf_rn(w, v[i].w, sum.w);
                }
            }
        }

#pragma unroll
        for (int head = 0; head < TILE_HEADS; head++) {
#pragma unroll
            for (int offset = LANES; offset < 32; offset *= 2) {
                sum_exp[head] += __shfl_xor_sync(0xffffffffu, sum_exp[head], offset);
                output[head].x += __shfl_xor_sync(0xffffffffu, output[head].x, offset);
                output[head].y += __shfl_xor_sync(0xffffffffu, output[head].y, offset);
                output[head].z += __shfl_xor_sync(0xffffffffu, output[head].z, offset);
                output[head].w += __shfl_xor_sync(0xffffffffu, output[head].w, offset);
            }
            if (key_in_warp == 0 && holds) {
                float* to = merge.outputs + warp * TILE_HEADS * HEAD_DIM;
                *(float2*)(to + merge.swizzled(head, vector * 4)) = make_float2(output[head].x, output[head].y);
                *(float2*)(to + merge.swizzled(head, vector * 4 + 2)) = make_float2(output[head].z, output[head].w);
            }
            if (lane == 0) {
                merge.max_score[warp * TILE_HEADS + head] = max_score[head];
                merge.sum_exps[warp * TILE_HEADS + head] = sum_exp[head];
            }
        }
        if (splits == 1 || chunks == 1) {
            merge.add_chunk();
        } else {
            float* partials = (float*)(tensors.workspace + COUNTERS) + (long long)index * splits * merge.STRIDE;
            if (!merge.publish_chunk(partials, tensors.workspace + index, chunk - start / CHUNK, chunks)) return;
        }
    }
    const int first_dim = (kv_head * GROUP + first_head) * HEAD_DIM;
    merge.store_heads(heads, [&](int at, float low, float high) { tensors.store(row, first_dim + at, low, high); });
}
