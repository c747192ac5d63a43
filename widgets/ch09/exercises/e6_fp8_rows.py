"""Exercise 09.6: FP8 with a scale for each row, and a bound on the row's largest number.

First q and the scale are judged together, then what goes into the cast, then `saturated`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from llama3lib.quant import quantize_rows
from llama3lib.quant.fp8 import BOUND, FP8, LARGEST
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, check_form, run

E = Exercise(
    "09.6",
    "fp8_rows",
    hints=(
        "The row's largest number decides about the scale. Where does the bound come in: before or "
        "after the division by 448? And what then happens to numbers above the bound?",
        "Largest of each row by amount, cut to the bound, and to something tiny from below; by 448 "
        "that is the scale. Divide, cut to -448 and 448, cast. A number is saturated if the bound "
        "cut it, and that can be seen from x alone.",
        "x.abs().amax(-1, keepdim=True).clamp(1e-12, bound) / 448 is the scale; "
        "(x / scale).clamp(-448, 448).to(torch.float8_e4m3fn) is q; saturated compares x.abs() "
        "with bound.",
    ),
)
_ROUNDS_DOWN = 464.0
"""Half-way to the number after 448: what is larger has no place in e4m3."""

Rows = tuple[Tensor, Tensor, Tensor]


def _largest(x: Tensor) -> Tensor:
    return x.abs().amax(-1, keepdim=True)


def _by_hand(
    x: Tensor,
    bound: float = BOUND,
    *,
    size: Callable[[Tensor, float], Tensor] = lambda x, bound: _largest(x).clamp(max=bound),
    scale: Callable[[Tensor, float], Tensor] = lambda size, bound: size / LARGEST,
    tiny: float = 1e-12,
    clamp: bool = True,
    cut: Callable[[Tensor, float, Tensor, Tensor], Tensor] = lambda x, bound, q, scale: (
        x.abs() > bound
    ),
) -> Rows:
    """Quantised rows, scales and what the bound has cut, from their parts."""
    factor = scale(size(x, bound).clamp(min=tiny), bound).expand(len(x), 1)
    wide = x / factor
    if clamp:
        q = wide.clamp(-LARGEST, LARGEST).to(FP8)
    else:
        lost = wide.abs() > _ROUNDS_DOWN  # some versions of PyTorch make NaN of it, some 448
        q = wide.masked_fill(lost, torch.nan).to(FP8)
    return q, factor, cut(x, bound, q, factor)


def right_rows(x: Tensor, bound: float = BOUND) -> Rows:
    """The library's."""
    return *quantize_rows(x, bound), x.abs() > bound


def _upside_down(x: Tensor, bound: float = BOUND) -> Rows:
    q, scale, saturated = right_rows(x, bound)
    return q, 1 / scale, saturated


def _q_and_scale(function: Callable, *given: object) -> tuple[Tensor, Tensor]:
    """For a row of zeros any finite scale will do."""
    q, scale = function(*given)[:2]
    empty = (q.float() == 0).all(-1, keepdim=True) & scale.isfinite()
    return q, scale.masked_fill(empty & (given[0] == 0).all(-1, keepdim=True), 0)


E.reference(right_rows, model=_by_hand)
pair = E.part("q and scale", through=_q_and_scale, tolerance=1e-6)
cut = E.part("saturated", through=lambda function, *given: function(*given)[2])
pair.mistake(
    "the bound is put on the scale",
    size=lambda x, bound: _largest(x),
    scale=lambda size, bound: (size / LARGEST).clamp(max=bound),
).why("It bounds the row's largest number, before the division by 448.")
pair.mistake("there is no bound", size=lambda x, bound: _largest(x)).why(
    "One huge number in a row lets all others sink to the small end."
)
pair.mistake(
    "one scale for the whole tensor",
    size=lambda x, bound: x.abs().amax().clamp(max=bound).view(1, 1),
).why("Each row has its own largest number.")
pair.mistake(
    "every row has the scale of the bound", size=lambda x, bound: torch.full_like(x[:, :1], bound)
).why("A row of small numbers would use the small end of FP8 only.")
pair.mistake("numbers that do not fit go into the cast", clamp=False).why(
    "What the bound has cut is larger than 448 after the division. Clamp before the cast."
)
pair.mistake("a row of zeros is divided by zero", tiny=0.0).why(
    "Its largest number is 0. Let it be at least something tiny."
)
pair.mistake(
    "negative numbers are not seen", size=lambda x, bound: x.amax(-1, keepdim=True).clamp(max=bound)
).why("The largest number is the one farthest from 0.")
pair.mistake("the scale is upside down", _upside_down).why("x is about q times the scale.")
pair.mistake("the largest number becomes 127, not 448", scale=lambda size, bound: size / 127).why(
    "127 is the end of 8-bit whole numbers. FP8 of this kind reaches to 448."
)
pair.mistake("the largest number becomes 1, not 448", scale=lambda size, bound: size).why(
    "The upper part of FP8 stays unused, and small numbers are lost."
)
pair.mistake("the bound takes the place of 448", scale=lambda size, bound: size / bound).why(
    "448 is the largest number of FP8. The bound is for x."
)
cut.mistake(
    "saturated: a number exactly at the bound counts",
    cut=lambda x, bound, q, scale: x.abs() >= bound,
).why("It comes back as it was.")
cut.mistake(
    "saturated: only the largest of a row counts",
    cut=lambda x, bound, q, scale: (x.abs() > bound) & (x.abs() == _largest(x)),
).why("Several numbers of a row may be over the bound.")
cut.mistake(
    "saturated: whole rows count", cut=lambda x, bound, q, scale: (_largest(x) > bound).expand_as(x)
).why("Numbers below the bound are not cut, whoever stands beside them.")
cut.mistake(
    "saturated: negative numbers are not seen", cut=lambda x, bound, q, scale: x > bound
).why("-2000 is cut as well as 2000.")
cut.mistake(
    "saturated: numbers that are only rounded count",
    cut=lambda x, bound, q, scale: (q.float() * scale).abs() < x.abs(),
).why("FP8 rounds nearly everything, half of it downwards. What did the bound cut?")
cut.mistake(
    "saturated: compared with 448, not with the bound",
    cut=lambda x, bound, q, scale: x.abs() > LARGEST,
).why("448 is the end of q. x is compared with the bound.")
cut.mistake(
    "saturated: the largest number of every row counts",
    cut=lambda x, bound, q, scale: (q.float().abs() == LARGEST) & (x != 0),
).why("It becomes 448 by its own scale, and comes back as it was.")
cut.mistake(
    "saturated: what rounds above 448 counts",
    cut=lambda x, bound, q, scale: (x / scale).abs() > LARGEST,
).why("448 times its share is not always 448 again: the division rounds. Compare x itself.")
cut.mistake("saturated: the wrong way round", cut=lambda x, bound, q, scale: x.abs() <= bound).why(
    "True where the bound has cut."
)
cut.mistake(
    "saturated: nothing is found",
    cut=lambda x, bound, q, scale: torch.zeros_like(x, dtype=torch.bool),
).why("Numbers over the bound come back as the bound.")


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


@E.rule
def _has_its_form(answer: Callable) -> None:
    """Three tensors, their shapes and dtypes."""
    x, shows = torch.randn(2, 3, generator=torch.Generator().manual_seed(6)), "x of shape [2, 3]"
    result = run(answer, Case((x,), shows), E.what)
    if not isinstance(result, tuple | list) or len(result) != 3:
        why = "q, scale and saturated, in this order."
        raise Mistake(f"{E.what}: three tensors are needed", shows=shows, why=why)
    q, scale, saturated = result
    if isinstance(q, Tensor) and q.dtype != FP8:
        why = f"{q.dtype} came, {FP8} is needed."
        raise Mistake("q is not in FP8", shows=shows, why=why)
    if isinstance(scale, Tensor) and scale.numel() == 1:
        why = "A scale for each row is needed: shape [T, 1]."
        raise Mistake("one scale for the whole tensor", shows=shows, why=why)
    if isinstance(scale, Tensor) and scale.shape in ((x.shape[1],), (1, x.shape[1])):
        why = f"{list(scale.shape)} came, [T, 1] is needed: a row is a token."
        raise Mistake("a scale for each column, not for each row", shows=shows, why=why)
    check_form(q, x.to(FP8), f"{E.what}, q", shows)
    check_form(scale, x[:, :1], f"{E.what}, scale", shows)
    check_form(saturated, x > 0, f"{E.what}, saturated", shows)


pair.cases(_cases)


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


@E.rule
def _is_clamped_before_the_cast(answer: Callable) -> None:
    for case in pair.inputs:
        with _IntoFP8() as seen:
            answer(*case.inputs)
        if seen.largest > _ROUNDS_DOWN:
            why = (
                f"{seen.largest:g} went into the cast. This version of PyTorch makes 448 of it, "
                "others make NaN. Clamp before."
            )
            raise Mistake("numbers that do not fit go into the cast", shows=case.shows, why=why)


cut.cases(_cases)
