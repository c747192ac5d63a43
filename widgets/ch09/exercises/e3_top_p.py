"""Exercise 09.3: top-p with equal tokens, and a floor."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama3lib.inference import SamplingParams, sampling_probs
from widgets.core.exercise import Exercise
from widgets.core.judge import Case

E = Exercise(
    "09.3",
    "top_p_probs",
    hints=(
        "A token is judged by those before it in the order of likelihood. What is their sum, "
        "without the token itself?",
        "Softmax, sort (likeliest first, and stable, so that equal ones stay in index order), a "
        "running sum. Put zeros where the sum of those before is above p, bring the rest back to "
        "their places, divide by the sum. Then the floor, a share of the largest, and divide once "
        "more.",
        "ordered, order = probs.sort(descending=True, stable=True); before = ordered.cumsum(0) - "
        "ordered; zero where before > p; torch.zeros_like(probs).scatter(0, order, ordered) brings "
        "them back. For the floor: zero where probs < min_p * probs.max().",
    ),
)


def right_probs(logits: Tensor, p: float, min_p: float = 0.0) -> Tensor:
    """The library's."""
    return sampling_probs(logits, SamplingParams(temperature=1.0, top_p=p, min_p=min_p))


def _tail(ordered: Tensor) -> Tensor:
    return ordered.cumsum(0) - ordered


def _and_first(kept: Tensor) -> Tensor:
    return kept | (torch.arange(len(kept)) == 0)


def _by_hand(
    logits: Tensor,
    p: float,
    min_p: float = 0.0,
    *,
    keep: Callable[[Tensor, float], Tensor] = lambda ordered, p: _tail(ordered) <= p,
    order: Callable[[Tensor], Tensor] = lambda probs: (
        probs.sort(descending=True, stable=True).indices
    ),
    back: bool = True,
    again: bool = True,
    floor: Callable[[Tensor, float], Tensor] = lambda probs, min_p: min_p * probs.max(),
    last: bool = True,
    hide: float | None = None,
) -> Tensor:
    """Top-p and a floor from their parts."""
    probs = logits.softmax(-1)
    places = order(probs)
    kept = keep(probs[places], p)
    if hide is not None:
        probs = logits.masked_fill(~torch.zeros_like(kept).scatter(0, places, kept), hide)
        return probs.softmax(-1)
    chosen = probs[places] * kept
    probs = torch.zeros_like(probs).scatter(0, places, chosen) if back else chosen
    probs = probs / probs.sum() if again else probs
    if min_p > 0:
        probs = probs.masked_fill(probs < floor(probs, min_p), 0)
        probs = probs / probs.sum() if last else probs
    return probs


E.reference(right_probs, model=_by_hand)


def _floor_first(logits: Tensor, p: float, min_p: float = 0.0) -> Tensor:
    probs = logits.softmax(-1)
    probs = probs.masked_fill(probs < min_p * probs.max(), 0)
    return right_probs((probs / probs.sum()).log(), p)


def _none_left(*given: object) -> Tensor:
    return _by_hand(*given, keep=lambda ordered, p: ordered.cumsum(0) <= p)


E.mistake("no token may be left", _none_left, lambda *given: _none_left(*given).nan_to_num()).why(
    "The likeliest token alone may pass p. It must stay, or there is nothing to draw."
)
E.mistake(
    "the token that passes p is dropped", keep=lambda ordered, p: _and_first(ordered.cumsum(0) <= p)
).why("A token stays if those before it, without itself, have not passed p.")
E.mistake(
    "one token too many is kept", keep=lambda ordered, p: _and_first(_tail(ordered).roll(1) <= p)
).why("The token that passes p is the last one.")
E.mistake("all equal tokens are kept", keep=lambda o, p: o >= o[_tail(o) <= p].min()).why(
    "Of equal tokens at the border only as many stay as are needed, in index order."
)
E.mistake(
    "equal tokens are not taken in index order",
    order=lambda probs: probs.sort(stable=True).indices.flip(0),
).why("Of two equal ones the one with the lower index comes first.")
E.mistake(
    "the least likely tokens are kept", order=lambda probs: probs.sort(stable=True).indices
).why("Begin with the likeliest one.")
E.mistake("the tokens are not sorted", order=lambda probs: torch.arange(len(probs))).why(
    "Those before a token are the likelier ones, wherever they stand."
)
E.mistake(
    "p is taken as a floor for each token", keep=lambda ordered, p: _and_first(ordered >= p)
).why("p is compared with a sum of probabilities.")
E.mistake("p is not used", keep=lambda ordered, p: ordered >= 0).why(
    "Only the likeliest tokens should stay."
)
E.mistake("the result is in sorted order", back=False).why(
    "Number i of the result belongs to token i. Put them back where they came from."
)
E.mistake("not renormalised", again=False, last=False).why("What stays must sum to 1.")
E.mistake("not renormalised", again=False).why("What stays after top-p must sum to 1.")
E.mistake("not renormalised", last=False).why("What stays after the floor must sum to 1.")
E.mistake("dropped tokens get the logit 0", hide=0.0).why(
    "A logit of 0 is not a probability of 0: softmax makes something of it."
)
E.mistake("min_p is compared with 1", floor=lambda probs, min_p: min_p).why(
    "The floor is a share of the largest probability."
)
E.mistake("min_p is not used", floor=lambda probs, min_p: 0).why("The floor comes at the end.")
E.mistake("the floor comes before top-p", _floor_first).why(
    "First top-p and a new sum of 1, then the floor."
)


@E.cases
def _cases() -> list[Case]:
    small = [
        ([0.7, 0.3], 0.5),
        ([0.7, 0.3], 0.8),
        ([0.3, 0.7], 0.5),
        ([0.4, 0.4, 0.2], 0.3),
        ([0.5, 0.2, 0.2, 0.1], 0.6),
        ([0.2, 0.5, 0.3], 0.6),
        ([0.5, 0.3, 0.2], 1.0),
        ([0.5, 0.3, 0.2], 1.0, 0.45),
        ([0.5, 0.3, 0.2], 0.7, 0.55),
        ([0.45, 0.3, 0.15, 0.1], 0.8, 0.3),
    ]
    cases = []
    for probs, p, *floor in small:
        told = f"logits=torch.tensor({probs}).log(), p={p}"
        told += f", min_p={floor[0]}" if floor else ""
        cases.append(Case((torch.tensor(probs).log(), p, *floor), told))
    draw = torch.Generator().manual_seed(3)
    while len(cases) < 60:
        size = int(torch.randint(4, 60, (), generator=draw))
        logits = torch.randn(size, generator=draw) * 2
        if len(cases) % 2:
            logits = logits.round()  # many equal ones
        p, min_p = torch.rand(2, generator=draw).tolist()
        given = (logits, p) if len(cases) % 3 else (logits, p, min_p / 2)
        if _is_clear(*given):
            told = f"{size} random logits, p={p:.3f}"
            told += f", min_p={given[2]:.3f}" if given[2:] else ""
            cases.append(Case(given, told))
    return cases


def _is_clear(logits: Tensor, p: float, min_p: float = 0.0) -> bool:
    """Whether no sum is so near p, and no token so near the floor, that rounding decides."""
    probs = logits.double().softmax(-1)
    left = right_probs(logits.double(), p)
    gap = (probs.sort(descending=True).values.cumsum(0) - p).abs().min()
    to_floor = (left / left.max() - min_p).abs().min()
    return bool(gap > 1e-3 and (min_p == 0 or to_floor > 1e-3))
