//! `BalancesService` over [`Billing`].

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::caller::caller;
use super::convert::{balances as convert, settle_balances as convert_settle};
use super::status::from_error;
use super::streams::{Answers, answer_chunks};
use crate::billing::Billing;
use crate::proto;
use crate::proto::balances_service_server::BalancesService;

/// The service.
#[derive(Clone)]
pub(crate) struct BalancesServer {
    pub(crate) billing: Billing,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl BalancesService for BalancesServer {
    async fn post_entries(
        &self,
        request: Request<proto::PostEntriesRequest>,
    ) -> Result<Response<proto::PostEntriesResponse>, Status> {
        let posted = convert::post_entries(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let outcomes = self
            .billing
            .post_entries(&posted.call, posted.request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(convert::post_response(posted.external_ids, outcomes)))
    }

    type StreamEntriesStream = Answers<proto::StreamEntriesResponse>;

    async fn stream_entries(
        &self,
        request: Request<Streaming<proto::StreamEntriesRequest>>,
    ) -> Result<Response<Self::StreamEntriesStream>, Status> {
        let billing = self.billing.clone();
        let caller = caller(&request)?;
        let answers = answer_chunks(request, self.shutdown.clone(), move |chunk| {
            let (billing, caller) = (billing.clone(), caller.clone());
            async move {
                let (chunk_id, posted) = convert::stream_entries(&caller, chunk).map_err(from_error)?;
                let outcomes = billing
                    .post_entries(&posted.call, posted.request)
                    .await
                    .map_err(from_error)?;
                Ok(convert::stream_response(chunk_id, posted.external_ids, outcomes))
            }
        });
        Ok(Response::new(answers))
    }

    async fn list_entries(
        &self,
        request: Request<proto::ListEntriesRequest>,
    ) -> Result<Response<proto::ListEntriesResponse>, Status> {
        let (filter, page) = convert::list_entries(request.into_inner()).map_err(from_error)?;
        let page = self.billing.list_entries(&filter, &page).await.map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn list_open_balances(
        &self,
        request: Request<proto::ListOpenBalancesRequest>,
    ) -> Result<Response<proto::ListOpenBalancesResponse>, Status> {
        let (filter, through, page) = convert::list_open_balances(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_open_balances(&filter, through, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn summarize_open_balances(
        &self,
        request: Request<proto::SummarizeOpenBalancesRequest>,
    ) -> Result<Response<proto::SummarizeOpenBalancesResponse>, Status> {
        let (filter, through) = convert::summarize_open_balances(request.into_inner()).map_err(from_error)?;
        let summary = self
            .billing
            .summarize_open_balances(&filter, through)
            .await
            .map_err(from_error)?;
        Ok(Response::new(summary.into()))
    }

    async fn hold_payouts(
        &self,
        request: Request<proto::HoldPayoutsRequest>,
    ) -> Result<Response<proto::HoldPayoutsResponse>, Status> {
        let (call, request) = convert::hold_payouts(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let hold = self.billing.hold_payouts(&call, request).await.map_err(from_error)?;
        Ok(Response::new(proto::HoldPayoutsResponse {
            payout_hold: Some(hold.into()),
        }))
    }

    async fn release_payouts(
        &self,
        request: Request<proto::ReleasePayoutsRequest>,
    ) -> Result<Response<proto::ReleasePayoutsResponse>, Status> {
        let (call, request) = convert::release_payouts(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let hold = self.billing.release_payouts(&call, request).await.map_err(from_error)?;
        Ok(Response::new(proto::ReleasePayoutsResponse {
            payout_hold: Some(hold.into()),
        }))
    }

    async fn list_payout_holds(
        &self,
        request: Request<proto::ListPayoutHoldsRequest>,
    ) -> Result<Response<proto::ListPayoutHoldsResponse>, Status> {
        let (filter, page) = convert::list_payout_holds(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_payout_holds(&filter, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn settle_balances(
        &self,
        request: Request<proto::SettleBalancesRequest>,
    ) -> Result<Response<proto::SettleBalancesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let (call, request) = convert_settle::settle(&caller, request).map_err(from_error)?;
        let outcome = if validate_only {
            self.billing.validate_settle_balances(&call, request).await
        } else {
            self.billing.settle_balances(&call, request).await
        };
        let response = outcome.and_then(|outcome| convert_settle::settle_response(outcome, validate_only));
        Ok(Response::new(response.map_err(from_error)?))
    }
}
