"""Answers that keep to what the client sent, as its own library asks for it and reads it."""

import asyncio
import json
import random
import sys
from typing import Literal

import jsonschema
import openai
import pytest
import torch
from pydantic import BaseModel, Field
from schema_tools import random_document
from serve_tools import MODEL, STORY, served
from timing_tools import patient

from llama3lib.checkpoint import load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams, generate
from llama3lib.model import ModelArgs, Transformer

pytestmark = pytest.mark.many_steps

ASK = [{"role": "user", "content": "A kite?"}]


class Kite(BaseModel):
    colour: Literal["red", "blue"]
    length: int = Field(ge=1, le=99)
    tails: list[bool] = Field(max_length=3)


def function(name, strict=None, **properties):
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    spec = {"name": name, "parameters": parameters, "strict": strict}
    return {"type": "function", "function": spec}


WALK = function("walk", steps={"type": "integer", "minimum": 0, "maximum": 9})
FLY = function("fly", True, high={"type": "boolean"}, where={"enum": ["Bern", "Genève"]})
TOOLS = [WALK, FLY]


def untrained():
    """A model that would never write JSON by itself."""
    args = ModelArgs(
        dim=32, n_layers=1, n_heads=2, n_kv_heads=1, ffn_dim=32, vocab_size=768, max_seq_len=4096
    )
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(0))
    return model.double().eval()


@pytest.fixture(scope="module")
def server():
    sizes = {"num_blocks": 3000, "max_num_batched_tokens": 2048}
    with (
        LLMEngine(untrained(), load_tokenizer(MODEL), **sizes) as engine,
        served(engine) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def client(server):
    return server.client()


def chat(client, **options):
    ask = {"model": MODEL, "messages": ASK, "max_tokens": 200, "temperature": 1.0, "seed": 1}
    return client.chat.completions.create(**ask | options)


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}


def test_parse_gives_the_client_its_own_class(client):
    for seed in range(3):
        ask = {"model": MODEL, "messages": ASK, "max_tokens": 200, "seed": seed}
        got = client.chat.completions.parse(**ask, response_format=Kite, temperature=1.5)
        assert isinstance(got.choices[0].message.parsed, Kite)
        assert got.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(**ask, response_format=Kite) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Kite)


def test_any_object_and_vllm_s_fields(client):
    text = chat(client, response_format={"type": "json_object"}, logit_bias={"93": 0}).choices[0]
    assert text.finish_reason == "length" or isinstance(json.loads(text.message.content), dict)
    colours = ["red", "blue", "größer"]
    one_digit = {"type": "integer", "minimum": 0, "maximum": 9}
    wishes = [
        ({"guided_choice": colours}, colours.__contains__),
        ({"structured_outputs": {"choice": colours, "regex": None}}, colours.__contains__),
        (
            {"structured_outputs": {"regex": "[0-9]{4}", "disable_any_whitespace": True}},
            str.isdigit,
        ),
        ({"guided_regex": "[0-9]{4}"}, str.isdigit),
        ({"guided_grammar": 'start: "a" | "b" "c"'}, ("a", "bc").__contains__),
        ({"guided_json": one_digit}, str.isdigit),
        ({"guided_json": json.dumps(one_digit)}, str.isdigit),
        ({"structured_outputs": {"json": one_digit}}, str.isdigit),
    ]
    for extra, fits in wishes:
        got = chat(client, extra_body=extra).choices[0]
        assert got.finish_reason == "stop" and fits(got.message.content), (extra, got)
    ask = {"model": MODEL, "prompt": STORY, "max_tokens": 40, "seed": 3}
    plain = client.completions.create(**ask, extra_body={"guided_json": one_digit}).choices[0]
    assert plain.text.isdigit() and plain.finish_reason == "stop"


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"walk", "fly"}),
        ({"type": "function", "function": {"name": "walk"}}, {"walk"}),
        ({"type": "function", "function": {"name": "fly"}}, {"fly"}),
    ],
)
def test_a_forced_call_is_a_call_whose_arguments_fit(client, choice, names):
    got = chat(client, tools=TOOLS, tool_choice=choice, n=4).choices
    for one in got:
        assert one.finish_reason == "tool_calls" and one.message.content is None
        (call,) = one.message.tool_calls
        assert call.function.name in names
        (tool,) = (t["function"] for t in TOOLS if t["function"]["name"] == call.function.name)
        jsonschema.validate(json.loads(call.function.arguments), tool["parameters"])
    ask = {"tools": TOOLS, "tool_choice": choice, "stream": True}
    chunks = [c for chunk in chat(client, **ask) for c in chunk.choices]
    (call,) = [call for c in chunks for call in c.delta.tool_calls or ()]
    assert call.function.name in names and chunks[-1].finish_reason == "tool_calls"
    cut = chat(client, tools=TOOLS, tool_choice=choice, max_tokens=7).choices[0]
    assert (cut.finish_reason, cut.message.tool_calls) == ("length", None)


def test_a_strict_function_is_called_right_or_not_at_all(client):
    """A model that wants to begin a call, and one that does not."""
    tokenizer = load_tokenizer(MODEL)
    (brace,) = tokenizer.encode("{")
    pushed = chat(client, tools=[FLY], n=3, logit_bias={str(brace): 100}).choices
    for one in pushed:
        (call,) = one.message.tool_calls
        jsonschema.validate(json.loads(call.function.arguments), FLY["function"]["parameters"])
    left = chat(client, tools=[FLY], n=3, logit_bias={str(brace): -100}, max_tokens=20).choices
    assert all(one.message.tool_calls is None and one.message.content for one in left)
    both = chat(client, tools=[WALK], n=4, response_format=schema_format(Kite.model_json_schema()))
    for one in both.choices:
        assert one.message.tool_calls or Kite.model_validate_json(one.message.content)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"response_format": schema_format({"not": {}})}, "response_format", '["not"]'),
        ({"response_format": {"type": "json_schema"}}, "response_format", "schema"),
        ({"response_format": {"type": "xml"}}, "response_format", "json_object"),
        ({"guided_json": {}, "guided_regex": "a"}, "guided_regex", "guided_json"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs.regex", "json"),
        ({"structured_outputs": {"tag": 1}}, "structured_outputs.tag", "support"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json", "schema"),
        ({"guided_regex": "(?=a)"}, "guided_regex", "look-around"),
        ({"guided_choice": []}, "guided_choice", "choice"),
        ({"guided_grammar": "start: word"}, "guided_grammar", "word"),
        ({"guided_regex": "a", "tools": TOOLS}, "guided_regex", "tools"),
        ({"tool_choice": "required"}, "tool_choice", "no such function"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
         "tool_choice", "no such function"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice", "required"),
        ({"tools": [function("a", True, b={"uniqueItems": True})]}, "tools", "uniqueItems"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_to_is_refused_with_its_name(server, fields, param, said):
    ask = {"model": MODEL, "messages": ASK, "max_tokens": 5} | fields
    status, answer = server.post("/v1/chat/completions", ask)
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert said in answer["error"]["message"]


def test_without_the_package_everything_else_is_served(server, client, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    ask = {"model": MODEL, "messages": ASK, "max_tokens": 5}
    wish = {"response_format": {"type": "json_object"}}
    status, answer = server.post("/v1/chat/completions", ask | wish)
    assert status == 501 and "llama3lib[serve]" in answer["error"]["message"]
    assert server.post("/v1/chat/completions", ask)[0] == 200


def test_bound_and_free_clients_at_the_same_time_get_their_own(server):
    """Each bound answer fits its own schema, each free one is what it is without the others."""

    async def ask(client, seed, prompt, schema):
        extra = {} if schema is None else {"guided_json": schema}
        options = {"temperature": 0, "max_tokens": 300 if schema else 24, "seed": seed}
        stream = await client.completions.create(
            model=MODEL, prompt=prompt, stream=True, extra_body=extra, **options
        )
        text, reason = "", None
        async for chunk in stream:
            for choice in chunk.choices:
                text, reason = text + choice.text, choice.finish_reason or reason
        return text, reason

    async def all_of_them():
        client = openai.AsyncOpenAI(
            base_url=server.url, api_key="any", max_retries=0, timeout=patient(120)
        )
        schemas = [random_document(random.Random(i)) if i % 2 else None for i in range(32)]
        prompts = [f"{STORY}{i} " for i in range(32)]
        parts = zip(range(32), prompts, schemas, strict=True)
        texts = await asyncio.gather(*(ask(client, *part) for part in parts))
        return schemas, prompts, texts

    schemas, prompts, answers = asyncio.run(all_of_them())
    model, tokenizer = untrained(), load_tokenizer(MODEL)
    for schema, prompt, (text, reason) in zip(schemas, prompts, answers, strict=True):
        if schema is None:
            want = "".join(generate(model, tokenizer, prompt, SamplingParams(max_tokens=24)))
            assert text == want
        elif reason == "stop":
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
        else:
            assert reason == "length"
