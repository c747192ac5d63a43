"""The document that flows through the data pipeline, and the two kinds of step that change it.

A `DocumentStep` looks at one document at a time: it may run anywhere, in any order, on any number
of machines. A `CorpusStep` needs to know about all the others ("is there another one like this?").
It works in three moves, so that it too can be spread over machines: `collect` a small note from
each document, `decide` once from all notes, `apply` the decision to each document.

Steps are pure: the same document gives the same answer, whatever came before it. This is what
makes a run on one core, on two and on a cluster give the same bytes.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a name and what is known about it.

    The three fields are those of datatrove's documents. Well-known keys of `metadata`: `url`,
    `date` (ISO 8601), `language`, `source`.
    """

    text: str
    id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def but(self, text: str | None = None, **metadata: object) -> "Document":
        """A copy with another text or with more metadata; this one stays as it is."""
        known = {**self.metadata, **metadata} if metadata else self.metadata
        return replace(self, text=self.text if text is None else text, metadata=known)


@dataclass(frozen=True, slots=True)
class Drop:
    """A step's verdict that a document has to go.

    `reason` is one of few fixed words, to be counted; `detail` has the figure behind it.
    """

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A document on its way out, with the step that stopped it and why."""

    document: Document
    step: str
    reason: str
    detail: str = ""


def refused(name: str, reason: str, detail: str = "", **known: object) -> Dropped:
    """An item of an input that is no document; `known` is what else names it, as its `url`."""
    return Dropped(Document("", name, known), "read", reason, detail[:200])


class DocumentStep(ABC):
    """A step that needs to see one document only. `apply` must be pure.

    `packages` are the modules beyond the base installation that it imports when it works.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def apply(self, document: Document) -> Document | Drop:
        """The document, a changed copy, or the reason why it has to go."""

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document | Dropped]:
        """Apply the step to a stream."""
        for document in documents:
            yield verdict(self.name, document, self.apply(document))


class CorpusStep(ABC):
    """A step that needs to see all documents before it can judge one.

    Notes and decisions must survive JSON: numbers, strings, lists, dictionaries. `decide` may not
    depend on how the notes were spread over files, only on their order. `packages` as above.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def collect(self, document: Document) -> Any:
        """What has to be known about this document."""

    @abstractmethod
    def decide(self, notes: Iterable[tuple[str, Any]]) -> Any:
        """A decision from pairs of document id and note, in the order of the documents."""

    def prepare(self, decision: Any) -> Any:
        """The decision in the form in which `apply` looks things up; made once, not stored."""
        return decision

    @abstractmethod
    def apply(self, document: Document, decision: Any) -> Document | Drop:
        """The document, a changed copy, or the reason why it has to go; `decision` prepared."""

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document | Dropped]:
        """Apply the step to a stream, which has to fit in memory: it is looked at twice."""
        documents = list(documents)
        if double := [name for name, n in Counter(d.id for d in documents).items() if n > 1]:
            raise ValueError(f"id={double[0]!r} is not allowed twice: steps decide by id")
        decision = self.decide((document.id, self.collect(document)) for document in documents)
        decision = self.prepare(decision)
        for document in documents:
            yield verdict(self.name, document, self.apply(document, decision))


Step = DocumentStep | CorpusStep


def verdict(step: str, document: Document, answer: Document | Drop) -> Document | Dropped:
    """A step's answer as an item of a stream: drops carry the document and the step's name."""
    if isinstance(answer, Drop):
        return Dropped(document, step, answer.reason, answer.detail)
    return answer
