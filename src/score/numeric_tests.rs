//! What `numeric` promises: any rational in any notation that it claims is read back, wherever it looks; no text without digits gives a
//! number; the time is linear in the text's length.

use std::time::Duration;

use proptest::prelude::*;

use super::{Answer, Rule, score};

/// Whether `numeric` finds `value` in `text`.
fn is_read(text: &str, value: &str) -> bool {
    score(&[Rule::numeric("numeric")], text, Answer { full: "", value })[0].correct
}

fn found(text: &str) -> Option<String> {
    score(&[Rule::numeric("numeric")], text, Answer { full: "", value: "" })[0].value.clone()
}

fn all_are_read(cases: &[(&str, &str)]) {
    for (text, value) in cases {
        assert!(is_read(text, value), "{text:?} is {value}, not {:?}", found(text));
    }
}

#[test]
fn a_full_stop_ends_an_exponent() {
    all_are_read(&[("It is 10^3.", "1000"), ("So 5e3. Then", "5000"), ("2*10^4. Done", "20000")]);
}

#[test]
fn a_fraction_may_follow_a_slash_that_no_number_precedes() {
    all_are_read(&[("and/1/2", "1/2"), ("1/2/12/5", "5")]);
}

#[test]
fn what_stands_far_apart_is_no_calculation() {
    let apart = |spaces: usize| format!("#### 4 * 5{}= 20", " ".repeat(spaces));
    assert_eq!([30, 70].map(|spaces| found(&apart(spaces)).unwrap()), ["20", "4"]);
}

#[test]
fn latex_is_read() {
    all_are_read(&[
        ("The cost is \\boxed{\\$12{,}345.50}.", "12345.5"),
        ("\\[ \\boxed{\\dfrac{7}{3}} \\]\nusing 5 steps", "7/3"),
        ("$\\boxed{1{,}000{,}000}$", "1000000"),
        ("\\fbox{ 24 }\nThat took 3 steps.", "24"),
        ("\\boxed{\\text{18 eggs}}", "18"),
        ("\\boxed{\\$\\,45}", "45"),
        ("\\boxed{x = \\frac{5}{4}}", "5/4"),
        ("\\boxed{2\\tfrac{1}{2}}", "2.5"),
        ("\\boxed {\\mathbf{-7}}", "-7"),
        ("\\boxed{\\\\$5}", "5"),
        ("\\\\boxed{16}", "16"),
        ("\\boxed{\n\\frac{\n3}{4}\n}\nin 2 lines", "3/4"),
        ("\\boxed{3 \\times 6 = 18}", "18"),
        ("\\boxed{50\\%} of 8", "50"),
        ("\\boxed{90^\\circ}", "90"),
        ("The answer is \\(3{,}600\\).", "3600"),
        ("The answer is $-\\frac12$.", "-0.5"),
        ("The answer is \\$\\!1{,}200", "1200"),
        ("so it costs \\$2\\;500\\text{ per year}", "2500"),
        ("\\boxed{\\text{\\$}70{,}000}", "70000"),
        ("\\boxed{12 \\text{ cm}^2}", "12"),
        ("\\boxed{3.2 \\times 10^{4}}", "32000"),
        ("\\boxed{2^{5}}", "32"),
        ("\\boxed{\\boxed{6}}", "6"),
        ("\\boxed{}\n#### 9", "9"),
        ("\\boxed{5\nunclosed 6", "5"),
    ]);
}

#[test]
fn signs_are_kept() {
    all_are_read(&[
        ("#### −12", "-12"),
        ("#### ‑12", "-12"),
        ("#### ﹣12", "-12"),
        ("#### －１２", "-12"),
        ("#### $-12", "-12"),
        ("#### – 12", "-12"),
        ("#### -€12", "-12"),
        ("#### - $12", "-12"),
        ("The answer is - 12.", "-12"),
        ("The answer is: −$12.50", "-12.5"),
        ("The answer is negative 12.", "-12"),
        ("The answer is minus 12 degrees.", "-12"),
        ("\\boxed{- 12}", "-12"),
        ("\\boxed{–12}", "-12"),
        ("\\boxed{-\\text{12}}", "-12"),
        ("x = - 12", "-12"),
        ("So it is **−12** then", "-12"),
        ("She lost $20 - $8 = $12", "12"),
        ("There are 20 - 8 = 12 left", "12"),
        ("pages 10–12", "12"),
        ("- 12 eggs", "12"),
    ]);
}

#[test]
fn a_full_stop_need_not_be_a_decimal_point() {
    all_are_read(&[
        ("#### Rs.750", "750"),
        ("The price is Rs.2,500.", "2500"),
        ("The answer is..42", "42"),
        ("It is at No.7", "7"),
        ("The answer is: .75", "0.75"),
        ("The answer is $.75", "0.75"),
        ("The answer is 7.", "7"),
        ("see p.12", "12"),
        ("That is all.18 eggs", "18"),
    ]);
}

#[test]
fn digits_are_grouped_and_written_by_other_habits() {
    all_are_read(&[
        ("#### 12,34,567", "1234567"),
        ("The answer is 1\u{a0}234\u{a0}567.", "1234567"),
        ("The answer is 12 345.", "12345"),
        ("#### 1’234’567.50", "1234567.5"),
        ("#### 1.234.567", "1234567"),
        ("#### 1.234,50", "1234.5"),
        ("#### ２，５００", "2500"),
        ("#### ४२", "42"),
        ("الجواب: ١٬٢٣٤٫٥", "1234.5"),
        ("答案是３．５", "3.5"),
        ("＃＃＃＃ ７", "7"),
        ("#### ¾", "0.75"),
        ("#### 1 ½", "1.5"),
        ("#### 1 1⁄2", "1.5"),
        ("#### ³⁄₈", "0.375"),
        ("#### 10³", "1000"),
    ]);
}

#[test]
fn a_calculation_stands_beside_the_answer() {
    all_are_read(&[
        ("The answer is 30. 5 x 4 = 20 are red.", "30"),
        ("The answer is 30 (5 x 4 = 20, plus 10).", "30"),
        ("#### 30 [20 + 10 = 30, of which 5]", "30"),
        ("#### 5 boxes x 6 eggs = 30 eggs", "30"),
        ("#### 20% of 150 = 30", "30"),
        ("#### 5 × 6 = 30", "30"),
        ("#### 30 = 5 * 6", "30"),
        ("The answer is 5 times 6 = 30", "30"),
        ("She has 30 eggs (5 x 4 = 20, plus 10).", "30"),
        ("So 30 = 5 * 6", "30"),
        ("\\boxed{5 \\cdot 6 = 30}", "30"),
        ("(5 x 6 = 30)", "30"),
    ]);
}

/// Ways to write a whole number that is not negative.
fn wholes() -> Vec<fn(u64) -> String> {
    vec![
        |n| n.to_string(),
        |n| format!("{n}.00"),
        |n| grouped(n, ","),
        |n| grouped(n, "\u{a0}"),
        |n| grouped(n, "\u{2009}"),
        |n| grouped(n, "\u{202f}"),
        |n| grouped(n, " "),
        |n| grouped(n, "'"),
        |n| grouped(n, "’"),
        |n| grouped(n, "_"),
        |n| grouped(n, "{,}"),
        |n| grouped(n, ",\\!"),
        |n| grouped(n, "\\,"),
        |n| grouped(n, "\\text{,}"),
        |n| if n >= 1_000_000 { grouped(n, ".") } else { n.to_string() },
        indian,
        |n| in_digits(&n.to_string(), '٠'),
        |n| in_digits(&n.to_string(), '०'),
        |n| in_digits(&n.to_string(), '০'),
        |n| in_digits(&grouped(n, "，"), '０'),
        |n| in_digits(&grouped(n, "٬"), '٠'),
        |n| format!("\\text{{{n}}}"),
        |n| format!("\\mathbf{{{}}}", grouped(n, "{,}")),
    ]
}

/// Ways to write a fraction that is not negative.
fn fractions() -> Vec<fn(u64, u64) -> String> {
    vec![
        |n, d| format!("{n}/{d}"),
        |n, d| format!("{n} / {d}"),
        |n, d| format!("{n}⁄{d}"),
        |n, d| format!("\\frac{{{n}}}{{{d}}}"),
        |n, d| format!("\\dfrac{{{}}}{{ {d} }}", grouped(n, "{,}")),
        |n, d| format!("\\tfrac{{\\frac{{{n}}}{{2}}}}{{\\frac{{{d}}}{{2}}}}"),
        |n, d| format!("{} {}/{d}", n / d, n % d),
        |n, d| format!("{}\\frac{{{}}}{{{d}}}", n / d, n % d),
        |n, d| format!("{}⁄{}", script(n, "⁰¹²³⁴⁵⁶⁷⁸⁹"), script(d, "₀₁₂₃₄₅₆₇₈₉")),
        |n, d| format!("{}/{}", in_digits(&n.to_string(), '٠'), in_digits(&d.to_string(), '٠')),
    ]
}

/// Ways to write a negative number; the second of each says whether any place will do.
const SIGNS: [(&str, bool); 20] = [
    ("-", true),
    ("−", true),
    ("–", true),
    ("‐", true),
    ("‑", true),
    ("‒", true),
    ("—", true),
    ("﹣", true),
    ("－", true),
    ("➖", true),
    ("-$", true),
    ("$-", true),
    ("−€", true),
    ("-\\$", true),
    ("–Rs.", true),
    ("-USD ", true),
    ("negative ", true),
    ("- ", false),
    ("− ", false),
    ("- $", false),
];

const UNITS: [(&str, &str); 8] =
    [("", ""), ("", "%"), ("", "\\%"), ("", " eggs"), ("", "\\text{ cm}"), ("", "°C"), ("(", ")"), ("", " €")];

/// Where a number may stand, and whether a sign may have a space behind it there.
const PLACES: [(&str, &str, bool); 16] = [
    ("#### ", "", true),
    ("####", "\nThat took 3 steps.", true),
    ("#### **", "**", true),
    ("\\boxed{", "}", true),
    ("So $\\boxed {\n", "\n}$.\nThat took 3 steps.", true),
    ("\\fbox{", "}. I used 7 numbers.", true),
    ("\\\\boxed{", "}", true),
    ("The answer is ", ".", true),
    ("The final answer to question 4 is: ", ". Thanks 2 all", true),
    ("**Answer:** ", "", true),
    ("answer = \\(", "\\)", true),
    ("The answer is:\n\n**", "**", true),
    ("It took 3 days, so **", "** of 8 remain", false),
    ("3 + 4 = x + 1 = ", " for 2 days", true),
    ("Out of 8 there remain ", "", false),
    ("There remain ", " (4 of 8)", false),
];

fn in_digits(text: &str, zero: char) -> String {
    let digit = |c: char| c.to_digit(10).and_then(|value| char::from_u32(u32::from(zero) + value)).unwrap_or(c);
    text.chars().map(digit).collect()
}

fn script(n: u64, digits: &str) -> String {
    let digits: Vec<char> = digits.chars().collect();
    n.to_string().bytes().map(|byte| digits[usize::from(byte - b'0')]).collect()
}

fn grouped(n: u64, separator: &str) -> String {
    in_groups(&n.to_string(), separator, |left| left.is_multiple_of(3))
}

fn indian(n: u64) -> String {
    in_groups(&n.to_string(), ",", |left| left == 3 || (left > 3 && !left.is_multiple_of(2)))
}

fn in_groups(figures: &str, separator: &str, ends: impl Fn(usize) -> bool) -> String {
    let mut text = String::new();
    for (at, figure) in figures.chars().enumerate() {
        if at > 0 && ends(figures.len() - at) {
            text += separator;
        }
        text.push(figure);
    }
    text
}

fn place(index: usize, before: &str, written: &str, unit: usize) -> String {
    let (left, right, _) = PLACES[index];
    // In the last places, parentheses say that what stands in them is not the answer.
    let (open, close) = if index >= 14 && UNITS[unit].0 == "(" { ("", "") } else { UNITS[unit] };
    format!("{before}{left}{open}{written}{close}{right}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_whole_number_is_read_back_wherever_it_stands(
        n in prop_oneof![0_u64..2000, 0_u64..100_000_000, 0..u64::MAX], way in 0..wholes().len(), at in 0..PLACES.len(),
        unit in 0..UNITS.len(), sign in prop::option::of(0..SIGNS.len()), before in "([a-z]{1,5} ?[0-9]?[.:+]?\n)?",
    ) {
        let (minus, anywhere) = sign.map_or(("", true), |sign| SIGNS[sign]);
        prop_assume!(anywhere || PLACES[at].2);
        let text = place(at, &before, &format!("{minus}{}", wholes()[way](n)), unit);
        let value = if sign.is_some() { format!("-{n}") } else { n.to_string() };
        prop_assert!(is_read(&text, &value), "{text:?} is {value}, not {:?}", found(&text));
    }

    #[test]
    fn any_fraction_is_read_back_wherever_it_stands(
        n in 0_u64..5000, d in 1_u64..500, way in 0..fractions().len(), at in 0..PLACES.len(),
        sign in prop::option::of(0_usize..10), before in "([a-z]{1,5} ?[0-9]?[.:+]?\n)?",
    ) {
        let minus = sign.map_or("", |sign| SIGNS[sign].0);
        let text = place(at, &before, &format!("{minus}{}", fractions()[way](n, d)), 0);
        let value = format!("{}{n}/{d}", if sign.is_some() { "-" } else { "" });
        prop_assert!(is_read(&text, &value), "{text:?} is {value}, not {:?}", found(&text));
    }

    #[test]
    fn any_decimal_fraction_is_read_back_wherever_it_stands(
        whole in 0_u64..5_000_000, places in 1_usize..6, part in 0_u64..1_000_000, way in 0_usize..8, at in 0..PLACES.len(),
        unit in 0..UNITS.len(), sign in prop::option::of(0_usize..17),
    ) {
        let part = &format!("{part:06}")[6 - places..];
        let written = match way {
            0 => format!("{whole}.{part}"),
            1 => format!("{}.{part}", grouped(whole, ",")),
            2 => format!("{}.{part}", indian(whole)),
            3 => format!("{}{{.}}{part}", grouped(whole, "{,}")),
            4 => format!("{}.{part}", grouped(whole, "\u{202f}")),
            5 => format!("{}٫{}", in_digits(&whole.to_string(), '٠'), in_digits(part, '٠')),
            6 => in_digits(&format!("{whole}．{part}"), '０'),
            _ => format!("\\text{{{whole}.{part}}}"),
        };
        let minus = sign.map_or("", |sign| SIGNS[sign].0);
        let text = place(at, "", &format!("{minus}{written}"), unit);
        let value = format!("{}{whole}.{part}", if sign.is_some() { "-" } else { "" });
        prop_assert!(is_read(&text, &value), "{text:?} is {value}, not {:?}", found(&text));
    }

    #[test]
    fn no_text_without_digits_gives_a_number(
        text in "(\\PC|####|\\\\boxed\\{|\\\\frac\\{|answer is|\\*\\*|[-$.,/^%=(){}\\\\]|\n| ){0,40}",
    ) {
        prop_assume!(!text.chars().any(char::is_numeric));
        prop_assert_eq!(found(&text), None);
    }

    #[test]
    fn what_is_found_is_a_part_of_the_text_and_reads_as_the_same_number(
        text in "(\\\\boxed\\{|\\\\frac\\{|\\\\text\\{|\\}|####|answer is|[0-9]{1,4}|[-−–.,/^%=(){}$ ½²٣'\n]|\\\\,|\\*\\*|Rs\\.|x){0,30}",
    ) {
        let rules = [Rule::numeric("numeric")];
        let extraction = &score(&rules, &text, Answer { full: "", value: "" })[0];
        if let (Some(value), Some([start, end])) = (&extraction.value, extraction.span) {
            prop_assert_eq!(&text[start..end], value);
            prop_assert!(value.chars().any(char::is_numeric));
            // As a reference it is right, unless 128 bits do not hold it or it divides by nothing.
            let again = &score(&rules, &format!("#### {value}"), Answer { full: "", value })[0];
            prop_assert!(again.value.is_some());
        }
    }
}

/// The fastest of some runs: what other programs do makes a run slower, never faster.
/// Of this thread alone: what else runs on the machine must not decide a test.
fn processor_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn fastest(text: &str) -> Duration {
    let rules = [Rule::numeric("numeric"), Rule::boxed("boxed")];
    let run = |_| {
        let start = processor_time();
        std::hint::black_box(score(&rules, text, "1"));
        processor_time().saturating_sub(start)
    };
    (0..5).map(run).min().unwrap()
}

#[test]
fn the_time_is_linear_in_the_length_whatever_is_repeated() {
    let parts = [
        "= ",
        "#### ",
        "#",
        "\\boxed{",
        "\\boxed{a}",
        "\\boxed ",
        "\\fbox{5} ",
        "answer is ",
        "answer: - ",
        "** ",
        "**",
        "__a",
        "(",
        ")",
        "(5) ",
        "\\frac{",
        "\\frac{1}{",
        "\\frac12",
        "\\text{",
        "{",
        "}",
        "{,}",
        "1,",
        "1 ",
        "1 234 ",
        "1/",
        "1^",
        "^",
        "- ",
        "-$ ",
        "minus ",
        "negative ",
        "5 = ",
        "5 eggs x ",
        "5 (",
        "Rs. ",
        ".",
        ".5",
        "\n",
        "5\n",
        "²",
        "1½",
        "⁄",
        "<think>",
        "</think>",
        "e5",
        "#### a ",
        "answer is a ",
        "\\",
        "\\\\",
        "$",
        "USD",
        "1e",
        "1 / ",
    ];
    for part in parts {
        for end in ["", " 5", "\n5"] {
            let text = |bytes: usize| part.repeat(bytes / part.len()) + end;
            let (short, long) = (text(4_000), text(128_000));
            // 32 times as much text: linear work takes 32 times as long, quadratic a thousand times.
            let bound = |short: Duration| (short * 32 * 6).max(Duration::from_millis(20));
            let is_linear = (0..4).any(|_| fastest(&long) <= bound(fastest(&short)));
            assert!(is_linear, "{part:?} … {end:?}: {:?} for 4 kB, {:?} for 128 kB", fastest(&short), fastest(&long));
        }
    }
}
