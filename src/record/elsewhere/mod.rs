//! Rows measured elsewhere, by vLLM, transformers or anything else: what `--vs FILE` takes.
//!
//! ```json
//! {"format": 1, "source": "where from", "machine": "an H200", "date": "2026-01-01", "rows": [
//!   {"engine": "other-engine 2.1", "precision": "f16", "model": "tinyllama", "tokens_per_second": 653.2}]}
//! ```
//!
//! Every row names its engine and its precision. All else may be missing, at most not what says where the figures come from: `source`,
//! of the row or of the file, or the file's `machine` or `date`. What was not measured is left out, never 0.
//!
//! | key | also written | unit |
//! |---|---|---|
//! | `engine` | | engine and version, as tables shall name it |
//! | `precision` | `dtype` | `f32`, `f16`, `awq`, … |
//! | `model` | `shape` | part of a model's name |
//! | `device`, `source`, `note` | | words |
//! | `load_seconds` | `load_s` | s until ready for requests |
//! | `load_first_token_seconds` | `load_first_token_s` | s until the first token after loading |
//! | `ttft_milliseconds` | `b1_ttft_ms` | ms to the first token of one request of 128 tokens |
//! | `decode_tokens_per_second` | `b1_decode_tok_s` | tokens/s of one request after its first token |
//! | `concurrent_tokens_per_second` | `req500_128_64_tok_s` | output tokens/s of 500 requests of 128 and 64 tokens |
//! | `workload_seconds` | `gsm8k_shape_s` | s of a workload, all requests submitted at once |
//! | `tokens_per_second` | `gsm8k_shape_tok_s` | output tokens/s of a run or of a workload |
//! | `sweeps` | | output tokens/s by point: `{"batch": {"1": 433.0}, "length": {…}, "requests": {…}}` |
//! | `load` | | a load test by level: `[{"users": 20, "tokens_per_second": 6169.7, "ttft_p99_ms": 51.5}, {"rate": 5.0, …}]` |
//! | `accuracy_percent`, `n` | | percent of n questions; one needs the other |
//! | `peak_memory_bytes` | | bytes |
//!
//! A record of `evalsuite bench --out FILE` is such a file: what stands beside `rows` there is left unread. What other tools write is read
//! as it is (`tools.rs`).

mod file;
mod row;
mod tools;

pub use file::Elsewhere;
pub use row::{ElsewhereRow, UNKNOWN};
