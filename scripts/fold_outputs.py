"""Fold what a stored chapter shows between a question and its answer.

    python scripts/fold_outputs.py chapters/*.ipynb

Whoever reads a chapter without running it is to meet `predict(NAME)` before its answer. So from
there to `reveal(NAME)` the stored outputs of a cell become one closed <details>, as HTML that any
viewer shows; only the questions themselves stay open. Folding twice changes nothing.
`store_outputs.py` does the same to what it stores.
"""

import argparse
import base64
import json
import re
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from llama3lib.utils.files import atomic_write  # noqa: E402

FOLDED = "Output folded: lock the prediction, run the cell."
_CALL = re.compile(r'(?<![\w.])(predict|reveal)\(\s*"(P\d\d\.\d+)"')


def between(cells: Sequence[dict]) -> Iterator[tuple[dict, list[str], list[str]]]:
    """Code cells from each question to its answer: cell, questions open before it, new ones."""
    waiting: list[str] = []
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        calls = _CALL.findall(_text(cell["source"]))
        asked = [name for call, name in calls if call == "predict"]
        if waiting or asked:
            yield cell, list(waiting), asked
        shown = {name for call, name in calls if call == "reveal"}
        waiting = [name for name in [*waiting, *asked] if name not in shown]


def fold(book: dict) -> dict:
    """Fold the outputs of a notebook in place; the notebook."""
    for cell, waiting, asked in between(book["cells"]):
        kept: list[dict] = []
        group: list[dict] = []
        names = list(waiting)
        for output in [*cell["outputs"], None]:
            if output is not None and names and not _stays(output, asked):
                group.append(output)
                continue
            if group:
                kept.append(_folded(group, names))
                group = []
            if output is not None:
                kept.append(output)
                names += [name for name in asked if _is_question(output, name)]
        cell["outputs"] = kept
    return book


def open_outputs(cells: Sequence[dict]) -> list[str]:
    """Names of cells that show something between a question and its answer."""
    found = []
    for cell, waiting, asked in between(cells):
        outputs = cell["outputs"]
        if not waiting:  # what stands before the question gives nothing away
            first = next((i for i, o in enumerate(outputs) if _stays(o, asked)), 0)
            outputs = outputs[first:]
        found += [cell["id"]] if any(not _stays(output, asked) for output in outputs) else []
    return found


def _stays(output: dict, asked: Sequence[str]) -> bool:
    """Whether an output gives nothing away: folded already, or a question."""
    plain = _text(output.get("data", {}).get("text/plain", ""))
    return plain == FOLDED or any(_is_question(output, name) for name in asked)


def _is_question(output: dict, name: str) -> bool:
    plain = _text(output.get("data", {}).get("text/plain", ""))
    return plain.startswith(f"Prediction {name}:")


def _folded(outputs: Sequence[dict], names: Sequence[str]) -> dict:
    title = f"Output, folded: lock prediction {' and '.join(names)} first"
    body = "\n".join(as_html(output) for output in outputs)
    html = f"<details><summary>{title}</summary>\n{body}\n</details>"
    data = {"text/html": html, "text/plain": FOLDED}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def as_html(output: dict) -> str:
    """An output as HTML that needs neither scripts nor a kernel."""
    if output["output_type"] == "stream":
        return _pre(output["text"])
    if output["output_type"] == "error":
        return _pre(f"{output['ename']}: {output['evalue']}")
    data = {kind: _text(v) for kind, v in output["data"].items() if isinstance(v, str | list)}
    plain = data.get("text/plain", "")
    if "text/html" in data:
        return data["text/html"]
    # as <img>, not inline: a viewer that does not trust the file would strip an inline SVG's tags
    if "image/png" in data:
        return _img(data["image/png"].strip(), "image/png", plain)
    if "image/svg+xml" in data:
        encoded = base64.b64encode(data["image/svg+xml"].encode()).decode()
        return _img(encoded, "image/svg+xml", plain)
    if "text/markdown" in data:
        from nbconvert.filters import markdown2html

        return markdown2html(data["text/markdown"])
    return _pre(plain)


def _img(encoded: str, kind: str, plain: str) -> str:
    alt = escape(plain.partition("\n")[0])
    return f'<img alt="{alt}" src="data:{kind};base64,{encoded}">'


def _pre(text: str | list[str]) -> str:
    return f"<pre>{escape(_text(text).rstrip(), quote=False)}</pre>"


def _text(value: str | list[str]) -> str:
    """Notebooks store a text as one string or as a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def write(book: dict, file: Path) -> int:
    """Write a notebook whole, in the form in which all of ours are stored; its bytes."""
    text = json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return len(text.encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    for file in parser.parse_args().notebooks:
        size = write(fold(json.loads(file.read_text(encoding="utf-8"))), file)
        print(f"{file}: {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
