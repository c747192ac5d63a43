"""Pipeline schedules: orders against closed forms, times against the paper's formula."""

import itertools

import pytest

from llama3lib.paper import infrastructure
from llama3lib.parallel import Action, pipeline_order, simulate

SHAPES = list(itertools.product(range(1, 6), range(1, 4), range(1, 13)))  # pp, virtual, M


def kinds(actions, kind):
    return [action for action in actions if action.kind == kind]


def test_1f1b_of_two_ranks_by_hand():
    first, last = pipeline_order(2, 3)
    assert list(map(str, first)) == ["0F0", "0F1", "0B0", "0F2", "0B1", "0B2"]
    assert list(map(str, last)) == ["1F0", "1B0", "1F1", "1B1", "1F2", "1B2"]


@pytest.mark.parametrize("run", [4, 5, 10])
def test_figure_6_n_micro_batches_in_a_row(run):
    """4 ranks, 8 stages, 10 micro-batches; the paper draws N = 5."""
    runs = [range(start, min(start + run, 10)) for start in range(0, 10, run)]
    if len(runs[-1]) < 4:
        with pytest.raises(ValueError, match=f"run={run} .*4 to micro_batches=10, .* pp=4"):
            pipeline_order(4, 10, virtual=2, run=run)
        return
    for rank, actions in enumerate(pipeline_order(4, 10, virtual=2, run=run)):
        expected = [(s, i) for some in runs for s in (rank, rank + 4) for i in some]
        assert [(a.stage, a.micro_batch) for a in kinds(actions, "F")] == expected
        back = [(s, i) for some in runs for s in (rank + 4, rank) for i in some]
        assert [(a.stage, a.micro_batch) for a in kinds(actions, "B")] == back
        warm_up = [action.kind for action in actions].index("B") - 1
        assert warm_up == min(run + 2 * (3 - rank), 19)


def test_every_order_does_all_once_and_has_the_bubble_of_the_formula():
    for pp, virtual, m in SHAPES:
        everything = {
            Action(kind, s, i) for kind in "FB" for s in range(pp * virtual) for i in range(m)
        }
        runs = [n for n in range(min(pp, m), m + 1) if m % n == 0 or m % n >= pp]
        orders = [(pipeline_order(pp, m, virtual=virtual, run=n), n) for n in runs]
        orders.append((pipeline_order(pp, m, virtual=virtual, kind="gpipe"), m))
        for order, n in orders:
            flat = [action for actions in order for action in actions]
            assert len(flat) == len(everything) and set(flat) == everything
            timeline = simulate(order, forward=3, backward=4)
            formula = (pp - 1) / (virtual * m)
            if n >= pp and m % n == 0:
                assert timeline.bubble == pytest.approx(formula)
            assert timeline.bubble > formula - 1e-9
            assert timeline.idle_share == pytest.approx(1 - 1 / (1 + timeline.bubble))


def test_the_bubbles_that_the_paper_facts_give():
    for virtual, m, bubble in infrastructure.BUBBLES.rows.values():
        timeline = simulate(pipeline_order(16, m, virtual=virtual))
        assert timeline.bubble == pytest.approx(bubble, abs=0.006)


def test_activations_held_at_one_time():
    """1F1B holds as many micro-batches as stages follow; GPipe all; a longer run more."""
    for rank in range(4):
        assert simulate(pipeline_order(4, 8)).peak_in_flight(rank) == 4 - rank
        assert simulate(pipeline_order(4, 8, kind="gpipe")).peak_in_flight(rank) == 8
        peaks = [
            simulate(pipeline_order(4, 8, virtual=2, run=n)).peak_in_flight(rank) for n in (4, 8)
        ]
        assert peaks == [4 + 2 * (3 - rank) + 1, min(8 + 2 * (3 - rank) + 1, 16)]


def test_a_slow_stage_and_slow_messages_by_hand():
    order = pipeline_order(2, 2)
    # rank 0: F0 0-1, F1 1-2; rank 1: F0 1.5-4.5, B0 4.5-5.5, F1 5.5-8.5, B1 8.5-9.5
    timeline = simulate(order, forward=[1, 3], backward=1, send=0.5)
    times = {str(span.action): (span.start, span.end) for span in timeline.spans}
    assert times["1F0"] == (1.5, 4.5) and times["1B1"] == (8.5, 9.5)
    assert times["0B0"] == (6, 7) and times["0B1"] == (10, 11)
    assert timeline.wall == 11 and timeline.busy == 12


def test_longer_runs_hide_messages_better():
    walls = [simulate(pipeline_order(4, 12, virtual=2, run=n), send=0.4).wall for n in (4, 6, 12)]
    assert walls[0] > walls[1] >= walls[2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(pp=0, micro_batches=1), "pp=0"),
        (dict(pp=2, micro_batches=True), "micro_batches=True"),
        (dict(pp=2, micro_batches=4, virtual=0), "virtual=0"),
        (dict(pp=2, micro_batches=4, run=5), "run=5 .*1 to micro_batches=4$"),
        (dict(pp=4, micro_batches=8, virtual=2, run=3), "run=3 .*4 to micro_batches=8"),
        (dict(pp=4, micro_batches=8, virtual=2, run=6), "run=6 .*the last run too has pp=4"),
        (dict(pp=4, micro_batches=8, kind="zero"), "kind='zero' .*1f1b"),
    ],
)
def test_numbers_that_make_no_schedule(given, words):
    pp, m = given.pop("pp"), given.pop("micro_batches")
    with pytest.raises(ValueError, match=words):
        pipeline_order(pp, m, **given)


def test_an_order_that_waits_for_itself_is_named():
    order = [[Action("B", 0, 0), Action("F", 0, 0)]]
    with pytest.raises(ValueError, match="0B0"):
        simulate(order)
    with pytest.raises(ValueError, match="forward.*one for each of 2 stages"):
        simulate(pipeline_order(2, 2), forward=[1, 2, 3])
    with pytest.raises(ValueError, match="send=-1"):
        simulate(pipeline_order(2, 2), send=-1)
