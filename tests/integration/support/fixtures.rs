//! What most scenarios begin with: accounts that can be paid, and entries. All through the API.

use affiliate_billing::proto;
use prost_types::Timestamp;
use uuid::Uuid;

use super::app::App;

/// A date far ahead, so that entries of it are pending.
pub(crate) const FUTURE: &str = "2999-01-01";
/// A valid German IBAN.
pub(crate) const IBAN: &str = "DE89370400440532013000";

pub(crate) fn money(amount: &str, currency_code: &str) -> Option<proto::Money> {
    Some(proto::Money {
        currency_code: currency_code.to_owned(),
        amount: amount.to_owned(),
    })
}

pub(crate) fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// 2026-01-31T12:00:00Z.
pub(crate) fn occur_time() -> Option<Timestamp> {
    Some(Timestamp {
        seconds: 1_769_860_800,
        nanos: 0,
    })
}

pub(crate) fn billing_details(account_id: &str) -> proto::BillingDetails {
    proto::BillingDetails {
        account_id: account_id.to_owned(),
        party: Some(proto::billing_details::Party::Individual(proto::Individual {
            given_name: "Ada".to_owned(),
            family_name: "Byron".to_owned(),
        })),
        tax_id: "12345678".to_owned(),
        address: Some(proto::Address {
            region_code: "DE".to_owned(),
            postal_code: "10115".to_owned(),
            locality: "Berlin".to_owned(),
            address_lines: vec!["Invalidenstr. 1".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn bank_method(account_id: &str, currency_code: &str) -> proto::PaymentMethod {
    proto::PaymentMethod {
        account_id: account_id.to_owned(),
        currency_code: currency_code.to_owned(),
        details: Some(proto::payment_method::Details::BankTransfer(proto::BankTransfer {
            account_holder_name: "Ada Byron".to_owned(),
            iban: IBAN.to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

pub(crate) fn tipalti_method(account_id: &str, currency_code: &str) -> proto::PaymentMethod {
    proto::PaymentMethod {
        account_id: account_id.to_owned(),
        currency_code: currency_code.to_owned(),
        details: Some(proto::payment_method::Details::Tipalti(proto::Tipalti {
            payee_id: format!("payee-{account_id}"),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// An entry that is available at once: a commission, or an adjustment when it is negative.
pub(crate) fn entry(external_id: &str, account_id: &str, amount: &str, currency_code: &str) -> proto::Entry {
    let kind = if amount.starts_with('-') {
        proto::EntryKind::Adjustment
    } else {
        proto::EntryKind::Commission
    };
    proto::Entry {
        external_id: external_id.to_owned(),
        account_id: account_id.to_owned(),
        money: money(amount, currency_code),
        kind: kind.into(),
        occur_time: occur_time(),
        ..Default::default()
    }
}

/// A clawback of an entry with an empty source.
pub(crate) fn clawback(
    external_id: &str,
    reverses: &str,
    account_id: &str,
    amount: &str,
    currency_code: &str,
) -> proto::Entry {
    proto::Entry {
        kind: proto::EntryKind::Clawback.into(),
        reverses_external_id: reverses.to_owned(),
        ..entry(external_id, account_id, amount, currency_code)
    }
}

impl App {
    /// An account with billing details and a bank account for each currency.
    pub(crate) async fn payable_account(&self, account_id: &str, currencies: &[&str]) {
        self.with_billing_details(account_id).await;
        for currency in currencies {
            self.with_method(bank_method(account_id, currency)).await;
        }
    }

    pub(crate) async fn with_billing_details(&self, account_id: &str) {
        let request = proto::CreateBillingDetailsRequest {
            billing_details: Some(billing_details(account_id)),
            ..Default::default()
        };
        self.billing_details().create_billing_details(request).await.unwrap();
    }

    pub(crate) async fn with_method(&self, method: proto::PaymentMethod) -> proto::PaymentMethod {
        let request = proto::CreatePaymentMethodRequest {
            payment_method: Some(method),
            ..Default::default()
        };
        self.payment_methods()
            .create_payment_method(request)
            .await
            .unwrap()
            .into_inner()
            .payment_method
            .unwrap()
    }

    /// Imports methods as one chunk; what became of each.
    pub(crate) async fn import_chunk_of_methods(
        &self,
        methods: Vec<proto::PaymentMethod>,
        request_id: &str,
    ) -> Vec<proto::ImportOutcome> {
        let request = proto::ImportPaymentMethodsRequest {
            payment_methods: methods,
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        let mut client = self.payment_methods();
        let answers = client.import_payment_methods(tokio_stream::once(request)).await;
        let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
        answer.results.iter().map(|result| result.outcome()).collect()
    }

    /// Posts entries that all must be new.
    pub(crate) async fn post(&self, entries: Vec<proto::Entry>) {
        let request = proto::PostEntriesRequest {
            entries,
            ..Default::default()
        };
        let results = self
            .balances()
            .post_entries(request)
            .await
            .unwrap()
            .into_inner()
            .results;
        for result in results {
            assert_eq!(
                result.outcome(),
                proto::EntryOutcome::Posted,
                "{} {} {}",
                result.external_id,
                result.reason,
                result.message
            );
        }
    }

    /// Settles named accounts, each with everything it has.
    pub(crate) async fn settle(&self, account_ids: &[&str]) -> proto::SettleBalancesResponse {
        self.settle_request(settle_accounts(account_ids.iter().map(|id| (*id, None)).collect()))
            .await
    }

    pub(crate) async fn settle_request(&self, request: proto::SettleBalancesRequest) -> proto::SettleBalancesResponse {
        self.balances().settle_balances(request).await.unwrap().into_inner()
    }

    /// All open balances of accounts.
    pub(crate) async fn open_balances(&self, account_ids: &[&str]) -> Vec<proto::OpenBalance> {
        let filter = proto::BalanceFilter {
            account_ids: account_ids.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        };
        let request = proto::ListOpenBalancesRequest {
            filter: Some(filter),
            page_size: 1000,
            ..Default::default()
        };
        self.balances()
            .list_open_balances(request)
            .await
            .unwrap()
            .into_inner()
            .open_balances
    }

    /// The live rows of a settlement.
    pub(crate) async fn rows_of(&self, settlement_id: &str) -> Vec<proto::AccountSettlement> {
        let request = proto::ListAccountSettlementsRequest {
            settlement_id: settlement_id.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        self.settlements()
            .list_account_settlements(request)
            .await
            .unwrap()
            .into_inner()
            .account_settlements
    }

    pub(crate) async fn settlement(&self, id: &str) -> proto::Settlement {
        let request = proto::GetSettlementRequest { id: id.to_owned() };
        self.settlements()
            .get_settlement(request)
            .await
            .unwrap()
            .into_inner()
            .settlement
            .unwrap()
    }
}

/// A run over named accounts, each with an amount or with everything.
pub(crate) fn settle_accounts(items: Vec<(&str, Option<proto::Money>)>) -> proto::SettleBalancesRequest {
    let items = items
        .into_iter()
        .map(|(account_id, amount)| proto::AccountSelectionItem {
            account_id: account_id.to_owned(),
            amount,
        })
        .collect();
    proto::SettleBalancesRequest {
        request_id: request_id(),
        selection: Some(proto::settle_balances_request::Selection::Accounts(
            proto::AccountSelection { items },
        )),
        ..Default::default()
    }
}

/// `12.50 EUR`.
pub(crate) fn shown(money: &Option<proto::Money>) -> String {
    money
        .as_ref()
        .map(|money| format!("{} {}", money.amount, money.currency_code))
        .unwrap_or_default()
}
