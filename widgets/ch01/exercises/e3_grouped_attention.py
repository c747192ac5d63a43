"""Exercise 01.3: grouped-query attention without copies of the keys."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from widgets.core.exercise import Exercise
from widgets.core.judge import Mistake

E = Exercise(
    "01.3",
    "grouped_attention",
    tolerance=1e-6,
    hints=(
        "Do not bring more keys to the queries. Let several queries come to the same key.",
        "Split the query heads into [K, G]: head n belongs to group n // G. Treat G like a "
        "second query dimension. Then mask, softmax over keys, mix. For T < S the mask moves: "
        "query t stands at position S - T + t.",
        "q.unflatten(2, (K, G)), then scores = torch.einsum('btkgh,bskh->bkgts', q, k) * H**-0.5; "
        "mask with torch.ones(T, S, dtype=torch.bool).tril(S - T); mix with "
        "'bkgts,bskh->btkgh' and flatten(2, 3). A broadcast matmul would copy: einsum does not.",
    ),
)


@E.reference
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    tile: bool = False,
    scale: Callable[[int, int], float] = lambda head_dim, heads: head_dim**-0.5,
    axis: int = -1,
    diagonal: Callable[[int, int], int] = lambda queries, keys: keys - queries,
    mask_after: bool = False,
) -> Tensor:
    """Attention with keys and values copied for every query head, in float64."""
    groups, queries, keys = q.shape[2] // k.shape[2], q.shape[1], k.shape[1]
    if tile:
        k, v = k.repeat(1, 1, groups, 1), v.repeat(1, 1, groups, 1)
    else:
        k, v = k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2)
    scores = torch.einsum("btnh,bsnh->bnts", q.double(), k.double())
    scores = scores * scale(q.shape[3], q.shape[2])
    allowed = torch.ones(queries, keys, dtype=torch.bool).tril(diagonal(queries, keys))
    if mask_after:
        weights = scores.softmax(axis) * allowed
    else:
        weights = scores.masked_fill(~allowed, -math.inf).softmax(axis)
    return torch.einsum("bnts,bsnh->btnh", weights, v.double()).to(q.dtype)


E.mistake("the heads are shared in tile order", tile=True).why(
    "Neighbouring query heads share a key/value head: 0, 0, 1, 1 and not 0, 1, 0, 1."
)
E.mistake("softmax runs over the wrong axis", axis=-2).why(
    "The weights of one query over all keys must add up to 1."
)
E.mistake("the scores are not scaled", scale=lambda head_dim, heads: 1.0).why(
    "Divide by the square root of the head size."
)
E.mistake(
    "the scores are divided by the head size, not its root",
    scale=lambda head_dim, heads: 1 / head_dim,
)
E.mistake(
    "the scores are scaled by the width of all heads",
    scale=lambda head_dim, heads: (head_dim * heads) ** -0.5,
).why("Each head works by itself: only its own size counts.")
E.mistake("the mask is not causal", diagonal=lambda queries, keys: keys).why(
    "A query may not look at keys after it."
)
E.mistake("the mask blocks the diagonal", diagonal=lambda queries, keys: keys - queries - 1).why(
    "A token may look at itself."
)
E.mistake("the mask is lined up with the first key", diagonal=lambda queries, keys: 0).why(
    "The queries are the last T of the S positions."
)
E.mistake("the mask comes after softmax", mask_after=True).why(
    "Then the weights of a query no longer add up to 1."
)


@E.cases
def _cases() -> list[tuple]:
    draw = torch.Generator().manual_seed(4)
    sizes = [(1, 2, 2, 1, 1, 2), (1, 1, 2, 4, 2, 2), (1, 2, 3, 2, 1, 2)]
    sizes += [(2, 5, 5, 4, 2, 4), (2, 3, 7, 6, 2, 8)]
    cases = []
    for batch, t, s, n, k, h in sizes:
        shapes = (batch, t, n, h), (batch, s, k, h), (batch, s, k, h)
        cases.append(tuple(torch.randn(x, generator=draw, dtype=torch.float64) for x in shapes))
    return cases


class _LargestMade(TorchDispatchMode):
    """Remembers the largest tensor any operation made, and which operation it was."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.operation = 0, ""

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        for tensor in made:
            if isinstance(tensor, Tensor):
                elements = tensor.untyped_storage().nbytes() // tensor.element_size()
                if elements > self.elements:
                    self.elements, self.operation = elements, func.overloadpacket.__name__
        return result


def largest_tensor(function: Callable, *inputs: Tensor) -> tuple[int, str]:
    """Elements of the largest tensor made while `function` runs, and the operation behind it."""
    with torch.no_grad(), _LargestMade() as seen:
        function(*inputs)
    return seen.elements, seen.operation


@E.rule
def _keys_are_not_copied(answer: Callable) -> None:
    # one query against many keys: scores stay small, so a copy of the keys cannot hide
    q, keys = torch.randn(1, 1, 8, 16), torch.randn(1, 64, 2, 16)
    elements, operation = largest_tensor(answer, q, keys, keys.clone())
    if elements > 1.5 * keys.numel():
        raise Mistake(
            "the keys are copied",
            shows="q of shape [1, 1, 8, 16], k and v of shape [1, 64, 2, 16]",
            why=f"`{operation}` made a tensor {elements / keys.numel():.0f} times as large as k. "
            "Broadcasting inside matmul copies, too.",
        )
