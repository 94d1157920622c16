//! Changes that several outputs of a golden file have in common: each is reported once.

use super::{Change, ChangeKind, Note};
use crate::score::{Change as Fate, word_diff};

/// The differences of a comparison's outputs: those of several outputs first, once each, then each output's own. What came in at a prompt is
/// common to those that it touches; two outputs whose tokens or scores change alike do so by chance, unless all `compared` do.
pub(super) fn differences(outputs: &[(String, Vec<Change>)], compared: usize) -> Vec<Note> {
    let is_same = |a: &Change, b: &Change| (a.kind, &a.key) == (b.kind, &b.key);
    let mut groups: Vec<(&Change, Vec<&String>)> = Vec::new();
    for (id, change) in outputs.iter().flat_map(|(id, changes)| changes.iter().map(move |change| (id, change))) {
        match groups.iter_mut().find(|(first, _)| is_same(first, change)) {
            Some((_, ids)) => ids.push(id),
            None => groups.push((change, vec![id])),
        }
    }
    let is_common = |change: &Change, ids: &[&String]| {
        let is_input = matches!(change.kind, ChangeKind::Presence | ChangeKind::Prompt);
        ids.len() > 1 && (is_input || ids.len() >= compared)
    };
    let all = || outputs.iter().flat_map(|(_, changes)| changes);
    let is_shared = |change: &Change| groups.iter().any(|(first, ids)| is_same(first, change) && is_common(first, ids));
    let shared = groups.iter().filter(|(first, ids)| is_common(first, ids)).map(|(first, ids)| {
        let differs = all().any(|change| is_same(change, first) && change.what != first.what);
        let so = if differs { format!(" (so in {}, alike in the others)", ids[0]) } else { String::new() };
        let outputs = ids.iter().map(|id| (*id).clone()).collect();
        Note { id: None, outputs, what: format!("{}{so}", first.what) }
    });
    let own = outputs.iter().flat_map(|(id, changes)| {
        let own = changes.iter().filter(|change| !is_shared(change));
        own.map(|change| Note { id: Some(id.clone()), outputs: Vec::new(), what: change.what.clone() })
    });
    shared.chain(own).collect()
}

/// What was taken out of a prompt and put into it, whatever stands around: the same for all prompts whose template changed.
pub(super) fn prompt_key(was: &str, is: &str) -> String {
    let same = was.chars().zip(is.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let (was, is) = (was.get(same..).unwrap_or_default(), is.get(same..).unwrap_or_default());
    let same = was.chars().rev().zip(is.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let without =
        |text: &str| text.len().checked_sub(same).and_then(|end| text.get(..end)).unwrap_or_default().to_owned();
    let parts = word_diff(&without(was), &without(is));
    format!("{:?}", parts.iter().filter(|part| part.change != Fate::Same).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(kind: ChangeKind, what: &str, key: &str) -> Change {
        Change { kind, what: what.to_owned(), key: key.to_owned() }
    }

    fn note(id: Option<&str>, outputs: &[&str], what: &str) -> Note {
        let outputs = outputs.iter().map(|id| (*id).to_owned()).collect();
        Note { id: id.map(str::to_owned), outputs, what: what.to_owned() }
    }

    #[test]
    fn a_change_of_several_outputs_is_reported_once() {
        let outputs = [
            (
                "0".to_owned(),
                vec![change(ChangeKind::Prompt, "at 3", "+a"), change(ChangeKind::Tokens, "own 0", "own 0")],
            ),
            ("1".to_owned(), vec![change(ChangeKind::Prompt, "at 7", "+a")]),
            ("2".to_owned(), vec![change(ChangeKind::Prompt, "at 7", "+b"), change(ChangeKind::Verdict, "b", "b")]),
            ("4".to_owned(), vec![change(ChangeKind::Verdict, "b", "b")]),
        ];
        assert_eq!(
            differences(&outputs, 4),
            [
                note(None, &["0", "1"], "at 3 (so in 0, alike in the others)"),
                note(Some("0"), &[], "own 0"),
                note(Some("2"), &[], "at 7"),
                note(Some("2"), &[], "b"),
                note(Some("4"), &[], "b"),
            ]
        );
        assert_eq!(differences(&outputs[2..], 2)[0], note(None, &["2", "4"], "b"), "all that there are");
    }

    proptest! {
        #[test]
        fn a_template_changes_every_question_alike(
            one in "[a-z0-9 é?]{1,40}", two in "[a-z0-9 é?]{1,40}",
            old in "[A-M]{1,9}", new in "[N-Z]{1,9}", end in "[A-Z]{0,5}"
        ) {
            let key = |question: &str| prompt_key(
                &format!("<{old}>\n{question}\n<{old}{end}>"), &format!("<{new}>\n{question}\n<{new}{end}>")
            );
            prop_assert_eq!(key(&one), key(&two));
            let other = one.clone() + "!";
            prop_assert!(key(&one) != prompt_key(&one, &other));
        }
    }
}
