//! Open balances: which are shown, why one is not payable, what they add up to, and payout holds.

use affiliate_billing::proto;
use affiliate_billing::proto::{BalanceFilter, Entry};
use tonic::Code;

use crate::support::app::App;
use crate::support::fixtures::{FUTURE, bank_method, entry, money, request_id, shown, tipalti_method};
use crate::support::harness::scenarios;
use crate::support::ledger::{
    assert_refused, balance, day, of_accounts, settle_everybody, settle_filter, skip_reason, totals, validating,
    violated,
};

scenarios![
    each_filter_alone_and_all_together,
    pending_money_is_apart,
    zero_balances_are_shown_of_named_accounts_only,
    every_reason_why_a_balance_is_not_payable,
    pages_of_one_go_through_all,
    pages_of_a_filter_that_few_fulfil,
    a_page_token_is_bound_to_its_filter,
    a_cut_off_in_the_past_shows_what_was_available_then,
    a_cut_off_after_today_is_refused,
    malformed_filters_are_refused_with_every_field,
    the_summary_is_what_a_run_would_pay,
    holds_keep_their_reason_until_released,
    holds_are_listed_newest_first,
    holding_with_a_request_id_answers_the_same_again;
];

fn paypal_method(account_id: &str, currency_code: &str) -> proto::PaymentMethod {
    let email = format!("{account_id}@example.com");
    proto::PaymentMethod {
        details: Some(proto::payment_method::Details::Paypal(proto::Paypal { email })),
        ..bank_method(account_id, currency_code)
    }
}

fn pending(external_id: &str, account_id: &str, amount: &str, currency_code: &str) -> Entry {
    Entry {
        available_date: FUTURE.to_owned(),
        ..entry(external_id, account_id, amount, currency_code)
    }
}

/// Accounts that differ in all that matters to a filter.
async fn various_accounts(app: &App) {
    app.payable_account("bank", &["EUR", "USD"]).await;
    app.with_billing_details("paypal").await;
    app.with_method(paypal_method("paypal", "EUR")).await;
    app.with_method(bank_method("paypal", "EUR")).await;
    app.with_billing_details("tipalti").await;
    app.with_method(tipalti_method("tipalti", "USD")).await;
    app.post(vec![
        entry("1", "bank", "10.005", "EUR"),
        entry("2", "bank", "20", "USD"),
        pending("3", "bank", "7", "USD"),
        entry("4", "paypal", "30", "EUR"),
        entry("5", "tipalti", "40", "USD"),
        entry("6", "bare", "50", "EUR"),
        entry("7", "negative", "-5", "EUR"),
        pending("8", "waiting", "6", "JPY"),
        entry("9", "zero", "1", "EUR"),
        entry("10", "zero", "-1", "EUR"),
    ])
    .await;
}

const BANK_EUR: &str = "bank 10.005 EUR + 0.00 EUR, 1 entries: 10.00 EUR";
const BANK_USD: &str = "bank 20.00 USD + 7.00 USD, 2 entries: 20.00 USD";
const BARE: &str = "bare 50.00 EUR + 0.00 EUR, 1 entries: NO_BILLING_DETAILS";
const NEGATIVE: &str = "negative -5.00 EUR + 0.00 EUR, 1 entries: NO_BILLING_DETAILS";
const PAYPAL: &str = "paypal 30.00 EUR + 0.00 EUR, 1 entries: 30.00 EUR";
const TIPALTI: &str = "tipalti 40.00 USD + 0.00 USD, 1 entries: 40.00 USD";
const WAITING: &str = "waiting 0 JPY + 6 JPY, 1 entries: NO_BILLING_DETAILS";
const ZERO: &str = "zero 0.00 EUR + 0.00 EUR, 2 entries: NO_BILLING_DETAILS";

async fn list(app: &App, filter: &BalanceFilter) -> Vec<String> {
    let listed = app.list_open(filter, "", 0).await;
    listed.iter().map(balance).collect()
}

async fn each_filter_alone_and_all_together(app: App) {
    various_accounts(&app).await;
    let all = [BANK_EUR, BANK_USD, BARE, NEGATIVE, PAYPAL, TIPALTI, WAITING];
    assert_eq!(list(&app, &BalanceFilter::default()).await, all);
    let named = of_accounts(&["zero", "bank", "unknown", "bank"]);
    assert_eq!(list(&app, &named).await, [BANK_EUR, BANK_USD, ZERO]);
    let in_currency = |code: &str| BalanceFilter {
        currency_code: code.to_owned(),
        ..Default::default()
    };
    assert_eq!(list(&app, &in_currency("USD")).await, [BANK_USD, TIPALTI]);
    assert_eq!(list(&app, &in_currency("JPY")).await, [WAITING]);
    assert!(list(&app, &in_currency("KWD")).await.is_empty());
    let by_type = |id: &str| BalanceFilter {
        payment_method_type_id: id.to_owned(),
        ..Default::default()
    };
    assert_eq!(list(&app, &by_type("bank_transfer")).await, [BANK_EUR, BANK_USD]);
    assert_eq!(list(&app, &by_type("paypal")).await, [PAYPAL]);
    assert!(list(&app, &by_type("unknown")).await.is_empty());
    let at_least = |amount: &str, code: &str| BalanceFilter {
        minimum: money(amount, code),
        ..Default::default()
    };
    assert_eq!(list(&app, &at_least("10.005", "EUR")).await, [BANK_EUR, BARE, PAYPAL]);
    assert_eq!(list(&app, &at_least("10.005001", "EUR")).await, [BARE, PAYPAL]);
    assert_eq!(list(&app, &at_least("20.01", "USD")).await, [TIPALTI]);
    assert_eq!(
        list(&app, &at_least("-5", "EUR")).await,
        [BANK_EUR, BARE, NEGATIVE, PAYPAL]
    );
    let payable = BalanceFilter {
        payable_only: true,
        ..Default::default()
    };
    assert_eq!(list(&app, &payable).await, [BANK_EUR, BANK_USD, PAYPAL, TIPALTI]);
    let together = BalanceFilter {
        currency_code: "EUR".to_owned(),
        payment_method_type_id: "bank_transfer".to_owned(),
        minimum: money("1", "EUR"),
        payable_only: true,
        ..of_accounts(&["bank", "paypal", "bare"])
    };
    assert_eq!(list(&app, &together).await, [BANK_EUR]);
    let contrary = BalanceFilter {
        minimum: money("1", "USD"),
        ..in_currency("EUR")
    };
    assert!(list(&app, &contrary).await.is_empty());
}

async fn pending_money_is_apart(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    let tomorrow = Entry {
        available_date: day(2),
        ..entry("2", "aff-1", "2", "EUR")
    };
    app.post(vec![
        entry("1", "aff-1", "1", "EUR"),
        tomorrow,
        pending("3", "aff-1", "4", "EUR"),
    ])
    .await;
    let shown = "aff-1 1.00 EUR + 6.00 EUR, 3 entries: 1.00 EUR";
    assert_eq!(list(&app, &BalanceFilter::default()).await, [shown]);
    app.settle(&["aff-1"]).await;
    let shown = "aff-1 0.00 EUR + 6.00 EUR, 2 entries: NOTHING_OPEN";
    assert_eq!(list(&app, &BalanceFilter::default()).await, [shown]);
}

async fn zero_balances_are_shown_of_named_accounts_only(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("1", "aff-1", "1", "EUR")]).await;
    app.settle(&["aff-1"]).await;
    assert!(list(&app, &BalanceFilter::default()).await.is_empty());
    let shown = "aff-1 0.00 EUR + 0.00 EUR, 0 entries: NOTHING_OPEN";
    assert_eq!(list(&app, &of_accounts(&["aff-1"])).await, [shown]);
}

async fn reason_of(app: &App, account_id: &str) -> String {
    let balance = app.open_balances(&[account_id]).await.remove(0);
    assert_eq!(balance.payable, balance.payable_money.is_some());
    skip_reason(balance.not_payable_reason()).to_owned()
}

async fn every_reason_why_a_balance_is_not_payable(app: App) {
    app.set_minimums("bank_transfer", vec![money("5", "EUR").unwrap()])
        .await;
    app.post(vec![entry("1", "aff-1", "-1", "EUR")]).await;
    app.hold("aff-1", "check").await.unwrap();
    assert_eq!(reason_of(&app, "aff-1").await, "ACCOUNT_ON_HOLD");
    app.release("aff-1").await.unwrap();
    assert_eq!(reason_of(&app, "aff-1").await, "NO_BILLING_DETAILS");
    app.with_billing_details("aff-1").await;
    app.with_method(bank_method("aff-1", "USD")).await;
    assert_eq!(reason_of(&app, "aff-1").await, "NO_PAYMENT_METHOD");
    app.with_method(bank_method("aff-1", "EUR")).await;
    app.enable_type("bank_transfer", false).await;
    assert_eq!(reason_of(&app, "aff-1").await, "PAYMENT_METHOD_DISABLED");
    app.enable_type("bank_transfer", true).await;
    assert_eq!(reason_of(&app, "aff-1").await, "NEGATIVE_BALANCE");
    app.post(vec![entry("2", "aff-1", "1", "EUR")]).await;
    assert_eq!(reason_of(&app, "aff-1").await, "NOTHING_OPEN");
    app.post(vec![entry("3", "aff-1", "4.999999", "EUR")]).await;
    assert_eq!(reason_of(&app, "aff-1").await, "BELOW_MINIMUM");
    app.post(vec![entry("4", "aff-1", "0.000001", "EUR")]).await;
    assert_eq!(reason_of(&app, "aff-1").await, "UNSPECIFIED");
    app.set_minimums("bank_transfer", vec![]).await;
    app.payable_account("aff-2", &["EUR"]).await;
    app.post(vec![entry("5", "aff-2", "0.009999", "EUR")]).await;
    assert_eq!(reason_of(&app, "aff-2").await, "BELOW_MINIMUM");
}

async fn pages_of_one_go_through_all(app: App) {
    various_accounts(&app).await;
    let all = [BANK_EUR, BANK_USD, BARE, NEGATIVE, PAYPAL, TIPALTI, WAITING];
    for page_size in [1, 2, 3, 7, 8] {
        let listed = app.list_open(&BalanceFilter::default(), "", page_size).await;
        assert_eq!(listed.iter().map(balance).collect::<Vec<_>>(), all, "{page_size}");
        let payable = BalanceFilter {
            payable_only: true,
            ..Default::default()
        };
        let listed = app.list_open(&payable, "", page_size).await;
        let listed: Vec<String> = listed.iter().map(balance).collect();
        assert_eq!(listed, [BANK_EUR, BANK_USD, PAYPAL, TIPALTI], "{page_size}");
    }
}

/// The last of many balances alone fulfils the filter, behind several statements' worth of others.
async fn pages_of_a_filter_that_few_fulfil(app: App) {
    for batch in 0..3 {
        let entries = (0..800)
            .map(|number| {
                entry(
                    &format!("{batch}/{number}"),
                    &format!("a-{batch}-{number:03}"),
                    "1",
                    "EUR",
                )
            })
            .collect();
        app.post(entries).await;
    }
    app.payable_account("z", &["EUR"]).await;
    app.post(vec![entry("z", "z", "1", "EUR")]).await;
    let payable = BalanceFilter {
        payable_only: true,
        ..Default::default()
    };
    let shown = ["z 1.00 EUR + 0.00 EUR, 1 entries: 1.00 EUR"];
    assert_eq!(list(&app, &payable).await, shown);
    let all = app.list_open(&BalanceFilter::default(), "", 1000).await;
    assert_eq!(all.len(), 2401);
    let mut sorted: Vec<&str> = all.iter().map(|balance| balance.account_id.as_str()).collect();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 2401);
}

async fn a_page_token_is_bound_to_its_filter(app: App) {
    various_accounts(&app).await;
    let request = |filter: BalanceFilter, through: &str, page_token: &str| proto::ListOpenBalancesRequest {
        filter: Some(filter),
        available_through: through.to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
    };
    let euros = BalanceFilter {
        currency_code: "EUR".to_owned(),
        ..Default::default()
    };
    let mut client = app.balances();
    let first = client.list_open_balances(request(euros.clone(), "", "")).await.unwrap();
    let token = first.into_inner().next_page_token;
    let others = [
        request(BalanceFilter::default(), "", &token),
        request(euros.clone(), "2026-02-01", &token),
        request(
            BalanceFilter {
                payable_only: true,
                ..euros.clone()
            },
            "",
            &token,
        ),
    ];
    for other in others {
        let outcome = client.list_open_balances(other).await;
        assert_refused(outcome, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    }
    let second = client.list_open_balances(request(euros, "", &token)).await.unwrap();
    assert_eq!(balance(&second.into_inner().open_balances[0]), BARE);
}

async fn a_cut_off_in_the_past_shows_what_was_available_then(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    let on = |id: &str, amount: &str, date: &str| Entry {
        available_date: date.to_owned(),
        ..entry(id, "aff-1", amount, "EUR")
    };
    app.post(vec![
        on("1", "1", "2026-01-01"),
        on("2", "2", "2026-02-01"),
        on("3", "4", "2026-03-01"),
        on("4", "-8", "2026-03-01"),
    ])
    .await;
    app.post(vec![pending("5", "aff-1", "16", "EUR")]).await;
    let expected = [
        ("2025-12-31", "-8.00 EUR", "23.00 EUR"),
        ("2026-01-01", "-7.00 EUR", "22.00 EUR"),
        ("2026-02-28", "-5.00 EUR", "20.00 EUR"),
        ("2026-03-01", "-1.00 EUR", "16.00 EUR"),
        ("", "-1.00 EUR", "16.00 EUR"),
    ];
    for (through, open, pending) in expected {
        let listed = app.list_open(&BalanceFilter::default(), through, 0).await;
        assert_eq!(
            (shown(&listed[0].open).as_str(), shown(&listed[0].pending).as_str()),
            (open, pending),
            "{through}"
        );
    }
}

async fn a_cut_off_after_today_is_refused(app: App) {
    let through = |available_through: String| proto::ListOpenBalancesRequest {
        available_through,
        ..Default::default()
    };
    let mut client = app.balances();
    for date in [day(2), FUTURE.to_owned(), "2026-02-30".to_owned()] {
        let outcome = client.list_open_balances(through(date.clone())).await;
        assert_eq!(violated(outcome), ["available_through"]);
        let request = proto::SummarizeOpenBalancesRequest {
            available_through: date.clone(),
            ..Default::default()
        };
        assert_eq!(
            violated(client.summarize_open_balances(request).await),
            ["available_through"]
        );
        let mut request = settle_everybody();
        request.available_through = date;
        assert_eq!(violated(app.try_settle(request).await), ["available_through"]);
    }
    client.list_open_balances(through(day(-1))).await.unwrap();
}

async fn malformed_filters_are_refused_with_every_field(app: App) {
    let filter = BalanceFilter {
        currency_code: "EU".to_owned(),
        minimum: money("1e3", "XXX"),
        payment_method_type_id: "x".repeat(51),
        ..of_accounts(&["ok", "", "a b"])
    };
    let request = proto::ListOpenBalancesRequest {
        filter: Some(filter.clone()),
        available_through: "today".to_owned(),
        page_size: -1,
        ..Default::default()
    };
    let fields = [
        "filter.account_ids[1]",
        "filter.account_ids[2]",
        "filter.minimum.currency_code",
        "filter.minimum.amount",
        "filter.payment_method_type_id",
        "filter.currency_code",
    ];
    let listed = violated(app.balances().list_open_balances(request).await);
    assert_eq!(listed, [&fields[..], &["available_through", "page_size"]].concat());
    assert_eq!(violated(app.try_settle(settle_filter(filter)).await), fields);
    let ids: Vec<String> = (0..10_001).map(|number| format!("a-{number}")).collect();
    let many = BalanceFilter {
        account_ids: ids,
        ..Default::default()
    };
    let request = proto::SummarizeOpenBalancesRequest {
        filter: Some(many),
        ..Default::default()
    };
    assert_eq!(
        violated(app.balances().summarize_open_balances(request).await),
        ["filter.account_ids"]
    );
}

/// What the summary says: funds needed by type, and what is left out by reason.
async fn summary(app: &App, filter: &BalanceFilter) -> (Vec<String>, Vec<String>) {
    let request = proto::SummarizeOpenBalancesRequest {
        filter: Some(filter.clone()),
        ..Default::default()
    };
    let answer = app
        .balances()
        .summarize_open_balances(request)
        .await
        .unwrap()
        .into_inner();
    let needed = answer.funds_needed.iter();
    let needed = needed.map(|funds| {
        format!(
            "{} {} {}",
            funds.payment_method_type_id,
            shown(&funds.money),
            funds.account_count
        )
    });
    let left_out = answer.not_payable.iter();
    let left_out = left_out.map(|left| {
        format!(
            "{} {} {}",
            skip_reason(left.reason()),
            shown(&left.money),
            left.account_count
        )
    });
    (needed.collect(), left_out.collect())
}

async fn the_summary_is_what_a_run_would_pay(app: App) {
    various_accounts(&app).await;
    app.payable_account("more", &["EUR"]).await;
    app.post(vec![entry("more", "more", "0.129", "EUR")]).await;
    let everybody = BalanceFilter::default();
    let (needed, left_out) = summary(&app, &everybody).await;
    assert_eq!(
        needed,
        [
            "bank_transfer 10.12 EUR 2",
            "bank_transfer 20.00 USD 1",
            "paypal 30.00 EUR 1",
            "tipalti 40.00 USD 1"
        ]
    );
    assert_eq!(
        left_out,
        ["NO_BILLING_DETAILS 45.00 EUR 2", "NO_BILLING_DETAILS 0 JPY 1"]
    );
    let run = settle_everybody();
    let tried = app.try_settle(validating(&run)).await.unwrap();
    assert_eq!(totals(&tried), ["40.12 EUR", "60.00 USD"]);
    assert_eq!(tried.skipped_count, 3);
    let done = app.try_settle(run).await.unwrap();
    assert_eq!((totals(&done), done.skipped), (totals(&tried), tried.skipped));
    let (needed, left_out) = summary(&app, &everybody).await;
    assert!(needed.is_empty());
    assert_eq!(
        left_out,
        [
            "NO_BILLING_DETAILS 45.00 EUR 2",
            "NO_BILLING_DETAILS 0 JPY 1",
            "NOTHING_OPEN 0.00 USD 1",
            "BELOW_MINIMUM 0.014 EUR 2"
        ]
    );
}

async fn holds_keep_their_reason_until_released(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("1", "aff-1", "1", "EUR")]).await;
    let hold = app.hold("aff-1", "fraud check").await.unwrap();
    assert_eq!(
        (hold.account_id.as_str(), hold.reason.as_str()),
        ("aff-1", "fraud check")
    );
    assert_eq!(
        (hold.actor.as_str(), hold.release_time, hold.release_actor.as_str()),
        ("unauthenticated", None, "")
    );
    assert_eq!(app.hold("aff-1", "fraud check").await.unwrap(), hold);
    let other = app.hold("aff-1", "another reason").await;
    assert_refused(other, Code::AlreadyExists, "PAYOUT_HOLD_ALREADY_EXISTS");
    assert_eq!(app.settle(&["aff-1"]).await.skipped_count, 1);
    let released = app.release("aff-1").await.unwrap();
    assert_eq!(
        (&released.id, released.release_actor.as_str()),
        (&hold.id, "unauthenticated")
    );
    assert!(released.release_time.is_some());
    assert_refused(app.release("aff-1").await, Code::NotFound, "PAYOUT_HOLD_NOT_FOUND");
    assert_refused(app.release("aff-9").await, Code::NotFound, "PAYOUT_HOLD_NOT_FOUND");
    assert_eq!(app.settle(&["aff-1"]).await.skipped_count, 0);
    let again = app.hold("aff-1", "fraud check").await.unwrap();
    assert_ne!(again.id, hold.id);
    for bad in ["", "  ", &"x".repeat(501)] {
        assert_eq!(violated(app.hold("aff-1", bad).await), ["reason"]);
    }
    assert_eq!(violated(app.hold("", "why").await), ["account_id"]);
    assert_eq!(violated(app.release("").await), ["account_id"]);
}

async fn holds(app: &App, account_id: &str, show_released: bool, page_size: i32) -> Vec<String> {
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListPayoutHoldsRequest {
            account_id: account_id.to_owned(),
            show_released,
            page_size,
            page_token,
        };
        let answer = app.balances().list_payout_holds(request).await.unwrap().into_inner();
        let told =
            |hold: &proto::PayoutHold| format!("{} {} {}", hold.account_id, hold.reason, hold.release_time.is_some());
        listed.extend(answer.payout_holds.iter().map(told));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return listed;
        }
    }
}

async fn holds_are_listed_newest_first(app: App) {
    for (account_id, reason) in [("aff-1", "one"), ("aff-2", "two")] {
        app.hold(account_id, reason).await.unwrap();
    }
    app.release("aff-1").await.unwrap();
    app.hold("aff-1", "three").await.unwrap();
    for page_size in [0, 1, 2] {
        assert_eq!(
            holds(&app, "", false, page_size).await,
            ["aff-1 three false", "aff-2 two false"]
        );
        let history = ["aff-1 three false", "aff-1 one true"];
        assert_eq!(holds(&app, "aff-1", true, page_size).await, history);
        assert_eq!(holds(&app, "", true, page_size).await.len(), 3);
    }
}

async fn holding_with_a_request_id_answers_the_same_again(app: App) {
    let request = proto::HoldPayoutsRequest {
        account_id: "aff-1".to_owned(),
        reason: "check".to_owned(),
        request_id: request_id(),
    };
    let mut client = app.balances();
    let first = client.hold_payouts(request.clone()).await.unwrap().into_inner();
    let release = proto::ReleasePayoutsRequest {
        account_id: "aff-1".to_owned(),
        request_id: request.request_id.clone(),
    };
    let released = client.release_payouts(release.clone()).await.unwrap().into_inner();
    // A late repeat does not hold it again.
    assert_eq!(client.hold_payouts(request.clone()).await.unwrap().into_inner(), first);
    assert!(holds(&app, "aff-1", false, 0).await.is_empty());
    assert_eq!(client.release_payouts(release).await.unwrap().into_inner(), released);
    let other = proto::HoldPayoutsRequest {
        reason: "other".to_owned(),
        ..request
    };
    let outcome = client.hold_payouts(other).await;
    assert_refused(outcome, Code::FailedPrecondition, "REQUEST_ID_REUSED");
}
