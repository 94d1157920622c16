//! What every command that runs a model is told about it: which, in which precisions, by which engine.

use clap::Args;

use super::session::{open_hub, start_threads};
use super::values::at_least_one;
use crate::engine::model::ModelSpec;
use crate::engine::{Batching, Devices, Dtype, EngineKind};
use crate::fault::Fault;
use crate::hub::{DEFAULT_REVISION, Hub};
use crate::jobs::{JobError, OnGpuFailure, Target, VariantSpec};
use crate::record::VariantName;

/// More than any card has memory for; sizes that are computed from it stay far below what an integer holds.
pub(super) const MOST_BATCH: usize = 65_536;

/// `--dtype none`: the model itself is no column.
pub(in crate::cli) const NO_DTYPE: &str = "none";

/// The flags that name a model and its engine.
#[derive(Debug, Clone, Args)]
pub struct ModelArguments {
    /// `bundled`, a hub id, a folder, or a .gguf file
    #[arg(id = "model", long, value_name = "MODEL", default_value = crate::bundled::NAME, help_heading = "Model")]
    pub source: String,
    /// Revision of a hub model
    #[arg(long, default_value = crate::hub::DEFAULT_REVISION, help_heading = "Model")]
    pub revision: String,
    /// Precisions: f32, f16, bf16, int8, awq [default: f32,f16,bf16, and awq
    /// where the model has AWQ weights; awq alone where it has nothing else];
    /// `none`: only variants
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Model")]
    pub dtype: Vec<String>,
    /// A further checkpoint of the same model as a column of its own, a folder, a
    /// hub id or a .gguf file; AWQ files run as awq, others in f16, unless a
    /// precision stands behind it: NAME=SOURCE@f32; repeatable
    #[arg(long, value_name = "NAME=SOURCE", help_heading = "Model")]
    pub variant: Vec<String>,
    /// The column that the others are compared with, a precision or a variant's
    /// name [default: f32]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub reference: Option<String>,
    /// AWQ weights of the same model, a folder or a hub id [default: the folder
    /// MODEL-awq beside a local model]
    #[arg(long, value_name = "AWQ", help_heading = "Model")]
    pub awq: Option<String>,
    // One of the engines there are.
    #[arg(long, default_value = "auto", help_heading = "Model", help = engines_help())]
    #[expect(missing_docs, reason = "a doc comment would take the place of the help that lists the engines")]
    pub engine: String,
    /// Which GPUs, where the engine runs on one: of several, such as 0,1, each
    /// holds the model, and requests go to whichever has room
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0", help_heading = "Model")]
    pub device: Vec<usize>,
    /// `invariant`: a request's tokens never depend on its batch; `fast`: the
    /// fastest sums for each batch [default: invariant; fast for bench]
    #[arg(long, value_name = "MODE", help_heading = "Model")]
    pub batching: Option<String>,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub threads: Option<usize>,
    /// Use only what is on this machine; ask no hub
    #[arg(long, help_heading = "Model")]
    pub offline: bool,
}

impl ModelArguments {
    /// Checks everything that can be checked without opening a file. `batching` is the command's own, where the user names none.
    pub(super) fn resolve(&self, batching: Batching, batch: Option<usize>) -> Result<Target, JobError> {
        let engine = engine(&self.engine)?;
        at_least_one(&[("--threads", self.threads), ("--batch", batch)])?;
        if let Some(batch) = batch.filter(|batch| *batch > MOST_BATCH) {
            return Err(JobError::invalid(
                format!("--batch {batch} is more than {MOST_BATCH}"),
                "give a smaller one, or leave it out for the engine's choice",
            ));
        }
        let (dtypes, only_variants) = self.own_dtypes(engine)?;
        Ok(Target {
            model: ModelSpec { source: self.source.clone(), revision: self.revision.clone() },
            awq: awq(self.awq.as_deref(), &dtypes)?,
            dtypes,
            only_variants,
            variants: variants(&self.variant, engine)?,
            reference: self.reference.clone(),
            engine,
            devices: Devices::new(self.device.clone())?,
            batching: self.batching.as_deref().map(batching_named).transpose()?.unwrap_or(batching),
            batch,
            on_gpu_failure: OnGpuFailure::Stop,
            endpoints: Vec::new(),
            asking: None,
        })
    }

    /// The model's own precisions, and whether it has none in the run.
    fn own_dtypes(&self, engine: EngineKind) -> Result<(Vec<Dtype>, bool), JobError> {
        if !self.dtype.iter().any(|name| name.trim() == NO_DTYPE) {
            return Ok((dtypes(&self.dtype, engine)?, false));
        }
        if self.dtype.len() > 1 || self.variant.is_empty() {
            return Err(JobError::invalid(
                format!("--dtype {} leaves nothing to run", self.dtype.join(",")),
                "`--dtype none` runs the variants alone: give `--variant NAME=SOURCE` with it, and no other precision",
            ));
        }
        Ok((Vec::new(), true))
    }

    /// Starts the threads that were asked for, and the hub's client.
    pub(super) fn start(&self) -> Result<Hub, JobError> {
        start_threads(self.threads)?;
        open_hub(self.offline)
    }
}

fn engine(name: &str) -> Result<EngineKind, JobError> {
    EngineKind::parse(name).ok_or_else(|| Fault::unknown("engine", name, &EngineKind::NAMES).into())
}

/// The named precisions, the ground truth first, none twice; none if none is named.
pub(in crate::cli) fn dtypes(names: &[String], engine: EngineKind) -> Result<Vec<Dtype>, JobError> {
    let offered = engine.dtypes();
    let known = Dtype::ALL.map(Dtype::name);
    let mut dtypes = names
        .iter()
        .map(|name| {
            let dtype = Dtype::parse(name).ok_or_else(|| Fault::unknown("dtype", name, &known))?;
            if offered.contains(&dtype) {
                return Ok(dtype);
            }
            let offered = offered.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ");
            Err(JobError::invalid(
                format!("the engine asked for does not run in {dtype}"),
                format!("give `--engine cpu`, or one of its own precisions: {offered}"),
            ))
        })
        .collect::<Result<Vec<_>, _>>()?;
    dtypes.sort_unstable();
    dtypes.dedup();
    Ok(dtypes)
}

/// Where the AWQ weights are, if the user says.
fn awq(source: Option<&str>, dtypes: &[Dtype]) -> Result<Option<ModelSpec>, JobError> {
    let Some(source) = source else { return Ok(None) };
    if !dtypes.is_empty() && !dtypes.contains(&Dtype::Awq) {
        return Err(JobError::invalid(
            format!("--awq {source} is of no use without awq among the precisions"),
            "add awq to `--dtype`, or leave `--awq` out",
        ));
    }
    Ok(Some(ModelSpec { source: source.to_owned(), revision: DEFAULT_REVISION.to_owned() }))
}

/// Further checkpoints, `NAME=SOURCE[@DTYPE]` each.
fn variants(words: &[String], engine: EngineKind) -> Result<Vec<VariantSpec>, JobError> {
    let mut found: Vec<VariantSpec> = Vec::new();
    for word in words {
        let variant = variant(word, engine)?;
        if found.iter().any(|before| before.name.as_str().eq_ignore_ascii_case(variant.name.as_str())) {
            return Err(JobError::invalid(
                format!("--variant {word}: there is a variant {} already", variant.name),
                "give each a name of its own",
            ));
        }
        found.push(variant);
    }
    Ok(found)
}

fn variant(word: &str, engine: EngineKind) -> Result<VariantSpec, JobError> {
    const SHAPE: &str = "give it as `NAME=SOURCE`, such as `g128=./model-awq`, or `NAME=SOURCE@f16`";
    let refuse = |why: &str, hint: &str| JobError::invalid(format!("--variant {word}: {why}"), hint);
    let (name, source) = word.split_once('=').ok_or_else(|| refuse("there is no `=` in it", SHAPE))?;
    if let Some(dtype) = Dtype::parse(name) {
        return Err(refuse(
            &format!("{name} is a precision's name, {dtype} of the model itself"),
            "call the variant otherwise, such as after its group size",
        ));
    }
    if name.eq_ignore_ascii_case(NO_DTYPE) {
        return Err(refuse("`none` is no name", SHAPE));
    }
    let name = VariantName::parse(name).map_err(|why| refuse(&format!("its name cannot be used: {why}"), SHAPE))?;
    // What exists under the whole name is meant by it, though an @ stands in it.
    let (source, precision) = match source.rsplit_once('@') {
        Some((before, precision)) if !std::path::Path::new(source).exists() => {
            let known = [precision.to_owned()];
            let precision = dtypes(&known, engine)
                .map_err(|error| refuse(&error.to_string().replacen("\nhint: ", "; ", 1), SHAPE))?;
            (before, precision.first().copied())
        }
        _ => (source, None),
    };
    if source.is_empty() {
        return Err(refuse("its source is empty", SHAPE));
    }
    let model = ModelSpec { source: source.to_owned(), revision: DEFAULT_REVISION.to_owned() };
    Ok(VariantSpec { name, model, precision })
}

fn batching_named(name: &str) -> Result<Batching, JobError> {
    let found = Batching::ALL.into_iter().find(|batching| batching.name() == name.trim());
    found.ok_or_else(|| Fault::unknown("batching", name, &Batching::ALL.map(Batching::name)).into())
}

fn engines_help() -> String {
    EngineKind::NAMES.map(|name| format!("`{name}`")).join(", ")
}
