//! The Anthropic routes: `/v1/messages`, in Anthropic's own shapes.

mod errors;
mod messages;
pub(crate) mod models;

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_rpc::Error;

use crate::facade::Facade;
use crate::refusal::Refusal;

pub(crate) use errors::AnthropicError;

/// The header by which Anthropic's clients say what they speak.
const VERSION: &str = "anthropic-version";
/// What can be read here (<https://platform.claude.com/docs/en/api/versioning>). They differ in what they refuse, which is for
/// the provider to judge.
const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];
/// What a client wants to try.
const BETA: &str = "anthropic-beta";

/// The routes, with their documentation. Bodies are Anthropic's, so they are described by reference and not a second time.
pub(crate) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new().routes(routes!(messages::create)).routes(routes!(messages::count_tokens))
}

/// Whether a client of Anthropic's asks.
pub(crate) fn is_client(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION)
}

/// What of a client's headers a provider of Anthropic's dialect gets, too.
fn passed_on(headers: &HeaderMap) -> Result<HashMap<String, String>, Refusal> {
    let mut passed = HashMap::new();
    if let Some(version) = headers.get(VERSION) {
        let known = VERSIONS.iter().find(|known| version == **known);
        let known = known.ok_or_else(|| Error::invalid(VERSION, format!("must be one of {}", VERSIONS.join(", "))))?;
        passed.insert(VERSION.to_owned(), (*known).to_owned());
    }
    let beta = headers.get_all(BETA).iter().map(|value| value.to_str()).collect::<Result<Vec<_>, _>>();
    let beta = beta.map_err(|_| Error::invalid(BETA, "must be text"))?.join(",");
    if !beta.is_empty() {
        passed.insert(BETA.to_owned(), beta);
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(headers: &[(&'static str, &'static str)]) -> Option<Vec<(String, String)>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        let mut passed: Vec<_> = passed_on(&map).ok()?.into_iter().collect();
        passed.sort();
        Some(passed)
    }

    #[test]
    fn known_versions_and_all_betas_are_passed_on_and_nothing_else() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(passed(&[("x-api-key", "weir_1")]), Some(Vec::new()));
        assert_eq!(passed(&[(VERSION, "2026-10-21")]), Some(vec![pair(VERSION, "2026-10-21")]));
        assert_eq!(passed(&[(BETA, "a"), (BETA, "b,c")]), Some(vec![pair(BETA, "a,b,c")]));
        assert_eq!(passed(&[(VERSION, "2023-01-01")]), None);
    }
}
