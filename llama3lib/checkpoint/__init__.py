"""Checkpoints, read and written.

- of others: Hugging Face folders and Meta folders (`load_model`, `save_hf`, `save_meta`); their
  names for our parameters are in `hf` and `meta`
- of a training run: `CheckpointManager`; their mean: `average_checkpoints`, `RunningMean`
"""

from llama3lib.utils.lazy import lazy_names

__all__ = [
    "CheckpointError",
    "CheckpointManager",
    "Restored",
    "RunningMean",
    "average_checkpoints",
    "bundled_path",
    "is_chat_model",
    "load_args",
    "load_model",
    "load_tokenizer",
    "save_hf",
    "save_meta",
    "write_tokenizer",
]

# torch takes seconds to import, torch.distributed one more: who only asks for help shall not wait
__getattr__ = lazy_names(
    __name__,
    {
        "averaging": ("RunningMean", "average_checkpoints"),
        "errors": ("CheckpointError",),
        "load": ("bundled_path", "is_chat_model", "load_args", "load_model", "load_tokenizer"),
        "manager": ("CheckpointManager", "Restored"),
        "save": ("save_hf", "save_meta", "write_tokenizer"),
    },
)
