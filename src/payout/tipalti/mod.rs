//! Tipalti as a payout provider.
//!
//! [`wire`] says how Tipalti is spoken to and what its documentation leaves open, [`status`] what its statuses mean,
//! [`webhook`] what it sends by itself. Here is what an answer means for money: when nothing was taken for sure, and when
//! that is not known.

mod client;
mod redact;
pub mod status;
mod token;
pub mod webhook;
pub mod wire;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

pub use self::redact::scrub;

use self::client::{Answer, PostFailure, TipaltiClient};
use self::wire::InstructionOutcome;
use crate::domain::account_settlements::Status;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;
use crate::payout::{
    LookUp, PayeeStatus, PaymentOrder, PaymentReport, PayoutProvider, ProviderError, ProviderErrorKind, ProviderFuture,
    ProviderKind, RowOutcome, SubmitError, WebhookKind,
};

/// The provider's name, as stored with a row.
pub const NAME: &str = "tipalti";

/// Tipalti as a kind of provider.
pub const KIND: ProviderKind = ProviderKind {
    name: NAME,
    map_status: status::map,
    webhook: WebhookKind {
        path: "/webhooks/tipalti",
        signature_header: webhook::SIGNATURE_HEADER,
        verify: webhook::verify_signature,
        read: webhook::parse_event,
        redact: webhook::redact,
    },
};

/// How to reach Tipalti. Its `Debug` shows no credential.
#[derive(Debug, Clone)]
pub struct TipaltiSettings {
    /// Address of the API, such as `https://api-p.tipalti.com`, with or without `/api/v1`.
    pub base_url: String,
    /// Address that tokens come from; by default the one that belongs to `base_url`.
    pub token_url: Option<String>,
    /// The application's id. It names the payer too: there is no other setting for that.
    pub client_id: Sensitive,
    /// The application's secret.
    pub client_secret: Sensitive,
    /// The refresh token.
    pub refresh_token: Sensitive,
    /// The code verifier that the refresh token was made with, for applications that use PKCE.
    pub code_verifier: Option<Sensitive>,
    /// To make a connection.
    pub connect_timeout: Duration,
    /// For a whole request, its answer included.
    pub request_timeout: Duration,
    /// Instructions in a batch at most.
    pub batch_limit: usize,
    /// How long "not known" is not believed after an attempt.
    pub doubt_period: Duration,
    /// Times that a read is asked again at most.
    pub max_retries: u32,
    /// Pause before the first time; doubled for each further one.
    pub retry_pause: Duration,
    /// Longest pause; when Tipalti asks for a longer one, the caller is told instead.
    pub max_retry_pause: Duration,
}

impl TipaltiSettings {
    /// Settings with the defaults for everything else.
    #[must_use]
    pub fn new(
        base_url: impl Into<String>,
        client_id: Sensitive,
        client_secret: Sensitive,
        refresh_token: Sensitive,
    ) -> Self {
        Self {
            base_url: base_url.into(),
            token_url: None,
            client_id,
            client_secret,
            refresh_token,
            code_verifier: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            batch_limit: wire::BATCH_LIMIT,
            doubt_period: wire::DOUBT_PERIOD,
            max_retries: 4,
            retry_pause: Duration::from_millis(250),
            max_retry_pause: Duration::from_secs(10),
        }
    }
}

/// A setting that can't be used: what and why, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(pub String);

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

/// Tipalti.
pub struct TipaltiProvider {
    client: TipaltiClient,
    batch_limit: usize,
    doubt_period: Duration,
}

impl fmt::Debug for TipaltiProvider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TipaltiProvider").finish_non_exhaustive()
    }
}

impl TipaltiProvider {
    /// Makes the client; connects to nothing yet.
    pub fn new(settings: TipaltiSettings) -> Result<Self, SettingsError> {
        if settings.batch_limit == 0 {
            return Err(SettingsError("batch_limit must be at least 1".to_owned()));
        }
        Ok(Self {
            batch_limit: settings.batch_limit,
            doubt_period: settings.doubt_period,
            client: TipaltiClient::new(settings)?,
        })
    }

    async fn submit_batch(&self, batch_id: &str, orders: &[PaymentOrder]) -> Result<Vec<RowOutcome>, SubmitError> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        self.check_orders(orders).map_err(SubmitError::NotSent)?;
        let body = wire::batch_body(orders)
            .map_err(|_| SubmitError::NotSent(refused_here("the batch can't be written as JSON")))?;
        let url = self.client.url(&[wire::BATCHES], &[]);
        let answer = match self.client.post_once(url, batch_id, body).await {
            Ok(answer) => answer,
            Err(PostFailure::Before(error)) => return Err(SubmitError::NotSent(error)),
            Err(PostFailure::After(error)) => return Err(SubmitError::Unknown(error)),
        };
        let provider_batch = batch_taken(&answer)?;
        // From here on the batch is taken: whatever fails now leaves its rows to be looked up.
        let url = self
            .client
            .url(&[wire::BATCHES, &provider_batch, wire::INSTRUCTIONS], &[]);
        let (instructions, said_at) = self.read_list(url).await.map_err(SubmitError::Unknown)?;
        Ok(outcomes(orders, &instructions, said_at))
    }

    /// What must not even be sent.
    fn check_orders(&self, orders: &[PaymentOrder]) -> Result<(), ProviderError> {
        if orders.len() > self.batch_limit {
            return Err(refused_here("the batch is larger than the limit"));
        }
        let mut seen = HashSet::new();
        for order in orders {
            if !wire::is_plain_ref_code(&order.ref_code) {
                return Err(refused_here("a ref code must be 1 to 64 letters, digits, - and _"));
            }
            if !seen.insert(order.ref_code.to_ascii_lowercase()) {
                return Err(refused_here("a ref code stands twice in the batch"));
            }
            if !order.money.amount.is_positive() || !order.money.amount.fits_decimals(order.decimals) {
                return Err(refused_here(
                    "an amount must be positive and have no more than its decimals",
                ));
            }
        }
        Ok(())
    }

    /// All items of a list, over its pages, and when they were said.
    async fn read_list(&self, url: reqwest::Url) -> Result<(Vec<Value>, Timestamp), ProviderError> {
        let page_size = wire::PAGE_SIZE.to_string();
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        let mut said_at = None;
        for _ in 0..wire::MAX_PAGES {
            let mut page_url = url.clone();
            page_url.query_pairs_mut().append_pair("pageSize", &page_size);
            if let Some(cursor) = &cursor {
                page_url.query_pairs_mut().append_pair("pageCursor", cursor);
            }
            let answer = self.client.read(&page_url).await?;
            let page = wire::page(&answer.body).ok_or_else(|| unreadable("a list has no items"))?;
            // The first page's: what later pages hold can only be newer than that.
            let said_at = *said_at.get_or_insert(answer.said_at);
            let count = page.items.len();
            items.extend(page.items);
            if page.next_cursor.is_none() || page.next_cursor == cursor || count == 0 {
                if items.is_empty() && page.total_count.is_some_and(|total| total > 0) {
                    return Err(unreadable("a list is empty and says that it is not"));
                }
                return Ok((items, said_at));
            }
            cursor = page.next_cursor;
        }
        Err(unreadable("a list has too many pages"))
    }

    async fn look_up_all(&self, ref_codes: &[String]) -> Result<Vec<LookUp>, ProviderError> {
        if ref_codes.iter().any(|ref_code| !wire::is_plain_ref_code(ref_code)) {
            return Err(refused_here("a ref code must be 1 to 64 letters, digits, - and _"));
        }
        let mut found: HashMap<String, LookUp> = HashMap::new();
        for chunk in ref_codes.chunks(wire::REF_CODES_A_QUESTION) {
            let mut reports = match chunk {
                [_] => HashMap::new(),
                _ => self.known_among(chunk).await?,
            };
            for ref_code in chunk {
                if found.contains_key(ref_code) {
                    continue;
                }
                let answer = match reports.remove(&ref_code.to_ascii_lowercase()) {
                    Some(report) => LookUp::Known(PaymentReport {
                        ref_code: ref_code.clone(),
                        ..report
                    }),
                    None => self.look_up_one(ref_code).await?,
                };
                found.insert(ref_code.clone(), answer);
            }
        }
        Ok(ref_codes
            .iter()
            .filter_map(|ref_code| found.get(ref_code).cloned())
            .collect())
    }

    /// The payments that are known, by their ref codes in lower case. What is missing may still be known.
    async fn known_among(&self, ref_codes: &[String]) -> Result<HashMap<String, PaymentReport>, ProviderError> {
        match self.payments_of(ref_codes).await {
            Ok(reports) => Ok(by_ref_code(reports)),
            // It may not take several conditions at once.
            Err(error) if is_refusal(&error) => Ok(HashMap::new()),
            Err(error) => Err(error),
        }
    }

    /// Asks for one payment alone: only here "not known" is believed.
    async fn look_up_one(&self, ref_code: &str) -> Result<LookUp, ProviderError> {
        let asked = [ref_code.to_owned()];
        let reports = self.payments_of(&asked).await?;
        let is_empty = reports.is_empty();
        match by_ref_code(reports).remove(&ref_code.to_ascii_lowercase()) {
            Some(report) => Ok(LookUp::Known(PaymentReport {
                ref_code: ref_code.to_owned(),
                ..report
            })),
            None if is_empty => Ok(LookUp::NotKnown {
                ref_code: ref_code.to_owned(),
            }),
            None => Err(unreadable("other payments were answered than asked for")),
        }
    }

    async fn payments_of(&self, ref_codes: &[String]) -> Result<Vec<PaymentReport>, ProviderError> {
        let filter = wire::ref_code_filter(ref_codes.iter().map(String::as_str));
        let url = self.client.url(&[wire::PAYMENTS], &[("filter", &filter)]);
        let (items, said_at) = self.read_list(url).await?;
        let mut reports = Vec::with_capacity(items.len());
        for item in &items {
            let report = wire::payment_report(item, Some(said_at));
            reports.push(report.ok_or_else(|| unreadable("a payment has no ref code"))?);
        }
        Ok(reports)
    }

    async fn find_payee(&self, payee_id: &Sensitive) -> Result<Option<PayeeStatus>, ProviderError> {
        let url = self.client.url(&[wire::PAYEES, payee_id.as_str()], &[]);
        match self.client.read(&url).await {
            Ok(answer) => {
                let value = serde_json::from_slice::<Value>(&answer.body)
                    .ok()
                    .filter(Value::is_object);
                let value = value.ok_or_else(|| unreadable("the payee can't be read"))?;
                return Ok(Some(wire::payee_status(&value, Some(answer.said_at))));
            }
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
        if !wire::is_plain_ref_code(payee_id.as_str()) {
            return Ok(None);
        }
        let filter = wire::ref_code_filter([payee_id.as_str()]);
        let url = self.client.url(&[wire::PAYEES], &[("filter", &filter)]);
        let (items, said_at) = self.read_list(url).await?;
        let payees = items.iter().map(|item| wire::payee_status(item, Some(said_at)));
        Ok(payees.into_iter().find(|payee| payee.identifiers.contains(payee_id)))
    }
}

impl PayoutProvider for TipaltiProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    fn doubt_period(&self) -> Duration {
        self.doubt_period
    }

    fn prepare(&self) -> ProviderFuture<'_, Result<(), ProviderError>> {
        Box::pin(self.client.prepare())
    }

    fn submit<'a>(
        &'a self,
        batch_id: &'a str,
        orders: &'a [PaymentOrder],
    ) -> ProviderFuture<'a, Result<Vec<RowOutcome>, SubmitError>> {
        Box::pin(self.submit_batch(batch_id, orders))
    }

    fn look_up<'a>(&'a self, ref_codes: &'a [String]) -> ProviderFuture<'a, Result<Vec<LookUp>, ProviderError>> {
        Box::pin(self.look_up_all(ref_codes))
    }

    fn payee_status<'a>(
        &'a self,
        payee_id: &'a Sensitive,
    ) -> ProviderFuture<'a, Result<Option<PayeeStatus>, ProviderError>> {
        Box::pin(self.find_payee(payee_id))
    }
}

/// The id of the batch that was taken, or what else the answer means. Only answers that are made before anything is taken
/// mean that nothing was; all others leave it open.
fn batch_taken(answer: &Answer) -> Result<String, SubmitError> {
    match answer.status {
        200..=299 => wire::batch_id(&answer.body)
            .ok_or_else(|| SubmitError::Unknown(unreadable("the batch was taken, and its id can't be read"))),
        // The body says which of our orders it did not like, and a ref code that is there already is a payment.
        400 | 422 if wire::is_duplicate(&String::from_utf8_lossy(&answer.body)) => {
            Err(SubmitError::Unknown(answer.error()))
        }
        400 | 401 | 403 | 404 | 405 | 406 | 411 | 413 | 414 | 415 | 422 | 429 | 431 => {
            Err(SubmitError::NotSent(answer.error()))
        }
        // Among them 408 and 409, redirects, and every failure of the other side.
        _ => Err(SubmitError::Unknown(answer.error())),
    }
}

fn outcomes(orders: &[PaymentOrder], instructions: &[Value], said_at: Timestamp) -> Vec<RowOutcome> {
    let mut by_ref_code: HashMap<String, Vec<&Value>> = HashMap::new();
    for instruction in instructions {
        if let Some(ref_code) = instruction.get("refCode").and_then(wire::text) {
            by_ref_code
                .entry(ref_code.to_ascii_lowercase())
                .or_default()
                .push(instruction);
        }
    }
    let outcome = |order: &PaymentOrder| {
        let ref_code = order.ref_code.clone();
        match by_ref_code.get(&ref_code.to_ascii_lowercase()).map(Vec::as_slice) {
            Some([instruction]) => match wire::instruction_outcome(instruction, &ref_code, Some(said_at)) {
                InstructionOutcome::Taken(report) => RowOutcome::Accepted(report),
                InstructionOutcome::Refused(report) => RowOutcome::Refused(report),
                InstructionOutcome::Duplicate { text } => RowOutcome::Unknown { ref_code, text },
            },
            Some(_) => RowOutcome::Unknown {
                ref_code,
                text: "the batch lists it more than once".to_owned(),
            },
            None => RowOutcome::Unknown {
                ref_code,
                text: "the batch does not list it".to_owned(),
            },
        }
    };
    orders.iter().map(outcome).collect()
}

/// One payment a ref code. Should there be several, the one that keeps the money: paid before under way before failed.
fn by_ref_code(reports: Vec<PaymentReport>) -> HashMap<String, PaymentReport> {
    let mut chosen: HashMap<String, PaymentReport> = HashMap::new();
    for report in reports {
        let key = report.ref_code.to_ascii_lowercase();
        match chosen.get(&key) {
            Some(held) if caution(held) >= caution(&report) => {}
            _ => {
                chosen.insert(key, report);
            }
        }
    }
    chosen
}

fn caution(report: &PaymentReport) -> (u8, Option<Timestamp>) {
    let degree = match status::map(&report.raw_status) {
        Some(mapped) => match mapped.status {
            Status::Error => 0,
            Status::New | Status::InProgress => 2,
            Status::Paid => 3,
        },
        None => 1,
    };
    (degree, report.event_time)
}

/// Whether it says no to the question itself.
fn is_refusal(error: &ProviderError) -> bool {
    matches!(error.kind, ProviderErrorKind::Refused | ProviderErrorKind::Content)
}

fn refused_here(text: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Refused, text)
}

fn unreadable(text: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unreadable, text)
}
