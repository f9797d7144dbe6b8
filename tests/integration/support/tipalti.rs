//! The application with a fake Tipalti: a server that reaches it, and a listener for its webhooks.

use std::time::Duration;

use affiliate_billing::authentication::Access;
use affiliate_billing::billing::{Billing, PayoutOptions, Payouts};
use affiliate_billing::domain::sensitive::Sensitive;
use affiliate_billing::payout::tipalti::{KIND, TipaltiSettings};
use affiliate_billing::payout::{ProviderSettings, Providers};
use affiliate_billing::proto;
use affiliate_billing::proto::tipalti_service_client::TipaltiServiceClient;
use affiliate_billing::webhook::{self, WebhookSource};
use affiliate_billing::{refresh, server};
use fake_tipalti::FakeTipalti;
use fake_tipalti::state::Options;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::app::App;
use super::fixtures::{entry, request_id};
use super::rows::drained;

/// The secret that the fake signs with.
pub(crate) const SECRET: &str = "whsec_test_tipalti";
/// Longer than the fake takes for an answer on a busy machine, and short enough to wait for.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// More than the service waits for an answer.
pub(crate) const LONGER_MS: u64 = 5000;

/// A fake Tipalti and a replica of the application that reaches it.
pub(crate) struct World {
    pub(crate) app: App,
    pub(crate) fake: FakeTipalti,
    pub(crate) replica: Replica,
    /// Where the fake sends its events.
    pub(crate) webhook: String,
}

/// One server that reaches a Tipalti.
pub(crate) struct Replica {
    pub(crate) billing: Billing,
    pub(crate) channel: Channel,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// What is as in tests: impatient.
pub(crate) fn settings(url: &str) -> TipaltiSettings {
    let secret = |text: &str| Sensitive::new(text);
    let mut settings = TipaltiSettings::new(
        url,
        secret("fake-client"),
        secret("fake-secret"),
        secret("fake-refresh"),
    );
    settings.request_timeout = REQUEST_TIMEOUT;
    settings.retry_pause = Duration::from_millis(5);
    settings.max_retry_pause = Duration::from_millis(50);
    settings.max_retries = 2;
    settings.doubt_period = Duration::ZERO;
    settings
}

pub(crate) fn options() -> PayoutOptions {
    PayoutOptions {
        sync_interval: Duration::from_millis(200),
        // Longer than any test: none waits for a claim to end.
        claim_time: Duration::from_secs(600),
        ..PayoutOptions::default()
    }
}

impl World {
    /// A fake, and a replica that does nothing by itself.
    pub(crate) async fn new(app: &App) -> Self {
        Self::with(app, |_| {}).await
    }

    pub(crate) async fn with(app: &App, change: impl FnOnce(&mut TipaltiSettings)) -> Self {
        let fake = FakeTipalti::start(Options::default()).await.unwrap();
        let mut settings = settings(&fake.url());
        change(&mut settings);
        let replica = Replica::start(app, settings, options()).await;
        let webhook = replica.webhook_url().await;
        fake.configure(|options| options.webhook_url = Some(webhook.1.clone()));
        let mut replica = replica;
        replica.tasks.push(webhook.0);
        Self {
            app: app.clone(),
            fake,
            replica,
            webhook: webhook.1,
        }
    }

    /// Another replica on the same database and fake.
    pub(crate) async fn another(&self) -> Replica {
        Replica::start(&self.app, settings(&self.fake.url()), options()).await
    }

    /// Settles 10 EUR of each of these new accounts, which Tipalti pays; their rows in their order.
    pub(crate) async fn settled(&self, account_ids: &[&str]) -> Vec<proto::AccountSettlement> {
        for account_id in account_ids {
            self.app.tipalti_account(account_id).await;
        }
        self.app.settled_again(account_ids).await
    }

    /// Settles one row, submits it, and gives it as it is then.
    pub(crate) async fn submitted_row(&self, account_id: &str) -> proto::AccountSettlement {
        let row = self.settled(&[account_id]).await.remove(0);
        self.replica.submit(&row.settlement_id).await;
        self.app.row(&row.id).await
    }

    /// Stops the replica and the fake.
    pub(crate) async fn end(self) {
        self.replica.end().await;
        self.fake.stop();
    }
}

impl Replica {
    pub(crate) async fn start(app: &App, settings: TipaltiSettings, options: PayoutOptions) -> Self {
        let providers = Providers::connect(ProviderSettings {
            tipalti: Some(settings),
        });
        let payouts = Payouts {
            providers: providers.unwrap(),
            options,
        };
        let billing = Billing::new(app.billing.store().clone()).with_payouts(payouts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (serving, stopping) = (billing.clone(), stop.clone());
        let server = tokio::spawn(async move {
            server::run(listener, serving, Access::default(), stopping)
                .await
                .unwrap()
        });
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        Self {
            billing,
            channel,
            stop,
            tasks: vec![server],
        }
    }

    /// Starts the background refresh.
    pub(crate) fn refresh(&mut self) {
        let task = refresh::run(self.billing.clone(), self.stop.clone());
        self.tasks.push(tokio::spawn(task));
    }

    async fn webhook_url(&self) -> (JoinHandle<()>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{}", listener.local_addr().unwrap(), KIND.webhook.path);
        let sources = vec![WebhookSource {
            kind: &KIND,
            secrets: vec![Sensitive::new("other"), Sensitive::new(SECRET)],
        }];
        let task = webhook::run(listener, self.billing.clone(), sources, self.stop.clone());
        (tokio::spawn(task), url)
    }

    pub(crate) fn tipalti(&self) -> TipaltiServiceClient<Channel> {
        TipaltiServiceClient::new(self.channel.clone())
    }

    /// Submits, and takes all that is answered.
    pub(crate) async fn try_submit(
        &self,
        settlement_id: &str,
        request_id: &str,
    ) -> (Vec<proto::SubmittedPayout>, Option<Status>) {
        let request = proto::SubmitSettlementRequest {
            settlement_id: settlement_id.to_owned(),
            request_id: request_id.to_owned(),
        };
        let stream = self.tipalti().submit_settlement(request).await;
        let (chunks, end) = drained(stream.unwrap().into_inner()).await;
        (chunks.into_iter().flat_map(|chunk| chunk.payouts).collect(), end)
    }

    /// Submits a settlement that must be answered.
    pub(crate) async fn submit(&self, settlement_id: &str) -> Vec<proto::SubmittedPayout> {
        let (payouts, end) = self.try_submit(settlement_id, "").await;
        assert!(end.is_none(), "{end:?}");
        payouts
    }

    pub(crate) async fn try_sync(&self, settlement_id: &str) -> (Vec<proto::SyncedPayout>, Option<Status>) {
        let request = proto::SyncSettlementRequest {
            settlement_id: settlement_id.to_owned(),
        };
        let stream = self.tipalti().sync_settlement(request).await;
        let (chunks, end) = drained(stream.unwrap().into_inner()).await;
        (chunks.into_iter().flat_map(|chunk| chunk.payouts).collect(), end)
    }

    /// Asks for a settlement's rows, which must be answered.
    pub(crate) async fn sync(&self, settlement_id: &str) -> Vec<proto::SyncedPayout> {
        let (payouts, end) = self.try_sync(settlement_id).await;
        assert!(end.is_none(), "{end:?}");
        payouts
    }

    pub(crate) async fn events(&self, outcome: proto::TipaltiEventOutcome) -> Vec<proto::TipaltiEvent> {
        let request = proto::ListTipaltiEventsRequest {
            outcome: outcome.into(),
            page_size: 1000,
            ..Default::default()
        };
        let answer = self.tipalti().list_tipalti_events(request).await.unwrap();
        answer.into_inner().tipalti_events
    }

    pub(crate) async fn alarms(&self) -> Vec<proto::PayoutAlarm> {
        let request = proto::ListPayoutAlarmsRequest {
            page_size: 1000,
            ..Default::default()
        };
        let answer = self.tipalti().list_payout_alarms(request).await.unwrap();
        answer.into_inner().payout_alarms
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        drop(self.channel);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

impl App {
    /// Settles many rows that Tipalti pays in one settlement; its id.
    pub(crate) async fn tipalti_settlement(&self, prefix: &str, count: usize) -> String {
        let ids: Vec<String> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
        for id in &ids {
            self.tipalti_account(id).await;
        }
        for chunk in ids.chunks(1000) {
            let entries = chunk.iter().map(|id| entry(&request_id(), id, "10", "EUR")).collect();
            self.post(entries).await;
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.settle(&ids).await.settlement.unwrap().id
    }
}
