//! Processes by limits by loads, with no tolerance.

use std::fmt::Write as _;
use std::time::Duration;

use futures::StreamExt as _;

use super::calls::{Calls, Decision, request};
use super::fleet::Fleet;
use super::limits::{MONEY, REQUEST, TOKENS, amounts, fitting, lifetime, rolling_day, ten_minutes};
use crate::report::say;

/// `weir-integration-tests quota accuracy`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many quota processes.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4])]
    pub processes: Vec<usize>,
    /// How many requests the limits fit.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000])]
    pub limits: Vec<usize>,
    /// The loads, in tenths of the limit.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 10, 20, 100])]
    pub loads: Vec<usize>,
}

/// One cell of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Quota processes.
    pub processes: usize,
    /// How many requests fit.
    pub limit: usize,
    /// How many came.
    pub load: usize,
    /// How many passed.
    pub admitted: usize,
}

impl Cell {
    /// Whether exactly what fits has passed.
    #[must_use]
    pub fn exact(&self) -> bool {
        self.admitted == self.limit.min(self.load)
    }
}

/// Prints the grid. Answers whether every cell is exact.
///
/// # Errors
/// Something does not start or does not answer.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let mut fleet = Fleet::start(0, false, "").await?;
    let cells = grid(&mut fleet, args).await?;
    fleet.stop().await?;
    say(table(&cells))?;
    Ok(cells.iter().all(Cell::exact))
}

/// All cells.
///
/// # Errors
/// Somebody does not answer.
pub async fn grid(fleet: &mut Fleet, args: &Args) -> anyhow::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for &processes in &args.processes {
        fleet.grow(processes).await?;
        let calls = Calls::new(fleet.clients().into_iter().take(processes).collect());
        for &limit in &args.limits {
            for &tenths in &args.loads {
                let load = limit * tenths / 10;
                let admitted = admitted(fleet, &calls, limit, load, cells.len()).await?;
                cells.push(Cell { processes, limit, load, admitted });
            }
        }
    }
    Ok(cells)
}

async fn admitted(fleet: &Fleet, calls: &Calls, limit: usize, load: usize, number: usize) -> anyhow::Result<usize> {
    /// At once; the rest follow as these are answered.
    const CLIENTS: usize = 200;
    let kinds = [(REQUEST, ten_minutes()), (MONEY, lifetime()), (TOKENS, rolling_day())];
    let (unit, kind) = kinds[number % kinds.len()].clone();
    let tenant = fleet.tenant(vec![fitting("tight", unit, limit, kind)]).await?;
    let amounts = amounts(&[unit]);
    let lease = Duration::from_secs(600);
    let mut decisions = futures::stream::iter(0..load)
        .map(|_| async { calls.reserve(&request(&tenant, &amounts, lease)).await })
        .buffer_unordered(CLIENTS);
    let mut admitted = 0;
    while let Some(decision) = decisions.next().await {
        admitted += usize::from(matches!(decision?, Decision::Admitted(_)));
    }
    Ok(admitted)
}

/// The grid for people.
#[must_use]
pub fn table(cells: &[Cell]) -> String {
    let mut text = "processes  limit    load  admitted\n".to_owned();
    for cell in cells {
        let verdict = if cell.exact() { "" } else { "  WRONG" };
        let Cell { processes, limit, load, admitted } = cell;
        let _ = writeln!(text, "{processes:>9}  {limit:>5}  {load:>6}  {admitted:>8}{verdict}");
    }
    text
}
