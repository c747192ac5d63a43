"""What the exercises of chapter 04 promise: targets that can be reached, and not be beaten."""

from itertools import product

import pytest

from llama3lib.parallel.schedules import Action, pipeline_order, simulate
from widgets.ch04.exercises import e1_ring as ring
from widgets.ch04.exercises import e4_schedule as pipeline
from widgets.ch04.exercises import e7_layout as layouts


def _time(order):
    return simulate([[Action(k, rank, i) for k, i in row] for rank, row in enumerate(order)]).wall


def _rows(micro_batches, limit, row=()):
    """Every order of one rank that keeps the limit and takes micro-batches as they come."""
    done = {kind: sum(k == kind for k, _ in row) for kind in "FB"}
    if done["B"] == micro_batches:
        yield row
    if done["F"] < min(micro_batches, done["B"] + limit):
        yield from _rows(micro_batches, limit, (*row, ("F", done["F"])))
    if done["B"] < done["F"]:
        yield from _rows(micro_batches, limit, (*row, ("B", done["B"])))


@pytest.mark.parametrize("question", [(2, 3, 2), (3, 3, 2), (3, 4, 2)])
def test_no_order_of_few_micro_batches_is_faster_than_the_target(question):
    stages, micro_batches, limit = question
    times = []
    for order in product(_rows(micro_batches, limit), repeat=stages):
        try:
            times.append(_time(order))
        except ValueError:  # a deadlock
            continue
    assert min(times) == _time(pipeline.schedule(*question))


def test_the_targets_of_the_puzzle_are_those_that_its_text_tells():
    targets = {limit: _time(pipeline.schedule(4, 8, limit)) for limit in (1, 2, 3, 4, 8)}
    assert targets == {1: 96, 2: 51, 3: 39, 4: 33, 8: 33}
    assert simulate(pipeline_order(4, 8)).wall == targets[4]


def test_a_ring_sends_as_much_as_the_text_tells():
    for one in ring._rings():
        ranks, size = len(one.tensors), len(one.tensors[0])
        sent = ring._play(ring.ring_all_reduce, one).sent
        if size % ranks == 0:
            assert set(sent) == {2 * (ranks - 1) * size // ranks}
        assert max(sent) <= one.most


def test_the_moonshot_can_be_won_on_every_machine_and_is_not_won_without_a_search():
    assert {question.inputs[1] for question in layouts.questions()} == {8192, 16_384}
    best = [layouts.fast_layout(*question.inputs) for question in layouts.questions()]
    assert [(x.tp, x.cp, x.pp) for x in best] == [(4, 4, 16), (4, 4, 16), (4, 8, 16)]
    for question, layout in zip(layouts.questions(), best, strict=True):
        assert layouts._broken(question, layout) is None
        assert layouts._broken(question, layouts.table_4_layout(question.row)[0]) is not None
