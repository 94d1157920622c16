//! What a job runs: which model in which precisions, and which files each is loaded from.

use std::sync::Arc;

use super::JobError;
use crate::engine::model::quant::Origin;
use crate::engine::model::{ModelSource, ModelSpec};
use crate::engine::{Batching, Dtype, EngineKind, OpenOptions, check_device};
use crate::hub::Hub;
use crate::text::command_line;

/// What a job runs: a model, in precisions, by an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The model.
    pub model: ModelSpec,
    /// Its AWQ form, if the user named it.
    pub awq: Option<ModelSpec>,
    /// Precisions, the ground truth first, none twice; empty means every one that the model offers.
    pub dtypes: Vec<Dtype>,
    /// The engine.
    pub engine: EngineKind,
    /// Which GPU, where the engine runs on one.
    pub device: usize,
    /// Whether a request's tokens may depend on its batch.
    pub batching: Batching,
    /// Requests that advance together at most.
    pub batch: Option<usize>,
}

impl Target {
    /// Asks for the device that the engine would run on: a machine without it is a mistake in the command.
    pub(crate) fn check_device(&self) -> Result<(), JobError> {
        Ok(check_device(self.engine, self.device)?)
    }

    /// How the engine is opened in a precision.
    pub(crate) fn open_options(&self, dtype: Dtype) -> OpenOptions {
        OpenOptions { device: self.device, batching: self.batching, ..OpenOptions::new(self.engine, dtype, self.batch) }
    }

    /// Opens the model's AWQ form where the job may use it. One that nobody asked for and that cannot be read is left
    /// out, with a note.
    pub(crate) fn find_awq(
        &self,
        model: &ModelSource,
        hub: &Hub,
        notes: &mut Vec<String>,
    ) -> Result<Option<Arc<ModelSource>>, JobError> {
        let asked = self.awq.is_some() || self.dtypes.contains(&Dtype::Awq);
        let offered = self.dtypes.is_empty() && self.engine.dtypes().contains(&Dtype::Awq);
        if !asked && !offered {
            return Ok(None);
        }
        match model.open_awq_form(&self.model, self.awq.as_ref(), hub) {
            Ok(form) => Ok(form.map(Arc::new)),
            Err(error) if asked => Err(error.into()),
            Err(error) => {
                let why = error.to_string();
                notes.push(format!("awq is left out: {}", why.lines().next().unwrap_or_default()));
                Ok(None)
            }
        }
    }

    /// The precisions that the job runs in: those it names, or every one that the model offers. `command` is the job's command line,
    /// word by word.
    pub(crate) fn dtypes(
        &self,
        command: &[String],
        model: &ModelSource,
        has_awq_form: bool,
    ) -> Result<Vec<Dtype>, JobError> {
        let own = model.format.is_packed().then(|| Dtype::of(model.format));
        if self.dtypes.is_empty() {
            let packed = own.or(has_awq_form.then_some(Dtype::Awq));
            let packed = packed.filter(|packed| self.engine.dtypes().contains(packed));
            let floating = if own.is_some() && packed.is_some() { &[][..] } else { &Dtype::FLOATING };
            return Ok(floating.iter().copied().chain(packed).collect());
        }
        if self.dtypes.contains(&Dtype::Awq) && own != Some(Dtype::Awq) && !has_awq_form {
            return Err(self.no_awq(command, model));
        }
        let made = |dtype: &&Dtype| matches!(dtype.format.entry().origin, Origin::Packed);
        if let Some(dtype) = self.dtypes.iter().find(made).filter(|_| own.is_some()) {
            return Err(JobError::invalid(
                format!("the model {} holds {}, of which no {dtype} is made", model.name, model.stored_as),
                format!("give the full-precision model as `--model`, or leave {dtype} out of `--dtype`"),
            ));
        }
        Ok(self.dtypes.clone())
    }

    /// Offers the commands that make AWQ weights and then run on them.
    fn no_awq(&self, command: &[String], model: &ModelSource) -> JobError {
        let path = self.model.awq_path().display().to_string();
        let mut make = vec!["evalsuite", "quantize", "--model", &self.model.source];
        if self.model.revision != "main" {
            make.extend(["--revision", &self.model.revision]);
        }
        make.extend(["--out", &path]);
        let run = command.iter().map(String::as_str).chain(["--awq", &path]);
        JobError::invalid(
            format!("there are no AWQ weights of the model {}", model.name),
            format!("make them: `{}`\n  then run on them: `{}`", command_line(make), command_line(run)),
        )
    }
}
