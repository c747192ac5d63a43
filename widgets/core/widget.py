"""What all widgets share: one module and one style sheet made of hand-written files, a static twin.

The browser part of a widget is `static/common.js` followed by `static/<name>.js`, joined to one
ES module when Python starts: no bundler, no network. `common.js` holds controls, tables, theme
and screen-reader behaviour once for all; the widget's file ends with `export default { render };`.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import anywidget

STATIC = Path(__file__).parent / "static"


def esm(*names: str, folder: Path = STATIC) -> str:
    """The ES module of a widget: the common part and its own files, as one text."""
    return "\n".join([_read(STATIC / "common.js"), *[_read(folder / f"{n}.js") for n in names]])


def css(name: str, folder: Path = STATIC) -> str:
    """The style sheet of a widget: the common part, then its own if it has one."""
    own = folder / f"{name}.css"
    return _read(STATIC / "common.css") + ("\n" + _read(own) if own.is_file() else "")


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


class CourseWidget(anywidget.AnyWidget):
    """A live widget that also says what it shows where no kernel runs.

    Subclasses set `_esm = esm("name")` and `_css = css("name")`, and give
    - `summary()`: one line of text in place of the widget;
    - `table()`: the numbers of the picture, as rows with the same keys;
    - `static_svg()`: the picture, or None if there is none.

    A cell whose result is a widget stores two outputs. The first holds the live view and, for
    readers without a kernel, the picture as SVG (code-hosting sites draw it; JupyterLab does not
    trust SVG in a foreign notebook and falls back to line and table in plain text). The second is
    the folded table as HTML. They are two, because a viewer shows only one form of an output, and
    HTML would win over the picture. Beside a live widget the second output hides itself.
    """

    def summary(self) -> str:
        """One honest line for readers without a kernel."""
        return f"{type(self).__name__}: run this cell to use it"

    def table(self) -> list[dict[str, object]]:
        """The same numbers as the picture; no rows if there is nothing to tabulate."""
        return []

    def static_svg(self) -> str | None:
        """The picture as SVG with <title> and <desc>, or None."""
        return None

    def static_html(self) -> str | None:
        """A whole static twin as HTML, for widgets that are text (quizzes), or None."""
        return None

    def _ipython_display_(self) -> None:
        from IPython.display import display

        data, metadata = self._repr_mimebundle_() or ({}, {})
        display(data, metadata=metadata, raw=True)
        if rows := self.table():
            plain = "\n".join(plain_table(rows))
            html = folded_table(rows, caption=self.summary())
            display({"text/html": html, "text/plain": plain}, raw=True)

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        data["text/plain"] = "\n".join([self.summary(), *plain_table(self.table())])
        if (svg := self.static_svg()) is not None:
            data["image/svg+xml"] = svg
        if (html := self.static_html()) is not None:
            data["text/html"] = html
        return data, metadata


def folded_table(rows: Sequence[dict[str, object]], *, caption: str) -> str:
    """A table folded away; the style sheet of a live widget beside it hides it as a repetition."""
    table = html_table(rows, caption=caption)
    summary = "<summary>The same as a table</summary>"
    return f'<details class="l3-static-table">{summary}{table}</details>'


def plain_table(rows: Sequence[dict[str, object]]) -> list[str]:
    """Lines of a table in plain text, columns aligned."""
    if not rows:
        return []
    cells = [[str(key) for key in rows[0]], *[[str(v) for v in row.values()] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    padded = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in cells]
    return ["  ".join(line).rstrip() for line in padded]


def html_table(rows: Sequence[dict[str, object]], *, caption: str) -> str:
    """A table for screen readers and print. Everything from outside is escaped."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(str(key))}</th>' for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
