//! Whom Tipalti can pay: learnt by its events and by asking, shown with the payment method, and kept out of settling.

use affiliate_billing::proto;
use affiliate_billing::proto::payment_method::Details;
use fake_tipalti::faults::{Endpoint, FaultKind, Moment};
use fake_tipalti::state::Payee;
use fake_tipalti::webhooks::Delivery;
use serde_json::json;

use crate::support::app::App;
use crate::support::fixtures::{bank_method, entry, tipalti_method};
use crate::support::harness::scenarios;
use crate::support::ledger::{all_skipped, balance, skip_reason};
use crate::support::tables::Tables;
use crate::support::tipalti::World;

scenarios![
    a_payee_that_cannot_be_paid_is_skipped_with_its_own_reason,
    news_of_a_payee_count_by_their_time,
    news_that_came_before_the_payment_method_count,
    news_without_a_verdict_are_asked_for,
    a_new_payee_is_asked_for,
    another_payee_id_is_another_payee,
    the_reason_comes_after_those_of_the_method_and_before_those_of_the_balance,
    methods_of_an_older_version_get_their_payee,
    one_that_cannot_be_paid_is_asked_for_again,
];

/// What is shown of a method's payee.
async fn payee(app: &App, method_id: &str) -> (Option<bool>, String) {
    let request = proto::GetPaymentMethodRequest {
        id: method_id.to_owned(),
        ..Default::default()
    };
    let answer = app
        .payment_methods()
        .get_payment_method(request)
        .await
        .unwrap()
        .into_inner();
    match answer.payment_method.unwrap().details {
        Some(Details::Tipalti(tipalti)) => (tipalti.payable, tipalti.not_payable_reason),
        other => panic!("{other:?}"),
    }
}

async fn news(world: &World, payee_id: &str, payable: Option<bool>, day: &str) {
    let data = json!({"payeeId": payee_id, "isPayable": payable, "status": "X", "statusReason": "no tax form"});
    let created = Some(format!("{day}T00:00:00Z"));
    let (_, answer) = world
        .fake
        .send_event("payeeDetailsChanged", data, created, Delivery::default())
        .await;
    assert_eq!(answer, 200);
}

async fn account(app: &App, id: &str) -> proto::PaymentMethod {
    app.with_billing_details(id).await;
    let method = app.with_method(tipalti_method(id, "EUR")).await;
    app.post(vec![entry(&format!("order-{id}"), id, "10", "EUR")]).await;
    method
}

async fn a_payee_that_cannot_be_paid_is_skipped_with_its_own_reason(app: App) {
    let world = World::new(&app).await;
    let method = account(&app, "aff-1").await;
    assert_eq!(
        payee(&app, &method.id).await,
        (None, String::new()),
        "nothing was said yet"
    );
    news(&world, "payee-aff-1", Some(false), "2026-01-01").await;
    assert_eq!(payee(&app, &method.id).await, (Some(false), "no tax form".to_owned()));
    let shown = app.open_balances(&["aff-1"]).await;
    assert!(!shown[0].payable, "{}", balance(&shown[0]));
    assert_eq!(skip_reason(shown[0].not_payable_reason()), "PAYEE_NOT_PAYABLE");
    let run = app.settle(&["aff-1"]).await;
    assert_eq!(all_skipped(&run), ["aff-1 EUR PAYEE_NOT_PAYABLE 10.00 EUR"]);
    news(&world, "payee-aff-1", Some(true), "2026-01-02").await;
    assert_eq!(payee(&app, &method.id).await, (Some(true), String::new()));
    assert!(app.settle(&["aff-1"]).await.skipped.is_empty());
    world.end().await;
}

async fn news_of_a_payee_count_by_their_time(app: App) {
    let world = World::new(&app).await;
    let method = account(&app, "aff-1").await;
    news(&world, "payee-aff-1", Some(false), "2026-01-05").await;
    news(&world, "payee-aff-1", Some(true), "2026-01-04").await;
    assert_eq!(
        payee(&app, &method.id).await.0,
        Some(false),
        "what is late changes nothing"
    );
    news(&world, "payee-aff-1", Some(true), "2026-01-05").await;
    assert_eq!(
        payee(&app, &method.id).await.0,
        Some(false),
        "of the same time the one that keeps the money"
    );
    news(&world, "payee-aff-1", Some(true), "2026-01-06").await;
    assert_eq!(payee(&app, &method.id).await.0, Some(true));
    news(&world, "payee-other", Some(false), "2026-01-07").await;
    assert_eq!(payee(&app, &method.id).await.0, Some(true), "others' news are others'");
    world.end().await;
}

async fn news_that_came_before_the_payment_method_count(app: App) {
    let world = World::new(&app).await;
    news(&world, "payee-aff-1", Some(false), "2026-01-01").await;
    let method = account(&app, "aff-1").await;
    let answered = match &method.details {
        Some(Details::Tipalti(tipalti)) => tipalti.payable,
        other => panic!("{other:?}"),
    };
    assert_eq!(answered, Some(false), "the creation's answer shows it");
    assert_eq!(
        all_skipped(&app.settle(&["aff-1"]).await),
        ["aff-1 EUR PAYEE_NOT_PAYABLE 10.00 EUR"]
    );
    world.end().await;
}

async fn news_without_a_verdict_are_asked_for(app: App) {
    let world = World::new(&app).await;
    let method = account(&app, "aff-1").await;
    world.replica.billing.refresh_due_payees("tipalti").await.unwrap();
    assert_eq!(payee(&app, &method.id).await.0, Some(true));
    let asked = world.fake.requests("payees");
    world.fake.set_payee(Payee {
        id: "payee-aff-1".to_owned(),
        ref_code: None,
        is_payable: false,
        reason_code: None,
        reason: Some("blocked".to_owned()),
    });
    world.replica.billing.refresh_due_payees("tipalti").await.unwrap();
    assert_eq!(
        world.fake.requests("payees"),
        asked,
        "nobody asks again without a reason"
    );
    news(&world, "payee-aff-1", None, "2026-01-01").await;
    world.fake.fail_once(Endpoint::Payees, Moment::Before, FaultKind::Cut);
    world.replica.billing.refresh_due_payees("tipalti").await.unwrap();
    assert_eq!(payee(&app, &method.id).await, (Some(false), "blocked".to_owned()));
    world.end().await;
}

async fn a_new_payee_is_asked_for(app: App) {
    let mut world = World::new(&app).await;
    world.fake.configure(|options| options.knows_all_payees = false);
    world.fake.set_payee(Payee {
        id: "77".to_owned(),
        ref_code: Some("payee-aff-1".to_owned()),
        is_payable: false,
        reason_code: None,
        reason: Some("no tax form, ask jane@example.com".to_owned()),
    });
    let known = account(&app, "aff-1").await;
    let unknown = account(&app, "aff-2").await;
    world.replica.refresh();
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while payee(&app, &known.id).await.0.is_none() || world.fake.requests("payees") < 3 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
    assert_eq!(
        payee(&app, &known.id).await,
        (Some(false), "no tax form, ask [removed]".to_owned())
    );
    assert_eq!(
        payee(&app, &unknown.id).await.0,
        None,
        "one that Tipalti does not know is not known to be not payable"
    );
    world.end().await;
}

async fn another_payee_id_is_another_payee(app: App) {
    let world = World::new(&app).await;
    let method = account(&app, "aff-1").await;
    news(&world, "payee-aff-1", Some(false), "2026-01-01").await;
    let change = |payee_id: &str| proto::UpdatePaymentMethodRequest {
        payment_method: Some(proto::PaymentMethod {
            id: method.id.clone(),
            details: Some(Details::Tipalti(proto::Tipalti {
                payee_id: payee_id.to_owned(),
                // Output only: what is sent is not believed.
                payable: Some(true),
                ..Default::default()
            })),
            ..Default::default()
        }),
        ..Default::default()
    };
    app.payment_methods()
        .update_payment_method(change("payee-new"))
        .await
        .unwrap();
    assert_eq!(payee(&app, &method.id).await.0, None);
    assert!(app.open_balances(&["aff-1"]).await[0].payable);
    app.payment_methods()
        .update_payment_method(change("payee-aff-1"))
        .await
        .unwrap();
    assert_eq!(payee(&app, &method.id).await.0, Some(false));
    world.end().await;
}

async fn the_reason_comes_after_those_of_the_method_and_before_those_of_the_balance(app: App) {
    let world = World::new(&app).await;
    account(&app, "aff-1").await;
    news(&world, "payee-aff-1", Some(false), "2026-01-01").await;
    let reason = async || {
        let balances = app.open_balances(&["aff-1"]).await;
        skip_reason(balances[0].not_payable_reason())
    };
    app.enable_type("tipalti", false).await;
    assert_eq!(reason().await, "PAYMENT_METHOD_DISABLED");
    app.enable_type("tipalti", true).await;
    app.post(vec![entry("debt", "aff-1", "-20", "EUR")]).await;
    assert_eq!(reason().await, "PAYEE_NOT_PAYABLE");
    // Another method as the default, and Tipalti's verdict does not matter.
    let bank = proto::PaymentMethod {
        default: true,
        ..bank_method("aff-1", "EUR")
    };
    app.with_method(bank).await;
    assert_eq!(reason().await, "NEGATIVE_BALANCE");
    world.end().await;
}

async fn methods_of_an_older_version_get_their_payee(app: App) {
    let world = World::new(&app).await;
    let method = account(&app, "aff-1").await;
    news(&world, "payee-aff-1", Some(false), "2026-01-01").await;
    let tables = Tables::open(&app.database_url).await;
    tables
        .execute("UPDATE payment_methods SET payee_id = NULL, payee_version_id = NULL")
        .await;
    tables.close().await;
    assert_eq!(payee(&app, &method.id).await.0, None);
    assert!(
        !world.replica.billing.find_missing_payees().await.unwrap(),
        "there are no more"
    );
    assert_eq!(payee(&app, &method.id).await.0, Some(false));
    world.end().await;
}

async fn one_that_cannot_be_paid_is_asked_for_again(app: App) {
    let world = World::new(&app).await;
    let payable = |is_payable| Payee {
        id: "payee-aff-1".to_owned(),
        ref_code: None,
        is_payable,
        reason_code: None,
        reason: None,
    };
    let refresh = async || world.replica.billing.refresh_due_payees("tipalti").await.unwrap().count;
    world.fake.set_payee(payable(false));
    let method = account(&app, "aff-1").await;
    assert_eq!(refresh().await, 1);
    assert_eq!(payee(&app, &method.id).await.0, Some(false));
    world.fake.set_payee(payable(true));
    assert_eq!(refresh().await, 0, "not at once");
    let tables = Tables::open(&app.database_url).await;
    // As a day later.
    tables
        .execute("UPDATE payees SET next_time = next_time - 86400000000, event_time = event_time - 86400000000")
        .await;
    tables.close().await;
    assert_eq!(refresh().await, 1);
    assert_eq!(payee(&app, &method.id).await.0, Some(true));
    assert_eq!(refresh().await, 0);
    world.end().await;
}
