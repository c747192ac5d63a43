"""Signs without a width: which go, and which a script or an emoji cannot do without."""

import pytest

from llama3lib.data.document import Document
from llama3lib.data.extract import Extract, extract_text
from llama3lib.data.invisible import drop_invisible

GO = [
    ("Donau\u00addampf\u00adschiff", "Donaudampfschiff"),
    ("a\u200bb\u2060c\ufeffd", "abcd"),
    ("Auf\u200clage f\u200di", "Auflage fi"),  # German, against a ligature
    ("f\u2061(x)\u2062y", "f(x)y"),
    ("one \u200etwo\u200f \u202athree\u202c", "one two three"),
    ("\u200b\u200b", ""),
    ("so\U000e0041\U000e0042 hidden", "so hidden"),
    ("👍\u200d.", "👍."),
    ("中\u200b文", "中文"),
]
STAY = [
    "می\u200cخواهم",  # Persian
    "क्\u200dष क्\u200cष श्री\u200d",  # Hindi
    "ශ්\u200dරී",  # Sinhala
    "ภาษา\u200bไทย",  # Thai, between words
    "ភាសា\u200bខ្មែរ",
    "👩🏽\u200d🚀 ❤\ufe0f\u200d🔥 🏳\ufe0f\u200d🌈 🏴\U000e0067\U000e0062\U000e007f",
    "שלום\u200f (abc)\u200e!",
    "葛\U000e0100飾",  # a variant of the sign before it
    "plain",
]


@pytest.mark.parametrize(("text", "left"), GO)
def test_what_nobody_sees_goes(text, left):
    assert drop_invisible(text) == left
    assert extract_text(f"<p>before</p><p>{text}</p>") == f"before\n{left}".rstrip()


@pytest.mark.parametrize("text", STAY)
def test_what_a_script_needs_stays(text):
    assert drop_invisible(text) == text
    assert extract_text(f"<p>{text}</p>") == text


def test_marks_of_direction_stay_in_the_lines_that_need_them():
    assert drop_invisible("abc\u200f\nשלום\u200f!") == "abc\nשלום\u200f!"


def test_pages_of_plain_text_lose_them_too():
    page = Document("soft\u00adly", "a", {"content_type": "text/plain"})
    assert Extract().apply(page).text == "softly"
    assert extract_text("<pre>a\u200bb</pre>") == "a\u200bb"  # as it is, like all of it
