//! Many streams on one broker, and long ones. `make streams` does the same with 5,000.

use weir_integration_tests::deployment::{Mode, Options};
use weir_integration_tests::process::resident_bytes;
use weir_integration_tests::streams::{Crowd, are_at_the_broker, request};

use crate::World;

/// What each of 5,000 streams may take of a gibibyte.
const SHARE: u64 = (1 << 30) / 5_000;
const MEBIBYTE: u64 = 1 << 20;

#[tokio::test]
async fn a_stream_takes_its_share_of_a_brokers_memory_however_long_it_is() {
    let mut options = Options::new(Mode::Separate);
    options.more_config = "[broker]\ndrain = \"1s\"\n".to_owned();
    let world = World::start(options).await;
    let (address, broker) = (world.deployment.facade(), world.deployment.pid("ai-broker").unwrap());

    let paced = request(&world.tenant, "output_tokens=100000,chunk_ms=1000").unwrap();
    let before = resident_bytes(broker);
    let mut many = Crowd::open(address, &paced, 300).await.unwrap();
    are_at_the_broker(&world.deployment, 300).await.unwrap();
    let taken = resident_bytes(broker).saturating_sub(before);
    assert!(taken <= 300 * SHARE, "{} KiB a stream", taken / 300 / 1_024);
    many.are_open().unwrap();
    drop(many);

    let endless = request(&world.tenant, "output_tokens=10000000,coalesce=1,chunk_ms=0").unwrap();
    let mut long = Crowd::open(address, &endless, 8).await.unwrap();
    long.hear(4 * MEBIBYTE).await.unwrap();
    let begun = resident_bytes(broker);
    let heard = long.heard();
    long.hear(heard + 48 * MEBIBYTE).await.unwrap();
    let grown = resident_bytes(broker).saturating_sub(begun);
    assert!(grown <= 6 * MEBIBYTE, "{} KiB more after 48 MiB", grown / 1_024);
    drop(long);
    world.books().await;
}
