"""Put quantised matrices into a model."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from llama3lib.model import ModelArgs, Transformer
from llama3lib.quant.fp8 import BOUND, FP8Linear
from llama3lib.quant.integer import Int4Linear, Int8DynamicLinear, Int8Linear
from llama3lib.quant.stored import StoredLinear
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
_EMPTY: dict[str, Callable[[], StoredLinear]] = {
    "fp8": lambda: FP8Linear.empty(rowwise=True, upper_bound=BOUND),
    "fp8-tensorwise": lambda: FP8Linear.empty(rowwise=False, upper_bound=BOUND),
    "fp8-unbounded": lambda: FP8Linear.empty(rowwise=True, upper_bound=None),
    "int8": Int8Linear.empty,
    "int8-dynamic": Int8DynamicLinear.empty,
    "int4": Int4Linear.empty,
}


def empty_linear(scheme: Scheme) -> StoredLinear:
    """A quantised matrix that waits for its tensors. Raises ValueError for an unknown scheme."""
    one_of("scheme", scheme, list(_EMPTY))
    return _EMPTY[scheme]()


def quantized_paths(args: ModelArgs, scheme: Scheme) -> list[str]:
    """Which matrices of a model `quantize_model` replaces, by their names in it."""
    parts = {"attention": ("wq", "wk", "wv", "wo"), "feed_forward": ("w1", "w2", "w3")}
    found = [
        f"layers.{layer}.{part}.{name}"
        for layer in range(args.n_layers)
        for part, names in parts.items()
        if linear_maker(scheme, None, args.n_layers, part, layer) is not None
        for name in names
    ]
    whole = linear_maker(scheme, None, args.n_layers, "output", 0) is not None
    return [*found, "output"] if whole else found


def scheme_of(model: Transformer) -> Scheme | None:
    """How a model is quantised; None if it is not.

    Raises ValueError if its matrices are not those that one scheme replaces.
    """
    found = {n: part.scheme for n, part in model.named_modules() if isinstance(part, StoredLinear)}
    if not found:
        return None
    schemes = set(found.values())
    if len(schemes) > 1 or found.keys() != set(quantized_paths(model.args, min(schemes))):
        raise ValueError(
            f"model is not allowed: its matrices are {sorted(schemes)}, and not just those that "
            "one scheme of quantize_model replaces"
        )
    return schemes.pop()


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
