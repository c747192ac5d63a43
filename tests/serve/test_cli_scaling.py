"""`llama3 scaling`: sweeps that go on, laws of a file, predictions with bands, clear refusals."""

import json
import sys

import pytest
from scaling_tools import CHINCHILLA, curves, grid_runs

from llama3lib.scaling import read_runs, write_runs
from llama3lib.serve import cli

SWEEP = """
title = "Tiny"
invented = 300
n_heads = 1
length = 32
test_windows = 10

[[budgets]]
flops = 2e8
batch_size = 1
models = [[4, 1], [6, 1]]
"""


@pytest.fixture
def points(tmp_path):
    write_runs(tmp_path / "points.json", curves(0.001), {"made_by": "a test"})
    return str(tmp_path / "points.json")


def test_a_sweep_tells_its_runs_makes_them_once_and_writes_points(tmp_path, capsys):
    recipe, folder = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(SWEEP)
    line = ["scaling", "sweep", str(recipe), str(folder), "--processes", "1"]
    assert cli.main([*line, "--dry-run"]) == 0
    assert "Tiny: 2 runs, 4.0" in capsys.readouterr().out and not folder.exists()
    assert cli.main([*line, "--prepare"]) == 0
    assert "ready" in capsys.readouterr().out
    assert (folder / "sweep.json").is_file() and not (folder / "runs").exists()
    text = (folder / "text.json").stat().st_mtime_ns
    assert cli.main([*line, "--part", "2/2"]) == 0
    assert (folder / "text.json").stat().st_mtime_ns == text
    assert "finished: 1 of 2" in capsys.readouterr().out
    first = next((folder / "runs").glob("*.json"))
    time = first.stat().st_mtime_ns
    assert cli.main(line) == 0
    assert "finished: 2 of 2" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == time
    assert len(read_runs(folder / "points.json")) == 2


def test_fit_prints_the_planted_laws(points, capsys):
    assert cli.main(["scaling", "fit", points]) == 0
    told = capsys.readouterr().out
    assert ("a = 0.49" in told or "a = 0.50" in told) and "b = -0.070" in told
    assert cli.main(["scaling", "fit", points, "--axis", "tokens"]) == 0
    assert "best tokens = A · C^a: a = 0.5" in capsys.readouterr().out


def test_predict_gives_size_and_loss_with_bands(points, capsys):
    assert cli.main(["scaling", "predict", points, "1.2e20"]) == 0
    told = capsys.readouterr().out
    assert "4 times the largest budget" in told
    score = float(told.split("loss: ")[1].split()[0])
    assert score == pytest.approx(50 * 1.2e20**-0.07, rel=2e-3)


def test_the_parametric_fit_of_a_csv(tmp_path, capsys):
    path = tmp_path / "points.csv"
    rows = [
        f"{r.parameters:.17g},{r.tokens:.17g},{r.loss:.17g}" for r in grid_runs(CHINCHILLA, sizes=7)
    ]
    path.write_text("\n".join(["Model Size,Training Tokens,loss", *rows]))
    assert cli.main(["scaling", "fit", str(path), "--method", "parametric"]) == 0
    told = capsys.readouterr().out
    assert "E 1.8200  A 482.0" in told and "alpha 0.3480  beta 0.3660" in told


def test_the_papers_law_is_told_with_both_pairs(capsys):
    assert cli.main(["scaling", "predict", "paper", "3.8e25"]) == 0
    told = capsys.readouterr().out
    assert "1.046e+13" in told and "1.629e+13" in told


def test_points_that_come_along_predict_the_run_held_out(capsys):
    assert cli.main(["scaling", "predict", "toy", "1.2e12", "--floor"]) == 0
    told = capsys.readouterr().out
    from llama3lib.scaling import stored_path

    score = float(told.split("loss: ")[1].split()[0])
    for run in read_runs(stored_path("toy-held-out")):
        assert score == pytest.approx(run.loss, rel=0.02)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["fit", "none.csv"], "none.csv"),
        (["predict", "toy", "-1"], "flops=-1"),
        (["predict", "paper", "0"], "flops=0"),
        (["sweep", "toi"], "did you mean 'toy'"),
        (["sweep", "toy", "x", "--part", "3"], "part='3'"),
        (["sweep", "toy", "x", "--set", "seed=1"], "'seed' is not known"),
    ],
)
def test_wrong_input_is_told_in_one_line(argv, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scaling", *argv]) == 2
    told = capsys.readouterr().err
    assert named in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_scipy_the_cure_is_told(points, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert cli.main(["scaling", "fit", points, "--method", "parametric"]) == 2
    told = capsys.readouterr().err
    assert "llama3lib[scaling]" in told


def test_a_damaged_file_is_named(tmp_path, capsys):
    path = tmp_path / "points.json"
    path.write_text(json.dumps([{"parameters": 1e9, "tokens": 1e9, "loss": "nan"}]))
    assert cli.main(["scaling", "fit", str(path)]) == 2
    assert "row 1: loss='nan'" in capsys.readouterr().err
