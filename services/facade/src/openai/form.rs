//! What a form (`multipart/form-data`) asks for, as far as the answer's way depends on it. All else of it is the broker's to judge.

use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use memchr::memmem;
use weir_proto::broker::v1::Operation;

use crate::calls::{self, Asked};
use crate::facade::Facade;
use crate::refusal::Refusal;
use crate::shape::Shape;

/// Asks the broker, with the form as it came.
pub(super) async fn call(facade: &Facade, request: Request, operation: Operation) -> Result<Response<Body>, Refusal> {
    let mut asked = Asked::from(operation);
    if let Some(kind) = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        asked.headers.insert(CONTENT_TYPE.to_string(), kind.to_owned());
    }
    let incoming = facade.receive_upload(request).await?;
    let streams = asked.headers.get(CONTENT_TYPE.as_str()).is_some_and(|kind| streams(kind, &incoming.body));
    if streams {
        calls::stream(facade, incoming, asked, Shape::OpenAi).await
    } else {
        calls::invoke(facade, incoming, asked, Shape::OpenAi).await
    }
}

/// Whether the field `stream` is true.
fn streams(content_type: &str, body: &[u8]) -> bool {
    let boundary = content_type.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="));
    let Some(boundary) = boundary.map(|value| value.trim_matches('"')).filter(|value| !value.is_empty()) else {
        return false;
    };
    let delimiter = format!("--{boundary}");
    let starts: Vec<usize> = memmem::find_iter(body, delimiter.as_bytes()).collect();
    starts.windows(2).map(|ends| &body[ends[0] + delimiter.len()..ends[1]]).any(|part| {
        let Some(head) = memmem::find(part, b"\r\n\r\n") else { return false };
        memmem::find(&part[..head], b"name=\"stream\"").is_some()
            && part[head..].trim_ascii().eq_ignore_ascii_case(b"true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_asked_for_by_its_own_field_alone() {
        let form = |field: &str, value: &str| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nname=\"stream\"\r\n\r\ntrue\r\n--b\r\n\
                 Content-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n--b--\r\n"
            )
        };
        let asks = |field, value| streams("multipart/form-data; boundary=b", form(field, value).as_bytes());
        assert!(asks("stream", "true") && asks("stream", "True"));
        assert!(!asks("stream", "false") && !asks("prompt", "true"));
        assert!(!streams("application/json", form("stream", "true").as_bytes()));
        assert!(streams("multipart/form-data; boundary=\"b\"", form("stream", "true").as_bytes()));
    }
}
