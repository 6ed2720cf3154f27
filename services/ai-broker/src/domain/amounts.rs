//! What a call reserves at most, and what it used in the end, in the units that limits count in.

use weir_proto::common::v1::Amount;
use weir_types::price::Tokens;
use weir_types::{NanoUsd, Overflow, unit};

use super::catalogue::Route;
use super::request::{InvalidRequest, ModelRequest};

/// The most that a call can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorstCase {
    pub(crate) tokens: Tokens,
    pub(crate) cost: NanoUsd,
    /// The output bound must be written into the request: the client set none, and the route's is
    /// tighter than what the model would do on its own.
    pub(crate) set_max_output: Option<i64>,
}

/// The worst case of `request` on `route`.
///
/// Input: a token is at least one byte of the body, inline media aside, so the body's length bounds
/// the tokens; the model's context bounds them too, because the provider refuses what is longer.
/// Output: what the request allows, else the route's default, else the model's own maximum.
pub(crate) fn worst_case(request: &ModelRequest, route: &Route) -> Result<WorstCase, InvalidRequest> {
    let text = request.input_bytes.div_euclid(route.input_bytes_per_token) + 1;
    let media = request.media_parts.saturating_mul(route.media_part_tokens);
    let input = text.saturating_add(media).min(route.context_tokens);
    let per_answer = match request.max_output {
        Some(max) if max > route.max_output_tokens => return Err(too_many(max, route)),
        Some(max) => max,
        None => route.default_output_tokens.unwrap_or(route.max_output_tokens),
    };
    let tokens = Tokens { input, cached_input: 0, output: per_answer.saturating_mul(request.choices) };
    let cost = route.price.cost(&tokens).map_err(|Overflow| too_many(per_answer, route))?;
    let set_max_output = route.default_output_tokens.filter(|_| request.max_output.is_none());
    Ok(WorstCase { tokens, cost, set_max_output })
}

fn too_many(asked: i64, route: &Route) -> InvalidRequest {
    let message = format!(
        "`max_tokens` is too large: {asked}. `{}` answers at most {} tokens.",
        route.id, route.max_output_tokens
    );
    InvalidRequest { param: "max_tokens", message }
}

/// What the worst case reserves.
pub(crate) fn reserved(worst: &WorstCase) -> Vec<Amount> {
    let mut amounts = used(&worst.tokens, worst.cost);
    amounts.push(amount(unit::CONCURRENT, 1));
    amounts
}

/// What a finished call commits.
pub(crate) fn used(tokens: &Tokens, cost: NanoUsd) -> Vec<Amount> {
    vec![
        amount(unit::REQUEST, 1),
        amount(unit::INPUT_TOKEN, tokens.input),
        amount(unit::OUTPUT_TOKEN, tokens.output),
        amount(unit::TOKEN, tokens.input.saturating_add(tokens.output)),
        amount(unit::NANO_USD, cost.0),
    ]
}

fn amount(unit: &str, value: i64) -> Amount {
    Amount { unit: unit.to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::tests::route;

    fn chat(extra: &str) -> ModelRequest {
        let body = format!(r#"{{"model":"m","messages":[{{"content":"{}"}}]{extra}}}"#, "word ".repeat(200));
        ModelRequest::chat(body.as_bytes()).expect("valid")
    }

    #[test]
    fn the_worst_case_is_every_byte_a_token_and_the_longest_answer() {
        let worst = worst_case(&chat(r#","max_tokens":50,"n":2"#), &route()).expect("fits");
        assert!(worst.tokens.input > 1000 && worst.tokens.input < 1100);
        assert_eq!(worst.tokens.output, 100);
        assert_eq!(worst.cost, route().price.cost(&worst.tokens).expect("fits"));
        assert_eq!(worst.set_max_output, None);
    }

    #[test]
    fn without_a_bound_the_models_own_holds_unless_the_route_sets_one() {
        let model = worst_case(&chat(""), &route()).expect("fits");
        assert_eq!((model.tokens.output, model.set_max_output), (route().max_output_tokens, None));
        let bounded = Route { default_output_tokens: Some(64), ..route() };
        let worst = worst_case(&chat(""), &bounded).expect("fits");
        assert_eq!((worst.tokens.output, worst.set_max_output), (64, Some(64)));
    }

    #[test]
    fn the_context_bounds_the_input() {
        let small = Route { context_tokens: 100, ..route() };
        assert_eq!(worst_case(&chat(""), &small).expect("fits").tokens.input, 100);
    }

    #[test]
    fn more_output_than_the_model_has_is_refused() {
        let error = worst_case(&chat(r#","max_tokens":99999999"#), &route()).expect_err("too many");
        assert_eq!(error.param, "max_tokens");
        assert!(error.message.contains("at most 16384"), "{}", error.message);
    }
}
