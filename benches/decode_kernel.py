"""Launches kernels/decode.cu as it is, at real shapes, without building evalsuite: holds it against float64 and times whole steps.

Usage (on a machine with a GPU, PyTorch and CuPy): python3 benches/decode_kernel.py [-DNAME=VALUE …]
Options of the compiler come last and override ours, for experiments. Layout of arguments and shared memory as in
src/engine/cuda/ops/decode. Weights of TinyLlama's and Llama-2-7B's shapes are random; one request at position 192.
"""
import concurrent.futures
import ctypes
import math
import pathlib
import sys
import tempfile

import cupy
import torch

KERNELS = pathlib.Path(__file__).parent.parent / "src/engine/cuda/kernels"
BLOCKS = torch.cuda.get_device_properties(0).multi_processor_count
BLOCK_TOKENS, POSITION, WARPS = 64, 192, 16
F32, F16 = 0, 1
DENSE, AWQ = 0, 2
SHAPES = {
    "tinyllama": dict(HIDDEN=2048, INTERMEDIATE=5632, HEADS=32, KV_HEADS=4, HEAD_DIM=64, LAYERS=22),
    "llama2-7b": dict(HIDDEN=4096, INTERMEDIATE=11008, HEADS=32, KV_HEADS=32, HEAD_DIM=128, LAYERS=32),
}
FIXED = dict(VOCABULARY=32000, CONTEXT=2048, WINDOW=0, BLOCK_TOKENS=BLOCK_TOKENS, DECODE_WARPS=WARPS, EPSILON="1e-5f",
             LAYER_NORM=0, GATED=1, ROTARY=1, POSITION_OFFSET=-1, GRID_BLOCKS=BLOCKS)


class Case:
    def __init__(self, shape, element, weights, rows, depth):
        sizes = dict(SHAPES[shape], **FIXED)
        sizes["QKV"] = (sizes["HEADS"] + 2 * sizes["KV_HEADS"]) * sizes["HEAD_DIM"]
        sizes.update(ELEMENT=element, WEIGHTS=weights, GROUP_SIZE=128 if weights == AWQ else 0, ROWS=rows, DEPTH=depth,
                     SCALE=f"{1 / math.sqrt(sizes['HEAD_DIM'])}f")
        self.name, self.sizes, self.element, self.weights, self.rows, self.depth = shape, sizes, element, weights, rows, depth

    def matrices(self):
        s = self.sizes
        return [(s["QKV"], s["HIDDEN"]), (s["HIDDEN"], s["HEADS"] * s["HEAD_DIM"]), (2 * s["INTERMEDIATE"], s["HIDDEN"]),
                (s["HIDDEN"], s["INTERMEDIATE"])]

    def compile(self):
        attention = "attention_decode_f32.cuh" if self.element == F32 else "attention_decode.cuh"
        files = ["prelude.cuh", "attention.cuh", attention, "decode_weights.cuh", "decode_layers.cuh", "decode_stream.cuh", "decode.cu"]
        text = "\n".join((KERNELS / file).read_text() for file in files).encode()
        sizes = dict(self.sizes, RING_END=self.ring_end())
        options = ["--gpu-architecture=sm_90a", "--std=c++17", *(f"-D{k}={v}" for k, v in sizes.items()), *sys.argv[1:]]
        nvrtc, program = ctypes.CDLL("libnvrtc.so.13"), ctypes.c_void_p()
        assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"decode.cu", 0, None, None) == 0
        failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*map(str.encode, options)))
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        if failed:
            sys.exit(log.value.decode())
        nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
        image = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetCUBIN(program, image)
        self.image = image.raw
        return self

    def ring_end(self):
        tiles = sum(-(-outputs // (16 * BLOCKS)) for outputs, _ in [*self.matrices(), (self.sizes["VOCABULARY"], 0)])
        kept = self.rows * 64 * sum(-(-self.sizes[name] // (16 * BLOCKS)) for name in ("QKV", "HIDDEN"))
        directory = -(-(self.sizes["LAYERS"] * 144 + tiles * 72 + 1032 + kept) // 128) * 128
        return directory + WARPS * self.depth * (1024 + (128 if self.weights == AWQ else 0))

    def shared_bytes(self):
        s, bytes_each = self.sizes, 4 if self.element == F32 else 2
        stride = lambda inputs: -(-inputs // 128) * 128 + 32  # no less than any layout's
        pass_pairs = 64 if self.rows <= 2 else 32
        inputs = max(inputs for _, inputs in self.matrices())
        gemm = WARPS * self.rows * pass_pairs * 8 + self.rows * stride(inputs) * bytes_each
        heads = min(s["HEADS"] // s["KV_HEADS"], 2 if self.element == F32 else 16)
        queries = (heads + 2) * s["HEAD_DIM"] * 4 if self.element == F32 else -(-heads // 8) * s["HEAD_DIM"] * 16 + 4 * s["HEAD_DIM"]
        attention = WARPS * heads * (s["HEAD_DIM"] + 3) * 4 + queries
        return self.ring_end() + max(gemm, attention)


class World:
    """A model and a step of it in device memory."""

    def __init__(self, case):
        s, self.case = case.sizes, case
        self.rows = rows = 1 if case.rows <= 2 else case.rows
        self.type = torch.float32 if case.element == F32 else torch.float16
        torch.manual_seed(1)
        normal = lambda *shape, spread=1.0: (torch.randn(*shape, device="cuda") * spread).to(self.type)
        self.layers, table, self.bytes = [], [], 0
        for _ in range(s["LAYERS"]):
            words, layer = [], {"matrices": []}
            for outputs, inputs in case.matrices():
                if case.weights == DENSE:
                    held = (normal(outputs, inputs, spread=1 / math.sqrt(inputs)),)
                else:  # random codes; a scale of 0.0012 and the zero point 8
                    held = (torch.randint(-2**31, 2**31 - 1, (outputs * inputs // 8,), device="cuda", dtype=torch.int32),
                            torch.full((outputs * inputs // 128,), 0x640814EA, device="cuda", dtype=torch.int32))
                layer["matrices"].append(held)
                self.bytes += sum(part.numel() * part.element_size() for part in held)
                words += [held[0].data_ptr(), held[1].data_ptr() if len(held) > 1 else 0, 0]
            layer["norms"] = normal(s["HIDDEN"]), normal(s["HIDDEN"])
            layer["cache"] = [normal(rows * 8, s["KV_HEADS"], BLOCK_TOKENS, s["HEAD_DIM"]) for _ in range(2)]
            words += [layer["norms"][0].data_ptr(), 0, layer["norms"][1].data_ptr(), 0, *(part.data_ptr() for part in layer["cache"])]
            self.layers.append(layer)
            table.append(words)
        self.head, self.norm = normal(s["VOCABULARY"], s["HIDDEN"], spread=1 / math.sqrt(s["HIDDEN"])), normal(s["HIDDEN"])
        self.bytes += self.head.numel() * self.head.element_size()
        self.embedding = normal(rows, s["HIDDEN"])
        words = torch.int64 if case.element == F32 else torch.int32
        zeros = lambda columns: torch.zeros(rows, columns, dtype=words, device="cuda")
        self.words = [zeros(c) for c in (s["HIDDEN"], s["QKV"], s["HEADS"] * s["HEAD_DIM"], s["INTERMEDIATE"])]
        self.logits = torch.zeros(rows, s["VOCABULARY"], device="cuda")
        int32 = lambda values: torch.tensor(values, dtype=torch.int32, device="cuda")
        self.tables, self.numbers = int32(range(rows * 8)).reshape(rows, 8), int32(range(rows))
        self.positions = int32([POSITION] * rows)
        self.cos_sin = torch.randn(2, s["CONTEXT"], s["HEAD_DIM"] // 2, device="cuda") * 0.7
        self.table = torch.tensor(table, dtype=torch.int64, device="cuda")
        self.workspace = torch.zeros(1 << 20, device="cuda")
        module = self.load(case.image)
        self.begin, self.decode = module.get_function("decode_begin"), module.get_function("decode")
        self.decode.max_dynamic_shared_size_bytes = case.shared_bytes()

    @staticmethod
    def load(image):
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(image)
            file.flush()
            module = cupy.RawModule(path=file.name, enable_cooperative_groups=True)
            module.compile()
        return module

    def step(self, splits=2):
        s, address, int32 = self.case.sizes, lambda tensor: cupy.uint64(tensor.data_ptr()), cupy.int32
        rows, words = self.rows, [cupy.uint64(part.data_ptr()) for part in self.words]
        numbers, positions, none = address(self.numbers), address(self.positions), cupy.uint64(0)
        self.begin((rows * 16,), (256,), (numbers, numbers, positions, numbers, address(self.embedding), none, *words))
        arguments = (address(self.table), address(self.head), address(self.norm), none, int32(0), int32(5 * s["LAYERS"] + 1),
                     int32(rows), *words, address(self.logits), address(self.tables), int32(8), positions, numbers,
                     address(self.cos_sin), int32(splits), address(self.workspace))
        self.decode((BLOCKS,), (32 * WARPS,), arguments, shared_mem=self.case.shared_bytes())

    def reference(self):
        s, rows, half = self.case.sizes, self.rows, self.case.sizes["HEAD_DIM"] // 2
        heads, kv_heads, group = s["HEADS"], s["KV_HEADS"], s["HEADS"] // s["KV_HEADS"]
        stored = lambda x: x.to(self.type).double()
        norm = lambda x, weight: stored(x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight.double())

        def rotated(x):
            cosine, sine = (self.cos_sin[part][self.positions.long()][:, None].double() for part in (0, 1))
            a, b = x[..., :half], x[..., half:]
            return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)

        x = self.embedding.double()
        for layer in self.layers:
            qkv, output, up, down = (held[0].double() for held in layer["matrices"])
            parts = stored(norm(x, layer["norms"][0]) @ qkv.T).reshape(rows, -1, s["HEAD_DIM"])
            query, key = stored(rotated(parts[:, :heads])), stored(rotated(parts[:, heads:heads + kv_heads]))
            outputs = []
            for row in range(rows):
                place = int(self.positions[row])
                own = [key[row], parts[row, heads + kv_heads:]]
                keys, values = (
                    torch.cat([cache[self.tables[row].long()].double().transpose(0, 1).reshape(kv_heads, -1, s["HEAD_DIM"])[:, :place],
                               new[:, None]], 1).repeat_interleave(group, 0) for cache, new in zip(layer["cache"], own))
                weights = torch.softmax((keys @ query[row][:, :, None])[..., 0] / math.sqrt(s["HEAD_DIM"]), -1)
                outputs.append((weights[:, None] @ values).reshape(-1))
            x = stored(x + stored(torch.stack(outputs)) @ output.T)
            gate, value = stored(norm(x, layer["norms"][1]) @ up.T).chunk(2, -1)
            x = stored(x + stored(gate * torch.sigmoid(gate) * value) @ down.T)
        return norm(x, self.norm) @ self.head.double().T

    def error(self):
        self.step()
        torch.cuda.synchronize()
        reference = self.reference()
        return float((self.logits.double() - reference).abs().max() / reference.abs().max())

    def milliseconds(self, steps=40):
        times = []
        for _ in range(4):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(steps):
                self.step(1)
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) / steps)
        return sorted(times[1:])


cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream).use()
cases = [Case("tinyllama", F32, DENSE, 1, 6), Case("tinyllama", F16, DENSE, 2, 6), Case("tinyllama", F16, DENSE, 8, 6),
         Case("tinyllama", F16, AWQ, 2, 6), Case("llama2-7b", F16, AWQ, 2, 6), Case("llama2-7b", F16, DENSE, 2, 6)]
with concurrent.futures.ThreadPoolExecutor() as pool:
    list(pool.map(Case.compile, cases))
for case in cases:
    world = World(case)
    error = f", error {world.error():.1e} of the largest" if case.weights == DENSE and case.name == "tinyllama" else ""
    low, median, high = world.milliseconds()
    print(f"{case.name} {'f32' if case.element == F32 else 'awq' if case.weights == AWQ else 'f16'}, {world.rows} rows: "
          f"{median * 1000:.0f} µs ({low * 1000:.0f}–{high * 1000:.0f}), {world.bytes / median / 1e9:.2f} TB/s{error}", flush=True)
    del world
    torch.cuda.empty_cache()
