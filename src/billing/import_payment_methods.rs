//! Importing payment methods: a chunk of them is created or updated in one transaction, each item answered.
//!
//! What a chunk does is decided on what its accounts have, item by item, and only then written: an item is changed where the
//! chunk as a whole leaves it other than it was. So a chunk that is sent again changes nothing, whichever of its items asked
//! to be the default.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::payment_method_changes::Changes;
use super::payment_method_types::type_not_found;
use super::payment_methods::check_new;
use super::{Billing, Call, CreatePaymentMethod, Mutation};
use crate::domain::currency::Currency;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AccountId, new_id};
use crate::domain::imports::{ImportItem, ImportOutcome, ImportRejection, canonical_items};
use crate::domain::open_balances::Types;
use crate::domain::payment_method_changes::moves_money;
use crate::domain::payment_methods::PaymentMethodRecord;
use crate::domain::time::Timestamp;
use crate::store::payment_methods::{self as store, MethodWrite};
use crate::store::{Tx, payment_method_types};

const ROOT: &str = "payment_method";

/// Creates or updates payment methods: each is either well formed or already known to be rejected.
#[derive(Debug, Clone, Serialize)]
pub struct ImportPaymentMethods {
    /// In the order of the request.
    #[serde(serialize_with = "canonical_items")]
    pub items: Vec<ImportItem<CreatePaymentMethod>>,
}

/// What became of one item, and the method's id unless it was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedPaymentMethod {
    /// What became of it.
    pub outcome: ImportOutcome,
    /// The method.
    pub id: Option<Uuid>,
}

/// How a method is known to an import: by account, currency and type.
type MethodKey = (AccountId, Currency, String);

/// The methods of the accounts of a chunk, as they were and as the items leave them.
#[derive(Default)]
struct Methods {
    by_key: HashMap<MethodKey, Method>,
    /// The types of the default methods.
    defaults: HashMap<(AccountId, Currency), String>,
}

struct Method {
    before: Option<PaymentMethodRecord>,
    record: PaymentMethodRecord,
}

impl Mutation for ImportPaymentMethods {
    const METHOD: &'static str = "ImportPaymentMethods";
    type Answer = Vec<ImportedPaymentMethod>;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<Vec<ImportedPaymentMethod>> {
        let types = payment_method_types::types(tx).await?;
        let now = Timestamp::now();
        let mut methods = Methods::read(tx, &self.items).await?;
        let mut seen = HashSet::new();
        let mut placed: Vec<ImportItem<MethodKey>> = Vec::with_capacity(self.items.len());
        for item in &self.items {
            placed.push(match item {
                Err(rejection) => Err(rejection.clone()),
                Ok(item) => match rejection_of(item, &types, &mut seen)? {
                    Some(rejection) => Err(rejection),
                    None => Ok(methods.place(item, now)),
                },
            });
        }
        methods.hand_on_defaults();
        let mut answer = Vec::with_capacity(placed.len());
        for item in placed {
            answer.push(methods.answer(item)?);
        }
        let writes = methods.into_writes(now);
        let mut changes = Changes::new(call, Self::METHOD, now);
        for write in &writes {
            let type_fields = types
                .get(&write.record.type_id)
                .map(|method_type| method_type.fields.as_slice());
            changes.add(
                write.before.as_ref(),
                Some(&write.record),
                type_fields.unwrap_or_default(),
            );
        }
        store::write_many(tx, writes, &call.caller, now).await?;
        changes.write(tx).await?;
        Ok(answer)
    }
}

impl Methods {
    async fn read(tx: &Tx, items: &[ImportItem<CreatePaymentMethod>]) -> Result<Self> {
        let account_ids: BTreeSet<&AccountId> = items.iter().flatten().map(|item| &item.account_id).collect();
        let mut methods = Self::default();
        if account_ids.is_empty() {
            return Ok(methods);
        }
        let account_ids: Vec<&AccountId> = account_ids.into_iter().collect();
        for record in store::list_many_for_update(tx, &account_ids).await? {
            if record.is_default {
                methods.defaults.insert(pair_of(&record), record.type_id.clone());
            }
            let key = (record.account_id.clone(), record.currency, record.type_id.clone());
            let before = Some(record.clone());
            methods.by_key.insert(key, Method { before, record });
        }
        Ok(methods)
    }

    /// Gives an item its place, and its wish to be the default; the key that it is found by.
    fn place(&mut self, item: &CreatePaymentMethod, now: Timestamp) -> MethodKey {
        let key = key_of(item);
        let (account_id, currency, type_id) = key.clone();
        let pair = (account_id, currency);
        if item.default || !self.defaults.contains_key(&pair) {
            self.defaults.insert(pair, type_id);
        }
        self.by_key
            .entry(key.clone())
            .and_modify(|method| method.record.details = item.details.clone())
            .or_insert_with(|| Method {
                before: None,
                record: new_record(item, now),
            });
        key
    }

    /// Makes the last one that asked for it, or else the one that was, the default of its currency.
    fn hand_on_defaults(&mut self) {
        for method in self.by_key.values_mut() {
            let default = self.defaults.get(&pair_of(&method.record));
            method.record.is_default = default == Some(&method.record.type_id);
        }
    }

    fn answer(&self, item: ImportItem<MethodKey>) -> Result<ImportedPaymentMethod> {
        let key = match item {
            Ok(key) => key,
            Err(rejection) => {
                return Ok(ImportedPaymentMethod {
                    outcome: ImportOutcome::Rejected(rejection),
                    id: None,
                });
            }
        };
        let method = self
            .by_key
            .get(&key)
            .ok_or_else(|| Error::internal("an imported method has no place"))?;
        let outcome = match &method.before {
            None => ImportOutcome::Created,
            Some(_) if method.is_changed() => ImportOutcome::Updated,
            Some(_) => ImportOutcome::Unchanged,
        };
        Ok(ImportedPaymentMethod {
            outcome,
            id: Some(method.record.id),
        })
    }

    fn into_writes(self, now: Timestamp) -> Vec<MethodWrite> {
        let changed = self.by_key.into_values().filter(Method::is_changed);
        let mut writes: Vec<MethodWrite> = changed.map(|method| method.into_write(now)).collect();
        // So that histories have one order too.
        writes.sort_by_key(|write| write.record.id);
        writes
    }
}

impl Method {
    fn has_new_details(&self) -> bool {
        self.before
            .as_ref()
            .is_none_or(|before| before.details != self.record.details)
    }

    fn is_changed(&self) -> bool {
        let moves_default = |before: &PaymentMethodRecord| before.is_default != self.record.is_default;
        self.has_new_details() || self.before.as_ref().is_some_and(moves_default)
    }

    fn into_write(self, now: Timestamp) -> MethodWrite {
        let has_new_version = self.has_new_details();
        let Self { before, mut record } = self;
        if let Some(before) = &before {
            record.revision = before.revision + 1;
            record.update_time = now;
        }
        if moves_money(before.as_ref(), &record) {
            record.destination_time = now;
        }
        MethodWrite {
            before,
            has_new_version,
            record,
        }
    }
}

impl Billing {
    /// Creates or updates the payment methods of one chunk, in one transaction, and answers each in order.
    pub async fn import_payment_methods(
        &self,
        call: &Call,
        request: ImportPaymentMethods,
    ) -> Result<Vec<ImportedPaymentMethod>> {
        self.mutate(call, request).await
    }
}

/// Why an item is not written. Its key is taken by the first that is.
fn rejection_of(
    item: &CreatePaymentMethod,
    types: &Types,
    seen: &mut HashSet<MethodKey>,
) -> Result<Option<ImportRejection>> {
    let type_id = item.details.type_id();
    let checked = types
        .get(type_id)
        .ok_or_else(|| type_not_found(type_id))
        .and_then(|method_type| check_new(item, method_type));
    match checked {
        Err(error) => ImportRejection::from_error(ROOT, error).map(Some),
        Ok(()) if seen.insert(key_of(item)) => Ok(None),
        Ok(()) => Ok(Some(ImportRejection::duplicate(
            "is of an account, currency and type that an item before it in the chunk is of: send each method once",
        ))),
    }
}

fn key_of(item: &CreatePaymentMethod) -> MethodKey {
    (
        item.account_id.clone(),
        item.currency,
        item.details.type_id().to_owned(),
    )
}

fn pair_of(record: &PaymentMethodRecord) -> (AccountId, Currency) {
    (record.account_id.clone(), record.currency)
}

fn new_record(item: &CreatePaymentMethod, now: Timestamp) -> PaymentMethodRecord {
    PaymentMethodRecord {
        id: new_id(),
        account_id: item.account_id.clone(),
        currency: item.currency,
        type_id: item.details.type_id().to_owned(),
        is_default: false,
        details: item.details.clone(),
        version_id: Uuid::nil(),
        destination_time: now,
        payee: None,
        revision: 1,
        create_time: now,
        update_time: now,
    }
}
