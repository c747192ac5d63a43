"""Supervised fine-tuning: cross-entropy on what the assistant says (paper section 4.1.3).

Nothing is trained here: dialogs become shards with a loss mask, the settings become a recipe of one
phase, and both go to the trainer of `llama3lib.train`, with its checkpoints, logs and meshes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from llama3lib.data.packing import whole_windows, window_count
from llama3lib.data.tokens import TokenShard, write_dialog_shard
from llama3lib.eval import held_out_loss
from llama3lib.model import ModelArgs, Transformer
from llama3lib.posttrain.collate import CutAccount, Format, encode_dialogs
from llama3lib.posttrain.dialogs import MOST_BAD, Dialog, read_dialogs
from llama3lib.posttrain.lora import add_lora, merged_state
from llama3lib.posttrain.rows import RowAccount
from llama3lib.tokenizer import EncodedDialog
from llama3lib.train.config import (
    HELD_OUT,
    OptimizerConfig,
    Phase,
    SourceConfig,
    TrainConfig,
)
from llama3lib.train.gates import Evaluate
from llama3lib.train.mesh import MeshConfig
from llama3lib.train.objective import NEXT_TOKEN, Objective
from llama3lib.utils.require import at_least, between, positive, require

DIALOGS = "dialogs"
"""What the dialogs are called among the sources."""
_MOST_WINDOWS = 256  # of the held-out dialogs that are measured
_LONGEST = 2048


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """How to fine-tune. The paper's largest models take a rate of 1e-5 for 8,500 to 9,000 steps
    (section 4.1.3); the other values are ours."""

    lr: float = 1e-5
    """Highest learning rate. Small models need more: a million weights about 1e-3."""
    epochs: float = 2.0
    """How often each dialog is read, if `steps` is not given."""
    steps: int | None = None
    batch_size: int = 16
    """Windows a step; each holds as many whole dialogs as it has room for."""
    length: int | None = None
    """Tokens a window; the model's context if left out, 2,048 at most. Longer dialogs are cut."""
    held_out: float = 0.1
    """Share of the dialogs that is kept apart to measure on, by hash of the question."""
    most_bad: float = MOST_BAD
    """Largest share of rows that may be unusable."""
    weight_decay: float = 0.0
    lora: int | None = None
    """Rank of the adapters that are trained beside frozen matrices, whose alpha is twice that;
    None: all weights are trained, as in the paper."""
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    micro_batch: int | None = None
    """Windows that go through the model at once."""
    checkpointing: bool = False
    save_every: int = 200
    evaluate_every: int = 50
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        positive("lr", self.lr)
        positive("epochs", self.epochs)
        for name in ("steps", "batch_size", "length", "lora", "save_every", "evaluate_every"):
            value = getattr(self, name)
            at_least(name, 1 if value is None else value, 2 if name == "length" and value else 1)
        require(0 <= self.held_out < 1, "held_out", self.held_out, "0 or more, below 1")
        between("most_bad", self.most_bad, 0, 1)
        plain = self.lora is None or self.mesh.tp * self.mesh.pp == 1
        require(plain, "lora", self.lora, f"with dp alone, not with mesh {self.mesh}")

    @property
    def objective(self) -> Objective:
        """What the trainer needs to know of it."""
        if self.lora is None:
            return NEXT_TOKEN
        return Objective(adapt=lambda model: add_lora(model, self.lora, 2 * self.lora))

    def plain(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A model's weights out of those that were trained."""
        return weights if self.lora is None else merged_state(weights, 2.0)

    def window(self, args: ModelArgs) -> int:
        """Tokens a window of this model.

        Raises ValueError if `length` is more than its context.
        """
        if self.length is None:
            return min(args.max_seq_len, _LONGEST)
        allowed = f"at most the model's context of {args.max_seq_len}"
        require(self.length <= args.max_seq_len, "length", self.length, allowed)
        return self.length


@dataclass(frozen=True)
class SftData:
    """Dialogs as ids, to train on and to measure on, and what became of every row."""

    train: list[EncodedDialog]
    held_out: list[EncodedDialog]
    rows: RowAccount
    cut: CutAccount
    cut_held_out: CutAccount

    def windows(self, length: int) -> int:
        """How many windows the dialogs to train on fill."""
        return len(whole_windows(np.asarray([len(d.ids) for d in self.train]), length + 1))

    def account(self) -> dict[str, object]:
        """For the provenance."""
        cuts = self.cut, self.cut_held_out
        return {
            "rows": self.rows.rows,
            "unused_rows": self.rows.reasons,
            "trained_on": len(self.train),
            "held_out": len(self.held_out),
            "cut": sum(one.cut for one in cuts),
            "dropped": sum(len(one.dropped) for one in cuts),
        }

    def lines(self) -> list[str]:
        """For people."""
        parts = [("rows", self.rows.lines()), ("train", self.cut.lines())]
        parts += [("held out", self.cut_held_out.lines())] if self.cut_held_out.dialogs else []
        return [
            f"{name if n == 0 else '':12}{line}"
            for name, lines in parts
            for n, line in enumerate(lines)
        ]


def prepare(path: str | Path, chat: Format, length: int, config: SftConfig) -> SftData:
    """Read a user's dialogs, keep the held-out share apart, make ids and masks.

    Raises ValueError as `read_dialogs` does; if more dialogs than `most_bad` cannot be used in
    this format and length; or none is left on one side.
    """
    rows = RowAccount()
    dialogs = read_dialogs(path, rows, most_bad=config.most_bad)
    apart = [dialog.held_out(config.held_out, config.seed) for dialog in dialogs]
    sides = [_side(dialogs, apart, wanted) for wanted in (False, True)]
    accounts = CutAccount(), CutAccount()
    made = [
        encode_dialogs(side, chat, length, account)
        for side, account in zip(sides, accounts, strict=True)
    ]
    dropped = accounts[0].dropped | accounts[1].dropped
    if len(dropped) > config.most_bad * len(dialogs):
        first = "; ".join(f"{name}: {why}" for name, why in list(dropped.items())[:3])
        raise ValueError(
            f"{len(dropped):,} of {len(dialogs):,} dialogs cannot be used, which is more than "
            f"most_bad={config.most_bad:.1%}: {first}"
        )
    require(made[0], "data", str(path), "a dialog to train on, but none is left")
    share = f"0 or a larger share: none of {len(dialogs):,} dialogs is kept apart"
    require(made[1] or not config.held_out, "held_out", config.held_out, share)
    return SftData(*made, rows, *accounts)


def _side(dialogs: Sequence[Dialog], apart: Sequence[bool], wanted: bool) -> Iterable[Dialog]:
    return (d for d, out in zip(dialogs, apart, strict=True) if out == wanted)


def write_shards(data: SftData, folder: Path, chat: Format) -> None:
    """Write the dialogs below `folder`, replacing what is there; the same data, the same bytes."""
    tokenizer = chat.tokenizer
    for name, dialogs in ((DIALOGS, data.train), (HELD_OUT, data.held_out)):
        if dialogs:
            write_dialog_shard(
                dialogs,
                folder / name,
                vocab_size=tokenizer.n_vocab,
                tokenizer=tokenizer.digest,
                overwrite=True,
            )


def open_shards(folder: Path) -> dict[str, TokenShard]:
    """The shards that `write_shards` has written."""
    names = [name for name in (DIALOGS, HELD_OUT) if (folder / name).is_dir()]
    return {name: TokenShard(folder / name) for name in names}


def make_recipe(
    config: SftConfig, args: ModelArgs, tokenizer: str, folder: Path, windows: int
) -> TrainConfig:
    """The recipe for the trainer: one phase, warm-up over a tenth of it, cosine to a tenth.

    windows: how many the dialogs fill at the length of `config`. folder: where the shards are.
    """
    steps = config.steps or max(1, math.ceil(config.epochs * windows / config.batch_size))
    warmup = min(100, steps // 10)
    phase = Phase(name="sft", steps=steps, batch_size=config.batch_size, length=config.window(args))
    return TrainConfig(
        title="Supervised fine-tuning",
        model=args,
        data={DIALOGS: SourceConfig(shard=str(folder / DIALOGS))},
        held_out=SourceConfig(shard=str(folder / HELD_OUT)) if config.held_out else None,
        tokenizer=tokenizer,
        phases=(phase,),
        optimizer=OptimizerConfig(
            peak=config.lr,
            warmup=warmup,
            minimum=config.lr / 10,
            weight_decay=config.weight_decay,
        ),
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        micro_batch=config.micro_batch,
        checkpointing=config.checkpointing,
        save_every=config.save_every,
        evaluate_every=config.evaluate_every,
        mesh=config.mesh,
    )


def make_evaluation(shards: dict[str, TokenShard], length: int) -> Evaluate | None:
    """Nats a learned token of held-out dialogs, all of them where they are few; None without."""
    if HELD_OUT not in shards:
        return None
    shard = shards[HELD_OUT]
    windows = min(_MOST_WINDOWS, window_count(shard, length))

    def evaluate(model: Transformer) -> dict[str, float]:
        return {"held_out_loss": held_out_loss(model, shard, length, windows=windows).mean}

    return evaluate
