#!/usr/bin/env python3
"""Trains the bundled model: a small Llama on the bundled word problems.

    python3 models/bundled/train.py tokenizer               # writes tokenizer.json
    python3 models/bundled/train.py data --out FILE         # writes the training rows, tokenised
    python3 models/bundled/train.py train --data FILE --out DIR  # trains, writes the model's folder
    python3 models/bundled/train.py check [--folder DIR]    # accuracy with transformers, CPU

The rows come from datasets/bundled/generate.py under stream numbers of their
own. They skip every reserved (template, numbers) pair, and so every pair and
every question of test.parquet.
"""
import argparse
import json
import math
import multiprocessing as mp
import os
import platform
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "datasets" / "bundled"))
import drills  # noqa: E402
import generate as gen  # noqa: E402
from llama import CFG, EOT, IM_END, IM_START, build_model  # noqa: E402

SUFFIX = ("\n\nReason step by step, one step a line. Then, on a last line of its own, write #### followed by "
          "the final answer as a number.")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FORM_A_OF_100 = 65
SHAPE = (("--hidden", "hidden_size"), ("--inner", "intermediate_size"), ("--layers", "num_hidden_layers"),
         ("--heads", "num_attention_heads"), ("--kv-heads", "num_key_value_heads"))
STREAMS = 16
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
                 "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")


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
    for i, (q, a) in enumerate(islice(drills.model_stream(drills.STREAM_MODEL - 1), 40000)):
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
    """One stream's rows: token ids end to end, and by row the tokens of the prompt and of the whole."""
    number, count, weights = args
    import numpy as np
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    tok = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    forms = gen.Rng(gen.SEED + 1, number)
    stream = drills.model_stream(number, weights)
    ids, prompt_lengths, lengths = [], [], []
    for start in range(0, count, 5000):
        prompts, replies = [], []
        for _ in range(min(5000, count - start)):
            q, a = next(stream)
            prompts.append(prompt_text(q, "a" if forms.below(100) < FORM_A_OF_100 else "b"))
            replies.append(a + "<|im_end|>")
        for p, r in zip(tok.encode_batch(prompts), tok.encode_batch(replies)):
            ids.append(np.array(p.ids + r.ids, dtype=np.uint16))
            prompt_lengths.append(len(p.ids))
            lengths.append(len(p.ids) + len(r.ids))
    return np.concatenate(ids), np.array(prompt_lengths, dtype=np.uint16), np.array(lengths, dtype=np.uint16)


def write_data(args):
    """The training rows as one file, .npz."""
    import numpy as np
    with mp.get_context("fork").Pool(args.workers) as pool:
        jobs = [(drills.STREAM_MODEL + k, args.examples // STREAMS, tuple(args.weights)) for k in range(STREAMS)]
        shards = pool.map(make_shard, jobs, chunksize=1)
    made = {name: np.concatenate([s[k] for s in shards]) for k, name in enumerate(("ids", "prompt_lengths", "lengths"))}
    np.savez(args.out, weights=np.array(args.weights), **made)
    print(f"{len(made['lengths'])} rows, {len(made['ids'])} tokens, {Path(args.out).stat().st_size} bytes")


# ---------------------------------------------------------------- scoring

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

def train(args):
    t0 = time.time()
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
    log("date", time.strftime("%Y-%m-%d"))
    log("command: python3 models/bundled/train.py train", " ".join(
        f"--{k.replace('_', '-')} {v}" for k, v in vars(args).items() if k not in ("out", "data", "what")), "--data FILE --out DIR")
    log("machine:", name, "| python", platform.python_version(), "| torch", torch.__version__)
    with np.load(args.data) as made:
        ids, prompt_length, length, weights = (made[k] for k in ("ids", "prompt_lengths", "lengths", "weights"))
    begin = np.concatenate([[0], np.cumsum(length, dtype=np.int64)[:-1]])
    # Two fixed widths, so that two shapes are compiled; a batch holds rows of both in the data's own proportion.
    widths = [args.narrow, -(-int(length.max()) // 8) * 8]
    which = [np.nonzero(length <= widths[0])[0], np.nonzero(length > widths[0])[0]]
    groups = [[torch.from_numpy(v[w].astype(np.int64)).to(device) for v in (begin, prompt_length, length)] for w in which]
    share = round(args.batch * len(which[0]) / len(length))
    rows = [share, args.batch - share]
    flat = torch.from_numpy(ids.astype(np.int16)).to(device)
    log(f"data: {len(length)} rows of {STREAMS} streams from {drills.STREAM_MODEL} of seed {gen.SEED}, {drills.DRILLS_OF_100} % drills, "
        f"level weights {tuple(weights.tolist())}; every reserved (template, numbers) pair is skipped, "
        "and with it every pair and every question of test.parquet")
    log("rows by width", dict(zip(widths, map(len, which))), "| in a batch", rows,
        "| mean tokens", round(float(length.mean()), 1), "of which reply", round(float((length - prompt_length).mean()), 1))

    torch.manual_seed(args.seed)
    cfg = {**CFG, **{key: vars(args)[name[2:].replace("-", "_")] for name, key in SHAPE}}
    model = build_model(torch, cfg).to(device)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    log("parameters", sum(p.numel() for p in model.parameters()))
    graphed = device == "cuda" and bool(args.graph)
    opt = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": args.decay},
         {"params": [p for p in model.parameters() if p.dim() != 2], "weight_decay": 0.0}],
        lr=torch.tensor(args.lr, device=device) if graphed else args.lr,
        betas=(0.9, 0.95), eps=1e-8, fused=device == "cuda", capturable=graphed)
    if args.compile:
        torch._dynamo.config.recompile_limit = 64  # two shapes for each of the layers, which share their code
        for layer in model.layers:
            layer.compile(dynamic=False)
        model.head = torch.compile(model.head, dynamic=False)

    rate = torch.zeros((), device=device)  # the learning rate, where a graph can read it

    def work(batches, lr):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            parts = [model.loss(*b) for b in batches]
        loss = sum(t for t, _ in parts) / sum(c for _, c in parts)
        loss.backward()
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
    if device == "cuda":  # compile, then record one step as a graph
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
    cols = [torch.arange(w + 1, device=device) for w in widths]
    perms, offs = [None, None], [0, 0]

    def batch():
        made = []
        for g, (b, p, n) in enumerate(groups):
            k = rows[g]
            if perms[g] is None or offs[g] + k > len(b):
                perms[g], offs[g] = torch.randperm(len(b), device=device), 0
            i = perms[g][offs[g]:offs[g] + k]
            offs[g] += k
            at = (b[i][:, None] + cols[g][None]).clamp(max=len(flat) - 1)
            row = torch.where(cols[g][None] < n[i][:, None], flat[at].long(), EOT)
            made.append((row, p[i], n[i]))
        return made

    for g in opt.state.values():  # forget the compile steps
        for v in g.values():
            v.zero_()

    def state():
        """Everything that training moves: weights and moments."""
        return [p.data for p in model.parameters()] + [v for s in opt.state.values() for v in s.values()]

    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(HERE / file, out / file)
    group = 128 if all(p.shape[1] % 128 == 0 for p in matrices) else 64  # as `evalsuite quantize` chooses
    watched = gen.take(gen.STREAM_TEST, True, args.held_out, 0, weights.tolist())

    def look(model):
        """How many held-out replies the model foresees, and how many with its matrices rounded to four bits."""
        return " | ".join(f"{what} {sum(foreseen(torch, m, tok, watched))} of {len(watched)}" for what, m in (
            ("f32", copied(torch, model, cfg)), ("int4", rounded(torch, copied(torch, model, cfg), group))))

    losses, step, done = [], 0, False
    scale, best, kept = 1.0, math.inf, None  # see the guard below
    started = time.time()
    span = args.deadline - (started - t0)
    while not done:
        # To zero over the steps, or over the time where that is short.
        elapsed = time.time() - started
        gone = min(1.0, max(step / args.steps, elapsed / span))
        lr = scale * args.lr * min(1.0, (step + 1) / args.warmup) * (1 - gone)
        losses.append(run(batch(), lr))
        step += 1
        if step % 8 == 0:
            sync()  # keeps the clock honest
        done = step >= args.steps or time.time() - started >= span
        if step % args.every == 0 or done:
            loss = torch.stack(losses).mean().item()
            with torch.no_grad():
                rms = max(p.pow(2).mean().sqrt().item() for p in matrices)
            log(f"step {step} loss {loss:.4f} lr {lr:.6f} t {elapsed:.1f} s, largest RMS of a matrix {rms:.4f} | {look(model)}")
            losses = []
            # The guard: when the loss has climbed well above its lowest, go back there and halve the learning rate.
            if loss < best:
                best, kept = loss, [v.clone() for v in state()]
            elif not loss < best * 1.15 + 0.01 and not done and kept:
                scale /= 2
                with torch.no_grad():
                    for v, k in zip(state(), kept):
                        v.copy_(k)
                log(f"loss climbed from {best:.4f}: back to it, learning rate times {scale}")
    log(f"trained {step} steps of {args.batch} rows in {time.time() - started:.1f} s, AdamW, "
        f"peak lr {args.lr}, weight decay {args.decay}, seed {args.seed}")
    save(torch, model, cfg, out)
    log(f"whole run {time.time() - t0:.0f} s")
    logfile.close()


def copied(torch, model, cfg):
    """The same weights in a model that is not compiled, for other shapes and types."""
    plain = build_model(torch, cfg).to(model.embed_tokens.weight.device).eval()
    plain.load_state_dict(model.state_dict())
    return plain


def rounded(torch, model, group):
    """The model with the blocks' matrices rounded to four bits, as `evalsuite quantize --method rtn` does it."""
    with torch.no_grad():
        for layer in model.layers:
            for p in layer.parameters():
                if p.dim() == 2:
                    p.copy_(four_bits(p, group))
    return model


def four_bits(w, group):
    """Rounded to nearest with a scale and a zero point for every `group` inputs of an output."""
    x = w.reshape(w.shape[0], -1, group)
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    scale = ((high - low).clamp(min=1e-5) / 15).half().float()
    zero = (-(low / scale).round()).clamp(0, 15)
    return ((((x / scale).round() + zero).clamp(0, 15) - zero) * scale).view_as(w)


def foreseen(torch, model, tok, problems):
    """For each problem, whether every reply token is the most likely one given the right ones before it: whether greedy decoding
    writes that reply."""
    device = model.embed_tokens.weight.device
    hits = []
    for start in range(0, len(problems), 300):
        pairs = [(tok.encode(prompt_text(p[0], "a")).ids, tok.encode(p[1] + "<|im_end|>").ids)
                 for p in problems[start:start + 300]]
        width = max(len(p) + len(r) for p, r in pairs)
        ids = torch.tensor([p + r + [EOT] * (width - len(p) - len(r)) for p, r in pairs], device=device)
        begin = torch.tensor([len(p) for p, _ in pairs], device=device)[:, None]
        end = torch.tensor([len(p) + len(r) for p, r in pairs], device=device)[:, None]
        at = torch.arange(1, width, device=device)[None]
        with torch.no_grad():
            best = (model(ids[:, :-1]) @ model.embed_tokens.weight.T).argmax(-1)
        hits += ((best == ids[:, 1:]) | (at < begin) | (at >= end)).all(1).tolist()
    return hits


def save(torch, model, cfg, out):
    from safetensors.torch import save_file
    tensors = {"model." + k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, str(out / "model.part"), metadata={"format": "pt"})
    (out / "model.part").replace(out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(cfg, indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps({
        "bos_token_id": EOT, "eos_token_id": [IM_END, EOT], "pad_token_id": EOT,
        "do_sample": False, "max_new_tokens": 256}, indent=2) + "\n")


# ---------------------------------------------------------------- check

def check(args):
    """Greedy accuracy and reference.json, with transformers on the CPU."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(args.folder)
    tok = AutoTokenizer.from_pretrained(str(folder))
    test = gen.test_set()[:args.limit]
    print("transformers", transformers.__version__, "torch", torch.__version__, "python", platform.python_version())
    for dtype in args.dtypes:
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=getattr(torch, dtype)).eval()
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
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    entries = []
    for index in range(0, len(test), 30):
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
    (folder / "reference.json").write_text(json.dumps({
        "what": "Greedy decoding by transformers, float32, CPU; at most 64 new tokens, the end token included.",
        "transformers": transformers.__version__, "torch": torch.__version__, "dtype": "float32",
        "eos_token_id": IM_END, "entries": entries}, indent=1) + "\n")
    print("smallest top-2 margin in reference.json:", min(min(e["top2_margin"]) for e in entries))


def main():
    a = argparse.ArgumentParser()
    sub = a.add_subparsers(dest="what", required=True)
    sub.add_parser("tokenizer")
    d = sub.add_parser("data")
    d.add_argument("--out", required=True)
    d.add_argument("--examples", type=int, default=520000)
    d.add_argument("--workers", type=int, default=os.cpu_count())
    d.add_argument("--weights", type=int, nargs="+", default=gen.LEVEL_WEIGHTS, help="of the levels, of 100")
    t = sub.add_parser("train")
    t.add_argument("--data", required=True)
    t.add_argument("--out", required=True)
    t.add_argument("--batch", type=int, default=512)
    t.add_argument("--narrow", type=int, default=152, help="tokens of the narrower of the two widths")
    for name, key in SHAPE:
        t.add_argument(name, type=int, default=CFG[key])
    t.add_argument("--steps", type=int, default=700)
    t.add_argument("--deadline", type=float, default=1e9, help="end of training, in seconds from the start of the script")
    t.add_argument("--lr", type=float, default=2e-3)
    t.add_argument("--warmup", type=int, default=120, help="steps")
    t.add_argument("--decay", type=float, default=0.1)
    t.add_argument("--every", type=int, default=250, help="steps between lines of the log")
    t.add_argument("--held-out", type=int, default=600, help="problems")
    t.add_argument("--seed", type=int, default=20261122)
    t.add_argument("--compile", type=int, default=1)
    t.add_argument("--graph", type=int, default=1, help="replay each step as a CUDA graph")
    c = sub.add_parser("check")
    c.add_argument("--folder", default=str(HERE))
    c.add_argument("--limit", type=int, default=gen.N_TEST)
    c.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16", "float16"])
    args = a.parse_args()
    {"tokenizer": lambda _: write_tokenizer(), "data": write_data, "train": train, "check": check}[args.what](args)


if __name__ == "__main__":
    main()
