"""The `llama3` command. A new command: a file beside this one, and its class in `COMMANDS`.

A command is a dataclass: its fields are the options, its docstrings the help. `run` does it and
returns the exit code; PyTorch is imported only there, so that `llama3 --help` answers at once.
"""

import functools
import importlib.metadata
import io
import logging
import operator
import os
import sys
from collections.abc import Sequence

import tyro
from tyro.conf import FlagCreatePairsOff

from llama3lib.cli.chat import Chat
from llama3lib.cli.data import Data
from llama3lib.cli.doctor import Doctor
from llama3lib.cli.export import Export
from llama3lib.cli.generate import Generate
from llama3lib.cli.info import Info
from llama3lib.cli.plan import Plan
from llama3lib.cli.reward import Reward
from llama3lib.cli.scaling import Scaling
from llama3lib.cli.serve import Serve
from llama3lib.cli.sft import Sft
from llama3lib.cli.simulate import Simulate
from llama3lib.cli.tokenize import Tokenize
from llama3lib.cli.tokenizer import Tokenizer
from llama3lib.cli.train import Train

PROGRAM = "llama3"
DISTRIBUTION = "llama3lib"
COMMANDS = (
    *(Info, Generate, Chat, Serve, Tokenize, Tokenizer, Data, Train, Sft, Reward, Scaling, Plan),
    *(Simulate, Export, Doctor),
)
# what pip installs for a module that may be missing: an extra of ours, or a package of its own
_DATA = (
    *("brotli", "charset_normalizer", "duckdb", "lxml", "py3langid", "warcio", "webencodings"),
    "zstandard",
)
_SERVE = (
    *("fastapi", "jinja2", "llguidance", "prometheus_client", "pydantic", "pydantic_core"),
    *("starlette", "uvicorn"),
)
SOURCES = {
    **dict.fromkeys(_DATA, "llama3lib[data]"),
    **dict.fromkeys(("datatrove", "orjson", "ray", "tokenizers"), "llama3lib[cluster]"),
    **dict.fromkeys(_SERVE, "llama3lib[serve]"),
    "scipy": "llama3lib[scaling]",
    "lm_eval": "llama3lib[harness]",
    "tensorboard": "llama3lib[train]",
    "trafilatura": "trafilatura",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0 done, 2 wrong input (one line on standard error), 130 interrupted by Ctrl-C.
    """
    _speak_utf8()
    logging.basicConfig(level=logging.WARNING, format=f"{PROGRAM}: %(message)s")
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv in (["--version"], ["-V"]):
        print(f"{PROGRAM} {version()}")
        return 0
    command = tyro.cli(
        functools.reduce(operator.or_, COMMANDS),
        prog=PROGRAM,
        description="Llama 3 in small and in full. `llama3 --version` prints the version.",
        args=argv or ["--help"],
        config=(FlagCreatePairsOff,),
    )
    try:
        code = command.run()
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader has left, as in `llama3 generate ... | head`: nobody is left to be told,
        # and the flush at exit must not fail a second time
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        message = " ".join(str(error).split())
        print(f"{PROGRAM}: {message}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        source = SOURCES.get(str(error.name).split(".")[0])
        if source is None:
            raise
        cure = f"pip install '{source}' brings it"
        print(f"{PROGRAM}: the package {error.name} is not installed: {cure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return code


def version() -> str:
    """Version of the installed package."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _speak_utf8() -> None:
    # a Windows console may have another code page, in which most characters cannot be printed
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
