//! What handlers take from a request. A handler that names [`By`] first refuses strangers before it reads anything else.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::problem::Problem;
use crate::credentials::Caller;
use crate::facade::Facade;

/// Who calls.
pub(crate) struct By(pub(crate) Arc<Caller>);

impl FromRequestParts<Arc<Facade>> for By {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, facade: &Arc<Facade>) -> Result<Self, Problem> {
        Ok(Self(facade.credentials.caller(&parts.headers).await?))
    }
}

/// A JSON body. Unknown fields are refused by the types themselves.
pub(crate) struct ApiJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Facade>> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, facade: &Arc<Facade>) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        Ok(Self(object(&facade.api_body.read(&head.headers, body).await?)?))
    }
}

/// A JSON body with calls to models in it: as large as those may be.
pub(crate) struct LargeJson<T>(pub(crate) T);

impl<T: DeserializeOwned> LargeJson<T> {
    /// For handlers that need the head of the request, too.
    pub(crate) async fn read(request: Request, facade: &Facade) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        Ok(Self(object(&facade.model_body.read(&head.headers, body).await?)?))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Facade>> for LargeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, facade: &Arc<Facade>) -> Result<Self, Problem> {
        Self::read(request, facade).await
    }
}

/// An object; what is wrong is said with its path.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    // Without this an array of the fields' values would do, too.
    if body.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
        return Err(mistake("body", ".", "it must be an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = if error.inner().is_data() { error.path().to_string() } else { ".".to_owned() };
        mistake("body", &path, error.inner())
    })?;
    deserializer.end().map_err(|error| mistake("body", ".", error))?;
    Ok(value)
}

/// A query string. Unknown parameters are refused by the types themselves.
pub(crate) struct ApiQuery<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Facade>> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Facade>) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                // "Failed to deserialize query string: page_size: invalid digit found in string"
                let text = rejection.body_text();
                let text = text.split_once(": ").map_or(text.as_str(), |(_, text)| text);
                let is_name =
                    |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                Err(match text.split_once(": ").filter(|(name, _)| is_name(name)) {
                    Some((parameter, message)) => wrong("query", parameter, message),
                    None => wrong("query", ".", text),
                })
            }
        }
    }
}

/// No query string: a parameter that nobody reads is a mistake of the caller's.
pub(crate) struct NoQuery;

impl FromRequestParts<Arc<Facade>> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Facade>) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(query) => {
                let parameter = query.split(['=', '&']).next().unwrap_or_default();
                Err(Error::invalid(parameter, "is not known: there are no parameters here").into())
            }
        }
    }
}

/// The id in a path. What is no id names nothing.
pub(crate) struct ApiPath<T>(pub(crate) T);

impl<T: FromStr> FromRequestParts<Arc<Facade>> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, facade: &Arc<Facade>) -> Result<Self, Problem> {
        let segment: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, facade).await;
        let id = segment.ok().and_then(|Path(segment)| segment.parse().ok());
        Ok(Self(id.ok_or_else(|| Error::new(ErrorReason::NotFound, "There is nothing of this id."))?))
    }
}

/// A part of the request can't be read; at `path`, unless that is `.`.
fn wrong(part: &str, path: &str, error: impl std::fmt::Display) -> Problem {
    mistake(part, path, error).into()
}

fn mistake(part: &str, path: &str, error: impl std::fmt::Display) -> Error {
    let error = plain(&error.to_string());
    if path == "." {
        return Error::new(ErrorReason::InvalidArgument, format!("The {part} can't be read: {error}"));
    }
    Error::invalid(path, error)
}

/// serde's words without the names of our types, which say nothing to a caller.
fn plain(error: &str) -> String {
    match error.split_once("expected struct ") {
        Some((before, after)) => {
            let rest = after.find(' ').map_or("", |end| &after[end..]);
            format!("{before}expected an object{rest}")
        }
        None => error.to_owned(),
    }
}
