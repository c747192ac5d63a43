"""A step of a run as a folder that transformers, vLLM and `load_model` open, with provenance."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llama3lib.checkpoint import (
    CheckpointManager,
    average_checkpoints,
    load_tokenizer,
    save_hf,
)
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.train.config import TrainConfig, make_config
from llama3lib.train.metrics import read_metrics
from llama3lib.train.state import config_of
from llama3lib.utils.files import sha256_file


def export(
    run_folder: str | Path,
    out: str | Path,
    *,
    step: int | None = None,
    phase: str | None = None,
    overwrite: bool = False,
    tokenizer: Tokenizer | None = None,
    notes: Mapping[str, Any] | None = None,
    plain: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict,
) -> None:
    """Write a step of a run, or the average of a phase, as a Hugging Face folder with provenance.

    tokenizer: instead of the recipe's, as one that also says how dialogs are written.
    notes: what else the provenance tells. plain: makes a model's weights of those that were
    trained, where these are others, such as adapters.

    Raises ValueError if there is no such step or phase, or the tokenizer is not there any more.
    """
    folder = Path(run_folder)
    manager = CheckpointManager(folder / "checkpoints", alone=True)
    steps = manager.steps()
    if not steps:
        raise ValueError(f"run={str(run_folder)!r} is not allowed: there is no checkpoint in it")
    step = steps[-1] if step is None else step
    if step not in steps:
        raise ValueError(f"step={step!r} is not allowed: one of {steps}")
    meta = manager.read_meta(step) or {}
    config = make_config(config_of(meta))
    kept = meta["state"].get("kept", {})
    if phase is None:
        weights = manager.load_tensors(step, "model")
    else:
        if phase not in kept:
            raise ValueError(
                f"phase={phase!r} is not allowed: weights were kept of {sorted(kept) or 'none'}"
            )
        every = CheckpointManager(folder / "weights" / phase, alone=True)
        weights = average_checkpoints(every, kept[phase])
    model = _model(config, plain(weights), meta["state"]["place"]["phase"])
    tokenizer = tokenizer or _tokenizer(config, meta["state"].get("tokenizer"))
    save_hf(model, out, tokenizer=tokenizer, overwrite=overwrite)
    _write_provenance(folder, Path(out), config, meta, step, phase, notes or {})


def _tokenizer(config: TrainConfig, digest: str | None) -> Tokenizer | None:
    """That of the run's tokens; None for tokens that are no text, such as those of a lesson."""
    if digest is None and config.tokenizer == "bytes":
        return None
    tokenizer = load_tokenizer(config.tokenizer)
    if digest not in (None, tokenizer.digest):
        raise ValueError(
            f"tokenizer={config.tokenizer!r} is not allowed: it is another one than in training"
        )
    return tokenizer


def _model(config: TrainConfig, weights: dict[str, torch.Tensor], phase: int) -> Transformer:
    begun = config.phases[: phase + 1]
    thetas = [p.rope_theta for p in begun if p.rope_theta] or [config.model.rope_theta]
    length = max(config.model.max_seq_len, *(p.length for p in begun))
    args = config.model.replace(rope_theta=thetas[-1], max_seq_len=length)
    with torch.device("meta"):
        model = Transformer(args)
    model.to_empty(device="cpu")
    model.load_state_dict(weights, strict=not args.tie_embeddings)
    return model


def _write_provenance(
    run_folder: Path,
    out: Path,
    config: TrainConfig,
    meta: dict[str, Any],
    step: int,
    phase: str | None,
    notes: Mapping[str, Any],
) -> None:
    """Where the weights come from: recipe, data, losses."""
    rows = [row for row in read_metrics(run_folder) if row["step"] <= step]
    held_out = [row["held_out_loss"] for row in rows if "held_out_loss" in row]
    losses = [row["loss"] for row in rows if "loss" in row]
    digests = meta["state"].get("data", {})
    data = {}
    for name, source in config.data.items():
        given = {k: v for k, v in dataclasses.asdict(source).items() if v is not None}
        del given["most_left_out"]
        data[name] = given | {"tokens_sha256": digests.get(name)}
    weights = out / "model.safetensors"
    provenance = {
        "made_by": "llama3 train",
        "recipe": config_of(meta),
        "data": data,
        "step": step,
        "averaged_phase": phase,
        "tokens": meta["state"]["tokens"],
        "train_loss_of_last_steps": _mean(losses[-50:]),
        "held_out_loss": held_out[-1] if held_out and phase is None else None,
        "weights_sha256": sha256_file(weights) if weights.is_file() else None,
        "torch": torch.__version__,
        **notes,
    }
    text = json.dumps(provenance, indent=2, ensure_ascii=False) + "\n"
    (out / "provenance.json").write_text(text, encoding="utf-8", newline="\n")


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
