"""Watch a real model work: what every part receives, computes and passes on (§3.2).

`trace` runs one forward pass with hooks and takes them off again, whatever happens.
"""

import inspect
import math
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llama3lib.model import Transformer
from llama3lib.model.rope import apply_rotary_emb
from widgets.core.source import source_of

HEAD_PARTS = ("wq", "wk", "wv", "rope_q", "rope_k", "inner_attention")
KV_PARTS = ("wk", "wv", "rope_k")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A box of the diagram. `path` is the module below the block, or below the model."""

    key: str
    label: str
    does: str
    path: str = ""
    section: str = "§3.2"
    in_block: bool = True
    marker: str = ""
    """Text that finds this part in the library's source."""


PARTS = (
    Part(
        key="tok_embeddings",
        label="token embedding",
        does="Look up one row of numbers for every token id. Nothing is multiplied.",
        path="tok_embeddings",
        section="§3.2, Table 3 (vocabulary)",
        in_block=False,
        marker="self.tok_embeddings(tokens)",
    ),
    Part(
        key="attention_norm",
        label="RMSNorm",
        does="Bring every token's numbers to size 1 before attention reads them.",
        path="attention_norm",
        marker="self.attention_norm(x)",
    ),
    Part(
        key="wq",
        label="wq · queries",
        does="Ask: what does this token look for? One query per query head.",
        path="attention.wq",
        section="§3.2, Table 3 (attention heads)",
        marker="self.wq(x)",
    ),
    Part(
        key="wk",
        label="wk · keys",
        does="Offer: what can be found here? One key per KV head.",
        path="attention.wk",
        section="§3.2, Table 3 (key/value heads)",
        marker="self.wk(x)",
    ),
    Part(
        key="wv",
        label="wv · values",
        does="Carry: what is handed over to a token that looks here.",
        path="attention.wv",
        section="§3.2, Table 3 (key/value heads)",
        marker="self.wv(x)",
    ),
    Part(
        key="rope_q",
        label="RoPE on q",
        does="Turn each pair of query channels by an angle that grows with the position.",
        section="§3.2, Table 3 (RoPE, base 500,000)",
        marker="turned = ",
    ),
    Part(
        key="rope_k",
        label="RoPE on k",
        does="Turn the keys the same way: afterwards a score depends on the distance only.",
        section="§3.2, Table 3 (RoPE, base 500,000)",
        marker="turned = ",
    ),
    Part(
        key="inner_attention",
        label="attention",
        does="Compare queries with keys, never with later tokens; mix the values.",
        path="attention.inner_attention",
        section="§3.2 (GQA, document mask)",
        marker="scaled_dot_product_attention(",
    ),
    Part(
        key="wo",
        label="wo · output",
        does="Put the heads together again, back to the width of the stream.",
        path="attention.wo",
        marker="self.wo(",
    ),
    Part(
        key="attention_add",
        label="add to the stream",
        does="Add what attention found to what was there before.",
        marker="x + self.attention(",
    ),
    Part(
        key="ffn_norm",
        label="RMSNorm",
        does="Bring the numbers to size 1 before the feed-forward layer reads them.",
        path="ffn_norm",
        marker="self.ffn_norm(h)",
    ),
    Part(
        key="w1",
        label="w1 · gate",
        does="Decide for each inner channel how far to open it.",
        path="feed_forward.w1",
        section="§3.2, Table 3 (FFN dimension)",
        marker="self.w1(x)",
    ),
    Part(
        key="w3",
        label="w3 · up",
        does="Widen every token to the inner channels.",
        path="feed_forward.w3",
        section="§3.2, Table 3 (FFN dimension)",
        marker="self.w3(x)",
    ),
    Part(
        key="gated",
        label="SiLU(w1) × w3",
        does="SwiGLU: the gate lets each inner channel through, or not.",
        section="§3.2, Table 3 (SwiGLU)",
        marker="F.silu(",
    ),
    Part(
        key="w2",
        label="w2 · down",
        does="Back from the inner channels to the width of the stream.",
        path="feed_forward.w2",
        section="§3.2, Table 3 (FFN dimension)",
        marker="self.w2(",
    ),
    Part(
        key="ffn_add",
        label="add to the stream",
        does="Add it again. The next block reads the sum.",
        marker="h + self.feed_forward(",
    ),
    Part(
        key="norm",
        label="final RMSNorm",
        does="One last time: bring the numbers to size 1.",
        path="norm",
        in_block=False,
        marker="self.norm(h)",
    ),
    Part(
        key="output",
        label="output matrix",
        does="One score for every token of the vocabulary: who comes next?",
        path="output",
        section="§3.2, Table 3 (vocabulary)",
        in_block=False,
        marker="self.output(h)",
    ),
)
PART_BY_KEY = {part.key: part for part in PARTS}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one part did to one sequence. Shapes leave out the batch of 1."""

    part: str
    layer: int | None
    inputs: dict[str, tuple[int, ...]]
    """Name and shape of everything that goes in."""
    values: Float[Tensor, "T ..."]
    """What comes out: [T, D], or [T, heads, H] for parts that work head by head."""
    parameters: int
    pattern: Float[Tensor, "N T T"] | None = None
    """Only for inner_attention: how much each token takes from each earlier one."""

    @property
    def name(self) -> str:
        """Path of the part in the model, as in `layers.0.attention.wq`."""
        part = PART_BY_KEY[self.part]
        path = part.path or {"gated": "feed_forward"}.get(self.part, "attention")
        path = part.key if self.part.endswith("_add") else path
        return f"layers.{self.layer}.{path}" if part.in_block else path

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)


@torch.no_grad()
def trace(
    model: Transformer, token_ids: Iterable[int] | Tensor, *, layers: Iterable[int] | None = None
) -> list[Record]:
    """Run the model once on one sequence and keep what every part received and produced.

    token_ids: [T]. layers: which blocks to keep, all of them if left out. Everything kept is a
    float32 copy on the CPU: meant for small models. The hooks are taken off before this returns
    and also when the model fails.
    Raises ValueError if a layer or a token does not exist, and what the model itself raises.
    """
    ids = torch.as_tensor(list(map(int, token_ids)), dtype=torch.long)
    known = model.args.vocab_size
    if bad := [i for i in ids.tolist() if not 0 <= i < known]:
        raise ValueError(f"token_ids={bad[0]} is not allowed: 0 to {known - 1}")
    keep = range(len(model.layers)) if layers is None else sorted(set(layers))
    for layer in keep:
        if str(layer) not in model.layers:
            allowed = f"one of {', '.join(model.layers)}"
            raise ValueError(f"layer={layer!r} is not allowed: {allowed}")
    seen: dict[str, _Seen] = {}
    with ExitStack() as hooks:
        for path, module in _watched(model, keep):
            seen[path] = _Seen()
            handle = module.register_forward_hook(seen[path].keep)
            hooks.callback(handle.remove)
        model(ids.unsqueeze(0).to(next(model.parameters()).device))
    records = [_outside(model, "tok_embeddings", seen)]
    for layer in keep:
        records += _block_records(model, layer, seen)
    return [*records, _outside(model, "norm", seen), _outside(model, "output", seen)]


class _Seen:
    """Inputs and output of one module in one call, without the batch dimension.

    Calls from other threads are let pass: a cell may train the same model meanwhile.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.inputs: list[Tensor] = []
        self.output = torch.empty(0)

    def keep(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if threading.get_ident() != self.thread:
            return
        self.inputs = [_plain(x) for x in inputs if isinstance(x, Tensor)]
        self.output = _plain(output)


def _plain(x: Tensor) -> Tensor:
    x = x.detach().to("cpu")
    return (x.float() if x.is_floating_point() else x).clone()[0]


def _watched(model: Transformer, layers: Iterable[int]) -> list[tuple[str, nn.Module]]:
    names = [part.path for part in PARTS if part.path and not part.in_block]
    for layer in layers:
        inside = [part.path for part in PARTS if part.path and part.in_block]
        names += [f"layers.{layer}", *(f"layers.{layer}.{path}" for path in inside)]
    return [(name, model.get_submodule(name)) for name in names]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _outside(model: Transformer, key: str, seen: dict[str, _Seen]) -> Record:
    inputs = {"token ids" if key == "tok_embeddings" else "h": tuple(seen[key].inputs[0].shape)}
    size = _size(model.get_submodule(key))
    return Record(part=key, layer=None, inputs=inputs, values=seen[key].output, parameters=size)


def _block_records(model: Transformer, layer: int, seen: dict[str, _Seen]) -> list[Record]:
    """One record for each part of a block, in the order of the diagram."""
    at = {p.key: seen[f"layers.{layer}.{p.path}"] for p in PARTS if p.in_block and p.path}
    q, k, v = at["inner_attention"].inputs[:3]
    after_attention = at["ffn_norm"].inputs[0]
    heads = (-1, q.shape[-1])
    made = {  # key: (inputs, values); parts that are not modules are read at their neighbours
        "attention_norm": ({"x": at["attention_norm"].inputs[0]}, at["attention_norm"].output),
        "wq": ({"x": at["wq"].inputs[0]}, at["wq"].output.unflatten(-1, heads)),
        "wk": ({"x": at["wk"].inputs[0]}, at["wk"].output.unflatten(-1, heads)),
        "wv": ({"x": at["wv"].inputs[0]}, at["wv"].output.unflatten(-1, heads)),
        "rope_q": ({"q": at["wq"].output.unflatten(-1, heads)}, q),
        "rope_k": ({"k": at["wk"].output.unflatten(-1, heads)}, k),
        "inner_attention": ({"q": q, "k": k, "v": v}, at["inner_attention"].output),
        "wo": ({"mixed heads": at["wo"].inputs[0]}, at["wo"].output),
        "attention_add": (
            {"x": at["attention_norm"].inputs[0], "attention": at["wo"].output},
            after_attention,
        ),
        "ffn_norm": ({"h": after_attention}, at["ffn_norm"].output),
        "w1": ({"x": at["w1"].inputs[0]}, at["w1"].output),
        "w3": ({"x": at["w3"].inputs[0]}, at["w3"].output),
        "gated": ({"gate": at["w1"].output, "up": at["w3"].output}, at["w2"].inputs[0]),
        "w2": ({"gated": at["w2"].inputs[0]}, at["w2"].output),
        "ffn_add": (
            {"h": after_attention, "feed-forward": at["w2"].output},
            seen[f"layers.{layer}"].output,
        ),
    }
    records = []
    for key, (inputs, values) in made.items():
        path = PART_BY_KEY[key].path
        module = model.get_submodule(f"layers.{layer}.{path}") if path else None
        records.append(
            Record(
                part=key,
                layer=layer,
                inputs={name: tuple(x.shape) for name, x in inputs.items()},
                values=values,
                parameters=_size(module) if module else 0,
                pattern=attention_pattern(q, k) if key == "inner_attention" else None,
            )
        )
    return records


def attention_pattern(
    q: Float[Tensor, "T N H"], k: Float[Tensor, "T K H"]
) -> Float[Tensor, "N T T"]:
    """Causal attention weights of every query head; rows add up to 1 (§3.2).

    The model's fused attention never shows them, so they are computed again from the same
    queries and keys.
    """
    group = q.shape[1] // k.shape[1]
    scores = torch.einsum("tkgh,skh->kgts", q.unflatten(1, (-1, group)), k) / math.sqrt(q.shape[2])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1).flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class PartSource:
    """The library's own code of a part, read when asked."""

    place: str
    text: str
    lines: tuple[int, ...]
    """Lines, from 0, where the part itself is at work."""


def part_source(model: Transformer, key: str, layer: int = 0) -> PartSource:
    """The function that runs this part of this model, with the part's own line marked."""
    part, block = PART_BY_KEY[key], model.layers[str(layer)]
    place, text = source_of(inspect.unwrap(_function_of(part, model, block)))
    found = [i for i, line in enumerate(text.splitlines()) if part.marker in line]
    return PartSource(place=place, text=text, lines=tuple(found))


def _function_of(part: Part, model: Transformer, block: nn.Module) -> Callable:
    if part.key == "output":
        return type(model).forward
    if not part.in_block:
        return type(model).hidden_states
    if part.key.startswith("rope"):
        return apply_rotary_emb
    if part.key == "inner_attention":
        return type(block.attention.inner_attention).forward
    if part.key in ("w1", "w2", "w3", "gated"):
        return type(block.feed_forward).forward
    if part.key in ("attention_norm", "ffn_norm", "attention_add", "ffn_add"):
        return type(block).forward
    return type(block.attention).forward
