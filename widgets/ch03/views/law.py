"""The paper's law N*(C) = A · C^alpha for training tokens, with both printed pairs (§3.2.1).

Two digits of an exponent are not enough at 3.8e25 FLOPs: the band shows all pairs that round to
what is printed. Every number is read in `llama3lib.paper`; the browser does the arithmetic again
so that a saved page still works.
"""

import math
from dataclasses import asdict, dataclass

import traitlets

from llama3lib.paper import herd
from llama3lib.paper import scaling as facts
from widgets.core.drawing import BLUE, GREEN, INK, LINE, ORANGE, PAPER, RED, SKY, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm
from widgets.view.words import percent, scientific, significant, with_letter

BUDGETS = facts.BUDGETS.value
LARGEST = BUDGETS[-1]
FLAGSHIP = herd.FLOPS.value
DECADES = (18, 26)
POWERS = tuple(float(f"1e{power}") for power in range(DECADES[0], DECADES[1] + 1))
STOPS = tuple(
    sorted(
        {float(f"{m}e{p}") for p in range(*DECADES) for m in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)}
        | {POWERS[-1], FLAGSHIP}
    )
)
NUDGES = tuple(i / 1000 for i in range(-10, 11))
MAIN = {"x": 84, "y": 92, "width": 560, "height": 330}
ZOOM = {"x": 716, "y": 92, "width": 176, "height": 330}
LOW, HIGH = 3e8, 2e14  # tokens on the y axis
HALO = {"stroke": PAPER, "stroke_width": 4, "paint_order": "stroke"}
WINDOW = (0.18, 0.46)  # half the magnified part, in decades of FLOPs and of tokens


@dataclass(frozen=True)
class Pair:
    """Coefficients as they are printed."""

    name: str
    where: str
    exponent: float
    coefficient: float
    half: float
    """Half a unit of the last printed digit."""

    @property
    def digits(self) -> str:
        """As in (0.53, 0.29)."""
        return f"({self.exponent:g}, {self.coefficient:g})"


PAIRS = {
    "printed": Pair("the printed pair", "in the text", facts.EXPONENT.value,
                    facts.COEFFICIENT.value, 0.005),
    "figure": Pair("the figure's pair", "in Figure 3", facts.EXPONENT_FIGURE.value,
                   facts.COEFFICIENT_FIGURE.value, 0.0005),
}  # fmt: skip
CROSSES = (
    ("402B on 16.55T tokens, the paper's optimum", facts.OPTIMAL_TOKENS.value),
    ("405B on 15.6T tokens, as trained", herd.TOKENS.value),
)


def amount(value: float, digits: int = 3) -> str:
    """Tokens or parameters, from a million on with a letter: 10.5T, 605B."""
    return with_letter(value, digits, least=1e6)


def tokens(pair: Pair, flops: float, nudge: float = 0.0) -> float:
    """Optimal training tokens, with `nudge` added to the exponent."""
    return facts.optimal_tokens(flops, pair.exponent + nudge, pair.coefficient)


def parameters(flops: float, read: float) -> float:
    """The model that reads so many tokens: C / (6 · N*)."""
    return flops / (6 * read)


def band(pair: Pair, flops: float) -> tuple[float, float]:
    """Fewest and most tokens of all pairs that round to the printed digits."""
    return tuple(
        facts.optimal_tokens(flops, pair.exponent + off, pair.coefficient + off)
        for off in (-pair.half, pair.half)
    )


def sensitivity(flops: float) -> float:
    """d ln N* / d alpha."""
    return math.log(flops)


def orders_beyond(flops: float) -> float:
    """Orders of magnitude from the largest budget of Figure 2; below 0 for less compute."""
    return math.log10(flops / LARGEST)


def headline(name: str, flops: float, nudge: float) -> str:
    """The title: what the pair says, beside the paper's number or the other pair's."""
    pair = PAIRS[name]
    who = pair.name + (f" with alpha {pair.exponent + nudge:.3f}" if nudge else "")
    says = f"At {scientific(flops)} FLOPs {who} says {amount(tokens(pair, flops, nudge))} tokens"
    if flops == FLAGSHIP:
        return f"{says}; the paper says {amount(facts.OPTIMAL_TOKENS.value, 4)}"
    other = PAIRS["figure" if name == "printed" else "printed"]
    return f"{says}; {other.name} says {amount(tokens(other, flops))}"


def notes(name: str, flops: float, nudge: float) -> list[str]:
    """The model that goes with the tokens, the rounding, the nudge, and how far this reaches."""
    pair, read = PAIRS[name], tokens(PAIRS[name], flops, nudge)
    size, (low, high) = parameters(flops, read), band(pair, flops)
    told = facts.OPTIMAL_TOKENS.value
    reach = "is among them" if low <= told <= high else "is out of their reach"
    paper = f"; {amount(told, 4)} {reach}" if flops == FLAGSHIP else ""
    one = math.exp(0.001 * sensitivity(flops)) - 1
    nudged = f"; this nudge makes them {significant(flops**nudge)} times as many" if nudge else ""
    return [
        f"{amount(read)} tokens go with {amount(size)} parameters, C / (6 · N*): "
        f"{significant(read / size)} tokens for each parameter.",
        f"All pairs that round to {pair.digits} give {amount(low)} to {amount(high)} tokens{paper}."
        + (" The nudge goes beyond that rounding." if abs(nudge) > pair.half + 1e-9 else ""),
        f"d ln N* / d alpha = ln C = {sensitivity(flops):.1f}: 0.001 more in alpha is "
        f"{percent(one)} more tokens{nudged}.",
        _reach(flops),
    ]


def _reach(flops: float) -> str:
    if flops > LARGEST:
        return (
            f"{scientific(flops)} is {orders_beyond(flops):.2f} orders of magnitude beyond the "
            f"largest budget of Figure 2, {scientific(LARGEST)}: this is extrapolation."
        )
    if flops >= BUDGETS[0]:
        ends = f"{scientific(BUDGETS[0])} to {scientific(LARGEST)}"
        return f"This is within the budgets of Figure 2, {ends} FLOPs."
    return f"This is below the smallest budget of Figure 2, {scientific(BUDGETS[0])} FLOPs."


def table_rows(name: str, flops: float, nudge: float) -> list[dict[str, str]]:
    """Whole decades, the flagship's compute and the chosen one."""
    rows, pair = [], PAIRS[name]
    for at in sorted({*POWERS, FLAGSHIP, flops}):
        read = tokens(pair, at, nudge)
        rows.append(
            {
                "FLOPs": scientific(at),
                **{f"tokens {one.digits}": amount(tokens(one, at)) for one in PAIRS.values()},
                "chosen, nudged": amount(read),
                "its parameters": amount(parameters(at, read)),
                "tokens per parameter": significant(read / parameters(at, read)),
                "rounding from": amount(band(pair, at)[0]),
                "rounding to": amount(band(pair, at)[1]),
                "beyond Figure 2": f"{orders_beyond(at):.2f} orders" if at > LARGEST else "no",
            }
        )
    return rows


class _Picture:
    """The static picture: the whole law, and a magnified part around the chosen compute."""

    def __init__(self, name: str, flops: float, nudge: float) -> None:
        self.pair, self.flops, self.nudge = PAIRS[name], flops, nudge
        title, told = headline(name, flops, nudge), notes(name, flops, nudge)
        self.to = Drawing(1000, 640, title=title, description=" ".join(told))
        self.to.text(20, 34, title, size=min(22, 1540 / len(title)), font_weight=600)
        self.to.text(20, MAIN["y"] - 30, "optimal training tokens N*", fill=SOFT)
        wide = POWERS[0], POWERS[-1], LOW, HIGH
        self.near = magnified(flops)
        self._budgets(wide)
        self._panel(MAIN, wide)
        self._panel(ZOOM, self.near)
        self._words(wide)
        for place, line in enumerate(told):
            self.to.text(20, 556 + 22 * place, line, fill=SOFT, size=13)

    def spot(self, box: dict, ends: tuple, flops: float, read: float) -> tuple[float, float]:
        left, right, low, high = ends
        x = math.log(flops / left) / math.log(right / left)
        y = math.log(read / low) / math.log(high / low)
        return box["x"] + box["width"] * x, box["y"] + box["height"] * (1 - y)

    def _budgets(self, wide: tuple) -> None:
        """Shade what lies beyond them; mark each at the bottom."""
        low, to = MAIN["y"] + MAIN["height"], self.to
        x = self.spot(MAIN, wide, LARGEST, LOW)[0]
        right = MAIN["x"] + MAIN["width"]
        to.rect(x, MAIN["y"], right - x, MAIN["height"], fill=to.hatch("beyond", SOFT, 45, 12, 0.5))
        for flops in BUDGETS:
            at = self.spot(MAIN, wide, flops, LOW)[0]
            to.shape("path", d=f"M{at:.1f} {low - 12}l4 12h-8z", fill=INK)

    def _axes(self, box: dict, ends: tuple) -> None:
        left, right, low, high = ends
        bottom, to, wide = box["y"] + box["height"], self.to, box is MAIN
        for mark in marks(low, high, (1,) if wide else (1, 2, 3, 5)):
            y = self.spot(box, ends, left, mark)[1]
            to.line(box["x"], y, box["x"] + box["width"], y)
            to.text(box["x"] - 7, y + 5, amount(mark), anchor="end", fill=SOFT)
        for mark in marks(left, right, (1,) if wide else (1, 1.5, 2, 3, 4, 6)):
            if not wide or round(math.log10(mark)) % 2 == 0:
                x = self.spot(box, ends, mark, low)[0]
                to.line(x, box["y"], x, bottom)
                to.text(x, bottom + 20, scientific(mark), anchor="middle", fill=SOFT)
        to.rect(box["x"], box["y"], box["width"], box["height"], fill="none", stroke=LINE)

    def _panel(self, box: dict, ends: tuple) -> None:
        left, right, low, high = ends
        self._axes(box, ends)
        corners = [(left, band(self.pair, left)[0]), (left, band(self.pair, left)[1])]
        corners += [(right, band(self.pair, right)[1]), (right, band(self.pair, right)[0])]
        points = " ".join("{:.1f},{:.1f}".format(*self.spot(box, ends, *one)) for one in corners)
        self.to.shape("polygon", points=points, fill=SKY, fill_opacity=0.4)
        for name, pair in PAIRS.items():
            dash = "7 4" if name == "figure" else None
            self._line(box, ends, pair, 0, stroke=INK, stroke_width=1.4, stroke_dasharray=dash)
        self._line(box, ends, self.pair, self.nudge, stroke=BLUE, stroke_width=3)
        if left < FLAGSHIP < right:
            for (_, read), plus in zip(CROSSES, (False, True), strict=True):
                if low < read < high:
                    x, y = self.spot(box, ends, FLAGSHIP, read)
                    cross(self.to, x, y, 5 if box is MAIN else 8, plus, edge=box is ZOOM)
        x, y = self.spot(box, ends, self.flops, tokens(self.pair, self.flops, self.nudge))
        self.to.mark("diamond", x, y, 8, fill="none", stroke=ORANGE, stroke_width=3.5)
        if box is ZOOM:
            words = amount(tokens(self.pair, self.flops, self.nudge))
            self.to.text(x - 12, y - 8, words, anchor="end", font_weight=600, **HALO)

    def _line(self, box: dict, ends: tuple, pair: Pair, nudge: float, **style: object) -> None:
        first = self.spot(box, ends, ends[0], tokens(pair, ends[0], nudge))
        last = self.spot(box, ends, ends[1], tokens(pair, ends[1], nudge))
        self.to.line(*first, *last, **style)

    def _words(self, wide: tuple) -> None:
        to, bottom = self.to, MAIN["y"] + MAIN["height"]
        x = self.spot(MAIN, wide, LARGEST, LOW)[0]
        orders = f"{orders_beyond(FLAGSHIP):.2f} orders to {scientific(FLAGSHIP)}"
        to.text(x + 8, bottom - 34, "extrapolated:", **HALO)
        to.text(x + 8, bottom - 14, orders, **HALO)
        to.text(x - 4, bottom - 22, "▲ budgets of Figure 2", anchor="end", size=13, **HALO)
        to.text(MAIN["x"] + MAIN["width"] / 2, bottom + 44, "FLOPs of training C (log axes)",
                anchor="middle", size=15)  # fmt: skip
        left, right, low, high = self.near
        x1, y1 = self.spot(MAIN, wide, max(left, POWERS[0]), high)
        x2, y2 = self.spot(MAIN, wide, min(right, POWERS[-1]), low)
        to.rect(x1, y1, x2 - x1, y2 - y1, fill="none", stroke=INK, stroke_dasharray="2 3")
        to.text(ZOOM["x"], ZOOM["y"] - 12, "the dotted box, magnified", fill=SOFT)
        for pair in PAIRS.values():
            end = self.spot(ZOOM, self.near, right, tokens(pair, right))
            to.text(end[0] + 6, end[1] + 5, pair.digits, size=12)
        y, x = bottom + 74, MAIN["x"]
        to.mark("diamond", x + 6, y, 7, fill="none", stroke=ORANGE, stroke_width=3)
        to.text(x + 22, y + 5, "chosen")
        to.line(x + 92, y, x + 122, y, stroke=BLUE, stroke_width=3)
        to.text(x + 130, y + 5, self.pair.name + (", nudged" if self.nudge else ""))
        to.rect(x + 336, y - 8, 26, 16, fill=SKY, fill_opacity=0.4)
        to.text(x + 370, y + 5, f"all pairs that round to {self.pair.digits}")
        for place, ((words, _), plus) in enumerate(zip(CROSSES, (False, True), strict=True)):
            at = x + (6, 416)[place]
            cross(to, at, y + 24, 6, plus)
            to.text(at + 16, y + 29, words)


def cross(
    picture: Drawing, x: float, y: float, size: float, plus: bool, *, edge: bool = False
) -> None:
    """One of the published models: × or +, over a light edge if asked for."""
    d = f"M{x - size:.1f} {y:.1f}h{2 * size}M{x:.1f} {y - size:.1f}v{2 * size}"
    turn = None if plus else f"rotate(45 {x:.1f} {y:.1f})"
    for stroke, width in ((PAPER, 4.5), (GREEN if plus else RED, 2.5))[not edge :]:
        picture.shape("path", d=d, fill="none", stroke=stroke, stroke_width=width, transform=turn)


def magnified(flops: float) -> tuple[float, float, float, float]:
    """What the second panel spans: FLOPs, then tokens, around the middle of both pairs."""
    middle = math.sqrt(math.prod(tokens(pair, flops) for pair in PAIRS.values()))
    wide, high = (10**half for half in WINDOW)
    return flops / wide, flops * wide, middle / high, middle * high


def marks(low: float, high: float, digits: tuple[float, ...]) -> list[float]:
    """Numbers with these first digits, from `low` to `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m for p in powers for d in digits if low <= (m := float(f"{d}e{p}")) <= high]


def draw_law(name: str, flops: float, nudge: float) -> str:
    """The static picture, as SVG."""
    return _Picture(name, flops, nudge).to.svg()


class LawSlider(CourseWidget):
    """Move the compute; see how many tokens each pair of coefficients asks for.

    pair: "printed" or "figure". nudge: added to alpha. Works in a saved page.
    """

    _esm = esm("law")
    _css = css("law")
    compute = traitlets.Float(FLAGSHIP).tag(sync=True)
    pair = traitlets.Unicode("printed").tag(sync=True)
    nudge = traitlets.Float(0.0).tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)

    def __init__(
        self, compute: float = FLAGSHIP, *, pair: str = "printed", nudge: float = 0.0
    ) -> None:
        told = {"pairs": {name: asdict(one) for name, one in PAIRS.items()}, "budgets": BUDGETS}
        told |= {"stops": STOPS, "nudges": NUDGES, "flagship": FLAGSHIP, "crosses": CROSSES}
        told |= {"decades": DECADES, "span": (LOW, HIGH), "window": WINDOW}
        super().__init__(facts=told)
        self.compute, self.pair, self.nudge = compute, pair, nudge

    @traitlets.validate("compute", "pair", "nudge")
    def _offered(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "compute" and not POWERS[0] <= value <= POWERS[-1]:
            raise traitlets.TraitError(f"compute={value!r} is not allowed: 1e18 to 1e26")
        allowed = {"pair": [*PAIRS], "nudge": [*NUDGES]}.get(name)
        if allowed is not None and value not in allowed:
            names = ", ".join(map(str, allowed))
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: one of {names}")
        return value

    def tokens(self) -> float:
        """The tokens that the picture shows."""
        return tokens(PAIRS[self.pair], self.compute, self.nudge)

    def summary(self) -> str:
        return headline(self.pair, self.compute, self.nudge)

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.pair, self.compute, self.nudge)

    def static_svg(self) -> str:
        return draw_law(self.pair, self.compute, self.nudge)
