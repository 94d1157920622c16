//! A run's answers for people to read: which of them, and for each what every rule took, where, and where it leaves the reference's.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::StoredRun;
use crate::engine::Finish;
use crate::fault::Fault;
use crate::record::{StoredCompletion, StoredSample, VariantName};
use crate::score::{Answer, Extraction};

/// The version of what `--format json` prints; raised when a key changes its meaning.
const READING_FORMAT: u32 = 1;

/// Which answers are shown. Every condition narrows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadingChoice {
    /// Rows of the dataset; empty means all.
    pub samples: Vec<usize>,
    /// Some answer is not right.
    pub wrong: bool,
    /// This variant is right where the reference is wrong, or the other way round; the other conditions then look at this variant alone.
    pub flipped: Option<String>,
    /// Some answer was cut off by a limit of tokens or the context.
    pub cut: bool,
    /// The rule that says what is right, if not the record's headline.
    pub rule: Option<String>,
    /// How many are shown at most.
    pub limit: Option<usize>,
}

/// Answers of a run. With repeats, each repeat of a sample counts for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// `reading`.
    pub kind: &'static str,
    /// `READING_FORMAT`.
    pub format: u32,
    /// The run's folder.
    pub run: String,
    /// The task, for headings: `GSM8K`.
    pub title: String,
    /// The rule that says what is right.
    pub rule: String,
    /// The variant that answers are held against: the run's reference, else its first.
    pub against: VariantName,
    /// What was asked for, in words: `wrong by numeric`, `cut`.
    pub conditions: Vec<String>,
    /// Completions a sample.
    pub repeats: usize,
    /// Samples that some variant answered, times repeats.
    pub answered: usize,
    /// Of these, how many meet the conditions.
    pub selected: usize,
    /// Of these, how many are not in `samples`.
    pub not_shown: usize,
    /// In row order.
    pub samples: Vec<ReadSample>,
}

/// One question with every variant's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadSample {
    /// Row of the dataset.
    pub sample: usize,
    /// 0 for the first completion of the sample.
    pub repeat: usize,
    /// The question; `None` in folders of before questions were kept.
    pub question: Option<String>,
    /// The dataset's answer.
    pub reference_answer: Option<String>,
    /// What of it counts.
    pub reference_value: Option<String>,
    /// One a variant that answered, in the run's order.
    pub answers: Vec<ReadAnswer>,
    /// Variants that did not answer it.
    pub missing: Vec<VariantName>,
}

/// One variant's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadAnswer {
    /// Whose.
    pub variant: VariantName,
    /// Whether the rule of the reading finds it right; `None` where it was not scored by that rule.
    pub right: Option<bool>,
    /// The same of the variant that it is held against, where that is another one.
    pub right_there: Option<bool>,
    /// Why it ended.
    pub finish: Finish,
    /// A limit of tokens or the context cut it off.
    pub cut: bool,
    /// Its tokens, the ending one included, if known.
    pub output_tokens: Option<usize>,
    /// The text.
    pub text: String,
    /// Byte offset in the text of the first character that is not that of the answer it is held against; `None` where the texts are
    /// the same, and of that answer itself.
    pub first_difference: Option<usize>,
    /// What every rule took.
    pub taken: Vec<Taken>,
}

/// What one rule took of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// The rule.
    pub rule: String,
    /// The value; `None` where it found none.
    pub value: Option<String>,
    /// Byte offsets of the value in the text.
    pub span: Option<[usize; 2]>,
    /// Line of the value's first character, from 1.
    pub line: Option<usize>,
    /// Column of it in characters, from 1.
    pub column: Option<usize>,
    /// It is the reference.
    pub correct: bool,
    /// The answer was cut off, so that the value need not be what the model was about to say.
    pub from_cut_answer: bool,
}

/// A variant's completions by sample and repeat.
type Column<'a> = (&'a VariantName, HashMap<(usize, usize), &'a StoredCompletion>);

/// The answers of a run that a choice names. A sample, variant or rule that the run has not is refused; so is a flip without a reference.
pub fn read_answers(run: &StoredRun, choice: &ReadingChoice) -> Result<Reading, Fault> {
    let rule = rule(run, choice.rule.as_deref())?;
    let columns: Vec<Column> = run.completions.iter().map(|(variant, stored)| (variant, by_key(stored))).collect();
    let keys = keys(run);
    known_samples(&choice.samples, &keys)?;
    let reference = run.record.plan.reference();
    let against = reference.as_ref().and_then(|name| columns.iter().position(|(variant, _)| *variant == name));
    let flipped = choice.flipped.as_deref().map(|name| flipped(run, name, against)).transpose()?;
    let against = against.unwrap_or(0);
    let Some((against_name, _)) = columns.get(against) else {
        return Err(Fault::new("the run has no variant", "give the folder of a run that has answered"));
    };

    let wanted: HashSet<usize> = choice.samples.iter().copied().collect();
    let meets = |key: &(usize, usize)| {
        let of = |column: usize| columns.get(column).and_then(|(_, completions)| completions.get(key).copied());
        let considered: Vec<usize> = flipped.map_or_else(|| (0..columns.len()).collect(), |one| vec![one]);
        let meets_one = |one: &StoredCompletion| {
            (!choice.wrong || one.is_right(&rule) == Some(false)) && (!choice.cut || one.finish.is_cut())
        };
        let is_flip = |one: usize| {
            let verdict = |column| of(column).and_then(|completion| completion.is_right(&rule));
            verdict(one).zip(verdict(against)).is_some_and(|(own, there)| own != there)
        };
        (wanted.is_empty() || wanted.contains(&key.0))
            && flipped.is_none_or(is_flip)
            && considered.into_iter().filter_map(of).any(meets_one)
    };
    let selected: Vec<(usize, usize)> = keys.iter().copied().filter(meets).collect();
    let questions: HashMap<usize, &StoredSample> = run.samples.iter().map(|sample| (sample.sample, sample)).collect();
    let shown = selected.iter().take(choice.limit.unwrap_or(usize::MAX));
    let samples: Vec<ReadSample> =
        shown.map(|key| read_sample(*key, questions.get(&key.0).copied(), &columns, against, &rule)).collect();
    Ok(Reading {
        kind: "reading",
        format: READING_FORMAT,
        run: run.path.display().to_string(),
        title: run.record.plan.title().to_owned(),
        against: (*against_name).clone(),
        conditions: conditions(choice, &rule, against_name),
        rule,
        repeats: run.record.plan.generation.repeats,
        answered: keys.len(),
        selected: selected.len(),
        not_shown: selected.len() - samples.len(),
        samples,
    })
}

fn rule(run: &StoredRun, chosen: Option<&str>) -> Result<String, Fault> {
    chosen.map_or(Ok(()), |rule| run.record.check_rule(rule))?;
    Ok(chosen.unwrap_or_else(|| run.record.headline()).to_owned())
}

fn by_key(completions: &[StoredCompletion]) -> HashMap<(usize, usize), &StoredCompletion> {
    completions.iter().map(|one| ((one.sample, one.repeat), one)).collect()
}

/// Every sample and repeat that some variant answered, in order.
fn keys(run: &StoredRun) -> Vec<(usize, usize)> {
    let all = run.completions.iter().flat_map(|(_, completions)| completions);
    let keys: BTreeSet<(usize, usize)> = all.map(|one| (one.sample, one.repeat)).collect();
    keys.into_iter().collect()
}

fn known_samples(wanted: &[usize], keys: &[(usize, usize)]) -> Result<(), Fault> {
    let rows: HashSet<usize> = keys.iter().map(|(sample, _)| *sample).collect();
    let Some(stranger) = wanted.iter().find(|row| !rows.contains(row)) else { return Ok(()) };
    let hint = match (rows.iter().min(), rows.iter().max()) {
        (Some(first), Some(last)) if last - first + 1 == rows.len() => format!("it has the rows {first} to {last}"),
        (Some(first), Some(last)) => format!("it has {} rows between {first} and {last}", rows.len()),
        _ => "no variant has answered anything".to_owned(),
    };
    Err(Fault::new(format!("the run has no answer to sample {stranger}"), hint))
}

/// The column of the variant whose flips are asked for.
fn flipped(run: &StoredRun, name: &str, reference: Option<usize>) -> Result<usize, Fault> {
    let names: Vec<&str> = run.completions.iter().map(|(variant, _)| variant.as_str()).collect();
    let Some(column) = names.iter().position(|variant| *variant == name) else {
        return Err(Fault::unknown("variant", name, &names));
    };
    match reference {
        None => Err(Fault::new(
            "nothing flips in a run without its reference",
            "use `--wrong`, or run again with f32 among `--dtype`, or with `--reference NAME`",
        )),
        Some(reference) if reference == column => Err(Fault::new(
            format!("{name} is what the others are compared with: nothing flips in it"),
            match names.iter().find(|variant| **variant != name) {
                Some(other) => format!("name another variant, such as `--flipped {other}`"),
                None => "it stands alone in this run; use `--wrong`".to_owned(),
            },
        )),
        Some(_) => Ok(column),
    }
}

fn conditions(choice: &ReadingChoice, rule: &str, against: &VariantName) -> Vec<String> {
    let flipped = choice.flipped.as_ref().map(|variant| format!("{variant} differs from {against} by {rule}"));
    let of = choice.flipped.as_ref().map(|variant| format!("{variant} ")).unwrap_or_default();
    let wrong = choice.wrong.then(|| format!("{of}wrong by {rule}"));
    let cut = choice.cut.then(|| format!("{of}cut"));
    flipped.into_iter().chain(wrong).chain(cut).collect()
}

fn read_sample(
    key: (usize, usize),
    question: Option<&StoredSample>,
    columns: &[Column],
    against: usize,
    rule: &str,
) -> ReadSample {
    let there = columns.get(against).and_then(|(_, completions)| completions.get(&key).copied());
    let answer = |(index, (variant, completions)): (usize, &Column)| {
        let completion = completions.get(&key)?;
        Some(read_answer(variant, completion, there.filter(|_| index != against), rule))
    };
    let missing = columns.iter().filter(|(_, completions)| !completions.contains_key(&key));
    ReadSample {
        sample: key.0,
        repeat: key.1,
        question: question.map(|one| one.question.clone()),
        reference_answer: question.map(|one| one.answer.clone()),
        reference_value: question
            .map(|one| one.reference.clone().unwrap_or_else(|| Answer::from(&one.answer).value.to_owned())),
        answers: columns.iter().enumerate().filter_map(answer).collect(),
        missing: missing.map(|(variant, _)| (*variant).clone()).collect(),
    }
}

fn read_answer(
    variant: &VariantName,
    completion: &StoredCompletion,
    there: Option<&StoredCompletion>,
    rule: &str,
) -> ReadAnswer {
    let cut = completion.finish.is_cut();
    ReadAnswer {
        variant: variant.clone(),
        right: completion.is_right(rule),
        right_there: there.and_then(|there| there.is_right(rule)),
        finish: completion.finish,
        cut,
        output_tokens: completion.output_tokens(),
        first_difference: there.and_then(|there| first_difference(&there.text, &completion.text)),
        taken: completion.scores.iter().map(|score| taken(score, &completion.text, cut)).collect(),
        text: completion.text.clone(),
    }
}

/// Byte offset in `text` of its first character that is not the reference's, the end of either included.
fn first_difference(reference: &str, text: &str) -> Option<usize> {
    if reference == text {
        return None;
    }
    let same = reference.chars().zip(text.chars()).take_while(|(there, here)| there == here);
    Some(same.map(|(_, here)| here.len_utf8()).sum())
}

fn taken(score: &Extraction, text: &str, cut: bool) -> Taken {
    // A span that does not fit its text is none: spans are read from files.
    let span = score.span.filter(|[start, end]| text.get(*start..*end).is_some());
    let before = span.map(|[start, _]| &text[..start]);
    let line_start = |before: &str| before.rfind('\n').map_or(0, |at| at + 1);
    Taken {
        rule: score.rule.clone(),
        value: score.value.clone(),
        span,
        line: before.map(|before| before.matches('\n').count() + 1),
        column: before.map(|before| before[line_start(before)..].chars().count() + 1),
        correct: score.correct,
        from_cut_answer: cut && score.value.is_some(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    /// Row, question, reference answer, f32's answer with its tokens, and awq's.
    type Row = (usize, &'static str, &'static str, (&'static str, usize), (&'static str, usize));
    const ROWS: [Row; 6] = [
        (
            0,
            "Lena orders 5 pieces of a notebook that sells for $5. How many dollars does she pay?",
            "They cost 5 * 5 = $<<5*5=25>>25.\n#### 25",
            ("They cost 5 * 5 = $<<5*5=25>>25.\n#### 25", 24),
            ("They cost 5 * 5 = $<<5*5=25>>25.\n#### 25", 24),
        ),
        (1, "What are 18 - 14?", "It is 4.\n#### 4", ("It is 4.\n#### 4", 9), ("It is 4.\n#### 4", 9)),
        (3, "What are 33 * 2?", "It is 66.\n#### 66", ("It is 66.\n#### 66", 9), ("It is 66.\n#### 66", 9)),
        (
            7,
            "A hall has 17 rows of 13 seats. 77 seats are taken. How many seats are free?",
            "There are 221 seats.\nOf these 221 - 77 = 144 are free.\n#### 144",
            ("There are 101 seats.\nOf these 101 - 77 = 24 are free.\n#### 24", 58),
            ("There are 101 seats.\nOf these 101 - 77 = 24 are free.\n#### 24", 58),
        ),
        (
            44,
            "Viktor puts 240 bricks into 15 equal piles. He gives 5 of the piles to Wanda, who already had 59 bricks. How many bricks does \
             Wanda have now?",
            "One share is 240 / 15 = <<240/15=16>>16 bricks.\nWanda gets 16 * 5 = <<16*5=80>>80 bricks.\nWanda has 59 + 80 = \
             <<59+80=139>>139 bricks.\n#### 139",
            (
                "One share is 24 / 15 = <<24/15=2>>2 bricks.\nWanda gets 2 * 5 = <<2*5=10>>10 bricks.\nWanda has 59 + 10 = \
                 <<59+10=69>>69 bricks.\n#### 69",
                72,
            ),
            (
                "One share is 240 / 15 = <<24/15=2>>2 bricks.\nWanda gets 2 * 5 = <<2*5=10>>10 bricks.\nWanda has 59 + 10 = \
                 <<59+10=69>>69 bricks.\n#### 69",
                73,
            ),
        ),
        (140, "What are 52 - 36?", "It is 16.\n#### 16", ("It is 6.\n#### 6", 74), ("It is 64.\n#### 64", 85)),
    ];

    /// A run of six samples in f32 and awq, of which 7, 44 and 140 are wrong in both: what an earlier version wrote, with questions and
    /// answers of these tests' own.
    pub(in crate::jobs::eval) fn stored() -> StoredRun {
        let mut run = StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        for (row, question, answer, f32, awq) in ROWS {
            let sample = Arc::make_mut(&mut run.samples).iter_mut().find(|one| one.sample == row).unwrap();
            (sample.question, sample.answer, sample.reference) = (question.to_owned(), answer.to_owned(), None);
            for (variant, (text, tokens)) in [("f32", f32), ("awq", awq)] {
                let one = completion(&mut run, variant, row);
                (one.text, one.token_ids, one.finish) = (text.to_owned(), Some(vec![1; tokens]), Finish::EndOfSequence);
                let start = text.rfind("#### ").unwrap() + 5;
                for score in &mut one.scores {
                    score.value = Some(text[start..].to_owned());
                    score.span = Some([start, text.len()]);
                    score.correct = text[start..] == *Answer::from(answer).value;
                }
            }
        }
        run
    }

    pub(in crate::jobs::eval) fn completion<'a>(
        run: &'a mut StoredRun,
        variant: &str,
        sample: usize,
    ) -> &'a mut StoredCompletion {
        let (_, completions) = run.completions.iter_mut().find(|(name, _)| name.as_str() == variant).unwrap();
        completions.iter_mut().find(|one| one.sample == sample).unwrap()
    }

    /// Turns what a rule says of one answer round.
    fn turn(run: &mut StoredRun, variant: &str, sample: usize, rule: &str) {
        let scores = &mut completion(run, variant, sample).scores;
        let score = scores.iter_mut().find(|score| score.rule == rule).unwrap();
        score.correct = !score.correct;
    }

    fn rows(run: &StoredRun, choice: &ReadingChoice) -> Vec<usize> {
        read_answers(run, choice).unwrap().samples.iter().map(|sample| sample.sample).collect()
    }

    fn choice(samples: &[usize]) -> ReadingChoice {
        ReadingChoice { samples: samples.to_vec(), ..ReadingChoice::default() }
    }

    fn wrong() -> ReadingChoice {
        ReadingChoice { wrong: true, ..ReadingChoice::default() }
    }

    fn flipped(variant: &str) -> ReadingChoice {
        ReadingChoice { flipped: Some(variant.to_owned()), ..ReadingChoice::default() }
    }

    #[test]
    fn a_sample_has_its_question_and_every_variant_s_answer() {
        let run = stored();
        let reading = read_answers(&run, &choice(&[44])).unwrap();
        assert_eq!(
            (reading.answered, reading.selected, reading.not_shown, reading.rule.as_str()),
            (6, 1, 0, "numeric")
        );
        let [sample] = &reading.samples[..] else { panic!("{:?}", reading.samples) };
        assert!(sample.question.as_ref().unwrap().starts_with("Viktor puts 240 bricks"));
        assert_eq!(sample.reference_value.as_deref(), Some("139"));
        assert!(sample.reference_answer.as_ref().unwrap().ends_with("#### 139") && sample.missing.is_empty());
        let [f32, awq] = &sample.answers[..] else { panic!("{:?}", sample.answers) };
        assert_eq!((f32.variant.as_str(), awq.variant.as_str()), ("f32", "awq"));
        assert_eq!((f32.output_tokens, awq.output_tokens), (Some(72), Some(73)));
        assert_eq!((f32.first_difference, awq.first_difference), (None, Some("One share is 24".len())));
        assert_eq!((f32.right, f32.right_there, awq.right_there), (Some(false), None, Some(false)));
        let numeric = &awq.taken[0];
        assert_eq!((numeric.value.as_deref(), numeric.span), (Some("69"), Some([133, 135])));
        assert_eq!((numeric.line, numeric.column, numeric.from_cut_answer), (Some(4), Some(6), false));
    }

    #[test]
    fn conditions_narrow() {
        let mut run = stored();
        assert_eq!(rows(&run, &wrong()), [7, 44, 140]);
        assert_eq!(rows(&run, &ReadingChoice { wrong: true, ..choice(&[0, 44]) }), [44]);
        assert_eq!(rows(&run, &flipped("awq")), [0_usize; 0]);
        turn(&mut run, "awq", 7, "numeric");
        turn(&mut run, "awq", 0, "numeric");
        turn(&mut run, "awq", 1, "strict");
        assert_eq!(rows(&run, &flipped("awq")), [0, 7]);
        assert_eq!(rows(&run, &ReadingChoice { wrong: true, ..flipped("awq") }), [0], "lost alone");
        assert_eq!(rows(&run, &ReadingChoice { rule: Some("strict".to_owned()), ..flipped("awq") }), [1]);
        completion(&mut run, "f32", 7).finish = Finish::Length;
        completion(&mut run, "awq", 0).finish = Finish::Context;
        let cut = ReadingChoice { cut: true, ..ReadingChoice::default() };
        assert_eq!(rows(&run, &cut), [0, 7]);
        assert_eq!(rows(&run, &ReadingChoice { cut: true, ..flipped("awq") }), [0], "f32's cut is not awq's");
        // One answer must meet both: f32's is wrong and cut, awq's neither.
        assert_eq!(rows(&run, &ReadingChoice { wrong: true, ..cut.clone() }), [0, 7]);
        turn(&mut run, "f32", 7, "numeric");
        turn(&mut run, "awq", 7, "numeric");
        assert_eq!(rows(&run, &ReadingChoice { wrong: true, ..cut }), [0], "awq's is wrong, f32's cut");
        let reading = read_answers(&run, &ReadingChoice { wrong: true, cut: true, ..flipped("awq") }).unwrap();
        assert_eq!(
            reading.conditions,
            ["awq differs from f32 by numeric", "awq wrong by numeric", "awq cut"],
            "said as they are"
        );
    }

    #[test]
    fn a_flip_is_said_from_both_sides() {
        let mut run = stored();
        turn(&mut run, "awq", 0, "numeric");
        let reading = read_answers(&run, &flipped("awq")).unwrap();
        let verdicts = reading.samples[0].answers.iter().map(|one| (one.right, one.right_there)).collect::<Vec<_>>();
        assert_eq!(verdicts, [(Some(true), None), (Some(false), Some(true))]);
    }

    #[test]
    fn what_a_limit_leaves_out_is_counted() {
        let reading = read_answers(&stored(), &ReadingChoice { limit: Some(2), ..wrong() }).unwrap();
        assert_eq!((reading.selected, reading.not_shown, reading.samples.len()), (3, 1, 2));
        assert_eq!((reading.samples[0].sample, reading.samples[1].sample), (7, 44));
    }

    #[test]
    fn a_value_of_a_cut_answer_is_marked() {
        let mut run = stored();
        let cut = completion(&mut run, "awq", 140);
        cut.finish = Finish::Length;
        cut.scores[1].value = None;
        let reading = read_answers(&run, &choice(&[140])).unwrap();
        let marks = |answer: &ReadAnswer| answer.taken.iter().map(|one| one.from_cut_answer).collect::<Vec<_>>();
        let [f32, awq] = &reading.samples[0].answers[..] else { panic!() };
        assert_eq!((marks(f32), f32.cut), (vec![false, false, false], false));
        assert_eq!((marks(awq), awq.cut), (vec![true, false, true], true), "where nothing was taken, nothing is");
    }

    #[test]
    fn what_the_run_has_not_is_refused() {
        let run = stored();
        let refused = |choice: &ReadingChoice| read_answers(&run, choice).unwrap_err();
        let row = refused(&choice(&[0, 2]));
        assert_eq!(row.what, "the run has no answer to sample 2");
        assert_eq!(row.hint, "it has 6 rows between 0 and 140");
        assert_eq!(refused(&flipped("awk")).hint, "did you mean `awq`? Known are: f32, awq");
        let reference = refused(&flipped("f32"));
        assert!(
            reference.what.contains("nothing flips in it") && reference.hint.contains("--flipped awq"),
            "{reference}"
        );
        let rule = refused(&ReadingChoice { rule: Some("strikt".to_owned()), ..wrong() });
        assert!(rule.what == "unknown rule `strikt`" && rule.hint.starts_with("did you mean `strict`?"), "{rule}");
        let mut alone = stored();
        alone.completions.remove(0);
        alone.record.plan.dtypes.remove(0);
        assert!(read_answers(&alone, &flipped("awq")).unwrap_err().what.contains("without its reference"));
        assert_eq!(read_answers(&alone, &wrong()).unwrap().against.as_str(), "awq");
    }

    #[test]
    fn what_a_run_does_not_keep_is_left_out() {
        let mut run = stored();
        Arc::make_mut(&mut run.samples).clear();
        let (_, awq) = &mut run.completions[1];
        awq.retain(|one| one.sample != 7);
        let scores = &mut completion(&mut run, "f32", 7).scores;
        scores[0].span = Some([38, 100_000]);
        scores.remove(2);
        let reading = read_answers(&run, &choice(&[7])).unwrap();
        let sample = &reading.samples[0];
        assert_eq!((&sample.question, &sample.reference_answer, &sample.reference_value), (&None, &None, &None));
        assert_eq!(sample.missing.iter().map(VariantName::as_str).collect::<Vec<_>>(), ["awq"]);
        let taken = &sample.answers[0].taken;
        assert_eq!((taken.len(), taken[0].span, taken[0].line, taken[1].line), (2, None, None, Some(3)));
        let by_flexible = ReadingChoice { rule: Some("flexible".to_owned()), ..choice(&[7]) };
        assert_eq!(read_answers(&run, &by_flexible).unwrap().samples[0].answers[0].right, None);
    }

    #[test]
    fn every_repeat_counts_for_itself() {
        let mut run = stored();
        run.record.plan.generation.repeats = 2;
        let again = StoredCompletion { repeat: 1, finish: Finish::Length, ..completion(&mut run, "f32", 7).clone() };
        run.completions[0].1.push(again);
        let reading = read_answers(&run, &choice(&[7])).unwrap();
        assert_eq!((reading.answered, reading.selected), (7, 2));
        let repeats = reading.samples.iter().map(|one| (one.sample, one.repeat, one.answers[0].cut, one.answers.len()));
        assert_eq!(repeats.collect::<Vec<_>>(), [(7, 0, false, 2), (7, 1, true, 1)]);
    }

    #[test]
    fn a_difference_is_found_by_characters() {
        assert_eq!(first_difference("née 5", "né 5"), Some(3));
        assert_eq!(first_difference("a", "ab"), Some(1));
        assert_eq!(first_difference("ab", "a"), Some(1));
        assert_eq!(first_difference("", "é"), Some(0));
        assert_eq!(first_difference("a", "a"), None);
        // ï and é share their first byte.
        assert_eq!(first_difference("xï", "xé"), Some(1));
    }
}
