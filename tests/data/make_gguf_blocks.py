"""Writes gguf_blocks.json: blocks of every type and the values that llama.cpp's own reader (the package gguf) gives them.

    pip install gguf==0.19.0 numpy
    python tests/data/make_gguf_blocks.py
"""

import json
import pathlib

import gguf
import numpy

TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
# Where a block holds numbers of 16 bits; what lies there must be finite.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}

random = numpy.random.default_rng(19)
rows = []
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, size=(max(1, 128 // values), size), dtype=numpy.uint8)
    for block in blocks:
        for at in HALVES[name]:
            block[at:at + 2] = numpy.frombuffer(numpy.float16(random.normal()).tobytes(), numpy.uint8)
    if name == "MXFP4":
        blocks[:, 0] = [0, 1, 127, 200]
    decoded = gguf.quants.dequantize(blocks.reshape(-1), kind).reshape(-1)
    bits = [int(bits) for bits in decoded.astype(numpy.float32).view(numpy.uint32)]
    rows.append(json.dumps([int(kind), name, blocks.tobytes().hex(), bits], separators=(",", ":")))
pathlib.Path(__file__).with_name("gguf_blocks.json").write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
