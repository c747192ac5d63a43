"""Which language is a text in (paper section 3.1.1, "multilingual data").

The paper uses a fastText model for 176 languages. `py3langid` brings a model for 97 of them inside
its package, so that nothing has to be downloaded.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from llama3lib.data.document import Document, DocumentStep, Drop
from llama3lib.utils.require import require

_SAMPLE = 2000  # characters; more text does not change the answer, only the time


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify_language(text: str) -> tuple[str, float]:
    """The most likely language (ISO 639-1) and its probability; ("und", 0.0) without letters."""
    sample = " ".join(text.lstrip()[: 2 * _SAMPLE].split())[:_SAMPLE]
    sample = sample.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no letter
    if not any(letter.isalpha() for letter in sample):
        return "und", 0.0
    language, probability = _identifier().classify(sample)
    return str(language), float(probability)


@dataclass(frozen=True, kw_only=True)
class IdentifyLanguage(DocumentStep):
    """Note `language` and `language_score` in the metadata; drop what is not wanted.

    With `keep` empty every language stays. Drops: `no language`, `unsure language`,
    `other language`.
    """

    name: ClassVar[str] = "language"
    packages: ClassVar[tuple[str, ...]] = ("py3langid",)
    keep: tuple[str, ...] = ()
    least: float = 0.5
    """Least probability; mixed and broken texts fall below it."""

    def __post_init__(self) -> None:
        require(0 <= self.least <= 1, "least", self.least, "from 0 to 1")

    def apply(self, document: Document) -> Document | Drop:
        language, probability = identify_language(document.text)
        if language == "und":
            return Drop("no language")
        if probability < self.least:
            return Drop("unsure language", f"{language} {probability:.2f} < {self.least:g}")
        if self.keep and language not in self.keep:
            return Drop("other language", language)
        return document.but(language=language, language_score=round(probability, 4))
