"""Put quantised matrices into a model."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from llama3lib.model import Transformer
from llama3lib.quant.fp8 import FP8Linear
from llama3lib.quant.integer import Int4Linear, Int8DynamicLinear, Int8Linear
from llama3lib.utils.require import one_of

Scheme = Literal["fp8", "fp8-tensorwise", "fp8-unbounded", "int8", "int8-dynamic", "int4"]
Maker = Callable[[Tensor], nn.Module]
"""Makes the module that stands for x · Wᵀ out of W."""
_MAKERS: dict[str, Maker] = {
    "fp8": FP8Linear,
    "fp8-tensorwise": lambda weight: FP8Linear(weight, rowwise=False),
    "fp8-unbounded": lambda weight: FP8Linear(weight, upper_bound=None),
    "int8": Int8Linear,
    "int8-dynamic": Int8DynamicLinear,
    "int4": Int4Linear,
}


def quantize_model(model: Transformer, scheme: Scheme) -> Transformer:
    """Replace matrices of `model`, in place; returns the model, which can only generate now.

    fp8: the paper's recipe (section 6): the feed-forward layers of all blocks but the first and
    the last; attention stays as it is. int8, int8-dynamic, int4: all matrices of all blocks and
    the output matrix, since on a CPU every byte counts.

    Raises ValueError for an unknown scheme, a matrix that it cannot hold, or a model whose
    matrices have been replaced before (to fuse and quantise: `fuse_projections` with its `scheme`).
    """
    one_of("scheme", scheme, list(_MAKERS))
    check_plain(model, scheme)
    n_layers = model.args.n_layers
    for name, layer in model.layers.items():
        for part in ("attention", "feed_forward"):
            make = linear_maker(scheme, None, n_layers, part, int(name))
            if make is not None:
                _replace(layer.get_submodule(part), make)
    if model.output is not None:
        make = linear_maker(scheme, None, n_layers, "output", 0)
        model.output = model.output if make is None else make(model.output.weight)
    return model.eval().requires_grad_(False)


def linear_maker(
    scheme: Scheme | None,
    full: Maker | None,
    n_layers: int,
    part: Literal["attention", "feed_forward", "output"],
    layer: int,
) -> Maker | None:
    """What makes the matrices of a part of block `layer`; `full` where they keep all their bits.

    Raises ValueError for an unknown scheme.
    """
    if scheme is None:
        return full
    one_of("scheme", scheme, list(_MAKERS))
    if scheme.startswith("fp8") and not (part == "feed_forward" and 0 < layer < n_layers - 1):
        return full
    return _MAKERS[scheme]


def check_plain(model: Transformer, scheme: Scheme | None = None) -> None:
    """Raises ValueError unless all matrices are still plain ones, and fit the scheme.

    Asked before anything is replaced: a model that is refused is as it was.
    """
    for name, layer in model.layers.items():
        parts = dict(layer.attention.named_children()) | dict(layer.feed_forward.named_children())
        for part in ("wq", "wk", "wv", "wo", "w1", "w2", "w3"):
            if type(parts.get(part)) is not nn.Linear:
                raise ValueError(
                    f"model is not allowed: {part} of block {name} is no plain matrix any more; "
                    "it was fused or quantised before"
                )
            if scheme == "int4":
                Int4Linear.check(parts[part].weight)
    if scheme == "int4" and model.output is not None:
        Int4Linear.check(model.output.weight)


def _replace(module: nn.Module, make: Maker) -> None:
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Linear):
            setattr(module, name, make(part.weight))
