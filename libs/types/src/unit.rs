//! Units that limits count in. Any other name is a unit too; these are the ones that Weir itself reserves.

/// One call to a provider.
pub const REQUEST: &str = "request";
/// Of those, a conversation: chat completions, messages or responses.
pub const CHAT_REQUEST: &str = "chat_request";
/// Of those, an embedding.
pub const EMBEDDING_REQUEST: &str = "embedding_request";
/// Of those, a transcription.
pub const TRANSCRIPTION_REQUEST: &str = "transcription_request";
/// Of those, a text to be spoken.
pub const SPEECH_REQUEST: &str = "speech_request";
/// Of those, one for pictures.
pub const IMAGE_REQUEST: &str = "image_request";
/// Of those, one that only counts tokens.
pub const COUNT_TOKENS_REQUEST: &str = "count_tokens_request";
/// A token that is sent to the model.
pub const INPUT_TOKEN: &str = "input_token";
/// A token that the model answers.
pub const OUTPUT_TOKEN: &str = "output_token";
/// Input and output together.
pub const TOKEN: &str = "token";
/// Of input, a token that was written to the provider's cache.
pub const CACHE_WRITE_TOKEN: &str = "cache_write_token";
/// Of input, a token that was written to the provider's cache for an hour.
pub const CACHE_WRITE_1H_TOKEN: &str = "cache_write_1h_token";
/// Of input, a token of audio.
pub const AUDIO_INPUT_TOKEN: &str = "audio_input_token";
/// Of input, a token of a picture.
pub const IMAGE_INPUT_TOKEN: &str = "image_input_token";
/// Of output, a token of audio.
pub const AUDIO_OUTPUT_TOKEN: &str = "audio_output_token";
/// Of output, a token that was thought and not said.
pub const REASONING_TOKEN: &str = "reasoning_token";
/// A second of audio.
pub const SECOND: &str = "second";
/// A character of text that is spoken.
pub const CHARACTER: &str = "character";
/// A picture. Prices tell them apart by size and quality: `image_1024x1024_hd`.
pub const IMAGE: &str = "image";
/// A million pixels of a picture, or a part of them.
pub const MEGAPIXEL: &str = "megapixel";
/// A billionth of a US dollar.
pub const NANO_USD: &str = "nano_usd";
/// A billionth of a US dollar that a provider charges to somebody's own key.
pub const OWN_NANO_USD: &str = "own_nano_usd";
/// One call under way.
pub const CONCURRENT: &str = "concurrent";

/// Whether it counts money: ours, or that of whoever brought a key.
#[must_use]
pub fn is_money(name: &str) -> bool {
    matches!(name, NANO_USD | OWN_NANO_USD)
}

/// Whether calls are counted in it, or in kinds of it, without a price list's asking for that.
#[must_use]
pub fn is_counted(name: &str) -> bool {
    let counted = [TOKEN, NANO_USD, CONCURRENT, SECOND, CHARACTER, MEGAPIXEL];
    let kinds = [REQUEST, TOKEN, NANO_USD].map(|kind| format!("_{kind}"));
    counted.contains(&name)
        || name == REQUEST
        || name.starts_with(IMAGE)
        || kinds.iter().any(|kind| name.ends_with(kind.as_str()))
}

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
    fn what_weir_counts_is_no_name_for_anything_else() {
        let ours = [REQUEST, CHAT_REQUEST, COUNT_TOKENS_REQUEST, REASONING_TOKEN, OWN_NANO_USD, CONCURRENT, "image_hd"];
        assert!(ours.into_iter().all(is_counted));
        assert!(!["task", "interview", "page", "seconds_saved"].into_iter().any(is_counted));
    }

    #[test]
    fn units_are_short_lower_case_names() {
        assert!(
            [
                REQUEST,
                CHAT_REQUEST,
                EMBEDDING_REQUEST,
                TRANSCRIPTION_REQUEST,
                SPEECH_REQUEST,
                IMAGE_REQUEST,
                INPUT_TOKEN,
                OUTPUT_TOKEN,
                TOKEN,
                NANO_USD,
                OWN_NANO_USD,
                CONCURRENT,
                CACHE_WRITE_1H_TOKEN,
                SECOND,
                CHARACTER,
                IMAGE,
                MEGAPIXEL,
                "image_1024x1024_hd",
            ]
            .into_iter()
            .all(is_valid)
        );
        assert!(
            !is_valid("") && !is_valid("Token") && !is_valid("1a") && !is_valid("a b") && !is_valid(&"a".repeat(64))
        );
    }
}
