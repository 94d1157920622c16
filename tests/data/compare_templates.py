"""Renders chat templates of others by transformers and by evalsuite's own child process, and says where the two differ.

    pip install transformers==5.24.0
    python tests/data/compare_templates.py EVALSUITE FOLDER

EVALSUITE is the program, FOLDER holds .jinja files. Four conversations each, with thinking left to the template, on and off; without tools.
A date is 26 July 2024, as in evalsuite. Exit code 1 where a text differs or one of the two refuses alone.
"""

import collections
import datetime
import json
import pathlib
import struct
import subprocess
import sys

from transformers.utils import chat_template_utils

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
CONVERSATIONS = [
    [("user", "What is 2 + 2?")],
    [("system", "Be brief."), ("user", "What is 2 + 2? <é>\n\n'x' \"y\"")],
    [("user", "Hi there"), ("assistant", "Hello!\nHow can I help?"), ("user", "  What is 3 * 4? ")],
    [("system", "Answer in German."), ("user", "Hi"), ("assistant", "<think>\nhm\n</think>\n\nHello!"), ("user", "And 5?"),
     ("assistant", "10"), ("user", "Sure?")],
]


class Fixed(datetime.datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz=None):
        """The date of evalsuite's `strftime_now`."""
        return cls(2024, 7, 26)


chat_template_utils.datetime = Fixed


class Child:
    """The process that evalsuite renders in: frames of a length in eight bytes and JSON."""

    def __init__(self, program):
        self.process = subprocess.Popen([program, "isolated-job", "chat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template, messages, thinking):
        """`{"Ok": text}` or `{"Err": why}`."""
        question = {"source": {"template": template, "tokens": TOKENS}, "conversation": messages, "thinking": thinking}
        request = json.dumps(question).encode()
        self.process.stdin.write(struct.pack("<Q", len(request)) + request)
        self.process.stdin.flush()
        (length,) = struct.unpack("<Q", self.process.stdout.read(8))
        return json.loads(self.process.stdout.read(length))


def theirs(template, messages, thinking):
    """The same by transformers."""
    told = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
    try:
        compiled = chat_template_utils._compile_jinja_template(template)
        text = compiled.render(messages=messages, tools=None, documents=None, add_generation_prompt=True, **TOKENS, **told)
        return {"Ok": text}
    except Exception as error:  # whatever a template raises is its refusal
        return {"Err": f"{type(error).__name__}: {error}"}


def main():
    """Compares them all."""
    child, counts, templates = Child(sys.argv[1]), collections.Counter(), sorted(pathlib.Path(sys.argv[2]).glob("*.jinja"))
    for path in templates:
        template = path.read_text()
        for turns in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in turns]
            for thinking in (None, True, False):
                one, other = theirs(template, messages, thinking), child.render(template, messages, thinking)
                if "Ok" in one and "Ok" in other:
                    kind = "equal" if one == other else "different"
                else:
                    kind = "refused by both" if "Err" in one and "Err" in other else "refused by one"
                counts[kind] += 1
                if kind == "refused by both" and thinking is None:
                    print(f"{path.name}, {len(turns)} turns: {one['Err']}")
                if kind in ("different", "refused by one"):
                    print(f"{path.name}, {len(turns)} turns, thinking {thinking}: {kind}\n  {one}\n  {other}")
    print(f"{len(templates)} templates, {len(CONVERSATIONS) * 3} renderings each: {dict(counts)}")
    return int(counts["different"] + counts["refused by one"] > 0)


sys.exit(main())
