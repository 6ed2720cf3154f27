use serde::Deserialize;
use weir_config::{Loader, Problem, Validate};

use crate::house::file;

#[derive(Debug, Deserialize)]
struct All {
    billing: weir_billing::Config,
}

impl Validate for All {
    fn validate(&self, _: &str, problems: &mut Vec<Problem>) {
        self.billing.validate("billing", problems);
    }
}

#[test]
fn the_defaults_are_sound() {
    let all = Loader::new().section(weir_billing::DEFAULTS).load::<All>().unwrap();
    assert_eq!(all.billing.default_plan, "free");
    assert!(all.billing.price_layers.is_empty(), "the simulated provider's prices are only for who asks for them");
}

#[test]
fn every_mistake_of_the_configuration_and_of_its_files_is_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let plans = file(&folder, "plans.toml", "version = \"1\"\n[[plan]]\nname = \"Gold\"\npriority = 0\n");
    let prices = file(&folder, "prices.toml", "version = \"1\"\n");
    let text = format!(
        "[billing]\ndefault_plan = \"bronze\"\nplans = [{plans:?}, \"/does/not/exist\"]\nprice_books = [{prices:?}]\n\
         price_layers = [\"sim\"]\ncolour = 1\n[billing.rating]\nlinger = \"1h\"\nmax_chunk = 0\n"
    );
    let file = file(&folder, "weir.toml", &text);
    let errors = Loader::new().section(weir_billing::DEFAULTS).file(Some(file)).load::<All>().unwrap_err();
    let shown = errors.to_string();
    for expected in [
        "billing.colour",
        "rating.linger",
        "rating.max_chunk",
        "`Gold` is not a name",
        "plan `Gold`: price: is missing",
        "plan `Gold`: models: names no model",
        "/does/not/exist",
        "there is no plan `bronze`",
        "effective: is missing",
        "provider: names no provider",
        "price layer `sim`: there is no such price book",
    ] {
        assert!(shown.contains(expected), "{expected} is not in {shown}");
    }
}
