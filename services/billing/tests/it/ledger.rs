use sqlx::PgConnection;
use uuid::Uuid;
use weir_database::Database;
use weir_proto::billing::v1::ListLedgerEntriesRequest;
use weir_proto::common::v1::ErrorReason;
use weir_types::OrganizationId;

use crate::house::{House, name, open};
use crate::usage::event;

async fn transaction(connection: &mut PgConnection, key: &str) -> (Uuid, Uuid) {
    let (id, organization) = (Uuid::now_v7(), Uuid::now_v7());
    sqlx::query(
        "insert into billing.ledger_transactions (transaction_id, organization_id, idempotency_key, description, create_time)
         values ($1, $2, $3, 'test', now())",
    )
    .bind(id)
    .bind(organization)
    .bind(key)
    .execute(connection)
    .await
    .unwrap();
    (id, organization)
}

async fn entry(
    connection: &mut PgConnection,
    (id, organization): (Uuid, Uuid),
    account: &str,
    amount: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into billing.ledger_entries (transaction_id, organization_id, account, amount_nano_usd) values ($1, $2, $3, $4)",
    )
    .bind(id)
    .bind(organization)
    .bind(account)
    .bind(amount)
    .execute(connection)
    .await
    .map(|_| ())
}

/// The constraint that refuses.
async fn refusal(database: &Database, statement: &'static str) -> String {
    let mut tx = database.begin().await.unwrap();
    let error = sqlx::query(statement).execute(&mut *tx).await.unwrap_err();
    error.as_database_error().unwrap().constraint().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_database_refuses_a_transaction_that_does_not_sum_to_zero() {
    let house = House::new().await;
    let database = house.database().await;
    let mut tx = database.begin().await.unwrap();
    let posting = transaction(&mut tx, "a").await;
    entry(&mut tx, posting, "organization-receivable", 5).await.unwrap();
    entry(&mut tx, posting, "usage-revenue", -4).await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().constraint(), Some("ledger_balanced"));

    let mut tx = database.begin().await.unwrap();
    let posting = transaction(&mut tx, "a").await;
    entry(&mut tx, posting, "organization-receivable", 5).await.unwrap();
    entry(&mut tx, posting, "usage-revenue", -4).await.unwrap();
    entry(&mut tx, posting, "usage-revenue", -1).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = database.begin().await.unwrap();
    entry(&mut tx, posting, "usage-revenue", -1).await.unwrap();
    assert!(tx.commit().await.is_err(), "also later");
}

#[tokio::test]
async fn the_ledger_can_only_be_added_to() {
    let house = House::new().await;
    let database = house.database().await;
    let mut tx = database.begin().await.unwrap();
    let posting = transaction(&mut tx, "a").await;
    entry(&mut tx, posting, "organization-receivable", 5).await.unwrap();
    entry(&mut tx, posting, "usage-revenue", -5).await.unwrap();
    tx.commit().await.unwrap();
    for statement in [
        "update billing.ledger_entries set amount_nano_usd = 1",
        "delete from billing.ledger_entries",
        "truncate billing.ledger_entries",
        "update billing.ledger_transactions set description = 'x'",
        "delete from billing.ledger_transactions",
        "truncate billing.ledger_transactions, billing.ledger_entries",
    ] {
        assert_eq!(refusal(&database, statement).await, "ledger_append_only", "{statement}");
    }
    let mut tx = database.begin().await.unwrap();
    let other = (posting.0, Uuid::now_v7());
    assert!(entry(&mut tx, other, "usage-revenue", -1).await.is_err(), "an entry of another organisation");
    drop(tx);
    let mut tx = database.begin().await.unwrap();
    assert!(entry(&mut tx, posting, "petty-cash", -1).await.is_err(), "an account that does not exist");
    drop(tx);
    let mut tx = database.begin().await.unwrap();
    let again = sqlx::query(
        "insert into billing.ledger_transactions (transaction_id, organization_id, idempotency_key, description, create_time)
         values (gen_random_uuid(), gen_random_uuid(), 'a', 'test', now())",
    );
    let error = again.execute(&mut *tx).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().constraint(), Some("ledger_idempotency_key"));
}

#[tokio::test]
async fn entries_are_listed_newest_first_page_by_page() {
    let (house, replica) = House::with_replica().await;
    let (a, b) = (OrganizationId::new_v7(), OrganizationId::new_v7());
    for amount in 1..=5 {
        house.usage.record(event(a, amount, 0));
        house.usage.record(event(b, 100, 0));
        replica.rated().await;
    }
    let list = async |parent, token: String| {
        let request = ListLedgerEntriesRequest { parent: name(parent), page_size: 4, page_token: token };
        open(replica.operator().list_ledger_entries(request).await)
    };
    let mut amounts = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let page = list(a, token).await.unwrap();
        amounts.extend(page.entries.iter().map(|entry| entry.amount_nano_usd));
        assert!(page.entries.iter().all(|entry| entry.create_time.is_some() && !entry.description.is_empty()));
        token = page.next_page_token;
        pages += 1;
        if token.is_empty() {
            break;
        }
        let failure = list(b, token.clone()).await.unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::InvalidPageToken, "a token of another list");
    }
    assert_eq!(amounts, [-750, 750, -600, 600, -450, 450, -300, 300, -150, 150]);
    assert_eq!(pages, 3);
    let request = ListLedgerEntriesRequest { parent: name(a), page_size: -1, ..ListLedgerEntriesRequest::default() };
    let failure = open(replica.operator().list_ledger_entries(request).await).unwrap_err();
    assert_eq!(failure.fields()[0].subject, "page_size");
}
