//! The application under test: the real server in this process, on a loopback port and a database of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use affiliate_billing::authentication::Access;
use affiliate_billing::billing::{Billing, ChangeControl};
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use affiliate_billing::server;
use affiliate_billing::store::keys::KeyRing;
use affiliate_billing::store::sealing::SealingKeys;
use affiliate_billing::store::{self, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::database::TestDatabase;

/// The keys of the applications under test.
pub(crate) const KEYS: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A running server with a channel to it.
#[derive(Clone)]
pub(crate) struct App {
    /// To make clients of; the methods below do.
    pub(crate) channel: Channel,
    /// Where the server listens, `http://127.0.0.1:port`.
    pub(crate) address: String,
    /// URL of its database.
    pub(crate) database_url: String,
    /// The service's work without gRPC, for what has no RPC: `verify`.
    pub(crate) billing: Billing,
    shutdown: CancellationToken,
    held: Arc<Mutex<Option<Held>>>,
}

/// What lives as long as the server.
struct Held {
    server: JoinHandle<()>,
    folder: Option<tempfile::TempDir>,
}

impl App {
    /// Starts a server on a migrated database.
    pub(crate) async fn start(database: TestDatabase) -> Self {
        let (database_url, folder) = match database {
            TestDatabase::Sqlite { folder, url } => (url, Some(folder)),
            TestDatabase::Postgres { url, .. } => (url, None),
        };
        let store = Store::open(options(&database_url)).await.unwrap();
        let billing = Billing::new(store);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let (serving, stopping) = (billing.clone(), shutdown.clone());
        let server = tokio::spawn(async move {
            server::run(listener, serving, Access::default(), stopping)
                .await
                .unwrap()
        });
        let channel = Endpoint::from_shared(address.clone()).unwrap().connect().await.unwrap();
        let held = Arc::new(Mutex::new(Some(Held { server, folder })));
        Self {
            channel,
            address,
            database_url,
            billing,
            shutdown,
            held,
        }
    }

    /// A second server on the same database: another replica. It stops with the first one.
    pub(crate) async fn replica(&self) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let billing = if self.is_postgres() {
            Billing::new(Store::open(options(&self.database_url)).await.unwrap())
        } else {
            self.billing.clone()
        };
        let stopping = self.shutdown.clone();
        tokio::spawn(async move {
            server::run(listener, billing, Access::default(), stopping)
                .await
                .unwrap()
        });
        Endpoint::from_shared(address).unwrap().connect().await.unwrap()
    }

    /// Calls that go to another server instead.
    pub(crate) fn through(&self, channel: Channel) -> Self {
        Self {
            channel,
            ..self.clone()
        }
    }

    /// A further server on the same work, which lets in whom `access` says. It stops with the first one.
    pub(crate) async fn guarded(&self, access: Access) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (billing, stopping) = (self.billing.clone(), self.shutdown.clone());
        tokio::spawn(async move { server::run(listener, billing, access, stopping).await.unwrap() });
        address
    }

    /// As [`App::guarded`], with change control.
    pub(crate) async fn guarded_with(&self, access: Access, change_control: ChangeControl) -> SocketAddr {
        let controlled = Self {
            billing: self.billing.clone().with_change_control(change_control),
            ..self.clone()
        };
        controlled.guarded(access).await
    }

    /// Calls that go to a further server on the same work, with change control. It stops with the first one.
    pub(crate) async fn controlled(&self, change_control: ChangeControl) -> Self {
        let address = self.guarded_with(Access::default(), change_control).await;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        self.through(endpoint.connect().await.unwrap())
    }

    /// Whether it runs on PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        self.database_url.starts_with("postgres")
    }

    /// Checks the invariants, as the `verify` command does.
    pub(crate) async fn verify(&self) {
        let report = self.billing.verify().await.unwrap();
        assert!(report.is_sound(), "an invariant is broken:\n{report}");
    }

    /// An application that the test may stop: on the same PostgreSQL database, or on a new SQLite file.
    pub(crate) async fn stoppable(&self) -> Self {
        let url = self.database_url.clone();
        let database = if self.is_postgres() {
            TestDatabase::Postgres {
                url,
                name: String::new(),
            }
        } else {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("billing.db").display());
            TestDatabase::Sqlite { folder, url }
        };
        Self::start(database).await
    }

    /// Stops the server, and gives its database for the next one.
    pub(crate) async fn stop(self) -> TestDatabase {
        let held = self.held.lock().unwrap().take().unwrap();
        self.shutdown.cancel();
        drop(self.channel);
        held.server.await.unwrap();
        self.billing.store().close().await.unwrap();
        let url = self.database_url;
        match held.folder {
            Some(folder) => TestDatabase::Sqlite { folder, url },
            None => TestDatabase::Postgres {
                url,
                name: String::new(),
            },
        }
    }

    /// Stops the server, and checks the invariants.
    pub(crate) async fn finish(self) {
        self.verify().await;
        let held = self.held.lock().unwrap().take();
        self.shutdown.cancel();
        drop(self.channel);
        if let Some(held) = held {
            held.server.await.unwrap();
            self.billing.store().close().await.unwrap();
        }
    }

    pub(crate) fn billing_details(&self) -> BillingDetailsServiceClient<Channel> {
        BillingDetailsServiceClient::new(self.channel.clone())
    }

    pub(crate) fn payment_methods(&self) -> PaymentMethodsServiceClient<Channel> {
        PaymentMethodsServiceClient::new(self.channel.clone())
    }

    pub(crate) fn balances(&self) -> BalancesServiceClient<Channel> {
        BalancesServiceClient::new(self.channel.clone())
    }

    pub(crate) fn settlements(&self) -> SettlementsServiceClient<Channel> {
        SettlementsServiceClient::new(self.channel.clone())
    }
}

/// Migrates an empty database.
pub(crate) async fn migrate(url: &str) -> Result<(), String> {
    store::migrate(&options(url))
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

fn options(url: &str) -> StoreOptions {
    StoreOptions {
        url: url.to_owned(),
        keys: KeyRing::fixed(SealingKeys::parse(KEYS).unwrap()),
        max_connections: 8,
        acquire_timeout: std::time::Duration::from_secs(60),
    }
}
