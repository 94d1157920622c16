"""Writes transformers' float32 logits on the GPU, for tests/it/cuda.rs (`f32_logits_are_transformers`) to hold ours against.

Usage: python3 benches/transformers_gpu.py FOLDER TOKENS.json OUT.bin
TOKENS.json is a list of token ids. OUT.bin gets little-endian float32 [tokens, vocabulary]: the logits behind each token.
"""
import json
import sys

import torch
import transformers

folder, tokens, out = sys.argv[1:4]
# IEEE binary32 everywhere: TF32 keeps ten bits of a significand.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
model = model.to("cuda").eval()
with open(tokens) as file:
    ids = torch.tensor([json.load(file)], device="cuda")
with torch.inference_mode():
    logits = model(ids).logits[0]
assert logits.dtype == torch.float32 and logits.shape[0] == ids.shape[1]
logits.cpu().numpy().astype("<f4").tofile(out)
