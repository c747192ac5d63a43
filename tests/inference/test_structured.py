"""Texts keep to their schema, pattern or grammar, whatever the model wants."""

import json
import random
import re
import sys

import jsonschema
import pytest
import torch
from schema_tools import random_document

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.inference.structured import StructuredOutputs
from llama3lib.model import ModelArgs, Transformer

STORY = "One sunny day Omar went to the mill. "


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-base")


@pytest.fixture(scope="module")
def trained():
    return load_model("tiny-base", max_seq_len=1024)


@pytest.fixture(scope="module")
def untrained():
    args = ModelArgs(
        dim=32, n_layers=1, n_heads=2, n_kv_heads=1, ffn_dim=32, vocab_size=768, max_seq_len=1024
    )
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def assert_kept_to(model, tokenizer, seeds):
    """Every whole answer is valid, and at most one in a hundred is not whole."""
    schemas = [random_document(random.Random(seed)) for seed in seeds]
    reasons = []
    with LLMEngine(model, tokenizer, num_blocks=2048) as engine:
        for seed, schema in zip(seeds, schemas, strict=True):
            params = SamplingParams(max_tokens=500, temperature=1.0, seed=seed)
            bound = engine.structured.json(schema)
            engine.add_request(STORY, params, constraint=bound, request_id=str(seed))
        while engine.has_work:
            for out in engine.step():
                if not out.finished:
                    continue
                reasons.append(out.finish_reason)
                if out.finish_reason == "stop":
                    schema = schemas[seeds.index(int(out.request_id))]
                    check = jsonschema.Draft202012Validator(schema)
                    check.validate(json.loads(out.text))
    assert len(reasons) == len(seeds) and set(reasons) <= {"stop", "length"}
    assert reasons.count("length") <= len(seeds) / 100
    return reasons


@pytest.mark.many_steps
def test_answers_keep_to_random_schemas(trained, untrained, tokenizer):
    assert_kept_to(trained, tokenizer, range(30))
    assert_kept_to(untrained, tokenizer, range(30, 60))


@pytest.mark.many_steps
@pytest.mark.long
@pytest.mark.parametrize("which", ["trained", "untrained"])
def test_answers_keep_to_a_thousand_random_schemas(request, tokenizer, which):
    assert_kept_to(request.getfixturevalue(which), tokenizer, range(1000))


def test_patterns_choices_and_grammars(untrained, tokenizer):
    with LLMEngine(untrained, tokenizer) as engine:
        made = engine.structured
        texts = ["yes", "no", 'größe "x"\n']
        cases = [
            (made.regex(r"[a-c]{3,5}\d?"), lambda t: re.fullmatch(r"[a-c]{3,5}\d?", t)),
            (made.choice(texts), texts.__contains__),
            (made.grammar('start: "(" start ")" | "x"'), lambda t: re.fullmatch(r"\(*x\)*", t)),
        ]
        for bound, fits in cases:
            for seed in range(4):
                params = SamplingParams(max_tokens=60, temperature=2.0, seed=seed)
                out = engine.generate("a", params, constraint=bound)
                assert out.finish_reason == "length" or fits(out.text), out


def test_what_may_end_ends_by_an_end_token_and_what_must_ends_at_once(untrained, tokenizer):
    params = SamplingParams(max_tokens=40, temperature=1.0, seed=1)
    with LLMEngine(untrained, tokenizer) as engine:
        once = engine.generate("a", params, constraint=engine.structured.regex("ab{2}"))
        assert (once.text, once.finish_reason) == ("abb", "stop")
        more = engine.structured.regex("a*")
        ends = {tokenizer.eos_id: 100.0}
        for options in ({}, {"ignore_eos": True}):
            short = SamplingParams(max_tokens=40, logit_bias=ends, **options)
            out = engine.generate("a", short, constraint=more)
            assert (out.text, out.token_ids, out.finish_reason) == ("", [], "stop")
            late = SamplingParams(max_tokens=40, logit_bias=ends, min_tokens=7, **options)
            out = engine.generate("a", late, constraint=more)
            assert set(out.text) == {"a"} and (len(out.token_ids), out.finish_reason) == (7, "stop")
        cut = SamplingParams(max_tokens=5, logit_bias={tokenizer.eos_id: -100})
        assert engine.generate("a", cut, constraint=more).finish_reason == "length"


def test_control_tokens_and_ids_without_a_token_never_come(untrained, tokenizer):
    start = StructuredOutputs(tokenizer, 800).regex("(.|\n)*").copy()
    mask = start.mask()
    bits = [bool(int(mask[i // 32]) >> (i % 32) & 1) for i in range(800)]
    allowed = {i for i, bit in enumerate(bits) if bit}
    assert allowed & set(tokenizer.special_tokens.values()) == tokenizer.stop_ids
    assert max(allowed) < tokenizer.n_vocab


def written(engine, requests):
    names = [engine.add_request(*one, n=n, constraint=c) for *one, n, c in requests]
    texts = {}
    while engine.has_work:
        texts |= {(out.request_id, out.sample_id): out for out in engine.step()}
    return [
        [(texts[name, i].text, texts[name, i].finish_reason) for i in range(n)]
        for name, (*_, n, _) in zip(names, requests, strict=True)
    ]


@pytest.mark.many_steps
@pytest.mark.parametrize(
    "sizes",
    [{"num_blocks": 30, "block_size": 4}, {"num_stages": 1, "num_micro_batches": 2},
     {"max_num_batched_tokens": 7}],
)  # fmt: skip
def test_bound_and_free_texts_do_not_disturb_each_other(untrained, tokenizer, sizes):
    """Also where texts make room and are read again, and where samples of one prompt part."""
    model = Transformer(untrained.args).double()
    model.load_state_dict(untrained.state_dict())
    made = StructuredOutputs(tokenizer, 800)
    schemas = [random_document(random.Random(seed)) for seed in range(4)]
    bounds = [None if i % 3 == 0 else made.json(schemas[i % 4]) for i in range(8)]
    requests = [
        (STORY, SamplingParams(max_tokens=40, temperature=1.0, seed=i), 1 + i % 3, bound)
        for i, bound in enumerate(bounds)
    ]
    alone = []
    for request in requests:
        with LLMEngine(model, tokenizer) as engine:
            alone += written(engine, [request])
    with LLMEngine(model, tokenizer, **sizes) as engine:
        assert written(engine, requests) == alone
        assert engine.blocks.num_free_blocks == engine.blocks.num_blocks
        assert engine.scheduler.num_preemptions > 0 or "num_blocks" not in sizes
    for texts, bound in zip(alone, bounds, strict=True):
        for text, reason in texts:
            if bound is not None and reason == "stop":
                json.loads(text)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("json", {"not": {}}, r'\["not"\]'),
        ("json", {"type": "array", "uniqueItems": True}, "uniqueItems"),
        ("json", {"type": "object", "properties": {"a": {"if": {}}}}, r'\["if"\]'),
        ("json", {"not": {}, "x-guidance": {"lenient": True}}, r'\["not"\]'),
        ("json", {"oneOf": [{"type": "string"}, {"maxLength": 3, "type": "string"}]}, "oneOf"),
        ("json", {"type": "string", "minLength": 3, "maxLength": 2}, "Unsatisfiable"),
        ("json", {"$ref": "#"}, "no text fits"),
        ("json", {"$ref": "http://example.org/schema"}, "example.org"),
        ("json", '{"type":', "no JSON"),
        ("json", '{"items":' * 5000 + "{}" + "}" * 5000, "no JSON"),
        ("json", False, "json=False"),
        ("json", {"enum": ["x" * 100] * 3000}, "characters"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", "", "regex=''"),
        ("choice", [], "choice"),
        ("choice", "yes", "choice='yes'"),
        ("grammar", "start: word", "word"),
    ],
)
def test_what_cannot_be_kept_to_is_refused_with_its_name(tokenizer, kind, value, said):
    with pytest.raises(ValueError, match=said):
        getattr(StructuredOutputs(tokenizer, 768), kind)(value)


def test_a_grammar_is_compiled_once_and_only_the_last_are_kept(tokenizer, monkeypatch):
    monkeypatch.setattr("llama3lib.inference.structured._MAX_CACHED", 2)
    made = StructuredOutputs(tokenizer, 768)
    first = made.regex("a")
    assert made.regex("a") is first
    made.regex("b")
    assert made.regex("a") is first
    made.regex("c")
    made.regex("b")
    assert made.regex("a") is not first


def test_a_text_whose_grammar_cannot_be_followed_fails_alone(untrained, tokenizer, monkeypatch):
    with LLMEngine(untrained, tokenizer) as engine:
        bound = engine.structured.json({"type": "string", "minLength": 50, "maxLength": 60})
        params = SamplingParams(max_tokens=30, ignore_eos=True)
        names = [engine.add_request("a", params, constraint=c) for c in (None, bound, None)]
        for _ in range(4):
            engine.step()
        sequence = engine.requests[names[1]].sequences[0]
        monkeypatch.setattr(sequence.constraint, "mask", lambda: torch.full((25,), -1).int())
        sequence.constraint._matcher.consume_token(0)  # what may not come: it is broken now
        done = {}
        while engine.has_work:
            done |= {out.request_id: out for out in engine.step() if out.finished}
        assert [done[name].finish_reason for name in names] == ["length", "error", "length"]
        assert "too complex" in done[names[1]].error
        assert engine.blocks.num_free_blocks == engine.blocks.num_blocks


def test_without_the_package_it_is_told_how_to_get_it(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'llama3lib\[serve\]'"):
        StructuredOutputs(tokenizer, 768).json({})
