//! Run folders for reports, made by the scripted engine or written line by line.

use std::path::Path;
use std::sync::Arc;

use evalsuite::engine::{Dtype, Finish, Timings};
use evalsuite::files::sha256;
use evalsuite::jobs::eval::{Asked, EvalRecord, Measured, StoredRun, summarise};
use evalsuite::record::{RunFolder, StoredCompletion, StoredSample, answers};
use evalsuite::score::Extraction;

use crate::scripted::{evaluate, inputs, job};

/// Five questions in f32 and f16, answered by the scripted engine; f16 is wrong on rows 0 and 3.
pub(crate) fn scripted_run(folder: &Path) -> StoredRun {
    evaluate(&job(folder.to_path_buf()), &inputs()).expect("the scripted run is sound");
    StoredRun::read(folder).expect("what a run writes can be read")
}

/// As in [`scripted_run`], with a record that says what its completions say after they were changed.
pub(crate) fn counted_anew(mut run: StoredRun) -> StoredRun {
    let measured: Vec<Measured> = run
        .completions
        .iter()
        .map(|(dtype, completions)| {
            let sessions =
                run.record.dtypes.iter().find(|record| record.dtype == *dtype).map(|one| one.sessions.clone());
            Measured {
                dtype: dtype.clone(),
                completions,
                sessions: sessions.unwrap_or_else(|| run.record.dtypes[0].sessions.clone()),
                failure: None,
            }
        })
        .collect();
    let rules: Vec<String> = run.record.dtypes[0].rules.iter().map(|rule| rule.rule.clone()).collect();
    run.record.dtypes = summarise(&measured, &Asked::new(&run.record.plan, rules, &run.samples));
    run
}

/// Writes a run as a folder again, as a job would.
pub(crate) fn write_run(run: &StoredRun, folder: &Path) {
    let made = RunFolder::create(folder, &run.record.plan).unwrap();
    made.write_samples(&run.samples).unwrap();
    for (record, (dtype, completions)) in run.record.dtypes.iter().zip(&run.completions) {
        let (mut journal, _) = made.journal(dtype).unwrap();
        for one in completions {
            journal.append(one).unwrap();
        }
        made.write_sessions(dtype, &record.sessions).unwrap();
    }
    let answers = answers(&run.completions).unwrap();
    made.write_answers(&answers).unwrap();
    made.write_record(&EvalRecord { answers_sha256: Some(sha256(&answers)), ..run.record.clone() }).unwrap();
}

/// A run of GSM8K's size: `rows` questions in f32, f16 and awq, answers of some 600 characters, every tenth of f16's and
/// every fourth of awq's other than f32's.
pub(crate) fn large_run(folder: &Path, rows: usize) -> StoredRun {
    let mut run = scripted_run(&folder.join("small"));
    let rule = run.record.dtypes[0].rules[0].rule.clone();
    run.record.plan.dataset.rows = rows;
    run.record.plan.dataset.chosen = rows;
    run.record.plan.dtypes = [Dtype::F32, Dtype::F16, Dtype::Awq].map(Into::into).to_vec();
    let samples = (0..rows)
        .map(|sample| StoredSample {
            sample,
            id: None,
            question: format!("Question {sample}: {}", "a farmer counts sheep and buys some more. ".repeat(5)),
            answer: format!("{}\n#### {sample}", "One step follows the other. ".repeat(8)),
            reference: None,
            cluster: None,
            prompt: format!("{}Question {sample}?\nAnswer:", "A worked example of some length.\n".repeat(60)),
        })
        .collect();
    run.samples = Arc::new(samples);
    let completion = |sample: usize, every: usize| {
        let changed = every > 0 && sample % every == 1;
        let value = if changed { sample + 7 } else { sample };
        let text = format!("{}\nThe answer is {value}", "First we add the numbers of the day. ".repeat(16));
        let begin = text.len() - value.to_string().len();
        StoredCompletion {
            sample,
            repeat: 0,
            prompt_sha256: "00".repeat(32),
            prompt_ids_sha256: None,
            prompt_tokens: Some(900),
            token_ids: Some((0..150).map(|token| if changed && token >= 40 { 9 } else { token }).collect()),
            output_tokens: None,
            counted_by: None,
            finish: if sample.is_multiple_of(50) { Finish::Length } else { Finish::EndOfSequence },
            scores: vec![Extraction {
                rule: rule.clone(),
                value: Some(value.to_string()),
                span: Some([begin, text.len()]),
                correct: !changed && !sample.is_multiple_of(3),
            }],
            text,
            thought: None,
            margins: Vec::new(),
            timings: Timings::default(),
            session: 0,
            at_seconds: 1.0,
        }
    };
    let column = |every: usize| (0..rows).map(|sample| completion(sample, every)).collect::<Vec<_>>();
    run.completions =
        vec![(Dtype::F32.into(), column(0)), (Dtype::F16.into(), column(10)), (Dtype::Awq.into(), column(4))];
    let run = counted_anew(run);
    write_run(&run, &folder.join("large"));
    StoredRun::read(&folder.join("large")).expect("the folder is a run")
}
