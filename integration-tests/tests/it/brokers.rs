//! Several brokers in front of one provider, and what that has seen of them.

use std::time::Duration;

use weir_integration_tests::deployment::Deployment;
use weir_integration_tests::process::{Process, Program, weir_executable};
use weir_integration_tests::provider::Provider;
use weir_launcher::free_port;
use weir_simulator::Served;

/// Another broker of the same deployment.
pub(crate) async fn second_broker(deployment: &Deployment) -> Process {
    let address = || format!("127.0.0.1:{}", free_port().unwrap());
    let (listen, admin) = (address(), address());
    let program = Program {
        name: "second-broker".to_owned(),
        path: weir_executable().unwrap(),
        args: ["serve", "ai-broker", "--config", &deployment.config_file().display().to_string()]
            .map(str::to_owned)
            .to_vec(),
        env: vec![
            ("WEIR_HOST__LISTEN__AI_BROKER".to_owned(), listen),
            ("WEIR_HOST__ADMIN_LISTEN".to_owned(), admin.clone()),
        ],
        log: deployment.dir().join("second-broker.log"),
    };
    let mut process = program.start().unwrap();
    let ready = format!("http://{admin}/readyz");
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    for _ in 0..1200 {
        process.check().unwrap();
        if client.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200) {
            return process;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{}", program.last_words());
}

/// Lets the provider's clock begin at 0; when that was at the latest, in milliseconds since 1970.
pub(crate) async fn started_anew(provider: &Provider) -> u64 {
    provider.reset().await.unwrap();
    u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap()
}

/// The most that requests weigh together which were let go and have come within a span. A request is let go when its reservation is
/// made, whose id says when that was begun, and comes a little later.
pub(crate) fn most_within(seen: &[Served], zero: u64, span_ms: u64, weight: impl Fn(&Served) -> u64) -> u64 {
    let from = |first: &Served| {
        let (begin, end) = (begun(first), begun(first) + span_ms);
        // The provider's own clock ticks in milliseconds.
        let within = seen.iter().filter(|served| begun(served) >= begin && zero + served.at_ms + 1 < end);
        within.map(&weight).sum()
    };
    seen.iter().map(from).max().unwrap_or(0)
}

/// When the reservation of a request was begun, in milliseconds since 1970.
fn begun(served: &Served) -> u64 {
    begun_at(&served.client_request_id)
}

/// When a reservation was begun, in milliseconds since 1970.
pub(crate) fn begun_at(reservation: &str) -> u64 {
    let id: uuid::Uuid = reservation.parse().unwrap();
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    seconds * 1_000 + u64::from(nanos) / 1_000_000
}
