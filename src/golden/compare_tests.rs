//! Comparisons of hand-made outputs: what each tier reports and what it accepts.

use super::*;
use crate::engine::{Finish, Precision};
use crate::golden::{GOLDEN_FORMAT, Inputs, Provenance, Recipe, RuleInput, Scored, Suite};
use crate::record::GenerationPlan;
use crate::score::Verdict;

fn output(id: &str, tokens: &[u32], text: &str) -> Output {
    Output {
        id: id.to_owned(),
        tier: None,
        prompt: Some("ask".to_owned()),
        prompt_sha256: "aa".to_owned(),
        prompt_ids_sha256: Some("1d".to_owned()),
        token_ids: tokens.to_vec(),
        text: text.to_owned(),
        finish: Finish::EndOfSequence,
        scores: Vec::new(),
        checks: Vec::new(),
    }
}

fn scored(id: &str, value: &str, correct: bool) -> Output {
    let score = Scored { rule: "strict".to_owned(), value: Some(value.to_owned()), correct };
    Output { scores: vec![score], ..output(id, &[1], value) }
}

fn golden(tier: Tier, outputs: Vec<Output>) -> Golden {
    let generation = GenerationPlan {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        seed: 0,
        repeats: 1,
        max_tokens: 8,
        stop_strings: Vec::new(),
        think_end: None,
    };
    let rule = RuleInput { rule: "strict".to_owned(), extracts: "the last match of /a/".to_owned() };
    Golden {
        golden_format: GOLDEN_FORMAT,
        suite: Suite::Gsm8k,
        model: "m".to_owned(),
        dtype: Precision::F32.into(),
        tier,
        margin_points: Some(30.0),
        recipe: Recipe { model: "m".to_owned(), awq: None, arguments: Vec::new() },
        inputs: Inputs {
            model: FileHash { sha256: "00".to_owned(), stored_as: "f32".to_owned() },
            awq: None,
            variant: None,
            dataset: None,
            prompts: None,
            protocol: Some(ProtocolInput {
                name: "p".to_owned(),
                version: 1,
                sha256: "11".to_owned(),
                fewshot_sha256: None,
                headline: None,
                rules: vec![rule],
            }),
            chat: true,
            generation,
        },
        provenance: Provenance {
            date: "d".to_owned(),
            command: "c".to_owned(),
            evalsuite: "1".to_owned(),
            engine: "cpu 1".to_owned(),
            device: "d".to_owned(),
        },
        changes: Vec::new(),
        outputs,
    }
}

fn changes(tier: Tier, was: Output, is: Output) -> Vec<String> {
    let comparison = compare(&golden(tier, vec![was]), &golden(Tier::Tokens, vec![is]), Some(&|id| format!("t{id}")));
    comparison.outputs.into_iter().flat_map(|(_, changes)| changes).map(|change| change.what).collect()
}

#[test]
fn tokens_are_told_by_index_text_and_number() {
    let was = || output("0", &[1, 2, 3], "a");
    assert!(changes(Tier::Tokens, was(), was()).is_empty());
    assert_eq!(
        changes(Tier::Tokens, was(), output("0", &[1, 9, 3], "b")),
        ["token 1 was \"t2\" (id 2), is \"t9\" (id 9)"]
    );
    assert_eq!(changes(Tier::Tokens, was(), output("0", &[1, 2], "b")), ["token 2 was \"t3\" (id 3), is the end"]);
    assert!(
        changes(Tier::Tokens, was(), output("0", &[1, 2, 3], "b"))[0].starts_with("the same tokens, but their text")
    );
    let cut = Output { finish: Finish::Length, ..was() };
    assert_eq!(changes(Tier::Tokens, was(), cut), ["it ended by EndOfSequence, now by Length"]);
    for tier in [Tier::Answer, Tier::Statistical] {
        assert!(changes(tier, was(), output("0", &[7], "z")).is_empty(), "{tier}");
        let other_prompt = Output { prompt_sha256: "bb".to_owned(), prompt: Some("as k".to_owned()), ..was() };
        let change = changes(tier, was(), other_prompt);
        assert_eq!(change, ["the prompt changed at character 2: was \"ask\", is \"as k\""], "{tier}");
    }
}

#[test]
fn a_prompt_with_other_tokens_is_another_prompt() {
    let was = || output("0", &[1, 2, 3], "a");
    for tier in Tier::ALL {
        let other = Output { prompt_ids_sha256: Some("2e".to_owned()), ..was() };
        assert_eq!(
            changes(tier, was(), other),
            ["the prompt's text is the same, and its tokens are not: another tokenizer"]
        );
        // A golden file of before has none, and an endpoint tells none.
        let unknown = || Output { prompt_ids_sha256: None, ..was() };
        assert!(changes(tier, unknown(), was()).is_empty() && changes(tier, was(), unknown()).is_empty());
    }
}

#[test]
fn answers_are_values_and_verdicts() {
    let was = || scored("0", "18", true);
    assert_eq!(
        changes(Tier::Answer, was(), scored("0", "19", false)),
        ["rule strict extracted \"18\" (right), now \"19\" (wrong)"]
    );
    // `$18` and `18` are one answer, but not one text.
    assert!(changes(Tier::Answer, was(), scored("0", "$18", true)).is_empty());
    assert_eq!(changes(Tier::Tokens, was(), scored("0", "$18", true)).len(), 2);
    let verdict = |check: &str, passed| Verdict { check: check.to_owned(), passed, found: None };
    let checked = |checks: &[Verdict]| Output { checks: checks.to_vec(), ..output("0", &[1], "") };
    assert_eq!(
        changes(
            Tier::Answer,
            checked(&[verdict("a", true), verdict("b", true)]),
            checked(&[verdict("a", false), verdict("c", true)])
        ),
        ["check `a` passed, now failed", "check `b` is no more", "check `c` is new"]
    );
}

#[test]
fn a_prompt_s_own_tier_goes_before_the_suite_s() {
    let own = Output { tier: Some(Tier::Statistical), ..output("0", &[1], "a") };
    assert!(changes(Tier::Tokens, own.clone(), output("0", &[2], "b")).is_empty());
    let own = Output { tier: Some(Tier::Tokens), ..own };
    assert_eq!(changes(Tier::Answer, own, output("0", &[2], "b")).len(), 1);
}

#[test]
fn the_statistical_tier_counts_all_of_its_outputs_together() {
    let outputs = |right: usize| (0..20).map(|id| scored(&id.to_string(), "1", id < right)).collect::<Vec<_>>();
    let against =
        |right: usize| compare(&golden(Tier::Statistical, outputs(16)), &golden(Tier::Tokens, outputs(right)), None);
    // Tango's 95 % interval of 0 changes of 20 reaches −16.1 points, of 1 lost −23.6, of 2 lost −30.1.
    for right in [20, 16, 15] {
        assert!(against(right).is_equal(), "{right}");
    }
    // Nothing lost is no loss, whatever the interval of so few leaves open.
    let narrow = Golden { margin_points: Some(5.0), ..golden(Tier::Statistical, outputs(16)) };
    assert!(compare(&narrow, &golden(Tier::Tokens, outputs(16)), None).is_equal());
    assert!(!compare(&narrow, &golden(Tier::Tokens, outputs(15)), None).is_equal());
    for right in [14, 10] {
        let comparison = against(right);
        assert!(!comparison.is_equal() && comparison.outputs.is_empty(), "{right}");
        assert!(
            comparison.whole[0].contains("Tango") && comparison.whole[0].contains("margin of -30"),
            "{comparison:?}"
        );
        assert!(comparison.in_words().starts_with("worse beyond the margin"));
    }
}

/// Four questions answered five times alike are as sure as four answers, not as twenty.
#[test]
fn the_statistical_tier_takes_repeats_of_one_question_together() {
    let id = |index: usize| match index % 5 {
        0 => (index / 5).to_string(),
        repeat => format!("{}, repeat {repeat}", index / 5),
    };
    let outputs = |right: usize| (0..20).map(|index| scored(&id(index), "1", index < right)).collect::<Vec<_>>();
    let against = |margin: f64| {
        let old = Golden { margin_points: Some(margin), ..golden(Tier::Statistical, outputs(20)) };
        compare(&old, &golden(Tier::Tokens, outputs(15)), None)
    };
    // One question of four lost: Tango's interval reaches -69.9 points; of 5 answers of 20 -46.9.
    assert!(against(80.0).is_equal());
    let worse = against(60.0);
    assert!(worse.whole[0].contains("repeats taken together"), "{worse:?}");
}

/// `direct` has `strict` first, which finds nothing in most answers, and `numeric` decides.
#[test]
fn the_statistical_tier_reads_the_headline_rule_and_not_the_first() {
    let both = |id: usize, strict: bool, numeric: bool| {
        let score = |rule: &str, correct| Scored { rule: rule.to_owned(), value: Some("1".to_owned()), correct };
        let scores = vec![score("strict", strict), score("numeric", numeric)];
        Output { scores, ..output(&id.to_string(), &[1], "") }
    };
    let with = |headline: Option<&str>, outputs: Vec<Output>| {
        let mut golden = golden(Tier::Statistical, outputs);
        golden.inputs.protocol.as_mut().unwrap().headline = headline.map(str::to_owned);
        golden
    };
    let was = || (0..20).map(|id| both(id, false, true)).collect::<Vec<_>>();
    let is = |numeric: bool| (0..20).map(|id| both(id, false, numeric)).collect::<Vec<_>>();
    // A golden file of before names no headline: the new outputs' own is read.
    for old in [Some("numeric"), None] {
        let worse = compare(&with(old, was()), &with(Some("numeric"), is(false)), None);
        assert!(
            worse.whole[0].starts_with("statistical: by the rule numeric of 20 outputs 20 were right"),
            "{worse:?}"
        );
        assert!(compare(&with(old, was()), &with(Some("numeric"), is(true)), None).is_equal());
    }
    // Neither names one: the first rule, as before.
    assert!(compare(&with(None, was()), &with(None, is(false)), None).is_equal());
    // A rule that only one side was scored by holds nothing: the first does.
    let only_strict = || (0..20).map(|id| scored(&id.to_string(), "1", true)).collect::<Vec<_>>();
    let lost = compare(&with(None, only_strict()), &with(Some("numeric"), is(true)), None);
    assert!(!lost.whole.is_empty(), "{lost:?}");
    // Another rule that decides is a change of rules where it does decide, and else a note.
    let other = compare(&with(Some("numeric"), was()), &with(Some("strict"), is(true)), None);
    assert!(other.causes[0].contains("the headline rule of protocol p: was numeric, is strict"), "{other:?}");
    let held = |headline| Golden { tier: Tier::Tokens, ..with(Some(headline), was()) };
    let noted = compare(&held("numeric"), &held("strict"), None);
    assert!(noted.is_equal() && noted.notes[0].contains("headline"), "{noted:?}");
}

#[test]
fn inputs_are_causes_or_notes() {
    let base = || golden(Tier::Tokens, vec![scored("0", "1", true)]);
    let changed = |change: &dyn Fn(&mut Golden)| {
        let mut new = base();
        change(&mut new);
        compare(&base(), &new, None)
    };
    assert_eq!(changed(&|_| {}), Comparison { compared: 1, ..Comparison::default() });
    let cause = |change: &dyn Fn(&mut Golden), part: &str| {
        let comparison = changed(change);
        assert!(!comparison.is_equal() && comparison.causes[0].contains(part), "{comparison:?}");
    };
    cause(&|new| new.inputs.model.sha256 = "99".to_owned(), "the model: sha256 was 00 (f32), is 99 (f32)");
    cause(&|new| new.inputs.awq = Some(new.inputs.model.clone()), "its AWQ form: sha256 was none");
    cause(&|new| new.inputs.chat = false, "the chat template: use of it was true, is false");
    cause(&|new| new.inputs.generation.seed = 3, "the seed: was 0, is 3");
    let rules = |new: &mut Golden, change: &dyn Fn(&mut Vec<RuleInput>)| {
        change(&mut new.inputs.protocol.as_mut().unwrap().rules);
    };
    let loosened = RuleInput { rule: "strict".to_owned(), extracts: "the last match of /.*/".to_owned() };
    let wanted = "rule strict of protocol p: was the last match of /a/, is the last match of /.*/";
    cause(&|new| rules(new, &|rules| rules[0] = loosened.clone()), wanted);
    let other = RuleInput { rule: "lax".to_owned(), ..loosened.clone() };
    cause(&|new| rules(new, &|rules| rules[0] = other.clone()), "rule strict of protocol p: is no more");
    cause(&|new| rules(new, &|rules| rules.push(other.clone())), "rule lax of protocol p: is new");

    let noted = changed(&|new| {
        let protocol = new.inputs.protocol.as_mut().unwrap();
        "22".clone_into(&mut protocol.sha256);
        "cuda 1".clone_into(&mut new.provenance.engine);
        protocol.rules.clear();
    });
    assert!(noted.is_equal() && noted.notes.len() == 2 && noted.notes[0].contains("raise it"), "{noted:?}");
}

#[test]
fn a_golden_file_s_text_reads_back() {
    let golden = golden(Tier::Answer, vec![scored("0", "1", true), output("1", &[4, 5], "é\n\"\u{2028}")]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f32.json");
    std::fs::write(&path, golden.to_text().unwrap()).unwrap();
    assert_eq!(Golden::read(&path).unwrap(), golden);
    let empty = Golden { outputs: Vec::new(), ..golden };
    std::fs::write(&path, empty.to_text().unwrap()).unwrap();
    assert_eq!(Golden::read(&path).unwrap(), empty);
}
