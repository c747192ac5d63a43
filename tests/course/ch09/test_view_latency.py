"""The latency curve: the engine is measured, the best point is chosen."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from view_samples import some_waits

from llama3lib.inference import LLMEngine
from llama3lib.inference.simulate import StepTime
from llama3lib.model import ModelArgs, Transformer
from llama3lib.paper import inference as facts
from widgets.ch09.views import latency
from widgets.ch09.views.latency import LatencyCurve, best, measure_curve, measure_steps


@pytest.fixture(scope="module")
def model():
    args = ModelArgs(
        dim=16, n_layers=1, n_heads=2, n_kv_heads=1, ffn_dim=32, vocab_size=33, max_seq_len=64
    )
    made = Transformer(args)
    made.init_weights(torch.Generator().manual_seed(0))
    return made.eval()


def test_the_engine_is_measured(model, monkeypatch):
    clock = itertools.count()  # a step takes a second, whatever the machine
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=clock.__next__))
    rows = measure_curve(model, limits=(1, 4), mixes={"a": (8, 8), "b": (32, 2)})
    taken = next(clock)
    assert [(row["mix"], row["limit"]) for row in rows] == list(itertools.product("ab", (1, 4)))
    for row in rows:
        assert 0 < row["median_ms"] <= row["p95_ms"] < 1000 * taken
        # nobody waits less than the tokens take that are written at a time
        assert row["tokens_per_second"] * row["median_ms"] / 1000 < 4 * row["limit"]
    assert LatencyCurve(rows).note == "Measured in this notebook."
    with LLMEngine(model):  # the model was given back
        pass


def test_a_batch_limit_is_a_batch_limit(model, monkeypatch):
    seen, real = [], LLMEngine.step

    def step(self):
        outputs = real(self)
        seen.append((len(outputs), len(self.scheduler.running)))
        return outputs

    monkeypatch.setattr(LLMEngine, "step", step)
    latency.measure_point(model, 3, (8, 6))
    assert max(number for number, _ in seen) == 3
    assert sum(number == 3 for number, _ in seen) > len(seen) / 2  # the slots are taken
    with pytest.raises(ValueError, match="prompt=63 is not allowed: 1 to 62"):
        latency.measure_point(model, 1, (63, 6))


def test_steps_are_measured_for_the_simulator(model):
    steps = measure_steps(model, batches=(1, 3), prompts=(4, 16, 50), num_decodes=3)
    sizes = [(step.num_tokens, step.num_cached) for step in steps]
    assert sizes[:4] == [(4, 0), (1, 4), (1, 5), (1, 6)]
    assert sizes[12:16] == [(12, 0), (3, 12), (3, 15), (3, 18)]
    assert len(sizes) == 20  # three prompts of 50 are too long for a step
    assert StepTime.fit(steps)(1, 4) > 0


def test_the_mixes_have_the_papers_ratio():
    prompt, output = list(latency.MIXES.values())[1]
    assert prompt / output == facts.INPUT_TOKENS.value / facts.OUTPUT_TOKENS.value


def test_the_stored_table_is_whole():
    rows = latency.STORED
    assert [(r["mix"], r["limit"]) for r in rows] == list(
        itertools.product(latency.MIXES, latency.LIMITS)
    )
    for mix in latency.MIXES:
        one, *_, many = [row for row in rows if row["mix"] == mix]
        assert many["tokens_per_second"] > 2 * one["tokens_per_second"]
        assert many["median_ms"] > 2 * one["median_ms"]
    assert all(row["median_ms"] <= row["p95_ms"] for row in rows)
    assert "torch" in LatencyCurve().note and "2026" in LatencyCurve().note


def test_the_best_within_a_limit():
    short, long = some_waits()[:4], some_waits()[4:]
    assert best(short, 2.5, "p95_ms")["limit"] == 4  # at the limit is within
    assert best(short, 2.49, "p95_ms")["limit"] == 2
    assert best(short, 2.49, "median_ms")["limit"] == 8
    assert best(short, 1.0, "p95_ms") is None
    assert best(long, math.inf, "p95_ms")["limit"] == 4  # not the largest batch
    view = LatencyCurve(some_waits(), limit_ms=2.5)
    want = "short, p95 TPOT up to 2.5 ms: batch size 4 gives the most, 2,280 tokens/s"
    assert view.summary() == want and view.best() == short[2]
    assert view.frame()["facts"] == {"best": "4"}
    view = LatencyCurve(some_waits(), limit_ms=1.0)
    assert view.frame()["facts"] == {"best": "none"}
    assert view.summary() == "short: no batch size keeps p95 TPOT up to 1 ms"
    view = LatencyCurve(some_waits(), mix="long", judge="median_ms", limit_ms=9.0)
    assert view.best()["limit"] == 4
    told = latency.notes(view.rows(), 9.0, "median_ms")
    assert told[0].startswith("Against batch size 1: 1.9 times the tokens a second")
    assert told[1].endswith("930 tokens/s. Beyond it only TPOT grows.")
    assert [row["within the limit"] for row in view.table()] == ["yes"] * 4
    assert LatencyCurve(some_waits()).table()[0]["tokens/s"] == "803"  # 802.5: halves go up
    svg = view.static_svg()
    assert "≤ 9 ms</text>" in svg and "batch size 4 gives the most, 930 tokens/s" in svg


def test_a_lone_texts_waits_hold_no_prompt(model, monkeypatch):
    """The note says so: with 1 text at a time each wait is one step, of one token."""
    rows = [{"mix": "a", "limit": n, "tokens_per_second": 9.0, "median_ms": 1.0, "p95_ms": 2.0}
            for n in (1, 2)]  # fmt: skip
    assert latency.notes(rows, 9.0, "p95_ms")[-2:] == [*latency.LONE]
    assert not {*latency.LONE} & {*latency.notes(rows[1:], 9.0, "p95_ms")}
    for limit in (1, 2):
        mixed, real = [], LLMEngine.step

        def step(self, mixed=mixed, real=real):
            known = {id(s) for s in self.scheduler.running}
            outputs = real(self)
            mixed.append(bool(known) and any(id(s) not in known for s in self.scheduler.running))
            return outputs

        with monkeypatch.context() as patch:
            patch.setattr(LLMEngine, "step", step)
            latency.measure_point(model, limit, (8, 6))
        assert any(mixed) == (limit > 1)


def test_the_slider_reaches_beyond_all_points():
    for rows in (some_waits(), latency.STORED):
        stops = latency.stops_for(rows)
        assert stops == sorted(set(stops)) and len(stops) > 15
        assert best(rows, stops[0], "median_ms") is None
        assert all(row["p95_ms"] < stops[-1] for row in rows)


def test_arguments_are_checked():
    for wrong in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match=f"limit_ms={wrong!r} is not allowed: above 0"):
            LatencyCurve(some_waits(), limit_ms=wrong)
    good = some_waits()[0]
    for wrong, words in (
        ([], "measured=.* is not allowed"),
        ([good | {"p95_ms": math.inf}], "p95_ms=inf is not allowed"),
        ([good | {"limit": 0}], "limit=0 is not allowed"),
        ([{k: v for k, v in good.items() if k != "mix"}], "a row has no 'mix'"),
    ):
        with pytest.raises(ValueError, match=words):
            LatencyCurve(wrong)
