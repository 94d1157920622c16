//! What `--vs FILE` holds: rows of others, or another load test's record.

use std::path::Path;

use super::{Distribution, LevelPlan, LevelRecord, LoadPeer, LoadRecord, VariantLoad};
use crate::jobs::JobError;
use crate::record::{Elsewhere, LoadPoint};

/// Reads the load tests in a file: those of this model, or of none in particular. None is no mistake of the file's.
pub fn load_peers(path: &Path, model: &str) -> Result<Vec<LoadPeer>, JobError> {
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    if path.is_file()
        && let Some(record) = LoadRecord::read(path)?
    {
        return Ok(record.variants.iter().map(|variant| of_variant(&record, variant, &name)).collect());
    }
    let Elsewhere { path, rows, .. } = Elsewhere::read(path)?;
    let model = model.to_lowercase();
    let belongs = |shape: Option<&String>| shape.is_none_or(|shape| model.contains(&shape.to_lowercase()));
    let rows = rows.into_iter().filter(|row| !row.load.is_empty() && belongs(row.model.as_ref()));
    Ok(rows
        .map(|row| LoadPeer {
            engine: row.engine,
            variant: row.precision,
            source: row.source.unwrap_or_else(|| path.clone()),
            note: row.note,
            points: row.load,
        })
        .collect())
}

fn of_variant(record: &LoadRecord, variant: &VariantLoad, name: &str) -> LoadPeer {
    LoadPeer {
        engine: name.to_owned(),
        variant: variant.dtype.to_string(),
        source: format!("{name} ({}, {}; {})", record.target.model.name, record.machine.cpu, record.finished),
        note: None,
        points: variant.levels.iter().filter_map(point).collect(),
    }
}

fn point(level: &LevelRecord) -> Option<LoadPoint> {
    let (users, rate) = match level.level {
        LevelPlan::Users { users } => (Some(users), None),
        LevelPlan::Rate { rate, .. } => (None, Some(rate)),
        LevelPlan::Trace => return None,
    };
    let of = &level.figures;
    let ms = |distribution: Option<Distribution>, value: fn(&Distribution) -> f64| {
        distribution.as_ref().map(|distribution| value(distribution) * 1e3)
    };
    Some(LoadPoint {
        users,
        rate,
        tokens_per_second: of.output_tokens_per_second,
        requests_per_second: Some(of.requests_per_second),
        seconds: Some(of.seconds),
        ttft_mean_ms: ms(of.ttft, |it| it.mean),
        ttft_p50_ms: ms(of.ttft, |it| it.p50),
        ttft_p99_ms: ms(of.ttft, |it| it.p99),
        itl_mean_ms: ms(of.itl, |it| it.mean),
        itl_p50_ms: ms(of.itl, |it| it.p50),
        itl_p99_ms: ms(of.itl, |it| it.p99),
        e2e_mean_ms: ms(of.e2e, |it| it.mean),
        e2e_p50_ms: ms(of.e2e, |it| it.p50),
        e2e_p99_ms: ms(of.e2e, |it| it.p99),
    })
}
