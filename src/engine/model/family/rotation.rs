//! Rotary positions as `config.json` describes them.

use serde_json::Value;

use crate::EngineError;
use crate::fault::Fault;
use crate::model::config::{PositionKind, RotaryScaling};
use crate::model::fields::{Fields, damaged, unsupported};

/// How queries and keys are rotated.
pub(super) struct Rotation {
    pub(super) position: PositionKind,
    /// Elements of a head, where that is not all of it.
    pub(super) rotated_elements: Option<usize>,
    /// Of the frequencies, for `LongRoPE`.
    pub(super) divisors: Vec<f64>,
    /// The context in which these hold.
    pub(super) context_tokens: usize,
}

impl Rotation {
    /// `rope_theta` and `rope_scaling`, or both inside the newer `rope_parameters`. `theta` and `part` are the family's: `part` is what
    /// of a head is rotated, `None` in families that rotate all of it.
    pub(super) fn read(
        fields: &Fields,
        (theta, part): (f64, Option<f64>),
        head_dim: usize,
        context_tokens: usize,
    ) -> Result<Self, EngineError> {
        let section = match fields.section("rope_parameters")? {
            Some(newer) => Some(newer),
            None => fields.section("rope_scaling")?,
        };
        let in_section = |key| section.as_ref().map(|section| section.positive(key)).transpose().map(Option::flatten);
        let theta = in_section("rope_theta")?.or(fields.positive("rope_theta")?).unwrap_or(theta);
        let key = "partial_rotary_factor";
        let asked = in_section(key)?.or(fields.positive(key)?);
        if part.is_none() && asked.is_some_and(|part| (part - 1.0).abs() > 0.0) {
            return Err(unsupported(fields, key, "rotary embedding of a part of each head"));
        }
        let part = asked.or(part).unwrap_or(1.0);
        if part > 1.0 {
            return Err(damaged(format!("{}: `{key}` is {part}, above 1", fields.file)));
        }
        let rotated = (head_dim as f64 * part) as usize;
        let mut rotation = Self {
            position: PositionKind::Rotary { theta, scaling: RotaryScaling::None },
            rotated_elements: (rotated != head_dim).then_some(rotated),
            divisors: Vec::new(),
            context_tokens,
        };
        if let Some(section) = section {
            let scaling = rotation.scaling(fields, &section, rotated)?;
            rotation.position = PositionKind::Rotary { theta, scaling };
        }
        Ok(rotation)
    }

    fn scaling(&mut self, fields: &Fields, section: &Fields, rotated: usize) -> Result<RotaryScaling, EngineError> {
        let kind = match section.text("rope_type")? {
            Some(kind) => kind,
            None => section.text("type")?.unwrap_or("default"),
        };
        match kind {
            // NTK's base grows beyond the context that the model was trained in, which is all that is used here.
            "default" | "dynamic" => Ok(RotaryScaling::None),
            "linear" => Ok(RotaryScaling::Linear { factor: section.required_number("factor")? }),
            "llama3" => Ok(RotaryScaling::Llama3 {
                factor: section.required_number("factor")?,
                low_frequency_factor: section.required_number("low_freq_factor")?,
                high_frequency_factor: section.required_number("high_freq_factor")?,
                original_context_tokens: section.required("original_max_position_embeddings")?,
            }),
            // Phi-3's first files have other names for it.
            "yarn" | "su" if section.map.contains_key("short_factor") => self.long_rope(fields, section, rotated),
            "longrope" => self.long_rope(fields, section, rotated),
            "yarn" => self.yarn(fields, section),
            other => {
                let known = ["default", "linear", "dynamic", "llama3", "yarn", "longrope"];
                let Fault { what, hint } = Fault::unknown("rotary scaling", other, &known);
                Err(EngineError::invalid(format!("{}: {what}", section.file), hint))
            }
        }
    }

    /// The context before stretching, and by how much it is stretched.
    fn stretched(&self, fields: &Fields, section: &Fields) -> Result<(usize, f64), EngineError> {
        let key = "original_max_position_embeddings";
        let original = fields.count(key)?.or(section.count(key)?).unwrap_or(self.context_tokens).max(1);
        let factor = section.positive("factor")?.unwrap_or(self.context_tokens as f64 / original as f64);
        Ok((original, factor))
    }

    fn yarn(&self, fields: &Fields, section: &Fields) -> Result<RotaryScaling, EngineError> {
        let (original_context_tokens, factor) = self.stretched(fields, section)?;
        let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * libm::log(factor) + 1.0 };
        // A zero means none, as in transformers.
        let scale = |key| section.number(key).map(|scale| scale.filter(|scale| scale.abs() > 0.0));
        let magnitude = match (section.positive("attention_factor")?, scale("mscale")?, scale("mscale_all_dim")?) {
            (Some(factor), _, _) => factor,
            (None, Some(scale), Some(all)) => magnitude(scale) / magnitude(all),
            _ => magnitude(1.0),
        };
        Ok(RotaryScaling::Yarn {
            factor,
            beta_fast: section.positive("beta_fast")?.unwrap_or(32.0),
            beta_slow: section.positive("beta_slow")?.unwrap_or(1.0),
            original_context_tokens,
            truncate: section.flag("truncate")?.unwrap_or(true),
            magnitude,
        })
    }

    /// Within the original context. Beyond it all frequencies have other divisors, those of the keys that are stored too.
    fn long_rope(&mut self, fields: &Fields, section: &Fields, rotated: usize) -> Result<RotaryScaling, EngineError> {
        let (original, factor) = self.stretched(fields, section)?;
        let key = "short_factor";
        let divisors = section.list(key, "a list of numbers", Value::as_f64)?.unwrap_or_default();
        let (count, expected) = (divisors.len(), rotated / 2);
        if count != expected || divisors.iter().any(|divisor| !divisor.is_finite() || *divisor <= 0.0) {
            let what = format!("`{key}` has {count} numbers, not {expected} above 0");
            return Err(damaged(format!("{}: {what}", section.file)));
        }
        let magnitude = match section.positive("attention_factor")? {
            Some(magnitude) => magnitude,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + libm::log(factor) / libm::log(original as f64)).sqrt(),
        };
        self.divisors = divisors;
        self.context_tokens = self.context_tokens.min(original);
        Ok(RotaryScaling::LongRope { magnitude })
    }
}
