//! Payment methods: create, get, list, update, delete.
//!
//! An account has one default method in each currency in which it has any. Every write locks all methods of the account, in
//! the order of their ids, before it looks which is the default. Two first methods made at once meet at the unique indexes,
//! and the one that loses is tried again.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::payment_method_changes::Changes;
use super::payment_method_types::{TYPE_RESOURCE, type_not_found};
use super::{Billing, Call, Done, Mutation, check_etag};
use crate::domain::currency::Currency;
use crate::domain::error::{Error, Reason, Result, Violations};
use crate::domain::ids::AccountId;
use crate::domain::payment_method_types::{PaymentMethodField, PaymentMethodType, check_type_id};
use crate::domain::payment_methods::{
    DetailsTexts, PaymentMethodDetails, PaymentMethodDraft, PaymentMethodRecord, ShownPaymentMethod, View,
    check_currency, currency_path,
};
use crate::domain::time::Timestamp;
use crate::store::{Tx, destinations, payment_method_types as types, payment_methods as store};

const RESOURCE: &str = "affiliate.billing.v1.PaymentMethod";
const LIST: &str = "ListPaymentMethods";
/// Payment methods whose place is hashed in one round.
const METHODS_A_ROUND: usize = 500;

/// Makes a payment method of an account.
#[derive(Debug, Clone, Serialize)]
pub struct CreatePaymentMethod {
    /// Whose.
    pub account_id: AccountId,
    /// The currency that is paid by it.
    pub currency: Currency,
    /// Whether it takes over as the default of the currency.
    pub default: bool,
    /// Its details.
    pub details: PaymentMethodDetails,
}

/// Changes a payment method.
#[derive(Debug, Clone, Serialize)]
pub struct UpdatePaymentMethod {
    /// Its id.
    pub id: Uuid,
    /// Whose it is, when the caller says so.
    pub account_id: Option<AccountId>,
    /// The new values of the fields in the mask.
    pub draft: PaymentMethodDraft,
    /// The fields to change.
    pub mask: Vec<String>,
    /// Compared when not empty.
    pub etag: String,
}

/// Deletes a payment method.
#[derive(Debug, Clone, Serialize)]
pub struct DeletePaymentMethod {
    /// Its id.
    pub id: Uuid,
    /// Compared when not empty.
    pub etag: String,
}

/// Which payment methods are listed.
#[derive(Debug, Clone, Serialize)]
pub struct PaymentMethodFilter {
    /// Only those of this account.
    pub account_id: Option<AccountId>,
    /// Only those that are paid to where another account is paid to as well. Left out of page tokens where it is not set, as they
    /// were before it was there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared_only: bool,
}

/// Hashes where methods are paid to that have no hash of it.
#[derive(Serialize)]
struct HashDestinations {
    after: Option<Uuid>,
}

/// What an update makes of a method.
struct Changed {
    currency: Currency,
    details: PaymentMethodDetails,
    is_default: bool,
}

impl Mutation for CreatePaymentMethod {
    const METHOD: &'static str = "CreatePaymentMethod";
    /// Masked, so that what is kept for the request id tells no more than the answer did.
    type Answer = ShownPaymentMethod;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<ShownPaymentMethod> {
        let type_id = self.details.type_id();
        let method_type = types::find(tx, type_id).await?.ok_or_else(|| type_not_found(type_id))?;
        check_new(self, &method_type)?;
        let methods = store::list_for_update(tx, &self.account_id).await?;
        refuse_second(&methods, None, type_id, self.currency)?;
        let previous = default_of(&methods, self.currency, None);
        let is_default = self.default || previous.is_none();
        let now = Timestamp::now();
        let mut changes = Changes::new(call, Self::METHOD, now);
        if is_default {
            clear_default(tx, previous, &mut changes, now).await?;
        }
        let record = store::insert(
            tx,
            &self.account_id,
            self.currency,
            &self.details,
            is_default,
            &call.caller,
            now,
        )
        .await?;
        changes.add(None, Some(&record), &method_type.fields);
        changes.write(tx).await?;
        Ok(record.shown(View::Masked, &method_type.fields))
    }
}

impl Mutation for UpdatePaymentMethod {
    const METHOD: &'static str = "UpdatePaymentMethod";
    type Answer = ShownPaymentMethod;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<ShownPaymentMethod> {
        let (methods, current) = lock(tx, self.id).await?;
        check_etag(&self.etag, &current.etag())?;
        let method_type = types::find(tx, &current.type_id)
            .await?
            .ok_or_else(|| type_not_found(&current.type_id))?;
        let changed = self.check(&current, &method_type, &methods)?;
        if changed.currency != current.currency {
            refuse_second(&methods, Some(current.id), &current.type_id, changed.currency)?;
        }
        let is_same = changed.currency == current.currency
            && changed.details == current.details
            && changed.is_default == current.is_default;
        if is_same {
            return Ok(current.shown(View::Masked, &method_type.fields));
        }
        let now = Timestamp::now();
        let mut changes = Changes::new(call, Self::METHOD, now);
        if changed.is_default {
            let previous = default_of(&methods, changed.currency, Some(current.id));
            clear_default(tx, previous, &mut changes, now).await?;
        }
        let record = store::update(
            tx,
            &current,
            changed.currency,
            &changed.details,
            changed.is_default,
            &call.caller,
            now,
        )
        .await?;
        changes.add(Some(&current), Some(&record), &method_type.fields);
        if changed.currency != current.currency {
            promote_oldest(tx, &methods, &current, &mut changes, now).await?;
        }
        changes.write(tx).await?;
        Ok(record.shown(View::Masked, &method_type.fields))
    }
}

impl UpdatePaymentMethod {
    /// What the method becomes, or every violation. Only what the mask names is checked: what was saved stays valid when its
    /// type changes.
    fn check(
        &self,
        current: &PaymentMethodRecord,
        method_type: &PaymentMethodType,
        methods: &[PaymentMethodRecord],
    ) -> Result<Changed> {
        let mut violations = Violations::new();
        if self
            .account_id
            .as_ref()
            .is_some_and(|account_id| *account_id != current.account_id)
        {
            violations.push(
                "payment_method.account_id",
                "is not the method's account, which is immutable",
            );
        }
        let currency = self.changed_currency(current, method_type, &mut violations);
        let details = self.changed_details(current, method_type, &mut violations);
        let named = self.names("default").then_some(self.draft.default);
        if named == Some(false) && current.is_default {
            violations.push(
                "payment_method.default",
                "can't be set to false: make another method of the account and currency the default",
            );
        }
        // Within its currency it stays what it was; elsewhere it is the default if it is the first one there.
        let keeps = currency == current.currency && current.is_default;
        let is_default = named == Some(true) || keeps || default_of(methods, currency, Some(current.id)).is_none();
        violations.finish(details.map(|details| Changed {
            currency,
            details,
            is_default,
        }))
    }

    fn changed_currency(
        &self,
        current: &PaymentMethodRecord,
        method_type: &PaymentMethodType,
        violations: &mut Violations,
    ) -> Currency {
        if !self.names("currency_code") {
            return current.currency;
        }
        match violations.check(currency_path(), Currency::parse(&self.draft.currency_code)) {
            Some(currency) if currency != current.currency => {
                check_currency(method_type, currency, violations);
                currency
            }
            Some(_) | None => current.currency,
        }
    }

    fn changed_details(
        &self,
        current: &PaymentMethodRecord,
        method_type: &PaymentMethodType,
        violations: &mut Violations,
    ) -> Option<PaymentMethodDetails> {
        let merged = current
            .details
            .texts()
            .merged(self.draft.details.as_ref(), &self.mask, violations);
        match merged {
            Some(texts) => {
                texts.check_fields_into(method_type, violations);
                texts.check_into(violations)
            }
            None => Some(current.details.clone()),
        }
    }

    fn names(&self, path: &str) -> bool {
        self.mask.iter().any(|named| named == path)
    }
}

impl Mutation for DeletePaymentMethod {
    const METHOD: &'static str = "DeletePaymentMethod";
    type Answer = Done;

    async fn run(&self, tx: &Tx, call: &Call) -> Result<Done> {
        let (methods, current) = lock(tx, self.id).await?;
        check_etag(&self.etag, &current.etag())?;
        let method_type = types::find(tx, &current.type_id)
            .await?
            .ok_or_else(|| type_not_found(&current.type_id))?;
        let now = Timestamp::now();
        let mut changes = Changes::new(call, Self::METHOD, now);
        store::delete(tx, &current).await?;
        changes.add(Some(&current), None, &method_type.fields);
        promote_oldest(tx, &methods, &current, &mut changes, now).await?;
        changes.write(tx).await?;
        Ok(Done {})
    }
}

impl Mutation for HashDestinations {
    const METHOD: &'static str = "HashDestinations";
    type Answer = Option<Uuid>;

    async fn run(&self, tx: &Tx, _call: &Call) -> Result<Option<Uuid>> {
        destinations::hash_missing(tx, self.after, METHODS_A_ROUND).await
    }
}

impl Billing {
    /// Makes a payment method of an account. `violations` are those of the rest of the request, which is `None` for the
    /// account if that is one of them.
    pub async fn create_payment_method(
        &self,
        call: &Call,
        account_id: Option<AccountId>,
        draft: PaymentMethodDraft,
        mut violations: Violations,
    ) -> Result<ShownPaymentMethod> {
        let (currency, details) = draft.check_into(&mut violations);
        match (account_id, currency, details) {
            (Some(account_id), Some(currency), Some(details)) if violations.is_empty() => {
                let request = CreatePaymentMethod {
                    account_id,
                    currency,
                    default: draft.default,
                    details,
                };
                self.mutate(call, request).await
            }
            (_, currency, _) => {
                if let Some(details) = &draft.details {
                    self.add_violations_of_type(details, currency, &mut violations).await?;
                }
                Err(violations.into_error())
            }
        }
    }

    /// A request that is refused anyway is also told what only its type can tell.
    async fn add_violations_of_type(
        &self,
        details: &DetailsTexts,
        currency: Option<Currency>,
        violations: &mut Violations,
    ) -> Result<()> {
        // A malformed id is noted already, and PostgreSQL refuses a text with a null character.
        if check_type_id(details.type_id()).is_err() {
            return Ok(());
        }
        let Some(method_type) = types::find(&self.store.reader(), details.type_id()).await? else {
            return Ok(());
        };
        if let Some(currency) = currency {
            check_currency(&method_type, currency, violations);
        }
        // The fields of a built-in type are not in a map; that this one was named as an own one is noted already.
        if !method_type.built_in {
            details.check_fields_into(&method_type, violations);
        }
        Ok(())
    }

    /// Reads one payment method.
    pub async fn get_payment_method(&self, id: Uuid, view: View) -> Result<ShownPaymentMethod> {
        let reader = self.store.reader();
        let record = store::find(&reader, id).await?.ok_or_else(|| not_found(id))?;
        let fields = match (view, &record.details) {
            (View::Masked, PaymentMethodDetails::Custom { type_id, .. }) => types::find(&reader, type_id)
                .await?
                .map(|method_type| method_type.fields)
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let shown = record.shown(view, &fields);
        if view == View::Masked {
            return Ok(shown);
        }
        let mut shared = destinations::shared_with(&reader, std::slice::from_ref(&record)).await?;
        Ok(ShownPaymentMethod {
            shared_with: shared.remove(&id),
            ..shown
        })
    }

    /// Lists payment methods by account id and id.
    pub async fn list_payment_methods(
        &self,
        filter: &PaymentMethodFilter,
        view: View,
        page: &PageRequest,
    ) -> Result<Page<ShownPaymentMethod>> {
        let after: Option<(AccountId, Uuid)> = self.read_token(LIST, filter, page)?;
        let reader = self.store.reader();
        let (account_id, shared_only) = (filter.account_id.as_ref(), filter.shared_only);
        let records = store::list(&reader, account_id, shared_only, after.as_ref(), page.limit()).await?;
        let mut shared = if view == View::Full || shared_only {
            destinations::shared_with(&reader, &records).await?
        } else {
            HashMap::new()
        };
        let is_custom = |record: &PaymentMethodRecord| matches!(record.details, PaymentMethodDetails::Custom { .. });
        let types = if view == View::Masked && records.iter().any(is_custom) {
            types::list_all(&reader).await?
        } else {
            Vec::new()
        };
        let page = self.page_of(LIST, filter, page, records, |record| {
            (record.account_id.clone(), record.id)
        })?;
        Ok(page.map(|record| ShownPaymentMethod {
            shared_with: shared.remove(&record.id),
            ..record.shown(view, fields_of(&types, &record.type_id))
        }))
    }

    /// Hashes where some methods are paid to that a version before this one wrote, of those after an id; the id to go on after,
    /// where there may be more.
    pub async fn hash_missing_destinations(&self, after: Option<Uuid>) -> Result<Option<Uuid>> {
        let call = Call::by_system("hash-destinations");
        self.mutate(&call, HashDestinations { after }).await
    }

    /// Changes a payment method.
    pub async fn update_payment_method(&self, call: &Call, request: UpdatePaymentMethod) -> Result<ShownPaymentMethod> {
        self.mutate(call, request).await
    }

    /// Deletes a payment method.
    pub async fn delete_payment_method(&self, call: &Call, request: DeletePaymentMethod) -> Result<Done> {
        self.mutate(call, request).await
    }
}

/// Checks what only its type can tell of a new method.
pub(super) fn check_new(method: &CreatePaymentMethod, method_type: &PaymentMethodType) -> Result<()> {
    let mut violations = Violations::new();
    check_currency(method_type, method.currency, &mut violations);
    method.details.texts().check_fields_into(method_type, &mut violations);
    violations.finish(Some(()))?;
    if method_type.enabled {
        return Ok(());
    }
    Err(Error::refused_for(
        Reason::PaymentMethodTypeDisabled,
        TYPE_RESOURCE,
        &method_type.id,
        "the payment method type is disabled: enable it or choose another",
    ))
}

/// Locks the methods of the account that a method is of; all of them, and the one.
async fn lock(tx: &Tx, id: Uuid) -> Result<(Vec<PaymentMethodRecord>, PaymentMethodRecord)> {
    let account_id = store::owner(tx, id).await?.ok_or_else(|| not_found(id))?;
    let methods = store::list_for_update(tx, &account_id).await?;
    // It may have been deleted while the lock was waited for.
    let current = methods
        .iter()
        .find(|method| method.id == id)
        .cloned()
        .ok_or_else(|| not_found(id))?;
    Ok((methods, current))
}

/// An account has at most one method a type and currency.
fn refuse_second(
    methods: &[PaymentMethodRecord],
    except: Option<Uuid>,
    type_id: &str,
    currency: Currency,
) -> Result<()> {
    let taken = methods
        .iter()
        .find(|method| method.currency == currency && method.type_id == type_id && Some(method.id) != except);
    match taken {
        None => Ok(()),
        Some(method) => Err(Error::refused_for(
            Reason::PaymentMethodAlreadyExists,
            RESOURCE,
            method.id,
            "the account has a payment method of this type and currency: change it with UpdatePaymentMethod",
        )),
    }
}

/// The default of a currency, other than one method.
fn default_of(
    methods: &[PaymentMethodRecord],
    currency: Currency,
    except: Option<Uuid>,
) -> Option<&PaymentMethodRecord> {
    methods
        .iter()
        .find(|method| method.currency == currency && method.is_default && Some(method.id) != except)
}

/// Before another one is made the default: the unique index allows one at any moment.
async fn clear_default(
    tx: &Tx,
    previous: Option<&PaymentMethodRecord>,
    changes: &mut Changes<'_>,
    now: Timestamp,
) -> Result<()> {
    match previous {
        Some(previous) => set_default(tx, previous, false, changes, now).await,
        None => Ok(()),
    }
}

async fn set_default(
    tx: &Tx,
    method: &PaymentMethodRecord,
    is_default: bool,
    changes: &mut Changes<'_>,
    now: Timestamp,
) -> Result<()> {
    changes.add_default(method, is_default);
    store::set_default(tx, method, is_default, now).await
}

/// After a method left its currency: if it was the default there, the oldest remaining one is from now on.
async fn promote_oldest(
    tx: &Tx,
    methods: &[PaymentMethodRecord],
    gone: &PaymentMethodRecord,
    changes: &mut Changes<'_>,
    now: Timestamp,
) -> Result<()> {
    if !gone.is_default {
        return Ok(());
    }
    let oldest = methods
        .iter()
        .filter(|method| method.currency == gone.currency && method.id != gone.id)
        .min_by_key(|method| method.id);
    match oldest {
        Some(oldest) => set_default(tx, oldest, true, changes, now).await,
        None => Ok(()),
    }
}

/// The fields of a type.
pub(super) fn fields_of<'a>(types: &'a [PaymentMethodType], type_id: &str) -> &'a [PaymentMethodField] {
    types
        .iter()
        .find(|method_type| method_type.id == type_id)
        .map(|method_type| method_type.fields.as_slice())
        .unwrap_or_default()
}

fn not_found(id: Uuid) -> Error {
    Error::refused_for(
        Reason::PaymentMethodNotFound,
        RESOURCE,
        id,
        "no payment method has this id: see ListPaymentMethods",
    )
}
