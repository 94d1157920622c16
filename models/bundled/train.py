#!/usr/bin/env python3
"""Trains the bundled model: a small Llama on the bundled word problems.

    python3 models/bundled/train.py tokenizer        # writes tokenizer.json
    python3 models/bundled/train.py train --out DIR  # trains, writes the folder
    python3 models/bundled/train.py rescale --from DIR  # brings DIR's model here, into binary16's range
    python3 models/bundled/train.py check            # accuracy with transformers, CPU

The training stream comes from datasets/bundled/generate.py under stream numbers
of its own. It skips every reserved (template, numbers) pair, and so every pair
and every question of test.parquet.
"""
import argparse
import json
import math
import multiprocessing as mp
import os
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "datasets" / "bundled"))
import generate as gen  # noqa: E402

SUFFIX = ("\n\nReason step by step, one step a line. Then write the final answer as a number "
          "on a last line of its own, like this: #### 42")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOT, IM_START, IM_END = 0, 1, 2
FORM_A_OF_100 = 65
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
                 "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CFG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 5,
    "num_attention_heads": 3,
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


def user_text(question, form):
    return question + SUFFIX if form == "a" else question


def prompt_text(question, form):
    return f"<|im_start|>user\n{user_text(question, form)}<|im_end|>\n<|im_start|>assistant\n"


# ---------------------------------------------------------------- tokenizer

def write_tokenizer():
    from itertools import islice

    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CFG["vocab_size"], special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    texts = []
    for i, (q, a, _, _) in enumerate(islice(gen.stream(gen.STREAM_MODEL - 1, False), 40000)):
        texts.append("user\n" + user_text(q, "a" if i % 4 == 0 else "b"))
        texts.append("assistant\n" + a)
        if i % 50 == 0:
            texts.append("system\n")
    tok.train_from_iterator(texts, trainer)
    assert tok.get_vocab_size() == CFG["vocab_size"], tok.get_vocab_size()
    assert [tok.token_to_id(s) for s in SPECIALS] == [EOT, IM_START, IM_END]
    tok.save(str(HERE / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[EOT], "eos_token": SPECIALS[IM_END], "pad_token": SPECIALS[EOT],
        "add_bos_token": False, "add_eos_token": False,
        "model_max_length": CFG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


# ---------------------------------------------------------------- data

def make_shard(args):
    """One worker's examples: token ids end to end, prompt lengths, lengths."""
    number, count = args
    import numpy as np
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    tok = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    forms = gen.Rng(gen.SEED + 1, number)
    stream = gen.stream(number, False)
    ids, plens, lens = [], [], []
    for start in range(0, count, 5000):
        prompts, replies = [], []
        for _ in range(min(5000, count - start)):
            q, a, _, _ = next(stream)
            prompts.append(prompt_text(q, "a" if forms.below(100) < FORM_A_OF_100 else "b"))
            replies.append(a + "<|im_end|>")
        for p, r in zip(tok.encode_batch(prompts), tok.encode_batch(replies)):
            ids.append(np.array(p.ids + r.ids, dtype=np.int16))
            plens.append(len(p.ids))
            lens.append(len(p.ids) + len(r.ids))
    return np.concatenate(ids), np.array(plens, dtype=np.int32), np.array(lens, dtype=np.int32)


# ---------------------------------------------------------------- model

def build_model(torch):
    from torch import nn
    import torch.nn.functional as F

    H, D, NH, NK = CFG["hidden_size"], CFG["head_dim"], CFG["num_attention_heads"], CFG["num_key_value_heads"]

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(H))

        def forward(self, x):
            y = x.float()
            y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + CFG["rms_norm_eps"])
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
            M = CFG["intermediate_size"]
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
            self.embed_tokens = nn.Embedding(CFG["vocab_size"], H)
            self.layers = nn.ModuleList(Block() for _ in range(CFG["num_hidden_layers"]))
            self.norm = Norm()
            f = 1.0 / CFG["rope_theta"] ** (torch.arange(0, D, 2).float() / D)
            t = torch.outer(torch.arange(CFG["max_position_embeddings"]).float(), f)
            self.register_buffer("cos", t.cos(), persistent=False)
            self.register_buffer("sin", t.sin(), persistent=False)
            for name, p in self.named_parameters():
                if p.dim() == 2:
                    scale = (2 * CFG["num_hidden_layers"]) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
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


def final_number(text):
    """The integer after the last '#### ' line start, or None."""
    last = text.rstrip("\n").split("\n")[-1]
    if last.startswith("#### "):
        try:
            return int(last[5:].replace(",", ""))
        except ValueError:
            return None
    return None


def score(tok, problems, replies):
    """Accuracy, well-formed share, mean tokens, and hits by level and steps."""
    right = formed = tokens = 0
    table = {}
    for p, r in zip(problems, replies):
        text = tok.decode(r, skip_special_tokens=True)
        got = final_number(text)
        ok = got is not None and got == final_number(p[1])
        right += ok
        formed += got is not None and r[-1:] == [IM_END]
        tokens += len(r)
        for key in (f"level {p[3]}", f"steps {p[2][0][0]}", f"level {p[3]} steps {p[2][0][0]}", p[2][0]):
            h, n = table.get(key, (0, 0))
            table[key] = (h + ok, n + 1)
    k = len(problems)
    return right / k, formed / k, tokens / k, table


# ---------------------------------------------------------------- training

class Muon:
    """Momentum made orthogonal by five Newton-Schulz steps, for the matrices of the blocks."""

    def __init__(self, torch, params, decay):
        self.torch, self.decay = torch, decay
        groups = {}
        for p in params:
            r, c = p.shape
            groups.setdefault((min(r, c), max(r, c)), []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), r, c, device=ps[0].device), 0.2 * c ** 0.5)
                       for (r, c), ps in groups.items()]

    def step(self, lr):
        torch = self.torch
        with torch.no_grad():
            for ps, buf, scale in self.groups:
                turned = [p.shape[0] > p.shape[1] for p in ps]
                g = torch.stack([p.grad.T if t else p.grad for p, t in zip(ps, turned)])
                buf.lerp_(g, 0.05)
                x = g.lerp(buf, 0.95).bfloat16()
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315) @ x
                x = x.float()
                torch._foreach_mul_(ps, 1 - lr * self.decay)
                torch._foreach_add_(ps, [u.T if t else u for u, t in zip(x * (-lr * scale), turned)])


def train(args):
    t0 = time.time()
    workers = args.workers
    each = args.examples // workers
    pool = mp.get_context("fork").Pool(workers)  # before the GPU is touched
    shards = pool.map_async(make_shard, [(gen.STREAM_MODEL + w, each) for w in range(workers)], chunksize=1)

    import numpy as np
    import torch

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    logfile = open(out / "train_log.txt", "w")

    def log(*a):
        line = " ".join(str(x) for x in a)
        print(line, flush=True)
        logfile.write(line + "\n")
        logfile.flush()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = "an " + torch.cuda.get_device_name() if device == "cuda" else "CPU"
    log("date 2026-11-22")
    log("command: python3 models/bundled/train.py train", " ".join(
        f"--{k} {' '.join(map(str, v)) if isinstance(v, list) else v}"
        for k, v in vars(args).items() if k not in ("out", "what")), "--out DIR")
    log("machine:", name, "| python", platform.python_version(), "| torch", torch.__version__)
    log("config", json.dumps({k: CFG[k] for k in (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "vocab_size")}))
    log("data:", f"{each * workers} examples, streams {gen.STREAM_MODEL}..{gen.STREAM_MODEL + workers - 1} of seed {gen.SEED}, "
        f"level weights {gen.LEVEL_WEIGHTS}; every reserved (template, numbers) pair is skipped, "
        "and with it every pair and every question of test.parquet")
    torch.manual_seed(args.seed)
    model = build_model(torch).to(device)
    log("parameters", sum(p.numel() for p in model.parameters()))
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    plain = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    if args.optimizer == "adamw":
        groups = [{"params": matrices, "weight_decay": args.decay}, {"params": plain, "weight_decay": 0.0}]
        muon = None
    else:
        groups = [{"params": plain, "weight_decay": 0.0}]
        muon = Muon(torch, matrices, args.decay)
    graphed = device == "cuda" and bool(args.graph)
    opt = torch.optim.AdamW(groups, lr=torch.tensor(args.lr, device=device) if graphed else args.lr,
                            betas=(0.9, 0.98), eps=1e-9, fused=device == "cuda", capturable=graphed)
    if args.compile:
        torch._dynamo.config.recompile_limit = 64
        for layer in model.layers:
            layer.compile(dynamic=False)
        model.head = torch.compile(model.head, dynamic=False)

    widths = args.widths  # two fixed widths, so that two shapes are compiled
    rows = [args.share, args.batch - args.share]

    rate = torch.zeros((), device=device)  # the learning rate, where a graph can read it

    def work(batches, lr):
        with torch.autocast(device, dtype=torch.bfloat16):
            parts = [model.loss(*b) for b in batches]
        loss = sum(t for t, _ in parts) / sum(c for _, c in parts)
        loss.backward()
        if muon:
            muon.step(lr * args.muon)
        else:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for g in opt.param_groups:
            if graphed:
                g["lr"].copy_(lr)
            else:
                g["lr"] = lr
        opt.step()
        opt.zero_grad(set_to_none=True)
        return loss.detach()

    graph, held, shown = None, None, None

    def run(batches, lr):
        if not graphed:
            return work(batches, lr)
        rate.fill_(lr)
        if graph is None:
            return work(batches, rate)
        for into, made in zip(held, batches):
            for x, y in zip(into, made):
                x.copy_(y)
        graph.replay()
        return shown.clone()

    sync = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    log(f"ready to compile at {time.time() - t0:.0f} s")
    dummy = [(torch.randint(3, 1000, (n, w + 1), device=device),
              torch.full((n,), 40, device=device), torch.full((n,), w, device=device))
             for n, w in zip(rows, widths)]
    if device == "cuda":  # compile, then record one step as a graph, while the workers make data
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run(dummy, 0.0)
        torch.cuda.current_stream().wait_stream(side)
        sync()
        log(f"compiled at {time.time() - t0:.0f} s")
        if graphed:
            recorded = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recorded, capture_error_mode="thread_local"):
                shown = work(dummy, rate)
            graph, held = recorded, dummy
            log(f"step recorded at {time.time() - t0:.0f} s")
    elif args.compile:
        run(dummy, 0.0)
    shards = shards.get()
    log(f"data made at {time.time() - t0:.0f} s")
    plen = np.concatenate([s[1] for s in shards])
    length = np.concatenate([s[2] for s in shards])
    flat = torch.from_numpy(np.concatenate([s[0] for s in shards])).to(device)
    begin = np.concatenate([[0], np.cumsum(length, dtype=np.int64)[:-1]])
    groups = []
    for lo, w in zip([0] + widths[:-1], widths):
        which = np.nonzero((length > lo) & (length <= w))[0]
        groups.append([torch.from_numpy(v[which].astype(np.int64)).to(device) for v in (begin, length, plen)])
    log("examples by width", dict(zip(widths, [len(g[0]) for g in groups])),
        "longer, left out:", int((length > widths[-1]).sum()),
        "| mean tokens", round(float(length.mean()), 1), "of which reply", round(float((length - plen).mean()), 1))
    cols = [torch.arange(w + 1, device=device) for w in widths]
    perms, offs = [None, None], [0, 0]

    def batch():
        made = []
        for g, (b, n, p) in enumerate(groups):
            k = rows[g]
            if perms[g] is None or offs[g] + k > len(b):
                perms[g], offs[g] = torch.randperm(len(b), device=device), 0
            i = perms[g][offs[g]:offs[g] + k]
            offs[g] += k
            at = (b[i][:, None] + cols[g][None]).clamp(max=len(flat) - 1)
            ids = torch.where(cols[g][None] < n[i][:, None], flat[at].long(), EOT)
            made.append((ids, p[i], n[i]))
        return made

    for g in opt.state.values():  # forget the compile steps
        for v in g.values():
            v.zero_()
    if muon:
        for _, buf, _ in muon.groups:
            buf.zero_()
    snapshots = {}
    losses = []
    step = 0
    done = False
    scale, best, kept = 1.0, math.inf, None  # see the guard below

    def state():
        """Everything that training moves: weights, moments, momentum."""
        return ([p.data for p in model.parameters()] + [v for s in opt.state.values() for v in s.values()]
                + ([buf for _, buf, _ in muon.groups] if muon else []))

    started = time.time()
    # The schedule runs over the steps given, or else over the seconds left.
    span = min(args.seconds, args.deadline - (started - t0))
    while not done:
        f = step / args.steps if args.steps else (time.time() - started) / span
        lr = scale * args.lr * min(1.0, (step + 1) / args.warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, f))))
        losses.append(run(batch(), lr))
        step += 1
        if step % 8 == 0:
            sync()  # keeps the clock honest
        done = step >= args.steps if args.steps else time.time() - started >= span
        if step % 200 == 0 or done:
            loss = torch.stack(losses).mean().item()
            log(f"step {step} loss {loss:.4f} lr {lr:.5f} t {time.time() - started:.1f} s")
            losses = []
            # The guard: when the loss has climbed well above its lowest, go back there and halve the learning rate.
            if loss < best:
                best, kept = loss, [v.clone() for v in state()]
            elif not loss < best * 1.15 + 0.01 and not done:
                scale /= 2
                with torch.no_grad():
                    for v, k in zip(state(), kept):
                        v.copy_(k)
                log(f"loss climbed from {best:.4f}: back to it, learning rate times {scale}")
        for part in (0.25, 0.5, 0.75):
            if f >= part and part not in snapshots:
                snapshots[part] = step
                if args.snapshots:
                    (out / f"at{int(part * 100)}").mkdir(exist_ok=True)
                    save(torch, model, out / f"at{int(part * 100)}", weights_only=True)
    log(f"trained {step} steps of {args.batch} examples in {time.time() - started:.1f} s, optimizer {args.optimizer}, "
        f"peak lr {args.lr}, weight decay {args.decay}, seed {args.seed}; snapshots at {snapshots}")
    save(torch, model, out)
    log(f"whole run {time.time() - t0:.0f} s")
    logfile.close()
    pool.terminate()


def save(torch, model, out, weights_only=False):
    from safetensors.torch import save_file
    tensors = {"model." + k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, str(out / "model.safetensors"), metadata={"format": "pt"})
    if weights_only:
        return
    (out / "config.json").write_text(json.dumps(CFG, indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps({
        "bos_token_id": EOT, "eos_token_id": [IM_END, EOT], "pad_token_id": EOT,
        "do_sample": False, "max_new_tokens": 256}, indent=2) + "\n")


def rescale(args):
    """Copies a trained model here with its residual stream divided by 32, so that binary16 can hold it.

    Exact, up to the last addition's rounding: everything that is added to the stream (embeddings, o_proj, down_proj) is divided by
    a power of two, the norms do not see it (their epsilon is divided by its square), and the last norm multiplies it back for the
    tied output projection.
    """
    from safetensors.torch import load_file, save_file
    source, factor = Path(getattr(args, "from")), 32.0
    tensors = load_file(str(source / "model.safetensors"))
    for name in tensors:
        if name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight")):
            tensors[name] = tensors[name] / factor
        elif name == "model.norm.weight":
            tensors[name] = tensors[name] * factor
    save_file(tensors, str(HERE / "model.safetensors"), metadata={"format": "pt"})
    config = {**CFG, "rms_norm_eps": CFG["rms_norm_eps"] / factor ** 2}
    (HERE / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (HERE / "generation_config.json").write_text((source / "generation_config.json").read_text())


# ---------------------------------------------------------------- check

def check(args):
    """Greedy accuracy and reference.json, with transformers on the CPU."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tok = AutoTokenizer.from_pretrained(str(HERE))
    test = gen.test_set()
    print("transformers", transformers.__version__, "torch", torch.__version__, "python", platform.python_version())
    for dtype in args.dtypes:
        model = AutoModelForCausalLM.from_pretrained(str(HERE), dtype=getattr(torch, dtype)).eval()
        assert model.config.tie_word_embeddings
        for form in "ab" if dtype == "float32" else "a":
            replies = []
            for start in range(0, len(test), 60):
                chats = [[{"role": "user", "content": user_text(p[0], form)}] for p in test[start:start + 60]]
                texts = [tok.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
                assert texts[0] == prompt_text(test[start][0], form)
                b = tok(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
                with torch.no_grad():
                    y = model.generate(b["input_ids"], attention_mask=b["attention_mask"], do_sample=False, max_new_tokens=200)
                for row in y[:, b["input_ids"].shape[1]:].tolist():
                    replies.append(row[:row.index(IM_END) + 1] if IM_END in row else row)
            acc, formed, mean, table = score(tok, test, replies)
            print(f"{dtype} form {form}: accuracy {acc:.4f} ({round(acc * len(test))}/{len(test)}), well-formed {formed:.4f}, "
                  f"mean reply tokens {mean:.1f}, longest {max(map(len, replies))}", flush=True)
            if dtype == "float32":
                print("  ", {k: table[k] for k in sorted(table) if k[:5] in ("level", "steps")})
    model = AutoModelForCausalLM.from_pretrained(str(HERE), dtype=torch.float32).eval()
    entries = []
    for index in range(0, 240, 30):
        text = prompt_text(test[index][0], "a")
        ids = tok(text, add_special_tokens=False)["input_ids"]
        got, margins, first = [], [], None
        with torch.no_grad():
            while len(got) < 64 and (not got or got[-1] != IM_END):
                logits = model(torch.tensor([ids + got])).logits[0, -1]
                top = logits.topk(2).values
                if first is None:
                    first = torch.logsumexp(logits, 0).item()
                margins.append((top[0] - top[1]).item())
                got.append(int(logits.argmax()))
        entries.append({"test_index": index, "prompt": text, "prompt_ids": ids, "greedy_ids": got,
                        "greedy_text": tok.decode(got), "top2_margin": [round(m, 6) for m in margins],
                        "first_logsumexp": round(first, 6)})
    (HERE / "reference.json").write_text(json.dumps({
        "what": "Greedy decoding by transformers, float32, CPU; at most 64 new tokens, the end token included.",
        "transformers": transformers.__version__, "torch": torch.__version__, "dtype": "float32",
        "eos_token_id": IM_END, "entries": entries}, indent=1) + "\n")
    print("smallest top-2 margin in reference.json:", min(min(e["top2_margin"]) for e in entries))


def main():
    a = argparse.ArgumentParser()
    sub = a.add_subparsers(dest="what", required=True)
    sub.add_parser("tokenizer")
    t = sub.add_parser("train")
    t.add_argument("--out", required=True)
    t.add_argument("--examples", type=int, default=960000)
    t.add_argument("--workers", type=int, default=15)
    t.add_argument("--batch", type=int, default=512)
    t.add_argument("--share", type=int, default=307, help="rows of the narrow width in a batch")
    t.add_argument("--widths", type=int, nargs=2, default=[136, 232])
    t.add_argument("--steps", type=int, default=0, help="0: as many as the time allows")
    t.add_argument("--seconds", type=float, default=1e9, help="training time")
    t.add_argument("--deadline", type=float, default=1e9, help="end of training, from the start of the script")
    t.add_argument("--optimizer", choices=["adamw", "muon"], default="muon")
    t.add_argument("--muon", type=float, default=1.0, help="learning rate of the matrices over that of the rest")
    t.add_argument("--lr", type=float, default=1.5e-3)
    t.add_argument("--warmup", type=int, default=100)
    t.add_argument("--decay", type=float, default=0.05)
    t.add_argument("--snapshots", type=int, default=1)
    t.add_argument("--seed", type=int, default=20261122)
    t.add_argument("--compile", type=int, default=1)
    t.add_argument("--graph", type=int, default=1, help="replay each step as a CUDA graph")
    sub.add_parser("rescale").add_argument("--from", required=True)
    c = sub.add_parser("check")
    c.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16", "float16"])
    args = a.parse_args()
    {"tokenizer": lambda _: write_tokenizer(), "train": train, "rescale": rescale, "check": check}[args.what](args)


if __name__ == "__main__":
    main()
