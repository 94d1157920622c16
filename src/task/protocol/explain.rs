//! A protocol in words: every key with what it does here, and what a prompt of it looks like.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::keys::{FEWSHOT_KEYS, KEYS, Key, RULE_KEYS};
use super::{ChatUse, FewshotKind, Protocol, TaskError};
use crate::score::score;
use crate::task::{Fewshot, Sample};

/// Columns of a terminal.
const WIDTH: usize = 100;

impl Protocol {
    /// Every key, its value here, and what it does.
    pub fn explain(&self) -> String {
        let mut text = format!("protocol {}, version {}, sha256 {}\n", self.name, self.version, self.sha256);
        for key in KEYS {
            match key.0 {
                "fewshot" => self.explain_fewshot(key, &mut text),
                "rule" => self.explain_rules(key, &mut text),
                name => explain_key(key, "", &self.value(name), &mut text),
            }
        }
        text
    }

    /// The value of a key that is neither a table nor a list of them.
    fn value(&self, key: &str) -> String {
        match key {
            "name" => quoted(&self.name),
            "version" => self.version.to_string(),
            "description" => quoted(&self.description),
            "source" => quoted(&self.source),
            "chat" => quoted(match self.chat {
                ChatUse::Never => "never",
                ChatUse::Auto => "auto",
                ChatUse::Required => "required",
            }),
            "system" => self.system.as_deref().map_or_else(|| "(none)".to_owned(), quoted),
            "prompt" => quoted(&self.prompt),
            "target" => quoted(&self.target),
            "target_delimiter" => quoted(&self.target_delimiter),
            "shot_separator" => quoted(&self.shot_separator),
            "stops" => format!("{:?}", self.stop_strings),
            "max_tokens" => self.max_tokens.to_string(),
            "reference" => self
                .rules
                .iter()
                .find_map(crate::score::Rule::reference)
                .map_or_else(|| "(no rule with a pattern)".to_owned(), |reference| quoted(reference.name())),
            "headline" => quoted(&self.headline),
            _ => String::new(),
        }
    }

    fn explain_fewshot(&self, key: &Key, text: &mut String) {
        let count = self.fewshot_count.to_string();
        let (seed, found_in, kind) = match &self.fewshot_kind {
            None => return explain_key(key, "", "(none)", text),
            Some(FewshotKind::Train { seed }) => (seed.to_string(), String::new(), "train"),
            Some(FewshotKind::File { found_in }) => (String::new(), quoted(found_in), "file"),
        };
        explain_key(key, "", "", text);
        for key in FEWSHOT_KEYS {
            let value = match key.0 {
                "kind" => quoted(kind),
                "count" => count.clone(),
                "seed" => seed.clone(),
                _ => found_in.clone(),
            };
            if !value.is_empty() {
                explain_key(key, "  ", &value, text);
            }
        }
    }

    fn explain_rules(&self, key: &Key, text: &mut String) {
        explain_key(key, "", "", text);
        for rule in &self.rules {
            let _ = writeln!(text, "  {}: {}", rule.name, rule.in_words());
        }
        for key in RULE_KEYS {
            explain_key(key, "  ", "", text);
        }
    }

    /// That the protocol is sound, what it does in a few lines, a sample's prompt as plain text, and, of a completion, what every
    /// rule makes of it.
    pub fn check(&self, sample: &Sample, completion: Option<&str>) -> Result<String, TaskError> {
        let chat = match self.chat {
            ChatUse::Never => "plain text, whatever the model",
            ChatUse::Auto => "through the model's chat template where it has one",
            ChatUse::Required => "through the model's chat template, which must be there",
        };
        let examples = match &self.fewshot_kind {
            None => "none".to_owned(),
            Some(FewshotKind::Train { seed }) => {
                format!("{} drawn from the task's few-shot split, seed {seed}", self.fewshot_count)
            }
            Some(FewshotKind::File { .. }) => format!("{} from the file that --fewshot names", self.fewshot_count),
        };
        let mut text = format!("protocol {}, version {}, is sound\n", self.name, self.version);
        let _ = writeln!(text, "prompts   {chat}");
        let _ = writeln!(text, "examples  {examples}");
        let _ = writeln!(text, "stops     {:?}, and {} tokens at most", self.stop_strings, self.max_tokens);
        for rule in &self.rules {
            let headline = if rule.name == self.headline { " (the headline)" } else { "" };
            let _ = writeln!(text, "rule      {}: {}{headline}", rule.name, rule.in_words());
        }
        let shots =
            (1..=self.fewshot_count).map(|number| (format!("<question {number}>"), format!("<answer {number}>")));
        let plain = Self { chat: ChatUse::Never, ..self.clone() };
        let prompt = plain.render(sample, &Fewshot::Fixed(shots.collect()), None)?;
        let _ = writeln!(text, "\n--- a prompt as plain text\n{}\n---", prompt.text);
        for extraction in completion.iter().flat_map(|completion| score(&self.rules, completion, sample.expected())) {
            let right = if extraction.correct { "right" } else { "wrong" };
            let _ = match extraction.value {
                Some(value) => writeln!(text, "{} finds {value:?}: {right}", extraction.rule),
                None => writeln!(text, "{} finds nothing: wrong", extraction.rule),
            };
        }
        Ok(text)
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// `key = value`, and below it what the key does.
fn explain_key((name, meaning): &Key, indent: &str, value: &str, text: &mut String) {
    let separator = if value.is_empty() { "" } else { " = " };
    let _ = writeln!(text, "{indent}{name}{separator}{value}");
    let mut line = format!("{indent}   ");
    for word in meaning.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}   ");
        }
        line.push(' ');
        line += word;
    }
    let _ = writeln!(text, "{line}");
}

/// Where a new protocol's file goes and what stands in it: `NAME.toml` here, or a path.
pub fn new_protocol(name_or_path: &str) -> Result<(PathBuf, String), TaskError> {
    let is_toml = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let is_path = name_or_path.contains('/') || is_toml(Path::new(name_or_path));
    let path = PathBuf::from(if is_path { name_or_path.to_owned() } else { format!("{name_or_path}.toml") });
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_name = !stem.is_empty() && stem.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !is_name || !is_toml(&path) {
        return Err(TaskError::invalid(
            format!("`{name_or_path}` is no name for a protocol"),
            "give letters, digits, `-`, `_` and `.`, such as my-protocol, or a path that ends in .toml",
        ));
    }
    let text = crate::bundled::PROTOCOL_TEMPLATE.replace("\"NAME\"", &format!("\"{stem}\""));
    Ok((path, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_every_protocol_is_explained() {
        for name in Protocol::names() {
            let text = Protocol::open(name).unwrap().explain();
            for (key, _) in KEYS {
                assert!(
                    text.lines().any(|line| line == *key || line.starts_with(&format!("{key} = "))),
                    "{name}: {key}"
                );
            }
            assert!(
                text.lines().all(|line| line.starts_with("prompt = ") || line.chars().count() <= 2 * WIDTH),
                "{text}"
            );
        }
        let text = Protocol::open("gsm8k").unwrap().explain();
        assert!(text.contains("  kind = \"train\"") && text.contains("  seed = 1234"), "{text}");
        assert!(text.contains("reference = \"full\"") && text.contains("  strict: the first match of"), "{text}");
    }

    #[test]
    fn the_documentation_tells_every_key() {
        let page = include_str!("../../../docs/protocols.md");
        for (key, meaning) in KEYS.iter().chain(FEWSHOT_KEYS).chain(RULE_KEYS) {
            assert!(page.contains(&format!("| `{key}` | {meaning} |")), "docs/protocols.md on `{key}`: {meaning}");
        }
    }

    #[test]
    fn the_template_has_every_key_and_is_sound() {
        let (path, text) = new_protocol("mine").unwrap();
        assert_eq!(path, Path::new("mine.toml"));
        let protocol = super::super::file::parse("mine.toml", &text).unwrap();
        assert_eq!((protocol.name.as_str(), protocol.rules.len()), ("mine", 2));
        for (key, _) in KEYS.iter().chain(FEWSHOT_KEYS).chain(RULE_KEYS) {
            let written = [format!("{key} ="), format!("[{key}]")];
            assert!(written.iter().any(|way| text.contains(way)), "the template lacks `{key}`");
        }
        assert_eq!(new_protocol("a/b-c.toml").unwrap().0, Path::new("a/b-c.toml"));
        for bad in ["", "a b", "a/b", "a/.toml", "é"] {
            assert!(new_protocol(bad).unwrap_err().to_string().contains("is no name"), "{bad}");
        }
    }

    #[test]
    fn a_check_shows_a_prompt_and_what_the_rules_find() {
        let protocol = Protocol::open("gsm8k-cot").unwrap();
        let text = protocol.check(&Sample::new(0, "2 + 2?", "#### 4"), Some("The answer is 4. ")).unwrap();
        assert!(text.contains("is sound") && text.contains("8 from the file that --fewshot names"), "{text}");
        assert!(text.contains("Q: <question 8>\nA: <answer 8>\n\nQ: 2 + 2?\nA:\n---"), "{text}");
        assert!(text.contains("numeric finds \"4\": right"), "{text}");
    }
}
