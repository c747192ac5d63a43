"""Mix sliders: shares of the sources, and how often each is read for a budget of tokens.

`epochs = share x budget / tokens of the source`. A source with few tokens and a large share is read
many times over.
"""

from collections.abc import Mapping

from llama3lib.data.mixture import epochs
from llama3lib.paper import data as facts
from widgets.view import Paper, Scene, Slider, View
from widgets.view.measure import text_width
from widgets.view.words import thousands

SOURCES = ("general", "maths", "code", "multilingual")
MOST = 60  # percent of one source
FEW, MANY = 1.0, 4.0  # ours: below, text is left unread; above, repetition is heavy
STEP = 56


def paper_shares() -> dict[str, float]:
    """The shares of the paper's final mix (section 3.1.2)."""
    return {name: share / 100 for name, share in zip(SOURCES, facts.MIX.value, strict=True)}


def note(times: float) -> str:
    """What so many epochs mean, in words."""
    if times < FEW:
        return f"{times:.0%} of it is read"
    return f"{times:.1f} epochs" + (", much repetition" if times > MANY else "")


def headline(times: Mapping[str, float]) -> str:
    """The title: what to see."""
    name, most = max(times.items(), key=lambda item: item[1])
    return f"Read most often: {name}, {most:.1f} epochs"


def table_rows(
    shares: Mapping[str, float], tokens: Mapping[str, float], times: Mapping[str, float]
) -> list[dict[str, str]]:
    """The sources, one a row."""
    return [
        {
            "source": name,
            "share": f"{shares[name]:.0%}",
            "the paper's": f"{paper_shares()[name]:.0%}",
            "tokens there are": thousands(tokens[name]),
            "epochs": f"{times[name]:.2f}",
        }
        for name in SOURCES
    ]


def left_over(*before: str) -> object:
    """The percents that other sources leave to a slider, MOST at most."""
    return lambda view, values: range(min(MOST, 100 - sum(values[name] for name in before)) + 1)


class MixtureExplorer(View):
    """Move the shares of maths, code and other languages; general knowledge takes the rest.

    tokens: how many each source has. budget: how many are drawn.
    """

    # in a recording every mix must leave something: 40, 30 and 30 at the most
    maths = Slider(range(MOST + 1), "maths", start=25, text="{} %".format,
                   recorded=(0, 5, 10, 15, 20, 25, 30, 40))  # fmt: skip
    code = Slider(left_over("maths"), "code", start=17, text="{} %".format,
                  recorded=(0, 5, 10, 17, 20, 25, 30))  # fmt: skip
    multilingual = Slider(left_over("maths", "code"), "multilingual", start=8, text="{} %".format,
                          recorded=(0, 2, 4, 8, 12, 16, 20, 30))  # fmt: skip

    def __init__(self, tokens: Mapping[str, float], budget: float) -> None:
        if set(tokens) != set(SOURCES) or min(tokens.values()) <= 0:
            raise ValueError(f"tokens={dict(tokens)!r} is not allowed: above 0 for {SOURCES}")
        if not budget > 0:
            raise ValueError(f"budget={budget!r} is not allowed: above 0")
        self.tokens, self.budget = dict(tokens), float(budget)
        super().__init__()

    def scene(self, paper: Paper, *, maths: int, code: int, multilingual: int) -> Scene:
        shares = _shares(maths, code, multilingual)
        times = epochs(shares, self.tokens, self.budget)
        words = f"{thousands(self.budget)} tokens are drawn; the upright mark is the paper's share"
        paper.wrapped(2, 16, words, "soft")
        labels = {name: f"{name}: {shares[name]:.0%}" for name in SOURCES}
        left = 14 + max(text_width(f"{name}: 100%", 15) for name in SOURCES)
        below = paper.width < 900  # what it means then stands below each bar
        wide = paper.width - left - (4 if below else 280)
        for place, name in enumerate(SOURCES):
            y = 40 + (STEP + 16 * below) * place
            paper.text(left - 10, y + 20, labels[name], anchor="end", size=15)
            paper.rect(left, y, wide, 30, "none", stroke="grid")
            role = "second" if times[name] > MANY else "main"
            paper.rect(left, y, wide * shares[name], 30, role, key=f"share {name}")
            mark = left + wide * paper_shares()[name]
            paper.line(mark, y - 5, mark, y + 35, "ink", stroke_width=3)
            at = (left, y + 52) if below else (left + wide + 14, y + 20)
            paper.text(*at, note(times[name]), size=15)
        paper.reach(40 + (STEP + 16 * below) * len(SOURCES) - 16)
        return Scene(
            title=headline(times),
            table=table_rows(shares, self.tokens, times),
            facts={"epochs": " ".join(f"{times[name]:.4f}" for name in SOURCES)},
        )

    def shares(self) -> dict[str, float]:
        """The shares that are set; together 1."""
        return _shares(self.maths, self.code, self.multilingual)

    def epochs(self) -> dict[str, float]:
        """How often each source is read."""
        return epochs(self.shares(), self.tokens, self.budget)


def _shares(*percents: int) -> dict[str, float]:
    """The share of each source; general knowledge takes what the others leave."""
    every = (100 - sum(percents), *percents)
    return {name: percent / 100 for name, percent in zip(SOURCES, every, strict=True)}
