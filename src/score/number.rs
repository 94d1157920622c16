//! Rational numbers, exact: no value ever passes through floating point.

/// A rational number in lowest terms, the denominator positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    numerator: i128,
    denominator: i128,
}

impl Number {
    /// `None` where the denominator is not positive, or 128 bits hold not all of it.
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator <= 0 {
            return None;
        }
        let divisor = greatest_common_divisor(numerator.unsigned_abs(), denominator.unsigned_abs());
        let divisor = i128::try_from(divisor).ok()?;
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    pub(super) const fn is_zero(self) -> bool {
        self.numerator == 0
    }

    pub(super) fn negated(self) -> Option<Self> {
        Some(Self { numerator: self.numerator.checked_neg()?, ..self })
    }

    /// `None` where the divisor is 0, or 128 bits do not hold the quotient.
    pub(super) fn divided_by(self, divisor: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(divisor.denominator)?;
        let denominator = self.denominator.checked_mul(divisor.numerator)?;
        if denominator < 0 {
            return Self::new(numerator.checked_neg()?, denominator.checked_neg()?);
        }
        Self::new(numerator, denominator)
    }

    /// Its `exponent`-th power; `None` of 0 to a negative power, or where 128 bits do not hold it.
    pub(super) fn power(self, exponent: i32) -> Option<Self> {
        let raised = Self {
            numerator: self.numerator.checked_pow(exponent.unsigned_abs())?,
            denominator: self.denominator.checked_pow(exponent.unsigned_abs())?,
        };
        if exponent < 0 { Self { numerator: 1, denominator: 1 }.divided_by(raised) } else { Some(raised) }
    }

    /// Times a power of ten.
    pub(super) fn scaled(self, exponent: i32) -> Option<Self> {
        if self.is_zero() {
            return Some(self);
        }
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        if exponent < 0 {
            Self::new(self.numerator, self.denominator.checked_mul(power)?)
        } else {
            Self::new(self.numerator.checked_mul(power)?, self.denominator)
        }
    }

    /// As a fraction, `-1/3`, also of a whole number.
    pub(super) fn as_fraction(self) -> String {
        format!("{}/{}", self.numerator, self.denominator)
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// The shortest way to write a number exactly: `3`, `2.5`, `1/3`.
pub(super) fn written(Number { numerator, denominator }: Number) -> String {
    let places = (0..=38_u32).find(|places| 10_i128.checked_pow(*places).is_some_and(|power| power % denominator == 0));
    let scaled = places.and_then(|places| {
        let scaled = numerator.unsigned_abs().checked_mul(10_u128.pow(places) / denominator.unsigned_abs())?;
        Some((scaled.to_string(), places as usize))
    });
    let sign = if numerator < 0 { "-" } else { "" };
    match scaled {
        Some((digits, 0)) => format!("{sign}{digits}"),
        Some((digits, places)) => {
            let digits = format!("{digits:0>width$}", width = places + 1);
            let (whole, part) = digits.split_at(digits.len() - places);
            format!("{sign}{whole}.{part}")
        }
        None => format!("{numerator}/{denominator}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::plain::whole_number;

    #[test]
    fn a_whole_text_is_a_number_or_none() {
        let canonical = |text: &str| whole_number(text).map(written);
        for (text, expected) in [
            ("18", "18"),
            (" 145.0 ", "145"),
            ("3.", "3"),
            ("+7", "7"),
            ("-0", "0"),
            ("- 7", "-7"),
            ("1e3", "1000"),
            ("-2.50E-1", "-0.25"),
            ("0e999", "0"),
            ("1,234", "1234"),
            ("$1,234.50", "1234.5"),
            ("2/6", "1/3"),
            ("0.1", "0.1"),
            ("１８", "18"),
            ("\\frac{-1}{2}", "-0.5"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "18 apples", "3,5", "1e", "e3", "NaN", "inf", "+-3", "1e99", "x", "1-2", "3..", "#3", "1 2"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact_or_nothing() {
        let n = |numerator, denominator| Number::new(numerator, denominator).unwrap();
        assert_eq!(n(1, 2).divided_by(n(-3, 4)), Some(n(-2, 3)));
        assert_eq!(n(1, 2).divided_by(n(0, 1)), None);
        assert_eq!((n(2, 3).power(3), n(2, 3).power(-2)), (Some(n(8, 27)), Some(n(9, 4))));
        assert_eq!((n(-2, 1).power(0), n(0, 1).power(-1), n(10, 1).power(39)), (Some(n(1, 1)), None, None));
        assert_eq!((n(5, 2).scaled(2), n(5, 1).scaled(-1)), (Some(n(250, 1)), Some(n(1, 2))));
        assert_eq!((n(1, 1).scaled(39), n(0, 1).scaled(999)), (None, Some(n(0, 1))));
        assert_eq!(
            (Number::new(1, 0), Number::new(1, -2), Number::new(i128::MIN, 1)),
            (None, None, Some(n(i128::MIN, 1)))
        );
        assert_eq!(n(i128::MIN, 1).negated(), None);
    }

    proptest::proptest! {
        #[test]
        fn a_number_written_in_any_way_has_one_canonical_writing(value: i64, zeros in 0usize..6, places in 0u32..6) {
            let canonical = |text: &str| whole_number(text).map(written).unwrap();
            proptest::prop_assert_eq!(canonical(&value.to_string()), value.to_string());
            proptest::prop_assert_eq!(canonical(&format!("{value}.{}", "0".repeat(zeros + 1))), value.to_string());
            let scaled = canonical(&format!("{value}e-{places}"));
            proptest::prop_assert_eq!(canonical(&format!("{scaled}{}", if scaled.contains('.') { "00" } else { "" })), scaled.clone());
            proptest::prop_assert_eq!(canonical(&format!("{scaled}e{places}")), value.to_string());
        }

        #[test]
        fn any_double_is_read_as_its_shortest_decimal(value: f64) {
            let shortest = format!("{value}");
            if let Some(number) = whole_number(&shortest) {
                proptest::prop_assert_eq!(written(number).parse::<f64>().unwrap(), value);
            }
        }
    }
}
