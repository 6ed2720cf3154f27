//! What the engine does by itself, in memory: `cargo run --release -p weir-quota --example engine_rate [-- --json]`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod measure;

use measure::{Shape, engine};

/// What the program runs with, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let shapes = [(1, 1), (1, 1_000), (1_000, 1_000), (1, 1_000_000)];
    for (tenants, users) in shapes {
        let rates = engine(Shape { tenants, users }, 2_000_000);
        let (reserves, commits, counters) = (rates.reserves, rates.commits, rates.counters);
        let (idle, active) = (rates.idle_bytes, rates.active_bytes);
        if json {
            println!(
                "{{\"tenants\":{tenants},\"users\":{users},\"reserves_per_second\":{reserves:.0},\
                 \"commits_per_second\":{commits:.0},\"counters\":{counters},\"idle_bytes\":{idle:.0},\"active_bytes\":{active:.0}}}"
            );
        } else {
            println!(
                "{tenants:>6} tenants of {users:>8} users: {reserves:>9.0} reservations of six limits/s, {commits:>9.0} commits/s; \
                 {counters} counters of {idle:.0} bytes idle, {active:.0} in use"
            );
        }
    }
}
