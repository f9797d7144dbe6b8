//! Corrects one payout: the bank sent it back, so it is undone and made again.

use crate::client::Billing;
use crate::failure::Failure;
use crate::money::required;
use crate::request_id;
use crate::settling::{MONTH_END, settle};
use affiliate_billing::proto::payment_method::Details;
use affiliate_billing::proto::settle_balances_request::Selection;
use affiliate_billing::proto::{
    AccountSelection, AccountSelectionItem, AccountSettlement, AccountSettlementStatus, DeleteAccountSettlementRequest,
    SettleBalancesRequest, UpdateAccountSettlementStatusRequest,
};

/// Sets one payout back, deletes it, and settles that account again.
///
/// Each step has a request id made from the payout's id, so all of them may be repeated from the first one on.
pub(crate) async fn correct_one(billing: &Billing, payouts: &[AccountSettlement]) -> Result<(), Failure> {
    // The same one in every run: the list has deleted ones too, always in the order in which they were made.
    let Some(payout) = payouts.iter().find(|payout| is_paid_by_hand(payout)) else {
        println!("correction: nobody is paid by hand");
        return Ok(());
    };
    if payout.delete_time.is_none() {
        set_back(billing, payout).await?;
        delete(billing, payout).await?;
    }
    settle_again(billing, payout).await
}

/// Whether its status is ours to change: payouts through Tipalti take theirs from Tipalti alone.
fn is_paid_by_hand(payout: &AccountSettlement) -> bool {
    let details = payout
        .payment_method
        .as_ref()
        .and_then(|method| method.details.as_ref());
    !matches!(details, Some(Details::Tipalti(_)))
}

/// Only what is not under way can be deleted, and leaving `PAID` takes a reason: the trace of a payment that came back.
async fn set_back(billing: &Billing, payout: &AccountSettlement) -> Result<(), Failure> {
    let request = UpdateAccountSettlementStatusRequest {
        id: payout.id.clone(),
        status: AccountSettlementStatus::New.into(),
        expected_status: AccountSettlementStatus::Paid.into(),
        reason: "returned by the bank: account closed".to_owned(),
        request_id: request_id::derive(&["set back", &payout.id]),
        ..UpdateAccountSettlementStatusRequest::default()
    };
    billing
        .settlements
        .clone()
        .update_account_settlement_status(request)
        .await
        .map_err(Failure::call("set a payout back"))?;
    Ok(())
}

async fn delete(billing: &Billing, payout: &AccountSettlement) -> Result<(), Failure> {
    let request = DeleteAccountSettlementRequest {
        id: payout.id.clone(),
        request_id: request_id::derive(&["delete", &payout.id]),
        ..DeleteAccountSettlementRequest::default()
    };
    billing
        .settlements
        .clone()
        .delete_account_settlement(request)
        .await
        .map_err(Failure::call("delete a payout"))?;
    Ok(())
}

/// Pays out the same amount again, by name this time. Everything in the request comes from the deleted payout, also the
/// total that is expected, so the request id may be used again without looking whether it was.
async fn settle_again(billing: &Billing, payout: &AccountSettlement) -> Result<(), Failure> {
    let money = required(payout.money.as_ref(), "money")?;
    let account = AccountSelectionItem {
        account_id: payout.account_id.clone(),
        amount: Some(money.clone()),
    };
    let request = SettleBalancesRequest {
        request_id: request_id::derive(&["settle again", &payout.id]),
        selection: Some(Selection::Accounts(AccountSelection { items: vec![account] })),
        available_through: MONTH_END.to_owned(),
        note: format!("month end 2026-10, {} again", payout.account_id),
        expected_totals: vec![money.clone()],
        ..SettleBalancesRequest::default()
    };
    settle(billing, request).await?;
    println!(
        "correction, now or in an earlier run: {} {} of {} set back, deleted and settled again",
        money.currency_code, money.amount, payout.account_id
    );
    Ok(())
}
