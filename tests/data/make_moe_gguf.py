"""Writes qwen2-moe.gguf, qwen3-moe.gguf and gpt-oss-mxfp4.gguf of the folders of these names, as llama.cpp has them.

Names, keys and types are those of llama.cpp's own package: a name that its tables do not list for the architecture ends this program, and
MXFP4 blocks are held against what it unpacks. The vocabulary is one of a dozen tokens: only token ids are read.

    pip install gguf==0.19.0 numpy safetensors torch
    python tests/data/make_moe_gguf.py
"""

import json
import pathlib

import gguf
import numpy
import safetensors.numpy

HERE = pathlib.Path(__file__).parent
TOKENS = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "Ġ", "a", "b", "1", "2", "ab", "Ġab"]
ARCHITECTURES = {
    "qwen2_moe": gguf.MODEL_ARCH.QWEN2MOE, "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE, "gpt_oss": gguf.MODEL_ARCH.GPT_OSS,
}
FP4 = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=numpy.float32)


def codes_of(blocks):
    """Codes `[..., 32]` of gpt-oss's blocks `[..., 16]`, where neighbours share a byte."""
    return numpy.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)


def as_ggml(blocks, scales):
    """Rows of ggml's blocks of 17 bytes: the scale, then codes of which the first half is in the low four bits."""
    codes = codes_of(blocks)
    packed = codes[..., :16] | codes[..., 16:] << 4
    rows = numpy.concatenate([scales[..., None], packed], axis=-1).reshape(*blocks.shape[:-2], -1)
    values = FP4[codes] * numpy.exp2(scales.astype(numpy.float32) - 127)[..., None]
    theirs = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType.MXFP4)
    assert numpy.array_equal(theirs.reshape(values.shape), values)
    return rows


def experts_of(tensors, prefix, count):
    """The stacked tensors of a layer's experts, by llama.cpp's part of the name: values, and the type where they are packed."""
    if f"{prefix}experts.0.up_proj.weight" in tensors:
        for part in ("gate", "up", "down"):
            yield f"ffn_{part}_exps.weight", numpy.stack([tensors.pop(f"{prefix}experts.{n}.{part}_proj.weight") for n in range(count)]), None
        return
    for kind in ("gate_up_proj", "down_proj"):
        name = f"{prefix}experts.{kind}"
        bias, packed = tensors.pop(f"{name}_bias"), None
        if f"{name}_blocks" in tensors:
            rows, packed = as_ggml(tensors.pop(f"{name}_blocks"), tensors.pop(f"{name}_scales")), gguf.GGMLQuantizationType.MXFP4
        else:
            rows = tensors.pop(name).transpose(0, 2, 1)
        # Gate and up lie output by output.
        parts = {"gate": slice(0, None, 2), "up": slice(1, None, 2)} if kind == "gate_up_proj" else {"down": slice(None)}
        for part, outputs in parts.items():
            yield f"ffn_{part}_exps.weight", rows[:, outputs], packed
            yield f"ffn_{part}_exps.bias", bias[:, outputs], None


def write(name):
    """Writes the GGUF file of a folder."""
    config = json.loads((HERE / name / "config.json").read_text(encoding="utf-8"))
    tensors = safetensors.numpy.load_file(HERE / name / "model.safetensors")
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(HERE / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[architecture])
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    count = config.get("num_experts") or config["num_local_experts"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    rope = config["rope_parameters"]
    mixed = any(key.endswith("_blocks") for key in tensors)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE if mixed else gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(count)
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config.get("moe_intermediate_size") or config["intermediate_size"])
    if config.get("shared_expert_intermediate_size"):
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    if config["model_type"] == "gpt_oss":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o" if config["model_type"] == "gpt_oss" else "qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 5 + [1] * 7)
    writer.add_token_merges(["a b", "Ġ ab"])
    writer.add_eos_token_id(2)

    names = gguf.get_tensor_name_map(architecture, layers)
    dense = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, layers)
    listed = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[architecture]}

    def add(theirs, values, packed=None):
        part = theirs.rsplit(".", 1)[0]
        pattern = f"blk.{{bid}}.{part.split('.', 2)[2]}" if part.startswith("blk.") else part
        # A layer with one MLP is none that llama.cpp runs in these families; its names are those of the dense ones.
        assert pattern in listed or pattern.split(".")[-1] in ("ffn_gate", "ffn_up", "ffn_down"), (name, theirs)
        writer.add_tensor(theirs, numpy.ascontiguousarray(values), raw_dtype=packed)

    for layer in range(layers):
        for part, values, packed in experts_of(tensors, f"model.layers.{layer}.mlp.", count) if any(
            key.startswith(f"model.layers.{layer}.mlp.experts.") for key in tensors
        ) else ():
            add(f"blk.{layer}.{part}", values, packed)
    for key, values in tensors.items():
        stem, _, kind = key.rpartition(".")
        if kind not in ("weight", "bias"):
            stem, kind = key, "weight"
        theirs = names.get_name(stem) or dense.get_name(stem)
        assert theirs is not None, (name, key)
        # The converter writes a matrix of one row as a vector.
        add(f"{theirs}.{kind}", values.squeeze() if "shexp" in theirs and values.shape[0] == 1 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(name, (HERE / f"{name}.gguf").stat().st_size)


for folder in ("qwen2-moe", "qwen3-moe", "gpt-oss-mxfp4"):
    write(folder)
