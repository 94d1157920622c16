//! Tokens/s of the CPU engine in every precision, one request and eight at once, and the bytes of weights in memory.
//!
//! `cargo bench --bench precisions -- MODEL_FOLDER [AWQ_FOLDER]`: the AWQ form is also found beside the model. Rounds go
//! through all precisions, so that a change in the machine's speed meets each.

mod measure;

use std::sync::Arc;

use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::engine::{Dtype, EngineKind, OpenOptions, open};
use evalsuite::hub::Hub;
use evalsuite::text::bytes;
use measure::{BATCHES, tokens_per_second};

const OUTPUT_TOKENS: usize = 64;
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(folder) = arguments.first() else {
        anyhow::bail!("name a model folder: cargo bench --bench precisions -- FOLDER [AWQ_FOLDER]");
    };
    let hub = Hub::from_environment(true)?;
    let spec = |source: &String| ModelSpec { source: source.clone(), revision: "main".to_owned() };
    let model = Arc::new(ModelSource::open(&spec(folder), &hub)?);
    let awq = model.open_awq_form(&spec(folder), arguments.get(1).map(spec).as_ref(), &hub)?.map(Arc::new);
    let mut engines = Vec::new();
    for dtype in Dtype::ALL {
        let source = if dtype == Dtype::Awq { awq.as_ref() } else { Some(&model) };
        let Some(source) = source else { continue };
        engines.push(open(source, &OpenOptions::new(EngineKind::Cpu, dtype, Some(8)))?);
    }
    let mut speeds = vec![[const { Vec::new() }; 2]; engines.len()];
    for round in 0..=ROUNDS {
        for (engine, speeds) in engines.iter_mut().zip(&mut speeds) {
            for (batch, speeds) in BATCHES.into_iter().zip(speeds) {
                let speed = tokens_per_second(engine.as_mut(), batch, OUTPUT_TOKENS)?;
                if round > 0 {
                    speeds.push(speed); // round 0 is the warm-up
                }
            }
        }
    }
    println!("dtype\trequests\tmedian tokens/s\tlowest\thighest\tweights\tload s");
    for (engine, speeds) in engines.iter().zip(&mut speeds) {
        let info = engine.info();
        for (batch, speeds) in BATCHES.into_iter().zip(speeds) {
            speeds.sort_by(f64::total_cmp);
            let (median, lowest, highest) = (speeds[ROUNDS / 2], speeds[0], speeds[ROUNDS - 1]);
            let (weights, load) = (info.weight_bytes.map_or_else(String::new, bytes), info.load.total_seconds);
            println!(
                "{}\t{batch}\t{median:.1}\t{lowest:.1}\t{highest:.1}\t{weights}\t{load:.2}",
                info.dtype.map_or("", |dtype| dtype.name())
            );
        }
    }
    Ok(())
}
