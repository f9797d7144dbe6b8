//! Approving settlements: somebody else than who made one says that it may be paid.

use serde::Serialize;
use uuid::Uuid;

use super::settlements::{RESOURCE, settlement_deleted, settlement_not_found};
use super::{Billing, Call, Mutation, check_etag};
use crate::domain::error::{Error, Reason, Result};
use crate::domain::settlements::{Approval, Settlement};
use crate::domain::time::Timestamp;
use crate::store::Tx;
use crate::store::settlements as store;

/// Approves a settlement.
#[derive(Debug, Clone, Serialize)]
pub struct ApproveSettlement {
    /// Which one.
    pub id: Uuid,
    /// Compared when not empty.
    pub etag: String,
}

impl Mutation for ApproveSettlement {
    const METHOD: &'static str = "ApproveSettlement";
    type Answer = Settlement;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<Settlement> {
        // Against its deletion, and against a second approval.
        let settlement = store::find_for_update(tx, self.id)
            .await?
            .ok_or_else(|| settlement_not_found(self.id))?;
        if settlement.delete_time.is_some() {
            return Err(settlement_deleted(self.id));
        }
        match &settlement.approval {
            Approval::NotRequired => return Err(not_required(self.id)),
            // Before its etag, which the approval itself changed.
            Approval::Approved { approver, .. } if *approver == call.caller => return Ok(settlement),
            Approval::Approved { .. } => return Err(already_approved(self.id)),
            Approval::Pending => {}
        }
        if settlement.actor == call.caller {
            return Err(approver_is_creator(self.id));
        }
        // Read again: none of its rows is deleted between what the etag is of and the approval.
        store::lock_counters(tx, self.id).await?;
        check_etag(&self.etag, &read(tx, self.id).await?.etag()?)?;
        store::approve(tx, self.id, &call.caller, Timestamp::now()).await?;
        read(tx, self.id).await
    }
}

impl Billing {
    /// Approves a settlement that awaits it.
    pub async fn approve_settlement(&self, call: &Call, request: ApproveSettlement) -> Result<Settlement> {
        self.mutate(call, request).await
    }
}

async fn read(tx: &Tx, id: Uuid) -> Result<Settlement> {
    store::find(tx, id).await?.ok_or_else(|| settlement_not_found(id))
}

fn not_required(id: Uuid) -> Error {
    Error::refused_for(
        Reason::ApprovalNotRequired,
        RESOURCE,
        id,
        "the settlement was made while no approval was asked for, and needs none",
    )
}

fn already_approved(id: Uuid) -> Error {
    Error::refused_for(
        Reason::AlreadyApproved,
        RESOURCE,
        id,
        "somebody else approved the settlement already: there is nothing left to do",
    )
}

fn approver_is_creator(id: Uuid) -> Error {
    Error::refused_for(
        Reason::ApproverIsCreator,
        RESOURCE,
        id,
        "who made a settlement can't approve it: have somebody else do it",
    )
}
