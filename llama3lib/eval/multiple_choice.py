"""Multiple choice by likelihood: which of the choices would the model rather write? (§5.1.1)

No text is generated. Each choice is put after the prompt, the log-probabilities of its tokens
are added up, and the likeliest choice counts. That works for pre-trained models that were never
told how to answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.eval.intervals import Interval, confidence_interval
from llama3lib.eval.perplexity import check_ids, evaluating, logit_pieces
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import at_least, require

NORMALISATIONS = ("none", "tokens", "bytes")


@dataclass(frozen=True)
class Continuation:
    """What a model thinks of given tokens after a prompt."""

    log_prob: float
    """Natural logarithm of the probability of all of them."""
    greedy: bool
    """True if each is the likeliest where it stands: greedy generation would write just these."""
    n_tokens: int


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """A question and its choices; `answer` is the place of the right one, from 0.

    Each choice is put after the prompt exactly as it is, so a blank between them belongs to the
    choice: `" Paris"`.
    Raises ValueError on fewer than two choices, an empty text, or an answer that is no choice.
    """

    prompt: str
    choices: Sequence[str]
    answer: int

    def __post_init__(self) -> None:
        ok = not isinstance(self.choices, str) and len(self.choices) >= 2
        require(ok, "choices", self.choices, "two texts or more")
        object.__setattr__(self, "choices", tuple(self.choices))
        if not all(isinstance(text, str) and text for text in (self.prompt, *self.choices)):
            raise ValueError(f"{self!r} is not allowed: prompt and choices must not be empty")
        if type(self.answer) is not int or not 0 <= self.answer < len(self.choices):
            last = len(self.choices) - 1
            raise ValueError(f"answer={self.answer!r} is not allowed: 0 to {last}")

    @classmethod
    def lettered(
        cls, question: str, options: Sequence[str], answer: int, labels: Sequence[str] = "ABCDEFGH"
    ) -> "MultipleChoice":
        """The form of MMLU: options are listed under letters, and the choice is a letter.

        The paper tries other labels and orders to see whether they matter (§5.1.2).
        Raises ValueError if there are more options than labels.
        """
        if len(options) > len(labels):
            raise ValueError(f"options has {len(options)}: {len(labels)} labels are given")
        listed = [f"{label}. {option}" for label, option in zip(labels, options, strict=False)]
        prompt = "\n".join([question, *listed, "Answer:"])
        choices = [f" {label}" for label in labels[: len(options)]]
        return cls(prompt=prompt, choices=choices, answer=answer)


@dataclass(frozen=True)
class ItemScore:
    """What came out for one item: for each choice its continuation and its score."""

    continuations: tuple[Continuation, ...]
    scores: tuple[float, ...]
    """Log-probabilities after normalising; the highest wins, the first one of equals."""
    answer: int

    @property
    def chosen(self) -> int:
        """Place of the choice with the highest score."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)

    @property
    def right(self) -> bool:
        """True if the right choice was chosen."""
        return self.chosen == self.answer


@dataclass(frozen=True)
class ChoiceReport:
    """All items, and what they say together."""

    items: tuple[ItemScore, ...]
    normalise: str

    @cached_property
    def right(self) -> Float[np.ndarray, "N"]:
        """1 where an item was answered right, 0 elsewhere: for `paired_difference`."""
        return np.array([item.right for item in self.items], dtype=np.float64)

    @property
    def accuracy(self) -> float:
        """Share of items answered right."""
        return float(self.right.mean())

    @property
    def interval(self) -> Interval:
        """The paper's 95 % interval of the accuracy (§5.1.1); see its warning near 0 and 1."""
        return confidence_interval(self.accuracy, len(self.items))

    @property
    def answer_loss(self) -> float:
        """Mean of minus the right choice's score: moves long before the accuracy does (§3.2.1)."""
        return -math.fsum(item.scores[item.answer] for item in self.items) / len(self.items)


def score_choices(
    model: Transformer,
    tokenizer: Tokenizer,
    items: Sequence[MultipleChoice],
    *,
    normalise: str = "none",
    few_shot: Sequence[MultipleChoice] = (),
    bos: bool = True,
    batch_size: int = 8,
) -> ChoiceReport:
    """Log-likelihood of every choice of every item, and how often the right one is highest.

    normalise: "none" compares sums of log-probabilities, which favours short choices; "tokens"
    means per token; "bytes" per UTF-8 byte of the choice without the blank before it, the same
    for every tokenizer.
    few_shot: items shown in front with their right choice, each followed by a blank line.
    bos: begin-of-text token in front.

    Raises ValueError on no item, an unknown normalisation, an item that is also among few_shot
    (its answer would be given away), or a text longer than the position table.
    """
    if not items:
        raise ValueError("items is not allowed to be empty")
    if normalise not in NORMALISATIONS:
        raise ValueError(f"normalise={normalise!r} is not known: use one of {NORMALISATIONS}")
    shown = "".join(f"{one.prompt}{one.choices[one.answer]}\n\n" for one in few_shot)
    pairs = []
    for place, item in enumerate(items):
        if any(item.prompt == one.prompt for one in few_shot):
            raise ValueError(f"few_shot has item {place} itself: its answer would be given away")
        prompt = shown + item.prompt
        pairs += [encode_pair(tokenizer, prompt, choice, bos=bos) for choice in item.choices]
    scored = iter(score_continuations(model, pairs, batch_size=batch_size))
    results = []
    for item in items:
        continuations = tuple(next(scored) for _ in item.choices)
        sizes = [_size(*pair, normalise) for pair in zip(continuations, item.choices, strict=True)]
        scores = tuple(c.log_prob / size for c, size in zip(continuations, sizes, strict=True))
        results.append(ItemScore(continuations, scores, item.answer))
    return ChoiceReport(tuple(results), normalise)


def encode_pair(
    tokenizer: Tokenizer, prompt: str, continuation: str, *, bos: bool = True
) -> tuple[list[int], list[int]]:
    """Ids of a prompt, and of what comes after it, split where the tokenizer would split.

    Blanks at the prompt's end go to the continuation, because words carry the blank before them.
    If a token would reach over the border, both sides are encoded alone.

    Raises ValueError if the continuation is empty, or the prompt is, and bos is False.
    """
    bare = prompt.rstrip()
    prompt, continuation = bare, prompt[len(bare) :] + continuation
    if not continuation:
        raise ValueError("continuation='' is not allowed: at least one character")
    before = tokenizer.encode(prompt, bos=bos)
    if not before:
        raise ValueError("prompt='' is not allowed without bos: nothing to predict from")
    whole = tokenizer.encode(prompt + continuation, bos=bos)
    if whole[: len(before)] == before:
        return before, whole[len(before) :]
    return before, tokenizer.encode(continuation)


def score_continuations(
    model: Transformer,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int = 8,
) -> list[Continuation]:
    """Score each (prompt ids, continuation ids), in the order given.

    Rows are padded on the right. Attention looks back only, so no real token ever sees padding:
    the results are those of one pair at a time. Pairs whose inputs are the same, such as choices
    of one token after one prompt, share a row. Only logits of continuations are computed.

    Raises ValueError on an empty prompt or continuation, an id outside the vocabulary, a pair
    longer than the position table (the last token is not read), or a model that gives nan.
    """
    at_least("batch_size", batch_size, 1)
    users: dict[tuple[int, ...], list[int]] = {}
    for place, (prompt, continuation) in enumerate(pairs):
        _check_pair(model, place, prompt, continuation)
        users.setdefault((*prompt, *continuation[:-1]), []).append(place)
    # like lengths together: little padding; longest first: what does not fit fails at once
    rows = sorted(users, key=len, reverse=True)
    results: list[Continuation | None] = [None] * len(pairs)
    with evaluating(model):
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            hidden = _hidden(model, part)
            for states, row in zip(hidden, part, strict=True):
                for place in users[row]:
                    results[place] = _score(model, states, len(row), pairs[place][1])
    if any(math.isnan(result.log_prob) for result in results):
        raise ValueError("the model gives nan: its weights or its dtype are broken")
    return results


def _hidden(model: Transformer, rows: Sequence[tuple[int, ...]]) -> Float[Tensor, "B T D"]:
    longest = max(map(len, rows))
    padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    check_ids(model, padded, "pairs")
    return model.hidden_states(padded.to(next(model.parameters()).device))


def _score(
    model: Transformer, states: Float[Tensor, "T D"], length: int, continuation: Sequence[int]
) -> Continuation:
    wanted = torch.tensor([continuation], device=states.device).unsqueeze(2)  # [1, tokens, 1]
    check_ids(model, wanted, "pairs")
    n_tokens, parts, greedy = len(continuation), [], True
    for part, logits in logit_pieces(model, states[None, length - n_tokens : length]):
        parts.append(float(logits.log_softmax(-1).gather(2, wanted[:, part]).sum()))
        greedy &= bool((logits.argmax(-1, keepdim=True) == wanted[:, part]).all())
    return Continuation(math.fsum(parts), greedy, n_tokens)


def _size(continuation: Continuation, choice: str, normalise: str) -> int:
    if normalise == "bytes":
        return len((choice.strip() or choice).encode())
    return continuation.n_tokens if normalise == "tokens" else 1


def _check_pair(
    model: Transformer, place: int, prompt: Sequence[int], continuation: Sequence[int]
) -> None:
    if not len(prompt) or not len(continuation):
        raise ValueError(f"pair {place} is not allowed: prompt and continuation need a token each")
    total, room = len(prompt) + len(continuation) - 1, model.args.max_seq_len
    if total > room:
        raise ValueError(f"pair {place} has {total} tokens to read: max_seq_len={room} is the most")
