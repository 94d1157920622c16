//! Thoughts: what a model writes between its thinking marks. They are kept, counted apart and never scored.

/// The marks of known models: what opens a thought and what ends it.
pub const THOUGHT_MARKS: [(&str, &str); 10] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
];

/// Where the answer of a completion begins, behind a thought if it has one; `None` where that never ends.
pub(super) fn answer_start(text: &str) -> Option<usize> {
    let mut answer = Some(0);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        // Marks begin with these, and most others are a sign of less, or `<<` of a calculation.
        let begins_mark = |next: &u8| next.is_ascii_alphabetic() || matches!(next, b'/' | b'|') || !next.is_ascii();
        if !matches!(byte, b'<' | b'[' | 0xe2) || !bytes.get(at + 1).is_some_and(begins_mark) {
            continue;
        }
        for (open, end) in THOUGHT_MARKS {
            if bytes[at..].starts_with(end.as_bytes()) {
                answer = Some(at + end.len());
            } else if bytes[at..].starts_with(open.as_bytes()) {
                answer = None;
            }
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use crate::score::{Answer, Rule, score};

    #[test]
    fn thoughts_are_never_scored() {
        let rules = [Rule::numeric("numeric"), Rule::boxed("boxed")];
        let values = |text: &str| {
            let found = score(&rules, text, Answer { full: "", value: "18" });
            assert!(found.iter().all(|one| one.span.map(|[start, end]| &text[start..end]) == one.value.as_deref()));
            found.into_iter().map(|one| one.value).collect::<Vec<_>>()
        };
        assert_eq!(
            values("<think>\n#### 12? \\boxed{12}\n</think>\n\nShe has 18 eggs."),
            [Some("18".to_owned()), None]
        );
        assert_eq!(
            values("#### 12 but no</think>\nIt is \\boxed{18}."),
            [Some("18".to_owned()), Some("18".to_owned())]
        );
        assert_eq!(values("[THINK] #### 12 [/THINK] 18"), [Some("18".to_owned()), None]);
        assert_eq!(values("<think>\n#### 12"), [None, None]);
        assert_eq!(values("#### 12 <thinking>"), [None, None]);
        assert_eq!(values("2 < 3, so 12"), [Some("12".to_owned()), None]);
    }
}
