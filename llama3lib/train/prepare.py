"""What a run is put together from before its first step, and checks of all that can be checked.

A recipe that does not fit its data is refused here: not hours later, when the phase begins that it
does not fit.
"""

import json
from collections.abc import Mapping, Sized
from pathlib import Path

import torch

from llama3lib.data.loader import StatefulDataLoader
from llama3lib.data.packing import window_count
from llama3lib.data.tokens import TokenShard
from llama3lib.model import Transformer
from llama3lib.parallel import ParallelModel
from llama3lib.train.config import TrainConfig
from llama3lib.train.sources import check_vocabulary
from llama3lib.train.state import RunState

_HELD_OUT_WINDOWS = 32


def starting_model(config: TrainConfig, model: Transformer | None) -> Transformer:
    """A copy of the given model, or a drawn one; long enough for the first phase.

    Raises ValueError if the given model has other shapes than the recipe's.
    """
    length = max(config.model.max_seq_len, config.phases[0].length)
    fresh = Transformer(config.model.replace(max_seq_len=length))
    if model is None:
        fresh.init_weights(torch.Generator().manual_seed(config.seed))
        return fresh
    shapes = [{n: tuple(p.shape) for n, p in m.named_parameters()} for m in (model, fresh)]
    if shapes[0] != shapes[1]:
        raise ValueError("model is not allowed: its weights have other shapes than the recipe's")
    fresh.load_state_dict(model.state_dict())
    return fresh


def set_positions(model: ParallelModel, config: TrainConfig, number: int) -> None:
    """Make the tables of positions long enough for phase `number`, with its base.

    Both come from all phases so far, so that a run that is resumed in a later one has the same.
    """
    args = model.parts[0].args
    begun = config.phases[: number + 1]
    bases = [phase.rope_theta for phase in begun if phase.rope_theta is not None]
    theta = bases[-1] if bases else config.model.rope_theta
    length = max(config.model.max_seq_len, *(phase.length for phase in begun))
    if (theta, length) != (args.rope_theta, args.max_seq_len):
        for part in model.parts:
            part.args = args.replace(rope_theta=theta, max_seq_len=length)
            part._make_position_table()  # `to` would touch sharded weights


def check_sources(config: TrainConfig, sources: Mapping[str, TokenShard], state: RunState) -> None:
    """All phases that are still to come against the data.

    Raises ValueError for a source that is missing, has another vocabulary, is shorter than a
    window of a phase that reads it, or has other tokens than the run has read so far.
    """
    if missing := sorted(set(config.data) - set(sources)):
        raise ValueError(f"sources is not allowed: {missing[0]!r} of the recipe is missing")
    for name in config.data:
        check_vocabulary(config, name, sources[name].index["vocab_size"])
        digest = sources[name].digest
        if state.data.get(name, digest) != digest:
            raise ValueError(
                f"data.{name} is not allowed: its tokens are not those the run was begun with"
            )
    check_lengths(config, sources, state.place.phase)


def check_lengths(config: TrainConfig, sources: Mapping[str, Sized], first: int = 0) -> None:
    """The phases from `first` on against the number of tokens in each source.

    Raises ValueError for a source that is shorter than a window of a phase that reads it.
    """
    for number, phase in enumerate(config.phases[first:], first):
        for name, share in config.mix_of(number).items():
            try:
                window_count(sources[name], phase.length if share else 1)
            except ValueError as error:
                raise ValueError(f"phases.{number} ({phase.name}), data.{name}: {error}") from None


def held_out_windows(config: TrainConfig, held_out: Sized) -> int:
    """How many windows, each as long as those of the first phase, are measured on.

    Raises ValueError if the held-out text is too short for one.
    """
    try:
        return min(_HELD_OUT_WINDOWS, window_count(held_out, config.phases[0].length))
    except ValueError as error:
        raise ValueError(f"held_out is not allowed: {error}") from None


def make_loader(
    config: TrainConfig, sources: Mapping[str, TokenShard], state: RunState, rank: int = 0
) -> StatefulDataLoader:
    """The windows of the phase that a run is in, at the step where it stands.

    rank: which of the mesh's shares of every batch.

    Raises ValueError if the mix or the data are not those that the phase was begun with.
    """
    place, saved = state.place, state.loader
    phase = config.phases[place.phase]
    used = saved["before"] if saved else state.drawn.get(str(phase.length), {})
    loader = StatefulDataLoader(
        {name: sources[name] for name in config.data},
        batch_size=phase.batch_size,
        length=phase.length,
        weights=config.mix_of(place.phase),
        seed=config.seed,
        rank=rank,
        ranks=config.mesh.dims.dp,
        first_step=place.step - place.phase_step,
        drawn=used,
    )
    if saved is not None:
        loader.load_state_dict(saved)
        state.loader = None  # from now on the loader knows it
    state.data |= {name: sources[name].digest for name in loader.names}
    state.tokenizer = sources[loader.names[0]].index.get("tokenizer")
    return loader


def check_run_folder(folder: Path) -> None:
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
