#!/bin/sh
# What version 0.2.0 writes, small: run in an empty folder with that version's `evalsuite` on the PATH. `tests/it/compat.rs` reads it with the
# present program; nothing here is ever made anew by a later one.
set -e
cpu="--engine cpu --threads 1"
evalsuite gsm8k $cpu --samples 0,1,3 --dtype f32,awq --out run > /dev/null
evalsuite quality $cpu --only bread --dtype f32,awq --out quality > /dev/null
evalsuite perplexity $cpu --dtype f32,awq --limit-tokens 200 --out perplexity.json > /dev/null
evalsuite bench $cpu --dtype f32 --only single --out bench.json > /dev/null
evalsuite load $cpu --dtype f32 --users 1 --requests 4 --out load.json > /dev/null
evalsuite determinism $cpu --dtype f32 --limit 2 --max-tokens 8 --out determinism.json > /dev/null
evalsuite blame run $cpu --out blame.json > /dev/null
