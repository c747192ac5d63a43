"""What the exercises of chapter 03 hold to be right; their mistakes: `test_all_exercises.py`."""

import math

import numpy as np
import pytest
from exercise_tools import load_answers

from llama3lib.paper import herd, scaling
from llama3lib.scaling import by_budget, fit_isoflop, fit_parabola
from widgets.ch03.exercises import e2_lowest_point as lowest_point
from widgets.ch03.exercises import e4_spoilt_budget as spoilt
from widgets.ch03.exercises import e5_serving as serving
from widgets.ch03.exercises import e6_beyond as beyond
from widgets.ch03.exercises.parabolas import plant, standard_error
from widgets.core.judge import Mistake
from widgets.core.quiz import questions_of

A = load_answers("03")


def test_the_flagship_is_the_one_that_matches_its_bill():
    table = scaling.SIX_ND
    models = {n: (table.cell(n, "parameters"), table.cell(n, "tokens")) for n in table.rows}
    costs, name = A.match_plain(models, herd.FLOPS.value)
    assert name == "405B"
    for model in table.rows:
        assert costs[model] == pytest.approx(table.cell(model, "FLOPs"), rel=2e-3)


def test_the_box_of_the_text_ends_below_the_printed_tokens():
    pair = scaling.EXPONENT.value, scaling.COEFFICIENT.value
    low, high = A.RIGHT["03.3"][0]["box"](*pair, 2, herd.FLOPS.value)
    ends = [
        scaling.LAW_TABLE.cell(f"{end} corner of rounding", "tokens (T)")
        for end in ("lower", "upper")
    ]
    assert [round(low / 1e12, 2), round(high / 1e12, 2)] == ends
    assert high < scaling.OPTIMAL_TOKENS.value


def test_standard_error_agrees_with_the_scatter_of_fits():
    """The delta method against two thousand new draws of noise."""
    one = plant(11, 30, 0.006)
    x = np.log(one.sizes)
    curve = fit_parabola(one.sizes, one.losses)
    _, error = standard_error(one)
    fitted = np.array([curve.predict(size) for size in one.sizes])
    left = one.losses - fitted
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, len(x))) * math.sqrt(left @ left / (len(x) - 3))
    bend, slope, _ = np.polyfit(x - x.mean(), (fitted + noise).T, 2)
    assert np.std(-slope / (2 * bend)) == pytest.approx(error, rel=0.08)


@pytest.mark.parametrize("right", [A.lowest_normal, A.lowest_library])
@pytest.mark.parametrize("throw", [1000, 2000, 3000])
def test_an_honest_bootstrap_passes_with_any_dice(right, throw):
    lowest_point.judge(lowest_point.intervals(right, throw))


@pytest.mark.parametrize("throw", [1000, 2000, 3000])
def test_ninety_percent_are_never_enough(throw):
    wrong = A.WRONG["03.2"]["an interval of about 90 %"]
    with pytest.raises(Mistake, match="90 %"):
        lowest_point.judge(lowest_point.intervals(wrong, throw))


def test_losses_torn_from_their_sizes_do_not_pass():
    with pytest.raises(Mistake):
        lowest_point.E.check(A.lowest_torn)


def test_the_spoilt_budget_stands_out_by_the_law_and_not_by_its_parabola():
    places = set()
    for one in spoilt.cases():
        groups = by_budget(one.runs)
        places.add(list(groups).index(one.spoilt))
        scatter = {budget: spoilt.scatter(found) for budget, found in groups.items()}
        assert max(scatter, key=scatter.get) != one.spoilt
        clean = fit_isoflop(one.clean, resamples=10).size.law.exponent
        assert abs(clean - one.exponent) < 0.01
        assert abs(spoilt.exponent_of(one.runs) - clean) > 2 * spoilt.TOLERANCE
    assert len(places) >= 5


@pytest.mark.parametrize("seed", range(100, 106))
@pytest.mark.parametrize("place", range(6))
def test_honest_methods_find_the_spoilt_budget_wherever_it_is(seed, place):
    one = spoilt.plant(seed, place, 0.5)
    for method in A.RIGHT["03.4"]:
        assert method(list(one.runs))[0] == one.spoilt


def test_served_cases_hold_every_kind_of_end():
    told = [(case.inputs, serving.E.right(*case.inputs)) for case in serving.E.inputs]
    ends = [end for _, end in told]
    assert ends.count(0.0) > 3 and ends.count(math.inf) > 3
    assert sum(0 < end < math.inf for end in ends) > 10
    larger = [end for (_, small, large), end in told if large > small[0]]
    assert all(math.isfinite(end) for end in larger) and 0.0 in larger


def test_the_runs_to_predict_lie_four_and_ten_times_beyond():
    made = [one for one in beyond.cases() if one.made]
    times = [one.flops / max(by_budget(one.runs)) for one in made]
    assert sorted({round(ratio) for ratio in times}) == [4, 10]
    assert len(made) == 6 and len(beyond.cases()) == 10
    assert all(len(by_budget(one.runs)) == 4 and len(one.runs) == 20 for one in made)


def test_the_quiz_reckons_as_the_paper_does():
    text = "\n".join(
        f"{q.prompt} {[o.text + o.why for o in q.options]}" for q in questions_of("03")
    )
    flops, tokens, size = herd.FLOPS.value, herd.TOKENS.value, herd.PARAMETERS.value
    largest = scaling.BUDGET_ENDS.value[1]
    times = flops / largest
    less = scaling.EXPONENT_FIGURE.value - scaling.EXPONENT.value
    small = sum(scaling.SIX_ND.cell(name, "FLOPs") for name in ("8B", "70B")) / flops
    large, middle, least = (
        scaling.TOKENS_PER_PARAMETER.cell(row, "tokens per parameter")
        for row in ("405B on 15.6T", "70B on 15T", "8B on 15T")
    )
    pairs = [scaling.LAW_TABLE.cell(row, "tokens (T)") for row in ("text", "figure")]
    optimum = scaling.OPTIMAL_TOKENS.value / 1e12
    for told in (
        f"{scaling.OPTIMAL_PARAMETERS.value / 1e9:.0f}B parameters on {optimum:.2f}T tokens",
        f"The law gives {optimum:.4g}T",
        f"train {size / 1e9:.0f}B on {tokens / 1e12:.1f}T",
        f"{scaling.TWENTY_TO_ONE.value / 1e12:.1f}T tokens; it had {large:.1f} for each",
        f"405B {large:.1f}, 70B {middle:,}, 8B {least:,}",
        f"cost {small:.0%} of",
        f"had {scaling.BUDGET_ENDS.value[1]:g} FLOPs, the flagship had {flops:g}.".replace(
            "e+", "e"
        ),
        f"log10 of {times:,.0f}",
        f"it is {times:,.0f}",
        f"{math.log(times):.1f} orders",
        f"{less / scaling.EXPONENT_FIGURE.value:.1%} fewer",
        f"{math.log(10) / scaling.SENSITIVITY.value:.3f} less",
        f"{1 - flops**-less:.0%} fewer",
        f"exp(-{less:.3f} · ",
        f"{pairs[0]}T against {pairs[1]}T",
    ):
        assert told in text
