"""The commands everybody starts with, and the doctor when something is missing."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from llama3lib.serve import doctor

ROOT = Path(__file__).parent.parent.parent


def tasks(*args, cwd=ROOT):
    command = [sys.executable, str(cwd / "tasks.py"), *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def copy_project(to):
    for name in ("tasks.py", "pyproject.toml", "constraints.txt"):
        (to / name).write_bytes((ROOT / name).read_bytes())
    return to


def test_without_a_command_it_tells_them_all():
    told = tasks()
    assert told.returncode == 2
    assert all(word in told.stdout for word in ("lab", "test", "setup", "doctor"))
    assert tasks("nonsense").returncode == 2


def test_doctor_helps_before_anything_is_installed(tmp_path):
    told = tasks("doctor", cwd=copy_project(tmp_path))
    assert told.returncode == 1 and told.stdout.count("\n") == 1
    assert "python tasks.py setup" in told.stdout


def test_doctor_sees_an_installation_out_of_date(tmp_path):
    project = copy_project(tmp_path)
    folder = project / ".venv" / ("Scripts" if sys.platform == "win32" else "bin")
    folder.mkdir(parents=True)
    (folder / ("python.exe" if sys.platform == "win32" else "python")).touch()
    (project / ".venv" / "installed.txt").write_text("an old digest", encoding="utf-8")
    told = tasks("doctor", cwd=project)
    assert told.returncode == 1 and "out of date" in told.stdout


def test_all_is_fine_here(capsys):
    assert doctor.main() == 0
    assert "✓ all fine" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["torch", "plotly"])
def test_a_missing_package_is_named_with_the_cure(monkeypatch, capsys, lost):
    real = importlib.metadata.version

    def version(name):
        if name == lost:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor.main() == 1
    assert f"✗ {lost}: not installed. To mend it: python tasks.py setup" in capsys.readouterr().out


def test_an_old_package_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_least_versions", lambda: {"numpy": "99.0"})
    broken = [check for check in doctor.diagnose() if check.needed and not check.ok]
    assert [check.name for check in broken] == ["numpy"] and "99.0" in broken[0].message


def test_a_damaged_model_and_a_full_disk_are_named(monkeypatch):
    def damaged(name):
        raise ValueError("model.safetensors is damaged")

    monkeypatch.setattr("llama3lib.checkpoint.load_model", damaged)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e6}))
    broken = {check.name for check in doctor.diagnose() if check.needed and not check.ok}
    assert broken == {"disk", "tiny-base"}


def test_a_look_that_fails_is_itself_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "_available_memory", lambda: 1 / 0)
    assert any(not check.ok and "ZeroDivisionError" in check.message for check in doctor.diagnose())
