//! Events: made of changes, signed, and sent; or held back, to be sent late, twice, or in another order.

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::FakeTipalti;
use crate::state::{Event, State, now_text};

/// How to send an event in other ways than the right one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delivery {
    /// Sign with a secret that nobody has.
    pub has_wrong_signature: bool,
    /// Sign so many seconds ago; less than 0 is ahead.
    pub age_seconds: i64,
}

/// `t=<unix seconds>,v=<hex>` for a body.
#[must_use]
pub fn sign(secret: &str, unix_seconds: i64, body: &str) -> String {
    let mut hex = String::new();
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(format!("{unix_seconds}-{body}").as_bytes());
        for byte in mac.finalize().into_bytes() {
            hex.push_str(&format!("{byte:02x}"));
        }
    }
    format!("t={unix_seconds},v={hex}")
}

/// Makes the event of a payment's present status, and sends or holds it.
pub(crate) fn announce(fake: &FakeTipalti, ref_code: &str) {
    let place = {
        let mut state = fake.lock();
        if !state.options.sends_events {
            return;
        }
        let Some(payment) = state.payments.get(ref_code).cloned() else {
            return;
        };
        let event_type = match payment.status.as_str() {
            "PAID" | "CLEARED" => "paymentCompleted",
            "REJECTED" => "paymentError",
            "CANCELED" => "paymentCanceled",
            "DEFERRED" | "DEFERRED_INTERNAL" => "paymentDeferred",
            _ => "paymentSubmitted",
        };
        let data = json!({
            "refCode": payment.ref_code, "paymentStatus": payment.status, "payeeId": payment.payee_id,
            "paymentId": payment.id, "payeeName": "Jane Example", "bankAccount": {"iban": "DE89370400440532013000"},
            "errorCode": payment.error_code, "errorDescription": payment.error_text,
        });
        add(&mut state, event_type, &payment.changed_at, data)
    };
    dispatch(fake, place);
}

/// Adds an event; gives its place.
pub(crate) fn add(state: &mut State, event_type: &str, created: &str, data: Value) -> usize {
    let id = state.next_id("event");
    let body = json!({
        "id": id, "type": event_type, "createdDate": created, "isTest": true, "version": "1.0",
        "traceId": "fake", "eventData": data,
    });
    add_raw(state, id, body.to_string())
}

pub(crate) fn add_raw(state: &mut State, id: String, body: String) -> usize {
    state.events.push(Event {
        id,
        body,
        answers: Vec::new(),
    });
    state.events.len() - 1
}

/// Sends an event in a task of its own, or holds it when events are held.
pub(crate) fn dispatch(fake: &FakeTipalti, place: usize) {
    {
        let mut state = fake.lock();
        if let Some(held) = &mut state.held_events {
            held.push(place);
            return;
        }
        if state.options.webhook_url.is_none() {
            return;
        }
    }
    let fake = fake.clone();
    tokio::spawn(async move { deliver(&fake, place, Delivery::default()).await });
}

/// Sends an event and waits for the answer: its HTTP status, or 0 when there was none.
pub(crate) async fn deliver(fake: &FakeTipalti, place: usize, delivery: Delivery) -> u16 {
    let (url, secret, body) = {
        let state = fake.lock();
        let Some(event) = state.events.get(place) else {
            return 0;
        };
        let secret = if delivery.has_wrong_signature {
            "nobody-has-this"
        } else {
            &state.options.webhook_secret
        };
        (
            state.options.webhook_url.clone().unwrap_or_default(),
            secret.to_owned(),
            event.body.clone(),
        )
    };
    let signed_at = jiff::Timestamp::now().as_second() - delivery.age_seconds;
    let request = Request::post(url)
        .header("content-type", "application/json")
        .header("tipalti-signature", sign(&secret, signed_at, &body))
        .body(Full::new(Bytes::from(body)));
    let status = match request {
        Ok(request) => {
            let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            client
                .request(request)
                .await
                .map_or(0, |response| response.status().as_u16())
        }
        Err(_) => 0,
    };
    if let Some(event) = fake.lock().events.get_mut(place) {
        event.answers.push(status);
    }
    status
}

/// The present, for events that are made by hand.
pub(crate) fn created(time: Option<String>) -> String {
    time.unwrap_or_else(now_text)
}
