//! The program as its operator meets it: starting, refusing to start, stopping, migrating, verifying, being killed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use tonic::transport::Channel;

use crate::support::app::{App, KEYS};
use crate::support::fixtures::{clawback, entry};
use crate::support::harness::scenarios;
use crate::support::program::{Serving, failure, run};
use crate::support::tables::Tables;
use crate::support::tipalti::World;

scenarios![
    keys_that_do_not_open_the_data_are_refused,
    verify_counts_while_the_server_runs,
    verify_names_the_key_of_every_damage,
    acknowledged_entries_survive_a_kill;
    sqlite_only: verify_without_a_database_fails;
    postgres_only: a_database_that_is_not_migrated_is_refused,
        migrating_twice_at_once_applies_once,
        postgres_without_keys_is_refused;
    units: a_fresh_folder_is_served_until_a_signal,
        a_second_server_on_the_same_file_is_refused,
        a_database_without_its_key_file_is_refused,
        listening_for_others_needs_consent,
        all_wrong_settings_are_told_at_once;
];

const URL: &str = "BILLING_DATABASE_URL";
const KEYS_VARIABLE: &str = "BILLING_ENCRYPTION_KEYS";
const OTHER_KEYS: &str = "test:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn a_fresh_folder_is_served_until_a_signal() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let serving = Serving::start(folder.path(), &[]);
        let address = serving.address().to_owned();
        assert!(folder.path().join("data/billing.db").is_file());
        let keys = fs::metadata(folder.path().join("data/billing.db.keys")).unwrap();
        assert_eq!(keys.permissions().mode() & 0o777, 0o600);
        let said = serving.lines.join("\n");
        assert!(said.contains("made the key file data/billing.db.keys"), "{said}");
        assert!(said.contains("database sqlite://data/billing.db"), "{said}");
        let line = format!("try: grpcurl -plaintext {address} affiliate.billing.v1.");
        assert!(said.contains(&line), "{said}");
        answers(&serving);
        assert_eq!(serving.end(signal).code(), Some(0));

        let again = Serving::start(folder.path(), &[]);
        assert!(
            again.lines.contains(&"keys from data/billing.db.keys".to_owned()),
            "{:?}",
            again.lines
        );
        assert_eq!(again.end(signal).code(), Some(0));
    }
}

fn a_second_server_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Serving::start(folder.path(), &[]);
    for command in ["serve", "migrate"] {
        let said = failure(command, folder.path(), &[("BILLING_LISTEN", "127.0.0.1:0")]);
        assert!(
            said.contains("data/billing.db is in use by another affiliate-billing process"),
            "{said}"
        );
    }
    answers(&first);
    first.end("-KILL");
    // A lock that outlives its process would keep the next one out.
    let next = Serving::start(folder.path(), &[]);
    assert_eq!(next.end("-TERM").code(), Some(0));
}

fn a_database_without_its_key_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    Serving::start(folder.path(), &[]).end("-TERM");
    let keys = folder.path().join("data/billing.db.keys");
    let kept = fs::read(&keys).unwrap();
    fs::remove_file(&keys).unwrap();
    let said = failure("serve", folder.path(), &[("BILLING_LISTEN", "127.0.0.1:0")]);
    assert!(said.contains("can't read the key file data/billing.db.keys"), "{said}");
    assert!(!keys.exists(), "no other key was made");
    fs::write(&keys, kept).unwrap();
    assert_eq!(Serving::start(folder.path(), &[]).end("-TERM").code(), Some(0));
}

fn listening_for_others_needs_consent() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0"] {
        for insecure in ["", "0"] {
            let settings = [("BILLING_LISTEN", address), ("BILLING_INSECURE", insecure)];
            let said = failure("serve", folder.path(), &settings);
            assert!(said.contains("BILLING_INSECURE=1"), "{said}");
        }
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is made before it may start"
    );
    let settings = [("BILLING_LISTEN", "0.0.0.0:0"), ("BILLING_INSECURE", "1")];
    let serving = Serving::start(folder.path(), &settings);
    assert!(serving.address().starts_with("0.0.0.0:"));
    assert_eq!(serving.end("-TERM").code(), Some(0));
}

fn all_wrong_settings_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("BILLING_LISTEN", "localhost"),
        (URL, "mysql://user:zqpassword@host/database"),
        ("BILLING_DATABASE_CONNECTIONS", "0"),
        ("BILLING_INSECURE", "yes"),
        (KEYS_VARIABLE, "zqkey"),
    ];
    let said = failure("serve", folder.path(), &settings);
    for (variable, _) in settings {
        assert!(said.contains(variable), "{variable} is not in {said}");
    }
    assert!(!said.contains("zqpassword") && !said.contains("zqkey"), "{said}");
}

async fn keys_that_do_not_open_the_data_are_refused(app: App) {
    let app = app.stoppable().await;
    app.payable_account("aff-1", &["EUR"]).await;
    let url = app.database_url.clone();
    let database = app.stop().await;
    let folder = tempfile::tempdir().unwrap();
    for keys in [OTHER_KEYS, &OTHER_KEYS.replace("test:", "other:")] {
        let settings = [
            (URL, url.as_str()),
            (KEYS_VARIABLE, keys),
            ("BILLING_LISTEN", "127.0.0.1:0"),
        ];
        let said = failure("serve", folder.path(), &settings);
        assert!(said.contains("the encryption keys do not fit the database"), "{said}");
        assert!(!said.contains("AQEBAQEB"), "{said}");
    }
    // A new key before the old one is a rotation, and right.
    let both = format!("{},{KEYS}", OTHER_KEYS.replace("test:", "new:"));
    let serving = Serving::start(folder.path(), &[(URL, &url), (KEYS_VARIABLE, &both)]);
    assert_eq!(serving.end("-TERM").code(), Some(0));
    drop(database);
}

async fn verify_counts_while_the_server_runs(app: App) {
    scene(&app).await;
    let folder = tempfile::tempdir().unwrap();
    let output = run("verify", folder.path(), &[(URL, &app.database_url)]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(" checks hold\n") && !said.contains("BROKEN"), "{said}");
    let tables = Tables::open(&app.database_url).await;
    for table in [
        "entries",
        "accruals",
        "account_settlements",
        "status_changes",
        "settlements",
    ] {
        let count = tables.count(table).await;
        assert!(
            count > 1 && said.contains(&format!("({count} {table})")),
            "{count} {table}: {said}"
        );
    }
}

async fn verify_without_a_database_fails(_app: App) {
    let folder = tempfile::tempdir().unwrap();
    let said = failure("verify", folder.path(), &[]);
    assert!(said.contains("there is no file data/billing.db"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it makes nothing");
}

/// What was settled, by ids as `verify` writes them on either database.
struct Scene {
    settlement: String,
    live_row: String,
    deleted_row: String,
    sent_row: String,
}

/// Each rule that is broken, how, and a key that must be told.
fn damages(scene: &Scene) -> Vec<(&'static str, &'static str, &str)> {
    let live = scene.live_row.as_str();
    let conserved = "money is conserved";
    let accrual = "an accrual's amount and count";
    let counters = "a settlement's counters and totals";
    let last_change = "the last status change";
    let starts = "each status change starts";
    let pairs = "carried remainders";
    let clawbacks = "the clawbacks of an entry";
    vec![
        (
            conserved,
            "UPDATE accruals SET amount = amount + 1 WHERE account_id = 'aff-1' AND NOT debt",
            "aff-1 EUR",
        ),
        (
            conserved,
            "UPDATE entries SET amount = amount + 1 WHERE external_id = 'order-1'",
            "aff-1 EUR",
        ),
        (
            conserved,
            "DELETE FROM entries WHERE external_id = 'order-5'",
            "aff-2 EUR",
        ),
        (accrual, "UPDATE accruals SET entry_count = entry_count + 1", ""),
        (
            accrual,
            "UPDATE entries SET currency_code = 'USD' WHERE external_id = 'order-1'",
            "",
        ),
        (
            "an accrual becomes available",
            "UPDATE accruals SET available_day = available_day - 1 WHERE account_id = 'aff-1' AND NOT debt",
            "",
        ),
        (
            "every change of a row",
            "UPDATE account_settlements SET revision = revision + 1 WHERE delete_time IS NULL",
            live,
        ),
        (
            "every entry belongs",
            "UPDATE entries SET accrual_id = id WHERE external_id = 'order-1'",
            "",
        ),
        (
            "a claimed accrual",
            "UPDATE accruals SET account_settlement_id = (SELECT id FROM account_settlements WHERE delete_time IS NOT NULL) \
             WHERE account_settlement_id IS NOT NULL",
            "",
        ),
        (
            "a claimed accrual",
            "UPDATE accruals SET account_settlement_id = id WHERE account_settlement_id IS NOT NULL",
            "",
        ),
        (
            "a live account settlement's amount",
            "UPDATE account_settlements SET amount = amount + 10000",
            live,
        ),
        (
            "a live account settlement's amount",
            "UPDATE accruals SET account_settlement_id = NULL WHERE account_settlement_id IS NOT NULL",
            live,
        ),
        (
            "an account settlement's amount has",
            "UPDATE account_settlements SET amount = amount + 1",
            live,
        ),
        (
            "a deleted account settlement holds",
            "DELETE FROM released_accruals",
            &scene.deleted_row,
        ),
        (
            "a deleted account settlement holds",
            "UPDATE account_settlements SET delete_time = NULL",
            &scene.deleted_row,
        ),
        (
            "what a deleted account settlement held",
            "UPDATE released_accruals SET entry_count = entry_count + 1",
            "",
        ),
        (
            counters,
            "UPDATE settlement_counters SET new_count = new_count + 1",
            &scene.settlement,
        ),
        (
            counters,
            "UPDATE settlement_counters SET amount_micros = amount_micros - 1",
            &scene.settlement,
        ),
        (counters, "DELETE FROM settlement_counters", &scene.settlement),
        (
            "a settlement's skipped count",
            "DELETE FROM skipped_accounts",
            &scene.settlement,
        ),
        (
            "a deleted settlement",
            "UPDATE settlements SET delete_time = 1",
            &scene.settlement,
        ),
        (
            last_change,
            "UPDATE account_settlements SET status = 'IN_PROGRESS' WHERE status = 'NEW'",
            "",
        ),
        (last_change, "DELETE FROM status_changes", live),
        (
            starts,
            "UPDATE status_changes SET from_status = 'PAID' WHERE revision = 2",
            live,
        ),
        (
            starts,
            "UPDATE status_changes SET to_status = 'PAID' WHERE revision = 1",
            live,
        ),
        (starts, "DELETE FROM status_changes WHERE revision = 1", live),
        (
            "rows of a provider",
            "UPDATE account_settlements SET provider = 'tipalti' WHERE id IN ( \
             SELECT account_settlement_id FROM status_changes WHERE revision > 1)",
            live,
        ),
        ("a row of a provider leaves NEW", "DELETE FROM payouts", &scene.sent_row),
        (
            "a row of a provider leaves NEW",
            "UPDATE account_settlements SET status = 'NEW' WHERE account_id = 'aff-5'",
            &scene.sent_row,
        ),
        (
            "a row of a provider is paid",
            "UPDATE account_settlements SET status = 'PAID', provider_raw_status = NULL WHERE account_id = 'aff-5'",
            &scene.sent_row,
        ),
        ("a payout is done", "UPDATE payouts SET state = 'DONE'", &scene.sent_row),
        (
            "money that may have been sent",
            "UPDATE account_settlements SET delete_time = 1 WHERE account_id = 'aff-5'",
            &scene.sent_row,
        ),
        (
            "the rows of a settlement that awaits approval",
            "UPDATE settlements SET approval_required = TRUE",
            live,
        ),
        (
            "a settlement's counters let",
            "UPDATE settlements SET approval_required = TRUE",
            &scene.settlement,
        ),
        (
            "a settlement's counters let",
            "UPDATE settlement_counters SET new_count = 0, in_progress_count = 0, paid_count = 0, error_count = 0, approved = FALSE",
            &scene.settlement,
        ),
        (
            pairs,
            "DELETE FROM entries WHERE kind = 'CARRY_FORWARD' AND amount > 0",
            "",
        ),
        (
            pairs,
            "UPDATE entries SET amount = amount + 1 WHERE kind = 'CARRY_FORWARD' AND amount > 0",
            "",
        ),
        (
            clawbacks,
            "UPDATE entries SET amount = amount - 1000000000 WHERE kind = 'CLAWBACK'",
            "",
        ),
        (
            clawbacks,
            "UPDATE entries SET account_id = 'aff-2' WHERE kind = 'CLAWBACK'",
            "",
        ),
        (
            "every clawback names",
            "UPDATE entries SET reverses_entry_id = accrual_id WHERE kind = 'CLAWBACK'",
            "",
        ),
    ]
}

const LEDGER: [&str; 9] = [
    "accruals",
    "entries",
    "settlements",
    "account_settlements",
    "settlement_counters",
    "status_changes",
    "payouts",
    "released_accruals",
    "skipped_accounts",
];

async fn verify_names_the_key_of_every_damage(app: App) {
    let scene = scene(&app).await;
    let tables = Tables::open(&app.database_url).await;
    tables.execute(tables.without_foreign_keys()).await;
    for table in LEDGER {
        tables
            .execute(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"))
            .await;
    }
    let mut hit = BTreeSet::new();
    for (rule, damage, key) in damages(&scene) {
        tables.execute(damage).await;
        let report = app.billing.verify().await.unwrap();
        let broken = report
            .checks
            .iter()
            .find(|check| check.rule.starts_with(rule) && check.broken_count > 0);
        let broken = broken.unwrap_or_else(|| panic!("{damage} went unseen:\n{report}"));
        let keys = broken.broken.join("\n").replace('-', "");
        assert!(
            !keys.is_empty() && keys.contains(&key.replace('-', "")),
            "{damage}: {key} is not in {keys}"
        );
        assert!(!report.is_sound());
        hit.insert(broken.rule);
        for table in LEDGER {
            tables.execute(&format!("DELETE FROM {table}")).await;
            tables
                .execute(&format!("INSERT INTO {table} SELECT * FROM kept_{table}"))
                .await;
        }
    }
    let report = app.billing.verify().await.unwrap();
    assert!(report.is_sound(), "{report}");
    let rules: BTreeSet<&str> = report.checks.iter().map(|check| check.rule).collect();
    assert_eq!(hit, rules, "every rule is broken by a damage");

    // The command says the same, and exits with 1.
    tables
        .execute("UPDATE entries SET amount = amount + 1 WHERE external_id = 'order-1'")
        .await;
    let folder = tempfile::tempdir().unwrap();
    let output = run("verify", folder.path(), &[(URL, &app.database_url)]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("BROKEN 1. money is conserved") && said.contains("\n         aff-1 EUR\n"),
        "{said}"
    );
    tables
        .execute("UPDATE entries SET amount = amount - 1 WHERE external_id = 'order-1'")
        .await;
    for table in LEDGER {
        tables.execute(&format!("DROP TABLE kept_{table}")).await;
    }
}

/// Something of everything that `verify` looks at.
async fn scene(app: &App) -> Scene {
    app.payable_account("aff-1", &["EUR"]).await;
    app.payable_account("aff-3", &["EUR"]).await;
    app.tipalti_account("aff-4").await;
    app.post(vec![
        entry("order-1", "aff-1", "12.345", "EUR"),
        entry("order-2", "aff-1", "3", "EUR"),
        clawback("refund-2", "order-2", "aff-1", "-1", "EUR"),
        entry("order-3", "aff-3", "5", "EUR"),
        entry("order-4", "aff-4", "5", "EUR"),
        entry("order-5", "aff-2", "5", "EUR"),
    ])
    .await;
    let everybody = ["aff-1", "aff-2", "aff-3", "aff-4"];
    let settlement = app.settle(&everybody).await.settlement.unwrap().id;
    let rows = app.rows_of(&settlement).await;
    let row = |account: &str| rows.iter().find(|row| row.account_id == account).unwrap().id.clone();
    for status in [RowStatus::InProgress, RowStatus::Paid] {
        let update = proto::UpdateAccountSettlementStatusRequest {
            id: row("aff-1"),
            status: status.into(),
            ..Default::default()
        };
        app.settlements()
            .update_account_settlement_status(update)
            .await
            .unwrap();
    }
    let delete = proto::DeleteAccountSettlementRequest {
        id: row("aff-3"),
        ..Default::default()
    };
    app.settlements().delete_account_settlement(delete).await.unwrap();
    app.settle(&["aff-2"]).await;
    let world = World::new(app).await;
    let sent_row = world.submitted_row("aff-5").await.id;
    world.end().await;
    Scene {
        live_row: row("aff-1"),
        deleted_row: row("aff-3"),
        sent_row,
        settlement,
    }
}

async fn acknowledged_entries_survive_a_kill(app: App) {
    let folder = tempfile::tempdir().unwrap();
    let own_url = format!("sqlite://{}", folder.path().join("killed.db").display());
    let url = if app.is_postgres() { &app.database_url } else { &own_url };
    let settings = [(URL, url.as_str()), (KEYS_VARIABLE, KEYS)];
    let mut acknowledged = 0;
    for round in 0..3 {
        let serving = Serving::start(folder.path(), &settings);
        let channel = serving.channel().await;
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let posters: Vec<_> = (0..4)
            .map(|poster| {
                tokio::spawn(post_until_it_ends(
                    channel.clone(),
                    format!("{round}-{poster}"),
                    sender.clone(),
                ))
            })
            .collect();
        drop(sender);
        let mut seen = Vec::new();
        while seen.len() < 200 {
            seen.push(receiver.recv().await.unwrap());
        }
        serving.end("-KILL");
        while let Some(external_id) = receiver.recv().await {
            seen.push(external_id);
        }
        for poster in posters {
            poster.await.unwrap();
        }
        acknowledged += seen.len();

        let again = Serving::start(folder.path(), &settings);
        let posted = external_ids(again.channel().await).await;
        assert!(posted.len() >= acknowledged);
        for external_id in seen {
            assert!(
                posted.contains(&external_id),
                "{external_id} was acknowledged and is gone"
            );
        }
        let output = run("verify", folder.path(), &settings);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert_eq!(again.end("-TERM").code(), Some(0));
    }
}

/// Posts ten entries at a time and tells each that was acknowledged, until the server is gone.
async fn post_until_it_ends(
    channel: Channel,
    prefix: String,
    acknowledged: tokio::sync::mpsc::UnboundedSender<String>,
) {
    let mut balances = BalancesServiceClient::new(channel);
    for call in 0.. {
        let id = |number: i32| format!("{prefix}-{call}-{number}");
        let entries = (0..10)
            .map(|number| entry(&id(number), "aff-1", "0.01", "EUR"))
            .collect();
        let request = proto::PostEntriesRequest {
            entries,
            ..Default::default()
        };
        let Ok(answer) = balances.post_entries(request).await else {
            return;
        };
        for result in answer.into_inner().results {
            assert_eq!(result.outcome(), proto::EntryOutcome::Posted);
            acknowledged.send(result.external_id).unwrap();
        }
    }
}

async fn external_ids(channel: Channel) -> BTreeSet<String> {
    let mut balances = BalancesServiceClient::new(channel);
    let mut ids = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListEntriesRequest {
            page_size: 1000,
            page_token,
            ..Default::default()
        };
        let page = balances.list_entries(request).await.unwrap().into_inner();
        ids.extend(page.entries.into_iter().map(|entry| entry.external_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

/// An empty database beside that of a test.
struct Fresh {
    admin: Tables,
    name: String,
    url: String,
}

impl Fresh {
    async fn beside(app: &App) -> Self {
        let (server, rest) = app.database_url.rsplit_once('/').unwrap();
        let name = format!("{}_fresh", rest.split('?').next().unwrap());
        let admin = Tables::open(&format!("{server}/postgres")).await;
        admin.execute(&format!("CREATE DATABASE \"{name}\"")).await;
        let url = format!("{server}/{name}");
        Self { admin, name, url }
    }

    async fn drop(self) {
        self.admin
            .execute(&format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name))
            .await;
        self.admin.close().await;
    }
}

async fn a_database_that_is_not_migrated_is_refused(app: App) {
    let fresh = Fresh::beside(&app).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        (URL, fresh.url.as_str()),
        (KEYS_VARIABLE, KEYS),
        ("BILLING_LISTEN", "127.0.0.1:0"),
    ];
    for command in ["serve", "verify"] {
        let said = failure(command, folder.path(), &settings);
        assert!(said.contains("run `affiliate-billing migrate`"), "{said}");
    }
    let output = run("migrate", folder.path(), &settings);
    assert_eq!(output.status.code(), Some(0));
    let serving = Serving::start(folder.path(), &settings[..2]);
    assert!(
        serving
            .lines
            .iter()
            .any(|line| line.starts_with("database postgres://") && !line.contains('@'))
    );
    assert_eq!(serving.end("-TERM").code(), Some(0));
    fresh.drop().await;
}

async fn migrating_twice_at_once_applies_once(app: App) {
    let fresh = Fresh::beside(&app).await;
    let folder = tempfile::tempdir().unwrap();
    let migrate = || migrations_applied(folder.path(), &fresh.url);
    let mut applied: Vec<u32> = thread::scope(|scope| {
        let both: Vec<_> = (0..4).map(|_| scope.spawn(migrate)).collect();
        both.into_iter().map(|one| one.join().unwrap()).collect()
    });
    applied.sort_unstable();
    assert_eq!(applied[..3], [0, 0, 0]);
    assert!(applied[3] >= 4, "{applied:?}");
    assert_eq!(migrate(), 0);
    fresh.drop().await;
}

fn migrations_applied(folder: &Path, url: &str) -> u32 {
    let output = run("migrate", folder, &[(URL, url)]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let count = said.trim_end().strip_suffix(" migrations applied").unwrap();
    count.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn postgres_without_keys_is_refused(app: App) {
    let folder = tempfile::tempdir().unwrap();
    let settings = [(URL, app.database_url.as_str()), ("BILLING_LISTEN", "127.0.0.1:0")];
    let said = failure("serve", folder.path(), &settings);
    assert!(
        said.contains("BILLING_ENCRYPTION_KEYS is required with PostgreSQL"),
        "{said}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no key file is made");
}

/// It serves: a read is answered.
fn answers(serving: &Serving) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ids = runtime.block_on(async { external_ids(serving.channel().await).await });
    assert!(ids.is_empty());
}
