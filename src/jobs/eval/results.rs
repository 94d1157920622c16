//! From what a run folder holds to its record: one way for runs, rescored answers and completions made elsewhere.

use super::placebo::placebos;
use super::{Answers, Asked, EVAL_FORMAT, EvalPlan, EvalRecord, Measured, ProtocolPlan, findings, summarise};
use crate::record::{Machine, Session, StoredCompletion, StoredSample, VariantName, utc_now};

/// What a record is made of; the rest follows.
pub(super) struct Results<'a> {
    /// What was asked for.
    pub(super) plan: EvalPlan,
    /// The rules that scored the answers, in order.
    pub(super) rules: Vec<String>,
    /// The rule that decides.
    pub(super) headline: String,
    /// Of rescored answers: the protocol that they were made with.
    pub(super) generated_under: Option<ProtocolPlan>,
    /// The variant that holds the model's weights as they were trained.
    pub(super) ground_truth: Option<VariantName>,
    /// The completions of each variant, by sample and repeat.
    pub(super) completions: &'a [(VariantName, Vec<StoredCompletion>)],
    /// Each variant's sessions, and why it did not finish, if it did not.
    pub(super) ran: Vec<(Vec<Session>, Option<String>)>,
    /// The questions.
    pub(super) samples: &'a [StoredSample],
    /// Of `answers.jsonl`, once that is known.
    pub(super) answers_sha256: Option<String>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

impl Results<'_> {
    /// Counted, compared with the reference, and looked over for what is implausible.
    pub(super) fn record(self) -> EvalRecord {
        let measured = self.completions.iter().zip(self.ran).map(|((variant, completions), (sessions, failure))| {
            Measured { dtype: variant.clone(), completions, sessions, failure }
        });
        let placebos = placebos(&self.plan, self.completions, &self.rules, self.samples);
        let dtypes = summarise(&measured.collect::<Vec<_>>(), &Asked::new(&self.plan, self.rules, self.samples));
        let asked = self.plan.completions_per_variant();
        let mut record = EvalRecord {
            format: EVAL_FORMAT,
            ground_truth: self.ground_truth,
            generated_under: self.generated_under,
            finished: utc_now(),
            machine: Machine::detect(),
            complete: dtypes.iter().all(|dtype| dtype.n == asked),
            answers_sha256: self.answers_sha256,
            notes: self.notes,
            headline: Some(self.headline),
            price_per_hour: None,
            until: None,
            placebos,
            findings: Vec::new(),
            dtypes,
            plan: self.plan,
        };
        record.findings = findings(&Answers { record: &record, completions: self.completions, samples: self.samples });
        record
    }
}
