//! Chat templates: the Jinja text that a model's tokenizer carries.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

use super::{builtins, methods, source};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// What `role` says.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: content.into() }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub(in crate::task) struct Compiled {
    environment: Environment<'static>,
    /// Special tokens by what they are for: `bos_token`, …
    tokens: BTreeMap<String, String>,
}

/// What templates call the switch that lets a model think.
const THINKING: [&str; 2] = ["enable_thinking", "thinking"];
const NAME: &str = "chat template";
/// Instructions that a rendering may take: what a hundred thousand messages would.
const STEPS: u64 = 10_000_000;
/// Bytes that a rendering may have: more than any model reads.
const LONGEST: usize = 16 << 20;

impl Compiled {
    pub(in crate::task) fn new(source: &str, tokens: &BTreeMap<String, String>) -> Result<Self, String> {
        let rewritten =
            source::rewritten(source).map_err(|(line, what)| format!(" at line {line}: {what} is not read"))?;
        let environment = environment(rewritten).map_err(|error| reason(&error))?;
        Ok(Self { environment, tokens: tokens.clone() })
    }

    /// The conversation as text; else why there is none.
    pub(in crate::task) fn render(&self, messages: &[Message], thinking: Option<bool>) -> Result<String, String> {
        let text = self.try_render(messages, thinking).map_err(|error| reason(&error))?;
        if text.len() > LONGEST {
            return Err(format!(": it makes {} bytes of a conversation, more than {LONGEST}", text.len()));
        }
        Ok(text)
    }

    /// Whether the template asks if the model is to think.
    pub(in crate::task) fn takes_thinking(&self) -> bool {
        let asked = self.environment.get_template(NAME).map(|template| template.undeclared_variables(false));
        asked.is_ok_and(|names| THINKING.iter().any(|name| names.contains(*name)))
    }

    /// Whether a system message appears in the text.
    pub(in crate::task) fn shows_system(&self) -> bool {
        const PROBE: &str = "does a system message appear?";
        let messages = [Message::new("system", PROBE), Message::new("user", "hello")];
        self.try_render(&messages, None).is_ok_and(|text| text.contains(PROBE))
    }

    fn try_render(&self, messages: &[Message], thinking: Option<bool>) -> Result<String, Error> {
        let pair = |message: &Message| Value::from_pairs([("role", &message.role), ("content", &message.content)]);
        // Only what is said is defined: templates have a default of their own.
        let thinking = thinking.iter().flat_map(|thinking| THINKING.map(|name| (name, Value::from(*thinking))));
        let tokens = self.tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text)));
        let named = Value::from_pairs(tokens.chain(thinking));
        self.environment.get_template(NAME)?.render(context! {
            messages => messages.iter().map(pair).collect::<Vec<Value>>(),
            add_generation_prompt => true,
            tools => (),
            documents => (),
            ..named
        })
    }
}

fn environment(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(STEPS));
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: &str| strftime(format));
    builtins::add(&mut environment);
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// ` at line 3: why`.
fn reason(error: &Error) -> String {
    let line = error.line().map(|line| format!(" at line {line}")).unwrap_or_default();
    let reason = match error.kind() {
        ErrorKind::OutOfFuel => format!("it takes more than {STEPS} steps"),
        kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
    };
    format!("{line}: {reason}")
}

/// `strftime` of 26 July 2024, 00:00:00, a Friday and the 208th day of its year.
fn strftime(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text.push_str(match chars.next() {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('B') => "July",
            Some('b' | 'h') => "Jul",
            Some('d') => "26",
            Some('j') => "208",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('H' | 'M' | 'S') => "00",
            Some('I') => "12",
            Some('p') => "AM",
            Some('F') => "2024-07-26",
            Some('T') => "00:00:00",
            Some('-') if chars.as_str().starts_with('d') => skip(&mut chars, "26"),
            Some('-') if chars.as_str().starts_with('m') => skip(&mut chars, "7"),
            Some('%') => "%",
            other => {
                let directive = other.map(String::from).unwrap_or_default();
                let message = format!("strftime_now does not know the directive %{directive}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        });
    }
    Ok(text)
}

fn skip(chars: &mut std::str::Chars, text: &'static str) -> &'static str {
    chars.next();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{ChatTemplate, TaskError};

    fn render(source: &str, messages: &[Message]) -> Result<String, TaskError> {
        ChatTemplate::new(source, &tokens())?.render(messages)
    }

    fn tokens() -> BTreeMap<String, String> {
        [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, text)| (name.to_owned(), text.to_owned())).into()
    }

    fn user() -> Vec<Message> {
        vec![Message::new("user", "hi")]
    }

    #[test]
    fn small_templates_render_as_in_transformers() {
        let cases: Vec<(String, Option<String>)> =
            serde_json::from_str(include_str!("../../../tests/data/templates.json")).unwrap();
        let messages = [("system", " sys "), ("user", "hi\nyou"), ("assistant", "yo"), ("user", "ok")];
        let messages = messages.map(|(role, text)| Message::new(role, text));
        for (source, expected) in cases {
            let rendered = render(&source, &messages);
            match (&rendered, &expected) {
                (Ok(text), Some(expected)) => assert_eq!(text, expected, "{source}"),
                (Err(_), None) => {}
                _ => panic!("{source}: {rendered:?}, in transformers {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        for (source, named) in [
            ("{{ [1] | tojson(foo=1) }}", "keyword argument"),
            ("{{ nope | tojson }}", "tojson cannot write"),
            ("{{ '\\N{BULLET}' }}", "`\\N{…}`"),
            (
                "{% for i in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
                "`break` in a `generation`",
            ),
            ("{{ 'a' | center(100000000000) }}", "a width of 100000000000"),
            ("{{ 'a'.zfill(100000000000) }}", "a width of 100000000000"),
            ("{{ [1] | random }}", "random"),
        ] {
            let message = render(source, &user()).unwrap_err().to_string();
            assert!(message.contains(named) && message.contains("line 1"), "{source}: {message}");
        }
    }

    #[test]
    fn a_template_that_does_not_parse_names_its_line() {
        let message = render("ok\n{% if %}", &user()).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("hint: "), "{message}");
    }

    #[test]
    fn raised_exceptions_carry_their_message_and_line() {
        let message = render("a\nb\n{{ raise_exception('roles!') }}", &user()).unwrap_err().to_string();
        assert!(message.contains("line 3") && message.contains("roles!"), "{message}");
    }

    #[test]
    fn json_is_what_python_writes() {
        let source = "{{ {'a': [1, 'é<&\\'>', none, true]} | tojson }}{{ [1] | tojson(indent=2) }}";
        assert_eq!(render(source, &user()).unwrap(), "{\"a\": [1, \"é<&'>\", null, true]}[\n  1\n]");
    }

    #[test]
    fn the_date_never_moves() {
        let source = "{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%A, %B %-d, %Y %H:%M') }}";
        assert_eq!(render(source, &user()).unwrap(), "26 Jul 2024|Friday, July 26, 2024 00:00");
        assert!(render("{{ strftime_now('%Q') }}", &user()).unwrap_err().to_string().contains("%Q"));
    }

    #[test]
    fn nothing_is_escaped_and_blocks_leave_no_space() {
        let source =
            "  {% for m in messages %}\n{{ m['content'].strip() + m.role.upper() }}\n  {% break %}\n  {% endfor %}\n.";
        assert_eq!(render(source, &[Message::new("user", " <a & b> ")]).unwrap(), "<a & b>USER\n.");
    }

    #[test]
    fn the_constructs_of_longer_templates_work() {
        let source = "{%- macro turn(m) -%}<{{ m.role }}>{{ m['content'] | trim }}{%- endmacro -%}
            {%- if tools is none and documents is defined and not date_string is defined %}
                {%- set date_string = strftime_now('%d %b %Y') if strftime_now is defined else 'never' %}
            {%- endif %}
            {%- set ns = namespace(last=-1, system=none) %}
            {%- for message in messages[::-1] %}
                {%- if message.role == 'user' and message.content is string and ns.last == -1 %}
                    {%- set ns.last = (messages | length - 1) - loop.index0 %}
                {%- endif %}
            {%- endfor %}
            {{- date_string }}|{{ ns.last }}|
            {%- for message in messages %}
                {%- if not message.content.startswith('skip') %}{{ turn(message) }}{% else %}{% continue %}{% endif %}
            {%- endfor %}
            {{- '|' ~ messages[-1].content.split(' ')[-1].rstrip('!') }}{{ '|' + bos_token if add_generation_prompt }}";
        let messages = [Message::new("system", " be brief "), Message::new("user", "well done!")];
        assert_eq!(render(source, &messages).unwrap(), "26 Jul 2024|1|<system>be brief<user>well done!|done|<s>");
    }

    #[test]
    fn a_template_is_told_of_thinking_only_what_the_user_says() {
        let source = "{% if enable_thinking is defined and not enable_thinking %}off{% elif enable_thinking is defined %}on{% else %}own{% endif %}";
        let mut template = ChatTemplate::new(source, &BTreeMap::new()).unwrap();
        assert!(template.takes_thinking());
        assert_eq!(template.render(&user()).unwrap(), "own");
        for (thinking, text) in [(false, "off"), (true, "on")] {
            template.set_thinking(thinking);
            assert_eq!(template.render(&user()).unwrap(), text);
        }
        assert!(ChatTemplate::new("{{ thinking }}", &BTreeMap::new()).unwrap().takes_thinking());
        let takes_none = "{{ messages }}{% set enable_thinking = true %}{{ enable_thinking }}";
        assert!(!ChatTemplate::new(takes_none, &BTreeMap::new()).unwrap().takes_thinking());
    }

    #[test]
    fn a_template_that_drops_or_refuses_the_system_message_is_known() {
        let accepts = |source| ChatTemplate::new(source, &BTreeMap::new()).unwrap().accepts_system();
        assert!(accepts("{% for m in messages %}{{ m.content }}{% endfor %}"));
        assert!(!accepts("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"));
        assert!(!accepts("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"));
    }
}
