//! What users cost who are many, on a Redis of its own: memory for each counter, and whether a reservation takes longer among so
//! many: `cargo run --release -p weir-quota --features measure --example users [users [organizations]]`, else 1,000 users of one
//! organisation, and 10,000,000 of 1,000. These take 3 GB of memory.
#![allow(clippy::print_stdout)]

use weir_quota::measure::{Crowd, Crowded, measure_crowd};
use weir_redis::Redis;

/// Reservations of which the memory is told, and those that are made one after the other.
const BUSY: usize = 192_000;
const ALONE: usize = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let number = |place, or: usize| std::env::args().nth(place).map_or(Ok(or), |number| number.parse());
    let crowds = match (number(1, 0)?, number(2, 1_000)?) {
        (0, _) => vec![(1_000, 1), (10_000_000, 1_000)],
        crowd => vec![crowd],
    };
    let server = weir_testing::private_redis().await?;
    let mut config: weir_redis::Config = toml::from_str::<Table>(weir_redis::DEFAULTS)?.redis;
    config.url = server.url().into();
    config.deadline = std::time::Duration::from_secs(5);
    let redis = Redis::connect(&config).await?;
    let address = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    println!(
        "     users  organisations   idle counter  active counter    64 at once: reserve   commit      alone      p50      p99"
    );
    for (users, organizations) in crowds {
        let crowd = Crowd { users, organizations, busy: BUSY, alone: ALONE };
        let Crowded { idle_bytes, active_bytes, reserve_micros, commit_micros, alone_micros, latency_micros } =
            measure_crowd(&address, &redis, crowd).await?;
        let [p50, p99] = latency_micros;
        println!(
            "{users:>10}  {organizations:>13}  {idle_bytes:>11.0} B  {active_bytes:>12.0} B  {reserve_micros:>18.2} us  {commit_micros:>4.2} us  {alone_micros:>5.1} us  {p50:>4.0} us  {p99:>4.0} us"
        );
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Table {
    redis: weir_redis::Config,
}
