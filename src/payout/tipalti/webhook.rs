//! Tipalti's webhook: its signature and its events.
//!
//! Listening, answering and storing are others' work. The order of it is: [`verify_signature`] over the raw body,
//! [`parse_event`], then keep [`redact`] of the body; what was kept decodes to the same event, so that it can be applied later.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

pub use super::redact::redact;
use super::wire;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;
use crate::payout::{EventError, MAX_EVENT_PAYMENTS, PaymentReport, ProviderEvent, SignatureError};

/// Name of the header with the signature.
pub const SIGNATURE_HEADER: &str = "tipalti-signature";
/// Seconds that a signature is good for, either way.
pub const MAX_AGE_SECONDS: i64 = 300;
/// Types of events, by Tipalti's names. Another one is kept, and read as one about payments.
pub const EVENT_TYPES: [&str; 8] = [
    "paymentSubmitted",
    "paymentDeferred",
    "paymentCompleted",
    "paymentCanceled",
    "paymentError",
    "paymentGroupApproved",
    "paymentGroupDeclined",
    PAYEE_DETAILS_CHANGED,
];
/// The one that is about a payee.
const PAYEE_DETAILS_CHANGED: &str = "payeeDetailsChanged";
/// Longest id of an event, in bytes.
const MAX_EVENT_ID_BYTES: usize = 200;
/// Longest type of an event, in bytes.
const MAX_EVENT_TYPE_BYTES: usize = 100;

/// Checks the signature of a body: HMAC-SHA256 with one of the secrets over `{t}-{raw body}`, in constant time, at most
/// five minutes from `now_unix` either way. Empty secrets don't count: anybody could sign with them.
pub fn verify_signature(header: &str, secrets: &[Sensitive], body: &[u8], now_unix: i64) -> Result<(), SignatureError> {
    let secrets: Vec<&Sensitive> = secrets.iter().filter(|secret| !secret.as_str().is_empty()).collect();
    if secrets.is_empty() {
        return Err(SignatureError::NoSecret);
    }
    let (time_text, signatures) = split_header(header).ok_or(SignatureError::Malformed)?;
    let signed_at: i64 = time_text.parse().map_err(|_| SignatureError::Malformed)?;
    let mut matches = false;
    for secret in secrets {
        for signature in &signatures {
            // No early end: how long this takes must not tell which secret is near.
            matches |= is_signed(secret, time_text, body, signature);
        }
    }
    if !matches {
        return Err(SignatureError::Mismatch);
    }
    let age = now_unix.saturating_sub(signed_at);
    if age > MAX_AGE_SECONDS {
        return Err(SignatureError::TooOld);
    }
    if age < -MAX_AGE_SECONDS {
        return Err(SignatureError::TooNew);
    }
    Ok(())
}

fn is_signed(secret: &Sensitive, time_text: &str, body: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_str().as_bytes()) else {
        return false;
    };
    mac.update(time_text.as_bytes());
    mac.update(b"-");
    mac.update(body);
    mac.verify_slice(signature).is_ok()
}

/// The time as written, and the signatures: one, or several while a secret is rotated.
fn split_header(header: &str) -> Option<(&str, Vec<Vec<u8>>)> {
    let mut time_text = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("t", digits) if time_text.is_none() && is_digits(digits) => time_text = Some(digits),
            ("v", hex) if signatures.len() < 4 => signatures.push(from_hex(hex)?),
            _ => return None,
        }
    }
    let time_text = time_text?;
    (!signatures.is_empty()).then_some((time_text, signatures))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from((nibble(*high)? << 4) | nibble(*low)?).ok();
    pairs.iter().map(byte).collect()
}

/// Reads an event. An unknown type is no error: it is kept, and may be understood later.
pub fn parse_event(body: &[u8]) -> Result<ProviderEvent, EventError> {
    let value: Value = serde_json::from_slice(body).map_err(|_| EventError::NotJson)?;
    if !value.is_object() {
        return Err(EventError::NotJson);
    }
    let id = value
        .get("id")
        .and_then(wire::text)
        .filter(|id| id.len() <= MAX_EVENT_ID_BYTES)
        .ok_or(EventError::NoId)?;
    let event_type = value
        .get("type")
        .and_then(wire::text)
        .filter(|name| (1..=MAX_EVENT_TYPE_BYTES).contains(&name.len()))
        .ok_or(EventError::NoType)?;
    let created_time = value.get("createdDate").and_then(Value::as_str).and_then(wire::time);
    let data = value.get("eventData").unwrap_or(&Value::Null);
    let is_about_payee = event_type == PAYEE_DETAILS_CHANGED;
    let payments = if is_about_payee {
        Vec::new()
    } else {
        payments_of(data, &event_type, created_time)
    };
    if payments.len() > MAX_EVENT_PAYMENTS {
        return Err(EventError::TooManyPayments);
    }
    Ok(ProviderEvent {
        id,
        event_type,
        created_time,
        is_test: value.get("isTest").and_then(Value::as_bool).unwrap_or(false),
        payments,
        payee: is_about_payee.then(|| wire::payee_status(data, created_time)),
    })
}

/// The payments of an event: those of its list, else the one that it is itself.
fn payments_of(data: &Value, type_name: &str, created_time: Option<Timestamp>) -> Vec<PaymentReport> {
    let listed = data.get("payments").and_then(Value::as_array);
    let items: Vec<&Value> = listed.map_or_else(|| vec![data], |items| items.iter().collect());
    let mut reports: Vec<PaymentReport> = items
        .into_iter()
        .filter_map(|item| wire::payment_report(item, created_time))
        .collect();
    for report in &mut reports {
        if report.raw_status.is_empty() {
            type_name.clone_into(&mut report.raw_status);
        }
    }
    reports
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_test_tipalti";
    const TIME: i64 = 1_767_225_600;
    const BODY: &[u8] = br#"{"id":"e1","type":"paymentCompleted","createdDate":"2026-01-01T00:00:00Z","isTest":true,"version":"1.0","traceId":"t","eventData":{"refCode":"AS-0001","paymentStatus":"PAID"}}"#;
    const HEADER: &str = "t=1767225600,v=f91b1a9a8449ebf65260a5749a553facb6df8755f275f4e2d43d4f1ab3ad4ae7";

    fn secrets(texts: &[&str]) -> Vec<Sensitive> {
        texts.iter().map(|text| Sensitive::new(*text)).collect()
    }

    #[test]
    fn the_documented_example_is_accepted() {
        assert_eq!(verify_signature(HEADER, &secrets(&[SECRET]), BODY, TIME), Ok(()));
        assert_eq!(verify_signature(HEADER, &secrets(&["new", SECRET]), BODY, TIME), Ok(()));
        let upper = HEADER.replace("f91b1a", "F91B1A");
        assert_eq!(verify_signature(&upper, &secrets(&[SECRET]), BODY, TIME + 300), Ok(()));
        assert_eq!(verify_signature(HEADER, &secrets(&[SECRET]), BODY, TIME - 300), Ok(()));
    }

    #[test]
    fn everything_else_is_refused() {
        let check =
            |header: &str, texts: &[&str], body: &[u8], now| verify_signature(header, &secrets(texts), body, now);
        assert_eq!(check(HEADER, &[], BODY, TIME), Err(SignatureError::NoSecret));
        assert_eq!(check(HEADER, &[""], BODY, TIME), Err(SignatureError::NoSecret));
        assert_eq!(check(HEADER, &["other"], BODY, TIME), Err(SignatureError::Mismatch));
        assert_eq!(check(HEADER, &[SECRET], b"{}", TIME), Err(SignatureError::Mismatch));
        assert_eq!(check(HEADER, &[SECRET], BODY, TIME + 301), Err(SignatureError::TooOld));
        assert_eq!(check(HEADER, &[SECRET], BODY, TIME - 301), Err(SignatureError::TooNew));
        let other_time = HEADER.replace("1767225600", "1767225601");
        assert_eq!(check(&other_time, &[SECRET], BODY, TIME), Err(SignatureError::Mismatch));
        for header in [
            "",
            "t=1767225600",
            "v=00",
            "t=,v=00",
            "t=1,v=0",
            "t=1,v=zz",
            "t=1,v=+1",
            "t=1,t=1,v=00",
            "t=-1,v=00",
            "t=1,v=00,x=1",
            "t=99999999999999999999,v=00",
        ] {
            assert_eq!(
                check(header, &[SECRET], BODY, TIME),
                Err(SignatureError::Malformed),
                "{header}"
            );
        }
    }

    #[test]
    fn a_group_carries_many_payments() {
        let body = br#"{"id":"g","type":"paymentGroupDeclined","createdDate":"2026-01-01T00:00:00","eventData":{
            "payments":[{"refCode":"a","paymentStatus":"CANCELED"},{"paymentStatus":"PAID"},{"refCode":"b"}]}}"#;
        let event = parse_event(body).unwrap();
        let said: Vec<_> = event
            .payments
            .iter()
            .map(|said| (said.ref_code.as_str(), said.raw_status.as_str()))
            .collect();
        assert_eq!(said, [("a", "CANCELED"), ("b", "paymentGroupDeclined")]);
        assert!(event.payments.iter().all(|said| said.event_time == event.created_time));
    }

    #[test]
    fn a_payee_is_matched_by_any_of_its_ids() {
        let body =
            br#"{"id":"p","type":"payeeDetailsChanged","eventData":{"payeeId":"idap-1","id":"77","isPayable":false}}"#;
        let payee = parse_event(body).unwrap().payee.unwrap();
        assert_eq!(payee.identifiers, [Sensitive::new("77"), Sensitive::new("idap-1")]);
        assert_eq!(payee.is_payable, Some(false));
    }

    #[test]
    fn what_is_kept_decodes_to_the_same_event() {
        let bodies: [&[u8]; 3] = [
            BODY,
            br#"{"id":5,"type":"somethingNew","eventData":{"refCode":"x","email":"a@b.example"}}"#,
            br#"{"id":"d","type":"paymentDeferred","eventData":{"refCode":"x","paymentStatus":"DEFERRED","name":"Jane",
                "deferredReasons":[{"reasonCode":"1","reasonDescription":"no account 1234567890"}]}}"#,
        ];
        for body in bodies {
            assert_eq!(parse_event(redact(body).as_bytes()), parse_event(body));
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert_eq!(parse_event(b"hello"), Err(EventError::NotJson));
        assert_eq!(parse_event(b"[]"), Err(EventError::NotJson));
        assert_eq!(parse_event(b"{}"), Err(EventError::NoId));
        assert_eq!(parse_event(br#"{"id":"1"}"#), Err(EventError::NoType));
    }
}
