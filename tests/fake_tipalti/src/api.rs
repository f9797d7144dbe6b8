//! Tipalti's side of the API: tokens, batches, instructions, payments, payees.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Form, Path, Query, Request, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::FakeTipalti;
use crate::faults::{self, Endpoint, FaultKind, Moment};
use crate::serve::Cut;
use crate::state::{Instruction, Payment};
use crate::webhooks;

pub(crate) fn router(fake: FakeTipalti) -> Router {
    let faulty = |endpoint: Endpoint| middleware::from_fn_with_state((fake.clone(), endpoint), with_faults);
    Router::new()
        .route("/connect/token", post(token).layer(faulty(Endpoint::Token)))
        .route(
            "/api/v1/payment-batches",
            post(create_batch).layer(faulty(Endpoint::Batches)),
        )
        .route(
            "/api/v1/payment-batches/{id}/instructions",
            get(instructions).layer(faulty(Endpoint::Instructions)),
        )
        .route("/api/v1/payments", get(payments).layer(faulty(Endpoint::Payments)))
        .route("/api/v1/payees", get(payees).layer(faulty(Endpoint::Payees)))
        .route("/api/v1/payees/{id}", get(payee).layer(faulty(Endpoint::Payees)))
        .with_state(fake)
}

/// Counts the request, and lets happen what shall go wrong with it.
async fn with_faults(
    Extract((fake, endpoint)): Extract<(FakeTipalti, Endpoint)>,
    request: Request,
    next: Next,
) -> Response {
    let fault = {
        let mut state = fake.lock();
        let name = serde_json::to_value(endpoint)
            .ok()
            .and_then(|name| name.as_str().map(str::to_owned));
        *state.requests.entry(name.unwrap_or_default()).or_default() += 1;
        faults::take(&mut state.faults, endpoint)
    };
    match fault {
        None => next.run(request).await,
        Some((Moment::Before, FaultKind::Delay { milliseconds })) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            next.run(request).await
        }
        Some((Moment::Before, kind)) => strike(kind, None).await,
        Some((Moment::After, kind)) => {
            let response = next.run(request).await;
            strike(kind, Some(response)).await
        }
    }
}

async fn strike(kind: FaultKind, response: Option<Response>) -> Response {
    match kind {
        FaultKind::Hang { milliseconds } => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            cut()
        }
        FaultKind::Delay { milliseconds } => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            response.unwrap_or_else(cut)
        }
        FaultKind::Cut => cut(),
        FaultKind::CutBody => {
            // Longer than what follows: the reader waits for the rest until the connection ends.
            let mut response = Response::new(Body::new(crate::serve::BrokenBody::default()));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("application/json"),
            );
            response
        }
        FaultKind::Status {
            status,
            retry_after_seconds,
            body,
        } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = (status, body).into_response();
            if let Some(seconds) = retry_after_seconds {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
        FaultKind::Garbage => (StatusCode::OK, "<html>").into_response(),
        FaultKind::Nothing => Json(json!({"items": [], "totalCount": 0})).into_response(),
    }
}

fn cut() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Cut);
    response
}

async fn token(Extract(fake): Extract<FakeTipalti>, Form(form): Form<HashMap<String, String>>) -> Response {
    let mut state = fake.lock();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let refresh_token = state
        .refresh_token
        .clone()
        .unwrap_or_else(|| state.options.refresh_token.clone());
    let is_right = field("grant_type") == "refresh_token"
        && field("client_id") == state.options.client_id
        && field("client_secret") == state.options.client_secret
        && field("refresh_token") == refresh_token;
    if !is_right {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    }
    let token = state.next_id("access-token");
    state.tokens.insert(token.clone());
    let rotated = state
        .options
        .rotate_refresh_token
        .then(|| state.next_id("refresh-token"));
    let answer = json!({
        "access_token": token, "token_type": "Bearer", "expires_in": state.options.token_lifetime_seconds,
        "refresh_token": rotated,
    });
    if rotated.is_some() {
        state.refresh_token = rotated;
    }
    Json(answer).into_response()
}

/// The answer to a request without a token that is good.
fn unauthorized(fake: &FakeTipalti, headers: &HeaderMap) -> Option<Response> {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let is_good = fake.lock().tokens.contains(token);
    (!is_good).then(|| error(StatusCode::UNAUTHORIZED, "Unauthorized", "the access token is not good"))
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"errors": [{"code": code, "message": message}]}))).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewBatch {
    payment_instructions: Vec<Instruction>,
}

async fn create_batch(Extract(fake): Extract<FakeTipalti>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(response) = unauthorized(&fake, &headers) {
        return response;
    }
    let Ok(batch) = serde_json::from_slice::<NewBatch>(&body) else {
        return error(StatusCode::BAD_REQUEST, "InvalidJson", "the batch can't be read");
    };
    let (batch_id, taken) = {
        let mut state = fake.lock();
        if batch.payment_instructions.is_empty() || batch.payment_instructions.len() > state.options.batch_limit {
            return error(
                StatusCode::BAD_REQUEST,
                "BatchSize",
                "the batch is empty or larger than the limit",
            );
        }
        if state.is_malformed(&batch.payment_instructions) {
            return error(StatusCode::BAD_REQUEST, "InvalidPayee", "a payee id is malformed");
        }
        state.take_batch(batch.payment_instructions)
    };
    for ref_code in taken {
        webhooks::announce(&fake, &ref_code);
    }
    (StatusCode::CREATED, Json(json!({"id": batch_id}))).into_response()
}

async fn instructions(
    Extract(fake): Extract<FakeTipalti>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(response) = unauthorized(&fake, &headers) {
        return response;
    }
    let state = fake.lock();
    match state.batches.get(&id) {
        Some(items) => page(items.clone(), &query, state.options.max_page_size),
        None => error(StatusCode::NOT_FOUND, "NotFound", "there is no such batch"),
    }
}

async fn payments(
    Extract(fake): Extract<FakeTipalti>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(response) = unauthorized(&fake, &headers) {
        return response;
    }
    let state = fake.lock();
    let Some(ref_codes) = ref_codes(&query, state.options.takes_or) else {
        return error(StatusCode::BAD_REQUEST, "InvalidFilter", "the filter can't be read");
    };
    let visible_after_ms = state.options.visible_after_ms;
    let answer = |payment: &Payment| {
        let mut answer = payment.to_answer();
        if state.options.garbled_ref_code.as_ref() == Some(&payment.ref_code)
            && let Some(fields) = answer.as_object_mut()
        {
            fields.remove("refCode");
        }
        answer
    };
    let found = ref_codes.iter().filter_map(|ref_code| state.payments.get(ref_code));
    let items = found
        .filter(|payment| payment.is_visible(visible_after_ms))
        .map(answer)
        .collect();
    page(items, &query, state.options.max_page_size)
}

async fn payees(
    Extract(fake): Extract<FakeTipalti>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(response) = unauthorized(&fake, &headers) {
        return response;
    }
    let Some(ref_codes) = ref_codes(&query, false) else {
        return error(StatusCode::BAD_REQUEST, "InvalidFilter", "the filter can't be read");
    };
    let items = ref_codes.iter().filter_map(|id| payee_answer(&fake, id)).collect();
    page(items, &query, fake.lock().options.max_page_size)
}

async fn payee(Extract(fake): Extract<FakeTipalti>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Some(response) = unauthorized(&fake, &headers) {
        return response;
    }
    match payee_answer(&fake, &id) {
        Some(answer) => Json(answer).into_response(),
        None => error(StatusCode::NOT_FOUND, "NotFound", "there is no such payee"),
    }
}

fn payee_answer(fake: &FakeTipalti, id: &str) -> Option<Value> {
    let state = fake.lock();
    match state.payee(id) {
        Some(payee) => Some(json!({
            "id": payee.id, "refCode": payee.ref_code, "isPayable": payee.is_payable,
            "status": if payee.is_payable { "ACTIVE" } else { "BLOCKED" }, "statusReason": payee.reason,
        })),
        None if state.options.knows_all_payees => {
            Some(json!({"id": id, "refCode": id, "isPayable": true, "status": "ACTIVE"}))
        }
        None => None,
    }
}

/// The ref codes of `refCode=="a" or refCode=="b"`.
fn ref_codes(query: &HashMap<String, String>, takes_or: bool) -> Option<Vec<String>> {
    let conditions: Vec<&str> = query.get("filter")?.split(" or ").collect();
    if conditions.len() > 1 && !takes_or {
        return None;
    }
    let ref_code = |condition: &&str| {
        let quoted = condition.strip_prefix("refCode==\"")?.strip_suffix('"')?;
        Some(quoted.to_owned())
    };
    conditions.iter().map(ref_code).collect()
}

fn page(items: Vec<Value>, query: &HashMap<String, String>, max_page_size: usize) -> Response {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let size = number("pageSize").unwrap_or(10).clamp(1, max_page_size);
    let start = number("pageCursor").unwrap_or(0);
    let total = items.len();
    let shown: Vec<Value> = items.into_iter().skip(start).take(size).collect();
    let next = start.saturating_add(size);
    let cursor = (next < total).then(|| next.to_string());
    Json(json!({"items": shown, "totalCount": total, "nextPageCursor": cursor})).into_response()
}
