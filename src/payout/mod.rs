//! Payout providers: who pays account settlements by themselves and say what became of them.
//!
//! Owns the trait, what a provider is told and says, and the order of what it says ([`standing`]). One folder a provider;
//! [`tipalti`] is the only one. Knows neither gRPC nor SQL: who keeps the rows decides from these answers what to write.
//!
//! The rule that the types here are made for: **no fault may pay twice, and none may release money that may have been
//! paid.** A provider says "not sent" or "refused" only where that is sure; everything else is "unknown", and has to be
//! looked up by its ref code before anything is sent again.
//!
//! The trait is used behind `Arc<dyn PayoutProvider>`: its methods return boxed futures, which keeps it usable as a trait
//! object without a macro. Against a call over the network the box costs nothing.

pub mod standing;
pub mod tipalti;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use crate::domain::account_settlements::Status;
use crate::domain::money::Money;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;

/// What the methods of a provider return.
pub type ProviderFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Somebody who pays.
pub trait PayoutProvider: Send + Sync {
    /// Its name as stored with a row, such as `tipalti`.
    fn name(&self) -> &'static str;

    /// Orders in one [`submit`](Self::submit) at most.
    fn batch_limit(&self) -> usize;

    /// How long after the last attempt to send an order a [`LookUp::NotKnown`] must not be believed: until then the
    /// provider may still be working on a request that was cut off here.
    fn doubt_period(&self) -> Duration;

    /// What a status of the provider means; `None` for one that is not known, which changes nothing.
    fn map_status(&self, raw_status: &str) -> Option<MappedStatus>;

    /// Sends orders, once: a provider never repeats this by itself. Each order is answered exactly once, in order.
    ///
    /// A future that is dropped before it is ready is [`SubmitError::Unknown`] for all its orders: commit the intent first.
    fn submit<'a>(
        &'a self,
        batch_id: &'a str,
        orders: &'a [PaymentOrder],
    ) -> ProviderFuture<'a, Result<Vec<RowOutcome>, SubmitError>>;

    /// Asks for payments by their ref codes. Each is answered exactly once, in order. May ask again by itself.
    fn look_up<'a>(&'a self, ref_codes: &'a [String]) -> ProviderFuture<'a, Result<Vec<LookUp>, ProviderError>>;

    /// Asks whether a payee can be paid; `None` when the provider does not know it.
    fn payee_status<'a>(
        &'a self,
        payee_id: &'a Sensitive,
    ) -> ProviderFuture<'a, Result<Option<PayeeStatus>, ProviderError>>;
}

/// One payment to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentOrder {
    /// The account settlement's id: what the provider knows the payment by, and refuses a second one with.
    pub ref_code: String,
    /// The payee, as the provider knows it.
    pub payee_id: Sensitive,
    /// What to pay.
    pub money: Money,
    /// Decimals to write the amount with; it has no more.
    pub decimals: u32,
}

/// What became of one order of a batch that the provider took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// It was taken; what is said of it may already be final.
    Accepted(PaymentReport),
    /// It was refused for good: this row alone is in error, and no payment was made of it.
    Refused {
        /// The ref code.
        ref_code: String,
        /// The provider's error code.
        code: String,
        /// The provider's text, without personal data.
        text: String,
    },
    /// The provider took the batch and says nothing sure of this row: look it up before it is sent again or let go. A
    /// ref code that the provider knows already ends here too.
    Unknown {
        /// The ref code.
        ref_code: String,
        /// Why.
        text: String,
    },
}

/// Why a batch was not answered row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitError {
    /// Surely nothing **of this call** was taken. It says nothing of an earlier attempt with the same ref codes: only a row
    /// that was never attempted before may go back to where it was.
    NotSent(ProviderError),
    /// Anything may have happened: every row must be looked up by its ref code before anything is sent again.
    Unknown(ProviderError),
}

/// What a provider said of one payment, by an answer or by an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentReport {
    /// The account settlement's id.
    pub ref_code: String,
    /// The provider's own status, as it wrote it.
    pub raw_status: String,
    /// The provider's own id of the payment; empty where it gave none.
    pub provider_reference: String,
    /// The provider's error code; empty where it gave none.
    pub error_code: String,
    /// The provider's error text, without personal data; empty where it gave none.
    pub error_text: String,
    /// When it became so by the provider's own clock, or when the provider said so where it does not tell.
    pub event_time: Option<Timestamp>,
}

/// The answer to a question for one payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookUp {
    /// The provider has it.
    Known(PaymentReport),
    /// The provider says that it has no payment with this ref code. See [`PayoutProvider::doubt_period`].
    NotKnown {
        /// The ref code.
        ref_code: String,
    },
}

/// Whether a payee can be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayeeStatus {
    /// Every id that the provider gave with it: the payment method's payee id may be any of them.
    pub identifiers: Vec<Sensitive>,
    /// Whether it can be paid, where the provider said.
    pub is_payable: Option<bool>,
    /// The provider's own status; empty where it gave none.
    pub raw_status: String,
    /// Why it can't be paid, without personal data; empty where the provider gave none.
    pub reason: String,
    /// When that became so by the provider's own clock.
    pub event_time: Option<Timestamp>,
}

/// What a provider's status means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedStatus {
    /// Our status.
    pub status: Status,
    /// Whether it is the provider's last word.
    pub is_final: bool,
    /// Orders statuses of the same time; different ones have different ranks.
    pub rank: u8,
}

/// Why a question was not answered, or a batch not taken. Its text holds no secret and no personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderError {
    /// What kind of failure it is.
    pub kind: ProviderErrorKind,
    /// The provider's error code, or `HTTP 503` and the like; empty where there is none.
    pub code: String,
    /// What happened.
    pub text: String,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// No connection could be made.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The connection broke before the answer was there.
    Cut,
    /// Too many requests.
    Throttled,
    /// The provider failed.
    Failed,
    /// The provider does not take our access token.
    Unauthorized,
    /// The provider does not take our credentials: nothing works until they are right.
    Credentials,
    /// The provider refused the request as it is; asking again the same way won't help.
    Refused,
    /// The answer is not what it should be.
    Unreadable,
}

impl RowOutcome {
    /// The ref code that it is about.
    #[must_use]
    pub fn ref_code(&self) -> &str {
        match self {
            Self::Accepted(report) => &report.ref_code,
            Self::Refused { ref_code, .. } | Self::Unknown { ref_code, .. } => ref_code,
        }
    }
}

impl LookUp {
    /// The ref code that it is about.
    #[must_use]
    pub fn ref_code(&self) -> &str {
        match self {
            Self::Known(report) => &report.ref_code,
            Self::NotKnown { ref_code } => ref_code,
        }
    }
}

impl SubmitError {
    /// What happened.
    #[must_use]
    pub fn error(&self) -> &ProviderError {
        match self {
            Self::NotSent(error) | Self::Unknown(error) => error,
        }
    }
}

impl ProviderErrorKind {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut | Self::Cut | Self::Throttled | Self::Failed => true,
            Self::Unauthorized | Self::Credentials | Self::Refused | Self::Unreadable => false,
        }
    }
}

impl ProviderError {
    /// One without a code.
    #[must_use]
    pub fn new(kind: ProviderErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            code: String::new(),
            text: text.into(),
            retry_after: None,
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() {
            formatter.write_str(&self.text)
        } else {
            write!(formatter, "{} ({})", self.text, self.code)
        }
    }
}

impl std::error::Error for ProviderError {}

impl fmt::Display for SubmitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(error) => write!(formatter, "nothing was sent: {error}"),
            Self::Unknown(error) => write!(formatter, "it is not known what was taken: {error}"),
        }
    }
}

impl std::error::Error for SubmitError {}
