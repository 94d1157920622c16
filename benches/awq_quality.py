"""Perplexity and mean KL from FP32 of AWQ folders that `evalsuite quantize` wrote, by programs that are not ours: weights are unpacked by
AutoAWQ's own packing_utils.py (unmodified), and transformers runs them in float32 on the CPU.

Usage: python benches/awq_quality.py FP32_FOLDER ROWS.jsonl|.parquet LIMIT plain|chat|answer AWQ_FOLDER...
(needs torch, transformers, safetensors, and `pip install --no-deps autoawq`; the README's SmolLM2 rows: LIMIT 60, plain)
"""
import importlib.util, json, pathlib, sys
import torch
from safetensors.torch import load_file
import importlib.metadata as md
root = pathlib.Path(md.distribution("autoawq").locate_file("awq/utils/packing_utils.py"))
spec = importlib.util.spec_from_file_location("packing_utils", root)
pu = importlib.util.module_from_spec(spec); spec.loader.exec_module(pu)

def dense(folder):
    t = load_file(str(pathlib.Path(folder) / "model.safetensors"))
    g = json.load(open(pathlib.Path(folder) / "config.json"))["quantization_config"]["group_size"]
    out = {}
    for name in t:
        if name.endswith(".qweight"):
            p = name[:-len(".qweight")]
            w = pu.dequantize_gemm(t[name], t[p + ".qzeros"], t[p + ".scales"], 4, g)  # [in, out] f16
            assert w.dtype == torch.float16
            out[p + ".weight"] = w.t().contiguous()
        elif not name.endswith((".qzeros", ".scales")):
            out[name] = t[name]
    return out


import json, sys, torch, pathlib
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
base, data, limit, chat, *folders = sys.argv[1:]
tok = AutoTokenizer.from_pretrained(base)
if data.endswith(".jsonl"): rows = [json.loads(l) for l in open(data)]
else:
    import pyarrow.parquet as pq
    rows = pq.read_table(data).to_pylist()
rows = rows[:int(limit)]
def seq(r):
    if chat == "chat":
        return tok.apply_chat_template([{"role":"user","content":r["question"]}], tokenize=False, add_generation_prompt=True) + r["answer"] + tok.eos_token
    return r["question"] + "\n" + r["answer"]
INSTR = "\n\nReason step by step, one step a line. Then, on a last line of its own, write #### followed by the final answer as a number."
def start(r):
    if chat == "answer":
        return len(tok(tok.apply_chat_template([{"role":"user","content":r["question"]+INSTR}], tokenize=False, add_generation_prompt=True), add_special_tokens=False)["input_ids"])
    return 1
if chat == "answer":
    def seq(r): return tok.apply_chat_template([{"role":"user","content":r["question"]+INSTR}], tokenize=False, add_generation_prompt=True) + r["answer"] + tok.eos_token
ids = [(start(r), tok(seq(r), add_special_tokens=False)["input_ids"][:512]) for r in rows]
torch.set_num_threads(2)
ref = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
models = {"FP32": ref}
for f in folders:
    m = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    sd = {k: v.float() for k, v in dense(f).items()}
    missing, unexpected = m.load_state_dict(sd, strict=False)
    assert not unexpected and all("lm_head" in k for k in missing), (missing, unexpected)
    m.tie_weights()
    models[f] = m
nll = {k: 0.0 for k in models}; kl = {k: 0.0 for k in models}; top = {k: 0 for k in models}; n = 0
with torch.no_grad():
    for a, s in ids:
        x = torch.tensor([s])
        lp = {}
        for k, m in models.items():
            l = torch.log_softmax(m(x).logits[0, a-1:-1].float(), -1)
            nll[k] -= l.gather(1, x[0, a:, None]).sum().item()
            if k == "FP32": p = l
            else:
                kl[k] += (p.exp() * (p - l)).sum().item(); top[k] += (p.argmax(-1) == l.argmax(-1)).sum().item()
        n += len(s) - a
import math
print(f"{len(ids)} sequences, {n} tokens, {chat}")
for k in models: print(f"{k:12} perplexity {math.exp(nll[k]/n):.4f}  KL {kl[k]/n:.6f}  same top token {100*top[k]/n:.2f}%")
