"""What the exercises of chapter 02 rest on; their mistakes: `test_all_exercises.py`."""

from exercise_tools import load_answers

from llama3lib.paper import data, herd
from widgets.ch02.exercises.e4_quality import rank_share
from widgets.ch02.exercises.e6_mix import planted_runs
from widgets.core.quiz import questions_of

A = load_answers("02")


def test_the_planted_laws_have_their_best_mix_inside():
    for seed in (5, 6, 7):
        mixes, _, laws = planted_runs(seed)
        best = A.mix_library(
            mixes, [{n: law.predict(m) for n, law in zip("abc", laws, strict=True)} for m in mixes]
        )
        assert max(best.values()) < 0.85 and best not in mixes


def test_rank_share_is_the_area_under_the_curve():
    assert rank_share([0.9, 0.8], [0.1]) == 1
    assert rank_share([0.5], [0.5, 0.6]) == 0.25


def test_what_the_quiz_tells_is_in_the_paper():
    questions, text = questions_of("02"), str(questions_of("02"))
    (mix,) = [q for q in questions if "final mix" in q.prompt]
    shares = sorted((int(option.text.rstrip(" %")) for option in mix.options), reverse=True)
    assert shares == [*data.MIX.value]
    before, after = data.CHARACTERS_PER_TOKEN_BEFORE.value, data.CHARACTERS_PER_TOKEN.value
    for told in (1 - before / after, after / before - 1):
        assert f"{100 * told:.1f} percent" in text
    assert f"{after - before:.2f} percent" in text
    assert f"20 · 405B is {20 * herd.PARAMETERS.value / 1e12:.1f}T" in text
    assert f"in {data.LINE_BUCKET.value // 10**6}M documents" in text
