//! What can go wrong, in words for whoever runs the program.

use std::path::PathBuf;
use tonic_types::StatusExt;

/// Why the program stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The address is none, or nobody answers there.
    #[error("can't reach the server, is it running? ({0})")]
    Connect(#[from] tonic::transport::Error),
    /// The server refused a call.
    #[error("{doing}: {}", describe(.status))]
    Call {
        /// What the program was about to do.
        doing: &'static str,
        /// What the server said. Boxed, because it is large and seldom made.
        status: Box<tonic::Status>,
    },
    /// A file can't be read, or a row of it makes no sense.
    #[error("{}: {problem}", .file.display())]
    Data {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The server answered something that the contract does not allow, or that does not add up.
    #[error("{0}")]
    Unexpected(String),
}

impl Failure {
    /// Turns a refused call into a failure that says what it was for: `.map_err(Failure::call("post entries"))`.
    pub(crate) fn call(doing: &'static str) -> impl Fn(tonic::Status) -> Self {
        move |status| Self::Call {
            doing,
            status: Box::new(status),
        }
    }

    /// An answer without a field that every answer of its kind has.
    pub(crate) fn missing(field: &str) -> Self {
        Self::Unexpected(format!("the server answered without `{field}`"))
    }
}

/// The reason of a refusal, such as `PAYMENT_METHOD_ALREADY_EXISTS`. To be decided by: the message is for people and may change.
pub(crate) fn reason(status: &tonic::Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

fn describe(status: &tonic::Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let reason = reason(status);
    if !reason.is_empty() {
        text.push_str(&format!(" [{reason}]"));
    }
    for violation in status
        .get_details_bad_request()
        .map(|details| details.field_violations)
        .unwrap_or_default()
    {
        text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
    }
    text
}
