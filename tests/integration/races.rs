//! Callers who do the same, or the opposite, at the same moment, on two servers. None of them may be told of the race:
//! every call that is not expected to be refused must succeed.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use affiliate_billing::proto::{EntryOutcome, SettleSkipReason, StatusSkipReason};
use tokio_stream::iter;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::support::app::App;
use crate::support::fixtures::{
    bank_method, billing_details, clawback, entry, money, request_id, settle_accounts, shown,
};
use crate::support::harness::scenarios;
use crate::support::observed::Observer;
use crate::support::rows::{BulkAnswer, chunk, drained, reason_of, update};

scenarios![
    of_many_settles_of_an_account_one_pays,
    partial_settles_pay_no_more_than_there_is,
    settlements_come_to_their_entries_while_posting_goes_on,
    settling_goes_on_while_payees_change,
    a_row_is_either_updated_or_deleted,
    a_settlement_is_either_updated_or_deleted,
    a_settlement_is_deleted_once,
    a_repeated_settle_has_one_effect,
    a_repeated_post_has_one_effect,
    repeated_billing_details_have_one_effect,
    a_repeated_payment_method_has_one_effect,
    a_repeated_status_update_has_one_effect,
    a_repeated_hold_has_one_effect,
    of_many_billing_details_of_an_account_one_is_made,
    of_many_payment_methods_of_an_account_one_is_made,
    entries_in_any_order_are_posted_once,
    clawbacks_take_back_no_more_than_the_entry,
    streams_on_one_settlement_keep_its_counters_right,
];

const MICROS: i64 = 1_000_000;

/// Starts all calls, and waits for all.
async fn at_once<T: Send + 'static, F>(calls: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// Channels to two servers on the database, in turns.
async fn channels(app: &App, count: usize) -> Vec<Channel> {
    let servers = [app.channel.clone(), app.replica().await];
    servers.into_iter().cycle().take(count).collect()
}

async fn assert_no_deadlock(app: &App) {
    assert_eq!(Observer::connect(app).await.deadlocks().await, 0);
}

/// Calls 20 times at once; all must get the same answer.
async fn answered_alike<T, F>(app: &App, call: impl Fn(Channel) -> F) -> T
where
    T: PartialEq + Debug + Send + 'static,
    F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
{
    let calls = channels(app, 20).await.into_iter().map(call);
    let mut answers: Vec<T> = at_once(calls)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().into_inner())
        .collect();
    let first = answers.remove(0);
    for answer in answers {
        assert_eq!(answer, first);
    }
    first
}

/// Calls 20 times at once; one must succeed, and the others be told that it is there.
async fn one_made<T, F>(app: &App, reason: &str, call: impl Fn(Channel) -> F)
where
    T: Send + 'static,
    F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
{
    let calls = channels(app, 20).await.into_iter().map(call);
    let mut refused = Vec::new();
    for outcome in at_once(calls).await {
        if let Err(status) = outcome {
            assert_eq!(
                (status.code(), reason_of(&status).as_str()),
                (Code::AlreadyExists, reason)
            );
            refused.push(status);
        }
    }
    assert_eq!(refused.len(), 19);
}

async fn settle(channel: Channel, request: proto::SettleBalancesRequest) -> proto::SettleBalancesResponse {
    let response = BalancesServiceClient::new(channel).settle_balances(request).await;
    response.unwrap().into_inner()
}

async fn post(channel: Channel, entries: Vec<proto::Entry>) -> Vec<proto::EntryResult> {
    let request = proto::PostEntriesRequest {
        entries,
        ..Default::default()
    };
    let response = BalancesServiceClient::new(channel).post_entries(request).await;
    response.unwrap().into_inner().results
}

fn settle_everything() -> proto::SettleBalancesRequest {
    proto::SettleBalancesRequest {
        request_id: request_id(),
        selection: Some(proto::settle_balances_request::Selection::Filter(
            proto::BalanceFilter::default(),
        )),
        all_accounts: true,
        ..Default::default()
    }
}

/// In millionths.
fn micros(money: &Option<proto::Money>) -> i64 {
    let amount = &money.as_ref().unwrap().amount;
    let (sign, digits) = amount
        .strip_prefix('-')
        .map_or((1, amount.as_str()), |digits| (-1, digits));
    let (units, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction: i64 = format!("{fraction:0<6}").parse().unwrap();
    sign * (units.parse::<i64>().unwrap() * MICROS + fraction)
}

impl App {
    async fn open(&self, account_id: &str) -> i64 {
        let balances = self.open_balances(&[account_id]).await;
        balances.iter().map(|balance| micros(&balance.open)).sum()
    }

    /// The live rows of an account.
    async fn rows_of_account(&self, account_id: &str) -> Vec<proto::AccountSettlement> {
        let mut request = proto::ListAccountSettlementsRequest {
            account_id: account_id.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        let mut rows = Vec::new();
        loop {
            let response = self.settlements().list_account_settlements(request.clone()).await;
            let page = response.unwrap().into_inner();
            rows.extend(page.account_settlements);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return rows;
            }
        }
    }

    async fn entries(&self, request: proto::ListEntriesRequest) -> Vec<proto::Entry> {
        let mut request = proto::ListEntriesRequest {
            page_size: 1000,
            ..request
        };
        let mut entries = Vec::new();
        loop {
            let page = self
                .balances()
                .list_entries(request.clone())
                .await
                .unwrap()
                .into_inner();
            entries.extend(page.entries);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return entries;
            }
        }
    }

    /// Checks that an account's entries are settled or open, each row is what its entries come to, and both were posted.
    async fn assert_conserved(&self, account_id: &str, posted: i64) {
        let mut settled = 0;
        for row in self.rows_of_account(account_id).await {
            let of_row = proto::ListEntriesRequest {
                account_settlement_id: row.id.clone(),
                ..Default::default()
            };
            let sum: i64 = self
                .entries(of_row)
                .await
                .iter()
                .map(|entry| micros(&entry.money))
                .sum();
            assert_eq!(
                sum,
                micros(&row.money),
                "entries of {account_id}'s row {}, and the row",
                row.id
            );
            settled += sum;
        }
        let of_account = proto::ListEntriesRequest {
            account_id: account_id.to_owned(),
            ..Default::default()
        };
        let entries: i64 = self
            .entries(of_account)
            .await
            .iter()
            .map(|entry| micros(&entry.money))
            .sum();
        assert_eq!(entries, posted, "entries of {account_id}, and what was posted");
        assert_eq!(
            settled + self.open(account_id).await,
            posted,
            "settled and open of {account_id}"
        );
    }
}

async fn of_many_settles_of_an_account_one_pays(app: App) {
    app.payable_account("aff-1", &["EUR", "USD"]).await;
    app.post(vec![
        entry("order-1", "aff-1", "12.345", "EUR"),
        entry("order-2", "aff-1", "7", "USD"),
    ])
    .await;
    let calls = channels(&app, 16).await.into_iter();
    let runs = at_once(calls.map(|channel| settle(channel, settle_accounts(vec![("aff-1", None)])))).await;
    let (paying, others): (Vec<_>, Vec<_>) = runs
        .iter()
        .map(|run| run.settlement.as_ref().unwrap())
        .partition(|settlement| settlement.account_settlement_count > 0);
    assert_eq!((paying.len(), others.len()), (1, 15));
    assert_eq!(
        paying[0].totals,
        [money("12.34", "EUR").unwrap(), money("7.00", "USD").unwrap()]
    );
    for run in runs
        .iter()
        .filter(|run| run.settlement.as_ref().unwrap().totals.is_empty())
    {
        // What is left of the euros is less than a cent.
        let reasons: Vec<_> = run
            .skipped
            .iter()
            .map(|skipped| (skipped.currency_code.as_str(), skipped.reason()))
            .collect();
        let expected = [
            ("EUR", SettleSkipReason::BelowMinimum),
            ("USD", SettleSkipReason::NothingOpen),
        ];
        assert_eq!(reasons, expected);
    }
    assert_eq!(app.rows_of_account("aff-1").await.len(), 2);
    assert_no_deadlock(&app).await;
}

async fn partial_settles_pay_no_more_than_there_is(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        entry("order-1", "aff-1", "60", "EUR"),
        entry("order-2", "aff-1", "40", "EUR"),
    ])
    .await;
    let calls = channels(&app, 16).await.into_iter();
    let ten = || settle_accounts(vec![("aff-1", money("10", "EUR"))]);
    let runs = at_once(calls.map(|channel| settle(channel, ten()))).await;
    let paid: Vec<i64> = runs
        .iter()
        .flat_map(|run| &run.settlement.as_ref().unwrap().totals)
        .map(|total| micros(&Some(total.clone())))
        .collect();
    assert_eq!(paid, [10 * MICROS; 10]);
    let reasons: Vec<_> = runs
        .iter()
        .flat_map(|run| &run.skipped)
        .map(proto::SkippedAccount::reason)
        .collect();
    assert_eq!(reasons, [SettleSkipReason::NothingOpen; 6]);
    app.assert_conserved("aff-1", 100 * MICROS).await;
    assert_no_deadlock(&app).await;
}

const POSTERS: usize = 8;
const POSTS: usize = 24;
const ACCOUNTS: usize = 6;

/// What a poster posts in one call: to each account, of fractions of a cent, and now and then something back.
fn batch(poster: usize, number: usize) -> Vec<proto::Entry> {
    let amounts = ["1.003", "0.25", "-0.1", "2.000001"];
    let entry_of = |index: usize| {
        let amount = amounts[(poster + number + index) % amounts.len()];
        let external_id = format!("{poster}-{number}-{index}");
        entry(
            &external_id,
            &format!("aff-{}", (index + poster) % ACCOUNTS),
            amount,
            "EUR",
        )
    };
    (0..ACCOUNTS * 2).map(entry_of).collect()
}

async fn post_batches(channel: Channel, poster: usize) {
    for number in 0..POSTS {
        for result in post(channel.clone(), batch(poster, number)).await {
            assert_eq!(result.outcome(), EntryOutcome::Posted, "{}", result.reason);
        }
    }
}

async fn settle_until(channel: Channel, is_done: Arc<AtomicBool>, request: fn() -> proto::SettleBalancesRequest) {
    while !is_done.load(Ordering::Relaxed) {
        settle(channel.clone(), request()).await;
    }
}

/// All that is there, a part of one account, and accounts by name.
fn runs() -> [fn() -> proto::SettleBalancesRequest; 3] {
    [
        settle_everything,
        || settle_accounts(vec![("aff-1", money("0.5", "EUR")), ("aff-2", money("1", "EUR"))]),
        || settle_accounts(vec![("aff-3", None), ("aff-0", None)]),
    ]
}

async fn settlements_come_to_their_entries_while_posting_goes_on(app: App) {
    for number in 0..ACCOUNTS {
        app.payable_account(&format!("aff-{number}"), &["EUR"]).await;
    }
    let channels = channels(&app, POSTERS).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let settling = runs()
        .into_iter()
        .zip(&channels)
        .map(|(run, channel)| tokio::spawn(settle_until(channel.clone(), Arc::clone(&is_done), run)));
    let settling: Vec<_> = settling.collect();
    let posters = channels.into_iter().enumerate();
    let posting = posters.map(|(poster, channel)| post_batches(channel, poster));
    at_once(posting).await;
    // What is checked on a live database is one moment of it.
    app.verify().await;
    is_done.store(true, Ordering::Relaxed);
    for task in settling {
        task.await.unwrap();
    }
    app.settle_request(settle_everything()).await;

    let mut posted: HashMap<String, i64> = HashMap::new();
    for (poster, number) in (0..POSTERS).flat_map(|poster| (0..POSTS).map(move |number| (poster, number))) {
        for entry in batch(poster, number) {
            *posted.entry(entry.account_id).or_default() += micros(&entry.money);
        }
    }
    for (account_id, posted) in posted {
        app.assert_conserved(&account_id, posted).await;
        let open = app.open(&account_id).await;
        assert!((0..MICROS / 100).contains(&open), "{account_id} has {open} left");
    }
    assert_no_deadlock(&app).await;
}

async fn change_payees(channel: Channel, is_done: Arc<AtomicBool>) {
    let mut number = 0;
    while !is_done.load(Ordering::Relaxed) {
        number += 1;
        let request = proto::UpdateBillingDetailsRequest {
            billing_details: Some(proto::BillingDetails {
                account_id: "aff-1".to_owned(),
                tax_id: format!("{number:08}"),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut client = BillingDetailsServiceClient::new(channel.clone());
        client.update_billing_details(request).await.unwrap();
    }
}

async fn settling_goes_on_while_payees_change(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    let channels = channels(&app, 3).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let changing: Vec<_> = channels
        .iter()
        .map(|channel| tokio::spawn(change_payees(channel.clone(), Arc::clone(&is_done))))
        .collect();
    for number in 0..20 {
        app.post(vec![entry(&format!("order-{number}"), "aff-1", "1", "EUR")])
            .await;
        let settled = settle(channels[number % 2].clone(), settle_accounts(vec![("aff-1", None)])).await;
        assert_eq!(settled.settlement.unwrap().account_settlement_count, 1);
    }
    is_done.store(true, Ordering::Relaxed);
    for task in changing {
        task.await.unwrap();
    }
    app.assert_conserved("aff-1", 20 * MICROS).await;
}

async fn bulk_update(channel: Channel, ids: Vec<String>, targets: Vec<RowStatus>) -> Vec<BulkAnswer> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let chunks: Vec<_> = targets
        .into_iter()
        .map(|target| proto::BulkUpdateAccountSettlementStatusRequest {
            reason: "test".to_owned(),
            ..chunk(&ids, target)
        })
        .collect();
    let mut settlements = SettlementsServiceClient::new(channel);
    let answers = settlements.bulk_update_account_settlement_status(iter(chunks)).await;
    let (answers, end) = drained(answers.unwrap().into_inner()).await;
    assert!(end.is_none(), "{end:?}");
    for answer in &answers {
        assert_eq!(answer.updated_ids.len() + answer.skipped.len(), ids.len());
    }
    answers
}

async fn delete_rows(channel: Channel, ids: Vec<String>) -> Vec<String> {
    let mut deleted = Vec::new();
    let mut settlements = SettlementsServiceClient::new(channel);
    for id in ids {
        let request = proto::DeleteAccountSettlementRequest {
            id: id.clone(),
            ..Default::default()
        };
        match settlements.delete_account_settlement(request).await {
            Ok(_) => deleted.push(id),
            Err(status) => assert_kept(&status),
        }
    }
    deleted
}

/// A row that is not deleted is under way, paid or gone.
fn assert_kept(status: &Status) {
    let reason = reason_of(status);
    let is_kept = matches!(
        (status.code(), reason.as_str()),
        (Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_NOT_DELETABLE")
            | (Code::NotFound, "ACCOUNT_SETTLEMENT_NOT_FOUND")
    );
    assert!(is_kept, "{status}");
}

fn rotated(ids: &[String], by: usize) -> Vec<String> {
    let mut ids = ids.to_vec();
    let middle = by % ids.len();
    ids.rotate_left(middle);
    if by % 2 == 1 {
        ids.reverse();
    }
    ids
}

async fn a_row_is_either_updated_or_deleted(app: App) {
    let accounts: Vec<String> = (0..16).map(|number| format!("aff-{number}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let rows = app.settled(&accounts).await;
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let channels = channels(&app, 8).await;
    let targets = [RowStatus::InProgress, RowStatus::New, RowStatus::Paid, RowStatus::New].repeat(2);
    let updating = channels.iter().enumerate().take(4);
    let updating: Vec<_> = updating
        .map(|(by, channel)| tokio::spawn(bulk_update(channel.clone(), rotated(&ids, by * 3), targets.clone())))
        .collect();
    let deleting = channels.iter().enumerate().skip(4);
    let deleted = at_once(deleting.map(|(by, channel)| delete_rows(channel.clone(), rotated(&ids, by * 5)))).await;
    let mut updates: HashMap<String, usize> = HashMap::new();
    for task in updating {
        for answer in task.await.unwrap() {
            for id in answer.updated_ids {
                *updates.entry(id).or_default() += 1;
            }
            let reasons = answer.skipped.iter().map(proto::SkippedStatusUpdate::reason);
            let allowed = [StatusSkipReason::Deleted, StatusSkipReason::AlreadyInStatus];
            assert!(reasons.into_iter().all(|reason| allowed.contains(&reason)));
        }
    }
    for row in &rows {
        let times_deleted = deleted.iter().flatten().filter(|id| **id == row.id).count();
        let now = app.row(&row.id).await;
        assert_eq!(times_deleted, usize::from(now.delete_time.is_some()));
        let changes = app.history(&row.id).await.len();
        assert_eq!(changes, 1 + updates.get(&row.id).copied().unwrap_or_default());
        let open = if now.delete_time.is_some() { 10 * MICROS } else { 0 };
        assert_eq!(app.open(&row.account_id).await, open);
    }
    assert_no_deadlock(&app).await;
}

async fn delete_settlement(channel: Channel, id: String) -> Result<(), Status> {
    let request = proto::DeleteSettlementRequest {
        id,
        ..Default::default()
    };
    let mut settlements = SettlementsServiceClient::new(channel);
    settlements.delete_settlement(request).await.map(drop)
}

async fn a_settlement_is_either_updated_or_deleted(app: App) {
    let accounts = ["aff-1", "aff-2", "aff-3", "aff-4", "aff-5", "aff-6"];
    for account_id in accounts {
        app.payable_account(account_id, &["EUR"]).await;
    }
    let channels = channels(&app, accounts.len()).await;
    for round in 0..8 {
        let rows = app.settled_again(&accounts).await;
        let id = rows[0].settlement_id.clone();
        let deleting = tokio::spawn(delete_settlement(channels[round % 2].clone(), id.clone()));
        let updating = rows.iter().zip(&channels);
        let updating = updating
            .map(|(row, channel)| bulk_update(channel.clone(), vec![row.id.clone()], vec![RowStatus::InProgress]));
        let answers = at_once(updating).await;
        let updated: i32 = answers.iter().flatten().map(|answer| answer.updated_count).sum();
        let is_deleted = match deleting.await.unwrap() {
            Ok(()) => true,
            Err(status) => {
                assert_kept(&status);
                false
            }
        };
        assert_eq!(is_deleted, updated == 0, "{updated} rows were updated");
        let counts = if is_deleted { [0, 0, 0] } else { [0, 6, 0] };
        assert_eq!(app.counts(&id).await, counts);
        app.settle_request(settle_everything()).await;
    }
    assert_no_deadlock(&app).await;
}

async fn a_settlement_is_deleted_once(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let calls = channels(&app, 16).await.into_iter();
    let outcomes = at_once(calls.map(|channel| delete_settlement(channel, row.settlement_id.clone()))).await;
    let refused: Vec<String> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .map(|status| reason_of(&status))
        .collect();
    assert_eq!(refused, ["SETTLEMENT_NOT_FOUND"; 15]);
    assert_eq!(app.open("aff-1").await, 10 * MICROS);
}

async fn a_repeated_settle_has_one_effect(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "12.345", "EUR")]).await;
    let request = settle_accounts(vec![("aff-1", None), ("aff-2", None)]);
    let answer = answered_alike(&app, |channel| {
        let request = request.clone();
        async move { BalancesServiceClient::new(channel).settle_balances(request).await }
    })
    .await;
    assert_eq!(answer.settlement.unwrap().account_settlement_count, 1);
    assert_eq!(answer.skipped_count, 1);
    let list = proto::ListSettlementsRequest::default();
    let listed = app.settlements().list_settlements(list).await.unwrap().into_inner();
    assert_eq!(listed.settlements.len(), 1);
}

async fn a_repeated_post_has_one_effect(app: App) {
    let request = proto::PostEntriesRequest {
        entries: vec![
            entry("order-1", "aff-1", "1", "EUR"),
            entry("order-1", "aff-1", "1", "EUR"),
        ],
        request_id: request_id(),
    };
    let answer = answered_alike(&app, |channel| {
        let request = request.clone();
        async move { BalancesServiceClient::new(channel).post_entries(request).await }
    })
    .await;
    let outcomes: Vec<_> = answer.results.iter().map(proto::EntryResult::outcome).collect();
    assert_eq!(outcomes, [EntryOutcome::Posted, EntryOutcome::AlreadyPosted]);
    assert_eq!(app.open("aff-1").await, MICROS);
}

async fn repeated_billing_details_have_one_effect(app: App) {
    let request = proto::CreateBillingDetailsRequest {
        billing_details: Some(billing_details("aff-1")),
        request_id: request_id(),
    };
    answered_alike(&app, |channel| {
        let request = request.clone();
        async move {
            BillingDetailsServiceClient::new(channel)
                .create_billing_details(request)
                .await
        }
    })
    .await;
}

async fn methods_of(app: &App, account_id: &str) -> usize {
    let request = proto::ListPaymentMethodsRequest {
        account_id: account_id.to_owned(),
        ..Default::default()
    };
    let response = app.payment_methods().list_payment_methods(request).await.unwrap();
    response.into_inner().payment_methods.len()
}

async fn a_repeated_payment_method_has_one_effect(app: App) {
    let request = proto::CreatePaymentMethodRequest {
        payment_method: Some(bank_method("aff-1", "EUR")),
        request_id: request_id(),
    };
    answered_alike(&app, |channel| {
        let request = request.clone();
        async move {
            PaymentMethodsServiceClient::new(channel)
                .create_payment_method(request)
                .await
        }
    })
    .await;
    assert_eq!(methods_of(&app, "aff-1").await, 1);
}

async fn a_repeated_status_update_has_one_effect(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let request = proto::UpdateAccountSettlementStatusRequest {
        request_id: request_id(),
        expected_status: RowStatus::New.into(),
        ..update(&row.id, RowStatus::Paid)
    };
    answered_alike(&app, |channel| {
        let request = request.clone();
        async move {
            let mut settlements = SettlementsServiceClient::new(channel);
            settlements.update_account_settlement_status(request).await
        }
    })
    .await;
    assert_eq!(app.history(&row.id).await.len(), 2);
    assert_eq!(app.counts(&row.settlement_id).await, [0, 0, 1]);
}

async fn a_repeated_hold_has_one_effect(app: App) {
    let request = proto::HoldPayoutsRequest {
        account_id: "aff-1".to_owned(),
        reason: "fraud check".to_owned(),
        request_id: request_id(),
    };
    answered_alike(&app, |channel| {
        let request = request.clone();
        async move { BalancesServiceClient::new(channel).hold_payouts(request).await }
    })
    .await;
    let list = proto::ListPayoutHoldsRequest {
        show_released: true,
        ..Default::default()
    };
    let listed = app.balances().list_payout_holds(list).await.unwrap().into_inner();
    assert_eq!(listed.payout_holds.len(), 1);
}

async fn of_many_billing_details_of_an_account_one_is_made(app: App) {
    one_made(&app, "BILLING_DETAILS_ALREADY_EXIST", |channel| {
        let request = proto::CreateBillingDetailsRequest {
            billing_details: Some(billing_details("aff-1")),
            ..Default::default()
        };
        async move {
            BillingDetailsServiceClient::new(channel)
                .create_billing_details(request)
                .await
        }
    })
    .await;
}

async fn of_many_payment_methods_of_an_account_one_is_made(app: App) {
    one_made(&app, "PAYMENT_METHOD_ALREADY_EXISTS", |channel| {
        let request = proto::CreatePaymentMethodRequest {
            payment_method: Some(bank_method("aff-1", "EUR")),
            ..Default::default()
        };
        async move {
            PaymentMethodsServiceClient::new(channel)
                .create_payment_method(request)
                .await
        }
    })
    .await;
    assert_eq!(methods_of(&app, "aff-1").await, 1);
}

/// The same 200 entries in another order for each poster, in two calls.
async fn post_shuffled(channel: Channel, poster: usize) -> Vec<proto::EntryResult> {
    // Steps without a common divisor with 200 reach every entry.
    let step = [1, 3, 7, 9, 11, 13, 17, 199][poster];
    let entries: Vec<_> = (0..200)
        .map(|position| position * step % 200)
        .map(|number| {
            entry(
                &format!("order-{number}"),
                &format!("aff-{}", number % 20),
                "1.5",
                "EUR",
            )
        })
        .collect();
    let mut results = post(channel.clone(), entries[..100].to_vec()).await;
    results.extend(post(channel, entries[100..].to_vec()).await);
    results
}

async fn entries_in_any_order_are_posted_once(app: App) {
    let posters = channels(&app, 8).await.into_iter().enumerate();
    let results = at_once(posters.map(|(poster, channel)| post_shuffled(channel, poster))).await;
    let mut posted: BTreeMap<String, usize> = BTreeMap::new();
    for result in results.into_iter().flatten() {
        let outcome = result.outcome();
        assert_ne!(outcome, EntryOutcome::Rejected, "{}", result.reason);
        *posted.entry(result.external_id).or_default() += usize::from(outcome == EntryOutcome::Posted);
    }
    assert_eq!(posted.len(), 200);
    assert!(posted.values().all(|times| *times == 1), "{posted:?}");
    for number in 0..20 {
        assert_eq!(app.open(&format!("aff-{number}")).await, 15 * MICROS);
    }
    assert_no_deadlock(&app).await;
}

async fn claw_back(channel: Channel, poster: usize) -> Vec<proto::EntryResult> {
    let mut results = Vec::new();
    for number in 0..3 {
        let entry = clawback(&format!("refund-{poster}-{number}"), "order-1", "aff-1", "-1", "EUR");
        results.extend(post(channel.clone(), vec![entry]).await);
    }
    results
}

async fn clawbacks_take_back_no_more_than_the_entry(app: App) {
    app.post(vec![entry("order-1", "aff-1", "10.5", "EUR")]).await;
    let posters = channels(&app, 8).await.into_iter().enumerate();
    let results = at_once(posters.map(|(poster, channel)| claw_back(channel, poster))).await;
    let (posted, rejected): (Vec<_>, Vec<_>) = results
        .into_iter()
        .flatten()
        .partition(|result| result.outcome() == EntryOutcome::Posted);
    assert_eq!((posted.len(), rejected.len()), (10, 14));
    assert!(rejected.iter().all(|result| result.reason == "CLAWBACK_EXCEEDS_ENTRY"));
    assert_eq!(shown(&app.open_balances(&["aff-1"]).await[0].open), "0.50 EUR");
}

async fn streams_on_one_settlement_keep_its_counters_right(app: App) {
    let accounts: Vec<String> = (0..20).map(|number| format!("aff-{number}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let rows = app.settled(&accounts).await;
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let targets = [RowStatus::InProgress, RowStatus::Paid, RowStatus::New];
    let streams = channels(&app, 8).await.into_iter().enumerate();
    let streams = streams.map(|(number, channel)| {
        let targets = targets.iter().cycle().skip(number).take(9).copied().collect();
        bulk_update(channel, rotated(&ids, number * 3), targets)
    });
    let answers: Vec<BulkAnswer> = at_once(streams).await.into_iter().flatten().collect();
    let updates: usize = answers.iter().map(|answer| answer.updated_ids.len()).sum();
    let mut changes = 0;
    let mut counts = [0; 3];
    for id in &ids {
        changes += app.history(id).await.len() - 1;
        let status = app.row(id).await.status();
        counts[crate::support::rows::MANUAL
            .iter()
            .position(|manual| *manual == status)
            .unwrap()] += 1;
    }
    assert_eq!(changes, updates);
    assert_eq!(app.counts(&rows[0].settlement_id).await, counts);
    assert_no_deadlock(&app).await;
}
