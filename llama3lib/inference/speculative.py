"""Speculative decoding: a small model guesses ahead, the large one checks all guesses at once.

Reading k tokens costs a large model hardly more than reading one, for it waits for its weights. So
a draft model proposes k tokens, the target reads them together, and keeps as many as its own
distribution allows. What comes out is distributed exactly as if the target had written alone
(Leviathan and others, 2023; not in the paper).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.inference.generation import check_prompt
from llama3lib.inference.kv_cache import KVCache
from llama3lib.inference.sampling import SamplingParams, sampling_probs
from llama3lib.model import Transformer
from llama3lib.utils.require import whole
from llama3lib.utils.seed import make_generator


@dataclass
class SpeculativeStats:
    """How well the draft guesses."""

    rounds: int = 0
    proposed: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float:
        """Share of the proposed tokens that were kept."""
        return self.accepted / max(1, self.proposed)

    @property
    def tokens_per_round(self) -> float:
        """Tokens for each time the target was asked."""
        return (self.accepted + self.rounds) / max(1, self.rounds)


def speculative_tokens(
    target: Transformer,
    draft: Transformer,
    prompt_ids: Sequence[int],
    params: SamplingParams | None = None,
    *,
    num_drafts: int = 4,
    stats: SpeculativeStats | None = None,
) -> Iterator[int]:
    """Ids that follow the prompt, one at a time, as `generate_tokens` of the target gives them.

    Greedy ids are the very same; drawn ones have the same distribution, not the same dice.
    `stats` is filled in on the way.

    Raises ValueError, before anything is computed, as `generate_tokens`, for num_drafts below 1,
    for settings that change the logits (both models' beliefs would have to be changed), and if
    the draft has another vocabulary or too short a table of positions.
    """
    params, prompt_ids = params or SamplingParams(), list(prompt_ids)
    check_prompt(target, prompt_ids, params)
    check_prompt(draft, prompt_ids, params)
    whole("num_drafts", num_drafts, 1)
    if params.changes_logits:
        raise ValueError("penalties, logit_bias and min_tokens are not allowed with a draft model")
    if draft.args.vocab_size != target.args.vocab_size:
        raise ValueError(
            f"draft is not allowed: its vocabulary has {draft.args.vocab_size} tokens, "
            f"the target's {target.args.vocab_size}"
        )
    return _tokens(target, draft, prompt_ids, params, num_drafts, stats or SpeculativeStats())


@torch.inference_mode()
def _tokens(
    target: Transformer,
    draft: Transformer,
    ids: list[int],
    params: SamplingParams,
    num_drafts: int,
    stats: SpeculativeStats,
) -> Iterator[int]:
    generator = make_generator(params.seed)
    room, prompt = len(ids) + params.max_tokens, len(ids)
    with (
        KVCache(target, max_seq_len=room) as large,
        KVCache(draft, max_seq_len=room) as small,
    ):
        while (made := len(ids) - prompt) < params.max_tokens:
            count = min(num_drafts, params.max_tokens - made - 1)
            guesses, beliefs = _propose(small, ids, count, params, generator)
            scores = large.step_all(_unread(large, ids + guesses))[0, -(count + 1) :]
            truth = sampling_probs(scores, params).cpu()  # dice are thrown there
            kept = _verify(guesses, beliefs, truth, generator)
            stats.rounds += 1
            stats.proposed += count
            stats.accepted += len(kept) - 1
            for token in kept:
                if token in params.stop_token_ids:
                    return
                ids.append(token)
                yield token
            large.forget(len(ids) - 1)
            small.forget(min(small.length, len(ids) - 1))


def _propose(
    small: KVCache, ids: list[int], count: int, params: SamplingParams, dice: torch.Generator
) -> tuple[list[int], list[Float[Tensor, "V"]]]:
    """Tokens that the draft would write next, and the distributions they were drawn from."""
    guesses: list[int] = []
    beliefs: list[Tensor] = []
    for _ in range(count):
        scores = small.step(_unread(small, ids + guesses))[0]
        belief = sampling_probs(scores, params).cpu()
        beliefs.append(belief)
        guesses.append(_draw(belief, dice))
    return guesses, beliefs


def _unread(cache: KVCache, ids: list[int]) -> Int[Tensor, "1 T"]:
    return torch.tensor([ids[cache.length :]], device=cache.model.norm.weight.device)


def _verify(
    guesses: list[int],
    beliefs: list[Float[Tensor, "V"]],
    truth: Float[Tensor, "G V"],
    dice: torch.Generator,
) -> list[int]:
    """The guesses that are kept, and one token more from the target.

    A guess is kept with chance p/q, where p is the target's probability of it and q the draft's.
    The first one that is not kept is replaced by a draw from what p has more than q. Both cases
    together give exactly p.
    """
    kept: list[int] = []
    for guess, q, p in zip(guesses, beliefs, truth[:-1], strict=True):
        chance = torch.rand((), generator=dice, dtype=p.dtype, device=p.device)
        if chance * q[guess] < p[guess]:
            kept.append(guess)
            continue
        rest = (p - q).clamp(min=0)
        # equal up to rounding: nothing is left over, and any draw from p is right
        return [*kept, _draw(rest / rest.sum() if rest.sum() > 0 else p, dice)]
    return [*kept, _draw(truth[-1], dice)]


def _draw(probs: Float[Tensor, "V"], dice: torch.Generator) -> int:
    return int(torch.multinomial(probs, 1, generator=dice))
