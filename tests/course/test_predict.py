"""Predictions: locked once, kept, compared; a run without one goes on."""

import numpy as np
import pytest
import torch
import traitlets

from widgets import predict, reveal
from widgets.core.progress import ledger


def number(name="99.a", **more):
    return predict(name, "How many GiB?", unit="GiB", **({"low": 0, "high": 100} | more))


def pick(**more):
    return predict("99.b", "Tied?", choices=["yes", "no"], **more)


def test_locked_is_locked():
    it = number()
    it.lock(63)
    with pytest.raises(ValueError, match="is locked: 63"):
        it.lock(64)
    for change in ({"locked": False}, {"value": 1}):
        with pytest.raises(traitlets.TraitError, match="is locked"):
            it.set_trait(*next(iter(change.items())))
    assert (it.value, it.locked) == (63, True)
    assert ledger().prediction("99.a")["value"] == 63


def test_it_is_still_locked_when_the_notebook_is_opened_again():
    number().lock(63)
    again = number()
    assert (again.value, again.locked) == (63, True)
    anew = number(again=True)
    assert not anew.locked
    anew.lock(50)
    assert ledger().prediction("99.a")["earlier"] == [63]


@pytest.mark.parametrize("value", [-1, 101, float("nan"), float("inf"), "63", True, None])
def test_values_out_of_range_are_refused(value):
    it = number()
    with pytest.raises(ValueError, match=r"a number from 0(\.0)? to 100"):
        it.lock(value)
    assert not it.locked
    assert ledger().prediction("99.a") is None


def test_infinity_is_refused_without_limits_too():
    with pytest.raises(ValueError, match="not allowed"):
        number(low=None, high=None).lock(float("inf"))


def test_choices():
    with pytest.raises(ValueError, match="yes, no"):
        pick().lock("perhaps")
    pick().lock("no")
    assert ledger().prediction("99.b")["value"] == "no"


def test_bad_questions():
    with pytest.raises(ValueError, match="question=''"):
        predict("99.c", "")
    with pytest.raises(ValueError, match="low=5"):
        predict("99.c", "?", low=5, high=1)


def test_reveal_without_a_prediction_goes_on(capsys):
    reveal("99.a", 63.0, unit="GiB")
    assert capsys.readouterr().out == "The answer is 63 GiB. (No prediction was locked.)\n"


@pytest.mark.parametrize(
    "guess, truth, told",
    [
        (63, 63.0, "exactly right"),
        (60, 63.0, "within a tenth"),
        (10, 63.0, "6.3 times too low"),
        (100, np.float32(50), "2 times too high"),
        (12.5, torch.tensor(25), "2 times too low"),
        (0, 5, "It is 5 GiB."),
    ],
)
def test_reveal_compares(capsys, guess, truth, told):
    number().lock(guess)
    reveal("99.a", truth, unit="GiB")
    out = capsys.readouterr().out
    assert out.startswith(f"You predicted {guess} GiB. It is ")
    assert told in out
    assert ledger().prediction("99.a")["truth"] == float(truth)


def test_reveal_of_a_choice(capsys):
    pick().lock("no")
    reveal("99.b", "no")
    assert capsys.readouterr().out == "You predicted: no. It is: no, as you predicted.\n"
    reveal("99.b", "yes")
    assert "not what you predicted" in capsys.readouterr().out


def test_static_twin_asks_on_paper():
    assert "☐ yes" in pick().static_html()
    assert "________ GiB" in number().static_html()
    assert "yes / no" in pick().summary()
