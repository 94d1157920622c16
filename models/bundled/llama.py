"""The bundled model's shape, in the words of its config.json, and the model itself for training."""

EOT, IM_START, IM_END = 0, 1, 2
CFG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": EOT,
    "eos_token_id": IM_END,
    "pad_token_id": EOT,
    "torch_dtype": "float32",
}


def build_model(torch, cfg):
    """A Llama with fresh weights. `torch` is handed in, because half of train.py's commands do without it."""
    from torch import nn
    import torch.nn.functional as F

    H, D, NH, NK = cfg["hidden_size"], cfg["head_dim"], cfg["num_attention_heads"], cfg["num_key_value_heads"]

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(H))

        def forward(self, x):
            y = x.float()
            y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + cfg["rms_norm_eps"])
            return (y * self.weight).to(x.dtype)

    def rotate(x, cos, sin):
        a, b = x.float().chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj = nn.Linear(H, NH * D, bias=False)
            self.k_proj = nn.Linear(H, NK * D, bias=False)
            self.v_proj = nn.Linear(H, NK * D, bias=False)
            self.o_proj = nn.Linear(NH * D, H, bias=False)

        def forward(self, x, cos, sin):
            B, S, _ = x.shape
            q = self.q_proj(x).view(B, S, NH, D).transpose(1, 2)
            k = self.k_proj(x).view(B, S, NK, D).transpose(1, 2)
            v = self.v_proj(x).view(B, S, NK, D).transpose(1, 2)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            k = k.repeat_interleave(NH // NK, 1)
            v = v.repeat_interleave(NH // NK, 1)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.o_proj(y.transpose(1, 2).reshape(B, S, NH * D))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            M = cfg["intermediate_size"]
            self.gate_proj = nn.Linear(H, M, bias=False)
            self.up_proj = nn.Linear(H, M, bias=False)
            self.down_proj = nn.Linear(M, H, bias=False)

        def forward(self, x):
            return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.self_attn, self.mlp = Attention(), Mlp()
            self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()

        def forward(self, x, cos, sin):
            x = x + self.self_attn(self.input_layernorm(x), cos, sin)
            return x + self.mlp(self.post_attention_layernorm(x))

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = nn.Embedding(cfg["vocab_size"], H)
            self.layers = nn.ModuleList(Block() for _ in range(cfg["num_hidden_layers"]))
            self.norm = Norm()
            f = 1.0 / cfg["rope_theta"] ** (torch.arange(0, D, 2).float() / D)
            t = torch.outer(torch.arange(cfg["max_position_embeddings"]).float(), f)
            self.register_buffer("cos", t.cos(), persistent=False)
            self.register_buffer("sin", t.sin(), persistent=False)
            for name, p in self.named_parameters():
                if p.dim() == 2:
                    scale = (2 * cfg["num_hidden_layers"]) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                    std = 0.02 if "embed" in name else p.shape[1] ** -0.5 * 0.7
                    nn.init.normal_(p, std=std * scale)

        def forward(self, ids):
            S = ids.shape[1]
            x = self.embed_tokens(ids)
            for layer in self.layers:
                x = layer(x, self.cos[:S], self.sin[:S])
            return self.norm(x)

        def loss(self, ids, plen, length):
            """Sum of the loss over the replies, and the number of their tokens."""
            return self.head(self(ids[:, :-1]), self.embed_tokens.weight, ids, plen, length)

        @staticmethod
        def head(h, weight, ids, plen, length):
            logits = F.linear(h, weight).float()
            at = torch.arange(1, ids.shape[1], device=ids.device)[None]
            want = (at >= plen[:, None]) & (at < length[:, None])
            target = torch.where(want, ids[:, 1:], -100)
            total = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="sum")
            return total, want.sum()

    return Llama()
