//! Builds every `tonic::Status`: the gRPC code of each reason, and the details that go with it (AIP-193).

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::domain::error::{Error, Reason, Refusal, StoreFailure, Violation};
use crate::proto::ErrorReason;

/// The domain of every `ErrorInfo`.
pub(crate) const DOMAIN: &str = "affiliate-billing";
/// Violations answered in details: trailers are small.
const MAX_VIOLATIONS: usize = 20;
/// When to call again after `UNAVAILABLE`.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// In what tonic says of messages that it can't take.
const OF_THE_CALLER: [&str; 4] = ["decode", "decoding", "protocol error", "Missing request message"];
const PREFIX: &str = "ERROR_REASON_";

/// The status for an error. Logs the cause of what is not the caller's doing.
pub(crate) fn from_error(error: Error) -> Status {
    match error {
        Error::Invalid(violations) => from_violations(violations),
        Error::Refused(refusal) => from_refusal(refusal),
        Error::Store(failure) => from_store_failure(&failure),
    }
}

fn from_violations(violations: Vec<Violation>) -> Status {
    let count = violations.len();
    let message = match violations.as_slice() {
        [only] => format!("{} {}", only.field, only.description),
        [first, ..] => format!(
            "{count} fields are invalid, the first: {} {}",
            first.field, first.description
        ),
        [] => "the request is invalid".to_owned(),
    };
    let metadata = HashMap::from([("violation_count".to_owned(), count.to_string())]);
    let mut details = error_info(ErrorReason::InvalidRequest, metadata);
    details.set_bad_request(
        violations
            .into_iter()
            .take(MAX_VIOLATIONS)
            .map(|violation| FieldViolation::new(violation.field, violation.description))
            .collect::<Vec<_>>(),
    );
    Status::with_error_details(Code::InvalidArgument, message, details)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other codes have no details of their own"
)]
fn from_refusal(refusal: Refusal) -> Status {
    let (code, reason) = classify(refusal.reason);
    let mut metadata = HashMap::new();
    if let Some((_, id)) = &refusal.resource {
        metadata.insert("resource".to_owned(), id.clone());
    }
    let mut details = error_info(reason, metadata);
    match code {
        Code::InvalidArgument => {
            let field = refusal.field.unwrap_or_default();
            let mut violation = FieldViolation::new(field, refusal.message.clone());
            violation.reason = name_of(reason);
            details.set_bad_request(vec![violation]);
        }
        Code::FailedPrecondition => {
            let subject = refusal
                .resource
                .as_ref()
                .map_or_else(|| refusal.field.unwrap_or_default().to_owned(), |(_, id)| id.clone());
            details.add_precondition_failure_violation(name_of(reason), subject, refusal.message.clone());
        }
        Code::Unavailable => {
            details.set_retry_info(Some(refusal.retry_after.unwrap_or(RETRY_DELAY)));
        }
        _ => {}
    }
    if let Some((resource_type, id)) = refusal.resource {
        details.set_resource_info(resource_type, id, "", refusal.message.clone());
    }
    Status::with_error_details(code, refusal.message, details)
}

fn from_store_failure(failure: &StoreFailure) -> Status {
    match failure {
        StoreFailure::Contention(cause) => {
            tracing::warn!(%cause, "lost every race");
            plain(
                Code::Aborted,
                ErrorReason::Conflict,
                "concurrent changes won every try: call again",
            )
        }
        StoreFailure::Unavailable(cause) => {
            tracing::error!(%cause, "database unavailable");
            let mut details = error_info(ErrorReason::DatabaseUnavailable, HashMap::new());
            details.set_retry_info(Some(RETRY_DELAY));
            let message =
                "the database can't be reached or has no free connection: call again, with the same request id";
            Status::with_error_details(Code::Unavailable, message, details)
        }
        StoreFailure::Internal(cause) => {
            tracing::error!(%cause, "internal error");
            plain(Code::Internal, ErrorReason::Internal, "internal error")
        }
    }
}

/// A status with a reason and nothing else.
pub(crate) fn plain(code: Code, reason: ErrorReason, message: &str) -> Status {
    Status::with_error_details(code, message, error_info(reason, HashMap::new()))
}

/// What tonic refuses before a handler sees it, with a reason like everything else.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what tonic never answers by itself stays as it is"
)]
pub(crate) fn from_transport(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let message = status.message();
    match status.code() {
        // tonic answers INTERNAL to a message that can't be decoded, but it is the caller's.
        // The same of one that is cut or missing.
        Code::Internal if OF_THE_CALLER.iter().any(|words| message.contains(words)) => plain(
            Code::InvalidArgument,
            ErrorReason::MalformedMessage,
            "the message can't be decoded: is it a protobuf message of this method, with valid UTF-8 in its strings",
        ),
        Code::OutOfRange | Code::ResourceExhausted => plain(
            Code::ResourceExhausted,
            ErrorReason::MessageTooLarge,
            "the message is larger than the 4 MiB that the server takes: send fewer items at once",
        ),
        Code::Unimplemented if message.contains("compressed") => plain(
            Code::Unimplemented,
            ErrorReason::MalformedMessage,
            "compressed messages are not taken: send them as they are, without grpc-encoding",
        ),
        Code::Unimplemented => plain(
            Code::Unimplemented,
            ErrorReason::UnknownMethod,
            "no such method: see the service by reflection",
        ),
        Code::Cancelled | Code::DeadlineExceeded => plain(status.code(), ErrorReason::DeadlineExceeded, message),
        Code::Unavailable => plain(Code::Unavailable, ErrorReason::ShuttingDown, message),
        Code::Internal | Code::Unknown | Code::DataLoss => {
            plain(Code::Internal, ErrorReason::Internal, "internal error")
        }
        _ => status,
    }
}

fn error_info(reason: ErrorReason, metadata: HashMap<String, String>) -> ErrorDetails {
    ErrorDetails::with_error_info(name_of(reason), DOMAIN, metadata)
}

fn name_of(reason: ErrorReason) -> String {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name).to_owned()
}

fn classify(reason: Reason) -> (Code, ErrorReason) {
    match reason {
        Reason::Unauthenticated => (Code::Unauthenticated, ErrorReason::Unauthenticated),
        Reason::PermissionDenied => (Code::PermissionDenied, ErrorReason::PermissionDenied),
        Reason::ReasonRequired => (Code::InvalidArgument, ErrorReason::ReasonRequired),
        Reason::InvalidPageToken => (Code::InvalidArgument, ErrorReason::InvalidPageToken),
        Reason::BillingDetailsNotFound => (Code::NotFound, ErrorReason::BillingDetailsNotFound),
        Reason::PaymentMethodTypeNotFound => (Code::NotFound, ErrorReason::PaymentMethodTypeNotFound),
        Reason::PaymentMethodNotFound => (Code::NotFound, ErrorReason::PaymentMethodNotFound),
        Reason::SettlementNotFound => (Code::NotFound, ErrorReason::SettlementNotFound),
        Reason::AccountSettlementNotFound => (Code::NotFound, ErrorReason::AccountSettlementNotFound),
        Reason::PayoutHoldNotFound => (Code::NotFound, ErrorReason::PayoutHoldNotFound),
        Reason::BillingDetailsAlreadyExist => (Code::AlreadyExists, ErrorReason::BillingDetailsAlreadyExist),
        Reason::PaymentMethodTypeAlreadyExists => (Code::AlreadyExists, ErrorReason::PaymentMethodTypeAlreadyExists),
        Reason::PaymentMethodAlreadyExists => (Code::AlreadyExists, ErrorReason::PaymentMethodAlreadyExists),
        Reason::PayoutHoldAlreadyExists => (Code::AlreadyExists, ErrorReason::PayoutHoldAlreadyExists),
        Reason::RequestIdReused => (Code::FailedPrecondition, ErrorReason::RequestIdReused),
        Reason::PaymentMethodTypeDisabled => (Code::FailedPrecondition, ErrorReason::PaymentMethodTypeDisabled),
        Reason::TooManyPaymentMethodTypes => (Code::FailedPrecondition, ErrorReason::TooManyPaymentMethodTypes),
        Reason::AccountSettlementDeleted => (Code::FailedPrecondition, ErrorReason::AccountSettlementDeleted),
        Reason::ProviderManaged => (Code::FailedPrecondition, ErrorReason::ProviderManaged),
        Reason::AccountSettlementNotDeletable => (Code::FailedPrecondition, ErrorReason::AccountSettlementNotDeletable),
        Reason::SettlementDeleted => (Code::FailedPrecondition, ErrorReason::SettlementDeleted),
        Reason::SettlementNotApproved => (Code::FailedPrecondition, ErrorReason::SettlementNotApproved),
        Reason::ApproverIsCreator => (Code::FailedPrecondition, ErrorReason::ApproverIsCreator),
        Reason::ApprovalNotRequired => (Code::FailedPrecondition, ErrorReason::ApprovalNotRequired),
        Reason::AlreadyApproved => (Code::FailedPrecondition, ErrorReason::AlreadyApproved),
        Reason::BalanceLimitExceeded => (Code::FailedPrecondition, ErrorReason::BalanceLimitExceeded),
        Reason::ProviderNotConfigured => (Code::FailedPrecondition, ErrorReason::ProviderNotConfigured),
        Reason::ProviderCredentialsRefused => (Code::FailedPrecondition, ErrorReason::ProviderCredentialsRefused),
        Reason::EtagMismatch => (Code::Aborted, ErrorReason::EtagMismatch),
        Reason::UnexpectedStatus => (Code::Aborted, ErrorReason::UnexpectedStatus),
        Reason::ExpectedTotalsMismatch => (Code::Aborted, ErrorReason::ExpectedTotalsMismatch),
        Reason::Conflict => (Code::Aborted, ErrorReason::Conflict),
        Reason::ShuttingDown => (Code::Unavailable, ErrorReason::ShuttingDown),
        Reason::ProviderUnavailable => (Code::Unavailable, ErrorReason::ProviderUnavailable),
        Reason::DeadlineExceeded => (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded),
    }
}
