"""Mix sliders: shares of the sources, and how often each is read for a budget of tokens.

`epochs = share x budget / tokens of the source`. A source with few tokens and a large share is read
many times over. The browser does it again so that a saved page still works.
"""

from collections.abc import Mapping

import traitlets

from llama3lib.data.mixture import epochs
from llama3lib.paper import data as facts
from widgets.core.drawing import BLUE, LINE, ORANGE, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

SOURCES = ("general", "maths", "code", "multilingual")
FEW, MANY = 1.0, 4.0  # ours: below, text is left unread; above, repetition is heavy
BARS = {"x": 210, "y": 92, "width": 520, "step": 62}


def paper_shares() -> dict[str, float]:
    """The shares of the paper's final mix (section 3.1.2)."""
    return {name: share / 100 for name, share in zip(SOURCES, facts.MIX.value, strict=True)}


def note(times: float) -> str:
    """What so many epochs mean, in words."""
    if times < FEW:
        return f"{times:.0%} of it is read"
    return f"read {times:.1f} times" + (", much repetition" if times > MANY else "")


def headline(times: Mapping[str, float]) -> str:
    """The title: what to see."""
    name, most = max(times.items(), key=lambda item: item[1])
    return f"Most often repeated: {name}, {most:.1f} times"


def draw_mixture(shares: Mapping[str, float], tokens: Mapping[str, float], budget: float) -> str:
    """The static picture, as SVG."""
    times = epochs(shares, tokens, budget)
    title = headline(times)
    words = "; ".join(f"{name}: {shares[name]:.0%}, {note(times[name])}" for name in SOURCES)
    picture = Drawing(1000, 350, title=title, description=words)
    picture.text(20, 34, title, size=22, font_weight=600)
    picture.text(
        20, 64, f"{budget:,.0f} tokens are drawn; the upright mark is the paper's share", fill=SOFT
    )
    for place, name in enumerate(SOURCES):
        y = BARS["y"] + BARS["step"] * place
        picture.text(BARS["x"] - 12, y + 20, f"{name}: {shares[name]:.0%}", anchor="end", size=15)
        picture.rect(BARS["x"], y, BARS["width"], 30, fill="none", stroke=LINE)
        colour = ORANGE if times[name] > MANY else BLUE
        picture.rect(BARS["x"], y, BARS["width"] * shares[name], 30, fill=colour)
        mark = BARS["x"] + BARS["width"] * paper_shares()[name]
        picture.line(mark, y - 5, mark, y + 35, stroke="#1b1f24", stroke_width=3)
        picture.text(BARS["x"] + BARS["width"] + 14, y + 20, note(times[name]), size=15)
    return picture.svg()


class MixtureExplorer(CourseWidget):
    """Move the shares of maths, code and other languages; general knowledge takes the rest.

    tokens: how many each source has. budget: how many are drawn. Works in a saved page.
    """

    _esm = esm("mixture")
    _css = css("mixture")
    maths = traitlets.Int(25).tag(sync=True)
    code = traitlets.Int(17).tag(sync=True)
    multilingual = traitlets.Int(8).tag(sync=True)
    tokens = traitlets.Dict().tag(sync=True)
    budget = traitlets.Float().tag(sync=True)
    paper = traitlets.Dict().tag(sync=True)

    def __init__(self, tokens: Mapping[str, float], budget: float) -> None:
        if set(tokens) != set(SOURCES) or min(tokens.values()) <= 0:
            raise ValueError(f"tokens={dict(tokens)!r} is not allowed: above 0 for {SOURCES}")
        if not budget > 0:
            raise ValueError(f"budget={budget!r} is not allowed: above 0")
        super().__init__(tokens=dict(tokens), budget=float(budget), paper=paper_shares())

    @traitlets.validate("maths", "code", "multilingual")
    def _a_share(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        others = sum(getattr(self, one) for one in ("maths", "code", "multilingual") if one != name)
        if not 0 <= value <= 100 - others:
            raise traitlets.TraitError(
                f"{name}={value!r} is not allowed: 0 to {100 - others}, general takes the rest"
            )
        return value

    def shares(self) -> dict[str, float]:
        """The shares that are set; together 1."""
        told = {"maths": self.maths, "code": self.code, "multilingual": self.multilingual}
        general = 100 - sum(told.values())
        return {name: percent / 100 for name, percent in {"general": general, **told}.items()}

    def epochs(self) -> dict[str, float]:
        """How often each source is read."""
        return epochs(self.shares(), self.tokens, self.budget)

    def summary(self) -> str:
        return headline(self.epochs())

    def table(self) -> list[dict[str, object]]:
        shares, times = self.shares(), self.epochs()
        return [
            {
                "source": name,
                "share": f"{shares[name]:.0%}",
                "the paper's": f"{self.paper[name]:.0%}",
                "tokens there are": f"{self.tokens[name]:,.0f}",
                "epochs": f"{times[name]:.2f}",
            }
            for name in SOURCES
        ]

    def static_svg(self) -> str:
        return draw_mixture(self.shares(), self.tokens, self.budget)
