//! The audit, on a day that is not its best.

use std::process::Command;
use std::time::Duration;

use crate::{World, asking};

#[tokio::test]
async fn an_audit_waits_for_a_store_that_is_away_for_a_moment() {
    let world = World::in_one_process().await;
    let answer = world.post("/v1/chat/completions").json(&asking("")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let redis = world.deployment.redis_pid().unwrap().to_string();
    let signal = |signal: &str| assert!(Command::new("kill").args([signal, &redis]).status().unwrap().success());
    signal("-STOP");
    let comes_back = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        signal("-CONT");
    };
    let (audited, ()) = tokio::join!(world.deployment.audit(), comes_back);
    let audited = audited.unwrap();
    assert!(audited.clean, "{}", audited.text);
}
