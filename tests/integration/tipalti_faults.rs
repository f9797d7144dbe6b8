//! What goes wrong between the service and Tipalti: nothing is sent twice, and no money is let go that may have been paid.

use std::time::{Duration, Instant};

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::{SubmitOutcome, SyncOutcome};
use fake_tipalti::faults::{Endpoint, Fault, FaultKind, Moment};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::app::App;
use crate::support::harness::scenarios;
use crate::support::rows::assert_refused;
use crate::support::tipalti::{LONGER_MS, World};

scenarios![
    whatever_fails_while_submitting_each_payment_arrives_once,
    a_provider_that_cannot_be_reached_leaves_everything_as_it_is,
    a_payment_that_shows_late_is_not_sent_again,
    what_fails_while_asking_changes_nothing,
    too_many_requests_tell_when_to_call_again,
    the_refresh_finishes_what_was_cut_off,
    the_refresh_leaves_a_provider_alone_as_long_as_it_asks,
    a_batch_that_fails_ends_the_stream_after_its_answer,
    a_malformed_payee_fails_its_row_alone,
    a_refusal_is_believed_only_when_the_payment_is_not_there,
    an_answer_that_cannot_be_read_holds_up_no_other_row,
    a_payment_that_is_no_longer_known_raises_an_alarm,
];

fn status(status: u16, retry_after_seconds: Option<u32>) -> FaultKind {
    FaultKind::Status {
        status,
        retry_after_seconds,
        body: String::new(),
    }
}

/// A world whose fake sends no events: all is heard by asking.
async fn silent(app: &App) -> World {
    let world = World::new(app).await;
    world.fake.configure(|options| options.sends_events = false);
    world
}

/// Each fault with what its rows are answered as, and whether the fake took them all the same.
fn faults() -> Vec<(Endpoint, Moment, FaultKind, SubmitOutcome, bool)> {
    use Endpoint::{Batches, Instructions};
    use Moment::{After, Before};
    use SubmitOutcome::{NotSent, Unknown};
    let hang = || FaultKind::Hang {
        milliseconds: LONGER_MS,
    };
    vec![
        (Batches, Before, hang(), Unknown, false),
        (Batches, After, hang(), Unknown, true),
        (Batches, Before, FaultKind::Cut, Unknown, false),
        (Batches, After, FaultKind::Cut, Unknown, true),
        (Batches, After, FaultKind::CutBody, Unknown, true),
        (Batches, After, FaultKind::Garbage, Unknown, true),
        (Batches, Before, status(500, None), Unknown, false),
        (Batches, After, status(503, None), Unknown, true),
        (Batches, Before, status(429, Some(1)), NotSent, false),
        (Batches, Before, status(403, None), NotSent, false),
        (Batches, Before, status(401, None), NotSent, false),
        (Instructions, Before, hang(), Unknown, true),
        (Instructions, Before, status(404, None), Unknown, true),
        (Instructions, After, FaultKind::Cut, Unknown, true),
        (Instructions, After, FaultKind::Garbage, Unknown, true),
        (Instructions, After, FaultKind::Nothing, Unknown, true),
    ]
}

async fn whatever_fails_while_submitting_each_payment_arrives_once(app: App) {
    let world = silent(&app).await;
    for (number, (endpoint, moment, kind, expected, is_taken)) in faults().into_iter().enumerate() {
        let told = format!("{endpoint:?} {moment:?} {kind:?}");
        let accounts = [format!("aff-{number}-a"), format!("aff-{number}-b")];
        let rows = world.settled(&[&accounts[0], &accounts[1]]).await;
        let settlement = rows[0].settlement_id.clone();
        world.fake.add_fault(Fault {
            times: 10,
            ..Fault::once(endpoint, moment, kind)
        });
        let (sent, end) = world.replica.try_submit(&settlement, "").await;
        world.fake.clear_faults();
        assert_eq!(sent.len(), 2, "{told}: {end:?}");
        for payout in &sent {
            assert_eq!(
                (payout.outcome(), payout.status()),
                (expected, RowStatus::InProgress),
                "{told}: {payout:?}"
            );
            assert!(!payout.error_message.is_empty(), "{told}");
        }
        for row in &rows {
            assert_eq!(world.fake.accepted(&row.id), u32::from(is_taken), "{told}");
            let outcome = app.delete_row(&row.id).await;
            assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_NOT_DELETABLE");
        }
        assert!(app.delete_settlement(&settlement).await.is_err(), "{told}");

        let (synced, end) = world.replica.try_sync(&settlement).await;
        assert!(end.is_none() && synced.len() == 2, "{told}: {end:?} {synced:?}");
        let outcome = if is_taken {
            SyncOutcome::Changed
        } else {
            SyncOutcome::SentAgain
        };
        for payout in &synced {
            assert_eq!(payout.outcome(), outcome, "{told}: {payout:?}");
        }
        world.replica.submit(&settlement).await;
        for row in &rows {
            assert_eq!(world.fake.accepted(&row.id), 1, "{told}");
            let provider = app.row(&row.id).await.provider.unwrap();
            assert_eq!(provider.raw_status, "ANALYZING", "{told}");
        }
    }
    assert!(world.fake.state()["acceptedTwice"].as_array().unwrap().is_empty());
    world.end().await;
}

async fn a_provider_that_cannot_be_reached_leaves_everything_as_it_is(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    let before = app.row(&row.id).await;
    for (fault, code, reason) in [
        (FaultKind::Cut, Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (status(503, None), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (
            status(400, None),
            Code::FailedPrecondition,
            "PROVIDER_CREDENTIALS_REFUSED",
        ),
    ] {
        world.fake.fail_once(Endpoint::Token, Moment::Before, fault);
        let (sent, end) = world.replica.try_submit(&row.settlement_id, "").await;
        assert!(sent.is_empty());
        assert_refused(end.map_or(Ok(()), Err), code, reason);
        assert_eq!(app.row(&row.id).await, before, "nothing was intended");
    }
    app.delete_row(&row.id).await.unwrap();
    world.end().await;
}

async fn a_payment_that_shows_late_is_not_sent_again(app: App) {
    let world = World::with(&app, |settings| settings.doubt_period = Duration::from_secs(3600)).await;
    world.fake.configure(|options| options.sends_events = false);
    let row = world.settled(&["aff-1"]).await.remove(0);
    world.fake.configure(|options| options.visible_after_ms = 3_600_000);
    world.fake.fail_once(Endpoint::Batches, Moment::After, FaultKind::Cut);
    world.replica.try_submit(&row.settlement_id, "").await;
    for _ in 0..3 {
        let synced = world.replica.sync(&row.settlement_id).await;
        assert_eq!(synced[0].outcome(), SyncOutcome::NotKnown);
    }
    assert!(world.replica.submit(&row.settlement_id).await.is_empty());
    assert_eq!((world.fake.accepted(&row.id), world.fake.attempts(&row.id)), (1, 1));
    world.fake.configure(|options| options.visible_after_ms = 0);
    let synced = world.replica.sync(&row.settlement_id).await;
    assert_eq!(
        (synced[0].outcome(), synced[0].raw_status.as_str()),
        (SyncOutcome::Changed, "ANALYZING")
    );
    assert_eq!(world.fake.attempts(&row.id), 1);
    world.end().await;
}

async fn what_fails_while_asking_changes_nothing(app: App) {
    let world = silent(&app).await;
    let row = world.submitted_row("aff-1").await;
    world.fake.advance();
    let kinds = [
        FaultKind::Hang {
            milliseconds: LONGER_MS,
        },
        FaultKind::Cut,
        FaultKind::CutBody,
        FaultKind::Garbage,
        status(500, None),
        status(403, None),
    ];
    for kind in kinds {
        world.fake.add_fault(Fault {
            times: 10,
            ..Fault::once(Endpoint::Payments, Moment::Before, kind.clone())
        });
        let (synced, end) = world.replica.try_sync(&row.settlement_id).await;
        world.fake.clear_faults();
        assert!(synced.is_empty());
        assert_refused(end.map_or(Ok(()), Err), Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert_eq!(app.row(&row.id).await, row, "{kind:?}");
    }
    // Known before and not known any more: a fault there, and no reason to send anything.
    world.fake.add_fault(Fault {
        times: 10,
        ..Fault::once(Endpoint::Payments, Moment::After, FaultKind::Nothing)
    });
    let synced = world.replica.sync(&row.settlement_id).await;
    assert_eq!(synced[0].outcome(), SyncOutcome::NotKnown);
    world.fake.clear_faults();
    assert_eq!((app.row(&row.id).await, world.fake.attempts(&row.id)), (row.clone(), 1));
    let synced = world.replica.sync(&row.settlement_id).await;
    assert_eq!(synced[0].outcome(), SyncOutcome::Changed);
    world.end().await;
}

async fn too_many_requests_tell_when_to_call_again(app: App) {
    let world = World::new(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    world
        .fake
        .fail_once(Endpoint::Batches, Moment::Before, status(429, Some(7)));
    let (sent, end) = world.replica.try_submit(&row.settlement_id, "").await;
    assert_eq!(sent[0].outcome(), SubmitOutcome::NotSent);
    let refused = assert_refused(end.map_or(Ok(()), Err), Code::Unavailable, "PROVIDER_UNAVAILABLE");
    let delay = refused.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_secs(7)));
    let sent = world.replica.submit(&row.settlement_id).await;
    assert_eq!(
        sent[0].outcome(),
        SubmitOutcome::Accepted,
        "calling again sends it at once"
    );
    world
        .fake
        .fail_once(Endpoint::Payments, Moment::Before, status(429, Some(9)));
    let (_, end) = world.replica.try_sync(&row.settlement_id).await;
    let refused = assert_refused(end.map_or(Ok(()), Err), Code::Unavailable, "PROVIDER_UNAVAILABLE");
    let delay = refused.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_secs(9)));
    world.end().await;
}

/// Asks for a row until it is as it should be.
pub(crate) async fn until(app: &App, id: &str, is_so: impl Fn(&proto::AccountSettlement) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is_so(&app.row(id).await) {
            tokio::task::yield_now().await;
        }
    });
    if waited.await.is_err() {
        panic!("it stays {:?}", app.row(id).await);
    }
}

async fn the_refresh_finishes_what_was_cut_off(app: App) {
    let mut world = silent(&app).await;
    let rows = world.settled(&["aff-1", "aff-2", "aff-3"]).await;
    let settlement = rows[0].settlement_id.clone();
    world.fake.fail_once(Endpoint::Batches, Moment::Before, FaultKind::Cut);
    world.replica.try_submit(&settlement, "").await;
    let other = world.settled(&["aff-4"]).await.remove(0);
    world
        .fake
        .fail_once(Endpoint::Batches, Moment::Before, status(429, None));
    world.replica.try_submit(&other.settlement_id, "").await;
    world.replica.refresh();
    for row in rows.iter().chain([&other]) {
        until(&app, &row.id, |row| {
            row.provider
                .as_ref()
                .is_some_and(|provider| provider.raw_status == "ANALYZING")
        })
        .await;
        assert_eq!(world.fake.accepted(&row.id), 1);
    }
    for _ in 0..3 {
        world.fake.advance();
    }
    for row in rows.iter().chain([&other]) {
        until(&app, &row.id, |row| row.status() == RowStatus::Paid).await;
        until(&app, &row.id, |row| {
            row.provider.as_ref().is_some_and(|provider| provider.is_final)
        })
        .await;
    }
    world.end().await;
}

async fn the_refresh_leaves_a_provider_alone_as_long_as_it_asks(app: App) {
    let mut world = silent(&app).await;
    let row = world.submitted_row("aff-1").await;
    world.fake.add_fault(Fault {
        times: 1,
        ..Fault::once(Endpoint::Payments, Moment::Before, status(429, Some(2)))
    });
    world.replica.refresh();
    let asked = |count: u32| {
        let fake = world.fake.clone();
        tokio::time::timeout(Duration::from_secs(60), async move {
            while fake.requests("payments") < count {
                tokio::task::yield_now().await;
            }
        })
    };
    asked(1).await.unwrap();
    let since = Instant::now();
    asked(2).await.unwrap();
    assert!(since.elapsed() >= Duration::from_millis(1900), "{:?}", since.elapsed());
    world.fake.advance();
    until(&app, &row.id, |row| {
        row.provider
            .as_ref()
            .is_some_and(|provider| provider.raw_status == "SUBMITTED")
    })
    .await;
    world.end().await;
}

async fn a_batch_that_fails_ends_the_stream_after_its_answer(app: App) {
    let world = World::with(&app, |settings| settings.batch_limit = 2).await;
    world.fake.configure(|options| options.sends_events = false);
    let settlement = app.tipalti_settlement("aff", 5).await;
    world.fake.add_fault(Fault {
        skip: 1,
        ..Fault::once(Endpoint::Batches, Moment::After, FaultKind::Cut)
    });
    let (sent, end) = world.replica.try_submit(&settlement, "").await;
    let outcomes: Vec<SubmitOutcome> = sent.iter().map(proto::SubmittedPayout::outcome).collect();
    let (accepted, unknown) = (SubmitOutcome::Accepted, SubmitOutcome::Unknown);
    assert_eq!(outcomes, [accepted, accepted, unknown, unknown]);
    assert_refused(end.map_or(Ok(()), Err), Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!(
        app.counts(&settlement).await,
        [1, 4, 0],
        "what no answer named is as it was"
    );
    let sent = world.replica.submit(&settlement).await;
    assert_eq!(sent.len(), 1, "what is unknown is not sent again");
    world.replica.sync(&settlement).await;
    assert_eq!(world.fake.state()["acceptedTotal"], 5);
    assert!(world.fake.state()["acceptedTwice"].as_array().unwrap().is_empty());
    world.end().await;
}

async fn a_malformed_payee_fails_its_row_alone(app: App) {
    let world = silent(&app).await;
    let settlement = app.tipalti_settlement("aff", 9).await;
    world
        .fake
        .configure(|options| options.malformed_payee = Some("payee-aff-4".to_owned()));
    let sent = world.replica.submit(&settlement).await;
    for row in app.rows_of(&settlement).await {
        let payout = sent.iter().find(|payout| payout.id == row.id).unwrap();
        if row.account_id == "aff-4" {
            let found = (payout.outcome(), row.status(), payout.error_code.as_str());
            assert_eq!(
                found,
                (SubmitOutcome::Refused, RowStatus::Error, "HTTP 400 InvalidPayee")
            );
            assert_eq!(world.fake.accepted(&row.id), 0);
            app.delete_row(&row.id).await.unwrap();
        } else {
            assert_eq!(payout.outcome(), SubmitOutcome::Accepted, "{payout:?}");
            assert_eq!((world.fake.accepted(&row.id), world.fake.attempts(&row.id)), (1, 1));
        }
    }
    world.end().await;
}

async fn a_refusal_is_believed_only_when_the_payment_is_not_there(app: App) {
    let world = silent(&app).await;
    let row = world.settled(&["aff-1"]).await.remove(0);
    // Taken, and neither answered nor found at once; sent again, and refused in words that nobody knows.
    world
        .fake
        .configure(|options| options.duplicate_text = "the refCode must be another one".to_owned());
    world.fake.fail_once(Endpoint::Batches, Moment::After, FaultKind::Cut);
    world.replica.try_submit(&row.settlement_id, "").await;
    world
        .fake
        .fail_once(Endpoint::Payments, Moment::After, FaultKind::Nothing);
    let synced = world.replica.sync(&row.settlement_id).await;
    assert_eq!(synced[0].outcome(), SyncOutcome::SentAgain);
    assert_eq!((world.fake.accepted(&row.id), world.fake.attempts(&row.id)), (1, 2));
    let found = app.row(&row.id).await;
    assert_eq!(
        (found.status(), found.provider.unwrap().raw_status.as_str()),
        (RowStatus::InProgress, "ANALYZING")
    );
    world.end().await;
}

async fn an_answer_that_cannot_be_read_holds_up_no_other_row(app: App) {
    let world = silent(&app).await;
    let settlement = app.tipalti_settlement("aff", 9).await;
    world.replica.submit(&settlement).await;
    world.fake.advance();
    let garbled = app.rows_of(&settlement).await[4].id.clone();
    world
        .fake
        .configure(|options| options.garbled_ref_code = Some(garbled.clone()));
    let (synced, end) = world.replica.try_sync(&settlement).await;
    assert_refused(end.map_or(Ok(()), Err), Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!(synced.len(), 9);
    for payout in synced {
        let expected = if payout.id == garbled {
            SyncOutcome::Busy
        } else {
            SyncOutcome::Changed
        };
        assert_eq!(payout.outcome(), expected);
    }
    world.end().await;
}

async fn a_payment_that_is_no_longer_known_raises_an_alarm(app: App) {
    let world = silent(&app).await;
    let row = world.submitted_row("aff-1").await;
    for _ in 0..2 {
        world
            .fake
            .fail_once(Endpoint::Payments, Moment::After, FaultKind::Nothing);
        let synced = world.replica.sync(&row.settlement_id).await;
        assert_eq!(synced[0].outcome(), SyncOutcome::NotKnown);
    }
    let alarms = world.replica.alarms().await;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(
        (alarms[0].raw_status.as_str(), alarms[0].was_deleted),
        ("(no longer known)", false)
    );
    assert_eq!((world.fake.attempts(&row.id), app.row(&row.id).await), (1, row));
    world.end().await;
}
