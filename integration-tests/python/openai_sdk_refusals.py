"""What the official OpenAI SDK makes of Weir's refusals: python openai_sdk_refusals.py BASE_URL KEYS_AS_JSON.

The keys: `good`; `narrow` may not call models; `revoked`; `quick` has two requests per three seconds, `hourly` one per hour;
`poor` has a budget that no call fits in.
"""

import json
import sys
import time

import openai

BASE_URL = sys.argv[1]
KEYS = json.loads(sys.argv[2])
ARGUMENTS = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "how high is the water"}], "max_completion_tokens": 4}


def client(key, **options):
    return openai.OpenAI(base_url=BASE_URL, api_key=KEYS.get(key, key), timeout=30, **{"max_retries": 0, **options})


def ask(key, options=None, **arguments):
    return client(key, **(options or {})).chat.completions.create(**{**ARGUMENTS, **arguments})


def fails(kind, call):
    try:
        call()
    except openai.APIStatusError as error:
        assert type(error) is kind, f"expected {kind.__name__}, got {type(error).__name__}: {error}"
        # What a user sends to support.
        assert error.request_id and error.request_id == error.response.headers["x-request-id"]
        assert set(error.body) == {"message", "type", "param", "code"}, error.body
        return error
    raise AssertionError(f"expected {kind.__name__}")


def keys_that_are_none():
    for key in ["weir_wrong", "sk-proj-of-openai", "revoked"]:
        for stream in [False, True]:
            error = fails(openai.AuthenticationError, lambda: ask(key, stream=stream))
            assert error.code == "invalid_api_key", error.body
            assert KEYS.get(key, key) not in str(error), "a key in an error"


def a_key_without_the_scope():
    error = fails(openai.PermissionDeniedError, lambda: ask("narrow"))
    assert error.code == "insufficient_permissions" and "ai.invoke" in error.message, error.body
    fails(openai.PermissionDeniedError, lambda: ask("narrow", stream=True))


def bad_requests_name_the_parameter():
    for field, value in [("max_completion_tokens", -1), ("n", -3), ("stream", "yes")]:
        error = fails(openai.BadRequestError, lambda: ask("good", extra_body={field: value}))
        assert error.param == field, error.body


def what_is_not_there():
    for stream in [False, True]:
        error = fails(openai.NotFoundError, lambda: ask("good", model="no-such-model", stream=stream))
        assert error.code == "model_not_found", error.body
    fails(openai.NotFoundError, lambda: client("good").models.retrieve("no-such-model"))
    error = fails(openai.NotFoundError, lambda: client("good").moderations.create(input="x"))
    assert error.code == "not_found", error.body


def a_rate_limit_that_the_sdk_waits_for():
    start = time.monotonic()
    for _ in range(3):
        assert ask("quick", {"max_retries": 3}).usage.completion_tokens == 4
    waited = time.monotonic() - start
    assert 0.5 < waited < 10, waited


def a_rate_limit_that_the_sdk_does_not_wait_for():
    assert ask("hourly").usage.completion_tokens == 4
    start = time.monotonic()
    error = fails(openai.RateLimitError, lambda: ask("hourly", {"max_retries": 2}))
    assert time.monotonic() - start < 0.4, "a wait of an hour is not to be tried every second"
    assert error.code == "rate_limit_exceeded" and error.type == "rate_limit_error", error.body
    assert 3000 < int(error.response.headers["retry-after"]) <= 3600, error.response.headers
    fails(openai.RateLimitError, lambda: ask("hourly", stream=True))


def a_budget_that_is_used_up():
    error = fails(openai.APIStatusError, lambda: ask("poor", {"max_retries": 2}))
    assert (error.status_code, error.code) == (402, "insufficient_quota"), error.body


def large_bodies_that_are_refused():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (6 << 20)}}
    messages = [{"role": "user", "content": [image]}]
    fails(openai.AuthenticationError, lambda: ask("weir_wrong", messages=messages))
    image["image_url"]["url"] *= 4
    error = fails(openai.APIStatusError, lambda: ask("good", messages=messages))
    assert (error.status_code, error.code) == (413, "too_large"), error.body


CHECKS = [
    keys_that_are_none,
    a_key_without_the_scope,
    bad_requests_name_the_parameter,
    what_is_not_there,
    a_rate_limit_that_the_sdk_waits_for,
    a_rate_limit_that_the_sdk_does_not_wait_for,
    a_budget_that_is_used_up,
    large_bodies_that_are_refused,
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
