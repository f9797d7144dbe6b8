//! The connection to the service, and the lists that more than one step reads, all pages of them.

use crate::failure::Failure;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use affiliate_billing::proto::billing_details_service_client::BillingDetailsServiceClient;
use affiliate_billing::proto::payment_methods_service_client::PaymentMethodsServiceClient;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use affiliate_billing::proto::{
    AccountSettlement, ListAccountSettlementsRequest, ListOpenBalancesRequest, ListPaymentMethodTypesRequest,
    ListSettlementsRequest, ListSkippedAccountsRequest, OpenBalance, PaymentMethodType, Settlement, SkippedAccount,
};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one call; of a stream, until it is open.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const PAGE_SIZE: i32 = 500;

/// The services, over one connection. Clones of a client share it.
#[derive(Clone)]
pub(crate) struct Billing {
    pub(crate) details: BillingDetailsServiceClient<Channel>,
    pub(crate) methods: PaymentMethodsServiceClient<Channel>,
    pub(crate) balances: BalancesServiceClient<Channel>,
    pub(crate) settlements: SettlementsServiceClient<Channel>,
}

impl Billing {
    /// Connects to the server at this address.
    pub(crate) async fn connect(server: &str) -> Result<Self, Failure> {
        let channel = Endpoint::from_shared(server.to_owned())?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .connect()
            .await?;
        Ok(Self {
            details: BillingDetailsServiceClient::new(channel.clone()),
            methods: PaymentMethodsServiceClient::new(channel.clone()),
            balances: BalancesServiceClient::new(channel.clone()),
            settlements: SettlementsServiceClient::new(channel),
        })
    }

    /// Every payment method type.
    pub(crate) async fn list_types(&self) -> Result<Vec<PaymentMethodType>, Failure> {
        let mut client = self.methods.clone();
        all_pages(async |page_token| {
            let page = client
                .list_payment_method_types(ListPaymentMethodTypesRequest {
                    page_size: PAGE_SIZE,
                    page_token,
                })
                .await
                .map_err(Failure::call("list payment method types"))?
                .into_inner();
            Ok((page.payment_method_types, page.next_page_token))
        })
        .await
    }

    /// Everybody's open balances at a cut-off.
    pub(crate) async fn list_open_balances(&self, available_through: &str) -> Result<Vec<OpenBalance>, Failure> {
        let mut client = self.balances.clone();
        all_pages(async |page_token| {
            let page = client
                .list_open_balances(ListOpenBalancesRequest {
                    filter: None,
                    available_through: available_through.to_owned(),
                    page_size: PAGE_SIZE,
                    page_token,
                })
                .await
                .map_err(Failure::call("list open balances"))?
                .into_inner();
            Ok((page.open_balances, page.next_page_token))
        })
        .await
    }

    /// Every settlement that was not deleted.
    pub(crate) async fn list_settlements(&self) -> Result<Vec<Settlement>, Failure> {
        let mut client = self.settlements.clone();
        all_pages(async |page_token| {
            let page = client
                .list_settlements(ListSettlementsRequest {
                    page_size: PAGE_SIZE,
                    page_token,
                    ..ListSettlementsRequest::default()
                })
                .await
                .map_err(Failure::call("list settlements"))?
                .into_inner();
            Ok((page.settlements, page.next_page_token))
        })
        .await
    }

    /// The account settlements of one settlement, or (without one) of all; deleted ones too.
    pub(crate) async fn list_account_settlements(
        &self,
        settlement_id: Option<&str>,
    ) -> Result<Vec<AccountSettlement>, Failure> {
        let mut client = self.settlements.clone();
        all_pages(async |page_token| {
            let page = client
                .list_account_settlements(ListAccountSettlementsRequest {
                    settlement_id: settlement_id.unwrap_or_default().to_owned(),
                    show_deleted: true,
                    page_size: PAGE_SIZE,
                    page_token,
                    ..ListAccountSettlementsRequest::default()
                })
                .await
                .map_err(Failure::call("list account settlements"))?
                .into_inner();
            Ok((page.account_settlements, page.next_page_token))
        })
        .await
    }

    /// Whom a settlement left out, and why.
    pub(crate) async fn list_skipped(&self, settlement_id: &str) -> Result<Vec<SkippedAccount>, Failure> {
        let mut client = self.settlements.clone();
        all_pages(async |page_token| {
            let page = client
                .list_skipped_accounts(ListSkippedAccountsRequest {
                    settlement_id: settlement_id.to_owned(),
                    page_size: PAGE_SIZE,
                    page_token,
                })
                .await
                .map_err(Failure::call("list skipped accounts"))?
                .into_inner();
            Ok((page.skipped, page.next_page_token))
        })
        .await
    }
}

/// Reads page after page until one has no next. `fetch` answers a page token with the page's items and the next token.
async fn all_pages<T>(
    mut fetch: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let (items, next_page_token) = fetch(page_token).await?;
        all.extend(items);
        if next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = next_page_token;
    }
}
