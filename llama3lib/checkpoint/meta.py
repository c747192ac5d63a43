"""Meta's own layout: `params.json` and one `consolidated.NN.pth` per model-parallel rank."""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.model import ModelArgs, RopeScaling, ffn_dim_from_rule
from llama3lib.utils.require import require

_REQUIRED = ("dim", "n_layers", "n_heads", "norm_eps")
_KNOWN = frozenset(
    (*_REQUIRED, "n_kv_heads", "vocab_size", "multiple_of", "ffn_dim_multiplier", "rope_theta")
    + ("use_scaled_rope", "rope_scaling_factor", "rope_high_freq_factor", "max_seq_len")
)
_BY_ROWS = ("wq.weight", "wk.weight", "wv.weight", "w1.weight", "w3.weight", "output.weight")
_BY_COLUMNS = ("wo.weight", "w2.weight")
# multiplier and multiple_of of the released models, tried before an odd pair is made up
_RULES = ((1.3, 1024), (1.3, 4096), (1.2, 4096), (1.5, 256), (1.0, 256))


def params_to_args(params: dict, vocab_rows: int, *, tied: bool, source: str) -> ModelArgs:
    """Read `params.json`. `vocab_rows` (from the weights) stands in for a vocab_size of -1.

    `use_scaled_rope` means a factor of 8 unless the file says otherwise, as in the released
    code. Footgun: the 1B and 3B of Llama 3.2 are packaged for transformers with 32.
    Raises CheckpointError naming keys that are missing, unknown or wrong.
    """
    if not isinstance(params, dict):
        raise CheckpointError(f"{source} is not a JSON object")
    if unknown := sorted(params.keys() - _KNOWN):
        raise CheckpointError(f"{source} has unknown keys: {', '.join(unknown)}")
    if missing := [key for key in _REQUIRED if key not in params]:
        raise CheckpointError(f"{source} lacks {', '.join(missing)}")
    scaling = None
    if params.get("use_scaled_rope"):
        scaling = RopeScaling(
            factor=float(params.get("rope_scaling_factor") or 8),
            high_freq_factor=float(params.get("rope_high_freq_factor") or 4),
        )
    vocab_size = params.get("vocab_size", -1)
    multiplier = params.get("ffn_dim_multiplier")
    try:
        return ModelArgs(
            dim=params["dim"],
            n_layers=params["n_layers"],
            n_heads=params["n_heads"],
            n_kv_heads=params.get("n_kv_heads") or params["n_heads"],
            ffn_dim=ffn_dim_from_rule(
                params["dim"], multiplier or 1.0, params.get("multiple_of", 256)
            ),
            vocab_size=vocab_rows if vocab_size == -1 else vocab_size,
            norm_eps=params["norm_eps"],
            rope_theta=float(params.get("rope_theta", 10_000.0)),
            rope_scaling=scaling,
            max_seq_len=params.get("max_seq_len") or (131_072 if scaling else 8192),
            tie_embeddings=tied,
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from None


def args_to_params(args: ModelArgs) -> dict:
    """`params.json` of a model. Raises ValueError if Meta's format cannot say what it is."""
    if args.head_dim * args.n_heads != args.dim:
        raise ValueError(f"head_dim={args.head_dim} does not fit Meta's format: dim / n_heads is")
    params = {
        "dim": args.dim,
        "n_layers": args.n_layers,
        "n_heads": args.n_heads,
        "n_kv_heads": args.n_kv_heads,
        "vocab_size": args.vocab_size,
        "norm_eps": args.norm_eps,
        "rope_theta": args.rope_theta,
        "use_scaled_rope": args.rope_scaling is not None,
        "max_seq_len": args.max_seq_len,
    }
    for multiplier, multiple_of in _RULES:
        if ffn_dim_from_rule(args.dim, multiplier, multiple_of) == args.ffn_dim:
            break
    else:  # half a unit above, so that cutting to a whole number gives the width back
        multiplier, multiple_of = (args.ffn_dim + 0.5) / int(8 * args.dim / 3), 1
    params |= {"ffn_dim_multiplier": multiplier, "multiple_of": multiple_of}
    if (scaling := args.rope_scaling) is not None:
        if (scaling.low_freq_factor, scaling.original_max_seq_len) != (1.0, 8192):
            raise ValueError(f"rope_scaling={scaling} does not fit Meta's format")
        params["rope_scaling_factor"] = scaling.factor
        params["rope_high_freq_factor"] = scaling.high_freq_factor
    return params


def open_shards(folder: Path) -> list[dict[str, Tensor]]:
    """All shards in order, mapped into memory, not read. Never runs code from a file."""
    files = sorted(folder.glob("consolidated.*.pth"))
    expected = [f"consolidated.{i:02d}.pth" for i in range(len(files))]
    if [file.name for file in files] != expected:
        missing = sorted(set(expected) - {file.name for file in files})
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}")
    return [_open_shard(file) for file in files]


def _open_shard(file: Path) -> dict[str, Tensor]:
    try:
        shard = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{file} holds more than tensors: it is not opened") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    good = isinstance(shard, dict) and all(isinstance(v, Tensor) for v in shard.values())
    if not good:
        raise CheckpointError(f"{file} is not a dictionary of tensors")
    return {name: tensor for name, tensor in shard.items() if name != "rope.freqs"}


def cut_dimension(name: str, shapes: list[torch.Size], dim: int) -> int | None:
    """Along which dimension model parallelism cut a tensor; None: every rank has it whole.

    Llama 3 cuts the embedding by rows of the vocabulary, older models by columns.
    """
    if name.endswith(_BY_ROWS):
        return 0
    if name.endswith(_BY_COLUMNS):
        return 1
    if name == "tok_embeddings.weight":
        return 0 if shapes[0][-1] == dim else 1
    return None


def merge(name: str, parts: list[Tensor], dim: int) -> Tensor:
    """One whole tensor from the ranks' parts."""
    cut = cut_dimension(name, [part.shape for part in parts], dim)
    if cut is not None:
        return torch.cat(parts, dim=cut) if len(parts) > 1 else parts[0]
    if any(not torch.equal(part, parts[0]) for part in parts[1:]):
        raise CheckpointError(f"{name} must be the same in every shard, but differs")
    return parts[0]


def split(name: str, tensor: Tensor, ranks: int) -> list[Tensor]:
    """The ranks' parts of a whole tensor, as Llama 3 cuts it."""
    cut = 0 if name == "tok_embeddings.weight" else cut_dimension(name, [tensor.shape], -1)
    if cut is None:
        return [tensor] * ranks
    ok = tensor.shape[cut] % ranks == 0
    require(ok, "model_parallel", ranks, f"{name} has {tensor.shape[cut]} to share out")
    return [part.clone() for part in tensor.chunk(ranks, dim=cut)]


def drop_repeated_heads(name: str, tensor: Tensor, args: ModelArgs) -> Tensor:
    """With more ranks than key/value heads each head is stored several times: keep one."""
    rows = args.n_kv_heads * args.head_dim
    if not name.endswith(("wk.weight", "wv.weight")) or tensor.shape[0] == rows:
        return tensor
    if tensor.shape[0] % rows:
        return tensor  # a wrong shape, reported with all the others
    copies = tensor.unflatten(0, (args.n_kv_heads, -1, args.head_dim))
    if not all(torch.equal(copies[:, 0], copies[:, i]) for i in range(copies.shape[1])):
        raise CheckpointError(
            f"{name}: n_kv_heads={args.n_kv_heads}, but the copies of heads differ"
        )
    return copies[:, 0].flatten(0, 1)
