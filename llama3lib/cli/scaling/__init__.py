"""`llama3 scaling sweep`, `fit` and `predict`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import OmitSubcommandPrefixes, subcommand

from llama3lib.cli.scaling.fit import Fit
from llama3lib.cli.scaling.predict import Predict
from llama3lib.cli.scaling.sweep import Sweep

Action = OmitSubcommandPrefixes[
    Annotated[Sweep, subcommand("sweep")]
    | Annotated[Fit, subcommand("fit")]
    | Annotated[Predict, subcommand("predict")]
]


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Scaling laws: sweep (make small runs), fit (find laws), predict (a larger run)."""

    action: Action
    """What to do."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        return self.action.run()
