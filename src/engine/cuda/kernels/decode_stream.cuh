// The order in which a thread block's warps ask for weights. Part of decode.cu.
//
// Thread blocks take the pairs of a product's outputs in tiles of eight, sixteen rows of weights. A block's warps share out the
// inputs of a row, block by block (decode_weights.cuh). The tiles of one layer are those of every other but for the addresses: they
// are listed once. A warp walks through the list layer after layer and asks for its blocks DEPTH ahead of the arithmetic, across the
// ends of products: while it waits for what others compute, its next weights arrive.

// One matrix. scales: AWQ's words of groups, or an f32 for each int8 row.
struct Matrix {
    const uint4* chunks;
    const void* scales;
    const element* bias;
};
struct Norm {
    const element *weight, *bias;
};
// A layer of the decoder; `ops/decode.rs` writes them, 18 words each.
struct Layer {
    Matrix qkv, output, up, down;
    Norm attention_norm, mlp_norm;
    element *keys, *values;
};

// Sixteen rows of a matrix.
struct Tile {
    // Its first pair, and how many it has.
    int pair, pairs;
    // In 16 bytes from the matrix's beginning: where the first row of each pair begins, and then the second. Of AWQ, eight times where
    // the tile's codes begin, and then its groups.
    int places[16];
};

// A block's share of a product: its tiles in the list; blocks of a row, its last chunk, and words of groups for each row and block
// (0: no groups).
struct Run {
    int first_tile, tiles, blocks, last_chunk, segments;
};

// Where a warp is in its way through all products: where the matrix begins for this warp, and AWQ's words of groups; the phase; where
// the tiles of its run end; blocks of each that are this warp's. What is kept of a Stream while a block attends.
struct Cursor {
    const uint4 *chunks, *groups;
    int phase, end_tile, blocks;
    int left, tiles, group_chunks, last_chunk;
    uint32 stage;
    int now;  // the phase that is computed, which is behind the one whose weights are asked for
};

// What a block knows of the whole step, at the beginning of its shared memory, in front of the rings.
template <int MOST_TILES, int QKV_PAIRS, int HIDDEN_PAIRS> struct alignas(128) DirectoryOf {
    Layer layers[LAYERS];
    Tile tiles[MOST_TILES];  // of a layer, then of the logits
    Cursor cursors[WARPS];
    const uint4* head;  // the logits' matrix
    Run runs[PHASES_A_LAYER + 1];
    int end_phase;
    // What finishing this block's pairs takes besides their sums: cosine and sine of those of qkv, and those of x as they are.
    float2 turns[ROWS * QKV_PAIRS], x[ROWS * HIDDEN_PAIRS];
};

// A product: what its weights are, and how its tiles are shared out. Rows says which rows are a pair. Each block has a run of tiles,
// all as long as each other; what is missing to that is missing where attention is computed, for those blocks would be last, and
// then at the end.
template <int KIND_, int K_, typename Rows> struct Product : Rows {
    static constexpr int KIND = KIND_, K = K_;
    typedef Layout<KIND, K> L;
    static constexpr int TILES = divide_up(Rows::PAIRS, 8), MOST_TILES = most_pairs(Rows::PAIRS) / 8;
    // Blocks that compute attention of one row's only chunk; and the tiles that are left for them.
    static constexpr int ATTENDING = min_of(KV_HEADS * HEAD_TILES, GRID_BLOCKS);
    static constexpr int LEFT = max_of(TILES - (GRID_BLOCKS - ATTENDING) * MOST_TILES, 0);

    static __host__ __device__ constexpr int first_tile(int block) {
        return block < ATTENDING ? block * LEFT / ATTENDING : min_of(LEFT + (block - ATTENDING) * MOST_TILES, TILES);
    }
    // This block's.
    static __device__ __forceinline__ int tiles() { return first_tile(blockIdx.x + 1) - first_tile(blockIdx.x); }

    // Writes this block's tiles. All threads.
    static __device__ __forceinline__ void list(Tile* to) {
        static_assert(first_tile(0) == 0 && first_tile(GRID_BLOCKS) == TILES, "every tile has a block");
        for (int i = threadIdx.x; i < tiles() * 16; i += THREADS) {
            Tile& tile = to[i / 16];
            const int first = (first_tile(blockIdx.x) + i / 16) * 8, count = min(8, Rows::PAIRS - first);
            const int pair = first + min(i & 7, count - 1);
            if (KIND == AWQ) {
                tile.places[i & 15] = first / 8 * L::BLOCKS * ((i & 8) == 0 ? 64 : 4 * L::SEGMENTS);
            } else {
                const int row = (i & 8) == 0 ? Rows::first(pair) : Rows::second(Rows::has_second(pair) ? pair : 0);
                tile.places[i & 15] = row * L::CHUNKS;
            }
            if ((i & 15) == 0) tile.pair = first, tile.pairs = count;
        }
    }
};

// A warp's way through the list. Stage is what a block takes in shared memory; RAGGED says whether a row of some matrix ends within
// a block. What is done for every block is kept short, for it competes with the arithmetic for the schedulers; and what is wanted once
// a tile or less is kept in the directory, for no register may be spilled: the little cache that is left is far away (microseconds).
template <typename Directory, typename Stage, int MOST_SEGMENTS, bool RAGGED> struct Stream {
    // Blocks of the tile that are still to be asked for, 0 behind the last of all; tiles of the run behind this one.
    int left, tiles;
    // This lane's next chunks; of AWQ, its codes and its words of groups.
    const uint4 *first, *second;
    int group_chunks, chunk, last_chunk;

    __device__ __forceinline__ void begin(Directory& directory, int first_phase, int thread) {
        left = 0;
        if ((thread & 31) == 0) directory.cursors[thread >> 5].phase = first_phase - 1;
        next_run(directory, thread);
    }

    // The next product of which this warp has a block.
    __device__ __forceinline__ void next_run(Directory& directory, int thread) {
        const int warp = thread >> 5;
        Cursor& cursor = directory.cursors[warp];
        __syncwarp();
        int phase = cursor.phase;
        while (true) {
            phase++;
            if (phase >= directory.end_phase) return;
            const int layer = layer_of(phase), part = phase - layer * PHASES_A_LAYER;
            const Run& run = directory.runs[part];
            const int blocks = (run.blocks - warp + WARPS - 1) / WARPS;
            tiles = run.tiles;
            if (tiles == 0 || blocks == 0) continue;
            // A layer's matrices in the order of their phases, of which the second has none.
            const bool is_head = part == PHASES_A_LAYER;
            const Matrix& matrix = (&directory.layers[layer].qkv)[part == QKV_PHASE || is_head ? 0 : part - 1];
            group_chunks = 4 * run.segments;
            const bool in_tiles = WEIGHTS == AWQ && group_chunks > 0;
            last_chunk = run.last_chunk;
            __syncwarp();
            if ((thread & 31) == 0) {
                cursor.chunks = (is_head ? directory.head : matrix.chunks) + (in_tiles ? 64 : 4) * warp;
                cursor.groups = in_tiles ? (const uint4*)matrix.scales + group_chunks * warp : cursor.chunks;
                cursor.phase = phase, cursor.end_tile = run.first_tile + tiles, cursor.blocks = blocks;
            }
            __syncwarp();
            next_tile(directory, thread);
            return;
        }
    }

    __device__ __forceinline__ void next_tile(Directory& directory, int thread) {
        const int warp = thread >> 5, lane = thread & 31;
        const Cursor& cursor = directory.cursors[warp];
        const int* const places = directory.tiles[cursor.end_tile - tiles].places + (lane >> 2);
        const int mine = WEIGHTS == AWQ && group_chunks > 0 ? lane : lane & 3;
        tiles--, left = cursor.blocks;
        first = cursor.chunks + (places[0] + mine);
        second = (WEIGHTS == AWQ ? cursor.groups : cursor.chunks) + (places[8] + mine);
        if (RAGGED) chunk = 4 * warp + mine;
    }

    // Leaves the registers to others, and takes them again.
    __device__ __forceinline__ void rest(Directory& directory, int thread) const {
        Cursor& cursor = directory.cursors[thread >> 5];
        if ((thread & 31) == 0) {
            cursor.left = left, cursor.tiles = tiles, cursor.group_chunks = group_chunks, cursor.last_chunk = last_chunk;
        }
        __syncwarp();
    }
    __device__ __forceinline__ void resume(Directory& directory, int thread) {
        const Cursor& cursor = directory.cursors[thread >> 5];
        left = 0, tiles = cursor.tiles, group_chunks = cursor.group_chunks, last_chunk = cursor.last_chunk;
        if (cursor.left == 0) return;
        tiles++;
        next_tile(directory, thread);
        for (; left > cursor.left; left--) pass();
    }

    // Goes on to the next block of the tile.
    __device__ __forceinline__ void pass() {
        const bool in_tiles = WEIGHTS == AWQ && group_chunks > 0;
        first += (in_tiles ? 64 : 4) * WARPS;
        second += (in_tiles ? group_chunks : 4) * WARPS;
        if (RAGGED) chunk += 4 * WARPS;
    }

    // Asks for the next block, if there is one, and closes a group of copies in any case. stage: this lane's part of a stage.
    __device__ __forceinline__ void load(Directory& directory, uint32 stage, int thread) {
        if (left > 0) {
            const int lane = thread & 31;
            if (WEIGHTS == AWQ && group_chunks > 0) {
                copy_weights(stage, first);
                copy_weights(stage + SECOND, first + 32);
#pragma unroll
                for (int i = 0; i < 4 * MOST_SEGMENTS; i += 32) {
                    copy_weights_if(lane + i < group_chunks, stage + GROUPS + i * 16, second + i);
                }
            } else {
                // Behind the end of a row its last chunk is read again, and meets zeros.
                const int over = RAGGED ? max(chunk - last_chunk, 0) : 0;
                copy_weights(stage, first - over);
                copy_weights(stage + SECOND, second - over);
            }
            pass();
            left--;
            if (left == 0) {
                if (tiles > 0) {
                    next_tile(directory, thread);
                } else {
                    next_run(directory, thread);
                }
            }
        }
        close_copies();
    }
};
