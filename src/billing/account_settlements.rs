//! Account settlements: get, list, history, delete. Their status updates are in `status_updates.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;
use uuid::Uuid;

use super::batching::{Batching, Waiting};
use super::page::{Page, PageRequest};
use super::settlements::{check_deletable, delete_rows};
use super::{Billing, Call, Mutation, check_etag};
use crate::domain::account_settlements::{AccountSettlement, StatusChange};
use crate::domain::error::{Error, Reason, Result};
use crate::store::account_settlements as store;
pub use crate::store::account_settlements::AccountSettlementFilter;
use crate::store::{Reader, Tx, status_changes};

const LIST: &str = "ListAccountSettlements";
const LIST_CHANGES: &str = "ListStatusChanges";
/// Statements that read waiting rows at once.
const READERS: usize = 2;
/// Rows that one of them reads at most.
const MAX_READ_TOGETHER: usize = 100;

/// Deletes an account settlement.
#[derive(Debug, Clone, Serialize)]
pub struct DeleteAccountSettlement {
    /// Which one.
    pub id: Uuid,
    /// Compared when not empty.
    pub etag: String,
}

impl Mutation for DeleteAccountSettlement {
    const METHOD: &'static str = "DeleteAccountSettlement";
    type Answer = AccountSettlement;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<AccountSettlement> {
        let row = store::lock(tx, &[self.id])
            .await?
            .remove(&self.id)
            .filter(|row| !row.deleted)
            .ok_or_else(|| account_settlement_not_found(self.id))?;
        check_etag(&self.etag, &row.etag())?;
        let rows = [row];
        check_deletable(&rows)?;
        delete_rows(tx, call, &rows).await?;
        store::find(tx, self.id)
            .await?
            .ok_or_else(|| account_settlement_not_found(self.id))
    }
}

/// The reads of single account settlements that wait: callers follow their payouts by asking again and again, many at once.
pub(super) type ReadingQueue = Batching<Uuid, AccountSettlement>;

pub(super) fn reading_queue() -> Arc<ReadingQueue> {
    Arc::new(Batching::new(READERS, MAX_READ_TOGETHER))
}

/// Reads rows in one statement, which begins after each of its callers asked. Should it fail, as it does when one row can't be
/// opened, each is read alone.
async fn read_together(reader: Reader, together: Vec<Waiting<Uuid, AccountSettlement>>) {
    let ids: Vec<Uuid> = together.iter().map(|waiting| waiting.item).collect();
    let Ok(rows) = store::find_many(&reader, &ids).await else {
        // At once, not one after the other: without a database each waits its time for a connection.
        let alone = together.into_iter().map(|waiting| read_alone(&reader, waiting));
        join_all(alone).await;
        return;
    };
    let rows: HashMap<Uuid, AccountSettlement> = rows.into_iter().map(|row| (row.id, row)).collect();
    for waiting in together {
        let id = waiting.item;
        let row = rows.get(&id).cloned();
        waiting.answer(row.ok_or_else(|| account_settlement_not_found(id)));
    }
}

async fn read_alone(reader: &Reader, waiting: Waiting<Uuid, AccountSettlement>) {
    let id = waiting.item;
    let row = store::find(reader, id).await;
    waiting.answer(row.and_then(|row| row.ok_or_else(|| account_settlement_not_found(id))));
}

impl Billing {
    /// Reads one account settlement, a deleted one too.
    pub async fn get_account_settlement(&self, id: Uuid) -> Result<AccountSettlement> {
        let store = self.store.clone();
        let read = move |together| read_together(store.reader(), together);
        self.reading.handle(id, 1, read).await
    }

    /// Lists account settlements in the order in which they were made.
    pub async fn list_account_settlements(
        &self,
        filter: &AccountSettlementFilter,
        page: &PageRequest,
    ) -> Result<Page<AccountSettlement>> {
        let after: Option<Uuid> = self.read_token(LIST, filter, page)?;
        let rows = store::list(&self.store.reader(), filter, after, page.limit()).await?;
        self.page_of(LIST, filter, page, rows, |row| row.id)
    }

    /// Lists the status changes of one account settlement, oldest first.
    pub async fn list_status_changes(&self, id: Uuid, page: &PageRequest) -> Result<Page<StatusChange>> {
        let after: Option<i64> = self.read_token(LIST_CHANGES, &id, page)?;
        let reader = self.store.reader();
        store::find(&reader, id)
            .await?
            .ok_or_else(|| account_settlement_not_found(id))?;
        let changes = status_changes::list(&reader, id, after.unwrap_or_default(), page.limit()).await?;
        self.page_of(LIST_CHANGES, &id, page, changes, |change| change.revision)
    }

    /// Deletes an account settlement: its money is open again.
    pub async fn delete_account_settlement(
        &self,
        call: &Call,
        request: DeleteAccountSettlement,
    ) -> Result<AccountSettlement> {
        self.mutate(call, request).await
    }
}

/// The error for an account settlement that is not there.
pub(super) fn account_settlement_not_found(id: Uuid) -> Error {
    Error::refused_for(
        Reason::AccountSettlementNotFound,
        "affiliate.billing.v1.AccountSettlement",
        id,
        "there is no such account settlement",
    )
}
