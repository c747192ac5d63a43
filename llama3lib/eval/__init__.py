"""Measuring models: loss on held-out text, needles, multiple choice, and how far to trust it.

- `perplexity`: nats per token, by position; held-out shards
- `needle`, `grid`: finding one sentence in a long text, and the gate between context stages
- `symbols`: the same for models of random symbols, which can only copy
- `multiple_choice`: choices ranked by likelihood
- `intervals`: the paper's confidence interval, Wilson's, bootstrap, paired differences
- `texts`: perplexity of one text
- `harness`: an adapter to EleutherAI's lm-eval, if that is installed
"""

from llama3lib.eval.grid import GateReport, LongContextGate, NeedleGrid
from llama3lib.eval.harness import lm_eval_model
from llama3lib.eval.intervals import (
    Interval,
    bootstrap_interval,
    confidence_interval,
    paired_difference,
    wilson_interval,
)
from llama3lib.eval.multiple_choice import (
    ChoiceReport,
    Continuation,
    ItemScore,
    MultipleChoice,
    encode_pair,
    score_choices,
    score_continuations,
)
from llama3lib.eval.needle import (
    Needle,
    city_needle,
    needle_grid,
    needle_prompt,
)
from llama3lib.eval.perplexity import PositionBin, PositionLoss, held_out_loss, loss_by_position
from llama3lib.eval.symbols import (
    HiddenNeedles,
    copy_grid,
    found_needles,
    hidden_needles,
    repeated_strings,
)
from llama3lib.eval.texts import text_perplexity

__all__ = [
    "ChoiceReport",
    "Continuation",
    "GateReport",
    "HiddenNeedles",
    "Interval",
    "ItemScore",
    "LongContextGate",
    "MultipleChoice",
    "Needle",
    "NeedleGrid",
    "PositionBin",
    "PositionLoss",
    "bootstrap_interval",
    "city_needle",
    "confidence_interval",
    "copy_grid",
    "encode_pair",
    "found_needles",
    "held_out_loss",
    "hidden_needles",
    "lm_eval_model",
    "loss_by_position",
    "needle_grid",
    "needle_prompt",
    "paired_difference",
    "repeated_strings",
    "score_choices",
    "score_continuations",
    "text_perplexity",
    "wilson_interval",
]
