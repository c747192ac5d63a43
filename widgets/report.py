"""The learner's own report: what was checked, predicted and answered, as Markdown and HTML."""

from html import escape
from pathlib import Path

from llama3lib.utils.files import atomic_write
from widgets.progress import ledger


class Report:
    """A report that a notebook shows as a page; `save` writes it to a file."""

    def __init__(self, chapter: str, lines: list[str]) -> None:
        self.chapter, self._lines = chapter, lines

    @property
    def markdown(self) -> str:
        """The report as Markdown."""
        return "\n".join(self._lines) + "\n"

    @property
    def html(self) -> str:
        """The report as one HTML page."""
        body = []
        for line in self._lines:
            if line.startswith("#"):
                level = len(line) - len(line.lstrip("#"))
                body.append(f"<h{level}>{escape(line.lstrip('# '))}</h{level}>")
            elif line.startswith("- "):
                body.append(f"<li>{escape(line[2:])}</li>")
            elif line:
                body.append(f"<p>{escape(line)}</p>")
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f"<title>Report, chapter {escape(self.chapter)}</title>"
            '<body style="font:16px/1.5 system-ui;max-width:42em;margin:2em auto">'
            f"{''.join(body)}</body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write it whole: `.html` or `.md` by the name. Raises ValueError on another ending."""
        path = Path(path)
        texts = {".html": self.html, ".md": self.markdown}
        if path.suffix not in texts:
            raise ValueError(f"path={str(path)!r} is not allowed: .html or .md")
        with atomic_write(path) as temporary:
            temporary.write_text(texts[path.suffix], encoding="utf-8")
        return path

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return self.markdown


def report(chapter: str) -> Report:
    """What the progress file says about one chapter ("01"). It never leaves this computer."""
    data, prefix = ledger().read(), f"{chapter}."
    lines = [f"## My report, chapter {chapter}", ""]
    checks = {k: v for k, v in data["checks"].items() if k.startswith(prefix)}
    passed = [name for name, entry in checks.items() if entry["passed_at"]]
    lines.append(f"### Exercises: {len(passed)} solved, {len(checks)} tried")
    for name, entry in sorted(checks.items()):
        level = data["hints"].get(name, 0)
        hints = f", {level} of 3 hints read" if level else ""
        state = f"solved on {entry['passed_at']}" if entry["passed_at"] else "not yet solved"
        lines.append(f"- {name}: {state}, {entry['tries']} tries{hints}")
    predictions = {k: v for k, v in data["predictions"].items() if k.startswith(prefix)}
    lines += ["", f"### Predictions: {len(predictions)} locked"]
    for name, entry in sorted(predictions.items()):
        truth = "not revealed yet" if entry["truth"] is None else f"it was {entry['truth']}"
        lines.append(f"- {name}: I said {entry['value']}; {truth}")
    answers = data["quiz"].get(chapter, {})
    right = sum(entry["right"] for entry in answers.values())
    first = sum(entry["first_right"] for entry in answers.values())
    lines += ["", f"### Quiz: {right} of {len(answers)} answered right, {first} at the first try"]
    return Report(chapter, lines)
