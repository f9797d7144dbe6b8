//! Deleting account settlements and settlements: their money is open again, and what they were stays to be read.

use affiliate_billing::proto;
use affiliate_billing::proto::AccountSettlementStatus as RowStatus;
use tonic::Code;

use crate::support::app::App;
use crate::support::fixtures::{IBAN, bank_method, entry, request_id, shown};
use crate::support::harness::scenarios;
use crate::support::rows::{assert_refused, update, violated_fields};

scenarios![
    a_deleted_row_gives_its_money_back,
    a_row_under_way_or_paid_is_kept_until_it_is_set_back,
    a_row_is_deleted_once,
    a_deleted_row_stays_readable,
    a_deleted_row_tells_what_it_held,
    a_row_changed_since_its_etag_is_kept,
    a_repeated_deletion_is_answered_again,
    one_paid_row_keeps_a_settlement,
    a_settlement_goes_with_all_its_rows,
    a_settlement_changed_since_its_etag_is_kept,
    a_repeated_deletion_of_a_settlement_is_answered_again,
    ids_that_are_no_uuid_and_unknown_ids_are_refused,
    a_new_row_of_tipalti_can_be_deleted,
    a_remainder_stays_open_when_its_row_is_deleted,
    a_row_keeps_what_it_was_made_with,
];

async fn open(app: &App, account_id: &str) -> String {
    shown(&app.open_balances(&[account_id]).await[0].open)
}

async fn full_row(app: &App, id: &str) -> proto::AccountSettlement {
    let request = proto::GetAccountSettlementRequest {
        id: id.to_owned(),
        view: proto::View::Full.into(),
    };
    let response = app.settlements().get_account_settlement(request).await.unwrap();
    response.into_inner().account_settlement.unwrap()
}

fn iban_of(row: &proto::AccountSettlement) -> String {
    let details = row.payment_method.as_ref().unwrap().details.as_ref().unwrap();
    let proto::payment_method::Details::BankTransfer(bank) = details else {
        panic!("{details:?}");
    };
    bank.iban.clone()
}

async fn rows_with_deleted(app: &App, settlement_id: &str) -> Vec<proto::AccountSettlement> {
    let request = proto::ListAccountSettlementsRequest {
        settlement_id: settlement_id.to_owned(),
        show_deleted: true,
        ..Default::default()
    };
    let response = app.settlements().list_account_settlements(request).await.unwrap();
    response.into_inner().account_settlements
}

async fn settlement_ids(app: &App, show_deleted: bool) -> Vec<String> {
    let request = proto::ListSettlementsRequest {
        show_deleted,
        ..Default::default()
    };
    let response = app.settlements().list_settlements(request).await.unwrap();
    let settlements = response.into_inner().settlements;
    settlements.into_iter().map(|settlement| settlement.id).collect()
}

async fn a_deleted_row_gives_its_money_back(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    assert_eq!(open(&app, "aff-1").await, "0.00 EUR");
    app.delete_row(&rows[0].id).await.unwrap();
    assert_eq!(open(&app, "aff-1").await, "10.00 EUR");
    assert_eq!(open(&app, "aff-2").await, "0.00 EUR");
    let settlement = app.settlement(&rows[0].settlement_id).await;
    assert_eq!(app.counts(&settlement.id).await, [1, 0, 0]);
    assert_eq!(shown(&settlement.totals.first().cloned()), "10.00 EUR");
    app.verify().await;

    let again = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(shown(&again.totals.first().cloned()), "10.00 EUR");
    assert_eq!(open(&app, "aff-1").await, "0.00 EUR");
}

async fn a_row_under_way_or_paid_is_kept_until_it_is_set_back(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    for status in [RowStatus::InProgress, RowStatus::Paid] {
        let held = app.set(&row.id, status).await;
        let refused = assert_refused(
            app.delete_row(&row.id).await,
            Code::FailedPrecondition,
            "ACCOUNT_SETTLEMENT_NOT_DELETABLE",
        );
        assert!(
            refused.message().contains("set them back to NEW"),
            "{}",
            refused.message()
        );
        assert_eq!(app.row(&row.id).await, held);
        assert_eq!(open(&app, "aff-1").await, "0.00 EUR");
    }
    app.set(&row.id, RowStatus::New).await;
    app.delete_row(&row.id).await.unwrap();
    assert_eq!(app.history(&row.id).await.len(), 4);
}

async fn a_row_is_deleted_once(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let deleted = app.delete_row(&row.id).await.unwrap();
    assert_refused(
        app.delete_row(&row.id).await,
        Code::NotFound,
        "ACCOUNT_SETTLEMENT_NOT_FOUND",
    );
    let outcome = app.update(update(&row.id, RowStatus::Paid)).await;
    assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_DELETED");
    assert_eq!(app.row(&row.id).await, deleted);
    assert_eq!(open(&app, "aff-1").await, "10.00 EUR");
}

async fn a_deleted_row_stays_readable(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    assert_eq!(rows[0].delete_time, None);
    let deleted = app.delete_row(&rows[0].id).await.unwrap();
    assert!(deleted.delete_time.is_some());
    assert_ne!(deleted.etag, rows[0].etag);
    assert_eq!(app.row(&rows[0].id).await, deleted);
    assert_eq!(app.rows_of(&rows[0].settlement_id).await, [rows[1].clone()]);
    let all = rows_with_deleted(&app, &rows[0].settlement_id).await;
    assert_eq!(all.len(), 2);
    assert!(all.contains(&deleted));
    assert_eq!(app.history(&rows[0].id).await.len(), 1);
}

async fn a_deleted_row_tells_what_it_held(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    app.delete_row(&row.id).await.unwrap();
    let again = app.settle(&["aff-1"]).await.settlement.unwrap();
    let live = app.rows_of(&again.id).await.remove(0);
    for id in [&row.id, &live.id] {
        let request = proto::ListEntriesRequest {
            account_settlement_id: id.clone(),
            ..Default::default()
        };
        let entries = app.balances().list_entries(request).await.unwrap().into_inner().entries;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].account_settlement_id, live.id);
    }
}

async fn a_row_changed_since_its_etag_is_kept(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    app.set(&row.id, RowStatus::InProgress).await;
    let current = app.set(&row.id, RowStatus::New).await;
    let with_etag = |etag: &str| proto::DeleteAccountSettlementRequest {
        id: row.id.clone(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let outcome = app.settlements().delete_account_settlement(with_etag(&row.etag)).await;
    assert_refused(outcome, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(app.row(&row.id).await, current);
    let outcome = app
        .settlements()
        .delete_account_settlement(with_etag(&current.etag))
        .await;
    assert!(outcome.is_ok(), "{outcome:?}");
}

async fn a_repeated_deletion_is_answered_again(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    let request = proto::DeleteAccountSettlementRequest {
        id: rows[0].id.clone(),
        request_id: request_id(),
        ..Default::default()
    };
    let mut settlements = app.settlements();
    let first = settlements
        .delete_account_settlement(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = settlements
        .delete_account_settlement(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    let other = proto::DeleteAccountSettlementRequest {
        id: rows[1].id.clone(),
        ..request
    };
    let outcome = settlements.delete_account_settlement(other).await;
    assert_refused(outcome, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    assert_eq!(app.counts(&rows[0].settlement_id).await, [1, 0, 0]);
}

async fn one_paid_row_keeps_a_settlement(app: App) {
    let rows = app.settled(&["aff-1", "aff-2", "aff-3"]).await;
    app.set(&rows[1].id, RowStatus::Paid).await;
    let before = app.settlement(&rows[0].settlement_id).await;
    let rows_before = app.rows_of(&before.id).await;
    let outcome = app.delete_settlement(&before.id).await;
    let status = assert_refused(outcome, Code::FailedPrecondition, "ACCOUNT_SETTLEMENT_NOT_DELETABLE");
    assert!(status.message().contains(&rows[1].id), "{}", status.message());
    assert_eq!(app.settlement(&before.id).await, before);
    assert_eq!(app.rows_of(&before.id).await, rows_before);
    assert_eq!(open(&app, "aff-1").await, "0.00 EUR");

    app.set(&rows[1].id, RowStatus::New).await;
    app.delete_settlement(&before.id).await.unwrap();
    assert_eq!(open(&app, "aff-2").await, "10.00 EUR");
}

async fn a_settlement_goes_with_all_its_rows(app: App) {
    let accounts = ["aff-1", "aff-2", "aff-3"];
    let rows = app.settled(&accounts).await;
    let id = rows[0].settlement_id.clone();
    app.delete_row(&rows[2].id).await.unwrap();
    let alive = app.settlement(&id).await;
    let deleted = app.delete_settlement(&id).await.unwrap();
    assert!(deleted.delete_time.is_some());
    assert_ne!(deleted.etag, alive.etag);
    assert_eq!(deleted.account_settlement_count, 0);
    assert_eq!(deleted.totals, []);
    assert_eq!(app.settlement(&id).await, deleted);
    assert_eq!(app.counts(&id).await, [0, 0, 0]);
    assert_eq!(app.rows_of(&id).await, []);
    let all = rows_with_deleted(&app, &id).await;
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|row| row.delete_time.is_some()));
    assert_eq!(settlement_ids(&app, false).await, [""; 0]);
    assert_eq!(settlement_ids(&app, true).await, [id.as_str()]);
    assert_refused(app.delete_settlement(&id).await, Code::NotFound, "SETTLEMENT_NOT_FOUND");
    app.verify().await;

    let again = app.settle(&accounts).await.settlement.unwrap();
    assert_eq!(shown(&again.totals.first().cloned()), "30.00 EUR");
    assert_eq!(settlement_ids(&app, false).await, [again.id]);
}

async fn a_settlement_changed_since_its_etag_is_kept(app: App) {
    let rows = app.settled(&["aff-1", "aff-2"]).await;
    let before = app.settlement(&rows[0].settlement_id).await;
    app.delete_row(&rows[0].id).await.unwrap();
    let current = app.settlement(&before.id).await;
    let with_etag = |etag: &str| proto::DeleteSettlementRequest {
        id: before.id.clone(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let outcome = app.settlements().delete_settlement(with_etag(&before.etag)).await;
    assert_refused(outcome, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(app.settlement(&before.id).await, current);
    let outcome = app.settlements().delete_settlement(with_etag(&current.etag)).await;
    assert!(outcome.is_ok(), "{outcome:?}");
}

async fn a_repeated_deletion_of_a_settlement_is_answered_again(app: App) {
    let row = app.settled(&["aff-1"]).await.remove(0);
    let other = app.settled_again(&["aff-1"]).await.remove(0);
    let request = proto::DeleteSettlementRequest {
        id: row.settlement_id.clone(),
        request_id: request_id(),
        ..Default::default()
    };
    let mut settlements = app.settlements();
    let first = settlements
        .delete_settlement(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = settlements
        .delete_settlement(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    let reused = proto::DeleteSettlementRequest {
        id: other.settlement_id.clone(),
        ..request
    };
    let outcome = settlements.delete_settlement(reused).await;
    assert_refused(outcome, Code::FailedPrecondition, "REQUEST_ID_REUSED");
    assert_eq!(app.counts(&other.settlement_id).await, [1, 0, 0]);
}

async fn ids_that_are_no_uuid_and_unknown_ids_are_refused(app: App) {
    let status = assert_refused(app.delete_row("1").await, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(violated_fields(&status), ["id"]);
    let status = assert_refused(
        app.delete_settlement("").await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    assert_eq!(violated_fields(&status), ["id"]);
    let unknown = request_id();
    assert_refused(
        app.delete_row(&unknown).await,
        Code::NotFound,
        "ACCOUNT_SETTLEMENT_NOT_FOUND",
    );
    assert_refused(
        app.delete_settlement(&unknown).await,
        Code::NotFound,
        "SETTLEMENT_NOT_FOUND",
    );
}

async fn a_new_row_of_tipalti_can_be_deleted(app: App) {
    app.tipalti_account("aff-1").await;
    let row = app.settled_again(&["aff-1"]).await.remove(0);
    app.delete_row(&row.id).await.unwrap();
    assert_eq!(open(&app, "aff-1").await, "10.00 EUR");
}

/// What was carried forward out of the row was never paid by it: with the row's money it comes to what was there before.
async fn a_remainder_stays_open_when_its_row_is_deleted(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![entry("click-1", "aff-1", "10.009", "EUR")]).await;
    let settlement = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(open(&app, "aff-1").await, "0.009 EUR");
    app.post(vec![entry("click-2", "aff-1", "0.001", "EUR")]).await;
    let row = app.rows_of(&settlement.id).await.remove(0);
    app.delete_row(&row.id).await.unwrap();
    assert_eq!(open(&app, "aff-1").await, "10.01 EUR");
    let again = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(shown(&again.totals.first().cloned()), "10.01 EUR");
    assert_eq!(open(&app, "aff-1").await, "0.00 EUR");
}

async fn a_row_keeps_what_it_was_made_with(app: App) {
    const NEW_IBAN: &str = "GB82WEST12345698765432";
    app.with_billing_details("aff-1").await;
    let method = app.with_method(bank_method("aff-1", "EUR")).await;
    let row = app.settled_again(&["aff-1"]).await.remove(0);
    let full = full_row(&app, &row.id).await;
    assert_eq!(iban_of(&full), IBAN);
    let masked = iban_of(&row);
    assert!(masked.ends_with("3000") && !masked.contains("3704"), "{masked}");

    change_payee(&app, &method, NEW_IBAN).await;
    assert_eq!(full_row(&app, &row.id).await, full);
    assert_eq!(app.row(&row.id).await, row);
    let later = app.settled_again(&["aff-1"]).await.remove(0);
    let later = full_row(&app, &later.id).await;
    assert_eq!(iban_of(&later), NEW_IBAN);
    assert_eq!(later.billing_details.as_ref().unwrap().tax_id, "87654321");

    delete_payee(&app, &method.id).await;
    assert_eq!(full_row(&app, &row.id).await, full);
    assert_eq!(full_row(&app, &later.id).await, later);
}

async fn change_payee(app: &App, method: &proto::PaymentMethod, iban: &str) {
    let mut changed = bank_method("aff-1", "EUR");
    changed.id.clone_from(&method.id);
    if let Some(proto::payment_method::Details::BankTransfer(bank)) = &mut changed.details {
        iban.clone_into(&mut bank.iban);
    }
    let request = proto::UpdatePaymentMethodRequest {
        payment_method: Some(changed),
        update_mask: Some(mask(&["bank_transfer"])),
        ..Default::default()
    };
    app.payment_methods().update_payment_method(request).await.unwrap();
    let request = proto::UpdateBillingDetailsRequest {
        billing_details: Some(proto::BillingDetails {
            account_id: "aff-1".to_owned(),
            tax_id: "87654321".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(mask(&["tax_id"])),
        ..Default::default()
    };
    app.billing_details().update_billing_details(request).await.unwrap();
}

async fn delete_payee(app: &App, method_id: &str) {
    let request = proto::DeletePaymentMethodRequest {
        id: method_id.to_owned(),
        ..Default::default()
    };
    app.payment_methods().delete_payment_method(request).await.unwrap();
    let request = proto::DeleteBillingDetailsRequest {
        account_id: "aff-1".to_owned(),
        ..Default::default()
    };
    app.billing_details().delete_billing_details(request).await.unwrap();
}

fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}
