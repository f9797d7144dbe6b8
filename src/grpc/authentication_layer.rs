//! Says who calls, and refuses who may not, before anything looks at what is asked for: a caller who may not call learns
//! nothing of what exists. The caller goes on with the request (`caller.rs`), and with the response to the log.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};

use super::caller::unauthenticated;
use super::connections::Peer;
use super::status::from_error;
use crate::authentication::{Authentication, Unknown};
use crate::domain::error::Result;
use crate::domain::permissions::{Identity, Need, Rpc, need};

/// Wraps a service in [`Authenticating`].
#[derive(Debug, Clone)]
pub(crate) struct AuthenticationLayer {
    authentication: Authentication,
}

impl AuthenticationLayer {
    pub(crate) fn new(authentication: Authentication) -> Self {
        Self { authentication }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Authenticating<S> {
    inner: S,
    authentication: Authentication,
}

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authenticating<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticating {
            inner,
            authentication: self.authentication.clone(),
        }
    }
}

impl<S, B, C> Service<Request<B>> for Authenticating<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    C: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let rpc = Rpc::of_path(request.uri().path());
        if rpc.is_some_and(|rpc| need(rpc) == Need::Nothing) {
            return Box::pin(self.inner.call(request));
        }
        let identity = match identify(&self.authentication, &request) {
            Ok(identity) => identity,
            Err(unknown) => {
                log_unknown(&request, &unknown);
                let refused = from_error(unauthenticated()).into_http();
                return Box::pin(async move { Ok(refused) });
            }
        };
        if let Err(error) = check(&identity, rpc) {
            let mut refused = from_error(error).into_http();
            refused.extensions_mut().insert(identity);
            return Box::pin(async move { Ok(refused) });
        }
        // What is behind has no use for it, and can't show what it has not.
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(identity.clone());
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            response.extensions_mut().insert(identity);
            Ok(response)
        })
    }
}

/// A path that is no RPC is answered as such, to those who are known.
fn check(identity: &Identity, rpc: Option<Rpc>) -> Result<()> {
    rpc.map_or(Ok(()), |rpc| identity.check(rpc))
}

fn identify<B>(authentication: &Authentication, request: &Request<B>) -> std::result::Result<Identity, Unknown> {
    if !authentication.is_on() {
        return Ok(Identity::unauthenticated());
    }
    let peer = request.extensions().get::<Peer>();
    let certificate_name = peer.and_then(|peer| peer.certificate_name.as_deref());
    authentication.identify(bearer_token(request.headers())?, certificate_name)
}

/// What stands behind `Bearer `. A header that is there but is not that does not count as none.
fn bearer_token(headers: &HeaderMap) -> std::result::Result<Option<&str>, Unknown> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Unknown("there are several authorization headers".to_owned()));
    }
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        Some(_) | None => Err(Unknown("the authorization header is no bearer token".to_owned())),
    }
}

fn log_unknown<B>(request: &Request<B>, unknown: &Unknown) {
    let extensions = request.extensions();
    let over_tls = extensions.get::<Peer>().map(|peer| peer.address);
    let plain = || extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let peer = over_tls.or_else(plain).map(tracing::field::display);
    tracing::info!(method = request.uri().path(), peer, reason = %unknown.0, "a caller is not known");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use crate::domain::permissions::Rpc;
    use crate::proto;

    fn paths(descriptors: &[u8]) -> Vec<String> {
        let set = FileDescriptorSet::decode(descriptors).unwrap();
        let mut paths = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        paths
    }

    /// That each has a row in the table of permissions is the compiler's to see; that the list has all that is served is seen
    /// here.
    #[test]
    fn every_rpc_that_is_served_has_a_row_in_the_table() {
        let mut served = BTreeSet::new();
        for descriptors in [
            proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let found = paths(descriptors);
            assert!(!found.is_empty());
            served.extend(found);
        }
        let listed: BTreeSet<String> = Rpc::ALL.iter().map(|rpc| rpc.path().to_owned()).collect();
        assert_eq!(served, listed);
        for path in &served {
            assert_eq!(Rpc::of_path(path).map(Rpc::path), Some(path.as_str()));
        }
        assert_eq!(Rpc::of_path("/affiliate.billing.v1.BalancesService/postEntries"), None);
    }
}
