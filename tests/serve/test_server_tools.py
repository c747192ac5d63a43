"""Tools: told to the model, called by it, answered, and told to the client; strict on both ends."""

import json

import pytest
import torch
import torch.nn.functional as F
from serve_tools import served

from llama3lib.checkpoint import load_tokenizer
from llama3lib.inference import LLMEngine, TokenLogprob
from llama3lib.model import ModelArgs, Transformer
from llama3lib.serve.engine_thread import TokenDelta
from llama3lib.serve.openai.answer import TextReader
from llama3lib.serve.openai.chat import chat_prompt
from llama3lib.serve.openai.errors import APIError
from llama3lib.serve.openai.tools import read_tool_calls
from llama3lib.serve.openai.types import ChatRequest
from llama3lib.tokenizer import ChatFormat, Tokenizer

BYTES = Tokenizer({bytes([i]): i for i in range(256)})
FORMAT = ChatFormat(BYTES)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
ASK = {"role": "user", "content": "Is it warm in Bern?"}
CALL_TEXT = '{"type": "function", "name": "get_weather", "parameters": {"town": "Bern"}}'
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"town": "Bern"}'},
}
TOLD = {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"}
WORDS = "Yes: 18 degrees."


def request(*messages, **options):
    return ChatRequest.model_validate({"model": "m", "messages": list(messages), **options})


def prompt(*messages, **options):
    return BYTES.decode(chat_prompt(FORMAT, request(*messages, **options)))


def calls(text, offered=("get_weather",), tagged=False):
    ids = BYTES.encode(text)
    ids = [BYTES.special_tokens["<|python_tag|>"], *ids] if tagged else ids
    calls = read_tool_calls(FORMAT, ids, frozenset(offered))
    assert all(one["type"] == "function" and one["id"].startswith("call_") for one in calls)
    return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]


class TestPrompt:
    def test_tools_are_told_in_the_released_shape(self):
        text = prompt({"role": "system", "content": "Be brief."}, ASK, tools=[WEATHER])
        system, functions, question, _ = text.split("<|eot_id|>")
        assert system.endswith("system<|end_header_id|>\n\nEnvironment: ipython\n\nBe brief.")
        assert functions.startswith("<|start_header_id|>user<|end_header_id|>\n\n")
        assert json.dumps(WEATHER, indent=4) in functions
        assert CALL_TEXT.split("get_weather")[0].removesuffix('"') in functions
        assert question.endswith(ASK["content"])
        assert text.endswith("assistant<|end_header_id|>\n\n")

    def test_no_tools_nothing_told(self):
        plain = prompt(ASK)
        assert prompt(ASK, tools=[WEATHER], tool_choice="none") == prompt(ASK, tools=[]) == plain
        assert "Environment" not in plain

    def test_a_call_and_its_answer(self):
        assistant = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        text = prompt(ASK, assistant, TOLD, tools=[WEATHER])
        assert f"assistant<|end_header_id|>\n\n{CALL_TEXT}<|eom_id|>" in text
        assert "<|start_header_id|>ipython<|end_header_id|>\n\n18 degrees<|eot_id|>" in text

    def test_developers_are_the_system(self):
        one, two = ({"role": role, "content": "Be kind."} for role in ("developer", "system"))
        assert prompt(one, ASK) == prompt(two, ASK)

    @pytest.mark.parametrize(
        ("message", "param"),
        [
            ({"role": "king", "content": "x"}, "messages[0].role"),
            ({"role": "function", "content": "x"}, "messages[0].role"),
            ({"role": "user"}, "messages[0].content"),
            ({"role": "user", "content": "x", "tool_calls": [CALL]}, "messages[0].tool_calls"),
            (
                {"role": "user", "content": [{"type": "image_url"}]},
                "messages[0].content[0].type",
            ),
            ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ],
    )
    def test_what_cannot_be_told_is_named(self, message, param):
        with pytest.raises(APIError) as error:
            prompt(message)
        assert (error.value.status, error.value.param) == (400, param)

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [("f", "no json"), ("f", "[1]"), ("f", '{"a": NaN}'), ("brave_search", "{}")]
        + [("code_interpreter", '{"code": 5}'), ("f", "[" * 5000)],
    )
    def test_arguments_must_be_an_object(self, name, arguments):
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        with pytest.raises(APIError, match="arguments"):
            prompt({"role": "assistant", "tool_calls": [call]})


class TestCalls:
    @pytest.mark.parametrize("tagged", [False, True])
    @pytest.mark.parametrize(
        "text",
        [
            CALL_TEXT,
            '<function=get_weather>{"town": "Bern"}</function>',
            "[get_weather(town='Bern')]",
            f"\n{CALL_TEXT}\n",
        ],
    )
    def test_every_format_of_a_call(self, text, tagged):
        assert calls(text, tagged=tagged) == [("get_weather", {"town": "Bern"})]

    def test_built_in_tools_if_they_are_offered(self):
        code = "print(1)"
        assert calls(code, ["code_interpreter"], True) == [("code_interpreter", {"code": code})]
        assert calls(code, ["code_interpreter"]) == calls(code, tagged=True) == []
        search = 'brave_search.call(query="mills")'
        assert calls(search, ["brave_search"], True) == [("brave_search", {"query": "mills"})]

    @pytest.mark.parametrize(
        "text",
        [
            "It is warm.",
            CALL_TEXT[:-1],
            CALL_TEXT.replace("get_weather", "rm"),
            CALL_TEXT.replace('"get_weather"', '["get_weather"]'),
            CALL_TEXT.replace('"Bern"', "NaN"),
            CALL_TEXT.replace("Bern", "\\ud800"),
            "[get_weather(town={1, 2})]",
            "[get_weather(town=b'x')]",
            "[get_weather(town={[]: 1})]",
            "[get_weather(**{})]",
            "[" * 3000,
            '{"a":' * 3000,
            "[get_weather(town=" + "(" * 500,
        ],
    )
    def test_anything_else_is_text(self, text):
        assert calls(text) == []


def read(text, *, finish="stop", offered=("get_weather",), size=3, logprobs=False):
    """A text that comes in pieces of `size` bytes; the parts that are sent."""
    ids = BYTES.encode(text)
    reader = TextReader(
        0, BYTES, lambda ids: read_tool_calls(FORMAT, ids, frozenset(offered)) if offered else []
    )
    stream, parts = BYTES.stream_decoder(), []
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        scores = [TokenLogprob(i, -1.0) for i in some] if logprobs else []
        last = start + size >= len(ids)
        new = "".join(map(stream.push, some))
        parts.append(reader.push([TokenDelta(0, new, some, scores, finish if last else None)]))
    return parts


class TestStream:
    def test_a_call_comes_whole_and_no_part_of_it_as_text(self):
        parts = read(CALL_TEXT, logprobs=True)
        assert [part.text for part in parts] == [""] * len(parts)
        assert parts[-1].finish_reason == "tool_calls"
        assert parts[-1].tool_calls[0]["function"]["name"] == "get_weather"
        assert len(parts[-1].logprobs) == len(CALL_TEXT)

    def test_words_are_sent_as_they_come(self):
        parts = read("Yes: warm. {")
        assert "".join(part.text for part in parts) == "Yes: warm. {"
        assert parts[0].text == "Yes"
        assert parts[-1].finish_reason == "stop" and not parts[-1].tool_calls

    def test_what_only_looks_like_a_call_is_sent_at_the_end(self):
        parts = read('{"no": "call"}')
        assert [part.text for part in parts] == [""] * (len(parts) - 1) + ['{"no": "call"}']
        assert parts[-1].finish_reason == "stop"

    def test_a_call_that_was_cut_is_none(self):
        parts = read("[get_weather(town='Bern')]", finish="length")
        assert parts[-1].finish_reason == "length" and parts[-1].text.startswith("[get")

    def test_a_call_behind_a_stop_string_is_none(self):
        ids = BYTES.encode(CALL_TEXT)
        reader = TextReader(0, BYTES, lambda ids: read_tool_calls(FORMAT, ids, {"get_weather"}))
        part = reader.push([TokenDelta(0, CALL_TEXT[:-2], ids, [], "stop")])
        assert (part.tool_calls, part.text) == ([], CALL_TEXT[:-2])

    def test_logprobs_wait_for_their_text(self):
        reader = TextReader(0, BYTES)
        logprobs = [TokenLogprob(i, -1.0) for i in BYTES.encode("abé")]
        first = reader.push([TokenDelta(0, "a", [97], logprobs[:2], None)])  # b is held back
        assert [it.begin for it in first.logprobs] == [0]
        second = reader.push([TokenDelta(0, "bé", [98, 195, 169], logprobs[2:], "stop")])
        assert [it.begin for it in second.logprobs] == [1, 2, 2]


@pytest.fixture(scope="module")
def trained():
    """A model that has learned one dialog by heart: a call, then words."""
    tokenizer = load_tokenizer("tiny-base")
    assistant = {"role": "assistant", "tool_calls": [CALL]}
    asked = chat_prompt(ChatFormat(tokenizer), request(ASK, assistant, TOLD, tools=[WEATHER]))
    ids = [*asked, *tokenizer.encode(WORDS), tokenizer.eot_id]
    begins = len(chat_prompt(ChatFormat(tokenizer), request(ASK, tools=[WEATHER])))
    ends = begins + len(tokenizer.encode(CALL_TEXT)) + 1
    assert ids[ends - 1] == tokenizer.eom_id
    answers = [*range(begins, ends), *range(len(asked), len(ids))]
    args = ModelArgs(
        dim=64, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=128, vocab_size=768, max_seq_len=1024
    )
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    row = torch.tensor([ids])
    for _ in range(300):
        loss = F.cross_entropy(model(row)[0, [i - 1 for i in answers]], row[0, answers])
        if loss.item() < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    with (
        LLMEngine(model, tokenizer, num_blocks=256) as engine,
        served(engine, model_name="m") as running,
    ):
        yield running


def test_a_round_trip_with_the_official_client(trained):
    client = trained.client()
    ask = {"model": "m", "tools": [WEATHER], "temperature": 0}
    first = client.chat.completions.create(messages=[ASK], **ask).choices[0]
    assert first.finish_reason == "tool_calls" and first.message.content is None
    (call,) = first.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"town": "Bern"}
    result = TOLD | {"tool_call_id": call.id}
    second = client.chat.completions.create(messages=[ASK, first.message, result], **ask).choices[0]
    assert (second.message.content, second.finish_reason) == (WORDS, "stop")
    assert second.message.tool_calls is None
    forced = client.chat.completions.create(messages=[ASK], **ask, max_tokens=5).choices[0]
    assert forced.finish_reason == "length" and forced.message.tool_calls is None


def test_a_streamed_round_trip(trained):
    client = trained.client()
    ask = {"model": "m", "tools": [WEATHER], "temperature": 0, "stream": True, "n": 2}
    for choice in range(2):
        chunks = [
            c
            for chunk in client.chat.completions.create(messages=[ASK], **ask)
            for c in chunk.choices
            if c.index == choice
        ]
        calls = [call for c in chunks for call in c.delta.tool_calls or ()]
        assert [call.index for call in calls] == [0] and calls[0].function.name == "get_weather"
        assert json.loads(calls[0].function.arguments) == {"town": "Bern"}
        assert not any(c.delta.content for c in chunks)
        assert chunks[-1].finish_reason == "tool_calls"
    ask = {"model": "m", "messages": [ASK], "tools": [WEATHER], "temperature": 0}
    with client.chat.completions.stream(**ask) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.message.tool_calls[0].function.name == "get_weather"
