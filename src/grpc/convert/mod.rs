//! From messages to checked requests, collecting every violation, and from results to messages, which can't fail.

pub(crate) mod balances;
pub(crate) mod billing_details;
pub(crate) mod imports;
pub(crate) mod payment_method_changes;
pub(crate) mod payment_method_types;
pub(crate) mod payment_methods;
pub(crate) mod settle_balances;
pub(crate) mod settlements;
pub(crate) mod tipalti;

use prost_types::{FieldMask, Timestamp as ProtoTimestamp};
use uuid::Uuid;

use crate::billing::Call;
use crate::billing::page::PageRequest;
use crate::domain::currency::Currency;
use crate::domain::error::Violations;
use crate::domain::ids::{AccountId, parse_uuid};
use crate::domain::money::{Amount, MAX_BALANCE_UNITS, Money};
use crate::domain::permissions::Identity;
use crate::domain::time::{Date, Timestamp};
use crate::proto;

/// Longest id of a chunk, which is sent back.
pub(crate) const MAX_CHUNK_ID_BYTES: usize = 128;

/// The call: who calls, with its optional request id.
pub(crate) fn call(caller: &Identity, request_id: &str, violations: &mut Violations) -> Call {
    let request_id = if request_id.is_empty() {
        None
    } else {
        violations.check("request_id", parse_uuid(request_id))
    };
    Call {
        caller: caller.name().to_owned(),
        request_id,
        part: 0,
    }
}

/// A required account id.
pub(crate) fn account_id(field: &str, text: &str, violations: &mut Violations) -> Option<AccountId> {
    violations.check(field, AccountId::parse(text))
}

/// A required UUID.
pub(crate) fn uuid(field: &str, text: &str, violations: &mut Violations) -> Option<Uuid> {
    violations.check(field, parse_uuid(text))
}

/// An optional filter: `None` when it is empty.
pub(crate) fn optional<T, E: Into<String>>(
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
    violations: &mut Violations,
) -> Option<T> {
    if text.is_empty() {
        None
    } else {
        violations.check(field, parse(text))
    }
}

/// A required amount of money.
pub(crate) fn money(field: &str, money: Option<&proto::Money>, violations: &mut Violations) -> Option<Money> {
    let Some(money) = money else {
        violations.push(field, "is required");
        return None;
    };
    let currency = violations.check(format!("{field}.currency_code"), Currency::parse(&money.currency_code));
    let amount = violations.check(format!("{field}.amount"), Amount::parse(&money.amount));
    Some(Money::new(currency?, amount?))
}

/// A required positive amount that can be paid: at the currency's scale.
pub(crate) fn payable_money(field: &str, message: Option<&proto::Money>, violations: &mut Violations) -> Option<Money> {
    let money = money(field, message, violations)?;
    if !money.amount.is_positive() {
        violations.push(format!("{field}.amount"), "must be more than 0");
        return None;
    }
    if money.amount > Amount::from_units(MAX_BALANCE_UNITS) {
        violations.push(format!("{field}.amount"), "must be at most 1000000000000 units");
        return None;
    }
    if !money.amount.fits_decimals(money.currency.minor_units()) {
        violations.push(
            format!("{field}.amount"),
            format!(
                "must have at most {} decimals, as {} has",
                money.currency.minor_units(),
                money.currency
            ),
        );
        return None;
    }
    Some(money)
}

/// An optional time.
pub(crate) fn time(field: &str, time: Option<&ProtoTimestamp>, violations: &mut Violations) -> Option<Timestamp> {
    let time = time?;
    let checked = Timestamp::from_seconds_nanos(time.seconds, time.nanos);
    if checked.is_none() {
        violations.push(
            field,
            "must be a time between the years 1 and 9999, with 0 to 999999999 nanoseconds",
        );
    }
    checked
}

/// An optional date.
pub(crate) fn date(field: &str, text: &str, violations: &mut Violations) -> Option<Date> {
    optional(field, text, Date::parse, violations)
}

/// The page that a list is asked for.
pub(crate) fn page(size: i32, token: String, violations: &mut Violations) -> PageRequest {
    violations
        .check("page_size", PageRequest::parse(size, token))
        .unwrap_or_default()
}

/// The fields that an update names (AIP-134): those of the mask, all for `*`, those that are set for an empty mask.
pub(crate) fn mask(
    mask: Option<FieldMask>,
    known: &[&str],
    set: impl Fn(&str) -> bool,
    violations: &mut Violations,
) -> Vec<String> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return known
            .iter()
            .filter(|path| set(path))
            .map(|path| (*path).to_owned())
            .collect();
    }
    if paths == ["*"] {
        return known
            .iter()
            .filter(|path| !path.contains('.'))
            .map(|path| (*path).to_owned())
            .collect();
    }
    let mut named = Vec::new();
    for path in paths {
        if known.contains(&path.as_str()) {
            named.push(path);
        } else {
            violations.push(
                "update_mask",
                format!("names an unknown field: use one or more of {}", known.join(", ")),
            );
            break;
        }
    }
    named
}

impl From<Timestamp> for ProtoTimestamp {
    fn from(time: Timestamp) -> Self {
        let (seconds, nanos) = time.to_seconds_nanos();
        Self { seconds, nanos }
    }
}

impl From<&Money> for proto::Money {
    fn from(money: &Money) -> Self {
        Self {
            currency_code: money.currency.code().to_owned(),
            amount: money.amount_text(),
        }
    }
}
