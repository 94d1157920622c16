//! What the templates of `show --wrong` and its like see: answers as text, marked where a rule took its value and where they differ.

use serde::Serialize;

use super::reading::{ReadAnswer, ReadSample, Reading, Taken};
use crate::report::words::thousands;
use crate::report::{Format, ReportError, grouped, plain, render_by, wrap_text};

/// Columns of a terminal that a text takes, its indentation not counted.
const WIDTH: usize = 78;

/// Around what a rule took.
const TAKEN: [char; 2] = ['«', '»'];
/// Before the first character that differs.
const DIFFERS: char = '▸';

/// A reading as text in a format.
pub fn render_reading(reading: &Reading, format: &Format) -> Result<String, ReportError> {
    render_by("reading", &ReadingView::new(reading), format)
}

/// The variables of a template.
#[derive(Debug, Clone, Serialize)]
pub struct ReadingView<'a> {
    /// Everything, field by field as `--format json` prints it.
    pub reading: &'a Reading,
    /// The same as JSON text.
    pub reading_json: String,
    /// `12 of 200 samples: wrong by numeric, cut`.
    pub selection: String,
    /// One a sample that is shown.
    pub samples: Vec<SampleView>,
    /// `37 more are not shown: --limit 47 shows all`.
    pub not_shown: Option<String>,
    /// Some answer is marked where a rule took its value.
    pub has_taken: bool,
    /// Some answer is marked where it first differs.
    pub has_difference: bool,
}

/// A question with its answers.
#[derive(Debug, Clone, Serialize)]
pub struct SampleView {
    /// `Sample 7`, `Sample 7, repeat 2 of 4`.
    pub heading: String,
    /// What was asked, as a text on its own.
    pub question: Option<TextView>,
    /// The dataset's answer.
    pub reference_answer: Option<TextView>,
    /// `18`, on one line.
    pub reference_value: Option<String>,
    /// One a group of variants that answered the same.
    pub answers: Vec<AnswerView>,
    /// `awq`: variants without an answer.
    pub missing: Option<String>,
}

/// A text, ready to print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextView {
    /// For Markdown: its own line breaks.
    pub text: String,
    /// The backticks of a fence that no line of the text closes.
    pub fence: String,
    /// For a terminal: wrapped.
    pub lines: Vec<String>,
}

/// One answer.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerView {
    /// `f32, f16`
    pub variants: String,
    /// `right`, `wrong`, `no value`, `not scored`.
    pub verdict: &'static str,
    /// The verdict is `right`.
    pub is_right: bool,
    /// ` where f32 is right, 87 tokens, cut (length)`: what else is known of it, to stand right behind the verdict.
    pub remarks: String,
    /// The marked text.
    pub text: TextView,
    /// `numeric, strict took 18 (line 3, column 6): right`; one a value.
    pub taken: Vec<String>,
}

impl<'a> ReadingView<'a> {
    /// Of a reading.
    pub fn new(reading: &'a Reading) -> Result<Self, serde_json::Error> {
        let answers = || reading.samples.iter().flat_map(|sample| &sample.answers);
        let selected = thousands(reading.selected as u64);
        let unit = if reading.repeats > 1 { "repeats of samples" } else { "samples" };
        let conditions =
            if reading.conditions.is_empty() { String::new() } else { format!(": {}", reading.conditions.join(", ")) };
        let not_shown = (reading.not_shown > 0).then(|| {
            format!(
                "{} more are not shown: `--limit {}` shows all",
                thousands(reading.not_shown as u64),
                reading.selected
            )
        });
        Ok(Self {
            reading,
            reading_json: serde_json::to_string_pretty(reading)?,
            selection: format!("{selected} of {} {unit}{conditions}", thousands(reading.answered as u64)),
            samples: reading.samples.iter().map(|sample| sample_view(sample, reading)).collect(),
            not_shown,
            has_taken: answers().flat_map(|answer| &answer.taken).any(|taken| taken.span.is_some()),
            has_difference: answers().any(|answer| answer.first_difference.is_some()),
        })
    }
}

fn sample_view(sample: &ReadSample, reading: &Reading) -> SampleView {
    let repeat = if reading.repeats > 1 {
        format!(", repeat {} of {}", sample.repeat + 1, reading.repeats)
    } else {
        String::new()
    };
    // Texts that are one are shown once; the one that others are held against comes to stand first among them.
    let groups = grouped(&sample.answers, |first, answer| is_same(first, answer));
    let missing: Vec<&str> = sample.missing.iter().map(crate::record::VariantName::as_str).collect();
    SampleView {
        heading: format!("Sample {}{repeat}", sample.sample),
        question: sample.question.as_deref().map(text_view),
        reference_answer: sample.reference_answer.as_deref().map(text_view),
        reference_value: sample.reference_value.as_deref().map(one_line),
        answers: groups.iter().map(|group| answer_view(group, reading)).collect(),
        missing: (!missing.is_empty()).then(|| missing.join(", ")),
    }
}

/// Nothing that is shown tells one from the other but the name.
fn is_same(a: &ReadAnswer, b: &ReadAnswer) -> bool {
    a.text == b.text && a.finish == b.finish && a.output_tokens == b.output_tokens && a.taken == b.taken
}

/// Of variants that answered the same.
fn answer_view(group: &[&ReadAnswer], reading: &Reading) -> AnswerView {
    let answer = group[0];
    let variants: Vec<&str> = group.iter().map(|answer| answer.variant.as_str()).collect();
    let found = answer.taken.iter().find(|taken| taken.rule == reading.rule).is_some_and(|taken| taken.value.is_some());
    let verdict = match answer.right {
        None => "not scored",
        Some(true) => "right",
        Some(false) if found => "wrong",
        Some(false) => "no value",
    };
    let flip = answer.right.zip(answer.right_there).filter(|(own, there)| own != there);
    let there =
        flip.map(|(_, there)| format!(" where {} is {}", reading.against, if there { "right" } else { "wrong" }));
    let tokens = answer.output_tokens.map(|tokens| match tokens {
        1 => ", 1 token".to_owned(),
        tokens => format!(", {} tokens", thousands(tokens as u64)),
    });
    let cut = answer.cut.then(|| format!(", cut ({})", answer.finish.name()));
    AnswerView {
        variants: variants.join(", "),
        verdict,
        is_right: answer.right == Some(true),
        remarks: there.into_iter().chain(tokens).chain(cut).collect(),
        text: text_view(&marked(answer)),
        taken: taken_in_words(answer),
    }
}

/// The text with marks around what rules took and before its first difference.
fn marked(answer: &ReadAnswer) -> String {
    let text = &answer.text;
    if text.trim().is_empty() {
        return String::new();
    }
    let spans: Vec<[usize; 2]> = answer.taken.iter().filter_map(|taken| taken.span).collect();
    let mut points: Vec<usize> = spans.iter().flatten().copied().chain(answer.first_difference).collect();
    points.extend([0, text.len()]);
    points.sort_unstable();
    points.dedup();
    let covering = |at: usize| -> Vec<bool> { spans.iter().map(|[start, end]| (*start..*end).contains(&at)).collect() };
    let mut marked = String::with_capacity(text.len() + 16);
    let mut open = vec![false; spans.len()];
    for (index, start) in points.iter().copied().enumerate() {
        let now = covering(start);
        let changes = now != open;
        if changes && open.contains(&true) {
            marked.push(TAKEN[1]);
        }
        if answer.first_difference == Some(start) {
            marked.push(DIFFERS);
        }
        if changes && now.contains(&true) {
            marked.push(TAKEN[0]);
        }
        open = now;
        let end = points.get(index + 1).copied().unwrap_or(text.len());
        marked.push_str(text.get(start..end).unwrap_or_default());
    }
    marked
}

/// A line a value; rules that took the same from the same place share it.
fn taken_in_words(answer: &ReadAnswer) -> Vec<String> {
    let line = |group: &Vec<&Taken>| {
        let rules: Vec<&str> = group.iter().map(|taken| taken.rule.as_str()).collect();
        in_words(&rules.join(", "), group[0])
    };
    let same =
        |one: &&Taken, other: &&Taken| (&one.value, one.span, one.correct) == (&other.value, other.span, other.correct);
    grouped(&answer.taken, same).iter().map(line).collect()
}

fn in_words(rules: &str, taken: &Taken) -> String {
    let Some(value) = &taken.value else { return format!("{rules} found no value") };
    let place = taken.line.zip(taken.column).map(|(line, column)| format!(" (line {line}, column {column})"));
    let cut = if taken.from_cut_answer { ", from a cut answer" } else { "" };
    let verdict = if taken.correct { "right" } else { "wrong" };
    format!("{rules} took {}{}{cut}: {verdict}", one_line(value), place.unwrap_or_default())
}

fn one_line(text: &str) -> String {
    plain(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn text_view(text: &str) -> TextView {
    let text = plain(text);
    let text = if text.trim().is_empty() { "(empty)" } else { text.trim_end() };
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    TextView {
        lines: wrap_text(text, WIDTH).into_iter().map(|line| line.trim_end().to_owned()).collect(),
        fence: "`".repeat(3.max(longest + 1)),
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;

    use super::super::reading::tests::{completion, stored};
    use super::super::{ReadingChoice, StoredRun, read_answers};
    use super::*;
    use crate::engine::Finish;

    fn shown(run: &StoredRun, samples: &[usize], format: &Format) -> String {
        let choice = ReadingChoice { samples: samples.to_vec(), ..ReadingChoice::default() };
        render_reading(&read_answers(run, &choice).unwrap(), format).unwrap()
    }

    const PLAIN: Format = Format::Terminal { colour: false };

    #[test]
    fn an_answer_is_marked_where_it_differs_and_where_rules_took_their_values() {
        let text = shown(&stored(), &[44], &PLAIN);
        for part in [
            "1 of 6 samples\n",
            "Sample 44\n  Viktor puts 240 bricks into 15 equal piles. He gives",
            "reference: 139\n  One share is 240 / 15 =",
            "f32: wrong, 72 tokens\n  One share is 24 / 15 = <<24/15=2>>2 bricks.\n",
            "  #### «69»\n- numeric, strict, flexible took 69 (line 4, column 6): wrong\n",
            "awq: wrong, 73 tokens\n  One share is 24▸0 / 15",
            "«…» what a rule took; ▸ where an answer first differs from f32's",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(text.lines().all(|line| measure_text_width(line) <= 80), "{text}");
        let coloured = shown(&stored(), &[44], &Format::Terminal { colour: true });
        assert_eq!(console::strip_ansi_codes(&coloured), text);
    }

    #[test]
    fn answers_that_are_one_are_shown_once() {
        let mut run = stored();
        let text = shown(&run, &[0], &PLAIN);
        assert!(text.contains("f32, awq: right, 24 tokens\n") && !text.contains("first differs"), "{text}");
        completion(&mut run, "awq", 0).finish = Finish::Length;
        let text = shown(&run, &[0], &PLAIN);
        assert!(text.contains("f32: right, 24 tokens\n"), "{text}");
        assert!(text.contains("awq: right, 24 tokens, cut (length)\n"), "{text}");
        assert!(text.contains("took 25 (line 2, column 6), from a cut answer: right"), "{text}");
    }

    #[test]
    fn a_flip_and_an_answer_without_a_value_are_told() {
        let mut run = stored();
        for score in &mut completion(&mut run, "awq", 0).scores[..2] {
            (score.value, score.span, score.correct) = (None, None, false);
        }
        completion(&mut run, "awq", 0).text = " ".to_owned();
        let text = shown(&run, &[0], &PLAIN);
        assert!(text.contains("awq: no value where f32 is right, 24 tokens\n  (empty)\n"), "{text}");
        assert!(text.contains("- numeric, strict found no value\n- flexible took 25"), "{text}");
    }

    #[test]
    fn spans_that_overlap_are_marked_piece_by_piece() {
        let mut run = stored();
        let one = completion(&mut run, "awq", 0);
        one.text = "so 18.5 é".to_owned();
        for (score, span) in one.scores.iter_mut().zip([[3, 7], [3, 5], [8, 10]]) {
            score.span = Some(span);
        }
        let reading = read_answers(&run, &ReadingChoice { samples: vec![0], ..ReadingChoice::default() }).unwrap();
        let mut answer = reading.samples[0].answers[1].clone();
        answer.first_difference = None;
        assert_eq!(marked(&answer), "so «18»«.5» «é»");
        answer.first_difference = Some(4);
        assert_eq!(marked(&answer), "so «1▸8»«.5» «é»");
        answer.first_difference = Some(3);
        assert_eq!(marked(&answer), "so ▸«18»«.5» «é»");
        answer.first_difference = Some(answer.text.len());
        assert_eq!(marked(&answer), "so «18»«.5» «é»▸");
    }

    #[test]
    fn markdown_keeps_lines_and_no_text_ends_its_fence() {
        let mut run = stored();
        completion(&mut run, "awq", 44).text = "```\nx\u{1b}[31m\n````".to_owned();
        let text = shown(&run, &[44], &Format::Markdown);
        assert!(text.contains("### f32: wrong, 72 tokens\n\n```text\nOne share is 24 / 15"), "{text}");
        assert!(text.contains("\n`````text\n▸```\nx\u{fffd}[31m\n````\n`````\n"), "{text}");
        assert!(text.contains("- numeric, strict, flexible took 69 (line 4, column 6): wrong\n"), "{text}");
    }

    #[test]
    fn json_has_every_variant_and_number() {
        let json: serde_json::Value = serde_json::from_str(&shown(&stored(), &[0, 44], &Format::Json)).unwrap();
        assert_eq!((&json["kind"], &json["format"], &json["selected"]), (&"reading".into(), &1.into(), &2.into()));
        let answer = &json["samples"][1]["answers"][1];
        assert_eq!((&answer["variant"], &answer["first_difference"]), (&"awq".into(), &15.into()));
        assert_eq!(answer["taken"][0]["span"], serde_json::json!([133, 135]));
        assert_eq!(json["samples"][0]["answers"].as_array().unwrap().len(), 2, "equal answers are not folded");
    }

    #[test]
    fn what_is_not_shown_is_said_in_every_format() {
        let choice = ReadingChoice { wrong: true, limit: Some(1), ..ReadingChoice::default() };
        let reading = read_answers(&stored(), &choice).unwrap();
        for format in [PLAIN, Format::Markdown] {
            let text = render_reading(&reading, &format).unwrap();
            assert!(text.contains("2 more are not shown: `--limit 3` shows all"), "{text}");
            assert!(text.contains("3 of 6 samples: wrong by numeric"), "{text}");
        }
        assert!(render_reading(&reading, &Format::Json).unwrap().contains("\"not_shown\": 2"));
    }
}
