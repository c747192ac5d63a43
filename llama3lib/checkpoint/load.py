"""From a folder to a model: everything is checked first, then filled tensor by tensor."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.sources import Source, open_source, read_args
from llama3lib.model import ModelArgs, Transformer
from llama3lib.quant.quantize import Scheme, empty_linear, quantized_paths
from llama3lib.tokenizer import Tokenizer
from llama3lib.tokenizer.rules import has_chat_template
from llama3lib.utils.device import as_dtype

_Entry = tuple[tuple[int, ...], torch.dtype | None]
_PLAIN = torch.contiguous_format
_ASSETS = Path(__file__).parent.parent / "assets"


class ModelShare(Protocol):
    """What one of several ranks holds of a model."""

    def cut(self, model: Transformer) -> Transformer:
        """Its part; the model is on the meta device."""

    def parts(self, name: str, tensor: Tensor, *, tied: bool) -> Iterator[tuple[str, Tensor]]:
        """What the part may have of a tensor of the whole model, by its name there."""


def bundled_path(name: str) -> Path:
    """Folder of a checkpoint that comes with the package, such as "tiny-base".

    Raises CheckpointError listing the ones there are.
    """
    path = _ASSETS / name
    if not (path.parent == _ASSETS and (path / "config.json").is_file()):
        known = sorted(p.parent.name for p in _ASSETS.glob("*/config.json"))
        raise CheckpointError(
            f"{name!r} is neither a folder nor one of the bundled checkpoints: {', '.join(known)}"
        )
    return path


def load_args(path: str | Path) -> ModelArgs:
    """The shape of the model in a folder (or of a bundled one), without reading its weights."""
    return read_args(_folder(path))


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a file, a folder or a bundled checkpoint.

    The released one for "llama3", plain bytes for "bytes".
    Raises FileNotFoundError or ValueError naming the file.
    """
    named = {"llama3": Tokenizer.llama3, "bytes": Tokenizer.of_bytes}.get(str(path).lower())
    if named is not None and not Path(path).exists():
        return named()
    return Tokenizer.from_file(_folder(path))


def is_chat_model(path: str | Path) -> bool:
    """True if a checkpoint says that it was trained on dialogs.

    Weights do not show it. A chat template (Hugging Face) says so, or `"kind": "chat"` in our own
    `provenance.json`; Meta's layout has no place for it.
    """
    folder = _folder(path)
    return has_chat_template(folder) or _read_json(folder / "provenance.json").get("kind") == "chat"


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
    max_seq_len: int | None = None,
    verify: bool = True,
    share: ModelShare | None = None,
) -> Transformer:
    """A model in evaluation mode from a Hugging Face or Meta folder, or a bundled name.

    dtype: of the weights, also by its name, "bfloat16"; as they are stored if left out. Matrices
    that `save_hf` has stored in fewer bits keep them, and give the same results to the last bit.
    max_seq_len: another length of the position table.
    verify: compare files with `checksums.json` where the folder has one.
    share: what to keep of it, such as that of a rank of an engine; the rest takes no memory.

    Every name, shape and dtype is checked before memory is taken, and tensors are then read one
    at a time: the peak is the model and one tensor. No code in a file is ever run.
    Raises CheckpointError listing all that is wrong; a half-filled model is never returned.
    """
    dtype = dtype and as_dtype(dtype)
    source = open_source(_folder(path), verify=verify)
    args = source.args if max_seq_len is None else source.args.replace(max_seq_len=max_seq_len)
    if source.scheme == "int4" and torch.device(device).type != "cpu":
        raise ValueError(f"device={str(device)!r} is not allowed: 4-bit products need a CPU")
    with torch.device("meta"):
        model = Transformer(args)
    few_bits = _take_out(model, source.scheme)
    wanted = {name: (tuple(p.shape), None) for name, p in model.named_parameters()} | few_bits
    repeated = _check(wanted, source, tied=args.tie_embeddings)
    if dtype is None:
        dtypes = {found for name, (_, found) in source.entries.items() if name not in few_bits}
        dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    if share is not None:
        model = share.cut(model)
    model.to(dtype).to_empty(device=device)
    _fill(model, source, repeated, few_bits, device, share)
    return model.requires_grad_(source.scheme is None).eval()


def _take_out(model: Transformer, scheme: Scheme | None) -> dict[str, _Entry]:
    """Take out the matrices that are quantised; returns what is stored of them."""
    entries = {}
    for path in quantized_paths(model.args, scheme) if scheme else ():
        parent, _, name = path.rpartition(".")
        rows, columns = model.get_submodule(path).weight.shape
        layout = empty_linear(scheme).layout(rows, columns)
        entries |= {f"{path}.{suffix}": entry for suffix, entry in layout.items()}
        setattr(model.get_submodule(parent), name, None)
    return entries


def _check(wanted: dict[str, _Entry], source: Source, *, tied: bool) -> bool:
    """Compare names, shapes, dtypes; True if a tied output matrix is stored a second time."""
    found = {name: shape for name, (shape, _) in source.entries.items()}
    repeated = tied and "output.weight" in found and "output.weight" not in wanted
    if repeated:
        found = dict(found)
        if found.pop("output.weight") != wanted["tok_embeddings.weight"][0]:
            raise CheckpointError(
                "output.weight is tied to tok_embeddings.weight but has another shape"
            )
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is not expected" for name in found if name not in wanted]
    wrong += [
        f"{name} has shape {list(found[name])}, {list(shape)} is expected"
        for name, (shape, _) in wanted.items()
        if name in found and found[name] != shape
    ]
    floats = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    wrong += [
        f"{name} is stored as {dtype}, {exact or 'a floating-point number'} is expected"
        for name, (_, dtype) in source.entries.items()
        for exact in [wanted.get(name, (None, None))[1]]
        if dtype not in ((exact,) if exact else floats)
    ]
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise CheckpointError("the weights do not fit: " + "; ".join(wrong[:8]) + more)
    return repeated


@torch.no_grad()
def _fill(
    model: Transformer,
    source: Source,
    repeated: bool,
    few_bits: dict[str, _Entry],
    device: torch.device | str,
    share: ModelShare | None,
) -> None:
    parameters = dict(model.named_parameters())
    here = {name for name, _ in model.named_modules()}
    second = None
    matrices: dict[str, dict[str, Tensor]] = {}
    for name, tensor in source.tensors():
        if repeated and name == "output.weight":
            second = tensor
            continue
        if name in few_bits:
            path, _, suffix = name.rpartition(".")
            at_end = path == "output" and model.norm is None  # of a stage that is not the last
            if path.rpartition(".")[0] in here and not at_end:
                # a copy: what is read may lie in the file, where some kernels crash on odd places
                matrices.setdefault(path, {})[suffix] = tensor.clone(memory_format=_PLAIN)
            continue
        if share is None:
            parameters[name].copy_(tensor)
            continue
        for own, part in share.parts(name, tensor, tied=source.args.tie_embeddings):
            if own in parameters:
                parameters[own].copy_(part)
    for path, parts in matrices.items():
        parent, _, name = path.rpartition(".")
        matrix = empty_linear(source.scheme).restored(parts).to(device)
        setattr(model.get_submodule(parent), name, matrix)
    if second is not None and model.tok_embeddings is not None:
        embedding = model.tok_embeddings.weight
        if not torch.equal(embedding, second.to(embedding.device, embedding.dtype)):
            raise CheckpointError(
                "output.weight differs from tok_embeddings.weight, but the config says "
                "they are tied"
            )


def _folder(path: str | Path) -> Path:
    return Path(path) if Path(path).exists() else bundled_path(str(path))


def _read_json(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
