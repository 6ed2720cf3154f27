//! The providers and routes that are configured, and what is offered of them.

use std::sync::Arc;

use crate::config::Config;
use crate::domain::catalogue::{Alias, Catalogue, Offer};
use crate::provider::{self, BadProvider, Providers};

/// The configured providers and routes.
#[derive(Default)]
pub(crate) struct Fleet {
    pub(crate) providers: Providers,
    pub(crate) offers: Vec<Offer>,
    pub(crate) aliases: Vec<Alias>,
}

/// What calls go by: routes with their prices, and the providers that they lead to.
pub(crate) struct Offering {
    pub(crate) catalogue: Catalogue,
    pub(crate) fleet: Arc<Fleet>,
}

impl Fleet {
    /// As configured. Providers that were there `before` keep their lines and what is known of their keys.
    pub(crate) fn new(config: &Config, before: &Self) -> Result<Self, BadProvider> {
        let providers = provider::providers(config, &before.providers)?;
        let offers = config.providers.iter().map(|(name, provider)| Offer {
            provider: name.clone(),
            price_list: provider.price_list.clone(),
            input_bytes_per_token: provider.input_bytes_per_token,
            media_part_tokens: provider.media_part_tokens,
        });
        let aliases = config.routes.iter().map(|(id, route)| route.alias(id));
        Ok(Self { providers, offers: offers.collect(), aliases: aliases.collect() })
    }
}
