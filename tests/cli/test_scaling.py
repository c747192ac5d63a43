"""`llama3 scaling`: sweeps that go on, laws of a file, predictions with bands, clear refusals."""

import json
import math
import os
import re
import subprocess
import sys

import pytest
from scaling_tools import CHINCHILLA, curves, grid_runs
from timing_tools import patient, wait_until

from llama3lib.cli import main as cli
from llama3lib.cli.scaling.points import points_of
from llama3lib.scaling import read_runs, write_runs

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


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.toml").write_text(SWEEP)
    return ["scaling", "sweep", str(tmp_path / "tiny.toml"), str(tmp_path / "run")]


def test_a_part_and_repeated_text_are_told_before(tiny, capsys, tmp_path):
    assert cli.main([*tiny, "--dry-run", "--part", "2/2"]) == 0
    out = capsys.readouterr().out
    assert "Tiny, part 2/2: 1 runs, 2.0" in out and out.count("steps  seed") == 1
    assert "more than once" not in out
    assert cli.main([*tiny, "--dry-run", "--set", "invented=10"]) == 0
    assert "note: 2 of 2 runs read their text more than once" in capsys.readouterr().out
    assert cli.main([*tiny, "--dry-run", "--part", "3/2"]) == 2
    assert "part=(3, 2)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_runs_that_diverge_are_named_and_no_points_are_written(tiny, capsys, tmp_path):
    wild = ["--set", "peak=1e30", "--set", "warmup_share=0.0", "--processes", "1"]
    assert cli.main([*tiny, *wild]) == 1
    *_, hint, last = capsys.readouterr().out.splitlines()
    assert "remove its file in" in hint and "smaller peak" in hint
    assert last.startswith("finished: 0 of 2; diverged: 2 (2e08-4x1-seed0, 2e08-6x1-seed0); no run")
    assert not (tmp_path / "run" / "points.json").exists()
    assert cli.main(["scaling", "fit", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "left out: 2e08-4x1-seed0 (diverged)" in err and "no run is finished there" in err


def test_what_a_folder_holds_counts_whatever_call_made_it(tiny, capsys, tmp_path):
    folder = tmp_path / "run"
    assert cli.main([*tiny, "--processes", "1"]) == 0
    fewer = ["--set", "budgets.0.models=[[4, 1]]"]
    assert cli.main([*tiny, "--processes", "1", *fewer]) == 0
    assert "finished: 1 of 1" in capsys.readouterr().out
    assert len(read_runs(folder / "points.json")) == 2
    whole = points_of(str(folder))
    (folder / "points.json").unlink()  # as after Ctrl-C
    assert points_of(str(folder)) == whole and len(whole) == 2
    with pytest.raises(ValueError, match="column='loss=x' is not allowed with"):
        points_of(str(folder), ["loss=x"])
    next((folder / "runs").glob("*.json")).write_text("")
    assert cli.main(["scaling", "fit", str(folder)]) == 2
    assert "seed0.json is damaged" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_a_sweep_that_is_terminated_saves_its_run(tiny, tmp_path):
    endless = ["--set", "budgets.0.flops=1e13", "--processes", "1"]
    line = [sys.executable, "-m", "llama3lib.cli.main", *tiny, *endless]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    try:
        begun = "run/work/*/metrics.jsonl"
        wait_until(lambda: list(tmp_path.glob(begun)) or process.poll() is not None)
        process.terminate()
        assert process.wait(patient(60)) == 130
    finally:
        process.kill()
    assert len(list(tmp_path.glob("run/work/*/checkpoints/step-*/manifest.json"))) == 1


def test_fit_prints_the_planted_laws(points, capsys):
    assert cli.main(["scaling", "fit", points]) == 0
    out = capsys.readouterr().out
    assert ("a = 0.49" in out or "a = 0.50" in out) and "b = -0.070" in out
    assert cli.main(["scaling", "fit", points, "--axis", "tokens"]) == 0
    assert "best tokens = A · C^a: a = 0.5" in capsys.readouterr().out


def test_predict_gives_size_and_loss_with_bands(points, capsys):
    assert cli.main(["scaling", "predict", points, "1.2e20"]) == 0
    out = capsys.readouterr().out
    assert "4 times the largest budget" in out
    score = float(out.split("loss: ")[1].split()[0])
    assert score == pytest.approx(50 * 1.2e20**-0.07, rel=2e-3)


def test_the_parametric_fit_of_a_csv(tmp_path, capsys):
    path = tmp_path / "points.csv"
    rows = [
        f"{r.parameters:.17g},{r.tokens:.17g},{r.loss:.17g}" for r in grid_runs(CHINCHILLA, sizes=7)
    ]
    path.write_text("\n".join(["Model Size,Training Tokens,loss", *rows]))
    assert cli.main(["scaling", "fit", str(path), "--method", "parametric"]) == 0
    out = capsys.readouterr().out
    assert "E 1.8172  A 482.0" in out and "alpha 0.3478  beta 0.3658" in out
    assert "size_exponent" not in out and "doubt" not in out
    line = ["scaling", "fit", str(path), "--method", "parametric", "--resamples", "40"]
    assert cli.main(line) == 0
    assert "size_exponent 0.5126 (0.5126 to 0.5126)" in capsys.readouterr().out


def test_a_table_without_budgets_is_predicted_from_by_the_formula(tmp_path, capsys):
    path = tmp_path / "points.csv"
    rows = [
        f"{n:.0f},{d:.0f},{CHINCHILLA.predict(n, d)}"
        for n in (4e7, 3e8, 2e9)
        for d in (1e9, 1e10, 1e11)
    ]
    path.write_text("\n".join(["num_parameters,train_tokens,loss", *rows]))
    for command in (["fit", str(path)], ["predict", str(path), "1e22"]):
        assert cli.main(["scaling", *command]) == 2
        assert "--method parametric fits one formula to all 9" in capsys.readouterr().err
    line = ["scaling", "predict", str(path), "1e22", "--method", "parametric", "--resamples", "40"]
    assert cli.main(line) == 0
    size, tokens = CHINCHILLA.optimum(1e22)
    out = capsys.readouterr().out
    assert "8.33 times the largest of 9 runs" in out
    assert f"best parameters: {size:.4g}" in out and f"best tokens: {tokens:.4g}" in out
    assert f"loss: {CHINCHILLA.predict(size, tokens):.4f}" in out and "floor 1.817" in out


def test_a_formula_the_points_cannot_tell_is_doubted(tmp_path, capsys):
    path = tmp_path / "points.csv"
    rows = [
        f"{n:.0f},{d:.0f},{2 + 1e-3 * math.log(n) + 400 / d**0.3}"
        for n in (1e7, 1e8, 1e9)
        for d in (1e9, 1e10, 1e11)
    ]
    path.write_text("\n".join(["N,D,loss", *rows]))
    assert cli.main(["scaling", "fit", str(path), "--method", "parametric"]) == 0
    out = capsys.readouterr().out
    assert "doubt it: alpha=-" in out and "~ C^" not in out


def test_the_papers_law_is_told_with_both_pairs(capsys):
    assert cli.main(["scaling", "predict", "paper", "3.8e25"]) == 0
    out = capsys.readouterr().out
    assert "1.046e+13" in out and "1.629e+13" in out


def test_points_that_come_along_predict_the_run_held_out(capsys):
    assert cli.main(["scaling", "predict", "toy", "1.2e12", "--floor"]) == 0
    out = capsys.readouterr().out
    from llama3lib.scaling import stored_path

    score = float(out.split("loss: ")[1].split()[0])
    for run in read_runs(stored_path("toy-held-out")):
        assert score == pytest.approx(run.loss, rel=0.02)
    low, high = map(float, re.search(r"floor 2\.\d+ \((.*) to (.*)\)", out).groups())
    assert 2.5 < low < high < 3.1 and "misses" not in out


def test_a_law_that_misses_its_own_points_is_told(points, capsys):
    assert cli.main(["scaling", "predict", points, "1.2e20"]) == 0
    assert "misses" not in capsys.readouterr().out
    for argv, cure in ((["predict", "toy", "1.2e12"], "try --floor"), (["fit", "toy"], "--floor")):
        assert cli.main(["scaling", *argv]) == 0
        out = capsys.readouterr().out
        assert "the law of the loss misses its own points" in out and cure in out
        assert "law of the best parameters" not in out


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["fit", "none.csv"], "none.csv"),
        (["predict", "toy", "-1"], "flops=-1"),
        (["predict", "paper", "0"], "flops=0"),
        (["predict", "paper", "inf"], "flops=inf"),
        (["fit", "toy", "--drop-highest", "3"], "drop_highest=3"),
        (["fit", "toy", "--resamples", "40"], "resamples=40"),
        (["fit", "toy", "--method", "parametric", "--axis", "tokens"], "axis='tokens'"),
        (["predict", "toy", "1e12", "--method", "parametric", "--floor"], "floor=True"),
        (["predict", "toy", "1e12", "--resamples", "50"], "resamples=50"),
        (["sweep", "toi"], "did you mean 'toy'"),
        (["sweep", "toy", "x", "--part", "3"], "part='3'"),
        (["sweep", "toy", "x", "--set", "seed=1"], "'seed' is not known"),
        (["sweep", "toy", "x", "--set", "seeds=[1.7]"], "seeds=1.7"),
        (["sweep", "toy", "x", "--set", "test_windows=0"], "test_windows=0"),
        (["sweep", "toy", "x", "--set", "warmup_share=0.9999"], "warmup"),
        (["sweep", "toy", "x", "--processes", "0"], "processes=0"),
    ],
)
def test_wrong_input_is_told_in_one_line(argv, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scaling", *argv]) == 2
    err = capsys.readouterr().err
    assert named in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_scipy_the_cure_is_told(points, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert cli.main(["scaling", "fit", points, "--method", "parametric"]) == 2
    err = capsys.readouterr().err
    assert "llama3lib[scaling]" in err


def test_a_damaged_file_is_named(tmp_path, capsys):
    path = tmp_path / "points.json"
    path.write_text(json.dumps([{"parameters": 1e9, "tokens": 1e9, "loss": "nan"}]))
    assert cli.main(["scaling", "fit", str(path)]) == 2
    assert "row 1: loss='nan'" in capsys.readouterr().err


def test_a_column_can_be_named(tmp_path, capsys):
    path = tmp_path / "points.csv"
    rows = [
        f"{r.parameters:.17g},{r.tokens:.17g},{r.budget:.17g},{r.loss},9" for r in curves(0.001)
    ]
    path.write_text("\n".join(["size (own count),tokens,budget,train_loss,eval", *rows]))
    line = ["scaling", "fit", str(path), "--column", "parameters=size (own count)"]
    assert cli.main(line) == 2
    err = capsys.readouterr().err
    assert "no column for loss" in err and err.endswith("give --column loss=NAME\n")
    assert cli.main([*line, "--column", "loss=train_loss"]) == 0
    assert "b = -0.070" in capsys.readouterr().out
    line[1:3] = ["predict", str(path), "1.2e20"]
    assert cli.main([*line, "--column", "loss=train_loss"]) == 0
    assert "4 times the largest budget" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (["loss"], "column='loss' is not allowed: FIELD=COLUMN"),
        (["loss=loss", "loss=nll"], "column='loss=nll' is not allowed"),
        (["los=loss"], "'los' is no field of a run"),
        (["loss=gain"], "no column 'gain' for loss"),
    ],
)
def test_a_wrong_column_is_told(points, columns, named, capsys):
    options = [word for column in columns for word in ("--column", column)]
    assert cli.main(["scaling", "fit", points, *options]) == 2
    assert named in capsys.readouterr().err


def test_flops_in_another_unit_are_doubted(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text("N,D,compute,loss\n1e9,2e10,1.4,2.5\n")
    assert cli.main(["scaling", "fit", str(path)]) == 2
    assert "doubt it: flops are 1.17e-20 times 6" in capsys.readouterr().err
