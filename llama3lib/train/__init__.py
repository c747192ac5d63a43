"""Training: schedules and optimizer, and a loop for models that train in a minute.

- `optim`: learning-rate schedule, which weights decay
- `small`: train a byte-level model on a text, for controlled comparisons
"""

from llama3lib.train.optim import lr_at, make_adamw
from llama3lib.train.small import SmallRun, compare_texts, held_out_loss, train_small

__all__ = ["SmallRun", "compare_texts", "held_out_loss", "lr_at", "make_adamw", "train_small"]
