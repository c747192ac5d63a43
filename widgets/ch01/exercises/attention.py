"""Chapter 01, exercises 4 and 5: grouped queries without copies, and packed documents.

Attention is judged by a float64 computation with repeated keys; packing by running each document
alone through a library model, and by the gradient that must not cross a border.
"""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llama3lib.model import DocumentMask, Transformer, get_preset
from widgets.core.judge import Case, Known, Mistake, diagnose, functions_of, run

# 01.4 grouped-query attention -----------------------------------------------------------------


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    tile: bool = False,
    scale: float | None = None,
    axis: int = -1,
    diagonal: int | None = None,
) -> Tensor:
    """Attention with keys and values copied for every query head, in float64."""
    groups, queries, keys = q.shape[2] // k.shape[2], q.shape[1], k.shape[1]
    if tile:
        k, v = k.repeat(1, 1, groups, 1), v.repeat(1, 1, groups, 1)
    else:
        k, v = k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.einsum("btnh,bsnh->bnts", q.double(), k.double()) * scale
    offset = keys - queries if diagonal is None else diagonal
    allowed = torch.ones(queries, keys, dtype=torch.bool).tril(offset)
    weights = scores.masked_fill(~allowed, -math.inf).softmax(axis)
    return torch.einsum("bnts,bsnh->btnh", weights, v.double()).to(q.dtype)


def _masked_after(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax over all keys, and only then zeros for the future: the weights do not add up."""
    groups, queries, keys = q.shape[2] // k.shape[2], q.shape[1], k.shape[1]
    k, v = k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2)
    weights = (torch.einsum("btnh,bsnh->bnts", q, k) * q.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("bnts,bsnh->btnh", weights.tril(keys - queries), v)


_GQA_KNOWN = [
    Known(
        "the heads are shared in tile order",
        lambda q, k, v: _attend(q, k, v, tile=True),
        "Neighbouring query heads share a key/value head: 0, 0, 1, 1 and not 0, 1, 0, 1.",
    ),
    Known(
        "softmax runs over the wrong axis",
        lambda q, k, v: _attend(q, k, v, axis=-2),
        "The weights of one query over all keys must add up to 1.",
    ),
    Known(
        "the scores are not scaled",
        lambda q, k, v: _attend(q, k, v, scale=1.0),
        "Divide by the square root of the head size.",
    ),
    Known(
        "the scores are divided by the head size, not its root",
        lambda q, k, v: _attend(q, k, v, scale=1 / q.shape[-1]),
    ),
    Known(
        "the scores are scaled by the width of all heads",
        lambda q, k, v: _attend(q, k, v, scale=(q.shape[-1] * q.shape[2]) ** -0.5),
        "Each head works by itself: only its own size counts.",
    ),
    Known(
        "the mask is not causal",
        lambda q, k, v: _attend(q, k, v, diagonal=10**6),
        "A query may not look at keys after it.",
    ),
    Known(
        "the mask blocks the diagonal",
        lambda q, k, v: _attend(q, k, v, diagonal=k.shape[1] - q.shape[1] - 1),
        "A token may look at itself.",
    ),
    Known(
        "the mask is lined up with the first key",
        lambda q, k, v: _attend(q, k, v, diagonal=0),
        "The queries are the last T of the S positions.",
    ),
    Known(
        "the mask comes after softmax",
        _masked_after,
        "Then the weights of a query no longer add up to 1.",
    ),
]


def _gqa_cases() -> list[Case]:
    draw = torch.Generator().manual_seed(4)
    cases = []
    sizes = [(1, 2, 2, 1, 1, 2), (1, 1, 2, 4, 2, 2), (1, 2, 3, 2, 1, 2)]
    sizes += [(2, 5, 5, 4, 2, 4), (2, 3, 7, 6, 2, 8)]
    for batch, t, s, n, k, h in sizes:
        shapes = (batch, t, n, h), (batch, s, k, h), (batch, s, k, h)
        inputs = tuple(torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
        cases.append(
            Case(inputs, f"q of shape {list(shapes[0])}, k and v of shape {list(shapes[1])}")
        )
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


def check_grouped_attention(answer: object) -> None:
    """01.4: grouped_attention(q, k, v)."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check with grouped_attention itself.")
    diagnose(answer, _attend, _gqa_cases(), _GQA_KNOWN, what="grouped_attention", tolerance=1e-6)
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


# 01.5 document mask and packing ---------------------------------------------------------------


def _mask(document_ids: Tensor) -> Tensor:
    return DocumentMask(document_ids.unsqueeze(0)).mask[0, 0]


def _same(ids: Tensor) -> Tensor:
    return ids.unsqueeze(1) == ids.unsqueeze(0)


_MASK_KNOWN = [
    Known(
        "the mask leaks across the document border",
        lambda ids: torch.ones_like(_same(ids)).tril(),
        "It is causal, but a token also sees the documents before its own.",
    ),
    Known(
        "the mask is not causal",
        _same,
        "Inside a document a token may not look at later ones.",
    ),
    Known(
        "the mask blocks the diagonal",
        lambda ids: _same(ids).tril(-1),
        "A token may look at itself; else the first one of a document sees nothing.",
    ),
    Known(
        "tokens look forward",
        lambda ids: _same(ids).triu(),
        "Row t, column s: query t may look at key s, and s must not come after t.",
    ),
    Known(
        "allowed and forbidden are swapped",
        lambda ids: ~_mask(ids),
        "True means: may look.",
    ),
    Known(
        "earlier documents are visible",
        lambda ids: (ids.unsqueeze(1) >= ids.unsqueeze(0)).tril(),
        "The ids must be equal; smaller is not enough.",
    ),
    Known("nothing is masked", lambda ids: torch.ones_like(_same(ids))),
]

_LENGTH = 10
_PACK_CASES: list[list[list[int]]] = [
    [[5]],
    [[5, 6], [7, 8, 9]],
    [[5, 6, 7], [8], [9, 10]],
    [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]],
    [[3] * 5, [4] * 5],
]


def check_packing(answer: object) -> None:
    """01.5: dict(document_mask=..., pack=..., targets=...)."""
    mask, pack, targets = functions_of(answer, ("document_mask", "pack", "targets"))
    rows = ([0], [0, 0], [0, 1], [0, 0, 1, 1], [2, 0, 0, 1], [3, 3, 3, 1, 1, 4, 4, 4])
    cases = [Case((torch.tensor(row),), f"document_ids={row}") for row in rows]
    diagnose(mask, _mask, cases, _MASK_KNOWN, what="document_mask")
    for documents in _PACK_CASES:
        _check_pack(pack, documents)
    for documents in _PACK_CASES:
        _check_targets(targets, *_packed(documents)[:2])
    _check_gradient(mask, pack, targets)


def _packed(documents: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    tokens = [t for document in documents for t in document]
    ids = [i for i, document in enumerate(documents) for _ in document]
    positions = [p for document in documents for p in range(len(document))]
    padding = range(max(0, _LENGTH - len(tokens)))
    tokens, ids = tokens + [0 for _ in padding], ids + [len(documents) for _ in padding]
    positions = positions + list(padding)
    return tuple(torch.tensor(row[:_LENGTH]) for row in (tokens, ids, positions))


def _check_pack(pack: Callable, documents: list[list[int]]) -> None:
    shows = f"pack({documents}, {_LENGTH})"
    copied = [list(document) for document in documents]
    got = run(pack, Case((copied, _LENGTH), shows), "pack")
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Mistake("pack: three tensors are needed", shows=shows)
    for name, row in zip(("tokens", "document_ids", "positions"), got, strict=True):
        if not isinstance(row, Tensor) or row.shape != (_LENGTH,) or row.is_floating_point():
            why = f"{name} must be a whole-number tensor of shape [{_LENGTH}]."
            raise Mistake("pack: wrong shape", shows=shows, why=why)
    tokens, ids, positions = got
    want_tokens, want_ids, want_positions = _packed(documents)
    if not torch.equal(tokens, want_tokens):
        why = "All documents in order, cut at the end of the row, zeros behind them."
        raise Mistake("pack: the tokens are not laid end to end", shows=shows, why=why)
    _check_ids(ids, want_ids, len(documents), shows)
    if torch.equal(positions, want_positions):
        return
    real = want_ids < len(documents)
    if torch.equal(positions[real], torch.arange(_LENGTH)[real]):
        if len(documents) > 1:
            why = "Each document starts again at 0."
            raise Mistake("pack: positions run on across the border", shows=shows, why=why)
    elif torch.equal(positions[real], want_positions[real] + 1):
        raise Mistake("pack: positions start at 1", shows=shows, why="The first one is 0.")
    elif not torch.equal(positions[real], want_positions[real]):
        why = "Inside each document: 0, 1, 2, ..."
        raise Mistake("pack: the positions are wrong", shows=shows, why=why)


def _check_ids(ids: Tensor, want: Tensor, n_documents: int, shows: str) -> None:
    """Any ids are right that tell the same documents apart."""
    if torch.equal(_same(ids), _same(want)):
        return
    real = want < n_documents
    if torch.equal(_same(ids[real]), _same(want[real])):
        if not set(ids[real].tolist()) & set(ids[~real].tolist()):
            return  # each padding token a document of its own: just as good
        why = "It must have an id that no document has."
        raise Mistake("pack: the padding belongs to a document", shows=shows, why=why)
    if len(set(ids[real].tolist())) == 1:
        why = "All documents carry one id, so no mask can tell them apart."
        raise Mistake("pack: the documents share one id", shows=shows, why=why)
    raise Mistake("pack: the ids do not follow the documents", shows=shows)


def _right_targets(tokens: Tensor, ids: Tensor) -> Tensor:
    out = torch.full_like(tokens, -100)
    inside = ids[1:] == ids[:-1]
    out[:-1][inside] = tokens[1:][inside]
    return out


def _check_targets(targets: Callable, tokens: Tensor, ids: Tensor) -> None:
    shows = f"tokens={tokens.tolist()}, document_ids={ids.tolist()}"
    got, want = run(targets, Case((tokens, ids), shows), "targets"), _right_targets(tokens, ids)
    if not isinstance(got, Tensor) or got.shape != want.shape:
        raise Mistake("targets: one target for each token is needed", shows=shows)
    padding = tokens == 0  # their targets may be masked or not: both are right
    if torch.equal(got[~padding], want[~padding]):
        return
    last = torch.ones_like(ids, dtype=torch.bool)
    last[:-1] = ids[1:] != ids[:-1]
    if torch.equal(got, tokens):
        raise Mistake("targets: each token predicts itself", shows=shows, why="Shift by one.")
    inner = ~padding & ~last
    if torch.equal(got[inner], want[inner]) and int(got[-1]) == -100:
        why = "The last token of a document is asked for the first one of the next: use -100 there."
        raise Mistake("targets: a label crosses the border", shows=shows, why=why)
    if torch.equal(got[:-1][inner[:-1]], want[:-1][inner[:-1]]):
        why = "Nothing follows the last token of the row: use -100, do not wrap round."
        raise Mistake("targets: the last token has a target", shows=shows, why=why)
    raise Mistake("targets: not the next token", shows=shows)


def _check_gradient(mask: Callable, pack: Callable, targets: Callable) -> None:
    """Train on the second document alone: the first one's embeddings must get exactly nothing."""
    model = Transformer(get_preset("tiny"))
    model.init_weights(torch.Generator().manual_seed(5))
    documents = [[5, 6, 7, 8], [11, 12, 13, 14, 15]]
    tokens, ids, positions = (row.long() for row in pack(documents, _LENGTH))
    labels = targets(tokens, ids).long()
    metadata = SimpleNamespace(mask=mask(ids)[None, None])
    logits = model(tokens[None], positions[None], metadata)[0]
    chosen = (ids == ids[4]) & (labels != -100)
    torch.nn.functional.cross_entropy(logits[chosen], labels[chosen]).backward()
    leaked = model.tok_embeddings.weight.grad[[5, 6, 7, 8]].abs().max()
    if float(leaked) > 0:
        shows = f"documents {documents}, loss on the second only"
        raise Mistake("gradient crosses the border", shows=shows)
