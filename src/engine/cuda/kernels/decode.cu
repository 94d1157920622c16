// One decode step of up to ROWS sequences (one token each): all layers and the logits in one persistent kernel, one thread block a
// multiprocessor. decode_plain.cu computes the same in a page of simple kernels; read that first.
//
// Phases of a layer, each a GEMM with its input and epilogue (decode_layers.cuh), or attention:
//
//   QKV      qkv        = RoPE(Wqkv · norm(x) (+ bias))
//   ATTEND   attention  = softmax(q · Kᵀ / √HEAD_DIM) · V; the new k and v into the paged cache
//   OUTPUT   x         += Wo · attention (+ bias)
//   UP       activation = silu(Wgate · h) · (Wup · h), or relu(Wup · h + bias), h = norm(x)
//   DOWN     x         += Wdown · activation (+ bias)
//   LOGITS   logits     = table · norm(x), once, after the last layer
//
// Shapes, row-major: x [rows, HIDDEN], qkv [rows, QKV], attention [rows, HEADS · HEAD_DIM], activation [rows, INTERMEDIATE]: tagged words
// (decode_layers.cuh) of `element`, exchanged between thread blocks. logits f32 [rows, VOCABULARY]. Cache and tables as in attention.cuh;
// cos_sin f32 [2, CONTEXT, HEAD_DIM / 2]; tokens, positions, slots i32 [rows], a position below 0 marks a padding row; next_tokens i32
// [slots]; layers: LAYERS records of 18 words. Sums are binary32 (per group for AWQ), and what is stored is rounded once.
//
// Work split: a step is bound by reading the weights once, and kernel boundaries would interrupt that. So the thread blocks stay for the
// whole step, each with its fixed range of tiles of every GEMM; each warp streams its part of the weights through a ring in shared memory
// (decode_stream.cuh), across the ends of phases, which are nothing but words that a thread block waits for. The sixteen warps of a block
// split the inputs (K); their sums of a tile are added in shared memory in the order of warps. In ATTEND, (row, head tile, chunk) triples
// are distributed over thread blocks.
//
// Determinism: the order of every sum depends on the model's sizes alone. A row's results are the same bits whatever the other rows hold
// and however many there are, as long as the same kernel (ROWS) computes them.
//
// Host: a cooperative launch of GRID_BLOCKS = multiprocessors blocks (they wait for each other) with RING_END + work area bytes of shared
// memory (ops/decode); decode_begin before it, in the same stream; weights 16-byte aligned; HIDDEN, INTERMEDIATE, HEADS · HEAD_DIM
// multiples of 8; splits = chunks of the longest row; the first COUNTERS words of the workspace zero, and left zero.
//
// Constants: those of attention.cuh, and WEIGHTS (KIND of all layers' matrices; the table is dense), GROUP_SIZE, LAYERS, HIDDEN,
// INTERMEDIATE, VOCABULARY, CONTEXT, EPSILON, LAYER_NORM, GATED, ROTARY, POSITION_OFFSET, ROWS (the most), DEPTH (stages of a ring),
// GRID_BLOCKS, RING_END (bytes of shared memory that the plan and the rings take).

typedef Gemm<WEIGHTS, HIDDEN, QkvOutput> QkvGemm;
typedef Gemm<WEIGHTS, HEADS * HEAD_DIM, ResidualOutput> OutputGemm;
typedef Gemm<WEIGHTS, HIDDEN, MlpOutput> UpGemm;
typedef Gemm<WEIGHTS, INTERMEDIATE, ResidualOutput> DownGemm;
typedef Gemm<DENSE, HIDDEN, LogitsOutput> LogitsGemm;

constexpr int MAX_SEGMENTS =
    max_of(max_of(QkvGemm::L::SEGMENTS, OutputGemm::L::SEGMENTS), DownGemm::L::SEGMENTS);
constexpr bool RAGGED = QkvGemm::L::CHUNKS % 4 != 0 || OutputGemm::L::CHUNKS % 4 != 0 || DownGemm::L::CHUNKS % 4 != 0
                     || LogitsGemm::L::CHUNKS % 4 != 0;
constexpr int MAX_TILES = QkvGemm::MAX_TILES + OutputGemm::MAX_TILES + UpGemm::MAX_TILES + DownGemm::MAX_TILES
                         + LogitsGemm::MAX_TILES;
// Pairs whose sums are added up at a time: fewer where there are more rows, to save shared memory.
constexpr int PASS_PAIRS = ROWS <= 2 ? 64 : 32;
typedef StageOf<MAX_SEGMENTS> Stage;
typedef BlockPlanOf<MAX_TILES, QkvOutput::BLOCK_PAIRS, ResidualOutput::BLOCK_PAIRS> BlockPlan;
static_assert(sizeof(BlockPlan) + WARPS * DEPTH * sizeof(Stage) == RING_END, "ops/decode reserves other shared memory");

// A unit of attention is one chunk of one row and head tile. Thread block b computes units b, b + GRID_BLOCKS, … below rows · TILES ·
// splits. Its first unit is the same in every layer, so what it needs to find its keys and values is looked up once. (Prefetching those to
// the L2 cache costs more than it saves: 4 % of Llama-2-7B in AWQ, H100.)
struct AttentionTask {
    static constexpr int TILES = KV_HEADS * HEAD_TILES;  // units of a row and chunk
    static constexpr int TABLE = CHUNK / BLOCK_TOKENS;
    int chunk;     // −1: there is none (never read; dropping it reorders the machine code, so measure if you do)
    int position;  // of the row
    int blocks[TABLE];

    // Looks up the thread block's first unit. Called by thread 0.
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

// Dynamic shared memory: the plan, the rings [DEPTH, WARPS] of stages, the work area of the current phase.
extern __shared__ __align__(128) uint4 shared[];
__device__ __forceinline__ BlockPlan& block_plan() { return *(BlockPlan*)shared; }
__device__ __forceinline__ Stage* rings() { return (Stage*)(&block_plan() + 1); }
__device__ __forceinline__ uint4* work_area() { return (uint4*)(rings() + WARPS * DEPTH); }
__device__ __forceinline__ uint32 shared_address(const void* at) { return (uint32)__cvta_generic_to_shared(at); }

// The phase being computed; in shared memory, to save a register (see WeightStream).
__device__ __forceinline__ int current_phase() {
    return (int)load_word(shared_address(&block_plan().stream_states[this_thread() >> 5].current_phase));
}
__device__ __forceinline__ void set_phase(int phase) {
    const int thread = this_thread();
    __syncwarp();
    if ((thread & 31) == 0) block_plan().stream_states[thread >> 5].current_phase = phase;
    __syncwarp();
}

// What `attend` reads and writes in one layer: tagged qkv and attention words, and the KV cache.
struct TaggedTensors {
    word *qkv, *attention;
    element *keys, *values;
    uint32* workspace;
    int tag;

    __device__ __forceinline__ void load(uint32 (&to)[2], int row, int at) const {
        WordVector words[1];
        wait_for_tag(words, tag, [&](int) { return qkv + (size_t)row * QKV + at; });
        to[0] = __byte_perm(words[0].at[0], words[0].at[1], 0x5410);
        to[1] = __byte_perm(words[0].at[2], words[0].at[3], 0x5410);
    }
    __device__ __forceinline__ void load(float4& to, int row, int at) const {
        WordVector words[2];
        wait_for_tag(words, tag, [&](int i) { return qkv + (size_t)row * QKV + at + 2 * i; });
        const word *low = words[0].at, *high = words[1].at;
        to = make_float4(word_value(low[0]), word_value(low[1]), word_value(high[0]), word_value(high[1]));
    }
    __device__ __forceinline__ void store(int row, int at, float low, float high) const {
        word* const to = attention + (size_t)row * (HEADS * HEAD_DIM) + at;
        store_word(to, tagged(low, tag));
        store_word(to + 1, tagged(high, tag));
    }

    // Output of a padding row: zeros, because the next phase waits for its words. Waits for qkv first, as every phase does for its input,
    // so that no word is overwritten that another thread block still waits for.
    __device__ __forceinline__ void store_padding(int row, int tile) const {
        const int kv_head = tile / HEAD_TILES, part = tile % HEAD_TILES;
        const int heads = min(TILE_HEADS, GROUP - part * TILE_HEADS), first = kv_head * GROUP + part * TILE_HEADS;
        for (int i = threadIdx.x; i < (heads + 2) * HEAD_DIM / WORDS; i += THREADS) {
            const int head = i * WORDS / HEAD_DIM;
            const int from = head < heads ? first + head : HEADS + (head - heads) * KV_HEADS + kv_head;
            WordVector words[1];
            wait_for_tag(words, tag, [&](int) { return qkv + (size_t)row * QKV + from * HEAD_DIM + i * WORDS % HEAD_DIM; });
        }
        __syncthreads();
        for (int i = threadIdx.x * 2; i < heads * HEAD_DIM; i += THREADS * 2) store(row, first * HEAD_DIM + i, 0.0f, 0.0f);
    }
};

// A thread's state of the weight pipeline, for the whole step.
struct WeightPipeline {
    WeightStream<BlockPlan, Stage, MAX_SEGMENTS, RAGGED> stream;
    // Shared-memory address of this lane's part of the next ring stage.
    uint32 stage;

    __device__ __forceinline__ void advance() {
        stage += WARPS * sizeof(Stage);
        if (stage >= shared_address(work_area())) stage -= DEPTH * WARPS * sizeof(Stage);
    }

    // Frees the registers for attention, and takes them back.
    __device__ __forceinline__ void save(int thread) const {
        stream.save(block_plan(), thread);
        if ((thread & 31) == 0) block_plan().stream_states[thread >> 5].stage = stage;
        __syncwarp();
    }
    __device__ __forceinline__ void restore(int thread) {
        stream.restore(block_plan(), thread);
        stage = block_plan().stream_states[thread >> 5].stage + (thread & 31) * 16;
    }
};

// One GEMM phase: input → shared memory, weights · activations tile by tile, sums over the warps, bias, epilogue (P).
template <typename P, typename Input>
__device__ __forceinline__ void gemm(
    WeightPipeline& pipeline, int rows, float* scratch, Input input, const P& output, const Matrix& matrix, int part) {
    typedef typename P::L L;
    const int thread = this_thread(), warp = thread >> 5, lane = thread & 31;
    float2* const parts = (float2*)work_area();
    element* const h = (element*)(parts + WARPS * ROWS * PASS_PAIRS);
    const int tiles = block_plan().tile_ranges[part].tiles;
    const Tile* const tile_list = block_plan().tiles + block_plan().tile_ranges[part].first_tile;
    // This warp's blocks of a row.
    const int steps = L::BLOCKS % WARPS == 0 ? L::BLOCKS / WARPS : (L::BLOCKS - warp + WARPS - 1) / WARPS;
    input.prefetch();
    if (tiles > 0) {
        // Zeros from input K to the end of the last block.
        constexpr int BEHIND = L::BLOCKS * L::BLOCK_INPUTS - P::K;
        if (BEHIND > 0) {
            for (int i = threadIdx.x; i < rows * BEHIND; i += THREADS) {
                const int row = i / max(BEHIND, 1), at = i % max(BEHIND, 1);
                h[row * L::STRIDE + P::K + at] = narrow<element>(0.0f);
            }
        }
        input.fill(h, rows, scratch);
        __syncthreads();

        // The (row, pair) that this thread finishes after each pass of PASS_PAIRS / 8 tiles.
        const int my_row = thread / PASS_PAIRS, my_pair = thread % PASS_PAIRS;
        int pass_tile = 0;
        const uint32 x_begin = shared_address(h + warp * L::BLOCK_INPUTS + activation_offset<L>(lane, rows));
        for (int tile = 0; tile < tiles; tile++) {
            Sums sums;
            uint32 x = x_begin;
#pragma unroll 1
            for (int step = 0; step < steps; step++) {
                wait_for_copies<DEPTH - 1>();
                if (L::KIND == AWQ) __syncwarp();  // a lane reads group words that other lanes have loaded
                multiply_block<L>(sums, pipeline.stage, x, rows, lane);
                if (L::KIND == AWQ) __syncwarp();
                pipeline.stream.load(block_plan(), pipeline.stage, thread);
                pipeline.advance();
                x += WARPS * L::BLOCK_INPUTS * sizeof(element);
            }
            store_sums(sums, parts + warp * ROWS * PASS_PAIRS + (tile - pass_tile) * 8, PASS_PAIRS, rows, lane);
            const bool last = tile + 1 == tiles;
            if (!last && (tile + 1 - pass_tile) * 8 < PASS_PAIRS) continue;
            __syncthreads();
            const Tile& my_tile = tile_list[min(pass_tile + my_pair / 8, tiles - 1)];
            if (my_row < rows && pass_tile + my_pair / 8 < tiles && my_pair % 8 < my_tile.pairs) {
                const int pair = my_tile.pair + my_pair % 8;
                const int first = P::first(pair), second = P::has_second(pair) ? P::second(pair) : first;
                float a = 0.0f, b = 0.0f;
#pragma unroll
                for (int w = 0; w < WARPS; w++) {
                    const float2 part = parts[(w * ROWS + my_row) * PASS_PAIRS + my_pair];
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
                output.finish(current_phase(), pair, my_row, pass_tile * 8 + my_pair, a, b);
            }
            if (last) break;
            __syncthreads();
            pass_tile += PASS_PAIRS / 8;
        }
    }
    __syncthreads();
}

template <typename P> using NormInputFor = NormInput<P::K, P::L::STRIDE>;
template <typename P> using CopyInputFor = CopyInput<P::K, P::L::STRIDE>;

// Appends a GEMM's tiles to the `count` that are listed already.
template <typename P> __device__ __forceinline__ void list_tiles(BlockPlan& plan, int& count, int part) {
    if (threadIdx.x == 0) plan.tile_ranges[part] = TileRange{count, P::tiles(), P::L::BLOCKS, P::L::CHUNKS - 1, P::L::SEGMENTS};
    P::list_tiles(plan.tiles + count);
    count += P::tiles();
}

// Calls with(row, block_pair, pair) for all rows and pairs of this thread block's tiles; past the end, the last pair again. All threads.
template <typename P, typename With> __device__ __forceinline__ void for_each_pair(int rows, With with) {
    for (int i = threadIdx.x; i < rows * P::tiles() * 8; i += THREADS) {
        const int row = i / (P::tiles() * 8), block_pair = i % (P::tiles() * 8);
        with(row, block_pair, min(P::first_tile(blockIdx.x) * 8 + block_pair, P::PAIRS - 1));
    }
}

// Runs before `decode`: x[r] = table[tokens[r]] (+ position_table[…]) with tag 1, and clears the tags of the previous step. Grid:
// BEGIN_BLOCKS blocks a row, BEGIN_THREADS threads.
constexpr int BEGIN_THREADS = 256;
constexpr int BEGIN_BLOCKS = 16;
template <int COUNT> __device__ __forceinline__ void clear(word* row, int first) {
    for (int i = first; i < COUNT / WORDS; i += BEGIN_BLOCKS * BEGIN_THREADS) ((uint4*)row)[i] = make_uint4(0, 0, 0, 0);
}
extern "C" __global__ void __launch_bounds__(BEGIN_THREADS)
    decode_begin(const int* tokens, const int* next_tokens, const int* positions, const int* slots, const element* table,
                 const element* position_table, word* x, word* qkv, word* attention, word* activation) {
    const int row = blockIdx.x / BEGIN_BLOCKS, first = blockIdx.x % BEGIN_BLOCKS * BEGIN_THREADS + threadIdx.x;
    // A token of −1 stands for the one that was sampled on the device in the sequence's last step.
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

// Phases first_phase .. end_phase of a step (tests run single phases).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    decode(const Layer* layers, const uint4* table, const element* norm_weight, const element* norm_bias, int first_phase,
           int end_phase, int rows, word* x, word* qkv, word* attention, word* activation, float* logits, const int* tables,
           int table_stride, const int* positions, const int* slots, const float* cos_sin, int splits, uint32* workspace) {
    __shared__ float scratch[WARPS];
    __shared__ AttentionTask task;
    BlockPlan& plan = block_plan();
    for (int i = threadIdx.x; i < LAYERS * (int)(sizeof(Layer) / 16); i += THREADS) {
        ((uint4*)plan.layers)[i] = ((const uint4*)layers)[i];
    }
    int count = 0;
    list_tiles<QkvGemm>(plan, count, QKV_PHASE);
    list_tiles<OutputGemm>(plan, count, OUTPUT_PHASE);
    list_tiles<UpGemm>(plan, count, UP_PHASE);
    list_tiles<DownGemm>(plan, count, DOWN_PHASE);
    list_tiles<LogitsGemm>(plan, count, PHASES_A_LAYER);
    if (threadIdx.x == 0) {
        plan.head = table;
        plan.tile_ranges[ATTEND_PHASE] = TileRange{};
        plan.end_phase = end_phase;
        task.find(rows, splits, positions, slots, tables, table_stride);
    }
    __syncthreads();

    // Operands of the epilogues that are the same in every layer or stay on this multiprocessor.
    for_each_pair<QkvGemm>(rows, [&](int row, int block_pair, int pair) {
        plan.rotations[row * QkvOutput::BLOCK_PAIRS + block_pair] = QkvOutput::rotation(cos_sin, positions[row], pair);
    });
    for_each_pair<OutputGemm>(rows, [&](int row, int block_pair, int pair) {
        const word* const from = x + (size_t)row * HIDDEN + 2 * pair;
        plan.x[row * ResidualOutput::BLOCK_PAIRS + block_pair] = make_float2(word_value(from[0]), word_value(from[1]));
    });
    __syncthreads();

    WeightPipeline pipeline;
    const int thread = this_thread();
    pipeline.stage = shared_address(&rings()[thread >> 5].first[thread & 31]);
    pipeline.stream.begin(plan, first_phase, thread);
    for (int i = 0; i < DEPTH; i++) {
        pipeline.stream.load(plan, pipeline.stage, thread);
        pipeline.advance();
    }

    for (set_phase(first_phase); current_phase() < plan.end_phase; set_phase(current_phase() + 1)) {
        const int phase = current_phase(), number = layer_of(phase), part = phase - number * PHASES_A_LAYER;
        const Layer& layer = plan.layers[number];
        // qkv, attention and activation carry the tag of their layer, x that of the previous phase.
        const int tag = tag_of(phase), x_tag = x_tag_of(phase - 1);
        if (part == QKV_PHASE) {
            QkvGemm output;
            output.qkv = qkv, output.rotations = plan.rotations;
            gemm(pipeline, rows, scratch, NormInputFor<QkvGemm>{x, x_tag, layer.attention_norm.weight, layer.attention_norm.bias},
                 output, layer.qkv, part);
        } else if (part == ATTEND_PHASE && (int)blockIdx.x < rows * AttentionTask::TILES * splits) {
            pipeline.save(this_thread());
            const TaggedTensors of = {qkv, attention, layer.keys, layer.values, workspace, tag};
#pragma unroll 1
            for (int i = blockIdx.x; i < rows * AttentionTask::TILES * splits; i += GRID_BLOCKS) {
                const int index = i / splits, split = i % splits;
                const int row = index / AttentionTask::TILES, tile = index % AttentionTask::TILES;
                const bool is_first = i == (int)blockIdx.x;
                const int position = is_first ? task.position : positions[row];
                if (position < 0) {
                    if (split == 0) of.store_padding(row, tile);
                } else if (first_position(position) / CHUNK + split <= position / CHUNK) {
                    const int* const table =
                        is_first ? task.blocks - task.chunk * AttentionTask::TABLE : tables + (size_t)slots[row] * table_stride;
                    attend(of, row, position, table, tile, index, split, splits, work_area());
                    __syncthreads();
                }
            }
            pipeline.restore(this_thread());
        } else if (part == OUTPUT_PHASE) {
            OutputGemm output;
            output.x = x, output.residual = plan.x;
            gemm(pipeline, rows, scratch, CopyInputFor<OutputGemm>{attention, tag}, output, layer.output, part);
        } else if (part == UP_PHASE) {
            UpGemm output;
            output.activation = activation;
            gemm(pipeline, rows, scratch, NormInputFor<UpGemm>{x, x_tag, layer.mlp_norm.weight, layer.mlp_norm.bias}, output,
                 layer.up, part);
        } else if (part == DOWN_PHASE) {
            DownGemm output;
            output.x = x, output.residual = plan.x;
            gemm(pipeline, rows, scratch, CopyInputFor<DownGemm>{activation, tag}, output, layer.down, part);
        } else if (part == PHASES_A_LAYER) {
            LogitsGemm output;
            output.logits = logits;
            gemm(pipeline, rows, scratch, NormInputFor<LogitsGemm>{x, x_tag, norm_weight, norm_bias}, output,
                 Matrix{table, nullptr, nullptr}, part);
        }
    }
}
