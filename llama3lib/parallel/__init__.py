"""More work than one device can hold.

- `activation`: keep less between forward and backward, compute the rest again
"""

from llama3lib.parallel.activation import apply_activation_checkpointing

__all__ = ["apply_activation_checkpointing"]
