"""Writes packed/: a tiny Llama in every packed layout that is read as dense weights, and the weights that it stands for.

What is compressed-tensors' is packed and unpacked by that package; where it has no code of its own any more (activation order), and for
GPTQ, FP8 and ModelOpt, the layouts are written here as their publishers describe them, and held against others' readers by
read_packed.py. The weights to compare with are SHA-256 of their f32 values. Needs:

    pip install torch safetensors compressed-tensors==0.20.1
    python tests/data/make_packed.py
"""

import hashlib
import json
import pathlib

import safetensors.torch
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils.helpers import calculate_qparams

FOLDER = pathlib.Path(__file__).with_name("packed")
HIDDEN, INSIDE, VOCABULARY = 32, 64, 24
SHAPES = {
    "self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "self_attn.v_proj": (16, 32), "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (INSIDE, HIDDEN), "mlp.up_proj": (INSIDE, HIDDEN), "mlp.down_proj": (HIDDEN, INSIDE),
}
generator = torch.Generator().manual_seed(19)


def normal(*shape):
    """Random numbers of a size that weights have, the same in every run."""
    return torch.randn(shape, generator=generator) * 0.1


def exact(q, zero, scale):
    """(q − z) · s, rounded once to f32."""
    return ((q.double() - zero) * scale.double()).float()


def spread(values, shape):
    """Values of groups or blocks `[rows, columns]` for each weight."""
    rows, columns = -(-shape[0] // values.shape[0]), -(-shape[1] // values.shape[1])
    return values.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[:shape[0], :shape[1]]


def compressed(weight, weights, dtype):
    """A layer's tensors in compressed-tensors, and its weights."""
    args = QuantizationArgs(**weights)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    strategy = str(getattr(args.strategy, "value", args.strategy))
    rows, columns = weight.shape
    blocks = {
        "tensor": weight.reshape(1, 1, -1), "channel": weight.reshape(rows, 1, columns),
        "group": weight.reshape(rows, -1, args.group_size or columns),
        "tensor_group": weight.reshape(rows, -1, args.group_size or columns),
    }
    if strategy == "block":
        height, width = args.block_structure
        blocks["block"] = weight.reshape(rows // height, height, columns // width, width).permute(0, 2, 1, 3).flatten(2)
    low, high = blocks[strategy].amin(-1), blocks[strategy].amax(-1)
    state = {"weight": weight.to(dtype)}
    kind = {"int": "pack-quantized", "float": "float-quantized"}
    if args.type == "float" and args.num_bits == 4:
        if args.group_size == 16:
            state["weight_global_scale"] = torch.tensor([448.0 * 6.0]) / weight.abs().max()
            name = "nvfp4-pack-quantized"
        else:
            name = "mxfp4-pack-quantized"
    else:
        name = kind[str(getattr(args.type, "value", args.type))]
    scale, zero = calculate_qparams(low, high, args, global_scale=state.get("weight_global_scale"))
    if args.type == "int" or args.num_bits == 8:
        scale = scale.to(dtype)
    state["weight_scale"] = scale.reshape(1) if strategy == "tensor" else scale
    if not args.symmetric:
        state["weight_zero_point"] = zero.to(torch.int8)
    compressor = BaseCompressor.get_value_from_registry(name)
    stored = compressor.compress(state, scheme)
    theirs = compressor.decompress(dict(stored), scheme)["weight"]
    if name == "pack-quantized":
        codes = unpack_from_int32(stored["weight_packed"], args.num_bits, weight.shape)
        zeros = spread(state["weight_zero_point"], weight.shape) if not args.symmetric else 0
        ours = exact(codes, zeros, spread(state["weight_scale"].reshape(low.shape), weight.shape))
    elif name == "float-quantized":
        scales = spread(state["weight_scale"].reshape(low.shape), weight.shape)
        ours = exact(stored["weight"].float(), 0, scales)
    elif name == "nvfp4-pack-quantized":
        codes = unpack_fp4_from_uint8(stored["weight_packed"], rows, columns).float()
        ours = codes * spread(stored["weight_scale"].float() / stored["weight_global_scale"], weight.shape)
        theirs = ours.to(theirs.dtype)  # it rounds scale, quotient and product to bf16 one after the other
    else:
        codes = unpack_fp4_from_uint8(stored["weight_packed"], rows, columns).float()
        ours = codes * spread(torch.exp2(stored["weight_scale"].float() - 127), weight.shape)
    # Rounded to the type that it is run in, every weight is what compressed-tensors itself unpacks.
    assert torch.equal(ours.to(theirs.dtype), theirs), (name, (ours.to(theirs.dtype) - theirs).abs().max())
    return stored, ours


def activation_order(weight):
    """Groups of inputs in the order of `g_idx`, as compressed-tensors had it."""
    order = torch.randperm(weight.shape[1], generator=generator)
    groups = torch.empty_like(order)
    groups[order] = torch.arange(weight.shape[1]) // 16
    scale = (torch.stack([weight[:, groups == group].abs().amax(1) for group in range(int(groups.max()) + 1)], 1) / 7).bfloat16()
    codes = torch.clamp(torch.round(weight / scale.float()[:, groups]), -8, 7).to(torch.int8)
    stored = {
        "weight_packed": pack_to_int32(codes, 4), "weight_scale": scale, "weight_shape": torch.tensor(weight.shape),
        "weight_g_idx": groups.int(),
    }
    return stored, exact(codes, 0, scale[:, groups])


def gptq(weight, bits, group, act_order, less_one, symmetric):
    """GPTQ: codes along the inputs, zero points along the outputs."""
    rows, columns = weight.shape
    group = group if group > 0 else columns
    order = torch.randperm(columns, generator=generator) if act_order else torch.arange(columns)
    index = torch.empty_like(order)
    index[order] = torch.arange(columns) // group
    count, largest = int(index.max()) + 1, 2**bits - 1
    scales, zeros = torch.empty(count, rows), torch.empty(count, rows, dtype=torch.long)
    for at in range(count):
        part = weight[:, index == at]
        if symmetric:
            scales[at], zeros[at] = part.abs().amax(1) * 2 / largest, (largest + 1) // 2
        else:
            low, high = part.amin(1).clamp(max=-1e-3), part.amax(1).clamp(min=1e-3)
            scales[at], zeros[at] = (high - low) / largest, torch.clamp(torch.round(-low * largest / (high - low)), 1, largest)
    scales = scales.half()
    codes = torch.clamp(torch.round(weight / scales.float()[index].T) + zeros[index].T, 0, largest).long()
    per_word = 32 // bits

    def pack(values):
        """Along dimension 0."""
        words = torch.zeros(-(-values.shape[0] // per_word), values.shape[1], dtype=torch.long)
        for at, row in enumerate(values):
            words[at // per_word] |= row << (bits * (at % per_word))
        return words.to(torch.int32) if words.max() < 2**31 else (words - (words >= 2**31).long() * 2**32).to(torch.int32)

    stored = {
        "qweight": pack(codes.T), "qzeros": pack((zeros - less_one).T).T.contiguous(), "scales": scales,
        "g_idx": index.to(torch.int32),
    }
    return stored, exact(codes, zeros[index].T, scales[index].T)


def fp8(weight, block):
    """FP8 with a factor a block, or one for all."""
    height, width = block or weight.shape
    rows, columns = -(-weight.shape[0] // height), -(-weight.shape[1] // width)
    scale = torch.empty(rows, columns)
    for i in range(rows):
        for j in range(columns):
            scale[i, j] = weight[i * height:(i + 1) * height, j * width:(j + 1) * width].abs().max() / 448
    whole = scale.repeat_interleave(height, 0).repeat_interleave(width, 1)[:weight.shape[0], :weight.shape[1]]
    codes = (weight / whole).to(torch.float8_e4m3fn)
    part = {"weight_scale_inv": scale} if block else {"weight_scale": scale.reshape(())}
    return {"weight": codes, **part}, exact(codes.float(), 0, whole)


def modelopt(weight):
    """NVFP4 as ModelOpt stores it: the scale of scales multiplies."""
    scheme = dict(num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True, scale_dtype=torch.float8_e4m3fn)
    stored, _ = compressed(weight, scheme, torch.bfloat16)
    second = 1 / stored["weight_global_scale"][0]
    codes = unpack_fp4_from_uint8(stored["weight_packed"], *weight.shape).float()
    ours = codes * spread(stored["weight_scale"].float() * second, weight.shape)
    return {"weight": stored["weight_packed"], "weight_scale": stored["weight_scale"], "weight_scale_2": second}, ours


def ct(layout, **weights):
    """The section of compressed-tensors."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group}, "ignore": ["lm_head"],
            "quantization_status": "compressed", "kv_cache_scheme": None}


def variants():
    """Name, section of config.json, and what makes a layer."""
    ints = [
        ("int4-group16", dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=16), torch.bfloat16),
        ("int4-group32-asym", dict(num_bits=4, type="int", symmetric=False, strategy="group", group_size=32), torch.float16),
        ("int4-channel-asym", dict(num_bits=4, type="int", symmetric=False, strategy="channel"), torch.bfloat16),
        ("int8-channel", dict(num_bits=8, type="int", symmetric=True, strategy="channel"), torch.bfloat16),
        ("int8-group16-asym", dict(num_bits=8, type="int", symmetric=False, strategy="group", group_size=16), torch.float16),
        ("int3-group16", dict(num_bits=3, type="int", symmetric=True, strategy="group", group_size=16), torch.float16),
        ("int4-group32-f32", dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32), torch.float32),
    ]
    for name, weights, dtype in ints:
        yield f"ct-{name}", ct("pack-quantized", **weights), lambda w, a=weights, d=dtype: compressed(w, a, d)
    floats = [
        ("tensor", dict(strategy="tensor")), ("channel", dict(strategy="channel")),
        ("block", dict(strategy="block", block_structure=[16, 16])),
    ]
    for name, more in floats:
        weights = dict(num_bits=8, type="float", symmetric=True, **more)
        yield f"ct-fp8-{name}", ct("float-quantized", **weights), lambda w, a=weights: compressed(w, a, torch.bfloat16)
    nv = dict(num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16)
    yield "ct-nvfp4", ct("nvfp4-pack-quantized", **nv), lambda w: compressed(
        w, nv | {"scale_dtype": torch.float8_e4m3fn}, torch.bfloat16)
    mx = dict(num_bits=4, type="float", symmetric=True, strategy="group", group_size=32)
    yield "ct-mxfp4", ct("mxfp4-pack-quantized", **mx), lambda w: compressed(w, mx | {"scale_dtype": torch.uint8}, torch.bfloat16)
    order = dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=16, actorder="group")
    yield "ct-int4-actorder", ct("pack-quantized", **order), activation_order
    for name, bits, group, act_order, less_one, symmetric in [
        ("v1", 4, 16, False, 1, True), ("v1-asym", 4, 32, False, 1, False), ("v2-asym", 4, 16, False, 0, False),
        ("v1-desc_act", 4, 16, True, 1, True), ("v1-row", 4, -1, False, 1, True), ("v1-8bit", 8, 32, False, 1, True),
    ]:
        section = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": symmetric}
        if not less_one:
            section["checkpoint_format"] = "gptq_v2"
        yield f"gptq-{name}", section, lambda w, a=(bits, group, act_order, less_one, symmetric): gptq(w, *a)
    yield "fp8-tensor", {"quant_method": "fp8", "activation_scheme": "dynamic"}, lambda w: fp8(w, None)
    # Blocks that do not divide the weights.
    yield "fp8-block", {"quant_method": "fp8", "weight_block_size": [12, 20], "fmt": "e4m3"}, lambda w: fp8(w, [12, 20])
    yield "modelopt-nvfp4", {"quant_method": "modelopt", "quant_algo": "NVFP4"}, modelopt


def main():
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    config = {
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INSIDE,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    rest = {"model.embed_tokens.weight": normal(VOCABULARY, HIDDEN).half(), "model.norm.weight": torch.ones(HIDDEN).half()}
    for name in ("input_layernorm", "post_attention_layernorm"):
        rest[f"model.layers.0.{name}.weight"] = torch.ones(HIDDEN).half()
    dense = {name: normal(*shape) for name, shape in SHAPES.items()}
    oracle = {"config": config, "variants": {}}
    for name, section, make in variants():
        tensors, digests = dict(rest), {}
        for layer, weight in dense.items():
            # One layer is left as it is: lists of such need not be read, for the tensors show it.
            if layer == "self_attn.v_proj":
                tensors[f"model.layers.0.{layer}.weight"] = weight.half()
                continue
            stored, values = make(weight)
            for part, tensor in stored.items():
                tensors[f"model.layers.0.{layer}.{part}"] = tensor.contiguous()
            digests[f"model.layers.0.{layer}.weight"] = hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
        safetensors.torch.save_file(tensors, FOLDER / f"{name}.safetensors", metadata={"format": "pt"})
        oracle["variants"][name] = {"quantization_config": section, "sha256": digests}
    (FOLDER / "oracle.json").write_text(json.dumps(oracle, indent=1) + "\n", encoding="utf-8")


main()
