//! What is asked of the broker.

use std::time::Duration;

use serde_json::{Value, json};
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{
    Accounting, GetStatusRequest, GetStatusResponse, InvokeRequest, InvokeResponse, ListModelsRequest, Operation,
    StreamInvokeRequest,
};
use weir_rpc::Failure;

use super::Scene;

impl Scene {
    pub(crate) async fn models(&self) -> Vec<String> {
        let answer = self.broker.clone().list_models(self.bearer.request(ListModelsRequest {})).await;
        answer.unwrap().into_inner().models.into_iter().map(|model| model.id).collect()
    }

    /// A plain call as it is.
    pub(crate) async fn invoke_request(&self, request: InvokeRequest) -> Result<InvokeResponse, Failure> {
        let request = self.bearer.request(request);
        self.broker.clone().invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A stream as it is.
    pub(crate) async fn stream_request(
        &self,
        request: InvokeRequest,
    ) -> Result<tonic::Streaming<weir_proto::broker::v1::StreamInvokeResponse>, Failure> {
        let request = self.bearer.request(StreamInvokeRequest { request: Some(request) });
        self.broker.clone().stream_invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A plain call of another kind.
    pub(crate) async fn invoke_as(&self, operation: Operation, body: &Value) -> Result<InvokeResponse, Failure> {
        let request = InvokeRequest { operation: operation.into(), ..invocation(body.to_string()) };
        let request = self.bearer.request(request);
        self.broker.clone().invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A stream of another kind.
    pub(crate) async fn stream_as(
        &self,
        operation: Operation,
        body: &Value,
    ) -> Result<tonic::Streaming<weir_proto::broker::v1::StreamInvokeResponse>, Failure> {
        let request = InvokeRequest { operation: operation.into(), ..invocation(body.to_string()) };
        let request = self.bearer.request(StreamInvokeRequest { request: Some(request) });
        self.broker.clone().stream_invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A plain call.
    pub(crate) async fn invoke(&self, body: &Value) -> Result<InvokeResponse, Failure> {
        self.invoke_raw(body.to_string()).await
    }

    /// A call whose caller waits no longer than that.
    pub(crate) async fn invoke_within(&self, body: &Value, patience: Duration) -> Result<InvokeResponse, Failure> {
        let mut request = self.bearer.request(invocation(body.to_string()));
        request.set_timeout(patience);
        self.broker.clone().invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A call of the other organisation.
    pub(crate) async fn invoke_of_stranger(&self, body: &Value) -> Result<InvokeResponse, Failure> {
        let request = self.stranger.request(invocation(body.to_string()));
        self.broker.clone().invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// What operators are told of the broker.
    pub(crate) async fn status(&self) -> GetStatusResponse {
        self.operator.clone().get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }

    /// A call that is not critical.
    pub(crate) async fn invoke_spare(&self, body: &Value) -> Result<InvokeResponse, Failure> {
        let mut request = self.bearer.request(invocation(body.to_string()));
        request.metadata_mut().insert("weir-priority", "non-critical".parse().unwrap());
        self.broker.clone().invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    pub(crate) async fn invoke_raw(&self, body: String) -> Result<InvokeResponse, Failure> {
        let request = self.bearer.request(invocation(body));
        self.broker.clone().invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A stream.
    pub(crate) async fn stream(
        &self,
        body: &Value,
    ) -> Result<tonic::Streaming<weir_proto::broker::v1::StreamInvokeResponse>, Failure> {
        let request = self.bearer.request(StreamInvokeRequest { request: Some(invocation(body.to_string())) });
        self.broker.clone().stream_invoke(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// A stream read to its end: its text, its accounting, its error.
    pub(crate) async fn stream_whole(&self, body: &Value) -> (String, Option<Accounting>, Option<Failure>) {
        Self::whole(self.stream(body).await.unwrap()).await
    }

    /// Reads a stream to its end: its text, its accounting, its error.
    pub(crate) async fn whole(
        mut parts: tonic::Streaming<weir_proto::broker::v1::StreamInvokeResponse>,
    ) -> (String, Option<Accounting>, Option<Failure>) {
        let (mut text, mut accounting) = (Vec::new(), None);
        loop {
            match parts.message().await {
                Ok(Some(part)) => match part.part.unwrap() {
                    Part::Start(_) | Part::Queued(_) => {}
                    Part::Chunk(chunk) => text.extend_from_slice(&chunk),
                    Part::Accounting(end) => accounting = Some(end),
                },
                Ok(None) => return (String::from_utf8(text).unwrap(), accounting, None),
                Err(status) => return (String::from_utf8(text).unwrap(), accounting, Some(Failure::from(&status))),
            }
        }
    }
}

fn invocation(body: String) -> InvokeRequest {
    InvokeRequest { operation: Operation::ChatCompletions.into(), body: body.into(), ..Default::default() }
}

/// A chat of five input tokens and `output` output tokens, told to the provider with `directive`.
pub(crate) fn chat(output: u32, directive: &str) -> Value {
    json!({
        "model": "sim-small",
        "messages": [{"role": "user", "content": "one two three four five"}],
        "max_tokens": output,
        "metadata": {"simulate": directive},
    })
}

pub(crate) fn streamed(output: u32, directive: &str) -> Value {
    let mut body = chat(output, directive);
    body["stream"] = true.into();
    body
}
