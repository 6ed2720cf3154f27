//! `POST /v1/responses` of OpenAI's.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, InvalidRequest, MAX_OUTPUT, ModelRequest, boolean, count, integer};
use crate::domain::api::Api;
use crate::domain::media;

/// Tools that the provider runs itself and charges by the use: nobody here counts those.
const CHARGED_TOOLS: [&str; 5] = ["web_search", "file_search", "code_interpreter", "image_generation", "shell"];

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

impl ModelRequest {
    /// Reads a request for a response.
    pub(crate) fn responses(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        if fields.input.is_none_or(|input| !input.get().starts_with(['"', '['])) && fields.prompt.is_none() {
            return Err(InvalidRequest::new("input", "`input` is required and must be a string or an array"));
        }
        let max_output = integer(fields.max_output_tokens, "max_output_tokens", 1, MAX_OUTPUT)?;
        let stream = boolean(fields.stream, "stream")?.unwrap_or(false);
        if boolean(fields.background, "background")?.unwrap_or(false) {
            let message = "`background` can't be true: what is used after the answer would not be counted";
            return Err(InvalidRequest::new("background", message));
        }
        refuse_uncounted(fields.tools)?;
        let media = media::measure(body, fields.input, media::may_be_in_response);
        // What the provider keeps of earlier turns is input, too, and only its context bounds it.
        let kept = [fields.previous_response_id, fields.conversation, fields.prompt];
        let is_known = kept.into_iter().flatten().all(|raw| raw.get() == "null");
        Ok(Self {
            max_output,
            stream,
            input_bytes: if is_known { count(body.len() - media.bytes) } else { i64::MAX },
            media_parts: count(media.parts),
            ..Self::of_model(Api::Responses, &fields, body)?
        })
    }
}

fn refuse_uncounted(tools: Option<&RawValue>) -> Result<(), InvalidRequest> {
    let tools = tools.and_then(|raw| serde_json::from_str::<Vec<Tool<'_>>>(raw.get()).ok());
    for (index, tool) in tools.iter().flatten().enumerate() {
        let Some(kind) = tool.kind.as_deref() else { continue };
        if CHARGED_TOOLS.iter().any(|charged| kind.starts_with(charged)) {
            let field = format!("tools[{index}].type");
            let message =
                format!("`{field}` can't be `{kind}`: its provider charges by the use, which is not counted here");
            return Err(InvalidRequest::new(field, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<ModelRequest, InvalidRequest> {
        ModelRequest::responses(format!(r#"{{"model":"m","input":"hi"{more}}}"#).as_bytes())
    }

    #[test]
    fn a_response_is_bounded_by_its_own_field() {
        let request = read(r#","max_output_tokens":7,"stream":true"#).expect("valid");
        assert_eq!((request.max_output, request.stream, request.input_bytes < 100), (Some(7), true, true));
        assert_eq!(read("").expect("valid").max_output, None);
    }

    #[test]
    fn what_the_provider_remembers_is_bounded_by_its_context_alone() {
        for more in [r#","previous_response_id":"r""#, r#","conversation":{"id":"c"}"#, r#","prompt":{"id":"p"}"#] {
            assert_eq!(read(more).expect("valid").input_bytes, i64::MAX, "{more}");
        }
        assert!(read(r#","previous_response_id":null"#).expect("valid").input_bytes < 100);
    }

    #[test]
    fn what_would_not_be_counted_is_refused_by_name() {
        let param = |more: &str| read(more).expect_err("refused").param;
        assert_eq!(param(r#","background":true"#), "background");
        assert_eq!(param(r#","tools":[{"type":"function"},{"type":"web_search"}]"#), "tools[1].type");
        assert_eq!(param(r#","max_output_tokens":0"#), "max_output_tokens");
        assert_eq!(ModelRequest::responses(br#"{"model":"m"}"#).expect_err("refused").param, "input");
    }

    #[test]
    fn pictures_in_the_input_are_counted_apart() {
        let url = format!("data:image/png;base64,{}", "A".repeat(9_000));
        let body = format!(
            r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_image","image_url":"{url}"}},
            {{"type":"input_file","file_data":"{url}"}}]}}]}}"#
        );
        let request = ModelRequest::responses(body.as_bytes()).expect("valid");
        assert_eq!((request.media_parts, request.input_bytes < 1_000), (2, true));
    }
}
