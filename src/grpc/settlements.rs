//! `SettlementsService` over [`Billing`].

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::caller::caller;
use super::convert::{settle_balances as convert_settle, settlements as convert};
use super::deadline;
use super::status::from_error;
use super::streams::{Answers, answer_chunks, answer_until_done};
use crate::billing::{Billing, Call};
use crate::domain::payment_methods::View;
use crate::proto;
use crate::proto::settlements_service_server::SettlementsService;

/// The service.
#[derive(Clone)]
pub(crate) struct SettlementsServer {
    pub(crate) billing: Billing,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl SettlementsService for SettlementsServer {
    async fn get_settlement(
        &self,
        request: Request<proto::GetSettlementRequest>,
    ) -> Result<Response<proto::GetSettlementResponse>, Status> {
        let id = convert::get_settlement(request.get_ref()).map_err(from_error)?;
        let settlement = self.billing.get_settlement(id).await.map_err(from_error)?;
        let settlement = convert_settle::settlement(&settlement).map_err(from_error)?;
        Ok(Response::new(proto::GetSettlementResponse {
            settlement: Some(settlement),
        }))
    }

    async fn list_settlements(
        &self,
        request: Request<proto::ListSettlementsRequest>,
    ) -> Result<Response<proto::ListSettlementsResponse>, Status> {
        let (filter, page) = convert::list_settlements(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_settlements(&filter, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(convert::settlements_response(page).map_err(from_error)?))
    }

    async fn approve_settlement(
        &self,
        request: Request<proto::ApproveSettlementRequest>,
    ) -> Result<Response<proto::ApproveSettlementResponse>, Status> {
        let (call, request) =
            convert::approve_settlement(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let settlement = self
            .billing
            .approve_settlement(&call, request)
            .await
            .map_err(from_error)?;
        let settlement = convert_settle::settlement(&settlement).map_err(from_error)?;
        Ok(Response::new(proto::ApproveSettlementResponse {
            settlement: Some(settlement),
        }))
    }

    async fn delete_settlement(
        &self,
        request: Request<proto::DeleteSettlementRequest>,
    ) -> Result<Response<proto::DeleteSettlementResponse>, Status> {
        let (call, request) =
            convert::delete_settlement(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let settlement = self
            .billing
            .delete_settlement(&call, request)
            .await
            .map_err(from_error)?;
        let settlement = convert_settle::settlement(&settlement).map_err(from_error)?;
        Ok(Response::new(proto::DeleteSettlementResponse {
            settlement: Some(settlement),
        }))
    }

    async fn list_skipped_accounts(
        &self,
        request: Request<proto::ListSkippedAccountsRequest>,
    ) -> Result<Response<proto::ListSkippedAccountsResponse>, Status> {
        let (id, page) = convert::list_skipped(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_skipped_accounts(id, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn get_account_settlement(
        &self,
        request: Request<proto::GetAccountSettlementRequest>,
    ) -> Result<Response<proto::GetAccountSettlementResponse>, Status> {
        let (id, view) = convert::get_account_settlement(&caller(&request)?, request.get_ref()).map_err(from_error)?;
        let row = self.billing.get_account_settlement(id).await.map_err(from_error)?;
        let account_settlement = Some(convert::account_settlement(row, view));
        Ok(Response::new(proto::GetAccountSettlementResponse {
            account_settlement,
        }))
    }

    async fn list_account_settlements(
        &self,
        request: Request<proto::ListAccountSettlementsRequest>,
    ) -> Result<Response<proto::ListAccountSettlementsResponse>, Status> {
        let (filter, view, page) =
            convert::list_account_settlements(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_account_settlements(&filter, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(convert::account_settlements_response(page, view)))
    }

    async fn update_account_settlement_status(
        &self,
        request: Request<proto::UpdateAccountSettlementStatusRequest>,
    ) -> Result<Response<proto::UpdateAccountSettlementStatusResponse>, Status> {
        let (call, request) = convert::update_status(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let row = self.billing.update_status(&call, request).await.map_err(from_error)?;
        let account_settlement = Some(convert::account_settlement(row, View::Masked));
        Ok(Response::new(proto::UpdateAccountSettlementStatusResponse {
            account_settlement,
        }))
    }

    type BulkUpdateAccountSettlementStatusStream = Answers<proto::BulkUpdateAccountSettlementStatusResponse>;

    async fn bulk_update_account_settlement_status(
        &self,
        request: Request<Streaming<proto::BulkUpdateAccountSettlementStatusRequest>>,
    ) -> Result<Response<Self::BulkUpdateAccountSettlementStatusStream>, Status> {
        let billing = self.billing.clone();
        let caller = caller(&request)?;
        let answers = answer_chunks(request, self.shutdown.clone(), move |chunk| {
            let (billing, caller) = (billing.clone(), caller.clone());
            async move {
                let chunk = convert::bulk_update(&caller, chunk).map_err(from_error)?;
                let outcome = billing
                    .bulk_update_status(&chunk.call, chunk.request)
                    .await
                    .map_err(from_error)?;
                Ok(convert::bulk_response(chunk.chunk_id, outcome))
            }
        });
        Ok(Response::new(answers))
    }

    type BulkUpdateSettlementStatusStream = Answers<proto::BulkUpdateSettlementStatusResponse>;

    async fn bulk_update_settlement_status(
        &self,
        request: Request<proto::BulkUpdateSettlementStatusRequest>,
    ) -> Result<Response<Self::BulkUpdateSettlementStatusStream>, Status> {
        let deadline = deadline::of(request.metadata().as_ref());
        let update = convert::update_settlement(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let billing = self.billing.clone();
        let answers = answer_until_done(deadline, self.shutdown.clone(), Uuid::nil(), move |number, after| {
            let billing = billing.clone();
            let call = Call {
                part: number,
                ..update.call.clone()
            };
            let (settlement_id, target) = (update.settlement_id, update.target.clone());
            async move {
                let outcome = billing
                    .update_settlement_chunk(&call, settlement_id, &target, after)
                    .await
                    .map_err(from_error)?;
                let following = outcome.last;
                Ok(following.map(|last| (convert::settlement_chunk_response(number, outcome), last)))
            }
        });
        Ok(Response::new(answers))
    }

    async fn delete_account_settlement(
        &self,
        request: Request<proto::DeleteAccountSettlementRequest>,
    ) -> Result<Response<proto::DeleteAccountSettlementResponse>, Status> {
        let (call, request) =
            convert::delete_account_settlement(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let row = self
            .billing
            .delete_account_settlement(&call, request)
            .await
            .map_err(from_error)?;
        let account_settlement = Some(convert::account_settlement(row, View::Masked));
        Ok(Response::new(proto::DeleteAccountSettlementResponse {
            account_settlement,
        }))
    }

    async fn list_status_changes(
        &self,
        request: Request<proto::ListStatusChangesRequest>,
    ) -> Result<Response<proto::ListStatusChangesResponse>, Status> {
        let (id, page) = convert::list_status_changes(request.into_inner()).map_err(from_error)?;
        let page = self.billing.list_status_changes(id, &page).await.map_err(from_error)?;
        Ok(Response::new(page.into()))
    }
}
