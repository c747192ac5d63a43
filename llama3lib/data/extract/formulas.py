"""Formulas as text: TeX where a page carries it, else MathML written in one line."""

import re

from llama3lib.data.extract.tree import Element

_SPACE = re.compile(r"\s+")
_MATHS_IMAGE = re.compile(
    r"(?:^|[-_\s])(?:math|tex|latex|formula|equation|mwe-math\S*)", re.IGNORECASE
)
_TEX_SIGN = re.compile(r"\\[a-zA-Z]+|[\^_]\{|\$")
_SIMPLE = re.compile(r"\w*|\W")


def formula_of(element: Element) -> str | None:
    """What stands for a formula's element; None if it is none."""
    tag, has = element.tag, element.attributes
    if tag == "math":
        tex = _tex_of(element)
        return f"${tex}$" if tex else _plain(element).strip()
    if tag == "script" and has.get("type", "").startswith("math/tex"):
        sign = "$$" if "mode=display" in has["type"] else "$"
        return f"{sign}{element.text().strip()}{sign}"
    if tag in ("sup", "sub"):
        return _raised(element)
    return None


def image_text(element: Element) -> str:
    """The `alt` text of an image: between dollars if its class says that it is a formula."""
    alt = _SPACE.sub(" ", element.attributes.get("alt", "")).strip()
    if not alt:
        return ""
    named = _MATHS_IMAGE.search(element.attributes.get("class", ""))
    return f"${alt}$" if named else f" {alt} "


def is_formula_image(element: Element) -> bool:
    """Whether an image shows a formula, by its class or by TeX in its `alt` text."""
    has = element.attributes
    return bool(_MATHS_IMAGE.search(has.get("class", "")) or _TEX_SIGN.search(has.get("alt", "")))


def _tex_of(element: Element) -> str:
    """TeX source that a MathML element carries along, or ""."""
    for note in element.walk():
        if note.tag == "annotation" and "tex" in note.attributes.get("encoding", "").lower():
            if text := _SPACE.sub(" ", note.text()).strip():
                return text
    return element.attributes.get("alttext", "").strip()


def _raised(element: Element) -> str | None:
    """A short index or power: x^2, x_{12}; None for what is longer or has elements in it."""
    if any(not isinstance(part, str) for part in element.parts):
        return None
    text = "".join(map(str, element.parts)).strip()
    if not 0 < len(text) <= 12:
        return None
    return _script("^" if element.tag == "sup" else "_", text)


def _script(sign: str, text: str) -> str:
    return sign + (text if len(text) == 1 else f"{{{text}}}")


def _plain(element: Element) -> str:
    """MathML in one line: fractions with a stroke, powers and indices as in TeX."""
    inner = [part for part in element.parts if not isinstance(part, str)]
    texts = [_plain(part) for part in inner]
    if element.tag == "mfrac" and len(texts) == 2:
        return f"{_grouped(texts[0])}/{_grouped(texts[1])}"
    if element.tag in ("msup", "mover") and len(texts) == 2:
        return _grouped(texts[0]) + _script("^", texts[1])
    if element.tag in ("msub", "munder") and len(texts) == 2:
        return _grouped(texts[0]) + _script("_", texts[1])
    if element.tag in ("msubsup", "munderover") and len(texts) == 3:
        return _grouped(texts[0]) + _script("_", texts[1]) + _script("^", texts[2])
    if element.tag == "msqrt":
        return f"√({''.join(texts)})"
    if element.tag == "mroot" and len(texts) == 2:
        return f"√[{texts[1]}]({texts[0]})"
    if element.tag == "mtr":
        return ", ".join(texts)
    if element.tag == "mtable":
        return "[" + "; ".join(texts) + "]"
    if element.tag in ("annotation", "annotation-xml"):
        return ""
    if element.tag == "mspace":
        return " "
    own = iter(texts)
    parts = (p.strip() if isinstance(p, str) else next(own) for p in element.parts)
    return "".join(parts)


def _grouped(text: str) -> str:
    return text if _SIMPLE.fullmatch(text) else f"({text})"
