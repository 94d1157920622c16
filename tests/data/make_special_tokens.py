"""Writes special_tokens.json: what transformers makes of folders that name their special tokens in different files.

    pip install transformers==5.24.0 jinja2
    python tests/data/make_special_tokens.py

Each case: the files beside config.json, a text, the ids that it becomes, and the special tokens that a chat template finds.
"""

import json
import pathlib
import tempfile

import transformers

WORDS = ["hm", "<s>", "</s>", "<pad>", "two", "<|end|>", "<img>", "three", "four"]
TEXT = "two<|end|>three <img>two<new>four</s> <pad>"
# What makes `<img>` take the blank in front of it along.
IMG = {"content": "<img>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": True}
PLAIN = dict(IMG, lstrip=False, special=False)


def tokenizer(added):
    """A tokenizer.json of words between blanks."""
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [dict(IMG, id=WORDS.index(text), content=text, lstrip=False) for text in added],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: id for id, word in enumerate(WORDS)}, "unk_token": "hm"},
    }


def cases():
    """File names and their contents."""
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    yield "named", {"tokenizer_config.json": plain | {"pad_token": "<pad>", "unk_token": "hm", "sep_token": "<|end|>"}}
    yield "not in the vocabulary", {"tokenizer_config.json": plain | {"pad_token": "<new>"}}
    yield "a name of the model's own", {"tokenizer_config.json": plain | {"image_token": "<img>"}}
    yield "additional list", {"tokenizer_config.json": plain | {"additional_special_tokens": ["<|end|>", IMG | {"__type": "AddedToken"}]}}
    yield "extra list", {"tokenizer_config.json": plain | {"extra_special_tokens": ["<|end|>", "<new>"]}}
    yield "extra names", {"tokenizer_config.json": plain | {"extra_special_tokens": {"end_token": "<|end|>", "picture": "<img>"}}}
    both = {"extra_special_tokens": ["<|end|>"], "additional_special_tokens": ["<img>"]}
    yield "both lists", {"tokenizer_config.json": plain | both}
    decoder = {"5": dict(IMG, content="<|end|>", lstrip=False), "6": IMG}
    yield "decoder", {"tokenizer_config.json": plain | {"added_tokens_decoder": decoder}}
    yield "decoder, not special", {"tokenizer_config.json": plain | {"added_tokens_decoder": {"6": PLAIN}}}
    yield "decoder before the older file", {
        "tokenizer_config.json": plain | {"added_tokens_decoder": {"6": IMG}},
        "special_tokens_map.json": {"sep_token": "<|end|>"},
    }
    older = {"bos_token": "<|end|>", "pad_token": dict(PLAIN, content="<pad>"), "additional_special_tokens": ["<img>"]}
    yield "older file", {"tokenizer_config.json": plain, "special_tokens_map.json": older}
    mask = {"mask_token": dict(IMG)}
    yield "older file, taking blanks along", {"tokenizer_config.json": plain, "special_tokens_map.json": mask}
    yield "taking blanks along", {"tokenizer_config.json": plain | {"mask_token": IMG | {"__type": "AddedToken"}}}
    yield "older file of the newer name", {
        "tokenizer_config.json": plain | {"additional_special_tokens": ["<|end|>"]},
        "special_tokens_map.json": {"extra_special_tokens": ["<img>"]},
    }
    yield "older files", {
        "tokenizer_config.json": plain,
        "special_tokens_map.json": {"additional_special_tokens": ["<img>"]},
        "added_tokens.json": {"<img>": 6, "<|end|>": 5},
    }
    yield "older lists", {
        "tokenizer_config.json": plain | {"additional_special_tokens": ["<|end|>"]},
        "special_tokens_map.json": {"additional_special_tokens": ["<img>"]},
    }
    yield "described in tokenizer.json", {"tokenizer_config.json": plain, "tokenizer.json": tokenizer(["<|end|>"])}
    yield "described otherwise", {
        "tokenizer_config.json": plain | {"added_tokens_decoder": {"6": IMG}},
        "tokenizer.json": tokenizer(["<img>", "<s>"]),
    }


def main():
    """Writes the file."""
    results = []
    for name, files in cases():
        files = {"tokenizer.json": tokenizer([])} | files
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                pathlib.Path(folder, file).write_text(json.dumps(content), encoding="utf-8")
            pathlib.Path(folder, "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
            loaded = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
            ids = loaded.encode(TEXT, add_special_tokens=False)
            results.append({
                "name": name, "files": files, "text": TEXT, "ids": ids, "kept": loaded.decode(ids, skip_special_tokens=True),
                "named": dict(sorted(loaded.special_tokens_map.items())),
            })
    target = pathlib.Path(__file__).with_name("special_tokens.json")
    lines = ",\n".join(json.dumps(result, ensure_ascii=False) for result in results)
    target.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


main()
