//! From an engine into the journal, on a thread of its own: an engine waits neither for rules nor for a disk.

use std::sync::mpsc::Receiver;

use super::thoughts::take_thought;
use super::{JobError, Prepared};
use crate::engine::{Completion, EngineError, Thought, ThoughtMarks};
use crate::record::{Journal, StoredCompletion, StoredThought};
use crate::score::Extraction;

/// What the rules make of a completion's text, given its sample.
pub(super) type Score<'a> = dyn Fn(&str, &Prepared) -> Vec<Extraction> + Sync + 'a;

/// A completion that is still missing.
#[derive(Clone, Copy)]
pub(super) struct Missing<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) repeat: usize,
}

/// A completion as an engine emitted it.
pub(super) struct Emitted {
    pub(super) completion: Completion,
    /// Seconds from the session's first request until then.
    pub(super) at_seconds: f64,
}

/// Scores completions and writes them down.
pub(super) struct Writer<'a> {
    /// By request.
    pub(super) missing: &'a [Missing<'a>],
    pub(super) score: &'a Score<'a>,
    /// What stands between these is no answer.
    pub(super) thoughts: ThoughtMarks,
    pub(super) journal: &'a mut Journal,
    /// Index of the session.
    pub(super) session: usize,
    /// Of generating in this session, before these requests.
    pub(super) seconds_before: f64,
}

impl Writer<'_> {
    /// Works until the engine's side has hung up; then every completion is on the disk. What has gathered during one
    /// sync shares the next, so a slow disk makes syncs fewer and never makes anybody wait. The first failure ends it.
    pub(super) fn run(self, emitted: &Receiver<Emitted>) -> Result<(), JobError> {
        while let Ok(first) = emitted.recv() {
            for one in std::iter::once(first).chain(emitted.try_iter()) {
                self.journal.append(&self.store(one)?)?;
            }
            self.journal.sync()?;
        }
        Ok(())
    }

    fn store(&self, Emitted { mut completion, at_seconds }: Emitted) -> Result<StoredCompletion, JobError> {
        let Some(Missing { prepared, repeat }) = self.missing.get(completion.request) else {
            return Err(EngineError::failed(
                format!("the engine completed request {}, which it was never given", completion.request),
                "this is a fault of the engine; choose another with `--engine`",
            )
            .into());
        };
        // A server may give a thought and an answer as one text.
        let server = completion.server;
        let taken = server.and_then(|_| {
            let (text, finish) = (&mut completion.text, &mut completion.finish);
            take_thought(&self.thoughts, &prepared.prompt.text, text, finish)
        });
        let own_prompt = Some(prepared.prompt.token_ids.len());
        let has_ids = server.is_none() || !completion.token_ids.is_empty();
        let stored = |Thought { text, tokens }| StoredThought { tokens, text };
        Ok(StoredCompletion {
            sample: prepared.sample,
            repeat: *repeat,
            prompt_sha256: prepared.prompt_sha256.clone(),
            prompt_ids_sha256: prepared.prompt_ids_sha256.clone(),
            prompt_tokens: server.map_or(own_prompt, |counts| counts.prompt_tokens),
            scores: (self.score)(&completion.text, prepared),
            margins: completion.details.iter().map(|detail| detail.margin).collect(),
            token_ids: has_ids.then_some(completion.token_ids),
            output_tokens: server.filter(|_| !has_ids).and_then(|counts| counts.output_tokens),
            counted_by: server.and_then(|counts| counts.by),
            text: completion.text,
            thought: taken.or_else(|| completion.thought.map(stored)),
            finish: completion.finish,
            timings: completion.timings,
            session: self.session,
            at_seconds: self.seconds_before + at_seconds,
        })
    }
}
