"""The measured funnel: how many documents are left after each step, and what happened to each one.

The numbers are those of a run that just happened. Choose a step and one of the documents that fell
there: its address, the reason with its figure, and the text as the step saw it.
"""

from collections.abc import Iterable, Mapping, Sequence

import traitlets

from llama3lib.data import Document, Dropped, Funnel
from widgets.core.drawing import BLUE, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

KEPT = "kept"
_SHOWN, _TEXT = 12, 700
BARS = {"x": 190, "y": 66, "width": 500, "step": 34}


def bars(funnel: Funnel) -> list[dict[str, object]]:
    """For each step: its name, documents in and out, and the reasons, most frequent first."""
    return [
        {
            "step": count.step,
            "in": count.documents_in,
            "out": count.documents_out,
            "reasons": [[reason, n] for reason, n in count.reasons.most_common()],
        }
        for count in funnel.counts
    ]


def journeys(
    dropped: Iterable[Dropped], kept: Iterable[Document], each: int = _SHOWN
) -> dict[str, list[dict[str, str]]]:
    """For each step some of the documents that fell there, spread over its reasons; and some kept.

    Every document comes with its address, the reason and its figure, and the start of its text.
    """
    by_step: dict[str, dict[str, list[dict[str, str]]]] = {}
    for item in dropped:
        reasons = by_step.setdefault(item.step, {})
        row = _row(item.document, item.reason, item.detail)
        reasons.setdefault(item.reason, []).append(row)
    found = {step: _taking_turns(list(rows.values()), each) for step, rows in by_step.items()}
    found[KEPT] = [_row(document, KEPT, "") for document, _ in zip(kept, range(each), strict=False)]
    return found


def _row(document: Document, reason: str, detail: str) -> dict[str, str]:
    address = str(document.metadata.get("url") or document.id)
    text = document.text[:_TEXT] + ("…" if len(document.text) > _TEXT else "")
    return {"address": address, "reason": reason, "detail": detail, "text": text}


def _taking_turns(lists: Sequence[Sequence[dict]], most: int) -> list[dict]:
    longest = max(map(len, lists), default=0)
    turns = [rows[place] for place in range(longest) for rows in lists if place < len(rows)]
    return turns[:most]


def headline(rows: Sequence[Mapping[str, object]]) -> str:
    """The title: what to see."""
    if not rows:
        return "No steps"
    first, last = int(rows[0]["in"]), int(rows[-1]["out"])
    return f"Of {first:,} documents {last:,} are left ({last / max(1, first):.0%})"


def told(row: Mapping[str, object]) -> str:
    """What a step did, in words."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in row["reasons"])
    return f"{int(row['in']):,} in, {int(row['out']):,} out" + (f": {reasons}" if reasons else "")


def draw_funnel(rows: Sequence[Mapping[str, object]]) -> str:
    """The static picture, as SVG."""
    title = headline(rows)
    words = "; ".join(f"{row['step']}: {told(row)}" for row in rows)
    height = BARS["y"] + BARS["step"] * len(rows) + 16
    picture = Drawing(1000, height, title=title, description=words)
    picture.text(20, 34, title, size=22, font_weight=600)
    most = max((int(row["in"]) for row in rows), default=1)
    for place, row in enumerate(rows):
        y = BARS["y"] + BARS["step"] * place
        wide = BARS["width"] / most
        picture.text(BARS["x"] - 12, y + 18, str(row["step"]), anchor="end", size=15)
        picture.rect(BARS["x"], y, wide * int(row["in"]), 25, fill="#d7dee6", stroke=SOFT)
        picture.rect(BARS["x"], y, wide * int(row["out"]), 25, fill=BLUE)
        lost = int(row["in"]) - int(row["out"])
        note = f"{int(row['out']):,}" + (f"  (−{lost:,})" if lost else "")
        picture.text(BARS["x"] + wide * int(row["in"]) + 10, y + 18, note, size=15)
    return picture.svg()


class FunnelExplorer(CourseWidget):
    """The steps of a run as bars; choose a step and a document that fell there.

    funnel: its counts. dropped, kept: documents to look at; texts of strangers are shown as text.
    """

    _esm = esm("funnel")
    _css = css("funnel")
    rows = traitlets.List().tag(sync=True)
    journeys = traitlets.Dict().tag(sync=True)
    step = traitlets.Unicode(KEPT).tag(sync=True)
    document = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        funnel: Funnel,
        dropped: Iterable[Dropped] | None = None,
        kept: Iterable[Document] = (),
        *,
        step: str = KEPT,
    ) -> None:
        fallen = funnel.dropped if dropped is None else dropped
        super().__init__(rows=bars(funnel), journeys=journeys(fallen or (), kept))
        self.step = step

    @traitlets.validate("step")
    def _known_step(self, proposal: dict) -> str:
        allowed = [row["step"] for row in self.rows] + [KEPT]
        if self.rows and proposal["value"] not in allowed:
            names = ", ".join(allowed)
            raise traitlets.TraitError(f"step={proposal['value']!r} is not allowed: one of {names}")
        return proposal["value"]

    @traitlets.observe("step")
    def _first_document(self, change: dict) -> None:
        self.document = 0

    def shown(self) -> dict[str, str] | None:
        """The chosen document; None if none fell at the chosen step."""
        fallen = self.journeys.get(self.step, [])
        return fallen[min(self.document, len(fallen) - 1)] if fallen else None

    def summary(self) -> str:
        return headline(self.rows)

    def table(self) -> list[dict[str, object]]:
        return [
            {"step": row["step"], "in": row["in"], "out": row["out"], "what happened": told(row)}
            for row in self.rows
        ]

    def static_svg(self) -> str:
        return draw_funnel(self.rows)
