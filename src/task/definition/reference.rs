//! Reference rules: what of an answer a completion is compared with.

use regex::Regex;

use crate::score::{boxed_value, exact_value, last_box};

/// A reference rule as a task file declares it, compiled.
#[derive(Debug, Clone)]
pub(in crate::task) struct ReferenceRule {
    pub(super) place: ReferencePlace,
    /// The value must be a number, and is written canonically.
    pub(super) is_number: bool,
    /// Rows without such a number are left out, not refused.
    pub(super) leaves_out: bool,
}

/// Where the value stands in the answer.
#[derive(Debug, Clone)]
pub(super) enum ReferencePlace {
    Whole,
    After(String),
    Boxed,
    Pattern(Regex),
}

/// What a reference rule makes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::task) enum Found {
    /// The value to compare with.
    Value(String),
    /// Nothing to compare with, and why: to go behind `the answer is`.
    Nothing(String),
    /// The same where the task leaves such rows out.
    LeftOut,
}

impl ReferenceRule {
    /// The whole answer as it stands.
    pub(super) fn whole() -> Self {
        Self { place: ReferencePlace::Whole, is_number: false, leaves_out: false }
    }

    /// The value in an answer.
    pub(in crate::task) fn find(&self, answer: &str) -> Found {
        let value = match &self.place {
            ReferencePlace::Whole => Some(answer),
            ReferencePlace::After(mark) => answer.rsplit_once(mark.as_str()).map(|(_, value)| value),
            ReferencePlace::Boxed => last_box(answer),
            ReferencePlace::Pattern(regex) => regex.captures_iter(answer).last().and_then(|captures| {
                let groups = usize::from(captures.len() > 1);
                captures.iter().skip(groups).flatten().next().map(|group| group.as_str())
            }),
        };
        let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
            return self.nothing(format!("without {}", self.in_words()));
        };
        if !self.is_number {
            return Found::Value(value.to_owned());
        }
        let number = if matches!(self.place, ReferencePlace::Boxed) { boxed_value(value) } else { exact_value(value) };
        number.map_or_else(|| self.nothing(format!("no number: {value:?}")), Found::Value)
    }

    fn nothing(&self, why: String) -> Found {
        if self.leaves_out { Found::LeftOut } else { Found::Nothing(why) }
    }

    /// What stands for the reference in an answer.
    pub(in crate::task) fn in_words(&self) -> String {
        let what = if self.is_number { "N" } else { "VALUE" };
        match &self.place {
            ReferencePlace::Whole if self.is_number => "a number".to_owned(),
            ReferencePlace::Whole => "a value".to_owned(),
            ReferencePlace::After(mark) => format!("`{mark} {what}`"),
            ReferencePlace::Boxed => format!("`\\boxed{{{what}}}`"),
            ReferencePlace::Pattern(regex) => format!("a match of /{regex}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(place: ReferencePlace, is_number: bool, leaves_out: bool) -> ReferenceRule {
        ReferenceRule { place, is_number, leaves_out }
    }

    fn value(text: &str) -> Found {
        Found::Value(text.to_owned())
    }

    #[test]
    fn a_value_after_a_mark_stays_as_it_stands() {
        let rule = rule(ReferencePlace::After("####".to_owned()), false, false);
        assert_eq!(rule.find("3 + 4 = 7 #### 6\n#### 1,007 "), value("1,007"));
        assert_eq!(rule.find("####7"), value("7"));
        for nothing in ["18", "so #### ", "#"] {
            assert_eq!(rule.find(nothing), Found::Nothing("without `#### VALUE`".to_owned()), "{nothing}");
        }
    }

    #[test]
    fn a_whole_answer_is_a_text_or_a_number() {
        let text = rule(ReferencePlace::Whole, false, false);
        let number = rule(ReferencePlace::Whole, true, false);
        assert_eq!((text.find(" 145.0 "), number.find(" 145.0 ")), (value("145.0"), value("145")));
        assert_eq!((text.find("Oslo"), number.find("1,007")), (value("Oslo"), value("1007")));
        assert_eq!(number.find("Oslo"), Found::Nothing("no number: \"Oslo\"".to_owned()));
    }

    #[test]
    fn the_last_box_is_read_as_a_number_or_left_out() {
        let rule = rule(ReferencePlace::Boxed, true, true);
        assert_eq!(rule.find("$\\boxed{1}$, no, $\\boxed{\\frac{14}{3}}$"), value("14/3"));
        for left_out in ["no box: 3", "\\boxed{x + 1}", "\\boxed{\\text{Evelyn}}", "\\boxed{(3, 4)}"] {
            assert_eq!(rule.find(left_out), Found::LeftOut, "{left_out}");
        }
        let text = super::ReferenceRule { is_number: false, leaves_out: false, ..rule };
        assert_eq!(text.find("\\boxed{x + 1}"), value("x + 1"));
    }

    #[test]
    fn a_pattern_gives_its_first_group_in_the_last_match() {
        let with = |pattern: &str| rule(ReferencePlace::Pattern(Regex::new(pattern).unwrap()), false, false);
        assert_eq!(with(r"=(\d+)").find("1=2, 2=3"), value("3"));
        assert_eq!(with(r"=(a)|=(\d+)").find("=4"), value("4"));
        assert_eq!(with(r"\d+").find("1 22"), value("22"));
        assert_eq!(with("x").find("y"), Found::Nothing("without a match of /x/".to_owned()));
    }
}
