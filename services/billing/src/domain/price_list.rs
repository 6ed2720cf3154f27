//! The prices of one model in a price file: of every kind of token, of long prompts and tiers, and of media by unit.

use weir_types::price::{LongPrompt, Price, TIERS, TokenPrice};
use weir_types::{NanoUsd, unit};

use super::document::{Faults, Reader};

/// Prices are kept per so many units.
const MILLION: i64 = 1_000_000;
/// A reservation has room for 16 units, most of which are Weir's own.
const MOST_PER_CALL: usize = 4;

/// Reads the prices of a model; and whether it answers in tokens.
pub(super) fn read(reader: &mut Reader<'_>, faults: &mut Faults) -> Option<(Price, bool)> {
    let units = units(reader, "units", false, faults);
    let per_call = units_of_calls(reader, &units, faults);
    // What is charged by media or by the call alone has no price of tokens.
    let has_tokens = units.is_empty() && per_call.is_empty() || reader.has("input");
    let answers = reader.has("output") || reader.has("max_output") || reader.has("audio_output");
    let tokens = if has_tokens { tokens(reader, answers, faults) } else { Some(TokenPrice::default()) };
    let long_prompt = if reader.has("long_prompt") { long_prompt(reader, faults) } else { None };
    let mut tiers = std::collections::BTreeMap::new();
    for tier in TIERS {
        if reader.has(tier)
            && let Some(table) = reader.table(tier, faults)
        {
            let mut inner = Reader::new(reader.place(tier), table);
            if let Some(price) = self::tokens(&mut inner, answers, faults) {
                tiers.insert(tier.to_owned(), price);
            }
            inner.finish(faults);
        }
    }
    Some((Price { tokens: tokens?, long_prompt, tiers, units, per_call }, has_tokens))
}

/// What tokens cost; what the list does not say costs what its whole costs.
fn tokens(reader: &mut Reader<'_>, answers: bool, faults: &mut Faults) -> Option<TokenPrice> {
    let input = paid("input", reader, faults);
    let mut or_input = |key: &'static str| if reader.has(key) { reader.dollars(key, faults) } else { input };
    let cached_input = or_input("cached_input");
    let cache_write = or_input("cache_write");
    let cache_write_long =
        if reader.has("cache_write_1h") { reader.dollars("cache_write_1h", faults) } else { cache_write };
    let audio_input = if reader.has("audio_input") { paid("audio_input", reader, faults) } else { input };
    let image_input = if reader.has("image_input") { paid("image_input", reader, faults) } else { input };
    if let (Some(cached), Some(full)) = (cached_input, input)
        && cached > full
    {
        faults.add(reader.place("cached_input"), "is above the price of input that is not cached");
    }
    // A model that only speaks has no price of text.
    let speaks = reader.has("audio_output");
    let audio_output = if speaks { paid("audio_output", reader, faults) } else { None };
    let output = match (answers, speaks && !reader.has("output")) {
        (false, _) => Some(NanoUsd::ZERO),
        (true, true) => audio_output,
        (true, false) => paid("output", reader, faults),
    };
    Some(TokenPrice {
        input: input?.0,
        cached_input: cached_input?.0,
        cache_write: cache_write?.0,
        cache_write_long: cache_write_long?.0,
        audio_input: audio_input?.0,
        image_input: image_input?.0,
        output: output?.0,
        audio_output: if speaks { audio_output?.0 } else { output?.0 },
    })
}

fn long_prompt(reader: &mut Reader<'_>, faults: &mut Faults) -> Option<LongPrompt> {
    let table = reader.table("long_prompt", faults)?;
    let mut inner = Reader::new(reader.place("long_prompt"), table);
    let above = inner.integer("above", faults);
    if above.is_some_and(|above| above <= 0) {
        faults.add(inner.place("above"), "must be above zero");
    }
    let tokens = tokens(&mut inner, true, faults);
    inner.finish(faults);
    Some(LongPrompt { above: above?, tokens: tokens? })
}

/// `per_call = { task = "0.50" }`: what each call is one of. `"0"` says that it is counted and costs nothing.
fn units_of_calls(reader: &mut Reader<'_>, units: &Units, faults: &mut Faults) -> Units {
    let per_call = self::units(reader, "per_call", true, faults);
    if per_call.len() > MOST_PER_CALL {
        faults.add(reader.place("per_call"), format!("names more than {MOST_PER_CALL} units"));
    }
    for name in per_call.keys() {
        // Weir counts those itself.
        if units.contains_key(name) || unit::is_counted(name) {
            faults.add(format!("{}: {name}", reader.place("per_call")), "is counted already: choose another name");
        }
    }
    per_call
}

type Units = std::collections::BTreeMap<String, i64>;

/// `units = { second = "0.0001" }`: US dollars for one of each.
fn units(reader: &mut Reader<'_>, key: &'static str, may_be_free: bool, faults: &mut Faults) -> Units {
    let mut units = Units::new();
    if !reader.has(key) {
        return units;
    }
    let Some(table) = reader.table(key, faults) else { return units };
    let at = reader.place(key);
    for (name, value) in table {
        let price = value.as_str().and_then(|text| NanoUsd::from_usd_str(text).ok());
        let price = price.filter(|price| price.0 > 0 || may_be_free && price.0 == 0);
        let per_million = price.and_then(|price| price.0.checked_mul(MILLION));
        match per_million {
            Some(price) if unit::is_valid(name) => drop(units.insert(name.clone(), price)),
            Some(_) => faults.add(format!("{at}: {name}"), "is not the name of a unit"),
            None if may_be_free => faults.add(format!("{at}: {name}"), "must be a text with a sum in US dollars"),
            None => faults.add(format!("{at}: {name}"), "must be a text with a sum in US dollars above zero"),
        }
    }
    if table.is_empty() {
        faults.add(at, "names no unit");
    }
    units
}

/// A price that must not be nothing.
fn paid(key: &'static str, reader: &mut Reader<'_>, faults: &mut Faults) -> Option<NanoUsd> {
    let price = reader.dollars(key, faults);
    if price == Some(NanoUsd::ZERO) {
        faults.add(reader.place(key), "must be above zero: nothing is free by mistake");
    }
    price
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;

    fn parsed(text: &str) -> (Option<(Price, bool)>, Vec<String>) {
        let mut faults = Faults::default();
        let table: Table = text.parse().expect("TOML");
        let mut reader = Reader::new("m", &table);
        let price = read(&mut reader, &mut faults);
        reader.finish(&mut faults);
        (price, faults.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_a_list_does_not_say_costs_what_its_whole_costs() {
        let (price, faults) =
            parsed("input = \"2.00\"\noutput = \"8.00\"\ncache_write = \"2.50\"\nimage_input = \"3.00\"");
        let tokens = price.expect("prices").0.tokens;
        assert_eq!(faults, Vec::<String>::new());
        let expected = TokenPrice {
            cache_write: 2_500_000_000,
            cache_write_long: 2_500_000_000,
            image_input: 3_000_000_000,
            ..TokenPrice::of_text(2_000_000_000, 2_000_000_000, 8_000_000_000)
        };
        assert_eq!(tokens, expected);
    }

    #[test]
    fn in_a_list_that_was_stored_before_pictures_had_a_price_they_cost_what_text_costs() {
        let price = TokenPrice { image_input: 7, ..TokenPrice::of_text(2, 1, 8) };
        let mut stored = Table::try_from(price).expect("a table");
        assert_eq!(stored.clone().try_into::<TokenPrice>().expect("a list"), price);
        stored.remove("image_input");
        assert_eq!(stored.try_into::<TokenPrice>().expect("a list"), TokenPrice::of_text(2, 1, 8));
    }

    #[test]
    fn media_are_priced_by_their_unit_alone() {
        let (price, faults) = parsed("units = { second = \"0.0001\", image_1024x1024_hd = \"0.08\" }");
        let (price, has_tokens) = price.expect("prices");
        assert_eq!((faults, has_tokens, price.tokens), (Vec::new(), false, TokenPrice::default()));
        assert_eq!(price.units["second"], 100_000 * MILLION);
        assert_eq!(price.units["image_1024x1024_hd"], 80_000_000 * MILLION);
    }

    #[test]
    fn each_call_may_be_one_of_something_with_a_price_or_counted_for_nothing() {
        let (price, faults) = parsed("per_call = { task = \"0.50\", run = \"0\" }");
        let (price, has_tokens) = price.expect("prices");
        assert_eq!((faults, has_tokens, price.tokens), (Vec::new(), false, TokenPrice::default()));
        assert_eq!((price.per_call["task"], price.per_call["run"]), (500_000_000 * MILLION, 0));
        let (_, faults) =
            parsed("units = { page = \"1\" }\nper_call = { page = \"1\", request = \"1\", task = \"-1\", fee = 1 }");
        for expected in
            ["page: is counted already", "request: is counted already", "task: must be a text", "fee: must be"]
        {
            assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}: {faults:#?}");
        }
    }

    #[test]
    fn long_prompts_and_tiers_have_lists_of_their_own() {
        let (price, faults) = parsed(
            "input = \"1\"\noutput = \"2\"\nbatch = { input = \"0.5\", output = \"1\" }\n\
             long_prompt = { above = 200_000, input = \"2\", output = \"3\" }",
        );
        let price = price.expect("prices").0;
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(price.of_tokens(200_001, None).expect("a list").output, 3_000_000_000);
        assert_eq!(price.of_tokens(200_000, Some("batch")).expect("a list").output, 1_000_000_000);
    }

    #[test]
    fn nothing_is_free_by_mistake() {
        let (_, faults) = parsed(
            "input = \"1\"\naudio_input = \"0\"\nunits = { second = \"0\", Image = \"1\" }\n\
             batch = { input = \"0\" }\nlong_prompt = { above = 0, input = \"1\", output = \"1\" }",
        );
        for expected in [
            "m: units: second: must be a text with a sum",
            "m: units: Image: is not the name of a unit",
            "m: audio_input: must be above zero",
            "m: batch: input: must be above zero",
            "m: long_prompt: above: must be above zero",
        ] {
            assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{expected}: {faults:#?}");
        }
    }
}
