//! Messages of `PaymentMethodsService` about payment methods.

use uuid::Uuid;

use crate::billing::page::{Page, PageRequest};
use crate::billing::{
    Call, CreatePaymentMethod, DeletePaymentMethod, ImportPaymentMethods, ImportedPaymentMethod, PaymentMethodFilter,
    UpdatePaymentMethod,
};
use crate::domain::currency::Currency;
use crate::domain::error::{Result, Violations};
use crate::domain::ids::AccountId;
use crate::domain::imports::ImportItem;
use crate::domain::payment_method_types::PaymentMethodField;
use crate::domain::payment_methods::{
    ANY_DETAILS, BankTransferTexts, DetailsTexts, PAYMENT_METHOD_MASK_PATHS, PayeeState, PaymentMethodDetails,
    PaymentMethodDraft, ShownPaymentMethod, View,
};
use crate::domain::permissions::Identity;
use crate::domain::sensitive::Sensitive;
use crate::grpc::convert;
use crate::grpc::convert::balances::cut;
use crate::grpc::convert::imports::{Chunk, call_of_chunk, item_of, outcome_parts};
use crate::proto;
use crate::proto::payment_method::Details;

const ROOT: &str = "payment_method";
/// What of a key is sent back of an item.
const MAX_KEY_BYTES: usize = 128;

/// What a creation asks for, not yet checked but for the account.
pub(crate) struct Creation {
    pub(crate) call: Call,
    pub(crate) account_id: Option<AccountId>,
    pub(crate) draft: PaymentMethodDraft,
    pub(crate) violations: Violations,
}

/// The details are checked further in, with the type: every violation is told at once.
pub(crate) fn create(caller: &Identity, request: proto::CreatePaymentMethodRequest) -> Result<Creation> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let Some(message) = request.payment_method else {
        violations.push(ROOT, "is required");
        return Err(violations.into_error());
    };
    let account_id = convert::account_id("payment_method.account_id", &message.account_id, &mut violations);
    Ok(Creation {
        call,
        account_id,
        draft: PaymentMethodDraft::from(message),
        violations,
    })
}

/// How an item of an import is answered, as it was sent.
pub(crate) struct ImportKey {
    account_id: String,
    currency_code: String,
    type_id: String,
}

pub(crate) fn import(
    caller: &Identity,
    request: proto::ImportPaymentMethodsRequest,
) -> Result<Chunk<ImportKey, ImportPaymentMethods>> {
    let items = request.payment_methods;
    let call = call_of_chunk(
        caller,
        (&request.chunk_id, &request.request_id),
        "payment_methods",
        items.len(),
    )?;
    let mut keys = Vec::with_capacity(items.len());
    let mut checked = Vec::with_capacity(items.len());
    for message in items {
        let account_id = message.account_id.clone();
        let draft = PaymentMethodDraft::from(message);
        keys.push(ImportKey {
            account_id: cut(&account_id, MAX_KEY_BYTES),
            currency_code: cut(&draft.currency_code, MAX_KEY_BYTES),
            type_id: cut(draft.details.as_ref().map_or("", DetailsTexts::type_id), MAX_KEY_BYTES),
        });
        checked.push(import_item(&account_id, &draft));
    }
    Ok(Chunk {
        chunk_id: request.chunk_id,
        call,
        keys,
        request: ImportPaymentMethods { items: checked },
    })
}

fn import_item(account_id: &str, draft: &PaymentMethodDraft) -> ImportItem<CreatePaymentMethod> {
    let mut violations = Violations::new();
    let account_id = convert::account_id("payment_method.account_id", account_id, &mut violations);
    let (currency, details) = draft.check_into(&mut violations);
    let item = account_id
        .zip(currency)
        .zip(details)
        .map(|((account_id, currency), details)| CreatePaymentMethod {
            account_id,
            currency,
            default: draft.default,
            details,
        });
    item_of(ROOT, item, violations)
}

pub(crate) fn import_response(
    chunk_id: String,
    keys: Vec<ImportKey>,
    imported: Vec<ImportedPaymentMethod>,
) -> proto::ImportPaymentMethodsResponse {
    let results = keys.into_iter().zip(imported);
    let results = results
        .map(|(key, imported)| {
            let (outcome, rejection) = outcome_parts(imported.outcome);
            let mut result = proto::PaymentMethodImportResult {
                account_id: key.account_id,
                currency_code: key.currency_code,
                type_id: key.type_id,
                id: imported.id.map(|id| id.to_string()).unwrap_or_default(),
                outcome: outcome.into(),
                ..Default::default()
            };
            if let Some(rejection) = rejection {
                result.reason = rejection.reason.name().to_owned();
                result.field = rejection.field;
                result.message = rejection.message;
            }
            result
        })
        .collect();
    proto::ImportPaymentMethodsResponse { chunk_id, results }
}

pub(crate) fn update(
    caller: &Identity,
    request: proto::UpdatePaymentMethodRequest,
) -> Result<(Call, UpdatePaymentMethod)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let Some(message) = request.payment_method else {
        violations.push(ROOT, "is required");
        return Err(violations.into_error());
    };
    let id = convert::uuid("payment_method.id", &message.id, &mut violations);
    let account_id = convert::optional(
        "payment_method.account_id",
        &message.account_id,
        AccountId::parse,
        &mut violations,
    );
    let is_everything = request.update_mask.as_ref().is_some_and(|mask| mask.paths == ["*"]);
    let mask = if is_everything {
        everything(&message)
    } else {
        convert::mask(
            request.update_mask,
            &PAYMENT_METHOD_MASK_PATHS,
            |path| is_set(&message, path),
            &mut violations,
        )
    };
    if mask.is_empty() && violations.is_empty() {
        violations.push(
            "update_mask",
            "name the fields to change, or set them in payment_method",
        );
    }
    let request = id.map(|id| {
        let request = UpdatePaymentMethod {
            id,
            account_id,
            etag: message.etag.clone(),
            draft: PaymentMethodDraft::from(message),
            mask,
        };
        (call, request)
    });
    violations.finish(request)
}

pub(crate) fn delete(
    caller: &Identity,
    request: proto::DeletePaymentMethodRequest,
) -> Result<(Call, DeletePaymentMethod)> {
    let mut violations = Violations::new();
    let call = convert::call(caller, &request.request_id, &mut violations);
    let id = convert::uuid("id", &request.id, &mut violations);
    let request = id.map(|id| (call, DeletePaymentMethod { id, etag: request.etag }));
    violations.finish(request)
}

pub(crate) fn get(caller: &Identity, request: &proto::GetPaymentMethodRequest) -> Result<(Uuid, View)> {
    let mut violations = Violations::new();
    let id = convert::uuid("id", &request.id, &mut violations);
    let view = view(caller, request.view, &mut violations)?;
    violations.finish(id.zip(view))
}

pub(crate) fn list(
    caller: &Identity,
    request: proto::ListPaymentMethodsRequest,
) -> Result<(PaymentMethodFilter, View, PageRequest)> {
    let mut violations = Violations::new();
    let account_id = convert::optional("account_id", &request.account_id, AccountId::parse, &mut violations);
    let view = view(caller, request.view, &mut violations)?;
    let page = convert::page(request.page_size, request.page_token, &mut violations);
    let shared_only = request.shared_only;
    if shared_only {
        caller.check_shared()?;
    }
    let filter = PaymentMethodFilter {
        account_id,
        shared_only,
    };
    let request = view.map(|view| (filter, view, page));
    violations.finish(request)
}

/// How much an answer shows: masked unless asked for in full, which is refused here already where the caller may not, before
/// anything is looked up.
pub(crate) fn view(caller: &Identity, view: i32, violations: &mut Violations) -> Result<Option<View>> {
    let view = match proto::View::try_from(view) {
        Ok(proto::View::Unspecified | proto::View::Masked) => View::Masked,
        Ok(proto::View::Full) => View::Full,
        Err(_) => {
            violations.push("view", "must be VIEW_MASKED or VIEW_FULL");
            return Ok(None);
        }
    };
    caller.check_view(view)?;
    Ok(Some(view))
}

/// The method as an account settlement was made with it: without id, etag and times, which belong to the method of today.
/// `fields` are those of its type now; without them every value of a custom method is masked.
pub(crate) fn snapshot(
    account_id: &AccountId,
    currency: Currency,
    type_id: &str,
    details: &PaymentMethodDetails,
    fields: &[PaymentMethodField],
    view: View,
) -> proto::PaymentMethod {
    proto::PaymentMethod {
        account_id: account_id.to_string(),
        currency_code: currency.code().to_owned(),
        type_id: type_id.to_owned(),
        details: Some(details.shown(view, fields).into()),
        ..proto::PaymentMethod::default()
    }
}

/// What `*` names: the currency and the details, whichever they are. `default` can only be set, so that a copy that is not
/// the default does not ask for what is refused.
fn everything(message: &proto::PaymentMethod) -> Vec<String> {
    let mut paths = vec!["currency_code".to_owned(), ANY_DETAILS.to_owned()];
    if message.default {
        paths.push("default".to_owned());
    }
    paths
}

/// For an empty mask only whole parts count: a part of them that is empty can't be told from one that is not set.
fn is_set(message: &proto::PaymentMethod, path: &str) -> bool {
    match path {
        "currency_code" => !message.currency_code.is_empty(),
        "default" => message.default,
        "bank_transfer" => matches!(message.details, Some(Details::BankTransfer(_))),
        "paypal" => matches!(message.details, Some(Details::Paypal(_))),
        "tipalti" => matches!(message.details, Some(Details::Tipalti(_))),
        "custom" => matches!(message.details, Some(Details::Custom(_))),
        _ => false,
    }
}

impl From<proto::PaymentMethod> for PaymentMethodDraft {
    fn from(message: proto::PaymentMethod) -> Self {
        Self {
            currency_code: message.currency_code,
            default: message.default,
            details: message.details.map(DetailsTexts::from),
        }
    }
}

impl From<Details> for DetailsTexts {
    fn from(message: Details) -> Self {
        match message {
            Details::BankTransfer(message) => Self::BankTransfer(message.into()),
            Details::Paypal(message) => Self::Paypal {
                email: Sensitive::new(message.email),
            },
            Details::Tipalti(message) => Self::Tipalti {
                payee_id: Sensitive::new(message.payee_id),
            },
            Details::Custom(message) => Self::Custom {
                type_id: message.type_id,
                fields: message
                    .fields
                    .into_iter()
                    .map(|(name, value)| (name, Sensitive::new(value)))
                    .collect(),
            },
        }
    }
}

impl From<proto::BankTransfer> for BankTransferTexts {
    fn from(message: proto::BankTransfer) -> Self {
        Self {
            account_holder_name: Sensitive::new(message.account_holder_name),
            iban: Sensitive::new(message.iban),
            bic: Sensitive::new(message.bic),
            routing_number: Sensitive::new(message.routing_number),
            sort_code: Sensitive::new(message.sort_code),
            account_number: Sensitive::new(message.account_number),
            bank_name: Sensitive::new(message.bank_name),
        }
    }
}

impl From<DetailsTexts> for Details {
    fn from(details: DetailsTexts) -> Self {
        match details {
            DetailsTexts::BankTransfer(texts) => Self::BankTransfer(texts.into()),
            DetailsTexts::Paypal { email } => Self::Paypal(proto::Paypal {
                email: email.as_str().to_owned(),
            }),
            DetailsTexts::Tipalti { payee_id } => Self::Tipalti(proto::Tipalti {
                payee_id: payee_id.as_str().to_owned(),
                ..proto::Tipalti::default()
            }),
            DetailsTexts::Custom { type_id, fields } => Self::Custom(proto::CustomPayment {
                type_id,
                fields: fields
                    .into_iter()
                    .map(|(name, value)| (name, value.as_str().to_owned()))
                    .collect(),
            }),
        }
    }
}

impl From<BankTransferTexts> for proto::BankTransfer {
    fn from(texts: BankTransferTexts) -> Self {
        Self {
            account_holder_name: texts.account_holder_name.as_str().to_owned(),
            iban: texts.iban.as_str().to_owned(),
            bic: texts.bic.as_str().to_owned(),
            routing_number: texts.routing_number.as_str().to_owned(),
            sort_code: texts.sort_code.as_str().to_owned(),
            account_number: texts.account_number.as_str().to_owned(),
            bank_name: texts.bank_name.as_str().to_owned(),
        }
    }
}

/// Adds what its provider said of the payee.
fn with_payee(details: &mut Details, payee: PayeeState) {
    if let Details::Tipalti(tipalti) = details {
        tipalti.payable = payee.payable;
        tipalti.not_payable_reason = payee.reason;
        tipalti.payable_time = payee.event_time.map(Into::into);
    }
}

impl From<ShownPaymentMethod> for proto::PaymentMethod {
    fn from(method: ShownPaymentMethod) -> Self {
        let mut details = Details::from(method.details);
        if let Some(payee) = method.payee {
            with_payee(&mut details, payee);
        }
        let (shared_with, shared_count) = method
            .shared_with
            .map(|shared| (shared.account_ids, shared.count))
            .unwrap_or_default();
        Self {
            id: method.id.to_string(),
            account_id: method.account_id.to_string(),
            currency_code: method.currency.code().to_owned(),
            default: method.is_default,
            details: Some(details),
            type_id: method.type_id,
            etag: method.etag,
            create_time: Some(method.create_time.into()),
            update_time: Some(method.update_time.into()),
            shared_with_account_ids: shared_with.iter().map(AccountId::to_string).collect(),
            shared_with_account_count: shared_count,
        }
    }
}

impl From<Page<ShownPaymentMethod>> for proto::ListPaymentMethodsResponse {
    fn from(page: Page<ShownPaymentMethod>) -> Self {
        let page = page.map(proto::PaymentMethod::from);
        Self {
            payment_methods: page.items,
            next_page_token: page.next_token,
        }
    }
}
