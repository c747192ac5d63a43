"""What all tests share: one thread, a private progress file, checked shapes, and the browser."""

import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

# before torch: two threads on a busy machine are slower than one, and sums differ
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import jaxtyping

sys.path.insert(0, str(Path(__file__).parent))
# before anything of the library: every annotated shape is checked while tests run
_WITH_SHAPES = [
    "llama3lib.model",
    "llama3lib.inference",
    "llama3lib.checkpoint",
    "llama3lib.parallel",
    "llama3lib.eval",
    "llama3lib.train.loss",
]
jaxtyping.install_import_hook(_WITH_SHAPES, "shape_checks.checked")

import pytest
import torch
from browser_tools import Browser, Lab, missing

torch.set_num_threads(1)
# Ctrl-C is heard, even where the tests are a shell's background job
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    """Shapes are checked in every test but those that repeat thousands of steps."""
    jaxtyping.config.update("jaxtyping_disable", "many_steps" in item.keywords)


@pytest.fixture(autouse=True)
def _private_progress(tmp_path, monkeypatch):
    """No test reads or writes the progress file of whoever runs it."""
    monkeypatch.setenv("LLAMA3_COURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("LLAMA3LIB_STRICT", raising=False)


def pytest_terminal_summary(terminalreporter, config):
    """Seconds of each folder of tests and of each notebook, with --durations."""
    if not config.option.durations:
        return
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                parts = report.nodeid.split("::")[0].split("/")
                seconds["/".join(parts[:2])] += report.duration
    terminalreporter.section("seconds by folder and notebook")
    for name, taken in seconds.most_common():
        terminalreporter.write_line(f"{taken:8.1f} {name}")


@pytest.fixture(scope="session")
def chromium():
    """A running Chromium; skips without one, or fails if REQUIRE_BROWSER=1."""
    with Browser.open() as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """A private JupyterLab on this machine; asks for the browser first, so a skip is quick."""
    with Lab.start(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def open_notebook(chromium, lab):
    """open_notebook(path or cells, theme="light") -> page with every cell run.

    Afterwards the kernel is shut down, and the test fails on page errors or requests that left
    this machine.
    """
    pages = []

    def go(notebook, *, theme="light"):
        page = lab.open(chromium, notebook, theme=theme)
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.finish()


@pytest.fixture(scope="session")
def node():
    """Path of Node, for the arithmetic of widgets; skips or fails like the browser."""
    return shutil.which("node") or missing("Node.js")
