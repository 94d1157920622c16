//! What a job runs, as the user names it, and the checkpoints that it opens to.

use std::sync::Arc;

use super::{Endpoint, EndpointSettings, JobError, Model, OnGpuFailure};
use crate::engine::model::quant::Origin;
use crate::engine::model::{ModelSource, ModelSpec, ModelTokenizer, WeightFormat};
use crate::engine::{Batching, Devices, EngineKind, OpenDevices, OpenOptions, Precision, check_devices};
use crate::hub::Hub;
use crate::openai::{Address, Api};
use crate::record::{VariantName, VariantPlan};
use crate::task::ChatUse;

/// What a job runs: a model in precisions, further checkpoints of it, by an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The model.
    pub model: ModelSpec,
    /// Its AWQ form, if the user named it.
    pub awq: Option<ModelSpec>,
    /// Precisions, the ground truth first, none twice; empty means every one that the model offers.
    pub dtypes: Vec<Precision>,
    /// None of the model itself: only its further checkpoints run.
    pub only_variants: bool,
    /// Further checkpoints of the same model.
    pub variants: Vec<VariantSpec>,
    /// The variant that the others are compared with; `None` is f32.
    pub reference: Option<String>,
    /// The engine.
    pub engine: EngineKind,
    /// Which GPUs, where the engine runs on one; several share the requests.
    pub devices: Devices,
    /// Whether a request's tokens may depend on its batch.
    pub batching: Batching,
    /// Requests that advance together at most, on each device.
    pub batch: Option<usize>,
    /// What becomes of completions when a GPU fails in mid-run.
    pub on_gpu_failure: OnGpuFailure,
    /// Endpoints in place of the model's files, all of one model.
    pub endpoints: Vec<Address>,
    /// How endpoints are asked, these and those among the variants; `None` where the job asks none.
    pub asking: Option<EndpointSettings>,
}

/// A further checkpoint of the model, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantSpec {
    /// What its column is called.
    pub name: VariantName,
    /// Where it is.
    pub model: ModelSpec,
    /// What it computes in; `None` is its own format, in f16.
    pub precision: Option<Precision>,
}

/// What a target opens to: files, read as far as every precision shares them.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// The model.
    pub model: Model,
    /// Its AWQ form, where that lies in files of its own.
    pub awq: Option<Arc<ModelSource>>,
    /// Further checkpoints of the same model.
    pub further: Vec<Further>,
    /// What the user should know about them.
    pub notes: Vec<String>,
}

/// A further checkpoint, opened, or an endpoint; it has the model's own tokenizer, so that all columns share their tokens.
#[derive(Debug, Clone)]
pub struct Further {
    pub(super) name: VariantName,
    pub(super) model: Model,
    /// `None` of an endpoint, which does not tell.
    pub(super) precision: Option<Precision>,
}

impl Target {
    /// A model in these precisions on the first device, and nothing beside it.
    pub fn new(model: ModelSpec, dtypes: Vec<Precision>, engine: EngineKind) -> Self {
        Self {
            model,
            awq: None,
            dtypes,
            only_variants: false,
            variants: Vec::new(),
            reference: None,
            engine,
            devices: Devices::default(),
            batching: Batching::Invariant,
            batch: None,
            on_gpu_failure: OnGpuFailure::Stop,
            endpoints: Vec::new(),
            asking: None,
        }
    }

    /// The same on the CPU.
    pub(super) fn on_cpu(&self) -> Self {
        Self { engine: EngineKind::Cpu, devices: Devices::default(), ..self.clone() }
    }

    /// Asks for the devices that the engine would run on: a machine without one is a mistake in the command. They are open for as long as
    /// what is returned is held; `None` where endpoints answer. A device that has failed works again once nobody holds it.
    pub(crate) fn check_devices(&self) -> Result<Option<OpenDevices>, JobError> {
        let asks = self.endpoints.is_empty();
        Ok(asks.then(|| check_devices(self.engine, &self.devices)).transpose()?)
    }

    /// How the engine is opened in a precision.
    pub fn open_options(&self, precision: Precision) -> OpenOptions {
        OpenOptions {
            devices: self.devices.clone(),
            batching: self.batching,
            ..OpenOptions::new(self.engine, precision, self.batch)
        }
    }

    /// Opens everything that the target names. An AWQ form that nobody asked for and that cannot be read is left out, with a note.
    pub fn open(&self, hub: &Hub) -> Result<Checkpoints, JobError> {
        if !self.endpoints.is_empty() {
            return self.open_endpoints(hub);
        }
        let model = Arc::new(ModelSource::open(&self.model, hub)?);
        let mut notes = model.tokenizer.notes.clone();
        let awq = self.find_awq(&model, hub, &mut notes)?;
        let further = self.variants.iter().map(|variant| variant.open(&model, self, hub)).collect::<Result<_, _>>()?;
        Ok(Checkpoints { model: Model::Local(model), awq, further, notes })
    }

    /// Endpoints as the model itself; those among the variants beside them.
    fn open_endpoints(&self, hub: &Hub) -> Result<Checkpoints, JobError> {
        let settings = self.asking("--endpoint")?;
        let own = Endpoint::open(&self.endpoints, settings, None, hub)?;
        let mut further = Vec::new();
        for variant in &self.variants {
            let address = variant.address().ok_or_else(|| {
                JobError::invalid(
                    format!(
                        "--variant {}: the files of {} beside an endpoint as the model",
                        variant.name, variant.model.source
                    ),
                    "make the files the model, and the endpoint a variant: `--model FILES --variant NAME=URL`",
                )
            })??;
            let shared = own.options.tokenizer.clone().zip(own.tokenizer_source.clone());
            further.push(variant.endpoint(address, settings, shared, hub)?);
        }
        let notes = own.options.tokenizer.as_ref().map(|tokenizer| tokenizer.notes.clone()).unwrap_or_default();
        Ok(Checkpoints { model: Model::Endpoint(Arc::new(own)), awq: None, further, notes })
    }

    /// How endpoints are asked; `who` names one.
    fn asking(&self, who: &str) -> Result<&EndpointSettings, JobError> {
        self.asking.as_ref().ok_or_else(|| {
            JobError::invalid(
                format!("{who} names an endpoint, and this command reads a model's files"),
                "give a folder, a .gguf file or a hub id; `evalsuite load` measures endpoints",
            )
        })
    }

    fn find_awq(
        &self,
        model: &ModelSource,
        hub: &Hub,
        notes: &mut Vec<String>,
    ) -> Result<Option<Arc<ModelSource>>, JobError> {
        let asked = self.awq.is_some() || self.dtypes.contains(&Precision::Awq);
        let offered = self.dtypes.is_empty() && !self.only_variants && self.engine.dtypes().contains(&Precision::Awq);
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
}

impl VariantSpec {
    /// The address, where an endpoint is named.
    fn address(&self) -> Option<Result<Address, JobError>> {
        Address::is_one(&self.model.source).then(|| Ok(Address::parse(&self.model.source)?))
    }

    fn endpoint(
        &self,
        address: Address,
        settings: &EndpointSettings,
        tokenizer: Option<(Arc<ModelTokenizer>, String)>,
        hub: &Hub,
    ) -> Result<Further, JobError> {
        let endpoint = Endpoint::open(&[address], settings, tokenizer, hub)?;
        Ok(Further { name: self.name.clone(), model: Model::Endpoint(Arc::new(endpoint)), precision: None })
    }

    fn open(&self, model: &ModelSource, target: &Target, hub: &Hub) -> Result<Further, JobError> {
        if let Some(address) = self.address() {
            let settings = target.asking(&format!("--variant {}", self.name))?;
            let shared = (Arc::clone(&model.tokenizer), model.source.clone());
            return self.endpoint(address?, settings, Some(shared), hub);
        }
        let mut source = ModelSource::open(&self.model, hub)?;
        self.check(model, &source)?;
        let natural = if source.format.is_packed() { Precision::of(source.format) } else { Precision::F16 };
        let precision = self.precision.unwrap_or(natural);
        self.check_format(precision.format, &source)?;
        source.tokenizer = Arc::clone(&model.tokenizer);
        Ok(Further { name: self.name.clone(), model: Model::Local(Arc::new(source)), precision: Some(precision) })
    }

    /// Refuses a checkpoint of another model: of another shape, vocabulary or tokenizer.
    fn check(&self, model: &ModelSource, source: &ModelSource) -> Result<(), JobError> {
        match model.difference(source) {
            None => Ok(()),
            Some(different) => Err(JobError::invalid(
                format!("--variant {}: {} is no checkpoint of {}: {different}", self.name, source.source, model.name),
                "name another checkpoint of the same model, such as one made by `evalsuite quantize`; other models run by themselves, \
                 and `evalsuite report RUN RUN` puts them side by side",
            )),
        }
    }

    /// Refuses a format that the files are not in and cannot be cast to.
    fn check_format(&self, format: WeightFormat, source: &ModelSource) -> Result<(), JobError> {
        match &format.entry().origin {
            Origin::Checkpoint(checkpoint) if source.format != format => Err(JobError::invalid(
                format!(
                    "--variant {}: {} is no {} checkpoint: its weights are stored as {}",
                    self.name, source.source, checkpoint.title, source.stored_as
                ),
                checkpoint.hint,
            )),
            Origin::Packed if source.format.is_packed() => {
                Err(not_made(source, format.name(), &format!("leave `@{}` out", format.name())))
            }
            _ => Ok(()),
        }
    }
}

impl Further {
    pub(super) fn unhashed_plan(&self) -> VariantPlan {
        VariantPlan::of(self.model.unhashed_plan(), self.precision)
    }
}

/// What is packed while loading is made of full-precision weights.
pub(super) fn not_made(model: &ModelSource, dtype: &str, otherwise: &str) -> JobError {
    JobError::invalid(
        format!("the model {} holds {}, of which no {dtype} is made", model.name, model.stored_as),
        format!("give the full-precision model as `--model`, or {otherwise}"),
    )
}

impl Checkpoints {
    /// Settles which route endpoints are asked by, where the user has not: whether prompts are chats is the job's to say.
    pub(crate) fn settle_api(&mut self, target: &Target, chat: ChatUse) {
        let asked = target.asking.as_ref().and_then(|settings| settings.api);
        for model in std::iter::once(&mut self.model).chain(self.further.iter_mut().map(|further| &mut further.model)) {
            if let Model::Endpoint(endpoint) = model {
                Arc::make_mut(endpoint).settle(asked, chat);
            }
        }
    }
}

impl Checkpoints {
    /// Tells a server that makes prompts of messages whether the model is to think, as vLLM and SGLang take it. Whether there is such a one.
    pub(crate) fn think(&mut self, thinking: bool) -> bool {
        let Model::Endpoint(endpoint) = &mut self.model else { return false };
        if endpoint.options.api != Api::Chat {
            return false;
        }
        let asked = serde_json::json!({ "enable_thinking": thinking });
        Arc::make_mut(endpoint).options.extra.insert("chat_template_kwargs".to_owned(), asked);
        true
    }
}

impl From<Arc<ModelSource>> for Checkpoints {
    fn from(source: Arc<ModelSource>) -> Self {
        Model::Local(source).into()
    }
}

impl From<Model> for Checkpoints {
    fn from(model: Model) -> Self {
        Self { model, awq: None, further: Vec::new(), notes: Vec::new() }
    }
}
