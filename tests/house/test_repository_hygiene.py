"""House rules that a machine can check, and a planted slip for each to show that it is caught."""

import ast
import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
BINARY = (".png", ".safetensors", ".model")
BOOKS = sorted([*ROOT.glob("chapters/*.ipynb"), *ROOT.glob("solutions/*.ipynb")])
CHAPTERS = [file for file in BOOKS if file.parent.name == "chapters"]
PLOTLY = "application/vnd.plotly.v1+json"
# spelled so that this file does not name them itself
_HOSTS = r"py[p]i\.org|pythonhoste[d]|registry\.np[m]|conda\.anacond[a]|deb\.debia[n]"
_PATHS = r"/(?:work|farm)/\.?[a-z]+/|/roo[t]/|/home/[a-z]+/|/User[s]/\w|[A-Z]:\\+User[s]"
_PATHS += r"|/tm[p]/|/opt/(?:wheels|py)"
FOREIGN = re.compile(f"{_HOSTS}|{_PATHS}")


def project_files():
    """Files that belong to the project: git's answer, or all if this is no checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        hidden = (".venv", "__pycache__", ".git", "build", "dist", "my-course")
        every = ROOT.rglob("*")
        return [f for f in every if f.is_file() and not set(hidden) & set(f.parts)]
    return [ROOT / name for name in told.stdout.splitlines() if (ROOT / name).is_file()]


FILES = project_files()
SOURCES = [file for file in FILES if file.suffix in (".py", ".js", ".css")]
LEARNERS_ANSWERS = re.compile(r"tests/course/ch\d\d/answers\w*\.py")  # many short ones, one file


def source_of(cell):
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def tags_of(cell):
    return cell["metadata"].get("tags", [])


# where a function or method of a script begins; scripts are formatted, so it ends at a brace that
# stands as far to the left
_FUNCTION = re.compile(
    r"^( *)(?!if|for|while|switch)(?:export )?(?:async )?(?:function )?[\w$]+\(.*\) \{$"
    r"|^( *)(?:const|let) \w+ = .*=> \{$"
)


def script_problems(text, name):
    """Functions of a script over 60 lines, lines over 100 characters."""
    lines = text.splitlines()
    found = [f"{name}: a line of {len(line)} characters" for line in lines if len(line) > 100]
    for number, line in enumerate(lines):
        if begins := _FUNCTION.match(line):
            end = f"{begins[1] or begins[2] or ''}}}"
            long = next(i for i, later in enumerate(lines[number:]) if later.startswith(end)) + 1
            found += [f"{name}: {line.strip()} has {long} lines"] if long > 60 else []
    return found


def size_problems(text, name):
    """Files over 400 lines, functions over 60."""
    lines = len(text.splitlines())
    found = [f"{name}: {lines} lines"] if lines > 400 else []
    found += script_problems(text, name) if name.endswith(".js") else []
    for item in ast.walk(ast.parse(text)) if name.endswith(".py") else ():
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            long = item.end_lineno - item.lineno + 1
            found += [f"{name}: {item.name} has {long} lines"] if long > 60 else []
    return found


def unexplained(text):
    """Public functions without a return type or a docstring."""
    functions = [item for item in ast.parse(text).body if isinstance(item, ast.FunctionDef)]
    public = [item for item in functions if not item.name.startswith("_")]
    return [f.name for f in public if f.returns is None or ast.get_docstring(f) is None]


def book_problems(book):
    """What a stored notebook must not have, and what its figures must have."""
    found = []
    if "widgets" in book["metadata"]:
        found.append("stored widget state")
    if book["metadata"].get("kernelspec", {}).get("name") != "python3":
        found.append("kernel is not python3")
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        found.append("not run top to bottom in one go")
    ids = [cell.get("id") for cell in book["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        found.append("cell ids missing or double")
    for cell in code:
        found += [f"{problem}: {source_of(cell)[:60]!r}" for problem in cell_problems(cell)]
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown" and re.search(r"!\[\s*\]\(", source_of(cell)):
            found.append(f"picture without alternative text: {source_of(cell)[:60]!r}")
    return found


def cell_problems(cell):
    """What is wrong with one code cell."""
    if "execution" in cell["metadata"]:
        yield "stored times"
    whole_answer = any(tag.startswith("solution:") for tag in tags_of(cell))  # one cell by rule
    if not whole_answer and len(source_of(cell).splitlines()) > 30:
        yield "over 30 lines"
    for output in cell["outputs"]:
        if output["output_type"] == "error" and "raises-exception" not in tags_of(cell):
            yield "stored error"
        data = output.get("data", {})
        if PLOTLY in data and "image/png" not in data:
            yield "figure without its static twin"


def chapter_problems(cells):
    """Whether a chapter has its measure: cells, lines, words, exercises."""
    found = [] if 60 <= len(cells) <= 160 else [f"{len(cells)} cells"]
    lengths = sorted(len(source_of(c).splitlines()) for c in cells if c["cell_type"] == "code")
    if lengths[len(lengths) // 2] > 10:
        found.append(f"half of the code cells have over {lengths[len(lengths) // 2]} lines")
    for cell in cells:
        if cell["cell_type"] == "markdown":
            text = source_of(cell)
            words = re.sub(
                r"(?s)<[^>]*>|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|^#.*?$|\|", " ", text
            ).split()
            found += [f"{len(words)} words: {text[:60]}"] if len(words) > 150 else []
    exercises = {tag for cell in cells for tag in tags_of(cell) if tag.startswith("exercise:")}
    return found + ([f"{len(exercises)} exercises"] if len(exercises) < 6 else [])


def dead_links(text, folder):
    """Links in a Markdown text that lead to no file."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    near = [target for target in targets if not target.startswith(("http", "mailto:"))]
    return [target for target in near if not (folder / target).exists()]


def test_no_file_names_a_machine_or_a_package_host():
    assert len(FILES) > 50
    texts = {f: f.read_text(encoding="utf-8") for f in FILES if f.suffix not in BINARY}
    hits = {str(f.relative_to(ROOT)): FOREIGN.search(text) for f, text in texts.items()}
    assert {name: hit.group(0) for name, hit in hits.items() if hit} == {}


@pytest.mark.parametrize(
    "planted",
    ["/wor" + "k/main/x", "/tm" + "p/ipykernel_1", "C:\\Use" + "rs\\me", "pyp" + "i.org/simple"],
)
def test_a_planted_path_or_host_is_caught(planted):
    assert FOREIGN.search(f"see {planted} there")


def test_files_and_functions_stay_readable():
    found = []
    for file in SOURCES:
        name = file.relative_to(ROOT).as_posix()
        if not LEARNERS_ANSWERS.fullmatch(name):
            found += size_problems(file.read_text(encoding="utf-8"), name)
    assert found == []


def test_a_long_file_and_a_long_function_are_caught():
    assert size_problems("x = 1\n" * 400, "a.py") == []
    assert size_problems("x = 1\n" * 401, "a.py") == ["a.py: 401 lines"]
    assert size_problems("// x\n" * 401, "a.js") == ["a.js: 401 lines"]
    long = "function f(a) {\n" + "  g(a);\n" * 59 + "}\n"
    assert size_problems(long, "a.js") == ["a.js: function f(a) { has 61 lines"]
    assert size_problems("x" * 101, "a.js") == ["a.js: a line of 101 characters"]
    assert size_problems("def f():\n" + "    x = 1\n" * 60, "a.py") == ["a.py: f has 61 lines"]


def test_public_functions_of_the_library_are_typed_and_explained():
    files = [file for file in SOURCES if file.is_relative_to(ROOT / "llama3lib")]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    assert texts and {n: unexplained(t) for n, t in texts.items() if unexplained(t)} == {}


def test_a_bare_function_is_caught():
    assert unexplained('def f() -> int:\n    """Explained."""\n\ndef _g(): ...') == []
    assert unexplained('def f():\n    """Explained."""\n\ndef g() -> int: ...') == ["f", "g"]


def test_the_model_page_is_a_page():
    page = ROOT / "llama3lib" / "model" / "transformer.py"
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("file", BOOKS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_notebooks_are_stored_run_whole_and_short(file):
    raw = file.read_bytes()
    assert len(raw) <= 1_000_000
    nbformat.validate(nbformat.reads(raw.decode("utf-8"), as_version=4))
    assert book_problems(json.loads(raw)) == []


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.stem)
def test_chapters_keep_their_measure_and_have_solutions(file):
    assert chapter_problems(json.loads(file.read_bytes())["cells"]) == []
    assert (ROOT / "solutions" / file.name).is_file()


@pytest.fixture
def book():
    """A tiny notebook that keeps all rules."""
    shown = nbformat.v4.new_output("display_data", {PLOTLY: {}, "image/png": "iVBOR"})
    cells = [nbformat.v4.new_markdown_cell("![a curve](curve.png)")]
    cells += [nbformat.v4.new_code_cell("x", execution_count=n, outputs=[shown]) for n in (1, 2)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=kernel)))


ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
SLIPS = {
    "stored widget state": lambda book: book["metadata"].update(widgets={}),
    "kernel is not python3": lambda book: book["metadata"].pop("kernelspec"),
    "not run top to bottom": lambda book: book["cells"][2].update(execution_count=5),
    "cell ids": lambda book: book["cells"][2].update(id=book["cells"][1]["id"]),
    "stored times": lambda book: book["cells"][1]["metadata"].update(execution={}),
    "over 30 lines": lambda book: book["cells"][1].update(source="x\n" * 31),
    "stored error": lambda book: book["cells"][1]["outputs"].append(ERROR),
    "static twin": lambda book: book["cells"][1]["outputs"][0]["data"].pop("image/png"),
    "alternative text": lambda book: book["cells"][0].update(source="![](curve.png)"),
}


@pytest.mark.parametrize("named", SLIPS)
def test_a_slip_in_a_notebook_is_named(book, named):
    assert book_problems(copy.deepcopy(book)) == []
    SLIPS[named](book)
    (problem,) = book_problems(book)
    assert named in problem


def test_allowed_errors_and_long_solutions_are_no_slip(book):
    book["cells"][1]["outputs"].append(ERROR)
    book["cells"][1]["metadata"]["tags"] = ["raises-exception"]
    book["cells"][2].update(source="x\n" * 40, metadata={"tags": ["solution:01.1"]})
    assert book_problems(book) == []


def test_a_chapter_without_measure_is_named():
    code = [{"cell_type": "code", "source": "x\n" * 11, "metadata": {}}] * 3
    text = [{"cell_type": "markdown", "source": "word " * 151, "metadata": {}}]
    told = " | ".join(chapter_problems([*code, *text]))
    assert all(word in told for word in ("4 cells", "over 11 lines", "151 words", "0 exercises"))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert dead_links(text, ROOT) == []
    assert dead_links(text + "[x](docs/nowhere.md)", ROOT) == ["docs/nowhere.md"]


def test_the_example_in_the_readme_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    command = [sys.executable, "-X", "utf8", "-c", example]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert told.returncode == 0, told.stderr[-2000:]
    assert len(told.stdout) > 20


def test_what_waits_to_be_written_is_not_shipped():
    unfinished = re.compile("TODO-" + "MEASURE|FIX" + "ME|<<<" + "<<<< ")
    texts = {f: f.read_text(encoding="utf-8") for f in FILES if f.suffix not in BINARY}
    assert [str(f.relative_to(ROOT)) for f, text in texts.items() if unfinished.search(text)] == []
