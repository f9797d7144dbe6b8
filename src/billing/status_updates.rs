//! Status updates by hand: single, in bulk by ids, and of a whole settlement.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::settlements::check_alive;
use super::{Billing, Call, Mutation, account_settlement_not_found, check_etag};
use crate::domain::account_settlements::{AccountSettlement, RowState, Status, StatusSkipReason};
use crate::domain::error::{Error, Reason, Result};
use crate::domain::ids::parse_uuid;
use crate::domain::time::Timestamp;
use crate::store::Tx;
use crate::store::account_settlements::{self as store, StatusWrite};
use crate::store::settlements::CounterChanges;
use crate::store::status_changes::{self, Change, ChangeOfRow};

const RESOURCE: &str = "affiliate.billing.v1.AccountSettlement";
/// Rows of a whole settlement that are updated in one transaction.
const CHUNK: u64 = 1000;

/// What a status update does to every row that it changes.
#[derive(Debug, Clone, Serialize)]
pub struct StatusTarget {
    /// The new status.
    pub status: Status,
    /// Rows in another status are left alone.
    pub expected: Option<Status>,
    /// Why; may be empty.
    pub reason: String,
    /// When it was paid, for `PAID`.
    pub paid_time: Option<Timestamp>,
}

/// Sets the status of one row.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateStatus {
    /// The row.
    pub id: Uuid,
    /// What to do to it.
    pub target: StatusTarget,
    /// Reference of the payment, for `PAID`.
    pub payment_reference: String,
    /// Compared when not empty.
    pub etag: String,
}

/// Sets the status of many rows.
#[derive(Debug, Clone, Serialize)]
pub struct BulkUpdateStatus {
    /// The rows, as the caller named them, each with its payment reference.
    pub items: Vec<BulkItem>,
    /// What to do to them.
    pub target: StatusTarget,
}

/// One row of a bulk update.
#[derive(Debug, Clone, Serialize)]
pub struct BulkItem {
    /// Its id, perhaps malformed.
    pub id: String,
    /// Reference of the payment, for `PAID`.
    pub payment_reference: String,
}

/// One chunk of a whole settlement's update.
#[derive(Debug, Clone, Serialize)]
struct UpdateSettlementChunk {
    settlement_id: Uuid,
    target: StatusTarget,
    after: Uuid,
}

/// What became of the rows of a bulk update; every one is either updated or skipped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BulkOutcome {
    /// Those that were updated, in the order of the request.
    pub updated: Vec<Uuid>,
    /// The others, in the order of the request.
    pub skipped: Vec<SkippedUpdate>,
    /// For a whole settlement: the last row of the chunk, none when there was no row left.
    pub last: Option<Uuid>,
}

/// A row that was left as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkippedUpdate {
    /// Its id as sent.
    pub id: String,
    /// Why.
    pub reason: StatusSkipReason,
    /// The status that it has, where it is known.
    pub current: Option<Status>,
}

impl Mutation for UpdateStatus {
    const METHOD: &'static str = "UpdateAccountSettlementStatus";
    type Answer = AccountSettlement;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<AccountSettlement> {
        let row = store::lock(tx, &[self.id])
            .await?
            .remove(&self.id)
            .ok_or_else(|| account_settlement_not_found(self.id))?;
        check_etag(&self.etag, &row.etag())?;
        let has_reason = !self.target.reason.is_empty();
        match row.check_manual_change(self.target.status, self.target.expected, has_reason) {
            Ok(()) => {
                let change = [(&row, self.payment_reference.as_str())];
                apply(tx, call, &self.target, &change).await?;
            }
            Err(StatusSkipReason::AlreadyInStatus) => {}
            Err(reason) => return Err(refusal(self.id, reason)),
        }
        store::find(tx, self.id)
            .await?
            .ok_or_else(|| account_settlement_not_found(self.id))
    }
}

impl Mutation for BulkUpdateStatus {
    const METHOD: &'static str = "BulkUpdateAccountSettlementStatus";
    type Answer = BulkOutcome;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<BulkOutcome> {
        update_many(tx, call, &self.target, &self.items).await
    }
}

impl Mutation for UpdateSettlementChunk {
    const METHOD: &'static str = "BulkUpdateSettlementStatus";
    type Answer = BulkOutcome;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<BulkOutcome> {
        let expected = self
            .target
            .expected
            .ok_or_else(|| Error::internal("a settlement's update names no expected status"))?;
        check_alive(tx, self.settlement_id).await?;
        let ids = store::ids_in_status(tx, self.settlement_id, expected, self.after, CHUNK).await?;
        let last = ids.last().copied();
        let items: Vec<BulkItem> = ids
            .into_iter()
            .map(|id| BulkItem {
                id: id.to_string(),
                payment_reference: String::new(),
            })
            .collect();
        let outcome = update_many(tx, call, &self.target, &items).await?;
        Ok(BulkOutcome { last, ..outcome })
    }
}

impl Billing {
    /// Sets the status of one row by hand.
    pub async fn update_status(&self, call: &Call, request: UpdateStatus) -> Result<AccountSettlement> {
        self.mutate(call, request).await
    }

    /// Sets the status of the rows of one chunk by hand, in one transaction.
    pub async fn bulk_update_status(&self, call: &Call, request: BulkUpdateStatus) -> Result<BulkOutcome> {
        self.mutate(call, request).await
    }

    /// Updates the next chunk of a settlement's rows, those after a row. Each chunk is remembered apart for its request id, so
    /// that a repeated call is answered the same chunks and then goes on.
    pub async fn update_settlement_chunk(
        &self,
        call: &Call,
        settlement_id: Uuid,
        target: &StatusTarget,
        after: Uuid,
    ) -> Result<BulkOutcome> {
        self.mutate(
            call,
            UpdateSettlementChunk {
                settlement_id,
                target: target.clone(),
                after,
            },
        )
        .await
    }
}

async fn update_many(tx: &Tx, call: &Call, target: &StatusTarget, items: &[BulkItem]) -> Result<BulkOutcome> {
    let parsed: Vec<Option<Uuid>> = items.iter().map(|item| parse_uuid(&item.id).ok()).collect();
    let ids: HashSet<Uuid> = parsed.iter().flatten().copied().collect();
    let rows = if ids.is_empty() {
        HashMap::new()
    } else {
        store::lock(tx, &ids.into_iter().collect::<Vec<_>>()).await?
    };
    let mut seen = HashSet::new();
    let mut changes: Vec<(&RowState, &str)> = Vec::with_capacity(items.len());
    let mut outcome = BulkOutcome::default();
    for (item, id) in items.iter().zip(parsed) {
        let row = id.and_then(|id| rows.get(&id));
        match check_item(id, row, target, &mut seen) {
            Ok(row) => {
                outcome.updated.push(row.id);
                changes.push((row, &item.payment_reference));
            }
            Err(reason) => outcome.skipped.push(SkippedUpdate {
                id: item.id.clone(),
                reason,
                current: row.map(|row| row.status),
            }),
        }
    }
    // Statuses are told as they are after the chunk: of an id that stands in it twice, the first one may have been updated.
    let updated: HashSet<String> = outcome.updated.iter().map(Uuid::to_string).collect();
    for skipped in &mut outcome.skipped {
        if updated.contains(&skipped.id.to_ascii_lowercase()) {
            skipped.current = Some(target.status);
        }
    }
    apply(tx, call, target, &changes).await?;
    Ok(outcome)
}

fn check_item<'a>(
    id: Option<Uuid>,
    row: Option<&'a RowState>,
    target: &StatusTarget,
    seen: &mut HashSet<Uuid>,
) -> std::result::Result<&'a RowState, StatusSkipReason> {
    let id = id.ok_or(StatusSkipReason::MalformedId)?;
    if !seen.insert(id) {
        return Err(StatusSkipReason::DuplicateId);
    }
    let row = row.ok_or(StatusSkipReason::NotFound)?;
    row.check_manual_change(target.status, target.expected, !target.reason.is_empty())?;
    Ok(row)
}

/// Writes the change of locked rows: the rows, their history, their settlements' counters.
async fn apply(tx: &Tx, call: &Call, target: &StatusTarget, rows: &[(&RowState, &str)]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let now = Timestamp::now();
    let paid_time = (target.status == Status::Paid).then(|| target.paid_time.unwrap_or(now));
    let writes: Vec<StatusWrite> = rows
        .iter()
        .map(|(row, payment_reference)| StatusWrite {
            id: row.id,
            payment_reference: (*payment_reference).to_owned(),
        })
        .collect();
    store::set_status(tx, &writes, target.status, paid_time, now).await?;
    let request_id = call.request_id.map(|id| id.to_string()).unwrap_or_default();
    let change = Change {
        to: target.status,
        by_system: false,
        actor: &call.caller,
        reason: &target.reason,
        request_id: &request_id,
        time: now,
    };
    let history: Vec<ChangeOfRow<'_>> = rows
        .iter()
        .map(|(row, payment_reference)| ChangeOfRow {
            id: row.id,
            revision: row.revision + 1,
            from: Some(row.status),
            payment_reference,
        })
        .collect();
    status_changes::insert(tx, &change, &history).await?;
    let mut counters = CounterChanges::default();
    for (row, _) in rows {
        counters.moved(row.settlement_id, row.money.currency, row.status, target.status);
    }
    counters.write(tx).await
}

fn refusal(id: Uuid, reason: StatusSkipReason) -> Error {
    match reason {
        StatusSkipReason::Deleted => Error::refused_for(
            Reason::AccountSettlementDeleted,
            RESOURCE,
            id,
            "the account settlement is deleted and never changes again",
        ),
        StatusSkipReason::ProviderManaged => Error::refused_for(
            Reason::ProviderManaged,
            RESOURCE,
            id,
            "its provider manages the status of this account settlement: it can't be set by hand",
        ),
        StatusSkipReason::UnexpectedStatus => Error::refused_field(
            Reason::UnexpectedStatus,
            "expected_status",
            "the account settlement is not in the expected status: read it again",
        ),
        StatusSkipReason::AwaitingApproval => Error::refused_for(
            Reason::SettlementNotApproved,
            RESOURCE,
            id,
            "its settlement awaits approval: have somebody else than who made it approve it with ApproveSettlement",
        ),
        StatusSkipReason::ReasonRequired => {
            Error::refused_field(Reason::ReasonRequired, "reason", "is required to leave PAID: say why")
        }
        StatusSkipReason::MalformedId
        | StatusSkipReason::DuplicateId
        | StatusSkipReason::NotFound
        | StatusSkipReason::AlreadyInStatus => account_settlement_not_found(id),
    }
}
