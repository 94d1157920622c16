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

// The phases of a layer, each of which reads what all blocks have written in the one before. Behind the last layer's comes LOGITS.
enum Phase { QKV_PHASE, ATTEND_PHASE, OUTPUT_PHASE, UP_PHASE, DOWN_PHASE, PHASES_A_LAYER };
constexpr int LOGITS_PHASE = LAYERS * PHASES_A_LAYER;

// Sixteen rows of a matrix.
struct Tile {
    // Of a layer; PHASES_A_LAYER for the logits'.
    int phase;
    // Its first pair, and how many it has.
    int pair, pairs;
    // Blocks of a row; its last chunk; words of groups for each row and block (0: no groups).
    int blocks, last_chunk, segments;
    int unused[2];
    // In 16 bytes from the beginning: where each row begins; of AWQ, where the tile's codes and its groups do.
    int places[16];
};

// What a block knows of the whole step, at the beginning of its shared memory, in front of the rings.
template <int MOST_TILES> struct alignas(128) DirectoryOf {
    Layer layers[LAYERS];
    Tile tiles[MOST_TILES];  // of a layer, then of the logits
    const uint4* head;       // the logits' matrix
    int layer_tiles, all_tiles;
    int phase_tiles[PHASES_A_LAYER + 1];  // where in the list the tiles of each phase begin
    int first_phase, end_phase;
};

// A product: what its weights are, and how its tiles are shared out. Rows says which rows are a pair. Each block has a run of tiles,
// all as long as each other; what is missing to that is missing where attention is computed, for those blocks would be last, and
// then at the end.
template <int KIND_, int K_, typename Rows> struct Product : Rows {
    static constexpr int KIND = KIND_, K = K_;
    typedef Layout<KIND, K> L;
    static constexpr int TILES = divide_up(Rows::PAIRS, 8), MOST_TILES = divide_up(TILES, GRID_BLOCKS);
    // Blocks that compute attention of one row's only chunk; and the tiles that are left for them.
    static constexpr int ATTENDING = min_of(KV_HEADS * HEAD_TILES, GRID_BLOCKS);
    static constexpr int LEFT = max_of(TILES - (GRID_BLOCKS - ATTENDING) * MOST_TILES, 0);

    static __host__ __device__ constexpr int first_tile(int block) {
        return block < ATTENDING ? block * LEFT / ATTENDING : min_of(LEFT + (block - ATTENDING) * MOST_TILES, TILES);
    }
    // This block's.
    static __device__ __forceinline__ int tiles() { return first_tile(blockIdx.x + 1) - first_tile(blockIdx.x); }

    // Writes this block's tiles. All threads; the number.
    static __device__ __forceinline__ int list(Tile* to, int phase) {
        static_assert(first_tile(0) == 0 && first_tile(GRID_BLOCKS) == TILES, "every tile has a block");
        for (int i = threadIdx.x; i < tiles() * 16; i += THREADS) {
            Tile& tile = to[i / 16];
            const int first = (first_tile(blockIdx.x) + i / 16) * 8, count = min(8, Rows::PAIRS - first);
            const int pair = first + min(i & 7, count - 1);
            if (KIND == AWQ) {
                tile.places[i & 15] = first / 8 * L::BLOCKS * ((i & 1) == 0 ? 64 : 4 * L::SEGMENTS);
            } else {
                const int row = (i & 8) == 0 ? Rows::first(pair) : Rows::second(Rows::has_second(pair) ? pair : 0);
                tile.places[i & 15] = row * L::CHUNKS;
            }
            if ((i & 15) == 0) {
                tile.phase = phase, tile.pair = first, tile.pairs = count;
                tile.blocks = L::BLOCKS, tile.last_chunk = L::CHUNKS - 1, tile.segments = L::SEGMENTS;
            }
        }
        return tiles();
    }
};

// A warp's way through the list. Stage is what a block takes in shared memory; RAGGED says whether a row of some matrix ends within
// a block.
template <typename Directory, typename Stage, int MOST_SEGMENTS, bool RAGGED> struct Stream {
    // Where it is: the tile, and blocks of it that are still to be asked for.
    int layer, tile, left;
    // This lane's next chunks; of AWQ, its codes and its words of groups.
    const uint4 *first, *second;
    int segments, chunk, last_chunk;

    __device__ __forceinline__ void begin(const Directory& directory, int thread) {
        layer = directory.layer_tiles == 0 ? LAYERS - 1 : min(directory.first_phase / PHASES_A_LAYER, LAYERS - 1);
        tile = -1;
        next(directory, thread);
    }

    // The next tile of which this warp has a block; `left` is 0 behind the last.
    __device__ __forceinline__ void next(const Directory& directory, int thread) {
        const int warp = thread >> 5, lane = thread & 31;
        left = 0;
        while (true) {
            tile++;
            if (tile == directory.layer_tiles && layer + 1 < LAYERS) tile = 0, layer++;
            if (tile >= directory.all_tiles) return;
            const Tile& t = directory.tiles[tile];
            const bool is_head = t.phase == PHASES_A_LAYER;
            const int phase = is_head ? LOGITS_PHASE : layer * PHASES_A_LAYER + t.phase;
            if (phase >= directory.end_phase) {
                tile = directory.all_tiles;
                return;
            }
            left = phase < directory.first_phase ? 0 : (t.blocks - warp + WARPS - 1) / WARPS;
            if (left == 0) continue;
            // A layer's matrices in the order of their phases, of which the second has none.
            const Matrix& matrix = (&directory.layers[layer].qkv)[t.phase == QKV_PHASE || is_head ? 0 : t.phase - 1];
            const uint4* const chunks = is_head ? directory.head : matrix.chunks;
            segments = t.segments;
            if (WEIGHTS == AWQ && segments > 0) {
                first = chunks + t.places[0] + 64 * warp + lane;
                second = (const uint4*)matrix.scales + t.places[1] + 4 * segments * warp + lane;
            } else {
                chunk = 4 * warp + (lane & 3);
                last_chunk = t.last_chunk;
                first = chunks + t.places[lane >> 2] + chunk;
                second = chunks + t.places[8 + (lane >> 2)] + chunk;
            }
            return;
        }
    }

    // Asks for the next block, if there is one, and closes a group of copies in any case.
    __device__ __forceinline__ void load(const Directory& directory, Stage& stage, int thread) {
        const int lane = thread & 31;
        if (left > 0) {
            left--;
            if (WEIGHTS == AWQ && segments > 0) {
                copy_weights(&stage.first[lane], first);
                copy_weights(&stage.second[lane], first + 32);
#pragma unroll
                for (int i = 0; i < 4 * MOST_SEGMENTS; i += 32) {
                    if (lane + i < 4 * segments) copy_weights((uint4*)&stage + 64 + lane + i, second + i);
                }
                first += 64 * WARPS;
                second += 4 * segments * WARPS;
            } else {
                // Behind the end of a row its last chunk is read again, and meets zeros.
                const int over = RAGGED ? max(chunk - last_chunk, 0) : 0;
                copy_weights(&stage.first[lane], first - over);
                copy_weights(&stage.second[lane], second - over);
                first += 4 * WARPS;
                second += 4 * WARPS;
                chunk += 4 * WARPS;
            }
            if (left == 0) next(directory, thread);
        }
        close_copies();
    }
};
