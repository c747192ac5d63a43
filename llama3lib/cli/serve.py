"""`llama3 serve`."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from llama3lib import checkpoint
from llama3lib.cli.options import CheckedLater, ModelOptions
from llama3lib.serve.settings import Limits, Settings


@dataclass(frozen=True, kw_only=True)
class _Limits(CheckedLater, Limits):
    """How much may be asked for."""


@dataclass(frozen=True, kw_only=True)
class Serve(ModelOptions):
    """Answer over HTTP as OpenAI's servers do: completions, chat, streams, tools.

    Ctrl-C or SIGTERM: no new requests, those that are open finish, the exit code is 0.
    """

    name: Annotated[str | None, arg(metavar="NAME")] = None
    """What clients call the model; the last part of PATH if left out."""
    chat: bool = False
    """Answer dialogs even if nothing says that the model was trained to chat."""
    quantize: Literal["fp8", "int8", "int8-dynamic", "int4"] | None = None
    """Weights in fewer bits: fp8 as in the paper; the others for a CPU (int4: quickest)."""
    settings: OmitArgPrefixes[Settings] = field(default_factory=Settings)
    limits: OmitArgPrefixes[_Limits] = field(default_factory=_Limits)

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.serve.run import serve
        from llama3lib.utils.device import pick_device

        pick_device(self.device)  # before anything is read
        serve(
            functools.partial(self.load, self.quantize),
            self.settings,
            self.limits.checked(),
            model_name=self.name or Path(self.path).resolve().name,
            chat=self.chat or checkpoint.is_chat_model(self.path),
            ready=functools.partial(print, flush=True),
        )
        return 0
