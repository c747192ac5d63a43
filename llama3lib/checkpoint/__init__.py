"""Checkpoints, read and written.

- of others: Hugging Face folders and Meta folders (`load_model`, `save_hf`, `save_meta`)
- of a training run: `CheckpointManager`; their mean: `average_checkpoints`, `RunningMean`
"""

from llama3lib.checkpoint.averaging import RunningMean, average_checkpoints
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.load import bundled_path, load_args, load_model, load_tokenizer
from llama3lib.checkpoint.manager import CheckpointManager, Restored
from llama3lib.checkpoint.save import save_hf, save_meta

__all__ = [
    "CheckpointError",
    "CheckpointManager",
    "Restored",
    "RunningMean",
    "average_checkpoints",
    "bundled_path",
    "load_args",
    "load_model",
    "load_tokenizer",
    "save_hf",
    "save_meta",
]
