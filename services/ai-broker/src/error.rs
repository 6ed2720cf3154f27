//! The broker's own errors as the closed set of `weir_rpc`.

use weir_rpc::Error;

use crate::domain::request::InvalidRequest;

/// A request that is refused before anything is reserved.
pub(crate) fn invalid_request(error: InvalidRequest) -> Error {
    Error::invalid(error.param.into_owned(), error.message)
}
