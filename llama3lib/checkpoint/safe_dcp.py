"""Folders of torch.distributed.checkpoint (DCP), read without trusting them.

DCP keeps its table of contents in `.metadata`, a pickle that its own reader unpickles, so whoever
can write that file can run a program. Here the table is read as plain data, each of its numbers is
checked against the files, and only then is memory taken. The tensors themselves lie in files as
`torch.save` writes them and are read with `weights_only=True`.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

from llama3lib.checkpoint.manifest import DamagedError
from llama3lib.checkpoint.plain_pickle import Call, Name, read_plain_pickle

INDEX = ".metadata"
_MOST_DIMENSIONS = 64  # of a tensor, in torch
DTYPES = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 "
        "complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
    ).split()
}
_PARTS = "torch.distributed.checkpoint.metadata."
_STORED_AT = "torch.distributed.checkpoint.filesystem._StorageInfo"
_NAMES = frozenset(
    [
        *DTYPES,
        "torch.Size",
        "torch.serialization._get_layout",
        f"{_PARTS}Metadata",
        f"{_PARTS}MetadataIndex",
        f"{_PARTS}StorageMeta",
        f"{_PARTS}TensorStorageMetadata",
        f"{_PARTS}TensorProperties",
        f"{_PARTS}ChunkStorageMetadata",
        f"{_PARTS}_MEM_FORMAT_ENCODING",
        _STORED_AT,
    ]
)


@dataclass(frozen=True)
class Piece:
    """A part of a tensor: which one, and the bytes of a file that hold it."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class Stored:
    """A tensor as the table of contents describes it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[Piece, ...]


def read_index(folder: Path, sizes: Mapping[str, int]) -> dict[str, Stored]:
    """The tensors of a DCP folder by name, from its `.metadata`.

    sizes: bytes of each file there may be. Raises DamagedError if the table holds anything but
    tensors, or names bytes that are not there, bytes twice, or not every part of a tensor.
    """
    file = folder / INDEX
    try:
        return _index(read_plain_pickle(file.read_bytes(), _NAMES), sizes)
    except OSError as error:
        raise DamagedError(f"{file} cannot be read: {error}") from error
    except KeyError as error:
        raise DamagedError(f"{file} is damaged or hostile: it lacks {error}"[:400]) from None
    except (ValueError, TypeError) as error:
        raise DamagedError(f"{file} is damaged or hostile: {error}"[:400]) from None


def empty_tensors(index: Mapping[str, Stored]) -> dict[str, Tensor]:
    """New tensors for `read_tensors` to fill; no larger than the files, as the index is checked."""
    return {name: torch.empty(stored.shape, dtype=stored.dtype) for name, stored in index.items()}


def read_tensors(folder: Path, index: Mapping[str, Stored], into: Mapping[str, Tensor]) -> None:
    """Fill tensors on the CPU from a folder, each rank its own part of those that are sharded.

    Names, shapes and dtypes must be those of the index. Raises DamagedError if a file holds
    something else than the index says; some tensors may have been filled by then.
    """
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(into), _dcp_metadata({name: index[name] for name in into}), True)
    wanted: dict[tuple, list[ReadItem]] = {}
    for item in planner.create_local_plan().items:
        if item.type is not LoadItemType.TENSOR:
            raise DamagedError(f"{folder / INDEX}: {item.dest_index.fqn} is not a tensor")
        key = (item.storage_index.fqn, tuple(item.storage_index.offset))
        wanted.setdefault(key, []).append(item)
    pieces = {(name, piece.start): piece for name in into for piece in index[name].pieces}
    for key in sorted(wanted, key=lambda key: (pieces[key].file, pieces[key].offset)):
        tensor = _read_piece(folder, pieces[key], index[key[0]].dtype, key[0])
        for item in wanted[key]:
            part = tensor
            for axis, start in enumerate(item.storage_offsets):
                part = part.narrow(axis, start, item.lengths[axis])
            with torch.no_grad():
                planner.resolve_tensor(item).copy_(part)


def _read_piece(folder: Path, piece: Piece, dtype: torch.dtype, name: str) -> Tensor:
    file = folder / piece.file
    try:
        with open(file, "rb") as stream:
            stream.seek(piece.offset)
            raw = stream.read(piece.length)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            packed = {entry.compress_type for entry in archive.infolist()}
        # a compressed entry can be a thousand times its size; old formats are no archives
        if packed != {zipfile.ZIP_STORED} or not raw.startswith(b"PK\x03\x04"):
            raise ValueError("not what torch.save writes")
        tensor = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load answers damage with many kinds of error
        raise DamagedError(f"{file} is damaged at {name}: {error}"[:400]) from error
    plain = type(tensor) is Tensor and tensor.layout is torch.strided and tensor.is_cpu
    if not plain or tensor.dtype != dtype or tuple(tensor.shape) != piece.shape:
        raise DamagedError(f"{file} holds something else than {name}, {dtype} {piece.shape}")
    return tensor


def _index(root: object, sizes: Mapping[str, int]) -> dict[str, Stored]:
    state = _state(root, "Metadata")
    places = {}
    for key, value in _dictionary(state["storage_data"]).items():
        named = _state(key, "MetadataIndex")
        place = (_text(named["fqn"]), _sizes(named["offset"]))
        if place in places:
            raise ValueError(f"{place} is stored twice")
        places[place] = _place(value, sizes)
    _check_bytes_once(places.values())
    index = {}
    for name, value in _dictionary(state["state_dict_metadata"]).items():
        index[_text(name)] = _stored(name, value, places)
    if places:
        raise ValueError(f"{next(iter(places))} belongs to no tensor")
    return index


def _stored(name: str, value: object, places: dict[tuple, tuple[str, int, int]]) -> Stored:
    """One tensor; its pieces are taken out of `places`."""
    state = _state(value, "TensorStorageMetadata")
    shape = _sizes(state["size"])
    dtype = _dtype(state["properties"])
    pieces = []
    for chunk in _list(state["chunks"]):
        part = _state(chunk, "ChunkStorageMetadata")
        start, size = _sizes(part["offsets"]), _sizes(part["sizes"])
        if (name, start) not in places:
            raise ValueError(f"{name!r} at {start} is stored nowhere")
        piece = Piece(start, size, *places.pop((name, start)))
        if math.prod(size) * dtype.itemsize > piece.length:
            raise ValueError(f"{name!r} takes more bytes than are stored")
        pieces.append(piece)
    _check_covered(name, shape, pieces)
    return Stored(shape, dtype, tuple(pieces))


def _check_covered(name: str, shape: tuple[int, ...], pieces: list[Piece]) -> None:
    """Every element in exactly one piece, or memory that was never written would be "loaded"."""
    for piece in pieces:
        if not len(piece.start) == len(piece.shape) == len(shape) or any(
            start + size > whole
            for start, size, whole in zip(piece.start, piece.shape, shape, strict=True)
        ):
            raise ValueError(f"{name!r} has a piece that lies outside")
    if not pieces or sum(math.prod(piece.shape) for piece in pieces) != math.prod(shape):
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


def _check_bytes_once(places: Iterable[tuple[str, int, int]]) -> None:
    """No byte belongs to two pieces: so all pieces together are no larger than the files."""
    end: dict[str, int] = {}
    for file, offset, length in sorted(places):
        if offset < end.get(file, 0):
            raise ValueError(f"{file} at {offset} is named twice")
        end[file] = offset + length


def _place(value: object, sizes: Mapping[str, int]) -> tuple[str, int, int]:
    state = _state(value, _STORED_AT)
    if state.keys() - {"transform_descriptors"} != {"relative_path", "offset", "length"}:
        raise ValueError("a piece has other fields than file, offset and length")
    if state.get("transform_descriptors"):
        raise ValueError("compressed or transformed pieces are not supported")
    file = _text(state["relative_path"])
    offset, length = _whole(state["offset"]), _whole(state["length"])
    if file not in sizes or offset + length > sizes[file]:
        raise ValueError(f"{file[:60]!r} has no bytes {offset} to {offset + length}")
    return file, offset, length


def _dtype(value: object) -> torch.dtype:
    if type(value) is not Call or value.name.path != f"{_PARTS}TensorProperties":
        raise ValueError("a tensor has no properties")
    state = value.state
    if type(state) is not tuple or len(state) < 2 or type(state[0]) is not Name:
        raise ValueError("a tensor has no dtype")
    layout = state[1]
    if type(layout) is not Call or layout.arguments != ("torch.strided",):
        raise ValueError("a tensor is sparse: only dense ones are supported")
    return DTYPES[state[0].path]


def _state(value: object, name: str) -> dict:
    path = name if "." in name else _PARTS + name
    if type(value) is not Call or value.name.path != path or value.arguments:
        raise ValueError(f"an entry is no {name}")
    return _dictionary(value.state)


def _sizes(value: object) -> tuple[int, ...]:
    """The numbers of a torch.Size."""
    whole = type(value) is Call and value.name.path == "torch.Size" and len(value.arguments) == 1
    numbers = value.arguments[0] if whole else None
    if type(numbers) is not tuple or len(numbers) > _MOST_DIMENSIONS:
        raise ValueError("a shape is not written as one")
    return tuple(_whole(number) for number in numbers)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a size or a place is not a whole number below 2**63")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("a name is not text")
    return value


def _list(value: object) -> list:
    if type(value) is not list:
        raise ValueError("an entry is not a list")
    return value


def _dictionary(value: object) -> dict:
    if type(value) is not dict or (value and type(next(iter(value))) not in (str, Call)):
        raise ValueError("an entry is not a dictionary")
    return value


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
