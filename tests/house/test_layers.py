"""Imports go down the layers, the library stands alone, and ruff is content."""

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
        told = run("-m", "ruff", *command, ".")
        assert told.returncode == 0, told.stdout[-3000:]


def test_imports_go_down_the_layers():
    told = run("-c", LINT)
    assert told.returncode == 0, told.stdout[-3000:]
    assert "Contracts: 2 kept, 0 broken." in told.stdout


def test_an_import_upwards_and_a_plot_library_are_caught(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    only_code = shutil.ignore_patterns("assets", "static", "__pycache__")
    for package in ("llama3lib", "widgets"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=only_code)
    with open(tmp_path / "llama3lib/utils/files.py", "a", encoding="utf-8") as file:
        file.write("\nimport llama3lib.model.args\nimport plotly\n")
    told = run("-c", LINT, cwd=tmp_path)
    assert told.returncode == 1
    assert "Contracts: 0 kept, 2 broken." in told.stdout
    assert "llama3lib.utils is not allowed to import llama3lib.model" in told.stdout
    assert "llama3lib is not allowed to import plotly" in told.stdout


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
