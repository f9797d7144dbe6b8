//! A payment method that was changed keeps its account out of settling for some hours.

use affiliate_billing::billing::ChangeControl;
use affiliate_billing::proto;
use affiliate_billing::proto::SettleSkipReason;

use crate::support::app::App;
use crate::support::fixtures::{bank_method, entry, money, request_id, settle_accounts, shown, tipalti_method};
use crate::support::harness::scenarios;
use crate::support::tables::Tables;

scenarios![
    a_new_method_is_left_out_until_it_has_cooled_off,
    what_moves_money_begins_the_cool_off_again_and_names_do_not,
    an_account_is_skipped_rather_than_paid_by_another_method,
    a_method_of_an_older_version_cools_off_from_its_last_change;
];

const HOURS: u32 = 24;
const COOLING: SettleSkipReason = SettleSkipReason::PaymentMethodCoolingOff;
const OTHER_IBAN: &str = "GB82WEST12345698765432";

async fn cooling(app: &App) -> App {
    app.controlled(ChangeControl {
        cool_off_hours: HOURS,
        require_approval: false,
    })
    .await
}

/// Lets hours go by, for all methods.
async fn wait_hours(app: &App, hours: i64) {
    let tables = Tables::open(&app.database_url).await;
    let micros = hours * 3_600_000_000;
    let sql = format!(
        "UPDATE payment_methods SET destination_time = destination_time - {micros}, update_time = update_time - {micros}"
    );
    tables.execute(&sql).await;
    tables.close().await;
}

async fn why_not(app: &App, account_id: &str) -> SettleSkipReason {
    app.open_balances(&[account_id]).await[0].not_payable_reason()
}

/// The settled accounts, and those left out with their reasons and whether they are told until when.
fn outcome(answer: &proto::SettleBalancesResponse) -> (i64, Vec<(&str, SettleSkipReason, bool)>) {
    let skipped = answer.skipped.iter().map(|skipped| {
        (
            skipped.account_id.as_str(),
            skipped.reason(),
            skipped.cooling_off_until.is_some(),
        )
    });
    (
        answer.settlement.as_ref().unwrap().account_settlement_count,
        skipped.collect(),
    )
}

async fn a_new_method_is_left_out_until_it_has_cooled_off(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    wait_hours(&app, i64::from(HOURS)).await;
    app.payable_account("aff-2", &["EUR"]).await;
    app.post(vec![
        entry("order-1", "aff-1", "5", "EUR"),
        entry("order-2", "aff-2", "7", "EUR"),
    ])
    .await;
    let cool = cooling(&app).await;
    // A replica with another setting goes by its own.
    assert_eq!(why_not(&app, "aff-2").await, SettleSkipReason::Unspecified);

    let balances = cool.open_balances(&["aff-1", "aff-2"]).await;
    assert!(balances[0].payable && balances[0].cooling_off_until.is_none());
    assert!(!balances[1].payable && balances[1].payable_money.is_none());
    assert_eq!(balances[1].not_payable_reason(), COOLING);
    let until = balances[1].cooling_off_until.unwrap();
    let request = proto::ListPaymentMethodsRequest {
        account_id: "aff-2".to_owned(),
        ..Default::default()
    };
    let methods = cool.payment_methods().list_payment_methods(request).await.unwrap();
    let made = methods.into_inner().payment_methods[0].create_time.unwrap();
    assert_eq!(
        (until.seconds, until.nanos),
        (made.seconds + 3600 * i64::from(HOURS), made.nanos)
    );

    let filter = proto::BalanceFilter {
        payable_only: true,
        ..Default::default()
    };
    let request = proto::ListOpenBalancesRequest {
        filter: Some(filter.clone()),
        ..Default::default()
    };
    let payable = cool.balances().list_open_balances(request).await.unwrap().into_inner();
    let payable: Vec<&str> = payable
        .open_balances
        .iter()
        .map(|balance| balance.account_id.as_str())
        .collect();
    assert_eq!(payable, ["aff-1"]);
    let request = proto::SummarizeOpenBalancesRequest::default();
    let summary = cool
        .balances()
        .summarize_open_balances(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(summary.not_payable[0].reason(), COOLING);

    let left_out = vec![("aff-2", COOLING, true)];
    let named = settle_accounts(vec![("aff-2", money("7", "EUR")), ("aff-1", None), ("aff-2", None)]);
    let validated = cool
        .settle_request(proto::SettleBalancesRequest {
            validate_only: true,
            ..named.clone()
        })
        .await;
    let expected = vec![
        ("aff-2", COOLING, true),
        ("aff-2", SettleSkipReason::DuplicateAccount, false),
    ];
    assert_eq!(outcome(&validated), (1, expected.clone()));
    assert_eq!(validated.skipped[0].cooling_off_until, Some(until));
    assert_eq!(shown(&validated.skipped[0].money), "7.00 EUR");
    let everybody = |filter| proto::SettleBalancesRequest {
        request_id: request_id(),
        all_accounts: true,
        selection: Some(proto::settle_balances_request::Selection::Filter(filter)),
        ..Default::default()
    };
    let validated = cool
        .settle_request(proto::SettleBalancesRequest {
            validate_only: true,
            ..everybody(proto::BalanceFilter::default())
        })
        .await;
    assert_eq!(outcome(&validated), (1, left_out.clone()));
    let validated = cool
        .settle_request(proto::SettleBalancesRequest {
            validate_only: true,
            ..everybody(filter)
        })
        .await;
    assert_eq!(outcome(&validated), (1, Vec::new()));

    let settled = cool.settle_request(everybody(proto::BalanceFilter::default())).await;
    assert_eq!(outcome(&settled), (1, left_out));
    let request = proto::ListSkippedAccountsRequest {
        settlement_id: settled.settlement.unwrap().id,
        ..Default::default()
    };
    let kept = cool
        .settlements()
        .list_skipped_accounts(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(kept.skipped, settled.skipped);
    assert_eq!(kept.skipped[0].cooling_off_until, Some(until));

    wait_hours(&app, i64::from(HOURS) - 1).await;
    assert_eq!(why_not(&cool, "aff-2").await, COOLING);
    wait_hours(&app, 1).await;
    let settled = cool.settle(&["aff-2"]).await;
    assert_eq!(outcome(&settled), (1, Vec::new()));
}

async fn what_moves_money_begins_the_cool_off_again_and_names_do_not(app: App) {
    app.with_billing_details("aff-1").await;
    let first = app.with_method(bank_method("aff-1", "EUR")).await;
    app.with_billing_details("aff-2").await;
    app.with_method(tipalti_method("aff-2", "EUR")).await;
    app.post(vec![
        entry("order-1", "aff-1", "5", "EUR"),
        entry("order-2", "aff-2", "5", "EUR"),
    ])
    .await;
    let cool = cooling(&app).await;
    wait_hours(&app, i64::from(HOURS)).await;

    let bank = |change: &dyn Fn(&mut proto::BankTransfer)| {
        let mut method = bank_method("aff-1", "EUR");
        if let Some(proto::payment_method::Details::BankTransfer(bank)) = &mut method.details {
            change(bank);
        }
        method.id.clone_from(&first.id);
        method
    };
    let update = async |method: proto::PaymentMethod, paths: &[&str]| {
        let request = proto::UpdatePaymentMethodRequest {
            payment_method: Some(method),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
            ..Default::default()
        };
        let answer = app.payment_methods().update_payment_method(request).await.unwrap();
        answer.into_inner().payment_method.unwrap()
    };
    let import = async |method: proto::PaymentMethod| app.import_chunk_of_methods(vec![method], "").await[0];
    let payable = SettleSkipReason::Unspecified;

    // No change, and names of people and banks: by update and by import.
    update(bank(&|_| {}), &["bank_transfer"]).await;
    let renamed = bank(&|bank| {
        bank.account_holder_name = "Ada Lovelace".to_owned();
        bank.bank_name = "A Bank".to_owned();
    });
    let changed = update(renamed.clone(), &["bank_transfer"]).await;
    assert_ne!(changed.etag, first.etag);
    assert_eq!(why_not(&cool, "aff-1").await, payable);
    assert_eq!(import(renamed.clone()).await, proto::ImportOutcome::Unchanged);
    let renamed_again = bank(&|bank| bank.bank_name = "Another".to_owned());
    assert_eq!(import(renamed_again).await, proto::ImportOutcome::Updated);
    assert_eq!(why_not(&cool, "aff-1").await, payable);

    // Another account number, by update and by import; and back again.
    let moved = bank(&|bank| bank.iban = OTHER_IBAN.to_owned());
    update(moved.clone(), &["bank_transfer.iban"]).await;
    assert_eq!(why_not(&cool, "aff-1").await, COOLING);
    wait_hours(&app, i64::from(HOURS)).await;
    assert_eq!(import(bank(&|_| {})).await, proto::ImportOutcome::Updated);
    assert_eq!(why_not(&cool, "aff-1").await, COOLING);
    // A name in between ends nothing.
    update(
        bank(&|bank| bank.bank_name = "B".to_owned()),
        &["bank_transfer.bank_name"],
    )
    .await;
    assert_eq!(why_not(&cool, "aff-1").await, COOLING);

    // A payee at a provider.
    assert_eq!(why_not(&cool, "aff-2").await, payable);
    let mut payee = tipalti_method("aff-2", "EUR");
    payee.details = Some(proto::payment_method::Details::Tipalti(proto::Tipalti {
        payee_id: "another".to_owned(),
        ..Default::default()
    }));
    assert_eq!(import(payee).await, proto::ImportOutcome::Updated);
    assert_eq!(why_not(&cool, "aff-2").await, COOLING);

    // Another currency.
    wait_hours(&app, i64::from(HOURS)).await;
    app.post(vec![entry("order-3", "aff-1", "5", "USD")]).await;
    let mut dollars = bank_method("aff-1", "USD");
    dollars.id.clone_from(&first.id);
    update(dollars, &["currency_code"]).await;
    let reasons: Vec<SettleSkipReason> = cool
        .open_balances(&["aff-1"])
        .await
        .iter()
        .map(|balance| balance.not_payable_reason())
        .collect();
    assert_eq!(reasons, [SettleSkipReason::NoPaymentMethod, COOLING]);
}

async fn an_account_is_skipped_rather_than_paid_by_another_method(app: App) {
    app.with_billing_details("aff-1").await;
    let bank = app.with_method(bank_method("aff-1", "EUR")).await;
    let tipalti = app.with_method(tipalti_method("aff-1", "EUR")).await;
    app.post(vec![entry("order-1", "aff-1", "5", "EUR")]).await;
    let cool = cooling(&app).await;
    wait_hours(&app, i64::from(HOURS)).await;
    assert_eq!(why_not(&cool, "aff-1").await, SettleSkipReason::Unspecified);

    // A method that is there for long becomes the default: the money goes elsewhere from now on.
    let request = proto::UpdatePaymentMethodRequest {
        payment_method: Some(proto::PaymentMethod {
            id: tipalti.id.clone(),
            default: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    app.payment_methods().update_payment_method(request).await.unwrap();
    let settled = cool.settle(&["aff-1"]).await;
    assert_eq!(outcome(&settled), (0, vec![("aff-1", COOLING, true)]));

    // So it does when it is deleted, and the oldest takes over.
    wait_hours(&app, i64::from(HOURS)).await;
    let request = proto::DeletePaymentMethodRequest {
        id: tipalti.id,
        ..Default::default()
    };
    app.payment_methods().delete_payment_method(request).await.unwrap();
    assert_eq!(why_not(&cool, "aff-1").await, COOLING);
    wait_hours(&app, i64::from(HOURS)).await;
    let settled = cool.settle(&["aff-1"]).await;
    let rows = cool.rows_of(&settled.settlement.unwrap().id).await;
    assert_eq!(rows[0].payment_method.as_ref().unwrap().id, bank.id);

    // One without anything open is told the same where it is named with its currency.
    app.payable_account("aff-2", &["EUR"]).await;
    let settled = cool
        .settle_request(settle_accounts(vec![("aff-2", money("1", "EUR"))]))
        .await;
    assert_eq!(outcome(&settled), (0, vec![("aff-2", COOLING, true)]));
}

async fn a_method_of_an_older_version_cools_off_from_its_last_change(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "5", "EUR")]).await;
    let cool = cooling(&app).await;
    wait_hours(&app, i64::from(HOURS)).await;
    // A version that does not know the column makes a method, or changes one.
    let tables = Tables::open(&app.database_url).await;
    tables
        .execute("UPDATE payment_methods SET destination_time = NULL, destination_time_version_id = NULL")
        .await;
    assert_eq!(why_not(&cool, "aff-1").await, SettleSkipReason::Unspecified);
    let now = "UPDATE payment_methods SET update_time = update_time + 86400000000";
    tables.execute(now).await;
    assert_eq!(why_not(&cool, "aff-1").await, COOLING);
    tables.close().await;
}
