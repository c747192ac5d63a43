"""The commands of this project on any system, with nothing but Python: python tasks.py lab.

lab            set up, then open your own copy of the course, my-course/, in JupyterLab
start-over 03  make a chapter of your copy new; the old one is kept beside it
test           set up, then run all tests that need no GPU
setup          only install into .venv what pyproject.toml names
doctor         say in one line what is missing and how to mend it
"""

from __future__ import annotations  # so that an old Python reaches the line that names it

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.txt"
COURSE, TEST = "course,vocabulary", "test"  # what each command installs
COPY = "my-course"  # the learner's; what chapters/ shows is for reading
FIRST = "01_the_herd_and_its_architecture.ipynb"
OLDEST, NEWEST = (3, 11), (3, 13)
# one thread: on a busy machine two are slower, and sums differ in the last digit
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
NBVAL = ["--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with=nbval_sanitize.cfg"]
CELL_SECONDS = 300  # for a cell of a notebook: several times what it takes on a quiet laptop


def run(*args: object, **env: str) -> int:
    """Run a program in the project's folder to its end; its exit code.

    Ctrl-C reaches the program too. It is waited for, so that JupyterLab can close its kernels.
    """
    command = [str(arg) for arg in args]
    try:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | env)
    except OSError as error:
        print(f"{args[0]} cannot be started: {error}. Delete the folder .venv, then try again.")
        return 127
    stopped = False
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            stopped = True
            continue
        if stopped:
            raise KeyboardInterrupt
        return code


def ask(code: str) -> str | None:
    """What a line of Python prints in .venv; None if it fails."""
    command = [str(PYTHON), "-X", "utf8", "-c", code]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    except OSError:
        return None
    return None if told.returncode else told.stdout.strip()


def wanted() -> str:
    """Digest of everything that says what is to be installed."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"".join([*parts, sys.version.encode()])).hexdigest()


def is_installed(extras: str) -> bool:
    """Whether .venv holds these extras, or those of the tests, which are more, up to date."""
    if not (PYTHON.exists() and STAMP.exists()):
        return False
    return STAMP.read_text(encoding="utf-8") in (f"{extras} {wanted()}", f"{TEST} {wanted()}")


def setup(extras: str = COURSE) -> None:
    """Make .venv and install; at once if nothing has changed since the last time."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]}")
    if is_installed(extras):
        return
    print("Setting up .venv: this takes a few minutes the first time.", flush=True)
    make_venv()
    index = os.environ.get("TORCH_INDEX")
    pip = (
        PYTHON,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "-c",
        "constraints.txt",
    )
    if index and run(*pip, "torch", "--index-url", index):
        sys.exit(f"torch could not be installed from TORCH_INDEX={index}")
    # setuptools warns at length about editable installs, which are what is wanted here
    if run(*pip, "-e", f".[{extras}]", PYTHONWARNINGS="ignore"):
        sys.exit(
            "Installing failed: see the lines above. A second try often helps; "
            "python tasks.py doctor says what is missing."
        )
    STAMP.write_text(f"{extras} {wanted()}", encoding="utf-8")


def make_venv() -> None:
    """Make .venv, or mend one that was left half made; whatever works is kept."""
    if PYTHON.exists() and ask("import pip") is not None:
        return
    dead = VENV.exists() and not PYTHON.exists()  # its Python was moved or removed
    try:
        venv.create(VENV, with_pip=True, clear=dead, symlinks=os.name != "nt")
    except (OSError, subprocess.CalledProcessError) as error:
        hint = "On Debian and Ubuntu, sudo apt install python3-venv brings what is missing."
        sys.exit(f".venv could not be made ({error}). {hint if os.name == 'posix' else ''}")


def lab() -> int:
    """Open the first chapter; further words go to JupyterLab, as --no-browser."""
    setup()
    learner_copy()  # what it cannot do it says; the course opens all the same
    folder = COPY if (ROOT / COPY / FIRST).is_file() else "chapters"
    where = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{folder}/{FIRST}"]
    try:
        return run(PYTHON, "-m", "jupyterlab", *where, *_as_root(), *sys.argv[2:])
    except KeyboardInterrupt:  # the ordinary way to close it
        return 0


def start_over() -> int:
    """Make the chapter new whose number is the next word."""
    setup()
    return learner_copy("start-over", *sys.argv[2:])


def learner_copy(*words: str) -> int:
    """Make my-course/, bring new editions of chapters into it, or make one chapter new."""
    return run(PYTHON, "-X", "utf8", "-m", "widgets.core.learner_copy", *words)


def _as_root() -> list[str]:
    return ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


def test() -> int:
    """All tests but the long ones and those of a GPU; a table of times at the end."""
    setup(TEST)
    more = sys.argv[2:]
    if more:
        return run(PYTHON, "-m", "pytest", "-m", "not gpu and not long", *more, **ONE_THREAD)
    slow = slowness()
    with tempfile.TemporaryDirectory() as folder:  # nobody's own progress plays a part
        env = {"LLAMA3_COURSE_PROGRESS": str(Path(folder) / "progress.json")}
        env["LLAMA3_TEST_SLOWNESS"] = str(slow)
        rows = [run_group(name, args, env) for name, args in groups(slow).items()]
    print(f"\n{'':40} {'minutes':>8} {'of CPU':>8}")
    for name, code, minutes, cpu in rows:
        verdict = "passed" if code == 0 else "FAILED"
        print(f"{name:32} {verdict:>7} {minutes:8.1f} {cpu:8.1f}")
    # not the highest code: a group that was killed has a negative one
    failed = sum(row[1] != 0 for row in rows)
    print(f"{len(rows) - failed} groups passed, {failed} failed")
    return 1 if failed else 0


def slowness() -> float:
    """How many times as long as on a quiet laptop things take here and now."""
    code = "import sys; sys.path.insert(0, 'tests'); import timing_tools as t; print(t.slowness())"
    return float(ask(code) or 1)


def groups(slow: float) -> dict[str, list[str]]:
    """What is tested, in order: name and pytest's words."""
    cells = f"--nbval-cell-timeout={CELL_SECONDS * slow:.0f}"
    every = ["-m", "not (browser or gpu or long)", *NBVAL, cells, "--durations=10"]
    return {
        "chapters, solutions, library": [*every, "chapters", "solutions", "tests"],
        "in a real browser": ["-m", "browser and not long", "--durations=5", "tests"],
    }


def run_group(name: str, args: list[str], env: dict[str, str]) -> tuple[str, int, float, float]:
    """Run one group; its name, exit code, minutes and minutes of CPU."""
    print(f"\n=== {name}", flush=True)
    start, before = time.monotonic(), os.times()
    code = run(PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args, **ONE_THREAD, **env)
    after = os.times()
    cpu = after.children_user - before.children_user
    cpu += after.children_system - before.children_system
    return name, code, (time.monotonic() - start) / 60, cpu / 60


def doctor() -> int:
    """What is missing, in one line each; works without .venv too."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print(f"Python {sys.version.split()[0]} is too old or too new: install 3.11, 3.12 or 3.13")
        return 1
    if shutil.disk_usage(ROOT).free < 3e9 and not STAMP.exists():
        print("Less than 3 GB of disk are free: make room, then run python tasks.py setup")
        return 1
    if not PYTHON.exists():
        print("Nothing is installed yet: run python tasks.py setup")
        return 1
    if not is_installed(COURSE):
        print("The installation is not finished or out of date: run python tasks.py setup")
        return 1
    return run(PYTHON, "-m", "llama3lib.cli.doctor", ROOT / COPY, *progress_folder())


def progress_folder() -> list[str]:
    """The folder a learner's progress is kept in, if the course can be asked; as a list."""
    told = ask("from widgets.core.progress import default_path; print(default_path().parent)")
    return [told] if told else []


def main() -> int:
    """Pick the command."""
    commands = {"lab": lab, "test": test, "setup": setup, "doctor": doctor}
    commands["start-over"] = start_over
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        print(__doc__)
        return 2
    try:
        return commands[sys.argv[1]]() or 0
    except KeyboardInterrupt:
        print("Stopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
