"""How a modern language model is really built: "The Llama 3 Herd of Models" as a library."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("llama3lib")
except PackageNotFoundError:  # run from a folder, not installed
    __version__ = "0+unknown"
