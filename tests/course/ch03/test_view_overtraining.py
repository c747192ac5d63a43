"""Train once, serve many: the library's costs, and the words."""

import numpy as np
import pytest

from llama3lib.paper import scaling as paper
from llama3lib.scaling import REPLICATION, ParametricLaw, break_even, cheapest, life
from widgets.ch03.views import overtraining
from widgets.ch03.views.overtraining import SERVED, OvertrainingCost, at_size, cheapest_when

TOY = ParametricLaw(E=1.2, A=60.0, B=90.0, alpha=0.3, beta=0.35)


@pytest.fixture(scope="module")
def view():
    return OvertrainingCost()


def test_targets_are_losses_of_the_papers_models(view):
    for name, (parameters, tokens, _) in paper.SIX_ND.rows.items():
        if name in view.targets:
            loss = view.losses[name]
            assert loss == REPLICATION.predict(parameters, tokens)
            it = at_size(REPLICATION, parameters, loss, 1e12)
            assert it.tokens == pytest.approx(tokens)
            assert it.total == pytest.approx(6 * parameters * tokens + 2e12 * parameters)
    assert [*view.targets] == ["8B", "70B", "405B"]
    assert view.targets["405B"].endswith(", the loss of 405B on 15.6T")


def test_more_use_moves_the_lowest_point_left(view):
    for target in view.targets:
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
    own = at_size(REPLICATION, 8.03e9, view.loss, 1e14).total
    assert view.frame()["facts"] == {"best": str(best.parameters), "own": str(own)}
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
    assert view.frame()["facts"]["own"] == "none"
    view.served = 0.0
    assert view.summary().endswith("parameters cost least: the cheapest to train")
    view.size = view.steps[-1]
    assert "some smaller size always costs less" in view.static_svg().replace("\n", " ")


def test_everything_that_is_marked_lies_in_the_picture(view):
    least, most = view.sizes
    for target, (low, high) in view.costs.items():
        for served in SERVED:
            best = cheapest(REPLICATION, view.losses[target], served)
            assert low < best.total < high
            assert least < best.parameters < most
    assert all(least < size < most for size in view.models.values())


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


def test_numbers_in_words():
    assert [overtraining.short(v) for v in (8.03e9, 15e12, 2e15, 12.0)] == [
        "8.03B", "15T", "2,000T", "12",
    ]  # fmt: skip
    assert [overtraining.power(v) for v in (0, 3e9, 7.234e23)] == ["0", "3e9", "7.2e23"]
