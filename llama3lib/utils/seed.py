"""One seed for every source of randomness, and one thread for sums that repeat."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from llama3lib.utils.require import require

LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch; return a CPU generator with the same seed.

    The library itself draws only from generators that it is given: pass this one on. The global
    sources are seeded for code of others. Raises ValueError if the seed is not a whole number
    from 0 to LARGEST_SEED.
    """
    ok = not isinstance(seed, bool) and isinstance(seed, int) and 0 <= seed <= LARGEST_SEED
    require(ok, "seed", seed, f"use a whole number from 0 to {LARGEST_SEED}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # accelerators as well
    return torch.Generator().manual_seed(seed)


def make_generator(seed: int | None, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator with that seed; with one that nobody chose if there is none."""
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside the block, with as many as before after it.

    The order of a sum depends on the number of threads, and so does its last digit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
