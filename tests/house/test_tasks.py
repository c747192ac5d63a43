"""The commands everybody starts with: what they run, when they skip, what they say."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from timing_tools import SLOWNESS, patient

ROOT = Path(__file__).parents[2]
WINDOWS = sys.platform == "win32"


@pytest.fixture
def project(tmp_path):
    """A copy of what tasks.py needs, without .venv."""
    for name in ("tasks.py", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def load(project):
    found = importlib.util.spec_from_file_location("tasks_under_test", project / "tasks.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def tasks(project, monkeypatch):
    """tasks.py of the copy as a module; `tasks.ran` holds what it would have run."""
    module = load(project)
    module.ran, module.codes = [], {}

    def run(*args, **env):
        words = [str(arg) for arg in args]
        module.ran.append(words)
        return next((code for word, code in module.codes.items() if word in words), 0)

    module.really_run = module.run
    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "make_venv", lambda: empty_venv(project))
    monkeypatch.setattr(sys, "argv", ["tasks.py"])
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    return module


def empty_venv(project):
    """A .venv whose Python is an empty file: nothing in it can be started."""
    python = project / ".venv" / ("Scripts/python.exe" if WINDOWS else "bin/python")
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()


def start(project, *args):
    command = [sys.executable, "-X", "utf8", str(project / "tasks.py"), *args]
    return subprocess.run(command, cwd=project, capture_output=True, encoding="utf-8", check=False)


def test_without_a_command_it_tells_them_all(project):
    told = start(project)
    assert told.returncode == 2
    assert all(word in told.stdout for word in ("lab", "start-over", "test", "setup", "doctor"))
    assert start(project, "nonsense").returncode == 2


def test_a_second_setup_installs_nothing(tasks):
    tasks.setup(tasks.TEST)
    assert len(tasks.ran) == 1 and ".[test]" in tasks.ran[0] and "constraints.txt" in tasks.ran[0]
    tasks.setup(tasks.TEST)
    assert len(tasks.ran) == 1


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_setup_installs_again_when_versions_change(tasks, project, name):
    tasks.setup(tasks.TEST)
    with open(project / name, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    tasks.setup(tasks.TEST)
    assert len(tasks.ran) == 2


def test_a_failed_installation_is_tried_again(tasks):
    tasks.codes = {".[test]": 1}
    with pytest.raises(SystemExit, match="Installing failed"):
        tasks.setup(tasks.TEST)
    tasks.codes = {}
    tasks.setup(tasks.TEST)
    assert len(tasks.ran) == 2


def test_torch_can_come_from_another_index(tasks, monkeypatch):
    monkeypatch.setenv("TORCH_INDEX", "file:///wheels")
    tasks.setup(tasks.TEST)
    first, second = tasks.ran
    assert "torch" in first and "file:///wheels" in first and "--index-url" not in second


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 14, 0)])
def test_another_python_is_refused_in_one_line(tasks, monkeypatch, version):
    monkeypatch.setattr(tasks.sys, "version_info", version)
    with pytest.raises(SystemExit, match="Python 3.11, 3.12 or 3.13 is needed") as told:
        tasks.setup(tasks.TEST)
    assert "\n" not in str(told.value) and tasks.ran == []


def test_test_runs_everything_but_gpu_and_long_tests(tasks, capsys):
    assert tasks.test() == 0
    every, browser = tasks.ran[1:]
    assert every[every.index("-m", 3) + 1] == "not (browser or gpu or long)"
    assert {"--nbval-lax", "chapters", "solutions", "tests", "--durations=10"} <= set(every)
    assert browser[browser.index("-m", 3) + 1] == "browser and not long"
    told = capsys.readouterr().out
    assert "2 groups passed, 0 failed" in told and "of CPU" in told


def test_cells_get_more_time_on_a_slow_machine(tasks, monkeypatch):
    monkeypatch.setattr(tasks, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(tasks, "ROOT", ROOT)
    monkeypatch.setenv(SLOWNESS, "2.5")
    assert tasks.slowness() == 2.5
    assert "--nbval-cell-timeout=750" in tasks.groups(2.5)["chapters, solutions, library"]


@pytest.mark.parametrize("code", [1, 5, -9])
def test_one_failed_or_killed_group_fails_the_whole(tasks, capsys, code):
    tasks.codes = {"chapters": code}
    assert tasks.test() == 1
    told = capsys.readouterr().out
    assert len(tasks.ran) == 3 and told.count("FAILED") == 1
    assert "1 groups passed, 1 failed" in told


def test_more_words_go_to_pytest(tasks, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tasks.py", "test", "tests/model"])
    tasks.test()
    assert tasks.ran[-1][1:] == ["-m", "pytest", "-m", "not gpu and not long", "tests/model"]


@pytest.mark.parametrize("folder", ["my-course", "chapters"])
def test_lab_opens_the_copy_of_the_first_chapter_from_the_root(tasks, project, folder):
    assert (ROOT / "chapters" / tasks.FIRST).is_file()
    (project / folder).mkdir()
    (project / folder / tasks.FIRST).touch()
    assert tasks.lab() == 0
    copied, words = tasks.ran[-2:]
    assert copied[-1] == "widgets.core.learner_copy"
    assert f"--ServerApp.root_dir={project}" in words
    assert f"--LabApp.default_url=/lab/tree/{folder}/{tasks.FIRST}" in words


def test_lab_opens_even_if_the_copy_cannot_be_made(tasks):
    tasks.codes = {"widgets.core.learner_copy": 1}
    assert tasks.lab() == 0 and "jupyterlab" in tasks.ran[-1]


def test_start_over_names_the_chapter(tasks, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tasks.py", "start-over", "03"])
    assert tasks.main() == 0
    assert tasks.ran[-1][-3:] == ["widgets.core.learner_copy", "start-over", "03"]


def test_doctor_helps_before_anything_is_installed(project):
    told = start(project, "doctor")
    assert told.returncode == 1 and told.stdout.count("\n") == 1
    assert "python tasks.py setup" in told.stdout


def test_doctor_sees_an_installation_out_of_date(project):
    empty_venv(project)
    (project / ".venv" / "installed.txt").write_text("an old digest", encoding="utf-8")
    told = start(project, "doctor")
    assert told.returncode == 1 and "out of date" in told.stdout


def test_doctor_sees_a_broken_environment(tasks, project, monkeypatch, capfd):
    tasks.setup(tasks.TEST)
    monkeypatch.setattr(tasks, "run", tasks.really_run)
    assert tasks.doctor() == 127
    assert "Delete the folder .venv" in capfd.readouterr().out


def test_doctor_asks_where_progress_is_kept(tasks, monkeypatch, tmp_path):
    tasks.setup(tasks.TEST)
    monkeypatch.setattr(tasks, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(tasks, "ROOT", ROOT)
    monkeypatch.setenv("LLAMA3_COURSE_PROGRESS", str(tmp_path / "kept" / "progress.json"))
    assert tasks.progress_folder() == [str(tmp_path / "kept")]


def test_a_venv_without_pip_is_mended_and_a_dead_one_made_anew(project, monkeypatch):
    tasks = load(project)
    calls = []
    monkeypatch.setattr(tasks.venv, "create", lambda *a, **k: calls.append(k["clear"]))
    tasks.make_venv()
    (project / ".venv").mkdir()
    tasks.make_venv()
    empty_venv(project)
    tasks.make_venv()
    assert calls == [False, True, False]
    monkeypatch.setattr(tasks, "ask", lambda code: "")
    tasks.make_venv()
    assert len(calls) == 3


def test_a_system_without_venv_is_told_what_to_install(project, monkeypatch):
    tasks = load(project)

    def create(*args, **more):
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(tasks.venv, "create", create)
    with pytest.raises(SystemExit, match=r"could not be made.*ensurepip") as told:
        tasks.make_venv()
    assert WINDOWS or "python3-venv" in str(told.value)


@pytest.mark.skipif(WINDOWS, reason="Windows sends Ctrl-C in another way")
def test_ctrl_c_waits_for_the_program_and_then_stops(project):
    child = "import signal, sys, time\n"
    child += "signal.signal(signal.SIGINT, lambda *a: (time.sleep(0.5), print('closed'), exit(0)))"
    child += "\nprint('up', flush=True)\ntime.sleep(30)"
    # a background job of a shell ignores Ctrl-C unless told
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"import tasks, signal, sys\n{heard}\ntasks.run(sys.executable, '-c', {child!r})"
    code += "\nprint('went on')"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        start_new_session=True,
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=patient(20))
    assert rest == "closed\n" and process.returncode != 0


def test_the_course_needs_less_than_the_tests(tasks):
    tasks.setup()
    assert ".[course,vocabulary]" in tasks.ran[-1]
    tasks.setup(tasks.TEST)
    assert ".[test]" in tasks.ran[-1]
    tasks.setup()  # what the tests need holds all that the course needs
    assert len(tasks.ran) == 2
