"""The house rules that a machine can check: layers, style, one set of versions, tidy files."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
CONDA_NAMES = {"torch": "pytorch"}
ONLY_PIP = {"llama-models"}  # not on conda-forge
TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
).stdout.splitlines()
FILES = [ROOT / name for name in TRACKED if (ROOT / name).is_file()]
NOTEBOOKS = sorted([*ROOT.glob("chapters/*.ipynb"), *ROOT.glob("solutions/*.ipynb")])


def run(*args):
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)


def test_ruff_is_content():
    for command in (["check"], ["format", "--check"]):
        told = run(sys.executable, "-m", "ruff", *command, ".")
        assert told.returncode == 0, told.stdout[-3000:]


def test_imports_go_down_the_layers():
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    told = run(sys.executable, "-c", command)
    assert told.returncode == 0, told.stdout[-3000:]
    assert "Contracts: 2 kept, 0 broken." in told.stdout


def test_importing_the_library_brings_no_notebook():
    code = "import sys, llama3lib.inference, llama3lib.checkpoint, llama3lib.paper;"
    code += (
        "print([m for m in ('IPython', 'plotly', 'transformers', 'anywidget') if m in sys.modules])"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def _spec(text):
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", text).groups()
    return name.lower().replace("_", "-"), frozenset(b.strip() for b in bounds.split(",") if b)


def _expand(extra, extras):
    for item in extras[extra]:
        if inner := re.fullmatch(r"llama3lib\[(.+)\]", item):
            for name in inner[1].split(","):
                yield from _expand(name, extras)
        else:
            yield item


def test_environment_yml_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    env = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    wanted = dict(map(_spec, project["dependencies"]))
    wanted |= dict(map(_spec, _expand("test", project["optional-dependencies"])))
    want = {CONDA_NAMES.get(n, n): bounds for n, bounds in wanted.items() if n not in ONLY_PIP}
    conda = dict(map(_spec, env["dependencies"]))
    assert conda.pop("python") == _spec("python" + project["requires-python"])[1]
    conda.pop("pip")
    assert conda == want


def test_constraints_pin_every_direct_dependency_and_no_local_build():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(_spec(line) for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = [*project["dependencies"], *_expand("test", project["optional-dependencies"])]
    missing = [name for name, _ in map(_spec, direct) if name not in pins]
    assert not missing
    assert all(len(b) == 1 and "+" not in next(iter(b)) for b in pins.values())
    assert not [name for name in pins if name.startswith(("nvidia", "triton"))]


_HOSTS = r"/(?:work|farm)/\.?[a-z]+/|py[p]i\.org|pythonhoste[d]|registry\.np[m]|deb\.debia[n]"


def test_no_file_names_a_machine_or_a_package_host():
    bad = re.compile(_HOSTS)
    found = []
    for file in FILES:
        if file.suffix in (".png", ".safetensors"):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if bad.search(text):
            found.append(f"{file.relative_to(ROOT)}: {bad.search(text).group(0)}")
    assert not found


@pytest.mark.parametrize("package", ["llama3lib", "widgets"])
def test_files_and_functions_stay_readable(package):
    found = []
    for file in (ROOT / package).rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            found.append(f"{file.name}: {text.count(chr(10))} lines")
        for item in ast.walk(ast.parse(text)):
            if isinstance(item, ast.FunctionDef) and item.end_lineno - item.lineno > 60:
                found.append(f"{file.name}: {item.name} is {item.end_lineno - item.lineno} lines")
    assert not found


def test_public_functions_of_the_library_are_typed_and_explained():
    found = []
    for file in (ROOT / "llama3lib").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for item in tree.body:
            public = isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
            if public and (item.returns is None or ast.get_docstring(item) is None):
                found.append(f"{file.name}: {item.name}")
    assert not found


def test_the_model_page_is_a_page():
    page = ROOT / "llama3lib" / "model" / "transformer.py"
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 350


def _source(cell):
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.parent.name + "/" + f.stem)
def test_notebooks_are_stored_run_whole_and_short(file):
    raw = file.read_bytes()
    assert len(raw) <= 1_000_000
    book = json.loads(raw)
    assert "widgets" not in book["metadata"]
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert "execution" not in cell["metadata"]
        tags = cell["metadata"].get("tags", [])
        whole_answer = any(tag.startswith("solution:") for tag in tags)  # one cell, however long
        assert whole_answer or len(_source(cell).splitlines()) <= 30, _source(cell)[:80]
        for output in cell["outputs"]:
            assert output["output_type"] != "error" or "raises-exception" in tags, _source(cell)
            data = output.get("data", {})
            if "application/vnd.plotly.v1+json" in data:
                assert "image/png" in data, "a figure without its static twin"


@pytest.mark.parametrize("file", sorted(ROOT.glob("chapters/*.ipynb")), ids=lambda f: f.stem)
def test_chapters_keep_their_measure(file):
    cells = json.loads(file.read_bytes())["cells"]
    assert 60 <= len(cells) <= 120
    lengths = sorted(len(_source(c).splitlines()) for c in cells if c["cell_type"] == "code")
    assert lengths[len(lengths) // 2] <= 10
    for cell in cells:
        if cell["cell_type"] == "markdown":
            words = re.sub(r"<[^>]*>|`[^`]*`|\|", " ", _source(cell)).split()
            assert len(words) <= 120, f"{len(words)} words: {_source(cell)[:60]}"
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    assert len([tag for tag in tags if tag.startswith("exercise:")]) >= 6
