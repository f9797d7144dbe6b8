//! Gives a reason to errors that tonic answers before a handler is called (a message too large, invalid UTF-8, an unknown
//! method), and ends calls whose time is up. Every error of this service carries an `ErrorInfo`.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tonic::Status;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::deadline;
use super::status::from_transport;

/// Wraps a service in [`ErrorDetails`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorDetailsLayer;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct ErrorDetails<S> {
    inner: S,
}

impl<S> Layer<S> for ErrorDetailsLayer {
    type Service = ErrorDetails<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ErrorDetails { inner }
    }
}

impl<S, B, C> Service<Request<B>> for ErrorDetails<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    S::Future: Send + 'static,
    C: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let deadline = deadline::of(request.headers());
        let response = self.inner.call(request);
        Box::pin(async move {
            tokio::select! {
                response = response => response.map(explain),
                () = deadline::passed(deadline) => Ok(deadline::exceeded().into_http()),
            }
        })
    }
}

/// Only answers without a body carry their status in the headers; streams map theirs themselves.
fn explain<B: Default>(mut response: Response<B>) -> Response<B> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != tonic::Code::Ok && status.details().is_empty() => {
            let mut explained = from_transport(status).into_http();
            *explained.extensions_mut() = std::mem::take(response.extensions_mut());
            explained
        }
        _ => response,
    }
}
