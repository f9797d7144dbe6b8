//! Callers who leave in the middle of a call, or do not read their answers.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use affiliate_billing::proto;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use affiliate_billing::proto::{AccountSettlementStatus as RowStatus, EntryOutcome};
use futures_util::StreamExt as _;
use tokio_stream::iter;
use tonic::transport::Endpoint;

use crate::support::app::App;
use crate::support::fixtures::{entry, request_id, settle_accounts, shown};
use crate::support::harness::scenarios;
use crate::support::observed::Observer;
use crate::support::rows::{BulkChunk, chunk, drained};

scenarios![
    calls_that_were_left_are_done_once_when_repeated,
    an_unread_stream_takes_no_more_chunks_and_holds_up_nobody,
];

const CALLS: usize = 200;
const ACCOUNTS: [&str; 4] = ["aff-0", "aff-1", "aff-2", "aff-3"];
/// Longer than any call takes here.
const LONGEST_CALL_MICROS: usize = 8000;

/// Makes a call and leaves it: by turns after a time, and after having been asked a number of times whether it is done.
async fn left<T>(call: impl Future<Output = T>, number: usize) {
    let mut call = pin!(call);
    if number.is_multiple_of(2) {
        let micros = number * 7919 % LONGEST_CALL_MICROS;
        tokio::select! {
            _ = &mut call => {}
            () = tokio::time::sleep(Duration::from_micros(u64::try_from(micros).unwrap())) => {}
        }
        return;
    }
    for _ in 0..number % 16 {
        let is_done = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
        if is_done {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn account(number: usize) -> &'static str {
    ACCOUNTS[number % ACCOUNTS.len()]
}

fn post_request(number: usize) -> proto::PostEntriesRequest {
    proto::PostEntriesRequest {
        entries: vec![entry(&format!("order-{number}"), account(number), "1.005", "EUR")],
        request_id: request_id(),
    }
}

/// Writes, and reads that see one moment, at once; then none may have left its connection inside a transaction. Checked
/// each time: the next to use that connection would end the transaction with its own, and hide it.
async fn leave_calls(
    app: &App,
    post: &proto::PostEntriesRequest,
    settle: &proto::SettleBalancesRequest,
    number: usize,
) {
    let validation = proto::SettleBalancesRequest {
        validate_only: true,
        ..settle.clone()
    };
    let summary = proto::SummarizeOpenBalancesRequest::default();
    let (mut one, mut two, mut three, mut four) = (app.balances(), app.balances(), app.balances(), app.balances());
    tokio::join!(
        left(one.post_entries(post.clone()), number),
        left(two.settle_balances(settle.clone()), number * 3),
        left(three.settle_balances(validation), number * 5),
        left(four.summarize_open_balances(summary), number * 7),
    );
}

async fn calls_that_were_left_are_done_once_when_repeated(app: App) {
    for account_id in ACCOUNTS {
        app.payable_account(account_id, &["EUR"]).await;
    }
    let requests: Vec<_> = (0..CALLS)
        .map(|number| (post_request(number), settle_accounts(vec![(account(number), None)])))
        .collect();
    let observer = Observer::connect(&app).await;
    for (number, (post, settle)) in requests.iter().enumerate() {
        leave_calls(&app, post, settle, number).await;
        observer.wait_until_idle().await;
    }

    for (post, settle) in &requests {
        let results = app
            .balances()
            .post_entries(post.clone())
            .await
            .unwrap()
            .into_inner()
            .results;
        assert_eq!(results[0].outcome(), EntryOutcome::Posted);
        app.settle_request(settle.clone()).await;
    }
    for account_id in ACCOUNTS {
        app.settle(&[account_id]).await;
        assert_eq!(shown(&app.open_balances(&[account_id]).await[0].open), "0.00 EUR");
    }
    let settlements = CALLS + ACCOUNTS.len();
    assert_eq!(paid_cents(&app, settlements).await, CALLS * 1005 / 10);
}

/// What all settlements pay, of which there must be so many.
async fn paid_cents(app: &App, settlements: usize) -> usize {
    let request = proto::ListSettlementsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let listed = app.settlements().list_settlements(request).await.unwrap().into_inner();
    assert_eq!(listed.settlements.len(), settlements);
    let totals = listed.settlements.into_iter().flat_map(|settlement| settlement.totals);
    totals
        .map(|total| total.amount.replace('.', "").parse::<usize>().unwrap())
        .sum()
}

const CHUNKS: usize = 150;
/// Far more than what the buffers on the way hold: each chunk and its answer have some 130 kB.
const MOST_TAKEN: usize = 75;
const QUIET_ROUNDS: usize = 8;

fn large_chunk(number: usize) -> BulkChunk {
    let ids: Vec<String> = (0..1000).map(|index| format!("{index:0>128}")).collect();
    BulkChunk {
        chunk_id: number.to_string(),
        account_settlement_ids: ids,
        ..chunk(&[], RowStatus::Paid)
    }
}

async fn an_unread_stream_takes_no_more_chunks_and_holds_up_nobody(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let endpoint = Endpoint::from_shared(app.address.clone()).unwrap();
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    let mut slow = SettlementsServiceClient::new(channel);
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let chunks = iter(0..CHUNKS).map(move |number| {
        counted.fetch_add(1, Ordering::Relaxed);
        large_chunk(number)
    });
    let answers = slow
        .bulk_update_account_settlement_status(chunks)
        .await
        .unwrap()
        .into_inner();

    // Nothing is read of it, while others go on; until no more chunks are taken for many of their calls.
    let (mut quiet, mut last) = (0, 0);
    while quiet < QUIET_ROUNDS && last < CHUNKS {
        for status in [RowStatus::InProgress, RowStatus::Paid, RowStatus::New] {
            app.set(&row.id, status).await;
            let read = proto::GetAccountSettlementRequest {
                id: row.id.clone(),
                ..Default::default()
            };
            slow.get_account_settlement(read).await.unwrap();
        }
        let now = taken.load(Ordering::Relaxed);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
    assert!((1..MOST_TAKEN).contains(&last), "{last} chunks were taken");

    let (answers, end) = drained(answers).await;
    assert!(end.is_none(), "{end:?}");
    let ids: Vec<String> = answers.into_iter().map(|answer| answer.chunk_id).collect();
    assert_eq!(ids, (0..CHUNKS).map(|number| number.to_string()).collect::<Vec<_>>());
}
