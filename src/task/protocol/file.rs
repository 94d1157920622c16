//! Reads and checks a protocol's TOML text; `keys.rs` tells its keys.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::keys::{FEWSHOT_KEYS, KEYS, RULE_KEYS, names};
use super::{ChatUse, FewshotKind, Protocol, TaskError};
use crate::fault::Fault;
use crate::score::{Reference, Rule, Take};
use crate::task::toml_text::TomlText;

const DEFAULT_MAX_TOKENS: usize = 256;
const EXTRACTORS: [&str; 2] = ["numeric", "boxed"];
const KEYS_TOLD: &str =
    "docs/protocols.md tells every key; `evalsuite protocol new NAME` writes a file with all of them";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProtocolFile {
    name: Spanned<String>,
    version: u32,
    description: String,
    source: String,
    chat: ChatUse,
    system: Option<String>,
    prompt: Spanned<String>,
    target: Option<Spanned<String>>,
    target_delimiter: Option<String>,
    shot_separator: Option<String>,
    stops: Spanned<Vec<String>>,
    max_tokens: Option<Spanned<usize>>,
    reference: Reference,
    headline: Option<Spanned<String>>,
    fewshot: Option<Spanned<FewshotTable>>,
    rule: Vec<Spanned<RuleTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FewshotTable {
    kind: KindName,
    count: usize,
    seed: Option<u32>,
    found_in: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Train,
    File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: String,
    pattern: Option<Spanned<String>>,
    take: Option<Take>,
    extractor: Option<Spanned<String>>,
}

/// Compiles a protocol from its text; `label` names it in messages.
pub(super) fn parse(label: &str, text: &str) -> Result<Protocol, TaskError> {
    let checks = Checks(TomlText { kind: "protocol", label, text, keys_told: KEYS_TOLD });
    checks.0.check_keys(&names(KEYS), &[("fewshot", &names(FEWSHOT_KEYS)), ("rule", &names(RULE_KEYS))])?;
    let file: ProtocolFile = toml::from_str(text).map_err(|error| checks.0.syntax(&error))?;
    checks.check_values(&file)?;
    let headline = checks.headline(&file)?;
    let rules = file.rule.iter().map(|rule| checks.rule(rule, file.reference)).collect::<Result<_, _>>()?;
    let fewshot_count = file.fewshot.as_ref().map_or(0, |table| table.get_ref().count);
    let fewshot_kind = file.fewshot.as_ref().map(|table| checks.fewshot_kind(table)).transpose()?;
    Ok(Protocol {
        name: file.name.into_inner(),
        version: file.version,
        sha256: crate::files::sha256(text.as_bytes()),
        description: file.description,
        source: file.source,
        chat: file.chat,
        stop_strings: file.stops.into_inner(),
        max_tokens: file.max_tokens.map_or(DEFAULT_MAX_TOKENS, Spanned::into_inner),
        fewshot_count,
        fewshot_kind,
        rules,
        headline,
        system: file.system,
        prompt: file.prompt.into_inner(),
        target: file.target.map_or_else(|| "{answer}".to_owned(), Spanned::into_inner),
        target_delimiter: file.target_delimiter.unwrap_or_else(|| " ".to_owned()),
        shot_separator: file.shot_separator.unwrap_or_else(|| "\n\n".to_owned()),
    })
}

/// A protocol's text, whose values are checked beyond what TOML asks.
struct Checks<'a>(TomlText<'a>);

impl Checks<'_> {
    fn error(&self, span: &Range<usize>, what: &str, hint: impl Into<String>) -> TaskError {
        self.0.error(span, what, hint)
    }

    fn check_values(&self, file: &ProtocolFile) -> Result<(), TaskError> {
        if file.name.get_ref().trim().is_empty() {
            return Err(self.error(&file.name.span(), "the name is empty", "give the protocol a name"));
        }
        self.check_placeholder(&file.prompt, "prompt", "{question}")?;
        if let Some(target) = &file.target {
            self.check_placeholder(target, "target", "{answer}")?;
        }
        if file.stops.get_ref().iter().any(String::is_empty) {
            let what = "an empty stop string would end every generation at once";
            return Err(self.error(&file.stops.span(), what, "remove `\"\"` from `stops`"));
        }
        if let Some(limit) = file.max_tokens.as_ref().filter(|limit| *limit.get_ref() == 0) {
            return Err(self.error(&limit.span(), "`max_tokens = 0` generates nothing", "give at least 1"));
        }
        if let Some(table) = file.fewshot.as_ref().filter(|table| table.get_ref().count == 0) {
            return Err(self.error(&table.span(), "`count = 0` asks for no example", "leave `[fewshot]` out"));
        }
        let rules = &file.rule;
        if rules.is_empty() {
            return Err(self.error(
                &(0..0),
                "there is no `[[rule]]`",
                "a protocol needs at least one rule to score by",
            ));
        }
        let name = |rule: &Spanned<RuleTable>| rule.get_ref().name.clone();
        let twice = rules.iter().enumerate().find(|(at, rule)| rules[..*at].iter().any(|r| name(r) == name(rule)));
        match twice {
            Some((_, rule)) => {
                let what = format!("the rule name `{}` stands twice", name(rule));
                Err(self.error(&rule.span(), &what, "give every rule a name of its own"))
            }
            None => Ok(()),
        }
    }

    /// The first rule where the file names none.
    fn headline(&self, file: &ProtocolFile) -> Result<String, TaskError> {
        let names: Vec<&str> = file.rule.iter().map(|rule| rule.get_ref().name.as_str()).collect();
        match &file.headline {
            Some(headline) if !names.contains(&headline.get_ref().as_str()) => {
                let Fault { what, hint } = Fault::unknown("headline rule", headline.get_ref(), &names);
                Err(self.error(&headline.span(), &what, hint))
            }
            Some(headline) => Ok(headline.get_ref().clone()),
            None => Ok(names.first().map_or_else(String::new, |name| (*name).to_owned())),
        }
    }

    fn check_placeholder(&self, text: &Spanned<String>, key: &str, placeholder: &str) -> Result<(), TaskError> {
        if text.get_ref().contains(placeholder) {
            return Ok(());
        }
        let what = format!("the {key} has no `{placeholder}`");
        Err(self.error(&text.span(), &what, format!("write `{placeholder}` where it belongs in the {key}")))
    }

    fn fewshot_kind(&self, table: &Spanned<FewshotTable>) -> Result<FewshotKind, TaskError> {
        match table.get_ref() {
            FewshotTable { kind: KindName::Train, seed: Some(seed), found_in: None, .. } => {
                Ok(FewshotKind::Train { seed: *seed })
            }
            FewshotTable { kind: KindName::File, seed: None, found_in: Some(found_in), .. } => {
                Ok(FewshotKind::File { found_in: found_in.clone() })
            }
            _ => Err(self.error(
                &table.span(),
                "`[fewshot]` lacks a key of its kind or has one of the other's",
                "`kind = \"train\"` goes with `seed`, `kind = \"file\"` with `found_in`",
            )),
        }
    }

    fn rule(&self, rule: &Spanned<RuleTable>, reference: Reference) -> Result<Rule, TaskError> {
        let table = rule.get_ref();
        match (&table.pattern, table.take, &table.extractor) {
            (Some(pattern), Some(take), None) => {
                Rule::pattern(&table.name, pattern.get_ref(), take, reference).map_err(|error| {
                    let what = format!("the pattern of rule `{}` cannot be used: {error}", table.name);
                    let hint = "write a regular expression of the `regex` crate: no look-around and no back-references, \
                                in single quotes so that TOML leaves backslashes alone";
                    self.error(&pattern.span(), &what, hint)
                })
            }
            (None, None, Some(extractor)) => match extractor.get_ref().as_str() {
                "numeric" => Ok(Rule::numeric(&table.name)),
                "boxed" => Ok(Rule::boxed(&table.name)),
                other => {
                    let Fault { what, hint } = Fault::unknown("extractor", other, &EXTRACTORS);
                    Err(self.error(&extractor.span(), &what, hint))
                }
            },
            _ => Err(self.error(
                &rule.span(),
                &format!("rule `{}` says neither or too much of what it extracts", table.name),
                "give it `pattern` and `take` (`first` or `last`), or else `extractor` (`numeric` or `boxed`) alone",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"name = "mine"
version = 3
description = "d"
source = "our own"
chat = "required"
system = "Be brief."
prompt = "Q {question}"
target = "{answer}!"
target_delimiter = " -> "
shot_separator = "\n"
stops = ["Q"]
max_tokens = 9
reference = "full"
headline = "b"

[fewshot]
kind = "train"
count = 2
seed = 7

[[rule]]
name = "a"
pattern = '(\d+)'
take = "last"

[[rule]]
name = "b"
extractor = "numeric"
"#;

    fn message(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        let message = parse("mine.toml", &GOOD.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(message.contains("\nhint: ") && message.contains("mine.toml"), "{message}");
        message
    }

    #[test]
    fn every_key_is_read() {
        let protocol = parse("mine.toml", GOOD).unwrap();
        assert_eq!((protocol.name.as_str(), protocol.version, protocol.max_tokens), ("mine", 3, 9));
        assert_eq!((protocol.chat, protocol.fewshot_count, protocol.headline.as_str()), (ChatUse::Required, 2, "b"));
        assert_eq!(parse("f", &GOOD.replace("headline = \"b\"\n", "")).unwrap().headline, "a");
        assert_eq!(protocol.fewshot_kind, Some(FewshotKind::Train { seed: 7 }));
        assert_eq!(protocol.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(protocol.sha256, crate::files::sha256(GOOD.as_bytes()));
        let file = "kind = \"file\"\ncount = 2\nfound_in = \"a book\"";
        let protocol = parse("f", &GOOD.replace("kind = \"train\"\ncount = 2\nseed = 7", file)).unwrap();
        assert_eq!(protocol.fewshot_kind, Some(FewshotKind::File { found_in: "a book".to_owned() }));
    }

    #[test]
    fn unknown_keys_are_named_with_line_and_nearest() {
        let text = message("stops =", "stopps =");
        assert!(
            text.contains("line 11") && text.contains("`stopps`") && text.contains("did you mean `stops`"),
            "{text}"
        );
        assert!(message("seed = 7", "sede = 7").contains("did you mean `seed`"));
        assert!(message("take = \"last\"", "tak = \"last\"").contains("did you mean `take`"));
    }

    #[test]
    fn wrong_values_are_named_with_their_line() {
        assert!(message("chat = \"required\"", "chat = \"sometimes\"").contains("line 5: unknown variant `sometimes`"));
        assert!(message("{question}", "{Question}").contains("line 7: the prompt has no `{question}`"));
        assert!(message("{answer}", "answer").contains("the target has no `{answer}`"));
        assert!(message("[\"Q\"]", "[\"\"]").contains("line 11: an empty stop string"));
        assert!(message("max_tokens = 9", "max_tokens = 0").contains("line 12"));
        assert!(message("headline = \"b\"", "headline = \"c\"").contains("line 14: unknown headline rule `c`"));
        assert!(message("count = 2", "count = 0").contains("asks for no example"));
        assert!(message("name = \"b\"", "name = \"a\"").contains("`a` stands twice"));
        assert!(message("\"numeric\"", "\"numerics\"").contains("did you mean `numeric`"));
        assert!(message("take = \"last\"\n", "").contains("neither or too much"));
        assert!(message("version = 3\n", "").contains("missing field `version`"));
        assert!(message("version = 3", "version 3").contains("line 2"));
        assert!(message("kind = \"train\"", "kind = \"trian\"").contains("line 17: unknown variant `trian`"));
        assert!(message("kind = \"train\"", "kind = \"file\"").contains("of the other's"));
    }

    #[test]
    fn an_invalid_pattern_gives_line_and_reason() {
        let text = message(r"(\d+)", r"(\d+");
        assert!(text.contains("line 23") && text.contains("unclosed group"), "{text}");
    }
}
