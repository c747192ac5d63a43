"""`llama3 export`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a checkpoint of a training run as a Hugging Face folder."""

    path: Annotated[Positional[str], arg(metavar="RUN")]
    """Folder of a run."""
    out: Annotated[Positional[str], arg(metavar="FOLDER")]
    """A new folder."""
    step: Annotated[int | None, arg(metavar="INT")] = None
    """Which checkpoint; the last one if left out."""
    average: Annotated[str | None, arg(metavar="PHASE")] = None
    """Instead: the mean of the weights kept in this phase."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.train.export import export

        export(self.path, self.out, step=self.step, phase=self.average)
        print(f"written: {self.out}")
        return 0
