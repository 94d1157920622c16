//! What a paired comparison shows: worse, better, no worse than a margin, or nothing.

use super::statistics::Paired;

/// What the 95 % interval of a paired difference shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// The whole interval lies below 0.
    Worse,
    /// The whole interval lies above 0.
    Better,
    /// The whole interval lies above −margin.
    NoWorse,
    /// The interval reaches from below −margin to 0 or above.
    Open,
    /// Neither series is right on any question: accuracy cannot tell them apart.
    NothingRight,
}

impl Conclusion {
    /// By the interval alone: no p-value is read, for a p-value above 5 % shows nothing.
    pub fn of(paired: &Paired, margin_points: f64) -> Self {
        if paired.both_right + paired.lost + paired.gained == 0 {
            Self::NothingRight
        } else if paired.difference_high < 0.0 {
            Self::Worse
        } else if paired.difference_low > 0.0 {
            Self::Better
        } else if paired.difference_low * 100.0 > -margin_points {
            Self::NoWorse
        } else {
            Self::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(both_right: usize, lost: usize, gained: usize, both_wrong: usize) -> Conclusion {
        Conclusion::of(&Paired::of_counts(both_right, lost, gained, both_wrong).unwrap(), 2.0)
    }

    #[test]
    fn each_conclusion_is_read_off_the_interval() {
        assert_eq!(of(600, 120, 88, 511), Conclusion::Worse, "the interval is [-4.6, -0.3]");
        assert_eq!(of(600, 88, 120, 511), Conclusion::Better);
        assert_eq!(of(1000, 0, 0, 319), Conclusion::NoWorse, "1,319 questions without a change leave 0.3 points open");
        assert_eq!(of(180, 5, 5, 50), Conclusion::Open, "ten changes of 240 leave more than 2 points open");
        assert_eq!(of(4, 0, 0, 0), Conclusion::Open, "four questions without a change show nothing");
        assert_eq!(of(0, 0, 0, 1319), Conclusion::NothingRight);
    }

    #[test]
    fn the_margin_is_what_decides_no_worse() {
        let paired = Paired::of_counts(180, 5, 5, 50).unwrap();
        let reach = -paired.difference_low * 100.0;
        assert_eq!(Conclusion::of(&paired, reach - 0.01), Conclusion::Open);
        assert_eq!(Conclusion::of(&paired, reach + 0.01), Conclusion::NoWorse);
    }
}
