"""Chapter 09, exercise 3: top-p with equal tokens, and a floor."""

from collections.abc import Callable

import torch
from torch import Tensor

from llama3lib.inference import SamplingParams, sampling_probs
from widgets.core.judge import Case, Known, diagnose


def _right_probs(logits: Tensor, p: float, min_p: float = 0.0) -> Tensor:
    params = SamplingParams(temperature=1.0, top_p=p, min_p=min_p)
    return sampling_probs(logits, params)


def _tail(ordered: Tensor) -> Tensor:
    return ordered.cumsum(0) - ordered


def _and_first(kept: Tensor) -> Tensor:
    return kept | (torch.arange(len(kept)) == 0)


def _top_p(
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
) -> Callable:
    """Top-p and a floor from their parts."""

    def top_p_probs(logits: Tensor, p: float, min_p: float = 0.0) -> Tensor:
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

    return top_p_probs


def _floor_first(logits: Tensor, p: float, min_p: float = 0.0) -> Tensor:
    probs = logits.softmax(-1)
    probs = probs.masked_fill(probs < min_p * probs.max(), 0)
    return _right_probs((probs / probs.sum()).log(), p)


_TOP_P_KNOWN = [
    Known(
        "no token may be left",
        _top_p(keep=lambda ordered, p: ordered.cumsum(0) <= p),
        "The likeliest token alone may pass p. It must stay, or there is nothing to draw.",
    ),
    Known(
        "no token may be left",
        lambda *given: _top_p(keep=lambda ordered, p: ordered.cumsum(0) <= p)(*given).nan_to_num(),
        "The likeliest token alone may pass p. It must stay, or there is nothing to draw.",
    ),
    Known(
        "the token that passes p is dropped",
        _top_p(keep=lambda ordered, p: _and_first(ordered.cumsum(0) <= p)),
        "A token stays if those before it, without itself, have not passed p.",
    ),
    Known(
        "one token too many is kept",
        _top_p(keep=lambda ordered, p: _and_first(_tail(ordered).roll(1) <= p)),
        "The token that passes p is the last one.",
    ),
    Known(
        "all equal tokens are kept",
        _top_p(keep=lambda o, p: o >= o[_tail(o) <= p].min()),
        "Of equal tokens at the border only as many stay as are needed, in index order.",
    ),
    Known(
        "equal tokens are not taken in index order",
        _top_p(order=lambda probs: probs.sort(stable=True).indices.flip(0)),
        "Of two equal ones the one with the lower index comes first.",
    ),
    Known(
        "the least likely tokens are kept",
        _top_p(order=lambda probs: probs.sort(stable=True).indices),
        "Begin with the likeliest one.",
    ),
    Known(
        "the tokens are not sorted",
        _top_p(order=lambda probs: torch.arange(len(probs))),
        "Those before a token are the likelier ones, wherever they stand.",
    ),
    Known(
        "p is taken as a floor for each token",
        _top_p(keep=lambda ordered, p: _and_first(ordered >= p)),
        "p is compared with a sum of probabilities.",
    ),
    Known(
        "p is not used",
        _top_p(keep=lambda ordered, p: ordered >= 0),
        "Only the likeliest tokens should stay.",
    ),
    Known(
        "the result is in sorted order",
        _top_p(back=False),
        "Number i of the result belongs to token i. Put them back where they came from.",
    ),
    Known(
        "not renormalised",
        _top_p(again=False, last=False),
        "What stays must sum to 1.",
    ),
    Known("not renormalised", _top_p(again=False), "What stays after top-p must sum to 1."),
    Known("not renormalised", _top_p(last=False), "What stays after the floor must sum to 1."),
    Known(
        "dropped tokens get the logit 0",
        _top_p(hide=0.0),
        "A logit of 0 is not a probability of 0: softmax makes something of it.",
    ),
    Known(
        "min_p is compared with 1",
        _top_p(floor=lambda probs, min_p: min_p),
        "The floor is a share of the largest probability.",
    ),
    Known("min_p is not used", _top_p(floor=lambda probs, min_p: 0), "The floor comes at the end."),
    Known(
        "the floor comes before top-p",
        _floor_first,
        "First top-p and a new sum of 1, then the floor.",
    ),
]


def _top_p_cases() -> list[Case]:
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
    left = _right_probs(logits.double(), p)
    gap = (probs.sort(descending=True).values.cumsum(0) - p).abs().min()
    to_floor = (left / left.max() - min_p).abs().min()
    return bool(gap > 1e-3 and (min_p == 0 or to_floor > 1e-3))


def check_top_p(answer: Callable) -> None:
    """09.3: top_p_probs(logits, p, min_p)."""
    diagnose(answer, _right_probs, _top_p_cases(), _TOP_P_KNOWN, what="top_p_probs")
