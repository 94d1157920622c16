//! Characters that numbers are written with, in any script.

use std::cmp::Ordering;

/// The zeros of every script's decimal digits (Unicode's category Nd); the other nine follow each.
const ZEROS: [u32; 76] = [
    0x0030, 0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0de6,
    0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40,
    0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x10d40, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0, 0x116da, 0x11730, 0x118e0,
    0x11950, 0x11bf0, 0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16130, 0x16a60, 0x16ac0, 0x16b50, 0x16d70, 0x1ccf0,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];

/// The value of a decimal digit of any script.
pub(super) fn digit(c: char) -> Option<u8> {
    let code = u32::from(c);
    let compare = |zero: &u32| match code.checked_sub(*zero) {
        None => Ordering::Greater,
        Some(0..=9) => Ordering::Equal,
        Some(_) => Ordering::Less,
    };
    let at = ZEROS.binary_search_by(compare).ok()?;
    u8::try_from(code - ZEROS[at]).ok()
}

/// The value of a superscript digit.
pub(super) fn superscript(c: char) -> Option<u8> {
    Some(match c {
        '⁰' => 0,
        '¹' => 1,
        '²' => 2,
        '³' => 3,
        '⁴'..='⁹' => (u32::from(c) - 0x2070) as u8,
        _ => return None,
    })
}

/// The value of a subscript digit.
pub(super) fn subscript(c: char) -> Option<u8> {
    matches!(c, '₀'..='₉').then(|| (u32::from(c) - 0x2080) as u8)
}

/// What a fraction character stands for; of `⅟` the numerator and the slash.
pub(super) const fn fraction(c: char) -> Option<&'static str> {
    Some(match c {
        '¼' => "1/4",
        '½' => "1/2",
        '¾' => "3/4",
        '⅐' => "1/7",
        '⅑' => "1/9",
        '⅒' => "1/10",
        '⅓' => "1/3",
        '⅔' => "2/3",
        '⅕' => "1/5",
        '⅖' => "2/5",
        '⅗' => "3/5",
        '⅘' => "4/5",
        '⅙' => "1/6",
        '⅚' => "5/6",
        '⅛' => "1/8",
        '⅜' => "3/8",
        '⅝' => "5/8",
        '⅞' => "7/8",
        '↉' => "0/3",
        '⅟' => "1/",
        _ => return None,
    })
}

/// Everything that is written for a minus sign, hyphens and the en dash among it. The em dash is apart: with a space behind it, it is
/// punctuation.
pub(super) const fn is_minus(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{2d7}' | '\u{2010}'
            ..='\u{2013}'
                | '\u{2043}'
                | '\u{207b}'
                | '\u{208b}'
                | '\u{2212}'
                | '\u{2796}'
                | '\u{fe58}'
                | '\u{fe63}'
                | '\u{ff0d}'
    )
}

/// Unicode's category Sc.
pub(super) const fn is_currency(c: char) -> bool {
    matches!(
        c,
        '$' | '¢'..='¥' | '\u{58f}' | '\u{60b}' | '\u{7fe}' | '\u{7ff}' | '\u{9f2}' | '\u{9f3}' | '\u{9fb}' | '\u{af1}' | '\u{bf9}'
            | '\u{e3f}' | '\u{17db}' | '\u{20a0}'..='\u{20c1}' | '\u{a838}' | '\u{fdfc}' | '\u{fe69}' | '\u{ff04}' | '\u{ffe0}'
            | '\u{ffe1}' | '\u{ffe5}' | '\u{ffe6}' | '\u{11fdd}'..='\u{11fe0}' | '\u{1e2ff}' | '\u{1ecb0}'
    )
}

/// Spaces of every width but the ordinary one; each may part groups of digits.
pub(super) const fn is_wide_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Characters that nobody sees: of no width, or of direction alone.
pub(super) const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

/// Whether `word` is written in front of an amount for a currency: `Rs`, `Rs.`, `USD`, `US$`.
pub(super) fn is_currency_word(word: &str) -> bool {
    let letters = word.strip_suffix(['.', '$']).unwrap_or(word);
    let code = (1..=3).contains(&letters.len()) && letters.bytes().all(|byte| byte.is_ascii_uppercase());
    matches!(letters, "Rs" | "Re" | "rs" | "Fr" | "kr" | "Kr")
        || (code && (word.ends_with('$') || (letters.len() == 3 && letters == word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_worth_what_they_show() {
        let of = |denominator: u32, all: &str| {
            let value =
                |c: char| fraction(c).and_then(|text| text.split_once('/')).map(|(n, d)| (n.to_owned(), d.to_owned()));
            let shown = |numerator: u32| Some((numerator.to_string(), denominator.to_string()));
            let coprime = (1..denominator)
                .filter(|n| (2..=*n).all(|by| !n.is_multiple_of(by) || !denominator.is_multiple_of(by)));
            assert_eq!(
                all.chars().map(value).collect::<Vec<_>>(),
                coprime.take(all.chars().count()).map(shown).collect::<Vec<_>>()
            );
        };
        for (denominator, all) in
            [(2, "½"), (3, "⅓⅔"), (4, "¼¾"), (5, "⅕⅖⅗⅘"), (6, "⅙⅚"), (7, "⅐"), (8, "⅛⅜⅝⅞"), (9, "⅑"), (10, "⅒")]
        {
            of(denominator, all);
        }
    }

    #[test]
    fn the_tables_are_unicodes() {
        let is = |class: &str| regex::Regex::new(&format!("^{class}$")).unwrap();
        let (digits, currencies, fractions) = (is(r"\p{Nd}"), is(r"\p{Sc}"), is(r"\p{No}"));
        let mut buffer = [0; 4];
        for c in '\0'..=char::MAX {
            let text: &str = c.encode_utf8(&mut buffer);
            assert!(!digits.is_match(text) || digit(c).is_some(), "{c} {:x}", u32::from(c));
            assert!(digit(c).is_none_or(|value| value < 10), "{c}");
            assert!(!currencies.is_match(text) || is_currency(c), "{c} {:x}", u32::from(c));
            for value in [superscript(c), subscript(c)].into_iter().flatten() {
                assert!(value < 10 && fractions.is_match(text), "{c}");
            }
            assert!(usize::from(is_minus(c)) + usize::from(is_currency(c)) + usize::from(is_invisible(c)) < 2, "{c}");
        }
        assert!(ZEROS.is_sorted());
        assert_eq!(
            ["१", "９", "๐", "𝟟"].map(|text| digit(text.chars().next().unwrap())),
            [Some(1), Some(9), Some(0), Some(7)]
        );
        assert_eq!(['⁰', '¹', '³', '⁴', '⁹'].map(superscript), [0, 1, 3, 4, 9].map(Some));
        assert_eq!(['₀', '₉', '2'].map(subscript), [Some(0), Some(9), None]);
    }

    #[test]
    fn a_fraction_character_has_the_value_of_its_own_numbers() {
        for c in '\u{bc}'..='\u{218f}' {
            let Some(written) = fraction(c) else { continue };
            assert!(written.starts_with(|c: char| c.is_ascii_digit()) && written.contains('/'), "{c}");
        }
        assert_eq!(['½', '⅒', '⅞', 'x'].map(fraction), [Some("1/2"), Some("1/10"), Some("7/8"), None]);
    }

    #[test]
    fn words_for_currencies_are_known() {
        for word in ["Rs", "Rs.", "USD", "CHF", "US$", "R$", "HK$"] {
            assert!(is_currency_word(word), "{word}");
        }
        for word in ["is", "No.", "A", "THE.", "usd", "", "$", "ABCD"] {
            assert!(!is_currency_word(word), "{word}");
        }
    }
}
