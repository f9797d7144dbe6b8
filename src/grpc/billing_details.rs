//! `BillingDetailsService` over [`Billing`].

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::caller::caller;
use super::convert::billing_details as convert;
use super::status::from_error;
use super::streams::{Answers, answer_chunks};
use crate::billing::Billing;
use crate::proto;
use crate::proto::billing_details_service_server::BillingDetailsService;

/// The service.
#[derive(Clone)]
pub(crate) struct BillingDetailsServer {
    pub(crate) billing: Billing,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl BillingDetailsService for BillingDetailsServer {
    async fn create_billing_details(
        &self,
        request: Request<proto::CreateBillingDetailsRequest>,
    ) -> Result<Response<proto::CreateBillingDetailsResponse>, Status> {
        let (call, request) = convert::create(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let record = self
            .billing
            .create_billing_details(&call, request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::CreateBillingDetailsResponse {
            billing_details: Some(record.into()),
        }))
    }

    async fn get_billing_details(
        &self,
        request: Request<proto::GetBillingDetailsRequest>,
    ) -> Result<Response<proto::GetBillingDetailsResponse>, Status> {
        let account_id = convert::get(request.get_ref()).map_err(from_error)?;
        let record = self
            .billing
            .get_billing_details(&account_id)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::GetBillingDetailsResponse {
            billing_details: Some(record.into()),
        }))
    }

    async fn list_billing_details(
        &self,
        request: Request<proto::ListBillingDetailsRequest>,
    ) -> Result<Response<proto::ListBillingDetailsResponse>, Status> {
        let page = convert::list(request.into_inner()).map_err(from_error)?;
        let page = self.billing.list_billing_details(&page).await.map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn update_billing_details(
        &self,
        request: Request<proto::UpdateBillingDetailsRequest>,
    ) -> Result<Response<proto::UpdateBillingDetailsResponse>, Status> {
        let (call, request) = convert::update(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let record = self
            .billing
            .update_billing_details(&call, request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::UpdateBillingDetailsResponse {
            billing_details: Some(record.into()),
        }))
    }

    async fn delete_billing_details(
        &self,
        request: Request<proto::DeleteBillingDetailsRequest>,
    ) -> Result<Response<proto::DeleteBillingDetailsResponse>, Status> {
        let (call, request) = convert::delete(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        self.billing
            .delete_billing_details(&call, request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::DeleteBillingDetailsResponse {}))
    }

    type ImportBillingDetailsStream = Answers<proto::ImportBillingDetailsResponse>;

    async fn import_billing_details(
        &self,
        request: Request<Streaming<proto::ImportBillingDetailsRequest>>,
    ) -> Result<Response<Self::ImportBillingDetailsStream>, Status> {
        let billing = self.billing.clone();
        let caller = caller(&request)?;
        let answers = answer_chunks(request, self.shutdown.clone(), move |chunk| {
            let (billing, caller) = (billing.clone(), caller.clone());
            async move {
                let chunk = convert::import(&caller, chunk).map_err(from_error)?;
                let outcomes = billing
                    .import_billing_details(&chunk.call, chunk.request)
                    .await
                    .map_err(from_error)?;
                Ok(convert::import_response(chunk.chunk_id, chunk.keys, outcomes))
            }
        });
        Ok(Response::new(answers))
    }
}
