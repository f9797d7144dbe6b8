//! Payouts by providers: what both directions need. `submit_settlement.rs` sends, `sync_settlement.rs` asks,
//! `provider_events.rs` listens; what was said is written in `provider_words.rs`.
//!
//! A provider is never called inside a transaction. What is about to be sent is committed first, as an intent; from then on
//! its money is let go by the provider's last word alone, and whatever is cut off between is asked for before anything is
//! sent again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::provider_words::{Heard, Origin, Word, hear};
use super::{Billing, Call, Mutation, jittered};
use crate::domain::account_settlements::Status;
use crate::domain::error::{Error, Reason, Result};
use crate::domain::ids::AccountId;
use crate::domain::payouts::{Payout, PayoutAlarm, PayoutState, ProviderRow};
use crate::domain::time::Timestamp;
use crate::payout::{
    PaymentOrder, PayoutProvider, ProviderError, ProviderErrorKind, ProviderKind, Providers, RowOutcome, SubmitError,
    kind,
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
    ids: Vec<Uuid>,
    #[serde(skip)]
    outcome: std::result::Result<Vec<RowOutcome>, SubmitError>,
    /// Rows of the same call that were left out.
    #[serde(skip)]
    on_hold: Vec<(Uuid, Status)>,
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
        let rows = store::lock(tx, &self.ids).await?;
        let words = self.words(&rows.values().collect::<Vec<_>>());
        let heard = hear(tx, self.kind, &words, &Origin::Answer, self.interval).await?;
        self.write_unanswered(tx, &words, rows.into_values().collect()).await?;
        let mut payouts = self.payouts(tx).await?;
        payouts.extend(self.on_hold.iter().copied().map(SentPayout::on_hold));
        payouts.sort_unstable_by_key(|payout| payout.id);
        Ok(RecordedSubmission { payouts, heard })
    }
}

impl RecordSubmission {
    /// The words among the outcomes. A refusal of an attempt that another one followed says nothing of that one.
    fn words(&self, rows: &[&ProviderRow]) -> Vec<Word> {
        let Ok(outcomes) = &self.outcome else {
            return Vec::new();
        };
        let is_last_attempt = |ref_code: &str| {
            let row = rows.iter().find(|row| row.id.to_string() == ref_code);
            row.is_some_and(|row| self.is_of_this_batch(row))
        };
        let mut words = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                RowOutcome::Accepted(report) => words.push(Word::Said(report.clone())),
                RowOutcome::Refused(report) if is_last_attempt(&report.ref_code) => {
                    words.push(Word::Refused(report.clone()));
                }
                RowOutcome::Refused(_) | RowOutcome::Unknown { .. } => {}
            }
        }
        words
    }

    fn is_of_this_batch(&self, row: &ProviderRow) -> bool {
        row.payout
            .as_ref()
            .is_some_and(|payout| payout.batch_id == self.batch_id)
    }

    /// Rows of which nothing was said are asked for soon, or sent again where surely nothing was sent.
    async fn write_unanswered(&self, tx: &Tx, words: &[Word], rows: Vec<ProviderRow>) -> Result<()> {
        let now = Timestamp::now();
        let answered: HashSet<&str> = words.iter().map(|word| word.report().ref_code.as_str()).collect();
        let mut unanswered = Vec::new();
        for mut row in rows {
            let is_open = self.is_of_this_batch(&row) && !answered.contains(row.id.to_string().as_str());
            match &mut row.payout {
                Some(payout) if is_open && payout.state == PayoutState::Unknown => {
                    self.set_unanswered(payout, now);
                    unanswered.push(row);
                }
                Some(_) | None => {}
            }
        }
        store::write(tx, self.kind.name, &unanswered.iter().collect::<Vec<_>>(), now).await
    }

    fn set_unanswered(&self, payout: &mut Payout, now: Timestamp) {
        let pause = match &self.outcome {
            Err(SubmitError::NotSent(error)) => {
                payout.state = PayoutState::Unsent;
                let backoff = jittered(retry_pause(payout.attempt_count));
                error.retry_after.unwrap_or(backoff).max(backoff)
            }
            Err(SubmitError::Unknown(error)) => {
                let pause = payout.pause_in_doubt(self.interval);
                error.retry_after.unwrap_or(pause).max(pause)
            }
            Ok(_) => payout.pause_in_doubt(self.interval),
        };
        // Doubt begins when it was last possible that something was sent.
        payout.attempt_time = now;
        payout.next_time = now.plus(pause);
        payout.claimed_until = now;
    }

    /// The rows as they are now.
    async fn payouts(&self, tx: &Tx) -> Result<Vec<SentPayout>> {
        let rows = store::lock(tx, &self.ids).await?;
        let texts = self.texts();
        Ok(rows
            .values()
            .map(|row| {
                let mut payout = SentPayout::of(row);
                if payout.error_text.is_empty() && matches!(payout.outcome, SendOutcome::Unknown | SendOutcome::NotSent)
                {
                    let of_row = texts.iter().find(|(ref_code, _)| *ref_code == row.id.to_string());
                    let of_batch = self.outcome.as_ref().err().map(|error| error.error().to_string());
                    payout.error_text = of_row
                        .map(|(_, text)| (*text).to_owned())
                        .or(of_batch)
                        .unwrap_or_default();
                }
                payout
            })
            .collect())
    }

    /// Why rows are unknown, by ref code.
    fn texts(&self) -> Vec<(&str, &str)> {
        let unknown = |outcome: &'_ RowOutcome| matches!(outcome, RowOutcome::Unknown { .. });
        let mut texts = Vec::new();
        for outcome in self.outcome.iter().flatten().filter(|outcome| unknown(outcome)) {
            if let RowOutcome::Unknown { ref_code, text } = outcome {
                texts.push((ref_code.as_str(), text.as_str()));
            }
        }
        texts
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
    /// remembered by, where there is one.
    pub(super) async fn send(
        &self,
        client: &dyn PayoutProvider,
        call: &Call,
        intent: Intent,
        orders: &[PaymentOrder],
    ) -> Result<Sent> {
        let kind = intent.kind;
        let outcome = if intent.began.elapsed() > self.payouts.options.claim_time / SEND_WITHIN_SHARE {
            Err(SubmitError::Unknown(ProviderError::new(
                ProviderErrorKind::TimedOut,
                "too much time went by before it could be sent",
            )))
        } else {
            client.submit(&intent.batch_id.to_string(), orders).await
        };
        let failure = outcome.as_ref().err().map(|error| error.error().clone());
        if let Err(error) = &outcome {
            tracing::warn!(provider = kind.name, batch_id = %intent.batch_id, rows = orders.len(), %error, "a batch was not answered");
        }
        let record = RecordSubmission {
            settlement_id: intent.settlement_id,
            batch_id: intent.batch_id,
            kind,
            interval: self.payouts.options.sync_interval,
            ids: intent.ids,
            outcome,
            on_hold: intent.on_hold,
        };
        let recorded = self.mutate(call, record).await?;
        tell_alarms(kind.name, &recorded.heard);
        Ok(Sent {
            payouts: recorded.payouts,
            failure,
        })
    }
}

/// A committed intent to send rows.
pub(super) struct Intent {
    pub(super) kind: &'static ProviderKind,
    pub(super) settlement_id: Option<Uuid>,
    pub(super) batch_id: Uuid,
    pub(super) ids: Vec<Uuid>,
    pub(super) on_hold: Vec<(Uuid, Status)>,
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
            ids: Vec::new(),
            outcome: Ok(Vec::new()),
            on_hold: Vec::new(),
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
        | ProviderErrorKind::Unreadable => Error::refused_for_now(
            Reason::ProviderUnavailable,
            format!(
                "{provider} does not answer as it should ({error}): what was intended goes on by itself, call again later"
            ),
            error.retry_after,
        ),
    }
}
