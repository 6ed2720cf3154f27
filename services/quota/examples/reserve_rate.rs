//! What the scripts cost beside a bare `SET`, on a Redis of its own:
//! `cargo run --release -p weir-quota --features measure --example reserve_rate [count [tenants [in flight]]]`.
//!
//! The rate is by the clock on the wall, with the client on the same machine; the microseconds are the CPU time of Redis, which a
//! busy machine spoils least. With `--json` alone, the same as a line for each operation, for `make bench`.
#![allow(clippy::print_stdout)]

use weir_quota::measure::{Effort, Measured, Operation, measure};
use weir_redis::Redis;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let json = std::env::args().nth(1).is_some_and(|argument| argument == "--json");
    let argument = |place| std::env::args().nth(place).filter(|_| !json);
    let number = |place, or: usize| argument(place).map_or(Ok(or), |number| number.parse());
    let count = number(1, 64_000)?;
    let (tenants, depths) = match (number(2, 0)?, number(3, 0)?) {
        (0, _) => (vec![1, 1_000], vec![1, 16, 64]),
        (tenants, 0) => (vec![tenants], vec![1, 16, 64]),
        (tenants, depth) => (vec![tenants], vec![depth]),
    };
    let server = weir_testing::private_redis().await?;
    let mut config: weir_redis::Config = toml::from_str::<Table>(weir_redis::DEFAULTS)?.redis;
    config.url = server.url().into();
    config.deadline = std::time::Duration::from_secs(5);
    let redis = Redis::connect(&config).await?;
    let address = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    if !json {
        println!(
            "tenants  in flight        SET              reserve                     extend                      commit"
        );
    }
    for &tenants in &tenants {
        for &depth in &depths {
            // The first run grows the server's memory; the second one is told.
            let effort = Effort { tenants, depth, count };
            measure(&address, &redis, effort).await?;
            let measured = measure(&address, &redis, effort).await?;
            if json {
                measured.iter().for_each(print_json);
                continue;
            }
            let of = |wanted| measured.iter().find(|one| one.operation == wanted);
            let Some(set) = of(Operation::Set) else { continue };
            print!("{tenants:>7}  {depth:>9}  {:>9.0}/s {:>5.2} us", set.rate, set.cpu_micros);
            for operation in [Operation::Reserve, Operation::Extend, Operation::Commit] {
                if let Some(Measured { rate, cpu_micros, .. }) = of(operation) {
                    let share = 100.0 * set.cpu_micros / cpu_micros;
                    print!("  {rate:>8.0}/s {cpu_micros:>5.2} us {share:>3.0} %");
                }
            }
            println!();
        }
    }
    Ok(())
}

fn print_json(measured: &Measured) {
    let Measured { tenants, depth, operation, rate, cpu_micros } = measured;
    let operation = match operation {
        Operation::Set => "set",
        Operation::Reserve => "reserve",
        Operation::Extend => "extend",
        Operation::Commit => "commit",
    };
    println!(
        "{{\"tenants\":{tenants},\"depth\":{depth},\"operation\":\"{operation}\",\"rate\":{rate:.0},\"cpu_micros\":{cpu_micros:.3}}}"
    );
}

#[derive(serde::Deserialize)]
struct Table {
    redis: weir_redis::Config,
}
