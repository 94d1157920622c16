//! Tokens/s of the CPU engine in f32, one request and eight at once, beside transformers on the same machine in one run.
//!
//! `cargo bench --bench cpu_engine -- MODEL_FOLDER [PYTHON]`: a Hugging Face folder that both can read, and a Python that has
//! torch and transformers. Rounds alternate between the two, so that a change in the machine's speed meets both.

use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use evalsuite::engine::model::{ModelSource, ModelSpec};
use evalsuite::engine::{Dtype, Engine, EngineKind, GenerateOptions, OpenOptions, Prompt, Request, Work, open};
use evalsuite::hub::Hub;

const PROMPT_TOKENS: usize = 32;
const OUTPUT_TOKENS: usize = 128;
const ROUNDS: usize = 3;
const BATCHES: [usize; 2] = [1, 8];

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
            let speed = measure(engine.as_mut(), batch)?;
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

/// Output tokens a second, reading the prompts included.
fn measure(engine: &mut dyn Engine, batch: usize) -> anyhow::Result<f64> {
    let options = GenerateOptions { max_tokens: OUTPUT_TOKENS, ignore_eos: true, ..GenerateOptions::default() };
    let request = |id: usize| {
        let token_ids = (0..PROMPT_TOKENS).map(|i| (1000 + 37 * i + 101 * id) as u32).collect();
        let prompt = Arc::new(Prompt { text: String::new(), token_ids });
        Request { id, prompt, work: Work::Generate(options.clone()) }
    };
    let begin = Instant::now();
    engine.run((0..batch).map(request).collect(), &mut |_| ControlFlow::Continue(()))?;
    Ok((batch * OUTPUT_TOKENS) as f64 / begin.elapsed().as_secs_f64())
}

/// The same work by transformers' `generate`, in a process of its own (loading not counted).
fn transformers(python: &str, folder: &str, batch: usize) -> anyhow::Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/transformers_cpu.py");
    let numbers = [batch, PROMPT_TOKENS, OUTPUT_TOKENS].map(|number| number.to_string());
    let output = Command::new(python).arg(script).arg(folder).args(numbers).stderr(Stdio::null()).output()?;
    anyhow::ensure!(output.status.success(), "{python} {script} failed: run it by hand to see why");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
