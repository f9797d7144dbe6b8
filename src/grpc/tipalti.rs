//! `TipaltiService` over [`Billing`].

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller::caller;
use super::convert::tipalti as convert;
use super::deadline;
use super::status::from_error;
use super::streams::{Answers, answer_until_done};
use crate::billing::{Billing, Call};
use crate::domain::error::Error;
use crate::payout::tipalti::NAME;
use crate::proto;
use crate::proto::tipalti_service_server::TipaltiService;

/// The service.
#[derive(Clone)]
pub(crate) struct TipaltiServer {
    pub(crate) billing: Billing,
    pub(crate) shutdown: CancellationToken,
}

/// Where a stream over a settlement's rows is.
#[derive(Default)]
struct Progress {
    after: Uuid,
    /// Why not all rows of the answer before were answered: the stream ends with it, after that answer.
    failure: Option<Error>,
}

impl TipaltiServer {
    /// Answers for a settlement's rows chunk by chunk: `next` gets the number of the chunk, from 0, and the row before
    /// it. A failure that came with an answer ends the stream in the place of the next.
    fn answer_rows<A, F, W>(&self, deadline: Option<Instant>, next: F) -> Answers<A>
    where
        A: Send + 'static,
        F: Fn(i64, Uuid) -> W + Send + 'static,
        W: Future<Output = Result<Option<(A, Progress)>, Error>> + Send + 'static,
    {
        let start = Progress::default();
        answer_until_done(
            deadline,
            self.shutdown.clone(),
            start,
            move |number, progress: Progress| {
                let answer = match progress.failure {
                    Some(failure) => Err(failure),
                    None => Ok(next(number, progress.after)),
                };
                async move { answer.map_err(from_error)?.await.map_err(from_error) }
            },
        )
    }
}

#[tonic::async_trait]
impl TipaltiService for TipaltiServer {
    type SubmitSettlementStream = Answers<proto::SubmitSettlementResponse>;

    async fn submit_settlement(
        &self,
        request: Request<proto::SubmitSettlementRequest>,
    ) -> Result<Response<Self::SubmitSettlementStream>, Status> {
        let deadline = deadline::of(request.metadata().as_ref());
        let (call, settlement_id) = convert::submit(&caller(&request)?, request.get_ref()).map_err(from_error)?;
        let billing = self.billing.clone();
        let answers = self.answer_rows(deadline, move |number, after| {
            let billing = billing.clone();
            let call = Call {
                part: number,
                ..call.clone()
            };
            async move {
                let chunk = billing
                    .submit_settlement_chunk(&call, NAME, settlement_id, after)
                    .await?;
                Ok(chunk.map(|mut chunk| {
                    let following = Progress {
                        after: chunk.last,
                        failure: chunk.failure.take(),
                    };
                    (convert::submitted(chunk), following)
                }))
            }
        });
        Ok(Response::new(answers))
    }

    type SyncSettlementStream = Answers<proto::SyncSettlementResponse>;

    async fn sync_settlement(
        &self,
        request: Request<proto::SyncSettlementRequest>,
    ) -> Result<Response<Self::SyncSettlementStream>, Status> {
        let deadline = deadline::of(request.metadata().as_ref());
        let (call, settlement_id) = convert::sync(&caller(&request)?, request.get_ref()).map_err(from_error)?;
        let billing = self.billing.clone();
        let answers = self.answer_rows(deadline, move |_, after| {
            let (billing, call) = (billing.clone(), call.clone());
            async move {
                let chunk = billing.sync_settlement_chunk(&call, NAME, settlement_id, after).await?;
                Ok(chunk.map(|mut chunk| {
                    let following = Progress {
                        after: chunk.last,
                        failure: chunk.failure.take(),
                    };
                    (convert::synced(chunk), following)
                }))
            }
        });
        Ok(Response::new(answers))
    }

    async fn list_tipalti_events(
        &self,
        request: Request<proto::ListTipaltiEventsRequest>,
    ) -> Result<Response<proto::ListTipaltiEventsResponse>, Status> {
        let (filter, page) = convert::list_events(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_provider_events(NAME, &filter, &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }

    async fn list_payout_alarms(
        &self,
        request: Request<proto::ListPayoutAlarmsRequest>,
    ) -> Result<Response<proto::ListPayoutAlarmsResponse>, Status> {
        let (account_id, page) = convert::list_alarms(request.into_inner()).map_err(from_error)?;
        let page = self
            .billing
            .list_payout_alarms(account_id.as_ref(), &page)
            .await
            .map_err(from_error)?;
        Ok(Response::new(page.into()))
    }
}
