//! Reads and checks a prompt set's file, TOML or JSON.
//!
//! Keys: `prompts` (a list) and, each of them optional, `name`, `version`, `description`, `system`, `max_tokens`, `tier` ([`Tier`]). A
//! prompt has `id` and `text`, and may have `kind`, `checks` (a list of tables of one key, a check's name, and its
//! argument: [`Check::new`]), `tier` (instead of the set's), `right` (an answer that must pass every check) and `wrong` (answers; every check must be
//! failed by one of them). The last two are never shown to a model: they hold the checks to what they mean.

use std::path::Path;

use serde_json::{Map, Value};

use super::{PromptSet, SetPrompt, TaskError, Tier};
use crate::fault::Fault;
use crate::score::Check;

const DEFAULT_MAX_TOKENS: usize = 256;
const KEYS: &[&str] = &["name", "version", "description", "system", "max_tokens", "tier", "prompts"];
const PROMPT_KEYS: &[&str] = &["id", "kind", "text", "checks", "tier", "right", "wrong"];

/// Compiles a set from the text of the file at `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<PromptSet, TaskError> {
    let label = path.display().to_string();
    let place = Place { label: &label, prompt: None };
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let read: Result<Value, String> = if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())
    };
    let value = read.map_err(|error| {
        let syntax = if is_json { "JSON" } else { "TOML" };
        place.error(
            &format!("this is no {syntax}: {error}"),
            "a file that ends in .json is read as JSON, any other as TOML",
        )
    })?;
    let Value::Object(file) = &value else {
        return Err(place.error("this is no prompt set", "write an object with the key `prompts`"));
    };
    place.check_keys(file, KEYS)?;
    let Some(Value::Array(list)) = file.get("prompts") else {
        let hint = "`prompts` is the list of the set's prompts: `[[prompts]]` in TOML, `\"prompts\": [ … ]` in JSON";
        return Err(place.error("there is no list `prompts`", hint));
    };
    if list.is_empty() {
        return Err(place.error("the list `prompts` is empty", "a set needs at least one prompt"));
    }
    let mut prompts: Vec<SetPrompt> = Vec::new();
    for (index, prompt) in list.iter().enumerate() {
        let prompt = read_prompt(&label, index, prompt)?;
        if prompts.iter().any(|before| before.id == prompt.id) {
            let what = format!("the id `{}` occurs twice", prompt.id);
            return Err(place.error(&what, "give every prompt an id of its own"));
        }
        prompts.push(prompt);
    }
    let stem = path.file_stem().map_or_else(|| label.clone(), |stem| stem.to_string_lossy().into_owned());
    Ok(PromptSet {
        name: place.text(file, "name")?.unwrap_or(stem),
        source: label.clone(),
        version: place.number(file, "version")?.map(|version| version as u32),
        sha256: crate::files::sha256(text.as_bytes()),
        system: place.text(file, "system")?,
        max_tokens: place.number(file, "max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS),
        tier: place.tier(file)?,
        prompts,
    })
}

fn read_prompt(label: &str, index: usize, value: &Value) -> Result<SetPrompt, TaskError> {
    let number = format!("number {}", index + 1);
    let nameless = Place { label, prompt: Some(&number) };
    let Value::Object(table) = value else {
        return Err(nameless.error("this is no prompt", "a prompt has the keys `id` and `text`"));
    };
    let id = nameless.required(table, "id")?;
    let place = Place { label, prompt: Some(&format!("`{id}`")) };
    place.check_keys(table, PROMPT_KEYS)?;
    let checks = place.checks(table)?;
    place.hold_to_examples(table, &checks)?;
    let tier = place.tier(table)?;
    Ok(SetPrompt { kind: place.text(table, "kind")?, text: place.required(table, "text")?, checks, tier, id })
}

/// Where a message points: a file, and a prompt in it.
struct Place<'a> {
    label: &'a str,
    prompt: Option<&'a str>,
}

impl Place<'_> {
    fn error(&self, what: &str, hint: &str) -> TaskError {
        let prompt = self.prompt.map_or_else(String::new, |prompt| format!(", prompt {prompt}"));
        TaskError::invalid(format!("prompts {}{prompt}: {what}", self.label), hint)
    }

    fn check_keys(&self, table: &Map<String, Value>, known: &[&str]) -> Result<(), TaskError> {
        match table.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                let Fault { what, hint } = Fault::unknown("key", key, known);
                Err(self.error(&what, &hint))
            }
            None => Ok(()),
        }
    }

    fn text(&self, table: &Map<String, Value>, key: &str) -> Result<Option<String>, TaskError> {
        match table.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
            Some(other) => {
                Err(self.error(&format!("`{key}` is {other}"), &format!("`{key}` is a text that is not blank")))
            }
        }
    }

    fn required(&self, table: &Map<String, Value>, key: &str) -> Result<String, TaskError> {
        self.text(table, key)?
            .ok_or_else(|| self.error(&format!("`{key}` is missing"), "a prompt has the keys `id` and `text`"))
    }

    fn number(&self, table: &Map<String, Value>, key: &str) -> Result<Option<usize>, TaskError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0) {
            Some(number) => Ok(Some(number as usize)),
            None => Err(self.error(&format!("`{key}` is {value}"), &format!("`{key}` is a whole number of 1 or more"))),
        }
    }

    fn tier(&self, table: &Map<String, Value>) -> Result<Option<Tier>, TaskError> {
        let Some(name) = self.text(table, "tier")? else { return Ok(None) };
        Tier::parse(&name).map(Some).ok_or_else(|| {
            let Fault { what, hint } = Fault::unknown("tier", &name, &Tier::ALL.map(Tier::name));
            self.error(&what, &hint)
        })
    }

    fn list<'a>(&self, table: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], TaskError> {
        match table.get(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(self.error(&format!("`{key}` is {other}"), &format!("`{key}` is a list"))),
        }
    }

    fn checks(&self, table: &Map<String, Value>) -> Result<Vec<Check>, TaskError> {
        let mut checks = Vec::new();
        for (index, value) in self.list(table, "checks")?.iter().enumerate() {
            let entries = value.as_object().into_iter().flatten().collect::<Vec<_>>();
            let [(name, argument)] = entries[..] else {
                let what = format!("`checks`, entry {}: {value} is no check", index + 1);
                return Err(self.error(&what, "a check is a table of one key, such as { max_sentences = 2 }"));
            };
            let check = Check::new(name, argument).map_err(|error| {
                let near = crate::text::nearest(name, Check::NAMES).filter(|_| !Check::NAMES.contains(&name.as_str()));
                let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                self.error(&format!("`checks`, entry {}: {}", index + 1, error.what), &(near + &error.hint))
            })?;
            checks.push(check);
        }
        Ok(checks)
    }

    /// A check that a right answer fails, or that no wrong one fails, would say nothing of a model.
    fn hold_to_examples(&self, table: &Map<String, Value>, checks: &[Check]) -> Result<(), TaskError> {
        if let Some(right) = self.text(table, "right")? {
            for check in checks {
                let verdict = check.verdict(&right);
                if !verdict.passed {
                    let found = verdict.found.map_or_else(String::new, |found| format!(" (found {found})"));
                    let what = format!("`right` fails its own check: {}{found}", verdict.check);
                    return Err(self.error(&what, "correct the answer or the check"));
                }
            }
        }
        let wrong = self.list(table, "wrong")?;
        let Some(wrong) = wrong.iter().map(Value::as_str).collect::<Option<Vec<&str>>>() else {
            return Err(self.error("`wrong` holds something that is no text", "`wrong` is a list of answers"));
        };
        let never_failed = |check: &&Check| wrong.iter().all(|answer| check.verdict(answer).passed);
        match checks.iter().find(never_failed).filter(|_| !wrong.is_empty()) {
            Some(check) => {
                let what = format!("no answer in `wrong` fails the check: {}", check.in_words());
                Err(self.error(&what, "add an answer that fails it, or tighten the check"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "mine"
version = 3
description = "d"
system = "Be brief."
max_tokens = 9
tier = "answer"

[[prompts]]
id = "one"
kind = "counting"
text = "How many?"
checks = [{ equals = "4" }, { max_words = 1 }]
right = "4"
wrong = ["four of them"]

[[prompts]]
id = "two"
text = "Why?"
tier = "tokens"
"#;

    fn toml(text: &str) -> Result<PromptSet, TaskError> {
        parse(Path::new("mine.toml"), text)
    }

    fn message(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        let message = toml(&GOOD.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(message.contains("\nhint: ") && message.contains("mine.toml"), "{message}");
        message
    }

    #[test]
    fn every_key_is_read() {
        let set = toml(GOOD).unwrap();
        assert_eq!((set.name.as_str(), set.version, set.max_tokens), ("mine", Some(3), 9));
        assert_eq!((set.system.as_deref(), set.kinds()), (Some("Be brief."), vec!["counting"]));
        let [one, two] = &set.prompts[..] else { panic!("two prompts") };
        assert_eq!((one.id.as_str(), one.text.as_str(), one.checks.len()), ("one", "How many?", 2));
        assert_eq!((two.kind.as_deref(), two.checks.len()), (None, 0));
        assert_eq!((set.tier, one.tier, two.tier), (Some(Tier::Answer), None, Some(Tier::Tokens)));
        assert_eq!(set.sha256, crate::files::sha256(GOOD.as_bytes()));
    }

    #[test]
    fn json_with_nothing_but_prompts_is_a_set() {
        let text = r#"{"system": "Be brief.", "prompts": [{"id": "a", "text": "b", "checks": [{"contains": "c"}]}]}"#;
        let set = parse(Path::new("/some/where/short.json"), text).unwrap();
        assert_eq!((set.name.as_str(), set.version, set.max_tokens), ("short", None, DEFAULT_MAX_TOKENS));
        assert_eq!((set.system.as_deref(), set.prompts.len()), (Some("Be brief."), 1));
        let broken = parse(Path::new("short.json"), "{\"prompts\": [}").unwrap_err().to_string();
        assert!(broken.contains("no JSON") && broken.contains("line 1"), "{broken}");
    }

    #[test]
    fn mistakes_name_file_prompt_and_field() {
        for (from, to, parts) in [
            ("text = \"How many?\"", "", &["prompt `one`", "`text` is missing"][..]),
            ("text = \"How many?\"", "text = \" \"", &["prompt `one`", "`text` is \" \""]),
            ("id = \"two\"", "", &["prompt number 2", "`id` is missing"]),
            ("id = \"two\"", "id = \"one\"", &["`one` occurs twice"]),
            ("id = \"two\"", "id = 2", &["prompt number 2", "`id` is 2"]),
            ("kind =", "knid =", &["prompt `one`", "did you mean `kind`"]),
            ("max_tokens = 9", "max_tokens = 0", &["`max_tokens` is 0", "1 or more"]),
            ("max_tokens = 9", "max_token = 9", &["did you mean `max_tokens`"]),
            ("version = 3", "version = \"3\"", &["`version` is \"3\""]),
            ("tier = \"tokens\"", "tier = \"tokns\"", &["prompt `two`", "did you mean `tokens`"]),
            ("version = 3", "version 3", &["no TOML", "3 | version 3"]),
            ("equals =", "equels =", &["prompt `one`", "`checks`, entry 1", "did you mean `equals`"]),
            ("{ max_words = 1 }", "{ max_words = 0 }", &["prompt `one`", "entry 2", "max_words", "1 or more"]),
            ("{ max_words = 1 }", "3", &["prompt `one`", "entry 2: 3 is no check", "one key"]),
            ("{ max_words = 1 }", "{ regex = '(' }", &["entry 2", "`regex` cannot be used"]),
            ("checks = [{ equals = \"4\" }, { max_words = 1 }]", "checks = 3", &["`checks` is 3"]),
            ("right = \"4\"", "right = \"5\"", &["prompt `one`", "`right` fails its own check: equals \"4\""]),
            ("[\"four of them\"]", "[\"four\"]", &["no answer in `wrong` fails the check: at most 1 word"]),
            ("[\"four of them\"]", "[4]", &["`wrong` holds something"]),
        ] {
            let message = message(from, to);
            assert!(parts.iter().all(|part| message.contains(part)), "{to}: {message}");
        }
        for text in ["", "prompts = []", "prompts = 3"] {
            assert!(toml(text).unwrap_err().to_string().contains("`prompts`"), "{text}");
        }
        assert!(parse(Path::new("a.json"), "[]").unwrap_err().to_string().contains("no prompt set"));
    }
}
