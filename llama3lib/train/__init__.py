"""Training: from a recipe to weights, resumable to the bit.

- `config`, `schedule`: recipes, phases, learning rates
- `sources`: documents to token shards
- `loss`, `optim`, `step`: what one step computes
- `trainer`, `prepare`, `state`, `metrics`, `interrupt`: the loop, its checkpoints and logs
- `gates`: what a run is judged by; `export`: its folders for others
- `plan`, `bands`: what a run will cost, and what its loss should look like
- `small`: train a byte-level model on a text, for controlled comparisons
"""

from llama3lib.train.bands import Band, load_band, make_band
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
from llama3lib.train.schedule import planned_rates
from llama3lib.train.small import SmallRun, compare_texts, held_out_loss, train_small
from llama3lib.train.sources import open_sources
from llama3lib.train.step import DivergedError, train_step
from llama3lib.train.trainer import StoppedError, Trainer, TrainResult

__all__ = [
    "Band",
    "DivergedError",
    "OptimizerConfig",
    "Phase",
    "SmallRun",
    "SourceConfig",
    "StoppedError",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "compare_texts",
    "held_out_loss",
    "load_band",
    "load_config",
    "lr_at",
    "make_adamw",
    "make_band",
    "make_config",
    "make_plan",
    "next_token_loss",
    "open_sources",
    "planned_rates",
    "read_metrics",
    "train_small",
    "train_step",
]
