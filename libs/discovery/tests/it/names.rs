use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use weir_discovery::{Directory as _, Dns, Endpoint, Static};

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_fixed_directory_says_what_it_was_told_and_nothing_of_others() {
    let directory = Static::default().with("quota", [endpoint("10.0.0.1:9102"), endpoint("10.0.0.2:9102")]);
    let said: Vec<_> = directory.watch("quota").collect().await;
    assert_eq!(said, [[endpoint("10.0.0.1:9102"), endpoint("10.0.0.2:9102")]]);
    let said: Vec<_> = directory.watch("usage").collect().await;
    assert_eq!(said, [Vec::<Endpoint>::new()]);
}

#[tokio::test]
async fn a_name_becomes_the_addresses_behind_it_and_is_said_again_only_when_they_change() {
    let services = HashMap::from([("quota".to_owned(), vec![endpoint("localhost:9102")])]);
    let mut watch = Dns::new(services, Duration::from_millis(20)).watch("quota");
    let first = watch.next().await.unwrap();
    assert!(first.contains(&endpoint("127.0.0.1:9102")) || first.contains(&endpoint("[::1]:9102")), "{first:?}");
    assert!(tokio::time::timeout(Duration::from_millis(200), watch.next()).await.is_err());
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_no_instance_and_no_end() {
    let services = HashMap::from([("quota".to_owned(), vec![endpoint("nobody.invalid:9102")])]);
    let mut watch = Dns::new(services, Duration::from_millis(20)).watch("quota");
    assert_eq!(watch.next().await, Some(Vec::new()));
    assert!(tokio::time::timeout(Duration::from_millis(200), watch.next()).await.is_err());
}
