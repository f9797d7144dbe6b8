//! What the scenarios of the ledger share: posting that may be rejected, lists read to their end, runs, and short texts
//! of what was answered, which are easy to compare.

use affiliate_billing::domain::time::Timestamp;
use affiliate_billing::proto;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::app::App;
use super::fixtures::{request_id, shown};

/// `YYYY-MM-DD`, so many days from today in UTC.
pub(crate) fn day(offset: i64) -> String {
    Timestamp::now().plus_days(offset).date().to_string()
}

pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

pub(crate) fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = outcome.unwrap_err();
    let found = (status.code(), reason(&status));
    assert_eq!((found.0, found.1.as_str()), (code, expected), "{status:?}");
    status
}

/// The fields that an invalid request is refused for.
pub(crate) fn violated<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Vec<String> {
    let status = assert_refused(outcome, Code::InvalidArgument, "INVALID_REQUEST");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

/// `POSTED`, `ALREADY_POSTED`, or the reason and field of a rejection.
pub(crate) fn outcome(result: &proto::EntryResult) -> String {
    match result.outcome() {
        proto::EntryOutcome::Posted => "POSTED".to_owned(),
        proto::EntryOutcome::AlreadyPosted => "ALREADY_POSTED".to_owned(),
        proto::EntryOutcome::Rejected => format!("{} {}", result.reason, result.field),
        proto::EntryOutcome::Unspecified => "UNSPECIFIED".to_owned(),
    }
}

/// `ACCOUNT_ON_HOLD`.
pub(crate) fn skip_reason(reason: proto::SettleSkipReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("SETTLE_SKIP_REASON_").unwrap_or(name)
}

/// `aff-1 EUR NOTHING_OPEN 0.00 EUR`.
pub(crate) fn skipped(account: &proto::SkippedAccount) -> String {
    let reason = skip_reason(account.reason());
    let (id, currency) = (&account.account_id, &account.currency_code);
    format!("{id} {currency} {reason} {}", shown(&account.money))
}

pub(crate) fn all_skipped(response: &proto::SettleBalancesResponse) -> Vec<String> {
    response.skipped.iter().map(skipped).collect()
}

/// `12.50 EUR`, one a currency.
pub(crate) fn totals(response: &proto::SettleBalancesResponse) -> Vec<String> {
    let totals = &response.settlement.as_ref().unwrap().totals;
    totals.iter().map(|money| shown(&Some(money.clone()))).collect()
}

pub(crate) fn settlement_id(response: &proto::SettleBalancesResponse) -> String {
    response.settlement.as_ref().unwrap().id.clone()
}

/// `aff-1 12.35 EUR + 3.00 EUR, 2 entries: 12.35 EUR by bank_transfer`, or with the reason why it is not payable.
pub(crate) fn balance(balance: &proto::OpenBalance) -> String {
    let id = &balance.account_id;
    let (open, pending) = (shown(&balance.open), shown(&balance.pending));
    let payable = if balance.payable {
        shown(&balance.payable_money)
    } else {
        skip_reason(balance.not_payable_reason()).to_owned()
    };
    format!("{id} {open} + {pending}, {} entries: {payable}", balance.entry_count)
}

pub(crate) fn of_accounts(account_ids: &[&str]) -> proto::BalanceFilter {
    proto::BalanceFilter {
        account_ids: account_ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    }
}

/// A run over what a filter shows.
pub(crate) fn settle_filter(filter: proto::BalanceFilter) -> proto::SettleBalancesRequest {
    proto::SettleBalancesRequest {
        request_id: request_id(),
        selection: Some(proto::settle_balances_request::Selection::Filter(filter)),
        ..Default::default()
    }
}

/// A run over everybody.
pub(crate) fn settle_everybody() -> proto::SettleBalancesRequest {
    proto::SettleBalancesRequest {
        request_id: request_id(),
        all_accounts: true,
        ..Default::default()
    }
}

/// The same run, tried only.
pub(crate) fn validating(request: &proto::SettleBalancesRequest) -> proto::SettleBalancesRequest {
    proto::SettleBalancesRequest {
        validate_only: true,
        ..request.clone()
    }
}

impl App {
    /// Posts entries, and tells what became of each.
    pub(crate) async fn try_post(&self, entries: Vec<proto::Entry>) -> Vec<String> {
        let request = proto::PostEntriesRequest {
            entries,
            ..Default::default()
        };
        let answer = self.balances().post_entries(request).await.unwrap().into_inner();
        answer.results.iter().map(outcome).collect()
    }

    pub(crate) async fn try_settle(
        &self,
        request: proto::SettleBalancesRequest,
    ) -> Result<proto::SettleBalancesResponse, Status> {
        let answer = self.balances().settle_balances(request).await?;
        Ok(answer.into_inner())
    }

    /// The open balances of a filter through a date, all pages of so many.
    pub(crate) async fn list_open(
        &self,
        filter: &proto::BalanceFilter,
        available_through: &str,
        page_size: i32,
    ) -> Vec<proto::OpenBalance> {
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListOpenBalancesRequest {
                filter: Some(filter.clone()),
                available_through: available_through.to_owned(),
                page_size,
                page_token,
            };
            let answer = self.balances().list_open_balances(request).await.unwrap().into_inner();
            listed.extend(answer.open_balances);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return listed;
            }
        }
    }

    /// `12.50 EUR` of each of an account's balances.
    pub(crate) async fn shown_open(&self, account_id: &str) -> Vec<String> {
        let balances = self.open_balances(&[account_id]).await;
        balances.iter().map(|balance| shown(&balance.open)).collect()
    }

    /// The same, of what becomes available later.
    pub(crate) async fn pending(&self, account_id: &str) -> Vec<String> {
        let balances = self.open_balances(&[account_id]).await;
        balances.iter().map(|balance| shown(&balance.pending)).collect()
    }

    /// What is open through a date, by account and currency.
    pub(crate) async fn open_through(&self, account_id: &str, available_through: &str) -> Vec<String> {
        let balances = self.list_open(&of_accounts(&[account_id]), available_through, 0).await;
        balances.iter().map(|balance| shown(&balance.open)).collect()
    }

    /// The entries of a request, all pages of so many.
    pub(crate) async fn list_entries(&self, mut request: proto::ListEntriesRequest) -> Vec<proto::Entry> {
        let mut listed = Vec::new();
        loop {
            let answer = self
                .balances()
                .list_entries(request.clone())
                .await
                .unwrap()
                .into_inner();
            listed.extend(answer.entries);
            request.page_token = answer.next_page_token;
            if request.page_token.is_empty() {
                return listed;
            }
        }
    }

    pub(crate) async fn entries_of(&self, account_id: &str) -> Vec<proto::Entry> {
        self.list_entries(proto::ListEntriesRequest {
            account_id: account_id.to_owned(),
            page_size: 1000,
            ..Default::default()
        })
        .await
    }

    /// What a settlement left out, all pages of so many.
    pub(crate) async fn skipped_of(&self, settlement_id: &str, page_size: i32) -> Vec<String> {
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListSkippedAccountsRequest {
                settlement_id: settlement_id.to_owned(),
                page_size,
                page_token,
            };
            let answer = self
                .settlements()
                .list_skipped_accounts(request)
                .await
                .unwrap()
                .into_inner();
            assert!(answer.skipped.len() <= usize::try_from(page_size).unwrap());
            listed.extend(answer.skipped.iter().map(skipped));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return listed;
            }
        }
    }

    pub(crate) async fn hold(&self, account_id: &str, reason: &str) -> Result<proto::PayoutHold, Status> {
        let request = proto::HoldPayoutsRequest {
            account_id: account_id.to_owned(),
            reason: reason.to_owned(),
            ..Default::default()
        };
        let answer = self.balances().hold_payouts(request).await?.into_inner();
        Ok(answer.payout_hold.unwrap())
    }

    pub(crate) async fn release(&self, account_id: &str) -> Result<proto::PayoutHold, Status> {
        let request = proto::ReleasePayoutsRequest {
            account_id: account_id.to_owned(),
            ..Default::default()
        };
        let answer = self.balances().release_payouts(request).await?.into_inner();
        Ok(answer.payout_hold.unwrap())
    }

    /// Changes the fields of a payment method type that a mask names.
    pub(crate) async fn change_type(&self, method_type: proto::PaymentMethodType, path: &str) {
        let request = proto::UpdatePaymentMethodTypeRequest {
            payment_method_type: Some(method_type),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![path.to_owned()],
            }),
            ..Default::default()
        };
        self.payment_methods()
            .update_payment_method_type(request)
            .await
            .unwrap();
    }

    pub(crate) async fn enable_type(&self, id: &str, enabled: bool) {
        let method_type = proto::PaymentMethodType {
            id: id.to_owned(),
            enabled: Some(enabled),
            ..Default::default()
        };
        self.change_type(method_type, "enabled").await;
    }

    pub(crate) async fn set_minimums(&self, id: &str, minimum_payouts: Vec<proto::Money>) {
        let method_type = proto::PaymentMethodType {
            id: id.to_owned(),
            minimum_payouts,
            ..Default::default()
        };
        self.change_type(method_type, "minimum_payouts").await;
    }

    pub(crate) async fn count_settlements(&self) -> usize {
        let request = proto::ListSettlementsRequest {
            page_size: 1000,
            show_deleted: true,
            ..Default::default()
        };
        let answer = self.settlements().list_settlements(request).await.unwrap().into_inner();
        answer.settlements.len()
    }
}
