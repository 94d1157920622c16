"""Writes tests/data/gpt-oss-mxfp4: gpt-oss with its experts' weights in MXFP4, and the logits that transformers computes from them.

The blocks and scales are random; transformers unpacks them. Run: python tests/data/make_mxfp4.py  (needs torch, transformers, safetensors)
"""
import json
import pathlib
import shutil

import safetensors.torch
import torch
import transformers
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

HERE = pathlib.Path(__file__).parent
FROM, TO = HERE / "gpt-oss", HERE / "gpt-oss-mxfp4"
TO.mkdir(exist_ok=True)
for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]:
    shutil.copy(FROM / name, TO / name)
model = transformers.GptOssForCausalLM.from_pretrained(FROM, dtype=torch.float32, attn_implementation="eager").eval()
model.config._experts_implementation = "eager"
generator = torch.Generator().manual_seed(7)
stored = safetensors.torch.load_file(FROM / "model.safetensors")
for layer in range(model.config.num_hidden_layers):
    prefix = f"model.layers.{layer}.mlp.experts."
    for projection in ["gate_up_proj", "down_proj"]:
        experts, inputs, outputs = stored.pop(prefix + projection).shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(122, 126, blocks.shape[:-1], generator=generator, dtype=torch.uint8)
        stored |= {f"{prefix}{projection}_blocks": blocks, f"{prefix}{projection}_scales": scales}
        dense = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
        with torch.no_grad():
            model.get_parameter(prefix + projection).copy_(dense)
safetensors.torch.save_file(stored, TO / "model.safetensors", metadata={"format": "pt"})
(TO / "model.safetensors").chmod(0o644)
config = json.loads((FROM / "config.json").read_text())
config["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=[
    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])
(TO / "config.json").write_text(json.dumps(config, indent=2) + "\n")
tokens = torch.randint(3, 97, (1, 40), generator=generator)
with torch.no_grad():
    exact, single = model.double()(tokens).logits[0], model.float()(tokens).logits[0]
oracle = dict(
    made_with=f"transformers {transformers.__version__}, torch {torch.__version__}, CPU, eager attention",
    tokens=tokens[0].tolist(),
    logits_float64=[[round(value, 9) for value in row] for row in exact[-8:].tolist()],
    float32_largest_error=float((exact - single.double()).abs().max()),
)
(TO / "oracle.json").write_text(json.dumps(oracle))
print("gpt-oss-mxfp4", oracle["float32_largest_error"], float(exact.abs().max()))
