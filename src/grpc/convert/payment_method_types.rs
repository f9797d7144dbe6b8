//! Messages of `PaymentMethodsService` about payment method types.

use crate::billing::page::{Page, PageRequest};
use crate::billing::{Call, CreatePaymentMethodType, UpdatePaymentMethodType};
use crate::domain::error::{Result, Violations};
use crate::domain::payment_method_types::{
    MinimumPayoutDraft, PAYMENT_METHOD_TYPE_MASK_PATHS, PaymentMethodField, PaymentMethodType, PaymentMethodTypeDraft,
    check_type_id,
};
use crate::domain::permissions::Identity;
use crate::grpc::convert;
use crate::proto;

const ROOT: &str = "payment_method_type";

pub(crate) fn create(
    caller: &Identity,
    request: proto::CreatePaymentMethodTypeRequest,
) -> Result<(Call, CreatePaymentMethodType)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let Some(message) = request.payment_method_type else {
        violations.push(ROOT, "is required");
        return Err(violations.into_error());
    };
    violations.check(format!("{ROOT}.id"), check_type_id(&message.id));
    let id = message.id.clone();
    // That the id of a built-in type is taken is told with the others that are.
    let settings = PaymentMethodTypeDraft::from(message).check_into(&id, false, &mut violations);
    violations.finish(Some((call, CreatePaymentMethodType { id, settings })))
}

pub(crate) fn update(
    caller: &Identity,
    request: proto::UpdatePaymentMethodTypeRequest,
) -> Result<(Call, UpdatePaymentMethodType)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let Some(message) = request.payment_method_type else {
        violations.push(ROOT, "is required");
        return Err(violations.into_error());
    };
    violations.check(format!("{ROOT}.id"), check_type_id(&message.id));
    let mask = convert::mask(
        request.update_mask,
        &PAYMENT_METHOD_TYPE_MASK_PATHS,
        |path| is_set(&message, path),
        &mut violations,
    );
    if mask.is_empty() && violations.is_empty() {
        violations.push(
            "update_mask",
            "name the fields to change, or set them in payment_method_type",
        );
    }
    // Cleared it would mean enabled, and a type that pays must not be switched on by saying nothing.
    if mask.iter().any(|path| path == "enabled") && message.enabled.is_none() {
        violations.push(
            format!("{ROOT}.enabled"),
            "is named by the update mask: set it to true or false",
        );
    }
    let request = UpdatePaymentMethodType {
        id: message.id.clone(),
        etag: message.etag.clone(),
        draft: PaymentMethodTypeDraft::from(message),
        mask,
    };
    violations.finish(Some((call, request)))
}

pub(crate) fn list(request: proto::ListPaymentMethodTypesRequest) -> Result<PageRequest> {
    let mut violations = Violations::new();
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    violations.finish(Some(page))
}

fn is_set(message: &proto::PaymentMethodType, path: &str) -> bool {
    match path {
        "display_name" => !message.display_name.is_empty(),
        "enabled" => message.enabled.is_some(),
        "currency_codes" => !message.currency_codes.is_empty(),
        "minimum_payouts" => !message.minimum_payouts.is_empty(),
        "fields" => !message.fields.is_empty(),
        _ => false,
    }
}

impl From<proto::PaymentMethodType> for PaymentMethodTypeDraft {
    fn from(message: proto::PaymentMethodType) -> Self {
        Self {
            display_name: message.display_name,
            enabled: message.enabled,
            currency_codes: message.currency_codes,
            minimum_payouts: message
                .minimum_payouts
                .into_iter()
                .map(|minimum| MinimumPayoutDraft {
                    currency_code: minimum.currency_code,
                    amount: minimum.amount,
                })
                .collect(),
            fields: message.fields.into_iter().map(PaymentMethodField::from).collect(),
        }
    }
}

impl From<proto::PaymentMethodField> for PaymentMethodField {
    fn from(message: proto::PaymentMethodField) -> Self {
        Self {
            name: message.name,
            display_name: message.display_name,
            required: message.required,
            pattern: message.pattern,
            secret: message.secret,
        }
    }
}

impl From<PaymentMethodField> for proto::PaymentMethodField {
    fn from(field: PaymentMethodField) -> Self {
        Self {
            name: field.name,
            display_name: field.display_name,
            required: field.required,
            pattern: field.pattern,
            secret: field.secret,
        }
    }
}

impl From<PaymentMethodType> for proto::PaymentMethodType {
    fn from(stored: PaymentMethodType) -> Self {
        Self {
            etag: stored.etag(),
            id: stored.id,
            display_name: stored.display_name,
            enabled: Some(stored.enabled),
            currency_codes: stored
                .currencies
                .iter()
                .map(|currency| currency.code().to_owned())
                .collect(),
            minimum_payouts: stored.minimum_payouts.iter().map(proto::Money::from).collect(),
            fields: stored.fields.into_iter().map(proto::PaymentMethodField::from).collect(),
            built_in: stored.built_in,
            create_time: Some(stored.create_time.into()),
            update_time: Some(stored.update_time.into()),
        }
    }
}

impl From<Page<PaymentMethodType>> for proto::ListPaymentMethodTypesResponse {
    fn from(page: Page<PaymentMethodType>) -> Self {
        let page = page.map(proto::PaymentMethodType::from);
        Self {
            payment_method_types: page.items,
            next_page_token: page.next_token,
        }
    }
}
