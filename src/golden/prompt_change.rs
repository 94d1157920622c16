//! The first difference between two prompts.

/// Characters shown on either side of a change.
const AROUND: usize = 18;

/// `at character 57: "…step by step, one…" was "…"`: the first difference and the text around it, in both prompts.
pub(super) fn where_it_changed(was: &str, is: &str) -> String {
    let (old, new): (Vec<char>, Vec<char>) = (was.chars().collect(), is.chars().collect());
    let at = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    format!("at character {at}: was {:?}, is {:?}", around(&old, at), around(&new, at))
}

fn around(text: &[char], at: usize) -> String {
    let from = at.saturating_sub(AROUND);
    let to = (at + AROUND).min(text.len());
    let part: String = text.get(from..to).unwrap_or_default().iter().collect();
    format!("{}{part}{}", if from > 0 { "…" } else { "" }, if to < text.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_space_less_is_found_and_shown_in_its_surroundings() {
        assert_eq!(
            where_it_changed("Write the answer, like this: #### 42", "Write the answer, like this:#### 42"),
            "at character 28: was \"…answer, like this: #### 42\", is \"…answer, like this:#### 42\""
        );
        assert_eq!(where_it_changed("é", "éa"), "at character 1: was \"é\", is \"éa\"");
    }
}
