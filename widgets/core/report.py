"""The learner's own report: what was checked, predicted and answered, as Markdown and HTML."""

from html import escape
from pathlib import Path

from llama3lib.utils.files import atomic_write
from widgets.core.progress import chapter_of, ledger


class Report:
    """A report that a notebook shows as a page; `save` writes it to a file."""

    def __init__(self, chapter: str, lines: list[str]) -> None:
        self.chapter, self._lines = chapter, lines

    @property
    def markdown(self) -> str:
        """The report as Markdown."""
        return "\n".join(_as_markdown(line) for line in self._lines) + "\n"

    @property
    def html(self) -> str:
        """The report as one HTML page."""
        body, in_list = [], False
        for line in self._lines:
            if line.startswith("- ") != in_list:
                in_list = not in_list
                body.append("<ul>" if in_list else "</ul>")
            if line.startswith("#"):
                level = len(line) - len(line.lstrip("#")) - 1
                body.append(f"<h{level}>{escape(line.lstrip('# '))}</h{level}>")
            elif in_list:
                body.append(f"<li>{escape(line[2:])}</li>")
            elif line:
                body.append(f"<p>{escape(line)}</p>")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>Report, chapter {escape(self.chapter)}</title></head>\n"
            '<body style="font:16px/1.5 system-ui;max-width:42em;margin:2em auto;padding:0 1em">\n'
            + "\n".join([*body, "</ul>" if in_list else ""])
            + "</body></html>\n"
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
    data = ledger().read()
    parts = [_exercises(data, chapter), _predictions(data, chapter), _quiz(data, chapter)]
    lines = [f"## My report, chapter {chapter}", ""]
    if minutes := round(ledger().minutes(chapter)):
        lines += [f"About {counted(minutes, 'minute')} at work.", ""]
    for part in parts:
        lines += [part[0], "", *part[1:], ""]
    return Report(chapter, lines[:-1])


def _exercises(data: dict, chapter: str) -> list[str]:
    checks, hints = _of(data["checks"], chapter), _of(data["hints"], chapter)
    solved = sum(entry["passed_at"] is not None for entry in checks.values())
    lines = [f"### Exercises: {solved} solved, {len(checks)} tried"]
    for name in sorted(checks.keys() | hints.keys(), key=_place):
        entry = checks.get(name, {"passed_at": None, "tries": 0})
        read = f", {hints[name]} of 3 hints read" if name in hints else ""
        state = f"solved on {entry['passed_at']}" if entry["passed_at"] else "not yet solved"
        tries = counted(entry["tries"], "try", "tries")
        lines.append(f"- Exercise {name}: {state}, {tries}{read}")
    return lines


def _predictions(data: dict, chapter: str) -> list[str]:
    predictions = _of(data["predictions"], chapter)
    lines = [f"### Predictions: {len(predictions)} locked"]
    for name in sorted(predictions, key=_place):
        entry = predictions[name]
        truth = "not revealed yet" if entry["truth"] is None else f"it was {entry['truth']}"
        earlier = ", ".join(str(value) for value in entry["earlier"])
        before = f" (before: {earlier})" if earlier else ""
        lines.append(f"- Prediction {name}: I said {entry['value']}{before}; {truth}")
    return lines


def _quiz(data: dict, chapter: str) -> list[str]:
    answers = data["quiz"].get(chapter, {}).values()
    right = sum(entry["right"] for entry in answers)
    first = sum(entry["first_right"] for entry in answers)
    return [f"### Quiz: {right} of {len(answers)} answered right, {first} at the first try"]


def counted(number: int, one: str, many: str = "") -> str:
    """1 minute, 2 minutes."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _of(entries: dict, chapter: str) -> dict:
    return {name: entry for name, entry in entries.items() if chapter_of(name) == chapter}


def _place(name: str) -> tuple[int, str]:
    """01.10 comes after 01.9."""
    tail = name.split(".", 1)[1]
    return (int(tail), "") if tail.isdigit() else (10**9, tail)


def _as_markdown(line: str) -> str:
    """Signs that Markdown or HTML would read are shown as they are; the line's start is ours."""
    start = line[: len(line) - len(line.lstrip("#- "))]
    text = line[len(start) :]
    for sign in "\\`*_[]<":
        text = text.replace(sign, "\\" + sign)
    return start + text
