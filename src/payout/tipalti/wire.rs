//! What goes over the wire to and from Tipalti: addresses, field names, limits. All that is Tipalti's choice is here, and
//! so is all that its public documentation leaves open and was therefore chosen.
//!
//! From public material: tokens by `POST /connect/token` at the single sign-on host (a form with `grant_type=refresh_token`,
//! `client_id`, `client_secret`, `refresh_token`, and `code_verifier` for applications made with PKCE); resources under
//! `/api/v1`; `POST /payment-batches` with `paymentInstructions[] { payeeId, amountSubmitted { currency, amount }, refCode }`,
//! answered with the batch's `id`; `GET /payment-batches/{id}/instructions` with `items[] { id, refCode, instructionStatus,
//! alerts[] { code, message, type } }`; `GET /payments?filter=refCode=="..."` and `GET /payees?filter=refCode=="..."`, lists
//! with `items`, `totalCount` and `nextPageCursor` (asked for as `pageCursor`); `GET /payees/{id}` with `refCode`, `status`,
//! `statusReason`, `isPayable` and `...DateTimeUTC` fields; 1500 requests a minute. A ref code safeguards against paying twice.
//!
//! Left open, and chosen here:
//!
//! - **The length of a ref code.** Only other integrations mention a limit (16 characters). Account settlement ids are sent
//!   as they are, with 36: `ref_code` is the place to change that. Whether Tipalti refuses a longer one or cuts it, its
//!   rows end refused or unknown, and none is paid twice.
//! - **Which payee id** an instruction takes: `payeeId` is Tipalti's own id, while webhooks put the payee's ref code under the
//!   same name. So a payee is matched by every id that came with it (`payee_status`), and asked for by either.
//! - **Asking for several payments at once**: ` or ` between the conditions. Where that is refused, they are asked for one by
//!   one; and "not known" is only ever believed of a question for one alone.
//! - **Not known** is an empty list, never HTTP 404: a wrong address must not look like a payment that was never made.
//! - **Instruction statuses**: those of payments, and `REFUSED_INSTRUCTIONS` for one that no payment is made of.
//! - **A ref code that Tipalti has already** is recognised by the wording of its error (`is_duplicate`), and never taken as a
//!   refusal: the payment with that ref code may be on its way.
//! - **When a payment's status changed**: the first of `TIME_FIELDS`; else the answer's `Date` (for an event its
//!   `createdDate`), when Tipalti said so by its own clock.
//! - **How long a cut-off request may still be worked on**: ten minutes, the timeout of the SOAP API ([`DOUBT_PERIOD`]).
//! - **An event without a payment status** has its type as raw status, which is in no table and thus changes nothing.
//! - **A batch has no id of ours**: ours goes along as a header (`CORRELATION_HEADER`), for their support to find it by.
//! - **A new refresh token** in a token's answer is used while the process lives, and the configured one when it fails.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::redact::scrub;
use super::status::{map, normalized};
use crate::domain::account_settlements::Status;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;
use crate::payout::{PayeeStatus, PaymentOrder, PaymentReport};

/// Instructions in a batch by default, as the SOAP API allows.
pub const BATCH_LIMIT: usize = 250;
/// See the module.
pub const DOUBT_PERIOD: Duration = Duration::from_secs(600);

pub(super) const API_PATH: &str = "api/v1";
pub(super) const BATCHES: &str = "payment-batches";
pub(super) const INSTRUCTIONS: &str = "instructions";
pub(super) const PAYMENTS: &str = "payments";
pub(super) const PAYEES: &str = "payees";
pub(super) const TOKEN_PATH: &str = "connect/token";
pub(super) const CORRELATION_HEADER: &str = "x-correlation-id";

/// API hosts and the token addresses that belong to them. Any other host serves its tokens itself.
pub(super) const TOKEN_URLS: [(&str, &str); 3] = [
    ("api-p.tipalti.com", "https://sso.tipalti.com/connect/token"),
    ("api-sb.tipalti.com", "https://sso.sandbox.tipalti.com/connect/token"),
    (
        "api.sandbox.tipalti.com",
        "https://sso.sandbox.tipalti.com/connect/token",
    ),
];

pub(super) const PAGE_SIZE: usize = 100;
/// Payments asked for at once: keeps an address within 4 kB.
pub(super) const REF_CODES_A_QUESTION: usize = 50;
/// Pages of one list at most.
pub(super) const MAX_PAGES: usize = 100;
/// Bytes of an answer at most.
pub(super) const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Statuses of an instruction that no payment is made of.
const REFUSED_INSTRUCTIONS: [&str; 4] = ["ERROR", "FAILED", "INVALID", "REFUSED"];
const TIME_FIELDS: [&str; 3] = ["statusChangeDateTimeUTC", "lastChangeDateTimeUTC", "updateDateTimeUTC"];
const MAX_CODE_CHARS: usize = 100;
const MAX_TEXT_CHARS: usize = 500;
const MAX_STATUS_CHARS: usize = 100;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    payment_instructions: Vec<Instruction<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Instruction<'a> {
    payee_id: &'a str,
    amount_submitted: AmountSubmitted,
    ref_code: &'a str,
}

#[derive(Serialize)]
struct AmountSubmitted {
    currency: String,
    /// A JSON number with exactly the decimals of the payout: it never was a float.
    amount: Box<RawValue>,
}

/// The body of a batch.
pub(super) fn batch_body(orders: &[PaymentOrder]) -> Result<Vec<u8>, serde_json::Error> {
    let mut payment_instructions = Vec::with_capacity(orders.len());
    for order in orders {
        payment_instructions.push(Instruction {
            payee_id: order.payee_id.as_str(),
            amount_submitted: AmountSubmitted {
                currency: order.money.currency.to_string(),
                amount: RawValue::from_string(order.money.amount.to_text(order.decimals))?,
            },
            ref_code: ref_code(&order.ref_code),
        });
    }
    serde_json::to_vec(&Batch { payment_instructions })
}

/// How a ref code is written to Tipalti: as it is. See the module.
pub(super) fn ref_code(ref_code: &str) -> &str {
    ref_code
}

/// Whether a ref code can stand in a filter as it is.
pub(super) fn is_plain_ref_code(ref_code: &str) -> bool {
    !ref_code.is_empty()
        && ref_code.len() <= 64
        && ref_code
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The filter for payments or payees with one of these ref codes.
pub(super) fn ref_code_filter<'a>(ref_codes: impl IntoIterator<Item = &'a str>) -> String {
    let conditions: Vec<String> = ref_codes
        .into_iter()
        .map(|code| format!("refCode==\"{}\"", ref_code(code)))
        .collect();
    conditions.join(" or ")
}

/// One page of a list.
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    pub(super) total_count: Option<u64>,
    pub(super) next_cursor: Option<String>,
}

/// Reads one page of a list; `None` when it is none.
pub(super) fn page(body: &[u8]) -> Option<Page> {
    let Value::Object(mut fields) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    let Some(Value::Array(items)) = fields.remove("items") else {
        return None;
    };
    Some(Page {
        items,
        total_count: fields.get("totalCount").and_then(Value::as_u64),
        next_cursor: fields.get("nextPageCursor").and_then(text),
    })
}

/// The id of a batch that was made.
pub(super) fn batch_id(body: &[u8]) -> Option<String> {
    text(serde_json::from_slice::<Value>(body).ok()?.get("id")?)
}

/// A token's answer.
pub(super) struct TokenAnswer {
    pub(super) access_token: Sensitive,
    pub(super) lifetime: Option<Duration>,
    pub(super) refresh_token: Option<Sensitive>,
}

/// Reads a token's answer.
pub(super) fn token_answer(body: &[u8]) -> Option<TokenAnswer> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let seconds = value
        .get("expires_in")
        .and_then(text)
        .and_then(|digits| digits.parse().ok());
    Some(TokenAnswer {
        access_token: Sensitive::new(text(value.get("access_token")?)?),
        lifetime: seconds.map(Duration::from_secs),
        refresh_token: value.get("refresh_token").and_then(text).map(Sensitive::new),
    })
}

/// The code and the text of an error's body, scrubbed.
pub(super) fn error_of(body: &[u8]) -> (String, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), String::new());
    };
    let first = value
        .get("errors")
        .and_then(Value::as_array)
        .and_then(|errors| errors.first());
    let source = first.unwrap_or(&value);
    let code = first_text(source, &["code", "errorCode", "error"]);
    let message = first_text(
        source,
        &["message", "errorMessage", "error_description", "title", "detail"],
    );
    (cut(&code, MAX_CODE_CHARS), cut(&scrub(&message), MAX_TEXT_CHARS))
}

/// Whether a refusal says that the ref code is there already.
pub(super) fn is_duplicate(body_or_text: &str) -> bool {
    let lower = body_or_text.to_ascii_lowercase();
    [
        "duplicate",
        "already exist",
        "already been",
        "alreadyexist",
        "already used",
        "not unique",
        "notunique",
    ]
    .iter()
    .any(|word| lower.contains(word))
}

/// What became of an instruction.
pub(super) enum InstructionOutcome {
    Taken(PaymentReport),
    Refused(PaymentReport),
    Duplicate { text: String },
}

/// Reads an instruction.
pub(super) fn instruction_outcome(value: &Value, ref_code: &str, said_at: Option<Timestamp>) -> InstructionOutcome {
    let mut report = payment_report(value, said_at).unwrap_or_else(|| PaymentReport {
        ref_code: String::new(),
        raw_status: String::new(),
        provider_reference: String::new(),
        error_code: String::new(),
        error_text: String::new(),
        event_time: said_at,
    });
    ref_code.clone_into(&mut report.ref_code);
    if !is_refused(&report.raw_status) {
        return InstructionOutcome::Taken(report);
    }
    if is_duplicate(&report.error_code) || is_duplicate(&report.error_text) {
        return InstructionOutcome::Duplicate {
            text: report.error_text,
        };
    }
    InstructionOutcome::Refused(report)
}

fn is_refused(raw_status: &str) -> bool {
    REFUSED_INSTRUCTIONS.contains(&normalized(raw_status).as_str())
}

/// Reads a payment out of an answer or an event; `None` without a ref code.
pub(super) fn payment_report(value: &Value, said_at: Option<Timestamp>) -> Option<PaymentReport> {
    let ref_code = text(value.get("refCode")?)?;
    let raw_status = status_text(value, &["paymentStatus", "status", "instructionStatus"]);
    let has_failed = is_refused(&raw_status) || map(&raw_status).is_some_and(|mapped| mapped.status == Status::Error);
    let (error_code, error_text) = if has_failed {
        error_of_payment(value)
    } else {
        Default::default()
    };
    Some(PaymentReport {
        ref_code,
        raw_status,
        provider_reference: cut(&first_text(value, &["paymentId", "id"]), MAX_CODE_CHARS),
        error_code,
        error_text,
        event_time: time_of(value).or(said_at),
    })
}

/// A payment's own error, or those of its alerts or of the reasons why it was deferred.
fn error_of_payment(value: &Value) -> (String, String) {
    let mut codes = vec![first_text(value, &["errorCode"])];
    let mut texts = vec![first_text(value, &["errorDescription", "errorMessage", "statusReason"])];
    for list in ["alerts", "deferredReasons"] {
        for reason in value.get(list).and_then(Value::as_array).into_iter().flatten() {
            codes.push(first_text(reason, &["code", "reasonCode"]));
            texts.push(first_text(reason, &["message", "reasonDescription"]));
        }
    }
    codes.retain(|code| !code.is_empty());
    texts.retain(|text| !text.is_empty());
    let code = codes.first().map(String::as_str).unwrap_or_default();
    (
        cut(code, MAX_CODE_CHARS),
        cut(&scrub(&texts.join("; ")), MAX_TEXT_CHARS),
    )
}

/// Reads a payee out of an answer or an event.
pub(super) fn payee_status(value: &Value, said_at: Option<Timestamp>) -> PayeeStatus {
    let ids = ["id", "payeeId", "refCode"];
    PayeeStatus {
        identifiers: ids
            .iter()
            .filter_map(|name| value.get(*name).and_then(text))
            .map(Sensitive::new)
            .collect(),
        is_payable: value
            .get("isPayable")
            .or_else(|| value.get("payable"))
            .and_then(Value::as_bool),
        raw_status: status_text(value, &["status"]),
        reason: cut(&scrub(&first_text(value, &["statusReason", "reason"])), MAX_TEXT_CHARS),
        event_time: time_of(value).or(said_at),
    }
}

fn time_of(value: &Value) -> Option<Timestamp> {
    TIME_FIELDS
        .iter()
        .find_map(|name| value.get(*name).and_then(Value::as_str).and_then(time))
}

/// Reads a time in ISO 8601; one without an offset is in UTC.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let instant = text
        .parse::<jiff::Timestamp>()
        .or_else(|_| format!("{text}Z").parse())
        .ok()?;
    Timestamp::from_micros(instant.as_microsecond())
}

/// A text without control characters, or a number written as one; `None` for an empty one.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.chars().filter(|character| !character.is_control()).collect(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn first_text(value: &Value, names: &[&str]) -> String {
    let found = names.iter().find_map(|name| value.get(*name).and_then(text));
    found.unwrap_or_default()
}

/// A status as it is kept and shown: a word of theirs, and no place for anything else.
fn status_text(value: &Value, names: &[&str]) -> String {
    let is_of_a_word = |character: &char| character.is_ascii_alphanumeric() || " _-()".contains(*character);
    let found = first_text(value, names);
    found.chars().filter(is_of_a_word).take(MAX_STATUS_CHARS).collect()
}

fn cut(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::currency::Currency;
    use crate::domain::money::{Amount, Money};

    #[test]
    fn amounts_are_written_exactly() {
        let order = |amount: &str, currency: &str, decimals| PaymentOrder {
            ref_code: "r".to_owned(),
            payee_id: Sensitive::new("p"),
            money: Money::new(Currency::parse(currency).unwrap(), Amount::parse(amount).unwrap()),
            decimals,
        };
        let body = batch_body(&[order("9999999999.9", "EUR", 2), order("1250", "JPY", 0)]).unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"paymentInstructions":[{"payeeId":"p","amountSubmitted":{"currency":"EUR","amount":9999999999.90},"refCode":"r"},{"payeeId":"p","amountSubmitted":{"currency":"JPY","amount":1250},"refCode":"r"}]}"#
        );
    }

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        let expected = Timestamp::from_seconds_nanos(1_767_225_600, 0);
        for text in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T01:00:00+01:00",
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn a_failed_payment_keeps_its_reasons() {
        let value = serde_json::json!({
            "refCode": "r\u{0}", "id": 7, "paymentStatus": "DEFERRED@\u{7}",
            "deferredReasons": [{"reasonCode": "TaxFormsMissing", "reasonDescription": "no tax form of a@b.example"}]
        });
        let report = payment_report(&value, None).unwrap();
        assert_eq!(report.raw_status, "DEFERRED");
        assert_eq!(report.error_code, "TaxFormsMissing");
        assert_eq!(report.error_text, "no tax form of [removed]");
        assert_eq!(report.provider_reference, "7");
    }
}
