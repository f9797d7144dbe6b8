//! Payouts by providers: what both directions need. `submit_settlement.rs` sends, `sync_settlement.rs` asks,
//! `provider_events.rs` listens; what was said is written in `provider_words.rs`.
//!
//! A provider is never called inside a transaction. What is about to be sent is committed first, as an intent; from then on
//! its money is let go by the provider's last word alone, and whatever is cut off between is asked for before anything is
//! sent again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::provider_words::{Heard, Origin, Word, hear};
use super::{Billing, Call, Mutation, jittered};
use crate::domain::account_settlements::Status;
use crate::domain::error::{Error, Reason, Result};
use crate::domain::ids::{AccountId, parse_uuid};
use crate::domain::payouts::{Payout, PayoutAlarm, PayoutState, ProviderRow};
use crate::domain::time::Timestamp;
use crate::payout::{
    LookUp, PaymentOrder, PaymentReport, PayoutProvider, ProviderError, ProviderErrorKind, ProviderKind, Providers,
    RowOutcome, SubmitError, kind,
};
use crate::store::payouts::{self as store, Order};
use crate::store::{Tx, payout_alarms};

const LIST_ALARMS: &str = "ListPayoutAlarms";
/// The share of the claim time within which an intent is sent, or asked for instead: one request later, which takes another
/// such share at most, the rows are still the sender's.
const SEND_WITHIN_SHARE: u32 = 4;
/// Pause before what was not sent is tried again, doubled for each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// Raw status of a row that the provider refused without giving it one.
const REFUSED: &str = "REFUSED";

/// How payouts are refreshed.
#[derive(Debug, Clone, Copy)]
pub struct PayoutOptions {
    /// How often an unfinished payout is asked for at least, while it is fresh.
    pub sync_interval: Duration,
    /// Payouts that are taken and asked for at once.
    pub sync_batch: usize,
    /// How long taken payouts are somebody's, should he not let go of them himself. At least four times what one request to
    /// a provider may take.
    pub claim_time: Duration,
}

impl Default for PayoutOptions {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(300),
            sync_batch: 500,
            claim_time: Duration::from_secs(240),
        }
    }
}

/// The providers that can be reached, and how they are asked.
#[derive(Debug, Clone, Default)]
pub struct Payouts {
    /// Their clients.
    pub providers: Providers,
    /// How they are asked.
    pub options: PayoutOptions,
}

/// What became of one row that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentPayout {
    /// The account settlement.
    pub id: Uuid,
    /// What became of it.
    pub outcome: SendOutcome,
    /// Its status now.
    pub status: Status,
    /// The provider's own status; empty where it gave none.
    pub raw_status: String,
    /// The provider's error code; empty where it gave none.
    pub error_code: String,
    /// Why, without personal data; may be empty.
    pub error_text: String,
}

/// What became of a row that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendOutcome {
    /// The provider has it.
    Accepted,
    /// The provider refused it for good.
    Refused,
    /// Nobody knows: it is asked for until that is known.
    Unknown,
    /// It surely was not sent: it is sent again by itself.
    NotSent,
    /// Its account is on hold: it was left as it is.
    OnHold,
}

/// Rows of one intent that were sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) payouts: Vec<SentPayout>,
    /// Why nothing was answered row by row.
    pub(super) failure: Option<ProviderError>,
}

/// What became of one order, as far as this side can tell.
enum RowSent {
    /// The provider spoke of it.
    Answered(RowOutcome),
    /// It surely was not sent.
    NotSent(ProviderError),
    /// Anything may have happened.
    Unknown(ProviderError),
}

/// Keeps what was answered to a batch.
#[derive(Serialize)]
pub(super) struct RecordSubmission {
    settlement_id: Option<Uuid>,
    batch_id: Uuid,
    #[serde(skip)]
    kind: &'static ProviderKind,
    #[serde(skip)]
    interval: Duration,
    #[serde(skip)]
    sent: BTreeMap<Uuid, RowSent>,
    /// Rows of the same call that were left out.
    #[serde(skip)]
    left_out: Vec<SentPayout>,
}

/// What was kept of a batch's answer.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordedSubmission {
    pub(super) payouts: Vec<SentPayout>,
    #[serde(skip)]
    heard: Vec<Heard>,
}

impl Mutation for RecordSubmission {
    const METHOD: &'static str = "SubmitSettlement/outcome";
    type Answer = RecordedSubmission;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<RecordedSubmission> {
        let ids: Vec<Uuid> = self.sent.keys().copied().collect();
        let rows = store::lock(tx, &ids).await?;
        let words: Vec<Word> = rows.values().filter_map(|row| self.word(row)).collect();
        let heard = hear(tx, self.kind, &words, &Origin::Answer, self.interval).await?;
        let said: HashSet<Uuid> = heard.iter().filter_map(|heard| heard.id).collect();
        let unanswered = rows.into_values().filter(|row| !said.contains(&row.id)).collect();
        self.write_unanswered(tx, unanswered).await?;
        let mut payouts: Vec<SentPayout> = store::read(tx, &ids)
            .await?
            .iter()
            .map(|row| self.payout(row))
            .collect();
        payouts.extend(self.left_out.iter().cloned());
        payouts.sort_unstable_by_key(|payout| payout.id);
        Ok(RecordedSubmission { payouts, heard })
    }
}

impl RecordSubmission {
    /// What the provider said of a row. That it failed or was refused is believed of the last attempt alone: another one that
    /// followed is another payment. And a refusal says that there is none, which anything that was heard of one outweighs.
    fn word(&self, row: &ProviderRow) -> Option<Word> {
        let Some(RowSent::Answered(outcome)) = self.sent.get(&row.id) else {
            return None;
        };
        let is_waiting = self.is_waiting(row);
        match outcome {
            RowOutcome::Accepted(report) => {
                let mapped = (self.kind.map_status)(&report.raw_status);
                let has_failed = mapped.is_some_and(|mapped| mapped.status == Status::Error);
                (is_waiting || !has_failed).then(|| Word::Said(report.clone()))
            }
            RowOutcome::Refused(report) => {
                let is_silent = row.standing.is_none() && row.unmapped.is_none();
                (is_waiting && is_silent).then(|| {
                    Word::Refused(PaymentReport {
                        event_time: None,
                        ..report.clone()
                    })
                })
            }
            RowOutcome::Unknown { .. } => None,
        }
    }

    /// Whether a row still waits for the answer to this batch.
    fn is_waiting(&self, row: &ProviderRow) -> bool {
        let payout = row.payout.as_ref();
        payout.is_some_and(|payout| payout.batch_id == self.batch_id && payout.state == PayoutState::Unknown)
    }

    /// Rows of which nothing was said are asked for soon, or sent again where surely nothing was sent.
    async fn write_unanswered(&self, tx: &Tx, mut rows: Vec<ProviderRow>) -> Result<()> {
        let now = Timestamp::now();
        rows.retain(|row| self.is_waiting(row));
        for row in &mut rows {
            if let (Some(payout), Some(sent)) = (&mut row.payout, self.sent.get(&row.id)) {
                self.set_unanswered(payout, sent, now);
            }
        }
        store::write(tx, self.kind.name, &rows.iter().collect::<Vec<_>>(), now).await
    }

    fn set_unanswered(&self, payout: &mut Payout, sent: &RowSent, now: Timestamp) {
        let pause = match sent {
            RowSent::NotSent(error) => {
                payout.state = PayoutState::Unsent;
                let backoff = jittered(retry_pause(payout.attempt_count));
                error.retry_after.unwrap_or(backoff).max(backoff)
            }
            RowSent::Unknown(error) => {
                let pause = payout.pause_in_doubt(self.interval);
                error.retry_after.unwrap_or(pause).max(pause)
            }
            RowSent::Answered(_) => payout.pause_in_doubt(self.interval),
        };
        // Doubt begins when it was last possible that something was sent.
        payout.attempt_time = now;
        payout.next_time = now.plus(pause);
        payout.claimed_until = now;
    }

    /// A row as it is now, with why it is not answered.
    fn payout(&self, row: &ProviderRow) -> SentPayout {
        let mut payout = SentPayout::of(row);
        let is_unanswered = matches!(payout.outcome, SendOutcome::Unknown | SendOutcome::NotSent);
        if payout.error_text.is_empty() && is_unanswered {
            payout.error_text = match self.sent.get(&row.id) {
                Some(RowSent::NotSent(error) | RowSent::Unknown(error)) => error.to_string(),
                Some(RowSent::Answered(RowOutcome::Unknown { text, .. })) => text.clone(),
                Some(RowSent::Answered(_)) | None => String::new(),
            };
        }
        payout
    }
}

impl SentPayout {
    /// One that was left as it is.
    pub(super) fn on_hold((id, status): (Uuid, Status)) -> Self {
        Self {
            id,
            outcome: SendOutcome::OnHold,
            status,
            raw_status: String::new(),
            error_code: String::new(),
            error_text: "the account is on hold".to_owned(),
        }
    }

    /// What is known of a row.
    pub(super) fn of(row: &ProviderRow) -> Self {
        let word = row.standing.clone();
        let outcome = match row.payout.as_ref().map(|payout| payout.state) {
            None | Some(PayoutState::Unsent) => SendOutcome::NotSent,
            Some(PayoutState::Unknown) => SendOutcome::Unknown,
            Some(PayoutState::Known | PayoutState::Done) if row.status == Status::Error => SendOutcome::Refused,
            Some(PayoutState::Known | PayoutState::Done) => SendOutcome::Accepted,
        };
        let raw_status = word.as_ref().map(|word| word.raw_status.clone());
        let unmapped = row.unmapped.as_ref().map(|word| word.raw_status.clone());
        Self {
            id: row.id,
            outcome,
            status: row.status,
            raw_status: raw_status.or(unmapped).unwrap_or_default(),
            error_code: word.as_ref().map(|word| word.error_code.clone()).unwrap_or_default(),
            error_text: word.map(|word| word.error_text).unwrap_or_default(),
        }
    }
}

impl Billing {
    /// With the providers that it reaches.
    #[must_use]
    pub fn with_payouts(mut self, payouts: Payouts) -> Self {
        self.payouts = Arc::new(payouts);
        self
    }

    /// The providers that it reaches, and how.
    #[must_use]
    pub fn payouts(&self) -> &Payouts {
        &self.payouts
    }

    /// Lists alarms, newest first.
    pub async fn list_payout_alarms(
        &self,
        account_id: Option<&AccountId>,
        page: &PageRequest,
    ) -> Result<Page<PayoutAlarm>> {
        let before: Option<Uuid> = self.read_token(LIST_ALARMS, &account_id, page)?;
        let alarms = payout_alarms::list(&self.store.reader(), account_id, before, page.limit()).await?;
        self.page_of(LIST_ALARMS, &account_id, page, alarms, |alarm| alarm.id)
    }

    /// The client of a provider, and its kind.
    pub(super) fn client(&self, provider: &str) -> Result<(Arc<dyn PayoutProvider>, &'static ProviderKind)> {
        let client = self.payouts.providers.get(provider).zip(kind(provider));
        client.ok_or_else(|| {
            Error::refused(
                Reason::ProviderNotConfigured,
                format!(
                    "this server has no access to {provider}: set the BILLING_{}_ variables",
                    provider.to_uppercase()
                ),
            )
        })
    }

    /// What the rows of a committed intent are, as the provider is told them.
    pub(super) async fn orders(&self, ids: &[Uuid]) -> Result<Vec<PaymentOrder>> {
        let orders = store::orders(&self.store.reader(), ids).await?;
        orders.into_iter().map(payment_order).collect()
    }

    /// Sends the rows of a committed intent, once, and keeps what is answered. `call` has the request id that the answer is
    /// remembered by, where there is one. After a failure before this, nothing is sent.
    pub(super) async fn send(
        &self,
        client: &dyn PayoutProvider,
        call: &Call,
        intent: Intent,
        orders: &[PaymentOrder],
        failed_before: Option<&ProviderError>,
    ) -> Result<Sent> {
        let kind = intent.kind;
        let latest = intent.began + self.payouts.options.claim_time / SEND_WITHIN_SHARE;
        let mut sending = Sending {
            client,
            batch_id: intent.batch_id.to_string(),
            latest,
            sent: BTreeMap::new(),
            failure: failed_before.cloned(),
        };
        sending.send_all(orders).await;
        sending.check_refusals().await;
        if let Some(error) = &sending.failure {
            tracing::warn!(provider = kind.name, batch_id = %intent.batch_id, rows = orders.len(), %error, "a batch was not answered");
        }
        let failure = sending.failure.clone();
        let record = RecordSubmission {
            settlement_id: intent.settlement_id,
            batch_id: intent.batch_id,
            kind,
            interval: self.payouts.options.sync_interval,
            sent: sending.sent,
            left_out: intent.left_out,
        };
        let recorded = self.mutate(call, record).await?;
        tell_alarms(kind.name, &recorded.heard);
        Ok(Sent {
            payouts: recorded.payouts,
            failure,
        })
    }
}

/// A batch on its way.
struct Sending<'a> {
    client: &'a dyn PayoutProvider,
    batch_id: String,
    /// Nothing is sent after this.
    latest: Instant,
    sent: BTreeMap<Uuid, RowSent>,
    /// Why nothing more is sent.
    failure: Option<ProviderError>,
}

impl Sending<'_> {
    /// Sends orders. Where a provider refuses them together for their content, they are sent in halves, so that one that it
    /// does not take holds up no other.
    async fn send_all(&mut self, orders: &[PaymentOrder]) {
        let mut parts = vec![orders];
        while let Some(part) = parts.pop() {
            if let Some(error) = self.obstacle() {
                self.note_all(part, || RowSent::NotSent(error.clone()));
                continue;
            }
            match self.client.submit(&self.batch_id, part).await {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        let ref_code = outcome.ref_code().to_owned();
                        self.note(&ref_code, RowSent::Answered(outcome));
                    }
                }
                Err(SubmitError::NotSent(error)) if error.kind == ProviderErrorKind::Content => match part {
                    [only] => self.note(&only.ref_code, RowSent::Answered(refused(only, &error))),
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                Err(SubmitError::NotSent(error)) => {
                    self.note_all(part, || RowSent::NotSent(error.clone()));
                    self.failure = Some(error);
                }
                Err(SubmitError::Unknown(error)) => {
                    self.note_all(part, || RowSent::Unknown(error.clone()));
                    self.failure = Some(error);
                }
            }
        }
    }

    /// Why the next part is not sent: what failed before, or that too much time went by since the intent.
    fn obstacle(&mut self) -> Option<ProviderError> {
        if self.failure.is_none() && Instant::now() > self.latest {
            let text = "too much time went by before it could be sent";
            self.failure = Some(ProviderError::new(ProviderErrorKind::TimedOut, text));
        }
        self.failure.clone()
    }

    fn note(&mut self, ref_code: &str, sent: RowSent) {
        if let Ok(id) = parse_uuid(ref_code) {
            self.sent.insert(id, sent);
        }
    }

    fn note_all(&mut self, orders: &[PaymentOrder], sent: impl Fn() -> RowSent) {
        for order in orders {
            self.note(&order.ref_code, sent());
        }
    }

    /// A refusal counts only where a look-up after it does not find the payment: it may be there from before.
    async fn check_refusals(&mut self) {
        let is_refused = |sent: &RowSent| matches!(sent, RowSent::Answered(RowOutcome::Refused(_)));
        let refused: Vec<String> = self
            .sent
            .iter()
            .filter(|(_, sent)| is_refused(sent))
            .map(|(id, _)| id.to_string())
            .collect();
        if refused.is_empty() {
            return;
        }
        match self.client.look_up(&refused).await {
            Ok(answers) => {
                for answer in answers {
                    if let LookUp::Known(report) = answer {
                        self.note(
                            &report.ref_code.clone(),
                            RowSent::Answered(RowOutcome::Accepted(report)),
                        );
                    }
                }
            }
            Err(error) => {
                for ref_code in &refused {
                    self.note(ref_code, RowSent::Unknown(error.clone()));
                }
            }
        }
    }
}

/// One order that was refused for its content.
fn refused(order: &PaymentOrder, error: &ProviderError) -> RowOutcome {
    RowOutcome::Refused(PaymentReport {
        ref_code: order.ref_code.clone(),
        raw_status: REFUSED.to_owned(),
        provider_reference: String::new(),
        error_code: error.code.clone(),
        error_text: error.text.clone(),
        event_time: None,
    })
}

/// A committed intent to send rows.
pub(super) struct Intent {
    pub(super) kind: &'static ProviderKind,
    pub(super) settlement_id: Option<Uuid>,
    pub(super) batch_id: Uuid,
    /// Rows of the same call that are left out.
    pub(super) left_out: Vec<SentPayout>,
    /// Before it was committed.
    pub(super) began: Instant,
}

impl Intent {
    /// What was answered to the same call before, in the form that its hash is made of.
    pub(super) fn record_key(settlement_id: Uuid, batch_id: Uuid, kind: &'static ProviderKind) -> RecordSubmission {
        RecordSubmission {
            settlement_id: Some(settlement_id),
            batch_id,
            kind,
            interval: Duration::ZERO,
            sent: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }
}

pub(super) fn tell_alarms(provider: &str, heard: &[Heard]) {
    for alarm in heard.iter().filter_map(|heard| heard.alarm.as_ref()) {
        alarm.tell(provider);
    }
}

fn payment_order(order: Order) -> Result<PaymentOrder> {
    let (_, payee_id) = order
        .details
        .payee()
        .ok_or_else(|| Error::internal("a row of a provider was made with a method that names no payee"))?;
    Ok(PaymentOrder {
        ref_code: order.id.to_string(),
        payee_id: payee_id.clone(),
        money: order.money,
        decimals: order.decimals,
    })
}

fn retry_pause(attempt_count: i64) -> Duration {
    let doublings = u32::try_from(attempt_count.saturating_sub(1).clamp(0, 16)).unwrap_or(16);
    FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_RETRY)
}

/// What a caller is told when the provider does not answer.
pub(super) fn provider_failure(provider: &str, error: &ProviderError) -> Error {
    match error.kind {
        ProviderErrorKind::Credentials => Error::refused(
            Reason::ProviderCredentialsRefused,
            format!("{provider} does not take this server's credentials: its operator has to renew them"),
        ),
        ProviderErrorKind::Unreachable
        | ProviderErrorKind::TimedOut
        | ProviderErrorKind::Cut
        | ProviderErrorKind::Throttled
        | ProviderErrorKind::Failed
        | ProviderErrorKind::Unauthorized
        | ProviderErrorKind::Refused
        | ProviderErrorKind::Content
        | ProviderErrorKind::Unreadable => Error::refused_for_now(
            Reason::ProviderUnavailable,
            format!("{provider} does not answer as it should ({error}): call again later"),
            error.retry_after,
        ),
    }
}
