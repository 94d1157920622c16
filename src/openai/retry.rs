//! How long to wait before a request is sent again.

use std::time::Duration;

use super::failure::RequestError;

/// Times that a request is sent at most.
pub(super) const ATTEMPTS: u32 = 8;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// However long a server asks for, a run does not wait longer at a time.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// What to wait after the `failed`th failure (from 1): what the server asks for, else twice as long each time, with a share of it taken off
/// at random (`random` in 0 to 1) so that requests which failed together do not come back together.
pub(super) fn wait(failed: u32, error: &RequestError, random: f64) -> Duration {
    if let Some(asked) = error.retry_after {
        return asked.min(LONGEST_ASKED);
    }
    let doubled = FIRST.saturating_mul(1 << failed.clamp(1, 16).saturating_sub(1));
    doubled.min(LONGEST).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Cause;

    #[test]
    fn waits_double_up_to_a_limit_and_heed_the_server() {
        let error = RequestError::new(Cause::Timeout, "");
        let seconds: Vec<f64> = (1..=9).map(|failed| wait(failed, &error, 0.0).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(wait(2, &error, 1.0), Duration::from_millis(500));
        let asked = |seconds| RequestError { retry_after: Some(Duration::from_secs(seconds)), ..error.clone() };
        assert_eq!(wait(5, &asked(3), 1.0), Duration::from_secs(3));
        assert_eq!(wait(1, &asked(86_400), 0.0), LONGEST_ASKED);
    }
}
