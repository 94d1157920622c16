//! Rows out of what other tools write: vLLM's `bench serve`, `GuideLLM`, aiperf, llama-bench, and lm-evaluation-harness's results.
//!
//! | tool | row | level |
//! |---|---|---|
//! | `vllm bench serve --save-result` | a file, or a line of one with `--append-result` | `max_concurrency`, `request_rate`, or all requests at once |
//! | guidellm, `benchmarks.json` | a file | each benchmark's strategy: streams, rate |
//! | aiperf, `profile_export_aiperf.json` | a file | the phase's concurrency or rate |
//! | `llama-bench -o json` or `jsonl` | a model, backend and number of threads | none: one request |
//! | lm-evaluation-harness, `results_*.json` | a task, by its first metric | none: accuracy |
//!
//! Precisions that a tool does not tell are [`UNKNOWN`].

use serde_json::Value;

use super::row::{ElsewhereRow, UNKNOWN};
use crate::engine::Precision;
use crate::record::LoadPoint;

/// What a tool's file holds.
pub(super) struct Told {
    /// For the source: `vllm bench serve`.
    pub(super) tool: String,
    /// In the file's words.
    pub(super) date: Option<String>,
    pub(super) rows: Vec<ElsewhereRow>,
}

/// The rows of a tool's file; `None` where it is none that is known.
pub(super) fn read(json: &Value) -> Option<Told> {
    let list = json.as_array().map_or_else(|| std::slice::from_ref(json), Vec::as_slice);
    let first = list.first()?;
    if first["output_throughput"].is_number() && first["total_output_tokens"].is_number() {
        return Some(vllm(list));
    }
    if first["avg_ts"].is_number() && first["n_gen"].is_number() {
        return Some(llama_bench(list));
    }
    if json["benchmarks"][0]["metrics"]["output_tokens_per_second"].is_object() {
        return Some(guidellm(json));
    }
    if json["output_token_throughput"]["avg"].is_number() && json["input_config"].is_object() {
        return Some(aiperf(json));
    }
    if json["results"].is_object() && json["configs"].is_object() {
        return Some(lm_eval(json));
    }
    None
}

fn word(value: &Value) -> Option<String> {
    value.as_str().filter(|word| !word.is_empty()).map(str::to_owned)
}

/// The part of a model's name that others have too: `Llama-3.2-1B` of `meta-llama/Llama-3.2-1B`.
fn model(value: &Value) -> Option<String> {
    word(value).map(|name| name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned())
}

/// f16 of `float16` or `torch.float16`.
fn precision(value: &Value) -> String {
    let named = value.as_str().map(|word| word.trim_start_matches("torch.").to_lowercase());
    let named = named.filter(|word| !word.is_empty() && word != "auto");
    named.map_or_else(
        || UNKNOWN.to_owned(),
        |word| Precision::parse(&word).map_or(word, |precision| precision.name().to_owned()),
    )
}

/// A number that was measured: percentiles of nothing are not.
fn measured(value: &Value) -> Option<f64> {
    value.as_f64().filter(|value| value.is_finite() && *value > 0.0)
}

/// One row of levels: its tokens/s are the highest, and what one user alone saw stands apart.
fn row_of_levels(engine: String, precision: String, model: Option<String>, load: Vec<LoadPoint>) -> ElsewhereRow {
    let alone = load.iter().find(|point| point.users == Some(1));
    let highest = load.iter().filter_map(|point| point.tokens_per_second).reduce(f64::max);
    ElsewhereRow {
        engine,
        precision,
        model,
        tokens_per_second: highest,
        decode_tokens_per_second: alone.and_then(|point| point.itl_mean_ms).map(|milliseconds| 1e3 / milliseconds),
        load,
        ..ElsewhereRow::default()
    }
}

fn vllm(runs: &[Value]) -> Told {
    let mut rows: Vec<ElsewhereRow> = Vec::new();
    for run in runs {
        let at = |key: &str| measured(&run[key]);
        let rate =
            at("request_rate").or_else(|| run["request_rate"].as_str()?.parse().ok()).filter(|rate| rate.is_finite());
        let at_once = run["max_concurrency"].as_u64().or_else(|| run["num_prompts"].as_u64());
        let point = LoadPoint {
            users: at_once.filter(|_| rate.is_none()).map(|users| users as usize),
            rate,
            tokens_per_second: at("output_throughput"),
            requests_per_second: at("request_throughput"),
            seconds: at("duration"),
            ttft_mean_ms: at("mean_ttft_ms"),
            ttft_p50_ms: at("median_ttft_ms"),
            ttft_p99_ms: at("p99_ttft_ms"),
            itl_mean_ms: at("mean_itl_ms"),
            itl_p50_ms: at("median_itl_ms"),
            itl_p99_ms: at("p99_itl_ms"),
            e2e_mean_ms: at("mean_e2el_ms"),
            e2e_p50_ms: at("median_e2el_ms"),
            e2e_p99_ms: at("p99_e2el_ms"),
        };
        let engine = ["label", "backend", "endpoint_type"].iter().find_map(|key| word(&run[*key]));
        let engine = engine.unwrap_or_else(|| "vllm".to_owned());
        let (own, name) = (precision(&run["dtype"]), model(&run["model_id"]));
        let load = if point.users.is_some() || point.rate.is_some() { vec![point] } else { Vec::new() };
        let tokens = |key: &str| run[key].as_u64().map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
        let note = format!(
            "{} requests of {} tokens in all, {} tokens out",
            tokens("completed"),
            tokens("total_input_tokens"),
            tokens("total_output_tokens")
        );
        let mut row = row_of_levels(engine, own, name, load);
        row.tokens_per_second = row.tokens_per_second.or_else(|| at("output_throughput"));
        row.note = Some(note);
        // Lines of one server are its levels.
        match rows
            .iter_mut()
            .find(|known| (&known.engine, &known.precision, &known.model) == (&row.engine, &row.precision, &row.model))
        {
            Some(known) => {
                let levels = [std::mem::take(&mut known.load), row.load].concat();
                *known = row_of_levels(row.engine, row.precision, row.model, levels);
            }
            None => rows.push(row),
        }
    }
    Told { tool: "vllm bench serve".to_owned(), date: runs.iter().find_map(|run| word(&run["date"])), rows }
}

fn guidellm(json: &Value) -> Told {
    let benchmarks = json["benchmarks"].as_array().into_iter().flatten();
    let point = |benchmark: &Value| {
        let strategy = [&benchmark["config"]["strategy"], &benchmark["args"]["strategy"]];
        let strategy = strategy.into_iter().find(|strategy| strategy.is_object())?;
        let metrics = &benchmark["metrics"];
        let of = |metric: &str, which: &str| {
            let successful = &metrics[metric]["successful"];
            measured(&successful[which]).or_else(|| measured(&successful["percentiles"][which]))
        };
        let at_once = ["streams", "max_concurrency"].iter().find_map(|key| strategy[*key].as_u64());
        let rate = ["rate", "target_rate"].iter().find_map(|key| measured(&strategy[*key]));
        let users = match strategy["type_"].as_str() {
            Some("synchronous") => Some(1),
            _ => at_once.or_else(|| metrics["request_totals"]["successful"].as_u64()),
        };
        let in_ms = |which: &str| of("request_latency", which).map(|seconds| seconds * 1e3);
        Some(LoadPoint {
            users: users.filter(|users| rate.is_none() && *users > 0).map(|users| users as usize),
            rate,
            tokens_per_second: of("output_tokens_per_second", "mean"),
            requests_per_second: of("requests_per_second", "mean"),
            seconds: measured(&benchmark["duration"]),
            ttft_mean_ms: of("time_to_first_token_ms", "mean"),
            ttft_p50_ms: of("time_to_first_token_ms", "median"),
            ttft_p99_ms: of("time_to_first_token_ms", "p99"),
            itl_mean_ms: of("inter_token_latency_ms", "mean"),
            itl_p50_ms: of("inter_token_latency_ms", "median"),
            itl_p99_ms: of("inter_token_latency_ms", "p99"),
            e2e_mean_ms: in_ms("mean"),
            e2e_p50_ms: in_ms("median"),
            e2e_p99_ms: in_ms("p99"),
        })
    };
    let load: Vec<LoadPoint> =
        benchmarks.filter_map(point).filter(|point| point.users.is_some() || point.rate.is_some()).collect();
    let backend = [&json["config"]["spec"]["backend"], &json["args"]["backend"], &json["args"]];
    let name = backend.iter().find_map(|backend| model(&backend["model"]));
    let version = word(&json["metadata"]["guidellm_version"]).map(|version| format!(" {version}")).unwrap_or_default();
    let row = row_of_levels("server".to_owned(), UNKNOWN.to_owned(), name, load);
    Told { tool: format!("guidellm{version}"), date: None, rows: vec![row] }
}

fn aiperf(json: &Value) -> Told {
    let config = &json["input_config"];
    let mut phases = config["phases"].as_array().into_iter().flatten();
    let phase = phases.rfind(|phase| phase["kind"] == "profiling" || phase["name"] == "profiling");
    let phase = phase.unwrap_or(&config["loadgen"]);
    let rate = ["rate", "request_rate"].iter().find_map(|key| measured(&phase[*key]));
    let users = phase["concurrency"].as_u64().filter(|_| rate.is_none()).map(|users| users as usize);
    let of = |metric: &str, which: &str| {
        let metric = &json[metric];
        // Times in whatever unit are milliseconds here.
        let scale = match metric["unit"].as_str() {
            Some("sec" | "s" | "seconds") => 1e3,
            Some("ns" | "nanoseconds") => 1e-6,
            _ => 1.0,
        };
        measured(&metric[which]).map(|value| value * scale)
    };
    let point = LoadPoint {
        users,
        rate,
        tokens_per_second: measured(&json["output_token_throughput"]["avg"]),
        requests_per_second: measured(&json["request_throughput"]["avg"]),
        seconds: of("benchmark_duration", "avg").map(|milliseconds| milliseconds / 1e3),
        ttft_mean_ms: of("time_to_first_token", "avg"),
        ttft_p50_ms: of("time_to_first_token", "p50"),
        ttft_p99_ms: of("time_to_first_token", "p99"),
        itl_mean_ms: of("inter_token_latency", "avg"),
        itl_p50_ms: of("inter_token_latency", "p50"),
        itl_p99_ms: of("inter_token_latency", "p99"),
        e2e_mean_ms: of("request_latency", "avg"),
        e2e_p50_ms: of("request_latency", "p50"),
        e2e_p99_ms: of("request_latency", "p99"),
    };
    let name = model(&config["models"]["items"][0]["name"]).or_else(|| model(&config["endpoint"]["model_names"][0]));
    let load = if users.is_some() || rate.is_some() { vec![point] } else { Vec::new() };
    let mut row = row_of_levels("server".to_owned(), UNKNOWN.to_owned(), name, load);
    row.tokens_per_second = measured(&json["output_token_throughput"]["avg"]);
    let version = word(&json["aiperf_version"]).map(|version| format!(" {version}")).unwrap_or_default();
    Told { tool: format!("aiperf{version}"), date: word(&json["start_time"]), rows: vec![row] }
}

fn llama_bench(tests: &[Value]) -> Told {
    let mut rows: Vec<(Vec<&Value>, ElsewhereRow, Vec<String>)> = Vec::new();
    for test in tests {
        let key: Vec<&Value> =
            ["model_filename", "model_type", "build_commit", "backends", "n_threads", "n_gpu_layers"]
                .iter()
                .map(|key| &test[*key])
                .collect();
        let place = rows.iter().position(|(own, ..)| *own == key).unwrap_or_else(|| {
            rows.push((key, llama_row(test), Vec::new()));
            rows.len() - 1
        });
        let (_, row, tests) = &mut rows[place];
        let count = |key: &str| test[key].as_u64().unwrap_or(0);
        let (prompt, generated, depth) = (count("n_prompt"), count("n_gen"), count("n_depth"));
        let speed = measured(&test["avg_ts"]);
        if prompt == 0 && depth == 0 {
            row.decode_tokens_per_second = row.decode_tokens_per_second.or(speed);
        }
        if (prompt, generated, depth) == (128, 0, 0) {
            row.ttft_milliseconds = measured(&test["avg_ns"]).map(|nanoseconds| nanoseconds / 1e6);
        }
        let name = match (prompt, generated) {
            (prompt, 0) => format!("pp{prompt}"),
            (0, generated) => format!("tg{generated}"),
            (prompt, generated) => format!("pp{prompt}+tg{generated}"),
        };
        let depth = if depth > 0 { format!(" at depth {depth}") } else { String::new() };
        tests.extend(speed.map(|speed| format!("{name}{depth} {speed:.1} tokens/s")));
    }
    let row = |(_, row, tests): (Vec<&Value>, ElsewhereRow, Vec<String>)| ElsewhereRow {
        note: Some(tests.join(", ")),
        ..row
    };
    Told {
        tool: "llama-bench".to_owned(),
        date: tests.iter().find_map(|test| word(&test["test_time"])),
        rows: rows.into_iter().map(row).collect(),
    }
}

fn llama_row(test: &Value) -> ElsewhereRow {
    let build = test["build_number"].as_u64().map(|build| format!(" b{build}")).unwrap_or_default();
    let is_format = |word: &str| {
        let word = word.to_uppercase();
        let quantized = word.strip_prefix("IQ").or_else(|| word.strip_prefix('Q')).or_else(|| word.strip_prefix("TQ"));
        quantized.is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
            || ["F32", "F16", "BF16", "MXFP4"].contains(&word.as_str())
    };
    let file = word(&test["model_filename"])
        .map(|path| path.rsplit(['/', '\\']).next().unwrap_or_default().trim_end_matches(".gguf").to_owned());
    let name = file.map(|file| match file.rsplit_once(['-', '.']) {
        Some((name, format)) if is_format(format) => name.to_owned(),
        _ => file,
    });
    let format = test["model_type"].as_str().and_then(|words| words.split_whitespace().find(|word| is_format(word)));
    ElsewhereRow {
        engine: format!("llama.cpp{build}"),
        precision: format.map_or_else(|| UNKNOWN.to_owned(), str::to_lowercase),
        model: name,
        device: word(&test["gpu_info"]).or_else(|| word(&test["cpu_info"])),
        ..ElsewhereRow::default()
    }
}

fn lm_eval(json: &Value) -> Told {
    let config = &json["config"];
    let arguments = &config["model_args"];
    let of_words = |key: &str| {
        let pairs =
            arguments.as_str().into_iter().flat_map(|words| words.split(',')).filter_map(|word| word.split_once('='));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| Value::from(value)).next()
    };
    let argument = |key: &str| of_words(key).unwrap_or_else(|| arguments[key].clone());
    let own = match precision(&argument("dtype")) {
        own if own == UNKNOWN => precision(&config["model_dtype"]),
        own => own,
    };
    let name =
        model(&json["model_name"]).or_else(|| model(&argument("pretrained"))).or_else(|| model(&argument("model")));
    let version = word(&json["lm_eval_version"]).map(|version| format!(" {version}")).unwrap_or_default();
    let engine = word(&config["model"]).unwrap_or_else(|| "lm-eval".to_owned());
    let row = |(task, metrics): (&String, &Value)| {
        let is_accuracy = |(key, value): &(&String, &Value)| {
            let name = key.split(',').next().unwrap_or_default();
            ["exact_match", "acc", "pass@1", "pass_at_1"].contains(&name) && value.is_number()
        };
        let (key, value) = metrics.as_object()?.iter().find(is_accuracy)?;
        let n = json["n-samples"][task]["effective"].as_u64().or_else(|| metrics["sample_len"].as_u64())?;
        Some(ElsewhereRow {
            engine: engine.clone(),
            precision: own.clone(),
            model: name.clone(),
            note: Some(format!("{task}: {key}")),
            accuracy_percent: value.as_f64().map(|accuracy| accuracy * 100.0),
            n: Some(n as usize),
            ..ElsewhereRow::default()
        })
    };
    let rows = json["results"].as_object().into_iter().flatten().filter_map(row).collect();
    Told { tool: format!("lm-evaluation-harness{version}"), date: None, rows }
}
