// A whole step of few generating rows, all layers and the logits, in one kernel of one thread block a multiprocessor:
//
//   QKV      qkv                       from x: norm, W · h (+ bias), rotation of q and k
//   ATTEND   attention and the cache   from qkv and the cache
//   OUTPUT   x +=                      W · attention (+ bias)
//   UP       activation                from x: norm, silu(W_gate · h) · (W_up · h), or relu(W · h + bias)
//   DOWN     x +=                      W · activation (+ bias)
//   LOGITS   logits, binary32          from x: norm, table · h
//
// x [rows, HIDDEN], qkv [rows, QKV], attention [rows, HEADS · HEAD_DIM], activation [rows, INTERMEDIATE] are tagged words
// (decode_layers.cuh) of `element`; sums are binary32, and what is stored is rounded once.
//
// A step is bound by reading the weights once, and every kernel's beginning and end would stop that. Here they flow through rings in
// shared memory (decode_stream.cuh) past the ends of phases, which are nothing but words that a block waits for. The warps' sums of a
// tile meet in shared memory, in the order of the warps.
//
// The order of every sum depends on the sizes of the model alone: a row's results are the same bits whatever the other rows
// hold and however many they are, as long as the same kernel (ROWS) computes them.
//
// Constants: those of attention.cuh, and WEIGHTS (the kind of all layers' matrices; the table is dense), GROUP_SIZE, LAYERS, HIDDEN,
// INTERMEDIATE, VOCABULARY, CONTEXT, EPSILON, LAYER_NORM, GATED, ROTARY, ROWS (the most), DEPTH (blocks a warp asks for ahead),
// GRID_BLOCKS, RING_END (bytes of shared memory that the directory and the rings take).

typedef Product<WEIGHTS, HIDDEN, Heads> QkvProduct;
typedef Product<WEIGHTS, HEADS * HEAD_DIM, Residual> OutputProduct;
typedef Product<WEIGHTS, HIDDEN, Activated> UpProduct;
typedef Product<WEIGHTS, INTERMEDIATE, Residual> DownProduct;
typedef Product<DENSE, HIDDEN, Logits> LogitsProduct;

constexpr int MOST_SEGMENTS =
    max_of(max_of(QkvProduct::L::SEGMENTS, OutputProduct::L::SEGMENTS), DownProduct::L::SEGMENTS);
constexpr bool RAGGED = QkvProduct::L::CHUNKS % 4 != 0 || OutputProduct::L::CHUNKS % 4 != 0 || DownProduct::L::CHUNKS % 4 != 0
                     || LogitsProduct::L::CHUNKS % 4 != 0;
constexpr int MOST_TILES = QkvProduct::MOST_TILES + OutputProduct::MOST_TILES + UpProduct::MOST_TILES + DownProduct::MOST_TILES
                         + LogitsProduct::MOST_TILES;
// Pairs whose sums meet in shared memory at a time: fewer for many rows, to save room.
constexpr int PASS_PAIRS = ROWS <= 2 ? 64 : 32;
typedef StageOf<MOST_SEGMENTS> Stage;
typedef DirectoryOf<MOST_TILES> Directory;
static_assert(sizeof(Directory) + WARPS * DEPTH * sizeof(Stage) == RING_END, "ops/decode.rs reserves other shared memory");

// One chunk of one row and tile of heads is a block's share of attention; whoever has a number below rows · TILES · splits has one,
// and some have more. The first is the same in every layer: what it takes to find its keys and values is looked up once. (Fetching
// these to the second-level cache ahead costs more than it saves: Llama-2-7B in AWQ 4 %, H100.)
struct Item {
    static constexpr int TILES = KV_HEADS * HEAD_TILES;  // of a row
    static constexpr int TABLE = CHUNK / BLOCK_TOKENS;
    int chunk;     // −1: there is none (nobody asks; dropping it reorders the machine code, so do that with a card at hand)
    int position;  // of the row
    int blocks[TABLE];

    // Thread 0 looks the block's first one up.
    __device__ __forceinline__ void find(
        int rows, int splits, const int* positions, const int* slots, const int* tables, int table_stride) {
        chunk = -1;
        if ((int)blockIdx.x >= rows * TILES * splits) return;
        const int row = blockIdx.x / splits / TILES;
        position = positions[row];
        if (position < 0) return;
        const int* const table = tables + (size_t)slots[row] * table_stride;
        const int first = first_position(position) / CHUNK + blockIdx.x % splits;
        if (first > position / CHUNK) return;
        chunk = first;
        for (int i = 0; i < TABLE; i++) {
            const int block = first * TABLE + i;
            blocks[i] = block <= position / BLOCK_TOKENS ? table[block] : 0;
        }
    }
};

// The block's shared memory: the directory, every warp's ring, and what a phase works in.
extern __shared__ __align__(128) uint4 shared[];
__device__ __forceinline__ Directory& directory() { return *(Directory*)shared; }
__device__ __forceinline__ Stage* ring(int warp) { return (Stage*)(&directory() + 1) + warp * DEPTH; }
__device__ __forceinline__ uint4* work() { return (uint4*)ring(WARPS); }

// What attention reads and writes, of one layer.
struct AttentionRows {
    word *qkv, *attention;
    element *keys, *values;
    uint32* workspace;
    int tag;
    static constexpr bool APART = true;

    __device__ __forceinline__ void load(uint32 (&to)[2], int row, int at) const {
        Words words[1];
        await(words, tag, [&](int) { return qkv + (size_t)row * QKV + at; });
        to[0] = __byte_perm(words[0].at[0], words[0].at[1], 0x5410);
        to[1] = __byte_perm(words[0].at[2], words[0].at[3], 0x5410);
    }
    __device__ __forceinline__ void load(float4& to, int row, int at) const {
        Words words[2];
        await(words, tag, [&](int i) { return qkv + (size_t)row * QKV + at + 2 * i; });
        to = make_float4(value(words[0].at[0]), value(words[0].at[1]), value(words[1].at[0]), value(words[1].at[1]));
    }
    __device__ __forceinline__ void store(int row, int at, float low, float high) const {
        word* const to = attention + (size_t)row * (HEADS * HEAD_DIM) + at;
        publish(to, tagged(low, tag));
        publish(to + 1, tagged(high, tag));
    }

    // The output of a row that only fills the grid: somebody waits for it. As everywhere, what is written must follow upon all that
    // was read, so that no word is overwritten that somebody still waits for.
    __device__ __forceinline__ void store_nothing(int row, int tile) const {
        const int kv_head = tile / HEAD_TILES, part = tile % HEAD_TILES;
        const int heads = min(HEADS_NOW, GROUP - part * HEADS_NOW), first = kv_head * GROUP + part * HEADS_NOW;
        for (int i = threadIdx.x; i < (heads + 2) * HEAD_DIM / WORDS; i += THREADS) {
            const int head = i * WORDS / HEAD_DIM;
            const int from = head < heads ? first + head : HEADS + (head - heads) * KV_HEADS + kv_head;
            Words words[1];
            await(words, tag, [&](int) { return qkv + (size_t)row * QKV + from * HEAD_DIM + i * WORDS % HEAD_DIM; });
        }
        __syncthreads();
        for (int i = threadIdx.x * 2; i < heads * HEAD_DIM; i += THREADS * 2) store(row, first * HEAD_DIM + i, 0.0f, 0.0f);
    }
};

// What a thread holds through the whole step.
struct Place {
    Stream<Directory, Stage, MOST_SEGMENTS, RAGGED> stream;
    int slot;  // of the ring
};

// A product with what is before it (Input) and behind it (P's Rows).
template <typename P, typename Input>
__device__ __forceinline__ void product(
    Place& place, int rows, float* scratch, Input input, const P& output, const Matrix& matrix, int phase) {
    typedef typename P::L L;
    const int thread = this_thread(), warp = thread >> 5, lane = thread & 31;
    Stage* const stages = ring(warp);
    float2* const parts = (float2*)work();
    element* const h = (element*)(parts + WARPS * rows * PASS_PAIRS);
    const int tiles = P::tiles();
    const Tile* const list = directory().tiles + directory().phase_tiles[phase];
    // Blocks of a row that are this warp's.
    const int steps = L::BLOCKS % WARPS == 0 ? L::BLOCKS / WARPS : (L::BLOCKS - warp + WARPS - 1) / WARPS;
    input.before();
    if (tiles > 0) {
        // The pair that this thread finishes at the end of each pass over the tiles whose sums meet at once.
        const int my_row = thread / PASS_PAIRS, my_place = thread % PASS_PAIRS, my_tile = my_place / 8;
        typename P::Context context;
        int pass = 0, my_pair = -1;
        auto prepare = [&]() {
            const Tile& mine = list[min(pass + my_tile, tiles - 1)];
            my_pair = my_row < rows && pass + my_tile < tiles && my_place % 8 < mine.pairs ? mine.pair + my_place % 8 : -1;
            if (my_pair >= 0) output.fetch(context, my_pair, my_row);
        };
        prepare();
        // Zeros behind the inputs, where blocks are longer than they.
        constexpr int BEHIND = L::BLOCKS * L::IN_BLOCK - P::K;
        if (BEHIND > 0) {
            for (int i = threadIdx.x; i < rows * BEHIND; i += THREADS) {
                const int row = i / max(BEHIND, 1), at = i % max(BEHIND, 1);
                h[row * L::STRIDE + P::K + at] = narrow<element>(0.0f);
            }
        }
        input.fill(h, rows, scratch);
        __syncthreads();

        for (int tile = 0; tile < tiles; tile++) {
            Sums sums;
#pragma unroll 1
            for (int step = 0; step < steps; step++) {
                Stage& stage = stages[place.slot];
                wait_for_copies<DEPTH - 1>();
                if (L::KIND == AWQ) __syncwarp();  // a lane reads words that others asked for
                multiply<L>(sums, stage, h, rows, step * WARPS + warp, lane);
                if (L::KIND == AWQ) __syncwarp();
                place.stream.load(directory(), stage, thread);
                place.slot = place.slot + 1 == DEPTH ? 0 : place.slot + 1;
            }
            leave(sums, parts + warp * rows * PASS_PAIRS + (tile - pass) * 8, PASS_PAIRS, rows, lane);
            const bool last = tile + 1 == tiles;
            if (!last && (tile + 1 - pass) * 8 < PASS_PAIRS) continue;
            __syncthreads();
            if (my_pair >= 0) {
                const int first = P::first(my_pair), second = P::has_second(my_pair) ? P::second(my_pair) : first;
                float a = 0.0f, b = 0.0f;
#pragma unroll
                for (int w = 0; w < WARPS; w++) {
                    const float2 part = parts[(w * rows + my_row) * PASS_PAIRS + my_place];
                    a += part.x;
                    b += part.y;
                }
                if (L::KIND == INT8) {
                    a *= ((const float*)matrix.scales)[first];
                    b *= ((const float*)matrix.scales)[second];
                }
                if (matrix.bias != nullptr) {
                    a += widen(matrix.bias[first]);
                    b += widen(matrix.bias[second]);
                }
                output.finish(context, my_pair, my_row, a, b);
            }
            if (last) break;
            __syncthreads();
            pass += PASS_PAIRS / 8;
            prepare();
        }
    }
    __syncthreads();
}

template <typename P> using NormedFor = Normed<P::K, P::L::STRIDE>;
template <typename P> using PlainFor = Plain<P::K, P::L::STRIDE>;

// Lists a product's tiles behind the `count` that are listed already.
template <typename P> __device__ __forceinline__ void list(Directory& all, int& count, int phase) {
    if (threadIdx.x == 0) all.phase_tiles[phase] = count;
    count += P::list(all.tiles + count, phase);
}

// Begins a step: x from the embedding, and no word of the step before has a tag any more. Blocks of a row share it out.
constexpr int BEGIN_THREADS = 256;
constexpr int BEGIN_BLOCKS = 16;
template <int COUNT> __device__ __forceinline__ void clear(word* row, int first) {
    for (int i = first; i < COUNT / WORDS; i += BEGIN_BLOCKS * BEGIN_THREADS) ((uint4*)row)[i] = make_uint4(0, 0, 0, 0);
}
extern "C" __global__ void __launch_bounds__(BEGIN_THREADS)
    begin(const int* tokens, const int* next_tokens, const int* positions, const int* slots, const element* table,
          const element* position_table, word* x, word* qkv, word* attention, word* activation) {
    const int row = blockIdx.x / BEGIN_BLOCKS, first = blockIdx.x % BEGIN_BLOCKS * BEGIN_THREADS + threadIdx.x;
    // A token of −1 stands for the one that the card itself chose last for this sequence.
    int token = tokens[row];
    if (token < 0) token = max(next_tokens[slots[row]], 0);
    for (int i = first; i < HIDDEN; i += BEGIN_BLOCKS * BEGIN_THREADS) {
        float value = widen(table[(size_t)token * HIDDEN + i]);
        if (POSITION_OFFSET >= 0) value += widen(position_table[(size_t)(positions[row] + POSITION_OFFSET) * HIDDEN + i]);
        x[(size_t)row * HIDDEN + i] = tagged(value, 1);
    }
    clear<QKV>(qkv + (size_t)row * QKV, first);
    clear<HEADS * HEAD_DIM>(attention + (size_t)row * (HEADS * HEAD_DIM), first);
    clear<INTERMEDIATE>(activation + (size_t)row * INTERMEDIATE, first);
}

// Phases first_phase .. end_phase of a step. workspace: as attention.cuh says. All blocks must run at once: they wait for each other.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    decode(const Layer* layers, const uint4* table, const element* norm_weight, const element* norm_bias, int first_phase,
           int end_phase, int rows, word* x, word* qkv, word* attention, word* activation, float* logits, const int* tables,
           int table_stride, const int* positions, const int* slots, const float* turns, int splits, uint32* workspace) {
    __shared__ float scratch[WARPS];
    __shared__ Item item;
    Directory& all = directory();
    for (int i = threadIdx.x; i < LAYERS * (int)(sizeof(Layer) / 16); i += THREADS) {
        ((uint4*)all.layers)[i] = ((const uint4*)layers)[i];
    }
    int count = 0;
    list<QkvProduct>(all, count, QKV_PHASE);
    list<OutputProduct>(all, count, OUTPUT_PHASE);
    list<UpProduct>(all, count, UP_PHASE);
    list<DownProduct>(all, count, DOWN_PHASE);
    list<LogitsProduct>(all, count, PHASES_A_LAYER);
    if (threadIdx.x == 0) {
        all.head = table;
        all.layer_tiles = count - LogitsProduct::tiles();
        all.all_tiles = count;
        all.first_phase = first_phase, all.end_phase = end_phase;
        item.find(rows, splits, positions, slots, tables, table_stride);
    }
    __syncthreads();

    Place place;
    place.slot = 0;
    const int thread = this_thread();
    place.stream.begin(all, thread);
    for (int slot = 0; slot < DEPTH; slot++) place.stream.load(all, ring(thread >> 5)[slot], thread);

    for (int phase = first_phase; phase < end_phase; phase++) {
        const int number = min(phase / PHASES_A_LAYER, LAYERS - 1);
        const int part = phase == LOGITS_PHASE ? PHASES_A_LAYER : phase % PHASES_A_LAYER;
        const Layer& layer = all.layers[number];
        // Tags: x has 1 at first and another behind each of its two sums a layer; everything else its layer's.
        const int tag = number + 1, x_tag = 2 * number + 1;
        if (part == QKV_PHASE) {
            QkvProduct output;
            output.qkv = qkv, output.tag = tag, output.positions = positions, output.turns = turns;
            product(place, rows, scratch, NormedFor<QkvProduct>{x, x_tag, layer.attention_norm.weight, layer.attention_norm.bias},
                    output, layer.qkv, part);
        } else if (part == ATTEND_PHASE) {
            const AttentionRows of = {qkv, attention, layer.keys, layer.values, workspace, tag};
#pragma unroll 1
            for (int i = blockIdx.x; i < rows * Item::TILES * splits; i += GRID_BLOCKS) {
                const int index = i / splits, row = index / Item::TILES, tile = index % Item::TILES, split = i % splits;
                const bool is_first = i == (int)blockIdx.x;
                const int position = is_first ? item.position : positions[row];
                if (position < 0) {
                    if (split == 0) of.store_nothing(row, tile);
                } else if (first_position(position) / CHUNK + split <= position / CHUNK) {
                    const int* const table =
                        is_first ? item.blocks - item.chunk * Item::TABLE : tables + (size_t)slots[row] * table_stride;
                    attend(of, row, position, table, tile, index, split, splits, work());
                    __syncthreads();
                }
            }
        } else if (part == OUTPUT_PHASE) {
            OutputProduct output;
            output.x = x, output.tag = x_tag + 1;
            product(place, rows, scratch, PlainFor<OutputProduct>{attention, tag}, output, layer.output, part);
        } else if (part == UP_PHASE) {
            UpProduct output;
            output.activation = activation, output.tag = tag;
            product(place, rows, scratch, NormedFor<UpProduct>{x, x_tag + 1, layer.mlp_norm.weight, layer.mlp_norm.bias}, output,
                    layer.up, part);
        } else if (part == DOWN_PHASE) {
            DownProduct output;
            output.x = x, output.tag = x_tag + 2;
            product(place, rows, scratch, PlainFor<DownProduct>{activation, tag}, output, layer.down, part);
        } else {
            LogitsProduct output;
            output.logits = logits;
            product(place, rows, scratch, NormedFor<LogitsProduct>{x, 2 * LAYERS + 1, norm_weight, norm_bias}, output,
                    Matrix{table, nullptr, nullptr}, part);
        }
    }
}
