"""The sampling view: real logits, and the engine's distribution."""

import dataclasses
import itertools
import re

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams, generate, sampling_probs
from widgets.ch09.views import sampling
from widgets.ch09.views.sampling import (
    CUTS,
    TEMPERATURES,
    TOP_PS,
    NextToken,
    SamplingExplorer,
    draw,
)

CASES = list(itertools.product(TEMPERATURES, TOP_PS[::3], CUTS))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-base")


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-base")


def test_the_scores_are_the_models_and_sorted(model, tokenizer):
    given = sampling.next_token(model, tokenizer, "Omar had a")
    with torch.no_grad():
        want = model(torch.tensor([tokenizer.encode("Omar had a", bos=True)]))[0, -1]
    # another kernel for one row than for all: the last digits differ
    assert given.logits.tolist() == pytest.approx(
        want.sort(descending=True).values.tolist(), abs=1e-4
    )
    assert given.logits.tolist() == sorted(given.logits.tolist(), reverse=True)
    assert given.labels[0] == sampling.label(tokenizer, int(want.argmax()))
    assert len(set(given.labels)) > 700 and len(given.labels) == 768
    start = sampling.next_token(model, tokenizer, "")
    with torch.no_grad():
        want = model(torch.tensor([tokenizer.encode("", bos=True)]))[0, -1]
    assert start.logits[0] == pytest.approx(float(want.max()), abs=1e-4)


def test_labels_can_be_seen(tokenizer):
    assert sampling.label(tokenizer, tokenizer.encode(" the")[0]) == "␣the"
    ids = tokenizer.encode("é")
    assert len(ids) == 2 and sampling.label(tokenizer, ids[0]) == "<c3>"
    assert sampling.label(tokenizer, tokenizer.encode("\n")[0]) == "⏎"


def test_the_engine_draws_only_what_is_kept(model, tokenizer):
    given = sampling.next_token(model, tokenizer, "Omar had a")
    it = draw(given.logits, 1.5, 0.6, "top-k 10")
    assert 1 < it.kept < 10
    params = sampling.params_of(1.5, 0.6, "top-k 10")
    assert (params.top_k, params.top_p, params.min_p) == (10, 0.6, 0.0)
    allowed = {name for name, p in zip(given.labels, it.after, strict=True) if p > 0}
    with LLMEngine(model, tokenizer) as engine:
        one = SamplingParams(temperature=1.5, top_p=0.6, top_k=10, max_tokens=1)
        drawn = engine.generate(["Omar had a"] * 60, one)
    found = {sampling.label(tokenizer, out.token_ids[0]) for out in drawn}
    assert found <= allowed and len(found) > 1


@pytest.mark.parametrize("temperature, top_p, cut", CASES[::11])
def test_kept_tokens_and_their_share(temperature, top_p, cut):
    logits = SamplingExplorer().next.logits
    it = draw(logits, temperature, top_p, cut)
    assert sum(it.after) == pytest.approx(1) and sum(it.before) == pytest.approx(1)
    assert all(a > 0 for a in it.after[: it.kept]) and not any(it.after[it.kept :])
    for before, after in zip(it.before[: it.kept], it.after, strict=False):
        assert after == pytest.approx(before / it.share)  # a cut does not change the proportions


def test_each_cut_does_its_own(model):
    logits = SamplingExplorer().next.logits
    assert draw(logits, 1.0, 1.0, "none").kept == 768
    assert draw(logits, 1.0, 1.0, "top-k 3").kept == 3
    floor = draw(logits, 1.0, 1.0, "min-p 0.3")
    assert floor.kept == sum(p >= 0.3 * floor.before[0] for p in floor.before)
    nucleus = draw(logits, 1.0, 0.5, "none")
    assert sum(nucleus.before[: nucleus.kept - 1]) <= 0.5 < nucleus.share
    assert [draw(logits, t, 0.9, "none").kept for t in (0.0, 0.2)] < [2, 768]
    kept = [draw(logits, t, 0.9, "none").kept for t in TEMPERATURES]
    assert kept == sorted(kept)


def test_words_table_and_picture_tell_the_same():
    view = SamplingExplorer(top_p=0.5)
    it = view.draw()
    share = sampling.percent(it.share)
    assert view.summary() == (
        f"After “Omar had a”: {it.kept} of 768 tokens are kept, {share} of the probability"
    )
    assert [row["kept"] for row in view.table()].count("yes") == it.kept < sampling.SHOWN
    assert view.static_svg().count("→ dropped") == sampling.SHOWN - it.kept
    assert view.frame()["facts"] == {"kept": str(it.kept), "first": str(it.after[0])}
    view.temperature = 0.0
    assert view.summary().endswith(f"temperature 0: always “{view.next.labels[0]}”")
    view.temperature, view.top_p = 1.0, 1.0
    assert view.summary() == "After “Omar had a”: all 768 tokens are kept"
    view.cut, view.top_p = "top-k 3", 0.05
    assert view.summary().startswith("After “Omar had a”: 1 token is kept, ")


def test_another_prompt_is_typed():
    view = SamplingExplorer()
    before = view.next.logits
    view.prompt = "Lena <b>"
    assert "After “Lena &lt;b&gt;”" in view.static_svg() and "<b>" not in view.static_svg()
    assert view.next.logits.tolist() != before.tolist()
    view.prompt = ""
    assert view.summary().startswith("At the start of a text: ")
    view.prompt = "x" * sampling.MOST
    assert view.summary().startswith("After “…" + "x" * 39)
    view.prompt = "\U0001f600" * sampling.MOST  # four bytes each, none of them merged
    assert len(view.continuations()) == 5
    with pytest.raises(ValueError, match="prompt='x+ is not allowed: a text of at most 120"):
        view.prompt = "x" * 121


def test_continuations_are_the_engines(model, tokenizer):
    view = SamplingExplorer(model=model, tokenizer=tokenizer, temperature=1.5, cut="top-k 10")
    params = sampling.params_of(1.5, 0.9, "top-k 10")
    for seed, text in enumerate(view.continuations()):
        one = dataclasses.replace(params, seed=seed, max_tokens=sampling.DRAWN_TOKENS)
        assert text == "".join(generate(model, tokenizer, "Omar had a", one))
        assert f">…{text}<" in "".join(view.frame()["pieces"])
    assert len(set(view.continuations())) > 1
    view.temperature = 0.0
    assert len(set(view.continuations())) == 1
    with pytest.raises(ValueError, match="tokenizer=None is not allowed"):
        SamplingExplorer(model=model)


def test_sums_grow_to_one_and_pass_top_p_at_the_last_kept_token():
    view = SamplingExplorer(top_p=0.5)
    it = view.draw()
    assert it.sums[-1] == pytest.approx(1)
    assert it.sums[it.kept - 2] < 0.5 <= it.sums[it.kept - 1]
    picture = "".join(view.frame()["pieces"])
    ((path,),) = [re.findall(r'<path d="M([^"]+)"[^>]*data-key="sums"', picture)]
    across = [float(point.split()[0]) for point in path.split("L")]
    places = [it.sums[i] for i in range(sampling.SHOWN)]
    wide = (across[-1] - across[0]) / (places[-1] - places[0])
    assert across == pytest.approx([across[0] + wide * (s - places[0]) for s in places], abs=0.02)
    rows = view.table()
    assert rows[3]["sum so far"] == sampling.percent(it.sums[3])
    assert ">top-p 0.5<" in picture
    view.cut = "top-k 3"  # the rule of top-p is then another one
    assert ">top-p 0.5<" not in "".join(view.frame()["pieces"])


def test_few_tokens_have_no_rest():
    given = NextToken("a", ("b", "c", "d"), torch.tensor([2.0, 1.0, 0.0]).double())
    it = draw(given.logits, 1.0, 0.9, "none")
    probs = sampling_probs(given.logits, SamplingParams(temperature=1.0, top_p=0.9))
    assert it.after == probs.tolist() and "below" not in sampling.note(it)
    assert len(sampling.table_rows(given, it)) == 3
