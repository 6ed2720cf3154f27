//! The shapes of both dialects, as far as they are translated.

use super::json::{Raw, Text, Word, object};

object! {
    /// The body of `POST /v1/chat/completions`.
    ChatRequest {
        "model" model: Raw<'a>,
        "messages" messages: Vec<ChatMessage<'a>>,
        "max_tokens" max_tokens: u64,
        "max_completion_tokens" max_completion_tokens: u64,
        "stop" stop: Raw<'a>,
        "temperature" temperature: Raw<'a>,
        "top_p" top_p: Raw<'a>,
        "stream" stream: bool,
        "stream_options" stream_options: StreamOptions<'a>,
        "tools" tools: Vec<ChatTool<'a>>,
        "tool_choice" tool_choice: Raw<'a>,
        "parallel_tool_calls" parallel_tool_calls: bool,
        "response_format" response_format: ResponseFormat<'a>,
        "reasoning_effort" reasoning_effort: Word<'a>,
        "user" user: Text<'a>,
        "safety_identifier" safety_identifier: Text<'a>,
        "service_tier" service_tier: Word<'a>,
        "n" n: u64,
        "modalities" modalities: Vec<Word<'a>>,
        "verbosity" verbosity: Word<'a>,
        "store" store: Raw<'a>,
        "logprobs" logprobs: Raw<'a>,
        "top_logprobs" top_logprobs: Raw<'a>,
        "logit_bias" logit_bias: Raw<'a>,
        "frequency_penalty" frequency_penalty: Raw<'a>,
        "presence_penalty" presence_penalty: Raw<'a>,
        "seed" seed: Raw<'a>,
        "audio" audio: Raw<'a>,
        "functions" functions: Raw<'a>,
        "function_call" function_call: Raw<'a>,
        "web_search_options" web_search_options: Raw<'a>,
        "moderation" moderation: Raw<'a>,
        "metadata" metadata: Raw<'a>,
        "prediction" prediction: Raw<'a>,
        "prompt_cache_key" prompt_cache_key: Raw<'a>,
        "prompt_cache_options" prompt_cache_options: Raw<'a>,
        "prompt_cache_retention" prompt_cache_retention: Raw<'a>,
    }
}

object! {
    /// What a stream shall carry beside the answer.
    StreamOptions {
        "include_usage" include_usage: bool,
        "include_obfuscation" include_obfuscation: bool,
    }
}

object! {
    /// A message of a chat, asked or answered.
    ChatMessage {
        "role" role: Word<'a>,
        "content" content: Raw<'a>,
        "name" name: Raw<'a>,
        "refusal" refusal: Text<'a>,
        "tool_calls" tool_calls: Vec<ToolCall<'a>>,
        "tool_call_id" tool_call_id: Text<'a>,
        "reasoning_content" reasoning_content: Text<'a>,
        "reasoning" reasoning: Raw<'a>,
        "thinking_blocks" thinking_blocks: Vec<Block<'a>>,
        "function_call" function_call: Raw<'a>,
        "audio" audio: Raw<'a>,
        "annotations" annotations: Raw<'a>,
    }
}

object! {
    /// A part of a chat message's content.
    ChatPart {
        "type" kind: Word<'a>,
        "text" text: Text<'a>,
        "refusal" refusal: Text<'a>,
        "image_url" image_url: ImageUrl<'a>,
        "file" file: ChatFile<'a>,
        "input_audio" input_audio: Raw<'a>,
        "cache_control" cache_control: Raw<'a>,
        "prompt_cache_breakpoint" prompt_cache_breakpoint: Raw<'a>,
    }
}

object! {
    /// An image by URL, which may hold the image itself.
    ImageUrl {
        "url" url: Word<'a>,
        "detail" detail: Word<'a>,
    }
}

object! {
    /// A file of a chat message.
    ChatFile {
        "file_data" file_data: Word<'a>,
        "file_id" file_id: Raw<'a>,
        "filename" filename: Text<'a>,
    }
}

object! {
    /// A call of a tool, whole or a piece of a stream.
    ToolCall {
        "index" index: u32,
        "id" id: Text<'a>,
        "type" kind: Word<'a>,
        "function" function: CalledFunction<'a>,
    }
}

object! {
    /// The function that is called.
    CalledFunction {
        "name" name: Text<'a>,
        "arguments" arguments: Text<'a>,
    }
}

object! {
    /// A tool that may be called.
    ChatTool {
        "type" kind: Word<'a>,
        "function" function: Function<'a>,
        "cache_control" cache_control: Raw<'a>,
    }
}

object! {
    /// A function that may be called.
    Function {
        "name" name: Text<'a>,
        "description" description: Text<'a>,
        "parameters" parameters: Raw<'a>,
        "strict" strict: bool,
    }
}

object! {
    /// Which tool shall be called.
    ChatToolChoice {
        "type" kind: Word<'a>,
        "function" function: Function<'a>,
    }
}

object! {
    /// What form the answer shall have.
    ResponseFormat {
        "type" kind: Word<'a>,
        "json_schema" json_schema: JsonSchema<'a>,
    }
}

object! {
    /// The schema of an answer.
    JsonSchema {
        "name" name: Raw<'a>,
        "description" description: Raw<'a>,
        "strict" strict: bool,
        "schema" schema: Raw<'a>,
    }
}

object! {
    /// A chat completion, or a chunk of one.
    ChatAnswer {
        "id" id: Text<'a>,
        "model" model: Text<'a>,
        "choices" choices: Vec<Choice<'a>>,
        "usage" usage: Raw<'a>,
        "error" error: Raw<'a>,
    }
}

object! {
    /// One answer of a chat completion.
    Choice {
        "index" index: u32,
        "message" message: ChatMessage<'a>,
        "delta" delta: ChatMessage<'a>,
        "finish_reason" finish_reason: Word<'a>,
        "stop_reason" stop_reason: Raw<'a>,
    }
}

object! {
    /// The body of `POST /v1/messages`.
    MessagesRequest {
        "model" model: Raw<'a>,
        "messages" messages: Vec<TurnMessage<'a>>,
        "max_tokens" max_tokens: u64,
        "system" system: Raw<'a>,
        "stop_sequences" stop_sequences: Vec<Text<'a>>,
        "temperature" temperature: Raw<'a>,
        "top_p" top_p: Raw<'a>,
        "top_k" top_k: Raw<'a>,
        "stream" stream: bool,
        "tools" tools: Vec<MessagesTool<'a>>,
        "tool_choice" tool_choice: MessagesToolChoice<'a>,
        "thinking" thinking: Thinking<'a>,
        "output_config" output_config: OutputConfig<'a>,
        "metadata" metadata: Metadata<'a>,
        "service_tier" service_tier: Word<'a>,
        "container" container: Raw<'a>,
        "context_management" context_management: Raw<'a>,
        "mcp_servers" mcp_servers: Raw<'a>,
        "inference_geo" inference_geo: Raw<'a>,
        "speed" speed: Word<'a>,
        "cache_control" cache_control: Raw<'a>,
    }
}

object! {
    /// A turn of the conversation.
    TurnMessage {
        "role" role: Word<'a>,
        "content" content: Raw<'a>,
    }
}

object! {
    /// A block of content, asked or answered.
    Block {
        "type" kind: Word<'a>,
        "text" text: Text<'a>,
        "source" source: Source<'a>,
        "id" id: Text<'a>,
        "name" name: Text<'a>,
        "input" input: Raw<'a>,
        "tool_use_id" tool_use_id: Text<'a>,
        "content" content: Raw<'a>,
        "is_error" is_error: bool,
        "thinking" thinking: Text<'a>,
        "signature" signature: Text<'a>,
        "data" data: Text<'a>,
        "title" title: Text<'a>,
        "context" context: Raw<'a>,
        "citations" citations: Raw<'a>,
        "caller" caller: Raw<'a>,
        "index" index: u32,
        "cache_control" cache_control: Raw<'a>,
    }
}

object! {
    /// Where an image or document is.
    Source {
        "type" kind: Word<'a>,
        "media_type" media_type: Word<'a>,
        "data" data: Word<'a>,
        "url" url: Text<'a>,
        "file_id" file_id: Raw<'a>,
    }
}

object! {
    /// A tool that may be used.
    MessagesTool {
        "type" kind: Word<'a>,
        "name" name: Text<'a>,
        "description" description: Text<'a>,
        "input_schema" input_schema: Raw<'a>,
        "strict" strict: bool,
        "cache_control" cache_control: Raw<'a>,
        "eager_input_streaming" eager_input_streaming: Raw<'a>,
    }
}

object! {
    /// Which tool shall be used.
    MessagesToolChoice {
        "type" kind: Word<'a>,
        "name" name: Text<'a>,
        "disable_parallel_tool_use" disable_parallel_tool_use: bool,
    }
}

object! {
    /// Whether and how much shall be thought.
    Thinking {
        "type" kind: Word<'a>,
        "budget_tokens" budget_tokens: u64,
        "display" display: Word<'a>,
    }
}

object! {
    /// How hard to try, and what form the answer shall have.
    OutputConfig {
        "effort" effort: Word<'a>,
        "format" format: OutputFormat<'a>,
    }
}

object! {
    /// The form of an answer.
    OutputFormat {
        "type" kind: Word<'a>,
        "schema" schema: Raw<'a>,
    }
}

object! {
    /// Who asks.
    Metadata {
        "user_id" user_id: Text<'a>,
    }
}

object! {
    /// A message that was answered.
    Message {
        "id" id: Text<'a>,
        "model" model: Text<'a>,
        "content" content: Vec<Block<'a>>,
        "stop_reason" stop_reason: Word<'a>,
        "stop_sequence" stop_sequence: Text<'a>,
        "usage" usage: Raw<'a>,
    }
}

object! {
    /// An event of a streamed message.
    Event {
        "type" kind: Word<'a>,
        "index" index: u32,
        "message" message: Message<'a>,
        "content_block" content_block: Block<'a>,
        "delta" delta: Delta<'a>,
        "usage" usage: Raw<'a>,
        "error" error: Raw<'a>,
    }
}

object! {
    /// What an event adds.
    Delta {
        "type" kind: Word<'a>,
        "text" text: Text<'a>,
        "partial_json" partial_json: Text<'a>,
        "thinking" thinking: Text<'a>,
        "signature" signature: Text<'a>,
        "stop_reason" stop_reason: Word<'a>,
        "stop_sequence" stop_sequence: Text<'a>,
    }
}

object! {
    /// An error, in either dialect.
    ErrorDetail {
        "type" kind: Word<'a>,
        "message" message: Text<'a>,
        "param" param: Raw<'a>,
        "code" code: Raw<'a>,
    }
}

object! {
    /// A body that says what went wrong.
    ErrorBody {
        "error" error: Raw<'a>,
    }
}

/// What stands in `error`, in either dialect.
pub(super) fn object_of_error(body: &[u8]) -> Option<Raw<'_>> {
    serde_json::from_slice::<ErrorBody<'_>>(body).ok()?.error
}
