"""Small SVG writer for the static pictures of the widgets: no plot library, a few kilobytes.

Pictures carry their own light background, so they read the same on any page and in print.
Every text is escaped; every picture has a title and a description for screen readers.
"""

from xml.sax.saxutils import escape, quoteattr

INK, SOFT, LINE, PAPER = "#1b1f24", "#57606a", "#c8d1da", "#ffffff"
# Okabe and Ito's colours: told apart by most colour-blind people
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
)
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


class Drawing:
    """Collects shapes, in pixels from the top left; `svg()` gives the finished text."""

    def __init__(self, width: int, height: int, *, title: str, description: str) -> None:
        self.width, self.height = width, height
        self.title, self.description = title, description
        self._parts: list[str] = []

    def shape(self, tag: str, text: str | None = None, **attributes: object) -> None:
        """Any element; `stroke_width` becomes `stroke-width`, numbers keep two decimals."""
        written = "".join(
            f" {name.rstrip('_').replace('_', '-')}={quoteattr(_plain(value))}"
            for name, value in attributes.items()
            if value is not None
        )
        body = f">{escape(text)}</{tag}>" if text is not None else "/>"
        self._parts.append(f"<{tag}{written}{body}")

    def begin(self, tag: str, **attributes: object) -> None:
        """Open a group; `end` closes it."""
        self.shape(tag, **attributes)
        self._parts[-1] = self._parts[-1].removesuffix("/>") + ">"

    def end(self, tag: str) -> None:
        self._parts.append(f"</{tag}>")

    def line(self, x1: float, y1: float, x2: float, y2: float, **style: object) -> None:
        self.shape("line", x1=x1, y1=y1, x2=x2, y2=y2, **({"stroke": LINE} | style))

    def rect(self, x: float, y: float, width: float, height: float, **style: object) -> None:
        self.shape("rect", x=x, y=y, width=max(width, 0), height=max(height, 0), **style)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 14,
        anchor: str = "start",
        **style: object,
    ) -> None:
        style = {"fill": INK} | style
        self.shape("text", words, x=x, y=y, font_size=size, text_anchor=anchor, **style)

    def mark(self, kind: str, x: float, y: float, size: float = 8, **style: object) -> None:
        """A point: "circle", "square" or "diamond"; the shape says what the colour says."""
        if kind == "circle":
            self.shape("circle", cx=x, cy=y, r=size, **style)
        elif kind == "square":
            self.rect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8, **style)
        else:
            d = size * 1.25
            self.shape("path", d=f"M{x:.2f} {y - d:.2f}l{d} {d}l{-d} {d}l{-d} {-d}z", **style)

    def hatch(self, key: str, colour: str, angle: int, gap: int = 9, width: float = 1.4) -> str:
        """Define stripes of one colour; returns the fill to use."""
        self._parts.append(
            f'<pattern id="{key}" width="{gap}" height="{gap}" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate({angle})"><rect width="{gap}" height="{gap}" '
            f'fill="{colour}" fill-opacity="0.16"/><line x1="0" y1="0" x2="0" y2="{gap}" '
            f'stroke="{colour}" stroke-width="{width}"/></pattern>'
        )
        return f"url(#{key})"

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            f'style="max-width:100%;height:auto" font-family="{FONT}">'
        )
        words = f"<title>{escape(self.title)}</title><desc>{escape(self.description)}</desc>"
        back = f'<rect width="{self.width}" height="{self.height}" fill="{PAPER}"/>'
        return head + words + back + "".join(self._parts) + "</svg>"


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def giga(count: float) -> str:
    """Bytes as in 16 MiB, 7.875 GiB, 63.0 GiB, 1,008 GiB."""
    size = count / 2**30
    if size < 1:
        return f"{count / 2**20:.4g} MiB"
    if size >= 100:
        return f"{size:,.0f} GiB"
    return f"{size:.1f} GiB" if size >= 10 else f"{size:.4g} GiB"


def kibi(count: float) -> str:
    """Bytes as KiB, or MiB from 1,024 KiB."""
    size = count / 1024
    return f"{size / 1024:,.4g} MiB" if size >= 1024 else f"{size:,.4g} KiB"
