"""A scripted annotator of the skills' world: what people write and prefer, with known flaws.

The utility of an answer is known here and hidden from whoever trains: correctness counts most, and
courtesy, repetition and form count too. Labels of pairs follow Bradley and Terry, so they err where
two answers are nearly as good. A judge who loves length is the same with another weight.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from llama3lib.utils.require import between, positive
from llama3lib.worlds.skills import POLITE, Task, read_reply, task_of, tasks, wrong_answer

STRENGTHS = ("marginally better", "slightly better", "better", "significantly better")
"""How sure an annotator is, least first; the paper has four (section 4.2.1)."""
_STEPS = (0.25, 0.75, 1.5)  # felt difference at which a strength begins


@dataclass(frozen=True, kw_only=True)
class Label:
    """What an annotator says of a pair: the better answer first, and how much better it is."""

    chosen: str
    rejected: str
    strength: str


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """Weights of what counts in an answer, and how sharply answers are told apart.

    slope: of the logistic curve that turns a difference in utility into P(first is preferred).
    """

    correct: float = 2.0
    polite: float = 0.7
    repeated: float = -1.0
    well_formed: float = 0.5
    unterminated: float = -1.0
    per_letter: float = 0.0
    """Liking for length as such; 0 for an honest annotator."""
    slope: float = 2.5

    def __post_init__(self) -> None:
        positive("slope", self.slope)

    def utility(self, prompt: str, text: str, *, ended: bool = True) -> float:
        """How good an answer is; `ended`: whether the model closed it itself.

        Raises ValueError if the prompt is no task.
        """
        reply, right = read_reply(text), task_of(prompt).answer
        return (
            self.correct * (reply.answer == right)
            + self.polite * reply.polite
            + self.repeated * reply.repeated
            + self.well_formed * reply.well_formed
            + self.unterminated * (not ended)
            + self.per_letter * len(text)
        )

    def label(
        self,
        prompt: str,
        pair: tuple[str, str],
        rng: random.Random,
        *,
        ended: tuple[bool, bool] = (True, True),
    ) -> Label:
        """Compare two answers: P(first) = 1 / (1 + exp(-slope · (u1 - u2))).

        What is felt is the difference in utility plus logistic noise; its sign is the choice, and
        its size the strength.
        """
        first, second = (
            self.utility(prompt, text, ended=e) for text, e in zip(pair, ended, strict=True)
        )
        drawn = min(max(rng.random(), 1e-12), 1 - 1e-12)
        felt = first - second + math.log(drawn / (1 - drawn)) / self.slope
        chosen, rejected = pair if felt > 0 else pair[::-1]
        strength = STRENGTHS[sum(abs(felt) >= step for step in _STEPS)]
        return Label(chosen=chosen, rejected=rejected, strength=strength)

    def edit(self, prompt: str, text: str) -> str:
        """An answer set right: the edited version that ranks above the chosen one."""
        right = task_of(prompt).answer
        return f"{POLITE} {right}" if read_reply(text).polite or self.polite > 0 else right


def demonstrations(
    count: int, seed: int, *, wrong: float = 0.25, repeated: float = 0.2, polite: float = 0.25
) -> Iterator[tuple[Task, str]]:
    """What people write as answers; each flaw or courtesy in so large a share of them.

    Raises ValueError if one is no share.
    """
    for name, share in (("wrong", wrong), ("repeated", repeated), ("polite", polite)):
        between(name, share, 0, 1)
    rng = random.Random(seed)
    for _, task in zip(range(count), tasks(seed), strict=False):
        answer = wrong_answer(task, rng) if rng.random() < wrong else task.answer
        said = [answer] * (rng.randint(2, 4) if rng.random() < repeated else 1)
        yield task, " ".join([POLITE] * (rng.random() < polite) + said)
