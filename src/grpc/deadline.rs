//! The time that a caller gives a call (`grpc-timeout`), kept in unary calls by [`super::error_details_layer`] and in streams
//! by [`super::streams`]. tonic's own timeout would answer `CANCELLED` without a reason, and not see streams at all.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use super::status::from_error;
use crate::domain::error::{Error, Reason};

const HEADER: &str = "grpc-timeout";
/// Ours ends this much before the caller's, so that our answer comes first and not tonic's.
const MARGIN: Duration = Duration::from_millis(5);
/// The specification allows at most eight digits.
const MAX_DIGITS: usize = 8;

/// When the caller's time is up; `None` without a limit, or with one that can't be read.
pub(crate) fn of(headers: &HeaderMap) -> Option<Instant> {
    let timeout = parse(headers.get(HEADER)?.to_str().ok()?)?;
    Instant::now().checked_add(timeout.saturating_sub(MARGIN))
}

/// Completes when the time is up; never without a limit.
pub(crate) async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What is answered then.
pub(crate) fn exceeded() -> Status {
    from_error(Error::refused(
        Reason::DeadlineExceeded,
        "the time that the caller gave is up: a write that had begun may have been done, the same request id tells",
    ))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        "M" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        assert_eq!(parse("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("82u"), Some(Duration::from_micros(82)));
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1\u{e9}"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
