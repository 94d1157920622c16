#!/usr/bin/env python3
"""Which measure finds a quantisation's damage with the least engine time? Nothing but evalsuite's own commands, and Python's own library.

    python3 benches/sensitivity.py --evalsuite target/release/evalsuite --model bundled --engine cpu --limit 240 --out sensitivity
    python3 benches/sensitivity.py --evalsuite target/release/evalsuite --model SmolLM2.gguf --engine cuda --limit 1319 --out sensitivity

Variants: int8; AWQ in groups of 128, 64 and 32; plain rounding (RTN) in groups of 64, else of what fits. bf16 is the placebo. f32 is the reference.

Every measure is paired: on each question (or prompt), what the variant changes against f32 less what bf16 changes. With the mean m of these
differences and its standard error e over questions, z = m / e. As z grows with the root of the number of questions and the time with that
number, z / √s does not depend on it: s is the engine time of f32's and the variant's side of the measure, loading left out. The table has
z / √s, and the seconds after which z is expected to be 3. `-` is a measure that sees nothing (z below 1, or no difference at all).

KL is the mean over f32's own answers, of variant and placebo each with its clustered error; the two errors are added in squares, which is more than
the error of a paired difference. It stands twice: with the time in which f32 wrote these answers, and without, where they are at hand.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

REFERENCE, PLACEBO = "f32", "bf16"
GROUPS = (128, 64, 32)


def run(*words):
    print("$ " + " ".join(map(str, words)), file=sys.stderr)
    done = subprocess.run(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{done.stderr}\n{words[1]} ended with {done.returncode}")


def quantize(program, model, out):
    """Checkpoints by name; a group that does not fit the model's widths is left out, and named."""
    found = {}
    for method, group in [("awq", group) for group in GROUPS] + [("rtn", group) for group in (64, 32)]:
        name, folder = f"{method}-g{group}", out / f"{method}-g{group}"
        if method == "rtn" and any(known.startswith("rtn") for known in found):
            continue
        if not folder.exists():
            words = [program, "quantize", "--model", model, "--method", method, "--group-size", group, "--out", folder]
            print("$ " + " ".join(map(str, words)), file=sys.stderr)
            done = subprocess.run(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{name} is left out: {done.stderr.strip().splitlines()[0]}", file=sys.stderr)
                continue
        found[name] = folder
    return found


def mean_and_error(values):
    """Mean, and its standard error over independent values.

    >>> mean_and_error([1.0, 2.0, 3.0, 4.0])
    (2.5, 0.6454972243679028)
    """
    n = len(values)
    mean = math.fsum(values) / n
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def z_of(mean, error):
    """How many standard errors the mean lies from 0; 0 where nothing varies."""
    return abs(mean) / error if error > 0 else 0.0


def paired(of_variant, of_placebo):
    """z of what the variant changes beyond the placebo, question by question.

    >>> round(paired({1: 1.0, 2: 1.0, 3: 0.0, 4: 1.0}, {1: 0.0, 2: 1.0, 3: 0.0, 4: 0.0}), 6)
    1.732051
    >>> paired({1: 1.0, 2: 0.0}, {1: 1.0, 2: 0.0})
    0.0
    """
    if of_variant.keys() != of_placebo.keys():
        sys.exit("variant and placebo have not answered the same questions")
    return z_of(*mean_and_error([of_variant[key] - of_placebo[key] for key in sorted(of_variant)]))


class Answers:
    """Of a run folder: answers by variant and question, and seconds of generating."""

    def __init__(self, folder):
        record = json.loads((folder / "record.json").read_text())
        self.rule = record["headline"]
        self.seconds = {one["dtype"]: one["generate_seconds"] for one in record["dtypes"]}
        self.answers = {}
        for line in (folder / "answers.jsonl").read_text().splitlines():
            one = json.loads(line)
            self.answers.setdefault(one["dtype"], {})[(one["sample"], one["repeat"])] = one

    def right(self, one):
        scores = [score for score in one["scores"] if score["rule"] == self.rule]
        return float(scores[0]["correct"])

    def beside(self, variant, measure):
        """`measure` of a variant's answer and f32's, by question."""
        reference = self.answers[REFERENCE]
        return {key: measure(reference[key], one) for key, one in self.answers[variant].items()}

    def measures(self, variant):
        mean_length = mean_and_error([float(len(one["token_ids"])) for one in self.answers[REFERENCE].values()])[0]
        kinds = {
            "accuracy": lambda was, now: self.right(now) - self.right(was),
            "flips": lambda was, now: float(self.right(was) != self.right(now)),
            "answers that differ": lambda was, now: float(was["token_ids"] != now["token_ids"]),
            "length ratio": lambda was, now: (len(now["token_ids"]) - len(was["token_ids"])) / mean_length,
        }
        seconds = self.seconds[REFERENCE] + self.seconds[variant]
        return {
            name: (paired(self.beside(variant, kind), self.beside(PLACEBO, kind)), seconds)
            for name, kind in kinds.items()
        }


def divergence(path, generating):
    """Of a perplexity's record over f32's own answers: by variant its measures."""
    record = json.loads(path.read_text())
    of = {one["dtype"]: one for one in record["dtypes"]}

    def beyond(variant, estimate):
        own, placebo = (estimate(of[name]["against_f32"]) for name in (variant, PLACEBO))
        errors = [one.get("standard_error") or one["plain_standard_error"] for one in (own, placebo)]
        return z_of(own["value"] - placebo["value"], math.hypot(*errors))

    def measures(variant):
        seconds = of[REFERENCE]["seconds"] + of[variant]["seconds"]
        kl = beyond(variant, lambda against: against["kl"]["mean"])
        found = {
            "KL on own answers": (kl, seconds + generating),
            "KL, own answers at hand": (kl, seconds),
            "same likeliest token": (beyond(variant, lambda against: against["same_best"]), seconds + generating),
        }
        if of[variant]["against_f32"].get("departures"):
            left = beyond(variant, lambda against: against["departures"]["share"])
            found["answers that would leave f32"] = (left, seconds + generating)
        return found

    return measures


def checks(path):
    """Of a quality record: by variant the share of each prompt's checks that are passed."""
    model = json.loads(path.read_text())["models"][0]
    seconds = {
        column["column"]: sum(session["generate_seconds"] or 0.0 for session in column["sessions"])
        for column in model["columns"]
    }

    def passed(variant):
        found = {}
        for place, prompt in enumerate(model["prompts"]):
            for answer in prompt["answers"]:
                if answer["column"] == variant and answer["verdicts"]:
                    verdicts = [float(verdict["passed"]) for verdict in answer["verdicts"]]
                    found[place] = math.fsum(verdicts) / len(verdicts)
        return found

    return lambda variant: {
        "quality checks": (paired(passed(variant), passed(PLACEBO)), seconds[REFERENCE] + seconds[variant])
    }


def cell(z, seconds):
    """
    >>> cell(4.0, 4.0), cell(0.9, 4.0)
    ('2.00 (2.2 s)', '-')
    """
    if z < 1.0 or seconds <= 0.0:
        return "-"
    power = z / math.sqrt(seconds)
    return f"{power:.2f} ({9 / power**2:.2g} s)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evalsuite", default="evalsuite")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--engine", default="cpu")
    parser.add_argument("--limit", type=int, default=240, help="questions")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--task", default="gsm8k")
    parser.add_argument("--dataset", help="rows other than the task's own")
    parser.add_argument("--out", type=Path, default=Path("sensitivity"), help="folder; what is there already is not made again")
    parser.add_argument("--quantize-only", action="store_true", help="make the checkpoints, which takes no GPU, and stop")
    arguments = parser.parse_args()
    out, program = arguments.out, arguments.evalsuite
    out.mkdir(parents=True, exist_ok=True)
    checkpoints = quantize(program, arguments.model, out)
    if arguments.quantize_only:
        return
    names = ["int8", *checkpoints]
    columns = ["--model", arguments.model, "--engine", arguments.engine, "--dtype", f"{REFERENCE},{PLACEBO},int8"]
    columns += [word for name, folder in checkpoints.items() for word in ("--variant", f"{name}={folder}")]
    limits = ["--max-tokens", arguments.max_tokens]
    if not (out / "run/record.json").exists():
        rows = ["--dataset", arguments.dataset] if arguments.dataset else []
        run(program, "eval", arguments.task, *columns, *rows, *limits, "--limit", arguments.limit, "--out", out / "run")
    if not (out / "kl.json").exists():
        run(program, "perplexity", "--run", out / "run", *columns, "--out", out / "kl.json")
    if not (out / "quality/record.json").exists():
        run(program, "quality", *columns, *limits, "--out", out / "quality")
    answers = Answers(out / "run")
    of_divergence, of_checks = divergence(out / "kl.json", answers.seconds[REFERENCE]), checks(out / "quality/record.json")
    table = {name: answers.measures(name) | of_divergence(name) | of_checks(name) for name in names}
    measures = sorted({measure for row in table.values() for measure in row}, key=lambda measure: -max(
        z / math.sqrt(seconds) for row in table.values() for z, seconds in [row.get(measure, (0.0, 1.0))] if seconds > 0))
    questions = len(answers.answers[REFERENCE])
    print(f"{arguments.model}, {arguments.engine}, {questions} questions of {arguments.task}: z / √s, and seconds to z = 3\n")
    print("| measure | " + " | ".join(names) + " |\n|---|" + "--:|" * len(names))
    for measure in measures:
        cells = [cell(*table[name][measure]) if measure in table[name] else "n/a" for name in names]
        print(f"| {measure} | " + " | ".join(cells) + " |")
    print(f"\nz is of what a variant changes against {REFERENCE} beyond {PLACEBO}, paired by question; s is the engine time of {REFERENCE} and of the "
          "variant.\n`-`: z below 1 on these questions.")


if __name__ == "__main__":
    main()
