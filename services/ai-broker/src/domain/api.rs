//! The APIs that are spoken: what a client asks in, and what its provider is asked in.

use super::request::InvalidRequest;

/// Whose words a provider understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// OpenAI, and everything that is compatible with it.
    #[default]
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// ElevenLabs.
    ElevenLabs,
    /// FAL's queue.
    Fal,
}

/// An endpoint: of a client's request, or of a provider's that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// OpenAI's `POST /v1/chat/completions`.
    Chat,
    /// OpenAI's `POST /v1/embeddings`.
    Embeddings,
    /// Anthropic's `POST /v1/messages`.
    Messages,
    /// Anthropic's `POST /v1/messages/count_tokens`.
    CountTokens,
    /// OpenAI's `POST /v1/responses`.
    Responses,
    /// OpenAI's `POST /v1/audio/transcriptions`.
    Transcriptions,
    /// OpenAI's `POST /v1/audio/speech`.
    Speech,
    /// OpenAI's `POST /v1/images/generations`.
    Images,
    /// OpenAI's `POST /v1/images/edits`.
    ImageEdits,
    /// ElevenLabs' `POST /v1/text-to-speech/{voice}`.
    TextToSpeech,
    /// FAL's queue, `POST /{model}`: the request is submitted, and its result is fetched when it is done.
    FalQueue,
}

impl Api {
    /// As in usage records.
    pub(crate) const fn operation(self) -> &'static str {
        match self {
            Self::Chat => "chat.completions",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "messages.count_tokens",
            Self::Responses => "responses",
            Self::Transcriptions => "audio.transcriptions",
            Self::Speech | Self::TextToSpeech => "audio.speech",
            Self::Images | Self::FalQueue => "images.generations",
            Self::ImageEdits => "images.edits",
        }
    }

    /// Whether answers can come as a stream.
    pub(crate) const fn streams(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens | Self::FalQueue)
    }

    /// Whether answers are sounds, which come as a stream only.
    pub(crate) const fn is_sound(self) -> bool {
        matches!(self, Self::Speech | Self::TextToSpeech)
    }

    /// Whether sounds are heard or pictures made, which models may do without streaming although they are asked to.
    pub(crate) const fn is_media(self) -> bool {
        matches!(self, Self::Transcriptions | Self::Images | Self::ImageEdits)
    }

    /// The endpoint of a provider that answers such a request.
    pub(crate) fn at(self, dialect: Dialect) -> Option<Self> {
        match (self, dialect) {
            (Self::TextToSpeech | Self::FalQueue | Self::CountTokens, Dialect::OpenAi) => None,
            (Self::Messages, Dialect::OpenAi) => Some(Self::Chat),
            (_, Dialect::OpenAi) => Some(self),
            (Self::Chat | Self::Messages, Dialect::Anthropic) => Some(Self::Messages),
            (Self::CountTokens, Dialect::Anthropic) => Some(self),
            (Self::Speech | Self::TextToSpeech, Dialect::ElevenLabs) => Some(Self::TextToSpeech),
            (Self::Images, Dialect::Fal) => Some(Self::FalQueue),
            (_, Dialect::Anthropic | Dialect::ElevenLabs | Dialect::Fal) => None,
        }
    }

    /// Why there is none.
    pub(crate) fn not_at(self, model: &str) -> InvalidRequest {
        let what = self.operation();
        InvalidRequest::new("model", format!("`{model}` can't be asked for {what}: its provider has no such API."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_translated_and_the_rest_is_asked_of_who_knows_it() {
        assert_eq!(Api::Chat.at(Dialect::OpenAi), Some(Api::Chat));
        assert_eq!(Api::Chat.at(Dialect::Anthropic), Some(Api::Messages));
        assert_eq!(Api::Messages.at(Dialect::OpenAi), Some(Api::Chat));
        assert_eq!(Api::Messages.at(Dialect::Anthropic), Some(Api::Messages));
        assert_eq!(Api::Embeddings.at(Dialect::Anthropic), None);
        assert_eq!(Api::CountTokens.at(Dialect::Anthropic), Some(Api::CountTokens));
        assert_eq!(Api::CountTokens.at(Dialect::OpenAi), None);
        assert_eq!(Api::Responses.at(Dialect::Anthropic), None);
        assert_eq!(Api::Speech.at(Dialect::ElevenLabs), Some(Api::TextToSpeech));
        assert_eq!(Api::Speech.at(Dialect::OpenAi), Some(Api::Speech));
        assert_eq!(Api::TextToSpeech.at(Dialect::OpenAi), None);
        assert_eq!(Api::Images.at(Dialect::Fal), Some(Api::FalQueue));
        assert_eq!(Api::Chat.at(Dialect::Fal), None);
        assert_eq!(
            (Api::ImageEdits.at(Dialect::OpenAi), Api::ImageEdits.at(Dialect::Fal)),
            (Some(Api::ImageEdits), None)
        );
        assert!(Api::Embeddings.not_at("m").message.contains("embeddings"));
    }
}
