"""Mean KL of llama.cpp's logits in binary64, from all of them and as its tool keeps the base: 65,536 steps from 16 nats below the highest."""
import sys

import numpy as np

vocabulary = int(sys.argv[1])
read = lambda name: np.fromfile(name, dtype=np.float32).reshape(-1, vocabulary)


def log_softmax(row):
    row = row.astype(np.float64) - row.max()
    return row - np.log(np.exp(row).sum())


def as_kept(row):
    highest = row.max()
    lowest = max(row.min(), highest - np.float32(16))
    step = (highest - lowest) / np.float32(65535)
    begin = np.float32(lowest - highest - np.log(np.exp(row - highest).sum(dtype=np.float64)))
    return (step * np.where(row > lowest, np.rint((row - lowest) / step), 0) + begin).astype(np.float64)


whole, kept = [], []
for base, other in zip(read("plain.bin"), read("rounded.bin")):
    p, q, p_kept = log_softmax(base), log_softmax(other), as_kept(base)
    whole.append((np.exp(p) * (p - q)).sum())
    kept.append(np.where(p_kept > -16, np.exp(p_kept) * (p_kept - q), 0).sum())
print("from whole logits", np.mean(whole), "as the tool keeps them", np.mean(kept))
