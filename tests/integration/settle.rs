//! Settling: what is paid, what is left out and why, parts and remainders, cut-offs, repeats, and settling again.

use affiliate_billing::proto;
use affiliate_billing::proto::{BalanceFilter, Entry, EntryKind, Money, SettleBalancesRequest};
use futures_util::StreamExt as _;
use futures_util::stream;
use tonic::Code;

use crate::support::app::App;
use crate::support::fixtures::{FUTURE, bank_method, entry, money, request_id, settle_accounts, shown};
use crate::support::harness::scenarios;
use crate::support::ledger::{
    all_skipped, assert_refused, of_accounts, settle_everybody, settle_filter, settlement_id, skipped, totals,
    validating, violated,
};

scenarios![
    accounts_are_settled_with_an_amount_or_with_all_their_currencies,
    a_filter_settles_exactly_what_the_list_shows,
    an_amount_beyond_every_balance_is_malformed,
    paypal_is_paid_in_whole_units_where_it_takes_no_fractions,
    a_filter_run_tells_of_pending_money_that_it_leaves_out,
    the_first_reason_that_applies_is_told,
    accounts_without_entries_are_skipped_with_the_first_reason,
    an_account_named_twice_is_settled_once,
    totals_that_are_not_as_expected_change_nothing,
    validating_changes_nothing_and_is_not_remembered,
    a_request_id_answers_the_same_again_for_good,
    a_part_takes_debts_first_and_then_the_oldest,
    parts_are_settled_until_nothing_is_left,
    remainders_are_carried_at_the_scale_of_the_currency,
    amounts_that_can_not_be_paid_are_malformed,
    payouts_below_the_minimum_wait,
    a_disabled_default_is_not_replaced_by_another_method,
    everybody_is_meant_only_when_said,
    all_that_were_skipped_can_be_listed,
    a_run_without_payouts_makes_a_settlement,
    a_remainder_of_a_past_cut_off_is_settled_with_the_same_cut_off,
    a_deleted_part_is_available_again_on_its_day,
    a_part_after_a_deletion_takes_the_oldest_first,
    deleting_and_settling_again_conserves_money,
    a_later_posting_never_changes_what_is_settled,
    ten_thousand_accounts_are_settled_in_one_call,
];

fn on(external_id: &str, account_id: &str, amount: &str, date: &str) -> Entry {
    Entry {
        available_date: date.to_owned(),
        ..entry(external_id, account_id, amount, "EUR")
    }
}

fn through(mut request: SettleBalancesRequest, date: &str) -> SettleBalancesRequest {
    request.available_through = date.to_owned();
    request
}

fn part(account_id: &str, amount: &str) -> SettleBalancesRequest {
    settle_accounts(vec![(account_id, money(amount, "EUR"))])
}

/// What each row of a settlement pays: `aff-1 12.50 EUR`, by account and currency.
async fn paid(app: &App, response: &proto::SettleBalancesResponse) -> Vec<String> {
    let mut rows: Vec<String> = app
        .rows_of(&settlement_id(response))
        .await
        .iter()
        .map(|row| format!("{} {}", row.account_id, shown(&row.money)))
        .collect();
    rows.sort_unstable();
    rows
}

/// Kind and amount of what the only row of a settlement holds.
async fn held(app: &App, response: &proto::SettleBalancesResponse) -> Vec<String> {
    let row = app.rows_of(&settlement_id(response)).await.remove(0);
    let request = proto::ListEntriesRequest {
        account_settlement_id: row.id,
        page_size: 1000,
        ..Default::default()
    };
    let entries = app.list_entries(request).await;
    let told = |entry: &Entry| format!("{:?} {} {}", entry.kind(), shown(&entry.money), entry.effective_date);
    entries.iter().map(told).collect()
}

async fn accounts_are_settled_with_an_amount_or_with_all_their_currencies(app: App) {
    app.payable_account("aff-1", &["EUR", "USD", "JPY"]).await;
    app.payable_account("aff-2", &["EUR", "USD"]).await;
    app.payable_account("aff-3", &["EUR"]).await;
    app.post(vec![
        entry("1", "aff-1", "10.5", "EUR"),
        entry("2", "aff-1", "20", "USD"),
        entry("3", "aff-1", "300", "JPY"),
        entry("4", "aff-2", "40", "EUR"),
        entry("5", "aff-2", "50", "USD"),
        entry("6", "aff-3", "60", "EUR"),
    ])
    .await;
    let request = settle_accounts(vec![("aff-1", None), ("aff-2", money("50.00", "USD"))]);
    let tried = app.try_settle(validating(&request)).await.unwrap();
    let settled = app.settle_request(request).await;
    assert_eq!(totals(&settled), ["10.50 EUR", "300 JPY", "70.00 USD"]);
    assert_eq!(totals(&tried), totals(&settled));
    assert_eq!(settled.skipped_count, 0);
    let rows = ["aff-1 10.50 EUR", "aff-1 20.00 USD", "aff-1 300 JPY", "aff-2 50.00 USD"];
    assert_eq!(paid(&app, &settled).await, rows);
    assert_eq!(app.shown_open("aff-2").await, ["40.00 EUR", "0.00 USD"]);
    assert_eq!(app.shown_open("aff-3").await, ["60.00 EUR"]);
}

async fn paypal_is_paid_in_whole_units_where_it_takes_no_fractions(app: App) {
    app.with_billing_details("aff-1").await;
    let paypal = proto::payment_method::Details::Paypal(proto::Paypal {
        email: "ada@example.com".to_owned(),
    });
    app.with_method(proto::PaymentMethod {
        account_id: "aff-1".to_owned(),
        currency_code: "HUF".to_owned(),
        details: Some(paypal),
        ..Default::default()
    })
    .await;
    app.payable_account("aff-2", &["HUF"]).await;
    app.post(vec![
        entry("order-1", "aff-1", "10.509", "HUF"),
        entry("order-2", "aff-2", "10.509", "HUF"),
    ])
    .await;
    let settled = app.settle(&["aff-1", "aff-2"]).await;
    assert_eq!(totals(&settled), ["20.50 HUF"]);
    assert_eq!(app.shown_open("aff-1").await, ["0.509 HUF"]);
    assert_eq!(app.shown_open("aff-2").await, ["0.009 HUF"]);
}

async fn an_amount_beyond_every_balance_is_malformed(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    for (amount, code) in [("1000000000000.01", Code::InvalidArgument), ("1000000000000", Code::Ok)] {
        let request = settle_accounts(vec![("aff-1", money(amount, "EUR"))]);
        let outcome = app.balances().settle_balances(request).await;
        assert_eq!(
            outcome.map_or_else(|status| status.code(), |_| Code::Ok),
            code,
            "{amount}"
        );
    }
}

async fn a_filter_settles_exactly_what_the_list_shows(app: App) {
    for (number, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        app.payable_account(id, &["EUR", "USD"]).await;
        let amount = format!("{}.019", number + 1);
        app.post(vec![
            entry(&format!("{id}/1"), id, &amount, "EUR"),
            entry(&format!("{id}/2"), id, &amount, "USD"),
        ])
        .await;
    }
    app.post(vec![entry("e", "e", "5", "EUR"), entry("f", "f", "0.5", "EUR")])
        .await;
    let filter = BalanceFilter {
        minimum: money("2.019", "EUR"),
        ..of_accounts(&["a", "b", "c", "e", "f"])
    };
    let listed = app.list_open(&filter, "", 0).await;
    let (payable, others): (Vec<_>, Vec<_>) = listed.iter().partition(|balance| balance.payable);
    let expected: Vec<String> = payable
        .iter()
        .map(|balance| format!("{} {}", balance.account_id, shown(&balance.payable_money)))
        .collect();
    assert_eq!(expected, ["b 2.01 EUR", "c 3.01 EUR"]);
    let left_out: Vec<String> = others.iter().map(|balance| balance.account_id.clone()).collect();
    assert_eq!(left_out, ["e"]);
    let settled = app.settle_request(settle_filter(filter.clone())).await;
    assert_eq!(paid(&app, &settled).await, expected);
    assert_eq!(all_skipped(&settled), ["e EUR NO_BILLING_DETAILS 5.00 EUR"]);
    assert_eq!(app.shown_open("a").await, ["1.019 EUR", "1.019 USD"]);
    assert_eq!(app.shown_open("d").await, ["4.019 EUR", "4.019 USD"]);
    assert_eq!(app.shown_open("b").await, ["0.009 EUR", "2.019 USD"]);
    let payable_only = BalanceFilter {
        payable_only: true,
        ..Default::default()
    };
    let alone = app
        .balances()
        .settle_balances(settle_filter(payable_only.clone()))
        .await;
    assert_eq!(alone.unwrap_err().code(), Code::InvalidArgument, "it means everybody");
    let everybody = SettleBalancesRequest {
        all_accounts: true,
        ..settle_filter(payable_only)
    };
    let settled = app.settle_request(everybody).await;
    assert_eq!(totals(&settled), ["5.02 EUR", "10.04 USD"]);
    assert_eq!(settled.skipped_count, 0);
}

async fn a_filter_run_tells_of_pending_money_that_it_leaves_out(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.payable_account("aff-2", &["EUR"]).await;
    app.post(vec![on("1", "aff-1", "5", FUTURE), on("2", "aff-2", "5", "2026-03-01")])
        .await;
    let request = through(settle_everybody(), "2026-02-28");
    let left_out = ["aff-1 EUR NOTHING_OPEN 0.00 EUR", "aff-2 EUR NOTHING_OPEN 0.00 EUR"];
    assert_eq!(
        all_skipped(&app.try_settle(validating(&request)).await.unwrap()),
        left_out
    );
    assert_eq!(all_skipped(&app.settle_request(request).await), left_out);
    let settled = app.settle_request(settle_everybody()).await;
    assert_eq!(
        (paid(&app, &settled).await, all_skipped(&settled)),
        (vec!["aff-2 5.00 EUR".to_owned()], vec![left_out[0].to_owned()])
    );
}

/// Settles the first account for 5 EUR twice in one call; the reasons of both, which a validation must tell too.
async fn reasons(app: &App) -> Vec<String> {
    let five = || ("aff-1", money("5", "EUR"));
    let request = settle_accounts(vec![five(), five()]);
    let tried = all_skipped(&app.try_settle(validating(&request)).await.unwrap());
    let settled = app.settle_request(request).await;
    assert_eq!(all_skipped(&settled), tried);
    assert_eq!(app.skipped_of(&settlement_id(&settled), 1).await, tried);
    tried
}

async fn the_first_reason_that_applies_is_told(app: App) {
    let told = |reason: &str, amount: &str| {
        let first = format!("aff-1 EUR {reason} {amount} EUR");
        vec![first, "aff-1 EUR DUPLICATE_ACCOUNT 5.00 EUR".to_owned()]
    };
    app.set_minimums("bank_transfer", vec![money("6", "EUR").unwrap()])
        .await;
    app.post(vec![entry("1", "aff-1", "-3", "EUR")]).await;
    app.hold("aff-1", "check").await.unwrap();
    assert_eq!(reasons(&app).await, told("ACCOUNT_ON_HOLD", "-3.00"));
    app.release("aff-1").await.unwrap();
    assert_eq!(reasons(&app).await, told("NO_BILLING_DETAILS", "-3.00"));
    app.with_billing_details("aff-1").await;
    app.with_method(bank_method("aff-1", "USD")).await;
    assert_eq!(reasons(&app).await, told("NO_PAYMENT_METHOD", "-3.00"));
    app.with_method(bank_method("aff-1", "EUR")).await;
    app.enable_type("bank_transfer", false).await;
    assert_eq!(reasons(&app).await, told("PAYMENT_METHOD_DISABLED", "-3.00"));
    app.enable_type("bank_transfer", true).await;
    assert_eq!(reasons(&app).await, told("NEGATIVE_BALANCE", "-3.00"));
    app.post(vec![entry("2", "aff-1", "3", "EUR")]).await;
    assert_eq!(reasons(&app).await, told("NOTHING_OPEN", "0.00"));
    app.post(vec![entry("3", "aff-1", "4.999999", "EUR")]).await;
    assert_eq!(reasons(&app).await, told("AMOUNT_ABOVE_OPEN_BALANCE", "5.00"));
    app.post(vec![entry("4", "aff-1", "2.000001", "EUR")]).await;
    assert_eq!(reasons(&app).await, told("BELOW_MINIMUM", "7.00"));
    app.set_minimums("bank_transfer", vec![money("5", "EUR").unwrap()])
        .await;
    assert_eq!(reasons(&app).await, ["aff-1 EUR DUPLICATE_ACCOUNT 5.00 EUR"]);
    assert_eq!(app.shown_open("aff-1").await, ["2.00 EUR"]);
}

async fn accounts_without_entries_are_skipped_with_the_first_reason(app: App) {
    let told = async || {
        let request = settle_accounts(vec![("aff-1", None), ("aff-2", money("1", "EUR"))]);
        all_skipped(&app.settle_request(request).await)
    };
    assert_eq!(
        told().await,
        ["aff-1  NO_BILLING_DETAILS ", "aff-2 EUR NO_BILLING_DETAILS 0.00 EUR"]
    );
    for id in ["aff-1", "aff-2"] {
        app.with_billing_details(id).await;
    }
    assert_eq!(
        told().await,
        ["aff-1  NO_PAYMENT_METHOD ", "aff-2 EUR NO_PAYMENT_METHOD 0.00 EUR"]
    );
    for id in ["aff-1", "aff-2"] {
        app.with_method(bank_method(id, "EUR")).await;
    }
    assert_eq!(
        told().await,
        ["aff-1  NOTHING_OPEN ", "aff-2 EUR NOTHING_OPEN 0.00 EUR"]
    );
    app.hold("aff-1", "check").await.unwrap();
    app.hold("aff-2", "check").await.unwrap();
    assert_eq!(
        told().await,
        ["aff-1  ACCOUNT_ON_HOLD ", "aff-2 EUR ACCOUNT_ON_HOLD 0.00 EUR"]
    );
}

async fn an_account_named_twice_is_settled_once(app: App) {
    for (id, currencies) in [("aff-1", vec!["EUR", "USD"]), ("aff-2", vec!["EUR"]), ("aff-3", vec![])] {
        app.payable_account(id, &currencies).await;
    }
    app.post(vec![
        entry("1", "aff-1", "10", "EUR"),
        entry("2", "aff-1", "20", "USD"),
        entry("3", "aff-2", "30", "EUR"),
    ])
    .await;
    let request = settle_accounts(vec![
        ("aff-1", money("4", "EUR")),
        ("aff-1", None),
        ("aff-2", None),
        ("aff-2", None),
        ("aff-1", money("1", "USD")),
        ("aff-3", None),
        ("aff-3", None),
        ("aff-2", money("2", "EUR")),
    ]);
    let settled = app.settle_request(request).await;
    assert_eq!(
        paid(&app, &settled).await,
        ["aff-1 20.00 USD", "aff-1 4.00 EUR", "aff-2 30.00 EUR"]
    );
    assert_eq!(
        all_skipped(&settled),
        [
            "aff-1 EUR DUPLICATE_ACCOUNT 10.00 EUR",
            "aff-2 EUR DUPLICATE_ACCOUNT 30.00 EUR",
            "aff-1 USD DUPLICATE_ACCOUNT 1.00 USD",
            "aff-3  NO_PAYMENT_METHOD ",
            "aff-3  DUPLICATE_ACCOUNT ",
            "aff-2 EUR DUPLICATE_ACCOUNT 2.00 EUR",
        ]
    );
    // A filter means each account once, however often it is named.
    app.post(vec![entry("4", "aff-2", "1", "EUR")]).await;
    let settled = app
        .settle_request(settle_filter(of_accounts(&["aff-2", "aff-2"])))
        .await;
    assert_eq!(
        (paid(&app, &settled).await, settled.skipped_count),
        (vec!["aff-2 1.00 EUR".to_owned()], 0)
    );
}

fn expecting(amounts: &[(&str, &str)]) -> SettleBalancesRequest {
    let expected_totals = amounts
        .iter()
        .map(|(amount, currency)| money(amount, currency).unwrap())
        .collect();
    SettleBalancesRequest {
        expected_totals,
        ..settle_accounts(vec![("aff-1", None), ("aff-2", None)])
    }
}

async fn totals_that_are_not_as_expected_change_nothing(app: App) {
    app.payable_account("aff-1", &["EUR", "USD"]).await;
    app.payable_account("aff-2", &["EUR"]).await;
    app.post(vec![
        entry("1", "aff-1", "10.009", "EUR"),
        entry("2", "aff-1", "20", "USD"),
        entry("3", "aff-2", "1", "EUR"),
    ])
    .await;
    let wrong: [&[(&str, &str)]; 5] = [
        &[("11", "EUR")],
        &[("11", "EUR"), ("20.01", "USD")],
        &[("11.01", "EUR"), ("20", "USD")],
        &[("11", "EUR"), ("20", "USD"), ("1", "JPY")],
        &[("0", "EUR")],
    ];
    for amounts in wrong {
        let request = expecting(amounts);
        for request in [validating(&request), request] {
            let outcome = app.try_settle(request).await;
            assert_refused(outcome, Code::Aborted, "EXPECTED_TOTALS_MISMATCH");
        }
    }
    assert_eq!(app.count_settlements().await, 0);
    assert_eq!(app.shown_open("aff-1").await, ["10.009 EUR", "20.00 USD"]);
    for bad in [
        &[("-1", "EUR")][..],
        &[("1.001", "EUR")],
        &[("1", "EUX")],
        &[("1", "EUR"), ("1", "EUR")],
        &[("x", "EUR")],
    ] {
        let fields = violated(app.try_settle(expecting(bad)).await);
        assert!(
            fields.len() == 1 && fields[0].starts_with("expected_totals["),
            "{fields:?}"
        );
    }
    // The same request id may try again after an error, which is not remembered.
    let mut request = expecting(&[("11", "EUR")]);
    assert_refused(
        app.try_settle(request.clone()).await,
        Code::Aborted,
        "EXPECTED_TOTALS_MISMATCH",
    );
    request.expected_totals = expecting(&[("20.0", "USD"), ("11.00", "EUR"), ("0", "JPY")]).expected_totals;
    assert_eq!(totals(&app.settle_request(request).await), ["11.00 EUR", "20.00 USD"]);
}

async fn validating_changes_nothing_and_is_not_remembered(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        entry("1", "aff-1", "10.009", "EUR"),
        entry("2", "aff-2", "1", "EUR"),
    ])
    .await;
    let mut request = settle_accounts(vec![("aff-1", money("4.5", "EUR")), ("aff-2", None)]);
    request.note = "March".to_owned();
    let before = app.entries_of("aff-1").await;
    let tried = app.try_settle(validating(&request)).await.unwrap();
    let settlement = tried.settlement.clone().unwrap();
    assert_eq!(
        (settlement.id.as_str(), settlement.etag.as_str(), settlement.create_time),
        ("", "", None)
    );
    assert_eq!(
        (settlement.note.as_str(), settlement.account_settlement_count),
        ("March", 1)
    );
    assert_eq!(app.entries_of("aff-1").await, before);
    assert_eq!(app.count_settlements().await, 0);
    // The same request id may then do it, with other content too.
    request.note = "April".to_owned();
    let settled = app.settle_request(request.clone()).await;
    assert_eq!((totals(&settled), &settled.skipped), (totals(&tried), &tried.skipped));
    assert_eq!(settled.settlement.unwrap().note, "April");
    let again = app.try_settle(validating(&request)).await.unwrap();
    assert_eq!(again.settlement.unwrap().id, "");
}

async fn a_request_id_answers_the_same_again_for_good(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("1", "aff-1", "10", "EUR")]).await;
    let request = settle_accounts(vec![("aff-1", money("4", "EUR")), ("aff-2", None)]);
    let first = app.settle_request(request.clone()).await;
    app.delete_settlement(&settlement_id(&first)).await.unwrap();
    app.post(vec![entry("2", "aff-1", "5", "EUR")]).await;
    let mut again = request.clone();
    let Some(proto::settle_balances_request::Selection::Accounts(accounts)) = &mut again.selection else {
        panic!("accounts are selected");
    };
    accounts.items[0].amount = money("4.00", "EUR");
    assert_eq!(app.settle_request(again).await, first);
    assert_eq!(app.shown_open("aff-1").await, ["15.00 EUR"]);
    let others = [
        through(request.clone(), "2026-03-01"),
        SettleBalancesRequest {
            note: "other".to_owned(),
            ..request.clone()
        },
        SettleBalancesRequest {
            expected_totals: vec![money("4", "EUR").unwrap()],
            ..request.clone()
        },
        SettleBalancesRequest {
            request_id: request.request_id.clone(),
            ..part("aff-1", "4.01")
        },
        SettleBalancesRequest {
            request_id: request.request_id.clone(),
            ..settle_everybody()
        },
    ];
    for other in others {
        assert_refused(
            app.try_settle(other).await,
            Code::FailedPrecondition,
            "REQUEST_ID_REUSED",
        );
    }
    // Also when everybody was skipped, and is payable now.
    let request = settle_accounts(vec![("aff-3", None)]);
    let skipped = app.settle_request(request.clone()).await;
    assert_eq!(skipped.skipped_count, 1);
    app.payable_account("aff-3", &["EUR"]).await;
    app.post(vec![entry("3", "aff-3", "5", "EUR")]).await;
    assert_eq!(app.settle_request(request).await, skipped);
    assert_eq!(app.shown_open("aff-3").await, ["5.00 EUR"]);
    for bad in ["", "1", "00000000000000000000000000000000"] {
        let request = SettleBalancesRequest {
            request_id: bad.to_owned(),
            ..part("aff-1", "1")
        };
        let fields = violated(app.try_settle(request).await);
        assert!(fields.iter().all(|field| field == "request_id"), "{fields:?}");
    }
}

async fn a_part_takes_debts_first_and_then_the_oldest(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        on("march", "aff-1", "20", "2026-03-01"),
        on("january", "aff-1", "5", "2026-01-01"),
        on("debt", "aff-1", "-3", "2026-04-01"),
        on("february", "aff-1", "10", "2026-02-01"),
    ])
    .await;
    assert_eq!(app.shown_open("aff-1").await, ["32.00 EUR"]);
    let settled = app.settle_request(part("aff-1", "7.5")).await;
    assert_eq!(totals(&settled), ["7.50 EUR"]);
    let mut held = held(&app, &settled).await;
    held.sort_unstable();
    let debt = held
        .iter()
        .position(|entry| entry.starts_with("Adjustment -3.00 EUR"))
        .unwrap();
    held.remove(debt);
    let expected = [
        "CarryForward -4.50 EUR 2026-02-01",
        "Commission 10.00 EUR 2026-02-01",
        "Commission 5.00 EUR 2026-01-01",
    ];
    assert_eq!(held, expected);
    assert_eq!(app.open_through("aff-1", "2026-01-31").await, ["0.00 EUR"]);
    assert_eq!(app.open_through("aff-1", "2026-02-01").await, ["4.50 EUR"]);
    assert_eq!(app.shown_open("aff-1").await, ["24.50 EUR"]);
    let carried: Vec<Entry> = app
        .entries_of("aff-1")
        .await
        .into_iter()
        .filter(|entry| entry.kind() == EntryKind::CarryForward)
        .collect();
    assert_eq!(carried.len(), 2);
    assert!(carried.iter().all(|entry| entry.source == "affiliate-billing"));
}

async fn parts_are_settled_until_nothing_is_left(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        on("1", "aff-1", "1", "2026-01-01"),
        on("2", "aff-1", "1.5", "2026-01-02"),
        on("3", "aff-1", "-0.5", "2026-01-02"),
    ])
    .await;
    for left in ["1.70 EUR", "1.40 EUR", "1.10 EUR", "0.80 EUR", "0.50 EUR", "0.20 EUR"] {
        assert_eq!(totals(&app.settle_request(part("aff-1", "0.3")).await), ["0.30 EUR"]);
        assert_eq!(app.shown_open("aff-1").await, [left]);
    }
    let above = app.settle_request(part("aff-1", "0.3")).await;
    assert_eq!(all_skipped(&above), ["aff-1 EUR AMOUNT_ABOVE_OPEN_BALANCE 0.30 EUR"]);
    assert_eq!(totals(&app.settle_request(part("aff-1", "0.2")).await), ["0.20 EUR"]);
    let empty = app.settle_request(part("aff-1", "0.01")).await;
    assert_eq!(all_skipped(&empty), ["aff-1 EUR NOTHING_OPEN 0.00 EUR"]);
}

async fn remainders_are_carried_at_the_scale_of_the_currency(app: App) {
    app.payable_account("aff-1", &["EUR", "JPY", "KWD"]).await;
    let post = async |round: &str, eur: &str, jpy: &str, kwd: &str| {
        app.post(vec![
            entry(&format!("{round}/1"), "aff-1", eur, "EUR"),
            entry(&format!("{round}/2"), "aff-1", jpy, "JPY"),
            entry(&format!("{round}/3"), "aff-1", kwd, "KWD"),
        ])
        .await;
    };
    post("one", "1.239999", "12.9", "1.2345").await;
    let settled = app.settle(&["aff-1"]).await;
    assert_eq!(totals(&settled), ["1.23 EUR", "12 JPY", "1.234 KWD"]);
    assert_eq!(app.shown_open("aff-1").await, ["0.009999 EUR", "0.9 JPY", "0.0005 KWD"]);
    let nothing = app.settle(&["aff-1"]).await;
    assert_eq!(
        all_skipped(&nothing),
        [
            "aff-1 EUR BELOW_MINIMUM 0.009999 EUR",
            "aff-1 JPY BELOW_MINIMUM 0.9 JPY",
            "aff-1 KWD BELOW_MINIMUM 0.0005 KWD"
        ]
    );
    post("two", "0.000001", "0.1", "0.0005").await;
    let settled = app.settle(&["aff-1"]).await;
    assert_eq!(totals(&settled), ["0.01 EUR", "1 JPY", "0.001 KWD"]);
    assert_eq!(app.shown_open("aff-1").await, ["0.00 EUR", "0 JPY", "0.000 KWD"]);
    for row in app.rows_of(&settlement_id(&settled)).await {
        let decimals = row
            .money
            .unwrap()
            .amount
            .split_once('.')
            .map_or(0, |(_, decimals)| decimals.len());
        assert!([0, 2, 3].contains(&decimals));
    }
}

async fn amounts_that_can_not_be_paid_are_malformed(app: App) {
    app.payable_account("aff-1", &["EUR", "JPY"]).await;
    app.post(vec![
        entry("1", "aff-1", "100", "EUR"),
        entry("2", "aff-1", "100", "JPY"),
    ])
    .await;
    let bad = [
        ("1.001", "EUR"),
        ("1.5", "JPY"),
        ("0", "EUR"),
        ("-1", "EUR"),
        ("1e1", "EUR"),
        ("", "EUR"),
        ("1.0001", "KWD"),
        ("99999999999999999999999999999999", "EUR"),
    ];
    for (amount, currency) in bad {
        let request = settle_accounts(vec![("aff-1", money("1", "EUR")), ("aff-1", money(amount, currency))]);
        let fields = violated(app.try_settle(request).await);
        assert_eq!(fields, ["accounts.items[1].amount.amount"], "{amount} {currency}");
    }
    let unknown = settle_accounts(vec![("", money("1", "EUX"))]);
    let fields = violated(app.try_settle(unknown).await);
    assert_eq!(
        fields,
        ["accounts.items[0].account_id", "accounts.items[0].amount.currency_code"]
    );
    assert_eq!(
        violated(app.try_settle(settle_accounts(vec![])).await),
        ["accounts.items"]
    );
    let mut long = part("aff-1", "1");
    long.note = "n".repeat(1001);
    assert_eq!(violated(app.try_settle(long).await), ["note"]);
    assert_eq!(app.count_settlements().await, 0);
    // More zeros than the currency has decimals are no more decimals.
    let fine = settle_accounts(vec![
        ("aff-1", money("1.100000", "EUR")),
        ("aff-1", money("2.00", "JPY")),
    ]);
    assert_eq!(totals(&app.settle_request(fine).await), ["1.10 EUR", "2 JPY"]);
}

async fn payouts_below_the_minimum_wait(app: App) {
    app.payable_account("aff-1", &["EUR", "USD"]).await;
    let minimums: Vec<Money> = vec![money("10", "EUR").unwrap()];
    app.set_minimums("bank_transfer", minimums).await;
    app.post(vec![
        entry("1", "aff-1", "9.999999", "EUR"),
        entry("2", "aff-1", "0.01", "USD"),
    ])
    .await;
    let settled = app.settle(&["aff-1"]).await;
    assert_eq!(all_skipped(&settled), ["aff-1 EUR BELOW_MINIMUM 9.999999 EUR"]);
    assert_eq!(totals(&settled), ["0.01 USD"]);
    app.post(vec![entry("3", "aff-1", "10.000001", "EUR")]).await;
    // A part of enough may be too little itself, and what is left may be less than the minimum.
    let too_little = app.settle_request(part("aff-1", "9.99")).await;
    assert_eq!(all_skipped(&too_little), ["aff-1 EUR BELOW_MINIMUM 20.00 EUR"]);
    assert_eq!(totals(&app.settle_request(part("aff-1", "10")).await), ["10.00 EUR"]);
    assert_eq!(totals(&app.settle(&["aff-1"]).await), ["10.00 EUR"]);
}

async fn a_disabled_default_is_not_replaced_by_another_method(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    let paypal = proto::Paypal {
        email: "aff-1@example.com".to_owned(),
    };
    let paypal = proto::PaymentMethod {
        details: Some(proto::payment_method::Details::Paypal(paypal)),
        ..bank_method("aff-1", "EUR")
    };
    app.with_method(paypal).await;
    app.post(vec![entry("1", "aff-1", "9", "EUR")]).await;
    app.enable_type("bank_transfer", false).await;
    assert_eq!(
        all_skipped(&app.settle(&["aff-1"]).await),
        ["aff-1 EUR PAYMENT_METHOD_DISABLED 9.00 EUR"]
    );
    app.enable_type("bank_transfer", true).await;
    app.enable_type("paypal", false).await;
    assert_eq!(totals(&app.settle(&["aff-1"]).await), ["9.00 EUR"]);
}

async fn everybody_is_meant_only_when_said(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("1", "aff-1", "9", "EUR")]).await;
    let nobody = SettleBalancesRequest {
        all_accounts: false,
        ..settle_everybody()
    };
    assert_eq!(violated(app.try_settle(nobody).await), ["selection"]);
    let no_condition = settle_filter(BalanceFilter::default());
    assert_eq!(violated(app.try_settle(no_condition.clone()).await), ["all_accounts"]);
    assert_eq!(
        violated(app.try_settle(settle_filter(of_accounts(&[]))).await),
        ["all_accounts"]
    );
    let condition = settle_filter(of_accounts(&["aff-1"]));
    for request in [part("aff-1", "1"), condition] {
        let request = SettleBalancesRequest {
            all_accounts: true,
            ..request
        };
        assert_eq!(violated(app.try_settle(request).await), ["all_accounts"]);
    }
    assert_eq!(app.shown_open("aff-1").await, ["9.00 EUR"]);
    let request = SettleBalancesRequest {
        all_accounts: true,
        ..no_condition
    };
    let both = validating(&request);
    assert_eq!(totals(&app.try_settle(both).await.unwrap()), ["9.00 EUR"]);
    assert_eq!(totals(&app.settle_request(settle_everybody()).await), ["9.00 EUR"]);
}

fn many(count: i32, amount: &str) -> Vec<Vec<Entry>> {
    let ids: Vec<i32> = (0..count).collect();
    ids.chunks(1000)
        .map(|ids| {
            let of_account = |id: &i32| entry(&format!("e-{id:05}"), &format!("a-{id:05}"), amount, "EUR");
            ids.iter().map(of_account).collect()
        })
        .collect()
}

async fn all_that_were_skipped_can_be_listed(app: App) {
    for entries in many(2003, "1.5") {
        app.post(entries).await;
    }
    let settled = app.settle_request(settle_everybody()).await;
    assert_eq!((settled.skipped_count, settled.skipped.len()), (2003, 1000));
    let expected: Vec<String> = (0..2003)
        .map(|id| format!("a-{id:05} EUR NO_BILLING_DETAILS 1.50 EUR"))
        .collect();
    assert_eq!(all_skipped(&settled), expected[..1000]);
    let id = settlement_id(&settled);
    for page_size in [1000, 667] {
        assert_eq!(app.skipped_of(&id, page_size).await, expected);
    }
    assert_eq!(app.settlement(&id).await.skipped_count, 2003);
    let request = |settlement_id: &str, page_token: &str| proto::ListSkippedAccountsRequest {
        settlement_id: settlement_id.to_owned(),
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let mut client = app.settlements();
    let page = client
        .list_skipped_accounts(request(&id, ""))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.skipped.iter().map(skipped).collect::<Vec<_>>(), expected[..50]);
    let other = settlement_id(&app.settle(&["a-00000"]).await);
    let foreign = client
        .list_skipped_accounts(request(&other, &page.next_page_token))
        .await;
    assert_refused(foreign, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    let unknown = client.list_skipped_accounts(request(&request_id(), "")).await;
    assert_refused(unknown, Code::NotFound, "SETTLEMENT_NOT_FOUND");
}

async fn a_run_without_payouts_makes_a_settlement(app: App) {
    let mut request = settle_everybody();
    request.note = "nobody".to_owned();
    let settled = app.settle_request(request).await;
    let settlement = settled.settlement.unwrap();
    assert_eq!((settlement.account_settlement_count, settlement.skipped_count), (0, 0));
    assert!(settlement.totals.is_empty());
    assert_eq!(app.settlement(&settlement.id).await, settlement);
    assert_eq!(app.count_settlements().await, 1);
    let skipped = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(app.skipped_of(&skipped.id, 10).await, ["aff-1  NO_BILLING_DETAILS "]);
    app.delete_settlement(&skipped.id).await.unwrap();
    assert_eq!(app.skipped_of(&skipped.id, 10).await.len(), 1);
}

async fn a_remainder_of_a_past_cut_off_is_settled_with_the_same_cut_off(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        on("1", "aff-1", "10.005", "2026-01-15"),
        on("2", "aff-1", "100", "2026-02-15"),
    ])
    .await;
    let january = |request| through(request, "2026-01-31");
    let first = app.settle_request(january(part("aff-1", "4"))).await;
    assert_eq!(
        (
            totals(&first),
            first.settlement.as_ref().unwrap().available_through.as_str()
        ),
        (vec!["4.00 EUR".to_owned()], "2026-01-31")
    );
    assert_eq!(app.open_through("aff-1", "2026-01-31").await, ["6.005 EUR"]);
    assert_eq!(app.open_through("aff-1", "2026-01-14").await, ["0.00 EUR"]);
    let above = app.settle_request(january(part("aff-1", "6.01"))).await;
    assert_eq!(all_skipped(&above), ["aff-1 EUR AMOUNT_ABOVE_OPEN_BALANCE 6.01 EUR"]);
    let second = app.settle_request(january(settle_everybody())).await;
    assert_eq!(totals(&second), ["6.00 EUR"]);
    let third = app.settle_request(january(settle_everybody())).await;
    assert_eq!(all_skipped(&third), ["aff-1 EUR BELOW_MINIMUM 0.005 EUR"]);
    assert_eq!(totals(&app.settle_request(settle_everybody()).await), ["100.00 EUR"]);
    assert_eq!(app.shown_open("aff-1").await, ["0.005 EUR"]);
}

/// Deleting a row undoes it: through every date the same is open as before it was made.
async fn a_deleted_part_is_available_again_on_its_day(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        on("1", "aff-1", "5", "2026-01-15"),
        on("2", "aff-1", "10.009", "2026-02-15"),
    ])
    .await;
    for request in [part("aff-1", "8"), settle_everybody()] {
        let settled = app.settle_request(request).await;
        app.delete_settlement(&settlement_id(&settled)).await.unwrap();
        assert_eq!(app.open_through("aff-1", "2026-01-14").await, ["0.00 EUR"]);
        assert_eq!(app.open_through("aff-1", "2026-01-31").await, ["5.00 EUR"]);
        assert_eq!(app.shown_open("aff-1").await, ["15.009 EUR"]);
    }
    assert_eq!(
        totals(&app.settle_request(through(settle_everybody(), "2026-01-31")).await),
        ["5.00 EUR"]
    );
}

/// What was taken out of a day does not make a later part take from that day before the older ones.
async fn a_part_after_a_deletion_takes_the_oldest_first(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        on("1", "aff-1", "5", "2026-01-15"),
        on("2", "aff-1", "10", "2026-02-15"),
    ])
    .await;
    let settled = app.settle_request(part("aff-1", "8")).await;
    app.delete_settlement(&settlement_id(&settled)).await.unwrap();
    assert_eq!(totals(&app.settle_request(part("aff-1", "4")).await), ["4.00 EUR"]);
    assert_eq!(app.open_through("aff-1", "2026-01-31").await, ["1.00 EUR"]);
    assert_eq!(app.shown_open("aff-1").await, ["11.00 EUR"]);
}

async fn deleting_and_settling_again_conserves_money(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        on("1", "aff-1", "10.005", "2026-01-15"),
        on("2", "aff-1", "20.007", "2026-02-15"),
        on("3", "aff-1", "-3", "2026-02-15"),
    ])
    .await;
    let first = app.settle_request(part("aff-1", "9")).await;
    let second = app.settle_request(part("aff-1", "9")).await;
    assert_eq!(app.shown_open("aff-1").await, ["9.012 EUR"]);
    app.delete_settlement(&settlement_id(&first)).await.unwrap();
    assert_eq!(app.shown_open("aff-1").await, ["18.012 EUR"]);
    let third = app.settle_request(part("aff-1", "18")).await;
    assert_eq!(app.shown_open("aff-1").await, ["0.012 EUR"]);
    app.verify().await;
    for response in [&second, &third] {
        let row = app.rows_of(&settlement_id(response)).await.remove(0);
        app.delete_row(&row.id).await.unwrap();
    }
    assert_eq!(app.shown_open("aff-1").await, ["27.012 EUR"]);
    assert_eq!(totals(&app.settle(&["aff-1"]).await), ["27.01 EUR"]);
    assert_eq!(app.shown_open("aff-1").await, ["0.002 EUR"]);
    let emptied = app.settlement(&settlement_id(&third)).await;
    assert_eq!((emptied.account_settlement_count, emptied.totals.len()), (0, 0));
}

async fn a_later_posting_never_changes_what_is_settled(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("1", "aff-1", "10", "EUR")]).await;
    let settled = app.settle(&["aff-1"]).await;
    let (row, entries) = (app.rows_of(&settlement_id(&settled)).await, held(&app, &settled).await);
    app.post(vec![entry("2", "aff-1", "7", "EUR"), entry("3", "aff-1", "-1", "EUR")])
        .await;
    assert_eq!(app.rows_of(&settlement_id(&settled)).await, row);
    assert_eq!(held(&app, &settled).await, entries);
    assert_eq!(app.shown_open("aff-1").await, ["6.00 EUR"]);
    // Nor what a run has closed and left out.
    app.hold("aff-1", "check").await.unwrap();
    app.settle(&["aff-1"]).await;
    app.post(vec![entry("4", "aff-1", "2", "EUR")]).await;
    app.release("aff-1").await.unwrap();
    assert_eq!(totals(&app.settle(&["aff-1"]).await), ["8.00 EUR"]);
}

const PAYABLE: i32 = 2000;
const CONCURRENT: usize = 32;

async fn ten_thousand_accounts_are_settled_in_one_call(app: App) {
    for entries in many(10_000, "1.239") {
        app.post(entries).await;
    }
    let mut made = stream::iter(0..PAYABLE)
        .map(|id| {
            let app = app.clone();
            async move { app.payable_account(&format!("a-{id:05}"), &["EUR"]).await }
        })
        .buffer_unordered(CONCURRENT);
    while made.next().await.is_some() {}
    let settled = app.settle_request(settle_everybody()).await;
    assert_eq!(totals(&settled), ["2460.00 EUR"]);
    assert_eq!((settled.skipped_count, settled.skipped.len()), (8000, 1000));
    let settlement = settled.settlement.as_ref().unwrap();
    assert_eq!(settlement.status_counts.unwrap().new, i64::from(PAYABLE));
    assert_eq!(app.skipped_of(&settlement.id, 1000).await.len(), 8000);
    assert_eq!(app.shown_open("a-00000").await, ["0.009 EUR"]);
    assert_eq!(app.shown_open("a-09999").await, ["1.239 EUR"]);
    let names: Vec<String> = (0..10_000).map(|id| format!("a-{id:05}")).collect();
    let named = settle_accounts(names.iter().map(|id| (id.as_str(), None)).collect());
    let again = app.settle_request(named).await;
    assert_eq!((totals(&again).len(), again.skipped_count), (0, 10_000));
    app.delete_settlement(&settlement.id).await.unwrap();
    assert_eq!(app.shown_open("a-00000").await, ["1.239 EUR"]);
}
