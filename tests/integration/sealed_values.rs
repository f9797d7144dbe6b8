//! Sealed values that somebody moved in the database: none opens anywhere but where it was sealed, and nothing of it is told.

use affiliate_billing::payout::tipalti::KIND;
use affiliate_billing::proto;
use affiliate_billing::proto::View;
use fake_tipalti::webhooks::Delivery;
use serde_json::json;
use tonic::{Code, Status};

use crate::support::app::{App, KEYS};
use crate::support::fixtures::{bank_method, billing_details, entry, request_id, settle_accounts};
use crate::support::harness::scenarios;
use crate::support::program::{Serving, failure};
use crate::support::rows::reason_of;
use crate::support::tables::Tables;
use crate::support::tipalti::World;

scenarios![
    billing_details_of_another_row_are_not_read,
    a_payment_method_of_another_row_is_not_read,
    a_value_of_another_table_is_not_read,
    a_value_under_another_keys_name_is_not_read,
    an_answer_of_another_request_id_is_not_given,
    an_event_of_another_row_is_not_applied,
    a_hash_key_of_another_name_is_refused;
];

const OTHER_IBAN: &str = "GB33BUKB20201555555555";

/// Nothing but that it is a fault.
fn assert_fault<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status).as_str()),
        (Code::Internal, "INTERNAL"),
        "{status:?}"
    );
    let told = format!("{status:?}");
    for secret in ["Ada", "Byron", "3000", "5555", "12345678", "sealed", "key"] {
        assert!(!status.message().contains(secret), "{told}");
    }
}

async fn details(app: &App, account_id: &str) -> Result<proto::BillingDetails, Status> {
    let request = proto::GetBillingDetailsRequest {
        account_id: account_id.to_owned(),
    };
    let answer = app.billing_details().get_billing_details(request).await?;
    Ok(answer.into_inner().billing_details.unwrap())
}

async fn method(app: &App, id: &str, view: View) -> Result<proto::PaymentMethod, Status> {
    let request = proto::GetPaymentMethodRequest {
        id: id.to_owned(),
        view: view.into(),
    };
    let answer = app.payment_methods().get_payment_method(request).await?;
    Ok(answer.into_inner().payment_method.unwrap())
}

/// Two accounts with other details each, and the payout of the first one.
struct Scene {
    tables: Tables,
    methods: [String; 2],
    payout: String,
}

async fn scene(app: &App) -> Scene {
    app.payable_account("aff-1", &["EUR"]).await;
    app.with_billing_details("aff-2").await;
    let mut other = bank_method("aff-2", "EUR");
    if let Some(proto::payment_method::Details::BankTransfer(transfer)) = &mut other.details {
        transfer.iban = OTHER_IBAN.to_owned();
    }
    let other = app.with_method(other).await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    let settlement = app.settle(&["aff-1"]).await.settlement.unwrap().id;
    let payout = app.rows_of(&settlement).await.remove(0);
    let request = proto::ListPaymentMethodsRequest {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    let own = app.payment_methods().list_payment_methods(request).await.unwrap();
    Scene {
        tables: Tables::open(&app.database_url).await,
        methods: [own.into_inner().payment_methods.remove(0).id, other.id],
        payout: payout.id,
    }
}

impl Scene {
    /// Keeps the sealed values as they are, copies one over another, and gives the statement that undoes it.
    async fn copy(&self, from: (&str, &str), to: (&str, &str)) -> String {
        let ((from, from_account), (to, to_account)) = (from, to);
        self.tables.execute("DROP TABLE IF EXISTS kept").await;
        let keep = format!("CREATE TABLE kept AS SELECT key_id, sealed FROM {to} WHERE account_id = '{to_account}'");
        self.tables.execute(&keep).await;
        let set = |source: &str| {
            format!(
                "UPDATE {to} SET key_id = (SELECT o.key_id FROM {source}), sealed = (SELECT o.sealed FROM {source}) \
                 WHERE account_id = '{to_account}'"
            )
        };
        self.tables
            .execute(&set(&format!("{from} o WHERE o.account_id = '{from_account}'")))
            .await;
        set("kept o")
    }

    async fn undo(&self, undo: String) {
        self.tables.execute(&undo).await;
        self.tables.execute("DROP TABLE kept").await;
    }

    /// What is made with the details of the first account.
    async fn payout(&self, app: &App) -> Result<(), Status> {
        let request = proto::GetAccountSettlementRequest {
            id: self.payout.clone(),
            view: View::Full.into(),
        };
        app.settlements().get_account_settlement(request).await.map(drop)
    }
}

async fn billing_details_of_another_row_are_not_read(app: App) {
    let scene = scene(&app).await;
    let table = "billing_details_versions";
    let undo = scene.copy((table, "aff-2"), (table, "aff-1")).await;
    assert_fault(details(&app, "aff-1").await);
    assert_fault(scene.payout(&app).await);
    let list = proto::ListBillingDetailsRequest::default();
    assert_fault(app.billing_details().list_billing_details(list).await);
    details(&app, "aff-2").await.unwrap();
    scene.undo(undo).await;
    details(&app, "aff-1").await.unwrap();
    scene.payout(&app).await.unwrap();
}

async fn a_payment_method_of_another_row_is_not_read(app: App) {
    let scene = scene(&app).await;
    let table = "payment_method_versions";
    let undo = scene.copy((table, "aff-2"), (table, "aff-1")).await;
    for view in [View::Masked, View::Full] {
        assert_fault(method(&app, &scene.methods[0], view).await);
        let list = proto::ListPaymentMethodsRequest {
            view: view.into(),
            ..Default::default()
        };
        assert_fault(app.payment_methods().list_payment_methods(list).await);
        method(&app, &scene.methods[1], view).await.unwrap();
    }
    assert_fault(scene.payout(&app).await);
    scene.undo(undo).await;
    method(&app, &scene.methods[0], View::Full).await.unwrap();
    scene.payout(&app).await.unwrap();
}

async fn a_value_of_another_table_is_not_read(app: App) {
    let scene = scene(&app).await;
    // With the id of its row as well: the table alone makes the difference.
    let undo = scene
        .copy(
            ("billing_details_versions", "aff-1"),
            ("payment_method_versions", "aff-1"),
        )
        .await;
    scene.tables.execute(scene.tables.without_foreign_keys()).await;
    let id_of = |id: &str| format!("(SELECT id FROM billing_details_versions WHERE account_id = '{id}')");
    let rename = [
        "CREATE TABLE kept_id AS SELECT id FROM payment_method_versions WHERE account_id = 'aff-1'".to_owned(),
        format!(
            "UPDATE payment_method_versions SET id = {} WHERE account_id = 'aff-1'",
            id_of("aff-1")
        ),
        format!(
            "UPDATE payment_methods SET version_id = {} WHERE account_id = 'aff-1'",
            id_of("aff-1")
        ),
    ];
    for statement in &rename {
        scene.tables.execute(statement).await;
    }
    assert_fault(method(&app, &scene.methods[0], View::Full).await);
    for (table, column) in [("payment_method_versions", "id"), ("payment_methods", "version_id")] {
        let back = format!("UPDATE {table} SET {column} = (SELECT id FROM kept_id) WHERE account_id = 'aff-1'");
        scene.tables.execute(&back).await;
    }
    scene.tables.execute("DROP TABLE kept_id").await;
    scene.undo(undo).await;
    method(&app, &scene.methods[0], View::Full).await.unwrap();
}

/// One whose secret is the same would open it, if its name did not count.
async fn a_value_under_another_keys_name_is_not_read(app: App) {
    let outer = app;
    let app = outer.stoppable().await;
    let scene = scene(&app).await;
    scene.tables.close().await;
    let url = app.database_url.clone();
    let database = app.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = format!("{KEYS},{}", KEYS.replace("test:", "twin:"));
    let settings = [
        ("BILLING_DATABASE_URL", url.as_str()),
        ("BILLING_ENCRYPTION_KEYS", &keys),
    ];
    let serving = Serving::start(folder.path(), &settings);
    let served = outer.through(serving.channel().await);
    details(&served, "aff-1").await.unwrap();
    let tables = Tables::open(&url).await;
    tables
        .execute("UPDATE billing_details_versions SET key_id = 'twin' WHERE account_id = 'aff-1'")
        .await;
    assert_fault(details(&served, "aff-1").await);
    tables
        .execute("UPDATE billing_details_versions SET key_id = 'nobody' WHERE account_id = 'aff-1'")
        .await;
    assert_fault(details(&served, "aff-1").await);
    tables
        .execute("UPDATE billing_details_versions SET key_id = 'test' WHERE account_id = 'aff-1'")
        .await;
    details(&served, "aff-1").await.unwrap();
    tables.close().await;
    assert_eq!(serving.end("-TERM").code(), Some(0));
    drop(database);
}

async fn an_answer_of_another_request_id_is_not_given(app: App) {
    let create = |account_id: &str, request_id: &str| proto::CreateBillingDetailsRequest {
        billing_details: Some(billing_details(account_id)),
        request_id: request_id.to_owned(),
    };
    let ids = [request_id(), request_id()];
    for (number, id) in ids.iter().enumerate() {
        let request = create(&format!("aff-{number}"), id);
        app.billing_details().create_billing_details(request).await.unwrap();
    }
    let repeat = || app.billing_details();
    let tables = Tables::open(&app.database_url).await;
    let id = |id: &str| {
        if app.is_postgres() {
            format!("'{id}'")
        } else {
            format!("X'{}'", id.replace('-', ""))
        }
    };
    let copy = format!(
        "UPDATE request_ids SET sealed = (SELECT o.sealed FROM request_ids o WHERE o.request_id = {}) WHERE request_id = {}",
        id(&ids[0]),
        id(&ids[1])
    );
    tables.execute(&copy).await;
    assert_fault(repeat().create_billing_details(create("aff-1", &ids[1])).await);
    // Nor with the hash of the other one's content.
    let copy = format!(
        "UPDATE request_ids SET content_hash = (SELECT o.content_hash FROM request_ids o WHERE o.request_id = {}) \
         WHERE request_id = {}",
        id(&ids[0]),
        id(&ids[1])
    );
    tables.execute(&copy).await;
    assert_fault(repeat().create_billing_details(create("aff-0", &ids[1])).await);
    let again = repeat()
        .create_billing_details(create("aff-0", &ids[0]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.billing_details.unwrap().account_id, "aff-0");
    // Of another caller, neither.
    let move_to = "UPDATE request_ids SET caller = 'somebody'";
    tables.execute(move_to).await;
    tables
        .execute("UPDATE request_ids SET caller = 'unauthenticated', method = 'UpdateBillingDetails'")
        .await;
    tables.close().await;
    let update = proto::UpdateBillingDetailsRequest {
        billing_details: Some(billing_details("aff-0")),
        request_id: ids[0].clone(),
        ..Default::default()
    };
    assert!(app.billing_details().update_billing_details(update).await.is_err());
}

async fn an_event_of_another_row_is_not_applied(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    for (status, day) in [("FUTURE", "2026-01-01"), ("OTHER", "2026-01-02")] {
        let payment = json!({"refCode": row.id, "paymentStatus": status});
        let created = Some(format!("{day}T00:00:00Z"));
        let sent = world
            .fake
            .send_event("paymentCompleted", payment, created, Delivery::default());
        assert_eq!(sent.await.1, 202);
    }
    let tables = Tables::open(&app.database_url).await;
    tables
        .execute("CREATE TABLE kept AS SELECT event_id, sealed FROM provider_events")
        .await;
    let first = "(SELECT min(o.event_id) FROM kept o)";
    let set = |which: &str| {
        format!(
            "UPDATE provider_events SET sealed = (SELECT o.sealed FROM kept o WHERE o.event_id {which} {first}) \
             WHERE event_id = {first}"
        )
    };
    // As if both had been cut off before they were looked at.
    let waits = "UPDATE provider_event_words SET outcome = 'STORED', outcome_time = outcome_time - 600000000";
    let outcomes = "SELECT outcome FROM provider_event_words ORDER BY event_id";
    tables.execute(&set("<>")).await;
    tables.execute(waits).await;
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 2);
    assert_eq!(tables.texts(outcomes).await, ["STORED", "UNMAPPED"]);
    tables.execute(&set("=")).await;
    tables.execute(waits).await;
    assert_eq!(world.replica.billing.apply_waiting_events(&KIND).await.unwrap(), 2);
    assert_eq!(tables.texts(outcomes).await, ["UNMAPPED", "UNMAPPED"]);
    tables.execute("DROP TABLE kept").await;
    tables.close().await;
    world.end().await;
}

async fn a_hash_key_of_another_name_is_refused(app: App) {
    let app = app.stoppable().await;
    app.settle_request(settle_accounts(vec![("aff-1", None)])).await;
    let url = app.database_url.clone();
    let database = app.stop().await;
    let tables = Tables::open(&url).await;
    tables.execute("UPDATE hash_keys SET id = 'other'").await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("BILLING_DATABASE_URL", url.as_str()),
        ("BILLING_ENCRYPTION_KEYS", KEYS),
        ("BILLING_LISTEN", "127.0.0.1:0"),
    ];
    let said = failure("serve", folder.path(), &settings);
    assert!(said.contains("the encryption keys do not fit the database"), "{said}");
    tables.execute("UPDATE hash_keys SET id = 'test'").await;
    tables.close().await;
    assert_eq!(Serving::start(folder.path(), &settings).end("-TERM").code(), Some(0));
    drop(database);
}
