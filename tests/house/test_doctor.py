"""The doctor names what is missing, once each, with the cure."""

import importlib.metadata
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llama3lib.cli import doctor

ROOT = Path(__file__).parents[2]
PLENTY = type("Usage", (), {"free": 1e11})


@pytest.fixture(autouse=True)
def _a_healthy_machine(monkeypatch):
    """Whoever runs the tests may be short of memory; that is not what is tested."""
    monkeypatch.setattr(doctor, "_available_memory", lambda: 8e9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: PLENTY)


def broken(**arguments):
    return [c for c in doctor.diagnose(**arguments) if c.needed and not c.ok]


def test_all_is_fine_here(capsys, tmp_path):
    assert doctor.main([tmp_path / "not" / "yet"]) == 0
    out = capsys.readouterr().out
    assert "✓ all fine" in out and "✗" not in out
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("lost", ["torch", "plotly", "llama3lib"])
def test_a_missing_package_is_named_with_the_cure(monkeypatch, capsys, lost):
    real = importlib.metadata.version

    def version(name):
        if name == lost:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor.main() == 1
    assert f"✗ {lost}: not installed. To mend it: python tasks.py setup" in capsys.readouterr().out


def test_without_any_package_each_is_named_once():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from llama3lib.cli import doctor;"
    code += "sys.exit(doctor.main())"
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and done.stderr == ""
    problems = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert sum("torch" in line for line in problems) == 1
    assert all("not installed" in line for line in problems if not line.startswith("✗ memory"))


def test_an_old_package_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_least_versions", lambda: {"numpy": "99.0"})
    (check,) = broken()
    assert check.name == "numpy" and "99.0 or newer" in check.message


def test_least_versions_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = _floors(project["dependencies"])
    course = {}
    for name in ("course", "widgets", "data", "scaling", "serve"):
        course |= _floors(extras[name])
    assert set(doctor.NEEDED) - {"llama3lib"} == set(needed)
    assert set(doctor.COURSE) == set(course)
    least = doctor._least_versions()
    assert least.items() >= (needed | course).items()


def _floors(requirements):
    pairs = (re.match(r"(\w+)>=([0-9.]+)", line) for line in requirements)
    return dict(pair.groups() for pair in pairs if pair)


@pytest.mark.parametrize(
    ("version", "named"), [((3, 10), {"python"}), ((3, 14), {"python"}), ((3, 12), set())]
)
def test_only_the_pythons_that_are_tested_will_do(monkeypatch, version, named):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    assert {check.name for check in doctor._python() if not check.ok} == named


def test_a_damaged_model_and_a_full_disk_and_memory_are_named(monkeypatch):
    def damaged(name):
        raise ValueError("model.safetensors is damaged")

    monkeypatch.setattr("llama3lib.checkpoint.load_model", damaged)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e6}))
    monkeypatch.setattr(doctor, "_available_memory", lambda: 1e9)
    assert {check.name for check in broken()} == {"disk", "memory", "tiny-base"}


def test_more_threads_than_cores_are_named(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 2)
    (check,) = broken()
    assert "64 threads on 2 cores" in check.message and "OMP_NUM_THREADS=1" in check.fix


def test_a_front_end_that_jupyterlab_cannot_find_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.sys, "prefix", str(tmp_path))
    names = {check.name for check in broken()}
    assert names == {f"front end of {name}" for name in doctor.FRONT_ENDS.values()}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (check,) = broken(folders=[tmp_path / "file" / "course"])
    assert str(tmp_path) in check.name and "cannot be written" in check.message


def test_optional_tools_are_told_but_are_no_fault(monkeypatch, capsys):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.main() == 0
    out = capsys.readouterr().out
    assert "- Node.js: none" in out and "- Chromium or Chrome: none" in out


def test_a_look_that_fails_is_itself_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "_available_memory", lambda: 1 / 0)
    assert any("ZeroDivisionError" in check.message for check in broken())


def test_a_pipe_that_knows_no_check_mark_is_no_obstacle(monkeypatch):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", pipe)
    assert doctor.main() == 0
    pipe.flush()
    assert b"? all fine" in pipe.buffer.getvalue()
