//! Takes personal data out of what Tipalti writes before it is kept, shown or logged.
//!
//! An allow-list: what is not named here does not stay, so a field that Tipalti adds is lost and not leaked.

use serde_json::{Map, Value};

/// Fields that are kept as they are, wherever they stand.
const KEPT: [&str; 31] = [
    "approvalDate",
    "batchId",
    "cancelledDate",
    "code",
    "createdDate",
    "currency",
    "errorCode",
    "errorDate",
    "id",
    "instructionStatus",
    "isPayable",
    "isTest",
    "lastChangeDateTimeUTC",
    "payable",
    "payeeId",
    "paymentDate",
    "paymentGroupId",
    "paymentId",
    "paymentStatus",
    "reasonCode",
    "refCode",
    "scheduledDate",
    "status",
    "statusChangeDateTimeUTC",
    "submittedDate",
    "traceId",
    "type",
    "updateDateTimeUTC",
    "valueDate",
    "version",
    "amount",
];
/// Fields with text for people: kept, scrubbed.
const SCRUBBED: [&str; 6] = [
    "errorDescription",
    "errorMessage",
    "message",
    "reason",
    "reasonDescription",
    "statusReason",
];
/// Objects and lists that are kept, with what in them is kept.
const OPENED: [&str; 6] = [
    "alerts",
    "amount",
    "amountSubmitted",
    "deferredReasons",
    "eventData",
    "payments",
];
/// What bodies look like that are no JSON object.
const UNREADABLE: &str = r#"{"unreadable":true}"#;
const REMOVED: &str = "[removed]";
/// More digits in a row of words may be an account number, a card or a telephone.
const MAX_DIGITS: usize = 5;

/// The body of an event without bank data, addresses and names, as JSON. What is left decodes to the same event.
#[must_use]
pub fn redact(body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Value::Object(kept(fields)).to_string(),
        Ok(_) | Err(_) => UNREADABLE.to_owned(),
    }
}

fn kept(fields: Map<String, Value>) -> Map<String, Value> {
    let mut left = Map::new();
    for (name, value) in fields {
        let is_named = |names: &[&str]| names.contains(&name.as_str());
        let value = match value {
            Value::Object(inner) if is_named(&OPENED) => Value::Object(kept(inner)),
            Value::Array(items) if is_named(&OPENED) => Value::Array(items.into_iter().filter_map(kept_item).collect()),
            Value::Object(_) | Value::Array(_) => continue,
            Value::String(text) if is_named(&SCRUBBED) => Value::String(scrub(&text)),
            plain if is_named(&KEPT) => plain,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        };
        left.insert(name, value);
    }
    left
}

fn kept_item(item: Value) -> Option<Value> {
    match item {
        Value::Object(inner) => Some(Value::Object(kept(inner))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

/// A text for people without what looks like an address or a number of an account. Words with digits that follow each other
/// count together: account numbers are written in groups.
#[must_use]
pub fn scrub(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut kept: Vec<&str> = Vec::with_capacity(words.len());
    for run in words.chunk_by(|one, next| has_digits(one) && has_digits(next)) {
        let digits: usize = run.iter().map(|word| digits(word)).sum();
        if digits > MAX_DIGITS {
            kept.push(REMOVED);
        } else {
            kept.extend(run.iter().map(|word| if word.contains('@') { REMOVED } else { word }));
        }
    }
    kept.join(" ")
}

fn digits(word: &str) -> usize {
    word.chars().filter(char::is_ascii_digit).count()
}

fn has_digits(word: &str) -> bool {
    digits(word) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_stays() {
        let body = br#"{"id":"e1","type":"payeeDetailsChanged","secretField":1,"eventData":{"payeeId":"P-1","isPayable":true,
            "email":"jane@example.com","firstName":"Jane","bank":{"iban":"DE89370400440532013000"},"status":"ACTIVE",
            "errorDescription":"transfer to DE89370400440532013000 failed","payments":[{"refCode":"r","name":"Jane"}, "Jane"]}}"#;
        let left = redact(body);
        for gone in ["jane", "Jane", "DE89", "secretField", "bank"] {
            assert!(!left.contains(gone), "{gone} is still in {left}");
        }
        for stays in [
            "\"P-1\"",
            "\"isPayable\":true",
            "transfer to [removed] failed",
            "\"refCode\":\"r\"",
        ] {
            assert!(left.contains(stays), "{stays} is not in {left}");
        }
    }

    #[test]
    fn numbers_in_groups_are_removed_too() {
        assert_eq!(scrub("to DE89 3704 0044 0532 0130 00 failed"), "to [removed] failed");
        assert_eq!(scrub("call 12 3456 7890"), "call [removed]");
        assert_eq!(scrub("error 17 of 2026"), "error 17 of 2026");
        assert_eq!(scrub("ask jane@example.com"), "ask [removed]");
    }

    #[test]
    fn a_list_or_an_object_under_a_kept_name_does_not_slip_through() {
        assert_eq!(redact(br#"{"id":{"iban":"x"},"code":["x"]}"#), "{}");
    }

    #[test]
    fn what_is_no_object_is_not_kept_at_all() {
        assert_eq!(redact(b"IBAN DE89"), UNREADABLE);
        assert_eq!(redact(b"[1]"), UNREADABLE);
    }
}
