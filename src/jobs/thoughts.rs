//! Thoughts in completions that come as one text: of targets that tell no tokens, and made elsewhere.

use crate::engine::{Finish, ThoughtMarks};
use crate::record::StoredThought;
use crate::score::THOUGHT_MARKS;

/// The marks of known models, and what the user named.
pub(crate) fn thought_marks(end: Option<&str>) -> ThoughtMarks {
    let known = THOUGHT_MARKS.iter().map(|(open, end)| ((*open).to_owned(), (*end).to_owned()));
    ThoughtMarks::new(known.chain(end.map(|end| (String::new(), end.to_owned()))))
}

/// Takes the thought out of a completion, so that its answer is left; where the thought never ends, nothing is left, and `finish` says so.
pub(in crate::jobs) fn take_thought(
    marks: &ThoughtMarks,
    prompt: &str,
    text: &mut String,
    finish: &mut Finish,
) -> Option<StoredThought> {
    let split = marks.split(text, marks.open_in(prompt))?;
    let thought = StoredThought { tokens: None, text: text[split.thought].to_owned() };
    if let Some(answer) = split.answer {
        text.drain(..answer);
    } else {
        text.clear();
        *finish = Finish::UnfinishedThought;
    }
    Some(thought)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_is_taken_out_of_a_text() {
        let take = |prompt: &str, text: &str| {
            let (mut text, mut finish) = (text.to_owned(), Finish::EndOfSequence);
            let thought = take_thought(&thought_marks(Some("FINAL:")), prompt, &mut text, &mut finish);
            (thought.map(|thought| thought.text), text, finish)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(take("q", "It is 2."), (None, "It is 2.".to_owned(), Finish::EndOfSequence));
        assert_eq!(take("q", "<think>1</think> 2"), (some("1"), "2".to_owned(), Finish::EndOfSequence));
        assert_eq!(take("q", "1 FINAL: 2"), (some("1"), "2".to_owned(), Finish::EndOfSequence));
        assert_eq!(take("q<think>\n", "1 is"), (some("1 is"), String::new(), Finish::UnfinishedThought));
    }
}
