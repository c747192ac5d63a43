"""Text for training. For now: stories of our own making; the web pipeline comes with chapter 02."""

from llama3lib.data.stories import stories

__all__ = ["stories"]
