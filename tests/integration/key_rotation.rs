//! The life of the encryption keys: read again while the service runs, everything sealed anew under load, killed in between, and
//! the old key dropped.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use affiliate_billing::proto;
use affiliate_billing::proto::View;
use affiliate_billing::proto::billing_details::Party;
use fake_tipalti::webhooks::Delivery;
use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::support::app::{App, KEYS};
use crate::support::database::TestDatabase;
use crate::support::fixtures::{bank_method, billing_details, entry, request_id, settle_accounts, tipalti_method};
use crate::support::guard::until;
use crate::support::harness::scenarios;
use crate::support::program::{Serving, program, run};
use crate::support::rows::{assert_refused, drained};
use crate::support::tables::Tables;
use crate::support::tipalti::World;

scenarios![
    everything_is_sealed_anew_and_the_old_key_can_go,
    hashes_that_two_keys_made_are_known_without_them,
    keys_that_can_not_be_right_are_not_taken,
    what_does_not_open_is_told_and_left,
    keys_are_rotated_under_load_and_killed_in_between;
];

/// The key that the tests begin with has the name `test`.
const NEW_KEY: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TAKEN: &str = "the encryption keys are others";
const REFUSED: &str = "can't be used: what was there before still counts";

/// A database with the file of its keys, for processes.
struct Keys {
    folder: tempfile::TempDir,
    url: String,
    /// Removed with this.
    _database: TestDatabase,
}

impl Keys {
    fn new(url: String, database: TestDatabase, keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys_of = Self {
            folder,
            url,
            _database: database,
        };
        keys_of.write(keys);
        keys_of
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, keys: &str) {
        // As a careful operator does it: never half a file.
        fs::write(self.path("keys.new"), keys).unwrap();
        fs::rename(self.path("keys.new"), self.path("keys")).unwrap();
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BILLING_DATABASE_URL", self.url.clone()),
            ("BILLING_ENCRYPTION_KEYS_FILE", self.path("keys").display().to_string()),
        ]
    }

    /// A replica, with a log of its own.
    fn serve(&self, name: &str) -> Replica {
        let settings = self.settings();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let log = self.path(name);
        Replica {
            serving: Serving::start_with_log(self.folder.path(), &settings, &log),
            log,
        }
    }

    fn rotation(&self, arguments: &[&str]) -> std::process::Command {
        let settings = self.settings();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut command = program("rotate-keys", self.folder.path(), &settings);
        command.args(arguments);
        command
    }

    /// Rotates to the end; the exit code and what was said.
    fn rotate(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.rotation(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
        (output.status.code(), said)
    }

    /// How many values are sealed with which key, by table: of every table that has such a column, whatever this test knows.
    async fn sealed(&self) -> BTreeMap<String, Vec<String>> {
        let tables = Tables::open(&self.url).await;
        let names = if self.url.starts_with("postgres") {
            "SELECT CAST(table_name AS text) FROM information_schema.columns \
             WHERE column_name = 'sealed' AND table_schema = 'public' ORDER BY 1"
        } else {
            "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'sealed' \
             WHERE m.type = 'table' ORDER BY 1"
        };
        let mut sealed = BTreeMap::new();
        for table in tables.texts(names).await {
            let sql = format!(
                "SELECT key_id || ' ' || CAST(count(*) AS text) FROM {table} WHERE sealed IS NOT NULL GROUP BY key_id ORDER BY 1"
            );
            let counts = tables.texts(&sql).await;
            sealed.insert(table, counts);
        }
        tables.close().await;
        sealed
    }

    async fn assert_hash_keys_under(&self, key_id: &str) {
        assert_eq!(self.sealed().await["hash_keys"], [format!("{key_id} 2")]);
    }

    async fn assert_all_under(&self, key_id: &str) {
        let sealed = self.sealed().await;
        assert!(sealed.len() >= 5, "{sealed:?}");
        for (table, counts) in &sealed {
            assert!(
                counts.len() == 1 && counts[0].starts_with(&format!("{key_id} ")),
                "{table}: {sealed:?}"
            );
        }
    }
}

/// A process that serves.
struct Replica {
    serving: Serving,
    log: PathBuf,
}

impl Replica {
    fn count_logged(&self, text: &str) -> usize {
        fs::read_to_string(&self.log).unwrap().matches(text).count()
    }

    /// Waits until a text was logged so often.
    async fn logged(&self, text: &str, times: usize) {
        until(text, async || self.count_logged(text) >= times).await;
    }

    fn end(self) {
        let log = fs::read_to_string(&self.log).unwrap();
        assert!(
            !log.contains("AQEBAQEB") && !log.contains("AAECAwQF"),
            "a key is in the log"
        );
        assert_eq!(self.serving.end("-TERM").code(), Some(0), "{log}");
    }
}

fn old_and_new() -> String {
    format!("{KEYS}\n{NEW_KEY}\n")
}

fn new_and_old() -> String {
    format!("{NEW_KEY}\n{KEYS}\n")
}

/// What is read in full.
async fn read(app: &App) -> Vec<String> {
    let details = proto::ListBillingDetailsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let methods = proto::ListPaymentMethodsRequest {
        page_size: 1000,
        view: View::Full.into(),
        ..Default::default()
    };
    let rows = proto::ListAccountSettlementsRequest {
        page_size: 1000,
        view: View::Full.into(),
        ..Default::default()
    };
    let details = app
        .billing_details()
        .list_billing_details(details)
        .await
        .unwrap()
        .into_inner();
    let methods = app
        .payment_methods()
        .list_payment_methods(methods)
        .await
        .unwrap()
        .into_inner();
    let rows = app
        .settlements()
        .list_account_settlements(rows)
        .await
        .unwrap()
        .into_inner();
    let mut read: Vec<String> = details.billing_details.iter().map(whole).collect();
    read.extend(methods.payment_methods.iter().map(whole));
    read.extend(rows.account_settlements.iter().map(whole));
    read
}

/// Everything of a message; its `Debug` shows no details.
fn whole(message: &impl prost::Message) -> String {
    message
        .encode_to_vec()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn everything_is_sealed_anew_and_the_old_key_can_go(app: App) {
    let outer = app;
    let app = outer.stoppable().await;
    let world = World::new(&app).await;
    for account_id in ["aff-1", "aff-2"] {
        app.payable_account(account_id, &["EUR"]).await;
    }
    app.with_method(tipalti_method("aff-3", "EUR")).await;
    let news = json!({"payeeId": "payee-aff-3", "isPayable": true, "status": "X"});
    world
        .fake
        .send_event("payeeDetailsChanged", news, None, Delivery::default())
        .await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    let settle = settle_accounts(vec![("aff-1", None)]);
    let settled = app.settle_request(settle.clone()).await;
    let page = proto::ListPaymentMethodsRequest {
        page_size: 1,
        ..Default::default()
    };
    let first_page = app
        .payment_methods()
        .list_payment_methods(page.clone())
        .await
        .unwrap()
        .into_inner();
    let before = read(&app).await;
    let payees = "SELECT CAST(count(*) AS text) FROM payees";
    let url = app.database_url.clone();
    world.end().await;
    let database = app.stop().await;

    let keys = Keys::new(url, database, &new_and_old());
    let replica = keys.serve("one.log");
    let app = outer.through(replica.serving.channel().await);
    let (code, said) = keys.rotate(&["--check"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("payment_method_versions: 3 rows under test") && said.contains("sealed with test: keep it"),
        "{said}"
    );
    keys.assert_all_under("test").await;
    let (code, said) = keys.rotate(&[]);
    assert_eq!(code, Some(0), "{said}");
    for told in [
        "billing_details_versions: 2 of 2 rows",
        "payment_method_versions: 3 of 3 rows",
        "payment_method_changes: 3 of 3 rows",
        "hash_keys: 1 of 1 rows",
        "nothing is sealed with test any more: it may be dropped once every process writes with new",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let at = |table: &str| said.find(&format!("{table}: ")).unwrap();
    assert!(
        at("billing_details_versions") < at("payment_method_versions")
            && at("payment_method_versions") < at("request_ids")
    );
    keys.assert_all_under("new").await;
    for arguments in [&["--check"][..], &[]] {
        let (code, said) = keys.rotate(arguments);
        assert!(
            code == Some(0) && said.contains("nothing is sealed with test any more"),
            "{said}"
        );
    }
    assert_eq!(read(&app).await, before);

    keys.write(NEW_KEY);
    replica.logged(TAKEN, 1).await;
    for round in 0..2 {
        assert_eq!(read(&app).await, before, "round {round}");
        // What was hashed with the key that is gone is still known.
        assert_eq!(app.settle_request(settle.clone()).await, settled);
        let other = proto::SettleBalancesRequest {
            note: "other".to_owned(),
            ..settle.clone()
        };
        let outcome = app.balances().settle_balances(other).await;
        assert_refused(outcome, Code::FailedPrecondition, "REQUEST_ID_REUSED");
        let next = proto::ListPaymentMethodsRequest {
            page_token: first_page.next_page_token.clone(),
            ..page.clone()
        };
        app.payment_methods().list_payment_methods(next).await.unwrap();
        let tables = Tables::open(&keys.url).await;
        let count = tables.texts(payees).await;
        app.with_method(tipalti_method("aff-3", ["USD", "GBP"][round])).await;
        assert_eq!(tables.texts(payees).await, count, "the payee is the one that it was");
        let delete = "SELECT CAST(id AS text) FROM payment_methods WHERE currency_code <> 'EUR'";
        if keys.url.starts_with("postgres") {
            for id in tables.texts(delete).await {
                let request = proto::DeletePaymentMethodRequest {
                    id,
                    ..Default::default()
                };
                app.payment_methods().delete_payment_method(request).await.unwrap();
            }
        } else {
            let hex = "SELECT hex(id) FROM payment_methods WHERE currency_code <> 'EUR'";
            for id in tables.texts(hex).await {
                let request = proto::DeletePaymentMethodRequest {
                    id: uuid::Uuid::parse_str(&id).unwrap().to_string(),
                    ..Default::default()
                };
                app.payment_methods().delete_payment_method(request).await.unwrap();
            }
        }
        tables.close().await;
    }
    replica.end();
    let replica = keys.serve("two.log");
    let app = outer.through(replica.serving.channel().await);
    assert_eq!(read(&app).await, before, "and after a restart");
    assert_eq!(app.settle_request(settle).await, settled);
    replica.end();
}

/// As a version leaves it that hashed with the encryption keys, and was given a new one before this version came.
async fn hashes_that_two_keys_made_are_known_without_them(app: App) {
    let outer = app;
    let app = outer.stoppable().await;
    app.with_method(tipalti_method("aff-1", "EUR")).await;
    let old = settle_accounts(vec![("aff-1", None)]);
    let settled = app.settle_request(old.clone()).await;
    let url = app.database_url.clone();
    let database = app.stop().await;
    let keys = Keys::new(url, database, &new_and_old());
    let tables = Tables::open(&keys.url).await;
    tables.execute("DELETE FROM hash_keys").await;
    let replica = keys.serve("one.log");
    let app = outer.through(replica.serving.channel().await);
    let new = settle_accounts(vec![("aff-1", None)]);
    let settled_new = app.settle_request(new.clone()).await;
    let hash_keys = "SELECT id || CASE WHEN is_writing THEN ' writes' ELSE '' END FROM hash_keys ORDER BY id";
    assert_eq!(tables.texts(hash_keys).await, ["new writes", "test"]);
    // An older process beside it, whose first key is one that nothing was hashed with before.
    tables.execute("DELETE FROM hash_keys WHERE id = 'test'").await;
    assert_eq!(keys.rotate(&[]).0, Some(0));
    assert_eq!(tables.texts(hash_keys).await, ["new writes", "test"]);
    keys.assert_hash_keys_under("new").await;
    replica.end();
    keys.write(NEW_KEY);
    let replica = keys.serve("two.log");
    let app = outer.through(replica.serving.channel().await);
    assert_eq!(app.settle_request(old).await, settled);
    assert_eq!(app.settle_request(new).await, settled_new);
    app.with_method(tipalti_method("aff-1", "USD")).await;
    assert_eq!(
        tables.count("payees").await,
        1,
        "found by the hash of the key that is gone"
    );
    tables.close().await;
    replica.end();
}

async fn keys_that_can_not_be_right_are_not_taken(app: App) {
    let outer = app;
    let app = outer.stoppable().await;
    app.payable_account("aff-1", &["EUR"]).await;
    let url = app.database_url.clone();
    let database = app.stop().await;
    let keys = Keys::new(url, database, KEYS);
    let replica = keys.serve("one.log");
    let app = outer.through(replica.serving.channel().await);
    let before = read(&app).await;
    let mut refused = 0;
    for wrong in [
        "no keys",
        "",
        // Without the one that everything is sealed with.
        NEW_KEY,
        // With another one by its name.
        &NEW_KEY.replace("new:", "test:"),
        &format!("{},{}", NEW_KEY, NEW_KEY.replace("new:", "test:")),
    ] {
        keys.write(wrong);
        refused += 1;
        replica.logged(REFUSED, refused).await;
        assert_eq!(read(&app).await, before);
        app.payable_account(&format!("aff-of-{refused}"), &["EUR"]).await;
        let before_again = read(&app).await;
        assert!(before_again.len() > before.len());
        let tables = Tables::open(&keys.url).await;
        for table in ["billing_details", "payment_methods"] {
            tables
                .execute(&format!("DELETE FROM {table} WHERE account_id LIKE 'aff-of-%'"))
                .await;
        }
        tables.close().await;
    }
    fs::remove_file(keys.path("keys")).unwrap();
    refused += 1;
    replica.logged(REFUSED, refused).await;
    assert_eq!(read(&app).await, before);
    assert_eq!(replica.count_logged(TAKEN), 0);
    keys.write(&new_and_old());
    replica.logged(TAKEN, 1).await;
    app.with_billing_details("aff-new").await;
    let sealed = keys.sealed().await;
    assert!(
        sealed["billing_details_versions"].contains(&"new 1".to_owned()),
        "{sealed:?}"
    );
    // The old one too early, and then in time, without the file being touched again.
    keys.write(NEW_KEY);
    refused += 1;
    replica.logged(REFUSED, refused).await;
    let settings = format!("{}.both", keys.path("keys").display());
    fs::write(&settings, new_and_old()).unwrap();
    let mut rotation = keys.rotation(&[]);
    rotation.env("BILLING_ENCRYPTION_KEYS_FILE", &settings);
    let output = rotation.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    replica.logged(TAKEN, 2).await;
    assert_eq!(replica.count_logged(REFUSED), refused, "told once each");
    read(&app).await;
    replica.end();
}

async fn what_does_not_open_is_told_and_left(app: App) {
    let app = app.stoppable().await;
    for number in 0..3 {
        app.payable_account(&format!("aff-{number}"), &["EUR"]).await;
    }
    let url = app.database_url.clone();
    let database = app.stop().await;
    let keys = Keys::new(url, database, &new_and_old());
    let tables = Tables::open(&keys.url).await;
    let damage = "UPDATE billing_details_versions SET sealed = (SELECT o.sealed FROM billing_details_versions o \
        WHERE o.account_id = 'aff-2') WHERE account_id = 'aff-1'";
    tables.execute(damage).await;
    tables
        .execute("UPDATE payment_method_versions SET key_id = 'lost' WHERE account_id = 'aff-0'")
        .await;
    tables.close().await;
    let (code, said) = keys.rotate(&[]);
    assert_eq!(code, Some(1), "{said}");
    for told in [
        "1 rows are sealed with test: keep it",
        "does not open with its key, and was left as it is: billing_details_versions ",
        "1 rows are sealed with lost, which is not among the keys",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let sealed = keys.sealed().await;
    assert_eq!(sealed["billing_details_versions"], ["new 2", "test 1"]);
    assert_eq!(sealed["payment_method_versions"], ["lost 1", "new 2"]);
    assert_eq!(sealed["hash_keys"], ["new 1"]);
}

const ACCOUNTS: usize = 1500;
const KILLS: usize = 8;

async fn keys_are_rotated_under_load_and_killed_in_between(app: App) {
    let outer = app;
    let app = outer.stoppable().await;
    fill(&app).await;
    let url = app.database_url.clone();
    let database = app.stop().await;
    let keys = Keys::new(url, database, KEYS);
    // SQLite's file is one process's.
    let names: &[&str] = if outer.is_postgres() {
        &["one.log", "two.log"]
    } else {
        &["one.log"]
    };
    let replicas: Vec<Replica> = names.iter().map(|name| keys.serve(name)).collect();
    let load = Load::default();
    let mut callers = JoinSet::new();
    for (number, replica) in replicas.iter().cycle().take(4).enumerate() {
        let caller = Caller {
            app: outer.through(replica.serving.channel().await),
            load: load.clone(),
            account_id: format!("caller-{number}"),
        };
        callers.spawn(async move { caller.run().await });
    }
    let mut taken = 0;
    for text in [old_and_new(), new_and_old()] {
        load.goes_on().await;
        keys.write(&text);
        taken += 1;
        for replica in &replicas {
            replica.logged(TAKEN, taken).await;
        }
    }
    load.goes_on().await;

    let mut killed = 0;
    for number in 0..KILLS {
        let mut rotation = keys.rotation(&[]).stdout(std::process::Stdio::null()).spawn().unwrap();
        let milliseconds = 40 + u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        let signal = if number % 2 == 0 { "-KILL" } else { "-TERM" };
        let sent = std::process::Command::new("kill")
            .args([signal, &rotation.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let status = rotation.wait().unwrap();
        // Killed, or stopped after its batch; else it was faster.
        killed += usize::from(status.code() != Some(0));
    }
    assert!(killed > 0);

    let (code, said) = keys.rotate(&[]);
    assert!(
        code == Some(0) && said.contains("nothing is sealed with test any more"),
        "{said}"
    );
    load.goes_on().await;
    keys.assert_all_under("new").await;
    keys.write(NEW_KEY);
    for replica in &replicas {
        replica.logged(TAKEN, taken + 1).await;
    }
    load.goes_on().await;
    load.stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    keys.assert_all_under("new").await;
    for replica in &replicas {
        let served = outer.through(replica.serving.channel().await);
        assert_eq!(read_details(&served).await.len(), ACCOUNTS + 4);
        read(&served).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let verified = run("verify", folder.path(), &[("BILLING_DATABASE_URL", &keys.url)]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    for replica in replicas {
        replica.end();
    }
}

/// So many accounts with details and a method, each written with a request id.
async fn fill(app: &App) {
    let accounts: Vec<String> = (0..ACCOUNTS).map(|number| format!("aff-{number:04}")).collect();
    for accounts in accounts.chunks(500) {
        let details = proto::ImportBillingDetailsRequest {
            billing_details: accounts.iter().map(|account_id| billing_details(account_id)).collect(),
            ..Default::default()
        };
        let answers = app
            .billing_details()
            .import_billing_details(tokio_stream::iter([details]))
            .await;
        assert!(drained(answers.unwrap().into_inner()).await.1.is_none());
        let methods = proto::ImportPaymentMethodsRequest {
            payment_methods: accounts
                .iter()
                .map(|account_id| bank_method(account_id, "EUR"))
                .collect(),
            ..Default::default()
        };
        let answers = app
            .payment_methods()
            .import_payment_methods(tokio_stream::iter([methods]))
            .await;
        assert!(drained(answers.unwrap().into_inner()).await.1.is_none());
    }
    app.post(vec![entry("order-1", "aff-0001", "10", "EUR")]).await;
    app.settle_request(settle_accounts(vec![("aff-0001", None)])).await;
    // All tables have something.
    let world = World::new(app).await;
    let news = json!({"payeeId": "payee-1", "isPayable": true, "status": "X"});
    world
        .fake
        .send_event("payeeDetailsChanged", news, None, Delivery::default())
        .await;
    world.end().await;
}

async fn read_details(app: &App) -> Vec<proto::BillingDetails> {
    let mut request = proto::ListBillingDetailsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let mut details = Vec::new();
    loop {
        let page = app
            .billing_details()
            .list_billing_details(request.clone())
            .await
            .unwrap()
            .into_inner();
        details.extend(page.billing_details);
        if page.next_page_token.is_empty() {
            return details;
        }
        request.page_token = page.next_page_token;
    }
}

/// What callers did so far.
#[derive(Clone, Default)]
struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
}

impl Load {
    /// Waits until every caller has done some rounds more.
    async fn goes_on(&self) {
        let enough = self.rounds.load(Ordering::Relaxed) + 12;
        until("a round of calls", async || {
            self.rounds.load(Ordering::Relaxed) >= enough
        })
        .await;
    }
}

/// Calls one after the other, all of which must succeed.
struct Caller {
    app: App,
    load: Load,
    account_id: String,
}

impl Caller {
    async fn run(self) {
        let mut method = self.create().await.unwrap();
        let mut round = 0;
        while !self.load.stop.load(Ordering::Relaxed) {
            round += 1;
            self.round(round, &mut method)
                .await
                .unwrap_or_else(|status| panic!("{} in round {round}: {status:?}", self.account_id));
            self.load.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn create(&self) -> Result<proto::PaymentMethod, Status> {
        let request = proto::CreateBillingDetailsRequest {
            billing_details: Some(billing_details(&self.account_id)),
            request_id: request_id(),
        };
        self.app.billing_details().create_billing_details(request).await?;
        self.create_method("EUR").await
    }

    async fn create_method(&self, currency_code: &str) -> Result<proto::PaymentMethod, Status> {
        let request = proto::CreatePaymentMethodRequest {
            payment_method: Some(bank_method(&self.account_id, currency_code)),
            request_id: request_id(),
        };
        let answer = self
            .app
            .payment_methods()
            .create_payment_method(request.clone())
            .await?;
        // Answered again from what was kept, whatever key it is under by now.
        let again = self.app.payment_methods().create_payment_method(request).await?;
        assert_eq!(answer.get_ref(), again.get_ref());
        Ok(answer.into_inner().payment_method.unwrap())
    }

    async fn round(&self, round: u64, method: &mut proto::PaymentMethod) -> Result<(), Status> {
        let app = &self.app;
        let name = format!("Ada {round}");
        let mut details = billing_details(&self.account_id);
        if let Some(Party::Individual(individual)) = &mut details.party {
            individual.given_name.clone_from(&name);
        }
        let request = proto::UpdateBillingDetailsRequest {
            billing_details: Some(details),
            request_id: request_id(),
            ..Default::default()
        };
        app.billing_details().update_billing_details(request).await?;
        if let Some(proto::payment_method::Details::BankTransfer(transfer)) = &mut method.details {
            transfer.account_holder_name.clone_from(&name);
        }
        let request = proto::UpdatePaymentMethodRequest {
            payment_method: Some(proto::PaymentMethod {
                etag: String::new(),
                ..method.clone()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["bank_transfer.account_holder_name".to_owned()],
            }),
            request_id: request_id(),
        };
        app.payment_methods().update_payment_method(request).await?;
        let other = self.create_method("USD").await?;
        app.post(vec![entry(
            &format!("{}-{round}", self.account_id),
            &self.account_id,
            "10",
            "EUR",
        )])
        .await;
        let settle = settle_accounts(vec![(&self.account_id, None)]);
        let settled = app.balances().settle_balances(settle.clone()).await?.into_inner();
        assert_eq!(app.balances().settle_balances(settle).await?.into_inner(), settled);
        let rows = proto::ListAccountSettlementsRequest {
            settlement_id: settled.settlement.unwrap().id,
            view: View::Full.into(),
            ..Default::default()
        };
        let rows = app
            .settlements()
            .list_account_settlements(rows)
            .await?
            .into_inner()
            .account_settlements;
        let Some(Party::Individual(individual)) = rows[0].billing_details.clone().unwrap().party else {
            panic!("{rows:?}");
        };
        assert_eq!(individual.given_name, name);
        let list = proto::ListPaymentMethodsRequest {
            view: View::Full.into(),
            page_size: 200,
            ..Default::default()
        };
        app.payment_methods().list_payment_methods(list).await?;
        app.billing_details()
            .list_billing_details(proto::ListBillingDetailsRequest::default())
            .await?;
        let delete = proto::DeletePaymentMethodRequest {
            id: other.id,
            request_id: request_id(),
            ..Default::default()
        };
        app.payment_methods().delete_payment_method(delete).await?;
        Ok(())
    }
}
