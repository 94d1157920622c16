//! A record's figures, line by line.

use super::{DtypePerplexity, PerplexityRecord};
use crate::report::{FigureLine, FigureLines};

/// Of every variant.
pub fn perplexity_lines(record: &PerplexityRecord) -> Vec<FigureLine> {
    let mut lines = FigureLines::default();
    for one in &record.dtypes {
        add(lines.of(one.dtype.as_str(), ""), one);
    }
    lines.done()
}

fn add(lines: &mut FigureLines, one: &DtypePerplexity) {
    if let Some(failure) = &one.failure {
        lines.text("failure", failure);
    }
    lines.exponential("perplexity", one.perplexity);
    lines.estimate("nats a token", one.nats_per_token).estimate("bits a byte", one.bits_per_byte);
    lines.number("seconds in the engine", one.seconds);
    let Some(against) = &one.against else { return };
    let kl = &against.kl;
    lines.estimate("KL from the reference, nats a token", Some(kl.mean));
    for (figure, value) in [
        ("KL, median", kl.median),
        ("KL, 90 %", kl.p90),
        ("KL, 95 %", kl.p95),
        ("KL, 99 %", kl.p99),
        ("KL, 99.9 %", kl.p99_9),
        ("KL, maximum", kl.maximum),
    ] {
        lines.number(figure, Some(value));
    }
    lines.estimate("same most probable token, share", Some(against.same_best));
    lines.estimate("change of the token's log-probability, nats", Some(against.log_probability_change));
    lines.exponential("perplexity over the reference's", Some(against.perplexity_ratio));
    if let Some(change) = &against.probability_change {
        lines.estimate("change of the token's probability", Some(change.mean));
        lines.estimate("change of the token's probability, root mean square", Some(change.root_mean_square));
    }
    if let Some(departures) = &against.departures {
        lines.estimate("answers that would leave the reference, share", Some(departures.share));
        let near = departures.list.iter().filter(|one| one.is_near_tie).count();
        lines.count("of which near-ties", near, Some(departures.list.len()));
    }
}
