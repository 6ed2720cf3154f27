//! Units that limits count in. Any other name is a unit too; these are the ones that Weir itself reserves.

/// One call to a provider.
pub const REQUEST: &str = "request";
/// A token that is sent to the model.
pub const INPUT_TOKEN: &str = "input_token";
/// A token that the model answers.
pub const OUTPUT_TOKEN: &str = "output_token";
/// Input and output together.
pub const TOKEN: &str = "token";
/// A billionth of a US dollar.
pub const NANO_USD: &str = "nano_usd";
/// One call under way.
pub const CONCURRENT: &str = "concurrent";

/// Whether `name` can be a unit: `[a-z][a-z0-9_]{0,62}`.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_short_lower_case_names() {
        assert!([REQUEST, INPUT_TOKEN, OUTPUT_TOKEN, TOKEN, NANO_USD, CONCURRENT].into_iter().all(is_valid));
        assert!(
            !is_valid("") && !is_valid("Token") && !is_valid("1a") && !is_valid("a b") && !is_valid(&"a".repeat(64))
        );
    }
}
