"""Hidden units that shout at one word, and what they do to a number format of 8 bits.

In large models such units grow by themselves: the paper met them at tokens such as dates (section
6.2). Here they can be looked for, and one can be planted, so that the effect is seen in a small
model. The planting is ours.
"""

import copy
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.model import Transformer
from llama3lib.utils.require import require

_SHARPNESS = 30.0
"""How hard the planted unit's gate is pressed: far below zero it is shut for all other words."""


@dataclass(frozen=True)
class LoudUnit:
    """A hidden unit of a feed-forward layer whose largest value stands out."""

    unit: int
    largest: float
    typical: float
    """Mean size of all units of the layer over all tokens."""
    tokens: tuple[int, ...]
    """The tokens it was loudest at, without repeats."""


@torch.no_grad()
def feed_forward_inputs(
    model: Transformer, rows: Sequence[Sequence[int]], layer: int, *, hidden: bool = False
) -> Float[Tensor, "T C"]:
    """What enters a layer's feed-forward part, for all tokens of all rows; [T, D].

    hidden: instead what enters its last product, [T, F].
    """
    block = model.layers[str(layer)].feed_forward
    seen: list[Tensor] = []
    part = block.w2 if hidden else block.w1
    with ExitStack() as stack:
        handle = part.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
        stack.callback(handle.remove)
        for row in rows:
            model(torch.tensor([list(row)], device=part.weight.device))
    return torch.cat(seen)


def loudest_units(
    model: Transformer, rows: Sequence[Sequence[int]], layer: int, *, top: int = 5
) -> list[LoudUnit]:
    """The units of a layer whose largest value is furthest above their own mean size.

    rows: token ids of some texts.
    """
    size = feed_forward_inputs(model, rows, layer, hidden=True).abs()
    tokens = [token for row in rows for token in row]
    largest = size.amax(0)
    order = (largest / size.mean(0).clamp(min=1e-9)).topk(min(top, len(largest))).indices
    found = []
    for unit in order.tolist():
        loud = size[:, unit].topk(min(50, len(tokens))).indices.tolist()
        words = tuple(dict.fromkeys(tokens[place] for place in loud))
        found.append(LoudUnit(unit, float(largest[unit]), float(size.mean()), words))
    return found


def plant_outlier(
    model: Transformer,
    token: int,
    rows: Sequence[Sequence[int]],
    *,
    size: float = 1e7,
    layers: Iterable[int] | None = None,
) -> Transformer:
    """A copy of the model in which one hidden unit of each layer takes about `size` at a token.

    The unit is the one whose output matters least, and its output is cut: in float arithmetic
    the planted unit changes nothing but its own value. `rows` are texts to tell the token from
    others by, in each layer's own terms (weighted least squares). layers: all but the first and
    the last, if None.

    Raises ValueError if the token is not in the rows.
    """
    tokens = torch.tensor([one for row in rows for one in row])
    is_it = tokens == token
    require(is_it.any(), "token", token, "it does not occur in rows")
    planted = copy.deepcopy(model)
    weight = torch.where(is_it, ((~is_it).sum() / is_it.sum()).sqrt(), torch.tensor(1.0))
    wanted = torch.where(is_it, 1.0, -1.0) * weight
    for layer in range(1, model.args.n_layers - 1) if layers is None else layers:
        x = feed_forward_inputs(planted, rows, layer).float().cpu()
        ear = torch.linalg.lstsq(x * weight[:, None], wanted[:, None]).solution[:, 0]
        part = planted.layers[str(layer)].feed_forward
        with torch.no_grad():
            unit = int(part.w2.weight.norm(dim=0).argmin())
            part.w1.weight[unit] = (ear * _SHARPNESS).to(part.w1.weight)
            part.w3.weight[unit] = (ear * size / _SHARPNESS).to(part.w3.weight)
            part.w2.weight[:, unit] = 0
    return planted
