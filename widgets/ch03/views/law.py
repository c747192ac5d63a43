"""The paper's law N*(C) = A · C^alpha for training tokens, with both printed pairs (§3.2.1).

Two digits of an exponent are not enough at 3.8e25 FLOPs: the band shows all pairs that round to
what is printed. Every number is read in `llama3lib.paper`.
"""

import math
from dataclasses import dataclass

from llama3lib.paper import herd
from llama3lib.paper import scaling as facts
from widgets.view import Choice, Log, Paper, Plot, Scene, Slider, View
from widgets.view.legend import legend
from widgets.view.words import percent, scientific, significant, with_letter

BUDGETS = facts.BUDGETS.value
LARGEST = BUDGETS[-1]
FLAGSHIP = herd.FLOPS.value
POWERS = tuple(float(f"1e{power}") for power in range(18, 27))


def stops(*digits: float) -> list[float]:
    """Budgets with these first digits, and the flagship's."""
    found = {float(f"{digit}e{power}") for power in range(18, 26) for digit in digits}
    return sorted(found | {POWERS[-1], FLAGSHIP})


STOPS = stops(1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
NUDGES = tuple(i / 1000 for i in range(-10, 11))
LOW, HIGH = 3e8, 2e14  # tokens on the y axis
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
PUBLISHED = (
    ("square", "measured", "405B on 15.6T tokens, as trained", herd.TOKENS.value),
    (
        "cross",
        "published",
        "402B on 16.55T tokens, the paper's optimum",
        facts.OPTIMAL_TOKENS.value,
    ),
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


def named(flops: float) -> str:
    """A budget in words."""
    return f"{scientific(flops)} FLOPs"


def nudge_words(nudge: float) -> str:
    """As in none, +0.003, −0.010."""
    return f"{'+' if nudge > 0 else '−'}{abs(nudge):.3f}" if nudge else "none"


def magnified(flops: float) -> tuple[float, float, float, float]:
    """What the second panel spans: FLOPs, then tokens, around the middle of both pairs."""
    middle = math.sqrt(math.prod(tokens(pair, flops) for pair in PAIRS.values()))
    wide, high = (10**half for half in WINDOW)
    return flops / wide, flops * wide, middle / high, middle * high


def panels(paper: Paper, flops: float) -> tuple[Plot, Plot]:
    """Axes of the whole law and of the part around the chosen compute; on a telephone below it."""
    narrow, words = paper.narrow, "FLOPs of training C (log axes)"
    main = paper.plot(
        Log(POWERS[0], POWERS[-1], words, text=scientific, ticks=POWERS[::2]),
        Log(LOW, HIGH, "optimal training tokens N*", text=amount),
        left=64, top=28, height=260 if narrow else 280, width=paper.width - (98 if narrow else 374),
    )  # fmt: skip
    left, right, low, high = magnified(flops)
    powers = range(math.floor(math.log10(left)), math.ceil(math.log10(right)))
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 1.5, 2, 3, 4, 6)]
    zoom = paper.plot(
        Log(left, right, text=scientific, ticks=[tick for tick in ticks if left < tick < right]),
        Log(low, high, "the dotted box, magnified", text=amount),
        left=64 if narrow else main.right + 62, top=main.low + 84 if narrow else main.top,
        height=200 if narrow else 280, width=main.width - 90 if narrow else 150,
    )  # fmt: skip
    return main, zoom


def draw_budgets(plot: Plot) -> None:
    """Shade what lies beyond them; mark each at the bottom."""
    paper, x = plot.paper, plot.at_x(LARGEST)
    fill = paper.hatch("soft", gap=12)
    paper.rect(x, plot.top, plot.right - x, plot.height, fill, fill_opacity=0.4)
    for flops in BUDGETS:
        tip = f"a budget of Figure 2: {named(flops)}"
        paper.mark("triangle", plot.at_x(flops), plot.low - 5, "ink", size=4, tip=tip)
    orders = f"{orders_beyond(FLAGSHIP):.2f} orders to {scientific(FLAGSHIP)}"
    paper.text(x + 8, plot.low - 34, "extrapolated:", halo=True)
    paper.text(x + 8, plot.low - 14, orders, halo=True)
    paper.text(x - 4, plot.low - 20, "▲ budgets of Figure 2", anchor="end", size=13, halo=True)


def draw_law(plot: Plot, name: str, chosen: Pair, flops: float, nudge: float) -> None:
    """Both pairs, what rounds to the chosen one, the chosen one nudged, and published models."""
    span = plot.x.low, plot.x.high
    low, high = zip(*(band(chosen, at) for at in span), strict=True)
    plot.band(span, low, high, "sixth", opacity=0.4, key=f"{name} band")
    for pair, dash in zip(PAIRS.values(), (None, "7 4"), strict=True):
        line = [(at, tokens(pair, at)) for at in span]
        plot.line(line, "ink", width=1.4, dash=dash, key=f"{name} {pair.name}")
    line = [(at, tokens(chosen, at, nudge)) for at in span]
    plot.line(line, "main", width=3, key=f"{name} chosen")
    for kind, role, words, read in PUBLISHED:
        if span[0] < FLAGSHIP < span[1] and plot.y.low < read < plot.y.high:
            size = 3 if name == "main" else 7
            plot.mark(kind, (FLAGSHIP, read), role, size=size, tip=words, key=f"{name} {kind}")
    at = flops, tokens(chosen, flops, nudge)
    plot.mark("diamond", at, "none", stroke="chosen", stroke_width=3.5, size=7, key=f"{name} dot")


def draw_words(main: Plot, zoom: Plot, chosen: Pair, nudge: float) -> None:
    """The box that is magnified, the names of the pairs, and the legend."""
    paper = main.paper
    left, top = main.at(max(zoom.x.low, POWERS[0]), zoom.y.high)
    right, low = main.at(min(zoom.x.high, POWERS[-1]), zoom.y.low)
    box = {"stroke": "ink", "stroke_dasharray": "2 3", "key": "lens"}
    paper.rect(left, top, right - left, low - top, "none", **box)
    for pair in PAIRS.values():
        y = zoom.at_y(tokens(pair, zoom.x.high))
        paper.text(zoom.right + 6, y + 5, pair.digits, size=12, key=f"digits {pair.name}")
    signs = [
        ("diamond", "none", "chosen", {"stroke": "chosen", "stroke_width": 3}),
        ("line", "main", chosen.name + (", nudged" if nudge else ""), {"width": 3}),
        ("area", "sixth", f"all pairs that round to {chosen.digits}", {"fill_opacity": 0.4}),
        *[(kind, role, words) for kind, role, words, _ in PUBLISHED],
    ]
    legend(paper, 4 if paper.narrow else main.left, zoom.low + (50 if paper.narrow else 70), signs)


class LawSlider(View):
    """Move the compute; see how many tokens each pair of coefficients asks for.

    compute: one of STOPS. pair: "printed" or "figure". nudge: added to alpha.
    """

    compute = Slider(STOPS, "compute", start=FLAGSHIP, text=named, recorded=stops(1, 2, 3, 5))
    pair = Choice({name: f"{pair.digits} {pair.where}" for name, pair in PAIRS.items()}, "pair")
    nudge = Slider(NUDGES, "nudge of alpha", start=0.0, text=nudge_words, recorded=11)

    def __init__(
        self, compute: float = FLAGSHIP, *, pair: str = "printed", nudge: float = 0.0
    ) -> None:
        super().__init__(compute=compute, pair=pair, nudge=nudge)

    def scene(self, paper: Paper, *, compute: float, pair: str, nudge: float) -> Scene:
        chosen, read = PAIRS[pair], tokens(PAIRS[pair], compute, nudge)
        main, zoom = panels(paper, compute)
        draw_budgets(main)
        draw_law(main, "main", chosen, compute, nudge)
        draw_law(zoom, "zoom", chosen, compute, nudge)
        draw_words(main, zoom, chosen, nudge)
        x, y = zoom.at(compute, read)
        paper.text(x - 12, y - 8, amount(read), anchor="end", bold=True, halo=True, key="read")
        return Scene(
            title=headline(pair, compute, nudge),
            notes=notes(pair, compute, nudge),
            table=table_rows(pair, compute, nudge),
            facts={"tokens": read},
        )

    def tokens(self) -> float:
        """The tokens that the picture shows."""
        return tokens(PAIRS[self.pair], self.compute, self.nudge)
