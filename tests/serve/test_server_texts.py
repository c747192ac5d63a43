"""What the server tells of texts that it does not write: how likely, where in space, which ids."""

import base64

import numpy as np
import pytest
import torch
from serve_tools import MODEL, STORY, served, tiny_engine

from llama3lib.checkpoint import load_model
from llama3lib.tokenizer import ChatFormat, Message


@pytest.fixture(scope="module")
def server():
    with tiny_engine() as engine, served(engine) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL, dtype=torch.float64)


@torch.inference_mode()
def logprobs_of(model, ids):
    rows = model(torch.tensor([ids]))[0, :-1].log_softmax(-1)
    return rows, [float(row[token]) for row, token in zip(rows, ids[1:], strict=True)]


def test_echo_tells_how_likely_the_prompt_is(server, client, model):
    tokenizer = server.engine.tokenizer
    texts = [STORY, "Ada saw a größe kite 🪁."]
    prompts = [tokenizer.encode(text, bos=True) for text in texts]
    ask = {"model": MODEL, "max_tokens": 0, "echo": True, "logprobs": 2, "n": 2}
    got = client.completions.create(prompt=prompts, **ask)
    assert got.usage.completion_tokens == 0
    for index, choice in enumerate(got.choices):
        ids, told = prompts[index // 2], choice.logprobs
        rows, want = logprobs_of(model, ids)
        assert choice.text == tokenizer.decode(ids) and choice.finish_reason == "length"
        assert told.token_logprobs[0] is None and told.top_logprobs[0] is None
        assert told.token_logprobs[1:] == pytest.approx(want, abs=1e-9)
        for row, top in zip(rows, told.top_logprobs[1:], strict=True):
            best = row.topk(2).values.tolist()
            assert sorted(top.values(), reverse=True)[:2] == pytest.approx(best, abs=1e-9)
        places = [len(tokenizer.decode(ids[:i]).rstrip("\ufffd")) for i in range(len(ids))]
        assert told.text_offset == places
    (named,) = client.completions.create(prompt=STORY, **ask | {"n": 1}).choices
    assert named.text == STORY and named.logprobs.tokens[0] == "<|begin_of_text|>"
    assert named.logprobs.text_offset[:3] == [0, 0, 1]  # which takes no room


def test_echo_with_an_answer_whole_and_streamed_as_lm_eval_reads_it(server, client, model):
    ids = server.engine.tokenizer.encode(STORY, bos=True)
    cut = len(ids) - 4
    ask = {"model": MODEL, "prompt": ids, "echo": True, "logprobs": 1, "temperature": 0}
    whole = client.completions.create(**ask, max_tokens=1).choices[0]
    told = whole.logprobs
    # a continuation's score: what stands between its context and the token that was asked for
    assert sum(told.token_logprobs[cut:-1]) == pytest.approx(sum(logprobs_of(model, ids)[1][-4:]))
    assert len(told.tokens) == len(ids) + 1 and "".join(told.tokens) == whole.text
    parts = list(client.completions.create(**ask, max_tokens=1, stream=True))
    choices = [c for part in parts for c in part.choices]
    assert "".join(c.text for c in choices) == whole.text
    assert [n for c in choices for n in c.logprobs.token_logprobs] == told.token_logprobs
    assert [n for c in choices for n in c.logprobs.text_offset] == told.text_offset


def test_embeddings_are_the_mean_of_the_last_states(server, client, model):
    tokenizer = server.engine.tokenizer
    texts = ["A kite.", STORY]
    with torch.inference_mode():
        want = [
            model.hidden_states(torch.tensor([tokenizer.encode(t, bos=True)]))[0].mean(0).tolist()
            for t in texts
        ]
    got = client.embeddings.create(model=MODEL, input=texts)  # the client asks for base64
    assert [one.index for one in got.data] == [0, 1]
    for one, vector in zip(got.data, want, strict=True):
        assert one.embedding == pytest.approx(vector, rel=1e-6, abs=1e-7)
    assert got.usage.prompt_tokens == got.usage.total_tokens
    ids = [tokenizer.encode(t, bos=True) for t in texts]
    forms = [(texts[1], want[1]), (ids[1], want[1]), (ids, want[0])]
    for given, vector in forms:
        plain = client.embeddings.create(model=MODEL, input=given, encoding_format="float")
        assert plain.data[0].embedding == pytest.approx(vector, rel=1e-6, abs=1e-7)
    _, raw = server.post(
        "/v1/embeddings", {"model": MODEL, "input": texts, "encoding_format": "base64"}
    )
    numbers = np.frombuffer(base64.b64decode(raw["data"][1]["embedding"]), dtype="<f4")
    assert numbers == pytest.approx(want[1], rel=1e-6, abs=1e-7)


def test_ids_of_texts_and_texts_of_ids(server):
    tokenizer = server.engine.tokenizer
    status, got = server.post("/tokenize", {"model": MODEL, "prompt": STORY})
    ids = tokenizer.encode(STORY, bos=True)
    want = {"count": len(ids), "max_model_len": 512, "tokens": ids, "token_strs": None}
    assert (status, got) == (200, want)
    bare = {"prompt": STORY, "add_special_tokens": False, "return_token_strs": True}
    got = server.post("/tokenize", bare)[1]
    assert got["tokens"] == ids[1:] and "".join(got["token_strs"]) == STORY
    back = server.post("/detokenize", {"model": MODEL, "tokens": ids})[1]
    assert back == {"prompt": tokenizer.decode(ids)}
    dialog = ChatFormat(tokenizer).encode_dialog(
        [Message(role="user", content="Hi")], add_generation_prompt=True
    )
    got = server.post("/tokenize", {"messages": [{"role": "user", "content": "Hi"}]})[1]
    assert got["tokens"] == dialog.ids


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {"model": MODEL, "input": ""}, "input"),
        ("/v1/embeddings", {"model": MODEL, "input": []}, "input"),
        ("/v1/embeddings", {"model": MODEL, "input": ["a", 5]}, "input"),
        ("/v1/embeddings", {"model": MODEL, "input": [768]}, "input"),
        ("/v1/embeddings", {"model": MODEL, "input": "a " * 2000}, "input"),
        ("/v1/embeddings", {"model": MODEL, "input": ["a"] * 2049}, "input"),
        ("/v1/embeddings", {"model": MODEL, "input": "a", "dimensions": 8}, "dimensions"),
        ("/v1/embeddings", {"model": MODEL, "input": "a", "encoding_format": "int8"},
         "encoding_format"),
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        ("/detokenize", {"tokens": [768]}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {}, "tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_name(server, path, body, param):
    status, answer = server.post(path, body)
    assert (status, answer["error"]["param"]) == (400, param), answer


def test_another_model_is_not_here(server):
    for path, body in (("/tokenize", {"prompt": "a"}), ("/v1/embeddings", {"input": "a"})):
        assert server.post(path, body | {"model": "other"})[0] == 404
