//! From answers to comparisons: every answer held to its prompt's checks and against the reference's.

use super::{
    Answer, AnswerCloseness, Closeness, ColumnQuality, FirstDivergence, KindQuality, ModelQuality, PromptQuality,
    ShownToken,
};
use crate::record::Session;
use crate::score::statistics::wilson;
use crate::score::{Check, TextAgreement, clustered_wilson, first_divergence, quantile, token_agreement};

/// A prompt with its answers, not yet judged.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The prompt, and its answers with neither verdicts nor comparisons.
    pub prompt: PromptQuality,
    /// What every answer must pass.
    pub checks: Vec<Check>,
}

/// A column, its failure and its sessions.
pub(super) type Column = (String, Option<String>, Vec<Session>);

/// Judges every answer. `reference` is the column that counts as the truth, first among `columns`; `spell` gives a
/// token's text.
pub fn compare(
    model: &str,
    (reference, is_ground_truth): (&str, bool),
    columns: Vec<Column>,
    asked: Vec<Asked>,
    spell: &dyn Fn(u32) -> String,
) -> ModelQuality {
    let prompts: Vec<PromptQuality> = asked.into_iter().map(|one| judge(one, reference, spell)).collect();
    let summary = |(column, failure, sessions): Column| summarise(column, failure, sessions, reference, &prompts);
    ModelQuality {
        model: model.to_owned(),
        reference: reference.to_owned(),
        is_ground_truth,
        columns: columns.into_iter().map(summary).collect(),
        prompts,
    }
}

fn judge(asked: Asked, reference: &str, spell: &dyn Fn(u32) -> String) -> PromptQuality {
    let Asked { mut prompt, checks } = asked;
    prompt.checks = checks.iter().map(Check::in_words).collect();
    let truth = prompt.answers.iter().find(|answer| answer.column == reference).cloned();
    for answer in &mut prompt.answers {
        answer.verdicts = checks.iter().map(|check| check.verdict(&answer.text)).collect();
        answer.against =
            truth.as_ref().filter(|truth| truth.column != answer.column).map(|truth| closeness(truth, answer, spell));
    }
    prompt
}

fn closeness(truth: &Answer, answer: &Answer, spell: &dyn Fn(u32) -> String) -> AnswerCloseness {
    let tokens = truth.token_ids.as_deref().zip(answer.token_ids.as_deref());
    let shown = |tokens: &[u32], index: usize| tokens.get(index).map(|id| ShownToken { id: *id, text: spell(*id) });
    let margin = |answer: &Answer, index: usize| answer.margins.as_ref()?.get(index).copied();
    AnswerCloseness {
        text: TextAgreement::of(&truth.text, &answer.text),
        token_agreement: tokens.map(|(expected, tokens)| token_agreement(expected, tokens)),
        first_divergence: tokens.and_then(|(expected, tokens)| {
            let index = first_divergence(expected, tokens)?;
            Some(FirstDivergence {
                index,
                reference: shown(expected, index),
                token: shown(tokens, index),
                reference_margin: margin(truth, index),
                margin: margin(answer, index),
            })
        }),
    }
}

/// What a column answered: (prompt, its answer), in the set's order.
type Answered<'a> = Vec<(&'a PromptQuality, &'a Answer)>;

fn answered<'a>(column: &str, prompts: impl IntoIterator<Item = &'a PromptQuality>) -> Answered<'a> {
    let of = |prompt: &'a PromptQuality| Some((prompt, prompt.answers.iter().find(|answer| answer.column == column)?));
    prompts.into_iter().filter_map(of).collect()
}

fn summarise(
    column: String,
    failure: Option<String>,
    sessions: Vec<Session>,
    reference: &str,
    prompts: &[PromptQuality],
) -> ColumnQuality {
    let own = answered(&column, prompts);
    let declaring: Vec<&Answer> = own.iter().map(|one| one.1).filter(|answer| !answer.verdicts.is_empty()).collect();
    let verdicts = declaring.iter().enumerate();
    let verdicts = verdicts.flat_map(|(at, answer)| answer.verdicts.iter().map(move |verdict| (at, verdict.passed)));
    let finishes: Option<Vec<bool>> = own.iter().map(|(_, answer)| Some(answer.finish?.is_cut())).collect();
    ColumnQuality {
        failure,
        answers: own.len(),
        cut: finishes.filter(|all| !all.is_empty()).map(|all| all.into_iter().filter(|cut| *cut).count()),
        // The checks of one answer pass and fail together.
        checks: clustered_wilson(&verdicts.collect::<Vec<_>>()),
        prompts_passed: wilson(
            declaring.iter().filter(|answer| answer.passed() == answer.verdicts.len()).count(),
            declaring.len(),
        ),
        against: against(&own, reference),
        kinds: kinds(&column, prompts),
        column,
        sessions,
    }
}

fn against(own: &Answered, reference: &str) -> Option<Closeness> {
    let compared: Vec<(&Answer, &AnswerCloseness, &Answer)> = own
        .iter()
        .filter_map(|(prompt, answer)| {
            let truth = prompt.answers.iter().find(|other| other.column == reference)?;
            Some((*answer, answer.against.as_ref()?, truth))
        })
        .collect();
    let n = compared.len();
    let all = || compared.iter().map(|(_, closeness, _)| *closeness);
    let mean = |value: &dyn Fn(&AnswerCloseness) -> f64| all().map(value).sum::<f64>() / n as f64;
    let divergences: Vec<&FirstDivergence> = all().filter_map(|one| one.first_divergence.as_ref()).collect();
    let agreements: Option<Vec<f64>> = all().map(|one| one.token_agreement).collect();
    let characters = |text: &dyn Fn(&(&Answer, &AnswerCloseness, &Answer)) -> usize| compared.iter().map(text).sum();
    let own_characters: usize = characters(&|(answer, _, _)| answer.text.chars().count());
    let true_characters: usize = characters(&|(_, _, truth)| truth.text.chars().count());
    let changed = |was: bool, is: bool| {
        let pairs = compared.iter().flat_map(|(answer, _, truth)| truth.verdicts.iter().zip(&answer.verdicts));
        pairs.filter(|(before, now)| (before.passed, now.passed) == (was, is)).count()
    };
    Some(Closeness {
        exact: wilson(all().filter(|one| one.text.exact).count(), n)?,
        levenshtein: mean(&|one| one.text.levenshtein),
        jaro_winkler: mean(&|one| one.text.jaro_winkler),
        token_agreement: agreements.map(|all| all.iter().sum::<f64>() / n as f64),
        median_divergence: median(divergences.iter().map(|one| one.index as f64).collect()),
        median_margin: median(divergences.iter().filter_map(|one| one.reference_margin.map(f64::from)).collect()),
        length_ratio: (true_characters > 0).then(|| own_characters as f64 / true_characters as f64),
        checks_lost: changed(true, false),
        checks_gained: changed(false, true),
    })
}

fn kinds(column: &str, prompts: &[PromptQuality]) -> Vec<KindQuality> {
    let mut names: Vec<&String> = Vec::new();
    for kind in prompts.iter().filter_map(|prompt| prompt.kind.as_ref()) {
        if !names.contains(&kind) {
            names.push(kind);
        }
    }
    let summary = |kind: &String| {
        let own = answered(column, prompts.iter().filter(|prompt| prompt.kind.as_ref() == Some(kind)));
        let compared: Vec<&AnswerCloseness> = own.iter().filter_map(|(_, answer)| answer.against.as_ref()).collect();
        KindQuality {
            kind: kind.clone(),
            answers: own.len(),
            exact: (!compared.is_empty()).then(|| compared.iter().filter(|one| one.text.exact).count()),
            checks: own.iter().map(|(_, answer)| answer.verdicts.len()).sum(),
            checks_passed: own.iter().map(|(_, answer)| answer.passed()).sum(),
        }
    };
    names.into_iter().map(summary).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    quantile(&values, 0.5)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::Finish;

    fn answer(column: &str, text: &str, tokens: &[u32], margins: &[f32]) -> Answer {
        Answer {
            column: column.to_owned(),
            text: text.to_owned(),
            token_ids: Some(tokens.to_vec()),
            margins: Some(margins.to_vec()),
            finish: Some(if tokens.len() > 3 { Finish::Length } else { Finish::EndOfSequence }),
            verdicts: Vec::new(),
            against: None,
        }
    }

    fn asked(id: &str, kind: &str, checks: &[Check], answers: Vec<Answer>) -> Asked {
        let prompt = PromptQuality {
            id: id.to_owned(),
            kind: Some(kind.to_owned()),
            text: Some("?".to_owned()),
            checks: Vec::new(),
            rendered: None,
            prompt_sha256: None,
            prompt_ids_sha256: None,
            prompt_tokens: None,
            answers,
        };
        Asked { prompt, checks: checks.to_vec() }
    }

    fn compared() -> ModelQuality {
        let four = [Check::new("equals", &json!("four")).unwrap()];
        let one_word = [Check::new("words", &json!(1)).unwrap(), Check::new("contains", &json!("b")).unwrap()];
        let asked = vec![
            asked(
                "same",
                "x",
                &four,
                vec![answer("f32", "four", &[4, 2], &[1.0, 2.0]), answer("f16", "four", &[4, 2], &[])],
            ),
            asked(
                "other",
                "x",
                &one_word,
                vec![
                    answer("f32", "abcd", &[1, 2, 3], &[1.0, 0.25, 2.0]),
                    answer("f16", "ab d", &[1, 9, 3, 4], &[1.0, 0.5, 2.0, 3.0]),
                ],
            ),
            asked("lost", "y", &[], vec![answer("f32", "", &[], &[])]),
        ];
        let columns = ["f32", "f16"].map(|name| (name.to_owned(), None, Vec::new())).to_vec();
        compare("m", ("f32", true), columns, asked, &|id| format!("t{id}"))
    }

    #[test]
    fn a_column_against_the_reference_by_hand() {
        let quality = compared();
        let [f32, f16] = &quality.columns[..] else { panic!("two columns") };
        assert!(f32.against.is_none() && f32.answers == 3 && f16.answers == 2);
        assert_eq!((f32.cut, f16.cut), (Some(0), Some(1)));
        let against = f16.against.as_ref().unwrap();
        assert_eq!((against.exact.successes, against.exact.n), (1, 2));
        assert_eq!(against.levenshtein, f64::midpoint(1.0, 0.75));
        assert_eq!(against.token_agreement, Some(f64::midpoint(1.0, 0.5)));
        assert_eq!((against.median_divergence, against.median_margin), (Some(1.0), Some(0.25)));
        assert_eq!(against.length_ratio, Some(1.0));
        assert_eq!((against.checks_lost, against.checks_gained), (1, 0), "one word became two");
        let successes = |column: &ColumnQuality| (column.checks.unwrap().successes, column.checks.unwrap().n);
        assert_eq!((successes(f32), successes(f16)), ((3, 3), (2, 3)));
        let together = clustered_wilson(&[("same", true), ("other", false), ("other", true)]);
        assert_eq!(f16.checks, together, "the checks of one answer are no two answers");
        assert_eq!(together.unwrap().clustering.unwrap().clusters, 2);
        assert_eq!(f16.prompts_passed.unwrap().successes, 1);
        let kind = |kind: &str, answers, exact, checks, checks_passed| KindQuality {
            kind: kind.to_owned(),
            answers,
            exact,
            checks,
            checks_passed,
        };
        assert_eq!(f16.kinds, [kind("x", 2, Some(1), 3, 2), kind("y", 0, None, 0, 0)]);
    }

    #[test]
    fn the_first_divergence_names_both_tokens_and_margins() {
        let quality = compared();
        let divergence = quality.prompts[1].answers[1].against.as_ref().unwrap().first_divergence.as_ref().unwrap();
        let token = |id: u32| Some(ShownToken { id, text: format!("t{id}") });
        assert_eq!((divergence.index, &divergence.reference, &divergence.token), (1, &token(2), &token(9)));
        assert_eq!((divergence.reference_margin, divergence.margin), (Some(0.25), Some(0.5)));
        assert!(quality.prompts[0].answers[1].against.as_ref().unwrap().first_divergence.is_none());
    }

    #[test]
    fn without_answers_nothing_is_measured() {
        let columns = ["f32", "f16"].map(|name| (name.to_owned(), None, Vec::new())).to_vec();
        let quality = compare("m", ("f32", true), columns, Vec::new(), &|_| String::new());
        assert!(quality.columns.iter().all(|column| column.against.is_none() && column.checks.is_none()));
        assert!(quality.columns.iter().all(|column| column.cut.is_none()));
    }
}
