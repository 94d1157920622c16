"""Writes tiny checkpoints of every family with random weights, and the logits that transformers computes from them.

They are the oracle of tests/it/families.rs. Weights carry outliers (one in a hundred is thirty times larger) so that errors of
summation order and rounding show. Run: python tests/data/make.py  (needs torch, transformers, tokenizers)
"""
import json
import pathlib

import torch
import tokenizers
import transformers

HERE = pathlib.Path(__file__).parent
COMMON = dict(vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=64,
              bos_token_id=1, eos_token_id=2, pad_token_id=0)
GATED = dict(COMMON, intermediate_size=80, num_key_value_heads=2)
ROPE3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
             original_max_position_embeddings=16)
MODELS = {
    "llama": transformers.LlamaForCausalLM(transformers.LlamaConfig(**GATED, tie_word_embeddings=True)),
    "llama3-rope": transformers.LlamaForCausalLM(transformers.LlamaConfig(**GATED, head_dim=12, rope_parameters=ROPE3)),
    "mistral": transformers.MistralForCausalLM(transformers.MistralConfig(**GATED, sliding_window=7)),
    "qwen2": transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**GATED)),
    "opt": transformers.OPTForCausalLM(transformers.OPTConfig(**COMMON, ffn_dim=80, word_embed_proj_dim=48, dropout=0.0)),
}

WORDS = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"t{i}": i for i in range(97)}, unk_token="t0"))
WORDS.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
WORDS.decoder = tokenizers.decoders.WordPiece(prefix="##", cleanup=False)

for number, (name, model) in enumerate(MODELS.items()):
    generator = torch.Generator().manual_seed(1000 + number)
    model = model.eval().float()
    model.config._attn_implementation = "eager"
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.08
            noise = torch.where(torch.rand(parameter.shape, generator=generator) < 0.01, noise * 30, noise)
            parameter.copy_(1 + noise if parameter.ndim == 1 and key.endswith("weight") else noise)
    tokens = torch.randint(3, 97, (1, 40), generator=generator)
    folder = HERE / name
    model.save_pretrained(folder)
    WORDS.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(bos_token="t1", eos_token="t2")))
    (folder / "model.safetensors").chmod(0o644)
    with torch.no_grad():
        exact = model.double()(tokens).logits[0]  # binary64: the truth that every binary32 engine approaches
        single = model.float()(tokens).logits[0]
    oracle = dict(
        made_with=f"transformers {transformers.__version__}, torch {torch.__version__}, CPU, eager attention",
        tokens=tokens[0].tolist(),
        logits_float64=[[round(value, 9) for value in row] for row in exact[-8:].tolist()],
        float32_largest_error=float((exact - single.double()).abs().max()),
    )
    (folder / "oracle.json").write_text(json.dumps(oracle))
    print(name, oracle["float32_largest_error"], float(exact.abs().max()))
