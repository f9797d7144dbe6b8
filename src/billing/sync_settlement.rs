//! Asking providers what became of payouts: of a settlement's now, and of all that are due by and by.
//!
//! Payouts are taken first, so that several replicas share them; then they are asked for, outside any transaction; then what
//! was answered is written, together with the intent to send again what the provider surely has not got.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::payouts::{Intent, SendOutcome, SentPayout, provider_failure, tell_alarms};
use super::provider_words::{Heard, Origin, Word, hear, raise_alarm};
use super::{Billing, Call, Mutation, detached, jittered, settlement_not_found};
use crate::domain::account_settlements::Status;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{new_id, parse_uuid};
use crate::domain::payouts::{NO_LONGER_KNOWN, Payout, PayoutState, ProviderRow, WordOutcome};
use crate::domain::time::Timestamp;
use crate::payout::{LookUp, PayoutProvider, ProviderError, ProviderErrorKind, ProviderKind};
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
    /// Why not all was answered. What follows would not be either.
    pub failure: Option<Error>,
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
    until: Timestamp,
    pause: Duration,
}

/// Writes what was answered.
#[derive(Serialize)]
struct RecordCheck {
    #[serde(skip)]
    kind: &'static ProviderKind,
    /// What was known of the rows when they were taken.
    #[serde(skip)]
    states: BTreeMap<Uuid, PayoutState>,
    /// What the provider answered of those that it was asked for.
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

/// Payouts that were taken.
#[derive(Default, Serialize, Deserialize)]
struct Taken {
    states: BTreeMap<Uuid, PayoutState>,
    until: Timestamp,
}

impl Mutation for ClaimPayouts {
    const METHOD: &'static str = "ClaimPayouts";
    type Answer = Taken;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Self::Answer> {
        let now = Timestamp::now();
        let until = now.plus(self.claim_time);
        let claimed = store::claim(tx, self.provider, self.only.as_deref(), self.limit, now, until).await?;
        let state = |claimed: Claimed| (claimed.id, claimed.state);
        Ok(Taken {
            states: claimed.into_iter().map(state).collect(),
            until,
        })
    }
}

impl Mutation for ReleasePayoutClaims {
    const METHOD: &'static str = "ReleasePayoutClaims";
    type Answer = ();

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<()> {
        let now = Timestamp::now();
        store::release(tx, &self.ids, self.until, now, now.plus(self.pause)).await
    }
}

impl Mutation for RecordCheck {
    const METHOD: &'static str = "RecordCheck";
    type Answer = RecordedCheck;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<RecordedCheck> {
        // All at once and in order: words and what was not known are written one after the other.
        let ids: Vec<Uuid> = self.states.keys().copied().collect();
        store::lock(tx, &ids).await?;
        let mut words = Vec::new();
        let mut missing: BTreeSet<Uuid> = self.unsent().collect();
        for answer in &self.answers {
            match answer {
                LookUp::Known(report) => words.push(Word::Said(report.clone())),
                LookUp::NotKnown { ref_code } => missing.extend(parse_uuid(ref_code).ok()),
            }
        }
        let mut heard = hear(tx, self.kind, &words, &Origin::Answer, self.interval).await?;
        let mut payouts: Vec<CheckedPayout> = heard
            .iter()
            .zip(&words)
            .filter_map(|(heard, word)| checked(heard, word))
            .collect();
        let decided = self.decide(tx, &missing.into_iter().collect::<Vec<_>>()).await?;
        payouts.extend(decided.payouts);
        heard.extend(decided.alarms);
        Ok(RecordedCheck {
            payouts,
            to_send: decided.to_send,
            heard,
        })
    }
}

/// What becomes of rows that the provider does not know.
#[derive(Default)]
struct Decided {
    to_send: Vec<(Uuid, Vec<Uuid>)>,
    payouts: Vec<CheckedPayout>,
    alarms: Vec<Heard>,
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
    fn unsent(&self) -> impl Iterator<Item = Uuid> {
        let unsent = self.states.iter().filter(|(_, state)| **state == PayoutState::Unsent);
        unsent.map(|(id, _)| *id)
    }

    /// What becomes of rows that the provider does not know, or surely was not sent: an intent to send them again where that
    /// is beyond doubt.
    async fn decide(&self, tx: &Tx, ids: &[Uuid]) -> Result<Decided> {
        let mut decided = Decided::default();
        if ids.is_empty() {
            return Ok(decided);
        }
        let now = Timestamp::now();
        let mut rows: Vec<ProviderRow> = store::lock(tx, ids).await?.into_values().collect();
        rows.sort_unstable_by_key(|row| row.id);
        let accounts: Vec<String> = rows.iter().map(|row| row.account_id.to_string()).collect();
        let held = payout_holds::held_among(tx, &accounts).await?;
        let mut sendable: Vec<Uuid> = Vec::new();
        for row in &mut rows {
            let is_held = held.contains(&row.account_id);
            match self.decide_one(row, is_held, now) {
                None => continue,
                Some(CheckOutcome::SentAgain) => sendable.push(row.id),
                Some(outcome) => decided.payouts.push(CheckedPayout {
                    id: row.id,
                    outcome,
                    from: Some(row.status),
                    status: Some(row.status),
                    raw_status: String::new(),
                }),
            }
            if self.is_lost(row) {
                decided.alarms.push(self.raise_lost(tx, row, now).await?);
            }
        }
        for batch in sendable.chunks(self.batch_limit.max(1)) {
            decided.to_send.push((new_id(), batch.to_vec()));
        }
        let batches: HashMap<Uuid, Uuid> = decided
            .to_send
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
        Ok(decided)
    }

    /// What becomes of one row; none where somebody else has been at it since it was taken.
    fn decide_one(&self, row: &mut ProviderRow, is_held: bool, now: Timestamp) -> Option<CheckOutcome> {
        let (id, is_deleted) = (row.id, row.deleted);
        let payout = row.payout.as_mut().filter(|_| !is_deleted)?;
        let state_before = *self.states.get(&id)?;
        let is_surely_not_there = match (state_before, payout.state) {
            (PayoutState::Unsent, PayoutState::Unsent) => true,
            // Asked before doubt ended, the answer is no proof.
            (PayoutState::Unknown, PayoutState::Unknown) => payout.is_beyond_doubt(self.doubt_period, self.asked_at),
            (PayoutState::Known, PayoutState::Known) => false,
            _ => return None,
        };
        if is_surely_not_there && !is_held {
            return Some(CheckOutcome::SentAgain);
        }
        let outcome = if is_surely_not_there {
            payout.state = PayoutState::Unsent;
            CheckOutcome::NotSent
        } else {
            CheckOutcome::NotKnown
        };
        let pause = if is_held || payout.state == PayoutState::Known {
            self.interval
        } else {
            self.pause_before_next(payout, now)
        };
        payout.check_count += 1;
        payout.next_time = now.plus(jittered(pause));
        payout.claimed_until = now;
        Some(outcome)
    }

    /// Whether the provider had it and no longer knows it.
    fn is_lost(&self, row: &ProviderRow) -> bool {
        let was_known = self.states.get(&row.id) == Some(&PayoutState::Known);
        was_known
            && row
                .payout
                .as_ref()
                .is_some_and(|payout| payout.state == PayoutState::Known)
    }

    async fn raise_lost(&self, tx: &Tx, row: &ProviderRow, now: Timestamp) -> Result<Heard> {
        let said = (NO_LONGER_KNOWN, None);
        let alarm = raise_alarm(tx, self.kind, row, said, &Origin::Answer, now).await?;
        Ok(Heard::of_alarm(alarm))
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
        let taken = self.claim_payouts(call, kind, Some(ids.clone()), limit).await?;
        let checked = self.check(client, kind, call, taken).await?;
        let failure = checked.failure.map(|error| provider_failure(kind.name, &error));
        let mut payouts = match failure {
            // Nothing was answered at all.
            Some(error) if checked.payouts.is_empty() => return Err(error),
            _ => checked.payouts,
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
        Ok(Some(SyncedChunk { payouts, last, failure }))
    }

    /// Asks for some of the payouts that are due.
    pub async fn refresh_due_payouts(&self, provider: &str) -> Result<Refreshed> {
        let (client, kind) = self.client(provider)?;
        let call = Call::by_system(kind.name);
        let limit = self.payouts.options.sync_batch;
        let taken = self.claim_payouts(&call, kind, None, limit).await?;
        let count = taken.states.len();
        if count == 0 {
            return Ok(Refreshed::default());
        }
        let checked = self.check(client.as_ref(), kind, &call, taken).await?;
        Ok(Refreshed {
            count,
            has_more: count == limit,
            failure: checked.failure,
        })
    }

    async fn claim_payouts(
        &self,
        call: &Call,
        kind: &'static ProviderKind,
        only: Option<Vec<Uuid>>,
        limit: usize,
    ) -> Result<Taken> {
        let claim = ClaimPayouts {
            provider: kind.name,
            only,
            limit,
            claim_time: self.payouts.options.claim_time,
        };
        self.mutate(&call.unremembered(), claim).await
    }

    /// Asks for taken payouts, writes what is answered, and sends again what the provider surely has not got.
    async fn check(
        &self,
        client: &dyn PayoutProvider,
        kind: &'static ProviderKind,
        call: &Call,
        taken: Taken,
    ) -> Result<Checked> {
        if taken.states.is_empty() {
            return Ok(Checked::default());
        }
        let call = call.unremembered();
        let asked_at = Timestamp::now();
        let Asked {
            answers,
            unanswered,
            mut failure,
        } = ask(client, &taken.states).await;
        if let Some(error) = &failure {
            let interval = jittered(self.payouts.options.sync_interval);
            let release = ReleasePayoutClaims {
                ids: unanswered.iter().copied().collect(),
                until: taken.until,
                pause: error.retry_after.unwrap_or(interval).max(interval),
            };
            self.mutate(&call, release).await?;
        }
        let mut states = taken.states;
        states.retain(|id, _| !unanswered.contains(id));
        if states.is_empty() {
            return Ok(Checked {
                payouts: Vec::new(),
                failure,
            });
        }
        let options = self.payouts.options;
        let record = RecordCheck {
            kind,
            states,
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
            let intent = Intent {
                kind,
                settlement_id: None,
                batch_id,
                left_out: Vec::new(),
                began,
            };
            tracing::info!(provider = kind.name, %batch_id, rows = ids.len(), "sending what the provider has not got");
            let orders = self.orders(&ids).await?;
            let sent = self.send(client, &call, intent, &orders, failure.as_ref()).await?;
            payouts.extend(sent.payouts.into_iter().map(CheckedPayout::sent_again));
            failure = failure.or(sent.failure);
        }
        Ok(Checked { payouts, failure })
    }
}

/// What asking for taken payouts came to.
#[derive(Default)]
struct Checked {
    payouts: Vec<CheckedPayout>,
    /// Why not all was answered.
    failure: Option<ProviderError>,
}

/// What a provider answered.
struct Asked {
    answers: Vec<LookUp>,
    /// Rows that it did not answer.
    unanswered: BTreeSet<Uuid>,
    /// Why.
    failure: Option<ProviderError>,
}

/// Asks for payments, but for those that surely were not sent. Where one answer can't be read, the others are asked for apart
/// from it.
async fn ask(client: &dyn PayoutProvider, states: &BTreeMap<Uuid, PayoutState>) -> Asked {
    let to_ask: Vec<Uuid> = states
        .iter()
        .filter(|(_, state)| **state != PayoutState::Unsent)
        .map(|(id, _)| *id)
        .collect();
    let mut asked = Asked {
        answers: Vec::new(),
        unanswered: BTreeSet::new(),
        failure: None,
    };
    if to_ask.is_empty() {
        // What is to be sent needs the provider as well: told before anything is intended.
        if let Err(error) = client.prepare().await {
            asked.failure = Some(error);
            asked.unanswered = states.keys().copied().collect();
        }
        return asked;
    }
    let mut parts = vec![to_ask.as_slice()];
    while let Some(part) = parts.pop() {
        if asked
            .failure
            .as_ref()
            .is_some_and(|error| error.kind != ProviderErrorKind::Unreadable)
        {
            asked.unanswered.extend(part);
            continue;
        }
        let ref_codes: Vec<String> = part.iter().map(Uuid::to_string).collect();
        match client.look_up(&ref_codes).await {
            Ok(answers) => asked.answers.extend(answers),
            Err(error) if error.kind == ProviderErrorKind::Unreadable && part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
            Err(error) => {
                asked.unanswered.extend(part);
                asked.failure = Some(error);
            }
        }
    }
    asked
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
