"""The task of the toy sweep: which word comes next? Scored by likelihood, as benchmarks are."""

import numpy as np
import torch

from llama3lib.eval import loss_by_position
from llama3lib.model import Transformer
from llama3lib.worlds.language import InventedLanguage


def answer(
    model: Transformer, language: InventedLanguage, count: int, seed: int
) -> dict[str, float]:
    """Nats a character of the right answers (`nll`), and the share chosen right (`accuracy`).

    Both as in §3.2.1. Each choice is one token; the likeliest counts as the model's answer. The
    blank before a word is one of its characters.

    Raises ValueError for fewer than one question.
    """
    questions = language.questions(count, seed)
    longest = max(len(question.prompt) for question in questions)
    rows, places = [], []
    for question in questions:
        for choice in question.choices:
            text = [*question.prompt, choice]
            rows.append(text + [0] * (longest + 1 - len(text)))
            places.append(len(text) - 2)  # of the prediction of the last one
    nats = loss_by_position(model, torch.tensor(rows), batch_size=200).nats
    table = nats[np.arange(len(places)), places].reshape(len(questions), -1)
    right = np.array([question.answer for question in questions])
    words = [language.words[question.choices[question.answer]] for question in questions]
    characters = np.array([len(word) + 1 for word in words])
    lost = table[np.arange(len(right)), right]
    return {
        "nll": round(float((lost / characters).mean()), 5),
        "accuracy": round(float((table.argmin(axis=1) == right).mean()), 4),
    }
