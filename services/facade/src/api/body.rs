//! What a request brings: a JSON body and a query, read strictly.

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::problem::{Problem, unreadable};

/// Bodies of our own API are small.
const MAX_BODY: usize = 64 << 10;

/// A JSON body. Unknown fields are refused by the types themselves.
pub(crate) struct ApiJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let too_large = || Error::new(ErrorReason::TooLarge, format!("the body is larger than {MAX_BODY} bytes"));
        let body = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| too_large())?;
        serde_json::from_slice(&body).map(Self).map_err(|error| unreadable(format!("the body can't be read: {error}")))
    }
}

/// A query string. Unknown parameters are refused by the types themselves.
pub(crate) struct ApiQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(unreadable(format!("the query can't be read: {}", rejection.body_text()))),
        }
    }
}
