//! Which model names are offered, and where each leads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weir_types::price::Price;

/// A model of the price book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PricedModel {
    /// The list it is on: `openai`, `anthropic`, …
    pub(crate) list: String,
    pub(crate) model: String,
    pub(crate) price: Price,
    pub(crate) max_output_tokens: i64,
    pub(crate) context_tokens: i64,
}

/// A provider as far as routes depend on it.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) provider: String,
    /// The price list whose models it serves under their own names.
    pub(crate) price_list: String,
    pub(crate) input_bytes_per_token: i64,
    pub(crate) media_part_tokens: i64,
}

/// A name that leads to a model under another.
#[derive(Debug, Clone)]
pub(crate) struct Alias {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) default_output_tokens: Option<i64>,
    pub(crate) input_bytes_per_token: Option<i64>,
}

/// Where a model's name leads, and what it costs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// What `model` in a request says.
    pub(crate) id: String,
    pub(crate) provider: String,
    /// The model's name at the provider.
    pub(crate) model: String,
    pub(crate) price: Price,
    pub(crate) price_version: Arc<str>,
    pub(crate) max_output_tokens: i64,
    pub(crate) context_tokens: i64,
    pub(crate) default_output_tokens: Option<i64>,
    pub(crate) input_bytes_per_token: i64,
    pub(crate) media_part_tokens: i64,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoute {
    Unknown,
    NotPriced,
}

/// All routes, as of one version of the price book.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    routes: HashMap<String, Arc<Route>>,
    not_priced: BTreeSet<String>,
}

impl Catalogue {
    /// Builds the routes: each provider's price list under its own names, then the aliases.
    pub(crate) fn new(version: &str, models: &[PricedModel], offers: &[Offer], aliases: &[Alias]) -> Self {
        let version: Arc<str> = version.into();
        let priced: BTreeMap<(&str, &str), &PricedModel> =
            models.iter().map(|m| ((m.list.as_str(), m.model.as_str()), m)).collect();
        let mut catalogue = Self::default();
        for (offer, priced) in
            offers.iter().flat_map(|o| models.iter().filter(|m| m.list == o.price_list).map(move |m| (o, m)))
        {
            catalogue
                .routes
                .entry(priced.model.clone())
                .or_insert_with(|| Arc::new(Route::to(&priced.model, offer, priced, &version)));
        }
        for alias in aliases {
            let offer = offers.iter().find(|offer| offer.provider == alias.provider);
            let target = offer.and_then(|o| Some((o, *priced.get(&(o.price_list.as_str(), alias.model.as_str()))?)));
            let Some((offer, priced)) = target else {
                catalogue.routes.remove(&alias.id);
                catalogue.not_priced.insert(alias.id.clone());
                continue;
            };
            let own = Route::to(&alias.id, offer, priced, &version);
            let route = Route {
                default_output_tokens: alias.default_output_tokens,
                input_bytes_per_token: alias.input_bytes_per_token.unwrap_or(own.input_bytes_per_token),
                ..own
            };
            catalogue.routes.insert(alias.id.clone(), Arc::new(route));
        }
        catalogue
    }

    /// Where `model` leads.
    pub(crate) fn route(&self, model: &str) -> Result<&Arc<Route>, NoRoute> {
        self.routes
            .get(model)
            .ok_or_else(|| if self.not_priced.contains(model) { NoRoute::NotPriced } else { NoRoute::Unknown })
    }

    /// All routes by name.
    pub(crate) fn routes(&self) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.routes.values().collect();
        routes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        routes
    }
}

impl Route {
    fn to(id: &str, offer: &Offer, priced: &PricedModel, version: &Arc<str>) -> Self {
        Self {
            id: id.to_owned(),
            provider: offer.provider.clone(),
            model: priced.model.clone(),
            price: priced.price.clone(),
            price_version: Arc::clone(version),
            max_output_tokens: priced.max_output_tokens,
            context_tokens: priced.context_tokens,
            default_output_tokens: None,
            input_bytes_per_token: offer.input_bytes_per_token,
            media_part_tokens: offer.media_part_tokens,
        }
    }
}

/// Whether one of the patterns fits: `*` stands for any text at a pattern's end, else names are equal.
pub(crate) fn is_allowed(patterns: &[String], model: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => model.starts_with(prefix),
        None => pattern == model,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A route to try things on.
    pub(crate) fn route() -> Route {
        Route {
            id: "m".into(),
            provider: "p".into(),
            model: "m".into(),
            price: weir_types::price::TokenPrice::of_text(150_000_000, 75_000_000, 600_000_000).into(),
            price_version: "v1".into(),
            max_output_tokens: 16_384,
            context_tokens: 128_000,
            default_output_tokens: None,
            input_bytes_per_token: 1,
            media_part_tokens: 50_000,
        }
    }

    fn catalogue() -> Catalogue {
        let model = |list: &str, model: &str| PricedModel {
            list: list.into(),
            model: model.into(),
            price: route().price,
            max_output_tokens: 10,
            context_tokens: 100,
        };
        let offer = |provider: &str, list: &str| Offer {
            provider: provider.into(),
            price_list: list.into(),
            input_bytes_per_token: 1,
            media_part_tokens: 5,
        };
        let alias = |id: &str, provider: &str, model: &str| Alias {
            id: id.into(),
            provider: provider.into(),
            model: model.into(),
            default_output_tokens: Some(7),
            input_bytes_per_token: Some(3),
        };
        Catalogue::new(
            "v1",
            &[model("openai", "gpt-4o"), model("anthropic", "claude")],
            &[offer("main", "openai")],
            &[alias("fast", "main", "gpt-4o"), alias("lost", "main", "gpt-99"), alias("elsewhere", "other", "gpt-4o")],
        )
    }

    #[test]
    fn a_providers_price_list_is_offered_under_its_own_names() {
        let catalogue = catalogue();
        assert_eq!(catalogue.route("gpt-4o").expect("offered").provider, "main");
        assert_eq!(catalogue.route("claude").err(), Some(NoRoute::Unknown));
        assert_eq!(catalogue.routes().iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["fast", "gpt-4o"]);
    }

    #[test]
    fn an_alias_leads_to_its_model_with_its_own_bounds() {
        let catalogue = catalogue();
        let fast = catalogue.route("fast").expect("offered");
        assert_eq!(
            (fast.model.as_str(), fast.default_output_tokens, fast.input_bytes_per_token),
            ("gpt-4o", Some(7), 3)
        );
    }

    #[test]
    fn a_model_without_a_price_is_refused_and_never_free() {
        assert_eq!(catalogue().route("lost").err(), Some(NoRoute::NotPriced));
        assert_eq!(catalogue().route("elsewhere").err(), Some(NoRoute::NotPriced));
    }

    #[test]
    fn patterns_match_whole_names_or_beginnings() {
        let patterns = ["gpt-4o".to_owned(), "claude-*".to_owned()];
        assert!(is_allowed(&patterns, "gpt-4o") && is_allowed(&patterns, "claude-x"));
        assert!(!is_allowed(&patterns, "gpt-4o-mini") && !is_allowed(&[], "gpt-4o"));
        assert!(is_allowed(&["*".to_owned()], "anything"));
    }
}
