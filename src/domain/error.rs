//! Every way in which a call can fail, with the reason that the caller is told.
//!
//! Owns the reasons and their wording. Must not know gRPC: which status code belongs to a reason is decided in
//! `grpc/status.rs`. No message here may hold a bank detail, a tax id or an e-mail address.

use std::fmt;
use std::time::Duration;

/// Result of everything that can fail with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed.
#[derive(Debug)]
pub enum Error {
    /// One or more fields of the request are malformed; all of them are named.
    Invalid(Vec<Violation>),
    /// The request is well formed, but refused.
    Refused(Refusal),
    /// The store failed, see [`StoreFailure`].
    Store(StoreFailure),
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, such as `billing_details.address.region_code` or `items[3].amount`.
    pub field: String,
    /// What is wrong and what to do, without the value.
    pub description: String,
}

/// Why a well-formed request is refused. The values are those of `error_reason.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented in error_reason.proto")]
pub enum Reason {
    Unauthenticated,
    PermissionDenied,
    ReasonRequired,
    InvalidPageToken,
    BillingDetailsNotFound,
    PaymentMethodTypeNotFound,
    PaymentMethodNotFound,
    SettlementNotFound,
    AccountSettlementNotFound,
    PayoutHoldNotFound,
    BillingDetailsAlreadyExist,
    PaymentMethodTypeAlreadyExists,
    PaymentMethodAlreadyExists,
    PayoutHoldAlreadyExists,
    RequestIdReused,
    PaymentMethodTypeDisabled,
    TooManyPaymentMethodTypes,
    AccountSettlementDeleted,
    ProviderManaged,
    AccountSettlementNotDeletable,
    SettlementDeleted,
    SettlementNotApproved,
    ApproverIsCreator,
    ApprovalNotRequired,
    AlreadyApproved,
    BalanceLimitExceeded,
    ProviderNotConfigured,
    ProviderCredentialsRefused,
    EtagMismatch,
    UnexpectedStatus,
    ExpectedTotalsMismatch,
    Conflict,
    ShuttingDown,
    ProviderUnavailable,
    DeadlineExceeded,
}

/// A refusal: its reason, what to do, and what it is about.
#[derive(Debug)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Lower case, what is wrong and what to do next.
    pub message: String,
    /// The field of the request that it is about, where there is one.
    pub field: Option<&'static str>,
    /// The resource that it is about, where there is one: its type and its id.
    pub resource: Option<(&'static str, String)>,
    /// When to call again, where that is known.
    pub retry_after: Option<Duration>,
}

/// How the store failed. The cause goes to the log, never to the caller.
#[derive(Debug)]
pub enum StoreFailure {
    /// The transaction lost a race (serialisation failure, deadlock, a unique key taken meanwhile): trying it again may help.
    Contention(String),
    /// The database can't be reached, or has no free connection.
    Unavailable(String),
    /// Anything else: a fault of the service.
    Internal(String),
}

impl Error {
    /// A single violation.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// A refusal without field or resource.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::Refused(Refusal {
            reason,
            message: message.into(),
            field: None,
            resource: None,
            retry_after: None,
        })
    }

    /// A refusal that says when to call again.
    pub fn refused_for_now(reason: Reason, message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self::Refused(Refusal {
            reason,
            message: message.into(),
            field: None,
            resource: None,
            retry_after,
        })
    }

    /// A refusal about one resource.
    pub fn refused_for(
        reason: Reason,
        resource_type: &'static str,
        resource_id: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        Self::Refused(Refusal {
            reason,
            message: message.into(),
            field: None,
            resource: Some((resource_type, resource_id.to_string())),
            retry_after: None,
        })
    }

    /// A refusal about one field of the request.
    pub fn refused_field(reason: Reason, field: &'static str, message: impl Into<String>) -> Self {
        Self::Refused(Refusal {
            reason,
            message: message.into(),
            field: Some(field),
            resource: None,
            retry_after: None,
        })
    }

    /// A fault of the service: what was found must not happen.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::Store(StoreFailure::Internal(cause.into()))
    }

    /// Whether trying the same transaction again may help.
    #[must_use]
    pub fn is_contention(&self) -> bool {
        matches!(self, Self::Store(StoreFailure::Contention(_)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(violations) => {
                write!(formatter, "{} invalid fields", violations.len())
            }
            Self::Refused(refusal) => formatter.write_str(&refusal.message),
            Self::Store(
                StoreFailure::Contention(cause) | StoreFailure::Unavailable(cause) | StoreFailure::Internal(cause),
            ) => formatter.write_str(cause),
        }
    }
}

impl std::error::Error for Error {}

/// Collects every violation of a request before it is refused.
#[derive(Debug, Default)]
pub struct Violations {
    found: Vec<Violation>,
}

impl Violations {
    /// Starts without any.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.found.push(Violation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// The value of a check, or `None` with its violation noted.
    pub fn check<T, E: Into<String>>(
        &mut self,
        field: impl Into<String>,
        outcome: std::result::Result<T, E>,
    ) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(description) => {
                self.push(field, description);
                None
            }
        }
    }

    /// Whether none was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The violations that were found.
    #[must_use]
    pub fn into_inner(self) -> Vec<Violation> {
        self.found
    }

    /// The error for what was found. Also right when a value is missing although nothing was noted.
    #[must_use]
    pub fn into_error(self) -> Error {
        Error::Invalid(self.found)
    }

    /// `value`, unless something was found.
    pub fn finish<T>(self, value: Option<T>) -> Result<T> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.into_error()),
        }
    }
}
