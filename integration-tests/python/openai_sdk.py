"""The official OpenAI SDK, as it is, against Weir: python openai_sdk.py BASE_URL API_KEY."""

import asyncio
import json
import sys

import openai

BASE_URL, API_KEY = sys.argv[1:3]
MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "how high is the water"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "measure",
            "description": "Measures the water",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        },
    }
]

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=30)


def ask(simulate="", **arguments):
    arguments = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 12, **arguments}
    if simulate:
        arguments["metadata"] = {"simulate": simulate}
    return client.chat.completions.create(**arguments)


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


def a_plain_answer():
    answer = ask()
    assert len(answer.choices[0].message.content.split(" ")) == 12
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 12)
    assert answer.choices[0].finish_reason == "length"


def the_headers_of_an_answer():
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=3)
    assert raw.parse().usage.completion_tokens == 3
    assert raw.headers["x-request-id"]
    assert float(raw.headers["weir-cost-usd"].lstrip("$")) > 0, raw.headers
    assert raw.headers["weir-model"] == MODEL


def a_stream_without_usage():
    chunks = list(ask(stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(text.split(" ")) == 12, text
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def a_stream_with_usage():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 12 and not chunks[-1].choices
    assert all(chunk.usage is None for chunk in chunks[:-1])


def several_choices():
    answer = ask(n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 36


def a_tool_call():
    choice = ask(tools=TOOLS, tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "measure"
    assert json.loads(call.function.arguments)["text"]


def a_streamed_tool_call():
    arguments = ""
    for chunk in ask(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "measure"}}, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            arguments += call.function.arguments or ""
    assert len(json.loads(arguments)["text"].split(" ")) == 12


def an_image_in_a_message():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    content = [{"type": "text", "text": "what is this"}, image]
    answer = ask(messages=[{"role": "user", "content": content}])
    assert answer.usage.prompt_tokens == 3 + 85


def embeddings():
    # The SDK asks for base64 unless it is told otherwise.
    answer = client.embeddings.create(model="text-embedding-3-small", input=["two words", "and three more"])
    assert [len(item.embedding) for item in answer.data] == [1536, 1536]
    assert answer.usage.prompt_tokens == 5
    plain = client.embeddings.create(model="text-embedding-3-small", input="x", encoding_format="float", dimensions=8)
    assert len(plain.data[0].embedding) == 8


def the_models():
    names = [model.id for model in client.models.list()]
    assert MODEL in names, names
    assert client.models.retrieve(MODEL).id == MODEL


def errors_are_of_the_sdks_classes():
    wrong = client.with_options(api_key="weir_wrong")
    error = fails(openai.AuthenticationError, lambda: wrong.models.list())
    assert error.code == "invalid_api_key", error.body
    error = fails(openai.NotFoundError, lambda: ask(model="no-such-model"))
    assert error.code == "model_not_found", error.body
    fails(openai.BadRequestError, lambda: ask(max_completion_tokens=-1))
    fails(openai.BadRequestError, lambda: ask(simulate="status=400,tag=sdk"))
    fails(openai.InternalServerError, lambda: ask(simulate="body=html,tag=sdk"))


def an_error_in_the_middle_of_a_stream():
    fails(openai.APIError, lambda: list(ask(simulate="error_after=3,tag=sdk", stream=True)))


def a_timeout():
    impatient = client.with_options(timeout=0.3)
    call = impatient.chat.completions.create
    arguments = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 5}
    fails(openai.APITimeoutError, lambda: call(**arguments, metadata={"simulate": "latency_ms=1500"}))


def the_sdks_own_retries():
    patient = client.with_options(max_retries=2)
    answer = patient.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=5, metadata={"simulate": "status=500,fail_times=1,tag=retry"}
    )
    assert answer.usage.completion_tokens == 5


def the_asynchronous_client():
    async def many():
        async with openai.AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0) as asynchronous:
            async def one():
                stream = await asynchronous.chat.completions.create(
                    model=MODEL, messages=MESSAGES, max_completion_tokens=20, stream=True
                )
                return len([chunk async for chunk in stream if chunk.choices and chunk.choices[0].delta.content])

            return await asyncio.gather(*(one() for _ in range(20)))

    assert asyncio.run(many()) == [20] * 20


CHECKS = [
    a_plain_answer,
    the_headers_of_an_answer,
    a_stream_without_usage,
    a_stream_with_usage,
    several_choices,
    a_tool_call,
    a_streamed_tool_call,
    an_image_in_a_message,
    embeddings,
    the_models,
    errors_are_of_the_sdks_classes,
    an_error_in_the_middle_of_a_stream,
    a_timeout,
    the_sdks_own_retries,
    the_asynchronous_client,
]

failed = 0
for check in CHECKS:
    try:
        check()
        print(f"ok      {check.__name__}")
    except Exception as error:  # noqa: BLE001: every check is told, whatever it failed with
        failed += 1
        print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}")
sys.exit(1 if failed else 0)
