//! Paying a settlement through its provider: its rows in `NEW` are sent, a batch at a time.
//!
//! The intent comes first: rows go to `IN_PROGRESS` and are marked as perhaps sent, in one transaction. Then they are sent,
//! once. Two calls at once, also on two replicas, never send one row twice: the intent locks the rows, and who comes second
//! finds them taken.

use std::collections::HashSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::payouts::{Intent, SentPayout, provider_failure};
use super::settlements::{check_alive, check_approved};
use super::{Billing, Call, Mutation, canonical, detached, settlement_not_found};
use crate::domain::account_settlements::Status;
use crate::domain::error::{Error, Result};
use crate::domain::ids::new_id;
use crate::domain::payouts::{Payout, PayoutState, ProviderRow};
use crate::domain::time::Timestamp;
use crate::payout::{PayoutProvider, ProviderKind};
use crate::store::account_settlements::{StatusWrite, set_status};
use crate::store::payouts as store;
use crate::store::request_ids::{self, RequestKey};
use crate::store::settlements::{self, CounterChanges};
use crate::store::status_changes::{self, Change, ChangeOfRow};
use crate::store::{Tx, payout_holds};

/// What became of one batch of a settlement's rows.
#[derive(Debug)]
pub struct SubmittedChunk {
    /// The batch, as the provider's correlation id has it; none when all its rows were left out.
    pub batch_id: Option<Uuid>,
    /// Its rows, by id.
    pub payouts: Vec<SentPayout>,
    /// The last row that was looked at.
    pub last: Uuid,
    /// Why nothing was answered row by row. What follows would not be either.
    pub failure: Option<Error>,
}

/// The intent to send the next rows of a settlement.
#[derive(Serialize)]
struct IntendSubmission {
    provider: &'static str,
    settlement_id: Uuid,
    after: Uuid,
    #[serde(skip)]
    candidates: Vec<Uuid>,
    #[serde(skip)]
    claim_time: std::time::Duration,
    /// Tells the answer that was made now from one that was remembered.
    #[serde(skip)]
    token: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Intended {
    token: Uuid,
    batch_id: Uuid,
    /// What is sent.
    ids: Vec<Uuid>,
    /// What is not.
    left_out: Vec<SentPayout>,
    last: Option<Uuid>,
}

/// What becomes of the candidates.
#[derive(Default)]
struct Chosen {
    to_send: Vec<ProviderRow>,
    /// Rows that the provider spoke of already: they are asked for, not sent.
    to_ask: Vec<ProviderRow>,
    on_hold: Vec<SentPayout>,
}

impl Mutation for IntendSubmission {
    const METHOD: &'static str = "SubmitSettlement";
    type Answer = Intended;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<Intended> {
        check_approved(&check_alive(tx, self.settlement_id).await?)?;
        let mut chosen = self.choose(tx).await?;
        let now = Timestamp::now();
        let batch_id = new_id();
        start(tx, self.provider, call, &chosen.to_send, now).await?;
        start(tx, self.provider, call, &chosen.to_ask, now).await?;
        for row in &mut chosen.to_send {
            let payout = Payout::sending(row.payout.as_ref(), batch_id, now, now.plus(self.claim_time));
            row.payout = Some(payout);
        }
        for row in &mut chosen.to_ask {
            row.payout = Some(Payout::known(None, false, now, now));
        }
        let rows: Vec<&ProviderRow> = chosen.to_send.iter().chain(&chosen.to_ask).collect();
        store::write(tx, self.provider, &rows, now).await?;
        let mut left_out = chosen.on_hold;
        left_out.extend(chosen.to_ask.iter().map(|row| SentPayout {
            status: Status::InProgress,
            ..SentPayout::of(row)
        }));
        Ok(Intended {
            token: self.token,
            batch_id,
            ids: chosen.to_send.iter().map(|row| row.id).collect(),
            left_out,
            last: self.candidates.last().copied(),
        })
    }
}

impl IntendSubmission {
    /// The candidates, locked, that are still to be sent.
    async fn choose(&self, tx: &Tx) -> Result<Chosen> {
        let mut chosen = Chosen::default();
        if self.candidates.is_empty() {
            return Ok(chosen);
        }
        let mut rows = store::lock(tx, &self.candidates).await?;
        let accounts: HashSet<String> = rows.values().map(|row| row.account_id.to_string()).collect();
        let held = payout_holds::held_among(tx, &accounts.into_iter().collect::<Vec<_>>()).await?;
        for id in &self.candidates {
            let Some(row) = rows.remove(id).filter(can_be_sent) else {
                continue;
            };
            if row.standing.is_some() || row.unmapped.is_some() {
                chosen.to_ask.push(row);
            } else if held.contains(&row.account_id) {
                chosen.on_hold.push(SentPayout::on_hold((row.id, row.status)));
            } else {
                chosen.to_send.push(row);
            }
        }
        Ok(chosen)
    }
}

fn can_be_sent(row: &ProviderRow) -> bool {
    let is_unsent = match &row.payout {
        None => row.status == Status::New,
        Some(payout) => payout.state == PayoutState::Unsent,
    };
    is_unsent && !row.deleted
}

/// Takes rows in `NEW` to `IN_PROGRESS`: by the system, at the caller's word.
async fn start(tx: &Tx, provider: &str, call: &Call, rows: &[ProviderRow], now: Timestamp) -> Result<()> {
    let new: Vec<&ProviderRow> = rows.iter().filter(|row| row.status == Status::New).collect();
    if new.is_empty() {
        return Ok(());
    }
    let writes: Vec<StatusWrite> = new
        .iter()
        .map(|row| StatusWrite {
            id: row.id,
            payment_reference: String::new(),
        })
        .collect();
    set_status(tx, &writes, Status::InProgress, None, now).await?;
    let reason = format!("sent to {provider}");
    let request_id = call.request_id.map(|id| id.to_string()).unwrap_or_default();
    let change = Change {
        to: Status::InProgress,
        by_system: true,
        actor: &call.caller,
        reason: &reason,
        request_id: &request_id,
        time: now,
    };
    let changes: Vec<ChangeOfRow<'_>> = new
        .iter()
        .map(|row| ChangeOfRow {
            id: row.id,
            revision: row.revision + 1,
            from: Some(row.status),
            payment_reference: "",
        })
        .collect();
    status_changes::insert(tx, &change, &changes).await?;
    let mut counters = CounterChanges::default();
    for row in new {
        counters.moved(row.settlement_id, row.money.currency, row.status, Status::InProgress);
    }
    counters.write(tx).await
}

impl Billing {
    /// Sends the next batch of a settlement's rows, those after a row; none when there is no row left. Each batch is
    /// remembered apart for its request id.
    pub async fn submit_settlement_chunk(
        &self,
        call: &Call,
        provider: &str,
        settlement_id: Uuid,
        after: Uuid,
    ) -> Result<Option<SubmittedChunk>> {
        let (client, kind) = self.client(provider)?;
        let (billing, call) = (self.clone(), call.clone());
        // In a task of its own: what was intended is sent, and its answer kept, also when the caller leaves.
        detached(async move {
            billing
                .submit_next(client.as_ref(), kind, &call, settlement_id, after)
                .await
        })
        .await
    }

    async fn submit_next(
        &self,
        client: &dyn PayoutProvider,
        kind: &'static ProviderKind,
        call: &Call,
        settlement_id: Uuid,
        after: Uuid,
    ) -> Result<Option<SubmittedChunk>> {
        let reader = self.store.reader();
        let settlement = settlements::find(&reader, settlement_id)
            .await?
            .ok_or_else(|| settlement_not_found(settlement_id))?;
        // Here too, before the provider hears of it.
        check_approved(&settlement)?;
        let candidates = store::to_send(&reader, kind.name, settlement_id, after, client.batch_limit()).await?;
        if !candidates.is_empty() {
            // Before anything is intended: a provider that can't be reached leaves everything as it is.
            client
                .prepare()
                .await
                .map_err(|error| provider_failure(kind.name, &error))?;
        }
        let orders = self.orders(&candidates).await?;
        let began = Instant::now();
        let token = Uuid::new_v4();
        let intend = IntendSubmission {
            provider: kind.name,
            settlement_id,
            after,
            candidates,
            claim_time: self.payouts.options.claim_time,
            token,
        };
        let intended = self.mutate(call, intend).await?;
        let Some(last) = intended.last else {
            return Ok(None);
        };
        if intended.token != token {
            return self
                .submitted_before(kind, call, settlement_id, intended, last)
                .await
                .map(Some);
        }
        let ids: HashSet<String> = intended.ids.iter().map(Uuid::to_string).collect();
        let orders: Vec<_> = orders
            .into_iter()
            .filter(|order| ids.contains(&order.ref_code))
            .collect();
        if orders.is_empty() {
            return Ok(Some(SubmittedChunk::of_left_out(intended.left_out, last)));
        }
        let intent = Intent {
            kind,
            settlement_id: Some(settlement_id),
            batch_id: intended.batch_id,
            left_out: intended.left_out,
            began,
        };
        let sent = self.send(client, call, intent, &orders, None).await?;
        Ok(Some(SubmittedChunk {
            batch_id: Some(intended.batch_id),
            payouts: sent.payouts,
            last,
            failure: sent.failure.map(|error| provider_failure(kind.name, &error)),
        }))
    }

    /// What a repeated request id was answered before; where that was cut off, how its rows stand now.
    async fn submitted_before(
        &self,
        kind: &'static ProviderKind,
        call: &Call,
        settlement_id: Uuid,
        intended: Intended,
        last: Uuid,
    ) -> Result<SubmittedChunk> {
        if intended.ids.is_empty() {
            return Ok(SubmittedChunk::of_left_out(intended.left_out, last));
        }
        let record = Intent::record_key(settlement_id, intended.batch_id, kind);
        let payouts = match self.recorded(call, &record).await? {
            Some(payouts) => payouts,
            None => {
                let rows = store::read(&self.store.reader(), &intended.ids).await?;
                let mut payouts: Vec<SentPayout> = rows.iter().map(SentPayout::of).collect();
                payouts.extend(intended.left_out);
                payouts.sort_unstable_by_key(|payout| payout.id);
                payouts
            }
        };
        Ok(SubmittedChunk {
            batch_id: Some(intended.batch_id),
            payouts,
            last,
            failure: None,
        })
    }

    async fn recorded<M: Mutation<Answer = super::payouts::RecordedSubmission>>(
        &self,
        call: &Call,
        record: &M,
    ) -> Result<Option<Vec<SentPayout>>> {
        let Some(request_id) = call.request_id else {
            return Ok(None);
        };
        let key = RequestKey {
            caller: call.caller.clone(),
            method: M::METHOD,
            request_id,
            part: call.part,
        };
        let answer: Option<M::Answer> = request_ids::peek(&self.store.reader(), &key, &canonical(record)?).await?;
        Ok(answer.map(|answer| answer.payouts))
    }
}

impl SubmittedChunk {
    fn of_left_out(mut payouts: Vec<SentPayout>, last: Uuid) -> Self {
        payouts.sort_unstable_by_key(|payout| payout.id);
        Self {
            batch_id: None,
            payouts,
            last,
            failure: None,
        }
    }
}
