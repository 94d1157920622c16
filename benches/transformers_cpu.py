"""Prints the output tokens/s of transformers' generate in float32 on the CPU. Usage: FOLDER BATCH PROMPT_TOKENS OUTPUT_TOKENS"""
import sys
import time

import torch
import transformers

folder, batch, prompt_tokens, output_tokens = sys.argv[1], *map(int, sys.argv[2:5])
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokens = torch.tensor([[1000 + 37 * i + 101 * row for i in range(prompt_tokens)] for row in range(batch)])
options = dict(attention_mask=torch.ones_like(tokens), do_sample=False, use_cache=True, pad_token_id=0)
with torch.inference_mode():
    model.generate(tokens, min_new_tokens=8, max_new_tokens=8, **options)  # warm-up
    begin = time.perf_counter()
    output = model.generate(tokens, min_new_tokens=output_tokens, max_new_tokens=output_tokens, **options)
    seconds = time.perf_counter() - begin
assert output.shape[1] == prompt_tokens + output_tokens
print(batch * output_tokens / seconds)
