"""Imports go down the layers, the library stands alone, and ruff is content."""

import ast
import graphlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def run(*args, cwd=ROOT):
    command = [sys.executable, "-X", "utf8", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", check=False)


def test_ruff_is_content():
    for command in (["check"], ["format", "--check"]):
        done = run("-m", "ruff", *command, ".")
        assert done.returncode == 0, done.stdout[-3000:]


def test_imports_go_down_the_layers():
    done = run("-c", LINT)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Contracts: 2 kept, 0 broken." in done.stdout


def test_an_import_upwards_and_a_plot_library_are_caught(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    only_code = shutil.ignore_patterns("assets", "static", "__pycache__")
    for package in ("llama3lib", "widgets"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=only_code)
    with open(tmp_path / "llama3lib/utils/files.py", "a", encoding="utf-8") as file:
        file.write("\nimport llama3lib.model.args\nimport plotly\n")
    done = run("-c", LINT, cwd=tmp_path)
    assert done.returncode == 1
    assert "Contracts: 0 kept, 2 broken." in done.stdout
    assert "llama3lib.utils is not allowed to import llama3lib.model" in done.stdout
    assert "llama3lib is not allowed to import plotly" in done.stdout


def modules():
    """Every module of ours and its file."""
    found = {}
    for file in (*ROOT.glob("llama3lib/**/*.py"), *ROOT.glob("widgets/**/*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(tree):
    """Names in all imports, those in functions too; what only type checkers read does not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imported(ast.Module(node.orelse, []))
        else:
            yield from imported(node)


def circle(sources):
    """The first circle of imports among modules given as text; None if there is none."""
    graph = {}
    for name, text in sources.items():
        names = set(imported(ast.parse(text)))
        # `from package.module import thing` is an import of the module
        names = {n if n in sources else n.rpartition(".")[0] for n in names}
        graph[name] = (names & sources.keys()) - {name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_imports_run_in_a_circle():
    sources = {name: file.read_text(encoding="utf-8") for name, file in modules().items()}
    assert len(sources) > 200 and circle(sources) is None
    late = "def run():\n    from llama3lib.cli.main import main\n"
    planted = sources | {"llama3lib.cli.export": late}
    assert set(circle(planted)) == {"llama3lib.cli.export", "llama3lib.cli.main"}
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import llama3lib.cli.main"
    assert circle(sources | {"llama3lib.cli.export": for_types}) is None


def test_every_package_has_its_layer():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    known = {name.strip(" ()") for layer in layers for name in layer.split("|")}
    found = {f"llama3lib.{file.parent.name}" for file in ROOT.glob("llama3lib/*/__init__.py")}
    assert found and found <= known


def test_importing_the_library_brings_no_notebook():
    code = "import sys, llama3lib.inference, llama3lib.checkpoint, llama3lib.paper\n"
    code += "heavy = {'IPython', 'plotly', 'transformers', 'anywidget', 'ipywidgets'}\n"
    code += "print(sorted(heavy & set(sys.modules)))"
    assert run("-c", code).stdout.strip() == "[]"
