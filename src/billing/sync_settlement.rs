//! Asking providers what became of payouts: of a settlement's now, and of all that are due by and by.
//!
//! Payouts are taken first, so that several replicas share them; then they are asked for, outside any transaction; then what
//! was answered is written, together with the intent to send again what the provider surely has not got.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::payouts::{Intent, SendOutcome, SentPayout, provider_failure, tell_alarms};
use super::provider_words::{Heard, Origin, Word, hear};
use super::{Billing, Call, Mutation, detached, jittered, settlement_not_found};
use crate::domain::account_settlements::Status;
use crate::domain::error::Result;
use crate::domain::ids::new_id;
use crate::domain::payouts::{Payout, PayoutState, ProviderRow, WordOutcome};
use crate::domain::time::Timestamp;
use crate::payout::{LookUp, PayoutProvider, ProviderError, ProviderKind};
use crate::store::payouts::{self as store, Claimed};
use crate::store::{Tx, payout_holds, settlements};

/// What became of one row that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedPayout {
    /// The account settlement.
    pub id: Uuid,
    /// What became of it.
    pub outcome: CheckOutcome,
    /// Its status before; none where it was not looked at.
    pub from: Option<Status>,
    /// Its status now.
    pub status: Option<Status>,
    /// The provider's own status; empty where it gave none.
    pub raw_status: String,
}

/// What became of a row that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckOutcome {
    /// The provider said something new.
    Changed,
    /// It is as it was.
    Unchanged,
    /// The provider's status is not known here: nothing was changed.
    Unmapped,
    /// The provider does not know it, which may still change.
    NotKnown,
    /// The provider surely had not got it, and it was sent again.
    SentAgain,
    /// It was not sent, and will be.
    NotSent,
    /// Somebody else is at it.
    Busy,
}

/// What became of some of a settlement's rows.
#[derive(Debug)]
pub struct SyncedChunk {
    /// The rows, by id.
    pub payouts: Vec<CheckedPayout>,
    /// The last of them.
    pub last: Uuid,
}

/// What one round of asking for what is due came to.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// How many payouts were asked for.
    pub count: usize,
    /// Whether there may be more that are due.
    pub has_more: bool,
    /// Why the provider did not answer.
    pub failure: Option<ProviderError>,
}

/// Takes payouts to ask for them.
#[derive(Serialize)]
struct ClaimPayouts {
    provider: &'static str,
    only: Option<Vec<Uuid>>,
    limit: usize,
    claim_time: Duration,
}

/// Lets go of payouts that were asked for in vain.
#[derive(Serialize)]
struct ReleasePayoutClaims {
    ids: Vec<Uuid>,
    pause: Duration,
}

/// Writes what was answered.
#[derive(Serialize)]
struct RecordCheck {
    #[serde(skip)]
    kind: &'static ProviderKind,
    /// Rows that surely were not sent.
    #[serde(skip)]
    unsent: Vec<Uuid>,
    #[serde(skip)]
    answers: Vec<LookUp>,
    /// Before they were asked for.
    #[serde(skip)]
    asked_at: Timestamp,
    #[serde(skip)]
    doubt_period: Duration,
    #[serde(skip)]
    batch_limit: usize,
    #[serde(skip)]
    interval: Duration,
    #[serde(skip)]
    claim_time: Duration,
}

#[derive(Serialize, Deserialize)]
struct RecordedCheck {
    payouts: Vec<CheckedPayout>,
    /// What is to be sent again: intents, by batch.
    to_send: Vec<(Uuid, Vec<Uuid>)>,
    heard: Vec<Heard>,
}

impl Mutation for ClaimPayouts {
    const METHOD: &'static str = "ClaimPayouts";
    type Answer = Vec<(Uuid, bool)>;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Self::Answer> {
        let now = Timestamp::now();
        let until = now.plus(self.claim_time);
        let claimed = store::claim(tx, self.provider, self.only.as_deref(), self.limit, now, until).await?;
        let is_unsent = |claimed: &Claimed| claimed.state == PayoutState::Unsent;
        Ok(claimed.iter().map(|claimed| (claimed.id, is_unsent(claimed))).collect())
    }
}

impl Mutation for ReleasePayoutClaims {
    const METHOD: &'static str = "ReleasePayoutClaims";
    type Answer = ();

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<()> {
        let now = Timestamp::now();
        store::release(tx, &self.ids, now, now.plus(self.pause)).await
    }
}

impl Mutation for RecordCheck {
    const METHOD: &'static str = "RecordCheck";
    type Answer = RecordedCheck;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<RecordedCheck> {
        let mut words = Vec::new();
        let mut not_known = Vec::new();
        for answer in &self.answers {
            match answer {
                LookUp::Known(report) => words.push(Word::Said(report.clone())),
                LookUp::NotKnown { ref_code } => not_known.extend(Uuid::try_parse(ref_code)),
            }
        }
        let heard = hear(tx, self.kind, &words, &Origin::Answer, self.interval).await?;
        let mut payouts: Vec<CheckedPayout> = heard
            .iter()
            .zip(&words)
            .filter_map(|(heard, word)| checked(heard, word))
            .collect();
        not_known.extend(&self.unsent);
        let (to_send, others) = self.decide(tx, &not_known).await?;
        payouts.extend(others);
        Ok(RecordedCheck {
            payouts,
            to_send,
            heard,
        })
    }
}

fn checked(heard: &Heard, word: &Word) -> Option<CheckedPayout> {
    let outcome = match heard.outcome {
        WordOutcome::Applied | WordOutcome::Contradiction => CheckOutcome::Changed,
        WordOutcome::Stale | WordOutcome::Stored | WordOutcome::NoRow => CheckOutcome::Unchanged,
        WordOutcome::Unmapped => CheckOutcome::Unmapped,
    };
    Some(CheckedPayout {
        id: heard.id?,
        outcome,
        from: heard.statuses.map(|(from, _)| from),
        status: heard.statuses.map(|(_, to)| to),
        raw_status: word.report().raw_status.clone(),
    })
}

impl RecordCheck {
    /// What becomes of rows that the provider does not know, or surely was not sent: an intent to send them again where that
    /// is beyond doubt.
    async fn decide(&self, tx: &Tx, ids: &[Uuid]) -> Result<(Vec<(Uuid, Vec<Uuid>)>, Vec<CheckedPayout>)> {
        if ids.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let now = Timestamp::now();
        let mut rows: Vec<ProviderRow> = store::lock(tx, ids).await?.into_values().collect();
        rows.sort_unstable_by_key(|row| row.id);
        let accounts: Vec<String> = rows.iter().map(|row| row.account_id.to_string()).collect();
        let held = payout_holds::held_among(tx, &accounts).await?;
        let mut sendable: Vec<Uuid> = Vec::new();
        let mut payouts = Vec::new();
        for row in &mut rows {
            let is_held = held.contains(&row.account_id);
            let (row_id, status) = (row.id, row.status);
            let Some(payout) = row.payout.as_mut().filter(|_| !row.deleted) else {
                continue;
            };
            let outcome = self.decide_one(row_id, payout, is_held, now);
            if outcome == CheckOutcome::SentAgain {
                sendable.push(row_id);
            } else {
                payouts.push(CheckedPayout {
                    id: row_id,
                    outcome,
                    from: Some(status),
                    status: Some(status),
                    raw_status: String::new(),
                });
            }
        }
        let mut to_send: Vec<(Uuid, Vec<Uuid>)> = Vec::new();
        for batch in sendable.chunks(self.batch_limit.max(1)) {
            to_send.push((new_id(), batch.to_vec()));
        }
        let batches: HashMap<Uuid, Uuid> = to_send
            .iter()
            .flat_map(|(batch_id, ids)| ids.iter().map(|id| (*id, *batch_id)))
            .collect();
        for row in &mut rows {
            if let Some(batch_id) = batches.get(&row.id) {
                let sending = Payout::sending(row.payout.as_ref(), *batch_id, now, now.plus(self.claim_time));
                row.payout = Some(sending);
            }
        }
        store::write(tx, self.kind.name, &rows.iter().collect::<Vec<_>>(), now).await?;
        Ok((to_send, payouts))
    }

    fn decide_one(&self, id: Uuid, payout: &mut Payout, is_held: bool, now: Timestamp) -> CheckOutcome {
        let is_surely_not_there = match payout.state {
            PayoutState::Unsent => true,
            // Asked before doubt ended, the answer is no proof.
            PayoutState::Unknown => payout.is_beyond_doubt(self.doubt_period, self.asked_at),
            PayoutState::Known | PayoutState::Done => {
                tracing::error!(provider = self.kind.name, account_settlement_id = %id, "the provider no longer knows a payment that it had");
                false
            }
        };
        if is_surely_not_there && !is_held {
            return CheckOutcome::SentAgain;
        }
        let outcome = if is_surely_not_there {
            payout.state = PayoutState::Unsent;
            CheckOutcome::NotSent
        } else {
            CheckOutcome::NotKnown
        };
        let pause = if is_held {
            self.interval
        } else {
            self.pause_before_next(payout, now)
        };
        payout.check_count += 1;
        payout.next_time = now.plus(jittered(pause));
        payout.claimed_until = now;
        outcome
    }

    /// Not much after doubt ends, and rarer the longer that is away.
    fn pause_before_next(&self, payout: &Payout, now: Timestamp) -> Duration {
        let doubt_ends = payout.attempt_time.plus(self.doubt_period);
        let left = doubt_ends.as_micros().saturating_sub(now.as_micros());
        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
        let pause = payout.pause_in_doubt(self.interval);
        if left.is_zero() { pause } else { pause.min(left) }
    }
}

impl Billing {
    /// Asks for the next rows of a settlement, those after a row; none when there is no row left.
    pub async fn sync_settlement_chunk(
        &self,
        call: &Call,
        provider: &str,
        settlement_id: Uuid,
        after: Uuid,
    ) -> Result<Option<SyncedChunk>> {
        let (client, kind) = self.client(provider)?;
        let (billing, call) = (self.clone(), call.clone());
        detached(async move {
            billing
                .sync_next(client.as_ref(), kind, &call, settlement_id, after)
                .await
        })
        .await
    }

    async fn sync_next(
        &self,
        client: &dyn PayoutProvider,
        kind: &'static ProviderKind,
        call: &Call,
        settlement_id: Uuid,
        after: Uuid,
    ) -> Result<Option<SyncedChunk>> {
        let reader = self.store.reader();
        settlements::find(&reader, settlement_id)
            .await?
            .ok_or_else(|| settlement_not_found(settlement_id))?;
        let limit = self.payouts.options.sync_batch;
        let ids = store::unfinished(&reader, kind.name, settlement_id, after, limit).await?;
        let Some(last) = ids.last().copied() else {
            return Ok(None);
        };
        let claimed = self.claim_payouts(call, kind, Some(ids.clone()), limit).await?;
        let mut payouts = match self.check(client, kind, call, claimed).await? {
            Ok(payouts) => payouts,
            Err(error) => return Err(provider_failure(kind.name, &error)),
        };
        let seen: HashSet<Uuid> = payouts.iter().map(|payout| payout.id).collect();
        for id in ids.into_iter().filter(|id| !seen.contains(id)) {
            payouts.push(CheckedPayout {
                id,
                outcome: CheckOutcome::Busy,
                from: None,
                status: None,
                raw_status: String::new(),
            });
        }
        payouts.sort_unstable_by_key(|payout| payout.id);
        Ok(Some(SyncedChunk { payouts, last }))
    }

    /// Asks for some of the payouts that are due.
    pub async fn refresh_due_payouts(&self, provider: &str) -> Result<Refreshed> {
        let (client, kind) = self.client(provider)?;
        let call = Call::by_system(kind.name);
        let limit = self.payouts.options.sync_batch;
        let claimed = self.claim_payouts(&call, kind, None, limit).await?;
        let count = claimed.len();
        if count == 0 {
            return Ok(Refreshed::default());
        }
        let failure = self.check(client.as_ref(), kind, &call, claimed).await?.err();
        Ok(Refreshed {
            count,
            has_more: count == limit,
            failure,
        })
    }

    async fn claim_payouts(
        &self,
        call: &Call,
        kind: &'static ProviderKind,
        only: Option<Vec<Uuid>>,
        limit: usize,
    ) -> Result<Vec<(Uuid, bool)>> {
        let claim = ClaimPayouts {
            provider: kind.name,
            only,
            limit,
            claim_time: self.payouts.options.claim_time,
        };
        self.mutate(&call.unremembered(), claim).await
    }

    /// Asks for taken payouts, each with whether it surely was not sent, and writes what is answered.
    async fn check(
        &self,
        client: &dyn PayoutProvider,
        kind: &'static ProviderKind,
        call: &Call,
        claimed: Vec<(Uuid, bool)>,
    ) -> Result<std::result::Result<Vec<CheckedPayout>, ProviderError>> {
        let (unsent, to_ask): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|(_, is_unsent)| *is_unsent);
        let unsent: Vec<Uuid> = unsent.into_iter().map(|(id, _)| id).collect();
        let to_ask: Vec<Uuid> = to_ask.into_iter().map(|(id, _)| id).collect();
        if unsent.is_empty() && to_ask.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let call = call.unremembered();
        let asked_at = Timestamp::now();
        let ref_codes: Vec<String> = to_ask.iter().map(Uuid::to_string).collect();
        let answers = match ask(client, &ref_codes).await {
            Ok(answers) => answers,
            Err(error) => {
                let interval = jittered(self.payouts.options.sync_interval);
                let pause = error.retry_after.unwrap_or(interval).max(interval);
                let ids = unsent.into_iter().chain(to_ask).collect();
                self.mutate(&call, ReleasePayoutClaims { ids, pause }).await?;
                return Ok(Err(error));
            }
        };
        let options = self.payouts.options;
        let record = RecordCheck {
            kind,
            unsent,
            answers,
            asked_at,
            doubt_period: client.doubt_period(),
            batch_limit: client.batch_limit(),
            interval: options.sync_interval,
            claim_time: options.claim_time,
        };
        let began = Instant::now();
        let recorded = self.mutate(&call, record).await?;
        tell_alarms(kind.name, &recorded.heard);
        let mut payouts = recorded.payouts;
        for (batch_id, ids) in recorded.to_send {
            payouts.extend(self.send_again(client, kind, &call, batch_id, ids, began).await?);
        }
        Ok(Ok(payouts))
    }

    async fn send_again(
        &self,
        client: &dyn PayoutProvider,
        kind: &'static ProviderKind,
        call: &Call,
        batch_id: Uuid,
        ids: Vec<Uuid>,
        began: Instant,
    ) -> Result<Vec<CheckedPayout>> {
        let orders = self.orders(&ids).await?;
        tracing::info!(provider = kind.name, %batch_id, rows = ids.len(), "sending what the provider has not got");
        let intent = Intent {
            kind,
            settlement_id: None,
            batch_id,
            ids,
            on_hold: Vec::new(),
            began,
        };
        let sent = self.send(client, call, intent, &orders).await?;
        Ok(sent.payouts.into_iter().map(CheckedPayout::sent_again).collect())
    }
}

/// Asks for payments, where there are any to ask for.
async fn ask(client: &dyn PayoutProvider, ref_codes: &[String]) -> std::result::Result<Vec<LookUp>, ProviderError> {
    if ref_codes.is_empty() {
        // What is to be sent needs the provider as well: told before anything is intended.
        client.prepare().await?;
        return Ok(Vec::new());
    }
    client.look_up(ref_codes).await
}

impl CheckedPayout {
    fn sent_again(sent: SentPayout) -> Self {
        let outcome = match sent.outcome {
            SendOutcome::Accepted | SendOutcome::Refused | SendOutcome::Unknown => CheckOutcome::SentAgain,
            SendOutcome::NotSent | SendOutcome::OnHold => CheckOutcome::NotSent,
        };
        Self {
            id: sent.id,
            outcome,
            from: Some(Status::InProgress),
            status: Some(sent.status),
            raw_status: sent.raw_status,
        }
    }
}
