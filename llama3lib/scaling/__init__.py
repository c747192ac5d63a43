"""Scaling laws (§3.2.1): small runs, their curves and laws, and how far to trust those.

- `points`, `tables`: finished runs, and files of them
- `plan`, `sweep`: which runs a sweep makes, and making them on the trainer
- `folder`, `records`, `locks`, `workers`: where they are kept, and many at once
- `task`: a task on the text with a long tail, `llama3lib.worlds.language`
- `isoflop`, `power_law`, `noise`: the paper's method, with error bars
- `parametric`: the other method, one formula for all runs
- `downstream`: FLOPs to loss to accuracy
- `serving`: the cheapest model when it is also to be used
- the law of the data mix is `llama3lib.data.mixture`'s, told here too
"""

from llama3lib.data.mixture import MixLaw, best_mix, fit_mix_law
from llama3lib.scaling.downstream import Sigmoid, TwoSteps, fit_sigmoid, fit_two_steps
from llama3lib.scaling.isoflop import (
    IsoFlopCurve,
    Parabola,
    Prediction,
    ScalingLaw,
    fit_isoflop,
    fit_parabola,
    in_other_counts,
)
from llama3lib.scaling.parametric import (
    REPLICATION,
    ParametricFit,
    ParametricLaw,
    fit_parametric,
)
from llama3lib.scaling.plan import (
    Budget,
    Cell,
    SweepConfig,
    cells,
    load_sweep,
    sweep_names,
    sweep_seconds,
)
from llama3lib.scaling.points import Run, by_budget, read_runs, stored_path, write_runs
from llama3lib.scaling.power_law import PowerLaw, PowerLawFit, fit_line, fit_power_law
from llama3lib.scaling.serving import Life, break_even, cheapest, life, tokens_for
from llama3lib.scaling.sweep import finished, one_run, run_sweep

__all__ = [
    "REPLICATION",
    "Budget",
    "Cell",
    "IsoFlopCurve",
    "Life",
    "MixLaw",
    "Parabola",
    "ParametricFit",
    "ParametricLaw",
    "PowerLaw",
    "PowerLawFit",
    "Prediction",
    "Run",
    "ScalingLaw",
    "Sigmoid",
    "SweepConfig",
    "TwoSteps",
    "best_mix",
    "break_even",
    "by_budget",
    "cells",
    "cheapest",
    "finished",
    "fit_isoflop",
    "fit_line",
    "fit_mix_law",
    "fit_parabola",
    "fit_parametric",
    "fit_power_law",
    "fit_sigmoid",
    "fit_two_steps",
    "in_other_counts",
    "life",
    "load_sweep",
    "one_run",
    "read_runs",
    "run_sweep",
    "stored_path",
    "sweep_names",
    "sweep_seconds",
    "tokens_for",
    "write_runs",
]
