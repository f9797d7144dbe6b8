//! Gives a reason to errors that tonic answers before a handler is called (a message too large, invalid UTF-8, an unknown
//! method), refuses what is HTTP but no gRPC, and ends calls whose time is up. Every error of this service carries an `ErrorInfo`.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tonic::codegen::http::header::CONTENT_TYPE;
use tonic::codegen::http::{HeaderValue, Method, Request, Response, StatusCode};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::deadline;
use super::status::{from_transport, plain};
use crate::proto::ErrorReason;

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
    C: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(refused) = refuse_other_protocols(&request) {
            return Box::pin(async move { Ok(refused) });
        }
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

/// With HTTP's own status, as gRPC's specification wants it, besides a reason: tonic would take any content type.
fn refuse_other_protocols<Q, B: Default>(request: &Request<Q>) -> Option<Response<B>> {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let (status, message) = if request.method() != Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "gRPC is called with POST")
    } else if !content_type.is_some_and(is_grpc) {
        let message = "the content type must be application/grpc or application/grpc+proto";
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    } else {
        return None;
    };
    let mut refused = plain(Code::InvalidArgument, ErrorReason::MalformedMessage, message).into_http();
    *refused.status_mut() = status;
    Some(refused)
}

fn is_grpc(content_type: &[u8]) -> bool {
    let parameters = |rest: &[u8]| matches!(rest.first(), None | Some(b';'));
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| parameters(rest) || rest.strip_prefix(b"+proto").is_some_and(parameters))
}

/// Only answers without a body carry their status in the headers; streams map theirs themselves.
fn explain<B: Default>(mut response: Response<B>) -> Response<B> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok && status.details().is_empty() => {
            let mut explained = from_transport(status).into_http();
            *explained.extensions_mut() = std::mem::take(response.extensions_mut());
            explained
        }
        _ => response,
    }
}
