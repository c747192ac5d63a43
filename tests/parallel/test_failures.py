"""Simulated failures: counts of Table 5, closed forms, the best interval by Young's rule."""

import math
from dataclasses import replace

import numpy as np
import pytest

from llama3lib.paper import infrastructure as paper
from llama3lib.parallel.failures import CAUSES, DAY, Conditions, best_interval, simulate

PLAIN = Conditions(restart=0, stragglers_per_day=0, corruption_minutes=0)
"""Nothing costs time but lost work and pauses."""


def test_causes_are_those_of_table_5():
    days = 54 * 40
    drawn = np.array(list(simulate(Conditions(), days, seed=1).stops.values())[:18])
    want = np.array(list(paper.TABLE_5.column("count").values())) * 40
    assert want.sum() == 40 * paper.UNEXPECTED.value
    chi_square = ((drawn - want) ** 2 / want).sum()
    assert 6.2 < chi_square < 37.2  # 99 % of draws of 18 counts: neither off nor too near


def test_a_snapshot_has_as_many_stops_as_the_papers():
    counts = [sum(simulate(PLAIN, seed=seed).stops.values()) for seed in range(50)]
    total = paper.INTERRUPTIONS.value
    assert np.mean(counts) == pytest.approx(total, abs=4 * math.sqrt(total / 50))
    assert np.var(counts) == pytest.approx(total, rel=0.6)  # Poisson


@pytest.mark.parametrize("restart", [2, 5, 10, paper.LOSS_PER_INTERRUPTION.value])
def test_more_than_90_per_cent_are_useful_if_a_stop_costs_up_to_16_7_minutes(restart):
    """Time up is exp(-rate · restart): of stops during a restart only the last counts in full."""
    outcome = simulate(replace(PLAIN, restart=restart, pause=0, interval=0.01), 20_000)
    rate = paper.INTERRUPTIONS.value / paper.SNAPSHOT.value / DAY
    assert outcome.effective == pytest.approx(math.exp(-rate * restart), abs=2e-3)
    assert outcome.effective > paper.EFFECTIVE_TIME.value


def test_a_run_as_we_suppose_it_is_effective_too():
    outcomes = [simulate(Conditions(), seed=seed) for seed in range(30)]
    assert np.mean([one.effective for one in outcomes]) > paper.EFFECTIVE_TIME.value
    assert all(one.minutes == pytest.approx(54 * DAY) for one in outcomes)


@pytest.mark.parametrize("pause", [0.05, 0.5, 2.0])
def test_the_best_interval_is_youngs_and_dalys(pause):
    conditions = Conditions(pause=pause)
    best = best_interval(conditions)
    assert best == pytest.approx(conditions.young, rel=0.1)
    assert best == pytest.approx(conditions.daly, rel=0.03)
    assert conditions.daly < conditions.young


def test_youngs_rule_gives_the_papers_interval():
    assert Conditions(pause=2).young == pytest.approx(paper.CHECKPOINT_EVERY.value, abs=0.5)
    hours = Conditions().between_failures / 60
    assert hours == pytest.approx(paper.HOURS_BETWEEN_UNEXPECTED.value, abs=0.01)
    assert Conditions(gpus=4096).between_failures == pytest.approx(4 * 60 * hours)


def test_lost_work_and_pauses_by_their_closed_forms():
    """Of a long run with short intervals, half an interval is lost at each unexpected stop."""
    outcome = simulate(replace(PLAIN, pause=0.1, interval=4.9), 20_000)
    failures = sum(outcome.stops[name] for name in paper.TABLE_5.rows)
    assert outcome.again / failures == pytest.approx(2.5, rel=0.02)
    assert outcome.pauses / outcome.minutes == pytest.approx(0.02, rel=0.03)
    assert outcome.slow == outcome.restarts == 0


def test_a_planned_stop_saves_first():
    calm = replace(PLAIN, gpus=1, interval=1000)
    outcome = simulate(calm, 54, seed=3)
    assert outcome.stops["(planned)"] > 30 and sum(outcome.stops.values()) < 60
    failures = sum(outcome.stops[name] for name in paper.TABLE_5.rows)
    assert failures == 0 and outcome.again == 0


def test_slow_gpus_take_their_part():
    slow = replace(PLAIN, stragglers_per_day=1, slowdown=0.2, straggler_minutes=72)
    outcome = simulate(slow, 20_000)
    share = 1 - math.exp(-0.05)  # one or more of 0.05 at a time are slow
    assert outcome.slow / outcome.minutes == pytest.approx(0.2 * share, rel=0.05)
    assert outcome.stops["(slow GPU taken out)"] == pytest.approx(20_000, rel=0.03)
    assert simulate(replace(slow, slowdown=1), 20_000).slow > 4.5 * outcome.slow


def test_unseen_corruption_throws_work_away():
    clean, late = simulate(PLAIN, 20_000), simulate(replace(PLAIN, corruption_minutes=600), 20_000)
    found = late.stops["Silent data corruption"]
    assert late.stops == clean.stops
    assert (late.again - clean.again) / found == pytest.approx(600, rel=0.1)


def test_the_seed_fixes_everything():
    assert simulate(Conditions(), seed=5) == simulate(Conditions(), seed=5)
    assert simulate(Conditions(), seed=5) != simulate(Conditions(), seed=6)
    none = simulate(replace(PLAIN, gpus=1), 0.01)
    assert none.effective > 0.98 and none.each == math.inf and len(none.stops) == len(CAUSES)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(gpus=0), "gpus=0"),
        (dict(restart=-1), "restart=-1"),
        (dict(pause=math.nan), "pause=nan"),
        (dict(pause=0), "pause=0"),
        (dict(interval=0), "interval=0"),
        (dict(slowdown=1.5), "slowdown=1.5"),
        (dict(stragglers_per_day=-1), "stragglers_per_day=-1"),
        (dict(straggler_minutes=math.inf), "straggler_minutes=inf"),
    ],
)
def test_wrong_conditions_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        Conditions(**change)
    with pytest.raises(ValueError, match="days=0"):
        simulate(PLAIN, 0)
