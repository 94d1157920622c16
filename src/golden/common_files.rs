//! Changes that several golden files have in common: each is reported once.

use serde::Serialize;

use super::{Checked, Entry};

/// A change that several golden files have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Common {
    /// What changed.
    pub what: String,
    /// It alone fails none of them.
    pub is_note: bool,
    /// How many outputs it touches in all of them together; 0 for a changed input.
    pub outputs: usize,
    /// Which golden files.
    #[serde(serialize_with = "paths")]
    pub golden_files: Vec<Entry>,
}

fn paths<S: serde::Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(|entry| &entry.path))
}

impl Common {
    /// `12 outputs: what changed`
    pub fn in_words(&self) -> String {
        if self.outputs == 0 { self.what.clone() } else { format!("{} outputs: {}", self.outputs, self.what) }
    }
}

/// Takes out of `checked` what several of them have in common.
pub fn reported_once(checked: &[Checked]) -> (Vec<Common>, Vec<Checked>) {
    let mut common: Vec<Common> = Vec::new();
    for one in checked {
        let whole = one.differences.iter().filter(|note| note.id.is_none());
        let whole = whole.map(|note| (&note.what, false, note.outputs.len()));
        for (what, is_note, outputs) in whole.chain(one.notes.iter().map(|what| (what, true, 0))) {
            match common.iter_mut().find(|known| (&known.what, known.is_note) == (what, is_note)) {
                Some(known) => {
                    known.outputs += outputs;
                    known.golden_files.push(one.entry.clone());
                }
                None => {
                    common.push(Common { what: what.clone(), is_note, outputs, golden_files: vec![one.entry.clone()] });
                }
            }
        }
    }
    common.retain(|one| one.golden_files.len() > 1);
    let is_common = |what: &str, is_note: bool| common.iter().any(|one| one.what == what && one.is_note == is_note);
    let particular = checked.iter().cloned().map(|mut one| {
        one.differences.retain(|note| note.id.is_some() || !is_common(&note.what, false));
        one.notes.retain(|note| !is_common(note, true));
        one
    });
    let particular = particular.collect();
    (common, particular)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::Precision;
    use crate::golden::{Note, Status, Store, Suite};

    fn note(id: Option<&str>, outputs: &[&str], what: &str) -> Note {
        let outputs = outputs.iter().map(|id| (*id).to_owned()).collect();
        Note { id: id.map(str::to_owned), outputs, what: what.to_owned() }
    }

    #[test]
    fn what_golden_files_have_in_common_is_taken_out_of_each() {
        let store = Store::new(Path::new("golden"));
        let checked = |variant: Precision, notes: &[&str], differences: Vec<Note>| Checked {
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
            differences,
            ..Checked::new(&store.entry(Suite::Gsm8k, "m", &variant.into()), Status::Changed, "s")
        };
        let all = [
            checked(Precision::F32, &["n"], vec![note(None, &["0", "1"], "p"), note(Some("0"), &[], "t")]),
            checked(Precision::F16, &["n", "own"], vec![note(None, &["0", "2", "3"], "p"), note(Some("0"), &[], "t")]),
            checked(Precision::Awq, &[], vec![note(None, &[], "alone")]),
        ];
        let (common, rest) = reported_once(&all);
        let seen: Vec<_> =
            common.iter().map(|one| (one.what.as_str(), one.is_note, one.outputs, one.golden_files.len())).collect();
        assert_eq!(seen, [("p", false, 5, 2), ("n", true, 0, 2)]);
        // An output's own change is its own, whatever another file's output of that id does.
        assert_eq!(rest[0].differences, [note(Some("0"), &[], "t")]);
        assert_eq!((rest[1].differences.len(), &rest[1].notes), (1, &vec!["own".to_owned()]));
        assert_eq!(rest[2].differences, all[2].differences);
    }
}
