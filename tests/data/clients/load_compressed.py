"""What transformers, with compressed-tensors, has for weights: load_compressed.py FOLDER prints, as JSON, the SHA-256 of every linear layer's
weights in f16 within the layers, by name. Needs torch, transformers and compressed-tensors; a CPU does."""
import hashlib
import json
import sys

import torch
import transformers
from transformers.utils.quantization_config import CompressedTensorsConfig

config = CompressedTensorsConfig(run_compressed=False)
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float16, quantization_config=config)
digests = {}
for name, module in model.named_modules():
    if isinstance(module, torch.nn.Linear) and name != "lm_head":
        weight = module.weight.detach().contiguous()
        assert weight.dtype == torch.float16 and tuple(weight.shape) == (module.out_features, module.in_features), name
        digests[f"{name}.weight"] = hashlib.sha256(weight.numpy().tobytes()).hexdigest()
tokens = torch.tensor([[3, 5, 6, 7]])
assert torch.isfinite(model(tokens).logits).all()
print(json.dumps(dict(sorted(digests.items()))))
