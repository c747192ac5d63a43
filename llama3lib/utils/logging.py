"""Loggers of the library: silent until the program that uses it asks to hear them.

To hear them: `logging.basicConfig(level=logging.INFO)`.
"""

import logging

from llama3lib.utils.require import require

_ROOT = "llama3lib"
# without a handler of its own, Python would print warnings of a library to the screen
logging.getLogger(_ROOT).addHandler(logging.NullHandler())


def get_logger(name: str) -> logging.Logger:
    """The logger of a module: pass `__name__`. Other names are put below "llama3lib"."""
    require(name, "name", name, "pass the module's __name__")
    inside = name == _ROOT or name.startswith(f"{_ROOT}.")
    return logging.getLogger(name if inside else f"{_ROOT}.{name}")
