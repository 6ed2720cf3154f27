//! The quota engine by real processes: never more than fits, never less, whatever is killed. The long runs of the same code are
//! `weir-integration-tests quota`.

use std::path::PathBuf;

use weir_integration_tests::quota::accuracy::{self, Cell, grid, table};
use weir_integration_tests::quota::fleet::Fleet;
use weir_integration_tests::quota::kills::{QUICK, Run, Victim, once};
use weir_integration_tests::quota::oversell::series;
use weir_integration_tests::quota::rebuild::{self, Loss, measure};

#[tokio::test]
async fn exactly_what_fits_passes_in_each_of_fifty_runs_at_1_2_and_4_processes() {
    let mut fleet = Fleet::start(0, false, "").await.unwrap();
    for processes in [1, 2, 4] {
        fleet.grow(processes).await.unwrap();
        let faults = series(&fleet, processes, 50, 200).await.unwrap();
        assert_eq!(faults, Vec::<String>::new(), "{processes} processes");
    }
    fleet.stop().await.unwrap();
}

#[tokio::test]
async fn admitted_is_the_lesser_of_limit_and_load_at_1_to_4_processes() {
    let mut fleet = Fleet::start(0, false, "").await.unwrap();
    // The largest loads of the largest limit are left to the long run.
    let small = accuracy::Args { processes: vec![1, 2, 3, 4], limits: vec![1, 10, 100], loads: vec![5, 10, 20, 100] };
    let large = accuracy::Args { processes: vec![4], limits: vec![1_000], loads: vec![5, 10, 20] };
    let mut cells = grid(&mut fleet, &small).await.unwrap();
    cells.extend(grid(&mut fleet, &large).await.unwrap());
    assert!(cells.iter().all(Cell::exact), "\n{}", table(&cells));
    fleet.stop().await.unwrap();
}

async fn through_kills(victim: Victim, processes: &[usize]) {
    let mut fleet = Fleet::start(0, victim == Victim::RedisKept, QUICK).await.unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_weir-integration-tests"));
    let run = Run { victim, fits: 300, clients: 200, program };
    for &processes in processes {
        fleet.grow(processes).await.unwrap();
        let faults = once(&mut fleet, &run).await.unwrap();
        assert_eq!(faults, Vec::<String>::new(), "{processes} processes");
    }
    fleet.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_quota_process_oversells_nothing_and_loses_nothing() {
    through_kills(Victim::Quota, &[1, 2, 4]).await;
}

#[tokio::test]
async fn what_killed_clients_held_is_taken_over_and_settled_once() {
    through_kills(Victim::Clients, &[1, 2, 4]).await;
}

#[tokio::test]
async fn a_killed_redis_without_its_data_oversells_nothing_and_loses_nothing() {
    through_kills(Victim::Redis, &[1, 4]).await;
}

#[tokio::test]
async fn a_killed_redis_that_comes_back_with_its_data_oversells_nothing_and_loses_nothing() {
    through_kills(Victim::RedisKept, &[1, 4]).await;
}

#[tokio::test]
async fn every_counter_is_back_and_right_after_redis_has_lost_it() {
    // Whoever announces shares the machine with what is rebuilt.
    let mut fleet = Fleet::start(2, false, &QUICK.replace("1500ms", "6s")).await.unwrap();
    let losses = vec![Loss::Flush, Loss::Kill];
    let args = rebuild::Args { counters: 20_000, organizations: 20, processes: 2, sample: 500, leases: 50, losses };
    for report in measure(&mut fleet, &args).await.unwrap() {
        assert_eq!(report.wrong, 0, "{report}");
    }
    fleet.stop().await.unwrap();
}
