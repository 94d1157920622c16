//! Which precisions a job runs in, and which files each is loaded from.

use std::sync::Arc;

use super::{Inputs, Job, RunError};
use crate::engine::Dtype;
use crate::engine::model::ModelSource;
use crate::hub::Hub;
use crate::record::Plan;
use crate::text::command_line;

impl Inputs {
    /// Opens the model's AWQ form where the job may use it. One that nobody asked for and that cannot be read is left
    /// out, with a note.
    pub(super) fn find_awq(&mut self, job: &Job, hub: &Hub) -> Result<(), RunError> {
        let asked = job.awq.is_some() || job.dtypes.contains(&Dtype::Awq);
        let offered = job.dtypes.is_empty() && job.engine.dtypes().contains(&Dtype::Awq);
        if !asked && !offered {
            return Ok(());
        }
        match self.model.open_awq_form(&job.model, job.awq.as_ref(), hub) {
            Ok(form) => self.awq = form.map(Arc::new),
            Err(error) if asked => return Err(error.into()),
            Err(error) => {
                let why = error.to_string();
                self.notes.push(format!("awq is left out: {}", why.lines().next().unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// The precisions that the job runs in: those it names, or every one that the model offers.
    pub fn dtypes(&self, job: &Job) -> Result<Vec<Dtype>, RunError> {
        let packed = self.model.quantization.is_some();
        if job.dtypes.is_empty() {
            let has_awq = (packed || self.awq.is_some()) && job.engine.dtypes().contains(&Dtype::Awq);
            let floating = if packed && has_awq { &[][..] } else { &Dtype::FLOATING };
            return Ok(floating.iter().copied().chain(has_awq.then_some(Dtype::Awq)).collect());
        }
        if job.dtypes.contains(&Dtype::Awq) && !packed && self.awq.is_none() {
            return Err(self.no_awq(job));
        }
        if job.dtypes.contains(&Dtype::Int8) && packed {
            return Err(RunError::invalid(
                format!("the model {} holds {}, of which no int8 is made", self.model.name, self.model.stored_as),
                "give the full-precision model as `--model`, or leave int8 out of `--dtype`",
            ));
        }
        Ok(job.dtypes.clone())
    }

    /// The files that a precision is loaded from.
    pub fn model_in(&self, dtype: Dtype) -> &Arc<ModelSource> {
        self.awq.as_ref().filter(|_| dtype == Dtype::Awq).unwrap_or(&self.model)
    }

    /// What the user should know about the weights: where four bits come from, and what f32 is not.
    pub(super) fn weight_notes(&self, plan: &Plan) -> Vec<String> {
        let form = plan.awq.as_ref().map(|awq| format!("awq runs {} of {}", awq.stored_as, awq.source));
        let arithmetic = (plan.model.quantized && plan.dtypes.contains(&Dtype::F32)).then(|| {
            format!(
                "the weights of {} are stored as {}: f32 here is the arithmetic, not the ground truth",
                plan.model.name, plan.model.stored_as
            )
        });
        form.into_iter().chain(arithmetic).collect()
    }

    /// Offers the commands that make AWQ weights and then run on them.
    fn no_awq(&self, job: &Job) -> RunError {
        let path = job.model.awq_path().display().to_string();
        let mut make = vec!["evalsuite", "quantize", "--model", &job.model.source];
        if job.model.revision != "main" {
            make.extend(["--revision", &job.model.revision]);
        }
        make.extend(["--out", &path]);
        let run = job.command.iter().map(String::as_str).chain(["--awq", &path]);
        RunError::invalid(
            format!("there are no AWQ weights of the model {}", self.model.name),
            format!("make them: `{}`\n  then run on them: `{}`", command_line(make), command_line(run)),
        )
    }
}
