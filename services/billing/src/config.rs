//! The table `[billing]`; `config.defaults.toml` explains every key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use weir_config::{Problem, Validate};

use crate::domain::catalogue::Catalogue;
use crate::domain::document::Faults;
use crate::domain::price_shelf::PriceShelf;
use crate::domain::rating::MAX_CHUNK;
use crate::domain::{plan_file, price_file};

/// The commented defaults of the table `[billing]`.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

const BUILT_IN_PLANS: &str = include_str!("../plans/2026-11-01.toml");
const BUILT_IN_PRICES: [&str; 2] =
    [include_str!("../price-books/2026-11-01.toml"), include_str!("../price-books/simulated-1.toml")];

/// The table `[billing]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The plan of organisations that were never put on one.
    pub default_plan: String,
    /// Files or folders with plans; the built-in ones if empty.
    pub plans: Vec<PathBuf>,
    /// Files or folders with price books.
    pub price_books: Vec<PathBuf>,
    /// Whether the built-in price books are known too.
    pub builtin_price_books: bool,
    /// Versions of the layers over the price book in force.
    pub price_layers: Vec<String>,
    /// The consumer of usage's feed.
    pub rating: Rating,
    /// The push of changed entitlements.
    pub entitlements: Entitlements,
}

/// The table `[billing.rating]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rating {
    /// The most events of one transaction.
    pub max_chunk: usize,
    /// How long to wait for more events after the first.
    #[serde(with = "weir_config::duration")]
    pub linger: Duration,
    /// How long one replica has rating to itself without renewing.
    #[serde(with = "weir_config::duration")]
    pub lease: Duration,
    /// How often events without a price are tried again.
    #[serde(with = "weir_config::duration")]
    pub retry_unrated: Duration,
    /// After how long a silent feed is opened anew.
    #[serde(with = "weir_config::duration")]
    pub feed_idle: Duration,
}

/// The table `[billing.entitlements]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entitlements {
    /// Whether to hear by LISTEN.
    pub listen: bool,
    /// How often to look anyway, and to say so.
    #[serde(with = "weir_config::duration")]
    pub heartbeat: Duration,
}

impl Config {
    /// Reads the plans on offer.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub(crate) fn catalogue(&self) -> Result<Catalogue, Vec<Problem>> {
        let (mut plans, mut mistakes) = (Vec::new(), Vec::new());
        let mut texts = texts(&self.plans, &mut mistakes);
        if self.plans.is_empty() {
            texts.push(("built-in plans".to_owned(), BUILT_IN_PLANS.to_owned()));
        }
        for (origin, text) in texts {
            let mut faults = Faults::default();
            plans.extend(plan_file::read(&text, &mut faults));
            mistakes.extend(faults.0.iter().map(|fault| format!("{origin}: {fault}")));
        }
        for (index, plan) in plans.iter().enumerate() {
            if plans[..index].iter().any(|other| other.name == plan.name) {
                mistakes.push(format!("the plan `{}` is there twice", plan.name));
            }
        }
        let names = plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>().join(", ");
        let catalogue = Catalogue::new(plans, &self.default_plan);
        let mut problems = problems("plans", mistakes);
        if catalogue.is_none() {
            let message = format!("there is no plan `{}`", self.default_plan);
            problems.push(Problem::new("", "default_plan", message).hint(format!("the sound plans are: {names}")));
        }
        match catalogue {
            Some(catalogue) if problems.is_empty() => Ok(catalogue),
            _ => Err(problems),
        }
    }

    /// Reads the price books.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub(crate) fn shelf(&self, now: DateTime<Utc>) -> Result<PriceShelf, Vec<Problem>> {
        let (mut files, mut mistakes) = (Vec::new(), Vec::new());
        let mut texts = texts(&self.price_books, &mut mistakes);
        if self.builtin_price_books {
            texts.extend(BUILT_IN_PRICES.map(|text| ("built-in price book".to_owned(), text.to_owned())));
        }
        for (origin, text) in texts {
            let mut faults = Faults::default();
            files.extend(price_file::read(&text, &mut faults));
            mistakes.extend(faults.0.iter().map(|fault| format!("{origin}: {fault}")));
        }
        let mut faults = Faults::default();
        let shelf = PriceShelf::new(files, &self.price_layers, now, &mut faults);
        let (layers, books): (Vec<_>, Vec<_>) =
            faults.0.iter().map(ToString::to_string).partition(|fault| fault.starts_with("price layer"));
        mistakes.extend(books);
        let problems = [problems("price_books", mistakes), problems("price_layers", layers)].concat();
        if problems.is_empty() { Ok(shelf) } else { Err(problems) }
    }
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        let second = Duration::from_secs(1);
        let bounds = [
            ("rating.linger", self.rating.linger, Duration::ZERO, 10 * second),
            ("rating.lease", self.rating.lease, Duration::from_millis(100), 300 * second),
            ("rating.retry_unrated", self.rating.retry_unrated, Duration::from_millis(10), 86_400 * second),
            ("rating.feed_idle", self.rating.feed_idle, second, 3_600 * second),
            ("entitlements.heartbeat", self.entitlements.heartbeat, Duration::from_millis(10), 30 * second),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                let format = weir_config::duration::format;
                let problem = Problem::new(at, key, format!("{} is out of bounds", format(value)));
                problems.push(problem.hint(format!("from {} to {}", format(least), format(most))));
            }
        }
        if !(1..=MAX_CHUNK).contains(&self.rating.max_chunk) {
            let problem = Problem::new(at, "rating.max_chunk", "is out of bounds");
            problems.push(problem.hint(format!("from 1 to {MAX_CHUNK}")));
        }
        let files = [self.catalogue().err(), self.shelf(Utc::now()).err()];
        for problem in files.into_iter().flatten().flatten() {
            let anchored = Problem::new(at, &problem.path, problem.message);
            problems.push(match problem.hint {
                Some(hint) => anchored.hint(hint),
                None => anchored,
            });
        }
    }
}

/// All mistakes in the files that `key` names, as one problem of that key.
fn problems(key: &str, mistakes: Vec<String>) -> Vec<Problem> {
    match mistakes.len() {
        0 => Vec::new(),
        1 => vec![Problem::new("", key, mistakes.concat())],
        count => vec![Problem::new("", key, format!("there are {count} mistakes\n    {}", mistakes.join("\n    ")))],
    }
}

/// The content of the TOML files that `paths` name.
fn texts(paths: &[PathBuf], mistakes: &mut Vec<String>) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for path in paths {
        match files(path) {
            Ok(files) if files.is_empty() => mistakes.push(format!("{} has no .toml file", path.display())),
            Ok(files) => {
                for file in files {
                    match std::fs::read_to_string(&file) {
                        Ok(text) => texts.push((file.display().to_string(), text)),
                        Err(error) => mistakes.push(format!("{}: {error}", file.display())),
                    }
                }
            }
            Err(error) => mistakes.push(format!("{}: {error}", path.display())),
        }
    }
    texts
}

fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}
