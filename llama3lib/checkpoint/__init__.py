"""Checkpoints of others, read and written: Hugging Face folders and Meta folders."""

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.load import bundled_path, load_args, load_model, load_tokenizer
from llama3lib.checkpoint.save import save_hf, save_meta

__all__ = [
    "CheckpointError",
    "bundled_path",
    "load_args",
    "load_model",
    "load_tokenizer",
    "save_hf",
    "save_meta",
]
