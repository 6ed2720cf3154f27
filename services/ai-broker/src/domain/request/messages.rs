//! `POST /v1/messages` of Anthropic's.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, InvalidRequest, MAX_OUTPUT, ModelRequest, ServiceTier, boolean, count, integer, non_empty_array};
use crate::domain::api::Api;
use crate::domain::media;

/// Tools that the provider runs itself and charges by the use: nobody here counts those.
const CHARGED_TOOLS: [&str; 2] = ["web_search", "code_execution"];

/// Fields that change the price, with the values that do not.
const PRICED_FIELDS: [(&str, &str); 2] = [("speed", "standard"), ("inference_geo", "global")];

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

impl ModelRequest {
    /// Reads a request for a message.
    pub(crate) fn messages(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        non_empty_array(fields.messages, "messages")?;
        // None at all fills the provider's cache.
        let max_output = integer(fields.max_tokens, "max_tokens", 0, MAX_OUTPUT)?;
        let max_output = max_output.ok_or_else(|| InvalidRequest::new("max_tokens", "`max_tokens` is required"))?;
        let stream = boolean(fields.stream, "stream")?.unwrap_or(false);
        refuse_uncounted(&fields)?;
        let media = media::measure(body, fields.messages, media::may_be_in_messages);
        Ok(Self {
            max_output: Some(max_output),
            stream,
            input_bytes: count(body.len() - media.bytes),
            media_parts: count(media.parts),
            ..Self::of_model(Api::Messages, &fields, body)?
        })
    }
}

impl ModelRequest {
    /// Reads a request to count the tokens of a message before it is sent.
    pub(crate) fn count_tokens(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        non_empty_array(fields.messages, "messages")?;
        Ok(Self { max_output: Some(0), tier: ServiceTier::Usual, ..Self::of_model(Api::CountTokens, &fields, body)? })
    }
}

/// What would cost more than the tokens say is refused: no call is half accounted for.
fn refuse_uncounted(fields: &Fields<'_>) -> Result<(), InvalidRequest> {
    for ((field, usual), value) in PRICED_FIELDS.into_iter().zip([fields.speed, fields.inference_geo]) {
        let value = value.map(RawValue::get).filter(|value| *value != "null");
        if value.is_some_and(|value| value.trim_matches('"') != usual) {
            let message = format!("`{field}` can only be `{usual}`: other values have prices of their own");
            return Err(InvalidRequest::new(field, message));
        }
    }
    let tools = fields.tools.and_then(|raw| serde_json::from_str::<Vec<Tool<'_>>>(raw.get()).ok());
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
    use bytes::Bytes;

    use super::*;

    fn read(more: &str) -> Result<ModelRequest, InvalidRequest> {
        let body =
            format!(r#"{{"model":"claude","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        ModelRequest::messages(body.as_bytes())
    }

    #[test]
    fn a_message_is_passed_on_but_for_its_models_name() {
        let body =
            Bytes::from_static(br#"{"max_tokens":9,"model":"fast","messages":[{}],"new":[1e400],"stream":true}"#);
        let request = ModelRequest::messages(&body).expect("valid");
        assert_eq!((request.max_output, request.stream, request.choices), (Some(9), true, 1));
        assert_eq!(request.upstream_body(&body, "fast", None).as_ptr(), body.as_ptr());
        let passed = request.upstream_body(&body, "claude", None);
        assert_eq!(&passed[..], br#"{"max_tokens":9,"model":"claude","messages":[{}],"new":[1e400],"stream":true}"#);
    }

    #[test]
    fn bad_input_names_the_parameter() {
        let param = |text: &str| ModelRequest::messages(text.as_bytes()).expect_err("refused").param;
        assert_eq!(param(r#"{"model":"m","messages":[{}]}"#), "max_tokens");
        assert_eq!(param(r#"{"model":"m","max_tokens":1,"messages":[]}"#), "messages");
        assert_eq!(param(r#"{"max_tokens":1,"messages":[{}]}"#), "model");
    }

    #[test]
    fn what_is_charged_beside_tokens_is_refused_by_name() {
        let param = |more: &str| read(more).expect_err("refused").param;
        assert_eq!(param(r#","speed":"fast""#), "speed");
        assert_eq!(param(r#","inference_geo":"us""#), "inference_geo");
        let search = r#","tools":[{"name":"own"},{"type":"web_search_20250305","name":"web_search"}]"#;
        assert_eq!(param(search), "tools[1].type");
        assert!(read(r#","speed":"standard","inference_geo":null,"tools":[{"type":"custom","name":"x"}]"#).is_ok());
    }

    #[test]
    fn pictures_and_documents_are_counted_apart() {
        let data = "A".repeat(9_000);
        let body = format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":[{{"type":"image","source":{{"type":"base64","data":"{data}"}}}},
            {{"type":"tool_result","content":[{{"type":"image","source":{{"type":"url","url":"https://a.b/c"}}}}]}}]}}]}}"#
        );
        let request = ModelRequest::messages(body.as_bytes()).expect("valid");
        assert_eq!(request.media_parts, 2);
        assert!(request.input_bytes < 500, "{}", request.input_bytes);
    }
}
