//! One log line a call: its method, who called, how it ended and how long it took, at a level that its code asks for. Streams are logged
//! when they begin; what ends them is answered to the caller. Never what was sent or answered.

use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::domain::permissions::Identity;

/// Wraps a service in [`CallLog`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallLogLayer;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct CallLog<S> {
    inner: S,
}

impl<S> Layer<S> for CallLogLayer {
    type Service = CallLog<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallLog { inner }
    }
}

impl<S, B, C> Service<Request<B>> for CallLog<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let start = Instant::now();
        let method = request.uri().path().to_owned();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            let status = Status::from_header_map(response.headers());
            let caller = response.extensions().get::<Identity>();
            log(
                &method,
                caller.map(Identity::name),
                status.map_or(Code::Ok, |status| status.code()),
                start,
            );
            Ok(response)
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other codes are the caller's doing")]
fn log(method: &str, caller: Option<&str>, code: Code, start: Instant) {
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    match code {
        Code::Ok => tracing::debug!(method, caller, ?code, micros, "call"),
        Code::Internal | Code::Unknown | Code::DataLoss => tracing::error!(method, caller, ?code, micros, "call"),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
            tracing::warn!(method, caller, ?code, micros, "call")
        }
        _ => tracing::info!(method, caller, ?code, micros, "call"),
    }
}
