//! A settlement that Tipalti pays, the fake Tipalti, and the service in a process that is killed and started again.

use std::fmt::Debug;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use affiliate_billing::payout::tipalti::KIND;
use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::tipalti_service_client::TipaltiServiceClient;
use fake_tipalti::FakeTipalti;
use fake_tipalti::faults::{Endpoint, Fault, FaultKind, Moment};
use fake_tipalti::state::Options;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::app::{App, KEYS};
use crate::support::fixtures::request_id;
use crate::support::program::{Serving, run};
use crate::support::rows::{assert_refused, drained};
use crate::support::tables::Tables;
use crate::support::tipalti::SECRET;

/// The service waits so long for an answer. A row whose sending was cut off is looked up after four times that.
const REQUEST_TIMEOUT: &str = "750ms";
/// Rows of the settlement, and how many are sent at once by default: in three batches.
const ROWS: usize = 5;
const BATCH_LIMIT: &str = "2";
/// Far longer than anything takes.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// A request that is held so long is still held when the process is killed.
pub(crate) const HELD: FaultKind = FaultKind::Hang { milliseconds: 60_000 };

/// What the program says once an answer of Tipalti's to a question is there.
pub(crate) const ANSWER_READ: &str = "read from tipalti";

/// Looks again and again until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(POLL).await;
        }
    };
    let found = timeout(LIMIT, looking).await;
    found.unwrap_or_else(|_| panic!("not within {} s: {what}", LIMIT.as_secs()))
}

/// Everything that a scenario plays with.
pub(crate) struct Scene {
    /// Calls go to the process that runs.
    pub(crate) app: App,
    pub(crate) fake: FakeTipalti,
    pub(crate) settlement_id: String,
    /// The rows' ids, in the order in which they are sent.
    pub(crate) rows: Vec<String>,
    /// Of the submission; a caller repeats it.
    request_id: String,
    /// Whether others may have sent rows, which the caller with the request id then does not hear of.
    has_other_callers: bool,
    /// What is being played, told when it fails.
    moment: String,
    database_url: String,
    settings: Vec<(&'static str, String)>,
    serving: Option<Serving>,
    webhook_url: Option<String>,
    folder: tempfile::TempDir,
}

/// A call that goes on while it is killed: the rows that were answered, and what ended it.
pub(crate) type Submission = JoinHandle<(Vec<proto::SubmittedPayout>, Option<Status>)>;

/// A lock in the database, which keeps the service from writing until it is let go.
pub(crate) struct Lock {
    tables: Tables,
}

impl Scene {
    /// A settlement that is not sent yet, and a process that serves. `changes` are settings other than usual.
    pub(crate) async fn new(app: &App, changes: &[(&'static str, &str)]) -> Self {
        let fake = FakeTipalti::start(Options::default()).await.unwrap();
        // Each request fetches a token, so that one can be held between an intent and its request.
        fake.configure(|options| options.token_lifetime_seconds = 0);
        let folder = tempfile::tempdir().unwrap();
        let own_url = format!("sqlite://{}", folder.path().join("killed.db").display());
        let database_url = if app.is_postgres() {
            app.database_url.clone()
        } else {
            own_url
        };
        let mut scene = Self {
            app: app.clone(),
            settings: settings(&fake, &database_url, changes),
            fake,
            settlement_id: String::new(),
            rows: Vec::new(),
            request_id: request_id(),
            has_other_callers: false,
            moment: "before anything was killed".to_owned(),
            database_url,
            serving: None,
            webhook_url: None,
            folder,
        };
        scene.start().await;
        scene.settle().await;
        scene
    }

    async fn settle(&mut self) {
        self.settlement_id = self.app.tipalti_settlement("aff", ROWS).await;
        let rows = self.app.rows_of(&self.settlement_id).await;
        self.rows = rows.into_iter().map(|row| row.id).collect();
        self.rows.sort_unstable();
        // So that the requests which follow are those of payments alone.
        let tables = Tables::open(&self.database_url).await;
        until("the payees were asked for", async || {
            let payable = "SELECT CAST(count(*) AS text) FROM payees WHERE payable";
            (tables.texts(payable).await == [ROWS.to_string()]).then_some(())
        })
        .await;
        tables.close().await;
    }

    /// Tells what is being played, for the case that it fails.
    pub(crate) fn moment(&mut self, moment: impl Into<String>) {
        self.moment = moment.into();
    }

    /// Starts the service on what is in the database.
    pub(crate) async fn start(&mut self) {
        let settings: Vec<(&str, &str)> = self
            .settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let serving = Serving::start_with_log(self.folder.path(), &settings, &self.log_file());
        self.app = self.app.through(serving.channel().await);
        let webhook = serving.webhook_address().unwrap();
        self.webhook_url = Some(format!("http://{webhook}{}", KIND.webhook.path));
        self.serving = Some(serving);
    }

    /// Kills it. What it left must be sound.
    pub(crate) fn kill(&mut self) {
        self.serving.take().unwrap().end("-KILL");
        self.verify();
    }

    /// Kills it, and starts it again.
    pub(crate) async fn kill_and_start(&mut self) {
        self.kill();
        self.start().await;
    }

    /// Lets the fake send its events to the process that runs.
    pub(crate) fn listen_for_events(&self) {
        let url = self.webhook_url.clone();
        self.fake.configure(|options| options.webhook_url = url);
    }

    /// Runs the command that checks the ledger.
    fn verify(&self) {
        let settings = [("BILLING_DATABASE_URL", self.database_url.as_str())];
        let output = run("verify", self.folder.path(), &settings);
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}{error}");
    }

    /// Submits the settlement with its request id, as a caller who repeats it does until the answer is there.
    pub(crate) fn submit(&self) -> Submission {
        self.submit_as(&self.request_id)
    }

    /// Submits it as another caller does, who knows nothing of the first one.
    pub(crate) fn submit_anew(&mut self) -> Submission {
        self.has_other_callers = true;
        self.submit_as("")
    }

    fn submit_as(&self, request_id: &str) -> Submission {
        let request = proto::SubmitSettlementRequest {
            settlement_id: self.settlement_id.clone(),
            request_id: request_id.to_owned(),
        };
        let mut client = self.tipalti();
        tokio::spawn(async move {
            match client.submit_settlement(request).await {
                Ok(stream) => {
                    let (chunks, end) = drained(stream.into_inner()).await;
                    (chunks.into_iter().flat_map(|chunk| chunk.payouts).collect(), end)
                }
                Err(status) => (Vec::new(), Some(status)),
            }
        })
    }

    pub(crate) fn tipalti(&self) -> TipaltiServiceClient<Channel> {
        TipaltiServiceClient::new(self.app.channel.clone())
    }

    /// Holds a request to an endpoint after so many others.
    pub(crate) fn hold(&self, endpoint: Endpoint, moment: Moment, skip: u32) {
        self.fake.add_fault(Fault {
            skip,
            ..Fault::once(endpoint, moment, HELD)
        });
    }

    /// Waits until a fault struck: a request is held.
    pub(crate) async fn struck(&self, what: &str) {
        until(what, async || {
            self.fake.state()["faults"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
    }

    /// Waits until the program's log says something more than so many times.
    pub(crate) async fn logged(&self, text: &str, times_before: usize) {
        until(text, async || (self.count_logged(text) > times_before).then_some(())).await;
    }

    pub(crate) fn count_logged(&self, text: &str) -> usize {
        fs::read_to_string(self.log_file()).unwrap().matches(text).count()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }

    pub(crate) async fn tables(&self) -> Tables {
        Tables::open(&self.database_url).await
    }

    /// Keeps every row from being written: on PostgreSQL these rows, on SQLite all.
    pub(crate) async fn lock_rows(&self) -> Lock {
        self.lock("SELECT 1 FROM account_settlements FOR UPDATE").await
    }

    /// Keeps events from being kept.
    pub(crate) async fn lock_events(&self) -> Lock {
        self.lock("LOCK TABLE provider_events IN EXCLUSIVE MODE").await
    }

    async fn lock(&self, on_postgres: &str) -> Lock {
        let tables = self.tables().await;
        if self.app.is_postgres() {
            tables.execute("BEGIN").await;
            tables.execute(on_postgres).await;
        } else {
            tables.execute("BEGIN IMMEDIATE").await;
        }
        Lock { tables }
    }

    /// What is known of the payouts that there are, by the rows' order: the state that is stored.
    pub(crate) async fn states(&self) -> Vec<String> {
        let tables = self.tables().await;
        let states = tables
            .texts("SELECT state FROM payouts ORDER BY account_settlement_id")
            .await;
        tables.close().await;
        states
    }

    pub(crate) fn attempts(&self) -> Vec<u32> {
        self.rows.iter().map(|id| self.fake.attempts(id)).collect()
    }

    /// The rows that may have been sent can't be deleted, nor can their settlement.
    pub(crate) async fn assert_kept(&self) {
        let mut is_any_kept = false;
        for id in &self.rows {
            let is_sent = self.fake.attempts(id) > 0;
            if is_sent || self.app.row(id).await.status() != RowStatus::New {
                assert_not_deletable(self.app.delete_row(id).await);
                is_any_kept = true;
            }
        }
        if is_any_kept {
            assert_not_deletable(self.app.delete_settlement(&self.settlement_id).await);
        }
    }

    /// What is under way is not sent by anybody who submits the settlement once more.
    pub(crate) async fn assert_submitting_sends_nothing(&self) {
        let (answered, end) = self.submit_as("").await.unwrap();
        assert!(end.is_none(), "{end:?}");
        assert_eq!(answered, []);
    }

    /// Waits until the provider has so many of the rows, the first ones, while nobody can delete one that it may have.
    pub(crate) async fn has(&self, count: usize) {
        until("the provider has the rows", async || {
            self.assert_kept().await;
            self.assert_never_sent_twice();
            let (first, others) = self.rows.split_at(count);
            assert!(others.iter().all(|id| self.fake.accepted(id) == 0));
            first.iter().all(|id| self.fake.accepted(id) == 1).then_some(())
        })
        .await;
    }

    /// The rest, as a caller plays it who repeats what was cut off: everything is paid but the first row, which the provider
    /// rejects. The service follows by itself.
    pub(crate) async fn finish(mut self) {
        let (payouts, end) = self.submit().await.unwrap();
        assert!(end.is_none(), "{end:?}");
        self.assert_answered(&payouts);
        self.has(ROWS).await;
        let (rejected, paid) = (self.rows[0].clone(), self.rows[1..].to_vec());
        for status in ["PAID", "CLEARED"] {
            self.said(&paid, status, RowStatus::Paid).await;
        }
        self.said(std::slice::from_ref(&rejected), "REJECTED", RowStatus::Error)
            .await;
        self.end(&rejected).await;
    }

    /// Lets the fake give rows a status, and waits until the service says so.
    async fn said(&self, ids: &[String], raw_status: &str, status: RowStatus) {
        for id in ids {
            assert!(self.fake.set_status(id, raw_status, "", ""));
        }
        for id in ids {
            until("a row has the provider's status", async || {
                self.assert_never_sent_twice();
                let row = self.app.row(id).await;
                let provider = row.provider.clone().unwrap();
                let is_said = (row.status(), provider.raw_status.as_str()) == (status, raw_status);
                is_said.then_some(())
            })
            .await;
        }
    }

    async fn end(&mut self, rejected: &str) {
        self.assert_sent_once();
        let (payouts, end) = self.submit().await.unwrap();
        assert!(end.is_none(), "{end:?}");
        self.assert_answered(&payouts);
        self.assert_sent_once();
        assert_eq!(
            self.states().await,
            ["DONE"; ROWS],
            "the provider's last word is known as such"
        );
        for id in &self.rows {
            self.assert_history(id).await;
            if id != rejected {
                assert_not_deletable(self.app.delete_row(id).await);
            }
        }
        let row = self.app.delete_row(rejected).await.unwrap();
        assert_eq!(self.app.shown_open(&row.account_id).await, ["10.00 EUR"]);
        let alarms = self
            .tipalti()
            .list_payout_alarms(proto::ListPayoutAlarmsRequest::default())
            .await;
        assert_eq!(alarms.unwrap().into_inner().payout_alarms, []);
        self.verify();
        assert_eq!(self.serving.take().unwrap().end("-TERM").code(), Some(0));
        self.verify();
        self.fake.stop();
    }

    /// The provider would refuse a second payment, but it must not even be asked for one.
    fn assert_never_sent_twice(&self) {
        let attempts = self.attempts();
        assert!(attempts.iter().all(|count| *count <= 1), "sent {attempts:?} times");
    }

    fn assert_sent_once(&self) {
        assert_eq!(self.attempts(), [1; ROWS]);
        assert!(self.rows.iter().all(|id| self.fake.accepted(id) == 1));
        assert_eq!(self.fake.state()["acceptedTwice"], serde_json::json!([]));
    }

    /// Each row is answered once, in order.
    fn assert_answered(&self, payouts: &[proto::SubmittedPayout]) {
        let answered: Vec<String> = payouts.iter().map(|payout| payout.id.clone()).collect();
        if self.has_other_callers {
            assert!(answered.is_sorted_by(|one, next| one < next), "{answered:?}");
        } else {
            assert_eq!(answered, self.rows);
        }
    }

    /// It was sent once, and every other status was the provider's.
    async fn assert_history(&self, id: &str) {
        let history = self.app.history(id).await;
        let told: Vec<(RowStatus, &str, &str)> = history
            .iter()
            .map(|change| (change.to_status(), change.actor.as_str(), change.reason.as_str()))
            .collect();
        let is_rejected = *id == self.rows[0];
        let last = if is_rejected {
            (RowStatus::Error, "tipalti", "REJECTED")
        } else {
            (RowStatus::Paid, "tipalti", "PAID")
        };
        let sent = (RowStatus::InProgress, "unauthenticated", "sent to tipalti");
        assert_eq!(told[1..], [sent, last]);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let state = self.fake.state();
            // There is nobody to tell when this fails.
            let _ = writeln!(
                io::stderr(),
                "the moment: {}\nthe fake: {state:#}\nthe log:\n{log}",
                self.moment
            );
        }
    }
}

impl Lock {
    pub(crate) async fn release(self) {
        self.tables.close().await;
    }
}

fn settings(fake: &FakeTipalti, database_url: &str, changes: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let base_url = fake.url();
    let usual = [
        ("BILLING_DATABASE_URL", database_url),
        ("BILLING_ENCRYPTION_KEYS", KEYS),
        ("BILLING_LOG", "info,affiliate_billing::payout=debug"),
        ("BILLING_TIPALTI_BASE_URL", base_url.as_str()),
        ("BILLING_TIPALTI_BATCH_LIMIT", BATCH_LIMIT),
        ("BILLING_TIPALTI_CLIENT_ID", "fake-client"),
        ("BILLING_TIPALTI_CLIENT_SECRET", "fake-secret"),
        ("BILLING_TIPALTI_DOUBT_PERIOD", "3s"),
        ("BILLING_TIPALTI_MAX_RETRIES", "0"),
        ("BILLING_TIPALTI_REFRESH_TOKEN", "fake-refresh"),
        ("BILLING_TIPALTI_REQUEST_TIMEOUT", REQUEST_TIMEOUT),
        ("BILLING_TIPALTI_SYNC_INTERVAL", "200ms"),
        ("BILLING_TIPALTI_WEBHOOK_SECRETS", SECRET),
        ("BILLING_WEBHOOK_LISTEN", "127.0.0.1:0"),
    ];
    let mut settings: Vec<(&'static str, String)> = Vec::new();
    for (name, value) in usual {
        let change = changes.iter().find(|(changed, _)| *changed == name);
        settings.push((name, change.map_or(value, |(_, value)| value).to_owned()));
    }
    settings
}

fn assert_not_deletable<T: Debug>(outcome: Result<T, Status>) {
    assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_NOT_DELETABLE");
}
