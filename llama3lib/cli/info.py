"""`llama3 info`: what models are made of and what they cost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from llama3lib.model import ModelArgs

_PARTS = ("embedding", "attention", "feed_forward", "norms", "output")


@dataclass(frozen=True, kw_only=True)
class Info:
    """Shape, parameters, cache and memory of models. Reads no weights: any size takes seconds."""

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="[MODEL ...]")] = ()
    """Presets (8B, 70B, 405B, ...), bundled checkpoints or folders; none lists the names."""
    seq_len: int = 8192
    """Tokens of a sequence, for FLOPs and training memory."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        print(table(self.models, seq_len=self.seq_len) if self.models else names())
        return 0


def find_args(name: str) -> "ModelArgs":
    """Shape of a checkpoint folder, a preset or a bundled checkpoint, looked for in this order.

    Raises ValueError if it is none of them, CheckpointError if the folder is not readable.
    """
    from llama3lib.checkpoint import CheckpointError, load_args
    from llama3lib.model import get_preset

    if Path(name).is_dir():
        return load_args(name)
    try:
        return get_preset(name)
    except ValueError as error:
        try:
            return load_args(name)
        except CheckpointError:
            raise ValueError(f"{name!r} is no folder, no bundled checkpoint, and {error}") from None


def names() -> str:
    """The presets with their sizes in parameters, one a line."""
    from llama3lib.model import PRESETS
    from llama3lib.model.flops import count_parameters

    lines = ["presets (8B, 70B, 405B mean 3.1; 1B, 3B mean 3.2):"]
    lines += [f"  {name:14} {count_parameters(a).total:>19,}" for name, a in PRESETS.items()]
    return "\n".join(lines)


def table(models: Sequence[str], *, seq_len: int) -> str:
    """One column per model. Raises ValueError on an unknown name or seq_len below 1."""
    columns = [column(find_args(name), seq_len=seq_len) for name in models]
    labels = list(columns[0])
    left = max(map(len, labels))
    widths = [
        max(len(name), *(len(value) for value in values.values()))
        for name, values in zip(models, columns, strict=True)
    ]

    def line(label: str, cells: Sequence[str]) -> str:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return "  ".join([f"{label:{left}}", *padded]).rstrip()

    lines = [line("", list(models))]
    lines += [line(label, [values[label] for values in columns]) for label in labels]
    return "\n".join(lines)


def column(args: "ModelArgs", *, seq_len: int) -> dict[str, str]:
    """Everything about one model by label, numbers as text. GB are 10^9 bytes."""
    from llama3lib.model.flops import (
        count_parameters,
        flops_per_token,
        kv_cache_bytes,
        training_memory,
    )

    count = count_parameters(args)
    training = training_memory(args, seq_len=seq_len, checkpointing=True)
    flops = flops_per_token(args, seq_len)
    scaling = args.rope_scaling
    rows: dict[str, object] = {
        "width": args.dim,
        "layers": args.n_layers,
        "query heads": args.n_heads,
        "key/value heads": args.n_kv_heads,
        "head size": args.head_dim,
        "feed-forward width": args.ffn_dim,
        "vocabulary": args.vocab_size,
        "longest context": args.max_seq_len,
        "RoPE base": args.rope_theta,
        "RoPE scaling": f"{scaling.factor:g}x" if scaling else "none",
        "output matrix": "tied" if args.tie_embeddings else "own",
    }
    for part in _PARTS:
        label = f"parameters: {part.replace('_', '-')}"
        rows[label] = f"{getattr(count, part):,} {count.share(part):6.1%}"
    rows |= {
        # the share column of the parts is left free, so that the digits stand in line
        "parameters: total": f"{count.total:,}{'':7}",
        "weights in bfloat16, GB": _gb(2 * count.total),
        "KV cache per token in bfloat16, bytes": kv_cache_bytes(args),
        "KV cache of the longest context, GB": _gb(kv_cache_bytes(args, args.max_seq_len)),
        f"GFLOP per token, forward, at {seq_len:,}": f"{flops.forward / 1e9:,.2f}",
        f"training memory, one sequence of {seq_len:,}, GB": _gb(training.total),
        "  weights, gradients, AdamW moments (float32)": _gb(
            training.weights + training.gradients + training.optimizer
        ),
        "  activations (bfloat16, recomputed per block)": _gb(training.activations),
        "built without memory (meta device), seconds": f"{meta_build_seconds(args):.2f}",
    }
    return {label: v if isinstance(v, str) else f"{v:,.0f}" for label, v in rows.items()}


def meta_build_seconds(args: "ModelArgs") -> float:
    """Build the real module tree without memory; its parameters must be as many as counted."""
    import torch

    from llama3lib.model import Transformer
    from llama3lib.model.flops import count_parameters

    start = time.perf_counter()
    with torch.device("meta"):
        model = Transformer(args)
    seconds = time.perf_counter() - start
    built = sum(p.numel() for p in model.parameters())
    assert built == count_parameters(args).total, (built, args)
    return seconds


def _gb(size: int) -> str:
    return f"{size / 1e9:,.3g}" if size < 1e9 else f"{size / 1e9:,.1f}"
