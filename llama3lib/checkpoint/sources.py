"""The two kinds of folder behind one face: shapes first, then tensors one by one.

A source lists every tensor under our names with its shape and dtype before a byte of weights is
read, so that all that is wrong can be said at once and before memory is taken.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llama3lib.checkpoint import hf, meta
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.model import ModelArgs
from llama3lib.quant.quantize import Scheme
from llama3lib.utils.files import sha256_file
from llama3lib.utils.logging import get_logger

_log = get_logger(__name__)
CHECKSUMS = "checksums.json"
INDEX = "model.safetensors.index.json"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "F8_E4M3": torch.float8_e4m3fn,
}


class Source(Protocol):
    """A checkpoint that can be looked at and then read."""

    args: ModelArgs
    scheme: Scheme | None
    entries: dict[str, tuple[tuple[int, ...], torch.dtype]]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor in our layout, file by file."""
        ...


def open_source(path: Path, *, verify: bool = True) -> Source:
    """Decide by what lies in the folder. Raises CheckpointError if it is no checkpoint."""
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a folder")
    if verify:
        _verify_checksums(path)
    if (path / INDEX).is_file() or (path / "model.safetensors").is_file():
        return HuggingFaceSource(path)
    for folder in (path, path / "original"):
        if any(folder.glob("consolidated.*.pth")):
            return MetaSource(folder)
    if pickled := sorted([*path.glob("pytorch_model*.bin"), *path.glob("*.bin")]):
        raise CheckpointError(
            f"{pickled[0]} is a pickle, which can run code when it is read: "
            "convert it to safetensors first"
        )
    raise CheckpointError(
        f"{path} holds no model.safetensors, no {INDEX} and no consolidated.NN.pth"
    )


def read_args(path: Path) -> ModelArgs:
    """The shape of a model without touching its weights where that is possible."""
    if (path / "config.json").is_file():
        return hf.config_to_args(read_json(path / "config.json"), str(path / "config.json"))
    return open_source(path, verify=False).args


def read_json(path: Path) -> dict:
    """A JSON object. Raises CheckpointError naming the file and the place of the mistake."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


class HuggingFaceSource:
    """`config.json` and safetensors, in one file or sharded with an index."""

    def __init__(self, path: Path) -> None:
        config = read_json(path / "config.json")
        self.args = hf.config_to_args(config, str(path / "config.json"))
        self.scheme = hf.read_scheme(config, str(path / "config.json"))
        if unknown := hf.unknown_keys(config):
            _log.warning(
                "%s has keys that Llama has not; they are ignored: %s",
                path / "config.json",
                ", ".join(unknown),
            )
        self.entries = {}
        self._files: dict[Path, list[tuple[str, str]]] = {}
        index = self._index(path)
        unknown = []
        for file in sorted(set(index.values())) if index else ["model.safetensors"]:
            for name, shape, dtype in _header(path / file):
                ours = hf.from_hf_name(name)
                if ours is None:
                    if not name.endswith("rotary_emb.inv_freq"):  # written by old versions
                        unknown.append(name)
                    continue
                if (index and index.get(name) != file) or ours in self.entries:
                    raise CheckpointError(f"{path / file} holds {name}, which belongs elsewhere")
                self.entries[ours] = (shape, dtype)
                self._files.setdefault(path / file, []).append((name, ours))
        if unknown:
            raise CheckpointError(f"{path} has tensors that Llama has not: {_some(unknown)}")

    @staticmethod
    def _index(path: Path) -> dict[str, str] | None:
        if not (path / INDEX).is_file():
            return None
        index = read_json(path / INDEX).get("weight_map")
        if not isinstance(index, dict) or not index:
            raise CheckpointError(f"{path / INDEX} has no weight_map")
        for file in set(map(str, index.values())):
            plain = file.endswith(".safetensors") and file == Path(file).name and "\\" not in file
            if not plain:
                raise CheckpointError(
                    f"{path / INDEX} names {file!r}: a file in the folder is allowed"
                )
            if not (path / file).is_file():
                raise CheckpointError(f"{path / file} is missing: {INDEX} names it")
        return index

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for file, names in self._files.items():
            with _damaged(file), safe_open(file, framework="pt") as handle:
                for theirs, ours in names:
                    yield ours, hf.from_hf_tensor(ours, handle.get_tensor(theirs), self.args)


class MetaSource:
    """`params.json` and `consolidated.NN.pth`, one file per model-parallel rank."""

    scheme = None

    def __init__(self, path: Path) -> None:
        self._shards = meta.open_shards(path)
        first = self._shards[0]
        for i, shard in enumerate(self._shards):
            if shard.keys() != first.keys():
                odd = sorted(shard.keys() ^ first.keys())
                raise CheckpointError(f"{path}: shards 00 and {i:02d} differ in {_some(odd)}")
        params = read_json(path / "params.json")
        dim = params.get("dim")
        self._shapes = {name: self._merged_shape(name, dim) for name in first}
        embedding = self._shapes.get("tok_embeddings.weight")
        if embedding is None:
            raise CheckpointError(f"{path} lacks tok_embeddings.weight")
        self.args = meta.params_to_args(
            params, embedding[0], tied=self._is_tied(dim), source=str(path / "params.json")
        )
        self.entries = {
            name: (self._final_shape(name), shard_tensor.dtype)
            for name, shard_tensor in first.items()
        }

    def _merged_shape(self, name: str, dim: int) -> tuple[int, ...]:
        shapes = [shard[name].shape for shard in self._shards]
        cut = meta.cut_dimension(name, shapes, dim)
        shape = list(shapes[0])
        if cut is not None and cut < len(shape):
            shape[cut] = sum(s[cut] if cut < len(s) else 0 for s in shapes)
        return tuple(shape)

    def _final_shape(self, name: str) -> tuple[int, ...]:
        rows = self.args.n_kv_heads * self.args.head_dim
        shape = self._shapes[name]
        if name.endswith(("wk.weight", "wv.weight")) and shape[0] % rows == 0:
            return (rows, *shape[1:])
        return shape

    def _is_tied(self, dim: int) -> bool:
        if "output.weight" not in self._shards[0]:
            return True
        same_shape = self._shapes["output.weight"] == self._shapes["tok_embeddings.weight"]
        if not same_shape:
            return False
        names = ("output.weight", "tok_embeddings.weight")
        return torch.equal(*(self._merged(name, dim) for name in names))

    def _merged(self, name: str, dim: int) -> Tensor:
        return meta.merge(name, [shard[name] for shard in self._shards], dim)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in self._shapes:
            merged = self._merged(name, self.args.dim)
            yield name, meta.drop_repeated_heads(name, merged, self.args)


def _header(file: Path) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
    with _damaged(file), safe_open(file, framework="pt") as handle:
        for name in handle.keys():
            part = handle.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise CheckpointError(
                    f"{file}: {name} is stored as {part.get_dtype()}: "
                    f"{', '.join(_DTYPES)} are supported"
                )
            yield name, tuple(part.get_shape()), _DTYPES[part.get_dtype()]


@contextlib.contextmanager
def _damaged(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None


def _verify_checksums(path: Path) -> None:
    """Damage inside the weights has no other sign: a flipped bit is a number like any other."""
    if not (path / CHECKSUMS).is_file():
        return
    for name, wanted in read_json(path / CHECKSUMS).items():
        file = path / Path(name).name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing: {CHECKSUMS} names it")
        if sha256_file(file) != wanted:
            raise CheckpointError(f"{file} is damaged: its SHA-256 is not the one in {CHECKSUMS}")


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
