"""Planted laws: runs whose right answer is known."""

import numpy as np

from llama3lib.scaling import REPLICATION, Run

CHINCHILLA = REPLICATION


def curves(
    noise,
    seed=0,
    *,
    budgets=(1e18, 3e18, 1e19, 3e19),
    sizes=5,
    exponent=0.5,
    coefficient=0.1,
    loss=(50.0, -0.07),
    bend=0.05,
    wide=1.2,
):
    """Runs on exact parabolas around N = coefficient · C^exponent, with noise on the loss."""
    rng, found = np.random.default_rng(seed), []
    for budget in budgets:
        middle = np.log(coefficient) + exponent * np.log(budget)
        for away in np.linspace(-wide, wide, sizes):
            size = float(np.exp(middle + away))
            value = loss[0] * budget ** loss[1] + bend * away**2 + noise * rng.normal()
            tokens = budget / (6 * size)
            found.append(
                Run(parameters=size, tokens=tokens, loss=value, budget=budget, flops=budget)
            )
    return found


def scattered(scatter, seed, *, budgets=6, sizes=7, noise=0.001):
    """`curves` with a = 0.5 whose minima are each off by luck of their own.

    Best sizes by `scatter` in ln, losses by a tenth of it.
    """
    rng, found = np.random.default_rng(1000 + seed), []
    for budget in np.geomspace(1e18, 1e18 * 10 ** ((budgets - 1) / 2), budgets):
        away, luck, again = rng.normal(), rng.normal(), int(rng.integers(1 << 30))
        found += curves(
            noise,
            again,
            budgets=(budget,),
            sizes=sizes,
            coefficient=0.1 * np.exp(scatter * away),
            loss=(50 * np.exp(0.1 * scatter * luck), -0.07),
        )
    return found


def grid_runs(law, noise=0.0, seed=0, budgets=9, sizes=15):
    """Runs of many sizes at many budgets whose losses follow a formula, with heavy-tailed noise."""
    rng, found = np.random.default_rng(seed), []
    for flops in np.geomspace(6e18, 3e21, budgets):
        best, _ = law.optimum(flops)
        for factor in np.geomspace(0.1, 10, sizes):
            size, tokens = best * factor, flops / (6 * best * factor)
            value = law.predict(size, tokens) * np.exp(noise * rng.standard_t(4))
            found.append(Run(parameters=size, tokens=tokens, loss=value))
    return found
