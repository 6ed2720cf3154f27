use weir_proto::billing::v1::GetPriceBookRequest;
use weir_proto::common::v1::ErrorReason;

use crate::house::{House, file, open, settings};

const BOOK: &str = r#"
version = "2026-12-01"
effective = "2026-11-20T00:00:00Z"
[[provider]]
name = "openai"
source = "https://example.com/prices"
as_of = "2026-11-20"
models = [{ name = "gpt-4o-mini", input = "PRICE", output = "0.60", context = 128_000, max_output = 16_384 }]
"#;

#[tokio::test]
async fn the_price_book_in_force_has_the_public_prices_and_the_configured_layer() {
    let (_house, replica) = House::with_replica().await;
    let book = open(replica.service("ai-broker").get_price_book(GetPriceBookRequest::default()).await).unwrap();
    assert_eq!(book.version, "2026-11-01+simulated-1");
    let price = book.prices.iter().find(|price| price.model == "claude-haiku-4-5").unwrap();
    assert_eq!(price.provider, "anthropic");
    assert_eq!(
        (price.input_per_million, price.cached_input_per_million, price.output_per_million),
        (1_000_000_000, 100_000_000, 5_000_000_000)
    );
    assert!(book.prices.iter().any(|price| price.provider == "simulated" && price.model == "sim-small"));
    let bare = GetPriceBookRequest { version: "2026-11-01".to_owned() };
    let bare = open(replica.operator().get_price_book(bare).await).unwrap();
    assert!(bare.prices.len() >= 80 && bare.prices.iter().all(|price| price.provider != "simulated"));
    let unknown = GetPriceBookRequest { version: "1999-01-01".to_owned() };
    let failure = open(replica.operator().get_price_book(unknown).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::NotFound);
}

#[tokio::test]
async fn a_new_book_comes_into_force_at_its_time() {
    let house = House::new().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.billing.price_books = vec![file(&folder, "next.toml", &BOOK.replace("PRICE", "0.10"))];
    settings.billing.price_layers.clear();
    let replica = house.replica(settings).await.unwrap();
    let version =
        async || open(replica.operator().get_price_book(GetPriceBookRequest::default()).await).unwrap().version;
    assert_eq!(version().await, "2026-11-01");
    house.clock.set("2026-11-20T00:00:00Z".parse().unwrap());
    assert_eq!(version().await, "2026-12-01");
}

#[tokio::test]
async fn a_published_price_can_not_be_changed() {
    let house = House::new().await;
    let folder = tempfile::tempdir().unwrap();
    let with = |text: &str| {
        let mut settings = settings();
        settings.billing.price_books = vec![file(&folder, "next.toml", text)];
        settings
    };
    house.replica(with(&BOOK.replace("PRICE", "0.10"))).await.unwrap();
    let more = BOOK.replace("PRICE", "0.10").replace(
        "models = [",
        "models = [{ name = \"gpt-9\", input = \"1\", output = \"2\", context = 10, max_output = 5 }, ",
    );
    house.replica(with(&more)).await.unwrap();
    let error = house.replica(with(&BOOK.replace("PRICE", "0.11"))).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("give the new price a new version"), "{error}");
}

#[tokio::test]
async fn what_was_published_before_there_was_more_to_say_may_gain_it_once() {
    let house = House::new().await;
    let folder = tempfile::tempdir().unwrap();
    let with = |write: &str| {
        let text =
            BOOK.replace("PRICE", "0.10").replace(" output = ", &format!(" cache_write = \"{write}\", output = "));
        let mut settings = settings();
        settings.billing.price_books = vec![file(&folder, "next.toml", &text)];
        settings
    };
    let replica = house.replica(with("0.20")).await.unwrap();
    let request = GetPriceBookRequest { version: "2026-12-01".to_owned() };
    let book = open(replica.operator().get_price_book(request).await).unwrap();
    assert_eq!(book.prices[0].tokens.unwrap().cache_write_per_million, 200_000_000);
    let error = house.replica(with("0.21")).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("give the new price a new version"), "{error}");
    let mut superuser = house.superuser().await;
    sqlx::query("update billing.published_prices set list = null").execute(&mut superuser).await.unwrap();
    house.replica(with("0.21")).await.unwrap();
}
