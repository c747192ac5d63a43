"""Training and serving together: the cheapest model gets smaller the more it is used."""

import math

import numpy as np
import pytest
from scaling_tools import CHINCHILLA

from llama3lib.paper import scaling as paper
from llama3lib.scaling import ParametricLaw, break_even, cheapest, life, tokens_for


def test_without_serving_the_cheapest_is_the_optimum_of_the_law():
    size, tokens = CHINCHILLA.optimum(1e22)
    found = cheapest(CHINCHILLA, CHINCHILLA.predict(size, tokens), 0)
    assert found.parameters == pytest.approx(size, rel=1e-3)
    assert found.training == pytest.approx(1e22, rel=1e-6)


@pytest.mark.parametrize("served", [0, 1e11, 1e13])
def test_no_size_on_a_fine_grid_is_cheaper(served):
    found = cheapest(CHINCHILLA, 2.2, served)
    sizes = np.geomspace(found.parameters / 10, found.parameters * 10, 2001)
    costs = [
        life(n, t, served).total for n in sizes if (t := tokens_for(CHINCHILLA, n, 2.2)) < 1e99
    ]
    assert found.total <= min(costs) * (1 + 1e-9)
    assert CHINCHILLA.predict(found.parameters, found.tokens) == pytest.approx(2.2)


def test_more_use_makes_it_smaller_and_trained_longer():
    found = [cheapest(CHINCHILLA, 2.2, served) for served in (0, 1e11, 1e12, 1e13)]
    assert [f.parameters for f in found] == sorted((f.parameters for f in found), reverse=True)
    assert [f.tokens for f in found] == sorted(f.tokens for f in found)


def test_a_size_that_never_gets_there_needs_endless_tokens():
    assert tokens_for(CHINCHILLA, 1e6, 2.2) == math.inf
    with pytest.raises(ValueError, match=r"loss=1\.8 is not allowed: above 1\.8172"):
        cheapest(CHINCHILLA, 1.8, 0)


def test_break_even_is_where_both_cost_the_same():
    small, large = life(8e9, 15e12, 0), life(70e9, 1e12, 0)
    tokens = break_even(small, large)
    assert life(8e9, 15e12, tokens).total == pytest.approx(life(70e9, 1e12, tokens).total)
    assert break_even(large, small) == math.inf
    eight, seventy = (life(*paper.SIX_ND.rows[name][:2], 0) for name in ("8B", "70B"))
    assert eight.training == pytest.approx(paper.SIX_ND.rows["8B"][2], rel=1e-3)
    assert break_even(eight, seventy) == 0  # cheaper from the first token on
    assert break_even(life(2e9, 1e9, 0), life(1e9, 1e9, 0)) == math.inf


def test_costs_that_cannot_be_are_refused():
    for bad in ((0, 1, 1), (1, math.nan, 1), (1, 1, -1)):
        with pytest.raises(ValueError, match="is not allowed"):
            life(*bad)


def test_tokens_that_cannot_be_told_are_refused():
    for size, loss, named in ((0, 2.2, "parameters=0"), (1e9, math.nan, "loss=nan")):
        with pytest.raises(ValueError, match=f"{named} is not allowed"):
            tokens_for(CHINCHILLA, size, loss)
    flat = ParametricLaw(E=1.8, A=400.0, B=2000.0, alpha=0.3, beta=0.0)
    for call in (lambda: tokens_for(flat, 1e9, 2.2), lambda: cheapest(flat, 2.2, 0)):
        with pytest.raises(ValueError, match=r"law\.beta=0\.0 are not allowed"):
            call()
