"""Preference pairs for the reward model: a prompt and its answers in one row, shuffled (§4.1.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np

from llama3lib.data.encoding import stable_hash
from llama3lib.data.packing import whole_windows
from llama3lib.data.tokens import SEGMENTS, TokenShard, write_ranking_shard
from llama3lib.model import ModelArgs, Transformer
from llama3lib.posttrain.collate import Format, encode_dialog
from llama3lib.posttrain.dialogs import Pair, read_pairs
from llama3lib.posttrain.reliability import reliability
from llama3lib.posttrain.reward import (
    AnswerMask,
    RankedRow,
    make_reward_model,
    ranked_row,
    ranking_loss,
    rewards_of,
)
from llama3lib.posttrain.rows import BadRowError, RowAccount
from llama3lib.posttrain.sft import DIALOGS, SftConfig, make_recipe
from llama3lib.train.config import HELD_OUT, TrainConfig
from llama3lib.train.gates import Evaluate
from llama3lib.train.objective import Objective
from llama3lib.utils.require import require

REWARD = Objective(adapt=make_reward_model, loss=ranking_loss, mask=AnswerMask)
"""What the trainer of `llama3lib.train` needs to know of a reward model."""


@dataclass(frozen=True)
class RewardData:
    """Rows to train on and to measure on, and what became of every pair."""

    train: list[RankedRow]
    held_out: list[RankedRow]
    rows: RowAccount
    dropped: dict[str, str] = field(default_factory=dict)
    """Pairs that could not be used, by id, and why."""

    def windows(self, length: int) -> int:
        """How many windows the rows to train on fill."""
        return len(whole_windows(np.asarray([len(row.ids) for row in self.train]), length + 1))

    def lines(self, shown: int = 5) -> list[str]:
        """For people."""
        told = [f"{'rows':12}{line}" for line in self.rows.lines()]
        for name, some in (("train", self.train), ("held out", self.held_out)):
            tokens, answers = sum(len(r.ids) for r in some), sum(len(r.ends) for r in some)
            told.append(f"{name:12}{len(some):,} prompts, {answers:,} answers, {tokens:,} tokens")
        told += [f"{'dropped':12}{len(self.dropped):,}"] if self.dropped else []
        return told + [f"{'':12}{n}: {why}" for n, why in list(self.dropped.items())[:shown]]

    def account(self) -> dict[str, object]:
        """For the provenance."""
        return {
            "rows": self.rows.rows,
            "unused_rows": self.rows.reasons,
            "trained_on": len(self.train),
            "held_out": len(self.held_out),
            "dropped": len(self.dropped),
        }


def prepare_pairs(path: str | Path, chat: Format, length: int, config: SftConfig) -> RewardData:
    """Read a user's pairs, keep the held-out share apart, make rows.

    A row that is longer than a window is dropped and told: cut answers can't be compared.

    Raises ValueError as `read_pairs` does; if more pairs than `most_bad` cannot be used; or none
    is left on one side.
    """
    data = RewardData([], [], RowAccount())
    pairs = read_pairs(path, data.rows, most_bad=config.most_bad)
    for pair in pairs:
        try:
            row = _row_of(pair, chat, length, config.seed)
        except BadRowError as error:
            data.dropped[pair.id] = str(error)
            continue
        apart = pair.held_out(config.held_out, config.seed)
        (data.held_out if apart else data.train).append(row)
    share, first = len(data.dropped) / len(pairs), next(iter(data.dropped.items()), ("", ""))
    told = f"{len(data.dropped):,} of {len(pairs):,} pairs cannot be used; {first[0]}: {first[1]}"
    require(share <= config.most_bad, "most_bad", config.most_bad, f"{share:.3f} or more: {told}")
    require(data.train, "data", str(path), "a pair to train on, but none is left")
    some = data.held_out or not config.held_out
    require(some, "held_out", config.held_out, f"0 or more: none of {len(pairs):,} is kept apart")
    return data


def _row_of(pair: Pair, chat: Format, length: int, seed: int) -> RankedRow:
    """Raises BadRowError if the format does not take the pair, or it is too long."""
    dialogs = [encode_dialog(dialog, chat).ids for dialog in pair.dialogs]
    start = min(len(ids) for ids in dialogs)
    for place in range(start):
        if len({ids[place] for ids in dialogs}) > 1:
            start = place
            break
    answers = [ids[start:] for ids in dialogs]
    if not all(answers):
        raise BadRowError("answers", "one is the beginning of another")
    if len(answers) >= SEGMENTS:
        raise BadRowError("answers", f"{len(answers)}, {SEGMENTS - 1} at most")
    order = Random(stable_hash(pair.id, seed)).sample(range(len(answers)), len(answers))
    row = ranked_row(dialogs[0][:start], answers, order)
    if len(row.ids) > length:
        raise BadRowError("too long", f"{len(row.ids):,} tokens, a window has {length:,}")
    return row


def marks_of(row: RankedRow) -> bytes:
    """A row's byte for each token, as a ranking shard has them."""
    marks = list(row.segments)
    for rank, end in enumerate(row.ends):
        marks[end] += SEGMENTS * (rank + 1)
    return bytes(marks)


def rows_of(shard: TokenShard) -> list[RankedRow]:
    """The rows of a shard of rankings, as they were written."""
    found = []
    for start, end in pairwise(shard.starts.tolist()):
        marks = np.asarray(shard.asked[start:end])
        ends = {int(marks[at]) // SEGMENTS: int(at) for at in np.flatnonzero(marks >= SEGMENTS)}
        ids = np.asarray(shard.tokens[start:end]).tolist()
        segments = (marks % SEGMENTS).tolist()
        found.append(RankedRow(ids, segments, [ends[rank] for rank in sorted(ends)]))
    return found


def write_pair_shards(data: RewardData, folder: Path, chat: Format) -> None:
    """Write the rows below `folder`, replacing what is there; the same data, the same bytes."""
    for name, rows in ((DIALOGS, data.train), (HELD_OUT, data.held_out)):
        if rows:
            write_ranking_shard(
                ((row.ids, marks_of(row)) for row in rows),
                folder / name,
                vocab_size=chat.tokenizer.n_vocab,
                tokenizer=chat.tokenizer.digest,
                overwrite=True,
            )


def reward_recipe(
    config: SftConfig, args: ModelArgs, tokenizer: str, folder: Path, windows: int
) -> TrainConfig:
    """As `make_recipe`, for a reward model."""
    recipe = make_recipe(config, args, tokenizer, folder, windows)
    require(config.lora is None, "lora", config.lora, "None: a reward model trains all weights")
    require(config.mesh.tp * config.mesh.cp == 1, "mesh", str(config.mesh), "dp only")
    phases = tuple(replace(phase, name="reward") for phase in recipe.phases)
    return replace(recipe, title="Reward model", phases=phases)


def make_reward_evaluation(rows: Sequence[RankedRow]) -> Evaluate | None:
    """Accuracy on held-out pairs, of which a row of three answers has three; None without."""
    if not rows:
        return None

    def evaluate(model: Transformer) -> dict[str, float]:
        training = model.training
        rewards = rewards_of(model.eval(), rows)
        model.train(training)
        better, worse, lengths = [], [], []
        for row, some in zip(rows, rewards, strict=True):
            sizes = _answer_lengths(row)
            for i in range(len(some)):
                for j in range(i + 1, len(some)):
                    better.append(some[i])
                    worse.append(some[j])
                    lengths.append((sizes[i], sizes[j]))
        told = reliability(better, worse, lengths)
        found = {"held_out_accuracy": told.accuracy.score, "accuracy_low": told.accuracy.low}
        found |= {"accuracy_high": told.accuracy.high, "reward_margin": told.margin}
        for name in ("shorter_better", "longer_better"):
            if (share := getattr(told, name)) is not None:
                found[name] = share.score
        return found

    return evaluate


def _answer_lengths(row: RankedRow) -> list[int]:
    return [row.segments.count(row.segments[end]) for end in row.ends]
