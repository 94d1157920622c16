//! Perplexity and divergence: against logits in binary64, against sums written out here, and as a command.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use evalsuite::engine::cpu::CpuEngine;
use evalsuite::engine::model::ModelSource;
use evalsuite::engine::{
    Capacity, Dtype, Engine, EngineError, EngineInfo, Event as EngineEvent, Logits, Request, Text,
};
use evalsuite::jobs::perplexity::{DtypePerplexity, PerplexityRecord, Reading};
use evalsuite::jobs::perplexity::{PerplexityFinished, PerplexityInputs, PerplexityJob, evaluate};
use evalsuite::jobs::{Event, JobContext, JobError, open_engine};
use evalsuite::report::Format;
use evalsuite::task::{ChatUse, Content, Corpus, Sample};
use serde::Deserialize;

use crate::program::{evalsuite, text};
use crate::{scripted, tiny_model};

#[derive(Deserialize)]
struct Oracle {
    tokens: Vec<u32>,
    logits_float64: Vec<Vec<f64>>,
    float32_largest_error: f64,
}

fn folder() -> PathBuf {
    crate::data("llama")
}

fn llama() -> Arc<ModelSource> {
    Arc::new(tiny_model::open(&folder()).unwrap())
}

fn oracle() -> Oracle {
    serde_json::from_str(&std::fs::read_to_string(folder().join("oracle.json")).unwrap()).unwrap()
}

/// Words of the tiny checkpoints' tokenizer, `t30 t50 …`; `t1` and `t2` are special tokens, even within `t17`.
fn words(count: usize) -> String {
    let words: Vec<String> = (0..count).map(|i| format!("t{}", 30 + (i * i * 7 + i * 13) % 67)).collect();
    words.join(" ")
}

fn plain(text: &str) -> Corpus {
    Corpus {
        name: "a text".to_owned(),
        source: "a test".to_owned(),
        sha256: "da".repeat(32),
        content: Content::Plain(text.to_owned()),
    }
}

fn job(dtypes: &[Dtype]) -> PerplexityJob {
    PerplexityJob {
        command: vec!["evalsuite".to_owned(), "perplexity".to_owned()],
        target: scripted::target("llama", dtypes),
        text: "a text".to_owned(),
        split: "test".to_owned(),
        chat: ChatUse::Auto,
        window: Some(24),
        stride: Some(10),
        limit_tokens: None,
        run: None,
        limit: None,
        out: None,
        worst: 2,
        format: Format::Terminal { colour: false },
    }
}

fn run(job: &PerplexityJob, inputs: &PerplexityInputs) -> Result<PerplexityFinished, JobError> {
    run_with(job, inputs, &mut |_, _| {}, &mut |engine| engine)
}

fn run_with(
    job: &PerplexityJob,
    inputs: &PerplexityInputs,
    tell: &mut dyn FnMut(Event, &AtomicBool),
    wrap: &mut dyn FnMut(Box<dyn Engine>) -> Box<dyn Engine>,
) -> Result<PerplexityFinished, JobError> {
    let interrupted = AtomicBool::new(false);
    let mut context = JobContext {
        open_engine: &mut |variant, target| open_engine(variant, target).map(&mut *wrap),
        emit: &mut |event| tell(event, &interrupted),
        interrupted: &interrupted,
    };
    evaluate(job, inputs, &mut context)
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    logits.iter().map(|logit| logit - highest - sum.ln()).collect()
}

/// Log-probabilities of the whole vocabulary before each scored token, by windows written out here.
fn distributions(
    source: &Arc<ModelSource>,
    dtype: Dtype,
    tokens: &[u32],
    window: usize,
    stride: usize,
) -> Vec<Vec<f64>> {
    let engine = CpuEngine::load(source, dtype, None).unwrap();
    let mut rows = Vec::new();
    let mut begin = 0;
    while rows.len() + 1 < tokens.len() {
        let fed = &tokens[begin..tokens.len().min(begin + window)];
        let logits = engine.logits(fed, fed.len());
        // The row behind token p predicts token p + 1; the last row of a window predicts nothing that was fed.
        for logits in &logits[rows.len() - begin..fed.len() - 1] {
            rows.push(log_softmax(&logits.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>()));
        }
        begin += stride;
    }
    rows
}

fn close(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} ± {tolerance}");
}

/// Sums of some hundred terms of size 10 in binary64, in another order: far below this.
const ROUNDING: f64 = 1e-11;

#[test]
fn predictions_match_transformers_in_binary64() {
    let (source, oracle) = (llama(), oracle());
    let first = oracle.tokens.len() - oracle.logits_float64.len();
    let mut engine = CpuEngine::load(&source, Dtype::F32, None).unwrap();
    let mut rows = Vec::new();
    engine
        .predict(&oracle.tokens, first + 1, &mut |logits| {
            rows.extend(logits.chunks(source.config.vocabulary).map(<[f32]>::to_vec));
            ControlFlow::Continue(())
        })
        .unwrap();
    // The oracle's last row predicts a token that is not there.
    assert_eq!(rows.len(), oracle.logits_float64.len() - 1);
    let mut nats = (0.0, 0.0);
    for ((ours, exact), token) in rows.iter().zip(&oracle.logits_float64).zip(&oracle.tokens[first + 1..]) {
        let ours = log_softmax(&ours.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>());
        let exact = log_softmax(exact);
        // A logit and the log-sum-exp are each off by the logits' largest error at most, of which ours may be four
        // times transformers' own.
        for (ours, exact) in ours.iter().zip(&exact) {
            close(*ours, *exact, 8.0 * oracle.float32_largest_error);
        }
        nats = (nats.0 - ours[*token as usize], nats.1 - exact[*token as usize]);
    }
    close(nats.0 / 7.0, nats.1 / 7.0, 1e-4);
}

#[test]
fn figures_are_those_of_sums_written_out() {
    let (source, job) = (llama(), job(&[Dtype::F32, Dtype::F16]));
    let text = words(131);
    let tokens = source.tokenizer.encode(&text, true).unwrap();
    assert_eq!(tokens.len(), 131);
    let inputs = PerplexityInputs::new(&job, Arc::clone(&source), plain(&text)).unwrap();
    let finished = run(&job, &inputs).unwrap();
    let record = &finished.record;
    assert!(record.complete && finished.failures.is_empty());
    assert_eq!((record.windows.count, record.windows.scored_tokens, record.windows.blocks), (12, 130, 12));
    assert_eq!(record.windows.scored_bytes, text.len() - "t30".len());
    let [f32, f16] = &record.dtypes[..] else { panic!("two precisions") };

    let truth = distributions(&source, Dtype::F32, &tokens, 24, 10);
    let half = distributions(&source, Dtype::F16, &tokens, 24, 10);
    assert_eq!((truth.len(), half.len()), (130, 130));
    let mean = |rows: &[Vec<f64>]| {
        -rows.iter().zip(&tokens[1..]).map(|(row, token)| row[*token as usize]).sum::<f64>() / 130.0
    };
    for (dtype, rows) in [(f32, &truth), (f16, &half)] {
        let nats = dtype.nats_per_token.unwrap();
        close(nats.value, mean(rows), ROUNDING);
        close(dtype.perplexity.unwrap().value, mean(rows).exp(), 1e-7 * mean(rows).exp());
        let bits = nats.value * 130.0 / std::f64::consts::LN_2 / record.windows.scored_bytes as f64;
        close(dtype.bits_per_byte.unwrap().value, bits, ROUNDING);
    }
    assert!(f32.against.is_none());
    let against = f16.against.as_ref().unwrap();
    let divergences: Vec<f64> =
        truth.iter().zip(&half).map(|(p, q)| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()).collect();
    close(against.kl.mean.value, divergences.iter().sum::<f64>() / 130.0, ROUNDING);
    let (worst, largest) =
        divergences.iter().enumerate().fold((0, 0.0), |best, (i, kl)| if *kl > best.1 { (i, *kl) } else { best });
    close(against.kl.maximum, largest, ROUNDING);
    assert!(largest > 1e-7, "f16 must differ from f32, or this proves nothing: {largest}");
    assert_eq!((against.worst.len(), against.worst[0].position), (5, worst + 1));
    assert_eq!(against.worst[0].token, format!("t{}", tokens[worst + 1]));
    close(against.worst[0].reference.token_probability, truth[worst][tokens[worst + 1] as usize].exp(), ROUNDING);
    close(against.log_probability_change.value, mean(&truth) - mean(&half), ROUNDING);
    close(against.perplexity_ratio.value, (mean(&half) - mean(&truth)).exp(), ROUNDING);
    let best =
        |row: &[f64]| row.iter().enumerate().fold(0, |best, (i, value)| if *value > row[best] { i } else { best });
    let same = truth.iter().zip(&half).filter(|(p, q)| best(p) == best(q)).count();
    close(against.same_best.value, same as f64 / 130.0, ROUNDING);
    let probabilities = |rows: &[Vec<f64>]| -> Vec<f64> {
        rows.iter().zip(&tokens[1..]).map(|(row, token)| row[*token as usize].exp()).collect()
    };
    let mut changes: Vec<f64> =
        probabilities(&half).iter().zip(probabilities(&truth)).map(|(half, truth)| half - truth).collect();
    let change = against.probability_change.as_ref().unwrap();
    close(change.mean.value, changes.iter().sum::<f64>() / 130.0, ROUNDING);
    let squares = changes.iter().map(|change| change * change).sum::<f64>();
    close(change.root_mean_square.value, (squares / 130.0).sqrt(), ROUNDING);
    changes.sort_by(f64::total_cmp);
    close(change.minimum, changes[0], ROUNDING);
    close(change.median, f64::midpoint(changes[64], changes[65]), ROUNDING);
    close(change.maximum, changes[129], ROUNDING);
    close(against.kl.minimum.unwrap(), divergences.iter().copied().fold(f64::INFINITY, f64::min), ROUNDING);
    assert!(against.departures.is_none(), "a text is nobody's answer");
    let report = finished.report.unwrap();
    for part in
        ["12 of 24 tokens", "130 tokens", "14 or more before it", "Worst tokens of f16", "KL divergence", "Losses"]
    {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
}

fn figures(record: &PerplexityRecord) -> Vec<DtypePerplexity> {
    let without_times = |dtype: &DtypePerplexity| DtypePerplexity { seconds: None, engine: None, ..dtype.clone() };
    record.dtypes.iter().map(without_times).collect()
}

#[test]
fn the_figures_do_not_depend_on_the_number_of_threads() {
    let (source, job) = (llama(), job(&Dtype::FLOATING));
    let inputs = PerplexityInputs::new(&job, source, plain(&words(90))).unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| figures(&run(&job, &inputs).unwrap().record))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn a_text_in_one_window_has_no_standard_error_and_says_so() {
    let job = PerplexityJob { window: None, stride: None, ..job(&[Dtype::F32]) };
    let inputs = PerplexityInputs::new(&job, llama(), plain(&words(20))).unwrap();
    let finished = run(&job, &inputs).unwrap();
    // The context of 64 is shorter than the usual window of 512.
    assert_eq!((finished.record.windows.window, finished.record.windows.stride), (64, 32));
    assert_eq!(finished.record.dtypes[0].nats_per_token.unwrap().standard_error, None);
    assert!(finished.report.unwrap().contains("a single window has no standard error"));
}

#[test]
fn an_interrupted_reading_tells_what_is_done() {
    let (source, job) = (llama(), job(&[Dtype::F32, Dtype::Bf16]));
    let inputs = PerplexityInputs::new(&job, Arc::clone(&source), plain(&words(131))).unwrap();
    let stop_after = |wanted: usize| {
        let mut tell = |event, interrupted: &AtomicBool| {
            if let Event::Window(progress) = event
                && progress.passes_done == wanted
            {
                interrupted.store(true, Ordering::Relaxed);
            }
        };
        run_with(&job, &inputs, &mut tell, &mut |engine| engine).unwrap()
    };
    // After the third window's f32 the third window is not done.
    let finished = stop_after(5);
    assert_eq!((finished.record.complete, finished.record.windows.done), (false, 2));
    assert!(finished.report.unwrap().contains("the first 2 windows"));
    // Two windows end at token 34: the same as a text of 34 tokens.
    let short = PerplexityJob { limit_tokens: Some(34), ..job.clone() };
    let whole = run(&short, &PerplexityInputs::new(&short, source, plain(&words(131))).unwrap()).unwrap();
    assert_eq!(figures(&finished.record), figures(&whole.record));
    assert_eq!(finished.record.windows.scored_bytes, whole.record.windows.scored_bytes);
    assert!(stop_after(1).report.is_none(), "no window is done");
}

/// A test double, and said so: an engine whose f16 overflows.
struct Overflowing(Box<dyn Engine>);

impl Engine for Overflowing {
    fn info(&self) -> &EngineInfo {
        self.0.info()
    }

    fn submit(&mut self, _: Request) -> Result<(), EngineError> {
        unreachable!("nothing is generated here")
    }

    fn step(&mut self, _: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        Ok(())
    }

    fn cancel(&mut self, _: usize) -> bool {
        false
    }

    fn capacity(&self) -> Capacity {
        Capacity::default()
    }

    fn read(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        self.0.read(texts)
    }

    fn read_logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, EngineError> {
        let spoil = self.0.info().dtype == Some(Dtype::F16);
        let mut logits = self.0.read_logits(rows)?.to_host()?.into_owned();
        logits[0] = if spoil { f32::INFINITY } else { logits[0] };
        Ok(Logits::Host(Cow::Owned(logits)))
    }
}

#[test]
fn a_precision_that_overflows_fails_alone() {
    let (source, job) = (llama(), job(&Dtype::FLOATING));
    let inputs = PerplexityInputs::new(&job, Arc::clone(&source), plain(&words(60))).unwrap();
    let finished = run_with(&job, &inputs, &mut |_, _| {}, &mut |engine| Box::new(Overflowing(engine))).unwrap();
    let [(dtype, error)] = &finished.failures[..] else { panic!("one failure") };
    assert!(*dtype == Dtype::F16 && error.is_engine_failure() && error.to_string().contains("hint: "), "{error}");
    let [f32, f16, bf16] = &finished.record.dtypes[..] else { panic!("three precisions") };
    assert!(f32.nats_per_token.is_some() && bf16.against.is_some());
    assert!(f16.nats_per_token.is_none() && f16.against.is_none() && f16.failure.is_some());
    assert!(!finished.record.complete && finished.report.unwrap().contains("f16 did not finish"));

    let alone = PerplexityJob { target: scripted::target("llama", &[Dtype::F16]), ..job };
    let inputs = PerplexityInputs::new(&alone, source, plain(&words(60))).unwrap();
    let error = run_with(&alone, &inputs, &mut |_, _| {}, &mut |engine| Box::new(Overflowing(engine))).unwrap_err();
    assert!(error.is_engine_failure(), "{error}");
}

/// A test double, and said so: an engine that is given many windows at a time, as one on a GPU is, and notes what it reads and when another
/// is opened.
struct Noted {
    engine: Box<dyn Engine>,
    reading_tokens: usize,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Engine for Noted {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn submit(&mut self, _: Request) -> Result<(), EngineError> {
        unreachable!("nothing is generated here")
    }

    fn step(&mut self, _: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        Ok(())
    }

    fn cancel(&mut self, _: usize) -> bool {
        false
    }

    fn capacity(&self) -> Capacity {
        Capacity::default()
    }

    fn reading_tokens(&self) -> usize {
        self.reading_tokens
    }

    fn read(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        let tokens: Vec<usize> = texts.iter().map(|text| text.tokens.len()).collect();
        self.notes.lock().unwrap().push(format!("{} {tokens:?}", self.info().dtype.unwrap()));
        if self.reading_tokens == 13 && texts.len() > 1 {
            return Err(EngineError::failed("the GPU could not read", "look at it"));
        }
        self.engine.read(texts)
    }

    fn read_logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, EngineError> {
        self.engine.read_logits(rows)
    }
}

/// The others were loaded while nothing was read, one after the other.
#[test]
fn the_reference_reads_the_first_windows_while_the_others_are_loaded() {
    let (source, job) = (llama(), job(&[Dtype::F32, Dtype::F16]));
    let inputs = PerplexityInputs::new(&job, source, plain(&words(131))).unwrap();
    let in_turn = run(&job, &inputs).unwrap().record;
    let windows: Vec<usize> = inputs.windows.iter().map(|window| window.fed.len()).collect();
    assert!(windows.len() > 4);
    let read = |tokens: [usize; 2]| {
        let notes: Arc<Mutex<Vec<String>>> = Arc::default();
        let wrap = &mut |engine: Box<dyn Engine>| -> Box<dyn Engine> {
            let is_first = engine.info().dtype == Some(Dtype::F32);
            // The reference is at its first windows already, or comes to them now.
            while !is_first && tokens[0] > 0 && notes.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
            Box::new(Noted { engine, reading_tokens: tokens[usize::from(!is_first)], notes: Arc::clone(&notes) })
        };
        let finished = run_with(&job, &inputs, &mut |_, _| {}, wrap);
        let noted = notes.lock().unwrap().clone();
        (finished, noted)
    };
    let two = windows[0] + windows[1];
    let of = |dtype: &str, from: usize, to: usize| format!("{dtype} {:?}", &windows[from..to]);
    for (tokens, begin) in [
        ([two, two], vec![of("f32", 0, 2), of("f16", 0, 2), of("f32", 2, 4)]),
        // Another engine has less room, so that what was read ahead is too much.
        ([two, 0], vec![of("f32", 0, 2), of("f32", 0, 1), of("f16", 0, 1), of("f32", 1, 2)]),
        ([0, two], vec![of("f32", 0, 1), of("f16", 0, 1), of("f32", 1, 2)]),
    ] {
        let (finished, noted) = read(tokens);
        let record = finished.unwrap().record;
        assert_eq!(noted[..begin.len()], begin, "{tokens:?}");
        assert_eq!(figures(&record), figures(&in_turn), "{tokens:?}");
    }
    // Its failure there is the run's, as it is later.
    let short = PerplexityJob { window: Some(6), stride: Some(3), ..job.clone() };
    let inputs_of_short = PerplexityInputs::new(&short, llama(), plain(&words(131))).unwrap();
    let wrap = &mut |engine: Box<dyn Engine>| -> Box<dyn Engine> {
        Box::new(Noted { engine, reading_tokens: 13, notes: Arc::default() })
    };
    let error = run_with(&short, &inputs_of_short, &mut |_, _| {}, wrap).unwrap_err();
    assert!(error.is_engine_failure() && error.to_string().contains("the GPU could not read"), "{error}");
}

#[test]
fn rows_are_read_each_by_itself_through_the_chat_template() {
    let place = tiny_model::folder();
    let model = Arc::new(tiny_model::open(place.path()).unwrap());
    let row = Sample::new;
    let rows = vec![row(0, "a", "ab ab 12"), row(1, "b 1", "2")];
    let corpus = Corpus { content: Content::Rows(rows), ..plain("") };
    let job = PerplexityJob { window: None, stride: None, ..job(&[Dtype::F32]) };
    let inputs = PerplexityInputs::new(&job, Arc::clone(&model), corpus.clone()).unwrap();
    // <|im_start|> a <|im_end|> | ab Ġab Ġ 1 2, then <|im_start|> b Ġ 1 <|im_end|> | 2
    assert_eq!(inputs.tokens, [1, 6, 2, 10, 11, 5, 8, 9, 1, 7, 5, 8, 2, 9]);
    let windows: Vec<_> = inputs.windows.iter().map(|one| (one.document, one.fed.clone(), one.from)).collect();
    assert_eq!(windows, [(0, 0..8, 3), (1, 8..14, 13)]);
    assert_eq!(inputs.blocks(2), [5, 1]);
    let record = run(&job, &inputs).unwrap().record;
    assert_eq!((record.text.reading, record.windows.scored_tokens, record.windows.scored_bytes), (Reading::Chat, 6, 9));
    assert!(record.dtypes[0].nats_per_token.unwrap().standard_error.is_some(), "two rows are two observations");

    let joined = PerplexityJob { chat: ChatUse::Never, ..job.clone() };
    let inputs = PerplexityInputs::new(&joined, Arc::clone(&model), corpus).unwrap();
    assert_eq!(inputs.text_plan().reading, Reading::Joined);
    let required = PerplexityJob { chat: ChatUse::Required, ..job };
    let message = PerplexityInputs::new(&required, model, plain("ab")).unwrap_err().to_string();
    assert!(message.contains("no questions and answers") && message.contains("hint: "), "{message}");
}

fn program(arguments: &[&str]) -> Output {
    let mut command = evalsuite();
    command.arg("perplexity").args(["--model", folder().to_str().unwrap()]).args(arguments);
    command.output().expect("the program starts")
}

#[test]
fn the_command_prints_and_writes_one_record_that_can_be_shown_again() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    std::fs::write(path("text"), words(100)).unwrap();
    let output =
        program(&["--text", &path("text"), "--dtype", "f32,f16", "--format", "json", "--out", &path("a.json")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed: PerplexityRecord = serde_json::from_slice(&output.stdout).unwrap();
    let written = PerplexityRecord::read(Path::new(&path("a.json"))).unwrap().unwrap();
    assert_eq!(printed, written);
    assert_eq!(written.text.sha256, evalsuite::files::sha256(words(100).as_bytes()));
    assert_eq!(
        (written.target.model.sha256.as_ref().unwrap().len(), written.dtypes.len(), written.engine.as_str()),
        (64, 2, "auto")
    );
    let shown = evalsuite().args(["show", &path("a.json")]).output().unwrap();
    let table = text(&shown.stdout);
    assert!(shown.status.success() && table.contains("KL divergence from f32"), "{table}");
}

#[test]
fn mistakes_have_hints() {
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let text = file("text", words(100).as_bytes());
    let with = |flags: &[&str]| [&["--text", &text][..], flags].concat().iter().map(|s| (*s).to_owned()).collect();
    let of = |text: String| vec!["--text".to_owned(), text];
    let cases: Vec<(Vec<String>, &str)> = vec![
        (of(file("empty", b"")), "is empty"),
        (of(file("latin1", b"caf\xe9")), "not UTF-8"),
        (of(file("short", b"t5")), "too short"),
        (of("/no/such/file".to_owned()), "cannot read"),
        (with(&["--window", "65"]), "context of 64"),
        (with(&["--window", "1"]), "--window 1"),
        (with(&["--stride", "0"]), "--stride 0"),
        (with(&["--window", "32", "--stride", "32"]), "--stride 32"),
        (with(&["--limit-tokens", "1"]), "--limit-tokens 1"),
        (with(&["--threads", "0"]), "--threads 0"),
        (with(&["--dtype", "f-16"]), "did you mean `f16`"),
        (with(&["--chat", "required"]), "no questions and answers"),
        (with(&["--out", "/no/such/folder/a.json"]), "no folder /no/such/folder"),
        (with(&["--engine", "candle"]), "candle does not tell whole distributions"),
    ];
    for (arguments, expected) in cases {
        let output = program(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let message = crate::program::mistake(&output);
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

/// transformers on the same weights in binary32, the same windows: the mean of the tokens' negative log-probabilities,
/// taken in binary64 from its logits.
#[test]
fn smollm2_reads_prose_as_transformers_does() {
    const TRANSFORMERS_NATS: f64 = 3.140_242_264;
    const SCORED_TOKENS: usize = 218;
    let model = crate::smollm2();
    if !model.exists() {
        crate::skip::skip("smollm2", format!("{} is missing; set EVALSUITE_SMOLLM2 to the GGUF file", model.display()));
        return;
    }
    let source = Arc::new(tiny_model::open(&model).unwrap());
    let corpus = Corpus::open(crate::data("prose.txt").to_str().unwrap(), "test", &tiny_model::no_hub()).unwrap();
    let job = PerplexityJob { window: Some(96), stride: Some(48), ..job(&[Dtype::F32, Dtype::F16]) };
    let record = run(&job, &PerplexityInputs::new(&job, source, corpus).unwrap()).unwrap().record;
    assert_eq!(record.windows.scored_tokens, SCORED_TOKENS);
    close(record.dtypes[0].nats_per_token.unwrap().value, TRANSFORMERS_NATS, 1e-4);
    let against = record.dtypes[1].against.as_ref().unwrap();
    // f16 keeps eleven bits: it must differ from f32, and by little.
    assert!(against.kl.mean.value > 1e-9 && against.kl.mean.value < 1e-3, "{against:?}");
}
