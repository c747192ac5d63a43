"""What goes into a checkpoint of training: nested tensors made flat and copied, values as JSON."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.manifest import DamagedError, check_files
from llama3lib.checkpoint.shards import DTYPES, Stored
from llama3lib.utils.require import require

META = "meta.json"


def flatten(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Nested dictionaries of tensors as one: {"model": {"norm": t}} gives {"model.norm": t}.

    Raises ValueError naming the place of what is no dense tensor with memory of its own, of a
    name that is no text, or of two names that are the same once they are joined.
    """
    flat: dict[str, Tensor] = {}
    for name, value in _walk(tensors, ""):
        if name in flat:
            raise ValueError(f"tensors has {name!r} twice, once the names are joined with dots")
        flat[name] = value
    if not flat:
        raise ValueError("tensors is empty: at least one tensor is needed")
    return flat


def _walk(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(value, Mapping):
        _check_tensor(value, name)
        yield name, value
        return
    for key, inner in value.items():
        if type(key) is not str or not key:
            raise ValueError(f"tensors has the key {key!r} in {name!r}: keys must be text")
        yield from _walk(inner, f"{name}.{key}" if name else key)


def _check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise ValueError(f"{name} is a {kind}: only tensors are allowed, meta takes other values")
    plain = isinstance(value, DTensor) or type(value.detach()) is Tensor
    dense = value.layout is torch.strided and value.device.type != "meta"
    if not (plain and dense and value.dtype in DTYPES):
        kind = f"{type(value).__name__}, {value.dtype}, {value.layout}, {value.device}"
        raise ValueError(f"{name} is a {kind}: a dense tensor that has memory is allowed")


def check_writable(flat: Mapping[str, Tensor]) -> None:
    """Raises ValueError for a tensor that cannot be filled in place."""
    for name, tensor in flat.items():
        repeated = any(
            step == 0 and size > 1 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
        )
        if repeated or tensor.is_inference():
            raise ValueError(f"{name} cannot be filled: it is expanded, or of inference mode")


@torch.no_grad()
def stage(flat: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, contiguous, each with memory of its own, as safetensors wants them."""
    staged = {}
    for name, tensor in flat.items():
        if not isinstance(tensor, DTensor):
            tensor = tensor.detach().resolve_conj().resolve_neg()  # these are flags on one memory
        staged[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return staged


def encode_meta(meta: Mapping[str, Any]) -> str:
    """A dictionary as JSON that comes back the same, but for tuples, which become lists.

    NaN and infinities are allowed: a run that diverged has them. Raises ValueError otherwise.
    """
    require(isinstance(meta, Mapping), "meta", meta, "a dictionary")
    try:
        _check_keys(meta, "meta")
        text = json.dumps(dict(meta), indent=1) + "\n"
        json.loads(text)  # Python writes whole numbers that are too long for it to read
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"meta cannot be written as JSON: {error}") from None
    return text


def _check_keys(value: object, place: str) -> None:
    """JSON would turn a number or None into text where it is a key."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place} has the key {key!r}: keys must be text")
            _check_keys(inner, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner, place)


def read_meta(path: Path, files: Mapping[str, dict]) -> dict:
    """The values of a checkpoint's folder, checked with its manifest. Raises DamagedError."""
    if META not in files:
        raise DamagedError(f"{path} is damaged: its manifest has no {META}")
    check_files(path, files, [META])
    try:
        meta = json.loads((path / META).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path / META} is damaged: {error}") from None
    if not isinstance(meta, dict):
        raise DamagedError(f"{path / META} is damaged: it is not a JSON object")
    return meta


def check_same(path: Path, wanted: Mapping[str, tuple], index: Mapping[str, Stored]) -> None:
    """Names, shapes and dtypes of the tensors against those of the checkpoint in a folder.

    Raises CheckpointError with the first differences.
    """
    found = {name: (stored.shape, stored.dtype) for name, stored in index.items()}
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is not expected" for name in found if name not in wanted]
    for name in (name for name in wanted if name in found):
        (shape, dtype), (old_shape, old_dtype) = wanted[name], found[name]
        if shape != old_shape:
            wrong.append(f"{name} has shape {list(old_shape)}, {list(shape)} is expected")
        elif dtype != old_dtype:
            wrong.append(f"{name} is {old_dtype}, {dtype} is expected")
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise CheckpointError(
            f"the model was changed between save and resume: in {path} "
            + "; ".join(wrong[:8])
            + more
        )
