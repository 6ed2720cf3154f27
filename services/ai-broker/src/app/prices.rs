//! Prices come from billing; routes are built anew whenever the book has another version.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{GetPriceBookRequest, ModelPrice};
use weir_rpc::{Channel, Failure};
use weir_types::price::TokenPrice;

use super::Broker;
use crate::config::Config;
use crate::domain::catalogue::{Alias, Catalogue, Offer, PricedModel};

const DEADLINE: Duration = Duration::from_secs(5);
/// Between tries until the first book has been read.
const FIRST: Duration = Duration::from_millis(200);

/// What routes are built from, beside the prices.
pub(crate) struct Routing {
    offers: Vec<Offer>,
    aliases: Vec<Alias>,
}

impl From<&Config> for Routing {
    fn from(config: &Config) -> Self {
        let offers = config.providers.iter().map(|(name, provider)| Offer {
            provider: name.clone(),
            price_list: provider.price_list.clone(),
            input_bytes_per_token: provider.input_bytes_per_token,
            media_part_tokens: provider.media_part_tokens,
        });
        let aliases = config.routes.iter().map(|(id, route)| Alias {
            id: id.clone(),
            provider: route.provider.clone(),
            model: route.model.clone(),
            default_output_tokens: route.default_output_tokens,
            input_bytes_per_token: route.input_bytes_per_token,
        });
        Self { offers: offers.collect(), aliases: aliases.collect() }
    }
}

/// Reads the price book every `check` until `stop`.
pub(crate) async fn run(
    broker: Arc<Broker>,
    billing: BillingServiceClient<Channel>,
    routing: Routing,
    check: Duration,
    stop: CancellationToken,
) {
    let mut version = String::new();
    loop {
        match read(&billing, &routing).await {
            Ok((read, _)) if read == version => {}
            Ok((read, catalogue)) => {
                tracing::info!(version = %read, models = catalogue.routes().len(), "read the price book");
                version = read;
                broker.catalogue.store(Some(Arc::new(catalogue)));
            }
            Err(failure) => tracing::debug!(error = %failure, "the price book can't be read"),
        }
        let pause = if version.is_empty() { FIRST } else { check };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn read(billing: &BillingServiceClient<Channel>, routing: &Routing) -> Result<(String, Catalogue), Failure> {
    let mut request = tonic::Request::new(GetPriceBookRequest::default());
    request.set_timeout(DEADLINE);
    let answer = billing.clone().get_price_book(request).await.map_err(|status| Failure::from(&status))?.into_inner();
    let models: Vec<PricedModel> = answer.prices.into_iter().map(priced).collect();
    let catalogue = Catalogue::new(&answer.version, &models, &routing.offers, &routing.aliases);
    Ok((answer.version, catalogue))
}

fn priced(price: ModelPrice) -> PricedModel {
    PricedModel {
        list: price.provider,
        model: price.model,
        price: TokenPrice::of_text(price.input_per_million, price.cached_input_per_million, price.output_per_million)
            .into(),
        max_output_tokens: price.max_output_tokens,
        context_tokens: price.context_tokens,
    }
}
