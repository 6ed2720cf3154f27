//! Who is calling, by the `authorization` of the request.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use weir_proto::common::v1::ErrorReason;

use crate::{Caller, Error, Verifier};

const SCHEME: &[u8] = b"bearer ";

/// The caller that the request's token stands for.
pub(super) async fn caller(verifier: &Verifier, headers: &HeaderMap) -> Result<Arc<Caller>, Error> {
    let refused = |message| Error::new(ErrorReason::Unauthenticated, message);
    let header = headers.get(AUTHORIZATION).ok_or_else(|| refused("no credential"))?.as_bytes();
    let (scheme, token) =
        header.split_at_checked(SCHEME.len()).ok_or_else(|| refused("the credential is malformed"))?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(refused("expected a bearer token"));
    }
    if let Some(known) = verifier.known(token) {
        return known;
    }
    let token = std::str::from_utf8(token).map_err(|_| refused("the token is malformed"))?;
    verifier.verify(token).await
}
