//! Who makes a call, as [`super::authentication_layer`] found it.

use tonic::{Request, Status};

use super::status::from_error;
use crate::domain::error::{Error, Reason};
use crate::domain::permissions::Identity;

/// The caller of a request. A request that came past authentication has none, and is refused.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Identity, Status> {
    let found = request.extensions().get::<Identity>();
    found.cloned().ok_or_else(|| from_error(unauthenticated()))
}

/// What a caller is told who is not known, whatever the cause: the log has it.
pub(crate) fn unauthenticated() -> Error {
    Error::refused(
        Reason::Unauthenticated,
        "the caller is not known: send a valid bearer token, or connect with a client certificate that has a name",
    )
}
