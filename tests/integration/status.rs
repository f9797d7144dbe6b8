//! The status of one account settlement, set by hand, and its history.

use std::time::{Duration, SystemTime};

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use prost_types::Timestamp;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::app::App;
use crate::support::fixtures::{entry, occur_time, request_id};
use crate::support::harness::scenarios;
use crate::support::rows::{MANUAL, assert_refused, chunk, drained, update, violated_fields};

scenarios![
    every_change_by_hand_goes_through_in_either_direction,
    leaving_paid_needs_a_reason,
    error_is_never_set_by_hand,
    a_target_must_be_named,
    the_status_that_a_row_has_changes_nothing,
    another_status_than_the_expected_one_is_refused,
    an_etag_of_before_a_change_is_refused,
    a_payment_is_told_with_paid_and_forgotten_when_that_is_left,
    a_payment_is_told_with_paid_only,
    a_payment_far_ahead_is_refused,
    texts_have_limits,
    ids_that_are_no_uuid_and_unknown_ids_are_refused,
    a_deleted_row_never_changes,
    a_row_of_a_provider_is_refused,
    the_history_tells_every_change,
    the_history_comes_in_pages,
    the_settlement_changes_with_its_rows,
    a_repeated_request_is_answered_again_and_does_not_undo_a_newer_change,
    a_request_id_of_another_change_is_refused,
];

fn in_hours(hours: i64) -> Option<Timestamp> {
    let hour = Duration::from_secs(hours.unsigned_abs() * 3600);
    let now = SystemTime::now();
    Some(if hours < 0 { now - hour } else { now + hour }.into())
}

async fn every_change_by_hand_goes_through_in_either_direction(app: App) {
    let row = app.settled(&["aff-1", "aff-2"]).await.remove(0);
    for from in MANUAL {
        for to in MANUAL {
            app.set(&row.id, from).await;
            let before = app.history(&row.id).await.len();
            let updated = app.set(&row.id, to).await;
            assert_eq!(updated.status(), to, "{from:?} to {to:?}");
            assert_eq!(app.row(&row.id).await, updated);
            let changes = app.history(&row.id).await.len() - before;
            assert_eq!(changes, usize::from(from != to), "{from:?} to {to:?}");
            let mut counts = [1, 0, 0];
            counts[MANUAL.iter().position(|status| *status == to).unwrap()] += 1;
            assert_eq!(app.counts(&row.settlement_id).await, counts, "{from:?} to {to:?}");
        }
    }
}

async fn leaving_paid_needs_a_reason(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let paid = app.set(&row.id, RowStatus::Paid).await;
    for to in [RowStatus::New, RowStatus::InProgress] {
        for reason in ["", " \n"] {
            let request = proto::UpdateAccountSettlementStatusRequest {
                reason: reason.to_owned(),
                ..update(&row.id, to)
            };
            let status = assert_refused(app.update(request).await, Code::InvalidArgument, "REASON_REQUIRED");
            assert_eq!(violated_fields(&status), ["reason"]);
        }
    }
    assert_eq!(app.row(&row.id).await, paid);
    assert_eq!(app.history(&row.id).await.len(), 2);
}

async fn error_is_never_set_by_hand(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let outcome = app.update(update(&row.id, RowStatus::Error)).await;
    let status = assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(violated_fields(&status), ["status"]);

    let (answers, end) = app.bulk(vec![chunk(&[&row.id], RowStatus::Error)]).await;
    assert!(answers.is_empty());
    let status = assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(violated_fields(&status), ["target_status"]);

    let request = proto::BulkUpdateSettlementStatusRequest {
        settlement_id: row.settlement_id.clone(),
        expected_status: RowStatus::New.into(),
        target_status: RowStatus::Error.into(),
        ..Default::default()
    };
    let outcome = app.settlements().bulk_update_settlement_status(request).await;
    let status = assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(violated_fields(&status), ["target_status"]);
    assert_eq!(app.row(&row.id).await, row);
}

async fn a_target_must_be_named(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    for status in [0, 9, -1] {
        let request = proto::UpdateAccountSettlementStatusRequest {
            status,
            ..update(&row.id, RowStatus::New)
        };
        let status = assert_refused(app.update(request).await, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(violated_fields(&status), ["status"]);
    }
    let request = proto::UpdateAccountSettlementStatusRequest {
        expected_status: 9,
        ..update(&row.id, RowStatus::Paid)
    };
    let status = assert_refused(app.update(request).await, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(violated_fields(&status), ["expected_status"]);
    assert_eq!(app.row(&row.id).await, row);
}

async fn the_status_that_a_row_has_changes_nothing(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    assert_eq!(app.set(&row.id, RowStatus::New).await, row);
    let request = proto::UpdateAccountSettlementStatusRequest {
        payment_reference: "first".to_owned(),
        ..update(&row.id, RowStatus::Paid)
    };
    let paid = app.update(request.clone()).await.unwrap();
    let again = proto::UpdateAccountSettlementStatusRequest {
        payment_reference: "second".to_owned(),
        paid_time: occur_time(),
        reason: String::new(),
        ..request
    };
    assert_eq!(app.update(again).await.unwrap(), paid);
    assert_eq!(app.row(&row.id).await, paid);
    assert_eq!(app.history(&row.id).await.len(), 2);
}

async fn another_status_than_the_expected_one_is_refused(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let expecting = |expected: RowStatus, to: RowStatus| proto::UpdateAccountSettlementStatusRequest {
        expected_status: expected.into(),
        ..update(&row.id, to)
    };
    let outcome = app.update(expecting(RowStatus::InProgress, RowStatus::Paid)).await;
    let status = assert_refused(outcome, Code::Aborted, "UNEXPECTED_STATUS");
    assert!(!status.message().is_empty());
    // Also where there would be nothing to do.
    let outcome = app.update(expecting(RowStatus::Paid, RowStatus::New)).await;
    assert_refused(outcome, Code::Aborted, "UNEXPECTED_STATUS");
    assert_eq!(app.row(&row.id).await, row);

    let paid = app.update(expecting(RowStatus::New, RowStatus::Paid)).await.unwrap();
    assert_eq!(paid.status(), RowStatus::Paid);
    let late = app.update(expecting(RowStatus::New, RowStatus::InProgress)).await;
    assert_refused(late, Code::Aborted, "UNEXPECTED_STATUS");
    assert_eq!(app.row(&row.id).await, paid);
}

async fn an_etag_of_before_a_change_is_refused(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let with_etag = |etag: &str, to: RowStatus| proto::UpdateAccountSettlementStatusRequest {
        etag: etag.to_owned(),
        ..update(&row.id, to)
    };
    let first = app.update(with_etag(&row.etag, RowStatus::InProgress)).await.unwrap();
    assert_ne!(first.etag, row.etag);
    let late = app.update(with_etag(&row.etag, RowStatus::Paid)).await;
    assert_refused(late, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(app.row(&row.id).await, first);
    // Back in the first status it is not the row of the first etag.
    let back = app.update(with_etag(&first.etag, RowStatus::New)).await.unwrap();
    let late = app.update(with_etag(&row.etag, RowStatus::Paid)).await;
    assert_refused(late, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(app.row(&row.id).await, back);
}

async fn a_payment_is_told_with_paid_and_forgotten_when_that_is_left(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    assert_eq!((row.payment_reference.as_str(), row.paid_time), ("", None));
    let request = proto::UpdateAccountSettlementStatusRequest {
        payment_reference: "SEPA 4711".to_owned(),
        paid_time: occur_time(),
        ..update(&row.id, RowStatus::Paid)
    };
    app.update(request).await.unwrap();
    let paid = app.row(&row.id).await;
    assert_eq!(
        (paid.payment_reference.as_str(), paid.paid_time),
        ("SEPA 4711", occur_time())
    );

    for to in [RowStatus::New, RowStatus::InProgress] {
        app.set(&row.id, RowStatus::Paid).await;
        let left = app.set(&row.id, to).await;
        assert_eq!((left.payment_reference.as_str(), left.paid_time), ("", None));
    }
    let references: Vec<String> = app
        .history(&row.id)
        .await
        .into_iter()
        .map(|change| change.payment_reference)
        .collect();
    assert_eq!(references, ["", "SEPA 4711", "", "", ""]);

    let paid = app.set(&row.id, RowStatus::Paid).await;
    assert_eq!(paid.payment_reference, "");
    assert_eq!(paid.paid_time, paid.update_time);
}

async fn a_payment_is_told_with_paid_only(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    for to in [RowStatus::New, RowStatus::InProgress] {
        let request = proto::UpdateAccountSettlementStatusRequest {
            payment_reference: "SEPA 4711".to_owned(),
            paid_time: occur_time(),
            ..update(&row.id, to)
        };
        let status = assert_refused(app.update(request).await, Code::InvalidArgument, "INVALID_REQUEST");
        let mut fields = violated_fields(&status);
        fields.sort();
        assert_eq!(fields, ["paid_time", "payment_reference"]);
    }
    assert_eq!(app.row(&row.id).await, row);
}

async fn a_payment_far_ahead_is_refused(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let paid_in = |hours: i64| proto::UpdateAccountSettlementStatusRequest {
        paid_time: in_hours(hours),
        ..update(&row.id, RowStatus::Paid)
    };
    let status = assert_refused(app.update(paid_in(25)).await, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(violated_fields(&status), ["paid_time"]);
    assert_eq!(app.row(&row.id).await, row);
    let paid = app.update(paid_in(23)).await.unwrap();
    assert_eq!(paid.status(), RowStatus::Paid);
}

async fn texts_have_limits(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let with = |reason: usize, reference: usize| proto::UpdateAccountSettlementStatusRequest {
        reason: "r".repeat(reason),
        payment_reference: "p".repeat(reference),
        ..update(&row.id, RowStatus::Paid)
    };
    let status = assert_refused(
        app.update(with(501, 141)).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    assert_eq!(violated_fields(&status), ["reason", "payment_reference"]);
    assert_eq!(app.row(&row.id).await, row);
    let paid = app.update(with(500, 140)).await.unwrap();
    assert_eq!(paid.payment_reference.len(), 140);
    assert_eq!(app.history(&row.id).await[1].reason.len(), 500);
}

async fn ids_that_are_no_uuid_and_unknown_ids_are_refused(app: App) {
    for id in [
        "",
        "1",
        "0190d5a47c3e70008000 3f6b7c1d2e4f",
        "0190d5a47c3e700080003f6b7c1d2e4f",
    ] {
        let outcome = app.update(update(id, RowStatus::Paid)).await;
        let status = assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(violated_fields(&status), ["id"]);
    }
    let unknown = request_id();
    let outcome = app.update(update(&unknown, RowStatus::Paid)).await;
    let status = assert_refused(outcome, Code::NotFound, "ACCOUNT_SETTLEMENT_NOT_FOUND");
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, unknown);
    let request = proto::ListStatusChangesRequest {
        account_settlement_id: unknown,
        ..Default::default()
    };
    let outcome = app.settlements().list_status_changes(request).await;
    assert_refused(outcome, Code::NotFound, "ACCOUNT_SETTLEMENT_NOT_FOUND");
}

async fn a_deleted_row_never_changes(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let deleted = app.delete_row(&row.id).await.unwrap();
    for to in MANUAL {
        let outcome = app.update(update(&row.id, to)).await;
        assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_DELETED");
    }
    assert_eq!(app.row(&row.id).await, deleted);
}

async fn a_row_of_a_provider_is_refused(app: App) {
    app.tipalti_account("aff-1").await;
    let row = app.settled_again(&["aff-1"]).await.remove(0);
    assert_eq!(row.provider.as_ref().unwrap().name, "tipalti");
    for to in MANUAL {
        let outcome = app.update(update(&row.id, to)).await;
        let status = assert_refused(outcome, Code::FailedPrecondition, "PROVIDER_MANAGED");
        let failure = status.get_details_precondition_failure().unwrap();
        assert_eq!(failure.violations[0].subject, row.id);
    }
    assert_eq!(app.row(&row.id).await, row);
    assert_eq!(app.history(&row.id).await.len(), 1);
}

async fn the_history_tells_every_change(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("order-1", "aff-1", "10", "EUR")]).await;
    let settle = crate::support::fixtures::settle_accounts(vec![("aff-1", None)]);
    let settle_id = settle.request_id.clone();
    let settlement = app.settle_request(settle).await.settlement.unwrap();
    let row = app.rows_of(&settlement.id).await.remove(0);
    let paying = proto::UpdateAccountSettlementStatusRequest {
        reason: " paid by hand ".to_owned(),
        payment_reference: "SEPA 4711".to_owned(),
        request_id: request_id(),
        ..update(&row.id, RowStatus::Paid)
    };
    app.update(paying.clone()).await.unwrap();
    let returned = proto::UpdateAccountSettlementStatusRequest {
        reason: "returned".to_owned(),
        ..update(&row.id, RowStatus::InProgress)
    };
    app.update(returned).await.unwrap();

    let history = app.history(&row.id).await;
    let told: Vec<_> = history
        .iter()
        .map(|change| {
            let texts = [&change.reason, &change.payment_reference, &change.request_id];
            (change.from_status(), change.to_status(), texts.map(String::as_str))
        })
        .collect();
    let expected = [
        (RowStatus::Unspecified, RowStatus::New, ["", "", settle_id.as_str()]),
        (
            RowStatus::New,
            RowStatus::Paid,
            ["paid by hand", "SEPA 4711", paying.request_id.as_str()],
        ),
        (RowStatus::Paid, RowStatus::InProgress, ["returned", "", ""]),
    ];
    assert_eq!(told, expected);
    assert!(history.iter().all(|change| change.actor == "unauthenticated"));
    let times: Vec<_> = history.iter().map(|change| nanos(change.change_time)).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(history[0].change_time, row.create_time);
    assert_eq!(history[2].change_time, app.row(&row.id).await.update_time);
}

fn nanos(time: Option<Timestamp>) -> (i64, i32) {
    time.map(|time| (time.seconds, time.nanos)).unwrap()
}

async fn the_history_comes_in_pages(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    for status in [RowStatus::InProgress, RowStatus::Paid, RowStatus::New, RowStatus::Paid] {
        app.set(&rows[0].id, status).await;
    }
    let mut request = proto::ListStatusChangesRequest {
        account_settlement_id: rows[0].id.clone(),
        page_size: 2,
        ..Default::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = app
            .settlements()
            .list_status_changes(request.clone())
            .await
            .unwrap()
            .into_inner();
        request.page_token = page.next_page_token;
        pages.push(page.status_changes);
        if request.page_token.is_empty() {
            break;
        }
        // A token is of this row only.
        let other = proto::ListStatusChangesRequest {
            account_settlement_id: rows[1].id.clone(),
            ..request.clone()
        };
        let outcome = app.settlements().list_status_changes(other).await;
        assert_refused(outcome, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(pages.concat(), app.history(&rows[0].id).await);
    let request = proto::ListStatusChangesRequest {
        page_size: -1,
        ..request
    };
    let outcome = app.settlements().list_status_changes(request).await;
    assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
}

async fn the_settlement_changes_with_its_rows(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let before = app.settlement(&row.settlement_id).await;
    app.set(&row.id, RowStatus::New).await;
    assert_eq!(app.settlement(&row.settlement_id).await, before);
    app.set(&row.id, RowStatus::Paid).await;
    let after = app.settlement(&row.settlement_id).await;
    assert_ne!(after.etag, before.etag);
    assert_eq!(after.totals, before.totals);
    let request = proto::BulkUpdateSettlementStatusRequest {
        settlement_id: row.settlement_id.clone(),
        expected_status: RowStatus::Paid.into(),
        target_status: RowStatus::InProgress.into(),
        reason: "test".to_owned(),
        ..Default::default()
    };
    let answers = app.settlements().bulk_update_settlement_status(request).await.unwrap();
    let (answers, end) = drained(answers.into_inner()).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(answers[0].updated_ids, [row.id]);
    let last = app.settlement(&row.settlement_id).await;
    assert!(![before.etag, after.etag].contains(&last.etag));
}

async fn a_repeated_request_is_answered_again_and_does_not_undo_a_newer_change(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let request = proto::UpdateAccountSettlementStatusRequest {
        payment_reference: "SEPA 4711".to_owned(),
        request_id: request_id(),
        ..update(&row.id, RowStatus::Paid)
    };
    let first = app.update(request.clone()).await.unwrap();
    let newer = app.set(&row.id, RowStatus::InProgress).await;
    assert_eq!(app.update(request).await.unwrap(), first);
    assert_eq!(app.row(&row.id).await, newer);
    assert_eq!(app.history(&row.id).await.len(), 3);
}

async fn a_request_id_of_another_change_is_refused(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    let request = proto::UpdateAccountSettlementStatusRequest {
        request_id: request_id(),
        ..update(&rows[0].id, RowStatus::Paid)
    };
    app.update(request.clone()).await.unwrap();
    let other_row = proto::UpdateAccountSettlementStatusRequest {
        id: rows[1].id.clone(),
        ..request.clone()
    };
    let other_status = proto::UpdateAccountSettlementStatusRequest {
        status: RowStatus::New.into(),
        ..request.clone()
    };
    let other_reason = proto::UpdateAccountSettlementStatusRequest {
        reason: "another".to_owned(),
        ..request.clone()
    };
    let other_reference = proto::UpdateAccountSettlementStatusRequest {
        payment_reference: "another".to_owned(),
        ..request.clone()
    };
    for other in [other_row, other_status, other_reason, other_reference] {
        let outcome = app.update(other).await;
        assert_refused(outcome, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    }
    assert_eq!(app.counts(&rows[0].settlement_id).await, [1, 0, 1]);

    // What was refused is not remembered.
    let refused = proto::UpdateAccountSettlementStatusRequest {
        reason: String::new(),
        request_id: request_id(),
        ..update(&rows[0].id, RowStatus::New)
    };
    assert_refused(
        app.update(refused.clone()).await,
        Code::InvalidArgument,
        "REASON_REQUIRED",
    );
    let mended = proto::UpdateAccountSettlementStatusRequest {
        reason: "returned".to_owned(),
        ..refused
    };
    assert_eq!(app.update(mended).await.unwrap().status(), RowStatus::New);
}
