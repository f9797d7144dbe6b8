//! Tells the service what the program offers, who the affiliates are, and how they are paid.
//!
//! All of it has business keys (a type's id, an account, an account with type and currency), so it is sent again in every
//! run, without request ids: `ALREADY_EXISTS` with the reason of just that key says that it was there. With a request id a
//! second run would be told "created" again, which is the point of request ids but not what this program wants to know.

use crate::client::Billing;
use crate::data::{Affiliate, Month, OfferedType};
use crate::failure::{Failure, reason};
use crate::money::amount;
use affiliate_billing::proto::{
    BillingDetails, CreateBillingDetailsRequest, CreatePaymentMethodRequest, CreatePaymentMethodTypeRequest,
    ErrorReason, Money, PaymentMethod, PaymentMethodType, UpdatePaymentMethodTypeRequest,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use prost_types::FieldMask;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use tonic::Code;

/// Affiliates that are registered at the same time.
const AT_ONCE: usize = 8;

/// Creates the program's own types, and sets the minimum payouts of all. Answers how many changes that took.
pub(crate) async fn offer_types(billing: &Billing, month: &Month) -> Result<usize, Failure> {
    let mut created = 0;
    for offered in month.types.iter().filter(|offered| !offered.built_in) {
        created += usize::from(create_type(billing, &offered.settings).await?);
    }

    // After that, so that a type that was there already gets the minimum of today as well.
    let mut changed = 0;
    let existing = billing.list_types().await?;
    for offered in &month.types {
        let current = existing.iter().find(|t| t.id == offered.settings.id);
        changed += usize::from(set_minimum(billing, offered, current).await?);
    }
    println!("payment method types: {created} created, {changed} given a new minimum payout");
    Ok(created + changed)
}

async fn create_type(billing: &Billing, settings: &PaymentMethodType) -> Result<bool, Failure> {
    let request = CreatePaymentMethodTypeRequest {
        payment_method_type: Some(settings.clone()),
        request_id: String::new(),
    };
    let answer = billing.methods.clone().create_payment_method_type(request).await;
    is_new(
        answer,
        ErrorReason::PaymentMethodTypeAlreadyExists,
        "create a payment method type",
    )
}

async fn set_minimum(
    billing: &Billing,
    offered: &OfferedType,
    current: Option<&PaymentMethodType>,
) -> Result<bool, Failure> {
    let wanted = &offered.settings;
    let Some(current) = current else {
        return Err(Failure::Unexpected(format!(
            "the server does not list the type `{}`",
            wanted.id
        )));
    };
    // Compared as numbers: the service may write `50` as `50.00`.
    if by_currency(&current.minimum_payouts)? == by_currency(&wanted.minimum_payouts)? {
        return Ok(false);
    }
    let request = UpdatePaymentMethodTypeRequest {
        payment_method_type: Some(PaymentMethodType {
            id: wanted.id.clone(),
            minimum_payouts: wanted.minimum_payouts.clone(),
            // Refused when somebody else changed the type since it was read.
            etag: current.etag.clone(),
            ..PaymentMethodType::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["minimum_payouts".to_owned()],
        }),
        request_id: String::new(),
    };
    billing
        .methods
        .clone()
        .update_payment_method_type(request)
        .await
        .map_err(Failure::call("set minimum payouts"))?;
    Ok(true)
}

fn by_currency(minimums: &[Money]) -> Result<BTreeMap<&str, Decimal>, Failure> {
    let mut amounts = BTreeMap::new();
    for minimum in minimums {
        amounts.insert(minimum.currency_code.as_str(), amount(minimum)?);
    }
    Ok(amounts)
}

/// Registers every affiliate, a few at a time. Answers how many records were new.
pub(crate) async fn register(billing: &Billing, month: &Month) -> Result<usize, Failure> {
    let registrations = stream::iter(&month.affiliates)
        .map(|affiliate| register_one(billing, affiliate))
        .buffer_unordered(AT_ONCE);
    let new: Vec<Registration> = registrations.try_collect().await?;
    let details: usize = new.iter().map(|one| usize::from(one.details)).sum();
    let methods: usize = new.iter().map(|one| one.methods).sum();
    println!(
        "affiliates: {} known, {details} billing details and {methods} payment methods created",
        month.affiliates.len()
    );
    Ok(details + methods)
}

/// What was new of one affiliate.
struct Registration {
    details: bool,
    methods: usize,
}

async fn register_one(billing: &Billing, affiliate: &Affiliate) -> Result<Registration, Failure> {
    let details = match &affiliate.details {
        Some(details) => create_details(billing, details).await?,
        None => false,
    };
    let mut methods = 0;
    for method in &affiliate.methods {
        methods += usize::from(create_method(billing, method).await?);
    }
    Ok(Registration { details, methods })
}

async fn create_details(billing: &Billing, details: &BillingDetails) -> Result<bool, Failure> {
    let request = CreateBillingDetailsRequest {
        billing_details: Some(details.clone()),
        request_id: String::new(),
    };
    let answer = billing.details.clone().create_billing_details(request).await;
    is_new(
        answer,
        ErrorReason::BillingDetailsAlreadyExist,
        "create billing details",
    )
}

async fn create_method(billing: &Billing, method: &PaymentMethod) -> Result<bool, Failure> {
    let request = CreatePaymentMethodRequest {
        payment_method: Some(method.clone()),
        request_id: String::new(),
    };
    let answer = billing.methods.clone().create_payment_method(request).await;
    is_new(
        answer,
        ErrorReason::PaymentMethodAlreadyExists,
        "create a payment method",
    )
}

/// Whether a create made something. By the reason and not by the code alone: another key may be taken as well.
fn is_new<T>(
    answer: Result<tonic::Response<T>, tonic::Status>,
    there_already: ErrorReason,
    doing: &'static str,
) -> Result<bool, Failure> {
    match answer {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists && is(&status, there_already) => Ok(false),
        Err(status) => Err(Failure::call(doing)(status)),
    }
}

/// Errors carry the names of the enum without its prefix.
fn is(status: &tonic::Status, expected: ErrorReason) -> bool {
    expected.as_str_name().strip_prefix("ERROR_REASON_") == Some(reason(status).as_str())
}
