"""What `llama3 train` and `llama3 export` do: plan, train with a progress bar, hand over."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llama3lib.checkpoint import CheckpointManager, average_checkpoints, save_hf
from llama3lib.data.packing import window_count
from llama3lib.data.tokens import TokenShard
from llama3lib.eval import GateReport, LongContextGate, city_needle, held_out_loss, needle_grid
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.train.config import (
    HELD_OUT,
    Phase,
    TrainConfig,
    load_config,
    make_config,
    recipe_path,
)
from llama3lib.train.metrics import read_metrics
from llama3lib.train.plan import Plan, has_hardware, make_plan, room_here
from llama3lib.train.reference_curves import (
    ReferenceCurve,
    load_reference_curve,
    reference_curve_names,
)
from llama3lib.train.sources import open_sources, open_tokenizer
from llama3lib.train.state import config_of
from llama3lib.train.trainer import DivergedError, StoppedError, Trainer
from llama3lib.utils.files import sha256_file

_HELD_OUT_WINDOWS = 32
_DEPTHS = (0.0, 0.5, 1.0)


def recipe_text(name: str) -> str:
    """The text of a recipe, checked."""
    load_config(name)
    return recipe_path(name).read_text(encoding="utf-8")


def run(recipe: str, out: str, changes: Sequence[str], *, dry_run: bool, tensorboard: bool) -> int:
    """Tell the plan, train, export; returns the exit code.

    Raises ValueError for a wrong recipe, or one that this machine cannot run.
    """
    config = load_config(recipe, changes)
    plan = make_plan(config)
    print(f"{config.title} ({recipe})")
    print("\n".join(plan.lines()))
    if line := expected(config):
        print(line)
    if dry_run:
        return 0
    _must_fit(config, plan)
    folder = Path(out)
    _must_be_a_run(folder)
    sources = open_sources(config, folder / "data")
    trainer = Trainer(
        config,
        sources,
        folder,
        gate=_gate(config, sources, folder) if any(p.gate for p in config.phases) else None,
        evaluate=_evaluation(config, sources),
        tensorboard=tensorboard,
    )
    if done := trainer.state.place.step:
        print(f"goes on after step {done:,}")
    return _train(trainer, plan, folder)


def _train(trainer: Trainer, plan: Plan, folder: Path) -> int:
    bar = tqdm(
        total=plan.steps,
        initial=trainer.state.place.step,
        unit="step",
        disable=not sys.stderr.isatty(),
    )

    def on_step(record: dict[str, Any]) -> None:
        bar.update()
        told = {"loss": f"{record['loss']:.3f}", "tokens/s": f"{record['tokens_per_s']:.0f}"}
        bar.set_postfix(phase=record["phase"], **told, refresh=False)

    try:
        with bar:
            result = trainer.fit(on_step)
    except KeyboardInterrupt:
        saved = trainer.checkpoints.steps()
        print(f"stopped; saved after step {saved[-1]:,}." if saved else "stopped; nothing saved.")
        print("The same line goes on from there.")
        return 130
    except (DivergedError, StoppedError) as error:
        print(f"llama3: {error}", file=sys.stderr)
        return 1
    print(f"{result.steps:,} steps, {result.tokens:,} tokens, last loss {result.loss:.3f}")
    print(f"loss spikes: {result.spikes}")
    if line := against_band(trainer.config, folder):
        print(line)
    export(str(folder), str(folder / "model"), overwrite=True)
    for phase in result.averaged:
        export(str(folder), str(folder / f"averaged-{phase}"), phase=phase, overwrite=True)
    return 0


def expected(config: TrainConfig) -> str:
    """The last loss that the recipe gave on other seeds; "" if nobody has measured it."""
    band = _band(config)
    if band is None:
        return ""
    return (
        f"last loss   {band.mean[-1]:.3f} ({band.low[-1]:.3f} to {band.high[-1]:.3f} "
        f"on {len(band.seeds)} seeds)"
    )


def against_band(config: TrainConfig, folder: Path) -> str:
    """How a finished run compares with its reference band; "" without one."""
    band = _band(config)
    if band is None:
        return ""
    losses = [row["loss"] for row in read_metrics(folder) if "loss" in row]
    if len(losses) < band.steps[0]:
        return ""
    found = band.compare(losses)
    return f"{found.share:.0%} of the curve is inside the reference band"


def _band(config: TrainConfig) -> ReferenceCurve | None:
    """The reference band; None without one, or if what makes the curve is not as it was then."""
    if config.reference not in reference_curve_names():
        return None
    band = load_reference_curve(config.reference)
    measured = load_config(band.recipe)
    names = ("model", "data", "tokenizer", "phases", "optimizer", "document_mask")
    same = all(getattr(config, name) == getattr(measured, name) for name in names)
    return band if same else None


def _must_be_a_run(folder: Path) -> None:
    """Raises ValueError for a folder of other things: a run replaces what is in its way."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"RUN={str(folder)!r} is not allowed: it is a file")
    there = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    try:
        ours = "phases" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours and there - {"data"}:  # the data are written first
        odd = sorted(there - {"data"})[0]
        raise ValueError(f"RUN={str(folder)!r} is not allowed: {odd!r} in it is not of a run")


def _must_fit(config: TrainConfig, plan: Plan) -> None:
    if not has_hardware(config):
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ValueError(
            f"gpus={config.gpus} is what this recipe needs, here are {here}; "
            "--dry-run shows its plan, --set gpus=0 runs it on what is here"
        )
    if config.gpus > 1:
        raise ValueError(f"gpus={config.gpus} is not allowed: this trainer runs on one device")
    room = room_here()
    if room is not None and plan.memory.total > room:
        raise ValueError(
            f"the run needs {plan.memory.total / 1e9:.1f} GB, here are {room / 1e9:.1f}: "
            "set micro_batch lower or checkpointing = true"
        )


def _evaluation(
    config: TrainConfig, sources: dict[str, TokenShard]
) -> Callable[[Transformer], dict[str, float]] | None:
    """Loss on the held-out text, at the length of the first phase."""
    if HELD_OUT not in sources:
        return None
    shard, length = sources[HELD_OUT], config.phases[0].length
    try:
        windows = min(_HELD_OUT_WINDOWS, window_count(shard, length))
    except ValueError as error:
        raise ValueError(f"held_out is not allowed: {error}") from None

    def evaluate(model: Transformer) -> dict[str, float]:
        return {"held_out_loss": held_out_loss(model, shard, length, windows=windows).mean}

    return evaluate


def _gate(
    config: TrainConfig, sources: dict[str, TokenShard], folder: Path
) -> Callable[[Transformer, Phase], GateReport]:
    """Section 3.4.2: the short text is read as well as before, the needle is found everywhere.

    As before: the held-out loss at the end of the phase before the first one with a gate, as the
    log has it, so that a run that was interrupted has the same; the loss now if there is none.
    """
    tokenizer = open_tokenizer(config.tokenizer)
    evaluate = _evaluation(config, sources)
    if tokenizer is None or evaluate is None:
        raise ValueError("gate=true is not allowed: it needs a tokenizer and held_out text")
    texts = _plain_texts(sources[HELD_OUT], tokenizer)
    needles = [city_needle(seed) for seed in range(3)]

    def gate(model: Transformer, phase: Phase) -> GateReport:
        loss = evaluate(model)["held_out_loss"]
        before = config.gate_reference
        before = _loss_before_gates(config, folder) if before is None else before
        reference = loss if before is None else before
        grid = needle_grid(model, tokenizer, texts, needles, lengths=[phase.length], depths=_DEPTHS)
        return LongContextGate(reference_loss=reference).check(loss, grid, phase.length)

    return gate


def _plain_texts(shard: TokenShard, tokenizer: Tokenizer) -> list[str]:
    """The first documents, without the tokens at both ends, which are no text."""
    documents = (shard.document(n) for n in range(min(20, shard.index["documents"])))
    return [tokenizer.decode(document[1:-1].tolist()) for document in documents]


def _loss_before_gates(config: TrainConfig, folder: Path) -> float | None:
    """The last held-out loss before the first phase with a gate; None if it is the first."""
    first = next(phase.name for phase in config.phases if phase.gate)
    found = None
    for row in read_metrics(folder):
        if row.get("phase") == first:
            break
        found = row.get("held_out_loss", found)
    return found


def export(
    run_folder: str,
    out: str,
    *,
    step: int | None = None,
    phase: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a step of a run, or the average of a phase, as a Hugging Face folder with provenance.

    Raises ValueError if there is no such step or phase.
    """
    folder = Path(run_folder)
    manager = CheckpointManager(folder / "checkpoints")
    steps = manager.steps()
    if not steps:
        raise ValueError(f"run={run_folder!r} is not allowed: there is no checkpoint in it")
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
        weights = average_checkpoints(folder / "weights" / phase, kept[phase])
    model = _model(config, weights, meta["state"]["place"]["phase"])
    save_hf(model, out, tokenizer=open_tokenizer(config.tokenizer), overwrite=overwrite)
    _write_provenance(folder, Path(out), config, meta, step, phase)


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
) -> None:
    """Where the weights come from: recipe, data, losses."""
    rows = [row for row in read_metrics(run_folder) if row["step"] <= step]
    held_out = [row["held_out_loss"] for row in rows if "held_out_loss" in row]
    losses = [row["loss"] for row in rows if "loss" in row]
    data = {}
    for name, source in config.data.items():
        told = {k: v for k, v in dataclasses.asdict(source).items() if v is not None}
        data[name] = told | {"tokens_sha256": meta["state"].get("data", {}).get(name)}
    told = {
        "made_by": "llama3 train",
        "recipe": config_of(meta),
        "data": data,
        "step": step,
        "averaged_phase": phase,
        "tokens": meta["state"]["tokens"],
        "train_loss_of_last_steps": _mean(losses[-50:]),
        "held_out_loss": held_out[-1] if held_out and phase is None else None,
        "weights_sha256": sha256_file(out / "model.safetensors")
        if (out / "model.safetensors").is_file()
        else None,
        "torch": torch.__version__,
    }
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    (out / "provenance.json").write_text(text, encoding="utf-8", newline="\n")


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
