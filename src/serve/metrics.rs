//! What `/metrics` tells, in the `OpenMetrics` text format. Where a metric means what vLLM's does, it has vLLM's name.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::engine::{Capacity, Completion};

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    model_name: String,
    finished_reason: String,
}

/// Upper bounds of buckets, seconds.
const TTFT: [f64; 20] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const BETWEEN_TOKENS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0];
const WHOLE: [f64; 17] = [0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0];

#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms = Family<Model, Histogram, Buckets>;
type Share = Gauge<f64, AtomicU64>;

/// All metrics of the server.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    running: Family<Model, Gauge>,
    waiting: Family<Model, Gauge>,
    cache_usage: Family<Model, Share>,
    prompt_tokens: Family<Model, Counter>,
    generation_tokens: Family<Model, Counter>,
    cache_queries: Family<Model, Counter>,
    cache_hits: Family<Model, Counter>,
    ended: Family<Ended, Counter>,
    first_token: Histograms,
    between_tokens: Histograms,
    whole: Histograms,
}

/// Those of one model, found once.
#[derive(Debug, Clone)]
pub(super) struct ModelMetrics {
    name: String,
    running: Gauge,
    waiting: Gauge,
    cache_usage: Share,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    cache_queries: Counter,
    cache_hits: Counter,
    ended: Family<Ended, Counter>,
    first_token: Histogram,
    between_tokens: Histogram,
    whole: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let histograms = |bounds| Histograms::new_with_constructor(Buckets(bounds));
        let mut all = Self {
            registry: Registry::default(),
            running: Family::default(),
            waiting: Family::default(),
            cache_usage: Family::default(),
            prompt_tokens: Family::default(),
            generation_tokens: Family::default(),
            cache_queries: Family::default(),
            cache_hits: Family::default(),
            ended: Family::default(),
            first_token: histograms(&TTFT),
            between_tokens: histograms(&BETWEEN_TOKENS),
            whole: histograms(&WHOLE),
        };
        let registry = &mut all.registry;
        registry.register("vllm:num_requests_running", "Requests that the engine works on", all.running.clone());
        registry.register("vllm:num_requests_waiting", "Requests that wait", all.waiting.clone());
        registry.register(
            "vllm:kv_cache_usage_perc",
            "Share of the KV cache that requests hold, 1 is all",
            all.cache_usage.clone(),
        );
        registry.register("vllm:prompt_tokens", "Prompt tokens of requests that ended", all.prompt_tokens.clone());
        registry.register(
            "vllm:generation_tokens",
            "Generated tokens of requests that ended",
            all.generation_tokens.clone(),
        );
        registry.register(
            "vllm:prefix_cache_queries",
            "Prompt tokens looked up in the prefix cache",
            all.cache_queries.clone(),
        );
        registry.register("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache", all.cache_hits.clone());
        registry.register("vllm:request_success", "Requests that ended, by their end", all.ended.clone());
        registry.register(
            "vllm:time_to_first_token_seconds",
            "From submission to the first token",
            all.first_token.clone(),
        );
        registry.register(
            "vllm:inter_token_latency_seconds",
            "Between two tokens of a stream",
            all.between_tokens.clone(),
        );
        registry.register("vllm:e2e_request_latency_seconds", "From submission to the last token", all.whole.clone());
        all
    }

    /// Those of a model.
    pub(super) fn of(&self, name: &str) -> ModelMetrics {
        let model = Model { model_name: name.to_owned() };
        ModelMetrics {
            name: name.to_owned(),
            running: self.running.get_or_create(&model).clone(),
            waiting: self.waiting.get_or_create(&model).clone(),
            cache_usage: self.cache_usage.get_or_create(&model).clone(),
            prompt_tokens: self.prompt_tokens.get_or_create(&model).clone(),
            generation_tokens: self.generation_tokens.get_or_create(&model).clone(),
            cache_queries: self.cache_queries.get_or_create(&model).clone(),
            cache_hits: self.cache_hits.get_or_create(&model).clone(),
            ended: self.ended.clone(),
            first_token: self.first_token.get_or_create(&model).clone(),
            between_tokens: self.between_tokens.get_or_create(&model).clone(),
            whole: self.whole.get_or_create(&model).clone(),
        }
    }

    /// All of them, as they are read.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl ModelMetrics {
    /// How full the engine is now.
    pub(super) fn set(&self, capacity: &Capacity, cache_tokens: Option<usize>) {
        self.running.set(capacity.running as i64);
        self.waiting.set(capacity.queued as i64);
        if let (Some(free), Some(all @ 1..)) = (capacity.free_tokens, cache_tokens) {
            self.cache_usage.set(1.0 - free as f64 / all as f64);
        }
    }

    /// Seconds between two tokens of a stream.
    pub(super) fn between_tokens(&self, seconds: f64) {
        self.between_tokens.observe(seconds);
    }

    /// A completion that ended for `reason`.
    pub(super) fn completed(&self, prompt_tokens: usize, completion: &Completion, reason: &str) {
        self.prompt_tokens.inc_by(prompt_tokens as u64);
        self.generation_tokens.inc_by(completion.token_ids.len() as u64);
        self.cache_queries.inc_by(prompt_tokens as u64);
        self.cache_hits.inc_by(completion.cached_tokens as u64);
        let ended = Ended { model_name: self.name.clone(), finished_reason: reason.to_owned() };
        self.ended.get_or_create(&ended).inc();
        let timings = &completion.timings;
        if !completion.token_ids.is_empty() {
            self.first_token.observe(timings.queued_seconds + timings.first_token_seconds);
        }
        self.whole.observe(timings.queued_seconds + timings.total_seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Finish, Timings};

    #[test]
    fn metrics_have_the_names_and_the_sums_that_others_read() {
        let all = Metrics::new();
        let model = all.of("m");
        let completion = Completion {
            request: 0,
            token_ids: vec![1, 2, 3],
            text: String::new(),
            thought: None,
            finish: Finish::Length,
            details: Vec::new(),
            top_tokens: Vec::new(),
            timings: Timings { queued_seconds: 1.0, first_token_seconds: 0.5, total_seconds: 3.0 },
            cached_tokens: 64,
            server: None,
        };
        model.completed(100, &completion, "length");
        model.completed(100, &completion, "stop");
        model.set(&Capacity { running: 2, queued: 5, free_slots: 0, free_tokens: Some(250) }, Some(1000));
        model.between_tokens(0.004);
        let text = all.text();
        for line in [
            "vllm:num_requests_running{model_name=\"m\"} 2",
            "vllm:num_requests_waiting{model_name=\"m\"} 5",
            "vllm:kv_cache_usage_perc{model_name=\"m\"} 0.75",
            "vllm:prompt_tokens_total{model_name=\"m\"} 200",
            "vllm:generation_tokens_total{model_name=\"m\"} 6",
            "vllm:prefix_cache_queries_total{model_name=\"m\"} 200",
            "vllm:prefix_cache_hits_total{model_name=\"m\"} 128",
            "vllm:request_success_total{model_name=\"m\",finished_reason=\"length\"} 1",
            "vllm:time_to_first_token_seconds_sum{model_name=\"m\"} 3.0",
            "vllm:time_to_first_token_seconds_bucket{le=\"2.5\",model_name=\"m\"} 2",
            "vllm:inter_token_latency_seconds_bucket{le=\"0.0025\",model_name=\"m\"} 0",
            "vllm:inter_token_latency_seconds_bucket{le=\"0.005\",model_name=\"m\"} 1",
            "vllm:e2e_request_latency_seconds_sum{model_name=\"m\"} 8.0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
