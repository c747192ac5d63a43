"""Dialogs to ids and loss mask, made, cut and padded together (paper section 4.1.3).

A loss is taken on what the assistant says and on the token that ends it; headers, questions and
the answers of tools are read and not learned. Whatever is done to the ids is done to the mask.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llama3lib.posttrain.dialogs import Dialog
from llama3lib.posttrain.rows import BadRowError
from llama3lib.tokenizer import ChatFormat, ChatTemplate, EncodedDialog
from llama3lib.train.loss import IGNORED
from llama3lib.utils.require import at_least, require

Format = ChatFormat | ChatTemplate


@dataclass
class CutAccount:
    """What became of dialogs on their way to ids."""

    dialogs: int = 0
    """Asked for."""
    tokens: int = 0
    """In the dialogs that came out, after cutting."""
    learned: int = 0
    """Of them with a loss."""
    cut: int = 0
    """Dialogs that were too long; their end is missing."""
    cut_tokens: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    """Dialogs that could not be used, by id, and why."""

    def lines(self, shown: int = 5) -> list[str]:
        """For people."""
        told = [f"{self.dialogs:,} dialogs, {self.tokens:,} tokens, {self.learned:,} learned"]
        if self.cut:
            told.append(f"{self.cut:,} too long and cut, {self.cut_tokens:,} tokens lost")
        if self.dropped:
            told.append(f"{len(self.dropped):,} dropped")
            told += [f"{name}: {why}" for name, why in list(self.dropped.items())[:shown]]
        return told


def encode_dialog(dialog: Dialog, chat: Format) -> EncodedDialog:
    """Ids and loss mask of a whole dialog; nothing before `learned_from` is learned.

    Raises BadRowError if the format does not take the dialog, or cannot tell where the part to
    learn begins.
    """
    more = {"tools": dialog.tools} if dialog.tools else {}
    if more and isinstance(chat, ChatFormat):
        told = "this format tells functions in a system or user message, not by themselves"
        raise BadRowError("tools", told)
    try:
        whole = chat.encode_dialog(dialog.messages, **more)
        if not dialog.learned_from:
            return whole
        before = chat.encode_dialog(dialog.messages[: dialog.learned_from], **more).ids
    except ValueError as error:
        raise BadRowError("chat format", str(error)) from None
    if whole.ids[: len(before)] != before:
        raise BadRowError("chat format", "an answer changes what stands before it")
    start = len(before)
    return EncodedDialog(whole.ids, [False] * start + whole.loss_mask[start:])


def cut_dialog(dialog: EncodedDialog, max_length: int) -> EncodedDialog:
    """The first `max_length` ids with their mask.

    Raises ValueError if that is below 2: one token has nothing to predict.
    """
    at_least("max_length", max_length, 2)
    return EncodedDialog(dialog.ids[:max_length], dialog.loss_mask[:max_length])


def encode_dialogs(
    dialogs: Iterable[Dialog], chat: Format, max_length: int, account: CutAccount | None = None
) -> list[EncodedDialog]:
    """Dialogs of `max_length` ids at most; those without anything to learn are dropped and told."""
    account, found = CutAccount() if account is None else account, []
    for dialog in dialogs:
        account.dialogs += 1
        try:
            whole = encode_dialog(dialog, chat)
        except BadRowError as error:
            account.dropped[dialog.id] = str(error)
            continue
        made = cut_dialog(whole, max_length)
        if not any(made.loss_mask[1:]):
            told = f"the first {len(made.ids):,} of {len(whole.ids):,} tokens have nothing to learn"
            account.dropped[dialog.id] = told
            continue
        account.cut += len(made.ids) < len(whole.ids)
        account.cut_tokens += len(whole.ids) - len(made.ids)
        account.tokens += len(made.ids)
        account.learned += sum(made.loss_mask)
        found.append(made)
    return found


@dataclass(frozen=True)
class Rows:
    """Dialogs as rows of one length, filled up on the right."""

    ids: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]
    """The same ids where a loss is taken, -100 elsewhere; not shifted."""
    attended: Bool[Tensor, "B T"]
    """False on the filling."""

    @property
    def targets(self) -> Int[Tensor, "B T"]:
        """For logits [B, T, V]: what stands one place further on; the last has none."""
        end = self.labels.new_full((len(self.labels), 1), IGNORED)
        return torch.cat([self.labels[:, 1:], end], 1)


def collate(dialogs: Sequence[EncodedDialog], pad_id: int) -> Rows:
    """A batch, as long as its longest dialog.

    Raises ValueError for no dialogs, or a mask that is not as long as its ids.
    """
    require(len(dialogs) > 0, "dialogs", [], "one at least")
    for dialog in dialogs:
        sizes = len(dialog.ids), len(dialog.loss_mask)
        require(sizes[0] == sizes[1], "ids and loss_mask", sizes, "as many of both")
    length = max(len(dialog.ids) for dialog in dialogs)
    ids = torch.full((len(dialogs), length), pad_id)
    labels = torch.full_like(ids, IGNORED)
    attended = torch.zeros_like(ids, dtype=torch.bool)
    for row, dialog in enumerate(dialogs):
        own = torch.tensor(dialog.ids)
        ids[row, : len(own)], attended[row, : len(own)] = own, True
        labels[row, : len(own)] = own.where(torch.tensor(dialog.loss_mask), IGNORED)
    return Rows(ids, labels, attended)
