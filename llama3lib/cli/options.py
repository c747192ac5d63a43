"""Options that several commands have."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, Suppress, arg

from llama3lib.inference import SamplingParams

if TYPE_CHECKING:
    from typing import Self

    from llama3lib.checkpoint.load import ModelShare
    from llama3lib.model import Transformer
    from llama3lib.tokenizer import Tokenizer


class CheckedLater:
    """In front of a dataclass that checks itself: tyro would put a box around what it finds."""

    def __post_init__(self) -> None:
        """Nothing yet."""

    def checked(self) -> "Self":
        """The options. Raises ValueError for a wrong one."""
        super().__post_init__()
        return self


@dataclass(frozen=True, kw_only=True)
class Sampling(CheckedLater, SamplingParams):
    """How to choose tokens and when to stop."""

    seed: Annotated[int | None, arg(metavar="INT")] = None
    """The same seed gives the same text."""
    logprobs: Suppress[int | None] = None
    prompt_logprobs: Suppress[int | None] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, where, and in which format."""

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """A checkpoint folder (Hugging Face or Meta layout), or a bundled name such as tiny-base."""
    dtype: Literal["stored", "float32", "bfloat16", "float16"] = "stored"
    """Number format of the weights."""
    device: str = "cpu"
    """Where to run: cpu, cuda, mps; auto takes the fastest there is."""

    def load(
        self, scheme: str | None = None, share: "ModelShare | None" = None
    ) -> "tuple[Transformer, Tokenizer]":
        """Model and tokenizer, made fast for generating.

        scheme: with weights in fewer bits. share: only a rank's part of the model.
        """
        import torch

        from llama3lib.checkpoint import load_model, load_tokenizer
        from llama3lib.inference import fuse_projections
        from llama3lib.utils.device import pick_device

        device = pick_device(self.device)
        dtype = None if self.dtype == "stored" else getattr(torch, self.dtype)
        tokenizer = load_tokenizer(self.path)
        model = load_model(self.path, dtype=dtype, device=device, share=share)
        return fuse_projections(model, scheme=scheme), tokenizer


def text_or_stdin(text: str) -> str:
    """The text; of standard input for "-"."""
    return sys.stdin.read() if text == "-" else text
