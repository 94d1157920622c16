"""Writes tiny checkpoints of every family with random weights, and the logits that transformers computes from them.

They are the oracle of tests/it/families.rs. Weights carry outliers (one in a hundred is thirty times larger) so that errors of
summation order and rounding show. Run: python tests/data/make.py [NAME …]  (needs torch, transformers, tokenizers)
"""
import json
import pathlib
import sys

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
# Later families, each with all its features: layers of every kind, heads of a width of their own, biases where they may be.
HEADS = dict(GATED, head_dim=16)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)
LONG = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.3],
            long_factor=[1.0, 2.0, 4.0])
SLIDING, FULL = "sliding_attention", "full_attention"
GEMMA = dict(HEADS, sliding_window=7, query_pre_attn_scalar=20)
GEMMA3 = dict(GEMMA, layer_types=[SLIDING, FULL, SLIDING], num_hidden_layers=3, rope_parameters={
    SLIDING: dict(rope_type="default", rope_theta=100.0),
    FULL: dict(rope_type="linear", rope_theta=20000.0, factor=8.0)})
GPT2 = dict(vocab_size=97, n_embd=48, n_layer=2, n_head=6, n_positions=64, n_inner=80, bos_token_id=1, eos_token_id=2)
t = transformers
MODELS |= {
    "qwen3": t.Qwen3ForCausalLM(t.Qwen3Config(**HEADS, attention_bias=True, use_sliding_window=True, sliding_window=7,
                                              max_window_layers=1)),
    "qwen3-yarn": t.Qwen3ForCausalLM(t.Qwen3Config(**HEADS, rope_parameters=YARN, tie_word_embeddings=True)),
    "smollm3": t.SmolLM3ForCausalLM(t.SmolLM3Config(**dict(GATED, num_hidden_layers=4), no_rope_layers=[1, 0, 1, 0],
                                                    layer_types=[FULL, SLIDING, SLIDING, FULL], use_sliding_window=True,
                                                    sliding_window=7, attention_bias=True, mlp_bias=True)),
    "granite": t.GraniteForCausalLM(t.GraniteConfig(**GATED, attention_bias=True, mlp_bias=True, embedding_multiplier=12.0,
                                                    logits_scaling=6.0, residual_multiplier=0.22, attention_multiplier=0.2,
                                                    tie_word_embeddings=True)),
    "olmo2": t.Olmo2ForCausalLM(t.Olmo2Config(**GATED, attention_bias=True)),
    "gemma2": t.Gemma2ForCausalLM(t.Gemma2Config(**GEMMA, attention_bias=True, attn_logit_softcapping=5.0,
                                                 final_logit_softcapping=25.0)),
    "gemma3": t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GEMMA3)),
    "phi3": t.Phi3ForCausalLM(t.Phi3Config(**GATED, sliding_window=7)),
    "phi3-long": t.Phi3ForCausalLM(t.Phi3Config(**dict(GATED, max_position_embeddings=256), rope_parameters=LONG,
                                                original_max_position_embeddings=64)),
    "gpt2": t.GPT2LMHeadModel(t.GPT2Config(**GPT2)),
    "gpt-neox": t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**COMMON, intermediate_size=80)),
    "qwen2-moe": t.Qwen2MoeForCausalLM(t.Qwen2MoeConfig(**GATED, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24,
                                                        shared_expert_intermediate_size=40, qkv_bias=True)),
    "qwen3-moe": t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**dict(HEADS, num_hidden_layers=3), num_experts=8, num_experts_per_tok=2,
                                                        moe_intermediate_size=24, norm_topk_prob=True, mlp_only_layers=[1])),
    "gpt-neox-serial": t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**COMMON, intermediate_size=80, use_parallel_residual=False,
                                                            rotary_pct=1.0, attention_bias=False)),
    "gpt-oss": t.GptOssForCausalLM(t.GptOssConfig(**dict(HEADS, hidden_size=64, intermediate_size=32, num_hidden_layers=3),
                                                  sliding_window=7, num_local_experts=6, num_experts_per_tok=3, swiglu_limit=0.8,
                                                  rope_parameters=dict(YARN, truncate=False))),
}

WORDS = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"t{i}": i for i in range(97)}, unk_token="t0"))
WORDS.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
WORDS.decoder = tokenizers.decoders.WordPiece(prefix="##", cleanup=False)

wanted = sys.argv[1:] or list(MODELS)
for number, (name, model) in enumerate(MODELS.items()):
    if name not in wanted:
        continue
    generator = torch.Generator().manual_seed(1000 + number)
    model = model.eval().float()
    model.config._attn_implementation = "eager"
    model.config._experts_implementation = "eager"
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.08
            noise = torch.where(torch.rand(parameter.shape, generator=generator) < 0.01, noise * 30, noise)
            around_one = parameter.ndim == 1 and key.endswith("weight") and not name.startswith("gemma")
            parameter.copy_(1 + noise if around_one else noise)
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
