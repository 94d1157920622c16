//! Servers in an engine's place: requests go out at once, none is sent again, and what did not come as it was asked for is counted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::runtime::Runtime;

use super::ran::{Asked, Ran, Times, done};
use crate::engine::EngineError;
use crate::jobs::requests::{
    Driven, Level, LevelPlan, LoadRequest, Purpose, RandomPrompts, RequestRecord, Served, drive, start,
};
use crate::jobs::{Endpoint, Event, JobError, Progress};

/// Servers of one variant.
pub struct Servers {
    served: Arc<Served>,
    runtime: Runtime,
}

impl Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers").field("served", &self.served).finish_non_exhaustive()
    }
}

/// Tokens of the request that is sent before anything is measured, and of its answer.
const FIRST: (usize, usize) = (128, 8);

impl Servers {
    /// Learns how they can be asked: what they refuse, and whether they take token ids, without which `prompts` become text. Somebody has to
    /// count tokens. With what the user should know of it.
    pub(super) fn open(endpoint: &Endpoint, prompts: &mut RandomPrompts) -> Result<(Self, Vec<String>), JobError> {
        let (mut served, runtime) = (Served::endpoint(endpoint)?, start()?);
        let first = |prompts: &RandomPrompts| {
            LoadRequest::exact(prompts.prompt(Purpose::Load, 0, 0, FIRST.0), FIRST.0, FIRST.1)
        };
        let text = prompts.as_text();
        let settled = served.settle(&first(prompts), text.as_ref().map(first).as_ref(), &runtime)?;
        if let Some(text) = text.filter(|_| settled.as_text) {
            *prompts = text;
        }
        if settled.answer.is_some_and(|answer| answer.output_tokens.is_none()) {
            return Err(uncounted());
        }
        Ok((Self { served: Arc::new(served), runtime }, settled.notes))
    }

    /// Sends all requests at once and waits for all answers; `None` where the user broke off.
    pub(super) fn run(
        &self,
        requests: Vec<Asked>,
        progress: Option<Progress>,
        troubles: &mut Troubles,
        (emit, interrupted): (&mut dyn FnMut(Event), &AtomicBool),
    ) -> Result<Option<Ran>, JobError> {
        let count = requests.len();
        let part = progress.as_ref().and_then(|progress| progress.part).unwrap_or("warm-up");
        let level = Level {
            plan: LevelPlan::Users { users: count },
            index: 0,
            requests: count,
            duration_seconds: f64::INFINITY,
            seed: 0,
            served: Arc::clone(&self.served),
            source: Arc::new(requests.into_iter().map(request).collect::<Vec<_>>()),
        };
        let begun = Instant::now();
        let Driven { requests, abandoned, .. } = drive(&level, &self.runtime, interrupted, &mut |sent, over| {
            if let Some(progress) = &progress {
                emit(Event::Progress(Progress {
                    completed: over,
                    completed_now: over,
                    running: sent.saturating_sub(over),
                    seconds: begun.elapsed().as_secs_f64(),
                    ..progress.clone()
                }));
            }
        })?;
        if abandoned > 0 || requests.len() < count {
            return Ok(None);
        }
        troubles.add(part, &requests);
        let ran = ran(part, &requests)?;
        if let Some(progress) = progress {
            emit(done(progress, ran.seconds));
        }
        Ok(Some(ran))
    }
}

fn request(asked: Asked) -> LoadRequest {
    LoadRequest::exact(asked.prompt, asked.prompt_tokens, asked.output_tokens)
}

fn uncounted() -> JobError {
    JobError::invalid(
        "nobody counts the tokens of the answers: the server sends no usage, and no tokenizer is known",
        "name the model's tokenizer by `--tokenizer SOURCE`",
    )
}

/// What came of requests; an error where none was answered, which is no speed.
fn ran(part: &str, requests: &[RequestRecord]) -> Result<Ran, JobError> {
    let answered: Vec<&RequestRecord> = requests.iter().filter(|one| one.error.is_none()).collect();
    if answered.is_empty() {
        let first = requests.iter().find_map(|one| one.error.as_deref()).unwrap_or_default();
        return Err(EngineError::failed(
            format!("all {} requests of {part} failed, the first with `{first}`", requests.len()),
            "look at the server's log; `--requests N` asks for fewer at once",
        )
        .into());
    }
    let times = answered.iter().map(|one| {
        Some(Times {
            first_token_seconds: one.ttft_seconds,
            latency_seconds: one.latency_seconds?,
            output_tokens: one.output_tokens?,
        })
    });
    let times: Vec<Times> = times.collect::<Option<_>>().ok_or_else(uncounted)?;
    let begin = requests.iter().map(|one| one.sent_seconds).fold(f64::INFINITY, f64::min);
    let end = requests.iter().map(RequestRecord::ended_seconds).fold(0.0, f64::max);
    Ok(Ran {
        seconds: end - begin,
        output_tokens: times.iter().map(|one| one.output_tokens as u64).sum(),
        failed: requests.len() - times.len(),
        times,
    })
}

/// What servers did other than asked, part by part; uncounted rounds too.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<Trouble>);

#[derive(Debug, Default)]
struct Trouble {
    part: String,
    sent: usize,
    failed: BTreeMap<String, usize>,
    /// The first failure in full.
    first: String,
    other_lengths: usize,
    other_prompts: usize,
    /// Tokens of the first such prompt: asked for, and by the server's count.
    prompt: (usize, usize),
}

impl Troubles {
    fn add(&mut self, part: &str, requests: &[RequestRecord]) {
        if self.0.last().is_none_or(|last| last.part != part) {
            self.0.push(Trouble { part: part.to_owned(), ..Trouble::default() });
        }
        let Some(trouble) = self.0.last_mut() else { return };
        trouble.sent += requests.len();
        for one in requests {
            if let (Some(cause), Some(error)) = (&one.cause, &one.error) {
                if trouble.failed.is_empty() {
                    trouble.first.clone_from(error);
                }
                *trouble.failed.entry(cause.clone()).or_default() += 1;
            }
            trouble.other_lengths += usize::from(one.is_of_another_length());
            if one.has_another_prompt() {
                if trouble.other_prompts == 0 {
                    trouble.prompt = one.asked_prompt_tokens.zip(one.prompt_tokens).unwrap_or_default();
                }
                trouble.other_prompts += 1;
            }
        }
    }

    /// Requests that were not answered.
    pub(super) fn failed(&self) -> usize {
        self.0.iter().flat_map(|trouble| trouble.failed.values()).sum()
    }

    /// What the user has to know.
    pub(super) fn into_notes(self, variant: &str) -> Vec<String> {
        let mut notes = Vec::new();
        for Trouble { part, sent, failed, first, other_lengths, other_prompts, prompt } in self.0 {
            if !failed.is_empty() {
                let causes: Vec<String> = failed.iter().map(|(cause, times)| format!("{times} × {cause}")).collect();
                notes.push(format!(
                    "{variant}, {part}: {} of {sent} requests failed ({}), the first with `{first}`; none was sent again, and tokens/s are of the \
                     others",
                    failed.values().sum::<usize>(),
                    causes.join(", ")
                ));
            }
            let answered = sent - failed.values().sum::<usize>();
            if other_lengths > 0 {
                notes.push(format!(
                    "{variant}, {part}: {other_lengths} of {answered} answers have another number of tokens than asked for: the server does not \
                     heed `ignore_eos`"
                ));
            }
            if other_prompts > 0 {
                let (asked, counted) = prompt;
                notes.push(format!(
                    "{variant}, {part}: {other_prompts} of {answered} prompts have another number of tokens by the server's count than asked for, \
                     the first {counted} for {asked}"
                ));
            }
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(sent: f64, ttft: f64, latency: f64, tokens: usize) -> RequestRecord {
        RequestRecord {
            sent_seconds: sent,
            ttft_seconds: Some(ttft),
            latency_seconds: Some(latency),
            prompt_tokens: Some(130),
            output_tokens: Some(tokens),
            asked_tokens: Some(64),
            asked_prompt_tokens: Some(128),
            ..RequestRecord::default()
        }
    }

    fn failed(sent: f64, after: f64) -> RequestRecord {
        RequestRecord {
            sent_seconds: sent,
            failed_after_seconds: Some(after),
            error: Some("HTTP 503: busy".to_owned()),
            cause: Some("HTTP 503".to_owned()),
            asked_tokens: Some(64),
            ..RequestRecord::default()
        }
    }

    #[test]
    fn a_run_lasts_from_the_first_sending_to_the_last_end_and_counts_answers_alone() {
        let requests = [answered(0.5, 0.25, 2.0, 64), answered(0.75, 0.5, 1.0, 60), failed(1.0, 2.5)];
        let ran = ran("batch 3", &requests).unwrap();
        assert_eq!((ran.seconds, ran.output_tokens, ran.failed), (3.0, 124, 1));
        assert_eq!(ran.times.iter().map(|times| times.latency_seconds).collect::<Vec<_>>(), [2.0, 1.0]);
        let mut troubles = Troubles::default();
        troubles.add("batch 3", &requests);
        troubles.add("batch 3", &requests[1..]);
        troubles.add("batch 4", &requests[..1]);
        assert_eq!(troubles.failed(), 2);
        let notes = troubles.into_notes("endpoint");
        assert!(
            notes[0]
                .contains("endpoint, batch 3: 2 of 5 requests failed (2 × HTTP 503), the first with `HTTP 503: busy`")
        );
        assert!(notes[1].contains("batch 3: 2 of 3 answers have another number"), "{notes:?}");
        assert!(
            notes[2].contains("batch 3: 3 of 3 prompts") && notes[2].ends_with("the first 130 for 128"),
            "{notes:?}"
        );
        assert!(notes[3].contains("batch 4: 1 of 1 prompts") && notes.len() == 4, "{notes:?}");
    }

    #[test]
    fn what_nobody_answered_or_counted_is_no_speed() {
        let error = ran("batch 1", &[failed(0.0, 1.0)]).unwrap_err();
        assert!(error.is_engine_failure() && error.to_string().contains("all 1 requests of batch 1 failed"), "{error}");
        let unknown = RequestRecord { output_tokens: None, ..answered(0.0, 0.1, 1.0, 64) };
        assert!(ran("batch 1", &[unknown]).unwrap_err().to_string().contains("--tokenizer"));
    }
}
