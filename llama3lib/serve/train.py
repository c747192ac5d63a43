"""What `llama3 train` and `llama3 export` do: plan, train with a progress bar, hand over."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llama3lib.checkpoint import CheckpointManager, average_checkpoints, save_hf
from llama3lib.data.tokens import TokenShard
from llama3lib.eval import GateReport, LongContextGate, city_needle, held_out_loss, needle_grid
from llama3lib.model import Transformer
from llama3lib.train.bands import band_names, load_band
from llama3lib.train.config import Phase, TrainConfig, load_config, make_config, recipe_path
from llama3lib.train.metrics import read_metrics
from llama3lib.train.plan import Plan, has_hardware, make_plan
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
    sources = open_sources(config, folder / "data")
    trainer = Trainer(
        config,
        sources,
        folder,
        gate=_gate(config, sources) if any(p.gate for p in config.phases) else None,
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
        print(f"stopped; saved after step {trainer.state.place.step:,}. The same line goes on.")
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
    if config.reference not in band_names():
        return ""
    band = load_band(config.reference)
    return (
        f"last loss   {band.mean[-1]:.3f} ({band.low[-1]:.3f} to {band.high[-1]:.3f} "
        f"on {len(band.seeds)} seeds)"
    )


def against_band(config: TrainConfig, folder: Path) -> str:
    """How a finished run compares with its reference band; "" without one."""
    if config.reference not in band_names():
        return ""
    band = load_band(config.reference)
    losses = [row["loss"] for row in read_metrics(folder) if "loss" in row]
    if len(losses) < band.steps[0]:
        return ""
    found = band.compare(losses)
    return f"{found.share:.0%} of the curve is inside the reference band"


def _must_fit(config: TrainConfig, plan: Plan) -> None:
    if not has_hardware(config):
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ValueError(
            f"gpus={config.gpus} is what this recipe needs, here are {here}; "
            "--dry-run shows its plan, --set gpus=0 runs it on what is here"
        )
    if config.gpus > 1:
        raise ValueError(f"gpus={config.gpus} is not allowed: this trainer runs on one device")
    room = _room()
    if room is not None and plan.memory.total > room:
        raise ValueError(
            f"the run needs {plan.memory.total / 1e9:.1f} GB, here are {room / 1e9:.1f}: "
            "set micro_batch lower or checkpointing = true"
        )


def _room() -> int | None:
    """Bytes of memory of the device; None where it cannot be told."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _evaluation(
    config: TrainConfig, sources: dict[str, TokenShard]
) -> Callable[[Transformer], dict[str, float]] | None:
    """Loss on the held-out text, at the length of the first phase."""
    if "held-out" not in sources:
        return None
    shard, length = sources["held-out"], config.phases[0].length

    def evaluate(model: Transformer) -> dict[str, float]:
        return {
            "held_out_loss": held_out_loss(model, shard, length, windows=_HELD_OUT_WINDOWS).mean
        }

    return evaluate


def _gate(
    config: TrainConfig, sources: dict[str, TokenShard]
) -> Callable[[Transformer, Phase], GateReport]:
    """Section 3.4.2: the short text is read as well as before, the needle is found everywhere.

    The reference is the held-out loss when the first phase with a gate is judged for the first
    time, at the length of the first phase of all.
    """
    tokenizer = open_tokenizer(config.tokenizer)
    if tokenizer is None or "held-out" not in sources:
        raise ValueError("gate=true is not allowed: it needs a tokenizer and held_out text")
    short = config.phases[0].length
    texts = [tokenizer.decode(sources["held-out"].document(n).tolist()) for n in range(20)]
    needles = [city_needle(seed) for seed in range(3)]

    def gate(model: Transformer, phase: Phase) -> GateReport:
        loss = held_out_loss(model, sources["held-out"], short, windows=_HELD_OUT_WINDOWS).mean
        reference = config.gate_reference if config.gate_reference is not None else loss
        grid = needle_grid(model, tokenizer, texts, needles, lengths=[phase.length], depths=_DEPTHS)
        return LongContextGate(reference_loss=reference).check(loss, grid, phase.length)

    return gate


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
    if phase is None:
        weights = manager.load_tensors(step, "model")
    else:
        if not (folder / "weights" / phase).is_dir():
            raise ValueError(f"phase={phase!r} is not allowed: no weights of it were kept")
        weights = average_checkpoints(CheckpointManager(folder / "weights" / phase))
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
        index = run_folder / "data" / name / "index.json"
        if index.is_file():
            told["tokens_sha256"] = json.loads(index.read_text(encoding="utf-8"))["sha256"]
        data[name] = told
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
