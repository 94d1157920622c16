//! The columns of a run: which there are, what each is loaded from, and which one the others are compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Checkpoints, JobError, Model, PlaceboPlan, Target};
use crate::engine::Precision;
use crate::engine::model::ModelSource;
use crate::engine::model::quant::Origin;
use crate::fault::Fault;
use crate::record::{TargetPlan, VariantName};
use crate::text::command_line;

/// One column of a run: a checkpoint of the model in a precision.
#[derive(Debug, Clone)]
pub struct Variant {
    /// What it is called in every file and table.
    pub name: VariantName,
    /// What it is loaded from.
    pub model: Model,
    /// What it computes in; `None` where the target does not tell.
    pub precision: Option<Precision>,
}

/// Every column of a run, in order, with what plans and records say of them.
#[derive(Debug, Clone)]
pub struct Variants {
    pub(super) all: Vec<Variant>,
    /// The model itself, of which none need be a variant.
    pub(super) model: Model,
    /// Their provenance but for hashes.
    pub(super) unhashed: TargetPlan,
    /// The one that the others are compared with, if the run has one.
    pub reference: Option<VariantName>,
    /// Those that should not matter.
    pub placebos: Vec<PlaceboPlan>,
}

impl Variants {
    /// In order: the reference that the user named, the model's own precisions, the ground truth first, then further checkpoints.
    pub fn iter(&self) -> impl Iterator<Item = &Variant> {
        self.all.iter()
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<VariantName> {
        self.all.iter().map(|variant| variant.name.clone()).collect()
    }

    /// Every name that rows measured elsewhere may know them by: their own, and their precisions'.
    pub(crate) fn known_as(&self) -> Vec<&str> {
        let of = |variant: &'_ Variant| variant.precision.map(Precision::name);
        self.all.iter().map(|variant| variant.name.as_str()).chain(self.all.iter().filter_map(of)).collect()
    }

    /// One by its name.
    pub fn get(&self, name: &VariantName) -> Option<&Variant> {
        self.all.iter().find(|variant| variant.name == *name)
    }

    /// Their provenance; waits for the hashes of their files.
    pub fn plan(&self) -> Result<TargetPlan, JobError> {
        let mut plan = self.unhashed.clone();
        plan.model.sha256 = self.model.sha256()?;
        for Variant { name, model, .. } in &self.all {
            if let Some(further) = plan.variants.get_mut(name) {
                further.sha256 = model.sha256()?;
            } else if let Some(awq) = plan.awq.as_mut().filter(|_| *name == Precision::Awq) {
                awq.sha256 = model.sha256()?.unwrap_or_default();
            }
        }
        Ok(plan)
    }

    /// Whether a server is among them.
    pub(crate) fn has_endpoint(&self) -> bool {
        self.unhashed.has_endpoint()
    }

    /// The variant that the user named as the reference, else f32, whether the run has it or not.
    pub(crate) fn wanted_reference(&self) -> VariantName {
        self.unhashed.reference.clone().unwrap_or_else(|| Precision::F32.into())
    }

    /// A short name of the model for tables.
    pub fn model_name(&self) -> &str {
        self.model.name()
    }

    /// What the user should know about the weights: where variants come from, and what f32 is not.
    pub(crate) fn notes(&self) -> Vec<String> {
        let TargetPlan { model, awq, variants, .. } = &self.unhashed;
        let mut notes: Vec<String> =
            awq.iter().map(|awq| format!("awq runs {} of {}", awq.stored_as, awq.source)).collect();
        if model.quantized && self.get(&Precision::F32.into()).is_some() {
            notes.push(format!(
                "the weights of {} are stored as {}: f32 here is the arithmetic, not the ground truth",
                model.name,
                model.stored_as.as_deref().unwrap_or("unknown")
            ));
        }
        notes.extend(variants.iter().map(|(name, plan)| {
            let precision = plan.precision.map_or_else(String::new, |precision| format!(" in {precision}"));
            match &plan.stored_as {
                Some(stored_as) => format!("{name} runs {stored_as} of {}{precision}", plan.source),
                None => format!("{name} asks {} at {}", plan.name, plan.source),
            }
        }));
        notes.extend(self.placebo_notes());
        notes
    }
}

impl Checkpoints {
    /// The columns that a job runs: the precisions that it names, or every one that the model offers, and its further checkpoints.
    /// `command` is the job's command line, word by word.
    pub fn variants(&self, target: &Target, command: &[String]) -> Result<Variants, JobError> {
        let mut all = match &self.model {
            Model::Local(source) => self.own_variants(source, &target.own_precisions(self, source, command)?),
            Model::Endpoint(endpoint) => vec![Variant {
                name: VariantName::parse("endpoint").map_err(|why| JobError::invalid(why, "report this"))?,
                model: Model::Endpoint(endpoint.clone()),
                precision: None,
            }],
        };
        all.extend(self.further.iter().map(|further| Variant {
            name: further.name.clone(),
            model: further.model.clone(),
            precision: further.precision,
        }));
        let named = target.reference.as_deref().map(|name| reference(name, &all)).transpose()?;
        // The reference runs first: the others are held against it as they come.
        if let Some(place) = named.as_ref().and_then(|name| all.iter().position(|variant| variant.name == *name)) {
            all[..=place].rotate_right(1);
        }
        let runs_awq = all.iter().any(|variant| variant.name == Precision::Awq);
        let variants = self.further.iter().map(|further| (further.name.clone(), further.unhashed_plan()));
        let plan = TargetPlan {
            model: self.model.unhashed_plan(),
            awq: self.awq.as_ref().filter(|_| runs_awq).map(super::provenance::awq_plan),
            variants: variants.collect::<BTreeMap<_, _>>(),
            reference: named,
        };
        let reference = plan.reference_among(all.iter().map(|variant| &variant.name));
        Ok(Variants { all, model: self.model.clone(), unhashed: plan, reference, placebos: Vec::new() })
    }

    /// The model itself in precisions; awq from its AWQ form, where that lies in files of its own.
    fn own_variants(&self, source: &Arc<ModelSource>, precisions: &[Precision]) -> Vec<Variant> {
        let files = |precision: Precision| self.awq.as_ref().filter(|_| precision == Precision::Awq).unwrap_or(source);
        let variant = |precision: &Precision| Variant {
            name: (*precision).into(),
            model: Model::Local(Arc::clone(files(*precision))),
            precision: Some(*precision),
        };
        precisions.iter().map(variant).collect()
    }
}

/// The variant that `--reference` means, by its name or by another name of its precision.
fn reference(name: &str, all: &[Variant]) -> Result<VariantName, JobError> {
    let by_precision = Precision::parse(name).map(VariantName::from);
    let means = |variant: &&Variant| variant.name.as_str() == name || Some(&variant.name) == by_precision.as_ref();
    all.iter().find(means).map(|variant| variant.name.clone()).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|variant| variant.name.as_str()).collect();
        let Fault { hint, .. } = Fault::unknown("variant", name, &known);
        JobError::invalid(format!("--reference {name}: the run has no such variant"), hint)
    })
}

impl Target {
    /// The precisions of the model itself that the job runs in: those it names, or every one that the model offers.
    fn own_precisions(
        &self,
        checkpoints: &Checkpoints,
        model: &ModelSource,
        command: &[String],
    ) -> Result<Vec<Precision>, JobError> {
        if self.only_variants {
            return Ok(Vec::new());
        }
        let has_awq_form = checkpoints.awq.is_some();
        let own = model.format.is_packed().then(|| Precision::of(model.format));
        if self.dtypes.is_empty() {
            let packed = own.or(has_awq_form.then_some(Precision::Awq));
            let packed = packed.filter(|packed| self.engine.dtypes().contains(packed));
            let floating = if own.is_some() && packed.is_some() { &[][..] } else { &Precision::FLOATING };
            return Ok(floating.iter().copied().chain(packed).collect());
        }
        if self.dtypes.contains(&Precision::Awq) && own != Some(Precision::Awq) && !has_awq_form {
            return Err(self.no_awq(command, model));
        }
        let made = |dtype: &&Precision| matches!(dtype.format.entry().origin, Origin::Packed);
        if let Some(dtype) = self.dtypes.iter().find(made).filter(|_| own.is_some()) {
            return Err(super::target::not_made(model, dtype.name(), &format!("leave {dtype} out of `--dtype`")));
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
