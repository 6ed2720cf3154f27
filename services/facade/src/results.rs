//! `GET /results/{organization}/{file}`: what jobs have stored, for whoever has its address.

mod range;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_proto::broker::v1::{Extent, ReadResultRequest, ReadResultResponse};
use weir_rpc::{Error, Failure};
use weir_types::OrganizationId;

use crate::api::Problem;
use crate::api::extract::ApiQuery;
use crate::facade::Facade;
use crate::refusal::Refusal;

/// The route, with its documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// What makes an address good that is not public.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Signed {
    /// Seconds since 1970.
    #[serde(default)]
    expires: i64,
    #[serde(default)]
    signature: String,
}

/// Reads a stored picture or sound. The address is the credential: signed and with an end, or public.
#[utoipa::path(
    get, path = "/results/{organization}/{file}", operation_id = "readResult", tag = "results", security(()),
    params(
        ("organization" = String, Path), ("file" = String, Path), Signed,
        ("If-None-Match" = Option<String>, Header, description = "Tags of what the reader has already."),
        ("Range" = Option<String>, Header, description = "One range of bytes; more than one is answered with the whole."),
        ("If-Range" = Option<String>, Header, description = "The range only of the file with this tag, else the whole."),
    ),
    responses(
        (status = 200, description = "The file. It never changes, so it may be kept: see `cache-control` and `etag`.", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, description = "The part of it that was asked for.", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "The reader has it already."),
        (status = 416, description = "It has no byte of that range."),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn read(
    State(facade): State<Arc<Facade>>,
    Path((organization, file)): Path<(String, String)>,
    ApiQuery(signed): ApiQuery<Signed>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let organization: OrganizationId =
        organization.parse().map_err(|_| Error::invalid("organization", "is no organisation's id"))?;
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let request = ReadResultRequest {
        organization: organization.to_string(),
        file,
        expires: signed.expires,
        signature: signed.signature,
        known_etags: headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|tags| tags.to_str().ok())
            .flat_map(tags)
            .collect(),
        range: range::parse(header(RANGE)),
        range_etag: header(IF_RANGE).to_owned(),
    };
    let answer = facade.results.clone().read_result(request).await;
    let answer = answer.map_err(|status| Refusal::from(Failure::from(status)))?.into_inner();
    Ok(respond(answer))
}

/// Our tags have no commas in them.
fn tags(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty())
}

fn respond(answer: ReadResultResponse) -> Response<Body> {
    let (extent, total, first) = (answer.extent(), answer.total_bytes, answer.first);
    let length = i64::try_from(answer.content.len()).unwrap_or(i64::MAX);
    let (status, range) = match extent {
        Extent::Whole | Extent::Unspecified => (StatusCode::OK, None),
        Extent::Part => {
            (StatusCode::PARTIAL_CONTENT, Some(format!("bytes {first}-{}/{total}", first.saturating_add(length) - 1)))
        }
        Extent::NotModified => (StatusCode::NOT_MODIFIED, None),
        Extent::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{total}"))),
    };
    let seconds = answer.fresh_for.map_or(0, |span| span.seconds.max(0));
    let whose = if answer.public { "public" } else { "private" };
    let mut response = Response::new(Body::from(answer.content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    set(ETAG, &answer.etag);
    set(ACCEPT_RANGES, "bytes");
    set(CACHE_CONTROL, &format!("{whose}, max-age={seconds}, immutable"));
    if let Some(range) = &range {
        set(CONTENT_RANGE, range);
    }
    if matches!(extent, Extent::Whole | Extent::Part) {
        set(CONTENT_TYPE, &answer.content_type);
        // What is stored is a picture or a sound, whatever a browser sees in it.
        set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    }
    response
}
