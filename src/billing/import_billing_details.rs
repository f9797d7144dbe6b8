//! Importing billing details: a chunk of accounts is created or updated in one transaction, each item answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{Billing, Call, CreateBillingDetails, Mutation};
use crate::domain::billing_details::BillingDetails;
use crate::domain::error::Result;
use crate::domain::ids::AccountId;
use crate::domain::imports::{ImportItem, ImportOutcome, ImportRejection, canonical_items};
use crate::store::{Tx, billing_details as store};

/// Creates or updates billing details: each is either well formed or already known to be rejected.
#[derive(Debug, Clone, Serialize)]
pub struct ImportBillingDetails {
    /// In the order of the request.
    #[serde(serialize_with = "canonical_items")]
    pub items: Vec<ImportItem<CreateBillingDetails>>,
}

impl Mutation for ImportBillingDetails {
    const METHOD: &'static str = "ImportBillingDetails";
    type Answer = Vec<ImportOutcome>;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<Vec<ImportOutcome>> {
        let account_ids: BTreeSet<&AccountId> = self.items.iter().flatten().map(|item| &item.account_id).collect();
        let current = if account_ids.is_empty() {
            HashMap::new()
        } else {
            store::find_many_for_update(tx, &account_ids.into_iter().collect::<Vec<_>>()).await?
        };
        // By account, which is the order in which they are written.
        let mut created: BTreeMap<&AccountId, &BillingDetails> = BTreeMap::new();
        let mut updated: BTreeMap<&AccountId, &BillingDetails> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let outcome = match item {
                Err(rejection) => ImportOutcome::Rejected(rejection.clone()),
                Ok(item) if !seen.insert(&item.account_id) => ImportOutcome::Rejected(ImportRejection::duplicate(
                    "is of an account that an item before it in the chunk is of: send each account once",
                )),
                Ok(item) => match current.get(&item.account_id) {
                    None => {
                        created.insert(&item.account_id, &item.details);
                        ImportOutcome::Created
                    }
                    Some(record) if record.details == item.details => ImportOutcome::Unchanged,
                    Some(_) => {
                        updated.insert(&item.account_id, &item.details);
                        ImportOutcome::Updated
                    }
                },
            };
            outcomes.push(outcome);
        }
        if !created.is_empty() {
            store::insert_many(tx, &created.into_iter().collect::<Vec<_>>(), &call.caller).await?;
        }
        if !updated.is_empty() {
            store::update_many(tx, &updated.into_iter().collect::<Vec<_>>(), &call.caller).await?;
        }
        Ok(outcomes)
    }
}

impl Billing {
    /// Creates or updates the billing details of the accounts of one chunk, in one transaction, and answers each in order.
    pub async fn import_billing_details(
        &self,
        call: &Call,
        request: ImportBillingDetails,
    ) -> Result<Vec<ImportOutcome>> {
        self.mutate(call, request).await
    }
}
