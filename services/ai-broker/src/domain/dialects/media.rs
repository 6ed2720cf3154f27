//! What media are charged by: seconds of audio, characters of speech, pictures by size and quality.

use serde::Deserialize;
use serde::de::IgnoredAny;

pub use weir_media::{Format as AudioFormat, NoDuration, audio_duration, format as audio_format};

/// Pictures of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// How many at most.
    pub count: i64,
    /// Width and height in pixels; nothing where the model chooses.
    pub size: Option<(u32, u32)>,
    /// As the request says it; nothing where the model chooses.
    pub quality: Option<String>,
    /// How often each is shown while it is made.
    pub partial: i64,
}

/// The most pictures of one request that any provider makes.
const MOST_PICTURES: i64 = 10;
/// The most that one is shown before it is done, and the output tokens of each time
/// (<https://developers.openai.com/api/docs/guides/image-generation>).
const MOST_PARTIAL: i64 = 3;
const PARTIAL_TOKENS: i64 = 100;
/// A side beyond this is a mistake.
const MOST_PIXELS: u32 = 16_384;

/// Milliseconds of audio, rounded up: what a transcription reserves and is charged by where the provider does not say.
///
/// # Errors
/// The file does not say how long it plays.
pub fn audio_millis(file: &[u8]) -> Result<i64, NoDuration> {
    let micros = audio_duration(file)?.as_micros();
    i64::try_from(micros.div_ceil(1_000)).map_err(|_| NoDuration::Malformed)
}

/// Characters of a text as speech is charged by: Unicode scalar values, as OpenAI and ElevenLabs count.
#[must_use]
pub fn characters(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

impl Pictures {
    /// Reads a request of OpenAI's images API; nothing if it asks for what no model makes.
    #[must_use]
    pub fn of_openai(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            n: Option<i64>,
            size: Option<String>,
            quality: Option<String>,
            partial_images: Option<i64>,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        Self::openai(body.n, body.size.as_deref(), body.quality.as_deref(), body.partial_images)
    }

    /// Reads the fields of such a request that is a form.
    #[must_use]
    pub fn of_form(
        n: Option<&str>,
        size: Option<&str>,
        quality: Option<&str>,
        partial_images: Option<&str>,
    ) -> Option<Self> {
        let number = |text: Option<&str>| text.map(str::parse).transpose().ok();
        Self::openai(number(n)?, size, quality, number(partial_images)?)
    }

    fn openai(n: Option<i64>, size: Option<&str>, quality: Option<&str>, partial: Option<i64>) -> Option<Self> {
        let partial = partial.unwrap_or(0);
        if !(0..=MOST_PARTIAL).contains(&partial) {
            return None;
        }
        let size = match size {
            None | Some("auto") => None,
            Some(size) => {
                let (width, height) = size.split_once('x')?;
                Some(within(width.parse().ok()?, height.parse().ok()?)?)
            }
        };
        let quality = quality.filter(|quality| *quality != "auto").map(str::to_owned);
        Some(Self { count: count(n)?, size, quality, partial })
    }

    /// Reads a request of FAL's image models; nothing if it asks for what no model makes.
    #[must_use]
    pub fn of_fal(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Size {
            Preset(String),
            Own { width: u32, height: u32 },
        }
        #[derive(Deserialize)]
        struct Body {
            num_images: Option<i64>,
            image_size: Option<Size>,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        let size = match body.image_size {
            None => None,
            Some(Size::Own { width, height }) => Some(within(width, height)?),
            Some(Size::Preset(preset)) => Some(preset_size(&preset)?),
        };
        Some(Self { count: count(body.num_images)?, size, quality: None, partial: 0 })
    }

    /// Under which name a price book lists one such picture: `1024x1024/hd`, with `auto` for what the model chooses.
    #[must_use]
    pub fn price_key(&self) -> String {
        let size = self.size.map_or_else(|| "auto".to_owned(), |(width, height)| format!("{width}x{height}"));
        format!("{size}/{}", self.quality.as_deref().unwrap_or("auto"))
    }

    /// Megapixels of all pictures together, each rounded up; nothing where the model chooses the size. A megapixel is 1024 times
    /// 1024, as FAL's own examples have it: 1024x1024 is one, 1920x1080 are two, 512x512 is one
    /// (<https://fal.ai/models/fal-ai/flux-2-flex/llms.txt>; <https://fal.ai/models/fal-ai/flux-1/dev>: "billed by rounding up").
    #[must_use]
    pub fn megapixels(&self) -> Option<i64> {
        const MEGAPIXEL: i64 = 1_024 * 1_024;
        let (width, height) = self.size?;
        let each = (i64::from(width) * i64::from(height)).max(1);
        Some((each / MEGAPIXEL + i64::from(each % MEGAPIXEL > 0)) * self.count)
    }

    /// Output tokens of all pictures together at models that count a picture in tokens, by the table that OpenAI gives for its
    /// `gpt-image` models: the most there is where the request leaves a choice, so that it can be reserved.
    #[must_use]
    pub fn output_tokens(&self) -> i64 {
        let shape = self.size.map(|(width, height)| width.cmp(&height));
        let row = match self.quality.as_deref() {
            Some("low") => [272, 408, 400],
            Some("medium") => [1_056, 1_584, 1_568],
            _ => [4_160, 6_240, 6_208],
        };
        let each = match shape {
            Some(std::cmp::Ordering::Equal) => row[0],
            Some(std::cmp::Ordering::Greater) => row[2],
            Some(std::cmp::Ordering::Less) | None => row[1],
        };
        (each + self.partial * PARTIAL_TOKENS) * self.count
    }
}

/// How many pictures an answer holds: of OpenAI's images API, or the result of one of FAL's models; nothing if it is neither.
#[must_use]
pub fn delivered_pictures(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Body {
        data: Option<Vec<IgnoredAny>>,
        images: Option<Vec<IgnoredAny>>,
        image: Option<IgnoredAny>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let listed = body.data.or(body.images).map(|pictures| pictures.len());
    i64::try_from(listed.or(body.image.map(|_| 1))?).ok()
}

fn count(asked: Option<i64>) -> Option<i64> {
    Some(asked.unwrap_or(1)).filter(|count| (1..=MOST_PICTURES).contains(count))
}

fn within(width: u32, height: u32) -> Option<(u32, u32)> {
    [width, height].iter().all(|side| (1..=MOST_PIXELS).contains(side)).then_some((width, height))
}

/// FAL's names of sizes.
fn preset_size(name: &str) -> Option<(u32, u32)> {
    match name {
        "square_hd" => Some((1_024, 1_024)),
        "square" => Some((512, 512)),
        "portrait_4_3" => Some((768, 1_024)),
        "portrait_16_9" => Some((576, 1_024)),
        "landscape_4_3" => Some((1_024, 768)),
        "landscape_16_9" => Some((1_024, 576)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_apart_by_size_and_quality() {
        let read = |body: &str| Pictures::of_openai(body.as_bytes());
        let hd = read(r#"{"model":"dall-e-3","prompt":"x","size":"1024x1792","quality":"hd"}"#).expect("valid");
        assert_eq!((hd.count, hd.price_key().as_str()), (1, "1024x1792/hd"));
        let gpt = read(r#"{"prompt":"x","n":3,"size":"1536x1024","quality":"low"}"#).expect("valid");
        assert_eq!(gpt.output_tokens(), 3 * 400);
        let open = read(r#"{"prompt":"x","quality":"auto"}"#).expect("valid");
        assert_eq!((open.price_key().as_str(), open.output_tokens()), ("auto/auto", 6_240));
        for wrong in [r#"{"n":0}"#, r#"{"n":11}"#, r#"{"size":"big"}"#, r#"{"size":"0x5"}"#, r#"{"n":"1"}"#, "["] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn megapixels_are_rounded_up_for_each_picture() {
        let read = |body: &str| Pictures::of_fal(body.as_bytes()).expect("valid");
        assert_eq!(read(r#"{"image_size":{"width":1000,"height":1000}}"#).megapixels(), Some(1));
        assert_eq!(read(r#"{"image_size":"square_hd","num_images":4}"#).megapixels(), Some(4));
        for (width, height, megapixels) in [(512, 512, 1), (1024, 1024, 1), (1025, 1024, 2), (1920, 1080, 2)] {
            let body = format!(r#"{{"image_size":{{"width":{width},"height":{height}}}}}"#);
            assert_eq!(read(&body).megapixels(), Some(megapixels), "{width}x{height}");
        }
        assert_eq!(read(r#"{"image_size":"landscape_4_3"}"#).megapixels(), Some(1));
        assert_eq!(read("{}").megapixels(), None);
        assert_eq!(Pictures::of_fal(br#"{"image_size":"huge"}"#), None);
    }

    #[test]
    fn what_was_delivered_is_counted_in_the_answer() {
        let delivered = |body: &str| delivered_pictures(body.as_bytes());
        assert_eq!(delivered(r#"{"created":1,"data":[{"url":"a"},{"b64_json":"b"}]}"#), Some(2));
        assert_eq!(delivered(r#"{"images":[{"url":"a"}],"seed":7}"#), Some(1));
        assert_eq!(delivered(r#"{"image":{"url":"a"}}"#), Some(1));
        assert_eq!((delivered("{}"), delivered(r#"{"data":7}"#), delivered("")), (None, None, None));
    }

    #[test]
    fn characters_are_not_bytes() {
        assert_eq!(characters("Grüße aus Köln 🙂"), 16);
    }

    #[test]
    fn audio_that_is_not_audio_has_no_length() {
        assert_eq!(audio_millis(b"hello"), Err(NoDuration::Unknown));
    }
}
