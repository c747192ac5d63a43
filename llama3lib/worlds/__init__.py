"""Toy worlds: text of our own making whose truth is known, to train and to test on.

- `stories`: small stories, written by a grammar
- `miniweb`: web pages with planted flaws, served and crawled
- `language`: an invented language with a long tail, for scaling laws
- `skills`, `annotator`: six skills with a checker, and who writes and judges answers
- `domains`: what the comparisons of chapter 05 learn: two kinds of text, and strings to copy
"""

from llama3lib.worlds.language import InventedLanguage
from llama3lib.worlds.stories import stories

__all__ = ["InventedLanguage", "stories"]
