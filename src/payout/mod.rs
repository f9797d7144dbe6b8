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
use std::sync::Arc;
use std::time::Duration;

use crate::domain::account_settlements::Status;
use crate::domain::money::Money;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;

/// A kind of provider: what is known of it without reaching it. Its words can be read, and its webhook listened to, also where
/// no client of it is configured.
#[derive(Debug, Clone, Copy)]
pub struct ProviderKind {
    /// Its name as stored with a row, such as `tipalti`.
    pub name: &'static str,
    /// What a status of it means; `None` for one that is not known, which changes nothing.
    pub map_status: fn(&str) -> Option<MappedStatus>,
    /// Its webhook.
    pub webhook: WebhookKind,
}

/// Checks the signature in a header of a raw body with any of the secrets, at a time in seconds since 1970.
pub type VerifySignature = fn(&str, &[Sensitive], &[u8], i64) -> Result<(), SignatureError>;

/// How a provider's webhook is read.
#[derive(Debug, Clone, Copy)]
pub struct WebhookKind {
    /// Path that it posts to.
    pub path: &'static str,
    /// Name of the header with the signature, in lower case.
    pub signature_header: &'static str,
    /// Checks the header.
    pub verify: VerifySignature,
    /// Reads a body.
    pub read: fn(&[u8]) -> Result<ProviderEvent, EventError>,
    /// The body without personal data but for ids; it reads to the same event.
    pub redact: fn(&[u8]) -> String,
}

/// All kinds. A provider is added by its folder and its line here, and its client by one in [`Providers::connect`].
pub const KINDS: [ProviderKind; 1] = [tipalti::KIND];

/// The kind of a provider by its name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static ProviderKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The clients that are configured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Providers {
    clients: Arc<Vec<Arc<dyn PayoutProvider>>>,
}

/// How to reach each provider; `None` where one is not used.
#[derive(Debug, Clone, Default)]
pub struct ProviderSettings {
    /// Tipalti.
    pub tipalti: Option<tipalti::TipaltiSettings>,
}

impl Providers {
    /// Makes the clients; connects to nothing yet.
    pub fn connect(settings: ProviderSettings) -> Result<Self, tipalti::SettingsError> {
        let mut clients: Vec<Arc<dyn PayoutProvider>> = Vec::new();
        if let Some(settings) = settings.tipalti {
            clients.push(Arc::new(tipalti::TipaltiProvider::new(settings)?));
        }
        Ok(Self {
            clients: Arc::new(clients),
        })
    }

    /// The client of a provider.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn PayoutProvider>> {
        self.iter().find(|client| client.name() == name).cloned()
    }

    /// All clients.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn PayoutProvider>> {
        self.clients.iter()
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(|client| client.name()))
            .finish()
    }
}

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

    /// Does what can be tried before anything is intended, such as fetching an access token: a provider that can't be
    /// reached, or takes no credentials, is then told without a trace.
    fn prepare(&self) -> ProviderFuture<'_, Result<(), ProviderError>>;

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
    /// It was refused for good: this row alone is in error, and no payment was made of it. Its status is in no table. To be
    /// believed only when a look-up after it does not find the payment either.
    Refused(PaymentReport),
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

/// What a provider says by itself, by its webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderEvent {
    /// Its id: the same for each delivery of it.
    pub id: String,
    /// What it is about, by the provider's own name.
    pub event_type: String,
    /// When the provider made it.
    pub created_time: Option<Timestamp>,
    /// Whether it is a test's.
    pub is_test: bool,
    /// The payments it is about: several for a group's, none for a payee's.
    pub payments: Vec<PaymentReport>,
    /// The payee it is about.
    pub payee: Option<PayeeStatus>,
}

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no secret to check with.
    #[error("no webhook secret is configured")]
    NoSecret,
    /// It is not `t=<unix seconds>,v=<hex>`.
    #[error("the signature is not t=<unix seconds>,v=<hex>")]
    Malformed,
    /// It was made too long ago: a replay, or a clock that is wrong.
    #[error("the signature is more than 5 minutes old")]
    TooOld,
    /// It was made in the future: a clock is wrong.
    #[error("the signature is more than 5 minutes ahead")]
    TooNew,
    /// No secret makes it.
    #[error("the signature does not match")]
    Mismatch,
}

/// Why a body is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is no JSON object.
    #[error("the body is not a JSON object")]
    NotJson,
    /// Its id is missing, or too long.
    #[error("the event has no id")]
    NoId,
    /// Its type is missing, or too long.
    #[error("the event has no type")]
    NoType,
    /// It is about more payments than are taken at once.
    #[error("the event is about more than 10000 payments")]
    TooManyPayments,
}

/// Payments of one event at most.
pub const MAX_EVENT_PAYMENTS: usize = 10_000;

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
    /// The provider refused the request for its content: part of it may be fine.
    Content,
    /// The answer is not what it should be.
    Unreadable,
}

impl RowOutcome {
    /// The ref code that it is about.
    #[must_use]
    pub fn ref_code(&self) -> &str {
        match self {
            Self::Accepted(report) | Self::Refused(report) => &report.ref_code,
            Self::Unknown { ref_code, .. } => ref_code,
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
            Self::Unauthorized | Self::Credentials | Self::Refused | Self::Content | Self::Unreadable => false,
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
