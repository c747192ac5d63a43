"""Put quantised matrices into a model."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from llama3lib.model import Transformer
from llama3lib.quant.fp8 import FP8Linear
from llama3lib.quant.integer import Int4Linear, Int8Linear

Scheme = Literal["fp8", "fp8-tensorwise", "fp8-unbounded", "int8", "int4"]
_MAKERS: dict[str, Callable[[Tensor], nn.Module]] = {
    "fp8": FP8Linear,
    "fp8-tensorwise": lambda weight: FP8Linear(weight, rowwise=False),
    "fp8-unbounded": lambda weight: FP8Linear(weight, upper_bound=None),
    "int8": Int8Linear,
    "int4": Int4Linear,
}


def quantize_model(model: Transformer, scheme: Scheme) -> Transformer:
    """Replace matrices of `model`, in place; returns the model, which can only generate now.

    fp8: the paper's recipe (section 6): the feed-forward layers of all blocks but the first and
    the last; attention stays as it is. int8, int4: all matrices of all blocks and the output
    matrix, since on a CPU every byte counts.

    Raises ValueError for an unknown scheme, or a matrix that it cannot hold.
    """
    if scheme not in _MAKERS:
        raise ValueError(f"scheme={scheme!r} is not allowed: one of {list(_MAKERS)}")
    make = _MAKERS[scheme]
    for name, layer in model.layers.items():
        if scheme.startswith("fp8"):
            if 0 < int(name) < model.args.n_layers - 1:
                _replace(layer.feed_forward, make)
        else:
            _replace(layer.feed_forward, make)
            _replace(layer.attention, make)
    if not scheme.startswith("fp8") and model.output is not None:
        model.output = make(model.output.weight)
    return model.eval().requires_grad_(False)


def _replace(module: nn.Module, make: Callable[[Tensor], nn.Module]) -> None:
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Linear):
            setattr(module, name, make(part.weight))
