//! The checks there are, in the order in which they are asked: a file a subject, a line a check.

mod errors;
mod lengths;
mod logprobs;
mod prompt;
mod repeats;
mod sampling;
mod server;
mod stops;
mod streams;
mod usage;

use super::check::Check;

/// Every check.
pub(super) const CHECKS: &[Check] = &[
    server::MODELS,
    repeats::TWICE,
    repeats::IN_COMPANY,
    repeats::CACHED,
    prompt::IDS,
    prompt::TOO_LONG,
    usage::COUNTS,
    usage::IN_STREAMS,
    lengths::EXACT,
    lengths::LIMITS,
    stops::STOPS,
    stops::IN_THOUGHT,
    sampling::TEMPERATURE,
    sampling::PENALTY,
    sampling::SEED,
    sampling::CHOICES,
    logprobs::ECHO,
    server::UNKNOWN_KEY,
    errors::SHAPES,
    server::CANCELLATION,
    streams::CHUNKS,
    streams::FIRST,
];
