//! What the server says of itself: health, reflection, and how it ends.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use affiliate_billing::proto;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::app::App;
use crate::support::fixtures::entry;
use crate::support::harness::scenarios;
use crate::support::tables::Tables;
use crate::support::wire::{assert_refused, rpcs};

scenarios![
    every_service_is_healthy,
    reflection_lists_the_services_and_serves_files_with_comments,
    open_streams_are_told_of_a_shutdown_and_the_server_ends;
    postgres_only: a_database_that_goes_away_shows_in_health_and_answers;
];

/// Far more than a change of health takes: so that one that never comes fails.
const HEALTH_LIMIT: Duration = Duration::from_secs(60);
/// What is open is told to end, so the drain time need not be waited for.
const STOP_LIMIT: Duration = Duration::from_secs(5);

fn services() -> BTreeSet<String> {
    let names = rpcs().into_iter().map(|rpc| rpc.name);
    names
        .map(|name| format!("affiliate.billing.v1.{}", name.split('/').next().unwrap()))
        .collect()
}

async fn every_service_is_healthy(app: App) {
    let mut health = HealthClient::new(app.channel.clone());
    let mut names = services();
    assert_eq!(names.len(), 5);
    names.insert(String::new());
    for service in names {
        let answer = health
            .check(HealthCheckRequest {
                service: service.clone(),
            })
            .await
            .unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = HealthCheckRequest {
        service: "nothing".to_owned(),
    };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

/// Asks one version of reflection, as v1 and v1alpha are the same messages in two packages.
macro_rules! reflection {
    ($version:ident) => {
        mod $version {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            use crate::support::app::App;

            async fn ask(app: &App, request: MessageRequest) -> MessageResponse {
                let mut client = ServerReflectionClient::new(app.channel.clone());
                let request = ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(request),
                };
                let answers = client.server_reflection_info(tokio_stream::once(request)).await;
                let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
                answer.message_response.unwrap()
            }

            pub(super) async fn services(app: &App) -> Vec<String> {
                match ask(app, MessageRequest::ListServices(String::new())).await {
                    MessageResponse::ListServicesResponse(list) => {
                        list.service.into_iter().map(|service| service.name).collect()
                    }
                    other => panic!("{other:?}"),
                }
            }

            async fn file(app: &App, request: MessageRequest) -> Vec<u8> {
                match ask(app, request).await {
                    MessageResponse::FileDescriptorResponse(mut files) => files.file_descriptor_proto.remove(0),
                    other => panic!("{other:?}"),
                }
            }

            pub(super) async fn file_of_symbol(app: &App, symbol: &str) -> Vec<u8> {
                file(app, MessageRequest::FileContainingSymbol(symbol.to_owned())).await
            }

            pub(super) async fn file_by_name(app: &App, name: &str) -> Vec<u8> {
                file(app, MessageRequest::FileByFilename(name.to_owned())).await
            }
        }
    };
}

reflection!(v1);
reflection!(v1alpha);

async fn reflection_lists_the_services_and_serves_files_with_comments(app: App) {
    for listed in [v1::services(&app).await, v1alpha::services(&app).await] {
        for service in services() {
            assert!(listed.contains(&service), "{service} is not in {listed:?}");
        }
        assert!(listed.contains(&"grpc.health.v1.Health".to_owned()), "{listed:?}");
    }
    let mut symbols: Vec<String> = services().into_iter().collect();
    symbols.extend(["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"].map(str::to_owned));
    symbols.extend(["affiliate.billing.v1.Money", "affiliate.billing.v1.ErrorReason"].map(str::to_owned));
    symbols.push("affiliate.billing.v1.SettlementsService.GetSettlement".to_owned());
    for symbol in symbols {
        let by_v1 = v1::file_of_symbol(&app, &symbol).await;
        let by_v1alpha = v1alpha::file_of_symbol(&app, &symbol).await;
        let file = FileDescriptorProto::decode(by_v1.as_slice()).unwrap();
        assert_eq!(file, FileDescriptorProto::decode(by_v1alpha.as_slice()).unwrap());
        if symbol.starts_with("affiliate.") {
            assert!(comments(&file) >= 3, "{} has no comments", file.name());
        }
        assert_dependencies_are_served(&app, file).await;
    }
}

fn comments(file: &FileDescriptorProto) -> usize {
    let info = file.source_code_info.as_ref().unwrap();
    let comments = info
        .location
        .iter()
        .filter(|location| location.leading_comments.is_some());
    comments.count()
}

/// A client needs all that a file imports, and what that imports.
async fn assert_dependencies_are_served(app: &App, file: FileDescriptorProto) {
    let mut wanted: VecDeque<String> = file.dependency.into();
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop_front() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let by_v1 = v1::file_by_name(app, &name).await;
        assert!(by_v1 == v1alpha::file_by_name(app, &name).await);
        let served = FileDescriptorProto::decode(by_v1.as_slice()).unwrap();
        assert_eq!(served.name(), name);
        wanted.extend(served.dependency);
    }
}

async fn a_database_that_goes_away_shows_in_health_and_answers(app: App) {
    let mut health = HealthClient::new(app.channel.clone());
    let mut changes = Vec::new();
    for service in ["".to_owned(), services().into_iter().next().unwrap()] {
        let watch = health.watch(HealthCheckRequest { service }).await.unwrap();
        changes.push(watch.into_inner());
    }
    for watch in &mut changes {
        wait_for(watch, ServingStatus::Serving).await;
    }
    let (server, name) = app.database_url.rsplit_once('/').unwrap();
    let name = name.split('?').next().unwrap();
    let admin = Tables::open(&format!("{server}/postgres")).await;
    admin
        .execute(&format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS false"))
        .await;
    let terminate =
        format!("SELECT CAST(pg_terminate_backend(pid) AS text) FROM pg_stat_activity WHERE datname = '{name}'");
    admin.texts(&terminate).await;
    for watch in &mut changes {
        wait_for(watch, ServingStatus::NotServing).await;
    }
    let read = app
        .settlements()
        .list_settlements(proto::ListSettlementsRequest::default())
        .await;
    assert_refused(&read.unwrap_err(), Code::Unavailable, "DATABASE_UNAVAILABLE");
    let write = proto::PostEntriesRequest {
        entries: vec![entry("order-1", "aff-1", "1", "EUR")],
        ..Default::default()
    };
    let posted = app.balances().post_entries(write.clone()).await;
    assert_refused(&posted.unwrap_err(), Code::Unavailable, "DATABASE_UNAVAILABLE");

    admin
        .execute(&format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true"))
        .await;
    for watch in &mut changes {
        wait_for(watch, ServingStatus::Serving).await;
    }
    let posted = app.balances().post_entries(write).await.unwrap().into_inner();
    assert_eq!(posted.results[0].outcome(), proto::EntryOutcome::Posted);
    admin.close().await;
}

/// The stream says each change.
async fn wait_for(watch: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    let changed = timeout(HEALTH_LIMIT, async {
        while watch.message().await.unwrap().unwrap().status() != status {}
    });
    changed
        .await
        .unwrap_or_else(|_| panic!("health does not become {status:?}"));
}

async fn open_streams_are_told_of_a_shutdown_and_the_server_ends(app: App) {
    let app = app.stoppable().await;
    let (sender, receiver) = mpsc::unbounded_channel();
    let requests = UnboundedReceiverStream::new(receiver);
    let mut used = app.balances().stream_entries(requests).await.unwrap().into_inner();
    let chunk = proto::StreamEntriesRequest {
        chunk_id: "1".to_owned(),
        entries: vec![entry("order-1", "aff-1", "1", "EUR")],
    };
    sender.send(chunk).unwrap();
    assert_eq!(used.message().await.unwrap().unwrap().posted_count, 1);
    let (_idle_sender, receiver) = mpsc::unbounded_channel();
    let requests = UnboundedReceiverStream::new(receiver);
    let mut settlements = app.settlements();
    let idle = settlements.bulk_update_account_settlement_status(requests).await;
    let mut idle = idle.unwrap().into_inner();

    let began = Instant::now();
    let (database, used, idle) = tokio::join!(app.stop(), used.message(), idle.message());
    assert!(began.elapsed() < STOP_LIMIT, "{:?}", began.elapsed());
    assert_refused(&used.unwrap_err(), Code::Unavailable, "SHUTTING_DOWN");
    assert_refused(&idle.unwrap_err(), Code::Unavailable, "SHUTTING_DOWN");
    // What was answered is kept.
    let app = App::start(database).await;
    assert_eq!(app.open_balances(&["aff-1"]).await[0].entry_count, 1);
    app.finish().await;
}
