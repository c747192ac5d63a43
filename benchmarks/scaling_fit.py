"""The fit of Chinchilla's formula: ours against plain SciPy from many starts, on one thread.

    python benchmarks/scaling_fit.py                   # about two minutes
    python benchmarks/scaling_fit.py --points FILE     # on a table of your own

The peer is what published replications do: `scipy.optimize.minimize` with L-BFGS from each start
of Hoffmann and others' grid of 4,500, with differences for a gradient. It goes down from every
`--each`-th of them, and its time is told for these and, times that number, for all. Both sides run
in turn, in one process. A ratio is the peer's seconds over ours of the same round, so above 1
means that ours is faster. How low each side gets is what counts first: lower is better.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import huber

from llama3lib.scaling import REPLICATION, Run, fit_parametric, read_runs
from llama3lib.scaling.parametric import STARTS

DELTA = 1e-3


def planted(seed: int = 0) -> list[Run]:
    """240 runs at nine budgets around the best sizes, with heavy-tailed noise of half a percent."""
    rng, found = np.random.default_rng(seed), []
    for place, flops in enumerate(np.geomspace(6e18, 3e21, 9).repeat(27)[:240]):
        best, _ = REPLICATION.optimum(flops)
        size = best * 10 ** (2 * ((place * 7) % 27) / 26 - 1)
        tokens = flops / (6 * size)
        loss = REPLICATION.predict(size, tokens) * np.exp(0.005 * rng.standard_t(4))
        found.append(Run(parameters=size, tokens=tokens, loss=loss))
    return found


def plain(runs: Sequence[Run], each: int) -> float:
    """The lowest objective that SciPy finds from every `each`-th start."""
    n, d, y = np.log([[r.parameters, r.tokens, r.loss] for r in runs]).T

    def objective(theta: np.ndarray) -> float:
        a, b, e, alpha, beta = theta
        fitted = np.logaddexp(np.logaddexp(a - alpha * n, b - beta * d), e)
        return float(huber(DELTA, fitted - y).sum())

    starts = list(itertools.product(*STARTS.values()))[::each]
    return min(minimize(objective, start, method="L-BFGS-B").fun for start in starts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", help="a table of runs; planted ones if left out")
    parser.add_argument("--drop-highest", type=int, default=0)
    parser.add_argument("--each", type=int, default=45)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs = read_runs(options.points) if options.points else planted()
    runs = sorted(runs, key=lambda run: run.loss)[: len(runs) - options.drop_highest]
    fit_parametric(runs)  # imports, once
    ratios, lows = [], []
    for _ in range(options.rounds):
        start = time.perf_counter()
        ours = fit_parametric(runs).objective
        middle = time.perf_counter()
        theirs = plain(runs, options.each)
        end = time.perf_counter()
        ratios.append((end - middle) * options.each / (middle - start))
        lows.append((ours, theirs))
        print(f"ours {middle - start:.2f} s, objective {ours:.8g}; ", end="")
        print(f"every {options.each}th start {end - middle:.1f} s, objective {theirs:.8g}")
    spread = f"{min(ratios):.0f} to {max(ratios):.0f}"
    print(f"all 4,500 starts would take {statistics.median(ratios):.0f} ({spread}) times ours")
    ours, theirs = lows[0]
    print(f"objective of the peer over ours: {theirs / ours:.6f}")


if __name__ == "__main__":
    main()
