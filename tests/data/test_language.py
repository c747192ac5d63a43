"""Languages: eight of the mini-web, texts without one, and each reason to drop."""

import random

import pytest

from llama3lib.data.document import Document, Drop
from llama3lib.data.language import IdentifyLanguage, identify_language
from llama3lib.worlds.miniweb.languages import LANGUAGES, foreign

ENGLISH = "The mill stood by the river, and people came from far to have their grain ground there."


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_languages_of_the_mini_web(language):
    for seed in range(5):
        found, sure = identify_language(" ".join(foreign(random.Random(seed), language)))
        assert found == language and 0.5 < sure <= 1


def test_english_whatever_stands_around_it():
    assert identify_language(ENGLISH)[0] == "en"
    assert identify_language("\n " * 5000 + ENGLISH)[0] == "en"  # not lost behind white space
    assert identify_language(ENGLISH * 9000) == identify_language(ENGLISH * 90)
    assert identify_language(ENGLISH + "\ud800")[0] == "en"  # half a pair is no reason to fail
    assert identify_language(ENGLISH.upper())[1] <= 1


@pytest.mark.parametrize("text", ["", "   \n", "123 456", "!?.. 🦙 --", "\x00"])
def test_no_letters_no_language(text):
    assert identify_language(text) == ("und", 0.0)
    assert IdentifyLanguage().apply(Document(text, "a")) == Drop("no language")


def test_reasons_and_notes():
    document = Document(ENGLISH, "a", {"url": "u"})
    found = IdentifyLanguage(keep=("en",)).apply(document)
    assert found.text == ENGLISH and found.metadata["language"] == "en"
    assert found.metadata["url"] == "u" and 0.5 <= found.metadata["language_score"] <= 1
    assert IdentifyLanguage(keep=("de", "fr")).apply(document) == Drop("other language", "en")
    unsure = IdentifyLanguage(least=1.0).apply(Document("xq zt", "a"))
    assert unsure.reason == "unsure language" and "< 1" in unsure.detail
    with pytest.raises(ValueError, match=r"least=1\.5 is not allowed"):
        IdentifyLanguage(least=1.5)


def test_an_unknown_language_of_the_mini_web():
    with pytest.raises(ValueError, match="language='xx' is not allowed"):
        foreign(random.Random(0), "xx")
