//! Messages of `PaymentMethodsService` about changes of payment methods.

use crate::billing::PaymentMethodChangeFilter;
use crate::billing::page::{Page, PageRequest};
use crate::domain::error::{Result, Violations};
use crate::domain::ids::{AccountId, parse_uuid};
use crate::domain::payment_method_changes::{ChangeKind, FieldChange, PaymentMethodChange};
use crate::grpc::convert;
use crate::proto;

pub(crate) fn list(
    request: proto::ListPaymentMethodChangesRequest,
) -> Result<(PaymentMethodChangeFilter, PageRequest)> {
    let mut violations = Violations::new();
    let v = &mut violations;
    let filter = PaymentMethodChangeFilter {
        account_id: convert::optional("account_id", &request.account_id, AccountId::parse, v),
        payment_method_id: convert::optional("payment_method_id", &request.payment_method_id, parse_uuid, v),
        change_time_from: convert::time("change_time_from", request.change_time_from.as_ref(), v),
        change_time_before: convert::time("change_time_before", request.change_time_before.as_ref(), v),
    };
    let page = convert::page(request.page_size, request.page_token, v);
    violations.finish(Some((filter, page)))
}

impl From<ChangeKind> for proto::PaymentMethodChangeKind {
    fn from(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Created => Self::Created,
            ChangeKind::Updated => Self::Updated,
            ChangeKind::Deleted => Self::Deleted,
        }
    }
}

impl From<FieldChange> for proto::PaymentMethodFieldChange {
    fn from(change: FieldChange) -> Self {
        Self {
            path: change.path,
            before: change.before.as_str().to_owned(),
            after: change.after.as_str().to_owned(),
        }
    }
}

impl From<PaymentMethodChange> for proto::PaymentMethodChange {
    fn from(change: PaymentMethodChange) -> Self {
        Self {
            id: change.id.to_string(),
            account_id: change.account_id.to_string(),
            payment_method_id: change.payment_method_id.to_string(),
            type_id: change.type_id,
            currency_code: change.currency.code().to_owned(),
            kind: proto::PaymentMethodChangeKind::from(change.kind).into(),
            fields: change.fields.into_iter().map(Into::into).collect(),
            actor: change.actor,
            rpc: change.rpc,
            request_id: change.request_id,
            change_time: Some(change.change_time.into()),
        }
    }
}

impl From<Page<PaymentMethodChange>> for proto::ListPaymentMethodChangesResponse {
    fn from(page: Page<PaymentMethodChange>) -> Self {
        let page = page.map(proto::PaymentMethodChange::from);
        Self {
            payment_method_changes: page.items,
            next_page_token: page.next_token,
        }
    }
}
