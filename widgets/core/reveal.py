"""The answer to a prediction: a card with guess and truth, and why each choice is right or wrong.

What is known beforehand of chapter NN is data, in `widgets/chNN/predictions.toml`, so that no cell
on the screen gives it away: a table for each prediction, with the choice that is `right`, a
sentence for each choice, or one under `answer` for the whole.
"""

import functools
import tomllib
from html import escape
from pathlib import Path

import traitlets

from llama3lib.utils.require import require
from widgets.core.predict import asked
from widgets.core.progress import chapter_of, ledger
from widgets.core.widget import CourseWidget, css, esm

_FOLDER = Path(__file__).parent.parent


class Reveal(CourseWidget):
    """The card of one answer, in the view of the prediction. Made by `reveal`."""

    _esm = esm("predict")
    _css = css("predict")
    card = traitlets.Dict().tag(sync=True)
    """question, told (guess and truth in words), good, why, options with text, sign and why."""

    def summary(self) -> str:
        """Guess, truth and whys as lines of text."""
        whys = [f"{o['sign']} {o['text']}: {o['why']}" for o in self.card["options"]]
        return "\n".join([self.card["told"], *filter(None, [self.card["why"]]), *whys])

    def static_html(self) -> str:
        """The card for paper."""
        card = self.card
        parts = [f"<p>{escape(card['question'])}</p>"] if card["question"] else []
        parts += [f"<p><strong>{escape(card['told'])}</strong></p>"]
        parts += [f"<p>{escape(card['why'])}</p>"] if card["why"] else []
        whys = (
            f"<li>{o['sign']} <em>{escape(o['text'])}</em>: {escape(o['why'])}</li>"
            for o in card["options"]
        )
        return "".join(parts) + (f"<ul>{''.join(whys)}</ul>" if card["options"] else "")


def reveal(name: str, truth: float | str | None = None, unit: str = "") -> None:
    """Show the answer beside the locked prediction, if there is one; outside a notebook, print it.

    truth: a number (also of NumPy or torch, of one element) or one of the choices; the right
    choice of the chapter's file if left out. Raises ValueError if that has none.
    """
    from IPython import get_ipython
    from IPython.display import display

    if truth is None:
        truth = whys_of(chapter_of(name)).get(name, {}).get("right")
        require(truth is not None, "truth", truth, f"what was measured: {name} has no right choice")
    truth = truth.item() if hasattr(truth, "item") else truth
    locked = ledger().prediction(name)
    if locked is not None:
        ledger().record_truth(name, truth)
    card = Reveal(card=_card(name, truth, unit, locked))
    if get_ipython() is None:
        print(card.summary())
    else:
        display(card)


def _card(name: str, truth: float | str, unit: str, locked: dict | None) -> dict:
    whys = dict(whys_of(chapter_of(name)).get(name, {}))
    question = asked(name)
    guess = locked["value"] if locked else None
    why = whys.pop("answer", "")
    whys.pop("right", None)
    choices = [c for c in question.choices if c in whys] if question and question.choices else whys
    options = [
        {
            "text": choice + (" (your guess)" if choice == guess else ""),
            "sign": "✓" if choice == truth else "✗",
            "why": whys[choice],
        }
        for choice in choices
    ]
    return {
        "question": question.question if question else "",
        "told": _told(guess, truth, unit),
        "good": guess == truth,
        "why": why,
        "options": options,
    }


@functools.cache
def whys_of(chapter: str) -> dict[str, dict[str, str]]:
    """Of a chapter's predictions, by name: the right choice, and why each is right or wrong."""
    file = _FOLDER / f"ch{chapter}" / "predictions.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _told(guess: float | str | None, truth: float | str, unit: str) -> str:
    """Guess and truth in words."""
    shown = f"{_shown(truth)} {unit}".strip()
    if guess is None:
        return f"The answer is {shown}. (No prediction was locked.)"
    if isinstance(truth, str) or isinstance(guess, str):
        verdict = "as you predicted" if guess == truth else "not what you predicted"
        return f"You predicted: {guess}. It is: {shown}, {verdict}."
    said = f"{_shown(guess)} {unit}".strip()
    return f"You predicted {said}. It is {shown}{_distance(guess, truth)}."


def _shown(value: float | str) -> str:
    if isinstance(value, str | bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _distance(guess: float, truth: float) -> str:
    if guess == truth:
        return ": exactly right"
    if guess <= 0 or truth <= 0:
        return ""
    times = max(guess / truth, truth / guess)
    if times < 1.1:
        return ": within a tenth"
    side = "high" if guess > truth else "low"
    return f": your guess was {times:.3g} times too {side}"
