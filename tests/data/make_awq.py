"""Writes tests/data/awq-autoawq: a tiny Qwen2 checkpoint that AutoAWQ's own code has quantised and packed.

Nothing here is computed by evalsuite: scales and zero points come from `AwqQuantizer.pseudo_quantize_tensor`, packing from
`WQLinear_GEMM.from_linear`, the config from `AwqConfig`, the weights to compare with from `dequantize_gemm`, and the
logits from transformers in binary64 on those weights.

Run: pip download --no-deps autoawq==0.2.9, unpack it, and
     python tests/data/make_awq.py FOLDER_OF_AUTOAWQ   (needs torch, transformers, tokenizers, safetensors)
"""
import json
import pathlib
import sys
import types

import safetensors.torch
import tokenizers
import torch
import transformers

# AutoAWQ's __init__ imports all its models, which newer versions of transformers break; what is used here is unaffected.
for name in ("awq", "awq.models", "awq.quantize"):
    package = types.ModuleType(name)
    package.__path__ = [str(pathlib.Path(sys.argv[1], *name.split(".")))]
    sys.modules[name] = package
# Only its calibration loads data sets.
sys.modules["datasets"] = types.SimpleNamespace(load_dataset=None)

from awq.models._config import AwqConfig  # noqa: E402
from awq.modules.linear.gemm import WQLinear_GEMM  # noqa: E402
from awq.quantize.quantizer import AwqQuantizer  # noqa: E402
from awq.utils.packing_utils import dequantize_gemm  # noqa: E402

GROUP = 32
FOLDER = pathlib.Path(__file__).parent / "awq-autoawq"
model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
    vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)).eval().float()
generator = torch.Generator().manual_seed(4)
with torch.no_grad():
    for key, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.08
        noise = torch.where(torch.rand(parameter.shape, generator=generator) < 0.01, noise * 10, noise)
        parameter.copy_((1 + noise if "norm" in key else noise).half().float())

quantizer = AwqQuantizer.__new__(AwqQuantizer)
quantizer.group_size, quantizer.zero_point, quantizer.w_bit = GROUP, True, 4
stored, dequantized = {}, {}
for name, tensor in model.state_dict().items():
    stored[name] = tensor.half()
for name, module in list(model.named_modules()):
    if not isinstance(module, torch.nn.Linear) or name == "lm_head":
        continue
    # As AwqQuantizer._apply_quant does it.
    with torch.no_grad():
        module.weight.data, scales, zeros = quantizer.pseudo_quantize_tensor(module.weight.data)
        packed = WQLinear_GEMM.from_linear(
            module, w_bit=4, group_size=GROUP, scales=scales.t().contiguous(), zeros=zeros.t().contiguous())
    del stored[f"{name}.weight"]
    for part in ("qweight", "qzeros", "scales"):
        stored[f"{name}.{part}"] = getattr(packed, part)
    half = dequantize_gemm(packed.qweight, packed.qzeros, packed.scales, 4, GROUP)  # [inputs, outputs]
    assert half.dtype == torch.float16
    dequantized[f"{name}.weight"] = half.t().contiguous()
    exact = dequantize_gemm(packed.qweight, packed.qzeros, packed.scales.double(), 4, GROUP)
    module.weight.data = exact.t().contiguous()

tokens = torch.randint(3, 97, (1, 40), generator=generator)
with torch.no_grad():
    model.config._attn_implementation = "eager"
    logits = model.double()(tokens).logits[0]
FOLDER.mkdir(exist_ok=True)
safetensors.torch.save_file(stored, FOLDER / "model.safetensors", metadata={"format": "pt"})
safetensors.torch.save_file(dequantized, FOLDER / "dequantized.safetensors")
config = json.loads(model.config.to_json_string(use_diff=False))
keep = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "max_position_embeddings", "bos_token_id", "eos_token_id", "model_type", "rms_norm_eps",
        "tie_word_embeddings", "hidden_act", "use_sliding_window", "rope_parameters")
config = {key: config[key] for key in keep if key in config}
awq = AwqConfig(quant_method="awq", zero_point=True, q_group_size=GROUP, w_bit=4, version="gemm")
config["quantization_config"] = awq.to_transformers_dict()
(FOLDER / "config.json").write_text(json.dumps(config, indent=2))
words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"t{i}": i for i in range(97)}, unk_token="t0"))
words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
words.save(str(FOLDER / "tokenizer.json"), pretty=False)
(FOLDER / "tokenizer_config.json").write_text(json.dumps(dict(bos_token="t1", eos_token="t2")))
(FOLDER / "oracle.json").write_text(json.dumps(dict(
    made_with=f"autoawq 0.2.9, transformers {transformers.__version__}, torch {torch.__version__}, CPU",
    tokens=tokens[0].tolist(),
    logits_float64=[[round(value, 9) for value in row] for row in logits[-8:].tolist()])))
