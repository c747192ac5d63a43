from dataclasses import dataclass, field
from typing import Literal

import pytest

from llama3lib.utils.settings import build, with_overrides


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    mode: Literal["a", "b"] = "a"
    inner: Inner | None = None
    rows: tuple[Inner, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    named: dict[str, Inner] = field(default_factory=dict)
    on: bool = False


def test_nested_tables_become_dataclasses():
    table = {
        "name": "x",
        "mode": "b",
        "inner": {"size": 1},
        "rows": [{"size": 2, "share": 1}],
        "pair": [1, 2],
        "named": {"one": {"size": 3}},
    }
    found = build(Outer, table, "recipe")
    rows = (Inner(size=2, share=1.0),)
    assert found == Outer(
        name="x",
        mode="b",
        inner=Inner(size=1),
        rows=rows,
        pair=(1, 2),
        named={"one": Inner(size=3)},
    )
    assert isinstance(found.rows[0].share, float)


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ({}, ["recipe: name is missing"]),
        ({"nmae": "x"}, ["'nmae'", "did you mean 'name'"]),
        ({"name": 1}, ["recipe.name=1", "str"]),
        ({"name": "x", "mode": "c"}, ["recipe.mode='c'", "['a', 'b']"]),
        ({"name": "x", "inner": {"size": 1.5}}, ["recipe.inner.size=1.5", "int"]),
        ({"name": "x", "inner": {"size": True}}, ["recipe.inner.size=True"]),
        ({"name": "x", "inner": 3}, ["recipe.inner=3", "a table"]),
        ({"name": "x", "rows": [{"size": 1}, {"sise": 1}]}, ["recipe.rows.1", "'sise'", "'size'"]),
        ({"name": "x", "rows": {"size": 1}}, ["recipe.rows", "a list"]),
        ({"name": "x", "pair": [1]}, ["recipe.pair", "a list of 2"]),
        ({"name": "x", "pair": [1, float("nan")]}, ["recipe.pair=nan"]),
        ({"name": "x", "named": {"one": {}}}, ["recipe.named.one", "size is missing"]),
        ({"name": "x", "on": 1}, ["recipe.on=1", "bool"]),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(table, parts):
    with pytest.raises(ValueError) as caught:
        build(Outer, table, "recipe")
    for part in parts:
        assert part in str(caught.value)


def test_overrides_reach_into_tables_and_lists():
    table = {"a": {"b": 1}, "rows": [{"n": 1}, {"n": 2}], "list": [1, 2]}
    changes = ["a.b=2", "rows.1.n=5", "new.deep=1e-3", "text=plain words", 'quoted="x"', "list.0=9"]
    assert with_overrides(table, changes) == {
        "a": {"b": 2},
        "rows": [{"n": 1}, {"n": 5}],
        "list": [9, 2],
        "new": {"deep": 1e-3},
        "text": "plain words",
        "quoted": "x",
    }
    assert table["a"]["b"] == 1  # the original stays


@pytest.mark.parametrize("change", ["a", "=1", "rows.2.n=1", "rows.x.n=1", "a.b.c=1", "list.7=1"])
def test_overrides_that_lead_nowhere(change):
    with pytest.raises(ValueError, match="set="):
        with_overrides({"a": {"b": 1}, "rows": [{"n": 1}], "list": [1]}, [change])
