//! What a call reserves at most, and what it used in the end, in the units that limits count in.

use std::collections::BTreeMap;

use weir_proto::common::v1::Amount;
use weir_types::price::{Metered, NoCost, Price, TokenPrice, Tokens};
use weir_types::{NanoUsd, unit};

use super::api::Api;
use super::catalogue::Route;
use super::dialects::media::Pictures;
use super::exchange::Manner;
use super::request::{InvalidRequest, MediaUnits, ModelRequest};

/// The most that a call can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorstCase {
    pub(crate) used: Metered,
    pub(crate) cost: NanoUsd,
    /// The most that it can cost, at whichever of its prices the provider may serve it.
    most: NanoUsd,
    /// The most output tokens of one answer.
    pub(crate) per_answer: i64,
    /// The output bound must be written into the request: the client set none, and the route's is
    /// tighter than what the model would do on its own.
    pub(crate) set_max_output: Option<i64>,
}

/// The worst case of `request`, whose body is `body`, on `route`.
///
/// Input: a token is at least one byte of the body, inline media aside, so the body's length bounds
/// the tokens; the model's context bounds them too, because the provider refuses what is longer.
/// Output: what the request allows, else the route's default, else the model's own maximum.
/// Each token is taken for the dearest kind that it can be.
pub(crate) fn worst_case(
    request: &ModelRequest,
    body: &[u8],
    route: &Route,
    manner: &Manner,
) -> Result<WorstCase, InvalidRequest> {
    let text = request.input_bytes.div_euclid(route.input_bytes_per_token).saturating_add(1);
    let media = request.media_parts.saturating_mul(route.media_part_tokens);
    let input = text.saturating_add(media).saturating_add(manner.added_input(body)).min(route.context_tokens);
    let per_answer = match request.max_output {
        Some(max) if max > route.max_output_tokens => return Err(too_many(max, route)),
        Some(max) => max,
        None => route.default_output_tokens.unwrap_or(route.max_output_tokens),
    };
    let output = per_answer.saturating_mul(request.choices);
    let list = route.price.of_tokens(input, None).map_err(|error| no_cost(&error, per_answer, route))?;
    let tokens = dearest(list, (input, output), request.api, body, manner);
    let used = match &request.units {
        // Counting is free.
        MediaUnits::None if request.api == Api::CountTokens => Metered::default(),
        MediaUnits::None => tokens.into(),
        units => of_media(units, tokens, route)?,
    };
    let cost = route.price.cost(&used).map_err(|error| no_cost(&error, per_answer, route))?;
    let set_max_output = route.default_output_tokens.filter(|_| request.max_output.is_none());
    let usual = WorstCase { used, cost, most: cost, per_answer, set_max_output };
    let worst = route.price.tiers.iter().filter(|(tier, _)| request.tier.allows(tier, manner.service_tier)).fold(
        usual,
        |worst, (tier, list)| {
            worst.or_in(tier, dearest(list, (input, output), request.api, body, manner), &route.price)
        },
    );
    if request.api == Api::CountTokens || route.price.per_call.is_empty() {
        return Ok(worst);
    }
    worst.of_a_call(&route.price).map_err(|error| no_cost(&error, per_answer, route))
}

impl WorstCase {
    /// With what each call is one of.
    fn of_a_call(mut self, price: &Price) -> Result<Self, NoCost> {
        price.count_call(&mut self.used);
        let before = self.cost;
        self.cost = price.cost(&self.used)?;
        let more = self.most.0.checked_add(self.cost.0 - before.0).ok_or(NoCost::OutOfRange)?;
        self.most = NanoUsd(more).max(self.cost);
        Ok(self)
    }

    /// This one, or the dearer one of the same call in a tier, with all tokens of the kind that costs most there.
    fn or_in(self, tier: &str, tokens: Tokens, price: &Price) -> Self {
        let of = |tokens: Tokens| Metered { tokens, tier: Some(tier.to_owned()), ..Metered::default() };
        let used = of(tokens);
        if let Ok(cost) = price.cost(&used) {
            return if cost > self.cost { Self { used, cost, most: self.most.max(cost), ..self } } else { self };
        }
        // A long prompt has no price there; one that turns out to be shorter has.
        let longest = price.long_prompt.as_ref().map_or(tokens.input, |long| long.above.min(tokens.input));
        let clip = |count: i64| count.min(longest);
        let shorter = Tokens {
            input: longest,
            cache_write: clip(tokens.cache_write),
            cache_write_long: clip(tokens.cache_write_long),
            audio_input: clip(tokens.audio_input),
            ..tokens
        };
        let most = price.cost(&of(shorter)).map_or(self.most, |cost| self.most.max(cost));
        Self { most, ..self }
    }
}

/// Media in the units that the list prices; where it has none, in tokens, and in units for limits alone.
fn of_media(units: &MediaUnits, tokens: Tokens, route: &Route) -> Result<Metered, InvalidRequest> {
    let listed = &route.price.units;
    let (unit, count) = match units {
        MediaUnits::None => return Ok(tokens.into()),
        MediaUnits::Seconds(seconds) => (unit::SECOND.to_owned(), *seconds),
        MediaUnits::Characters(characters) => (unit::CHARACTER.to_owned(), *characters),
        MediaUnits::Pictures(pictures) if by_megapixel(listed) => return of_megapixels(pictures),
        MediaUnits::Pictures(pictures) => (picture_unit(pictures, listed), pictures.count),
    };
    let by_unit = listed.contains_key(&unit);
    // No provider says how many tokens it spoke.
    if !by_unit && (route.price.tokens.input == 0 || matches!(units, MediaUnits::Characters(_))) {
        return Err(no_cost(&NoCost::NoPrice(unit), 0, route));
    }
    let tokens = match units {
        _ if by_unit => Tokens::default(),
        MediaUnits::Pictures(pictures) => Tokens { output: pictures.output_tokens(), ..tokens },
        _ => tokens,
    };
    Ok(Metered { tokens, units: [(unit, count)].into(), ..Metered::default() })
}

fn by_megapixel(listed: &BTreeMap<String, i64>) -> bool {
    listed.contains_key(unit::MEGAPIXEL) && !listed.keys().any(|name| name.starts_with(unit::IMAGE))
}

/// Pictures that are charged by their pixels; limits count pictures, too.
fn of_megapixels(pictures: &Pictures) -> Result<Metered, InvalidRequest> {
    let message = "`size` is required: the model is charged by megapixels";
    let megapixels = pictures.megapixels().ok_or_else(|| InvalidRequest::new("size", message))?;
    let units = [(unit::MEGAPIXEL.to_owned(), megapixels), (unit::IMAGE.to_owned(), pictures.count)];
    Ok(Metered { units: units.into(), ..Metered::default() })
}

/// The unit of a list for such pictures: by size and quality, or each alike; where the request leaves a choice, the dearest.
fn picture_unit(pictures: &Pictures, listed: &BTreeMap<String, i64>) -> String {
    let exact = format!("{}_{}", unit::IMAGE, pictures.price_key().replace('/', "_"));
    if listed.contains_key(&exact) {
        return exact;
    }
    let open = pictures.size.is_none() || pictures.quality.is_none();
    let kinds = listed.iter().filter(|(name, _)| name.starts_with(unit::IMAGE));
    let dearest = kinds.max_by_key(|(_, price)| **price).map(|(name, _)| name.clone());
    dearest.filter(|_| open).unwrap_or_else(|| unit::IMAGE.to_owned())
}

/// All input and all output of the kind that costs most, of those that the request can lead to.
fn dearest(list: &TokenPrice, (input, output): (i64, i64), api: Api, body: &[u8], manner: &Manner) -> Tokens {
    let mut tokens = Tokens { input, output, ..Tokens::default() };
    let dear_writes = list.cache_write.max(list.cache_write_long) > list.input && manner.may_write_cache(body);
    let dear_audio = list.audio_input > list.input || list.audio_output > list.output;
    let audio = dear_audio && (api == Api::Transcriptions || find!(body, b"audio").is_some());
    let mut kinds = vec![(list.input, 0_u8)];
    if dear_writes {
        kinds.extend([(list.cache_write, 1), (list.cache_write_long, 2)]);
    }
    if audio {
        kinds.push((list.audio_input, 3));
    }
    if api == Api::ImageEdits {
        kinds.push((list.image_input, 4));
    }
    match kinds.into_iter().max().map(|(_, kind)| kind) {
        Some(1) => tokens.cache_write = input,
        Some(2) => tokens.cache_write_long = input,
        Some(3) => tokens.audio_input = input,
        Some(4) => tokens.image_input = input,
        _ => {}
    }
    if audio && list.audio_output > list.output {
        tokens.audio_output = output;
    }
    tokens
}

fn no_cost(error: &NoCost, per_answer: i64, route: &Route) -> InvalidRequest {
    match error {
        NoCost::OutOfRange => too_many(per_answer, route),
        NoCost::NoPrice(_) => InvalidRequest::new("model", format!("`{}`: {error}.", route.id)),
    }
}

fn too_many(asked: i64, route: &Route) -> InvalidRequest {
    let message = format!(
        "`max_tokens` is too large: {asked}. `{}` answers at most {} tokens.",
        route.id, route.max_output_tokens
    );
    InvalidRequest::new("max_tokens", message)
}

/// What the worst case reserves.
pub(crate) fn reserved(operation: &str, worst: &WorstCase) -> Vec<Amount> {
    let mut amounts = used(operation, &worst.used, worst.most);
    amounts.push(amount(unit::CONCURRENT, 1));
    amounts
}

/// What a finished call commits.
pub(crate) fn used(operation: &str, used: &Metered, cost: NanoUsd) -> Vec<Amount> {
    let Tokens { input, output, .. } = used.tokens;
    let mut amounts = vec![
        amount(unit::REQUEST, 1),
        amount(unit::INPUT_TOKEN, input),
        amount(unit::OUTPUT_TOKEN, output),
        amount(unit::TOKEN, input.saturating_add(output)),
        amount(unit::NANO_USD, cost.0),
    ];
    amounts.extend(request_unit(operation).map(|unit| amount(unit, 1)));
    for (name, &count) in &used.units {
        // Prices tell pictures apart by size and quality; limits count pictures.
        let name = if name.starts_with(unit::IMAGE) { unit::IMAGE } else { name };
        match amounts.iter_mut().find(|known| known.unit == name) {
            Some(known) => known.value = known.value.saturating_add(count),
            None => amounts.push(amount(name, count)),
        }
    }
    amounts
}

/// What limits of one kind of request count in.
fn request_unit(operation: &str) -> Option<&'static str> {
    match operation {
        "chat.completions" | "messages" | "responses" => Some(unit::CHAT_REQUEST),
        "messages.count_tokens" => Some(unit::COUNT_TOKENS_REQUEST),
        "embeddings" => Some(unit::EMBEDDING_REQUEST),
        "audio.transcriptions" => Some(unit::TRANSCRIPTION_REQUEST),
        "audio.speech" => Some(unit::SPEECH_REQUEST),
        "images.generations" | "images.edits" => Some(unit::IMAGE_REQUEST),
        _ => None,
    }
}

fn amount(unit: &str, value: i64) -> Amount {
    Amount { unit: unit.to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::api::Dialect;
    use crate::domain::catalogue::tests::route;
    use crate::domain::request::ServiceTier;

    fn manner(dialect: Dialect) -> Manner {
        let max_tokens_field = "max_tokens".to_owned();
        let service_tier = ServiceTier::Usual;
        Manner { dialect, max_tokens_field, effort_models: Vec::new(), drop_fields: Vec::new(), service_tier }
    }

    fn worst_of(extra: &str, route: &Route, dialect: Dialect) -> Result<WorstCase, InvalidRequest> {
        let body = format!(r#"{{"model":"m","messages":[{{"content":"{}"}}]{extra}}}"#, "word ".repeat(200));
        let request = ModelRequest::chat(body.as_bytes()).expect("valid");
        worst_case(&request, body.as_bytes(), route, &manner(dialect))
    }

    fn worst(extra: &str, route: &Route) -> Result<WorstCase, InvalidRequest> {
        worst_of(extra, route, Dialect::OpenAi)
    }

    #[test]
    fn the_worst_case_is_every_byte_a_token_and_the_longest_answer() {
        let worst = worst(r#","max_tokens":50,"n":2"#, &route()).expect("fits");
        let tokens = worst.used.tokens;
        assert!(tokens.input > 1000 && tokens.input < 1100);
        assert_eq!(tokens.output, 100);
        assert_eq!(worst.cost, route().price.cost(&worst.used).expect("fits"));
        assert_eq!(worst.set_max_output, None);
    }

    #[test]
    fn each_call_is_one_of_what_the_list_says_at_its_price() {
        let tokens = worst("", &route()).expect("fits");
        let mut price = route().price;
        price.per_call = [("task".to_owned(), 300_000_000_000_000)].into();
        price.tiers.insert("priority".into(), TokenPrice::of_text(300_000_000, 150_000_000, 1_200_000_000));
        let task = Route { price, ..route() };
        let of = |said: &str| worst(said, &task).expect("fits");
        assert_eq!((of("").cost.0, of("").most.0), (tokens.cost.0 + 300_000_000, tokens.most.0 + 300_000_000));
        for worst in [of(""), of(r#","service_tier":"priority""#)] {
            let amounts = reserved("chat.completions", &worst);
            let of = |unit: &str| amounts.iter().find(|amount| amount.unit == unit).map(|amount| amount.value);
            assert_eq!((of("task"), of("request"), of("nano_usd")), (Some(1), Some(1), Some(worst.most.0)));
            assert_eq!(task.price.cost(&worst.used), Ok(worst.cost), "a take-over can charge it");
        }
        let alone = Price { per_call: task.price.per_call.clone(), ..Price::default() };
        let alone = worst_of("", &Route { price: alone, ..route() }, Dialect::Anthropic).expect("fits");
        assert_eq!(alone.cost, NanoUsd(300_000_000), "tokens cost nothing where the list has none");
    }

    #[test]
    fn without_a_bound_the_models_own_holds_unless_the_route_sets_one() {
        let model = worst("", &route()).expect("fits");
        assert_eq!((model.used.tokens.output, model.set_max_output), (route().max_output_tokens, None));
        let bounded = Route { default_output_tokens: Some(64), ..route() };
        let worst = worst("", &bounded).expect("fits");
        assert_eq!((worst.used.tokens.output, worst.set_max_output), (64, Some(64)));
    }

    #[test]
    fn the_context_bounds_the_input() {
        let small = Route { context_tokens: 100, ..route() };
        assert_eq!(worst("", &small).expect("fits").used.tokens.input, 100);
    }

    #[test]
    fn more_output_than_the_model_has_is_refused() {
        let error = worst(r#","max_tokens":99999999"#, &route()).expect_err("too many");
        assert_eq!(error.param, "max_tokens");
        assert!(error.message.contains("at most 16384"), "{}", error.message);
    }

    #[test]
    fn what_may_be_written_to_a_cache_is_reserved_at_that_price() {
        let tokens = TokenPrice { cache_write: 187_500_000, cache_write_long: 300_000_000, ..route().price.tokens };
        let dear = Route { price: Price::from(tokens), ..route() };
        let cached = r#","cache_control":{"type":"ephemeral"}"#;
        let usual = worst_of("", &dear, Dialect::Anthropic).expect("fits");
        assert_eq!(usual.used.tokens.cache_write_long, 0, "Anthropic writes on request only");
        let asked = worst_of(cached, &dear, Dialect::Anthropic).expect("fits");
        assert_eq!(asked.used.tokens.cache_write_long, asked.used.tokens.input);
        let by_itself = worst_of("", &dear, Dialect::OpenAi).expect("fits");
        assert_eq!(by_itself.used.tokens.cache_write_long, by_itself.used.tokens.input);
    }

    #[test]
    fn the_dearest_tier_that_a_request_allows_is_reserved() {
        let mut price = route().price;
        price.tiers.insert("flex".into(), TokenPrice::of_text(75_000_000, 37_500_000, 300_000_000));
        price.tiers.insert("priority".into(), TokenPrice::of_text(300_000_000, 150_000_000, 1_200_000_000));
        let tiered = Route { price: price.clone(), ..route() };
        let tier = |said: &str| {
            let worst = worst(said, &tiered).expect("fits");
            assert_eq!(tiered.price.cost(&worst.used), Ok(worst.cost), "a take-over can charge it");
            (
                worst.used.tier.clone(),
                reserved("messages", &worst).iter().find(|one| one.unit == "nano_usd").expect("money").value,
            )
        };
        let (usual, most) = tier("");
        assert_eq!(usual, None);
        assert_eq!(tier(r#","service_tier":"default""#).0, None);
        assert_eq!(tier(r#","service_tier":"flex""#).0, None, "it may be served at the usual price");
        let (dear, doubled) = tier(r#","service_tier":"priority""#);
        // The name of the tier is input, too.
        assert!(dear.as_deref() == Some("priority") && doubled > 2 * most, "{dear:?} {doubled} {most}");
        assert_eq!(tier(r#","service_tier":"auto""#).0.as_deref(), Some("priority"));
        // Where it could be a long prompt, which has no price in a tier, the longest that has one counts.
        let long_prompt = Some(weir_types::price::LongPrompt { above: 1_000, tokens: price.tokens });
        let long = Route { price: Price { long_prompt, ..price }, ..route() };
        let worst = worst(r#","service_tier":"priority","max_tokens":1000"#, &long).expect("fits");
        assert_eq!((worst.used.tier.as_deref(), worst.most), (None, NanoUsd(1_000 * 300 + 1_000 * 1_200)));
    }

    #[test]
    fn media_are_reserved_in_the_units_that_the_list_prices() {
        let units =
            [("second".to_owned(), 100_000_000_000), ("image".to_owned(), 5), ("image_1024x1024_hd".to_owned(), 9)];
        let by_unit = Route { price: Price { units: units.into(), ..Price::default() }, ..route() };
        let of = |units: MediaUnits, route: &Route| of_media(&units, Tokens { input: 7, ..Tokens::default() }, route);
        let heard = of(MediaUnits::Seconds(61), &by_unit).expect("priced");
        assert_eq!((heard.tokens, heard.units["second"]), (Tokens::default(), 61));
        assert_eq!(by_unit.price.cost(&heard), Ok(NanoUsd(61 * 100_000)));
        let by_token = of(MediaUnits::Seconds(61), &route()).expect("priced by tokens");
        assert_eq!((by_token.tokens.input, by_token.units["second"]), (7, 61));
        assert_eq!(of(MediaUnits::Characters(3), &route()).expect_err("no price").param, "model");
        assert!(of(MediaUnits::Characters(3), &by_unit).is_err());
        let pictures = |size, quality: Option<&str>| {
            let asked = Pictures { count: 2, size, quality: quality.map(str::to_owned), partial: 0 };
            of(MediaUnits::Pictures(asked), &by_unit).expect("priced").units.into_keys().next()
        };
        assert_eq!(pictures(Some((1024, 1024)), Some("hd")).as_deref(), Some("image_1024x1024_hd"));
        assert_eq!(pictures(Some((512, 512)), Some("hd")).as_deref(), Some("image"));
        assert_eq!(pictures(None, None).as_deref(), Some("image_1024x1024_hd"), "the dearest that it can be");
        let units = [("megapixel".to_owned(), 25_000_000_000_000)];
        let by_pixel = Route { price: Price { units: units.into(), ..Price::default() }, ..route() };
        let sized = |size| of(MediaUnits::Pictures(Pictures { count: 3, size, quality: None, partial: 0 }), &by_pixel);
        let drawn = sized(Some((1024, 1024))).expect("priced");
        assert_eq!((drawn.units["megapixel"], drawn.units["image"]), (3, 3));
        assert_eq!(by_pixel.price.cost(&drawn), Ok(NanoUsd(3 * 25_000_000)));
        assert_eq!(sized(None).expect_err("how large?").param, "size");
    }

    #[test]
    fn pictures_are_one_unit_to_limits_whatever_they_cost() {
        let units = [("image_1024x1024_hd".to_owned(), 2), ("image_auto".to_owned(), 1), ("second".to_owned(), 7)];
        let metered = Metered { units: units.into(), ..Metered::default() };
        let amounts = used("images.generations", &metered, NanoUsd(5));
        let of = |unit: &str| amounts.iter().find(|amount| amount.unit == unit).map(|amount| amount.value);
        assert_eq!((of("image"), of("second"), of("nano_usd"), of("request")), (Some(3), Some(7), Some(5), Some(1)));
    }
}
