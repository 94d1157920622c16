// The order in which the warps of a thread block load weights. Part of decode.cu.
//
// The outputs of a GEMM are split into tiles of eight pairs, 16 rows of weights; a thread block has a contiguous range of tiles. Its warps
// split the inputs of a row, one block of inputs each in turn (decode_weights.cuh). Tiles are the same in every layer except for the
// matrices' addresses, so they are listed once, in BlockPlan.
//
// Each warp has a ring of DEPTH stages in shared memory. WeightStream walks through the warp's list of (layer, GEMM, tile, block) and issues
// the copy of each block DEPTH steps ahead of its use, across the ends of GEMMs and layers: while the warp waits for activations that other
// thread blocks compute, its next weights arrive.

// A weight matrix [outputs, K]. scales: AWQ's group words, or f32 [outputs] of int8. bias: element [outputs] or null.
struct Matrix {
    const uint4* chunks;
    const void* scales;
    const element* bias;
};
struct Norm {
    const element *weight, *bias;
};
// A decoder layer, 18 64-bit words, written by ops/decode. keys, values: element [blocks, KV_HEADS, BLOCK_TOKENS, HEAD_DIM].
struct Layer {
    Matrix qkv, output, up, down;
    Norm attention_norm, mlp_norm;
    element *keys, *values;
};

// A tile: up to eight pairs of rows of a matrix.
struct Tile {
    // First pair and number of pairs.
    int pair, pairs;
    // Offsets from the matrix's beginning in units of 16 bytes: [0 … 7] the first rows of the pairs, [8 … 15] the second rows. AWQ: eight
    // times the tile's codes, eight times its group words.
    int offsets[16];
};

// A thread block's share of a GEMM: its range of tiles in the list; blocks in a row, index of a row's last chunk, and group words for each
// row and block (0: no groups).
struct TileRange {
    int first_tile, tiles, blocks, last_chunk, segments;
};

// A warp's position in the weight stream: beginning of the current matrix's chunks and group words for this warp; phase; end of the tile
// range; blocks of a row that are this warp's. The second line holds WeightStream's registers while the thread block computes attention.
struct StreamState {
    const uint4 *chunks, *groups;
    int phase, end_tile, blocks;
    int left, tiles, group_chunks, last_chunk;
    uint32 stage;
    int current_phase;  // the phase being computed; `phase`, whose weights are being loaded, is ahead of it
};

// What a thread block keeps for the whole step, at the beginning of its shared memory, in front of the rings.
template <int MAX_TILES, int QKV_PAIRS, int HIDDEN_PAIRS> struct alignas(128) BlockPlanOf {
    Layer layers[LAYERS];
    Tile tiles[MAX_TILES];  // of one layer's GEMMs, then of the logits'
    StreamState stream_states[WARPS];
    const uint4* head;  // the logits' weights
    TileRange tile_ranges[PHASES_A_LAYER + 1];
    int end_phase;
    // For the epilogues of this thread block's pairs: (cos, sin) of its qkv pairs, and its pairs of the residual stream x.
    float2 rotations[ROWS * QKV_PAIRS], x[ROWS * HIDDEN_PAIRS];
};

// A GEMM: its weights' layout and the distribution of its tiles over thread blocks. Rows says which weight rows form a pair, and is the
// epilogue. Thread blocks get ranges of equal length; where tiles run short, those that compute attention get fewer, because they would
// finish last, and then the last ones.
template <int KIND_, int K_, typename Rows> struct Gemm : Rows {
    static constexpr int KIND = KIND_, K = K_;
    typedef Layout<KIND, K> L;
    static constexpr int TILES = divide_up(Rows::PAIRS, 8), MAX_TILES = max_block_pairs(Rows::PAIRS) / 8;
    // Thread blocks that compute attention of a single row with a single chunk, and the tiles that are left for them.
    static constexpr int ATTENTION_BLOCKS = min_of(KV_HEADS * HEAD_TILES, GRID_BLOCKS);
    static constexpr int ATTENTION_BLOCK_TILES = max_of(TILES - (GRID_BLOCKS - ATTENTION_BLOCKS) * MAX_TILES, 0);

    static __host__ __device__ constexpr int first_tile(int block) {
        return block < ATTENTION_BLOCKS ? block * ATTENTION_BLOCK_TILES / ATTENTION_BLOCKS
                                        : min_of(ATTENTION_BLOCK_TILES + (block - ATTENTION_BLOCKS) * MAX_TILES, TILES);
    }
    // Number of this thread block's tiles.
    static __device__ __forceinline__ int tiles() { return first_tile(blockIdx.x + 1) - first_tile(blockIdx.x); }

    // Writes this thread block's tiles. Called by all threads.
    static __device__ __forceinline__ void list_tiles(Tile* to) {
        static_assert(first_tile(0) == 0 && first_tile(GRID_BLOCKS) == TILES, "every tile has a block");
        for (int i = threadIdx.x; i < tiles() * 16; i += THREADS) {
            Tile& tile = to[i / 16];
            const int first = (first_tile(blockIdx.x) + i / 16) * 8, count = min(8, Rows::PAIRS - first);
            const int pair = first + min(i & 7, count - 1);
            if (KIND == AWQ) {
                tile.offsets[i & 15] = first / 8 * L::BLOCKS * ((i & 8) == 0 ? 64 : 4 * L::SEGMENTS);
            } else {
                const int row = (i & 8) == 0 ? Rows::first(pair) : Rows::second(Rows::has_second(pair) ? pair : 0);
                tile.offsets[i & 15] = row * L::CHUNKS;
            }
            if ((i & 15) == 0) tile.pair = first, tile.pairs = count;
        }
    }
};

// A warp's walk through its weights. Stage: a ring stage; RAGGED: whether a row of some matrix ends within a block. The work for every block
// is kept short, because it competes with the arithmetic for issue slots; what is needed once a tile or less is in shared memory
// (StreamState), because a spilled register would be read back from L2, up to microseconds away.
template <typename BlockPlan, typename Stage, int MAX_SEGMENTS, bool RAGGED> struct WeightStream {
    // Blocks of the tile still to be loaded, 0 after the last of all; tiles of the range after this one.
    int left, tiles;
    // This lane's next chunks: of the first and second row; AWQ: of codes and of group words.
    const uint4 *first, *second;
    int group_chunks, chunk, last_chunk;

    __device__ __forceinline__ void begin(BlockPlan& plan, int first_phase, int thread) {
        left = 0;
        if ((thread & 31) == 0) plan.stream_states[thread >> 5].phase = first_phase - 1;
        next_gemm(plan, thread);
    }

    // Moves to the next GEMM of which this warp has a block.
    __device__ __forceinline__ void next_gemm(BlockPlan& plan, int thread) {
        const int warp = thread >> 5;
        StreamState& state = plan.stream_states[warp];
        __syncwarp();
        int phase = state.phase;
        while (true) {
            phase++;
            if (phase >= plan.end_phase) return;
            const int layer = layer_of(phase), part = phase - layer * PHASES_A_LAYER;
            const TileRange& run = plan.tile_ranges[part];
            const int blocks = (run.blocks - warp + WARPS - 1) / WARPS;
            tiles = run.tiles;
            if (tiles == 0 || blocks == 0) continue;
            // A layer's matrices are in the order of their phases; ATTEND_PHASE has none.
            const bool is_head = part == PHASES_A_LAYER;
            const Matrix& matrix = (&plan.layers[layer].qkv)[part == QKV_PHASE || is_head ? 0 : part - 1];
            group_chunks = 4 * run.segments;
            const bool in_tiles = WEIGHTS == AWQ && group_chunks > 0;
            last_chunk = run.last_chunk;
            __syncwarp();
            if ((thread & 31) == 0) {
                state.chunks = (is_head ? plan.head : matrix.chunks) + (in_tiles ? 64 : 4) * warp;
                state.groups = in_tiles ? (const uint4*)matrix.scales + group_chunks * warp : state.chunks;
                state.phase = phase, state.end_tile = run.first_tile + tiles, state.blocks = blocks;
            }
            __syncwarp();
            next_tile(plan, thread);
            return;
        }
    }

    __device__ __forceinline__ void next_tile(BlockPlan& plan, int thread) {
        const int warp = thread >> 5, lane = thread & 31;
        const StreamState& state = plan.stream_states[warp];
        const int* const offsets = plan.tiles[state.end_tile - tiles].offsets + (lane >> 2);
        const int lane_chunk = WEIGHTS == AWQ && group_chunks > 0 ? lane : lane & 3;
        tiles--, left = state.blocks;
        first = state.chunks + (offsets[0] + lane_chunk);
        second = (WEIGHTS == AWQ ? state.groups : state.chunks) + (offsets[8] + lane_chunk);
        if (RAGGED) chunk = 4 * warp + lane_chunk;
    }

    // Saves the registers to shared memory, and restores them.
    __device__ __forceinline__ void save(BlockPlan& plan, int thread) const {
        StreamState& state = plan.stream_states[thread >> 5];
        if ((thread & 31) == 0) {
            state.left = left, state.tiles = tiles, state.group_chunks = group_chunks, state.last_chunk = last_chunk;
        }
        __syncwarp();
    }
    __device__ __forceinline__ void restore(BlockPlan& plan, int thread) {
        const StreamState& state = plan.stream_states[thread >> 5];
        left = 0, tiles = state.tiles, group_chunks = state.group_chunks, last_chunk = state.last_chunk;
        if (state.left == 0) return;
        tiles++;
        next_tile(plan, thread);
        for (; left > state.left; left--) advance_block();
    }

    // Moves to this warp's next block of the tile.
    __device__ __forceinline__ void advance_block() {
        const bool in_tiles = WEIGHTS == AWQ && group_chunks > 0;
        first += (in_tiles ? 64 : 4) * WARPS;
        second += (in_tiles ? group_chunks : 4) * WARPS;
        if (RAGGED) chunk += 4 * WARPS;
    }

    // Issues the copies of the next block, if there is one, and commits a copy group in any case. stage: shared-memory address of this
    // lane's part of the stage.
    __device__ __forceinline__ void load(BlockPlan& plan, uint32 stage, int thread) {
        if (left > 0) {
            const int lane = thread & 31;
            if (WEIGHTS == AWQ && group_chunks > 0) {
                copy_weights(stage, first);
                copy_weights(stage + SECOND, first + 32);
#pragma unroll
                for (int i = 0; i < 4 * MAX_SEGMENTS; i += 32) {
                    copy_weights_if(lane + i < group_chunks, stage + GROUPS + i * 16, second + i);
                }
            } else {
                // Past the end of a row its last chunk is loaded again; it meets activations that are 0.
                const int over = RAGGED ? max(chunk - last_chunk, 0) : 0;
                copy_weights(stage, first - over);
                copy_weights(stage + SECOND, second - over);
            }
            advance_block();
            left--;
            if (left == 0) {
                if (tiles > 0) {
                    next_tile(plan, thread);
                } else {
                    next_gemm(plan, thread);
                }
            }
        }
        commit_copies();
    }
};
