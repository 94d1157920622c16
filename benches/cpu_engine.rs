//! Tokens/s of the CPU engine in f32, one request and eight at once, beside transformers on the same machine in one run.
//!
//! `cargo bench --bench cpu_engine -- MODEL_FOLDER [PYTHON]`: a Hugging Face folder that both can read, and a Python that has
//! torch and transformers. Rounds alternate between the two, so that a change in the machine's speed meets both.

mod measure;

use std::process::{Command, Stdio};
use std::sync::Arc;

use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::engine::{Dtype, EngineKind, OpenOptions, open};
use evalsuite::hub::Hub;
use measure::{BATCHES, PROMPT_TOKENS, tokens_per_second};

const OUTPUT_TOKENS: usize = 128;
const ROUNDS: usize = 3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(folder) = arguments.first() else {
        anyhow::bail!("name a model folder: cargo bench --bench cpu_engine -- FOLDER [PYTHON]");
    };
    let spec = ModelSpec { source: folder.clone(), revision: "main".to_owned() };
    let source = Arc::new(ModelSource::open(&spec, &Hub::from_environment(true)?)?);
    let options = OpenOptions::new(EngineKind::Cpu, Dtype::F32, Some(8));
    let mut engine = open(&source, &options)?;
    let mut ours = [const { Vec::new() }; 2];
    let mut theirs = [const { Vec::new() }; 2];
    for round in 0..=ROUNDS {
        for (index, batch) in BATCHES.into_iter().enumerate() {
            let speed = tokens_per_second(engine.as_mut(), batch, OUTPUT_TOKENS)?;
            let peer = arguments.get(1).map(|python| transformers(python, folder, batch)).transpose()?;
            if round > 0 {
                ours[index].push(speed); // round 0 is the warm-up
                theirs[index].extend(peer);
            }
        }
    }
    println!("engine\trequests\tmedian tokens/s\tlowest\thighest\trounds");
    for (name, speeds) in [(engine.info().device.as_str(), &mut ours), ("transformers", &mut theirs)] {
        for (batch, speeds) in BATCHES.into_iter().zip(speeds) {
            speeds.sort_by(f64::total_cmp);
            if let (Some(lowest), Some(highest)) = (speeds.first(), speeds.last()) {
                let median = speeds[speeds.len() / 2];
                println!("{name}\t{batch}\t{median:.1}\t{lowest:.1}\t{highest:.1}\t{}", speeds.len());
            }
        }
    }
    Ok(())
}

/// The same work by transformers' `generate`, in a process of its own (loading not counted).
fn transformers(python: &str, folder: &str, batch: usize) -> anyhow::Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/transformers_cpu.py");
    let numbers = [batch, PROMPT_TOKENS, OUTPUT_TOKENS].map(|number| number.to_string());
    let output = Command::new(python).arg(script).arg(folder).args(numbers).stderr(Stdio::null()).output()?;
    anyhow::ensure!(output.status.success(), "{python} {script} failed: run it by hand to see why");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
