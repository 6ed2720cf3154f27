//! The broker's own errors as the closed set of `weir_rpc`.

use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use crate::domain::request::InvalidRequest;

/// A request that is refused before anything is reserved.
pub(crate) fn invalid_request(error: InvalidRequest) -> Error {
    let refused = Error::new(ErrorReason::InvalidArgument, error.message.clone());
    // The message names the field already, and a body as a whole has no field.
    if error.param.is_empty() { refused } else { refused.field(error.param, error.message) }
}

#[cfg(test)]
mod tests {
    use super::invalid_request;
    use crate::domain::request::ModelRequest;

    #[test]
    fn a_message_names_a_field_once_and_none_for_the_body() {
        let status = |body: &[u8]| {
            let refused = ModelRequest::chat(body).expect_err("refused");
            tonic::Status::from(invalid_request(refused)).message().to_owned()
        };
        assert_eq!(status(br#"{"model": "m", "messages": []}"#), "`messages` must not be empty");
        assert!(status(b"{").starts_with("the body is not valid JSON"), "{}", status(b"{"));
    }
}
