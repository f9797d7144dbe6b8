//! Entries: what is posted, what is the same, what is rejected, and what a clawback does.

use affiliate_billing::proto;
use affiliate_billing::proto::{Entry, EntryKind, Money};
use futures_util::StreamExt as _;
use prost_types::Timestamp;
use tonic::{Code, Status};

use crate::support::app::App;
use crate::support::fixtures::{FUTURE, clawback, entry, money, occur_time, request_id, shown};
use crate::support::harness::scenarios;
use crate::support::ledger::{assert_refused, day, violated};

scenarios![
    the_same_content_written_differently_is_already_posted,
    other_content_under_the_same_id_is_a_conflict,
    an_id_twice_in_one_call_counts_once,
    ids_are_told_apart_by_source_and_by_case,
    one_bad_entry_does_not_lose_the_others,
    a_rejected_entry_can_be_posted_once_it_is_right,
    a_call_has_one_to_a_thousand_entries,
    a_request_id_answers_the_same_again,
    a_balance_is_filled_to_its_limit_and_not_beyond,
    a_debt_is_filled_to_its_limit_and_not_beyond,
    clawbacks_take_back_an_entry_in_parts_and_not_more,
    clawbacks_name_an_entry_that_can_be_taken_back,
    clawbacks_follow_their_entry_in_the_same_call,
    clawbacks_of_one_call_together_exceed_an_entry,
    the_clawback_of_a_pending_entry_waits_for_it,
    the_clawback_of_an_available_entry_counts_at_once,
    a_refund_after_payout_is_recovered_once,
    a_debt_counts_whatever_the_cut_off,
    streams_answer_chunks_in_order,
    an_invalid_chunk_ends_the_stream_and_leaves_the_earlier_ones,
    entries_are_listed_in_the_order_of_posting,
    entries_are_listed_by_account_settlement_also_a_deleted_one,
    entries_are_listed_by_time,
    page_tokens_of_other_lists_and_filters_are_refused;
];

const POSTED: &str = "POSTED";
const ALREADY_POSTED: &str = "ALREADY_POSTED";
const CONFLICT: &str = "EXTERNAL_ID_CONFLICT external_id";
const BEYOND: &str = "BALANCE_LIMIT_EXCEEDED money.amount";

fn changed(entry: &Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    let mut entry = entry.clone();
    change(&mut entry);
    entry
}

/// An entry that becomes available on a date.
fn dated(entry: Entry, available_date: &str) -> Entry {
    changed(&entry, |entry| entry.available_date = available_date.to_owned())
}

fn post_request(entries: Vec<Entry>) -> proto::PostEntriesRequest {
    proto::PostEntriesRequest {
        entries,
        ..Default::default()
    }
}

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.external_id.as_str()).collect()
}

async fn the_same_content_written_differently_is_already_posted(app: App) {
    let first = changed(&entry("order-1", "aff-1", "1.5", "EUR"), |entry| {
        entry.occur_time.as_mut().unwrap().nanos = 123_456_789;
    });
    let refund = clawback("refund-1", "order-1", "aff-1", "-0.5", "EUR");
    app.post(vec![first.clone(), refund.clone()]).await;
    let nanos = |nanos| move |entry: &mut Entry| entry.occur_time.as_mut().unwrap().nanos = nanos;
    let again = vec![
        first.clone(),
        changed(&first, |entry| entry.money = money("1.50", "EUR")),
        changed(&first, |entry| entry.money = money("001.500000", "EUR")),
        changed(&first, nanos(123_456_000)),
        changed(&first, nanos(123_456_999)),
        changed(&first, |entry| entry.available_date = "2026-01-31".to_owned()),
        // Output only: what was read can be sent again as it is.
        changed(&first, |entry| entry.id = "anything".to_owned()),
        changed(&refund, |entry| entry.money = money("-0.500", "EUR")),
        refund,
    ];
    let count = again.len();
    assert_eq!(app.try_post(again).await, vec![ALREADY_POSTED; count]);
    assert_eq!(app.entries_of("aff-1").await.len(), 2);
    assert_eq!(app.shown_open("aff-1").await, ["1.00 EUR"]);
    let read = app.entries_of("aff-1").await;
    assert_eq!(app.try_post(read).await, [ALREADY_POSTED, ALREADY_POSTED]);
}

async fn other_content_under_the_same_id_is_a_conflict(app: App) {
    let first = entry("order-1", "aff-1", "1.5", "EUR");
    let second = entry("order-2", "aff-1", "9", "EUR");
    let from_shop = changed(&first, |entry| entry.source = "shop".to_owned());
    let refund = clawback("refund-1", "order-1", "aff-1", "-0.5", "EUR");
    app.post(vec![first.clone(), second, from_shop, refund.clone()]).await;
    let others = vec![
        changed(&first, |entry| entry.money = money("1.500001", "EUR")),
        changed(&first, |entry| entry.money = money("1.5", "USD")),
        changed(&first, |entry| entry.account_id = "aff-2".to_owned()),
        changed(&first, |entry| entry.kind = EntryKind::Bonus.into()),
        changed(&first, |entry| entry.occur_time.as_mut().unwrap().nanos = 1000),
        changed(&first, |entry| entry.available_date = "2026-02-01".to_owned()),
        changed(&first, |entry| entry.description = "late".to_owned()),
        changed(&refund, |entry| entry.reverses_external_id = "order-2".to_owned()),
        changed(&refund, |entry| entry.reverses_source = "shop".to_owned()),
    ];
    let count = others.len();
    let before = app.entries_of("aff-1").await;
    assert_eq!(app.try_post(others).await, vec![CONFLICT; count]);
    assert_eq!(app.entries_of("aff-1").await, before);
    assert!(app.open_balances(&["aff-2"]).await.is_empty());
}

async fn an_id_twice_in_one_call_counts_once(app: App) {
    let first = entry("order-1", "aff-1", "2", "EUR");
    let outcomes = app
        .try_post(vec![
            first.clone(),
            changed(&first, |entry| entry.money = money("2.0", "EUR")),
            changed(&first, |entry| entry.money = money("3", "EUR")),
            changed(&first, |entry| entry.money = money("x", "EUR")),
            first,
        ])
        .await;
    let malformed = "INVALID_ENTRY money.amount";
    assert_eq!(outcomes, [POSTED, ALREADY_POSTED, CONFLICT, malformed, ALREADY_POSTED]);
    assert_eq!(app.shown_open("aff-1").await, ["2.00 EUR"]);
}

async fn ids_are_told_apart_by_source_and_by_case(app: App) {
    let first = entry("order-1", "aff-1", "1", "EUR");
    let sourced = |source: &str| changed(&first, |entry| entry.source = source.to_owned());
    let upper = changed(&first, |entry| entry.external_id = "ORDER-1".to_owned());
    app.post(vec![first.clone(), sourced("shop"), sourced("Shop"), upper])
        .await;
    assert_eq!(app.shown_open("aff-1").await, ["4.00 EUR"]);
    // A clawback means its own source unless it names another.
    let refund = clawback("refund-1", "order-1", "aff-1", "-1", "EUR");
    let of_shop = changed(&refund, |entry| entry.source = "shop".to_owned());
    let by_other = changed(&refund, |entry| {
        entry.source = "refunds".to_owned();
        entry.reverses_source = "Shop".to_owned();
    });
    let unknown = changed(&refund, |entry| entry.source = "nowhere".to_owned());
    let outcomes = app.try_post(vec![refund, of_shop, by_other, unknown]).await;
    let not_found = "REVERSED_ENTRY_NOT_FOUND reverses_external_id";
    assert_eq!(outcomes, [POSTED, POSTED, POSTED, not_found]);
    let reversed: Vec<String> = app.entries_of("aff-1").await[4..]
        .iter()
        .map(|entry| format!("{}/{}", entry.reverses_source, entry.reverses_external_id))
        .collect();
    assert_eq!(reversed, ["/order-1", "shop/order-1", "Shop/order-1"]);
}

/// Every way in which a well-formed entry becomes malformed, with the field that is answered.
fn malformed_entries() -> Vec<(&'static str, Entry)> {
    let good = entry("bad", "aff-1", "1", "EUR");
    let refund = clawback("bad", "good-0", "aff-1", "-1", "EUR");
    let of_kind = |kind: EntryKind, amount: &str| {
        changed(&good, |entry| {
            entry.kind = kind.into();
            entry.money = money(amount, "EUR");
        })
    };
    let mut cases: Vec<(&str, Entry)> = Vec::new();
    for amount in AMOUNTS {
        let bad = changed(&good, |entry| entry.money = money(amount, "EUR"));
        cases.push(("money.amount", bad));
    }
    for currency in ["", "EUX", "eur", "BGN", "XXX", "XAU", "EURO"] {
        let bad = changed(&good, |entry| entry.money = money("1", currency));
        cases.push(("money.currency_code", bad));
    }
    for date in DATES {
        cases.push(("available_date", dated(good.clone(), date)));
    }
    for seconds_and_nanos in [(i64::MAX, 0), (0, -1), (0, 1_000_000_000), (253_402_300_800, 0)] {
        let (seconds, nanos) = seconds_and_nanos;
        let bad = changed(&good, |entry| entry.occur_time = Some(Timestamp { seconds, nanos }));
        cases.push(("occur_time", bad));
    }
    let long = "x".repeat(129);
    cases.extend([
        ("money.amount", of_kind(EntryKind::Commission, "-1")),
        ("money.amount", of_kind(EntryKind::Bonus, "-1")),
        (
            "money.amount",
            changed(&refund, |entry| entry.money = money("1", "EUR")),
        ),
        ("kind", of_kind(EntryKind::CarryForward, "1")),
        ("kind", of_kind(EntryKind::Unspecified, "1")),
        ("kind", changed(&good, |entry| entry.kind = 99)),
        ("money", changed(&good, |entry| entry.money = None)),
        ("money.amount", changed(&good, |entry| entry.money = money("", "EUR"))),
        ("occur_time", changed(&good, |entry| entry.occur_time = None)),
        ("account_id", changed(&good, |entry| entry.account_id.clear())),
        (
            "account_id",
            changed(&good, |entry| entry.account_id = "aff 1".to_owned()),
        ),
        ("account_id", changed(&good, |entry| entry.account_id.clone_from(&long))),
        ("external_id", changed(&good, |entry| entry.external_id.clear())),
        (
            "external_id",
            changed(&good, |entry| entry.external_id = "a b".to_owned()),
        ),
        (
            "external_id",
            changed(&good, |entry| entry.external_id.clone_from(&long)),
        ),
        (
            "source",
            changed(&good, |entry| entry.source = "affiliate-billing".to_owned()),
        ),
        ("source", changed(&good, |entry| entry.source = "s".repeat(65))),
        ("source", changed(&good, |entry| entry.source = "söurce".to_owned())),
        (
            "description",
            changed(&good, |entry| entry.description = "d".repeat(501)),
        ),
        (
            "description",
            changed(&good, |entry| entry.description = "\u{0}".to_owned()),
        ),
        (
            "reverses_external_id",
            changed(&refund, |entry| entry.reverses_external_id.clear()),
        ),
        (
            "reverses_external_id",
            changed(&good, |entry| entry.reverses_external_id = "x".to_owned()),
        ),
        (
            "reverses_external_id",
            changed(&good, |entry| entry.reverses_source = "x".to_owned()),
        ),
    ]);
    cases
}

const AMOUNTS: [&str; 26] = [
    "NaN",
    "inf",
    "1e3",
    "+1",
    "1,5",
    "-0",
    "-0.00",
    ".5",
    "5.",
    "1.0000001",
    "0",
    "0.000000",
    " 1",
    "1 ",
    "1_000",
    "0x10",
    "--1",
    "1.2.3",
    "−1",
    "١٢",
    "１",
    "1234567890123456789012345678901234567890",
    "10000000000.000001",
    "10000000001",
    "9999999999999999999999999999",
    "1\u{0}",
];

const DATES: [&str; 11] = [
    "2026-1-01",
    "2026-13-01",
    "2026-02-29",
    "2026-00-10",
    "01-01-2026",
    "2026-01-01T00:00:00Z",
    "20260101",
    "tomorrow",
    "0000-01-01",
    "-026-01-01",
    "2026-1--01",
];

async fn one_bad_entry_does_not_lose_the_others(app: App) {
    let cases = malformed_entries();
    let mut entries = vec![entry("good-0", "aff-1", "1", "EUR")];
    let mut expected = vec![POSTED.to_owned()];
    for (index, (field, bad)) in cases.iter().enumerate() {
        entries.push(bad.clone());
        expected.push(format!("INVALID_ENTRY {field}"));
        entries.push(entry(&format!("good-{}", index + 1), "aff-1", "1", "EUR"));
        expected.push(POSTED.to_owned());
    }
    let outcomes = app.try_post(entries.clone()).await;
    for ((entry, outcome), expected) in entries.iter().zip(outcomes).zip(expected) {
        assert_eq!(outcome, expected, "{entry:?}");
    }
    let posted = app.entries_of("aff-1").await;
    assert_eq!(posted.len(), cases.len() + 1);
    assert!(posted.iter().all(|entry| entry.external_id.starts_with("good-")));
    assert_eq!(app.shown_open("aff-1").await, [format!("{}.00 EUR", cases.len() + 1)]);
}

async fn a_rejected_entry_can_be_posted_once_it_is_right(app: App) {
    let refund = clawback("refund-1", "order-1", "aff-1", "-1", "EUR");
    let not_found = "REVERSED_ENTRY_NOT_FOUND reverses_external_id";
    assert_eq!(app.try_post(vec![refund.clone()]).await, [not_found]);
    let bad = entry("order-1", "aff-1", "1,5", "EUR");
    assert_eq!(app.try_post(vec![bad]).await, ["INVALID_ENTRY money.amount"]);
    let good = entry("order-1", "aff-1", "1.5", "EUR");
    assert_eq!(app.try_post(vec![good, refund]).await, [POSTED, POSTED]);
    assert_eq!(app.shown_open("aff-1").await, ["0.50 EUR"]);
}

async fn a_call_has_one_to_a_thousand_entries(app: App) {
    let entries = |count: i32| -> Vec<Entry> {
        (0..count)
            .map(|number| entry(&format!("order-{number}"), "aff-1", "0.001", "EUR"))
            .collect()
    };
    for count in [0, 1001] {
        let outcome = app.balances().post_entries(post_request(entries(count))).await;
        assert_eq!(violated(outcome), ["entries"]);
    }
    assert!(app.entries_of("aff-1").await.is_empty());
    app.post(entries(1000)).await;
    assert_eq!(app.shown_open("aff-1").await, ["1.00 EUR"]);
    let balance = app.open_balances(&["aff-1"]).await.remove(0);
    assert_eq!(balance.entry_count, 1000);
}

async fn a_request_id_answers_the_same_again(app: App) {
    let bad = entry("order-2", "aff-1", "+1", "EUR");
    let mut request = post_request(vec![entry("order-1", "aff-1", "1", "EUR"), bad]);
    request.request_id = request_id();
    let first = app.balances().post_entries(request.clone()).await.unwrap().into_inner();
    // Written differently, the content is the same.
    request.entries[0].money = money("1.000", "EUR");
    let again = app.balances().post_entries(request.clone()).await.unwrap().into_inner();
    assert_eq!(again, first);
    assert_eq!(again.results[0].outcome(), proto::EntryOutcome::Posted);
    request.entries[0].money = money("2", "EUR");
    let other = app.balances().post_entries(request.clone()).await;
    assert_refused(other, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    request.request_id = "1".to_owned();
    assert_eq!(violated(app.balances().post_entries(request).await), ["request_id"]);
    assert_eq!(app.shown_open("aff-1").await, ["1.00 EUR"]);
}

/// A hundred of the largest entries.
fn hundred(account_id: &str, amount: &str) -> Vec<Entry> {
    (0..100)
        .map(|number| entry(&format!("{account_id}/{number}"), account_id, amount, "EUR"))
        .collect()
}

async fn a_balance_is_filled_to_its_limit_and_not_beyond(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    let mut entries = hundred("aff-1", "10000000000");
    entries.push(entry("too-much", "aff-1", "0.000001", "EUR"));
    entries.push(entry("other-account", "aff-2", "10000000000", "EUR"));
    entries.push(entry("other-currency", "aff-1", "10000000000", "USD"));
    let outcomes = app.try_post(entries).await;
    assert_eq!(outcomes[..100], vec![POSTED; 100]);
    assert_eq!(outcomes[100..], [BEYOND, POSTED, POSTED]);
    assert_eq!(
        app.shown_open("aff-1").await,
        ["1000000000000.00 EUR", "10000000000.00 USD"]
    );
    // Also in a later call, and for what becomes available later.
    let later = dated(entry("later", "aff-1", "0.000001", "EUR"), FUTURE);
    let more = entry("more", "aff-1", "1", "EUR");
    let back = entry("back", "aff-1", "-0.5", "EUR");
    let half = entry("half", "aff-1", "0.5", "EUR");
    let outcomes = app.try_post(vec![later, more.clone(), back, half, more.clone()]).await;
    assert_eq!(outcomes, [BEYOND, BEYOND, POSTED, POSTED, BEYOND]);
    // What is settled is no longer part of the balance.
    let settled = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(settled.totals[0].amount, "1000000000000.00");
    app.post(vec![more]).await;
    // Deleted, it is open again: more than can be posted, and no money is lost.
    app.delete_settlement(&settled.id).await.unwrap();
    assert_eq!(app.shown_open("aff-1").await[0], "1000000000001.00 EUR");
}

async fn a_debt_is_filled_to_its_limit_and_not_beyond(app: App) {
    let mut entries = hundred("aff-1", "-10000000000");
    entries.push(entry("too-much", "aff-1", "-0.000001", "EUR"));
    entries.push(entry("welcome", "aff-1", "0.000001", "EUR"));
    entries.push(entry("now-it-fits", "aff-1", "-0.000001", "EUR"));
    let outcomes = app.try_post(entries).await;
    assert_eq!(outcomes[..100], vec![POSTED; 100]);
    assert_eq!(outcomes[100..], [BEYOND, POSTED, POSTED]);
    assert_eq!(app.shown_open("aff-1").await, ["-1000000000000.00 EUR"]);
}

const EXCEEDS: &str = "CLAWBACK_EXCEEDS_ENTRY money.amount";
const MISMATCH: &str = "REVERSED_ENTRY_MISMATCH reverses_external_id";

async fn clawbacks_take_back_an_entry_in_parts_and_not_more(app: App) {
    app.post(vec![
        entry("order-1", "aff-1", "10", "EUR"),
        entry("order-2", "aff-1", "90", "EUR"),
    ])
    .await;
    let back = |id: &str, amount: &str| clawback(id, "order-1", "aff-1", amount, "EUR");
    assert_eq!(app.try_post(vec![back("r-1", "-4")]).await, [POSTED]);
    assert_eq!(app.try_post(vec![back("r-2", "-6.000001")]).await, [EXCEEDS]);
    assert_eq!(app.try_post(vec![back("r-3", "-5.999999")]).await, [POSTED]);
    assert_eq!(app.try_post(vec![back("r-4", "-0.000002")]).await, [EXCEEDS]);
    assert_eq!(app.try_post(vec![back("r-5", "-0.000001")]).await, [POSTED]);
    assert_eq!(app.try_post(vec![back("r-6", "-0.000001")]).await, [EXCEEDS]);
    // The same clawback again takes back no more.
    assert_eq!(app.try_post(vec![back("r-1", "-4")]).await, [ALREADY_POSTED]);
    assert_eq!(app.shown_open("aff-1").await, ["90.00 EUR"]);
}

async fn clawbacks_name_an_entry_that_can_be_taken_back(app: App) {
    let of_kind = |id: &str, kind: EntryKind, amount: &str| {
        changed(&entry(id, "aff-1", amount, "EUR"), |entry| entry.kind = kind.into())
    };
    app.post(vec![
        of_kind("commission", EntryKind::Commission, "5"),
        of_kind("bonus", EntryKind::Bonus, "5"),
        of_kind("plus", EntryKind::Adjustment, "5"),
        of_kind("minus", EntryKind::Adjustment, "-5"),
        clawback("first", "commission", "aff-1", "-1", "EUR"),
    ])
    .await;
    let back = |reverses: &str| clawback(&format!("of-{reverses}"), reverses, "aff-1", "-1", "EUR");
    let outcomes = app
        .try_post(vec![
            back("commission"),
            back("bonus"),
            back("plus"),
            back("minus"),
            back("first"),
            back("unknown"),
            clawback("itself", "itself", "aff-1", "-1", "EUR"),
            clawback("other-account", "bonus", "aff-2", "-1", "EUR"),
            clawback("other-currency", "bonus", "aff-1", "-1", "USD"),
        ])
        .await;
    let not_found = "REVERSED_ENTRY_NOT_FOUND reverses_external_id";
    let expected = [
        POSTED, POSTED, POSTED, MISMATCH, MISMATCH, not_found, not_found, MISMATCH, MISMATCH,
    ];
    assert_eq!(outcomes, expected);
    assert!(app.open_balances(&["aff-2"]).await.is_empty());
    assert_eq!(app.shown_open("aff-1").await, ["6.00 EUR"]);
}

async fn clawbacks_follow_their_entry_in_the_same_call(app: App) {
    let order = entry("order-1", "aff-1", "10", "EUR");
    let early = clawback("early", "order-1", "aff-1", "-1", "EUR");
    let late = clawback("late", "order-1", "aff-1", "-2", "EUR");
    let outcomes = app.try_post(vec![early.clone(), order, late]).await;
    let not_found = "REVERSED_ENTRY_NOT_FOUND reverses_external_id";
    assert_eq!(outcomes, [not_found, POSTED, POSTED]);
    assert_eq!(app.try_post(vec![early]).await, [POSTED]);
    assert_eq!(app.shown_open("aff-1").await, ["7.00 EUR"]);
}

async fn clawbacks_of_one_call_together_exceed_an_entry(app: App) {
    let back = |id: &str, amount: &str| clawback(id, "order-1", "aff-1", amount, "EUR");
    let order = entry("order-1", "aff-1", "10", "EUR");
    let outcomes = app
        .try_post(vec![
            order,
            back("r-1", "-6"),
            back("r-2", "-6"),
            back("r-3", "-4"),
            back("r-4", "-0.1"),
        ])
        .await;
    assert_eq!(outcomes, [POSTED, POSTED, EXCEEDS, POSTED, EXCEEDS]);
    assert_eq!(app.shown_open("aff-1").await, ["0.00 EUR"]);
}

async fn the_clawback_of_a_pending_entry_waits_for_it(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        entry("order-1", "aff-1", "7", "EUR"),
        dated(entry("order-2", "aff-1", "10", "EUR"), FUTURE),
        clawback("refund-1", "order-2", "aff-1", "-4", "EUR"),
    ])
    .await;
    assert_eq!(app.shown_open("aff-1").await, ["7.00 EUR"]);
    assert_eq!(app.pending("aff-1").await, ["6.00 EUR"]);
    let entries = app.entries_of("aff-1").await;
    assert_eq!(
        (entries[2].available_date.as_str(), entries[2].effective_date.as_str()),
        ("2026-01-31", FUTURE)
    );
    assert_eq!(
        app.settle(&["aff-1"]).await.settlement.unwrap().totals[0].amount,
        "7.00"
    );
    // Also in a call of its own, and to the last cent.
    app.post(vec![clawback("refund-2", "order-2", "aff-1", "-6", "EUR")])
        .await;
    assert_eq!(app.shown_open("aff-1").await, ["0.00 EUR"]);
    assert_eq!(app.pending("aff-1").await, ["0.00 EUR"]);
}

async fn the_clawback_of_an_available_entry_counts_at_once(app: App) {
    app.post(vec![
        entry("order-1", "aff-1", "10", "EUR"),
        dated(clawback("refund-1", "order-1", "aff-1", "-4", "EUR"), FUTURE),
        dated(entry("fine", "aff-1", "-1", "EUR"), FUTURE),
    ])
    .await;
    assert_eq!(app.shown_open("aff-1").await, ["5.00 EUR"]);
    assert_eq!(app.pending("aff-1").await, ["0.00 EUR"]);
    for entry in &app.entries_of("aff-1").await[1..] {
        assert_eq!(entry.available_date, FUTURE);
        assert!(entry.effective_date <= day(0), "{}", entry.effective_date);
    }
}

async fn a_refund_after_payout_is_recovered_once(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    app.settle(&["aff-1"]).await;
    app.post(vec![dated(
        clawback("refund-1", "order-1", "aff-1", "-10", "EUR"),
        FUTURE,
    )])
    .await;
    assert_eq!(app.shown_open("aff-1").await, ["-10.00 EUR"]);
    assert!(app.settle(&["aff-1"]).await.settlement.unwrap().totals.is_empty());
    app.post(vec![entry("order-2", "aff-1", "15", "EUR")]).await;
    assert_eq!(app.shown_open("aff-1").await, ["5.00 EUR"]);
    assert_eq!(
        app.settle(&["aff-1"]).await.settlement.unwrap().totals[0].amount,
        "5.00"
    );
    app.post(vec![entry("order-3", "aff-1", "8", "EUR")]).await;
    assert_eq!(
        app.settle(&["aff-1"]).await.settlement.unwrap().totals[0].amount,
        "8.00"
    );
}

async fn a_debt_counts_whatever_the_cut_off(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        entry("order-1", "aff-1", "10", "EUR"),
        dated(entry("order-2", "aff-1", "20", "EUR"), "2026-03-01"),
        dated(clawback("refund-2", "order-2", "aff-1", "-4", "EUR"), "2026-03-05"),
    ])
    .await;
    assert_eq!(app.open_through("aff-1", "2026-01-30").await, ["-4.00 EUR"]);
    assert_eq!(app.open_through("aff-1", "2026-01-31").await, ["6.00 EUR"]);
    assert_eq!(app.open_through("aff-1", "2026-03-01").await, ["26.00 EUR"]);
}

async fn stream(app: &App, chunks: Vec<(&str, Vec<Entry>)>) -> (Vec<proto::StreamEntriesResponse>, Option<Status>) {
    let chunks: Vec<proto::StreamEntriesRequest> = chunks
        .into_iter()
        .map(|(chunk_id, entries)| proto::StreamEntriesRequest {
            chunk_id: chunk_id.to_owned(),
            entries,
        })
        .collect();
    let mut answers = app
        .balances()
        .stream_entries(tokio_stream::iter(chunks))
        .await
        .unwrap()
        .into_inner();
    let mut answered = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => answered.push(answer),
            Err(status) => return (answered, Some(status)),
        }
    }
    (answered, None)
}

fn counts(answer: &proto::StreamEntriesResponse) -> (&str, i32, i32, usize) {
    let rejected = answer.rejected.len();
    (
        &answer.chunk_id,
        answer.posted_count,
        answer.already_posted_count,
        rejected,
    )
}

async fn streams_answer_chunks_in_order(app: App) {
    let order = |id: &str| entry(id, "aff-1", "1", "EUR");
    let bad = changed(&order("o-4"), |entry| entry.money = money("1e3", "EUR"));
    let conflict = changed(&order("o-1"), |entry| entry.money = money("2", "EUR"));
    let thousand = (0..1000)
        .map(|number| entry(&format!("t-{number}"), "aff-1", "1", "EUR"))
        .collect();
    let chunks = vec![
        ("one", vec![order("o-1"), order("o-2"), order("o-2")]),
        ("two", vec![order("o-2"), bad, order("o-3"), conflict]),
        ("", vec![clawback("r-3", "o-3", "aff-1", "-1", "EUR")]),
        ("last", thousand),
    ];
    let (answered, ended) = stream(&app, chunks).await;
    assert!(ended.is_none());
    let found: Vec<_> = answered.iter().map(counts).collect();
    assert_eq!(
        found,
        [("one", 2, 1, 0), ("two", 1, 1, 2), ("", 1, 0, 0), ("last", 1000, 0, 0)]
    );
    let rejected: Vec<_> = answered[1]
        .rejected
        .iter()
        .map(|rejected| {
            let text = format!("{} {}", rejected.reason, rejected.field);
            (rejected.index, rejected.external_id.as_str(), text)
        })
        .collect();
    let malformed = "INVALID_ENTRY money.amount".to_owned();
    assert_eq!(rejected, [(1, "o-4", malformed), (3, "o-1", CONFLICT.to_owned())]);
    assert_eq!(app.shown_open("aff-1").await, ["1002.00 EUR"]);
}

async fn an_invalid_chunk_ends_the_stream_and_leaves_the_earlier_ones(app: App) {
    let order = |id: &str| vec![entry(id, "aff-1", "1", "EUR")];
    let too_many: Vec<Entry> = (0..1001)
        .map(|number| entry(&format!("t-{number}"), "aff-1", "1", "EUR"))
        .collect();
    let long = "x".repeat(129);
    let invalid = [("empty", vec![]), ("many", too_many), (long.as_str(), order("in-bad"))];
    for ((chunk_id, entries), number) in invalid.into_iter().zip(1..) {
        let (before, after) = (format!("before-{number}"), format!("after-{number}"));
        let chunks = vec![("first", order(&before)), (chunk_id, entries), ("never", order(&after))];
        let (answered, ended) = stream(&app, chunks).await;
        assert_eq!(answered.iter().map(counts).collect::<Vec<_>>(), [("first", 1, 0, 0)]);
        assert_refused(Err::<(), _>(ended.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
    }
    assert_eq!(
        ids(&app.entries_of("aff-1").await),
        ["before-1", "before-2", "before-3"]
    );
}

async fn entries_are_listed_in_the_order_of_posting(app: App) {
    let order = |id: &str, account: &str, currency: &str| entry(id, account, "1", currency);
    app.post(vec![
        order("z", "aff-2", "EUR"),
        order("y", "aff-1", "USD"),
        order("x", "aff-1", "EUR"),
    ])
    .await;
    app.post(vec![order("b", "aff-1", "EUR"), order("a", "aff-1", "EUR")])
        .await;
    let all = app.list_entries(proto::ListEntriesRequest::default()).await;
    assert_eq!(ids(&all), ["z", "y", "x", "b", "a"]);
    for page_size in 1..=4 {
        let mut request = proto::ListEntriesRequest {
            account_id: "aff-1".to_owned(),
            page_size,
            ..Default::default()
        };
        assert_eq!(ids(&app.list_entries(request.clone()).await), ["y", "x", "b", "a"]);
        request.currency_code = "EUR".to_owned();
        assert_eq!(ids(&app.list_entries(request).await), ["x", "b", "a"]);
    }
    let none = app.entries_of("aff-3").await;
    assert!(none.is_empty());
    assert_eq!(
        all[0].money,
        Some(Money {
            currency_code: "EUR".to_owned(),
            amount: "1.00".to_owned()
        })
    );
    assert_eq!(
        (all[0].available_date.as_str(), all[0].effective_date.as_str()),
        ("2026-01-31", "2026-01-31")
    );
    assert_eq!(all[0].occur_time, occur_time());
}

async fn entries_are_listed_by_account_settlement_also_a_deleted_one(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        entry("o-1", "aff-1", "10.001", "EUR"),
        dated(entry("o-2", "aff-1", "1", "EUR"), FUTURE),
    ])
    .await;
    let first = app.settle(&["aff-1"]).await.settlement.unwrap();
    let first = app.rows_of(&first.id).await.remove(0);
    let of_row = |id: &str| proto::ListEntriesRequest {
        account_settlement_id: id.to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let told = |entries: Vec<Entry>| -> Vec<String> {
        entries
            .iter()
            .map(|entry| {
                format!(
                    "{:?} {} {}",
                    entry.kind(),
                    shown(&entry.money),
                    entry.account_settlement_id
                )
            })
            .collect()
    };
    let id = &first.id;
    let held = [
        format!("Commission 10.001 EUR {id}"),
        format!("CarryForward -0.001 EUR {id}"),
    ];
    assert_eq!(told(app.list_entries(of_row(id)).await), held);
    app.delete_row(id).await.unwrap();
    let released = ["Commission 10.001 EUR ", "CarryForward -0.001 EUR "];
    assert_eq!(told(app.list_entries(of_row(id)).await), released);

    let second = app.settle(&["aff-1"]).await.settlement.unwrap();
    let second = app.rows_of(&second.id).await.remove(0).id;
    let of_second = told(app.list_entries(of_row(&second)).await);
    let expected = [
        format!("Commission 10.001 EUR {second}"),
        format!("CarryForward -0.001 EUR {second}"),
        format!("CarryForward 0.001 EUR {second}"),
        format!("CarryForward -0.001 EUR {second}"),
    ];
    assert_eq!(of_second, expected);
    // What the deleted one held is still told, and who pays it now.
    assert_eq!(told(app.list_entries(of_row(id)).await), expected[..2]);
    let unknown = app.balances().list_entries(of_row(&request_id())).await;
    assert_refused(unknown, Code::NotFound, "ACCOUNT_SETTLEMENT_NOT_FOUND");
    assert_eq!(
        violated(app.balances().list_entries(of_row("1")).await),
        ["account_settlement_id"]
    );
}

async fn entries_are_listed_by_time(app: App) {
    for (id, nanos) in [("a", 0), ("b", 1000), ("c", 2000)] {
        let order = changed(&entry(id, "aff-1", "1", "EUR"), |entry| {
            entry.occur_time.as_mut().unwrap().nanos = nanos;
        });
        app.post(vec![order]).await;
    }
    let middle = app.entries_of("aff-1").await[1].clone();
    let request = |change: fn(&mut proto::ListEntriesRequest, Option<Timestamp>), time| {
        let mut request = proto::ListEntriesRequest::default();
        change(&mut request, time);
        request
    };
    let from = request(|request, time| request.create_time_from = time, middle.create_time);
    assert_eq!(ids(&app.list_entries(from).await), ["b", "c"]);
    let before = request(|request, time| request.create_time_before = time, middle.create_time);
    assert_eq!(ids(&app.list_entries(before).await), ["a"]);
    let of_account = |mut request: proto::ListEntriesRequest| {
        request.account_id = "aff-1".to_owned();
        request
    };
    let from = request(|request, time| request.occur_time_from = time, middle.occur_time);
    assert_eq!(ids(&app.list_entries(of_account(from.clone())).await), ["b", "c"]);
    let before = request(|request, time| request.occur_time_before = time, middle.occur_time);
    assert_eq!(ids(&app.list_entries(of_account(before.clone())).await), ["a"]);
    assert_eq!(violated(app.balances().list_entries(from).await), ["occur_time_from"]);
    assert_eq!(
        violated(app.balances().list_entries(before).await),
        ["occur_time_before"]
    );
}

async fn page_tokens_of_other_lists_and_filters_are_refused(app: App) {
    app.payable_account("aff-1", &["EUR", "USD"]).await;
    app.post(vec![
        entry("o-1", "aff-1", "1", "EUR"),
        entry("o-2", "aff-1", "1", "USD"),
    ])
    .await;
    app.post(vec![entry("o-3", "aff-2", "1", "EUR")]).await;
    let entries = |account_id: &str, page_token: &str| proto::ListEntriesRequest {
        account_id: account_id.to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let balances = |page_token: &str| proto::ListOpenBalancesRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let mut client = app.balances();
    let of_entries = client
        .list_entries(entries("aff-1", ""))
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    let of_balances = client
        .list_open_balances(balances(""))
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    assert!(!of_entries.is_empty() && !of_balances.is_empty());
    let refused = |outcome: Result<(), Status>| {
        assert_refused(outcome, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    };
    refused(client.list_entries(entries("aff-1", &of_balances)).await.map(drop));
    refused(client.list_open_balances(balances(&of_entries)).await.map(drop));
    refused(client.list_entries(entries("aff-2", &of_entries)).await.map(drop));
    refused(client.list_entries(entries("", &of_entries)).await.map(drop));
    refused(client.list_entries(entries("aff-1", "AAAA")).await.map(drop));
    refused(client.list_entries(entries("aff-1", "not a token")).await.map(drop));
    let mut damaged = of_entries.clone().into_bytes();
    damaged[3] = if damaged[3] == b'A' { b'B' } else { b'A' };
    let damaged = String::from_utf8(damaged).unwrap();
    refused(client.list_entries(entries("aff-1", &damaged)).await.map(drop));
    // A page may have another size than the one before it.
    let mut larger = entries("aff-1", &of_entries);
    larger.page_size = 7;
    let page = client.list_entries(larger).await.unwrap().into_inner();
    assert_eq!(ids(&page.entries), ["o-2"]);
    let mut negative = entries("aff-1", "");
    negative.page_size = -1;
    assert_eq!(violated(client.list_entries(negative).await), ["page_size"]);
}
