//! Steering over HTTP.
//!
//! | request | body | does |
//! |---|---|---|
//! | `GET /control/state` | | everything: payments, attempts and what was taken by ref code, requests, events |
//! | `POST /control/options` | some of the options | changes how it behaves, where events go included |
//! | `POST /control/faults` | `{endpoint, moment, kind, ..., skip, times}` | adds a fault |
//! | `DELETE /control/faults` | | takes all faults back |
//! | `POST /control/tokens/revoke` | | makes all access tokens bad |
//! | `POST /control/payees` | `{id, refCode, isPayable, reasonCode, reason}` | sets a payee |
//! | `POST /control/script` | `{statuses: [..]}` | what new payments go through |
//! | `POST /control/advance` | | moves each payment one step |
//! | `POST /control/payments/{refCode}` | `{status, errorCode, errorText}` | sets a payment's status |
//! | `POST /control/events` | `{type, data, created, wrongSignature, ageSeconds}` | sends an event |
//! | `POST /control/events/raw` | `{body, wrongSignature, ageSeconds}` | sends any body, signed |
//! | `POST /control/events/group` | `{batchId, approved}` | one event for a whole batch |
//! | `POST /control/events/hold` | | holds events back |
//! | `POST /control/events/release` | `{order, times, wrongSignature, ageSeconds}` | sends the held ones: `sent` or `reversed` |

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::state::Payee;
use crate::webhooks::Delivery;
use crate::{FakeTipalti, Order};

pub(crate) fn router(fake: FakeTipalti) -> Router {
    Router::new()
        .route("/control/state", get(async |Extract(fake): Fake| Json(fake.state())))
        .route("/control/options", post(set_options))
        .route("/control/faults", post(add_fault).delete(clear_faults))
        .route("/control/tokens/revoke", post(revoke_tokens))
        .route("/control/payees", post(set_payee))
        .route("/control/script", post(set_script))
        .route("/control/advance", post(advance))
        .route("/control/payments/{ref_code}", post(set_status))
        .route("/control/events", post(send_event))
        .route("/control/events/raw", post(send_raw))
        .route("/control/events/group", post(send_group_event))
        .route("/control/events/hold", post(hold_events))
        .route("/control/events/release", post(release_events))
        .with_state(fake)
}

type Fake = Extract<FakeTipalti>;

/// The options that are named are changed, the others stay.
async fn set_options(Extract(fake): Fake, Json(changes): Json<Value>) -> Response {
    let mut state = fake.lock();
    let mut options = serde_json::to_value(&state.options).unwrap_or_default();
    if let (Some(options), Value::Object(changes)) = (options.as_object_mut(), changes) {
        options.extend(changes);
    }
    match serde_json::from_value(options) {
        Ok(options) => {
            state.options = options;
            done()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn add_fault(Extract(fake): Fake, Json(fault): Json<Fault>) -> Response {
    fake.add_fault(fault);
    done()
}

async fn clear_faults(Extract(fake): Fake) -> Response {
    fake.clear_faults();
    done()
}

async fn revoke_tokens(Extract(fake): Fake) -> Response {
    fake.revoke_tokens();
    done()
}

async fn set_payee(Extract(fake): Fake, Json(payee): Json<Payee>) -> Response {
    fake.set_payee(payee);
    done()
}

#[derive(Deserialize)]
struct Script {
    statuses: Vec<String>,
}

async fn set_script(Extract(fake): Fake, Json(script): Json<Script>) -> Response {
    fake.lock().script = Some(script.statuses);
    done()
}

async fn advance(Extract(fake): Fake) -> Response {
    Json(json!({"moved": fake.advance()})).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewStatus {
    status: String,
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    error_text: String,
}

async fn set_status(Extract(fake): Fake, Path(ref_code): Path<String>, Json(new): Json<NewStatus>) -> Response {
    if fake.set_status(&ref_code, &new.status, &new.error_code, &new.error_text) {
        done()
    } else {
        (StatusCode::NOT_FOUND, "there is no such payment").into_response()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewEvent {
    #[serde(rename = "type")]
    event_type: String,
    data: Value,
    created: Option<String>,
    #[serde(flatten)]
    delivery: HowToDeliver,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HowToDeliver {
    #[serde(default)]
    wrong_signature: bool,
    #[serde(default)]
    age_seconds: i64,
}

impl From<HowToDeliver> for Delivery {
    fn from(how: HowToDeliver) -> Self {
        Self {
            has_wrong_signature: how.wrong_signature,
            age_seconds: how.age_seconds,
        }
    }
}

async fn send_event(Extract(fake): Fake, Json(event): Json<NewEvent>) -> Response {
    let delivery = event.delivery.into();
    let (id, answer) = fake
        .send_event(&event.event_type, event.data, event.created, delivery)
        .await;
    Json(json!({"id": id, "answer": answer})).into_response()
}

#[derive(Deserialize)]
struct RawBody {
    body: String,
    #[serde(flatten)]
    delivery: HowToDeliver,
}

async fn send_raw(Extract(fake): Fake, Json(raw): Json<RawBody>) -> Response {
    Json(json!({"answer": fake.send_raw(&raw.body, raw.delivery.into()).await})).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupEvent {
    batch_id: String,
    approved: bool,
}

async fn send_group_event(Extract(fake): Fake, Json(group): Json<GroupEvent>) -> Response {
    Json(json!({"answer": fake.send_group_event(&group.batch_id, group.approved).await})).into_response()
}

async fn hold_events(Extract(fake): Fake) -> Response {
    fake.hold_events();
    done()
}

#[derive(Deserialize)]
struct Release {
    #[serde(default = "as_sent")]
    order: Order,
    #[serde(default = "once")]
    times: usize,
    #[serde(flatten)]
    delivery: HowToDeliver,
}

fn as_sent() -> Order {
    Order::Sent
}

fn once() -> usize {
    1
}

async fn release_events(Extract(fake): Fake, Json(release): Json<Release>) -> Response {
    let answers = fake
        .release_events(release.order, release.times, release.delivery.into())
        .await;
    Json(json!({"answers": answers})).into_response()
}

fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
