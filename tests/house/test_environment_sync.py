"""One set of versions: pyproject, environment.yml, constraints.txt and the workflows agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"brotli": "brotli-python", "duckdb": "python-duckdb", "torch": "pytorch"}
ONLY_PIP = {"datatrove", "llama-models", "py3langid", "ray"}  # not there, or under other names


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture
def project():
    return tomllib.loads(read("pyproject.toml"))["project"]


def spec(text):
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", text).groups()
    name = re.sub(r"[-_.]+", "-", name).lower()
    return name, frozenset(b.strip() for b in bounds.split(",") if b)


def expand(extra, extras):
    """Requirements of an extra, with those of the extras it names."""
    for item in extras[extra]:
        if inner := re.fullmatch(r"llama3lib\[(.+)\]", item):
            for name in inner[1].split(","):
                yield from expand(name, extras)
        else:
            yield item


def direct(project):
    return dict(map(spec, [*project["dependencies"], *expand("test", extras(project))]))


def extras(project):
    return project["optional-dependencies"]


def differences(env, project):
    """What environment.yml and pyproject.toml do not have in common."""
    want = {CONDA_NAMES.get(n, n): b for n, b in direct(project).items() if n not in ONLY_PIP}
    want["python"] = spec("python" + project["requires-python"])[1]
    conda = dict(map(spec, env["dependencies"]))
    conda.pop("pip", None)
    return {name for name in want | conda if want.get(name) != conda.get(name)}


def test_environment_yml_is_in_step_with_pyproject(project):
    env = yaml.safe_load(read("environment.yml"))
    assert set(env) == {"name", "channels", "dependencies"}
    assert env["channels"] == ["conda-forge", "nodefaults"]
    assert differences(env, project) == set()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("numpy>=2.0", "numpy>=1.0", {"numpy"}),
        ("  - tqdm>=4.66\n", "", {"tqdm"}),
        ("- pip\n", "- pip\n  - pandas\n", {"pandas"}),
        ("python>=3.11,<3.14", "python>=3.11", {"python"}),
    ],
)
def test_a_slip_in_environment_yml_is_named(project, old, new, named):
    text = read("environment.yml")
    assert text.count(old) == 1
    assert differences(yaml.safe_load(text.replace(old, new)), project) == named


def test_constraints_pin_every_direct_dependency_and_no_local_build(project):
    lines = read("constraints.txt").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+[=>]=[0-9a-z.*]+", line) for line in lines)
    pins = dict(map(spec, lines))
    assert len(pins) == len(lines)
    wanted = [*direct(project), *(name for name, _ in map(spec, extras(project)["serve"]))]
    assert [name for name in wanted if name not in pins] == []
    assert not [name for name in pins if name.startswith(("nvidia", "triton", "cuda"))]


def test_workflows_try_the_oldest_and_the_newest(project):
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    matrix = jobs["matrix"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    least, below = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    assert matrix["python"] == [f"3.{least}", f"3.{int(below) - 1}"]
    oldest = re.search(r"torch==([0-9.]+)\.\*", read(".github/workflows/test.yml"))[1]
    assert f">={oldest}" in direct(project)["torch"]


@pytest.mark.parametrize("name", ["test.yml", "weekly.yml"])
def test_actions_are_pinned_by_major_version(name):
    jobs = yaml.safe_load(read(f".github/workflows/{name}"))["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)
