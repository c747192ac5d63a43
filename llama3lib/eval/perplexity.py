"""How surprised a model is by text: nats per token, by how much of it has been read already.

The mean alone hides whether a model uses its context. A model that does is less surprised late
in a document than early, so losses are kept one by one and can be grouped by position (the
question behind the long-context stages, §3.4.2).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.data.packing import window, window_count
from llama3lib.data.tokens import TokenShard
from llama3lib.model import DocumentMask, Transformer
from llama3lib.utils.require import at_least, require, require_all

_LOGITS = 1 << 25  # logits held at a time (128 MB in float32): the vocabulary may be 128K wide


@dataclass(frozen=True)
class PositionBin:
    """Targets predicted from positions `start` to `stop - 1`."""

    start: int
    stop: int
    targets: int
    loss: float
    """Mean nats per token; nan without targets."""
    standard_error: float


@dataclass(frozen=True)
class PositionLoss:
    """Loss of every target of R rows of T tokens.

    nats [R, T]: -log p of the next token; nan where none was asked for.
    positions [R, T]: place of the token read last in its document, from 0: the model has seen
    `positions + 1` tokens of it.

    Standard errors take rows as the independent draws, because the tokens of one row are not;
    they are nan with fewer than two rows.
    """

    nats: Float[np.ndarray, "R T"]
    positions: Int[np.ndarray, "R T"]

    def __post_init__(self) -> None:
        if self.nats.ndim != 2 or self.nats.shape != self.positions.shape:
            raise ValueError(
                f"positions has shape {self.positions.shape}: that of nats, "
                f"{self.nats.shape}, with two sides, is needed"
            )

    @cached_property
    def targets(self) -> int:
        """Number of tokens that were asked for."""
        return int((~np.isnan(self.nats)).sum())

    @property
    def mean(self) -> float:
        """Nats per token; nan without targets."""
        return self._whole.loss

    @property
    def standard_error(self) -> float:
        """Of the mean, in nats per token."""
        return self._whole.standard_error

    @property
    def perplexity(self) -> float:
        """exp(mean): among how many equally likely tokens the model seems to choose."""
        return math.inf if self.mean > 700 else math.exp(self.mean)

    def bits_per_byte(self, bytes_per_token: float) -> float:
        """The mean in bits per byte of text: comparable between tokenizers, as nats are not.

        Raises ValueError if bytes_per_token is not above 0.
        """
        require(bytes_per_token > 0, "bytes_per_token", bytes_per_token, "above 0")
        return self.mean / math.log(2) / bytes_per_token

    def by_position(self) -> list[PositionBin]:
        """One bin for each position, 0 to T - 1."""
        return self.bins(range(self.nats.shape[1] + 1))

    def bins(self, edges: Sequence[int]) -> list[PositionBin]:
        """Group by position: bin i holds positions edges[i] to edges[i + 1] - 1.

        Raises ValueError if there are not at least two edges, whole and rising, from 0 to T.
        """
        edges, length = list(edges), self.nats.shape[1]
        rising = all(a < b for a, b in pairwise(edges))
        ok = len(edges) >= 2 and rising and edges[0] >= 0 and edges[-1] <= length
        require_all(ok, f"two or more, rising, 0 to {length}", edges=edges)
        sums, counts = self._per_row(edges)
        return [
            PositionBin(start, stop, int(counts[:, i].sum()), *_ratio(sums[:, i], counts[:, i]))
            for i, (start, stop) in enumerate(pairwise(edges))
        ]

    @cached_property
    def _whole(self) -> PositionBin:
        return self.bins([0, self.nats.shape[1]])[0]

    def _per_row(self, edges: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Sum and number of targets of each row in each bin, both [R, bins]."""
        rows, bins = len(self.nats), len(edges) - 1
        place = np.searchsorted(edges, self.positions, side="right") - 1
        asked = ~np.isnan(self.nats) & (place >= 0) & (place < bins)
        cell = (np.arange(rows)[:, None] * bins + place)[asked]
        sums = np.bincount(cell, self.nats[asked].astype(np.float64), minlength=rows * bins)
        counts = np.bincount(cell, minlength=rows * bins)
        return sums.reshape(rows, bins), counts.reshape(rows, bins)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean over all targets, and its standard error with rows as draws (linearised ratio)."""
    has = counts > 0
    sums, counts = sums[has], counts[has]
    rows, total = len(counts), counts.sum()
    if not total:
        return math.nan, math.nan
    mean = float(sums.sum() / total)
    if rows < 2:
        return mean, math.nan
    scatter = float(((sums - mean * counts) ** 2).sum()) * rows / (rows - 1)
    return mean, math.sqrt(scatter) / float(total)


def loss_by_position(
    model: Transformer,
    tokens: Int[Tensor, "B T1"] | Iterable[Tensor | tuple[Tensor, Tensor]],
    *,
    document_ids: Int[Tensor, "B T1"] | None = None,
    batch_size: int = 8,
) -> PositionLoss:
    """Loss of each next token, grouped later as you like.

    tokens: [B, T + 1], inputs and targets in one; or batches of that shape, all with the same T,
    each alone or as a pair with its document ids.
    document_ids: [B, T + 1] for packed rows: attention stays within a document, positions start
    again, and the step from one document to the next is not asked for.
    batch_size: rows at a time; batches from an iterable are cut further if they are larger.

    Computed without gradient in eval mode, each module getting its own mode back; the softmax is
    in float32 (float64 for a float64 model) whatever the model's dtype.

    Raises ValueError on ids outside the vocabulary, shapes that do not fit, rows of another
    length, more than max_seq_len tokens, or no row at all.
    """
    at_least("batch_size", batch_size, 1)
    nats, positions = [], []
    with evaluating(model):
        for rows, ids in _batches(tokens, document_ids):
            _check_rows(model, rows, ids, nats)
            for start in range(0, len(rows), batch_size):
                part = slice(start, start + batch_size)
                lost, places = _row_losses(model, rows[part], None if ids is None else ids[part])
                nats.append(lost.cpu().numpy())
                positions.append(places.cpu().numpy().astype(np.int32))
    if not nats:
        raise ValueError("tokens is not allowed to be empty: at least one row")
    return PositionLoss(np.concatenate(nats), np.concatenate(positions))


def held_out_loss(
    model: Transformer,
    shard: TokenShard,
    length: int,
    *,
    windows: int | None = None,
    batch_size: int = 8,
) -> PositionLoss:
    """Loss on a shard cut into windows of `length` inputs, documents kept apart (§3.2).

    windows: how many, spread evenly over the shard; all if left out. The shard's last tokens,
    fewer than a window, are not read. Of dialogs only what is asked for counts.

    Raises ValueError if the shard has no window or fewer than asked for, and as
    `loss_by_position`.
    """
    at_least("batch_size", batch_size, 1)
    count = window_count(shard, length)
    windows = count if windows is None else windows
    require(1 <= windows <= count, "windows", windows, f"1 to the shard's {count}")
    places = [i * count // windows for i in range(windows)]

    asked: list[np.ndarray] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, windows, batch_size):
            packed = [window(shard, place, length) for place in places[start : start + batch_size]]
            asked.extend(one.asked[1:] for one in packed if one.asked is not None)
            yield (
                torch.from_numpy(np.stack([one.tokens for one in packed])),
                torch.from_numpy(np.stack([one.document_ids for one in packed])),
            )

    found = loss_by_position(model, batches(), batch_size=batch_size)
    if not asked:
        return found
    return PositionLoss(np.where(np.stack(asked), found.nats, math.nan), found.positions)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No gradient and eval mode inside; every module has its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def logit_pieces(
    model: Transformer, hidden: Float[Tensor, "B T D"]
) -> Iterator[tuple[slice, Float[Tensor, "B piece V"]]]:
    """Logits some positions at a time: those of all would be the largest tensor by far.

    In float32, or float64 if that is the model's dtype: sums of exponents need it.
    """
    step = max(1, _LOGITS // (len(hidden) * model.args.vocab_size))
    for start in range(0, hidden.shape[1], step):
        part = slice(start, start + step)
        logits = model.output(hidden[:, part])
        yield part, logits if logits.dtype == torch.float64 else logits.float()


def check_ids(model: Transformer, tokens: Tensor, field: str = "tokens") -> None:
    """Raise ValueError if an id is outside the vocabulary (a GPU would die of it)."""
    if tokens.is_floating_point():
        raise ValueError(f"{field} has dtype {tokens.dtype}: whole numbers are needed")
    low, high = (int(edge) for edge in tokens.aminmax())
    if low < 0 or high >= model.args.vocab_size:
        bad = low if low < 0 else high
        raise ValueError(f"{field} has id {bad}: 0 to {model.args.vocab_size - 1} are allowed")


def _row_losses(
    model: Transformer, rows: Int[Tensor, "B T1"], ids: Int[Tensor, "B T1"] | None
) -> tuple[Float[Tensor, "B T"], Int[Tensor, "B T"]]:
    device = next(model.parameters()).device
    rows = rows.to(device, torch.long)
    inputs, targets = rows[:, :-1], rows[:, 1:]
    mask = positions = None
    if ids is not None:
        ids = ids.to(device)
        mask = DocumentMask(ids[:, :-1])
        positions = mask.positions()
    hidden = model.hidden_states(inputs, positions, mask)
    losses = [
        F.cross_entropy(logits.flatten(0, 1), targets[:, part].flatten(), reduction="none")
        for part, logits in logit_pieces(model, hidden)
    ]
    lost = torch.cat([piece.unflatten(0, (len(rows), -1)) for piece in losses], 1)
    if bool(lost.isnan().any()):
        raise ValueError("the model gives nan: its weights or its dtype are broken")
    if ids is None:
        return lost, torch.arange(inputs.shape[1]).expand_as(inputs)
    return lost.masked_fill(ids[:, 1:] != ids[:, :-1], math.nan), positions


def _batches(
    tokens: Tensor | Iterable[Tensor | tuple[Tensor, Tensor]], document_ids: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    if isinstance(tokens, Tensor):
        yield tokens, document_ids
        return
    if document_ids is not None:
        raise ValueError("document_ids is not allowed with batches: give pairs of both instead")
    for batch in tokens:
        yield (batch, None) if isinstance(batch, Tensor) else tuple(batch)


def _check_rows(
    model: Transformer, rows: Tensor, ids: Tensor | None, before: list[np.ndarray]
) -> None:
    if rows.dim() != 2 or rows.shape[1] < 2 or not len(rows):
        raise ValueError(f"tokens has shape {tuple(rows.shape)}: (1 or more, 2 or more) is needed")
    if before and rows.shape[1] - 1 != before[0].shape[1]:
        wanted = before[0].shape[1] + 1
        raise ValueError(f"tokens has rows of {rows.shape[1]}: {wanted} as in the first batch")
    if ids is not None and ids.shape != rows.shape:
        wanted = tuple(rows.shape)
        raise ValueError(f"document_ids has shape {tuple(ids.shape)}: {wanted} is needed")
    check_ids(model, rows)
