"""Requirements name field, value and what is allowed."""

import re

import numpy as np
import pytest

from llama3lib.utils.require import at_least, between, one_of, positive, require, require_all, whole

NAN, HUGE = float("nan"), 10**400


def test_what_is_allowed_passes():
    require([0], "rows", [0], "one or more")
    require_all(True, "any", a=1, b=2)
    one_of("kind", "a", ["a", "b"])
    at_least("n", 1.5, 1.5)
    for value in (0, 0.5, 1):
        between("share", value, 0, 1)
    for value in (1, np.int64(3), HUGE):
        whole("n", value)
    for value in (1, 1e-300, np.float32(2)):
        positive("rate", value)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: require("", "name", "", "some text"), "name='' is not allowed: some text"),
        (lambda: require_all(0, "a < b", a=2, b=1), "a=2, b=1 are not allowed: a < b"),
        (lambda: one_of("kind", "c", ["a", "b"]), "kind='c' is not allowed: one of ['a', 'b']"),
        (lambda: at_least("n", 0, 1), "n=0 is not allowed: 1 or more"),
        (lambda: at_least("n", NAN, 1), "n=nan is not allowed: 1 or more"),
        (lambda: between("share", 1.5, 0, 1), "share=1.5 is not allowed: 0 to 1"),
        *(
            (lambda value=v: whole("n", value, 2), f"n={v!r} is not allowed: a whole number, 2 or")
            for v in (1, 2.0, True, "2", None)
        ),
        *(
            (lambda value=v: positive("x", value), f"x={v!r} is not allowed: a finite number above")
            for v in (0, -1.0, NAN, float("inf"), True, "1", HUGE)
        ),
    ],
)
def test_what_is_not_gets_a_sentence(ask, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        ask()
