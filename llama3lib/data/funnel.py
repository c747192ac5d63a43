"""Run steps over documents and keep account: how many went in, how many fell, where and why."""

import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama3lib.data.document import Document, Dropped, Step
from llama3lib.data.encoding import stable_hash
from llama3lib.utils.files import atomic_write

_SAMPLES, _SAMPLE_CHARACTERS = 3, 300
_WHITE = re.compile(r"\s+")


@dataclass
class StepCount:
    """What one step took in and let out, in documents and characters of text.

    `samples` has for each reason a few of those that fell for it: id, url, detail and the beginning
    of the text. They are drawn by a hash of the id, so the same ones however a run is spread.
    """

    step: str
    documents_in: int = 0
    documents_out: int = 0
    characters_in: int = 0
    characters_out: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def drop(self, item: Dropped) -> None:
        """Count what fell, and keep it as a sample if the draw is for it."""
        self.reasons[item.reason] += 1
        known = self.samples.get(item.reason, [])
        if len(known) < _SAMPLES or _draw(item.document.id) < _draw(known[-1]["id"]):
            self._sample(item.reason, [_sample_of(item)])

    def _sample(self, reason: str, more: list[dict[str, str]]) -> None:
        known = [*self.samples.get(reason, ()), *more]
        self.samples[reason] = sorted(known, key=lambda one: _draw(one["id"]))[:_SAMPLES]

    def as_dict(self) -> dict[str, Any]:
        """The counts for a JSON file; reasons with the most frequent first."""
        reasons = dict(self.reasons.most_common())
        samples = {name: self.samples[name] for name in reasons if name in self.samples}
        return {**vars(self), "reasons": reasons, "samples": samples}

    def add(self, other: "StepCount") -> None:
        """Add the counts of another shard."""
        self.documents_in += other.documents_in
        self.documents_out += other.documents_out
        self.characters_in += other.characters_in
        self.characters_out += other.characters_out
        self.reasons += other.reasons
        for reason, samples in other.samples.items():
            self._sample(reason, samples)


def _draw(name: str) -> tuple[int, str]:
    name = _writable(name)
    return stable_hash(name), name


def _sample_of(item: Dropped) -> dict[str, str]:
    document = item.document
    text = _WHITE.sub(" ", document.text[: 4 * _SAMPLE_CHARACTERS])[:_SAMPLE_CHARACTERS]
    url = str(document.metadata.get("url") or "")
    sample = {"id": document.id, "url": url, "detail": item.detail, "text": text}
    return {name: _writable(value) for name, value in sample.items()}


def _writable(text: str) -> str:
    """The text without lone surrogates, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Funnel:
    """The account of a run: one `StepCount` a step, and the documents that fell if wanted."""

    def __init__(self, keep_dropped: bool = False) -> None:
        self.counts: list[StepCount] = []
        self.dropped: list[Dropped] | None = [] if keep_dropped else None

    def leaving(self, step: str, items: Iterable[Document | Dropped]) -> Iterator[Document]:
        """Count what comes out of a step; only kept documents go on."""
        count = self.count(step)
        for item in items:
            if isinstance(item, Dropped):
                count.drop(item)
                if self.dropped is not None:
                    self.dropped.append(item)
            else:
                count.documents_out += 1
                count.characters_out += len(item.text)
                yield item

    def entering(self, step: str, documents: Iterable[Document]) -> Iterator[Document]:
        """Count what goes into a step."""
        count = self.count(step)
        for document in documents:
            count.documents_in += 1
            count.characters_in += len(document.text)
            yield document

    def count(self, step: str) -> StepCount:
        """The account of a step; a new one at the end if there is none yet."""
        for count in self.counts:
            if count.step == step:
                return count
        self.counts.append(StepCount(step))
        return self.counts[-1]

    def as_dict(self) -> dict[str, Any]:
        """The funnel for a JSON file."""
        return {"steps": [count.as_dict() for count in self.counts]}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "Funnel":
        """The funnel that `as_dict` described."""
        funnel = cls()
        for row in table["steps"]:
            funnel.counts.append(StepCount(**{**row, "reasons": Counter(row["reasons"])}))
        return funnel

    def add(self, other: "Funnel") -> None:
        """Add the account of another shard, step by step."""
        for count in other.counts:
            self.count(count.step).add(count)


def run(
    documents: Iterable[Document], steps: Sequence[Step], funnel: Funnel | None = None
) -> Iterator[Document]:
    """Send documents through all steps, in order; what comes out is what was kept.

    Document steps work on the stream as it flows; a corpus step holds all documents in memory
    (for more than fits, see `llama3lib.data.runner`). `funnel` keeps the account.

    Raises ValueError if two steps have one name: their accounts would be mixed.
    """
    funnel = funnel if funnel is not None else Funnel()
    names = [step.name for step in steps]
    if double := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"steps: {double[0]!r} is there twice; each name may be used once")
    stream = iter(documents)
    for step in steps:
        funnel.count(step.name)  # now, so that the accounts are in the order of the steps
        stream = funnel.leaving(step.name, step(funnel.entering(step.name, stream)))
    return stream


def write_report(funnel: Funnel, folder: str | Path, title: str = "Funnel") -> None:
    """Write `funnel.json` and `funnel.html` (a table that needs no network) into `folder`."""
    folder = Path(folder)
    numbers = json.dumps({"title": title, **funnel.as_dict()}, indent=2, ensure_ascii=False)
    for name, text in (("funnel.json", numbers + "\n"), ("funnel.html", _as_html(funnel, title))):
        with atomic_write(folder / name) as file:
            file.write_text(text, encoding="utf-8")


def _as_html(funnel: Funnel, title: str) -> str:
    """A page with a bar and the reasons for each step; all texts are escaped."""
    most = max([count.documents_in for count in funnel.counts], default=0) or 1
    rows = []
    for count in funnel.counts:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in count.reasons.most_common())
        width = 100 * count.documents_out / most
        rows.append(
            f"<tr><th scope='row'>{html.escape(count.step)}</th>"
            f"<td class='n'>{count.documents_in:,}</td><td class='n'>{count.documents_out:,}</td>"
            f"<td class='n'>{count.characters_out:,}</td>"
            f"<td><div class='bar' style='width:{width:.1f}%'></div></td>"
            f"<td>{html.escape(reasons)}</td></tr>"
        )
    samples = "\n".join(_samples_as_html(count) for count in funnel.counts if count.samples)
    return _PAGE.format(title=html.escape(title), rows="\n".join(rows), samples=samples)


def _samples_as_html(count: StepCount) -> str:
    """A few of those that fell at a step, by reason."""
    parts = [f"<h2>Samples of what fell at {html.escape(count.step)}</h2>"]
    for reason, samples in count.as_dict()["samples"].items():
        lines = "".join(
            f"<li><b>{html.escape(one['url'] or one['id'])}</b> {html.escape(one['detail'])}"
            f"<p>{html.escape(one['text'])}</p></li>"
            for one in samples
        )
        told = f"{html.escape(reason)} {count.reasons[reason]:,}"
        parts.append(f"<details><summary>{told}</summary><ul>{lines}</ul></details>")
    return "\n".join(parts)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color-scheme: light dark; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #8886; }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
td:nth-child(5) {{ width: 16rem; }}
.bar {{ height: 1rem; background: #0072b2; min-width: 1px; }}
</style></head><body>
<h1>{title}</h1>
<table><thead><tr><th>Step</th><th>Documents in</th><th>Documents out</th><th>Characters out</th>
<th>Left of the first step</th><th>Dropped, by reason</th></tr></thead><tbody>
{rows}
</tbody></table>
{samples}
</body></html>
"""
