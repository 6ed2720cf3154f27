//! All price books that are known: usage is rated with the version that it was priced with, however old.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::document::Faults;
use super::price_book::PriceBook;
use super::price_file::PriceFile;

/// Joins the versions of a book and its layers.
const JOINT: char = '+';

/// All price books that are known.
#[derive(Debug, Clone)]
pub(crate) struct PriceShelf {
    files: BTreeMap<String, PriceFile>,
    layers: Vec<String>,
}

impl PriceShelf {
    /// Puts `files` on a shelf, with `layers` on top of whichever is in force.
    pub(crate) fn new(files: Vec<PriceFile>, layers: &[String], now: DateTime<Utc>, faults: &mut Faults) -> Self {
        let mut shelf = Self { files: BTreeMap::new(), layers: layers.to_vec() };
        for file in files {
            let rival =
                shelf.files.values().find(|other| file.effective.is_some() && other.effective == file.effective);
            if let Some(rival) = rival {
                faults.add(
                    format!("price book `{}`", file.version),
                    format!("comes into effect at the same time as `{}`", rival.version),
                );
            }
            let version = file.version.clone();
            if shelf.files.insert(version.clone(), file).is_some() {
                faults.add(format!("price book `{version}`"), "there are two of this version");
            }
        }
        for layer in layers {
            match shelf.files.get(layer) {
                Some(file) if file.effective.is_none() => {}
                Some(_) => faults.add(format!("price layer `{layer}`"), "is a price book of its own, not a layer"),
                None => faults.add(format!("price layer `{layer}`"), "there is no such price book"),
            }
        }
        if shelf.base(now).is_none() {
            faults.add("price books", "none is in effect");
        }
        shelf
    }

    /// The price book in force at `now`: the newest in effect, with the configured layers.
    #[must_use]
    pub(crate) fn in_force(&self, now: DateTime<Utc>) -> Option<PriceBook> {
        let base = self.base(now)?;
        let mut version = base.version.clone();
        for layer in &self.layers {
            version.push(JOINT);
            version.push_str(layer);
        }
        self.version(&version)
    }

    /// The price book of a version, layers included.
    #[must_use]
    pub(crate) fn version(&self, version: &str) -> Option<PriceBook> {
        let files: Option<Vec<&PriceFile>> = version.split(JOINT).map(|part| self.files.get(part)).collect();
        let prices = files?.into_iter().flat_map(|file| file.prices.iter().cloned());
        Some(PriceBook::new(version.to_owned(), prices))
    }

    /// Every file on the shelf.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PriceFile> {
        self.files.values()
    }

    fn base(&self, now: DateTime<Utc>) -> Option<&PriceFile> {
        let in_effect = self.files.values().filter(|file| file.effective.is_some_and(|from| from <= now));
        in_effect.max_by_key(|file| file.effective)
    }
}

#[cfg(test)]
mod tests {
    use weir_types::price::TokenPrice;

    use super::*;
    use crate::domain::price_book::ModelPrice;

    fn file(version: &str, effective: Option<i64>, input: i64) -> PriceFile {
        PriceFile {
            version: version.to_owned(),
            effective: effective.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
            prices: vec![ModelPrice {
                provider: if effective.is_some() { "openai" } else { "simulated" }.to_owned(),
                model: "m".to_owned(),
                price: TokenPrice::of_text(input, input, input).into(),
                max_output_tokens: 1,
                context_tokens: 1,
            }],
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("in range")
    }

    #[test]
    fn the_newest_book_in_effect_is_in_force_and_older_ones_stay_known() {
        let files = vec![file("b", Some(200), 2), file("a", Some(100), 1), file("sim", None, 9)];
        let mut faults = Faults::default();
        let shelf = PriceShelf::new(files, &["sim".to_owned()], at(150), &mut faults);
        assert_eq!(faults.0, []);
        let book = shelf.in_force(at(150)).expect("one is in effect");
        assert_eq!(book.version(), "a+sim");
        assert_eq!(book.find("simulated", "m").map(|price| price.price.tokens.input), Some(9));
        assert_eq!(shelf.in_force(at(200)).expect("one is in effect").version(), "b+sim");
        let old = shelf.version("a+sim").expect("stays known");
        assert_eq!(old.find("openai", "m").map(|price| price.price.tokens.input), Some(1));
        assert!(shelf.version("a+unheard-of").is_none());
        assert!(shelf.version("").is_none());
    }

    #[test]
    fn ambiguous_and_missing_books_are_faults() {
        let mut faults = Faults::default();
        let files = vec![file("a", Some(100), 1), file("b", Some(100), 2), file("a", Some(300), 1)];
        let _ = PriceShelf::new(files, &["a".to_owned(), "c".to_owned()], at(50), &mut faults);
        let shown: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "price book `b`: comes into effect at the same time as `a`",
                "price book `a`: there are two of this version",
                "price layer `a`: is a price book of its own, not a layer",
                "price layer `c`: there is no such price book",
                "price books: none is in effect",
            ]
        );
    }
}
