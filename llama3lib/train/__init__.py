"""Training: from a recipe to weights, resumable to the bit.

- `config`, `schedule`: recipes, phases, learning rates
- `sources`: documents to token shards
- `loss`, `optim`, `step`: what one step computes
- `trainer`, `prepare`, `state`, `metrics`, `interrupt`: the loop, its checkpoints and logs
- `gates`: what a run is judged by; `export`: its folders for others
- `plan`, `reference_curves`: what a run will cost, and what its loss should look like
- `byte_model`: train a byte-level model on a text, for controlled comparisons
"""

from llama3lib.train.byte_model import ByteRun, compare_texts, loss_on_texts, train_byte_model
from llama3lib.train.config import (
    OptimizerConfig,
    Phase,
    SourceConfig,
    TrainConfig,
    load_config,
    make_config,
)
from llama3lib.train.loss import next_token_loss
from llama3lib.train.metrics import read_metrics
from llama3lib.train.optim import lr_at, make_adamw
from llama3lib.train.plan import make_plan
from llama3lib.train.reference_curves import (
    ReferenceCurve,
    load_reference_curve,
    make_reference_curve,
)
from llama3lib.train.schedule import planned_rates
from llama3lib.train.sources import open_sources
from llama3lib.train.step import DivergedError, train_step
from llama3lib.train.trainer import StoppedError, Trainer, TrainResult

__all__ = [
    "ByteRun",
    "DivergedError",
    "OptimizerConfig",
    "Phase",
    "ReferenceCurve",
    "SourceConfig",
    "StoppedError",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "compare_texts",
    "load_config",
    "load_reference_curve",
    "loss_on_texts",
    "lr_at",
    "make_adamw",
    "make_config",
    "make_plan",
    "make_reference_curve",
    "next_token_loss",
    "open_sources",
    "planned_rates",
    "read_metrics",
    "train_byte_model",
    "train_step",
]
