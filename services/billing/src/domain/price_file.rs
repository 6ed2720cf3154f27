//! Price files: from text to prices, all mistakes at once.

use chrono::{DateTime, NaiveDate, Utc};
use toml::Table;
use weir_types::MAX_AMOUNT;

use super::document::{Faults, Reader, parse};
use super::price_book::ModelPrice;
use super::price_list;

/// The content of a price file.
#[derive(Debug, Clone)]
pub(crate) struct PriceFile {
    /// What usage records name it by. Never has a `+`.
    pub(crate) version: String,
    /// From when it is in force; `None` of a layer, which is in force where the configuration says so.
    pub(crate) effective: Option<DateTime<Utc>>,
    /// One per name of a model.
    pub(crate) prices: Vec<ModelPrice>,
}

/// Reads a file; `None` when not even its version can be told.
#[must_use]
pub(crate) fn read(text: &str, faults: &mut Faults) -> Option<PriceFile> {
    let table = parse(text, faults)?;
    let mut file = Reader::new("", &table);
    let version = file.text("version", faults);
    if let Some(version) = version
        && !is_version(version)
    {
        faults.add(
            "version",
            format!("`{version}` is not a version: expected lower-case letters, digits, dots and hyphens"),
        );
    }
    let layer = file.switch("layer", faults);
    let effective = match file.optional_text("effective", faults) {
        Some(_) if layer => {
            faults.add("effective", "is for price books that are not layers");
            None
        }
        Some(text) => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Some(time.with_timezone(&Utc)),
            Err(_) => {
                faults.add("effective", format!("`{text}` is not a time such as 2026-11-01T00:00:00Z"));
                None
            }
        },
        None => {
            if !layer {
                faults.add("effective", "is missing");
            }
            None
        }
    };
    let providers = file.tables("provider", faults);
    if providers.is_empty() {
        faults.add("provider", "names no provider");
    }
    let mut prices: Vec<ModelPrice> = Vec::new();
    for (index, table) in providers.into_iter().enumerate() {
        provider(index, table, &mut prices, faults);
    }
    file.finish(faults);
    Some(PriceFile { version: version?.to_owned(), effective, prices })
}

fn provider(index: usize, table: &Table, prices: &mut Vec<ModelPrice>, faults: &mut Faults) {
    let mut reader = Reader::new(format!("provider {}", index + 1), table);
    let name = reader.text("name", faults).unwrap_or_default();
    reader.rename(format!("provider `{name}`"));
    // Where a figure is from is part of the figure.
    reader.text("source", faults);
    if let Some(date) = reader.text("as_of", faults)
        && date.parse::<NaiveDate>().is_err()
    {
        faults.add(reader.place("as_of"), format!("`{date}` is not a date such as 2026-11-01"));
    }
    let models = reader.tables("models", faults);
    if models.is_empty() {
        faults.add(reader.place("models"), "names no model");
    }
    for (index, table) in models.into_iter().enumerate() {
        let mut reader = Reader::new(format!("{}, model {}", reader.at(), index + 1), table);
        if let Some((names, price)) = model(name, &mut reader, faults) {
            for model in names {
                if prices.iter().any(|known| known.provider == name && known.model == model) {
                    faults.add(reader.at(), format!("the name `{model}` has a price already"));
                }
                prices.push(ModelPrice { model: model.to_owned(), ..price.clone() });
            }
        }
        reader.finish(faults);
    }
    reader.finish(faults);
}

fn model<'a>(provider: &str, reader: &mut Reader<'a>, faults: &mut Faults) -> Option<(Vec<&'a str>, ModelPrice)> {
    let name = reader.text("name", faults);
    if let Some(name) = name {
        let at = reader.at().rsplit_once(", ").map_or(String::new(), |(provider, _)| format!("{provider}, "));
        reader.rename(format!("{at}model `{name}`"));
    }
    let aliases = reader.texts("aliases", faults);
    let (price, has_tokens) = price_list::read(reader, faults).unzip();
    let answers = reader.has("output") || reader.has("max_output") || reader.has("audio_output");
    let max_output = if answers { tokens("max_output", reader, faults) } else { Some(0) };
    // What is charged by media alone takes no tokens.
    let needs_context = has_tokens != Some(false) || reader.has("context");
    let context = if needs_context { tokens("context", reader, faults) } else { Some(0) };
    if let (Some(context), Some(max_output)) = (context, max_output)
        && max_output > context
    {
        faults.add(reader.place("max_output"), "is more than the context");
    }
    let price = ModelPrice {
        provider: provider.to_owned(),
        model: String::new(),
        price: price?,
        max_output_tokens: max_output?,
        context_tokens: context?,
    };
    let mut names = vec![name?];
    names.extend(aliases);
    Some((names, price))
}

fn tokens(key: &'static str, reader: &mut Reader<'_>, faults: &mut Faults) -> Option<i64> {
    let tokens = reader.integer(key, faults)?;
    if !(1..=MAX_AMOUNT).contains(&tokens) {
        faults.add(reader.place(key), "must be above zero");
        return None;
    }
    Some(tokens)
}

fn is_version(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use weir_types::price::TokenPrice;

    use super::*;

    const BUILT_IN: &str = include_str!("../../price-books/2026-11-01.toml");
    const SIMULATED: &str = include_str!("../../price-books/simulated-1.toml");

    #[test]
    fn the_built_in_price_book_has_the_current_models_of_the_public_lists() {
        let mut faults = Faults::default();
        let file = read(BUILT_IN, &mut faults).expect("is readable");
        assert_eq!(faults.0, []);
        assert!(file.effective.is_some());
        let of = |provider: &str| file.prices.iter().filter(|price| price.provider == provider).count();
        assert!(file.prices.len() >= 80, "{}", file.prices.len());
        for provider in ["openai", "anthropic", "google", "mistral", "deepseek", "xai", "groq", "cohere"] {
            assert!(of(provider) > 0, "{provider}");
        }
        let mini = file.prices.iter().find(|price| price.model == "gpt-4o-mini-2024-07-18").expect("is an alias");
        assert_eq!(mini.price.tokens, TokenPrice::of_text(150_000_000, 75_000_000, 600_000_000));
        assert_eq!(mini.price.tiers["priority"], TokenPrice::of_text(250_000_000, 125_000_000, 1_000_000_000));
        assert!(file.prices.iter().all(|price| price.provider != "simulated"));
    }

    #[test]
    fn the_simulated_providers_prices_are_a_layer() {
        let mut faults = Faults::default();
        let file = read(SIMULATED, &mut faults).expect("is readable");
        assert_eq!((faults.0, file.effective), (Vec::new(), None));
    }

    #[test]
    fn all_mistakes_of_a_file_are_reported_at_once() {
        let mut faults = Faults::default();
        let _ = read(
            r#"
            version = "2026+x"
            effective = "soon"
            [[provider]]
            name = "p"
            as_of = "yesterday"
            models = [
              { name = "free", input = "0", context = 10 },
              { name = "dear", input = "1", cached_input = "2", output = "0", max_output = 11, context = 10 },
              { name = "twice", aliases = ["twice"], input = "1.00", context = 0 },
              { name = "twice", aliases = ["twice"], input = "1.00", context = 1 },
              { input = 1, contxt = 1 },
            ]
            "#,
            &mut faults,
        );
        let shown: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        for expected in [
            "version: `2026+x` is not a version",
            "effective: `soon` is not a time",
            "provider `p`: source: is missing",
            "provider `p`: as_of: `yesterday` is not a date",
            "provider `p`, model `free`: input: must be above zero",
            "provider `p`, model `dear`: cached_input: is above",
            "provider `p`, model `dear`: output: must be above zero",
            "provider `p`, model `dear`: max_output: is more than the context",
            "provider `p`, model `twice`: context: must be above zero",
            "provider `p`, model `twice`: the name `twice` has a price already",
            "provider `p`, model 5: name: is missing",
            "provider `p`, model 5: input: must be a text",
            "provider `p`, model 5: context: is missing",
            "provider `p`, model 5: contxt: is not known",
        ] {
            assert!(shown.iter().any(|line| line.starts_with(expected)), "{expected} is not in {shown:#?}");
        }
    }
}
