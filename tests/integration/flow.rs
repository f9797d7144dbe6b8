//! The whole flow in one go, as a caller sees it.

use affiliate_billing::proto;
use affiliate_billing::proto::{AccountSettlementStatus, SettleSkipReason};

use crate::support::app::App;
use crate::support::fixtures::{entry, request_id, shown};
use crate::support::harness::scenarios;

scenarios![money_goes_from_entries_to_paid_and_back];

async fn money_goes_from_entries_to_paid_and_back(app: App) {
    app.payable_account("aff-1", &["EUR"]).await;
    app.post(vec![
        entry("order-1", "aff-1", "12.345", "EUR"),
        entry("order-2", "aff-1", "0.01", "EUR"),
        entry("order-3", "aff-2", "5", "EUR"),
    ])
    .await;
    let open = app.open_balances(&["aff-1"]).await;
    assert_eq!(shown(&open[0].open), "12.355 EUR");
    assert!(open[0].payable);
    assert_eq!(shown(&open[0].payable_money), "12.35 EUR");

    let settled = app.settle(&["aff-1", "aff-2"]).await;
    let settlement = settled.settlement.unwrap();
    assert_eq!(settlement.totals.len(), 1);
    assert_eq!(settlement.totals[0].amount, "12.35");
    assert_eq!(settled.skipped_count, 1);
    assert_eq!(settled.skipped[0].reason(), SettleSkipReason::NoBillingDetails);
    assert_eq!(shown(&app.open_balances(&["aff-1"]).await[0].open), "0.005 EUR");

    let row = app.rows_of(&settlement.id).await.remove(0);
    assert_eq!(shown(&row.money), "12.35 EUR");
    let update = |status: AccountSettlementStatus, reason: &str| proto::UpdateAccountSettlementStatusRequest {
        id: row.id.clone(),
        status: status.into(),
        reason: reason.to_owned(),
        request_id: request_id(),
        ..Default::default()
    };
    let mut settlements = app.settlements();
    settlements
        .update_account_settlement_status(update(AccountSettlementStatus::Paid, ""))
        .await
        .unwrap();
    let counts = app.settlement(&settlement.id).await.status_counts.unwrap();
    assert_eq!((counts.new, counts.paid), (0, 1));
    settlements
        .update_account_settlement_status(update(AccountSettlementStatus::New, "returned"))
        .await
        .unwrap();
    let delete = proto::DeleteAccountSettlementRequest {
        id: row.id.clone(),
        ..Default::default()
    };
    settlements.delete_account_settlement(delete).await.unwrap();
    assert_eq!(shown(&app.open_balances(&["aff-1"]).await[0].open), "12.355 EUR");

    let again = app.settle(&["aff-1"]).await.settlement.unwrap();
    assert_eq!(again.totals[0].amount, "12.35");
}
