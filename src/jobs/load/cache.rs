//! How full the KV cache is while a level runs: of our engine by itself, of a server by its `/metrics`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::CachePoint;
use crate::engine::Capacity;
use crate::jobs::requests::Served;

const EVERY: Duration = Duration::from_millis(500);

/// Names under which servers give (share of the cache, running, waiting): vLLM, its older versions, SGLang, llama.cpp, TGI.
const USED: [&str; 4] =
    ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage", "llamacpp:kv_cache_usage_ratio"];
const RUNNING: [&str; 4] =
    ["vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing", "tgi_batch_current_size"];
const WAITING: [&str; 4] =
    ["vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred", "tgi_queue_size"];

/// Looks now and then until `ended`; nothing where nobody tells.
pub(super) fn watch(served: &Served, runtime: &tokio::runtime::Runtime, ended: &AtomicBool) -> Vec<CachePoint> {
    let begin = Instant::now();
    let mut points = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let seconds = begin.elapsed().as_secs_f64();
        let Some(point) = look(served, runtime, seconds) else { return points };
        points.push(point);
        let next = begin.elapsed() + EVERY;
        while begin.elapsed() < next && !ended.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    points
}

fn look(served: &Served, runtime: &tokio::runtime::Runtime, seconds: f64) -> Option<CachePoint> {
    match served {
        Served::Engine(handle) => Some(of_engine(&handle.capacity(), handle.limits().cache_tokens, seconds)),
        Served::Endpoints { places, .. } => {
            let text = runtime.block_on(places.first()?.client.metrics()).ok()?;
            let point = of_metrics(&text, seconds);
            (point.used.is_some() || point.running.is_some()).then_some(point)
        }
    }
}

fn of_engine(capacity: &Capacity, cache_tokens: Option<usize>, seconds: f64) -> CachePoint {
    let used = capacity.free_tokens.zip(cache_tokens).map(|(free, all)| 1.0 - free as f64 / all.max(1) as f64);
    CachePoint { seconds, used, running: Some(capacity.running), waiting: Some(capacity.queued) }
}

/// Prometheus's text format: `name{labels} value`.
fn of_metrics(text: &str, seconds: f64) -> CachePoint {
    let value = |names: &[&str]| {
        names.iter().find_map(|name| {
            let line = text.lines().find(|line| {
                line.strip_prefix(*name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
            })?;
            line.rsplit(' ').next()?.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)
        })
    };
    let count = |names: &[&str]| value(names).map(|value| value as usize);
    CachePoint { seconds, used: value(&USED), running: count(&RUNNING), waiting: count(&WAITING) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_s_cache_is_used_where_it_is_not_free() {
        let capacity = Capacity { running: 3, queued: 1, free_slots: 5, free_tokens: Some(25) };
        let point = CachePoint { seconds: 1.5, used: Some(0.75), running: Some(3), waiting: Some(1) };
        assert_eq!(of_engine(&capacity, Some(100), 1.5), point);
        assert_eq!(of_engine(&capacity, None, 1.5).used, None);
    }

    #[test]
    fn the_metrics_of_servers_are_read() {
        let vllm = "# HELP vllm:kv_cache_usage_perc x\n# TYPE vllm:kv_cache_usage_perc gauge\n\
                    vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25\n\
                    vllm:num_requests_running{engine=\"0\"} 7.0\nvllm:num_requests_waiting_by_reason{x=\"y\"} 9\n\
                    vllm:num_requests_waiting{engine=\"0\"} 2.0\n";
        let point = CachePoint { seconds: 1.5, used: Some(0.25), running: Some(7), waiting: Some(2) };
        assert_eq!(of_metrics(vllm, 1.5), point);
        let llama = of_metrics("llamacpp:requests_processing 3\n", 0.0);
        assert_eq!((llama.used, llama.running, llama.waiting), (None, Some(3), None));
        assert_eq!(of_metrics("nothing here", 0.0).used, None);
    }
}
