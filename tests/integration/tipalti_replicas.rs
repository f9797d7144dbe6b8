//! Several replicas at one settlement, many rows, and callers who leave: nothing is sent or asked for twice.

use std::collections::BTreeSet;
use std::time::Duration;

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::{SubmitOutcome, SyncOutcome};
use fake_tipalti::faults::{Endpoint, Fault, FaultKind, Moment};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;

use crate::support::app::App;
use crate::support::fixtures::{entry, request_id, tipalti_method};
use crate::support::harness::scenarios;
use crate::support::observed::Observer;
use crate::support::tipalti::World;

scenarios![
    two_replicas_submit_at_once_and_nothing_is_sent_twice,
    two_replicas_ask_at_once_and_nothing_is_asked_for_twice,
    two_refreshes_share_the_work,
    a_caller_who_leaves_stops_no_submission,
    submitting_races_with_deleting,
    ten_thousand_rows_are_submitted_and_followed,
];

fn accepted_once(world: &World, count: usize) {
    let state = world.fake.state();
    assert_eq!(state["acceptedTotal"], count);
    assert!(state["acceptedTwice"].as_array().unwrap().is_empty());
    let attempts: Vec<u64> = state["attempts"]
        .as_object()
        .unwrap()
        .values()
        .map(|times| times.as_u64().unwrap())
        .collect();
    assert!(
        attempts.len() == count && attempts.iter().all(|times| *times == 1),
        "{attempts:?}"
    );
}

async fn two_replicas_submit_at_once_and_nothing_is_sent_twice(app: App) {
    let world = World::with(&app, |settings| settings.batch_limit = 20).await;
    world.fake.configure(|options| options.sends_events = false);
    let observer = Observer::connect(&app).await;
    let settlement = app.tipalti_settlement("aff", 200).await;
    let other = world.another().await;
    let calls = (0..6).map(|number| if number % 2 == 0 { &world.replica } else { &other });
    let answers = join_all(calls.map(|replica| replica.submit(&settlement))).await;
    let mut seen = BTreeSet::new();
    for payout in answers.into_iter().flatten() {
        assert_eq!(payout.outcome(), SubmitOutcome::Accepted);
        assert!(seen.insert(payout.id), "a row is answered to one of the callers");
    }
    assert_eq!(seen.len(), 200);
    accepted_once(&world, 200);
    assert_eq!(observer.deadlocks().await, 0);
    other.end().await;
    world.end().await;
}

async fn two_replicas_ask_at_once_and_nothing_is_asked_for_twice(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let settlement = app.tipalti_settlement("aff", 100).await;
    world.replica.submit(&settlement).await;
    world.fake.advance();
    let other = world.another().await;
    // Held up, so that the second one comes while the first one asks.
    world.fake.add_fault(Fault {
        times: 2,
        ..Fault::once(
            Endpoint::Payments,
            Moment::Before,
            FaultKind::Delay { milliseconds: 300 },
        )
    });
    let (first, second) = tokio::join!(world.replica.sync(&settlement), other.sync(&settlement));
    let mut changed = BTreeSet::new();
    for payout in first.iter().chain(&second) {
        if payout.outcome() != SyncOutcome::Busy {
            assert_eq!(payout.outcome(), SyncOutcome::Changed);
            assert!(changed.insert(&payout.id), "{payout:?}");
        }
    }
    assert_eq!(changed.len(), 100);
    assert_eq!(
        world.fake.requests("payments"),
        2,
        "fifty a question, each asked for once"
    );
    other.end().await;
    world.end().await;
}

async fn two_refreshes_share_the_work(app: App) {
    let mut world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let settlement = app.tipalti_settlement("aff", 300).await;
    // Half of them are cut off and have to be looked up, and sent again.
    world.fake.fail_once(Endpoint::Batches, Moment::Before, FaultKind::Cut);
    world.replica.try_submit(&settlement, "").await;
    world.replica.submit(&settlement).await;
    let mut other = world.another().await;
    world.replica.refresh();
    other.refresh();
    for _ in 0..3 {
        world.fake.advance();
    }
    let done = tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            let counts = app.settlement(&settlement).await.status_counts.unwrap();
            if counts.paid == 300 {
                return;
            }
            world.fake.advance();
        }
    });
    done.await.unwrap();
    accepted_once(&world, 300);
    other.end().await;
    world.end().await;
}

async fn a_caller_who_leaves_stops_no_submission(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    for number in 0..20 {
        let row = world.settled(&[&format!("aff-{number}")]).await.remove(0);
        world
            .fake
            .fail_once(Endpoint::Batches, Moment::Before, FaultKind::Delay { milliseconds: 30 });
        let request = proto::SubmitSettlementRequest {
            settlement_id: row.settlement_id.clone(),
            ..Default::default()
        };
        let mut client = world.replica.tipalti();
        let call = async move {
            let mut stream = client.submit_settlement(request).await.unwrap().into_inner();
            stream.message().await
        };
        // Left at another moment each time.
        let _ = tokio::time::timeout(Duration::from_millis(4 * number), call).await;
        world.fake.clear_faults();
        crate::tipalti_faults::until(&app, &row.id, |row| {
            // Either it never began, or it goes on to its end.
            let is_untouched = row.status() == RowStatus::New;
            is_untouched
                || row
                    .provider
                    .as_ref()
                    .is_some_and(|provider| provider.raw_status == "ANALYZING")
        })
        .await;
        world.replica.submit(&row.settlement_id).await;
        assert_eq!(
            (world.fake.accepted(&row.id), world.fake.attempts(&row.id)),
            (1, 1),
            "{number}"
        );
    }
    world.end().await;
}

async fn submitting_races_with_deleting(app: App) {
    let world = World::with(&app, |settings| settings.batch_limit = 5).await;
    let observer = Observer::connect(&app).await;
    for round in 0..10 {
        let settlement = app.tipalti_settlement(&format!("aff-{round}"), 20).await;
        let rows = app.rows_of(&settlement).await;
        let deletions = rows.iter().rev().map(|row| async {
            let deleted = app.delete_row(&row.id).await.is_ok();
            (row.id.clone(), deleted)
        });
        let (sent, deleted) = tokio::join!(world.replica.submit(&settlement), join_all(deletions));
        let sent: BTreeSet<String> = sent.into_iter().map(|payout| payout.id).collect();
        for (id, is_deleted) in deleted {
            assert_eq!(sent.contains(&id), !is_deleted, "either paid or open again");
            assert_eq!(world.fake.accepted(&id), u32::from(!is_deleted));
        }
    }
    assert!(world.replica.alarms().await.is_empty());
    assert_eq!(observer.deadlocks().await, 0);
    world.end().await;
}

async fn ten_thousand_rows_are_submitted_and_followed(app: App) {
    const ROWS: usize = 10_000;
    const CURRENCIES: [&str; 4] = ["CHF", "EUR", "GBP", "USD"];
    let world = World::with(&app, |settings| settings.request_timeout = Duration::from_secs(30)).await;
    world.fake.configure(|options| options.sends_events = false);
    let ids: Vec<String> = (0..ROWS / CURRENCIES.len())
        .map(|number| format!("aff-{number}"))
        .collect();
    stream::iter(&ids)
        .for_each_concurrent(16, |id| async {
            app.with_billing_details(id).await;
            for currency in CURRENCIES {
                app.with_method(tipalti_method(id, currency)).await;
            }
        })
        .await;
    for chunk in ids.chunks(250) {
        let earned = |id: &String| CURRENCIES.map(|currency| entry(&request_id(), id, "10", currency));
        app.post(chunk.iter().flat_map(earned).collect()).await;
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let settlement = app.settle(&ids).await.settlement.unwrap().id;
    assert_eq!(world.replica.submit(&settlement).await.len(), ROWS);
    let requests = |endpoint: &str| world.fake.requests(endpoint);
    // 250 a batch, whose outcomes come a hundred a page.
    assert_eq!(
        (requests("token"), requests("batches"), requests("instructions")),
        (1, 40, 120)
    );
    world.fake.advance();
    assert_eq!(world.replica.sync(&settlement).await.len(), ROWS);
    // Fifty a question.
    assert_eq!(requests("payments"), 200);
    accepted_once(&world, ROWS);
    let counts = app.settlement(&settlement).await.status_counts.unwrap();
    assert_eq!(counts.in_progress, 10_000);
    world.end().await;
}
