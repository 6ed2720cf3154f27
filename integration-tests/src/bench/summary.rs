//! The report: medians, what they are compared with, and what is reached.

use std::fmt::Write;

use serde::Serialize;

use super::goal::Goal;
use super::ingest::Ingest;
use super::kept::Kept;
use super::memory::Memory;
use super::quota;
use super::rounds::{DIRECT, FLOOR, Medians, ONE, SEPARATE};
use super::translated::Translated;

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    targets: Vec<Medians>,
    kept: Kept,
    translated: Translated,
    usage: Ingest,
    memory: Option<Memory>,
    quota: quota::Summary,
    goals: Vec<Goal>,
}

impl Summary {
    pub(super) fn new(
        targets: Vec<Medians>,
        kept: Kept,
        translated: Translated,
        usage: Ingest,
        memory: Option<Memory>,
        quota: quota::Summary,
    ) -> Self {
        let goals = goals(&targets, &usage, memory.as_ref());
        Self { targets, kept, translated, usage, memory, quota, goals }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "\n{:<20}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>11}{:>11}",
            "", "CPU s", "own CPU", "plain/s", "1 conn", "steady", "64 conn", "streams", "streams/s", "1st byte"
        );
        let _ = writeln!(
            out,
            "{:<20}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>11}{:>11}",
            "", "per 1000", "per 1000", "", "p50 ms", "p99 ms", "p99 ms", "CPU/1000", "", "p50 ms"
        );
        for one in &self.targets {
            let _ = writeln!(
                out,
                "{:<20}{:>10.4}{:>10.4}{:>10.0}{:>10.3}{:>10.3}{:>10.2}{:>10.3}{:>11.0}{:>11.3}",
                one.name,
                one.plain.all_cpu,
                one.plain.own_cpu,
                one.plain.per_second,
                one.alone.total.p50,
                one.steady.total.p99,
                one.plain.total.p99,
                one.streamed.all_cpu,
                one.streamed.per_second,
                one.alone_streamed.first_byte.p50
            );
        }
        for one in &self.targets {
            let rounds = [&one.plain, &one.alone, &one.alone_streamed, &one.steady, &one.streamed, &one.paced];
            let turned_away: f64 = rounds.iter().map(|one| one.turned_away).sum();
            if turned_away > 0.0 {
                let _ = writeln!(out, "{}: {turned_away:.0} requests were turned away and sent again", one.name);
            }
        }
        let Ingest { usage_per_second, copy_per_second, percent } = self.usage;
        let _ = writeln!(
            out,
            "\nusage records {usage_per_second:.0} events/s; a bare COPY {copy_per_second:.0} rows/s ({percent:.0} %)"
        );
        if let Some(Memory { before, first_requests, after_first, all_requests, after_all }) = self.memory {
            let _ = writeln!(
                out,
                "memory {before:.1} MiB, {after_first:.1} MiB after {first_requests} more requests, {after_all:.1} MiB after {all_requests}"
            );
        }
        let _ = writeln!(out);
        for goal in &self.goals {
            let _ = writeln!(out, "{goal}");
        }
        out + &self.kept.text() + &self.translated.text() + &self.quota.text()
    }
}

/// The ratios that the design promises.
fn goals(targets: &[Medians], usage: &Ingest, memory: Option<&Memory>) -> Vec<Goal> {
    let find = |name| targets.iter().find(|one| one.name == name);
    let mut goals = Vec::new();
    let mut goal = |what: &str, measured: f64, at_most: f64| {
        goals.push(Goal::at_most(what, measured, at_most));
    };
    if let (Some(direct), Some(floor), Some(one), Some(separate)) =
        (find(DIRECT), find(FLOOR), find(ONE), find(SEPARATE))
    {
        let floor_cpu = floor.plain.all_cpu;
        goal(
            "CPU of plain requests, one process, all that runs, times the floor's",
            one.plain.all_cpu / floor_cpu,
            4.5,
        );
        goal("CPU of plain requests, one process, Weir's own, times the floor's", one.plain.own_cpu / floor_cpu, 3.0);
        goal("CPU of plain requests, separate processes, times the floor's", separate.plain.all_cpu / floor_cpu, 9.0);
        goal("CPU of streams, one process, times the floor's", one.streamed.all_cpu / floor.streamed.all_cpu, 1.5);
        let added = |one: f64, direct: f64| (one - direct).max(0.0);
        let floor_adds = added(floor.alone.total.p50, direct.alone.total.p50);
        let weir_adds = added(one.alone.total.p50, direct.alone.total.p50);
        goal("added latency on one connection, p50, times the floor's", weir_adds / floor_adds, 4.0);
        goal(
            "latency on 64 connections at a steady rate, p99, times the floor's",
            one.steady.total.p99 / floor.steady.total.p99,
            2.5,
        );
        goal(
            "milliseconds added to the first byte of 64 paced streams, p99, to the floor's",
            added(one.paced.first_byte.p99, floor.paced.first_byte.p99),
            1.5,
        );
        let first_byte_adds = added(one.alone_streamed.first_byte.p50, direct.alone_streamed.first_byte.p50);
        goal("added time to a stream's first byte, times that of a plain answer", first_byte_adds / weir_adds, 1.0);
    }
    goal("a bare COPY's rows a second, times usage's events", usage.copy_per_second / usage.usage_per_second, 2.5);
    if let Some(memory) = memory {
        goal("MiB in one process after the first requests", memory.after_first, 60.0);
        goal("MiB after all requests, times those after the first", memory.after_all / memory.after_first, 1.0);
    }
    goals
}
