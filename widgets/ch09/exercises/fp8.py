"""Chapter 09, exercise 5: FP8 with a scale for each row, and a bound on the row's largest number.

First q and the scale are judged together, then what goes into the cast, then `saturated`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from llama3lib.quant import quantize_rows
from llama3lib.quant.fp8 import BOUND, FP8, LARGEST
from widgets.core.judge import Case, Known, Mistake, attempt, check_form, diagnose, run

_WHAT = "fp8_rows"
_ROUNDS_DOWN = 464.0
"""Half-way to the number after 448: what is larger has no place in e4m3."""

Pair = tuple[Tensor, Tensor]


def _largest(x: Tensor) -> Tensor:
    return x.abs().amax(-1, keepdim=True)


def _scaled(
    size: Callable[[Tensor, float], Tensor] = lambda x, bound: _largest(x).clamp(max=bound),
    scale: Callable[[Tensor, float], Tensor] = lambda size, bound: size / LARGEST,
    tiny: float = 1e-12,
    clamp: bool = True,
) -> Callable[..., Pair]:
    """Quantised rows and scales from their parts."""

    def rows(x: Tensor, bound: float = BOUND) -> Pair:
        factor = scale(size(x, bound).clamp(min=tiny), bound).expand(len(x), 1)
        wide = x / factor
        if clamp:
            return wide.clamp(-LARGEST, LARGEST).to(FP8), factor
        lost = wide.abs() > _ROUNDS_DOWN  # some versions of PyTorch make NaN of it, some 448
        return wide.masked_fill(lost, torch.nan).to(FP8), factor

    return rows


def _upside_down(x: Tensor, bound: float = BOUND) -> Pair:
    q, scale = quantize_rows(x, bound)
    return q, 1 / scale


_PAIR_KNOWN = [
    Known(
        "the bound is put on the scale",
        _scaled(
            lambda x, bound: _largest(x), lambda size, bound: (size / LARGEST).clamp(max=bound)
        ),
        "It bounds the row's largest number, before the division by 448.",
    ),
    Known(
        "there is no bound",
        _scaled(lambda x, bound: _largest(x)),
        "One huge number in a row lets all others sink to the small end.",
    ),
    Known(
        "one scale for the whole tensor",
        _scaled(lambda x, bound: x.abs().amax().clamp(max=bound).view(1, 1)),
        "Each row has its own largest number.",
    ),
    Known(
        "every row has the scale of the bound",
        _scaled(lambda x, bound: torch.full_like(x[:, :1], bound)),
        "A row of small numbers would use the small end of FP8 only.",
    ),
    Known(
        "numbers that do not fit go into the cast",
        _scaled(clamp=False),
        "What the bound has cut is larger than 448 after the division. Clamp before the cast.",
    ),
    Known(
        "a row of zeros is divided by zero",
        _scaled(tiny=0.0),
        "Its largest number is 0. Let it be at least something tiny.",
    ),
    Known(
        "negative numbers are not seen",
        _scaled(lambda x, bound: x.amax(-1, keepdim=True).clamp(max=bound)),
        "The largest number is the one farthest from 0.",
    ),
    Known("the scale is upside down", _upside_down, "x is about q times the scale."),
    Known(
        "the largest number becomes 127, not 448",
        _scaled(scale=lambda size, bound: size / 127),
        "127 is the end of 8-bit whole numbers. FP8 of this kind reaches to 448.",
    ),
    Known(
        "the largest number becomes 1, not 448",
        _scaled(scale=lambda size, bound: size),
        "The upper part of FP8 stays unused, and small numbers are lost.",
    ),
    Known(
        "the bound takes the place of 448",
        _scaled(scale=lambda size, bound: size / bound),
        "448 is the largest number of FP8. The bound is for x.",
    ),
]


def _cut(rule: Callable[[Tensor, float, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def saturated(x: Tensor, bound: float = BOUND) -> Tensor:
        return rule(x, bound, *quantize_rows(x, bound))

    return saturated


_saturated = _cut(lambda x, bound, q, scale: x.abs() > bound)
_CUT_KNOWN = [
    Known(name, _cut(rule), why)
    for name, rule, why in (
        (
            "saturated: a number exactly at the bound counts",
            lambda x, bound, q, scale: x.abs() >= bound,
            "It comes back as it was.",
        ),
        (
            "saturated: only the largest of a row counts",
            lambda x, bound, q, scale: (x.abs() > bound) & (x.abs() == _largest(x)),
            "Several numbers of a row may be over the bound.",
        ),
        (
            "saturated: whole rows count",
            lambda x, bound, q, scale: (_largest(x) > bound).expand_as(x),
            "Numbers below the bound are not cut, whoever stands beside them.",
        ),
        (
            "saturated: negative numbers are not seen",
            lambda x, bound, q, scale: x > bound,
            "-2000 is cut as well as 2000.",
        ),
        (
            "saturated: numbers that are only rounded count",
            lambda x, bound, q, scale: (q.float() * scale).abs() < x.abs(),
            "FP8 rounds nearly everything, half of it downwards. What did the bound cut?",
        ),
        (
            "saturated: compared with 448, not with the bound",
            lambda x, bound, q, scale: x.abs() > LARGEST,
            "448 is the end of q. x is compared with the bound.",
        ),
        (
            "saturated: the largest number of every row counts",
            lambda x, bound, q, scale: (q.float().abs() == LARGEST) & (x != 0),
            "It becomes 448 by its own scale, and comes back as it was.",
        ),
        (
            "saturated: what rounds above 448 counts",
            lambda x, bound, q, scale: (x / scale).abs() > LARGEST,
            "448 times its share is not always 448 again: the division rounds. Compare x itself.",
        ),
        (
            "saturated: the wrong way round",
            lambda x, bound, q, scale: x.abs() <= bound,
            "True where the bound has cut.",
        ),
        (
            "saturated: nothing is found",
            lambda x, bound, q, scale: torch.zeros_like(x, dtype=torch.bool),
            "Numbers over the bound come back as the bound.",
        ),
    )
]


class _IntoFP8(TorchFunctionMode):
    """Remembers the largest number that was turned into FP8."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0.0

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == FP8:
            for given in args:
                if isinstance(given, Tensor) and given.dtype != FP8 and given.numel():
                    self.largest = max(self.largest, float(given.abs().max()))
        return result


def _cases() -> list[Case]:
    small: list[tuple] = [
        ([[3.0, -1.0]],),
        ([[1.0, -3.0]],),
        ([[2400.0, 50.0]],),
        ([[-2400.0, 50.0, 1200.0]],),
        ([[1e6, 50.0, 2000.0]],),
        ([[1.0, 0.5], [0.0, 0.0]],),
        ([[300.0, 2.0], [3.0, 1.0]],),
        ([[1.0, 20.0, 10.0]], 10.0),
    ]
    cases = []
    for rows, *bound in small:
        told = f"x={rows}" + (f", bound={bound[0]:g}" if bound else "")
        cases.append(Case((torch.tensor(rows), *bound), told))
    draw = torch.Generator().manual_seed(5)
    while len(cases) < 24:
        t, i = torch.randint(2, 12, (2,), generator=draw).tolist()
        x = torch.randn(t, i, generator=draw) * 10 ** torch.randint(-2, 4, (t, 1), generator=draw)
        x[int(torch.randint(t, (), generator=draw))] *= 0
        bound = float(torch.randint(2, 2000, (), generator=draw))
        if _is_certain(x, bound):
            cases.append(Case((x, bound), f"x random of shape [{t}, {i}], bound={bound:g}"))
    return cases


def _is_certain(x: Tensor, bound: float = BOUND) -> bool:
    """Whether no number is so near the middle of two FP8 numbers that the order of sums decides."""
    wide = (x / quantize_rows(x, bound)[1]).clamp(-LARGEST, LARGEST)
    up, down = (wide * (1 + side * 1e-5) for side in (1, -1))
    return torch.equal(up.to(FP8).float(), down.to(FP8).float())


def _plain(function: Callable) -> Callable:
    """q and scale of a function; for rows of zeros any finite scale will do."""

    def pair(x: Tensor, *bound: float) -> object:
        result = function(x, *bound)
        try:
            q, scale = result[0], result[1].clone()
            empty = (x == 0).all(-1) & (q.float() == 0).all(-1) & scale.isfinite().all(-1)
            scale[empty] = 0
        except (TypeError, IndexError, AttributeError, RuntimeError):
            return result  # its form is told of elsewhere
        return q, scale

    return pair


def _check_form(answer: Callable, case: Case) -> None:
    """Three tensors, their shapes and dtypes."""
    result, (x,) = run(answer, case, _WHAT), case.inputs
    if not isinstance(result, tuple | list) or len(result) != 3:
        why = "q, scale and saturated, in this order."
        raise Mistake(f"{_WHAT}: three tensors are needed", shows=case.shows, why=why)
    q, scale, saturated = result
    if isinstance(q, Tensor) and q.dtype != FP8:
        why = f"{q.dtype} came, {FP8} is needed."
        raise Mistake("q is not in FP8", shows=case.shows, why=why)
    if isinstance(scale, Tensor) and scale.numel() == 1:
        why = "A scale for each row is needed: shape [T, 1]."
        raise Mistake("one scale for the whole tensor", shows=case.shows, why=why)
    if isinstance(scale, Tensor) and scale.shape in ((x.shape[1],), (1, x.shape[1])):
        why = f"{list(scale.shape)} came, [T, 1] is needed: a row is a token."
        raise Mistake("a scale for each column, not for each row", shows=case.shows, why=why)
    check_form(q, x.to(FP8), f"{_WHAT}, q", case.shows)
    check_form(scale, x[:, :1], f"{_WHAT}, scale", case.shows)
    check_form(saturated, x > 0, f"{_WHAT}, saturated", case.shows)


def check_fp8_rows(answer: Callable) -> None:
    """09.5: fp8_rows(x, bound)."""
    draw = torch.Generator().manual_seed(6)
    _check_form(answer, Case((torch.randn(2, 3, generator=draw),), "x of shape [2, 3]"))
    cases = _cases()
    known = [Known(k.name, _plain(k.function), k.why) for k in _PAIR_KNOWN]
    right = _plain(lambda x, bound=BOUND: quantize_rows(x, bound))
    diagnose(_plain(answer), right, cases, known, what=_WHAT, tolerance=1e-6)
    for case in cases:
        with _IntoFP8() as seen:
            attempt(answer, case)
        if seen.largest > _ROUNDS_DOWN:
            why = (
                f"{seen.largest:g} went into the cast. This version of PyTorch makes 448 of it, "
                "others make NaN. Clamp before."
            )
            raise Mistake("numbers that do not fit go into the cast", shows=case.shows, why=why)
    diagnose(lambda *given: answer(*given)[2], _saturated, cases, _CUT_KNOWN, what=_WHAT)
