"""The reward model: one number for an answer, learned from pairs (paper section 4.1.2).

It is the same Transformer with an output matrix of one row, read at the last token of an answer.
The objective is Llama 2's without the margin term: -log sigmoid(r_better - r_worse). An edited
answer ranks above the chosen one, and that above the rejected one.

The prompt and all its answers stand in one row, in shuffled order. The paper calls that an
approximation that costs no accuracy; here answers cannot see one another (`AnswerMask`), so the
rewards are those of separate rows up to rounding, and a prompt is read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llama3lib.data.tokens import SEGMENTS
from llama3lib.model import Transformer
from llama3lib.train.loss import IGNORED
from llama3lib.utils.require import at_least, require, require_all


def make_reward_model(model: Transformer, seed: int = 0) -> Transformer:
    """Give a language model a head of one number in place of its scores, in place.

    Raises ValueError for a part of a model.
    """
    require(model.output is not None, "model", "a part without an output", "a whole model")
    weight = model.norm.weight
    head = nn.Linear(model.args.dim, 1, bias=False, device=weight.device, dtype=weight.dtype)
    draw = torch.Generator().manual_seed(seed)
    head.weight.data.copy_(torch.randn(1, model.args.dim, generator=draw) / model.args.dim**0.5)
    model.args, model.output = model.args.replace(tie_embeddings=False), head
    return model


def pair_loss(
    chosen: Float[Tensor, "B"],
    rejected: Float[Tensor, "B"],
    margin: Float[Tensor, "B"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of -log sigmoid(r_chosen - r_rejected - margin).

    margin: Llama 2's, larger where people were surer; Llama 3 leaves it out (section 4.1.2).
    """
    distance = chosen - rejected
    return -F.logsigmoid(distance if margin is None else distance - margin).mean()


def ranking_loss(
    rewards: Float[Tensor, "B T 1"], ranks: Int[Tensor, "B T"], valid: int | Tensor
) -> Float[Tensor, ""]:
    """The loss of all pairs of answers in each row, for the trainer.

    ranks: at the last token of each answer its rank, 0 the best; IGNORED elsewhere. Equal ranks
    make no pair. A row with n answers counts n times its mean over pairs; `valid` is the number of
    answers in the global batch, so that cutting the batch does not change the gradient.
    """
    total = rewards.new_zeros((), dtype=torch.promote_types(rewards.dtype, torch.float32))
    for row, rank in zip(rewards[..., 0], ranks, strict=True):
        there = rank != IGNORED
        r, rank = row[there].to(total.dtype), rank[there]
        better = rank.unsqueeze(1) < rank.unsqueeze(0)
        if bool(better.any()):
            losses = -F.logsigmoid(r.unsqueeze(1) - r.unsqueeze(0))
            total = total + losses[better].mean() * len(r)
    return total / valid


@dataclass(frozen=True)
class AnswerMask:
    """Who may look where: back, within the own prompt, and of the answers only at the own one.

    segments [B, T]: 16 times the number of the prompt; plus 0 for its own tokens and 1, 2, ... for
    those of its answers. What fills a row up has a prompt number of its own.
    """

    segments: Int[Tensor, "B T"]

    @cached_property
    def mask(self) -> Bool[Tensor, "B 1 T T"]:
        """True where query t may look at key s."""
        prompt, answer = self.segments // SEGMENTS, self.segments % SEGMENTS
        same = prompt.unsqueeze(2) == prompt.unsqueeze(1)
        own = answer.unsqueeze(2) == answer.unsqueeze(1)
        seen = same & (own | (answer.unsqueeze(1) == 0))
        return (seen & torch.ones_like(seen).tril()).unsqueeze(1)

    def positions(self) -> Int[Tensor, "B T"]:
        """Each answer goes on where its prompt ends, as if it stood alone."""
        places = torch.empty_like(self.segments)
        for row, segments in enumerate(self.segments.tolist()):
            length: dict[int, int] = {}
            for t, segment in enumerate(segments):
                prompt = segment - segment % SEGMENTS
                before = 0 if segment == prompt else length.get(prompt, 0)
                places[row, t] = before + length.get(segment, 0)
                length[segment] = length.get(segment, 0) + 1
        return places


@dataclass(frozen=True)
class RankedRow:
    """A prompt and its answers as one row of ids."""

    ids: list[int]
    segments: list[int]
    ends: list[int]
    """Place of the last token of each answer, in the order in which they were given."""


def ranked_row(
    prompt: Sequence[int], answers: Sequence[Sequence[int]], order: Sequence[int] | None = None
) -> RankedRow:
    """Put a prompt and its answers in one row; `order` is the one in which answers stand there.

    Raises ValueError without an answer, with an empty one, or too many.
    """
    require(0 < len(answers) < SEGMENTS, "answers", len(answers), f"1 to {SEGMENTS - 1}")
    order = range(len(answers)) if order is None else order
    fits = sorted(order) == list(range(len(answers)))
    require(fits, "order", list(order), f"each of 0 to {len(answers) - 1} once")
    ids, segments, ends = list(prompt), [0] * len(prompt), [0] * len(answers)
    for segment, answer in enumerate(order, 1):
        at_least(f"answers[{answer}]", len(answers[answer]), 1)
        ids += answers[answer]
        segments += [segment] * len(answers[answer])
        ends[answer] = len(ids) - 1
    return RankedRow(ids, segments, ends)


@torch.no_grad()
def rewards_of(
    model: Transformer, rows: Sequence[RankedRow], *, batch_size: int = 16
) -> list[list[float]]:
    """The reward of each answer of each row. Raises ValueError for a model without a head."""
    head = model.output is not None and model.output.weight.shape[0] == 1
    require(head, "model", "without a head of one number", "one of `make_reward_model`")
    device, found = model.output.weight.device, []
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        length = max(len(row.ids) for row in some)
        ids = torch.zeros(len(some), length, dtype=torch.long)
        segments = torch.full_like(ids, SEGMENTS)  # the filling
        for place, row in enumerate(some):
            ids[place, : len(row.ids)] = torch.tensor(row.ids)
            segments[place, : len(row.ids)] = torch.tensor(row.segments)
        mask = AnswerMask(segments.to(device))
        rewards = model(ids.to(device), mask.positions(), mask)[..., 0].float().cpu()
        found += [[float(rewards[i, end]) for end in row.ends] for i, row in enumerate(some)]
    return found


def check_rewards(chosen: Sequence[float], rejected: Sequence[float]) -> None:
    """Raises ValueError unless there are as many of both, and all are finite numbers."""
    require_all(len(chosen) == len(rejected) > 0, "as many", chosen=len(chosen), n=len(rejected))
    values = torch.tensor([*chosen, *rejected])
    bad = values[~values.isfinite()]
    require(not len(bad), "rewards", [float(v) for v in bad[:1]], "finite numbers")
