//! Says who calls, before anything looks at what is asked for.

use std::task::{Context, Poll};

use tonic::codegen::http::Request;
use tower::{Layer, Service};

use crate::domain::permissions::Identity;

/// Wraps a service in [`Authenticating`].
#[derive(Debug, Clone)]
pub(crate) struct AuthenticationLayer {
    identity: Identity,
}

impl AuthenticationLayer {
    /// Takes everybody for the same caller, who may do everything.
    pub(crate) fn new() -> Self {
        Self {
            identity: Identity::unauthenticated(),
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Authenticating<S> {
    inner: S,
    identity: Identity,
}

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authenticating<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticating {
            inner,
            identity: self.identity.clone(),
        }
    }
}

impl<S, B> Service<Request<B>> for Authenticating<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.identity.clone());
        self.inner.call(request)
    }
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
