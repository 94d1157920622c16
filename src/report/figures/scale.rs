//! A logarithmic axis.

/// Maps values above 0 to places between two ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Natural logarithms of the axis' two ends.
    low: f64,
    high: f64,
    /// Places of the ends.
    from: f64,
    to: f64,
}

impl Scale {
    /// An axis that holds `values`, with some room at both ends; `None` without any value above 0.
    pub(super) fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        /// Share of the span that is left free at each end.
        const ROOM: f64 = 0.06;
        let (low, high) = values.filter(|value| *value > 0.0 && value.is_finite()).map(libm::log).fold(
            None,
            |ends: Option<(f64, f64)>, value| {
                Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
            },
        )?;
        let room = ((high - low) * ROOM).max(0.05);
        Some(Self { low: low - room, high: high + room, from, to })
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        self.from + (libm::log(value) - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values within the axis, a few: powers of ten times 1, 2 and 5, or powers of ten alone where it is long.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = (libm::exp(self.low), libm::exp(self.high));
        let decades = (high / low).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let ticks = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        ticks.filter(|tick| (low..=high).contains(tick)).collect()
    }
}

/// The values in order, each once.
pub(super) fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_factors_are_equal_lengths() {
        let scale = Scale::of([1.0, 32.0].into_iter(), 0.0, 100.0).unwrap();
        let places = [1.0, 2.0, 4.0, 32.0].map(|value| scale.place(value));
        assert!((places[1] - places[0] - (places[2] - places[1])).abs() < 1e-9, "{places:?}");
        assert!(places[0] > 0.0 && places[3] < 100.0 && places[0] - (100.0 - places[3]) < 1e-9, "{places:?}");
        assert!(Scale::of([0.0, -1.0, f64::NAN].into_iter(), 0.0, 1.0).is_none());
    }

    #[test]
    fn ticks_are_round_and_few() {
        let ticks = |low: f64, high: f64| Scale::of([low, high].into_iter(), 0.0, 1.0).unwrap().ticks();
        assert_eq!(ticks(433.0, 9111.8), [500.0, 1000.0, 2000.0, 5000.0, 10_000.0]);
        assert_eq!(ticks(1.0, 100_000.0), [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0]);
        assert!(ticks(7.0, 7.0).len() < 2, "one value alone");
    }
}
