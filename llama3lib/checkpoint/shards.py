"""The tensors of a checkpoint: safetensors files, laid out by torch.distributed.checkpoint (DCP).

Each rank writes its own files, and the header of each file says which part of which tensor it
holds, so that they can be read on another number of ranks. DCP's usual table of contents is a
pickle, which can run a program when it is read; safetensors holds numbers only. `tensors.json`
says what the whole is, so that a lost file is noticed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import ReadItem

from llama3lib.checkpoint.manifest import DamagedError

INDEX, SUFFIX = "tensors.json", ".safetensors"
OLD_INDEX = ".metadata"
"""What checkpoints had up to version 0.1: a pickle, which is not read any more."""
_STORED_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool},
    "C64": torch.complex64,
}
DTYPES = frozenset(_STORED_DTYPES.values())
_PLACES = "DCP_SHARDING_INFO"  # where DCP tells a header of which part of a tensor each one is


@dataclass(frozen=True)
class Piece:
    """A part of a tensor, and the file that holds it."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    file: str


@dataclass(frozen=True)
class Stored:
    """A tensor as the headers describe it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[Piece, ...]


def encode_index(metadata: Metadata) -> str:
    """Shape and dtype of every tensor, as `tensors.json` has them."""
    told = {
        name: {"shape": list(one.size), "dtype": str(one.properties.dtype).removeprefix("torch.")}
        for name, one in sorted(metadata.state_dict_metadata.items())
    }
    return json.dumps(told, indent=1) + "\n"


def read_index(folder: Path, files: Sequence[str]) -> dict[str, Stored]:
    """The tensors of a checkpoint by name, from `tensors.json` and the headers of `files`.

    Raises DamagedError unless the files hold every part of every tensor exactly once.
    """
    pieces: dict[str, list[Piece]] = {}
    dtypes: dict[str, set[torch.dtype]] = {}
    for file in sorted(name for name in files if name.endswith(SUFFIX)):
        try:
            for name, piece, dtype in _header(folder, file):
                pieces.setdefault(name, []).append(piece)
                dtypes.setdefault(name, set()).add(dtype)
        except Exception as error:  # a header may be wrong in many ways
            told = f"{type(error).__name__}: {error}"
            raise DamagedError(f"{folder / file} is damaged or hostile: {told}"[:400]) from error
    try:
        told = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        wholes = {
            n: (_sizes(one["shape"]), getattr(torch, one["dtype"])) for n, one in told.items()
        }
        if wholes.keys() != pieces.keys():
            name = min(wholes.keys() ^ pieces.keys())
            raise ValueError(f"{name!r} stands only in one of {INDEX} and the other files")
        for name, (shape, dtype) in wholes.items():
            if dtypes[name] != {dtype} or dtype not in DTYPES:
                raise ValueError(f"{name!r} is stored as {dtypes[name]}, not as {dtype}")
            _check_covered(name, shape, pieces[name])
    except OSError as error:
        raise DamagedError(f"{folder / INDEX} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        told = f"{type(error).__name__}: {error}"
        raise DamagedError(f"{folder / INDEX} is damaged or hostile: {told}"[:400]) from error
    return {n: Stored(shape, dtype, tuple(pieces[n])) for n, (shape, dtype) in wholes.items()}


def _header(folder: Path, file: str) -> list[tuple[str, Piece, torch.dtype]]:
    found = []
    with safe_open(folder / file, framework="pt") as opened:
        places = json.loads((opened.metadata() or {})[_PLACES])
        for name in opened.keys():
            part = opened.get_slice(name)
            shape, start = _sizes(part.get_shape()), _sizes(places[name]["saved_offsets"])
            found.append((name, Piece(start, shape, file), _STORED_DTYPES[part.get_dtype()]))
    return found


def empty_tensors(index: Mapping[str, Stored]) -> dict[str, Tensor]:
    """New tensors for `read_tensors` to fill; no larger than the files, as the index is checked."""
    return {name: torch.empty(stored.shape, dtype=stored.dtype) for name, stored in index.items()}


def read_tensors(folder: Path, index: Mapping[str, Stored], into: Mapping[str, Tensor]) -> None:
    """Fill tensors on the CPU from a folder, each rank its own part of those that are sharded.

    Names, shapes and dtypes must be those of the index. Raises DamagedError if a file cannot be
    read; some tensors may have been filled by then.
    """
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(into), _dcp_metadata({name: index[name] for name in into}), True)
    files = {(name, piece.start): piece.file for name in into for piece in index[name].pieces}
    wanted: dict[str, list[ReadItem]] = {}
    for item in planner.create_local_plan().items:
        key = item.storage_index.fqn, tuple(item.storage_index.offset)
        wanted.setdefault(files[key], []).append(item)
    for file, items in sorted(wanted.items()):
        try:
            with safe_open(folder / file, framework="pt") as opened, torch.no_grad():
                for item in items:
                    part = opened.get_slice(item.storage_index.fqn)
                    planner.resolve_tensor(item).copy_(_cut(part, item))
        except Exception as error:
            raise DamagedError(f"{folder / file} is damaged: {error}"[:400]) from error


def _cut(part: object, item: ReadItem) -> Tensor:
    """Of a slice of safetensors, which does not know tensors without axes or with none to give."""
    if not item.lengths:
        return part[...]
    places = zip(item.storage_offsets, item.lengths, strict=True)
    return part[tuple(slice(start, start + length) for start, length in places)]


def _check_covered(name: str, shape: tuple[int, ...], pieces: list[Piece]) -> None:
    """Every element in exactly one piece, or memory that was never written would be "loaded"."""
    for piece in pieces:
        if not len(piece.start) == len(piece.shape) == len(shape) or any(
            start + size > whole
            for start, size, whole in zip(piece.start, piece.shape, shape, strict=True)
        ):
            raise ValueError(f"{name!r} has a piece that lies outside")
    if sum(math.prod(piece.shape) for piece in pieces) != math.prod(shape):
        raise ValueError(f"{name!r} has pieces that do not make up the whole")
    filled = [piece for piece in pieces if math.prod(piece.shape)]
    if len(filled) < 2:
        return
    starts = torch.tensor([piece.start for piece in filled])
    ends = starts + torch.tensor([piece.shape for piece in filled])
    for i in range(len(filled) - 1):
        apart = (starts[i] >= ends[i + 1 :]) | (ends[i] <= starts[i + 1 :])
        if not apart.any(dim=1).all():
            raise ValueError(f"{name!r} has pieces that overlap")


def _sizes(values: object) -> tuple[int, ...]:
    """Whole numbers of a shape or a place."""
    good = isinstance(values, list) and len(values) <= 64
    if not good or not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise ValueError(f"{str(values)[:60]} is no shape")
    return tuple(values)


def _dcp_metadata(index: Mapping[str, Stored]) -> Metadata:
    """The same table in DCP's own classes, for its planner."""
    return Metadata(
        {
            name: TensorStorageMetadata(
                TensorProperties(stored.dtype),
                torch.Size(stored.shape),
                [
                    ChunkStorageMetadata(torch.Size(piece.start), torch.Size(piece.shape))
                    for piece in stored.pieces
                ],
            )
            for name, stored in index.items()
        }
    )
