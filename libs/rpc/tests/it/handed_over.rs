//! Messages within a process go over as they are, and between processes as bytes, whatever is mixed.

use std::sync::Arc;

use bytes::Bytes;
use weir_discovery::{Directory, Static};
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{InvokeRequest, StreamInvokeRequest};
use weir_rpc::testing::Deployment;
use weir_rpc::{Channel, ServiceIdentity};

use crate::harness::{Broker, Client, Server, body, local, serve, stacked};

/// A client of a broker behind a socket.
async fn remote(deployment: &Deployment, broker: Broker) -> (Client, Server) {
    let server = serve(stacked(deployment, broker).await, "127.0.0.1:0").await;
    let directory: Arc<dyn Directory> = Arc::new(Static::default().with("ai-broker", [server.address.into()]));
    let identity = ServiceIdentity::new("facade", deployment.master());
    (Client::new(Channel::remote(&directory, "ai-broker", identity, deployment.config())), server)
}

/// What a broker makes of a body that it answers as it is, and whether it is the very same memory.
async fn sent_back(client: &mut Client) -> (Bytes, bool) {
    let sent = Bytes::from(format!("as it is: {}", "x".repeat(1000)));
    let request = InvokeRequest { body: sent.clone(), ..Default::default() };
    let body = client.invoke(request).await.unwrap().into_inner().body;
    let same = body.as_ptr() == sent.as_ptr();
    assert_eq!(body, sent);
    (body, same)
}

/// All chunks of a stream.
async fn chunks(client: &mut Client, of: &str) -> Vec<String> {
    let request = StreamInvokeRequest { request: Some(body(of)) };
    let mut parts = client.stream_invoke(request).await.unwrap().into_inner();
    let mut chunks = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        let Some(Part::Chunk(chunk)) = part.part else { panic!("{part:?}") };
        chunks.push(String::from_utf8(chunk.to_vec()).unwrap());
    }
    chunks
}

#[tokio::test]
async fn within_a_process_nothing_is_copied_and_between_processes_everything_is() {
    let deployment = Deployment::new().await;
    let mut here = local(&deployment, Broker::default()).await;
    let (mut there, _server) = remote(&deployment, Broker::default()).await;
    assert!(sent_back(&mut here).await.1);
    assert!(!sent_back(&mut there).await.1);
}

#[tokio::test]
async fn a_stream_that_asks_others_while_it_is_read_keeps_its_order() {
    let deployment = Deployment::new().await;
    let here = local(&deployment, Broker::default()).await;
    let (there, _server) = remote(&deployment, Broker::default()).await;
    for next in [here, there] {
        let broker = Broker { next: Some(next), ..Broker::default() };
        let mut asking = local(&deployment, broker.clone()).await;
        assert_eq!(chunks(&mut asking, "asks").await, ["one", "0", "1", "2", "two"]);
        let (mut asking, _server) = remote(&deployment, broker).await;
        assert_eq!(chunks(&mut asking, "asks").await, ["one", "0", "1", "2", "two"]);
    }
}
