//! Calls that post at the same time share a transaction, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use futures_util::future::join_all;
use tonic::{Code, Request, Status};

use crate::support::app::App;
use crate::support::fixtures::{entry, request_id};
use crate::support::harness::scenarios;
use crate::support::ledger::outcome;
use crate::support::observed::Observer;

scenarios![
    calls_that_wait_together_are_written_together,
    one_callers_bad_entries_never_touch_anothers,
    one_callers_deadline_or_leaving_never_touches_anothers,
    the_same_entry_from_many_callers_is_posted_once,
    two_replicas_post_the_same_entries_once,
    calls_with_request_ids_are_answered_the_same;
];

const CALLERS: usize = 64;

fn one(external_id: &str, account_id: &str, amount: &str) -> proto::PostEntriesRequest {
    proto::PostEntriesRequest {
        entries: vec![entry(external_id, account_id, amount, "EUR")],
        ..Default::default()
    }
}

async fn post(app: &App, request: proto::PostEntriesRequest) -> Result<Vec<String>, Status> {
    let answer = app.balances().post_entries(request).await?.into_inner();
    Ok(answer.results.iter().map(outcome).collect())
}

/// The times at which entries were written: those of one transaction have the same.
async fn write_times(app: &App) -> BTreeSet<(i64, i32)> {
    let entries = app.list_entries(proto::ListEntriesRequest::default()).await;
    let times = entries.iter().map(|entry| entry.create_time.unwrap());
    times.map(|time| (time.seconds, time.nanos)).collect()
}

async fn calls_that_wait_together_are_written_together(app: App) {
    let calls = (0..CALLERS).map(|number| {
        let app = app.clone();
        async move { post(&app, one(&format!("e-{number}"), &format!("aff-{}", number % 7), "1")).await }
    });
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap(), ["POSTED"]);
    }
    let transactions = write_times(&app).await.len();
    assert!(
        transactions < CALLERS / 2,
        "{transactions} transactions for {CALLERS} calls"
    );
    let open: usize = app.open_balances(&[]).await.len();
    assert_eq!(open, 7);
}

async fn one_callers_bad_entries_never_touch_anothers(app: App) {
    post(&app, one("taken", "aff-0", "5")).await.unwrap();
    for round in 0..5 {
        let calls = (0..CALLERS).map(|number| {
            let app = app.clone();
            let id = format!("e-{round}-{number}");
            let account = format!("aff-{number}");
            async move {
                let (request, expected) = match number % 5 {
                    0 => (one("taken", &account, "7"), "EXTERNAL_ID_CONFLICT external_id"),
                    1 => (one(&id, &account, "1.2345678"), "INVALID_ENTRY money.amount"),
                    2 => (one(&id, &account, "9999999999999"), "INVALID_ENTRY money.amount"),
                    3 => {
                        let mut request = one(&id, &account, "-1");
                        request.entries[0].kind = proto::EntryKind::Clawback.into();
                        request.entries[0].reverses_external_id = "nothing".to_owned();
                        (request, "REVERSED_ENTRY_NOT_FOUND reverses_external_id")
                    }
                    _ => (one(&id, &account, "1"), "POSTED"),
                };
                (number, post(&app, request).await.unwrap(), expected)
            }
        });
        for (number, found, expected) in join_all(calls).await {
            let reason = |text: &str| text.split(' ').next_back().map(str::to_owned);
            if number % 5 == 1 || number % 5 == 2 {
                assert_eq!(reason(&found[0]), reason(expected), "{number}: {found:?}");
            } else {
                assert_eq!(found, [expected], "{number}");
            }
        }
    }
}

async fn one_callers_deadline_or_leaving_never_touches_anothers(app: App) {
    for round in 0..10 {
        let calls = (0..CALLERS).map(|number| {
            let app = app.clone();
            async move {
                let id = format!("e-{round}-{number}");
                let mut request = Request::new(one(&id, &format!("aff-{number}"), "1"));
                let mut client: BalancesServiceClient<_> = app.balances();
                match number % 4 {
                    0 => {
                        request.set_timeout(Duration::from_millis(6));
                        let outcome = client.post_entries(request).await;
                        let code = outcome.err().map(|status| status.code());
                        // tonic counts the time on the client too, and gives up as CANCELLED.
                        assert!(
                            matches!(code, None | Some(Code::DeadlineExceeded | Code::Cancelled)),
                            "{code:?}"
                        );
                        None
                    }
                    1 => {
                        let leave_after = Duration::from_micros(300 * u64::try_from(number).unwrap());
                        let _ = tokio::time::timeout(leave_after, client.post_entries(request)).await;
                        None
                    }
                    _ => {
                        let answer = client.post_entries(request).await.unwrap().into_inner();
                        Some((id, answer.results.iter().map(outcome).collect::<Vec<_>>()))
                    }
                }
            }
        });
        for (id, found) in join_all(calls).await.into_iter().flatten() {
            assert_eq!(found, ["POSTED"], "{id}");
        }
    }
    Observer::connect(&app).await.wait_until_idle().await;
}

async fn the_same_entry_from_many_callers_is_posted_once(app: App) {
    let calls = (0..CALLERS).map(|_| {
        let app = app.clone();
        async move { post(&app, one("same", "aff-1", "3")).await.unwrap().remove(0) }
    });
    let outcomes = join_all(calls).await;
    let posted = outcomes.iter().filter(|outcome| *outcome == "POSTED").count();
    assert_eq!(posted, 1);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome == "POSTED" || outcome == "ALREADY_POSTED")
    );
    assert_eq!(app.shown_open("aff-1").await, ["3.00 EUR"]);
}

async fn two_replicas_post_the_same_entries_once(app: App) {
    let observer = Observer::connect(&app).await;
    let other = app.replica().await;
    for round in 0..5 {
        let calls = (0..CALLERS).map(|number| {
            let channel = if number % 2 == 0 {
                app.channel.clone()
            } else {
                other.clone()
            };
            async move {
                let request = one(
                    &format!("e-{round}-{}", number / 2),
                    &format!("aff-{}", number % 3),
                    "1",
                );
                let request = proto::PostEntriesRequest {
                    entries: vec![proto::Entry {
                        account_id: "aff-1".to_owned(),
                        ..request.entries[0].clone()
                    }],
                    ..request
                };
                let answer = BalancesServiceClient::new(channel).post_entries(request).await;
                outcome(&answer.unwrap().into_inner().results[0])
            }
        });
        let outcomes = join_all(calls).await;
        let posted = outcomes.iter().filter(|outcome| *outcome == "POSTED").count();
        assert_eq!(posted, CALLERS / 2, "{outcomes:?}");
    }
    assert_eq!(app.shown_open("aff-1").await, [format!("{}.00 EUR", 5 * CALLERS / 2)]);
    assert_eq!(observer.deadlocks().await, 0);
}

async fn calls_with_request_ids_are_answered_the_same(app: App) {
    let requests: Vec<proto::PostEntriesRequest> = (0..16)
        .map(|number| proto::PostEntriesRequest {
            request_id: request_id(),
            ..one(&format!("e-{number}"), "aff-1", "1")
        })
        .collect();
    for _ in 0..2 {
        let outcomes = join_all(requests.iter().map(|request| post(&app, request.clone()))).await;
        assert!(outcomes.into_iter().all(|outcome| outcome.unwrap() == ["POSTED"]));
    }
    assert_eq!(app.shown_open("aff-1").await, ["16.00 EUR"]);
}
