//! Plan files: from text to plans, all mistakes at once.

use chrono_tz::Tz;
use toml::Table;
use weir_types::{NanoUsd, unit};

use super::catalogue::Plan;
use super::document::{Faults, Reader, parse};
use super::limit::{Limit, MAX_LIMITS, OnFailure, faults_of, is_name};
use super::window::{CalendarUnit, Window, time_zone};

/// The plans of a file.
#[must_use]
pub(crate) fn read(text: &str, faults: &mut Faults) -> Vec<Plan> {
    let Some(table) = parse(text, faults) else { return Vec::new() };
    let mut file = Reader::new("", &table);
    let version = file.text("version", faults).unwrap_or_default();
    let plans: Vec<Plan> = file
        .tables("plan", faults)
        .into_iter()
        .enumerate()
        .filter_map(|(i, table)| plan(i, table, version, faults))
        .collect();
    file.finish(faults);
    plans
}

fn plan(index: usize, table: &Table, version: &str, faults: &mut Faults) -> Option<Plan> {
    let mut reader = Reader::new(format!("plan {}", index + 1), table);
    let name = reader.text("name", faults);
    if let Some(name) = name {
        if !is_name(name) {
            faults.add(
                reader.place("name"),
                format!("`{name}` is not a name: expected lower-case letters, digits and hyphens"),
            );
        }
        reader.rename(format!("plan `{name}`"));
    }
    let display_name = reader.text("display_name", faults);
    let price = reader.dollars("price", faults);
    let priority = reader.integer("priority", faults).and_then(|priority| {
        let fits = i32::try_from(priority).ok();
        if fits.is_none() {
            faults.add(reader.place("priority"), "is too large");
        }
        fits
    });
    let models = reader.texts("models", faults);
    if models.is_empty() {
        faults.add(reader.place("models"), "names no model: [\"*\"] is all of them");
    }
    let own_keys_only = reader.switch("own_keys_only", faults);
    let features = features(&mut reader, faults);
    let tables = reader.tables("limits", faults);
    let limits: Vec<Limit> =
        tables.iter().enumerate().filter_map(|(i, table)| limit(reader.at(), i, table, faults)).collect();
    for (index, (field, message)) in faults_of(&limits) {
        faults.add(format!("{}, limit `{}`: {field}", reader.at(), limits[index].name), message);
    }
    if limits.len() > MAX_LIMITS {
        faults.add(reader.place("limits"), format!("has more than {MAX_LIMITS} limits"));
    }
    reader.finish(faults);
    Some(Plan {
        name: name?.to_owned(),
        display_name: display_name?.to_owned(),
        version: version.to_owned(),
        price: price?,
        limits,
        models: models.into_iter().map(str::to_owned).collect(),
        priority: priority?,
        own_keys_only,
        features,
    })
}

/// Patterns of features; none: all.
fn features(reader: &mut Reader<'_>, faults: &mut Faults) -> Vec<String> {
    let features = reader.texts("features", faults);
    let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    for pattern in &features {
        if pattern.len() > 64 || !pattern.strip_suffix('*').unwrap_or(pattern).bytes().all(is_named) {
            let expected = "at most 64 letters, digits, `.`, `_` and `-`, and `*` at the end for any text";
            faults.add(
                reader.place("features"),
                format!("`{pattern}` is not a pattern of features: expected {expected}"),
            );
        }
    }
    features.into_iter().map(str::to_owned).collect()
}

fn limit(plan: &str, index: usize, table: &Table, faults: &mut Faults) -> Option<Limit> {
    let mut reader = Reader::new(format!("{plan}, limit {}", index + 1), table);
    let name = reader.text("name", faults);
    if let Some(name) = name {
        reader.rename(format!("{plan}, limit `{name}`"));
    }
    let scope = reader.text("scope", faults);
    let unit = reader.text("unit", faults);
    let amount = if unit == Some(unit::NANO_USD) {
        reader.dollars("amount", faults).map(|NanoUsd(nanos)| nanos)
    } else {
        reader.integer("amount", faults)
    };
    let place = reader.place("window");
    let window = reader.table("window", faults).and_then(|table| window(place, table, faults));
    let on_failure = match reader.text("on_failure", faults) {
        Some("closed") => Some(OnFailure::Closed),
        Some("open") => Some(OnFailure::Open),
        Some("local") => Some(OnFailure::Local),
        Some(other) => {
            faults.add(reader.place("on_failure"), format!("`{other}` is none of closed, open, local"));
            None
        }
        None => None,
    };
    let alert_percents = reader.integers("alert_percents", faults);
    reader.finish(faults);
    Some(Limit {
        name: name?.to_owned(),
        scope: scope?.to_owned(),
        unit: unit?.to_owned(),
        amount: amount?,
        window: window?,
        on_failure: on_failure?,
        // What is out of an i32's range is out of a percentage's, too, and reported as that.
        alert_percents: alert_percents.into_iter().map(|percent| i32::try_from(percent).unwrap_or(i32::MAX)).collect(),
    })
}

fn window(place: String, table: &Table, faults: &mut Faults) -> Option<Window> {
    const KINDS: [&str; 5] = ["rolling", "calendar", "anchored", "lifetime", "concurrent"];
    let mut reader = Reader::new(place.clone(), table);
    let mut given = Vec::new();
    for kind in KINDS {
        if reader.has(kind) {
            given.push(kind);
        }
    }
    let [kind] = given[..] else {
        faults.add(place, format!("needs exactly one of {}", KINDS.join(", ")));
        return None;
    };
    let window = match kind {
        "rolling" => reader.text("rolling", faults).and_then(|text| match weir_config::duration::parse(text) {
            Ok(span) => Some(Window::Rolling(span)),
            Err(error) => {
                faults.add(reader.place("rolling"), error.to_string());
                None
            }
        }),
        "calendar" => {
            let zone = zone(&mut reader, faults);
            reader.text("calendar", faults).and_then(|text| {
                let unit = CalendarUnit::parse(text);
                if unit.is_none() {
                    faults.add(reader.place("calendar"), format!("`{text}` is none of minute, hour, day, month"));
                }
                Some(Window::Calendar(unit?, zone?))
            })
        }
        "anchored" => {
            let zone = zone(&mut reader, faults);
            let text = reader.text("anchored", faults);
            if text.is_some_and(|text| text != "month") {
                faults.add(reader.place("anchored"), "only `month` can be anchored");
            }
            zone.map(|zone| Window::Anchored(None, zone))
        }
        _ => {
            let (key, window) =
                if kind == "lifetime" { ("lifetime", Window::Lifetime) } else { ("concurrent", Window::Concurrent) };
            if reader.switch(key, faults) {
                Some(window)
            } else {
                faults.add(reader.place(key), "must be true where it is given");
                None
            }
        }
    };
    reader.finish(faults);
    window
}

fn zone(reader: &mut Reader<'_>, faults: &mut Faults) -> Option<Tz> {
    let name = reader.optional_text("time_zone", faults).unwrap_or_default();
    time_zone(name).map_err(|message| faults.add(reader.place("time_zone"), message)).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BUILT_IN: &str = include_str!("../../plans/2026-11-01.toml");

    #[test]
    fn the_built_in_catalogue_is_sound() {
        let mut faults = Faults::default();
        let plans = read(BUILT_IN, &mut faults);
        assert_eq!(faults.0, []);
        let names: Vec<_> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["free", "pro", "enterprise", "unlimited"]);
        assert_eq!(plans[0].limits[3].amount, 5_000_000_000);
        assert_eq!(plans[0].limits[0].window, Window::Rolling(Duration::from_secs(60)));
        assert!(plans.iter().all(|plan| plan.limits.iter().any(|limit| limit.unit == "nano_usd")));
    }

    #[test]
    fn all_mistakes_of_a_file_are_reported_at_once() {
        let mut faults = Faults::default();
        let _ = read(
            r#"
            version = "1"
            color = "red"
            [[plan]]
            name = "Pro Plan"
            price = "1,000"
            models = []
            features = ["jewelry.*", "a*b"]
            priority = 1
            limits = [
              { name = "a", scope = "user", unit = "request", amount = -1, window = { rolling = "60" }, on_failure = "open" },
              { name = "b", scope = "user", unit = "request", amount = -1, window = { rolling = "60s" }, on_failure = "open" },
              { name = "b", scope = "user", unit = "nano_usd", amount = 5, window = { calendar = "month", time_zone = "Mars/North" }, on_failure = "maybe" },
              { name = "c", scope = "user", unit = "token", amount = 5, window = { rolling = "60s", lifetime = true }, on_failure = "open" },
              { name = "d", scope = "user", unit = "token", amount = 5, window = { lifetime = true }, on_failure = "local", alert_percents = [80, 50] },
              { name = "e", scope = "user", unit = "token", amount = 5, window = { lifetime = true }, on_failure = "local", alert_percents = ["80"] },
            ]
            "#,
            &mut faults,
        );
        let shown: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        for expected in [
            "color: is not known",
            "plan 1: name: `Pro Plan` is not a name",
            "plan `Pro Plan`: display_name: is missing",
            "plan `Pro Plan`: price: `1,000` is not a sum",
            "plan `Pro Plan`: models: names no model",
            "plan `Pro Plan`: features: `a*b` is not a pattern of features",
            "plan `Pro Plan`, limit `a`: window: rolling: not a duration",
            "plan `Pro Plan`, limit `b`: amount: must be from 0",
            "plan `Pro Plan`, limit `b`: amount: must be a text with a sum in US dollars",
            "plan `Pro Plan`, limit `b`: window: time_zone: `Mars/North` is not an IANA time zone",
            "plan `Pro Plan`, limit `b`: on_failure: `maybe` is none of closed, open, local",
            "plan `Pro Plan`, limit `c`: window: needs exactly one of",
            "plan `Pro Plan`, limit `d`: alert_percents: must be rising percentages",
            "plan `Pro Plan`, limit `e`: alert_percents: must be a list of integers",
        ] {
            assert!(shown.iter().any(|line| line.starts_with(expected)), "{expected} is not in {shown:#?}");
        }
        assert_eq!(shown.len(), 14, "{shown:#?}");
    }

    #[test]
    fn a_limit_that_is_named_twice_is_reported() {
        let limit = r#"{ name = "a", scope = "user", unit = "request", amount = 1, window = { lifetime = true }, on_failure = "open" }"#;
        let mut faults = Faults::default();
        let _ = read(
            &format!(
                "version = \"1\"\n[[plan]]\nname = \"x\"\ndisplay_name = \"X\"\nprice = \"0\"\npriority = 0\nmodels = [\"*\"]\nlimits = [{limit}, {limit}]"
            ),
            &mut faults,
        );
        assert_eq!(faults.0.len(), 1);
        assert!(faults.0[0].message.contains("stands for another limit already"));
    }
}
