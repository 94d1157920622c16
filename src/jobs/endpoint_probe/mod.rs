//! `probe`: what an endpoint does to an evaluation, by some fifty small requests.
//!
//! `ask → checks → precision → record`: each check asks what it needs, says whether a promise holds, and what it means for scores where it does
//! not; with the model's files here, the endpoint's greedy tokens are held against f32. Every answer is kept as it came.

mod against;
mod answer;
mod ask;
mod check;
mod checks;
mod job;
mod lines;
mod pipeline;
mod precision;
mod prompts;
mod record;
mod view;

pub use answer::Answer;
pub use ask::Exchange;
pub use check::Verdict;
pub use job::EndpointProbeJob;
pub use lines::endpoint_probe_lines;
pub use pipeline::{EndpointProbeFinished, check_names, execute};
pub use precision::{Conclusion, Evidence, HeldAnswer, HeldToken, PrecisionFinding, hold, judge};
pub use record::{CheckRecord, EndpointProbeRecord, PROBE_FORMAT, ProbedEndpoint};
pub use view::{EndpointProbeView, render_endpoint_probe};
