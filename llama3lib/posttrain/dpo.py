"""Direct preference optimisation: pairs without a reward model (paper section 4.1.4).

    -log sigmoid(beta·((log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l)))) + 0.2·NLL(y_w)

with the paper's two changes. Formatting tokens, headers and what ends a turn, count in neither
answer: they are in both, so one loss would push them up and down at once, and the model learns to
repeat itself or to end too early. And the plain loss on the chosen answer keeps its probability
from falling, which the difference alone does not notice. That this term counts the ending tokens,
as supervised fine-tuning does, is ours: the paper leaves it open.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llama3lib.posttrain.collate import CutAccount, Format, Rows, collate, encode_dialog
from llama3lib.posttrain.dialogs import Pair
from llama3lib.posttrain.rows import BadRowError
from llama3lib.tokenizer import EncodedDialog, Tokenizer, special
from llama3lib.train.loss import IGNORED
from llama3lib.utils.require import at_least, between, positive, require

EncodedPair = tuple[EncodedDialog, EncodedDialog]
"""The prompt with the better answer, and with the worse one."""


@dataclass(frozen=True)
class PairRows:
    """A batch of M pairs: M rows with the better answers, then M with the worse ones."""

    rows: Rows
    formatting: Bool[Tensor, "B T"]
    """True where the target (the id one place further on) only forms the dialog; B = 2·M."""

    @property
    def compared(self) -> Bool[Tensor, "B T"]:
        """Targets that the two answers are compared by."""
        return (self.rows.targets != IGNORED) & ~self.formatting

    @property
    def learned(self) -> Bool[Tensor, "M T"]:
        """Targets of the better answers, those that end them included."""
        targets = self.rows.targets
        return targets[: len(targets) // 2] != IGNORED


@dataclass(frozen=True)
class DpoLoss:
    """The loss and what it is made of; `loss` alone has a gradient."""

    loss: Float[Tensor, ""]
    chosen_rewards: Float[Tensor, "M"]
    """beta times the log-ratio to the reference: what DPO takes for a reward."""
    rejected_rewards: Float[Tensor, "M"]
    nll: Float[Tensor, ""] | None = None
    """Nats per token of the better answers, if they are learned too."""

    @property
    def accuracy(self) -> float:
        """Share of pairs whose better answer has the higher reward; equal ones count half."""
        apart = self.chosen_rewards - self.rejected_rewards
        return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def formatting_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Tokens of headers and those that end a turn, a message or a text."""
    names = tokenizer.special_tokens
    headers = {names[n] for n in (special.START_HEADER, special.END_HEADER) if n in names}
    return tokenizer.stop_ids | headers


def encode_pairs(
    pairs: Iterable[Pair], chat: Format, max_length: int, account: CutAccount | None = None
) -> list[EncodedPair]:
    """The best answer of each pair against the worst one, at most `max_length` ids each.

    A pair with a longer answer is dropped and told: the cut answer would be judged by its
    beginning. Raises ValueError for a length below 2.
    """
    at_least("max_length", max_length, 2)
    account, found = CutAccount() if account is None else account, []
    for pair in pairs:
        both = pair.dialogs[0], pair.dialogs[-1]
        account.dialogs += 2
        try:
            better, worse = (encode_dialog(dialog, chat) for dialog in both)
        except BadRowError as error:
            account.dropped[pair.id] = str(error)
            continue
        longest = max(len(better.ids), len(worse.ids))
        if longest > max_length:
            account.dropped[pair.id] = f"{longest:,} tokens, {max_length:,} are allowed"
            continue
        account.tokens += len(better.ids) + len(worse.ids)
        account.learned += sum(better.loss_mask) + sum(worse.loss_mask)
        found.append((better, worse))
    return found


def collate_pairs(
    pairs: Sequence[EncodedPair], pad_id: int, formatting: Collection[int] = ()
) -> PairRows:
    """A batch of pairs; `formatting` are the ids that count in no comparison.

    Raises ValueError for no pairs, or an answer with nothing but formatting.
    """
    better, worse = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rows = collate(better + worse, pad_id)
    forms = torch.isin(rows.targets, torch.tensor(sorted(formatting), dtype=torch.long))
    batch = PairRows(rows, forms)
    empty = (~batch.compared.any(1)).nonzero().flatten().tolist()
    for row in empty[:1]:
        side = "chosen" if row < len(better) else "rejected"
        require(False, side, f"answer of pair {row % len(better)}", "one with a token to compare")
    return batch


def token_logps(
    logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Log-probability of each target, 0 where there is none; in float32 at least."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    flat = logits.flatten(0, 1).to(dtype), targets.flatten()
    return -F.cross_entropy(*flat, ignore_index=IGNORED, reduction="none").view_as(targets)


def sequence_logps(logps: Float[Tensor, "B T"], batch: PairRows) -> Float[Tensor, "B"]:
    """Log-probability of each answer, without formatting; what the reference is asked for once."""
    return torch.where(batch.compared, logps, 0).sum(1)


def dpo_loss(
    policy_chosen: Float[Tensor, "M"],
    policy_rejected: Float[Tensor, "M"],
    reference_chosen: Float[Tensor, "M"],
    reference_rejected: Float[Tensor, "M"],
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    valid: int | None = None,
) -> DpoLoss:
    """The plain loss of log-probabilities of whole answers, a mean over pairs.

    label_smoothing: share of pairs taken for labelled the wrong way round (ours; the paper has
    none). valid: pairs in the whole batch, if this is a part of it.

    Raises ValueError for a beta that is not above 0, or a share outside 0 to 0.5.
    """
    positive("beta", beta)
    between("label_smoothing", label_smoothing, 0, 0.5)
    chosen = beta * (policy_chosen - reference_chosen)
    rejected = beta * (policy_rejected - reference_rejected)
    apart = chosen - rejected
    losses = -(1 - label_smoothing) * F.logsigmoid(apart)
    if label_smoothing:
        losses = losses - label_smoothing * F.logsigmoid(-apart)
    loss = losses.sum() / (len(losses) if valid is None else valid)
    return DpoLoss(loss, chosen.detach(), rejected.detach())


def llama3_dpo_loss(
    logps: Float[Tensor, "B T"],
    reference: Float[Tensor, "B"],
    batch: PairRows,
    *,
    beta: float = 0.1,
    nll_weight: float = 0.2,
    valid_pairs: int | None = None,
    valid_tokens: int | None = None,
) -> DpoLoss:
    """The paper's loss, from `token_logps` of the policy and `sequence_logps` of the reference.

    The second term is a mean over the tokens of all better answers. valid_pairs, valid_tokens:
    pairs and such tokens in the whole batch, if this is a part of it.

    Raises ValueError as `dpo_loss`, and for a weight below 0.
    """
    at_least("nll_weight", nll_weight, 0)
    pairs = len(logps) // 2
    policy = sequence_logps(logps, batch).split(pairs)
    plain = dpo_loss(*policy, *reference.split(pairs), beta=beta, valid=valid_pairs)
    learned = batch.learned
    tokens = learned.sum() if valid_tokens is None else valid_tokens
    nll = -torch.where(learned, logps[:pairs], 0).sum() / tokens
    loss = plain.loss + nll_weight * nll
    return DpoLoss(loss, plain.chosen_rewards, plain.rejected_rewards, nll.detach())
