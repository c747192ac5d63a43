"""Markdown's markers out of text (paper section 3.1.1: they hurt a model trained on the web)."""

import re
from dataclasses import dataclass
from typing import ClassVar

from llama3lib.data.document import Document, DocumentStep, Drop

MARKDOWN = ("text/markdown", "text/x-markdown")
"""Types of Markdown documents."""
_FENCE = re.compile(r"^(?:```|~~~)[^\n`]{0,40}$", re.MULTILINE)
_LINE_MARKS = re.compile(r"^[ ]{0,3}(?:#{1,6}[ \t]+|>[ \t]?|[-*+][ \t]+(?=\S))", re.MULTILINE)
_RULE = re.compile(
    r"^[ ]{0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$\n?", re.MULTILINE
)
_UNDERLINE = re.compile(r"^(?:={3,}|-{3,})[ \t]*$\n?", re.MULTILINE)
# not amid a word: `x**2 + y**2` and `author__name__is` are no emphasis
_BOTH_SIDES = re.compile(
    r"(?:(?<![A-Za-z0-9)\]])(\*\*)|(?<![\w_])(__))(?=\S)([^*_\n]{1,500}?)(?<=\S)"
    r"(?:\1(?![A-Za-z0-9])|\2(?![\w(]))"
)
_ITALIC = re.compile(r"(?<![\w*])\*(?=\S)([^*\n]{1,500}?)(?<=\S)\*(?![\w*])")
_CODE = re.compile(r"`([^`\n]{1,500})`")
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\([^()\s]{1,2000}(?:[ \t]\"[^\"\n]{0,200}\")?\)")


def strip_markdown(text: str) -> str:
    """The text without Markdown's markers: headings, emphasis, links, fences, rules, bullets.

    What stood inside a code fence is kept as it is. Other text with the same signs, such as
    `2 * 3 * 4` and `snake_case_name`, stays too.
    """
    parts = _FENCE.split(text)
    for place in range(0, len(parts), 2):  # every other part is inside a fence
        part = _RULE.sub("", parts[place])
        part = _UNDERLINE.sub("", part)
        part = _LINE_MARKS.sub("", part)
        part = _LINK.sub(r"\1", part)
        part = _CODE.sub(r"\1", part)
        part = _BOTH_SIDES.sub(r"\3", part)
        parts[place] = _ITALIC.sub(r"\1", part)
    return "".join(parts)


@dataclass(frozen=True, kw_only=True)
class StripMarkdown(DocumentStep):
    """Take out Markdown's markers (paper section 3.1.1: they hurt a model of the web).

    Only of Markdown: documents whose type says so or is not known. In text that was HTML, or came
    as plain text, the same signs mean something else.
    """

    name: ClassVar[str] = "strip_markdown"

    def apply(self, document: Document) -> Document | Drop:
        kind = document.metadata.get("content_type")
        if kind is not None and kind not in MARKDOWN:
            return document
        text = strip_markdown(document.text)
        if text == document.text:
            return document
        return document.but(text, **({} if kind is None else {"content_type": "text/plain"}))
