//! Compares a golden file with new outputs.

use super::common;
use super::prompt_change::where_it_changed;
use super::{Change, ChangeKind, FileHash, Golden, Note, Output, ProtocolInput, Tolerance};
use crate::score::{clustered_paired, first_divergence, normalize};
use crate::task::Tier;

/// The differences, in words; equal if `causes`, `outputs` and `whole` are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Changed inputs that fail the comparison even if all outputs are equal: model, rules, sampling.
    pub causes: Vec<String>,
    /// Changed inputs that alone do not fail it.
    pub notes: Vec<String>,
    /// Outputs that differ, by id.
    pub outputs: Vec<(String, Vec<Change>)>,
    /// Why the outputs of the tier `statistical` fail together, if they do.
    pub whole: Vec<String>,
    /// Number of outputs that both have.
    pub compared: usize,
}

impl Comparison {
    /// Whether the comparison passes.
    pub fn is_equal(&self) -> bool {
        self.causes.is_empty() && self.outputs.is_empty() && self.whole.is_empty()
    }

    /// All differences: changed inputs first, then what several outputs have in common, then each output's own.
    pub fn differences(&self) -> Vec<Note> {
        let whole = |what: &String| Note { id: None, outputs: Vec::new(), what: what.clone() };
        let outputs = common::differences(&self.outputs, self.compared);
        self.causes.iter().map(whole).chain(self.whole.iter().map(whole)).chain(outputs).collect()
    }

    /// `its AWQ form changed; 12 of 40 outputs differ (12 in tokens, 3 in scores), the first is 4`
    pub fn in_words(&self) -> String {
        let outputs = match self.outputs.first() {
            None => format!("no output of {} differs", self.compared),
            Some((first, _)) => {
                let (count, all) = (self.outputs.len(), self.compared.max(self.outputs.len()));
                format!("{count} of {all} outputs differ ({}), the first is {first}", self.kinds())
            }
        };
        let subject = |cause: &String| cause.split(": ").next().unwrap_or(cause).to_owned();
        let causes: Vec<String> = self.causes.iter().map(subject).collect();
        match (causes.is_empty(), self.whole.is_empty()) {
            (false, _) => format!("{} changed; {outputs}", causes.join(", ")),
            (true, false) => format!("worse beyond the margin; {outputs}"),
            (true, true) => outputs,
        }
    }

    fn kinds(&self) -> String {
        let count = |kind: ChangeKind| {
            let has = |changes: &[Change]| changes.iter().any(|change| change.kind == kind);
            self.outputs.iter().filter(|(_, changes)| has(changes)).count()
        };
        let kinds = [
            (ChangeKind::Presence, "orphaned or missing"),
            (ChangeKind::Prompt, "in the prompt"),
            (ChangeKind::Tokens, "in tokens"),
            (ChangeKind::Verdict, "in scores"),
        ];
        let counted = kinds.into_iter().map(|(kind, name)| (count(kind), name)).filter(|(count, _)| *count > 0);
        counted.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }
}

/// Compares `new` with the golden file `old` under the tiers of `old`. `spell` gives a token's text, if the
/// tokenizer is available.
pub fn compare(old: &Golden, new: &Golden, spell: Option<&dyn Fn(u32) -> String>) -> Comparison {
    let mut comparison = Comparison::default();
    inputs(old, new, &mut comparison);
    let rule = new.headline().or(old.headline());
    let mut pairs: Vec<(&str, bool, bool)> = Vec::new();
    for was in &old.outputs {
        let Some(is) = new.outputs.iter().find(|output| output.id == was.id) else {
            let what = "orphaned: it is not asked any more".to_owned();
            comparison.outputs.push((was.id.clone(), vec![ChangeKind::Presence.because(what)]));
            continue;
        };
        comparison.compared += 1;
        let changes = output(was, is, old.tier_of(was), spell);
        if !changes.is_empty() {
            comparison.outputs.push((was.id.clone(), changes));
        }
        if old.tier_of(was) == Tier::Statistical
            && let (Some(before), Some(now)) = goodness(was, is, rule)
        {
            pairs.push((question(&was.id), before, now));
        }
    }
    for is in &new.outputs {
        if !old.outputs.iter().any(|output| output.id == is.id) {
            let what = "missing: the golden file has no output of it".to_owned();
            comparison.outputs.push((is.id.clone(), vec![ChangeKind::Presence.because(what)]));
        }
    }
    comparison.whole.extend(inferiority(&pairs, rule, old.margin_points.unwrap_or(Tolerance::MARGIN_POINTS)));
    comparison
}

/// Whether either is good, by one rule: `headline` where both were scored by it, else the first of the older.
fn goodness(was: &Output, is: &Output, headline: Option<&str>) -> (Option<bool>, Option<bool>) {
    let by = |output: &Output, rule: &str| output.scores.iter().any(|score| score.rule == rule);
    let known = headline.filter(|rule| by(was, rule) && by(is, rule));
    let rule = known.or(was.scores.first().map(|score| score.rule.as_str()).filter(|rule| by(is, rule)));
    (was.is_good(rule), is.is_good(rule))
}

/// What all repeats of an output answer: its id without the repeat's number.
fn question(id: &str) -> &str {
    id.split_once(", repeat ").map_or(id, |(question, _)| question)
}

/// Whether the outputs are worse by more than the margin: the lower end of Tango's 95 % score interval of the paired
/// difference, which takes repeats of one question together ([`clustered_paired`]), must lie above −margin.
fn inferiority(pairs: &[(&str, bool, bool)], rule: Option<&str>, margin_points: f64) -> Option<String> {
    let paired = clustered_paired(pairs)?;
    let (lost, gained, n) = (paired.lost, paired.gained, pairs.len());
    // As many correct answers as before is no loss, however few there are.
    if lost == 0 || paired.difference_low * 100.0 > -margin_points {
        return None;
    }
    let by = rule.map_or_else(String::new, |rule| format!(" by the rule {rule}"));
    let together = paired.clustering.map_or("", |_| ", repeats taken together");
    Some(format!(
        "statistical:{by} of {n} outputs {lost} were right and are wrong, {gained} the other way round: {:+.1} points, 95 % \
         interval {:+.1} to {:+.1} (Tango's paired score interval{together}), which reaches below the margin of -{margin_points}",
        paired.difference * 100.0,
        paired.difference_low * 100.0,
        paired.difference_high * 100.0
    ))
}

fn inputs(old: &Golden, new: &Golden, found: &mut Comparison) {
    let (was, is) = (&old.inputs, &new.inputs);
    // The tier `statistical` exists to compare other weights.
    let held = old.outputs.iter().any(|output| old.tier_of(output) != Tier::Statistical);
    let weights = [
        ("the model", Some(&was.model), Some(&is.model)),
        ("its AWQ form", was.awq.as_ref(), is.awq.as_ref()),
        ("the variant", was.variant.as_ref(), is.variant.as_ref()),
    ];
    for (name, was, is) in weights {
        // What the weights are called may change; their hash decides.
        if was.map(|file| &file.sha256) != is.map(|file| &file.sha256) {
            let shown = |hash: Option<&FileHash>| {
                hash.map_or_else(|| "none".to_owned(), |hash| format!("{} ({})", hash.sha256, hash.stored_as))
            };
            let what = format!("{name}: sha256 was {}, is {}", shown(was), shown(is));
            if held { found.causes.push(what) } else { found.notes.push(what) }
        }
    }
    let shown = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let files = [
        (
            "the dataset",
            was.dataset.as_ref().map(|file| format!("{} {} {}", file.name, file.split, file.sha256)),
            is.dataset.as_ref().map(|file| format!("{} {} {}", file.name, file.split, file.sha256)),
        ),
        (
            "the prompt set",
            was.prompts.as_ref().map(|file| format!("{} {}", file.name, file.sha256)),
            is.prompts.as_ref().map(|file| format!("{} {}", file.name, file.sha256)),
        ),
    ];
    for (name, was, is) in files {
        if was != is {
            found.notes.push(format!("{name}: was {}, is {}", shown(was), shown(is)));
        }
    }
    if let (Some(was), Some(is)) = (&was.protocol, &is.protocol) {
        let decides = old.outputs.iter().any(|output| old.tier_of(output) == Tier::Statistical);
        protocol(was, is, decides, found);
    }
    if was.chat != is.chat {
        found.causes.push(format!("the chat template: use of it was {}, is {}", was.chat, is.chat));
    }
    let (was, is) = (&was.generation, &is.generation);
    let settings = [
        ("temperature", was.temperature.to_string(), is.temperature.to_string()),
        ("top-p", was.top_p.to_string(), is.top_p.to_string()),
        ("top-k", was.top_k.to_string(), is.top_k.to_string()),
        ("the seed", was.seed.to_string(), is.seed.to_string()),
        ("repeats", was.repeats.to_string(), is.repeats.to_string()),
        ("max-tokens", was.max_tokens.to_string(), is.max_tokens.to_string()),
        ("stop strings", format!("{:?}", was.stop_strings), format!("{:?}", is.stop_strings)),
    ];
    for (name, was, is) in settings {
        if was != is {
            found.causes.push(format!("{name}: was {was}, is {is}"));
        }
    }
    let (was, is) = (&old.provenance.engine, &new.provenance.engine);
    if was != is {
        found.notes.push(format!("the engine: was {was}, is {is}"));
    }
}

/// `decides`: some output is held by whether the headline rule finds it right.
fn protocol(was: &ProtocolInput, is: &ProtocolInput, decides: bool, found: &mut Comparison) {
    if was.sha256 != is.sha256 {
        let versions = if (&was.name, was.version) == (&is.name, is.version) {
            format!("; its version is {} as before: raise it", is.version)
        } else {
            String::new()
        };
        found.notes.push(format!(
            "the protocol: was {} (version {}, sha256 {}), is {} (version {}, sha256 {}){versions}",
            was.name, was.version, was.sha256, is.name, is.version, is.sha256
        ));
    }
    if let (Some(before), Some(now)) = (&was.headline, &is.headline)
        && before != now
    {
        let what = format!("the headline rule of protocol {}: was {before}, is {now}", is.name);
        if decides { found.causes.push(what) } else { found.notes.push(what) }
    }
    if was.rules.is_empty() || is.rules.is_empty() {
        return;
    }
    for before in &was.rules {
        match is.rules.iter().find(|rule| rule.rule == before.rule) {
            None => found.causes.push(format!("rule {} of protocol {}: is no more", before.rule, is.name)),
            Some(now) if now != before => found.causes.push(format!(
                "rule {} of protocol {}: was {}, is {}",
                before.rule, is.name, before.extracts, now.extracts
            )),
            Some(_) => {}
        }
    }
    for now in is.rules.iter().filter(|now| !was.rules.iter().any(|before| before.rule == now.rule)) {
        found.causes.push(format!("rule {} of protocol {}: is new: {}", now.rule, is.name, now.extracts));
    }
}

/// The differences of one output that its tier counts.
fn output(was: &Output, is: &Output, tier: Tier, spell: Option<&dyn Fn(u32) -> String>) -> Vec<Change> {
    let mut changes = Vec::new();
    if was.prompt_sha256 != is.prompt_sha256 {
        let (place, key) = match (&was.prompt, &is.prompt) {
            (Some(was), Some(is)) => (where_it_changed(was, is), common::prompt_key(was, is)),
            _ => (format!("sha256 was {}, is {}", was.prompt_sha256, is.prompt_sha256), String::new()),
        };
        changes.push(Change { kind: ChangeKind::Prompt, what: format!("the prompt changed {place}"), key });
    } else if let (Some(before), Some(now)) = (&was.prompt_ids_sha256, &is.prompt_ids_sha256)
        && before != now
    {
        let what = "the prompt's text is the same, and its tokens are not: another tokenizer";
        changes.push(ChangeKind::Prompt.because(what.to_owned()));
    }
    if tier == Tier::Tokens {
        changes.extend(tokens(was, is, spell).map(|what| ChangeKind::Tokens.because(what)));
    }
    if tier != Tier::Statistical {
        changes.extend(verdicts(was, is, tier).into_iter().map(|what| ChangeKind::Verdict.because(what)));
    }
    changes
}

fn tokens(was: &Output, is: &Output, spell: Option<&dyn Fn(u32) -> String>) -> Option<String> {
    let shown = |tokens: &[u32], index: usize| match (tokens.get(index), spell) {
        (None, _) => "the end".to_owned(),
        (Some(id), None) => format!("id {id}"),
        (Some(id), Some(spell)) => format!("{:?} (id {id})", spell(*id)),
    };
    if let Some(index) = first_divergence(&was.token_ids, &is.token_ids) {
        let (old, new) = (shown(&was.token_ids, index), shown(&is.token_ids, index));
        return Some(format!("token {index} was {old}, is {new}"));
    }
    if was.text != is.text {
        return Some(format!("the same tokens, but their text changed {}", where_it_changed(&was.text, &is.text)));
    }
    (was.finish != is.finish).then(|| format!("it ended by {:?}, now by {:?}", was.finish, is.finish))
}

fn verdicts(was: &Output, is: &Output, tier: Tier) -> Vec<String> {
    let mut changes = Vec::new();
    let right = |correct: bool| if correct { "right" } else { "wrong" };
    let value =
        |value: &Option<String>| value.as_ref().map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
    for before in &was.scores {
        // Added and removed rules are reported once, as a cause.
        let Some(now) = is.scores.iter().find(|score| score.rule == before.rule) else { continue };
        let same_value = match tier {
            Tier::Tokens => before.value == now.value,
            _ => before.value.as_deref().map(normalize) == now.value.as_deref().map(normalize),
        };
        if !same_value || before.correct != now.correct {
            changes.push(format!(
                "rule {} extracted {} ({}), now {} ({})",
                before.rule,
                value(&before.value),
                right(before.correct),
                value(&now.value),
                right(now.correct)
            ));
        }
    }
    for before in &was.checks {
        match is.checks.iter().find(|verdict| verdict.check == before.check) {
            None => changes.push(format!("check `{}` is no more", before.check)),
            Some(now) if now.passed != before.passed => {
                let said = |passed: bool| if passed { "passed" } else { "failed" };
                let found = now.found.as_ref().map_or_else(String::new, |found| format!(" ({found})"));
                changes.push(format!("check `{}` {}, now {}{found}", now.check, said(before.passed), said(now.passed)));
            }
            Some(_) => {}
        }
    }
    for now in is.checks.iter().filter(|now| !was.checks.iter().any(|before| before.check == now.check)) {
        changes.push(format!("check `{}` is new", now.check));
    }
    changes
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
