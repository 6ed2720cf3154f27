use std::sync::Arc;
use std::time::Duration;

use weir_discovery::{Consul, ConsulConfig, Directory, Error};

use crate::agent;
use crate::conformance::{instance, suite, until};
use crate::double::Double;

fn consul(address: &str, token: &str) -> Arc<dyn Directory> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ConsulConfig {
        address: address.to_owned(),
        token: weir_config::Secret::from(token.to_owned()),
        prefix: "weir-".to_owned(),
        ttl: Duration::from_secs(1),
        wait: Duration::from_secs(5),
    };
    Arc::new(Consul::new(&config).unwrap())
}

#[tokio::test]
async fn the_double_is_a_directory() {
    let double = Double::start(None).await;
    suite(consul(&double.address, "")).await;
}

#[tokio::test]
async fn the_real_consul_is_a_directory_where_there_is_one() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match agent::start().await {
        Some(agent) => suite(consul(&agent.address, "")).await,
        None => eprintln!("no `consul` on the PATH: only the double was tested"),
    }
}

#[tokio::test]
async fn while_consul_is_away_the_last_known_instances_stay() {
    let double = Double::start(None).await;
    let directory = consul(&double.address, "");
    let registration = directory.register(instance("quota", "quota-1", 7001)).await.unwrap();
    let mut watch = directory.watch("quota");
    until(&mut watch, &[7001]).await;
    double.set_failing(true);
    let silence = tokio::time::timeout(Duration::from_millis(600), futures::StreamExt::next(&mut watch)).await;
    assert!(silence.is_err(), "{silence:?}");
    double.set_failing(false);
    let second = directory.register(instance("quota", "quota-2", 7002)).await.unwrap();
    until(&mut watch, &[7001, 7002]).await;
    registration.end().await;
    second.end().await;
}

#[tokio::test]
async fn an_agent_that_lost_its_data_is_told_again() {
    let double = Double::start(None).await;
    let directory = consul(&double.address, "");
    let _registration = directory.register(instance("quota", "quota-1", 7001)).await.unwrap();
    let mut watch = directory.watch("quota");
    until(&mut watch, &[7001]).await;
    double.forget();
    until(&mut watch, &[]).await;
    until(&mut watch, &[7001]).await;
}

#[tokio::test]
async fn the_token_is_sent_and_a_refusal_is_an_error_that_does_not_repeat_it() {
    let double = Double::start(Some("s3cret")).await;
    assert!(consul(&double.address, "s3cret").register(instance("quota", "quota-1", 7001)).await.is_ok());
    let error = consul(&double.address, "wr0ng").register(instance("quota", "quota-2", 7002)).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 403, .. }));
    assert!(!format!("{error} {error:?}").contains("wr0ng"));
}

#[tokio::test]
async fn a_consul_that_is_not_there_is_named_with_the_cause() {
    let error = consul("http://127.0.0.1:1", "").register(instance("quota", "quota-1", 7001)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("refused"), "{text}");
}
