"""Every extra names what its code imports: nothing is missing where only it is installed."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
from extra_tools import ROOT, environment, needed
from packaging.utils import canonicalize_name

from llama3lib.cli.main import SOURCES

INSTALLED = ("cluster", "data", "scaling", "serve", "train")  # harness has versions of its own


def imported():
    """Top names of the modules that the library imports, at the top of a file or in a function."""
    for path in (ROOT / "llama3lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).split(".")[0]


def test_every_import_is_named_by_the_base_or_by_an_extra():
    owners = importlib.metadata.packages_distributions()
    base, extras = needed(), {extra: needed(extra) for extra in INSTALLED}
    for module in set(imported()) - set(sys.stdlib_module_names) - {"llama3lib"}:
        names = {canonicalize_name(name) for name in owners.get(module, ())}
        if not names & base and module != "lm_eval":
            source = SOURCES[module]
            extra = re.fullmatch(r"llama3lib\[(.+)\]", source)
            assert names & extras[extra[1]] if extra else source in names, (module, source)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets not everyone make links")
@pytest.mark.parametrize(
    ("extra", "code", "missing"),
    [
        ("data", "import warcio, lxml.html, datatrove", "datatrove"),
        ("cluster", "import llama3lib.data.cluster, transformers", "transformers"),
    ],
)
def test_modules_can_be_imported_with_nothing_but_their_extra(tmp_path, extra, code, missing):
    """The last one alone is missing, which shows that the environment is what it should be."""
    python = environment(tmp_path / "env", extra) / "python"
    here = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, "-c", code], env=here, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith(f"No module named {missing!r}")
