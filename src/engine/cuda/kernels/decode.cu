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
typedef DirectoryOf<MOST_TILES, Heads::MINE, Residual::MINE> Directory;
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

// The block's shared memory: the directory, the rings, of which every warp has a stage in turn, and what a phase works in.
extern __shared__ __align__(128) uint4 shared[];
__device__ __forceinline__ Directory& directory() { return *(Directory*)shared; }
__device__ __forceinline__ Stage* rings() { return (Stage*)(&directory() + 1); }
__device__ __forceinline__ uint4* work() { return (uint4*)(rings() + WARPS * DEPTH); }
__device__ __forceinline__ uint32 shared_address(const void* at) { return (uint32)__cvta_generic_to_shared(at); }

// The phase that is computed, read anew each time: see Stream for why it is not in a register.
__device__ __forceinline__ int now() { return (int)load_word(shared_address(&directory().cursors[this_thread() >> 5].now)); }
__device__ __forceinline__ void set_now(int phase) {
    const int thread = this_thread();
    __syncwarp();
    if ((thread & 31) == 0) directory().cursors[thread >> 5].now = phase;
    __syncwarp();
}

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
    // Of the ring: where this lane's part of the next stage lies in shared memory.
    uint32 stage;

    __device__ __forceinline__ void advance() {
        stage += WARPS * sizeof(Stage);
        if (stage >= shared_address(work())) stage -= DEPTH * WARPS * sizeof(Stage);
    }

    // Attention has other uses for all registers.
    __device__ __forceinline__ void rest(int thread) const {
        stream.rest(directory(), thread);
        if ((thread & 31) == 0) directory().cursors[thread >> 5].stage = stage;
        __syncwarp();
    }
    __device__ __forceinline__ void resume(int thread) {
        stream.resume(directory(), thread);
        stage = directory().cursors[thread >> 5].stage + (thread & 31) * 16;
    }
};

// A product with what is before it (Input) and behind it (P's Rows).
template <typename P, typename Input>
__device__ __forceinline__ void product(
    Place& place, int rows, float* scratch, Input input, const P& output, const Matrix& matrix, int part) {
    typedef typename P::L L;
    const int thread = this_thread(), warp = thread >> 5, lane = thread & 31;
    float2* const parts = (float2*)work();
    element* const h = (element*)(parts + WARPS * ROWS * PASS_PAIRS);
    const int tiles = directory().runs[part].tiles;
    const Tile* const list = directory().tiles + directory().runs[part].first_tile;
    // Blocks of a row that are this warp's.
    const int steps = L::BLOCKS % WARPS == 0 ? L::BLOCKS / WARPS : (L::BLOCKS - warp + WARPS - 1) / WARPS;
    input.before();
    if (tiles > 0) {
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

        // The pair that this thread finishes at the end of each pass over the tiles whose sums meet at once.
        const int my_row = thread / PASS_PAIRS, my_place = thread % PASS_PAIRS;
        int pass = 0;
        const uint32 x_begin = shared_address(h + warp * L::IN_BLOCK + activations_of<L>(lane, rows));
        for (int tile = 0; tile < tiles; tile++) {
            Sums sums;
            uint32 x = x_begin;
#pragma unroll 1
            for (int step = 0; step < steps; step++) {
                wait_for_copies<DEPTH - 1>();
                if (L::KIND == AWQ) __syncwarp();  // a lane reads words that others asked for
                multiply<L>(sums, place.stage, x, rows, lane);
                if (L::KIND == AWQ) __syncwarp();
                place.stream.load(directory(), place.stage, thread);
                place.advance();
                x += WARPS * L::IN_BLOCK * sizeof(element);
            }
            leave(sums, parts + warp * ROWS * PASS_PAIRS + (tile - pass) * 8, PASS_PAIRS, rows, lane);
            const bool last = tile + 1 == tiles;
            if (!last && (tile + 1 - pass) * 8 < PASS_PAIRS) continue;
            __syncthreads();
            const Tile& mine = list[min(pass + my_place / 8, tiles - 1)];
            if (my_row < rows && pass + my_place / 8 < tiles && my_place % 8 < mine.pairs) {
                const int pair = mine.pair + my_place % 8;
                const int first = P::first(pair), second = P::has_second(pair) ? P::second(pair) : first;
                float a = 0.0f, b = 0.0f;
#pragma unroll
                for (int w = 0; w < WARPS; w++) {
                    const float2 part = parts[(w * ROWS + my_row) * PASS_PAIRS + my_place];
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
                output.finish(now(), pair, my_row, pass * 8 + my_place, a, b);
            }
            if (last) break;
            __syncthreads();
            pass += PASS_PAIRS / 8;
        }
    }
    __syncthreads();
}

template <typename P> using NormedFor = Normed<P::K, P::L::STRIDE>;
template <typename P> using PlainFor = Plain<P::K, P::L::STRIDE>;

// Lists a product's tiles behind the `count` that are listed already.
template <typename P> __device__ __forceinline__ void list(Directory& all, int& count, int part) {
    if (threadIdx.x == 0) all.runs[part] = Run{count, P::tiles(), P::L::BLOCKS, P::L::CHUNKS - 1, P::L::SEGMENTS};
    P::list(all.tiles + count);
    count += P::tiles();
}

// Calls `with(row, mine, pair)` for all rows and pairs of this block's tiles, the last pair again where there is none. All threads.
template <typename P, typename With> __device__ __forceinline__ void each_pair(int rows, With with) {
    for (int i = threadIdx.x; i < rows * P::tiles() * 8; i += THREADS) {
        const int row = i / (P::tiles() * 8), mine = i % (P::tiles() * 8);
        with(row, mine, min(P::first_tile(blockIdx.x) * 8 + mine, P::PAIRS - 1));
    }
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
        all.runs[ATTEND_PHASE] = Run{};
        all.end_phase = end_phase;
        item.find(rows, splits, positions, slots, tables, table_stride);
    }
    __syncthreads();

    // What finishing takes, looked up once.
    each_pair<QkvProduct>(rows, [&](int row, int mine, int pair) {
        all.turns[row * Heads::MINE + mine] = Heads::turn(turns, positions[row], pair);
    });
    each_pair<OutputProduct>(rows, [&](int row, int mine, int pair) {
        const word* const from = x + (size_t)row * HIDDEN + 2 * pair;
        all.x[row * Residual::MINE + mine] = make_float2(value(from[0]), value(from[1]));
    });
    __syncthreads();

    Place place;
    const int thread = this_thread();
    place.stage = shared_address(&rings()[thread >> 5].first[thread & 31]);
    place.stream.begin(all, first_phase, thread);
    for (int i = 0; i < DEPTH; i++) {
        place.stream.load(all, place.stage, thread);
        place.advance();
    }

    for (set_now(first_phase); now() < all.end_phase; set_now(now() + 1)) {
        const int phase = now(), number = layer_of(phase), part = phase - number * PHASES_A_LAYER;
        const Layer& layer = all.layers[number];
        // Inputs have the tag of their layer, x that of the phase before.
        const int tag = tag_of(phase), x_tag = x_tag_of(phase - 1);
        if (part == QKV_PHASE) {
            QkvProduct output;
            output.qkv = qkv, output.turns = all.turns;
            product(place, rows, scratch, NormedFor<QkvProduct>{x, x_tag, layer.attention_norm.weight, layer.attention_norm.bias},
                    output, layer.qkv, part);
        } else if (part == ATTEND_PHASE && (int)blockIdx.x < rows * Item::TILES * splits) {
            place.rest(this_thread());
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
            place.resume(this_thread());
        } else if (part == OUTPUT_PHASE) {
            OutputProduct output;
            output.x = x, output.kept = all.x;
            product(place, rows, scratch, PlainFor<OutputProduct>{attention, tag}, output, layer.output, part);
        } else if (part == UP_PHASE) {
            UpProduct output;
            output.activation = activation;
            product(place, rows, scratch, NormedFor<UpProduct>{x, x_tag, layer.mlp_norm.weight, layer.mlp_norm.bias}, output, layer.up,
                    part);
        } else if (part == DOWN_PHASE) {
            DownProduct output;
            output.x = x, output.kept = all.x;
            product(place, rows, scratch, PlainFor<DownProduct>{activation, tag}, output, layer.down, part);
        } else if (part == PHASES_A_LAYER) {
            LogitsProduct output;
            output.logits = logits;
            product(place, rows, scratch, NormedFor<LogitsProduct>{x, x_tag, norm_weight, norm_bias}, output,
                    Matrix{table, nullptr, nullptr}, part);
        }
    }
}
