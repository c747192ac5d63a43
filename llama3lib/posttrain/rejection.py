"""Rejection sampling: K answers to each prompt, and the best is kept (paper section 4.2.2).

The paper samples K = 10 to 30 answers from the newest model and lets the reward model choose. The
engine reads a prompt once for all of its answers: their caches share its pages. A maximum length
is asked for beforehand, so that no answer has to make room for another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.utils.require import require, whole

Score = Callable[[Sequence[int], list[list[int]]], Sequence[float]]
"""From the ids of a prompt and of its answers to a number for each answer: higher is better."""


@dataclass(frozen=True)
class Samples:
    """The answers to one prompt, in the order in which they were drawn."""

    prompt: list[int]
    answers: list[list[int]]
    """Without the token that ended them."""
    finished: list[bool]
    """False for those that were cut off at the maximum length."""


@dataclass(frozen=True)
class Kept:
    """The best answer to a prompt."""

    place: int
    """Of the prompt among all."""
    answer: list[int]
    score: float
    scores: list[float]
    """Of all its answers that could be kept."""


def sample_answers(
    engine: LLMEngine, prompts: Sequence[Sequence[int]], k: int, params: SamplingParams
) -> list[Samples]:
    """K answers to each prompt. With a seed, prompt `i` is drawn with `seed + K·i` and upwards.

    Raises ValueError for a K below 1 or above what the engine may run, a temperature of 0 (all
    answers would be the same), or a prompt that cannot be served.
    """
    whole("k", k)
    most = engine.scheduler.max_num_seqs
    require(k <= most, "k", k, f"at most max_num_seqs={most} of the engine")
    require(params.temperature > 0, "temperature", params.temperature, "above 0")
    names = []
    try:
        for place, prompt in enumerate(prompts):
            own = params
            if params.seed is not None:
                own = replace(params, seed=params.seed + k * place)
            names.append(engine.add_request(list(prompt), own, n=k))
        found = {name: [None] * k for name in names}
        while engine.has_work:
            for out in engine.step():
                if out.finished and out.request_id in found:
                    found[out.request_id][out.sample_id] = out
    except BaseException:
        for name in names:
            engine.abort_request(name)
        raise
    return [
        Samples(
            list(prompt),
            [list(out.token_ids) for out in found[name]],
            [out.finish_reason == "stop" for out in found[name]],
        )
        for name, prompt in zip(names, prompts, strict=True)
    ]


def keep_best(
    samples: Sequence[Samples], score: Score, *, unfinished: bool = False
) -> tuple[list[Kept], list[int]]:
    """The best answer to each prompt, and the places of prompts that have none.

    unfinished: whether an answer that was cut off may be kept. Of equally good ones the first.

    Raises ValueError if scores are not as many as answers, or one is not a finite number.
    """
    kept, without = [], []
    for place, one in enumerate(samples):
        pairs = zip(one.answers, one.finished, strict=True)
        answers = [answer for answer, done in pairs if answer and (done or unfinished)]
        if not answers:
            without.append(place)
            continue
        scores = _scores(score, one.prompt, answers)
        best = int(np.argmax(scores))
        kept.append(Kept(place, answers[best], scores[best], scores))
    return kept, without


def _scores(score: Score, prompt: Sequence[int], answers: list[list[int]]) -> list[float]:
    scores = [float(value) for value in score(prompt, answers)]
    fits = len(scores) == len(answers) and np.isfinite(scores).all()
    require(fits, "scores", scores[:3], f"{len(answers)} finite numbers, one for each answer")
    return scores


@dataclass(frozen=True)
class BestOfN:
    """What the best of n answers has, by the reward that chooses and by the truth."""

    n: int
    reward: float
    truth: float
    truth_low: float
    truth_high: float
    """95 %, prompts drawn again."""


def best_of_n(
    rewards: Sequence[Sequence[float]],
    truths: Sequence[Sequence[float]],
    ns: Sequence[int],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[BestOfN]:
    """How reward and true quality of the best of n grow with n, out of K answers a prompt.

    Each value is the mean over all ways to take n of the K answers, by formula: no n-tuple is
    drawn. That the truth falls where the reward still rises shows a reward that is being hacked
    (ours; the paper speaks of it nowhere).

    Raises ValueError if the two are not alike in shape, not all prompts have as many answers, or
    an n is not 1 to K.
    """
    r, t = np.asarray(rewards, float), np.asarray(truths, float)
    require(r.ndim == 2 and r.shape == t.shape and r.size, "rewards", r.shape, "[prompts, K] both")
    require(np.isfinite(r).all() and np.isfinite(t).all(), "rewards", "nan", "finite numbers")
    order = np.argsort(r, axis=1, kind="stable")
    r, t = np.take_along_axis(r, order, 1), np.take_along_axis(t, order, 1)
    draws = np.random.default_rng(seed).integers(len(r), size=(resamples, len(r)))
    found = []
    for n in ns:
        require(type(n) is int and 1 <= n <= r.shape[1], "n", n, f"1 to K={r.shape[1]}")
        weights = np.asarray(list(_chances(r.shape[1], n)))
        by_prompt = t @ weights
        low, high = np.quantile(by_prompt[draws].mean(1), [0.025, 0.975])
        mean = float(by_prompt.mean())
        found.append(BestOfN(n, float((r @ weights).mean()), mean, float(low), float(high)))
    return found


def _chances(k: int, n: int) -> Iterator[float]:
    """That the answer of each rank, the worst first, is the best of n out of K: all others come
    from those below it. The product of fractions never grows large."""
    for rank in range(k):
        chance = n / k
        for i in range(n - 1):
            chance *= max(0, rank - i) / (k - 1 - i)
        yield chance
