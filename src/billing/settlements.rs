//! Settlements: get, list, delete, and what they left out.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::{Billing, Call, Mutation, check_etag};
use crate::domain::account_settlements::RowState;
use crate::domain::currency::Currency;
use crate::domain::error::{Error, Reason, Result};
use crate::domain::ids::AccountId;
use crate::domain::money::{Amount, MAX_SIDE_UNITS};
use crate::domain::settlements::{Approval, Settlement, SkippedAccount};
use crate::domain::time::Timestamp;
pub use crate::store::settlements::SettlementFilter;
use crate::store::settlements::{self as store, CounterChanges};
use crate::store::{Tx, account_settlements, accruals, skipped_accounts};

const LIST: &str = "ListSettlements";
const LIST_SKIPPED: &str = "ListSkippedAccounts";
pub(super) const RESOURCE: &str = "affiliate.billing.v1.Settlement";
/// Rows that are named in the refusal of a deletion.
const NAMED_ROWS: usize = 5;
/// Rows deleted by one statement.
const BATCH: usize = 1000;

/// Deletes a settlement.
#[derive(Debug, Clone, Serialize)]
pub struct DeleteSettlement {
    /// Which one.
    pub id: Uuid,
    /// Compared when not empty.
    pub etag: String,
}

impl Mutation for DeleteSettlement {
    const METHOD: &'static str = "DeleteSettlement";
    type Answer = Settlement;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<Settlement> {
        let found = store::find_for_update(tx, self.id)
            .await?
            .filter(|settlement| settlement.delete_time.is_none());
        found.ok_or_else(|| settlement_not_found(self.id))?;
        let rows = account_settlements::lock_all(tx, self.id).await?;
        // Read again: its rows can no longer change, so neither can the counters that the etag is made of.
        let settlement = store::find(tx, self.id)
            .await?
            .ok_or_else(|| settlement_not_found(self.id))?;
        check_etag(&self.etag, &settlement.etag()?)?;
        check_deletable(&rows)?;
        delete_rows(tx, call, &rows).await?;
        store::mark_deleted(tx, self.id, &call.caller, Timestamp::now()).await?;
        store::find(tx, self.id)
            .await?
            .ok_or_else(|| settlement_not_found(self.id))
    }
}

impl Billing {
    /// Reads one settlement, a deleted one too.
    pub async fn get_settlement(&self, id: Uuid) -> Result<Settlement> {
        store::find(&self.store.reader(), id)
            .await?
            .ok_or_else(|| settlement_not_found(id))
    }

    /// Lists settlements, newest first.
    pub async fn list_settlements(&self, filter: &SettlementFilter, page: &PageRequest) -> Result<Page<Settlement>> {
        let before: Option<Uuid> = self.read_token(LIST, filter, page)?;
        let settlements = store::list(&self.store.reader(), filter, before, page.limit()).await?;
        self.page_of(LIST, filter, page, settlements, |settlement| settlement.id)
    }

    /// Lists what a settlement left out.
    pub async fn list_skipped_accounts(&self, settlement_id: Uuid, page: &PageRequest) -> Result<Page<SkippedAccount>> {
        let after: Option<i64> = self.read_token(LIST_SKIPPED, &settlement_id, page)?;
        let reader = self.store.reader();
        store::find(&reader, settlement_id)
            .await?
            .ok_or_else(|| settlement_not_found(settlement_id))?;
        let skipped = skipped_accounts::list(&reader, settlement_id, after.unwrap_or_default(), page.limit()).await?;
        let page = self.page_of(LIST_SKIPPED, &settlement_id, page, skipped, |(position, _)| *position)?;
        Ok(page.map(|(_, account)| account))
    }

    /// Deletes a settlement with all its rows, all or nothing.
    pub async fn delete_settlement(&self, call: &Call, request: DeleteSettlement) -> Result<Settlement> {
        self.mutate(call, request).await
    }
}

/// The error for a settlement that is not there.
pub(super) fn settlement_not_found(id: Uuid) -> Error {
    Error::refused_for(Reason::SettlementNotFound, RESOURCE, id, "there is no such settlement")
}

/// Refuses a settlement that is not there, or is deleted.
pub(super) async fn check_alive(tx: &Tx, settlement_id: Uuid) -> Result<Settlement> {
    let settlement = store::find(tx, settlement_id)
        .await?
        .ok_or_else(|| settlement_not_found(settlement_id))?;
    if settlement.delete_time.is_some() {
        return Err(settlement_deleted(settlement_id));
    }
    Ok(settlement)
}

/// The error for a settlement that is deleted.
pub(super) fn settlement_deleted(id: Uuid) -> Error {
    Error::refused_for(
        Reason::SettlementDeleted,
        RESOURCE,
        id,
        "the settlement is deleted and never changes again",
    )
}

/// Refuses a settlement that awaits approval.
pub(super) fn check_approved(settlement: &Settlement) -> Result<()> {
    if settlement.approval != Approval::Pending {
        return Ok(());
    }
    Err(Error::refused_for(
        Reason::SettlementNotApproved,
        RESOURCE,
        settlement.id,
        "the settlement awaits approval: have somebody else than who made it approve it with ApproveSettlement",
    ))
}

/// Refuses to release money that was paid, or that may still be.
pub(super) fn check_deletable(rows: &[RowState]) -> Result<()> {
    let held: Vec<&RowState> = rows.iter().filter(|row| !row.can_be_deleted()).collect();
    let Some(first) = held.first() else {
        return Ok(());
    };
    let named: Vec<String> = held
        .iter()
        .take(NAMED_ROWS)
        .map(|row| format!("{} is {}", row.id, row.status.name()))
        .collect();
    Err(Error::refused_for(
        Reason::AccountSettlementNotDeletable,
        "affiliate.billing.v1.AccountSettlement",
        first.id,
        format!(
            "{} account settlements can't be deleted (set them back to NEW first; those of a provider only after its last word \
             that they failed): {}",
            held.len(),
            named.join(", ")
        ),
    ))
}

/// Opens the money of locked rows again and takes them out of their settlements' counters.
pub(super) async fn delete_rows(tx: &Tx, call: &Call, rows: &[RowState]) -> Result<()> {
    let now = Timestamp::now();
    let mut counters = CounterChanges::default();
    for row in rows {
        counters.removed(row.settlement_id, row.money.currency, row.status, row.money.amount)?;
    }
    for batch in rows.chunks(BATCH) {
        check_released_balances(tx, batch).await?;
        let ids: Vec<Uuid> = batch.iter().map(|row| row.id).collect();
        account_settlements::delete(tx, &ids, &call.caller, now).await?;
    }
    counters.write(tx).await
}

/// Refuses to bring an account's open money beyond what its sums are kept in.
async fn check_released_balances(tx: &Tx, rows: &[RowState]) -> Result<()> {
    let mut released: BTreeMap<(AccountId, Currency), Amount> = BTreeMap::new();
    for row in rows {
        let sum = released
            .entry((row.account_id.clone(), row.money.currency))
            .or_default();
        *sum = sum.checked_add(row.money.amount)?;
    }
    let pairs: Vec<(AccountId, Currency)> = released.keys().cloned().collect();
    let sides = accruals::sides(tx, &pairs).await?;
    for (pair, amount) in released {
        let open = sides.get(&pair).copied().unwrap_or_default();
        if open.credits.checked_add(amount)? > Amount::from_units(MAX_SIDE_UNITS) {
            return Err(Error::refused_for(
                Reason::BalanceLimitExceeded,
                "account",
                pair.0,
                "its open balance would leave the range that is kept: settle what is open first",
            ));
        }
    }
    Ok(())
}
