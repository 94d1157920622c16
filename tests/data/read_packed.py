"""Holds packed layouts against programs that others wrote: what they write is read here, and what is read here is what they read.

Writes packed/by_*.safetensors and packed/by_others.json: a tiny Llama in layouts as AutoGPTQ, GPTQModel, ModelOpt, transformers and
compressed-tensors write them, with SHA-256 of the f32 values that their own readers unpack. Then reads these and the variants of
make_packed.py with every reader that takes the layout, stops where one bit differs, and writes packed/readers.json: which readers agreed.

    pip install torch transformers==5.24.0 compressed-tensors==0.20.1 nvidia-modelopt==0.47.0 gptqmodel==7.7.0
    pip download --no-deps auto-gptq==0.7.1        # unpack it, and name the folder: its other modules want an older transformers
    pip install --no-deps --target compressed-0.12 compressed-tensors==0.12.2    # the last that knows an order of activations
    AUTOGPTQ=auto_gptq-0.7.1/auto_gptq COMPRESSED=compressed-0.12 python tests/data/read_packed.py
"""

import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types

import gptqmodel
import modelopt
import safetensors.torch
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.quantization import FORMAT
from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
from gptqmodel.utils.model_dequant import dequantize_model
from modelopt.torch.quantization.qtensor import FP8QTensor, NVFP4QTensor
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

FOLDER = pathlib.Path(__file__).with_name("packed")
HIDDEN, INSIDE, VOCABULARY = 32, 64, 24
SHAPES = {
    "self_attn.q_proj": (32, 32), "self_attn.k_proj": (32, 32), "self_attn.v_proj": (32, 32), "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (INSIDE, HIDDEN), "mlp.up_proj": (INSIDE, HIDDEN), "mlp.down_proj": (HIDDEN, INSIDE),
}
LAYER = "model.layers.0."
AUTOGPTQ, GPTQMODEL = "AutoGPTQ 0.7.1", f"GPTQModel {gptqmodel.__version__}"
MODELOPT, TRANSFORMERS = f"ModelOpt {modelopt.__version__}", f"transformers {transformers.__version__}"
COMPRESSED, COMPRESSED_BEFORE = "compressed-tensors 0.20.1", "compressed-tensors 0.12.2"
generator = torch.Generator().manual_seed(1919)
FP8 = types.SimpleNamespace(quantization_config=types.SimpleNamespace(weight_block_size=[16, 16], scale_fmt=None))


def autogptq():
    """AutoGPTQ's linear layer, without the rest of it."""
    path = pathlib.Path(os.environ["AUTOGPTQ"]) / "nn_modules/qlinear/qlinear_cuda_old.py"
    spec = importlib.util.spec_from_file_location("qlinear_cuda_old", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.QuantLinear


def normal(*shape):
    """Random numbers of a size that weights have, the same in every run."""
    return torch.randn(shape, generator=generator) * 0.1


def digest(values):
    """SHA-256 of f32 values."""
    return hashlib.sha256(values.float().contiguous().numpy().tobytes()).hexdigest()


def linear(weight):
    """A linear layer with a weight."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer


def grid(weight, bits, group, act_order, symmetric):
    """Scales `[out, groups]`, zero points and the group of each input, and the weight rounded to them: what GPTQ hands to be packed."""
    rows, columns = weight.shape
    order = torch.randperm(columns, generator=generator) if act_order else torch.arange(columns)
    index = torch.empty_like(order)
    index[order] = torch.arange(columns) // group
    count, largest = int(index.max()) + 1, 2**bits - 1
    scales, zeros = torch.empty(rows, count), torch.empty(rows, count)
    for at in range(count):
        part = weight[:, index == at]
        low, high = part.amin(1).clamp(max=-1e-3), part.amax(1).clamp(min=1e-3)
        if symmetric:
            scales[:, at], zeros[:, at] = part.abs().amax(1) * 2 / largest, (largest + 1) // 2
        else:
            scales[:, at] = (high - low) / largest
            zeros[:, at] = torch.clamp(torch.round(-low / scales[:, at]), 1, largest)
    scales = scales.half().float()
    rounded = torch.clamp(torch.round(weight / scales[:, index]) + zeros[:, index], 0, largest)
    return (rounded - zeros[:, index]) * scales[:, index], scales, zeros, index.int()


def by_autogptq(bits, group, symmetric):
    """Its own packing, and what its forward pass multiplies with."""
    def make(weight):
        rows, columns = weight.shape
        rounded, scales, zeros, index = grid(weight, bits, group, False, symmetric)
        packed = autogptq()(bits, group, columns, rows, bias=False)
        packed.pack(linear(rounded), scales, zeros, index)
        values = packed(torch.eye(columns)).T
        return {"qweight": packed.qweight, "qzeros": packed.qzeros, "scales": packed.scales.half(), "g_idx": packed.g_idx}, values
    return make


def by_gptqmodel(bits, group, act_order, symmetric, version):
    """Its own packing; what its forward pass multiplies with is in f16."""
    def make(weight):
        rows, columns = weight.shape
        rounded, scales, zeros, index = grid(weight, bits, group, act_order, symmetric)
        packed = TorchLinear(bits=bits, group_size=group, sym=symmetric, desc_act=act_order, in_features=columns, out_features=rows,
                             pack_dtype=torch.int32, format=FORMAT.GPTQ_V2)
        packed.pack(linear(rounded), scales, zeros, index)
        values = packed.eval().dequantize_weight().T.clone()
        if version == 1:
            convert_gptq_v2_to_v1_format_module(packed, types.SimpleNamespace(bits=bits, pack_dtype=torch.int32))
        names = ["qweight", "qzeros", "scales", "g_idx"]
        return {name: getattr(packed, name) for name in names}, values
    return make


def by_modelopt_nvfp4(weight):
    """Packed, scaled and unpacked by ModelOpt."""
    packed, scale, second = NVFP4QTensor.quantize(weight, 16)
    values = packed.dequantize(torch.float32, scale=scale, double_scale=second, block_sizes={-1: 16})
    return {"weight": packed._quantized_data, "weight_scale": scale, "weight_scale_2": second.reshape(())}, values


def by_modelopt_fp8(weight):
    """Packed, scaled and unpacked by ModelOpt."""
    packed, scale = FP8QTensor.quantize(weight)
    values = packed.dequantize(torch.float32, scale=scale)
    return {"weight": packed._quantized_data, "weight_scale": scale.reshape(())}, values


def by_transformers_fp8(weight):
    """In blocks, by what transformers itself quantizes with."""
    stored = Fp8Quantize(FP8).convert({"weight": weight})
    return stored, Fp8Dequantize(FP8).convert(dict(stored))["weight"]


def by_compressed_tensors(weights):
    """`int-quantized`: codes that are not packed."""
    def make(weight):
        args = QuantizationArgs(**weights)
        scale = (weight.abs().amax(1, keepdim=True) / 127).float()
        compressor = BaseCompressor.get_value_from_registry("int-quantized")
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        stored = compressor.compress({"weight": weight, "weight_scale": scale}, scheme)
        return stored, compressor.decompress(dict(stored), scheme)["weight"]
    return make


def gptq(bits, group, act_order, symmetric, version):
    """The section of config.json."""
    section = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": symmetric}
    return section | ({"checkpoint_format": "gptq_v2"} if version == 2 else {})


def variants():
    """Name, who wrote it, section of config.json, and what makes a layer."""
    for name, bits, group, symmetric in [("int4", 4, 16, True), ("int4-asym", 4, 32, False), ("int8", 8, 32, True), ("int2", 2, 16, False)]:
        yield f"by_autogptq-{name}", AUTOGPTQ, gptq(bits, group, False, symmetric, 1), by_autogptq(bits, group, symmetric)
    for name, bits, group, act_order, symmetric, version in [
        ("v1", 4, 32, False, True, 1), ("v1-desc_act", 4, 16, True, False, 1), ("v2-asym", 4, 16, False, False, 2),
        ("v2-desc_act", 8, 32, True, False, 2),
    ]:
        section = gptq(bits, group, act_order, symmetric, version)
        yield f"by_gptqmodel-{name}", GPTQMODEL, section, by_gptqmodel(bits, group, act_order, symmetric, version)
    yield "by_modelopt-nvfp4", MODELOPT, {"quant_method": "modelopt", "quant_algo": "NVFP4"}, by_modelopt_nvfp4
    yield "by_modelopt-fp8", MODELOPT, {"quant_method": "modelopt", "quant_algo": "FP8"}, by_modelopt_fp8
    section = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
    yield "by_transformers-fp8-block", TRANSFORMERS, section, by_transformers_fp8
    weights = dict(num_bits=8, type="int", symmetric=True, strategy="channel")
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    section = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": group}, "ignore": ["lm_head"],
               "quantization_status": "compressed"}
    yield "by_compressed-tensors-int8", COMPRESSED, section, by_compressed_tensors(weights)


def read_by_gptqmodel(config, section, path):
    """The whole checkpoint as dense f32 weights; none where it does not take the layout, or takes codes for weights."""
    if section.get("format") == "int-quantized":
        return None
    folder = pathlib.Path(tempfile.mkdtemp())
    whole = config | {"quantization_config": section, "architectures": ["LlamaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(whole))
    shutil.copy(path, folder / "model.safetensors")
    try:
        dequantize_model(folder, folder / "dense", target_dtype=torch.float32)
    except (RuntimeError, ValueError) as error:
        print(f"  {GPTQMODEL} does not read {path.name}: {str(error).splitlines()[0][:100]}")
        return None
    return safetensors.torch.load_file(folder / "dense/model.safetensors")


def read_by_transformers(config, section, path):
    """FP8 with a factor for each of equal blocks."""
    stored = safetensors.torch.load_file(path)
    if section["quant_method"] != "fp8":
        return None
    dense = {}
    for name in [name for name in stored if name.endswith(".weight_scale_inv")]:
        weight = name.removesuffix("_scale_inv")
        rows, columns = (a % b for a, b in zip(stored[weight].shape, stored[name].shape))
        if rows or columns:
            return None
        dense[weight] = Fp8Dequantize(FP8).convert({"weight": stored[weight], "weight_scale_inv": stored[name]})["weight"]
    return dense or None


def read_by_modelopt(config, section, path):
    """NVFP4 and FP8 of ModelOpt's."""
    if section["quant_method"] != "modelopt":
        return None
    stored, dense = safetensors.torch.load_file(path), {}
    for name in [name for name in stored if name.endswith(".weight_scale")]:
        weight, scale = stored[name.removesuffix("_scale")], stored[name]
        if section["quant_algo"] == "FP8":
            values = FP8QTensor(weight.shape, torch.float32, weight).dequantize(scale=scale)
        else:
            shape = torch.Size((weight.shape[0], 2 * weight.shape[1]))
            packed = NVFP4QTensor(shape, torch.float32, weight)
            values = packed.dequantize(scale=scale, double_scale=stored[f"{name}_2"], block_sizes={-1: 16})
        dense[name.removesuffix("_scale")] = values
    return dense


UNPACK = """
import sys
import safetensors.torch
from compressed_tensors.compressors.quantized_compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs
stored, dense = safetensors.torch.load_file(sys.argv[1]), {}
for name in [name for name in stored if name.endswith(".weight_packed")]:
    prefix = name.removesuffix("weight_packed")
    data = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
    data["weight_scale"] = data["weight_scale"].float()
    args = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=16, actorder="group")
    dense[prefix + "weight"] = PackedQuantizationCompressor().decompress_weight(data, args).contiguous()
safetensors.torch.save_file(dense, sys.argv[2])
"""


def read_by_former_compressed_tensors(config, section, path):
    """Groups in the order of activations."""
    if path.stem != "ct-int4-actorder":
        return None
    out = pathlib.Path(tempfile.mkdtemp()) / "dense.safetensors"
    path_of_it = {"PYTHONPATH": os.environ["COMPRESSED"]}
    subprocess.run([sys.executable, "-c", UNPACK, str(path), str(out)], env=os.environ | path_of_it, check=True)
    return safetensors.torch.load_file(out)


READERS = {
    GPTQMODEL: read_by_gptqmodel, TRANSFORMERS: read_by_transformers, MODELOPT: read_by_modelopt,
    COMPRESSED_BEFORE: read_by_former_compressed_tensors,
}


def agreed(oracle, name):
    """The readers that give each weight of a variant bit for bit; one that gives another ends this program."""
    variant, readers, exact = oracle["variants"][name], [], {}
    for reader, read in READERS.items():
        dense = read(oracle["config"], variant["quantization_config"], FOLDER / f"{name}.safetensors")
        if dense is None or not variant["sha256"].keys() <= dense.keys():
            continue
        for weight, sha256 in variant["sha256"].items():
            if reader == MODELOPT and weight in exact:
                # It reads a code of -0 as 0; else each bit is the same.
                assert digest(dense[weight] + 0.0) == digest(exact[weight] + 0.0), (name, weight, reader)
                continue
            assert digest(dense[weight]) == sha256, (name, weight, reader)
        exact = exact or dense
        readers.append(reader)
    return readers


def write_variants(config):
    """Writes what others' programs pack, and gives the oracle of it."""
    rest = {"model.embed_tokens.weight": normal(VOCABULARY, HIDDEN).half(), "model.norm.weight": torch.ones(HIDDEN).half()}
    for name in ("input_layernorm", "post_attention_layernorm"):
        rest[f"{LAYER}{name}.weight"] = torch.ones(HIDDEN).half()
    dense = {name: normal(*shape) for name, shape in SHAPES.items()}
    oracle, own = {"config": config, "variants": {}}, {}
    for name, writer, section, make in variants():
        tensors, values = dict(rest), {}
        for layer, weight in dense.items():
            if layer == "self_attn.v_proj":
                tensors[f"{LAYER}{layer}.weight"] = weight.half()
                continue
            stored, values[f"{LAYER}{layer}.weight"] = make(weight)
            tensors |= {f"{LAYER}{layer}.{part}": tensor.contiguous() for part, tensor in stored.items()}
        path = FOLDER / f"{name}.safetensors"
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)
        exact = values
        if writer == MODELOPT or values[f"{LAYER}mlp.up_proj.weight"].dtype != torch.float32:
            # Where its writer multiplies in f16, or takes -0 for 0, the f32 values are another reader's, and rounded they are the writer's.
            exact = read_by_gptqmodel(config, section, path)
        for weight, theirs in values.items():
            assert torch.equal(exact[weight].to(theirs.dtype), theirs), (name, weight)
        oracle["variants"][name] = {"quantization_config": section, "sha256": {weight: digest(exact[weight]) for weight in values}}
        own[name] = writer
    return oracle, own


def main():
    """Writes the files."""
    theirs = json.loads((FOLDER / "oracle.json").read_text(encoding="utf-8"))
    ours, own = write_variants(theirs["config"] | {"num_key_value_heads": 4})
    (FOLDER / "by_others.json").write_text(json.dumps(ours, indent=1) + "\n", encoding="utf-8")
    table = {}
    for oracle in (theirs, ours):
        for name in oracle["variants"]:
            readers = agreed(oracle, name)
            if name.startswith("ct-") and name != "ct-int4-actorder":
                readers.insert(0, COMPRESSED)  # make_packed.py holds each against it
            if name in own and own[name] not in readers:
                readers.insert(0, own[name])
            table[name] = readers
            print(name, readers)
    (FOLDER / "readers.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


main()
