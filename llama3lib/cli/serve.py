"""`llama3 serve`."""

import functools
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from llama3lib import checkpoint
from llama3lib.cli.options import CheckedLater, ModelOptions
from llama3lib.cli.ranks import as_rank, join, start_ranks, under_torchrun, words_of
from llama3lib.serve.settings import Limits, Settings
from llama3lib.utils.require import at_least, positive, whole

if TYPE_CHECKING:
    from llama3lib.inference.ranks import EngineRanks


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
    restarts: int = 0
    """How often all ranks may start again after one was lost."""
    settings: OmitArgPrefixes[Settings] = field(default_factory=Settings)
    limits: OmitArgPrefixes[_Limits] = field(default_factory=_Limits)

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.utils.device import pick_device

        settings = self.settings
        for name in ("tp", "pp"):
            whole(name, getattr(settings, name))
        if settings.micro_batches is not None:
            whole("micro_batches", settings.micro_batches)
        at_least("restarts", self.restarts, 0)
        positive("timeout", settings.timeout)
        if settings.tp * settings.pp == 1:
            pick_device(self.device)  # before anything is read
            return self._serve()
        return as_rank(self._rank) if under_torchrun() else self._start()

    def _start(self) -> int:
        """One process for each rank; ends in order with Ctrl-C and SIGTERM, which is no error."""
        from llama3lib.inference.shares import Share
        from llama3lib.train.interrupt import terminated_in_order

        tp, pp = self.settings.tp, self.settings.pp
        Share(tp, pp).check(checkpoint.load_args(self.path))
        with terminated_in_order():
            code = start_ranks(
                "llama3lib.cli.main",
                ["serve", *words_of(self, ("path",))],
                tp * pp,
                self.restarts,
                again="all start again, and what was being answered is lost",
            )
        return 0 if code == 128 + signal.SIGINT else code

    def _rank(self) -> int:
        """As one of those ranks."""
        from llama3lib.inference.ranks import EngineRanks
        from llama3lib.train.mesh import MeshConfig

        settings = self.settings
        mesh = MeshConfig(tp=settings.tp, pp=settings.pp, timeout=settings.timeout)
        rank = join(mesh, self.device)
        ranks = EngineRanks(settings.tp, settings.pp, settings.timeout)
        if rank == 0:
            return self._serve(ranks)
        part, _ = self.load(self.quantize, ranks.share)
        ranks.join(part)
        both = signal.SIGINT, signal.SIGTERM
        before = [signal.signal(sign, signal.SIG_IGN) for sign in both]
        try:
            ranks.work(part)  # rank 0 ends it, after its last answer
        finally:
            for sign, handler in zip(both, before, strict=True):
                signal.signal(sign, handler)
        return 0

    def _serve(self, ranks: "EngineRanks | None" = None) -> int:
        from llama3lib.serve.run import serve

        share = None if ranks is None else ranks.share
        serve(
            functools.partial(self.load, self.quantize, share),
            self.settings,
            self.limits.checked(),
            model_name=self.name or Path(self.path).resolve().name,
            chat=self.chat or checkpoint.is_chat_model(self.path),
            ready=functools.partial(print, flush=True),
            ranks=ranks,
        )
        return 0
