"""Checkpoints, read and written.

- of others: Hugging Face folders and Meta folders (`load_model`, `save_hf`, `save_meta`)
- of a training run: `CheckpointManager`; their mean: `average_checkpoints`, `RunningMean`
"""

import importlib
from typing import TYPE_CHECKING, Any

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.load import bundled_path, load_args, load_model, load_tokenizer
from llama3lib.checkpoint.save import save_hf, save_meta

if TYPE_CHECKING:
    from llama3lib.checkpoint.averaging import RunningMean, average_checkpoints
    from llama3lib.checkpoint.manager import CheckpointManager, Restored

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

# torch.distributed takes a second to import: who only loads a model should not wait for it
_LATER = {
    "CheckpointManager": "manager",
    "Restored": "manager",
    "RunningMean": "averaging",
    "average_checkpoints": "averaging",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
