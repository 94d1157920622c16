#!/bin/sh
# What commit e113425 writes, small: run in an empty folder with that commit's `evalsuite` on the PATH.
# `tests/it/compat.rs` holds the present program against it; nothing here is ever made anew by a later program.
set -e
rows="--samples 0,1,3,7,44,140 --dtype f32,awq"

evalsuite gsm8k $rows --out run > run.txt
evalsuite show run --format json > run.show.json
evalsuite rescore run --protocol direct > rescore.txt

# Killed after two answers; a third is cut in its middle, as a full disk leaves it.
evalsuite gsm8k $rows --batch 1 --threads 1 --out interrupted > /dev/null & pid=$!
until [ "$(cat interrupted/f32/journal.jsonl 2> /dev/null | wc -l)" -ge 2 ]; do :; done
kill -9 $pid
head -n 2 interrupted/f32/journal.jsonl > kept
sed -n 3p run/f32/journal.jsonl | head -c 300 >> kept
mv kept interrupted/f32/journal.jsonl

evalsuite quality --only bread,checksum --dtype f32,awq --out quality > quality.txt
cat > answers.json <<'EOF'
[{"model": "some-model", "id": "sum", "ground_truth": "2 + 2 = 4", "float32": "2 + 2 = 4", "int4": "2 + 2 = 5"},
 {"model": "some-model", "id": "city", "ground_truth": "Paris.", "float32": "Paris.", "int4": "Paris"}]
EOF
evalsuite quality --import answers.json --out import.json > import.txt

evalsuite perplexity --dtype f32,awq --limit-tokens 600 --worst 2 --out perplexity.json > /dev/null
evalsuite show perplexity.json > perplexity.txt

cat > workload.json <<'EOF'
{"name": "three lengths", "shared_prefix_tokens": 16, "requests": [
  {"prompt_tokens": 20, "output_tokens": 8}, {"prompt_tokens": 35, "output_tokens": 4}, {"prompt_tokens": 9, "output_tokens": 6}]}
EOF
evalsuite bench --dtype f32,awq --requests 4 --repeats 2 --workload workload.json --out bench.json > bench.txt
cat > peers.json <<'EOF'
{"machine": "a machine of this example", "date": "2026-11-30", "rows": [
  {"engine": "other-engine 2.1 (all defaults)", "dtype": "f32", "shape": "bundled", "load_s": 1.25, "load_first_token_s": 1.31,
   "b1_ttft_ms": 6.13, "b1_decode_tok_s": 653, "req500_128_64_tok_s": 41370, "gsm8k_shape_s": 7.59, "gsm8k_shape_tok_s": 44490,
   "note": "invented, so that the format has a file"},
  {"engine": "other-engine 2.1 (all defaults)", "dtype": "awq", "shape": "bundled", "load_s": 2.57, "b1_ttft_ms": 7.57}]}
EOF

cat > vs.json <<'EOF'
{"format": 1, "rows": [
  {"engine": "other-engine 2.1", "precision": "f16", "source": "invented, so that the format has a file", "accuracy_percent": 71.5, "n": 200},
  {"engine": "other-engine 2.1", "precision": "awq", "source": "invented, so that the format has a file", "model": "some-model",
   "device": "one GPU", "tokens_per_second": 424.3, "load_seconds": 74.2, "accuracy_percent": 70.0, "n": 200,
   "peak_memory_bytes": 2100000000, "note": "one request at a time"}]}
EOF
evalsuite report run --vs vs.json > report.txt
evalsuite report run --format json > report.json
evalsuite report run --format csv > report.csv

evalsuite golden accept --suite gsm8k --dtype f32 -- --samples 0,7,140
evalsuite golden accept --suite gsm8k --dtype awq --tier statistical --margin 80 -- --samples 0,7,140
evalsuite golden accept --suite quality --dtype f32,awq --tier answer -- --only bread,checksum --max-tokens 24

# A record keeps its workload's whole path, which is nobody's business here.
sed -i "s|$PWD/||" bench.json
