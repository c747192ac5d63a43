"""`llama3 doctor`: what is missing on this machine, in one line each, and how to mend it."""

import importlib.metadata
import importlib.util
import io
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDED = (
    "llama3lib",
    "torch",
    "numpy",
    "safetensors",
    "tiktoken",
    "psutil",
    "regex",
    "filelock",
    "jaxtyping",
    "tqdm",
    "tyro",
)
COURSE = (
    *("jupyterlab", "ipykernel", "nbformat", "anywidget", "ipywidgets", "platformdirs", "plotly"),
    *("brotli", "charset_normalizer", "duckdb", "lxml", "py3langid", "scipy", "warcio"),
    *("webencodings", "zstandard"),
    *("fastapi", "jinja2", "llguidance", "prometheus_client", "pydantic", "uvicorn"),
)
# package -> its part that JupyterLab must find
FRONT_ENDS = {"anywidget": "anywidget", "ipywidgets": "@jupyter-widgets/jupyterlab-manager"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
MAC_BROWSER = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
SETUP = "python tasks.py setup"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `fix` says how to mend it; `needed` is False for what is optional."""

    name: str
    ok: bool
    message: str
    fix: str = ""
    needed: bool = True


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check Python, packages, processor, memory and accelerator of this machine."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        return main()


def diagnose(folders: Iterable[str | Path] = ()) -> list[Check]:
    """Look at everything, and whether `folders` can be written.

    A look that fails in a way nobody foresaw is itself a finding.
    """
    checks = [_writable(Path(folder)) for folder in folders]
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        _memory,
        _threads,
        _front_ends,
        _bundled_model,
        _optional,
    )
    for look in looks:
        try:
            checks.extend(look())
        except Exception as error:  # a doctor that crashes helps nobody
            if isinstance(error, ModuleNotFoundError) and _named_already(checks, error.name):
                continue
            name = look.__name__.strip("_")
            checks.append(Check(name, False, f"{type(error).__name__}: {error}", SETUP))
    return checks


def main(folders: Iterable[str | Path] = ()) -> int:
    """Print a line for each problem, or one line if all is well; 1 if a needed thing is missing.

    `folders` are those that the caller wants to write in.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # Windows: a pipe may know no check mark
        sys.stdout.reconfigure(errors="replace")
    checks = diagnose(folders)
    broken = [check for check in checks if check.needed and not check.ok]
    for check in broken:
        print(f"✗ {check.name}: {check.message}. To mend it: {check.fix}")
    for check in checks:
        if not check.needed:
            print(f"{'·' if check.ok else '-'} {check.name}: {check.message}")
    if not broken:
        print(f"✓ all fine: {sum(check.needed for check in checks)} things looked at")
    return 1 if broken else 0


def _named_already(checks: list[Check], package: str | None) -> bool:
    """Whether a line says already that this package is missing."""
    return any(check.name == package and not check.ok for check in checks)


def _python() -> Iterator[Check]:
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Check("python", good, f"version {version}", "install Python 3.11, 3.12 or 3.13")


def _packages() -> Iterator[Check]:
    least = _least_versions()
    for name in (*NEEDED, *COURSE):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, False, "not installed", SETUP)
            continue
        wanted = least.get(name, "0")
        good = _numbers(found) >= _numbers(wanted)
        yield Check(name, good, f"version {found}, {wanted} or newer is needed", SETUP)


def _least_versions() -> dict[str, str]:
    """Least version of each package as our own installed metadata says."""
    try:
        lines = importlib.metadata.requires("llama3lib") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([A-Za-z0-9_.-]+).*?>=([0-9.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _memory() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    yield Check("disk", free > 0.5e9, f"{free / 1e9:.1f} GB free", "make room: 0.5 GB at least")
    available = _available_memory()
    if available is not None:
        fix = "close other programs: a chapter needs 1.5 GB"
        yield Check("memory", available > 1.5e9, f"{available / 1e9:.1f} GB available", fix)


def _available_memory() -> float | None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # macOS and Windows: no standard way without another package
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="utf-8"))
    return 1024.0 * int(found[1]) if found else None


def _writable(folder: Path) -> Check:
    """Write for real: permissions alone say little on Windows and on network disks."""
    name, there = f"folder {folder}", folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"1")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return Check(name, False, f"cannot be written ({reason})", "change its owner or its rights")
    return Check(name, True, "can be written")


def _threads() -> Iterator[Check]:
    import torch

    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    fix = "set OMP_NUM_THREADS=1 before starting Python"
    yield Check("threads", threads <= cores, f"{threads} threads on {cores} cores", fix)


def _front_ends() -> Iterator[Check]:
    """Widgets draw only if JupyterLab finds their browser part in the same environment."""
    folder = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    for package, name in FRONT_ENDS.items():
        if importlib.util.find_spec(package) is None:
            continue  # the package itself is missing, which has its own line
        found = (folder / name / "package.json").is_file()
        yield Check(f"front end of {name}", found, "in place" if found else "missing", SETUP)


def _bundled_model() -> Iterator[Check]:
    from llama3lib.checkpoint import load_model

    try:
        load_model("tiny-base")
        yield Check("tiny-base", True, "loads, checksums right")
    except (ValueError, OSError) as error:
        yield Check("tiny-base", False, str(error), "restore llama3lib/assets/tiny-base from git")


def _optional() -> Iterator[Check]:
    node = shutil.which("node")
    text = "found" if node else "none: tests of the views' arithmetic are skipped"
    yield Check("Node.js", bool(node), text, needed=False)
    browser = any(shutil.which(name) for name in (*BROWSERS, MAC_BROWSER))
    text = "found" if browser else "none: tests in a browser are skipped"
    yield Check("Chromium or Chrome", browser, text, needed=False)

    import torch

    from llama3lib.tokenizer import Tokenizer

    if torch.cuda.is_available():
        yield Check("GPU", True, torch.cuda.get_device_name(0), needed=False)
    else:
        yield Check("GPU", False, "none: the CPU presets are used", needed=False)
    try:
        Tokenizer.llama3()
        yield Check("Llama 3 vocabulary", True, "found in llama-models", needed=False)
    except FileNotFoundError:
        text = "not installed: pip install llama-models brings it"
        yield Check("Llama 3 vocabulary", False, text, needed=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
