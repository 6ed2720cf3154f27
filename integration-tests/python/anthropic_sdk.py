"""Both official SDKs, as they are, against models of both kinds: python anthropic_sdk.py BASE_URL API_KEY.

Anthropic's SDK asks a model of Anthropic's (passed on) and one of OpenAI's (translated); OpenAI's SDK asks a model of
Anthropic's (translated). What OpenAI's SDK gets from a model of OpenAI's is in openai_sdk.py.
"""

import asyncio
import json
import sys

import anthropic
import openai

BASE_URL, API_KEY = sys.argv[1:3]
CLAUDE, GPT = "claude-haiku-4-5", "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "how high is the water"}]
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOL = {"name": "measure", "description": "Measures the water", "input_schema": SCHEMA}
FUNCTION = {"name": "measure", "description": "Measures the water", "parameters": SCHEMA}

# Anthropic's SDK adds `/v1` by itself.
claude = anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key=API_KEY, max_retries=0, timeout=30)
chat = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=30)


def message(model, **arguments):
    return claude.messages.create(**{"model": model, "messages": MESSAGES, "max_tokens": 12, **arguments})


def completion(**arguments):
    arguments = {"model": CLAUDE, "messages": MESSAGES, "max_completion_tokens": 12, **arguments}
    return chat.chat.completions.create(**arguments)


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


def a_message(model):
    answer = message(model, system="be brief")
    assert answer.type == "message" and answer.role == "assistant"
    assert len(answer.content[0].text.split(" ")) == 12, answer
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 12), answer.usage
    assert answer.stop_reason == "max_tokens"


def tokens_are_counted():
    counted = claude.messages.count_tokens(model=CLAUDE, messages=MESSAGES, system="be brief", tools=[TOOL])
    assert counted.input_tokens > 5, counted
    error = fails(anthropic.BadRequestError, lambda: claude.messages.count_tokens(model=GPT, messages=MESSAGES))
    assert "can't be asked for messages.count_tokens" in str(error), error


def the_headers_of_a_message(model):
    raw = claude.messages.with_raw_response.create(model=model, messages=MESSAGES, max_tokens=3)
    assert raw.parse()._request_id == raw.headers["x-request-id"] == raw.headers["request-id"]
    assert float(raw.headers["weir-cost-usd"]) > 0, raw.headers
    assert raw.headers["weir-model"].startswith(model), raw.headers


def a_streamed_message(model):
    with claude.messages.stream(model=model, messages=MESSAGES, max_tokens=12) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert len(text.split(" ")) == 12 and final.content[0].text == text
    assert (final.usage.output_tokens, final.stop_reason) == (12, "max_tokens"), final


def the_events_of_a_stream(model):
    kinds = [event.type for event in message(model, stream=True)]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1, kinds
    assert kinds.count("content_block_delta") >= 12, kinds


def a_tool_is_used(model):
    answer = message(model, tools=[TOOL], tool_choice={"type": "tool", "name": "measure"})
    assert answer.stop_reason == "tool_use", answer
    use = next(block for block in answer.content if block.type == "tool_use")
    assert use.name == "measure" and use.id and use.input["text"]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "three feet"}
    turns = [*MESSAGES, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert message(model, messages=turns, tools=[TOOL]).content[0].text


def a_tool_is_used_in_a_stream(model):
    with claude.messages.stream(
        model=model, messages=MESSAGES, max_tokens=12, tools=[TOOL], tool_choice={"type": "any"}
    ) as stream:
        final = stream.get_final_message()
    use = next(block for block in final.content if block.type == "tool_use")
    assert use.name == "measure" and use.input["text"] and final.stop_reason == "tool_use", final


def a_picture_in_a_message(model):
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    content = [{"type": "text", "text": "what is this"}, {"type": "image", "source": source}]
    answer = message(model, messages=[{"role": "user", "content": content}])
    assert answer.usage.input_tokens == 3 + 85, answer.usage


def errors_of_anthropics_classes(model):
    wrong = claude.with_options(api_key="weir_wrong")
    error = fails(
        anthropic.AuthenticationError,
        lambda: wrong.messages.create(model=model, messages=MESSAGES, max_tokens=1),
    )
    assert error.body["error"]["type"] == "authentication_error" and error.body["request_id"], error.body
    error = fails(anthropic.NotFoundError, lambda: message("no-such-model"))
    assert error.body["error"]["type"] == "not_found_error", error.body
    error = fails(anthropic.BadRequestError, lambda: message(model, max_tokens=-1))
    assert "max_tokens" in error.body["error"]["message"], error.body


def the_asynchronous_client(model):
    async def many():
        async with anthropic.AsyncAnthropic(
            base_url=BASE_URL.removesuffix("/v1"), api_key=API_KEY, max_retries=0
        ) as asynchronous:

            async def one():
                async with asynchronous.messages.stream(model=model, messages=MESSAGES, max_tokens=9) as stream:
                    return len([text async for text in stream.text_stream])

            return await asyncio.gather(*(one() for _ in range(20)))

    assert asyncio.run(many()) == [9] * 20


def thinking():
    answer = message(CLAUDE, max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})
    assert [block.type for block in answer.content] == ["thinking", "text"], answer
    assert answer.content[0].signature
    turns = [*MESSAGES, {"role": "assistant", "content": answer.content}, {"role": "user", "content": "and now"}]
    assert message(CLAUDE, messages=turns).content[0].text
    with claude.messages.stream(
        model=CLAUDE, messages=MESSAGES, max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        assert stream.get_final_message().content[0].thinking


def the_prompt_cache():
    system = [{"type": "text", "text": "word " * 1500, "cache_control": {"type": "ephemeral"}}]
    first, second = message(CLAUDE, system=system), message(CLAUDE, system=system)
    assert first.usage.cache_creation_input_tokens == 1500, first.usage
    assert (second.usage.cache_read_input_tokens, second.usage.input_tokens) == (1500, 5), second.usage


def what_has_a_price_of_its_own_is_refused():
    search = {"type": "web_search_20250305", "name": "web_search"}
    error = fails(anthropic.BadRequestError, lambda: message(CLAUDE, tools=[search]))
    assert "tools[0].type" in error.body["error"]["message"], error.body


def what_the_other_kind_has_no_word_for_is_refused_by_name():
    error = fails(anthropic.BadRequestError, lambda: message(GPT, extra_body={"top_k": 5}))
    assert "top_k" in error.body["error"]["message"], error.body
    error = fails(openai.BadRequestError, lambda: completion(logit_bias={"50256": -100}))
    assert error.param == "logit_bias", error.body


def the_models_as_anthropic_lists_them():
    models = {model.id: model for model in claude.models.list()}
    assert models[CLAUDE].type == "model" and GPT in models
    assert claude.models.retrieve(CLAUDE).id == CLAUDE


def a_chat_with_claude():
    answer = completion(messages=[{"role": "system", "content": "be brief"}, *MESSAGES])
    assert len(answer.choices[0].message.content.split(" ")) == 12
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 12), answer.usage
    assert (answer.object, answer.choices[0].finish_reason) == ("chat.completion", "length")


def a_chat_with_claude_without_a_bound():
    assert completion(max_completion_tokens=None).choices[0].finish_reason == "stop"


def a_streamed_chat_with_claude():
    chunks = list(completion(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split(" ")) == 12, text
    assert chunks[-1].usage.completion_tokens == 12 and not chunks[-1].choices
    assert all(chunk.usage is None for chunk in completion(stream=True))


def claude_calls_a_function():
    tools = [{"type": "function", "function": FUNCTION}]
    answer = completion(tools=tools, tool_choice="required").choices[0]
    call = answer.message.tool_calls[0]
    assert answer.finish_reason == "tool_calls" and json.loads(call.function.arguments)["text"]
    result = {"role": "tool", "tool_call_id": call.id, "content": "three feet"}
    again = completion(messages=[*MESSAGES, answer.message, result], tools=tools)
    assert again.choices[0].message.content


def claude_calls_a_function_in_a_stream():
    tools = [{"type": "function", "function": FUNCTION}]
    name = arguments = ""
    for chunk in completion(tools=tools, tool_choice={"type": "function", "function": {"name": "measure"}}, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert name == "measure" and json.loads(arguments)["text"]


def claude_thinks_for_a_chat():
    answer = completion(reasoning_effort="low", max_completion_tokens=2000)
    assert answer.choices[0].message.content and answer.choices[0].message.reasoning_content
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0, answer.usage


def a_picture_in_a_chat_with_claude():
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    content = [{"type": "text", "text": "what is this"}, image]
    assert completion(messages=[{"role": "user", "content": content}]).usage.prompt_tokens == 3 + 85


BY_MODEL = [
    a_message,
    the_headers_of_a_message,
    a_streamed_message,
    the_events_of_a_stream,
    a_tool_is_used,
    a_tool_is_used_in_a_stream,
    a_picture_in_a_message,
    errors_of_anthropics_classes,
    the_asynchronous_client,
]
CHECKS = [
    tokens_are_counted,
    thinking,
    the_prompt_cache,
    what_has_a_price_of_its_own_is_refused,
    what_the_other_kind_has_no_word_for_is_refused_by_name,
    the_models_as_anthropic_lists_them,
    a_chat_with_claude,
    a_chat_with_claude_without_a_bound,
    a_streamed_chat_with_claude,
    claude_calls_a_function,
    claude_calls_a_function_in_a_stream,
    claude_thinks_for_a_chat,
    a_picture_in_a_chat_with_claude,
]

failed = 0
for check, *model in [(check, model) for check in BY_MODEL for model in (CLAUDE, GPT)] + [(check,) for check in CHECKS]:
    name = " ".join([check.__name__, *model])
    try:
        check(*model)
        print(f"ok      {name}")
    except Exception as error:  # noqa: BLE001: every check is told, whatever it failed with
        failed += 1
        print(f"FAILED  {name}: {type(error).__name__}: {error}")
sys.exit(1 if failed else 0)
