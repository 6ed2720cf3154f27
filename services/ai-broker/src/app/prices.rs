//! What is offered: the configured providers and routes at the prices that billing says, built anew whenever one of them changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{GetPriceBookRequest, ModelPrice, TokenPrices};
use weir_rpc::{Channel, Failure};
use weir_types::price::{LongPrompt, Price, TokenPrice};

use super::Broker;
use super::fleet::{Fleet, Offering};
use crate::domain::catalogue::{Catalogue, PricedModel};

const DEADLINE: Duration = Duration::from_secs(5);
/// Between tries until the first book has been read.
const FIRST: Duration = Duration::from_millis(200);

/// A price book that was read.
#[derive(Default)]
struct Book {
    /// Empty until it is.
    version: String,
    models: Vec<PricedModel>,
}

/// Reads the price book every `check` until `stop`, and follows the configuration.
pub(crate) async fn run(
    broker: Arc<Broker>,
    billing: BillingServiceClient<Channel>,
    mut fleets: watch::Receiver<Arc<Fleet>>,
    check: Duration,
    stop: CancellationToken,
) {
    let mut book = Book::default();
    loop {
        match read(&billing).await {
            Ok(read) if read.version == book.version => {}
            Ok(read) => {
                tracing::info!(version = %read.version, models = read.models.len(), "read the price book");
                book = read;
                broker.offer(&book, &fleets.borrow_and_update());
            }
            Err(failure) => tracing::debug!(error = %failure, "the price book can't be read"),
        }
        let pause = tokio::time::sleep(if book.version.is_empty() { FIRST } else { check });
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                changed = fleets.changed() => match changed {
                    Ok(()) if !book.version.is_empty() => broker.offer(&book, &fleets.borrow_and_update()),
                    Ok(()) => {}
                    // Nothing can change any more.
                    Err(_) => {
                        if stop.run_until_cancelled(&mut pause).await.is_none() { return; }
                        break;
                    }
                },
                () = stop.cancelled() => return,
            }
        }
    }
}

impl Broker {
    /// New calls go by these from now on; those under way by what they began with.
    fn offer(&self, book: &Book, fleet: &Arc<Fleet>) {
        let catalogue = Catalogue::new(&book.version, &book.models, &fleet.offers, &fleet.aliases);
        for name in catalogue.missing() {
            tracing::warn!(name, "a route leads on to a model that nobody offers or that has no price");
        }
        self.offering.store(Some(Arc::new(Offering { catalogue, fleet: Arc::clone(fleet) })));
    }
}

async fn read(billing: &BillingServiceClient<Channel>) -> Result<Book, Failure> {
    let mut request = tonic::Request::new(GetPriceBookRequest::default());
    request.set_timeout(DEADLINE);
    let answer = billing.clone().get_price_book(request).await.map_err(|status| Failure::from(&status))?.into_inner();
    let models = answer.prices.into_iter().map(priced).collect();
    Ok(Book { version: answer.version, models })
}

fn priced(price: ModelPrice) -> PricedModel {
    PricedModel {
        price: list(&price),
        list: price.provider,
        model: price.model,
        max_output_tokens: price.max_output_tokens,
        context_tokens: price.context_tokens,
    }
}

/// The whole list of a model; a book that says no more has three prices.
fn list(price: &ModelPrice) -> Price {
    let text =
        || TokenPrice::of_text(price.input_per_million, price.cached_input_per_million, price.output_per_million);
    let long_prompt = price
        .long_prompt
        .as_ref()
        .and_then(|long| Some(LongPrompt { above: long.above_tokens, tokens: token_price(long.tokens.as_ref()?) }));
    Price {
        tokens: price.tokens.as_ref().map_or_else(text, token_price),
        long_prompt,
        tiers: price.tiers.iter().map(|(tier, tokens)| (tier.clone(), token_price(tokens))).collect(),
        units: price.units.iter().map(|(unit, price)| (unit.clone(), *price)).collect(),
        per_call: price.per_call.iter().map(|(unit, price)| (unit.clone(), *price)).collect(),
    }
}

fn token_price(price: &TokenPrices) -> TokenPrice {
    TokenPrice {
        input: price.input_per_million,
        cached_input: price.cached_input_per_million,
        cache_write: price.cache_write_per_million,
        cache_write_long: price.cache_write_1h_per_million,
        audio_input: price.audio_input_per_million,
        // A billing service of an earlier version does not say it.
        image_input: if price.image_input_per_million == 0 {
            price.input_per_million
        } else {
            price.image_input_per_million
        },
        output: price.output_per_million,
        audio_output: price.audio_output_per_million,
    }
}
