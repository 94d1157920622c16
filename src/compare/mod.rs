//! Compares stored runs: paired comparison, verdict, and the gate against a baseline, in every report format.

mod comparison;
mod departures;
mod digest;
mod divergence;
mod formats;
mod gate;
mod labels;
mod noise;
mod outside;
mod pairs;
mod provenance;
mod rows;
mod samples;
mod source;
mod verdict;

pub use comparison::{COMPARISON_FORMAT, Comparison, Note};
pub use digest::Digest;
pub use divergence::Divergence;
pub use formats::{ALL as REPORT_FORMATS, Report, ReportFormat, annotations, report_format};
pub use gate::{Gate, GateCheck, GateSubject, Limits, RunChecks};
pub(crate) use gate::{no_shared_precision, refusal};
pub use noise::NoiseFloors;
pub use outside::{OutsideRow, read_outside};
pub use pairs::Pair;
pub use provenance::Provenance;
pub use rows::{ComparisonRow, RuleGroup, Score};
