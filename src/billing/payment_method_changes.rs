//! The history of payment methods: kept with each change, in its transaction, and listed.

use uuid::Uuid;

use super::page::{Page, PageRequest};
use super::payment_methods::fields_of;
use super::{Billing, Call};
use crate::domain::error::Result;
use crate::domain::ids::new_id;
use crate::domain::payment_method_changes::{ChangeKind, PaymentMethodChange, changed_fields};
use crate::domain::payment_method_types::PaymentMethodField;
use crate::domain::payment_methods::PaymentMethodRecord;
use crate::domain::time::Timestamp;
pub use crate::store::payment_method_changes::PaymentMethodChangeFilter;
use crate::store::{Tx, payment_method_changes as store, payment_method_types as types};

const LIST: &str = "ListPaymentMethodChanges";

/// The changes that one call makes, gathered and then written in one statement.
pub(super) struct Changes<'a> {
    call: &'a Call,
    rpc: &'static str,
    now: Timestamp,
    changes: Vec<PaymentMethodChange>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(call: &'a Call, rpc: &'static str, now: Timestamp) -> Self {
        Self {
            call,
            rpc,
            now,
            changes: Vec::new(),
        }
    }

    /// Adds what changed of a method, if anything did. `type_fields` are those of its type.
    pub(super) fn add(
        &mut self,
        before: Option<&PaymentMethodRecord>,
        after: Option<&PaymentMethodRecord>,
        type_fields: &[PaymentMethodField],
    ) {
        let kind = match (before, after) {
            (None, _) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Updated,
            (Some(_), None) => ChangeKind::Deleted,
        };
        let fields = changed_fields(before, after, type_fields);
        let Some(method) = after.or(before).filter(|_| !fields.is_empty()) else {
            return;
        };
        self.changes.push(PaymentMethodChange {
            id: new_id(),
            account_id: method.account_id.clone(),
            payment_method_id: method.id,
            type_id: method.type_id.clone(),
            currency: method.currency,
            kind,
            fields,
            actor: self.call.caller.clone(),
            rpc: self.rpc.to_owned(),
            request_id: self.call.request_id.map(|id| id.to_string()).unwrap_or_default(),
            change_time: self.now,
        });
    }

    /// Adds that a method became the default, or is it no longer.
    pub(super) fn add_default(&mut self, method: &PaymentMethodRecord, is_default: bool) {
        let after = PaymentMethodRecord {
            is_default,
            ..method.clone()
        };
        // Nothing of its details changed, so none of its fields is told.
        self.add(Some(method), Some(&after), &[]);
    }

    pub(super) async fn write(self, tx: &Tx) -> Result<()> {
        store::insert(tx, &self.changes).await
    }
}

impl Billing {
    /// Lists changes of payment methods, newest first.
    pub async fn list_payment_method_changes(
        &self,
        filter: &PaymentMethodChangeFilter,
        page: &PageRequest,
    ) -> Result<Page<PaymentMethodChange>> {
        let before: Option<Uuid> = self.read_token(LIST, filter, page)?;
        let reader = self.store.reader();
        let changes = store::list(&reader, filter, before, page.limit()).await?;
        let types = types::list_all(&reader).await?;
        let page = self.page_of(LIST, filter, page, changes, |change| change.id)?;
        Ok(page.map(|change| {
            let type_fields = fields_of(&types, &change.type_id);
            change.shown(type_fields)
        }))
    }
}
