//! The HTTP listener for providers' webhooks: the only place that knows axum.
//!
//! An event is answered with success only after it was kept. Bodies are read whole, up to a limit, before their signature is
//! checked; nothing of them is logged but ids.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::billing::{Billing, Receipt, own_id};
use crate::domain::error::{Error, StoreFailure};
use crate::domain::payouts::WordOutcome;
use crate::domain::sensitive::Sensitive;
use crate::domain::time::Timestamp;
use crate::payout::{EventError, ProviderEvent, ProviderKind};

/// Bytes of a body at most.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Connections at once; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 128;
/// How long a request may take to arrive, headers and body each.
pub const READ_TIME: Duration = Duration::from_secs(10);
/// How long running requests may go on after a shutdown began.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// What a provider is told to wait when the database does not answer.
const RETRY_SECONDS: u64 = 30;

/// A provider whose webhook is listened to, with the secrets that count.
#[derive(Debug, Clone)]
pub struct WebhookSource {
    /// The provider.
    pub kind: &'static ProviderKind,
    /// Its secrets, any of which counts.
    pub secrets: Vec<Sensitive>,
}

#[derive(Clone)]
struct Receiver {
    billing: Billing,
    source: Arc<WebhookSource>,
}

/// Serves until shutdown; running requests then have a while to end.
pub async fn run(listener: TcpListener, billing: Billing, sources: Vec<WebhookSource>, shutdown: CancellationToken) {
    let mut router = Router::new();
    for source in sources {
        let receiver = Receiver {
            billing: billing.clone(),
            source: Arc::new(source),
        };
        let path = receiver.source.kind.webhook.path;
        router = router.route(path, post(receive).with_state(receiver));
    }
    let router = router
        .fallback(async || refusal(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Some((stream, place)) => {
                let serving = serve(stream, router.clone(), shutdown.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            // Out of files, or the like: the next one may be luckier, but not at once.
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN_TIME, connections.wait()).await.is_err() {
        tracing::warn!("webhook requests were still running at the end of the drain time");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a webhook connection could not be accepted");
            None
        }
    }
}

async fn serve(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let response = router.oneshot(request.map(Body::new)).await;
            Ok::<_, Infallible>(response.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIME)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a webhook connection ended badly");
    }
}

async fn receive(State(receiver): State<Receiver>, request: Request) -> Response {
    let provider = receiver.source.kind.name;
    match receiver.receive(request).await {
        Ok(response) => response,
        Err(refused) => {
            tracing::warn!(provider, status = refused.status.as_u16(), reason = %refused.reason, "a webhook request was refused");
            refused.into_response()
        }
    }
}

/// Why a request is refused; its text holds nothing that was sent.
struct Refused {
    status: StatusCode,
    reason: String,
}

impl Refused {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    fn into_response(self) -> Response {
        let mut response = refusal(self.status, &self.reason);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }
}

impl Receiver {
    async fn receive(&self, request: Request) -> Result<Response, Refused> {
        let webhook = self.source.kind.webhook;
        check_content_type(request.headers())?;
        let header = request.headers().get(webhook.signature_header).cloned();
        let header =
            header.ok_or_else(|| Refused::new(StatusCode::UNAUTHORIZED, "the signature's header is missing"))?;
        let header = header
            .to_str()
            .map_err(|_| Refused::new(StatusCode::UNAUTHORIZED, "the signature's header is no text"))?;
        let body = read(request).await?;
        let now = Timestamp::now().to_seconds_nanos().0;
        (webhook.verify)(header, &self.source.secrets, &body, now)
            .map_err(|problem| Refused::new(StatusCode::UNAUTHORIZED, problem.to_string()))?;
        let event = (webhook.read)(&body).map_err(unreadable)?;
        let kept = (webhook.redact)(&body);
        let told = Told::of(&event);
        let receipt = self
            .billing
            .receive_event(self.source.kind, event, kept)
            .await
            .map_err(|error| store_refusal(&error))?;
        Ok(told.answer(self.source.kind.name, &receipt))
    }
}

fn unreadable(problem: EventError) -> Refused {
    let status = match problem {
        EventError::NotJson | EventError::NoId | EventError::NoType => StatusCode::BAD_REQUEST,
        EventError::TooManyPayments => StatusCode::PAYLOAD_TOO_LARGE,
    };
    Refused::new(status, problem.to_string())
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    if media_type.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    Err(Refused::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the content type must be application/json",
    ))
}

async fn read(request: Request) -> Result<Bytes, Refused> {
    match tokio::time::timeout(READ_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {MAX_BODY_BYTES} bytes"),
        )),
        Ok(Err(rejection)) => Err(Refused::new(rejection.status(), "the body can't be read")),
        Err(_elapsed) => Err(Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

fn store_refusal(error: &Error) -> Refused {
    tracing::error!(%error, "an event could not be kept");
    match error {
        Error::Store(StoreFailure::Unavailable(_) | StoreFailure::Contention(_)) | Error::Refused(_) => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the event could not be kept now: send it again",
        ),
        Error::Store(StoreFailure::Internal(_)) | Error::Invalid(_) => {
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        }
    }
}

/// What the log tells of an event.
struct Told {
    id: String,
    event_type: String,
    is_test: bool,
    /// The first row that it is about.
    row: Option<Uuid>,
    payments: usize,
}

impl Told {
    fn of(event: &ProviderEvent) -> Self {
        Self {
            id: event.id.clone(),
            event_type: event.event_type.clone(),
            is_test: event.is_test,
            row: event.payments.iter().find_map(|payment| own_id(&payment.ref_code)),
            payments: event.payments.len(),
        }
    }

    /// 200 for what was applied, or came before; 202 for what was kept and waits for its row, or for its status to be known.
    fn answer(self, provider: &str, receipt: &Receipt) -> Response {
        let count = |wanted: WordOutcome| receipt.outcomes.iter().filter(|outcome| **outcome == wanted).count();
        let (unknown, unmapped) = (count(WordOutcome::NoRow), count(WordOutcome::Unmapped));
        let waits = unknown + unmapped > 0;
        let result = match (receipt.is_new, waits) {
            (false, _) => "duplicate",
            (true, true) => "waiting",
            (true, false) => "applied",
        };
        tracing::info!(
            provider,
            event_id = %self.id,
            event_type = %self.event_type,
            is_test = self.is_test,
            account_settlement_id = self.row.map(tracing::field::display),
            payments = self.payments,
            unknown,
            unmapped,
            result,
            "webhook event"
        );
        let status = if waits { StatusCode::ACCEPTED } else { StatusCode::OK };
        let body = json!({"result": result, "unknown_ref_codes": unknown, "unmapped_statuses": unmapped});
        (status, Json(body)).into_response()
    }
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({"error": reason}))).into_response()
}
