"""Needles for models too small to read: random symbols, and copying as the way to find. (§3.4.2)

A string that repeats asks for its symbols one period earlier; a hidden needle is asked for by its
first symbols, its key. As in `needle`, one pass over the row answers, without a generation loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llama3lib.eval.grid import NeedleGrid
from llama3lib.eval.needle import check_axes
from llama3lib.eval.perplexity import check_ids, evaluating, logit_pieces
from llama3lib.model import Transformer
from llama3lib.utils.require import at_least, between, require, require_all


def repeated_strings(
    rows: int, length: int, *, symbols: int = 64, seed: int = 0
) -> tuple[Int[Tensor, "B T1"], Int[Tensor, "B"]]:
    """Random strings of symbols 0 to symbols - 1, repeated: rows of length + 1, and their periods.

    Each row's period is drawn from length/4 to length/2, so every row holds at least two.
    For training as well as for `copy_grid`: ask the loss of what comes after the first period.

    Raises ValueError on rows below 1, length below 8 or symbols below 2.
    """
    for field, value, least in (("rows", rows, 1), ("length", length, 8), ("symbols", symbols, 2)):
        at_least(field, value, least)
    generator = torch.Generator().manual_seed(seed)
    periods = torch.randint(length // 4, length // 2 + 1, (rows,), generator=generator)
    strings = torch.randint(symbols, (rows, length), generator=generator)
    places = torch.arange(length + 1) % periods[:, None]
    return strings.gather(1, places), periods


def copy_grid(
    model: Transformer,
    *,
    lengths: Sequence[int],
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
    rows: int = 32,
    symbols: int = 64,
    seed: int = 0,
    batch_size: int = 8,
) -> NeedleGrid:
    """The needle test of models that know only symbols: tokens copied from one period earlier.

    depths: borders of groups; a group holds the targets from its depth on to the next one.
    Depth is how far a target stands between the end of the first period (0) and the end of the
    row (1). The very first token of the second period is left out: nothing tells yet that the
    string begins again. Tokens of one row hang together, so `tries` are not independent draws.

    Raises ValueError if lengths or depths do not rise or depths do not begin at 0, or as
    `repeated_strings`; the model raises it for a length beyond its position table.
    """
    check_axes(lengths, depths)
    ok = depths[0] == 0 and depths[-1] < 1
    require_all(ok, "the first 0, the last below 1", depths=tuple(depths))
    cells = [_copies(model, n, depths, rows, symbols, seed, batch_size) for n in lengths]
    found, tries, nats = (np.stack(part) for part in zip(*cells, strict=True))
    if (tries < 1).any():
        raise ValueError(f"depths={tuple(depths)!r} leave a group empty: use fewer or longer rows")
    return NeedleGrid(tuple(lengths), tuple(depths), found, tries, nats / tries)


def _copies(
    model: Transformer,
    length: int,
    depths: Sequence[float],
    rows: int,
    symbols: int,
    seed: int,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each group of depths: targets copied right, all targets, and the sum of their nats."""
    tokens, periods = repeated_strings(rows, length, symbols=symbols, seed=seed)
    hits, nats = _hits_and_nats(model, tokens, batch_size)
    first = periods.numpy()[
        :, None
    ]  # input t = period - 1 predicts the second period's first token
    place = np.arange(length)[None]
    depth = (place - first) / (length - first)
    group = np.searchsorted(depths, depth, side="right") - 1  # -1: still in the first period
    cells = [(group == i) for i in range(len(depths))]
    return (
        np.array([hits[cell].sum() for cell in cells]),
        np.array([cell.sum() for cell in cells]),
        np.array([nats[cell].sum() for cell in cells]),
    )


def _hits_and_nats(
    model: Transformer, tokens: Int[Tensor, "B T1"], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each next token: is it the likeliest, and its -log p; both [B, T]."""
    check_ids(model, tokens, "symbols")
    at_least("batch_size", batch_size, 1)
    device = next(model.parameters()).device
    hits, nats = [], []
    with evaluating(model):
        for rows in tokens.to(device).split(batch_size):
            wanted = rows[:, 1:].unsqueeze(2)
            pieces = [
                (
                    logits.argmax(-1) == wanted[:, part, 0],
                    -logits.log_softmax(-1).gather(2, wanted[:, part]).squeeze(2),
                )
                for part, logits in logit_pieces(model, model.hidden_states(rows[:, :-1]))
            ]
            hits.append(torch.cat([hit for hit, _ in pieces], 1).cpu())
            nats.append(torch.cat([nat for _, nat in pieces], 1).cpu())
    return torch.cat(hits).numpy(), torch.cat(nats).double().numpy()


@dataclass(frozen=True)
class HiddenNeedles:
    """Rows of random symbols with needles in them, each a key and the one symbol that follows it.

    tokens [B, T]: the last `key` of them are the place where a key is asked.
    keys [B, M, key], values [B, M]: needle 0 stands at the wanted depth, the others anywhere.
    """

    tokens: Int[Tensor, "B T"]
    keys: Int[Tensor, "B M C"]
    values: Int[Tensor, "B M"]


def hidden_needles(
    rows: int,
    length: int,
    depth: float,
    *,
    key: int = 4,
    others: int = 0,
    alike: int = 0,
    symbols: int = 64,
    seed: int = 0,
) -> HiddenNeedles:
    """Needles in random symbols, without an overlap; the same seed gives the same rows.

    depth: of needle 0, from 0, the beginning of the row, to 1, right before the question.
    others: further needles. alike: how many symbols at the end of their keys are those of
    needle 0's key, so that they distract from it; 0 for keys of their own.

    Raises ValueError if the depth is not within 0 to 1, `alike` not within 0 to `key`, another
    number is too small, or the row has no room for all needles.
    """
    for field, value, least in (("rows", rows, 1), ("key", key, 1), ("symbols", symbols, 2)):
        at_least(field, value, least)
    at_least("others", others, 0)
    between("depth", depth, 0, 1)
    between("alike", alike, 0, key)
    slots = (length - key) // (key + 1)
    require(slots > others, "length", length, f"{(others + 1) * (key + 1) + key} or more")
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(symbols, (rows, length), generator=generator)
    needles = torch.randint(symbols, (rows, 1 + others, key + 1), generator=generator)
    if alike:
        needles[:, 1:, key - alike : key] = needles[:, :1, key - alike : key]
    first = round(depth * (slots - 1))
    free = torch.rand(rows, slots, generator=generator)
    free[:, first] = -1.0  # sorts first: the slot of needle 0
    starts = free.argsort(1)[:, : 1 + others] * (key + 1)
    offset = (length - key) - slots * (key + 1)  # the last slot ends where the question begins
    places = offset + starts[:, :, None] + torch.arange(key + 1)
    tokens.scatter_(1, places.flatten(1), needles.flatten(1))
    return HiddenNeedles(tokens, needles[:, :, :key], needles[:, :, key])


def found_needles(
    model: Transformer, hidden: HiddenNeedles, asked: int = 1, batch_size: int = 64
) -> Bool[np.ndarray, "B A"]:
    """For each row and each of its first `asked` needles: is its value the likeliest after its key?

    Raises ValueError if there are not so many needles, or for symbols unknown to the model.
    """
    count, key = hidden.keys.shape[1:]
    between("asked", asked, 1, count)
    device, found = next(model.parameters()).device, []
    for number in range(asked):
        tokens = hidden.tokens.clone()
        tokens[:, -key:] = hidden.keys[:, number]
        check_ids(model, tokens, "symbols")
        with evaluating(model):
            last = [
                model.output(model.hidden_states(part.to(device))[:, -1]).argmax(-1).cpu()
                for part in tokens.split(batch_size)
            ]
        found.append(torch.cat(last) == hidden.values[:, number])
    return torch.stack(found, 1).numpy()
