//! Reservations, one call each.

use std::cell::RefCell;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;
use uuid::Uuid;
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::quota::v1::{ReserveRequest, Subject};
use weir_rpc::Channel;

use crate::tenants::Tenant;

/// A client of quota, or of what stands in for it.
pub(super) type Client = QuotaServiceClient<Channel>;

/// A reservation that was made, as it is settled.
pub(super) struct Held {
    pub(super) id: String,
    pub(super) organization: String,
    pub(super) handle: bytes::Bytes,
}

/// What became of a load.
pub(super) struct Sent {
    pub(super) took: Duration,
    /// Of each call, or each operation of a stream.
    pub(super) times: Vec<Duration>,
    pub(super) held: Vec<Held>,
}

/// Requests of the tenants in turn.
pub(super) fn requests(tenants: &[Tenant], count: usize) -> Vec<ReserveRequest> {
    let amount = |unit: &str, value| Amount { unit: unit.to_owned(), value };
    let request = |number: usize| {
        let tenant = &tenants[number % tenants.len()];
        ReserveRequest {
            reservation_id: Uuid::now_v7().to_string(),
            subject: Some(Subject {
                organization: tenant.organization.clone(),
                user: tenant.user.clone(),
                api_key: tenant.api_key.clone(),
                ..Subject::default()
            }),
            amounts: vec![amount("request", 1), amount("token", 3_000), amount("nano_usd", 40_000)],
            // Longer than the bench: nobody takes them over.
            lease: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
            context: vec![7; 200].into(),
            limits: Vec::new(),
        }
    };
    (0..count).map(request).collect()
}

/// The organisation of a request.
pub(super) fn organization(request: &ReserveRequest) -> String {
    request.subject.as_ref().map(|subject| subject.organization.clone()).unwrap_or_default()
}

/// Sends requests, `at_once` of them under way all the time.
///
/// # Errors
/// One was refused.
pub(super) async fn unary(client: &Client, requests: Vec<ReserveRequest>, at_once: usize) -> anyhow::Result<Sent> {
    let count = requests.len();
    let queue = RefCell::new(requests);
    let (times, held) = (RefCell::new(Vec::with_capacity(count)), RefCell::new(Vec::with_capacity(count)));
    let start = Instant::now();
    let caller = async || {
        let mut client = client.clone();
        loop {
            let Some(request) = queue.borrow_mut().pop() else { return anyhow::Ok(()) };
            let (id, organization) = (request.reservation_id.clone(), organization(&request));
            let sent = Instant::now();
            let answer = client.reserve(request).await?.into_inner();
            times.borrow_mut().push(sent.elapsed());
            held.borrow_mut().push(Held { id, organization, handle: answer.handle });
        }
    };
    try_join_all((0..at_once).map(|_| caller())).await?;
    Ok(Sent { took: start.elapsed(), times: times.into_inner(), held: held.into_inner() })
}
