"""Numbers in words, written once for all views."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

_LETTERS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def thousands(value: float) -> str:
    """A whole number with commas: 131,072."""
    return f"{math.floor(value + 0.5):,}"


def significant(value: float, digits: int = 3) -> str:
    """So many digits at the most, with commas: 0.346, 15.1, 178,000."""
    return format(Decimal(f"{value + 0.0:.{digits}g}").normalize(), ",f")


def fixed(value: float, places: int = 2) -> str:
    """So many decimal places; halves go up."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def percent(share: float, digits: int = 2) -> str:
    """A share of 1: 0.35%, 4.7%, 47%, 100%."""
    return f"{significant(100 * share, digits)}%"


def with_letter(value: float, digits: int = 3, least: float = 1e3) -> str:
    """Three digits and a letter from `least` on: 63, 10K, 252M, 2.87T."""
    size, letter = next(((s, x) for s, x in _LETTERS if value >= s >= least), (1, ""))
    return significant(value / size, digits) + letter


def with_prefix(value: float, unit: str) -> str:
    """Three digits and a prefix of the SI: 812 GB, 2.11 GB, 840 GFLOP."""
    size, prefix = next(((s, p) for s, p in _PREFIXES if value >= s), (1, ""))
    return f"{significant(value / size)} {prefix}{unit}"


def scientific(value: float, digits: int = 3) -> str:
    """As budgets are written: 1e11, 3.8e25; 0 stays 0."""
    if not value:
        return "0"
    number, power = f"{value:.{digits - 1}e}".split("e")
    return f"{float(number):g}e{int(power)}"


def duration(seconds: float) -> str:
    """As in 15.1 ms or 2.04 s."""
    return f"{significant(seconds)} s" if seconds >= 1 else f"{significant(1000 * seconds)} ms"


def gibibytes(count: float) -> str:
    """Bytes as in 16 MiB, 7.875 GiB, 63.0 GiB, 1,008 GiB."""
    size = count / 2**30
    if size < 1:
        return f"{count / 2**20:.4g} MiB"
    if size >= 100:
        return f"{size:,.0f} GiB"
    return f"{size:.1f} GiB" if size >= 10 else f"{size:.4g} GiB"


def kibibytes(count: float) -> str:
    """Bytes as KiB, or MiB from 1,024 KiB."""
    size = count / 1024
    return f"{size / 1024:,.4g} MiB" if size >= 1024 else f"{size:,.4g} KiB"


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """1 token, 2 tokens, 1,024 tokens."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[object]) -> str:
    """Names with commas, as in "one of a, b, c"."""
    return ", ".join(str(name) for name in names)
