//! Payouts through Tipalti: submitting, asking, and what its words do.

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::{SubmitOutcome, SyncOutcome};
use fake_tipalti::state::Payee;
use tonic::Code;

use crate::support::app::App;
use crate::support::fixtures::{bank_method, request_id};
use crate::support::harness::scenarios;
use crate::support::rows::assert_refused;
use crate::support::tipalti::World;

scenarios![
    a_settlement_is_submitted_and_followed_until_it_is_cleared,
    every_status_of_the_table_is_followed,
    an_unknown_status_is_shown_and_changes_nothing,
    a_row_that_is_refused_fails_alone,
    submitting_takes_tipaltis_rows_alone,
    a_repeated_submission_is_answered_the_same_and_sends_nothing,
    rows_of_held_accounts_are_left_as_they_are,
    without_a_provider_it_is_told,
    submitting_what_is_not_there_is_refused,
];

async fn a_settlement_is_submitted_and_followed_until_it_is_cleared(app: App) {
    let world = World::new(&app).await;
    // All is heard by asking: an event would come first now and then.
    world.fake.configure(|options| options.sends_events = false);
    let rows = world.settled(&["aff-1", "aff-2"]).await;
    let settlement = rows[0].settlement_id.clone();
    let sent = world.replica.submit(&settlement).await;
    assert_eq!(sent.len(), 2);
    for payout in &sent {
        assert_eq!(payout.outcome(), SubmitOutcome::Accepted, "{payout:?}");
        assert_eq!(
            (payout.status(), payout.raw_status.as_str()),
            (RowStatus::InProgress, "ANALYZING")
        );
    }
    let steps = [
        ("SUBMITTED", RowStatus::InProgress, false),
        ("PAID", RowStatus::Paid, false),
        ("CLEARED", RowStatus::Paid, true),
    ];
    for (raw_status, status, is_final) in steps {
        world.fake.advance();
        let before = app.row(&rows[0].id).await;
        let synced = world.replica.sync(&settlement).await;
        assert_eq!(synced.len(), 2);
        for payout in &synced {
            assert_eq!(payout.outcome(), SyncOutcome::Changed, "{payout:?}");
            assert_eq!((payout.status(), payout.raw_status.as_str()), (status, raw_status));
        }
        let row = app.row(&rows[0].id).await;
        let provider = row.provider.clone().unwrap();
        assert_eq!(
            (row.status(), provider.raw_status.as_str(), provider.is_final),
            (status, raw_status, is_final)
        );
        assert!(!provider.reference.is_empty() && provider.event_time.is_some() && !provider.unmapped);
        assert_ne!(row.etag, before.etag, "the etag changes with what the provider says");
        assert_eq!(row.paid_time.is_some(), status == RowStatus::Paid);
    }
    assert!(world.replica.sync(&settlement).await.is_empty(), "all was said");
    let history: Vec<(RowStatus, String, String)> = app
        .history(&rows[0].id)
        .await
        .into_iter()
        .map(|change| (change.to_status(), change.actor, change.reason))
        .collect();
    let told = |status, actor: &str, reason: &str| (status, actor.to_owned(), reason.to_owned());
    assert_eq!(
        history[1..],
        [
            told(RowStatus::InProgress, "unauthenticated", "sent to tipalti"),
            told(RowStatus::Paid, "tipalti", "PAID"),
        ]
    );
    assert_eq!(app.counts(&settlement).await, [0, 0, 2]);
    world.end().await;
}

async fn every_status_of_the_table_is_followed(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let table = [
        ("Submitted", RowStatus::InProgress, false),
        ("SCHEDULED", RowStatus::InProgress, false),
        ("Pending funds", RowStatus::InProgress, false),
        ("PENDING_PAYER_FUNDS", RowStatus::InProgress, false),
        ("Risk review", RowStatus::InProgress, false),
        ("FRAUD_REVIEW", RowStatus::InProgress, false),
        ("ANALYZING", RowStatus::InProgress, false),
        ("PAID", RowStatus::Paid, false),
        ("CLEARED", RowStatus::Paid, true),
        ("REJECTED", RowStatus::Error, true),
        ("CANCELED", RowStatus::Error, true),
        ("DEFERRED", RowStatus::Error, true),
        ("Deferred (Internal)", RowStatus::Error, true),
    ];
    for (number, (raw_status, status, is_final)) in table.into_iter().enumerate() {
        let row = world.submitted_row(&format!("aff-{number}")).await;
        assert!(
            world
                .fake
                .set_status(&row.id, raw_status, "Code7", "because of jane@example.com")
        );
        world.replica.sync(&row.settlement_id).await;
        let row = app.row(&row.id).await;
        let provider = row.provider.clone().unwrap();
        let found = (row.status(), provider.raw_status.as_str(), provider.is_final);
        assert_eq!(found, (status, raw_status, is_final));
        if status == RowStatus::Error {
            assert_eq!(provider.error_code, "Code7");
            assert_eq!(provider.error_message, "because of [removed]");
            app.delete_row(&row.id).await.unwrap();
            let open = app.shown_open(&row.account_id).await;
            assert_eq!(open, ["10.00 EUR"], "the money is open again");
        } else {
            assert_refused(
                app.delete_row(&row.id).await,
                Code::FailedPrecondition,
                "ACCOUNT_SETTLEMENT_NOT_DELETABLE",
            );
        }
    }
    world.end().await;
}

async fn an_unknown_status_is_shown_and_changes_nothing(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.sends_events = false);
    let row = world.submitted_row("aff-1").await;
    assert!(world.fake.set_status(&row.id, "SOMETHING_NEW", "", ""));
    let synced = world.replica.sync(&row.settlement_id).await;
    assert_eq!(synced[0].outcome(), SyncOutcome::Unmapped);
    assert_eq!(synced[0].raw_status, "SOMETHING_NEW");
    let unmapped = app.row(&row.id).await;
    let provider = unmapped.provider.clone().unwrap();
    assert_eq!(
        (unmapped.status(), provider.raw_status.as_str()),
        (RowStatus::InProgress, "SOMETHING_NEW")
    );
    assert!(provider.unmapped && !provider.is_final);
    assert_eq!(app.history(&row.id).await.len(), 2, "no change of status");
    world.replica.sync(&row.settlement_id).await;
    assert_eq!(
        app.row(&row.id).await.etag,
        unmapped.etag,
        "said again it changes nothing"
    );
    assert!(world.fake.set_status(&row.id, "PAID", "", ""));
    world.replica.sync(&row.settlement_id).await;
    let paid = app.row(&row.id).await;
    assert_eq!(paid.status(), RowStatus::Paid);
    assert!(!paid.provider.unwrap().unmapped);
    world.end().await;
}

async fn a_row_that_is_refused_fails_alone(app: App) {
    let world = World::new(&app).await;
    world.fake.configure(|options| options.knows_all_payees = false);
    for (account, is_payable) in [("aff-1", true), ("aff-2", false)] {
        world.fake.set_payee(Payee {
            id: format!("payee-{account}"),
            ref_code: None,
            is_payable,
            reason_code: Some("TaxFormsMissing".to_owned()),
            reason: Some("no tax form".to_owned()),
        });
    }
    let rows = world.settled(&["aff-1", "aff-2", "aff-3"]).await;
    let sent = world.replica.submit(&rows[0].settlement_id).await;
    let of = |row: &proto::AccountSettlement| sent.iter().find(|payout| payout.id == row.id).unwrap();
    assert_eq!(of(&rows[0]).outcome(), SubmitOutcome::Accepted);
    for (row, code, text) in [
        (&rows[1], "TaxFormsMissing", "no tax form"),
        (&rows[2], "PayeeUnknown", "the payee is unknown"),
    ] {
        assert_eq!(
            (of(row).outcome(), of(row).status()),
            (SubmitOutcome::Refused, RowStatus::Error)
        );
        assert_eq!(
            (of(row).error_code.as_str(), of(row).error_message.as_str()),
            (code, text)
        );
        let provider = app.row(&row.id).await.provider.unwrap();
        assert_eq!((provider.error_code.as_str(), provider.is_final), (code, true));
        app.delete_row(&row.id).await.unwrap();
    }
    world.end().await;
}

async fn submitting_takes_tipaltis_rows_alone(app: App) {
    let world = World::new(&app).await;
    app.with_billing_details("bank").await;
    app.with_method(bank_method("bank", "EUR")).await;
    app.tipalti_account("tip").await;
    let rows = app.settled_again(&["bank", "tip"]).await;
    let sent = world.replica.submit(&rows[0].settlement_id).await;
    assert_eq!(sent.iter().map(|payout| &payout.id).collect::<Vec<_>>(), [&rows[1].id]);
    assert_eq!(app.row(&rows[0].id).await.status(), RowStatus::New);
    assert_eq!(world.fake.state()["payments"][&rows[1].id]["amount"], "10.0");
    assert!(
        world.replica.submit(&rows[0].settlement_id).await.is_empty(),
        "nothing is left to send"
    );
    assert_eq!(world.fake.requests("batches"), 1);
    world.end().await;
}

async fn a_repeated_submission_is_answered_the_same_and_sends_nothing(app: App) {
    let world = World::with(&app, |settings| settings.batch_limit = 2).await;
    let settlement = app.tipalti_settlement("aff", 5).await;
    let id = request_id();
    let (first, end) = world.replica.try_submit(&settlement, &id).await;
    assert!(end.is_none() && first.len() == 5, "{end:?}");
    world.fake.advance();
    let again = world.another().await;
    let (second, end) = again.try_submit(&settlement, &id).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(second, first);
    assert_eq!(world.fake.requests("batches"), 3);
    let other = app.tipalti_settlement("other", 1).await;
    let (_, end) = again.try_submit(&other, &id).await;
    assert_refused(end.map_or(Ok(()), Err), Code::FailedPrecondition, "REQUEST_ID_REUSED");
    again.end().await;
    world.end().await;
}

async fn rows_of_held_accounts_are_left_as_they_are(app: App) {
    let world = World::new(&app).await;
    let rows = world.settled(&["aff-1", "aff-2"]).await;
    app.hold("aff-2", "looks odd").await.unwrap();
    let sent = world.replica.submit(&rows[0].settlement_id).await;
    let outcomes: Vec<_> = sent
        .iter()
        .map(|payout| (payout.id.as_str(), payout.outcome()))
        .collect();
    let mut expected = [
        (rows[0].id.as_str(), SubmitOutcome::Accepted),
        (rows[1].id.as_str(), SubmitOutcome::OnHold),
    ];
    expected.sort_unstable();
    assert_eq!(outcomes, expected);
    assert_eq!(app.row(&rows[1].id).await.status(), RowStatus::New);
    assert_eq!(world.fake.attempts(&rows[1].id), 0);
    app.release("aff-2").await.unwrap();
    let sent = world.replica.submit(&rows[0].settlement_id).await;
    assert_eq!(sent[0].outcome(), SubmitOutcome::Accepted);
    world.end().await;
}

async fn without_a_provider_it_is_told(app: App) {
    app.tipalti_account("aff-1").await;
    let row = app.settled_again(&["aff-1"]).await.remove(0);
    let mut client = proto::tipalti_service_client::TipaltiServiceClient::new(app.channel.clone());
    let request = proto::SubmitSettlementRequest {
        settlement_id: row.settlement_id.clone(),
        ..Default::default()
    };
    let stream = client.submit_settlement(request).await.unwrap().into_inner();
    let (_, end) = crate::support::rows::drained(stream).await;
    let status = assert_refused(
        end.map_or(Ok(()), Err),
        Code::FailedPrecondition,
        "PROVIDER_NOT_CONFIGURED",
    );
    assert!(status.message().contains("BILLING_TIPALTI_"), "{status}");
    assert_eq!(app.row(&row.id).await.status(), RowStatus::New);
}

async fn submitting_what_is_not_there_is_refused(app: App) {
    let world = World::new(&app).await;
    for id in ["", "nonsense"] {
        let request = proto::SubmitSettlementRequest {
            settlement_id: id.to_owned(),
            ..Default::default()
        };
        let outcome = world.replica.tipalti().submit_settlement(request).await.map(drop);
        assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
        let request = proto::SyncSettlementRequest {
            settlement_id: id.to_owned(),
        };
        let outcome = world.replica.tipalti().sync_settlement(request).await.map(drop);
        assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
    }
    let (_, end) = world.replica.try_submit(&request_id(), "").await;
    assert_refused(end.map_or(Ok(()), Err), Code::NotFound, "SETTLEMENT_NOT_FOUND");
    let (_, end) = world.replica.try_sync(&request_id()).await;
    assert_refused(end.map_or(Ok(()), Err), Code::NotFound, "SETTLEMENT_NOT_FOUND");
    let row = world.settled(&["aff-1"]).await.remove(0);
    app.delete_settlement(&row.settlement_id).await.unwrap();
    let (_, end) = world.replica.try_submit(&row.settlement_id, "").await;
    assert_refused(end.map_or(Ok(()), Err), Code::FailedPrecondition, "SETTLEMENT_DELETED");
    assert_eq!(world.fake.requests("batches"), 0);
    world.end().await;
}
