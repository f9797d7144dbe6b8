//! Status updates of many rows: by ids in a stream of chunks, and of a whole settlement.

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use affiliate_billing::proto::StatusSkipReason as Skip;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::iter;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::support::app::App;
use crate::support::fixtures::{bank_method, entry, occur_time, request_id};
use crate::support::harness::scenarios;
use crate::support::rows::{BulkAnswer, BulkChunk, assert_refused, chunk, drained, violated_fields};

scenarios![
    every_id_of_a_chunk_is_answered_once,
    the_first_reason_that_applies_is_told,
    rows_that_would_leave_paid_without_a_reason_are_skipped,
    ids_may_be_in_upper_case,
    each_row_can_have_its_payment_reference,
    ids_and_items_exclude_each_other,
    a_chunk_has_one_to_a_thousand_ids,
    an_invalid_chunk_ends_the_stream_and_earlier_ones_stay,
    chunks_are_answered_in_order_with_their_ids,
    the_answer_begins_before_the_first_chunk,
    a_repeated_chunk_is_answered_again_and_does_not_undo_a_newer_change,
    a_request_id_of_another_chunk_is_refused,
    a_chunk_can_have_rows_of_several_settlements,
    all_rows_of_a_settlement_in_one_status_are_updated,
    rows_of_a_provider_are_skipped_in_a_settlement,
    a_settlement_must_be_there_and_alive,
    a_whole_update_is_answered_again_after_the_settlement_is_deleted,
    a_settlement_has_another_etag_after_each_change_of_a_row,
    a_settlement_needs_an_expected_status,
    a_large_settlement_is_updated_in_chunks_and_resumed,
];

type SettlementUpdate = proto::BulkUpdateSettlementStatusRequest;
type SettlementAnswer = proto::BulkUpdateSettlementStatusResponse;

fn skipped(answer: &BulkAnswer) -> Vec<(&str, Skip, RowStatus)> {
    let skipped = answer.skipped.iter();
    skipped
        .map(|skipped| (skipped.id.as_str(), skipped.reason(), skipped.current_status()))
        .collect()
}

fn expecting(chunk: BulkChunk, expected: RowStatus) -> BulkChunk {
    BulkChunk {
        expected_status: expected.into(),
        ..chunk
    }
}

fn settlement_update(settlement_id: &str, from: RowStatus, to: RowStatus) -> SettlementUpdate {
    SettlementUpdate {
        settlement_id: settlement_id.to_owned(),
        expected_status: from.into(),
        target_status: to.into(),
        reason: "test".to_owned(),
        ..Default::default()
    }
}

impl App {
    async fn update_settlement(&self, request: SettlementUpdate) -> Vec<SettlementAnswer> {
        let answers = self.settlements().bulk_update_settlement_status(request).await.unwrap();
        let (answers, end) = drained(answers.into_inner()).await;
        assert!(end.is_none(), "{end:?}");
        answers
    }

    async fn statuses(&self, ids: &[&str]) -> Vec<RowStatus> {
        let mut statuses = Vec::new();
        for id in ids {
            statuses.push(self.row(id).await.status());
        }
        statuses
    }
}

async fn every_id_of_a_chunk_is_answered_once(app: App) {
    let rows = app.settled(&["aff-1", "aff-2", "aff-3"]).await;
    let unknown = request_id();
    app.set(&rows[2].id, RowStatus::Paid).await;
    let ids = [&rows[1].id, "x", &unknown, &rows[0].id, &rows[1].id, &rows[2].id, "x"];
    let answer = app.bulk_one(chunk(&ids, RowStatus::Paid)).await;
    assert_eq!(answer.updated_count, 2);
    assert_eq!(answer.updated_ids, [rows[1].id.clone(), rows[0].id.clone()]);
    let expected = [
        ("x", Skip::MalformedId, RowStatus::Unspecified),
        (unknown.as_str(), Skip::NotFound, RowStatus::Unspecified),
        (rows[1].id.as_str(), Skip::DuplicateId, RowStatus::Paid),
        (rows[2].id.as_str(), Skip::AlreadyInStatus, RowStatus::Paid),
        ("x", Skip::MalformedId, RowStatus::Unspecified),
    ];
    assert_eq!(skipped(&answer), expected);
    assert_eq!(app.counts(&rows[0].settlement_id).await, [0, 0, 3]);
    for row in &rows {
        assert_eq!(app.history(&row.id).await.len(), 2);
    }
}

async fn the_first_reason_that_applies_is_told(app: App) {
    app.tipalti_account("tip-1").await;
    app.tipalti_account("tip-2").await;
    let tipalti = app.settled_again(&["tip-1", "tip-2"]).await;
    let rows = app.settled(&["aff-1", "aff-2", "aff-3", "aff-4"]).await;
    // Deleted and a provider's; deleted and already in the target.
    app.delete_row(&tipalti[0].id).await.unwrap();
    app.delete_row(&rows[0].id).await.unwrap();
    app.set(&rows[2].id, RowStatus::Paid).await;
    app.set(&rows[3].id, RowStatus::InProgress).await;
    let unknown = request_id();
    let ids = [
        "",
        "",
        &unknown,
        &unknown,
        &tipalti[0].id,
        &rows[0].id,
        &rows[0].id,
        &tipalti[1].id,
        &rows[1].id,
        &rows[2].id,
        &rows[3].id,
    ];
    // Without a reason, to NEW, for those that are thought to be IN_PROGRESS.
    let answer = app
        .bulk_one(expecting(chunk(&ids, RowStatus::New), RowStatus::InProgress))
        .await;
    let expected = [
        ("", Skip::MalformedId, RowStatus::Unspecified),
        ("", Skip::MalformedId, RowStatus::Unspecified),
        (unknown.as_str(), Skip::NotFound, RowStatus::Unspecified),
        (unknown.as_str(), Skip::DuplicateId, RowStatus::Unspecified),
        (tipalti[0].id.as_str(), Skip::Deleted, RowStatus::New),
        (rows[0].id.as_str(), Skip::Deleted, RowStatus::New),
        (rows[0].id.as_str(), Skip::DuplicateId, RowStatus::New),
        (tipalti[1].id.as_str(), Skip::ProviderManaged, RowStatus::New),
        (rows[1].id.as_str(), Skip::UnexpectedStatus, RowStatus::New),
        (rows[2].id.as_str(), Skip::UnexpectedStatus, RowStatus::Paid),
    ];
    assert_eq!(skipped(&answer), expected);
    assert_eq!(answer.updated_ids, [rows[3].id.clone()]);
}

async fn rows_that_would_leave_paid_without_a_reason_are_skipped(app: App) {
    let rows = app.settled(&["aff-1", "aff-2", "aff-3"]).await;
    app.set(&rows[0].id, RowStatus::Paid).await;
    app.set(&rows[1].id, RowStatus::InProgress).await;
    let ids = [rows[0].id.as_str(), &rows[1].id, &rows[2].id];
    let answer = app.bulk_one(chunk(&ids, RowStatus::New)).await;
    let expected = [
        (ids[0], Skip::ReasonRequired, RowStatus::Paid),
        (ids[2], Skip::AlreadyInStatus, RowStatus::New),
    ];
    assert_eq!(skipped(&answer), expected);
    assert_eq!(answer.updated_ids, [ids[1]]);

    let with_reason = BulkChunk {
        reason: "returned".to_owned(),
        ..chunk(&ids[..1], RowStatus::New)
    };
    assert_eq!(app.bulk_one(with_reason).await.updated_ids, [ids[0]]);
    assert_eq!(app.history(ids[0]).await[2].reason, "returned");
}

async fn ids_may_be_in_upper_case(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let upper = row.id.to_uppercase();
    let answer = app.bulk_one(chunk(&[&upper, &row.id, &upper], RowStatus::Paid)).await;
    assert_eq!(answer.updated_ids, [row.id.as_str()]);
    let expected = [
        (row.id.as_str(), Skip::DuplicateId, RowStatus::Paid),
        (upper.as_str(), Skip::DuplicateId, RowStatus::Paid),
    ];
    assert_eq!(skipped(&answer), expected);
    assert_eq!(app.history(&row.id).await.len(), 2);
}

fn items(pairs: &[(&str, &str)], target: RowStatus) -> BulkChunk {
    let items = pairs.iter().map(|(id, reference)| proto::StatusUpdateItem {
        id: (*id).to_owned(),
        payment_reference: (*reference).to_owned(),
    });
    BulkChunk {
        items: items.collect(),
        target_status: target.into(),
        ..Default::default()
    }
}

async fn each_row_can_have_its_payment_reference(app: App) {
    let rows = app.settled(&["aff-1", "aff-2", "aff-3"]).await;
    let pairs = [
        (rows[0].id.as_str(), "SEPA 1"),
        (rows[1].id.as_str(), ""),
        (rows[0].id.as_str(), "SEPA 2"),
        (rows[2].id.as_str(), "SEPA 3"),
    ];
    let paying = BulkChunk {
        paid_time: occur_time(),
        ..items(&pairs, RowStatus::Paid)
    };
    let answer = app.bulk_one(paying).await;
    assert_eq!(answer.updated_count, 3);
    assert_eq!(
        skipped(&answer),
        [(rows[0].id.as_str(), Skip::DuplicateId, RowStatus::Paid)]
    );
    for (row, reference) in rows.iter().zip(["SEPA 1", "", "SEPA 3"]) {
        let paid = app.row(&row.id).await;
        assert_eq!(
            (paid.payment_reference.as_str(), paid.paid_time),
            (reference, occur_time())
        );
        assert_eq!(app.history(&row.id).await[1].payment_reference, reference);
    }

    let (answers, end) = app.bulk(vec![items(&pairs, RowStatus::New)]).await;
    assert!(answers.is_empty());
    let status = assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
    let fields = [0, 2, 3].map(|index| format!("items[{index}].payment_reference"));
    assert_eq!(violated_fields(&status), fields);
    assert_eq!(app.counts(&rows[0].settlement_id).await, [0, 0, 3]);
}

async fn ids_and_items_exclude_each_other(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let both = BulkChunk {
        account_settlement_ids: vec![row.id.clone()],
        ..items(&[(&row.id, "")], RowStatus::Paid)
    };
    let (_, end) = app.bulk(vec![both]).await;
    let status = assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(violated_fields(&status), ["items"]);
    assert_eq!(app.row(&row.id).await, row);
}

async fn a_chunk_has_one_to_a_thousand_ids(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let many = |count: usize| {
        let mut ids: Vec<String> = (1..count).map(|_| request_id()).collect();
        ids.push(row.id.clone());
        BulkChunk {
            account_settlement_ids: ids,
            ..chunk(&[], RowStatus::Paid)
        }
    };
    for refused in [chunk(&[], RowStatus::Paid), many(1001)] {
        let (answers, end) = app.bulk(vec![refused]).await;
        assert!(answers.is_empty());
        let status = assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(violated_fields(&status), ["account_settlement_ids"]);
    }
    assert_eq!(app.row(&row.id).await, row);
    let answer = app.bulk_one(many(1000)).await;
    assert_eq!((answer.updated_count, answer.skipped.len()), (1, 999));
}

async fn an_invalid_chunk_ends_the_stream_and_earlier_ones_stay(app: App) {
    let rows = app.settled(&["aff-1", "aff-2", "aff-3"]).await;
    let invalid = BulkChunk {
        paid_time: occur_time(),
        ..chunk(&[&rows[1].id], RowStatus::New)
    };
    let chunks = vec![
        chunk(&[&rows[0].id], RowStatus::Paid),
        invalid,
        chunk(&[&rows[2].id], RowStatus::Paid),
    ];
    let (answers, end) = app.bulk(chunks).await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].updated_ids, [rows[0].id.clone()]);
    assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
    let ids = [rows[0].id.as_str(), &rows[1].id, &rows[2].id];
    assert_eq!(
        app.statuses(&ids).await,
        [RowStatus::Paid, RowStatus::New, RowStatus::New]
    );
}

async fn chunks_are_answered_in_order_with_their_ids(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let long = "c".repeat(128);
    let names = ["b", "a", "", "a", "\u{e4}", &long];
    let chunks = names.iter().enumerate().map(|(index, name)| BulkChunk {
        chunk_id: (*name).to_owned(),
        ..chunk(&[&row.id], [RowStatus::InProgress, RowStatus::New][index % 2])
    });
    let (answers, end) = app.bulk(chunks.collect()).await;
    assert!(end.is_none(), "{end:?}");
    let answered: Vec<&str> = answers.iter().map(|answer| answer.chunk_id.as_str()).collect();
    assert_eq!(answered, names);
    assert!(answers.iter().all(|answer| answer.updated_count == 1));
    assert_eq!(app.history(&row.id).await.len(), 7);

    let too_long = BulkChunk {
        chunk_id: "c".repeat(129),
        ..chunk(&[&row.id], RowStatus::Paid)
    };
    let (_, end) = app.bulk(vec![too_long]).await;
    assert_refused(Err::<(), _>(end.unwrap()), Code::InvalidArgument, "INVALID_REQUEST");
}

async fn the_answer_begins_before_the_first_chunk(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let (sender, chunks) = mpsc::channel(1);
    let mut settlements = app.settlements();
    let answers = settlements
        .bulk_update_account_settlement_status(ReceiverStream::new(chunks))
        .await;
    let mut answers = answers.unwrap().into_inner();
    // Each answer comes while the stream is still open.
    for status in [RowStatus::InProgress, RowStatus::New] {
        sender.send(chunk(&[&row.id], status)).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.updated_ids, [row.id.as_str()]);
        assert_eq!(app.row(&row.id).await.status(), status);
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
}

async fn a_repeated_chunk_is_answered_again_and_does_not_undo_a_newer_change(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    app.set(&rows[1].id, RowStatus::Paid).await;
    let request = BulkChunk {
        request_id: request_id(),
        chunk_id: "first".to_owned(),
        ..chunk(&[&rows[0].id, &rows[1].id, "x"], RowStatus::Paid)
    };
    let first = app.bulk_one(request.clone()).await;
    assert_eq!((first.updated_count, first.skipped.len()), (1, 2));
    let newer = app.set(&rows[0].id, RowStatus::New).await;
    let again = BulkChunk {
        chunk_id: "second".to_owned(),
        ..request.clone()
    };
    let again = app.bulk_one(again).await;
    assert_eq!(again.chunk_id, "second");
    assert_eq!(again.updated_ids, first.updated_ids);
    assert_eq!(again.skipped, first.skipped);
    assert_eq!(app.row(&rows[0].id).await, newer);

    // Twice in one stream.
    let twice = BulkChunk {
        request_id: request_id(),
        ..request
    };
    let (answers, end) = app.bulk(vec![twice.clone(), twice]).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(answers[0], answers[1]);
    assert_eq!(app.history(&rows[0].id).await.len(), 4);
}

async fn a_request_id_of_another_chunk_is_refused(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    let request = BulkChunk {
        request_id: request_id(),
        ..chunk(&[&rows[0].id], RowStatus::Paid)
    };
    app.bulk_one(request.clone()).await;
    let other_ids = BulkChunk {
        account_settlement_ids: vec![rows[1].id.clone()],
        ..request.clone()
    };
    let other_expected = expecting(request.clone(), RowStatus::New);
    let other_time = BulkChunk {
        paid_time: occur_time(),
        ..request.clone()
    };
    for other in [other_ids, other_expected, other_time] {
        let (answers, end) = app.bulk(vec![other]).await;
        assert!(answers.is_empty());
        assert_refused(
            Err::<(), _>(end.unwrap()),
            Code::FailedPrecondition,
            "REQUEST_ID_REUSED",
        );
    }
    assert_eq!(app.counts(&rows[0].settlement_id).await, [1, 0, 1]);
}

async fn a_chunk_can_have_rows_of_several_settlements(app: App) {
    let mut rows = app.settled(&["aff-1", "aff-2"]).await;
    rows.extend(app.settled(&["aff-3"]).await);
    rows.extend(app.settled(&["aff-4", "aff-5"]).await);
    let ids: Vec<&str> = [3, 0, 2].map(|index: usize| rows[index].id.as_str()).into();
    let answer = app.bulk_one(chunk(&ids, RowStatus::InProgress)).await;
    assert_eq!(answer.updated_ids, ids);
    assert_eq!(app.counts(&rows[0].settlement_id).await, [1, 1, 0]);
    assert_eq!(app.counts(&rows[2].settlement_id).await, [0, 1, 0]);
    assert_eq!(app.counts(&rows[3].settlement_id).await, [1, 1, 0]);
}

async fn all_rows_of_a_settlement_in_one_status_are_updated(app: App) {
    let rows = app.settled(&["aff-1", "aff-2", "aff-3", "aff-4"]).await;
    let other = app.settled(&["aff-5"]).await.remove(0);
    let id = rows[0].settlement_id.as_str();
    app.set(&rows[1].id, RowStatus::InProgress).await;
    app.delete_row(&rows[3].id).await.unwrap();
    let request = SettlementUpdate {
        paid_time: occur_time(),
        request_id: request_id(),
        ..settlement_update(id, RowStatus::New, RowStatus::Paid)
    };
    let answers = app.update_settlement(request.clone()).await;
    assert_eq!(answers.len(), 1);
    let mut updated = answers[0].updated_ids.clone();
    updated.sort();
    let mut expected = vec![rows[0].id.clone(), rows[2].id.clone()];
    expected.sort();
    assert_eq!(updated, expected);
    assert_eq!((answers[0].chunk_id.as_str(), answers[0].updated_count), ("1", 2));
    assert_eq!(app.row(&rows[0].id).await.paid_time, occur_time());
    assert_eq!(app.counts(id).await, [0, 1, 2]);
    assert_eq!(app.counts(&other.settlement_id).await, [1, 0, 0]);
    let change = app.history(&rows[0].id).await.remove(1);
    assert_eq!(
        (change.reason, change.request_id),
        ("test".to_owned(), request.request_id.clone())
    );

    // Again with the same id: no newer change is undone.
    app.set(&rows[0].id, RowStatus::New).await;
    assert_eq!(app.update_settlement(request.clone()).await, answers);
    assert_eq!(app.counts(id).await, [1, 1, 1]);
    let reused = SettlementUpdate {
        expected_status: RowStatus::InProgress.into(),
        ..request
    };
    let stream = app.settlements().bulk_update_settlement_status(reused).await.unwrap();
    let (answers, end) = drained(stream.into_inner()).await;
    assert!(answers.is_empty());
    assert_refused(
        Err::<(), _>(end.unwrap()),
        Code::FailedPrecondition,
        "REQUEST_ID_REUSED",
    );

    let none = settlement_update(&other.settlement_id, RowStatus::Paid, RowStatus::New);
    assert_eq!(app.update_settlement(none).await, []);
}

async fn rows_of_a_provider_are_skipped_in_a_settlement(app: App) {
    app.tipalti_account("tip-1").await;
    app.payable_account("aff-1", &["EUR"]).await;
    app.payable_account("aff-2", &["EUR"]).await;
    let rows = app.settled_again(&["aff-1", "tip-1", "aff-2"]).await;
    app.set(&rows[2].id, RowStatus::Paid).await;
    let id = rows[0].settlement_id.as_str();
    let answers = app
        .update_settlement(settlement_update(id, RowStatus::New, RowStatus::Paid))
        .await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].updated_ids, [rows[0].id.clone()]);
    let [skipped] = answers[0].skipped.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(
        (skipped.id.as_str(), skipped.reason(), skipped.current_status()),
        (rows[1].id.as_str(), Skip::ProviderManaged, RowStatus::New)
    );
    // Leaving PAID without a reason: every row is told.
    let request = SettlementUpdate {
        reason: String::new(),
        ..settlement_update(id, RowStatus::Paid, RowStatus::New)
    };
    let answers = app.update_settlement(request).await;
    let reasons: Vec<Skip> = answers[0]
        .skipped
        .iter()
        .map(proto::SkippedStatusUpdate::reason)
        .collect();
    assert_eq!(reasons, [Skip::ReasonRequired, Skip::ReasonRequired]);
    assert_eq!(app.counts(id).await, [1, 0, 2]);
}

async fn a_settlement_must_be_there_and_alive(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    app.delete_settlement(&row.settlement_id).await.unwrap();
    let refusals = [
        (row.settlement_id, Code::FailedPrecondition, "SETTLEMENT_DELETED"),
        (request_id(), Code::NotFound, "SETTLEMENT_NOT_FOUND"),
    ];
    for (id, code, reason) in refusals {
        let request = settlement_update(&id, RowStatus::New, RowStatus::Paid);
        let stream = app.settlements().bulk_update_settlement_status(request).await.unwrap();
        let (answers, ended) = drained(stream.into_inner()).await;
        assert!(answers.is_empty());
        assert_refused(Err::<(), Status>(ended.unwrap()), code, reason);
    }
    let malformed = settlement_update("1", RowStatus::New, RowStatus::Paid);
    let outcome = app.settlements().bulk_update_settlement_status(malformed).await;
    assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
}

async fn a_whole_update_is_answered_again_after_the_settlement_is_deleted(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let request = SettlementUpdate {
        request_id: request_id(),
        ..settlement_update(&row.settlement_id, RowStatus::New, RowStatus::InProgress)
    };
    let first = app
        .settlements()
        .bulk_update_settlement_status(request.clone())
        .await
        .unwrap();
    let (answers, _) = drained(first.into_inner()).await;
    app.set(&row.id, RowStatus::New).await;
    app.delete_settlement(&row.settlement_id).await.unwrap();
    let again = app.settlements().bulk_update_settlement_status(request).await.unwrap();
    let (answers_again, ended) = drained(again.into_inner()).await;
    assert_eq!(answers_again, answers);
    assert!(ended.is_none());
}

async fn a_settlement_has_another_etag_after_each_change_of_a_row(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let mut etags = vec![app.settlement(&row.settlement_id).await.etag];
    for status in [
        RowStatus::InProgress,
        RowStatus::New,
        RowStatus::InProgress,
        RowStatus::New,
    ] {
        app.set(&row.id, status).await;
        let etag = app.settlement(&row.settlement_id).await.etag;
        assert!(!etags.contains(&etag), "{status:?}");
        etags.push(etag);
    }
}

async fn a_settlement_needs_an_expected_status(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    for expected in [0, 9] {
        let request = SettlementUpdate {
            expected_status: expected,
            ..settlement_update(&row.settlement_id, RowStatus::New, RowStatus::Paid)
        };
        let outcome = app.settlements().bulk_update_settlement_status(request).await;
        let status = assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(violated_fields(&status), ["expected_status"]);
    }
    assert_eq!(app.row(&row.id).await, row);
}

const CURRENCIES: [&str; 20] = [
    "EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "RON", "AUD", "CAD", "NZD", "SGD", "HKD",
    "ZAR", "TRY", "MXN", "ILS",
];
const ACCOUNTS: usize = 105;
const AT_ONCE: usize = 16;

/// One settlement with a row for each account and currency: 2,100.
async fn large_settlement(app: &App) -> proto::Settlement {
    let accounts: Vec<String> = (0..ACCOUNTS).map(|number| format!("aff-{number}")).collect();
    let made = iter(&accounts).map(|account_id| app.with_billing_details(account_id));
    made.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let pairs: Vec<(&str, &str)> = accounts
        .iter()
        .flat_map(|account_id| CURRENCIES.map(|currency| (account_id.as_str(), currency)))
        .collect();
    let made = iter(&pairs).map(|(account_id, currency)| app.with_method(bank_method(account_id, currency)));
    made.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    for batch in pairs.chunks(1000) {
        let entries = batch
            .iter()
            .map(|(account_id, currency)| entry(&format!("{account_id}-{currency}"), account_id, "100", currency));
        app.post(entries.collect()).await;
    }
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let settled = app.settle(&accounts).await;
    assert_eq!(settled.skipped_count, 0);
    settled.settlement.unwrap()
}

async fn a_large_settlement_is_updated_in_chunks_and_resumed(app: App) {
    let settlement = large_settlement(&app).await;
    let all = 2100;
    assert_eq!(settlement.account_settlement_count, all);
    let answers = app
        .update_settlement(settlement_update(&settlement.id, RowStatus::New, RowStatus::InProgress))
        .await;
    let sizes: Vec<i32> = answers.iter().map(|answer| answer.updated_count).collect();
    assert_eq!(sizes, [1000, 1000, 100]);
    assert_eq!(app.counts(&settlement.id).await, [0, all, 0]);

    // The caller leaves after the first answer, and calls again.
    let request = SettlementUpdate {
        request_id: request_id(),
        ..settlement_update(&settlement.id, RowStatus::InProgress, RowStatus::Paid)
    };
    let stream = app.settlements().bulk_update_settlement_status(request.clone()).await;
    let mut stream = stream.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    drop(stream);
    let resumed = app.update_settlement(request.clone()).await;
    assert_eq!(resumed[0], first);
    let updated: std::collections::HashSet<&String> = resumed.iter().flat_map(|answer| &answer.updated_ids).collect();
    assert_eq!(i64::try_from(updated.len()).unwrap(), all);
    assert!(resumed.iter().all(|answer| answer.skipped.is_empty()));
    assert_eq!(app.counts(&settlement.id).await, [0, 0, all]);
    assert_eq!(app.update_settlement(request).await, resumed);
    for answer in &resumed {
        let id = &answer.updated_ids[0];
        assert_eq!(app.history(id).await.len(), 3);
    }
}
