"""The measured funnel: how many documents are left after each step, and what happened to each one.

The numbers are those of a run that just happened. Choose a step and one of the documents that it
dropped: its address, the reason with its figure, and the text as the step saw it.
"""

from collections.abc import Iterable, Mapping, Sequence

from llama3lib.data import Document, Dropped, Funnel
from widgets.view import Choice, Paper, Scene, Slider, View
from widgets.view.measure import shorten, text_width, wrap

KEPT = "kept"
_SHOWN, _TEXT = 12, 700
ROW = 27
LINE = 18
LINES = 15
"""Of a document's text on the card; how many more there are is written below."""


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
    """For each step some of the documents it dropped, spread over its reasons; and some kept.

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


def step_words(row: Mapping[str, object]) -> str:
    """What a step did."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in row["reasons"])
    return f"{int(row['in']):,} in, {int(row['out']):,} out" + (f": {reasons}" if reasons else "")


def verdict(row: Mapping[str, str]) -> str:
    """What became of a document, with the figure that decided it."""
    if row["reason"] == KEPT:
        return "✓ kept"
    return f"✗ {row['reason']}" + (f" · {row['detail']}" if row["detail"] else "")


def draw_bars(
    paper: Paper, rows: Sequence[dict], chosen: str, offered: Sequence[str], width: float
) -> None:
    """A bar a step: the outline is what came in, the filled part what went on."""
    left = min(150.0, 16 + max((text_width(str(row["step"]), 14) for row in rows), default=0))
    notes = [f"{row['out']:,}" + lost_words(row) for row in rows]
    room = width - left - 14 - max((text_width(note, 14) for note in notes), default=0)
    unit = room / max((row["in"] for row in rows), default=1)
    for place, (row, note) in enumerate(zip(rows, notes, strict=True)):
        y, name = ROW * place, str(row["step"])
        back = ("tint", "chosen") if name == chosen else ("paper", "none")
        put = ("step", name) if name in offered else None
        with paper.group(key=f"step {name}", put=put, tip=f"{name}: {step_words(row)}"):
            paper.rect(1, y + 1, width - 2, ROW - 2, back[0], stroke=back[1], round=3)
            words = shorten(name, 14, left - 12)
            paper.text(left - 8, y + 18, words, anchor="end")
            paper.rect(left, y + 4, unit * row["in"], ROW - 8, "paper", stroke="soft")
            paper.rect(left, y + 4, unit * row["out"], ROW - 8, "main")
            paper.text(left + unit * row["in"] + 8, y + 18, note)


def lost_words(row: Mapping[str, object]) -> str:
    """How many documents were dropped at a step, as it stands behind those that went on."""
    lost = int(row["in"]) - int(row["out"])
    return f"  (−{lost:,})" if lost else ""


def draw_card(paper: Paper, row: Mapping[str, str], left: float, top: float) -> None:
    """A document: address, verdict, and its text as the step saw it."""
    wide = paper.width - left - 1
    room = wide - 24
    y = top + 22
    for line in wrap(row["address"], 13, room)[:2]:
        paper.text(left + 12, y, line, "soft", size=13)
        y += LINE
    for line in wrap(verdict(row), 14, room):
        paper.text(left + 12, y + 2, line, "good" if row["reason"] == KEPT else "bad", bold=True)
        y += LINE + 2
    lines = [
        part for line in row["text"].splitlines() or [""] for part in wrap(line, 13, room) or [""]
    ]
    if more := len(lines) - LINES:
        lines = [*lines[:LINES], f"… and {more} more lines"] if more > 0 else lines
    for line in lines if row["text"] else ["(no text)"]:
        y += LINE
        paper.text(left + 12, y - 8, line, size=13)
    paper.rect(left, top, wide, y + 4 - top, "none", stroke="soft", round=6)


class FunnelExplorer(View):
    """The steps of a run as bars; choose a step and a document that was dropped there.

    funnel: its counts. dropped, kept: documents to look at; texts of strangers are shown as text.
    """

    step = Choice(lambda view, values: view.offered, "documents that", start=KEPT)
    document = Slider(
        lambda view, values: range(len(view.journeys.get(values["step"], ()))),
        "document",
        text=lambda i: f"number {i + 1}",
    )

    def __init__(
        self,
        funnel: Funnel,
        dropped: Iterable[Dropped] | None = None,
        kept: Iterable[Document] = (),
        *,
        step: str = KEPT,
    ) -> None:
        fallen = funnel.dropped if dropped is None else dropped
        self.rows, self.journeys = bars(funnel), journeys(fallen or (), kept)
        fell = [row["step"] for row in self.rows if row["in"] > row["out"]]
        self.offered = {name: f"{name} dropped" for name in fell} | {KEPT: "were kept to the end"}
        super().__init__(step=step)

    def scene(self, paper: Paper, *, step: str, document: int) -> Scene:
        beside = paper.width > 900
        wide = paper.width / 2 - 12 if beside else paper.width
        draw_bars(paper, self.rows, step, self.offered, wide)
        row = self.document_of(step, document)
        if row:
            draw_card(paper, row, wide + 20 if beside else 1, 1 if beside else paper.height + 8)
        count = next((row for row in self.rows if row["step"] == step), None)
        happened = f"{step}: {step_words(count)}" if count else self.kept_words()
        return Scene(
            title=headline(self.rows),
            notes=[happened] if row else [happened, "No document was kept to look at."],
            table=[
                {"step": r["step"], "in": f"{r['in']:,}", "out": f"{r['out']:,}",
                 "what happened": step_words(r)}
                for r in self.rows
            ],
            say=f"{verdict(row)}. {row['address']}" if row else happened,
            facts={"shown": f"{step}/{document}/{row['reason']}" if row else f"{step}/none"},
        )  # fmt: skip

    def kept_words(self) -> str:
        """How many documents came to the end."""
        last = self.rows[-1]["out"] if self.rows else 0
        return f"kept: {last:,} documents came through all steps"

    def document_of(self, step: str, number: int) -> dict[str, str] | None:
        """One of the documents that fell at a step; None if there is none to look at."""
        fallen = self.journeys.get(step, [])
        return fallen[number] if number < len(fallen) else None

    def shown(self) -> dict[str, str] | None:
        """The chosen document; None if none fell at the chosen step."""
        return self.document_of(self.step, self.document)
