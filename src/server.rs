//! Serves [`Billing`] on a listener: services, health, reflection, limits, bounded drain.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::authentication::Access;
use crate::billing::Billing;
use crate::grpc::connections::Opened;
use crate::grpc::{self, AuthenticationLayer, CallLogLayer, ErrorDetailsLayer, SERVICE_NAMES, connections};
use crate::proto;

/// Streams at once on one connection.
pub const MAX_CONCURRENT_STREAMS: u32 = 256;
/// Bytes that a stream may have sent and the service not taken yet.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for a connection: enough for all its streams, so that those whose answers nobody reads do not hold up the others.
const CONNECTION_WINDOW: u32 = MAX_CONCURRENT_STREAMS * STREAM_WINDOW;
/// Bytes of a call's headers, each with 32 more, as HTTP/2 counts them. A call with more is answered with HTTP's status 431.
pub const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams that a client may have reset and the server not begun with, on one connection; more close it (CVE-2023-44487).
pub const MAX_PENDING_RESETS: usize = 20;
/// How long a connection may say nothing before it is asked whether it lives, and how long it may take to say so.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIME: Duration = Duration::from_secs(20);
/// How long running calls may go on after a shutdown began.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);
/// How often the database is asked whether it answers.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// Serves whom `access` lets in, until `shutdown` is cancelled; running calls then have [`DRAIN_TIME`] to end.
pub async fn run(
    listener: TcpListener,
    billing: Billing,
    access: Access,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, serving(&billing).await).await;
    let watch = tokio::spawn(watch_database(reporter, billing.clone(), shutdown.clone()));
    tokio::spawn(access.clone().watch(shutdown.clone()));
    let reflection_v1 = reflection().build_v1();
    let reflection_v1alpha = reflection().build_v1alpha();
    let mut routes = grpc::routes(&billing, &shutdown).add_service(health);
    if let (Ok(v1), Ok(v1alpha)) = (reflection_v1, reflection_v1alpha) {
        routes = routes.add_service(v1).add_service(v1alpha);
    }
    let server = Server::builder()
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIME))
        .layer(CallLogLayer)
        .layer(ErrorDetailsLayer)
        .layer(AuthenticationLayer::new(access.authentication))
        .add_routes(routes);
    let stop = shutdown.clone().cancelled_owned();
    let outcome = match access.transport {
        None => {
            // Here, because the server's own setting holds for listeners that it opens itself: without it an answer of several
            // segments waits 40 ms for the caller's acknowledgement.
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let incoming = incoming.map(|accepted| accepted.map(Opened::new));
            let serving = server.serve_with_incoming_shutdown(incoming, stop);
            drained(serving, &shutdown).await
        }
        Some(transport) => {
            let connections = connections::accept(listener, transport, shutdown.clone());
            let connections = connections.map(|accepted| accepted.map(Opened::new));
            drained(server.serve_with_incoming_shutdown(connections, stop), &shutdown).await
        }
    };
    shutdown.cancel();
    watch.abort();
    outcome
}

/// Ends with the server, or when it has not drained in time.
async fn drained<E>(server: impl Future<Output = Result<(), E>>, shutdown: &CancellationToken) -> Result<(), E> {
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIME).await;
    };
    tokio::select! {
        outcome = server => outcome,
        () = deadline => {
            tracing::warn!("calls were still running at the end of the drain time");
            Ok(())
        }
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        // So that grpcurl can print the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

async fn watch_database(reporter: HealthReporter, billing: Billing, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => {
                report(&reporter, ServingStatus::NotServing).await;
                return;
            }
            () = tokio::time::sleep(HEALTH_INTERVAL) => report(&reporter, serving(&billing).await).await,
        }
    }
}

async fn serving(billing: &Billing) -> ServingStatus {
    match billing.store().ping().await {
        Ok(()) => ServingStatus::Serving,
        Err(error) => {
            tracing::warn!(%error, "the database does not answer");
            ServingStatus::NotServing
        }
    }
}

/// Sets the status of each service and of `""`, which stands for the server.
async fn report(reporter: &HealthReporter, status: ServingStatus) {
    reporter.set_service_status("", status).await;
    for name in SERVICE_NAMES {
        reporter.set_service_status(name, status).await;
    }
}
