//! What every directory with registrations does.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use weir_discovery::{Directory, Endpoint, Instance};

pub(crate) fn instance(service: &str, id: &str, port: u16) -> Instance {
    Instance { service: service.to_owned(), id: id.to_owned(), endpoint: format!("127.0.0.1:{port}").parse().unwrap() }
}

/// Waits until the watch says exactly these ports.
pub(crate) async fn until(watch: &mut BoxStream<'static, Vec<Endpoint>>, ports: &[u16]) {
    let mut last = Vec::new();
    let seen = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(endpoints) = watch.next().await {
            last = endpoints.iter().map(Endpoint::port).collect();
            if last == ports {
                return;
            }
        }
    });
    assert!(seen.await.is_ok(), "expected {ports:?}, the last answer was {last:?}");
}

/// Instances come, go, and run out; services don't mix.
pub(crate) async fn suite(directory: Arc<dyn Directory>) {
    let mut quota = directory.watch("quota");
    until(&mut quota, &[]).await;

    let first = directory.register(instance("quota", "quota-1", 7001)).await.unwrap();
    until(&mut quota, &[7001]).await;
    let second = directory.register(instance("quota", "quota-2", 7002)).await.unwrap();
    let other = directory.register(instance("usage", "usage-1", 7003)).await.unwrap();
    until(&mut quota, &[7001, 7002]).await;
    let mut usage = directory.watch("usage");
    until(&mut usage, &[7003]).await;

    // Announced anew (the process was restarted in place): it is still one instance.
    let again = directory.register(instance("quota", "quota-2", 7004)).await.unwrap();
    until(&mut quota, &[7001, 7004]).await;
    drop(second);

    first.end().await;
    until(&mut quota, &[7004]).await;

    // Longer than the time to live: heartbeats keep it.
    assert!(tokio::time::timeout(Duration::from_millis(2500), quota.next()).await.is_err());

    // Killed: it says nothing more, and runs out.
    drop(again);
    until(&mut quota, &[]).await;
    other.end().await;
    until(&mut usage, &[]).await;
}
