"""Every command line of README and docs, run as a newcomer would who installs what the page names.

A page is read from top to bottom in one folder, in which lie the pages, recipes and checkpoints
that its lines speak of. What is not run is listed in `NOT_RUN`, with the reason.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
import venv
from pathlib import Path

import pytest
from timing_tools import patient, wait_until

from llama3lib.checkpoint import load_model, load_tokenizer, save_hf
from llama3lib.data.recipe import web_recipe
from llama3lib.data.runner import run_recipe
from llama3lib.worlds.annotator import demonstrations
from llama3lib.worlds.miniweb import crawl, make_web

ROOT = Path(__file__).parents[2]
WINDOWS = os.name == "nt"
PAGES = {
    "README.md": "course,vocabulary",
    "docs/data-at-scale.md": "cluster",
    "docs/planning.md": "",
    "docs/post-training.md": "",
    "docs/scaling.md": "scaling",
    "docs/serving.md": "serve",
    "docs/training-on-meshes.md": "train",
    "docs/training.md": "data,train",
}
"""Page: what it tells the reader to install. Nothing else is in the environment."""
NOT_RUN = {
    "python3 tasks.py": "test_tasks.py runs these, in a folder of their own",
    "pip install": "makes the environment in which the other lines run",
    "sbatch": "needs Slurm",
    "--engine slurm": "needs Slurm",
    'run_on_cluster(plan, "slurm"': "needs Slurm",
    "--device cuda": "needs GPUs",
    "lm_eval": "its tasks come from the network; tests/eval runs the adapter",
    "openai.OpenAI(": "needs the official client and a server on port 8000; tests/serve has both",
    "curl": "asks a server on port 8000; the test asks each server it starts",
    "uvicorn.run(": "serves until it is stopped; tests/serve starts such a program",
}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def lines_of(page: str) -> list[tuple[str, str]]:
    """(language, text) of all that a page tells to run: shell line by line, Python as a whole."""
    found = []
    for language, block in _FENCE.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "python":
            found.append(("python", block))
        elif not language:
            found += [("shell", line) for line in shell_lines(block)]
    return found


def shell_lines(block: str) -> list[str]:
    """Commands of a block, without what explains them; of a transcript only what was typed."""
    lines = block.replace("\\\n", " ").splitlines()
    typed = [line[2:] for line in lines if line.startswith("$ ")] or lines
    cut = (re.split(r"\s{2,}(?=\S)|\s+#\s", line.strip())[0] for line in typed)
    return [line for line in cut if re.match(r"(llama3|python3?|pip|sbatch|curl)\b", line)]


def reason_not_to_run(text: str) -> str | None:
    return next((why for words, why in NOT_RUN.items() if words in text), None)


def test_what_is_left_out_is_in_the_pages():
    every = [text for page in PAGES for _, text in lines_of(page)]
    assert len(every) > 30
    for words in NOT_RUN:
        assert any(words in text for text in every), f"{words!r} stands in no page any more"
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages | {"README.md"} == set(PAGES)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """environment(extras) -> folder of programs, with PyTorch and the like beneath, made once."""
    source = tmp_path_factory.mktemp("source")  # installing from here would leave a build behind
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    base = tmp_path_factory.mktemp("base")
    install(base, source, ".")

    def make(extras: str) -> Path:
        folder = tmp_path_factory.mktemp("laid-over")
        venv.create(folder, with_pip=True, symlinks=not WINDOWS)
        (packages_of(folder) / "base.pth").write_text(str(packages_of(base)), encoding="utf-8")
        return install(folder, source, f".[{extras}]" if extras else ".")

    return make


def packages_of(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages"), folder / "Lib" / "site-packages")


def install(folder: Path, source: Path, what: str) -> Path:
    if not (folder / "pyvenv.cfg").exists():
        venv.create(folder, with_pip=True, symlinks=not WINDOWS)
    programs = folder / ("Scripts" if WINDOWS else "bin")
    command = [programs / "python", "-m", "pip", "install", "-q", "-c", "constraints.txt", what]
    subprocess.run(command, cwd=source, check=True, timeout=patient(900))
    return programs


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """Folder with what the pages speak of: archives, recipes, checkpoints, a key."""
    folder = tmp_path_factory.mktemp("things")
    for name, seed in (("crawl", 1), ("other-crawl", 2)):
        (folder / name).mkdir()
        crawl(make_web(200, seed=seed), folder / name)
    run_recipe(web_recipe(), folder / "other-crawl", folder / "other")
    for name in ("PATH", "model"):
        save_hf(load_model("tiny-base"), folder / name, tokenizer=load_tokenizer("tiny-base"))
    (folder / "key.txt").write_text("a-key-of-thirty-two-characters!!", encoding="utf-8")
    said = ({"prompt": task.prompt, "completion": text} for task, text in demonstrations(200, 0))
    rows = "".join(json.dumps(row) + "\n" for row in said)
    (folder / "dialogs.jsonl").write_text(rows, encoding="utf-8")
    some = (
        {"prompt": f"min {i} {j}", "chosen": str(i), "rejected": str(j)}
        for i in range(10)
        for j in range(i + 1, 10)
    )
    rows = "".join(json.dumps(row) + "\n" for row in some)
    (folder / "pairs.jsonl").write_text(rows, encoding="utf-8")
    recipes = ROOT / "llama3lib" / "assets"
    shutil.copy(recipes / "scaling" / "toy.toml", folder / "my.toml")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_each_line_does_what_it_says(page, environment, things, tmp_path):
    folder = tmp_path / "reader"
    shutil.copytree(things, folder)
    if page != "docs/serving.md":
        shutil.rmtree(folder / "model")  # the page makes it itself
    programs = environment(PAGES[page])
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env["PATH"] = os.pathsep.join([str(programs), env["PATH"]])
    failed = []
    for language, text in lines_of(page):
        if reason_not_to_run(text):
            continue
        text = text.replace("/shared/", f"{folder}/shared/")
        if text.startswith("llama3 serve"):
            problem = ask_server(text, folder, env)
        else:
            problem = run_line(language, text, programs, folder, env)
        if problem:
            failed.append(f"{text}\n{problem}")
    assert not failed, "\n\n".join(failed)


def run_line(language: str, text: str, programs: Path, folder: Path, env: dict) -> str | None:
    """None, or what a line printed that did not exit with 0. A talk gets one question."""
    program = [programs / "python", "-c", text] if language == "python" else text
    done = subprocess.run(
        program,
        shell=language == "shell",
        cwd=folder,
        env=env,
        input="Hello\n/exit\n",
        capture_output=True,
        encoding="utf-8",
        timeout=patient(900),
    )
    if done.returncode:
        return f"exit {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}"
    if re.match(r"llama3 train [\w-]+$", text):  # "prints the recipe: copy it and change it"
        (folder / "my.toml").write_text(done.stdout, encoding="utf-8")
    return None


def ask_server(text: str, folder: Path, env: dict) -> str | None:
    """Start a server, ask for its models, stop it; None or what went wrong."""
    log = folder / "server.log"
    line = text if "--port" in text else f"{text} --port 0"  # others may have the usual one
    with open(log, "w", encoding="utf-8") as file:
        server = subprocess.Popen(line.split(), cwd=folder, env=env, stdout=file, stderr=file)
    try:
        wait_until(lambda: server.poll() is not None or address_in(log), 120)
        if server.poll() is not None:
            return log.read_text(encoding="utf-8")
        key = (folder / "key.txt").read_text(encoding="utf-8")
        ask = urllib.request.Request(f"{address_in(log)}/models")
        ask.add_header("Authorization", f"Bearer {key}")
        wait_until(lambda: _answers(ask), 60)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(patient(60))
    return None if code == 0 or WINDOWS else f"exit {code} after SIGTERM"


def address_in(log: Path) -> str | None:
    found = re.search(r"http://127\.0\.0\.1:\d+/v1", log.read_text(encoding="utf-8"))
    return found[0] if found else None


def _answers(ask: urllib.request.Request) -> bool:
    try:
        with urllib.request.urlopen(ask, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False
