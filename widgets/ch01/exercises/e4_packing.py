"""Exercise 01.4: packed documents that do not see each other.

Judged by running each document alone through a library model, and by the gradient that must not
cross a border.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from llama3lib.model import DocumentMask, Transformer, get_preset
from widgets.core.exercise import Exercise
from widgets.core.forms import like
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "01.4",
    hints=(
        "A border can leak in three places: through the mask, through the ids of the padding, "
        "and through the label of a document's last token.",
        "The mask is two conditions joined by 'and': same document, not later. In pack, walk "
        "over the documents and grow three lists. In targets, shift by one and look where "
        "neighbours differ in document.",
        "(ids[:, None] == ids[None, :]).tril() is the mask. Padding gets the id "
        "len(documents). In targets start with full_like(tokens, -100) and copy tokens[1:] "
        "where ids[1:] == ids[:-1].",
    ),
)
mask, pack, targets = E.part("document_mask"), E.part("pack"), E.part("targets")

# The mask -------------------------------------------------------------------------------------


@mask.reference
def document_mask(document_ids: Tensor) -> Tensor:
    """The library's."""
    return DocumentMask(document_ids.unsqueeze(0)).mask[0, 0]


def _same(ids: Tensor) -> Tensor:
    return ids.unsqueeze(1) == ids.unsqueeze(0)


mask.mistake(
    "the mask leaks across the document border", lambda ids: torch.ones_like(_same(ids)).tril()
).why("It is causal, but a token also sees the documents before its own.")
mask.mistake("the mask is not causal", _same).why(
    "Inside a document a token may not look at later ones."
)
mask.mistake("the mask blocks the diagonal", lambda ids: _same(ids).tril(-1)).why(
    "A token may look at itself; else the first one of a document sees nothing."
)
mask.mistake("tokens look forward", lambda ids: _same(ids).triu()).why(
    "Row t, column s: query t may look at key s, and s must not come after t."
)
mask.mistake("allowed and forbidden are swapped", lambda ids: ~document_mask(ids)).why(
    "True means: may look."
)
mask.mistake(
    "earlier documents are visible", lambda ids: (ids.unsqueeze(1) >= ids.unsqueeze(0)).tril()
).why("The ids must be equal; smaller is not enough.")
mask.mistake("nothing is masked", lambda ids: torch.ones_like(_same(ids)))
mask.cases(
    [
        (torch.tensor(row),)
        for row in ([0], [0, 0], [0, 1], [0, 0, 1, 1], [2, 0, 0, 1], [3, 3, 3, 1, 1, 4, 4, 4])
    ]
)

# Packing --------------------------------------------------------------------------------------

_LENGTH = 10
_DOCUMENTS: list[list[list[int]]] = [
    [[5]],
    [[5, 6], [7, 8, 9]],
    [[5, 6, 7], [8], [9, 10]],
    [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]],
    [[3] * 5, [4] * 5],
]


def _packed(documents: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    tokens = [t for document in documents for t in document]
    ids = [i for i, document in enumerate(documents) for _ in document]
    positions = [p for document in documents for p in range(len(document))]
    padding = range(max(0, _LENGTH - len(tokens)))
    tokens, ids = tokens + [0 for _ in padding], ids + [len(documents) for _ in padding]
    positions = positions + list(padding)
    return tuple(torch.tensor(row[:_LENGTH]) for row in (tokens, ids, positions))


@pack.rule
def _packs(function: Callable) -> None:
    for documents in _DOCUMENTS:
        shows = f"pack({documents}, {_LENGTH})"
        want = _packed(documents)
        got = like(run(function, Case((documents, _LENGTH), shows), "pack"), want)
        if not isinstance(got, tuple) or len(got) != 3:
            raise Mistake("pack: three tensors are needed", shows=shows)
        for name, row in zip(("tokens", "document_ids", "positions"), got, strict=True):
            if not isinstance(row, Tensor) or row.shape != (_LENGTH,) or row.is_floating_point():
                why = f"{name} must be a whole-number tensor of shape [{_LENGTH}]."
                raise Mistake("pack: wrong shape", shows=shows, why=why)
        if not torch.equal(got[0], want[0]):
            why = "All documents in order, cut at the end of the row, zeros behind them."
            raise Mistake("pack: the tokens are not laid end to end", shows=shows, why=why)
        _check_ids(got[1], want[1], len(documents), shows)
        _check_positions(got[2], want[2], want[1] < len(documents), shows)


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


def _check_positions(got: Tensor, want: Tensor, real: Tensor, shows: str) -> None:
    """Those of the padding may be what they like."""
    if torch.equal(got[real], want[real]):
        return
    if torch.equal(got[real], torch.arange(_LENGTH)[real]):
        why = "Each document starts again at 0."
        raise Mistake("pack: positions run on across the border", shows=shows, why=why)
    if torch.equal(got[real], want[real] + 1):
        raise Mistake("pack: positions start at 1", shows=shows, why="The first one is 0.")
    why = "Inside each document: 0, 1, 2, ..."
    raise Mistake("pack: the positions are wrong", shows=shows, why=why)


# Targets --------------------------------------------------------------------------------------


def _right_targets(tokens: Tensor, ids: Tensor) -> Tensor:
    out = torch.full_like(tokens, -100)
    inside = ids[1:] == ids[:-1]
    out[:-1][inside] = tokens[1:][inside]
    return out


@targets.rule
def _targets_stay_inside(function: Callable) -> None:
    for documents in _DOCUMENTS:
        _check_targets(function, *_packed(documents)[:2])


def _check_targets(function: Callable, tokens: Tensor, ids: Tensor) -> None:
    shows = f"tokens={tokens.tolist()}, document_ids={ids.tolist()}"
    want = _right_targets(tokens, ids)
    got = like(run(function, Case((tokens, ids), shows), "targets"), want)
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


@E.rule
def _no_gradient_crosses(mask: Callable, pack: Callable, targets: Callable) -> None:
    """Train on the second document alone: the first one's embeddings must get exactly nothing."""
    model = Transformer(get_preset("tiny"))
    model.init_weights(torch.Generator().manual_seed(5))
    documents = [[5, 6, 7, 8], [11, 12, 13, 14, 15]]
    tokens, ids, positions = (torch.as_tensor(row).long() for row in pack(documents, _LENGTH))
    labels = torch.as_tensor(targets(tokens, ids)).long()
    metadata = SimpleNamespace(mask=torch.as_tensor(mask(ids))[None, None])
    logits = model(tokens[None], positions[None], metadata)[0]
    chosen = (ids == ids[4]) & (labels != -100)
    torch.nn.functional.cross_entropy(logits[chosen], labels[chosen]).backward()
    leaked = model.tok_embeddings.weight.grad[[5, 6, 7, 8]].abs().max()
    if float(leaked) > 0:
        shows = f"documents {documents}, loss on the second only"
        raise Mistake("gradient crosses the border", shows=shows)
