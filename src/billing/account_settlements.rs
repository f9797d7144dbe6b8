//! Account settlements: get, list, history, delete. Their status updates are in `status_updates.rs`.

use serde::Serialize;
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::settlements::{check_deletable, delete_rows};
use super::{Billing, Call, Mutation, check_etag};
use crate::domain::account_settlements::{AccountSettlement, StatusChange};
use crate::domain::error::{Error, Reason, Result};
use crate::store::account_settlements as store;
pub use crate::store::account_settlements::AccountSettlementFilter;
use crate::store::{Tx, status_changes};

const LIST: &str = "ListAccountSettlements";
const LIST_CHANGES: &str = "ListStatusChanges";

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

impl Billing {
    /// Reads one account settlement, a deleted one too.
    pub async fn get_account_settlement(&self, id: Uuid) -> Result<AccountSettlement> {
        store::find(&self.store.reader(), id)
            .await?
            .ok_or_else(|| account_settlement_not_found(id))
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
