//! A template's text as minijinja is to read it: where Jinja2 or transformers reads the same text otherwise, it is written
//! anew. No line moves to another number.

use std::iter::Peekable;
use std::str::Chars;

/// The template with line ends as Jinja2 counts them, `{% generation %}` (by which transformers finds what the assistant
/// said, and which opens a scope) as `{% with %}`, and string literals with their escapes resolved as Python does.
/// The error says what cannot be read, and in which line. `break` out of a block within a loop is, for minijinja leaves
/// such a block open.
pub(super) fn rewritten(source: &str) -> Result<String, (usize, String)> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut blocks: Vec<&str> = Vec::new();
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let length = if tag.starts_with("{#") {
            let length = tag.find("#}").map_or(tag.len(), |end| end + 2);
            out.push_str(&tag[..length]);
            length
        } else if let Some(length) = raw(tag) {
            out.push_str(&tag[..length]);
            length
        } else if let Some((open, word, close)) = generation(tag) {
            nest(&mut blocks, word, false).map_err(|what| (1 + out.matches('\n').count(), what))?;
            out.push_str(open);
            out.push_str(if word == "generation" { "with" } else { "endwith" });
            out.push_str(close);
            open.len() + word.len() + close.len()
        } else if tag.starts_with("{{") || tag.starts_with("{%") {
            let line = |length: usize| 1 + out.matches('\n').count() + tag[..length].matches('\n').count();
            let Expression { text, length, assigns } =
                expression(tag).map_err(|(length, what)| (line(length), what))?;
            if let Some((word, _)) = first_word(tag) {
                nest(&mut blocks, word, assigns).map_err(|what| (line(0), what))?;
            }
            out.push_str(&text);
            length
        } else {
            out.push('{');
            1
        };
        rest = &tag[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// A statement's first word, and all that stands behind it.
fn first_word(tag: &str) -> Option<(&str, &str)> {
    let inside = tag.strip_prefix("{%")?.trim_start_matches(['-', '+']).trim_start();
    Some(inside.split_at(inside.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(inside.len())))
}

/// A statement of one word: what stands before the word, the word, what stands behind it.
fn single_word(tag: &str) -> Option<(&str, &str, &str)> {
    let (word, behind) = first_word(tag)?;
    let close = behind.trim_start().trim_start_matches(['-', '+']).strip_prefix("%}")?;
    let end = tag.len() - behind.len();
    let length = tag.len() - close.len();
    Some((&tag[..end - word.len()], word, &tag[end..length]))
}

/// The length of a raw block.
fn raw(tag: &str) -> Option<usize> {
    let (open, _, close) = single_word(tag).filter(|(_, word, _)| *word == "raw")?;
    let mut at = open.len() + "raw".len() + close.len();
    while let Some(next) = tag[at..].find("{%") {
        match single_word(&tag[at + next..]) {
            Some((open, "endraw", close)) => return Some(at + next + open.len() + "endraw".len() + close.len()),
            _ => at += next + 2,
        }
    }
    Some(tag.len())
}

/// Begin or end of what the assistant said.
fn generation(tag: &str) -> Option<(&str, &str, &str)> {
    single_word(tag).filter(|(_, word, _)| matches!(*word, "generation" | "endgeneration"))
}

/// Follows the blocks that are open, as far as they matter to a loop that is left.
fn nest<'a>(blocks: &mut Vec<&'a str>, word: &'a str, assigns: bool) -> Result<(), String> {
    const BLOCKS: [&str; 7] = ["for", "with", "generation", "filter", "call", "macro", "set"];
    match word {
        "set" if assigns => {}
        "break" | "continue" => {
            if let Some(block) = blocks.last().filter(|block| **block != "for") {
                return Err(format!("`{word}` in a `{block}` block"));
            }
        }
        _ if BLOCKS.contains(&word) => blocks.push(word),
        _ if word.strip_prefix("end").is_some_and(|begin| BLOCKS.contains(&begin)) => _ = blocks.pop(),
        _ => {}
    }
    Ok(())
}

/// A tag with an expression in it.
struct Expression {
    /// With its string literals written anew.
    text: String,
    /// How long it was.
    length: usize,
    /// There is a `=` outside brackets.
    assigns: bool,
}

/// Reads a tag; the error says how far in.
fn expression(tag: &str) -> Result<Expression, (usize, String)> {
    let close = if tag.starts_with("{{") { "}}" } else { "%}" };
    let mut out = tag[..2].to_owned();
    let mut at = 2;
    let mut depth = 0_usize;
    let mut assigns = false;
    while let Some(c) = tag[at..].chars().next() {
        // Within brackets, `}}` closes two of them.
        if depth == 0 && tag[at..].starts_with(close) {
            out.push_str(close);
            return Ok(Expression { text: out, length: at + 2, assigns });
        }
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '=' => assigns |= depth == 0,
            '\'' | '"' => {
                if let Some(length) = literal(&tag[at..], c) {
                    let written = &tag[at + 1..at + length - 1];
                    out.push_str(&resolved(written, c).map_err(|what| (at, what))?);
                    at += length;
                    continue;
                }
            }
            _ => {}
        }
        out.push(c);
        at += c.len_utf8();
    }
    Ok(Expression { text: out, length: at, assigns })
}

/// How long a string literal is, quotes included; `None` where it has no end.
fn literal(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

/// A literal of the same text without escapes other than those of backslash and quote, and behind it the line ends that
/// were escaped.
fn resolved(written: &str, quote: char) -> Result<String, String> {
    let mut out = String::from(quote);
    let mut joined_lines = 0;
    let put = |c: char, out: &mut String| {
        if c == '\\' || c == quote {
            out.push('\\');
        }
        out.push(c);
    };
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            put(c, &mut out);
            continue;
        }
        match chars.next() {
            Some('\n') => joined_lines += 1,
            Some(escape) => unescaped(escape, &mut chars)?.chars().for_each(|c| put(c, &mut out)),
            None => put('\\', &mut out),
        }
    }
    out.push(quote);
    (0..joined_lines).for_each(|_| out.push('\n'));
    Ok(out)
}

/// What `\` and `escape` stand for, as Python's `unicode_escape` has it.
fn unescaped(escape: char, chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let one = |c: char| Ok(c.to_string());
    match escape {
        '\\' | '\'' | '"' => one(escape),
        'a' => one('\u{7}'),
        'b' => one('\u{8}'),
        'f' => one('\u{c}'),
        'n' => one('\n'),
        'r' => one('\r'),
        't' => one('\t'),
        'v' => one('\u{b}'),
        '0'..='7' => {
            let mut code = escape.to_digit(8).unwrap_or_default();
            for _ in 0..2 {
                let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
                code = code * 8 + digit;
                chars.next();
            }
            one(char::from_u32(code).unwrap_or_default())
        }
        'x' => hexadecimal(chars, escape, 2).and_then(|code| character(code, escape)),
        'u' => {
            let code = hexadecimal(chars, escape, 4)?;
            character(pair(code, chars).unwrap_or(code), escape)
        }
        'U' => hexadecimal(chars, escape, 8).and_then(|code| character(code, escape)),
        'N' if chars.peek() == Some(&'{') => Err("a string escape `\\N{…}`, a character by its name".to_owned()),
        // Python writes a character beyond ASCII as an escape before it reads escapes, and so loses one backslash.
        c if !c.is_ascii() && u32::from(c) < 0x100 => Ok(format!("\\x{:02x}", u32::from(c))),
        c if !c.is_ascii() && u32::from(c) < 0x1_0000 => Ok(format!("\\u{:04x}", u32::from(c))),
        c if !c.is_ascii() => Ok(format!("\\U{:08x}", u32::from(c))),
        c => Ok(format!("\\{c}")),
    }
}

/// The character that two halves in UTF-16 stand for, where `high` is the first of such and the second follows.
fn pair(high: u32, chars: &mut Peekable<Chars<'_>>) -> Option<u32> {
    if !(0xd800..0xdc00).contains(&high) {
        return None;
    }
    let mut ahead = chars.clone();
    let begins = ahead.next() == Some('\\') && ahead.next() == Some('u');
    let low = if begins { hexadecimal(&mut ahead, 'u', 4).ok()? } else { return None };
    let low = (0xdc00..0xe000).contains(&low).then_some(low)?;
    *chars = ahead;
    Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}

fn hexadecimal(chars: &mut Peekable<Chars<'_>>, escape: char, digits: u32) -> Result<u32, String> {
    (0..digits).try_fold(0_u32, |code, _| {
        let digit = chars.peek().and_then(|c| c.to_digit(16));
        let digit = digit.ok_or_else(|| format!("a string escape `\\{escape}` without {digits} hexadecimal digits"))?;
        chars.next();
        Ok(code << 4 | digit)
    })
}

fn character(code: u32, escape: char) -> Result<String, String> {
    char::from_u32(code)
        .map(String::from)
        .ok_or_else(|| format!("a string escape `\\{escape}{code:x}`, which is no character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_opens_a_scope_where_it_is_a_statement_and_nowhere_else() {
        for (source, expected) in [
            ("{% generation %}a{% endgeneration %}", "{% with %}a{% endwith %}"),
            ("{%-generation\n-%} a {%+ endgeneration -%}", "{%-with\n-%} a {%+ endwith -%}"),
            (
                "{# {% generation %} #}{% raw %}{% generation %}{% endraw %}",
                "{# {% generation %} #}{% raw %}{% generation %}{% endraw %}",
            ),
            ("{{ '{% generation %}' }} { generation }", "{{ '{% generation %}' }} { generation }"),
            ("{% set generation = {'a': {}} %}", "{% set generation = {'a': {}} %}"),
            ("{%- raw -%}{{ '\\z' {%- endraw -%}{% generation %}", "{%- raw -%}{{ '\\z' {%- endraw -%}{% with %}"),
            ("a\r\nb\rc{", "a\nb\nc{"),
        ] {
            assert_eq!(rewritten(source).unwrap(), expected);
        }
    }

    #[test]
    fn a_loop_is_not_left_out_of_a_block_within_it() {
        for block in
            ["with", "generation", "with a = 1", "filter upper", "set x", "set x | indent(width=2)", "call f()"]
        {
            let end = block.split(' ').next().unwrap();
            for word in ["break", "continue"] {
                let source =
                    format!("{{% for i in x %}}\n{{% {block} %}}{{%- {word} %}}{{% end{end} %}}{{% endfor %}}");
                let (line, what) = rewritten(&source).unwrap_err();
                assert!(line == 2 && what.contains(&format!("`{word}` in a `{end}` block")), "{line} {what}");
            }
        }
        for source in [
            "{% for i in x %}{% with %}{% for j in i %}{% break %}{% endfor %}{% endwith %}{% endfor %}",
            "{% for i in x %}{% set a = 1 %}{% if a %}{% continue %}{% endif %}{% endfor %}",
            "{% with %}{% for i in x %}{% set b %}1{% endset %}{% break %}{% endfor %}{% endwith %}",
        ] {
            assert_eq!(rewritten(source).unwrap(), source);
        }
    }

    #[test]
    fn string_literals_are_read_as_python_reads_them() {
        for (source, expected) in [
            (r"{{ 'a\x41\101\0\n' }}", "{{ 'aAA\0\n' }}"),
            (r#"{{ "\"\'\\\/\d" }}"#, r#"{{ "\"'\\\\/\\d" }}"#),
            ("{{ 'x\\\ny' }}", "{{ 'xy'\n }}"),
            (r"{{ '\u00e9\U0001f600\ud83d\ude00' }}", "{{ 'é😀😀' }}"),
            (r"{{ {'a': {'b': 1}} ~ '\x7a' }}", "{{ {'a': {'b': 1}} ~ 'z' }}"),
            (r"{{ 'no end", r"{{ 'no end"),
            (r"text '\x41' {% if '\x41' %}", r"text '\x41' {% if 'A' %}"),
            ("{{ '\\é\\€' }}", "{{ '\\\\xe9\\\\u20ac' }}"),
        ] {
            assert_eq!(rewritten(source).unwrap(), expected);
        }
        for source in [r"{{ '\x4' }}", r"{{ '\ud83d' }}", r"{{ '\N{BULLET}' }}", r"{{ '\U00110000' }}"] {
            let (line, what) = rewritten(&format!("\n{{{{ 1\n}}}}\n{source}")).unwrap_err();
            assert!(line == 4 && what.contains("a string escape `\\"), "{line} {what}");
        }
    }
}
