//! A Postgres that takes what it is sent and says nothing, as behind a network that swallows.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;

use crate::billing::{calendar, limit};
use crate::house::{House, commit, open, release, reserve, settings};

/// Passes bytes on, but while it is frozen.
struct Relay {
    address: std::net::SocketAddr,
    frozen: Arc<watch::Sender<bool>>,
}

impl Relay {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let frozen = Arc::new(watch::Sender::new(false));
        let state = Arc::clone(&frozen);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&target).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                    let mut state = state.subscribe();
                    tokio::spawn(async move {
                        let mut buffer = vec![0; 1 << 16];
                        while let Ok(read @ 1..) = from.read(&mut buffer).await {
                            state.wait_for(|frozen| !frozen).await.unwrap();
                            if to.write_all(&buffer[..read]).await.is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        });
        Self { address, frozen }
    }
}

#[tokio::test]
async fn a_postgres_that_stands_still_holds_nobody_up_for_good() {
    let mut house = House::new().await;
    let (before, rest) = house.url.rsplit_once('@').unwrap();
    let (server, path) = rest.split_once('/').unwrap();
    let relay = Relay::to(server.to_owned()).await;
    house.url = format!("{before}@{}/{path}", relay.address);
    let mut hasty = settings();
    hasty.database.acquire_timeout = Duration::from_millis(500);
    hasty.database.statement_timeout = Duration::from_secs(1);
    hasty.database.max_connections = 4;
    let engine = house.engine_with(hasty).await;
    let budget = || vec![limit("budget", "organization", "nano_usd", 1_000, calendar(CalendarUnit::Month))];
    let (warm, cold) = (house.tenant(budget()), house.tenant(budget()));
    let mut client = engine.client();
    let request = reserve(warm, &[("nano_usd", 100)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();

    let within = Duration::from_secs(9);
    let actuals = [("nano_usd", 40)];
    // A settlement is at work when the silence begins: what the server says to it, or about its timeout, is not heard.
    let database = house.database().await;
    let mut lock = database.begin().await.unwrap();
    sqlx::query("lock table quota.settlements in exclusive mode").execute(&mut *lock).await.unwrap();
    let (mut committer, commitment) = (engine.client(), commit(&request, &handle, &actuals));
    let committed = tokio::spawn(async move { open(committer.commit(commitment).await) });
    let waits = "select count(*) from pg_locks l join pg_class c on c.oid = l.relation
        join pg_database d on d.oid = l.database and d.datname = current_database()
        where c.relname = 'settlements' and not l.granted";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *lock).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    relay.frozen.send_replace(true);
    // The hot path needs no Postgres.
    let other = reserve(warm, &[("nano_usd", 100)]);
    let other_handle = client.reserve(other.clone()).await.unwrap().into_inner();
    // The counters of a tenant that was not there before are known to Postgres alone.
    let unknown = open(tokio::time::timeout(within, client.reserve(reserve(cold, &[("nano_usd", 1)]))).await.unwrap());
    assert_eq!(unknown.unwrap_err().reason(), ErrorReason::Unavailable);
    let committed = tokio::time::timeout(within, committed).await.unwrap().unwrap();
    assert_eq!(committed.unwrap_err().reason(), ErrorReason::Unavailable);

    relay.frozen.send_replace(false);
    drop(lock);
    // The same again, once Postgres is back: charged once.
    loop {
        match open(client.commit(commit(&request, &handle, &actuals)).await) {
            Ok(_) => break,
            Err(failure) => assert_eq!(failure.reason(), ErrorReason::Unavailable, "{failure}"),
        }
    }
    client.release(release(&other, &other_handle)).await.unwrap();
    client.reserve(reserve(cold, &[("nano_usd", 1)])).await.unwrap();
    let budget = crate::house::balance(&mut client, warm, "budget").await;
    assert_eq!((budget.used, budget.held), (40, 0));
}
