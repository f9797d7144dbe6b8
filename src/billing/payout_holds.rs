//! Payout holds: hold, release, list.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::{Billing, Call, Mutation};
use crate::domain::error::{Error, Reason, Result};
use crate::domain::ids::AccountId;
use crate::domain::payout_holds::PayoutHold;
use crate::store::{Tx, payout_holds as store};

const LIST: &str = "ListPayoutHolds";

/// Puts an account on hold.
#[derive(Debug, Clone, Serialize)]
pub struct HoldPayouts {
    /// The account.
    pub account_id: AccountId,
    /// Why.
    pub reason: String,
}

/// Releases an account from its hold.
#[derive(Debug, Clone, Serialize)]
pub struct ReleasePayouts {
    /// The account.
    pub account_id: AccountId,
}

/// What `ListPayoutHolds` is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PayoutHoldFilter {
    /// Only of this account.
    pub account_id: Option<AccountId>,
    /// Released ones too.
    pub show_released: bool,
}

impl Mutation for HoldPayouts {
    const METHOD: &'static str = "HoldPayouts";
    type Answer = PayoutHold;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<PayoutHold> {
        match store::find_active(tx, &self.account_id).await? {
            None => store::insert(tx, &self.account_id, &self.reason, &call.caller).await,
            Some(hold) if hold.reason == self.reason => Ok(hold),
            Some(_) => Err(Error::refused_for(
                Reason::PayoutHoldAlreadyExists,
                "affiliate.billing.v1.PayoutHold",
                &self.account_id,
                "the account is on hold for another reason: release it first",
            )),
        }
    }
}

impl Mutation for ReleasePayouts {
    const METHOD: &'static str = "ReleasePayouts";
    type Answer = PayoutHold;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<PayoutHold> {
        let hold = store::find_active(tx, &self.account_id).await?.ok_or_else(|| {
            Error::refused_for(
                Reason::PayoutHoldNotFound,
                "affiliate.billing.v1.PayoutHold",
                &self.account_id,
                "the account is not on hold",
            )
        })?;
        store::release(tx, hold, &call.caller).await
    }
}

impl Billing {
    /// Puts an account on hold; for the reason that it is on hold for already, nothing changes.
    pub async fn hold_payouts(&self, call: &Call, request: HoldPayouts) -> Result<PayoutHold> {
        self.mutate(call, request).await
    }

    /// Releases an account from its hold.
    pub async fn release_payouts(&self, call: &Call, request: ReleasePayouts) -> Result<PayoutHold> {
        self.mutate(call, request).await
    }

    /// Lists holds, newest first.
    pub async fn list_payout_holds(&self, filter: &PayoutHoldFilter, page: &PageRequest) -> Result<Page<PayoutHold>> {
        let before: Option<Uuid> = self.read_token(LIST, filter, page)?;
        let holds = store::list(
            &self.store.reader(),
            filter.account_id.as_ref(),
            filter.show_released,
            before,
            page.limit(),
        )
        .await?;
        self.page_of(LIST, filter, page, holds, |hold| hold.id)
    }
}
