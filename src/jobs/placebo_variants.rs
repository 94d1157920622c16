//! Which placebos a run has.

use std::sync::Arc;

use super::{Change, JobError, Model, PlaceboPlan, Target, Variant, Variants};
use crate::engine::{Batching, Precision};
use crate::record::{VariantName, VariantPlan};

/// Requests at a time of a placebo, where the run leaves them to the engine.
const BATCH: usize = 32;

impl Variants {
    /// Adds the columns that should not matter: another arithmetic of 16 bits, where the engine has it; another batch and order, where
    /// tokens may depend on them; another seed, where tokens are drawn.
    pub(crate) fn add_placebos(&mut self, target: &Target, temperature: f64, seed: u64) -> Result<(), JobError> {
        let reference = self.placebos_reference()?;
        let is_remote = matches!(reference.model, Model::Endpoint(_));
        let arithmetic = if reference.precision == Some(Precision::Bf16) { Precision::F16 } else { Precision::Bf16 };
        let can_cast = match &reference.model {
            Model::Local(source) => !source.format.is_packed() && target.engine.dtypes().contains(&arithmetic),
            Model::Endpoint(_) => false,
        };
        let own = match &reference.model {
            Model::Endpoint(endpoint) => Some(endpoint.options.places),
            Model::Local(_) => target.batch,
        };
        let batch = match own {
            None => BATCH,
            Some(1) => 2,
            Some(batch) => batch / 2,
        };
        let changes = [
            can_cast.then_some(Change::Arithmetic),
            (is_remote || target.batching == Batching::Fast).then_some(Change::Batch(batch)),
            (temperature > 0.0).then_some(Change::Seed(seed.wrapping_add(1))),
        ];
        for change in changes.into_iter().flatten() {
            self.add_placebo(&reference, change, arithmetic)?;
        }
        if self.placebos.is_empty() {
            return Err(JobError::invalid(
                format!("--placebo: nothing of {} can be changed that should not matter", reference.name),
                "its engine has no other arithmetic of 16 bits and its answers depend on neither batch nor seed; give `--batching fast` on a \
                 GPU, or a `--temperature`",
            ));
        }
        Ok(())
    }

    /// The run's reference; where it has none, its first variant, which is the most exact of the model's own, becomes it.
    fn placebos_reference(&mut self) -> Result<Variant, JobError> {
        let is_own = |variant: &&Variant| self.reference.as_ref().is_none_or(|own| variant.name == *own);
        let reference = self.all.iter().find(is_own).cloned().ok_or_else(|| {
            JobError::invalid(
                "--placebo: the run has no reference to hold a placebo against",
                "add f32 to `--dtype`, or name another column by `--reference`",
            )
        })?;
        if self.reference.is_none() {
            self.unhashed.reference = Some(reference.name.clone());
            self.reference = Some(reference.name.clone());
        }
        Ok(reference)
    }

    fn add_placebo(&mut self, reference: &Variant, change: Change, arithmetic: Precision) -> Result<(), JobError> {
        let is_own = reference.name.precision().is_some();
        // The model's own bf16 is called so, and may be in the run already.
        let name = match change {
            Change::Arithmetic if is_own => arithmetic.into(),
            change => named(&format!("{}-{}", reference.name, change.suffix(arithmetic)))?,
        };
        let is_there = self.get(&name).is_some();
        let is_precision = name.precision().is_some();
        if is_there && !is_precision {
            return Err(JobError::invalid(
                format!("--placebo: there is a variant {name} already"),
                "call it otherwise: the placebo's name is made of the reference's",
            ));
        }
        self.placebos.push(PlaceboPlan { name: name.clone(), change });
        if is_there {
            return Ok(());
        }
        let precision = if change == Change::Arithmetic { Some(arithmetic) } else { reference.precision };
        let mut variant = Variant { name, model: reference.model.clone(), precision };
        if let (Change::Batch(batch), Model::Endpoint(endpoint)) = (change, &mut variant.model) {
            Arc::make_mut(endpoint).options.places = batch;
        }
        if !is_precision {
            let plan = VariantPlan::of(variant.model.unhashed_plan(), precision);
            self.unhashed.variants.insert(variant.name.clone(), plan);
        }
        self.all.push(variant);
        Ok(())
    }

    /// What the user should know of them.
    pub(super) fn placebo_notes(&self) -> impl Iterator<Item = String> {
        let reference = self.reference.as_ref().map(ToString::to_string).unwrap_or_default();
        let named = self.reference.as_ref().filter(|name| !self.placebos.is_empty() && **name != Precision::F32);
        let named = named.map(|name| format!("changes are told against {name}, the run's reference"));
        let placebos = self.placebos.iter().map(move |PlaceboPlan { name, change }| match change {
            Change::Arithmetic => format!("{name} is a placebo: another arithmetic of 16 bits"),
            Change::Batch(batch) => {
                format!("{name} is a placebo: {reference} with at most {batch} requests at a time, in another order")
            }
            Change::Seed(seed) => format!("{name} is a placebo: {reference} with seed {seed}"),
        });
        named.into_iter().chain(placebos)
    }
}

fn named(name: &str) -> Result<VariantName, JobError> {
    VariantName::parse(name).map_err(|why| {
        JobError::invalid(
            format!("--placebo: the name {name} cannot be used: {why}"),
            "give the reference a shorter one",
        )
    })
}
