//! The report of the quota part.

use std::fmt::Write;

use serde::Serialize;

use super::alone::{Engine, Script};
use super::row::Figures;
use crate::bench::goal::Goal;

/// What the rows of a server of reservations are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) unary: &'static str,
    pub(super) spread: &'static str,
    pub(super) alone: &'static str,
    pub(super) stream: &'static str,
    pub(super) batch: &'static str,
    pub(super) settle: &'static str,
}

pub(super) const SET: &str = "Redis: SET, 64 at once";
pub(super) const ROUND_TRIP: &str = "Redis: SET, one at a time";
pub(super) const ECHO: &str = "echo, 64 at once";
pub(super) const ECHO_ALONE: &str = "echo, one at a time";
/// With Redis behind it.
pub(super) const REDIS: Names = Names {
    unary: "Reserve, 64 at once",
    spread: "Reserve, 64 at once, 64 tenants",
    alone: "Reserve, one at a time",
    stream: "Operate, one stream",
    batch: "BatchReserve, 4 x 500",
    settle: "BatchSettle, 4 x 500",
};
/// With the counters in its own memory.
pub(super) const MEMORY: Names = Names {
    unary: "in memory: Reserve, 64 at once",
    spread: "in memory: ... 64 tenants",
    alone: "in memory: Reserve, one at a time",
    stream: "in memory: Operate, one stream",
    batch: "in memory: BatchReserve, 4 x 500",
    settle: "in memory: BatchSettle, 4 x 500",
};

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(in crate::bench) struct Summary {
    rows: Vec<Row>,
    scripts: Vec<Script>,
    engine: Vec<Engine>,
    goals: Vec<Goal>,
}

/// One load.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    figures: Figures,
}

/// A rate that a stream of reservations must have, unless the script itself has less.
const STREAM_RATE: f64 = 60_000.0;
/// Milliseconds that a reservation may take beside one RPC and one round trip to Redis.
const OWN_TIME: f64 = 0.050;
/// What an engine alone must do on a core.
const ENGINE_RATE: f64 = 1_000_000.0;
/// Calls that go together where scripts are compared.
const DEPTH: usize = 64;

impl Summary {
    pub(super) fn new(rows: Vec<(String, Figures)>, scripts: Vec<Script>, engine: Vec<Engine>) -> Self {
        let goals = goals(&rows, &scripts, &engine);
        let rows = rows.into_iter().map(|(name, figures)| Row { name, figures }).collect();
        Self { rows, scripts, engine, goals }
    }

    /// For people.
    pub(in crate::bench) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "\n{:<36}{:>10}{:>10}{:>10}{:>27}{:>9}{:>9}",
            "six limits each", "/s", "p50 ms", "p99 ms", "CPU s per 1000:  server", "Redis", "client"
        );
        for Row { name, figures } in &self.rows {
            let Figures { per_second, p50, p99, server_cpu, redis_cpu, client_cpu } = figures;
            let _ = writeln!(
                out,
                "{name:<36}{per_second:>10.0}{p50:>10.3}{p99:>10.3}{server_cpu:>27.4}{redis_cpu:>9.4}{client_cpu:>9.4}"
            );
        }
        for Script { tenants, depth, operation, rate, cpu_micros } in &self.scripts {
            let of = if *tenants == 1 { "one tenant".to_owned() } else { format!("{tenants} tenants") };
            let _ = writeln!(
                out,
                "Redis alone, {depth:>2} at once, {of:<13} {operation:<8}{rate:>10.0}/s {cpu_micros:>6.2} us of Redis each"
            );
        }
        for one in &self.engine {
            let Engine { tenants, users, reserves_per_second, commits_per_second, counters, idle_bytes, active_bytes } =
                one;
            let _ = writeln!(
                out,
                "engine alone, {tenants} x {users} users: {reserves_per_second:.0} reservations/s, {commits_per_second:.0} commits/s; \
                 {counters} counters of {idle_bytes:.0} bytes, {active_bytes:.0} in use"
            );
        }
        let _ = writeln!(out);
        for goal in &self.goals {
            let _ = writeln!(out, "{goal}");
        }
        out
    }
}

/// What the design promises.
fn goals(rows: &[(String, Figures)], scripts: &[Script], engine: &[Engine]) -> Vec<Goal> {
    let find = |name: &str| rows.iter().find(|row| row.0 == name).map(|row| row.1);
    let script = |operation: &str| {
        let mut found = scripts.iter().filter(|one| one.depth == DEPTH && one.tenants == 1);
        found.find(|one| one.operation == operation)
    };
    let mut goals = Vec::new();
    if let (Some(set), Some(reserve), Some(commit)) = (script("set"), script("reserve"), script("commit")) {
        let share = 100.0 * reserve.rate / set.rate;
        goals.push(Goal::at_least("the reserve script, percent of SET's rate", share, 35.0));
        let share = commit.cpu_micros / reserve.cpu_micros;
        goals.push(Goal::at_most("Redis's time of a commit, times that of a reservation", share, 0.5));
    }
    if let (Some(echo), Some(echo_alone), Some(set), Some(trip)) =
        (find(ECHO), find(ECHO_ALONE), find(SET), find(ROUND_TRIP))
    {
        for (names, what, share) in [(REDIS, "with Redis", 40.0), (MEMORY, "in memory", 60.0)] {
            if let Some(unary) = find(names.unary) {
                let measured = 100.0 * unary.per_second / echo.per_second;
                goals.push(Goal::at_least(format!("Reserve {what}, percent of the echo's rate"), measured, share));
            }
        }
        if let (Some(alone), Some(unary)) = (find(REDIS.alone), find(REDIS.unary)) {
            let bound = echo_alone.p50 + trip.p50 + OWN_TIME;
            goals.push(Goal::at_most("Reserve one at a time, p50 ms; echo + Redis + 0.05", alone.p50, bound));
            let bound = 2.5 * (echo.p99 + set.p99);
            goals.push(Goal::at_most("Reserve under load, p99 ms; 2.5 x (echo + Redis)", unary.p99, bound));
        }
    }
    let least = script("reserve").map_or(STREAM_RATE, |reserve| STREAM_RATE.min(reserve.rate));
    for (names, what) in [(REDIS, "with Redis"), (MEMORY, "in memory")] {
        if let Some(stream) = find(names.stream) {
            goals.push(Goal::at_least(format!("reservations a second on a stream {what}"), stream.per_second, least));
        }
    }
    if let Some(fastest) = engine.iter().map(|one| one.reserves_per_second).max_by(f64::total_cmp) {
        goals.push(Goal::at_least("reservations a second of the engine alone", fastest, ENGINE_RATE));
    }
    goals
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    fn figures(per_second: f64, p50: f64, p99: f64) -> Figures {
        Figures { per_second, p50, p99, ..Figures::default() }
    }

    #[test]
    fn what_was_measured_is_held_against_its_own_run() {
        let script = |operation: &str, rate, cpu_micros| Script {
            tenants: 1,
            depth: DEPTH,
            operation: operation.to_owned(),
            rate,
            cpu_micros,
        };
        let scripts = vec![script("set", 100_000.0, 2.0), script("reserve", 50_000.0, 4.0), script("commit", 1.0, 3.0)];
        let rows = [
            (SET, figures(1.0, 0.1, 0.1)),
            (ROUND_TRIP, figures(1.0, 0.01, 0.1)),
            (ECHO, figures(1_000.0, 1.0, 1.9)),
            (ECHO_ALONE, figures(1.0, 0.03, 1.0)),
            (REDIS.unary, figures(400.0, 1.0, 5.1)),
            (REDIS.alone, figures(1.0, 0.08, 1.0)),
            (REDIS.stream, figures(50_000.0, 1.0, 1.0)),
        ];
        let summary = Summary::new(rows.map(|(name, one)| (name.to_owned(), one)).to_vec(), scripts, Vec::new());
        let text = summary.text();
        let marks: Vec<&str> =
            text.lines().filter(|line| line.starts_with("reached") || line.starts_with("MISSED")).collect();
        let expected = [
            "reached  the reserve script, percent of SET's rate: 50.00, at least 35.00",
            "MISSED   Redis's time of a commit, times that of a reservation: 0.75, at most 0.50",
            "reached  Reserve with Redis, percent of the echo's rate: 40.00, at least 40.00",
            "reached  Reserve one at a time, p50 ms; echo + Redis + 0.05: 0.08, at most 0.09",
            "MISSED   Reserve under load, p99 ms; 2.5 x (echo + Redis): 5.10, at most 5.00",
            // The script itself does no more.
            "reached  reservations a second on a stream with Redis: 50000, at least 50000",
        ];
        assert_eq!(marks, expected);
        assert_eq!(serde_json::to_value(&summary).unwrap()["rows"][0]["p50"], 0.1);
    }
}
