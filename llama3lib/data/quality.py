"""Quality classifiers: fast ones for billions of pages (paper section 3.1.1, "model-based").

The paper uses two. A fastText model answers "would Wikipedia cite this?". And since Llama 2 is
good at judging text but far too slow to read the web, it judged a sample, and a small model
(DistilRoBERTa) learned to predict its verdicts: distillation. Further small models find code and
reasoning.

All of them here are one class, `NgramClassifier`: a fastText-style model of hashed word 1- and
2-grams. Trained on labels it is the first kind; trained with `distill` on a judge's verdicts it is
the second.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llama3lib.data.document import CorpusStep, Document, DocumentStep, Drop
from llama3lib.data.words import split_words
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.files import atomic_folder
from llama3lib.utils.require import one_of, require, require_all

_WORDS = 400  # of a text that are looked at; fastText's users cut there too


class NgramClassifier(nn.Module):
    """A linear model over the mean embedding of a text's hashed word n-grams.

    Like fastText (Joulin et al. 2016), in 30 lines. `labels` name the outputs; probabilities sum
    to one.
    """

    def __init__(
        self, labels: Sequence[str] = ("bad", "good"), bins: int = 1 << 16, dim: int = 16
    ) -> None:
        super().__init__()
        ok = len(set(labels)) >= 2 and len(set(labels)) == len(labels)
        require_all(ok, "two or more different ones", labels=tuple(labels))
        require_all(bins >= 2 and dim >= 1, "at least 2 and 1", bins=bins, dim=dim)
        self.labels, self.bins = tuple(labels), bins
        self.embedding = nn.EmbeddingBag(bins, dim, mode="mean")
        self.output = nn.Linear(dim, len(labels))
        nn.init.uniform_(self.embedding.weight, -1 / dim, 1 / dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def features(self, text: str) -> list[int]:
        """Bins of the words and word pairs of a text; never empty."""
        words = [word.encode("utf-8", "replace") for word in split_words(text.lower())[:_WORDS]]
        pairs = [b" ".join(pair) for pair in zip(words, words[1:], strict=False)]
        return [zlib.crc32(gram) % self.bins for gram in words + pairs] or [0]

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "texts labels"]:
        """Log-probabilities of the labels."""
        rows = [self.features(text) for text in texts]
        flat = torch.tensor([place for row in rows for place in row], device=self.device)
        starts = torch.tensor(np.cumsum([0] + [len(row) for row in rows[:-1]]), device=self.device)
        return self.output(self.embedding(flat, starts)).log_softmax(-1)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.output.weight.device

    @torch.no_grad()
    def score(self, texts: Sequence[str], label: str = "good") -> list[float]:
        """Probability of one label for each text.

        Raises ValueError for a label that the classifier doesn't know.
        """
        one_of("label", label, list(self.labels))
        place = self.labels.index(label)
        scores: list[float] = []
        for start in range(0, len(texts), 256):
            scores += self(texts[start : start + 256])[:, place].exp().tolist()
        return scores

    @torch.no_grad()
    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most likely label of each text."""
        return [self.labels[int(place)] for place in self(texts).argmax(-1)] if texts else []

    def save(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write `model.safetensors` and `config.json`, whole or not at all."""
        config = {"labels": self.labels, "bins": self.bins, "dim": self.embedding.embedding_dim}
        with atomic_folder(folder, overwrite=overwrite) as temporary:
            save_file(self.state_dict(), temporary / "model.safetensors")
            text = json.dumps(config, indent=2) + "\n"
            (temporary / "config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "NgramClassifier":
        """Read what `save` wrote.

        Raises ValueError if files are missing, damaged, or do not fit together.
        """
        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(f"classifier {str(folder)!r}: {name} is missing")
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "model.safetensors")
            with torch.device("meta"):  # no memory before it is sure that the sizes fit
                model = cls(config["labels"], int(config["bins"]), int(config["dim"]))
            model.load_state_dict(weights, assign=True)
        except Exception as error:
            raise ValueError(f"classifier {str(folder)!r} is damaged: {error}") from error
        return model.eval()


def train_classifier(
    texts: Sequence[str],
    targets: Sequence[str] | Sequence[Sequence[float]],
    labels: Sequence[str] = ("bad", "good"),
    *,
    epochs: int = 5,
    lr: float = 0.05,
    batch: int = 32,
    seed: int = 0,
    **shape: int,
) -> NgramClassifier:
    """Train a classifier on labels, or on rows of probabilities ("soft" labels).

    The loss is the cross-entropy to the target distribution. Same input, same weights. `shape`
    goes to `NgramClassifier` (`bins`, `dim`).

    Raises ValueError if there is no text, or a target too few, or an unknown label.
    """
    if not texts or len(texts) != len(targets):
        raise ValueError(
            f"{len(texts)} texts and {len(targets)} targets: as many are needed, and some"
        )
    aims = torch.tensor([_distribution(target, labels) for target in targets])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NgramClassifier(labels, **shape)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=lr)
    for _ in range(epochs):
        for places in torch.randperm(len(texts), generator=generator).split(batch):
            log_probabilities = model([texts[i] for i in places])
            loss = -(aims[places] * log_probabilities).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def _distribution(target: str | Sequence[float], labels: Sequence[str]) -> list[float]:
    if isinstance(target, str):
        one_of("target", target, list(labels))
        return [float(label == target) for label in labels]
    row = [float(share) for share in target]
    ok = len(row) == len(labels) and min(row) >= 0 and abs(sum(row) - 1) <= 1e-3
    require(ok, "target", row, f"{len(labels)} shares that sum to 1")
    return row


Judge = Callable[[Sequence[str]], Sequence[float]]


def distill(judge: Judge, texts: Sequence[str], **settings: Any) -> NgramClassifier:
    """A fast classifier that imitates a slow judge: its score for "good" predicts the verdicts.

    `judge` gives each text a verdict from 0 to 1; in the paper Llama 2 chat does, see `YesNoJudge`.
    `settings` go to `train_classifier`.

    Raises ValueError for a verdict outside of 0 to 1.
    """
    verdicts = [float(verdict) for verdict in judge(texts)]
    if bad := [verdict for verdict in verdicts if not 0 <= verdict <= 1]:
        raise ValueError(f"verdict={bad[0]!r} is not allowed: from 0 to 1")
    return train_classifier(texts, [(1 - verdict, verdict) for verdict in verdicts], **settings)


@dataclass(frozen=True)
class YesNoJudge:
    """Ask a chat model about each text; the verdict is P(yes) / (P(yes) + P(no)).

    The paper gave Llama 2 chat the cleaned documents and quality requirements in words (section
    3.1.1); its prompts are not published. `prompt` must hold `{text}` and end where the answer
    begins.
    """

    model: nn.Module
    tokenizer: Tokenizer
    prompt: str = (
        "Here is a text from a web page:\n\n{text}\n\nDoes it inform, in whole sentences and "
        "without advertising? Answer yes or no.\nAnswer:"
    )
    yes: str = " yes"
    no: str = " no"
    most_characters: int = 2000

    def __post_init__(self) -> None:
        require("{text}" in self.prompt, "prompt", self.prompt, "it must hold {text}")
        yes, no = self.tokenizer.encode(self.yes), self.tokenizer.encode(self.no)
        if not yes or not no:
            raise ValueError(f"yes={self.yes!r} and no={self.no!r}: one of them has no token")
        if yes[:1] == no[:1]:
            raise ValueError(f"yes={self.yes!r} and no={self.no!r} begin with the same token")

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[float]:
        """A verdict from 0 to 1 for each text; one forward pass each."""
        yes, no = (self.tokenizer.encode(answer)[0] for answer in (self.yes, self.no))
        device = next(self.model.parameters()).device
        verdicts = []
        for text in texts:
            asked = self.prompt.replace("{text}", text[: self.most_characters])
            ids = self.tokenizer.encode(asked, bos=True)
            logits = self.model(torch.tensor([ids], device=device))[0, -1].float()
            verdicts.append(float(torch.stack([logits[yes], logits[no]]).softmax(0)[0]))
        return verdicts


@dataclass(frozen=True, kw_only=True)
class _Scorer:
    model: str
    """Folder of a saved `NgramClassifier`."""
    label: str = "good"

    @cached_property
    def classifier(self) -> NgramClassifier:
        """The classifier, read when first needed."""
        return NgramClassifier.load(self.model)

    def score(self, text: str) -> float:
        """Probability of the label, rounded so that it is the same on every machine."""
        return round(self.classifier.score([text], self.label)[0], 4)


@dataclass(frozen=True, kw_only=True)
class KeepQuality(_Scorer, DocumentStep):
    """Drop documents whose probability of `label` is below `least` (`low quality`)."""

    name: ClassVar[str] = "quality"
    least: float = 0.5
    languages: tuple[str, ...] = ()
    """Languages that the classifier knows; documents in others pass. Empty: it knows all."""

    def apply(self, document: Document) -> Document | Drop:
        if self.languages and document.metadata.get("language") not in self.languages:
            return document
        score = self.score(document.text)
        if score < self.least:
            return Drop("low quality", f"{score:.2f} < {self.least:g}")
        return document.but(quality=score)


@dataclass(frozen=True, kw_only=True)
class TagKind(DocumentStep):
    """Note in the metadata which `kind` a classifier takes a document for: code, reasoning, ..."""

    name: ClassVar[str] = "kind"
    model: str
    """Folder of a saved `NgramClassifier`."""

    @cached_property
    def classifier(self) -> NgramClassifier:
        """The classifier, read when first needed."""
        return NgramClassifier.load(self.model)

    def apply(self, document: Document) -> Document | Drop:
        return document.but(kind=self.classifier.predict([document.text])[0])


@dataclass(frozen=True, kw_only=True)
class KeepBestPerLanguage(_Scorer, CorpusStep):
    """Rank documents within each language and keep the best share (paper: multilingual data)."""

    name: ClassVar[str] = "quality_rank"
    share: float = 0.5

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share", self.share, "above 0, at most 1")

    def collect(self, document: Document) -> Any:
        return [str(document.metadata.get("language", "")), self.score(document.text)]

    def decide(self, notes: Iterable[tuple[str, Any]]) -> dict[str, float]:
        """For each language the least score that stays."""
        scores: dict[str, list[float]] = {}
        for _, (language, score) in notes:
            scores.setdefault(language, []).append(score)
        return {
            language: sorted(row, reverse=True)[max(1, round(self.share * len(row))) - 1]
            for language, row in scores.items()
        }

    def apply(self, document: Document, decision: dict[str, float]) -> Document | Drop:
        language = str(document.metadata.get("language", ""))
        score = self.score(document.text)
        if score < decision[language]:
            return Drop("low rank", f"{language} {score:.2f} < {decision[language]:.2f}")
        return document.but(quality=score)
