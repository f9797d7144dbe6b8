//! Billing details: create, get, list, update, delete.

use serde::{Deserialize, Serialize};

use super::page::{Page, PageRequest};
use super::{Billing, Call, Mutation, check_etag};
use crate::domain::billing_details::{BillingDetails, BillingDetailsDraft, BillingDetailsRecord};
use crate::domain::error::{Error, Reason, Result};
use crate::domain::ids::AccountId;
use crate::store::{Tx, billing_details as store};

const RESOURCE: &str = "affiliate.billing.v1.BillingDetails";
const LIST: &str = "ListBillingDetails";

/// Makes the billing details of an account.
#[derive(Debug, Clone, Serialize)]
pub struct CreateBillingDetails {
    /// Whose.
    pub account_id: AccountId,
    /// What they are.
    pub details: BillingDetails,
}

/// Changes billing details.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateBillingDetails {
    /// Whose.
    pub account_id: AccountId,
    /// The new values of the fields in the mask.
    pub draft: BillingDetailsDraft,
    /// The fields to change.
    pub mask: Vec<String>,
    /// Compared when not empty.
    pub etag: String,
}

/// Deletes billing details.
#[derive(Debug, Clone, Serialize)]
pub struct DeleteBillingDetails {
    /// Whose.
    pub account_id: AccountId,
    /// Compared when not empty.
    pub etag: String,
}

/// The answer of a call that has nothing to say but that it was done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Done {}

impl Mutation for CreateBillingDetails {
    const METHOD: &'static str = "CreateBillingDetails";
    type Answer = BillingDetailsRecord;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<BillingDetailsRecord> {
        if store::find_for_update(tx, &self.account_id).await?.is_some() {
            return Err(Error::refused_for(
                Reason::BillingDetailsAlreadyExist,
                RESOURCE,
                &self.account_id,
                "the account has billing details: change them with UpdateBillingDetails",
            ));
        }
        store::insert(tx, &self.account_id, &self.details, &call.caller).await
    }
}

impl Mutation for UpdateBillingDetails {
    const METHOD: &'static str = "UpdateBillingDetails";
    type Answer = BillingDetailsRecord;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<BillingDetailsRecord> {
        let current = store::find_for_update(tx, &self.account_id)
            .await?
            .ok_or_else(|| not_found(&self.account_id))?;
        check_etag(&self.etag, &current.etag)?;
        let mut draft = BillingDetailsDraft::from(&current.details);
        draft.apply(&self.draft, &self.mask);
        let details = draft.check()?;
        if details == current.details {
            return Ok(current);
        }
        store::update(tx, &current, &details, &call.caller).await
    }
}

impl Mutation for DeleteBillingDetails {
    const METHOD: &'static str = "DeleteBillingDetails";
    type Answer = Done;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Done> {
        let current = store::find_for_update(tx, &self.account_id)
            .await?
            .ok_or_else(|| not_found(&self.account_id))?;
        check_etag(&self.etag, &current.etag)?;
        store::delete(tx, &self.account_id).await?;
        Ok(Done {})
    }
}

impl Billing {
    /// Makes the billing details of an account.
    pub async fn create_billing_details(
        &self,
        call: &Call,
        request: CreateBillingDetails,
    ) -> Result<BillingDetailsRecord> {
        self.mutate(call, request).await
    }

    /// Reads the billing details of one account.
    pub async fn get_billing_details(&self, account_id: &AccountId) -> Result<BillingDetailsRecord> {
        store::find(&self.store.reader(), account_id)
            .await?
            .ok_or_else(|| not_found(account_id))
    }

    /// Lists billing details by account id.
    pub async fn list_billing_details(&self, page: &PageRequest) -> Result<Page<BillingDetailsRecord>> {
        let after: Option<AccountId> = self.read_token(LIST, &(), page)?;
        let records = store::list(&self.store.reader(), after.as_ref(), page.limit()).await?;
        self.page_of(LIST, &(), page, records, |record| record.account_id.clone())
    }

    /// Changes billing details.
    pub async fn update_billing_details(
        &self,
        call: &Call,
        request: UpdateBillingDetails,
    ) -> Result<BillingDetailsRecord> {
        self.mutate(call, request).await
    }

    /// Deletes billing details.
    pub async fn delete_billing_details(&self, call: &Call, request: DeleteBillingDetails) -> Result<Done> {
        self.mutate(call, request).await
    }
}

fn not_found(account_id: &AccountId) -> Error {
    Error::refused_for(
        Reason::BillingDetailsNotFound,
        RESOURCE,
        account_id,
        "the account has no billing details: make them with CreateBillingDetails",
    )
}
