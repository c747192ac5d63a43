"""What a run is judged by while it trains: held-out loss, and the gate of section 3.4.2.

How a loss or a long context is measured comes as an argument: `train` knows no `eval`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from llama3lib.checkpoint import load_tokenizer
from llama3lib.data.tokens import TokenShard
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.train.config import HELD_OUT, Phase, TrainConfig
from llama3lib.train.metrics import read_metrics
from llama3lib.train.prepare import held_out_windows

_TEXTS = 20

Evaluate = Callable[[Transformer], Mapping[str, float]]


class GateReport(Protocol):
    """What a gate answers; a dataclass, whose fields go to the log."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def passed(self) -> bool: ...


Gate = Callable[[Transformer, Phase], GateReport]
HeldOutLoss = Callable[[Transformer, TokenShard, int, int], float]
"""Model, text, length and number of windows to nats a token."""
Judge = Callable[[Transformer, Tokenizer, Sequence[str], int, float, float], GateReport]
"""Model, tokenizer, texts, length, loss on short text, and what that was before the gates."""


def make_evaluation(
    config: TrainConfig, sources: Mapping[str, TokenShard], held_out_loss: HeldOutLoss
) -> Evaluate | None:
    """Loss on the held-out text, at the length of the first phase; None if there is no such text.

    Raises ValueError if that text is too short.
    """
    if HELD_OUT not in sources:
        return None
    shard, length = sources[HELD_OUT], config.phases[0].length
    windows = held_out_windows(config, shard)

    def evaluate(model: Transformer) -> dict[str, float]:
        return {"held_out_loss": held_out_loss(model, shard, length, windows)}

    return evaluate


def make_gate(
    config: TrainConfig,
    sources: Mapping[str, TokenShard],
    folder: str | Path,
    evaluate: Evaluate | None,
    judge: Judge,
) -> Gate:
    """Section 3.4.2: the short text is read as well as before, the needle is found everywhere.

    As before: the held-out loss at the end of the phase before the first one with a gate, as the
    log in `folder` has it, so that a run that was interrupted has the same; the loss now if there
    is none.

    Raises ValueError if there is no held-out text to judge by.
    """
    tokenizer = load_tokenizer(config.tokenizer)
    if evaluate is None:
        raise ValueError("gate=true is not allowed: it needs held_out text")
    texts = _plain_texts(sources[HELD_OUT], tokenizer)

    def gate(model: Transformer, phase: Phase) -> GateReport:
        loss = evaluate(model)["held_out_loss"]
        before = config.gate_reference
        if before is None:
            before = _loss_before_gates(config, Path(folder))
        if before is None:
            before = loss
        return judge(model, tokenizer, texts, phase.length, loss, before)

    return gate


def _plain_texts(shard: TokenShard, tokenizer: Tokenizer) -> list[str]:
    """The first documents, without the tokens at both ends, which are no text."""
    documents = (shard.document(n) for n in range(min(_TEXTS, shard.index["documents"])))
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
