//! Which precisions a job runs in, and which files each is loaded from.

use std::sync::Arc;

use super::{Inputs, Job, RunError};
use crate::engine::model::{ModelSource, ModelSpec};
use crate::engine::{Dtype, EngineKind};
use crate::hub::Hub;
use crate::record::{AwqPlan, ModelPlan};
use crate::text::command_line;

/// What of a job decides its precisions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The command line, word by word.
    pub(crate) command: &'a [String],
    /// The model.
    pub(crate) model: &'a ModelSpec,
    /// Its AWQ form, if the user named it.
    pub(crate) awq: Option<&'a ModelSpec>,
    /// Empty means every one that the model offers.
    pub(crate) dtypes: &'a [Dtype],
    /// The engine.
    pub(crate) engine: EngineKind,
}

impl Wanted<'_> {
    /// Opens the model's AWQ form where the job may use it. One that nobody asked for and that cannot be read is left
    /// out, with a note.
    pub(crate) fn find_awq(
        &self,
        model: &ModelSource,
        hub: &Hub,
        notes: &mut Vec<String>,
    ) -> Result<Option<Arc<ModelSource>>, RunError> {
        let asked = self.awq.is_some() || self.dtypes.contains(&Dtype::Awq);
        let offered = self.dtypes.is_empty() && self.engine.dtypes().contains(&Dtype::Awq);
        if !asked && !offered {
            return Ok(None);
        }
        match model.open_awq_form(self.model, self.awq, hub) {
            Ok(form) => Ok(form.map(Arc::new)),
            Err(error) if asked => Err(error.into()),
            Err(error) => {
                let why = error.to_string();
                notes.push(format!("awq is left out: {}", why.lines().next().unwrap_or_default()));
                Ok(None)
            }
        }
    }

    /// The precisions that the job runs in: those it names, or every one that the model offers.
    pub(crate) fn dtypes(&self, model: &ModelSource, has_awq_form: bool) -> Result<Vec<Dtype>, RunError> {
        let packed = model.quantization.is_some();
        if self.dtypes.is_empty() {
            let has_awq = (packed || has_awq_form) && self.engine.dtypes().contains(&Dtype::Awq);
            let floating = if packed && has_awq { &[][..] } else { &Dtype::FLOATING };
            return Ok(floating.iter().copied().chain(has_awq.then_some(Dtype::Awq)).collect());
        }
        if self.dtypes.contains(&Dtype::Awq) && !packed && !has_awq_form {
            return Err(self.no_awq(model));
        }
        if self.dtypes.contains(&Dtype::Int8) && packed {
            return Err(RunError::invalid(
                format!("the model {} holds {}, of which no int8 is made", model.name, model.stored_as),
                "give the full-precision model as `--model`, or leave int8 out of `--dtype`",
            ));
        }
        Ok(self.dtypes.to_vec())
    }

    /// Offers the commands that make AWQ weights and then run on them.
    fn no_awq(&self, model: &ModelSource) -> RunError {
        let path = self.model.awq_path().display().to_string();
        let mut make = vec!["evalsuite", "quantize", "--model", &self.model.source];
        if self.model.revision != "main" {
            make.extend(["--revision", &self.model.revision]);
        }
        make.extend(["--out", &path]);
        let run = self.command.iter().map(String::as_str).chain(["--awq", &path]);
        RunError::invalid(
            format!("there are no AWQ weights of the model {}", model.name),
            format!("make them: `{}`\n  then run on them: `{}`", command_line(make), command_line(run)),
        )
    }
}

/// What the user should know about the weights: where four bits come from, and what f32 is not.
pub(crate) fn weight_notes(model: &ModelPlan, awq: Option<&AwqPlan>, dtypes: &[Dtype]) -> Vec<String> {
    let form = awq.map(|awq| format!("awq runs {} of {}", awq.stored_as, awq.source));
    let arithmetic = (model.quantized && dtypes.contains(&Dtype::F32)).then(|| {
        format!(
            "the weights of {} are stored as {}: f32 here is the arithmetic, not the ground truth",
            model.name, model.stored_as
        )
    });
    form.into_iter().chain(arithmetic).collect()
}

impl Job {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            command: &self.command,
            model: &self.model,
            awq: self.awq.as_ref(),
            dtypes: &self.dtypes,
            engine: self.engine,
        }
    }
}

impl Inputs {
    /// Opens the model's AWQ form where the job may use it.
    pub(super) fn find_awq(&mut self, job: &Job, hub: &Hub) -> Result<(), RunError> {
        self.awq = job.wanted().find_awq(&self.model, hub, &mut self.notes)?;
        Ok(())
    }

    /// The precisions that the job runs in: those it names, or every one that the model offers.
    pub fn dtypes(&self, job: &Job) -> Result<Vec<Dtype>, RunError> {
        job.wanted().dtypes(&self.model, self.awq.is_some())
    }

    /// The files that a precision is loaded from.
    pub fn model_in(&self, dtype: Dtype) -> &Arc<ModelSource> {
        self.awq.as_ref().filter(|_| dtype == Dtype::Awq).unwrap_or(&self.model)
    }
}
