"""The official OpenAI SDK, as it is, against Weir: python openai_sdk.py BASE_URL API_KEY."""

import asyncio
import json
import struct
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


def a_response():
    answer = client.responses.create(model=MODEL, input="how high is the water", max_output_tokens=16)
    assert len(answer.output_text.split(" ")) == 16, answer
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 16), answer.usage


def a_streamed_response():
    # The SDK's helper wants an answer that is complete; 16 tokens is what the model says unasked.
    with client.responses.stream(model=MODEL, input="how high is the water") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text and final.usage.output_tokens == 16, final


def a_response_calls_a_function():
    tool = {"type": "function", **TOOLS[0]["function"], "strict": False}
    answer = client.responses.create(model=MODEL, input="how high is it", tools=[tool], tool_choice="required")
    call = next(item for item in answer.output if item.type == "function_call")
    assert call.name == "measure" and json.loads(call.arguments)["text"]


def a_tone(seconds):
    """A WAV file of silence."""
    data = b"\0\0" * 8000 * seconds
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", len(data))
    return head + data


def a_transcription():
    raw = client.audio.transcriptions.with_raw_response.create(model="whisper-1", file=("a.wav", a_tone(3)))
    assert raw.headers["weir-cost-usd"] == "0.0003", raw.headers
    assert len(raw.parse().text.split(" ")) == 6
    text = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", a_tone(3)), response_format="text")
    assert len(text.strip().split(" ")) == 6, text
    fails(openai.BadRequestError, lambda: client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"x")))


def a_streamed_transcription():
    stream = client.audio.transcriptions.create(model="gpt-4o-mini-transcribe", file=("a.wav", a_tone(3)), stream=True)
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds == ["transcript.text.delta"] * 6 + ["transcript.text.done"], kinds
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert events[-1].usage.output_tokens == 6, events[-1]


def a_streamed_picture():
    arguments = {"model": "gpt-image-1", "prompt": "a weir", "size": "1024x1024", "quality": "low"}
    events = list(client.images.generate(stream=True, partial_images=2, **arguments))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds
    assert events[-1].b64_json and events[-1].usage.output_tokens == 272 + 2 * 100, events[-1].usage
    error = fails(openai.BadRequestError, lambda: client.images.generate(stream=True, n=2, **arguments))
    assert error.param == "n", error.body


def a_service_tier():
    answer = ask(service_tier="priority")
    assert answer.service_tier == "priority", answer.service_tier
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=10, service_tier="priority"
    )
    # 5 tokens at $0.25 and 10 at $1 a million.
    assert raw.headers["weir-cost-usd"] == "0.00001125", raw.headers


def speech():
    arguments = {"model": "tts-1", "voice": "alloy", "input": "how high is the water"}
    with client.audio.speech.with_streaming_response.create(**arguments) as response:
        sound = b"".join(response.iter_bytes())
    assert len(sound) > 1000 and response.headers["content-type"] == "audio/mpeg", response.headers


def pictures():
    answer = client.images.generate(model="gpt-image-1", prompt="a weir", size="1024x1024", quality="low", n=2)
    assert len(answer.data) == 2 and answer.data[0].b64_json
    assert answer.usage.output_tokens == 2 * 272, answer.usage


def edited_pictures():
    arguments = {"model": "gpt-image-1", "prompt": "a weir", "size": "1024x1024", "quality": "low"}
    given = [("a.png", b"png"), ("b.png", b"png")]
    answer = client.images.edit(image=given, mask=("mask.png", b"png"), input_fidelity="high", n=2, **arguments)
    assert len(answer.data) == 2 and answer.data[0].b64_json
    usage = answer.usage
    assert usage.output_tokens == 2 * 272 and usage.input_tokens_details.image_tokens == 3 * 85, usage
    events = list(client.images.edit(image=given[0], stream=True, partial_images=1, **arguments))
    kinds = [event.type for event in events]
    assert kinds == ["image_edit.partial_image", "image_edit.completed"], kinds
    error = fails(openai.BadRequestError, lambda: client.images.edit(image=given, stream=True, n=2, **arguments))
    assert error.param == "n", error.body


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
    a_response,
    a_streamed_response,
    a_response_calls_a_function,
    a_transcription,
    a_streamed_transcription,
    speech,
    pictures,
    edited_pictures,
    a_streamed_picture,
    a_service_tier,
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
