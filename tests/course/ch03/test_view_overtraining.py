"""Train once, serve many: the library's costs, the words, and the browser's arithmetic."""

import itertools
import math

import numpy as np
import pytest
import traitlets
from view_tools import run_js

from llama3lib.paper import scaling as paper
from llama3lib.scaling import REPLICATION, ParametricLaw, break_even, cheapest, life, tokens_for
from widgets.ch03.views import overtraining
from widgets.ch03.views.overtraining import SERVED, OvertrainingCost, at_size, cheapest_when

TOY = ParametricLaw(E=1.2, A=60.0, B=90.0, alpha=0.3, beta=0.35)


@pytest.fixture(scope="module")
def view():
    return OvertrainingCost()


@pytest.fixture(scope="module")
def cases(view):
    sizes = [view.steps[0], 8.03e9, 23e9, view.steps[-1]]
    return [*itertools.product(view.facts["targets"], SERVED, sizes)]


def test_targets_are_losses_of_the_papers_models(view):
    for name, (parameters, tokens, _) in paper.SIX_ND.rows.items():
        if name in view.facts["targets"]:
            loss = view.facts["targets"][name]["loss"]
            assert loss == REPLICATION.predict(parameters, tokens)
            it = at_size(REPLICATION, parameters, loss, 1e12)
            assert it.tokens == pytest.approx(tokens)
            assert it.total == pytest.approx(6 * parameters * tokens + 2e12 * parameters)
    assert [*view.facts["targets"]] == ["8B", "70B", "405B"]
    assert view.facts["targets"]["405B"]["words"] == "the loss of 405B on 15.6T"


def test_more_use_moves_the_lowest_point_left(view):
    for target in view.facts["targets"]:
        view.target, found = target, []
        for view.served in SERVED:
            assert view.best() == cheapest(REPLICATION, view.loss, view.served)
            found.append(view.best().parameters)
        assert found == sorted(found, reverse=True) and found[0] > 3 * found[-1]


@pytest.mark.parametrize("served", [1e10, 1e13, 1e16])
def test_when_a_size_is_the_cheapest_no_other_costs_less(served):
    size = cheapest(REPLICATION, 2.0, served).parameters
    assert cheapest_when(REPLICATION, size, 2.0) == pytest.approx(served, rel=1e-4)
    for other in size * np.geomspace(0.9, 1.1, 21):
        it = at_size(REPLICATION, other, 2.0, served)
        assert it.total >= at_size(REPLICATION, size, 2.0, served).total * (1 - 1e-9)


def test_too_large_and_too_small_are_never_the_cheapest():
    trained = cheapest(REPLICATION, 2.0, 0).parameters
    assert cheapest_when(REPLICATION, 1.1 * trained, 2.0) is None
    assert cheapest_when(REPLICATION, 0.9 * trained, 2.0) > 0
    least = overtraining.least_size(REPLICATION, 2.0)
    assert at_size(REPLICATION, 0.999 * least, 2.0, 1e9) is None
    assert cheapest_when(REPLICATION, 0.999 * least, 2.0) is None
    assert at_size(REPLICATION, 1.001 * least, 2.0, 1e9).tokens > 1e15


def test_the_8b_is_far_smaller_than_the_cheapest_to_train(view):
    """The lesson: its loss would cost least to train with four times its size."""
    view.target, view.served, view.size = "8B", 1e14, 8.03e9
    first = cheapest(REPLICATION, view.loss, 0)
    assert 3.5 < first.parameters / 8.03e9 < 5
    own = life(8.03e9, 15e12, 0)
    assert own.training > 5 * first.training
    assert 1e13 < break_even(own, first) < 1.2e13 and view.best().parameters < 1.1 * 8.03e9
    told = " ".join(view.static_svg().split())
    assert "once 1.1e13 tokens are served; cheapest of all sizes at 1.9e14" in told


def test_words_table_and_picture_tell_the_same(view):
    view.target, view.served, view.size = "8B", 1e14, 8.03e9
    best, first = view.best(), cheapest(REPLICATION, view.loss, 0)
    title, much = view.summary(), first.parameters / best.parameters
    assert title == (
        f"With 1e14 tokens served {best.parameters / 1e9:.3g}B parameters cost least: {much:.2g} "
        "times fewer than without serving"
    )
    assert f"<title>{title}</title>" in view.static_svg()
    rows = {row["model"]: row for row in view.table()}
    assert [*rows] == ["cheapest", "cheapest to train", "8B", "70B", "405B", "your size"]
    assert rows["8B"] == rows["your size"] | {"model": "8B"}
    assert rows["8B"]["tokens"] == "15T" and rows["8B"]["training FLOPs"] == "7.2e23"
    assert rows["cheapest"]["times the cheapest"] == "1"
    for words in ("not the Llama 3 paper's", "most of this is extrapolated"):
        assert words in view.static_svg().replace("\n", " ")
    view.target = "70B"
    assert view.table()[2]["tokens"] == "never gets there"
    assert "Yours: 8.03B is too small" in view.static_svg()
    assert view.static_svg().count("never gets there") == 1
    view.served = 0.0
    assert view.summary().endswith("parameters cost least: the cheapest to train")
    view.size = view.steps[-1]
    assert "some smaller size always costs less" in view.static_svg().replace("\n", " ")
    assert "image/svg+xml" in view._repr_mimebundle_()[0]


def test_everything_that_is_marked_lies_in_the_picture(view):
    span = view.facts["ends"]
    for (low, high), target in zip(span["cost"], view.facts["targets"], strict=True):
        for served in SERVED:
            best = cheapest(REPLICATION, view.facts["targets"][target]["loss"], served)
            assert low < best.total < high
            assert span["size"][0] < best.parameters < span["size"][1]
    assert all(span["size"][0] < size < span["size"][1] for size in view.facts["models"].values())


def test_a_law_and_sizes_of_ones_own():
    view = OvertrainingCost(TOY, models={"mine": (1e6, 2e8)}, served=1e10, source="Mine & yours.")
    assert view.target == "mine" and view.loss == TOY.predict(1e6, 2e8)
    assert view.best() == cheapest(TOY, view.loss, 1e10)
    assert 1e6 in view.steps and view.steps == sorted(view.steps)
    assert "Mine &amp; yours." in view.static_svg() and "Besiroglu" not in view.static_svg()
    assert "Besiroglu" not in OvertrainingCost(TOY).static_svg()
    with pytest.raises(ValueError, match="at least one"):
        OvertrainingCost(models={})
    with pytest.raises(ValueError, match="parameters=-1"):
        OvertrainingCost(models={"mine": (-1, 2e8)})


@pytest.mark.parametrize("field, wrong", [("served", 2e9), ("target", "9B"), ("size", 8e9)])
def test_the_state_is_checked(field, wrong):
    with pytest.raises(traitlets.TraitError, match=f"{field}={wrong!r} is not allowed: one of"):
        setattr(OvertrainingCost(), field, wrong)


def test_numbers_in_words():
    assert [overtraining.short(v) for v in (8.03e9, 15e12, 2e15, 12.0)] == [
        "8.03B", "15T", "2,000T", "12",
    ]  # fmt: skip
    assert [overtraining.power(v) for v in (0, 3e9, 7.234e23)] == ["0", "3e9", "7.2e23"]


def known(values):
    """-1 for what there is not: infinite in Python, null in the browser."""
    return [-1 if value is None or math.isinf(value) else value for value in values]


def test_the_costs_in_javascript(node, tmp_path, view, cases):
    law, source = view.facts["law"], view.facts["source"]
    loss_of = {name: one["loss"] for name, one in view.facts["targets"].items()}

    def js(function, *given):
        return run_js(node, tmp_path, "overtraining", function, *([law, *case] for case in given))

    wide = list(itertools.product(loss_of.values(), SERVED))
    for (loss, served), got in zip(wide, js("cheapest", *wide), strict=True):
        want = cheapest(REPLICATION, loss, served)
        numbers = [want.parameters, want.tokens, want.training, want.serving, want.total]
        assert [*got.values()] == pytest.approx(numbers, rel=1e-5)
        assert got["total"] == pytest.approx(want.total, rel=1e-12)
    assert js("headline", *wide) == [overtraining.headline(REPLICATION, *case) for case in wide]
    full = [(loss_of[target], served, size, source) for target, served, size in cases]
    assert js("notes", *full) == [overtraining.notes(REPLICATION, *case) for case in full]
    models = view.facts["models"] | {"your size": 3.4e10}
    want = [overtraining.table_rows(REPLICATION, *case, models) for case in wide]
    assert js("tableRows", *((*case, models) for case in wide)) == want
    pairs = [(size, loss) for loss in loss_of.values() for size in view.steps]
    want = [tokens_for(REPLICATION, *pair) for pair in pairs]
    assert known(js("tokensFor", *pairs)) == pytest.approx(known(want), rel=1e-9)
    assert -1 in known(want) and -1 not in want
    when = [cheapest_when(REPLICATION, *pair) for pair in pairs]
    assert known(js("cheapestWhen", *pairs)) == pytest.approx(known(when), rel=1e-8)
    lives = [life(n, d, 0) for n, d in ((8e9, 15e12), (70e9, 1e12), (1e9, 1e9), (70e9, 3e12))]
    pairs = list(itertools.permutations(lives, 2))
    given = [[vars(a) | {"total": a.total}, vars(b) | {"total": b.total}] for a, b in pairs]
    told = run_js(node, tmp_path, "overtraining", "breakEven", *given)
    assert known(told) == pytest.approx(known([break_even(*pair) for pair in pairs]))
