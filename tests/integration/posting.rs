//! Small calls of `PostEntries` that are written together: none of them is touched by another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::support::app::App;
use crate::support::fixtures::{entry, request_id};
use crate::support::harness::scenarios;
use crate::support::ledger::outcome;
use crate::support::observed::Observer;
use crate::support::tables::Tables;

scenarios![
    calls_that_come_together_each_get_their_own_answer,
    a_call_that_fails_takes_no_other_with_it,
    a_call_that_is_left_takes_no_other_with_it,
    calls_that_wait_together_are_written_together,
    two_replicas_post_the_same_entries_once,
    calls_with_request_ids_are_answered_the_same,
];

const CALLERS: usize = 64;

async fn post_one(app: &App, entry: proto::Entry) -> Result<String, Status> {
    let request = proto::PostEntriesRequest {
        entries: vec![entry],
        ..Default::default()
    };
    let response = app.balances().post_entries(request).await?.into_inner();
    assert_eq!(response.results.len(), 1);
    Ok(outcome(&response.results[0]))
}

/// Posts one entry a call from many callers at once; how each ended.
async fn post_at_once(app: &App, entries: Vec<proto::Entry>) -> Vec<Result<String, Status>> {
    let mut calls = JoinSet::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let mut client = app.balances();
        calls.spawn(async move {
            let request = proto::PostEntriesRequest {
                entries: vec![entry],
                ..Default::default()
            };
            let response = client.post_entries(request).await;
            (
                number,
                response.map(|response| outcome(&response.into_inner().results[0])),
            )
        });
    }
    let mut outcomes: Vec<(usize, Result<String, Status>)> = calls.join_all().await;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn calls_that_come_together_each_get_their_own_answer(app: App) {
    let mut entries = Vec::new();
    for number in 0..CALLERS {
        entries.push(match number % 4 {
            0 => entry(&format!("order-{number}"), "aff-1", "1", "EUR"),
            // Of all that have this id one is posted, and the others have the same content.
            1 => entry("same", "aff-1", "1", "EUR"),
            // Of all that have this id one is posted, and the others have other content.
            2 => entry("other", "aff-1", &format!("{}", number + 1), "EUR"),
            _ => entry(&format!("bad-{number}"), "aff-1", "0", "EUR"),
        });
    }
    let outcomes = post_at_once(&app, entries).await;
    let mut counts: BTreeMap<(usize, String), usize> = BTreeMap::new();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        *counts.entry((number % 4, outcome.unwrap())).or_default() += 1;
    }
    let kinds = CALLERS / 4;
    let of = |kind: usize, word: &str| -> usize {
        counts
            .iter()
            .filter(|((of_kind, outcome), _)| *of_kind == kind && outcome.starts_with(word))
            .map(|(_, count)| count)
            .sum()
    };
    assert_eq!(of(0, "POSTED"), kinds, "{counts:?}");
    assert_eq!((of(1, "POSTED"), of(1, "ALREADY_POSTED")), (1, kinds - 1), "{counts:?}");
    assert_eq!(
        (of(2, "POSTED"), of(2, "EXTERNAL_ID_CONFLICT")),
        (1, kinds - 1),
        "{counts:?}"
    );
    assert_eq!((of(3, "POSTED"), of(3, "ALREADY_POSTED")), (0, 0), "{counts:?}");
}

/// The database refuses the entries with this id, as it would any that break a rule which the service does not know.
async fn refuse_poison(app: &App) {
    let tables = Tables::open(&app.database_url).await;
    if app.is_postgres() {
        let function =
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$";
        tables.execute(function).await;
        tables
            .execute(
                "CREATE TRIGGER refuse_poison BEFORE INSERT ON entries FOR EACH ROW WHEN (NEW.external_id LIKE 'poison%') \
                 EXECUTE FUNCTION refuse()",
            )
            .await;
    } else {
        tables
            .execute(
                "CREATE TRIGGER refuse_poison BEFORE INSERT ON entries WHEN NEW.external_id LIKE 'poison%' \
                 BEGIN SELECT RAISE(ABORT, 'refused'); END",
            )
            .await;
    }
    tables.close().await;
}

async fn a_call_that_fails_takes_no_other_with_it(app: App) {
    refuse_poison(&app).await;
    let id = |number: usize| {
        let word = if number.is_multiple_of(8) { "poison" } else { "order" };
        format!("{word}-{number}")
    };
    let entries = (0..CALLERS).map(|number| entry(&id(number), "aff-1", "1", "EUR"));
    let outcomes = post_at_once(&app, entries.collect()).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        if number.is_multiple_of(8) {
            assert_eq!(outcome.unwrap_err().code(), Code::Internal, "{number}");
        } else {
            assert_eq!(outcome.unwrap(), "POSTED", "{number}");
        }
    }
    assert_eq!(app.entries_of("aff-1").await.len(), CALLERS - CALLERS / 8);
}

async fn a_call_that_is_left_takes_no_other_with_it(app: App) {
    let mut calls = JoinSet::new();
    for number in 0..CALLERS {
        // On a connection of its own each: HTTP/2 ends one on which many calls are reset at once.
        let endpoint = Endpoint::from_shared(app.address.clone()).unwrap();
        let mut client = BalancesServiceClient::new(endpoint.connect().await.unwrap());
        calls.spawn(async move {
            let mut request = tonic::Request::new(proto::PostEntriesRequest {
                entries: vec![entry(&format!("order-{number}"), "aff-1", "1", "EUR")],
                ..Default::default()
            });
            match number % 4 {
                // Leaves at once, or a little later.
                0 => {
                    let micros = u64::try_from(number).unwrap() * 40;
                    let call = client.post_entries(request);
                    drop(tokio::time::timeout(Duration::from_micros(micros), call).await);
                    return;
                }
                1 => request.set_timeout(Duration::from_millis(1)),
                _ => {}
            }
            let response = client.post_entries(request).await;
            if number % 4 == 1 {
                // Its time may have been up or not.
                let late = response.map_or_else(|status| status.code(), |_| Code::Ok);
                assert!(
                    matches!(late, Code::Ok | Code::DeadlineExceeded | Code::Cancelled),
                    "{late:?}"
                );
                return;
            }
            assert_eq!(
                outcome(&response.unwrap().into_inner().results[0]),
                "POSTED",
                "{number}"
            );
        });
    }
    calls.join_all().await;
    // Whatever became of those, they can be sent again, and then all are there once.
    for number in 0..CALLERS {
        let again = post_one(&app, entry(&format!("order-{number}"), "aff-1", "1", "EUR")).await;
        let again = again.unwrap();
        assert!(
            again == "ALREADY_POSTED" || (again == "POSTED" && number % 4 < 2),
            "{number}: {again}"
        );
    }
    assert_eq!(app.entries_of("aff-1").await.len(), CALLERS);
}

/// The times at which entries were written: those of one transaction have the same.
async fn write_times(app: &App) -> BTreeSet<(i64, i32)> {
    let entries = app.list_entries(proto::ListEntriesRequest::default()).await;
    let times = entries.iter().map(|entry| entry.create_time.unwrap());
    times.map(|time| (time.seconds, time.nanos)).collect()
}

async fn calls_that_wait_together_are_written_together(app: App) {
    let entries = (0..CALLERS).map(|number| entry(&format!("e-{number}"), &format!("aff-{}", number % 7), "1", "EUR"));
    for outcome in post_at_once(&app, entries.collect()).await {
        assert_eq!(outcome.unwrap(), "POSTED");
    }
    let transactions = write_times(&app).await.len();
    assert!(
        transactions < CALLERS / 2,
        "{transactions} transactions for {CALLERS} calls"
    );
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
                let request = proto::PostEntriesRequest {
                    entries: vec![entry(&format!("e-{round}-{}", number / 2), "aff-1", "1", "EUR")],
                    ..Default::default()
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
            entries: vec![entry(&format!("e-{number}"), "aff-1", "1", "EUR")],
        })
        .collect();
    for _ in 0..2 {
        let calls = requests.iter().map(|request| {
            let (mut client, request) = (app.balances(), request.clone());
            async move { client.post_entries(request).await.unwrap().into_inner() }
        });
        for answer in join_all(calls).await {
            assert_eq!(outcome(&answer.results[0]), "POSTED");
        }
    }
    assert_eq!(app.shown_open("aff-1").await, ["16.00 EUR"]);
}
