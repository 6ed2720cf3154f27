use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weir_launcher::{Redis, RedisOptions};

/// Sends inline commands and answers everything the server said.
fn ask(server: &Redis, commands: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(format!("{commands}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_throw_away_server_begins_empty_after_kill_9() {
    let mut server = Redis::start(RedisOptions::default()).await.unwrap();
    assert!(ask(&server, "SET a 1").contains("+OK"));
    server.kill9();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart().await.unwrap();
    assert!(ask(&server, "EXISTS a").contains(":0"));
}

#[tokio::test]
async fn a_durable_server_keeps_its_data_until_it_is_told_to_lose_it() {
    let mut server = Redis::start(RedisOptions { durable: true, ..RedisOptions::default() }).await.unwrap();
    ask(&server, "SET a 1");
    server.restart().await.unwrap();
    assert!(ask(&server, "EXISTS a").contains(":1"));
    server.lose_data();
    server.restart().await.unwrap();
    assert!(ask(&server, "EXISTS a").contains(":0"));
}

#[tokio::test]
async fn a_kept_server_asks_for_its_password() {
    let dir = std::env::temp_dir().join(format!("weir-launcher-redis-{}", std::process::id()));
    let options = RedisOptions { dir: Some(dir.clone()), durable: true, ..RedisOptions::default() };
    let server = Redis::start(options).await.unwrap();
    assert!(ask(&server, "GET a").contains("NOAUTH"));
    let password = server.admin_url().split([':', '@']).nth(2).unwrap().to_owned();
    assert!(ask(&server, &format!("AUTH {password}")).contains("+OK"));
    server.stop().await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}
