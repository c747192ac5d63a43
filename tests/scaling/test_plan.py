"""What a sweep plans: FLOPs counted once and by hand, budgets met, wrong settings named."""

import math
from types import SimpleNamespace

import pytest

from llama3lib.scaling import (
    Budget,
    SweepConfig,
    cells,
    load_sweep,
    plan,
    sweep_names,
    sweep_seconds,
)
from llama3lib.scaling.plan import share, train_config
from llama3lib.train import SourceConfig, planned_rates


def config(**changes):
    budgets = (Budget(flops=1e10, models=((8, 1), (12, 2))),)
    return SweepConfig(**{"invented": 100, "n_heads": 2, "budgets": budgets, **changes})


def by_hand(width, layers, vocabulary, length):
    """Of one token: 6 for each weight multiplied, and attention over the tokens before it."""
    inside = 8 * max(1, round(width / 3))
    weights = layers * (4 * width**2 + 3 * width * inside) + vocabulary * width
    return 6 * weights + 3 * layers * 2 * 2 * width * (length + 1) / 2


@pytest.mark.parametrize("name", ["toy", "gpu"])
def test_each_run_spends_its_budget(name):
    assert name in sweep_names()
    found = load_sweep(name)
    planned = cells(found)
    assert len({cell.name for cell in planned}) == len(planned)
    for cell in planned:
        one = cell.batch_size * cell.length * cell.flops / cell.tokens
        assert abs(cell.flops - cell.budget) <= one / 2
        model = cell.model
        each = by_hand(model.dim, model.n_layers, model.vocab_size, cell.length)
        assert cell.flops / cell.tokens == pytest.approx(each)


def test_the_time_of_a_sweep_is_that_of_its_runs_side_by_side(monkeypatch):
    assert sweep_seconds(config()) > 0
    asked = []

    def make_plan(recipe):
        asked.append(recipe)
        return SimpleNamespace(seconds=recipe.total_steps / 100)

    monkeypatch.setattr(plan, "make_plan", make_plan)
    steps = sum(cell.steps for cell in cells(config()))
    assert sweep_seconds(config(), processes=2) == pytest.approx(steps / 200)
    assert asked == [train_config(config(), cell) for cell in cells(config())]


def test_the_two_counts_of_parameters():
    small, large = sorted(cells(config()), key=lambda cell: cell.parameters)
    ends = 2 * 2048 * 8
    layers = 4 * 64 + 3 * 8 * 24
    norms = 3 * 8
    assert small.parameters == ends + layers + norms
    assert small.non_embedding == layers + norms
    assert large.non_embedding == 2 * (4 * 144 + 3 * 12 * 32) + 5 * 12


def test_the_cosine_ends_with_the_run_and_the_rate_falls_with_width():
    planned = cells(config())
    peaks = {}
    for cell in planned:
        recipe = train_config(config(), cell)
        rates = planned_rates(recipe)
        peaks[cell.model.dim] = max(rates)
        assert len(rates) == cell.steps
        assert rates[-1] == pytest.approx(0.05 * max(rates), rel=0.05)
    assert peaks[8] == pytest.approx(1e-2 * 2, rel=0.05)
    assert peaks[8] / peaks[12] == pytest.approx(math.sqrt(1.5), rel=0.05)


def test_a_longer_cosine_is_cut_off_and_its_runs_have_names_of_their_own():
    (whole,) = cells(config(budgets=(Budget(flops=1e10, models=((8, 1),)),)))
    (cut,) = cells(config(budgets=(Budget(flops=1e10, models=((8, 1),), cosine=4.0),)))
    assert cut.steps == whole.steps and cut.name != whole.name
    planned = train_config(config(), cut)
    rates = planned_rates(planned)
    middle = 0.5 * (1 + math.cos(math.pi / 4))  # a quarter of the way down, nearly
    assert len(rates) == whole.steps
    assert rates[-1] == pytest.approx(planned.optimizer.peak * (0.05 + 0.95 * middle), rel=0.02)
    with pytest.raises(ValueError, match=r"cosine=0\.5"):
        Budget(flops=1e9, models=((8, 1),), cosine=0.5)


def test_long_runs_come_first_and_seeds_one_after_another():
    planned = cells(config(seeds=(3, 5)))
    assert [cell.seed for cell in planned] == [3, 3, 5, 5]
    assert [cell.tokens for cell in planned[:2]] == sorted(
        (cell.tokens for cell in planned[:2]), reverse=True
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"budgets": ()}, "budgets=\\[\\]"),
        ({"seeds": ()}, "seeds"),
        ({"invented": None}, "either invented"),
        ({"train": SourceConfig(stories=3)}, "either invented"),
        ({"tokenizer": "llama3"}, "tokenizer='llama3'"),
        ({"end_share": 1.5}, "end_share=1.5"),
        ({"seeds": (1.7,)}, r"seeds=\(1.7,\)"),
        ({"seeds": (-1,)}, r"seeds=\(-1,\)"),
        ({"seeds": (0, 0)}, r"seeds=\(0, 0\) is not allowed: each once"),
        ({"n_heads": 0}, "n_heads=0"),
        ({"head_dim": 0}, "head_dim=0"),
        ({"length": 0}, "length=0"),
        ({"invented": 0}, "invented=0"),
        ({"test_windows": 0}, "test_windows=0"),
        ({"test_windows": 2.5}, "test_windows=2.5"),
        ({"questions": -1}, "questions=-1"),
        ({"peak": -1.0}, "peak=-1.0"),
        ({"peak": math.inf}, "peak=inf"),
        ({"rope_theta": 0.0}, "rope_theta=0.0"),
        ({"device": "cudda"}, "device='cudda'"),
        ({"precision": "float16"}, "precision='float16'"),
        (
            {
                "invented": None,
                "questions": 5,
                "train": SourceConfig(stories=3),
                "held_out": SourceConfig(stories=1, seed=2),
            },
            "questions are",
        ),
    ],
)
def test_wrong_settings_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        config(**changes)


def test_budgets_that_cannot_be_are_named():
    twice = {"models": ((8, 1), (12, 1), (8, 1))}
    for wrong in (
        *({"flops": 0.0}, {"flops": math.nan}, {"batch_size": 0}, {"batch_size": 1.5}),
        *({"models": ()}, {"models": ((8,),)}, {"models": ((8, 0),)}, twice),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Budget(**{"flops": 1e9, "models": ((8, 1),), **wrong})
    with pytest.raises(ValueError, match=r"models=\(96, 2\) is not allowed at 1e\+09"):
        cells(config(budgets=(Budget(flops=1e9, models=((96, 2),)),)))
    with pytest.raises(ValueError, match="did you mean 'toy'"):
        load_sweep("toi")
    with pytest.raises(ValueError, match="no such file"):
        load_sweep("none.toml")
    assert load_sweep("toy", ["seeds=[4]"]).seeds == (4,)


def test_runs_that_would_share_a_name_are_refused():
    near = tuple(Budget(flops=flops, models=((8, 1),)) for flops in (1e10, 1.00001e10))
    with pytest.raises(ValueError, match=r"10000000000\.0, 10000100000\.0.* '1e10-8x1-seed0'"):
        cells(config(budgets=near))


def test_shares_are_all_runs_each_once():
    planned = cells(config(seeds=(1, 2, 3)))
    parts = [share(planned, (n, 4)) for n in (1, 2, 3, 4)]
    assert sorted(map(len, parts)) == [1, 1, 2, 2]
    assert {cell.name for part in parts for cell in part} == {cell.name for cell in planned}
    for wrong in ((0, 2), (3, 2)):
        with pytest.raises(ValueError, match="part="):
            share(planned, wrong)
