//! `PaymentMethodsService` over [`Billing`].

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::caller::caller;
use super::convert::{
    payment_method_changes as convert_changes, payment_method_types as convert_type, payment_methods as convert,
};
use super::status::from_error;
use super::streams::{Answers, answer_chunks};
use crate::billing::Billing;
use crate::proto;
use crate::proto::payment_methods_service_server::PaymentMethodsService;

/// The service.
#[derive(Clone)]
pub(crate) struct PaymentMethodsServer {
    pub(crate) billing: Billing,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl PaymentMethodsService for PaymentMethodsServer {
    async fn create_payment_method_type(
        &self,
        request: Request<proto::CreatePaymentMethodTypeRequest>,
    ) -> Result<Response<proto::CreatePaymentMethodTypeResponse>, Status> {
        let (call, request) = convert_type::create(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let created = self
            .billing
            .create_payment_method_type(&call, request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::CreatePaymentMethodTypeResponse {
            payment_method_type: Some(created.into()),
        }))
    }

    async fn list_payment_method_types(
        &self,
        request: Request<proto::ListPaymentMethodTypesRequest>,
    ) -> Result<Response<proto::ListPaymentMethodTypesResponse>, Status> {
        let page = convert_type::list(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_payment_method_types(&page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn update_payment_method_type(
        &self,
        request: Request<proto::UpdatePaymentMethodTypeRequest>,
    ) -> Result<Response<proto::UpdatePaymentMethodTypeResponse>, Status> {
        let (call, request) = convert_type::update(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let changed = self
            .billing
            .update_payment_method_type(&call, request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::UpdatePaymentMethodTypeResponse {
            payment_method_type: Some(changed.into()),
        }))
    }

    async fn create_payment_method(
        &self,
        request: Request<proto::CreatePaymentMethodRequest>,
    ) -> Result<Response<proto::CreatePaymentMethodResponse>, Status> {
        let creation = convert::create(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let created = self
            .billing
            .create_payment_method(&creation.call, creation.account_id, creation.draft, creation.violations)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::CreatePaymentMethodResponse {
            payment_method: Some(created.into()),
        }))
    }

    async fn get_payment_method(
        &self,
        request: Request<proto::GetPaymentMethodRequest>,
    ) -> Result<Response<proto::GetPaymentMethodResponse>, Status> {
        let (id, view) = convert::get(&caller(&request)?, request.get_ref()).map_err(from_error)?;
        let method = self.billing.get_payment_method(id, view).await.map_err(from_error)?;
        Ok(Response::new(proto::GetPaymentMethodResponse {
            payment_method: Some(method.into()),
        }))
    }

    async fn list_payment_methods(
        &self,
        request: Request<proto::ListPaymentMethodsRequest>,
    ) -> Result<Response<proto::ListPaymentMethodsResponse>, Status> {
        let (filter, view, page) = convert::list(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_payment_methods(&filter, view, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn update_payment_method(
        &self,
        request: Request<proto::UpdatePaymentMethodRequest>,
    ) -> Result<Response<proto::UpdatePaymentMethodResponse>, Status> {
        let (call, request) = convert::update(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        let changed = self
            .billing
            .update_payment_method(&call, request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::UpdatePaymentMethodResponse {
            payment_method: Some(changed.into()),
        }))
    }

    async fn delete_payment_method(
        &self,
        request: Request<proto::DeletePaymentMethodRequest>,
    ) -> Result<Response<proto::DeletePaymentMethodResponse>, Status> {
        let (call, request) = convert::delete(&caller(&request)?, request.into_inner()).map_err(from_error)?;
        self.billing
            .delete_payment_method(&call, request)
            .await
            .map_err(from_error)?;
        Ok(Response::new(proto::DeletePaymentMethodResponse {}))
    }

    async fn list_payment_method_changes(
        &self,
        request: Request<proto::ListPaymentMethodChangesRequest>,
    ) -> Result<Response<proto::ListPaymentMethodChangesResponse>, Status> {
        let (filter, page) = convert_changes::list(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_payment_method_changes(&filter, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    type ImportPaymentMethodsStream = Answers<proto::ImportPaymentMethodsResponse>;

    async fn import_payment_methods(
        &self,
        request: Request<Streaming<proto::ImportPaymentMethodsRequest>>,
    ) -> Result<Response<Self::ImportPaymentMethodsStream>, Status> {
        let billing = self.billing.clone();
        let caller = caller(&request)?;
        let answers = answer_chunks(request, self.shutdown.clone(), move |chunk| {
            let (billing, caller) = (billing.clone(), caller.clone());
            async move {
                let chunk = convert::import(&caller, chunk).map_err(from_error)?;
                let outcomes = billing
                    .import_payment_methods(&chunk.call, chunk.request)
                    .await
                    .map_err(from_error)?;
                Ok(convert::import_response(chunk.chunk_id, chunk.keys, outcomes))
            }
        });
        Ok(Response::new(answers))
    }
}
