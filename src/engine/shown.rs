//! What others wrote, shown as text and as nothing but text: names in files, a model's answers, a server's words, errors that repeat them.
//!
//! Everything that leaves the program for eyes goes through [`outgoing`]; what stands inside other text before that, through the function of
//! its kind.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// Whether a terminal, a browser or an editor obeys a character instead of showing it: controls but for tab and line feed, marks of
/// direction, separators of lines, what is no character, tags.
pub fn is_obeyed(c: char) -> bool {
    match c {
        '\t' | '\n' => false,
        // Marks of direction and separators of lines, then what is no character, then tags.
        '\u{61c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        _ => c.is_control() || c as u32 & 0xfffe == 0xfffe,
    }
}

/// A text with `�` for whatever would be obeyed; tabs and line breaks stay.
pub fn plain(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(plain_char).collect()
}

fn plain_char(c: char) -> char {
    if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }
}

/// A whole output: a table, a page, a document, a message. JSON keeps its values, as escapes; of anything else what would be obeyed becomes
/// `�`, but for the colours of a terminal where there are `colours`; and no line is a command to a CI system that reads the log.
pub fn outgoing(text: &str, colours: bool) -> String {
    if text.starts_with(['{', '[']) && is_json(text) {
        return escaped_json(text);
    }
    let shown = shown(text, colours);
    // A page's style sheet has lines that begin so; what is put into a page cannot, by its escapes.
    let is_page = shown.get(..9).is_some_and(|begin| begin.eq_ignore_ascii_case("<!doctype"));
    if is_page { shown } else { without_commands(&shown) }
}

/// The same of lines that are commands of our own.
pub fn commands(text: &str) -> String {
    plain(text)
}

fn shown(text: &str, colours: bool) -> String {
    if !colours {
        return plain(text);
    }
    let text = text.replace("\r\n", "\n");
    let mut parts = text.split("\x1b[");
    let mut shown: String = parts.next().unwrap_or_default().chars().map(plain_char).collect();
    for part in parts {
        let parameters = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        // Only what sets a colour or a style is ours.
        shown.push_str(if parameters.starts_with('m') { "\x1b[" } else { "\u{fffd}[" });
        shown.extend(part.chars().map(plain_char));
    }
    shown
}

/// One value, or many, as JSON lines are.
fn is_json(text: &str) -> bool {
    serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>().all(|value| value.is_ok())
}

/// C0 controls are escaped already, and nothing that is obeyed stands outside of a string; a line begins with none.
fn escaped_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            let mut units = [0; 2];
            escaped.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped.replace("##", "\\u0023#")
}

/// Lines that GitHub (`::error::` at their start, `##[error]` anywhere), Azure or `TeamCity` would obey, with a backslash within.
fn without_commands(text: &str) -> String {
    let defused = |line: &str| {
        let begin = line.len() - line.trim_start().len();
        let line = match line[begin..].strip_prefix("::") {
            Some(rest) => format!("{}\\::{rest}", &line[..begin]),
            None => line.to_owned(),
        };
        ["##[", "##vso[", "##teamcity["].iter().fold(line, |line, command| {
            if line.contains(command) { line.replace(command, &format!("#\\{}", &command[1..])) } else { line }
        })
    };
    text.split('\n').map(defused).collect::<Vec<_>>().join("\n")
}

/// A message of at most a screen: long lines are cut, and many lines but for the last two.
pub fn one_screen(message: &str) -> String {
    const LINES: usize = 20;
    const WIDTH: usize = 1000;
    let cut = |line: &str| match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    let lines: Vec<&str> = message.lines().collect();
    let (first, last) =
        if lines.len() > LINES { (&lines[..LINES - 3], &lines[lines.len() - 2..]) } else { (&lines[..], &[][..]) };
    let left_out = (!last.is_empty()).then(|| format!("… {} lines more", lines.len() - first.len() - last.len()));
    first
        .iter()
        .map(|line| cut(line))
        .chain(left_out)
        .chain(last.iter().map(|line| cut(line)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A CSV cell that no spreadsheet takes for a formula: a quote stands before it, as people type it. Numbers stay.
pub fn csv_cell(text: &str) -> Cow<'_, str> {
    let is_number =
        || text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) && text.parse::<f64>().is_ok();
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']) && !is_number() {
        return Cow::Owned(format!("'{text}"));
    }
    Cow::Borrowed(text)
}

/// Text within Markdown, on one line: no HTML, no link, no end of a table's cell, and no code that does not end.
pub fn markdown(text: &str) -> String {
    let line = text.split('\n').map(str::trim_end).collect::<Vec<_>>().join(" ");
    let line = if line.matches('`').count().is_multiple_of(2) { line } else { line.replace('`', "'") };
    let mut escaped = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('<', Some(next)) if next.is_ascii_alphabetic() || "/!?".contains(*next) => escaped.push_str("&lt;"),
            (']', Some('(' | ':' | '[')) => escaped.push_str("]\\"),
            ('|', _) => escaped.push_str("\\|"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Text within a code span of Markdown, on one line.
pub fn markdown_code(text: &str) -> String {
    text.replace('\n', " ").replace('`', "'").replace('|', "\\|")
}

/// Text within a fence of backticks: no line ends it.
pub fn markdown_fenced(text: &str) -> String {
    text.replace("```", "``\u{200b}`")
}

/// Text within HTML, in an element or an attribute.
pub fn html(text: &str) -> String {
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        c => c.to_string(),
    };
    // A page may be printed to a log that obeys such lines.
    text.chars().map(escape).collect::<String>().replace("::", "&#58;:").replace("##", "&#35;#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_obeyed_becomes_a_mark() {
        let hostile =
            "a\x1b[31mR\x1b]0;T\x07\u{9b}2J\u{202e}b\u{2066}\u{200f}\u{feff}\u{fffe}\u{10ffff}\u{fdd0}\r\u{7f}";
        let text = plain(hostile);
        assert!(!text.contains(is_obeyed) && text.starts_with("a�[31mR�]0;T��2J�b"), "{text}");
        assert_eq!(plain("a\tb\r\nc é 漢 👩‍🚀 ﷺ"), "a\tb\nc é 漢 👩‍🚀 ﷺ");
    }

    #[test]
    fn only_colours_of_a_terminal_stay_and_only_there() {
        let text = "\x1b[1;31mred\x1b[0m\x1b[2J\x1b]8;;x\x1b\\";
        assert_eq!(outgoing(text, true), "\x1b[1;31mred\x1b[0m�[2J�]8;;x�\\");
        assert_eq!(outgoing(text, false), "�[1;31mred�[0m�[2J�]8;;x�\\");
    }

    #[test]
    fn no_line_is_a_command_of_a_ci_system() {
        let text = "::error::a\n  ::set-output name=a::b\nx ::error::\n##[group]a\nx ##vso[task]\n##teamcity[a\n## [a]\r::warning::";
        let shown = "\\::error::a\n  \\::set-output name=a::b\nx ::error::\n#\\#[group]a\nx #\\#vso[task]\n#\\#teamcity[a\n## [a]�::warning::";
        assert_eq!(outgoing(text, false), shown);
        assert_eq!(commands("::error::a\x1b"), "::error::a�");
        assert_eq!(outgoing("<!doctype html>\n::before {}", false), "<!doctype html>\n::before {}");
    }

    #[test]
    fn json_keeps_its_values() {
        let value = serde_json::json!({"a": "\u{1b}\u{9b}\u{202e}\u{e0041}\u{ffff}::error::\né##[error]"});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = outgoing(&text, false);
        assert!(
            !shown.contains(is_obeyed) && !shown.contains("##[") && shown.contains("\\u202e") && shown.contains('é'),
            "{shown}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!(outgoing("{\"a\":\"\u{202e}\"}\n{\"b\":1}", false), "{\"a\":\"\\u202e\"}\n{\"b\":1}");
        assert_eq!(outgoing("{\"no JSON\u{202e}", false), "{\"no JSON�");
    }

    #[test]
    fn a_message_fits_a_screen() {
        assert_eq!(one_screen("a\nhint: b"), "a\nhint: b");
        let long = format!("{}\n{}hint: b", "x".repeat(5000), "line\n".repeat(100));
        let lines: Vec<String> = one_screen(&long).lines().map(str::to_owned).collect();
        assert_eq!((lines.len(), lines[0].chars().count(), lines[17].as_str()), (20, 1001, "… 83 lines more"));
        assert_eq!(lines[19], "hint: b");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for formula in ["=1+1", "+1+1", "-2+3", "@SUM(1)", "\t=1", "＝1", "-", "-e"] {
            assert_eq!(csv_cell(formula), format!("'{formula}"));
        }
        for text in ["-3", "+1.5e-3", "-0.25", "a=b", "", "1-2"] {
            assert_eq!(csv_cell(text), text);
        }
    }

    #[test]
    fn markdown_is_text() {
        assert_eq!(markdown("<img src=x>\n# a|b </td> p < 0.1 <0.1"), "&lt;img src=x> # a\\|b &lt;/td> p < 0.1 <0.1");
        assert_eq!(
            markdown("[a](http://b) ![c][d] [e]: f [0.1, 0.2]"),
            "[a]\\(http://b) ![c]\\[d] [e]\\: f [0.1, 0.2]"
        );
        assert_eq!(markdown("give `--a` and `b"), "give '--a' and 'b");
        assert_eq!(markdown("give `--a`"), "give `--a`");
        assert_eq!(markdown_code("a`|`<b>\nc"), "a'\\|'<b> c");
        assert!(!markdown_fenced("a\n````\n").contains("```"));
    }

    #[test]
    fn html_is_text() {
        assert_eq!(
            html("<a href='x'>&\"\n::error::##[a]"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\n&#58;:error&#58;:&#35;#[a]"
        );
    }
}
