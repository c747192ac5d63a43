"""What is refused, with which status and in which shape; and that nothing can break the server."""

import http.client
import json
import random
import re
import socket

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_tools import MODEL, STORY, expected, served, tiny_engine
from timing_tools import patient, wait_until

from llama3lib.serve.app import create_app
from llama3lib.serve.settings import Limits

KEY = "sesame-opens"
COMPLETE, CHAT = "/v1/completions", "/v1/chat/completions"
ASK = {"model": MODEL, "prompt": STORY, "max_tokens": 2}
SAY = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def server():
    limits = Limits(max_body_bytes=200_000, max_texts=8, max_tokens=100)
    with tiny_engine(max_num_seqs=6) as engine, served(engine, limits=limits) as running:
        yield running


@pytest.fixture(scope="module")
def locked():
    with tiny_engine() as engine, served(engine, api_key=KEY, chat=False) as running:
        yield running


def check_shape(answer):
    error = answer["error"]
    assert answer.keys() == {"error"} and error.keys() == {"message", "type", "param", "code"}
    assert error["message"] and not re.search(r"Traceback|Error\b|\.py|<class", error["message"])
    return error


def refused(server, path, body, status, *, param=None, code=None, **headers):
    got, answer = server.post(path, body, **headers)
    error = check_shape(answer)
    assert got == status, answer
    assert param is None or error["param"] == param, answer
    assert code is None or error["code"] == code, answer
    return error


class TestKey:
    @pytest.mark.parametrize(
        "header", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer é"]
    )
    def test_without_the_key_nobody_comes_in(self, locked, header):
        for path in (COMPLETE, "/v1/no-such-path"):
            error = refused(locked, path, ASK, 401, Authorization=header)
            assert error["code"] == "invalid_api_key" and KEY not in str(error)
        assert locked.get("/v1/models")[0] == locked.get("/metrics")[0] == 401
        assert locked.get("/health")[0] == 200

    def test_the_official_client(self, locked):
        with pytest.raises(openai.AuthenticationError):
            locked.client("wrong").completions.create(**ASK)
        assert locked.client(KEY).completions.create(**ASK).usage.completion_tokens == 2

    def test_a_base_model_is_no_chat_model(self, locked):
        with pytest.raises(openai.BadRequestError, match="no chat model") as error:
            locked.client(KEY).chat.completions.create(**SAY)
        assert error.value.code == "not_a_chat_model"


class TestLimits:
    def test_unknown_model(self, server):
        for path, body in ((COMPLETE, ASK), (CHAT, SAY)):
            refused(server, path, body | {"model": "gpt"}, 404, code="model_not_found")
        with pytest.raises(openai.NotFoundError):
            server.client().models.retrieve("gpt/x")

    @pytest.mark.parametrize(
        ("path", "change"),
        [
            (COMPLETE, {"prompt": "mill " * 600}),
            (COMPLETE, {"prompt": "x" * 100_000}),
            (COMPLETE, {"prompt": [1] * 512}),
            (COMPLETE, {"prompt": ["ok", [1] * 512][1:]}),
            (COMPLETE, {"max_tokens": 511}),
            (COMPLETE, {"max_tokens": 10**30}),
            (CHAT, {"messages": SAY["messages"] * 200}),
            (CHAT, {"messages": [{"role": "user", "content": "mill " * 600}]}),
            (CHAT, {"max_completion_tokens": 5000}),
        ],
    )
    def test_more_than_the_context(self, server, path, change):
        body = (ASK if path == COMPLETE else SAY) | change
        refused(server, path, body, 400, code="context_length_exceeded")

    def test_the_longest_that_fits(self, server):
        made = server.client().completions.create(
            model=MODEL, prompt=[5] * 412, max_tokens=100, extra_body={"ignore_eos": True}
        )
        assert made.usage.total_tokens == 512
        refused(server, COMPLETE, ASK | {"max_tokens": 101}, 400, param="max_tokens")
        chat = server.client().chat.completions.create(
            model=MODEL, messages=SAY["messages"], extra_body={"ignore_eos": True}
        )
        assert chat.usage.completion_tokens == 100

    @pytest.mark.parametrize("size", [200_001, 3_000_000])
    def test_large_bodies(self, server, size):
        with pytest.raises(openai.APIStatusError) as error:
            server.client().completions.create(**ASK | {"prompt": "x" * size})
        assert error.value.status_code == 413

    def test_large_bodies_of_unknown_length(self, server):
        connection = http.client.HTTPConnection(
            server.address.removeprefix("http://"), timeout=patient(30)
        )
        parts = (b"x" * 50_000 for _ in range(10))
        headers = {"Content-Type": "application/json"}
        connection.request("POST", COMPLETE, parts, headers, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413 and check_shape(json.load(answer))
        connection.close()

    def test_a_body_that_never_comes(self):
        limits = Limits(read_seconds=0.3)
        with tiny_engine() as engine, served(engine, limits=limits) as running:
            host, port = running.address.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), timeout=patient(20)) as sock:
                sock.sendall(
                    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
                    b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
                )
                assert sock.recv(100).startswith(b"HTTP/1.1 408")

    def test_too_many_at_once(self):
        limits = Limits(max_concurrent=1)
        with tiny_engine() as engine, served(engine, limits=limits) as running:
            client = running.client()
            with client.completions.create(
                **ASK | {"max_tokens": 400}, stream=True, extra_body={"ignore_eos": True}
            ) as stream:
                next(stream)
                with pytest.raises(openai.RateLimitError) as error:
                    client.completions.create(**ASK)
                assert error.value.response.headers["Retry-After"] == "1"
                check_shape(error.value.response.json())
                assert len(list(stream)) >= 1
            # whoever has read an answer to its end has left the seat
            for _ in range(10):
                assert list(client.completions.create(**ASK, stream=True))
            assert client.completions.create(**ASK).usage.completion_tokens == 2

    def test_limits_are_checked(self):
        with pytest.raises(ValueError, match="max_concurrent=0"):
            Limits(max_concurrent=0)
        with tiny_engine() as engine:
            for wrong in ({"model_name": ""}, {"model_name": "m", "api_key": ""}):
                with pytest.raises(ValueError, match="not allowed"):
                    create_app(engine, **wrong)
            engine.tokenizer = None
            with pytest.raises(ValueError, match="no tokenizer"):
                create_app(engine, model_name="m")


UNSUPPORTED = [
    ("suffix", "end"), ("best_of", 3), ("functions", [{}]), ("length_penalty", 2),
    ("guided_whitespace_pattern", " "), ("allowed_token_ids", [1]), ("prompt_logprobs", 1),
]  # fmt: skip
HARMLESS = {
    "user": "me", "metadata": {"a": 1}, "store": False, "service_tier": "auto", "logit_bias": {},
    "presence_penalty": 0.0, "frequency_penalty": None, "response_format": {"type": "text"},
    "invented": [1, 2], "best_of": 1, "parallel_tool_calls": True,
}  # fmt: skip
WRONG = [
    (COMPLETE, {"temperature": 2.5}, "temperature"), (COMPLETE, {"temperature": "1"}, None),
    (COMPLETE, {"temperature": -1}, "temperature"), (COMPLETE, {"top_p": 0}, "top_p"),
    (COMPLETE, {"top_p": 1.1}, "top_p"), (COMPLETE, {"min_p": 1}, "min_p"),
    (COMPLETE, {"top_k": -2}, "top_k"), (COMPLETE, {"n": 0}, "n"), (COMPLETE, {"n": 7}, "n"),
    (COMPLETE, {"n": True}, "n"), (COMPLETE, {"n": 2.0}, "n"), (COMPLETE, {"n": 10**40}, "n"),
    (COMPLETE, {"max_tokens": -1}, "max_tokens"), (COMPLETE, {"seed": 2**63}, "seed"),
    (COMPLETE, {"stop": [""]}, "stop"), (COMPLETE, {"stop": ["x"] * 17}, "stop"),
    (COMPLETE, {"stop": "x" * 257}, "stop"), (COMPLETE, {"stop": [5]}, "stop"),
    (COMPLETE, {"logprobs": 21}, "logprobs"), (COMPLETE, {"logprobs": -1}, "logprobs"),
    (COMPLETE, {"min_tokens": 17}, "min_tokens"), (COMPLETE, {"stream": "yes"}, "stream"),
    (COMPLETE, {"stream_options": {}}, "stream_options"), (COMPLETE, {"prompt": ""}, "prompt"),
    (COMPLETE, {"prompt": []}, "prompt"), (COMPLETE, {"prompt": [[]]}, "prompt"),
    (COMPLETE, {"prompt": [1, "a"]}, "prompt"), (COMPLETE, {"prompt": [768]}, "prompt"),
    (COMPLETE, {"prompt": [-1]}, "prompt"), (COMPLETE, {"prompt": [True]}, "prompt"),
    (COMPLETE, {"prompt": [[[1]]]}, "prompt"), (COMPLETE, {"prompt": {"a": 1}}, "prompt"),
    (COMPLETE, {"prompt": None}, "prompt"), (COMPLETE, {"prompt": ["a"] * 9}, "prompt"),
    (COMPLETE, {"prompt": ["a"] * 4, "n": 3}, "prompt"), (COMPLETE, {"model": 5}, "model"),
    (COMPLETE, {"stop_token_ids": [-1]}, "stop_token_ids"),
    (CHAT, {"messages": []}, "messages"), (CHAT, {"messages": "hi"}, "messages"),
    (CHAT, {"messages": [5]}, "messages[0]"), (CHAT, {"messages": [{}]}, "messages[0].role"),
    (CHAT, {"top_logprobs": 2}, "top_logprobs"), (CHAT, {"logprobs": 2}, "logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (COMPLETE, {"presence_penalty": 2.1}, "presence_penalty"),
    (COMPLETE, {"repetition_penalty": 0}, "repetition_penalty"),
    (COMPLETE, {"logit_bias": {"768": 1}}, "logit_bias"),
    (COMPLETE, {"logit_bias": {"5": 101}}, "logit_bias"),
    (COMPLETE, {"logit_bias": {"²": 1}}, "logit_bias"),
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"tool_choice": "required"}, "tool_choice"), (CHAT, {"tool_choice": 5}, "tool_choice"),
    (CHAT, {"tool_choice": "maybe"}, "tool_choice"), (CHAT, {"tools": [{}]}, "tools[0].type"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "a b"}}]},
     "tools[0].function.name"),
]  # fmt: skip
BODIES = [
    b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"\x00", b'{"model": NaN}',
    b'{"model": "tiny-base", "prompt": "\\ud800"}', b'{"model": "\\udc00\\ud800"}',
    b'{"model": "tiny-base", "prompt": "x", "temperature": 1e999}',
    b'{"model": "tiny-base", "prompt": "x", "temperature": Infinity}',
    b"[" * 100_000, b'{"a":' * 30_000, b'{"model": ' + b"9" * 5000 + b"}",
    b'{"model": "tiny-base", "prompt": "\xc3"}', b"\xef\xbb\xbf{}", b'{"model": "tiny-base"}',
    b'{"prompt": "x"}', b"a=1&b=2",
]  # fmt: skip


class TestFields:
    @pytest.mark.parametrize(("path", "change", "param"), WRONG)
    def test_wrong_values_are_named(self, server, path, change, param):
        refused(server, path, (ASK if path == COMPLETE else SAY) | change, 400, param=param)

    @pytest.mark.parametrize(("name", "value"), UNSUPPORTED)
    def test_what_would_change_the_answer_is_refused(self, server, name, value):
        for path, body in ((COMPLETE, ASK), (CHAT, SAY)):
            if name == "best_of" and path == CHAT:
                continue
            refused(server, path, body | {name: value}, 400, param=name)

    def test_harmless_fields_are_ignored(self, server):
        for path, body in ((COMPLETE, ASK), (CHAT, SAY)):
            assert server.post(path, body | HARMLESS)[0] == 200

    @pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:30]))
    def test_bodies_that_are_no_request(self, server, body):
        for path in (COMPLETE, CHAT):
            refused(server, path, body, 400)

    def test_other_media_types(self, server):
        header = {"Content-Type": "text/plain"}
        refused(server, COMPLETE, ASK, 415, code="unsupported_media_type", **header)
        assert server.post(COMPLETE, ASK, **{"Content-Type": "Application/JSON; a=b"})[0] == 200

    def test_odd_text_is_text(self, server):
        for text in ("\x00", "a\x00b", "\u202e", "\ufeff", "🙂" * 20, "<|eot_id|>", "é́", "\n"):
            assert server.post(COMPLETE, ASK | {"prompt": text})[0] == 200
            said = {"messages": [{"role": "user", "content": text}]}
            assert server.post(CHAT, SAY | said)[0] == 200

    @pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-30, 2])
    def test_every_temperature_is_served(self, server, temperature):
        status, answer = server.post(COMPLETE, ASK | {"temperature": temperature})
        assert status == 200, answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/docs", 404), ("GET", "/openapi.json", 404),
        ("GET", COMPLETE, 405), ("DELETE", "/v1/models", 405), ("PUT", CHAT, 405),
        ("POST", "/v1/rerank", 404), ("GET", "/v1/models/", 404), ("GET", "/%ff%00", 404),
        ("BREW", COMPLETE, 405), ("POST", "/v1/completions/", 404), ("OPTIONS", COMPLETE, 405),
    ],
)  # fmt: skip
def test_paths_and_methods(server, method, path, status):
    connection = http.client.HTTPConnection(
        server.address.removeprefix("http://"), timeout=patient(30)
    )
    connection.request(method, path)
    answer = connection.getresponse()
    assert answer.status == status
    check_shape(json.load(answer))
    connection.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
NAMES = [
    "model", "prompt", "messages", "n", "temperature", "top_p", "top_k", "min_p", "max_tokens",
    "seed", "stop", "stop_token_ids", "stream_options", "logprobs", "top_logprobs", "echo",
    "tools", "tool_choice", "logit_bias", "response_format", "best_of", "max_completion_tokens",
]  # fmt: skip


def mutated(rng, good):
    """A request with some bytes changed, removed, doubled or put in."""
    body = bytearray(json.dumps(good).encode())
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(body))
        match rng.randrange(4):
            case 0:
                body[place] = rng.randrange(256)
            case 1:
                del body[place : place + rng.randint(1, 9)]
            case 2:
                body[place:place] = body[: rng.randint(1, 30)]
            case _:
                body[place:place] = rng.choice([b"\x00", b"\xff", b"[", b'"', b"\\ud800", b"1e999"])
        body = body or bytearray(b"{")
    return bytes(body)


def is_answered(server, path, body):
    """Whatever is sent: an answer, or an error of the client in the right shape."""
    status, answer = server.post(path, body)
    if status != 200:
        assert 400 <= status < 500, (status, answer, body)
        check_shape(answer)
    return status


def still_right(server):
    want = expected(server.engine, STORY, max_tokens=20)
    made = server.client().completions.create(**ASK | {"max_tokens": 20, "temperature": 0})
    assert made.choices[0].text == want
    assert server.get("/health")[0] == 200
    wait_until(lambda: server.metric("cache_blocks_used") == server.metric("open_requests") == 0)
    assert server.metric("engine_errors_total") == 0


def test_a_thousand_malformed_requests(server):
    rng, counts = random.Random(0), {}
    for _ in range(1000):
        path, good = rng.choice([(COMPLETE, ASK), (CHAT, SAY)])
        status = is_answered(server, path, mutated(rng, good))
        counts[status] = counts.get(status, 0) + 1
    assert counts[400] > 700
    still_right(server)


def test_fields_of_any_value(server):
    tried = []

    @settings(
        max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.sampled_from([(COMPLETE, ASK), (CHAT, SAY)]), st.sampled_from(NAMES), JSON)
    def attempt(base, name, value):
        path, good = base
        tried.append(is_answered(server, path, json.dumps(good | {name: value}).encode()))

    attempt()
    assert tried.count(400) > 50
    still_right(server)
