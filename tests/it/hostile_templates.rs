//! Chat templates that nobody wrote in good faith: sentences of Jinja's grammar with what grows, nests and never ends in them.

use crate::mutate::Random;

const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "3",
    "60",
    "99999",
    "10000000000",
    "18446744073709551615",
    "-9223372036854775808",
    "1e308",
    "0.5",
    "99999999999999999999999999999",
];
const NAMES: [&str; 14] = [
    "messages",
    "messages[0]",
    "messages[0].content",
    "m",
    "m.role",
    "loop",
    "loop.index",
    "loop.previtem",
    "bos_token",
    "ns",
    "ns.x",
    "nothing",
    "nothing.more",
    "self",
];
const TEXTS: [&str; 8] =
    ["''", "'a'", "'a\nb'", "'%s'", "'{0:>99999999}'", "'\\u202e\\x1b[2J'", "'::error::'", "'{{ messages }}'"];
const OPERATORS: [&str; 16] = [
    " + ", " - ", " * ", " / ", " // ", " % ", " ** ", " ~ ", " == ", " != ", " < ", " >= ", " in ", " and ", " or ",
    " is not ",
];
const FILTERS: [&str; 34] = [
    "abs",
    "batch(#)",
    "capitalize",
    "default(#)",
    "dictsort",
    "first",
    "float",
    "groupby('role')",
    "indent(#)",
    "int",
    "items",
    "join(#)",
    "last",
    "length",
    "list",
    "lower",
    "map('upper')",
    "max",
    "min",
    "pprint",
    "reject",
    "replace('a', # ~ 'aaaa')",
    "reverse",
    "round(#)",
    "safe",
    "select",
    "slice(#)",
    "sort",
    "string",
    "sum",
    "title",
    "tojson(indent=#)",
    "trim",
    "unique",
];
const METHODS: [&str; 16] = [
    "center(#)",
    "count(#)",
    "find(#)",
    "format(#)",
    "get(#)",
    "index(#)",
    "items()",
    "join(#)",
    "keys()",
    "ljust(#)",
    "replace('', 'aaaa')",
    "split('')",
    "splitlines()",
    "strip(#)",
    "upper()",
    "zfill(#)",
];
const CALLS: [&str; 8] = [
    "range(#)",
    "range(0, #, #)",
    "namespace(x=#)",
    "raise_exception(#)",
    "strftime_now(#)",
    "dict(a=#)",
    "f(#)",
    "cycler(#)",
];
const CHAINS: [(&str, &str); 13] = [
    ("1+", ""),
    ("not ", ""),
    ("-", ""),
    ("", "|abs"),
    ("", ".a"),
    ("", "[0]"),
    ("", "()"),
    ("1~", ""),
    ("1 if 1 else ", ""),
    ("(", ")"),
    ("[", "]"),
    ("{'a':", "}"),
    ("1 in ", ""),
];

/// A template.
pub(crate) fn template(random: &mut Random) -> String {
    match random.below(12) {
        0 => {
            let (before, after) = CHAINS[random.below(CHAINS.len())];
            let times = [50, 200, 3_000, 20_000][random.below(4)];
            format!("{{{{ {}1{} }}}}", before.repeat(times), after.repeat(times))
        }
        1 => {
            let step = random.pick(&[
                "ns.x ~ ns.x",
                "ns.x + ns.x",
                "[ns.x, ns.x]",
                "ns.x * 9",
                "{'a': ns.x, 'b': ns.x}",
                "[ns.x]",
            ]);
            let times = [10, 24, 60, 99_999][random.below(4)];
            let end = expression(random, 1);
            format!(
                "{{% set ns = namespace(x='ab') %}}{{% for i in range({times}) %}}{{% set ns.x = {step} %}}{{% endfor %}}{{{{ ns.x }}}}{{{{ {end} }}}}"
            )
        }
        2 => {
            let block = random.pick(&[
                "{% if a %}",
                "{% for i in [1] %}",
                "{% elif b %}",
                "{% macro f() %}",
                "{% generation %}",
                "{#",
                "{{",
            ]);
            block.repeat([3, 100, 20_000][random.below(3)])
        }
        _ => (0..=random.below(5)).map(|_| statement(random, 3)).collect(),
    }
}

fn statement(random: &mut Random, depth: usize) -> String {
    let value = expression(random, depth);
    if depth == 0 {
        return format!("{{{{ {value} }}}}");
    }
    let inner = statement(random, depth - 1);
    match random.below(12) {
        0 => format!("{{% for m in {value} %}}{inner}{{% endfor %}}"),
        1 => format!("{{% for m in range(99999) %}}{inner}{{% endfor %}}"),
        2 => format!("{{% if {value} %}}{inner}{{% else %}}{}{{% endif %}}", statement(random, depth - 1)),
        3 => format!("{{% set ns = namespace(x={value}) %}}{inner}"),
        4 => format!("{{% set m %}}{inner}{{% endset %}}{{{{ m }}}}"),
        5 => format!("{{% macro f(m) %}}{inner}{{{{ f({value}) }}}}{{% endmacro %}}{{{{ f(1) }}}}"),
        6 => format!("{{% generation %}}{inner}{{% endgeneration %}}"),
        7 => format!("{{%- filter {} -%}}{inner}{{%- endfilter -%}}", filled(random, &FILTERS, depth)),
        8 => format!("{{% for m in messages recursive %}}{{{{ loop([m]) }}}}{inner}{{% endfor %}}"),
        // What is not closed, and what closes nothing.
        9 => format!(
            "{}{inner}",
            random.pick(&["{% endfor %}", "{% break %}", "{% else %}", "{%", "}}", "{% raw %}", "{% block a %}"])
        ),
        _ => format!("{{{{ {value} }}}}{inner}"),
    }
}

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.once_in(5) {
        return match random.below(3) {
            0 => random.pick(&NUMBERS),
            1 => random.pick(&NAMES),
            _ => random.pick(&TEXTS),
        }
        .to_owned();
    }
    let inner = expression(random, depth - 1);
    match random.below(9) {
        0 | 1 => format!("({inner}{}{})", random.pick(&OPERATORS), expression(random, depth - 1)),
        2 | 3 => format!("{inner}|{}", filled(random, &FILTERS, depth)),
        4 => format!("{inner}.{}", filled(random, &METHODS, depth)),
        5 => filled(random, &CALLS, depth),
        6 => format!("{inner}[{}:{}:{}]", random.pick(&NUMBERS), random.pick(&NUMBERS), random.pick(&NUMBERS)),
        7 => format!("[{inner}, {inner}]"),
        _ => format!("({inner} if {} else {inner})", expression(random, depth - 1)),
    }
}

/// One of these, each `#` of it an expression.
fn filled(random: &mut Random, from: &[&'static str], depth: usize) -> String {
    let form = random.pick(from);
    form.split('#').enumerate().fold(String::new(), |text, (part, more)| {
        let value = if part == 0 { String::new() } else { expression(random, depth.saturating_sub(2)) };
        text + &value + more
    })
}

#[test]
fn templates_are_of_many_kinds() {
    let mut random = Random(5);
    let all: std::collections::BTreeSet<String> = (0..200).map(|_| template(&mut random)).collect();
    assert!(all.len() > 180, "{}", all.len());
    for part in ["recursive", "|", ".format(", "range(", "namespace(", "** "] {
        assert!(all.iter().any(|template| template.contains(part)), "{part}");
    }
}
