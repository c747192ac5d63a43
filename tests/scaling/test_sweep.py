"""Sweeps: the same result in any order and on any number of processes, resumable, honest."""

import json
import logging
import shutil
from dataclasses import replace

import pytest

from llama3lib.scaling import Budget, SweepConfig, cells, finished, one_run, run_sweep
from llama3lib.scaling.sweep import prepare, waiting
from llama3lib.train import SourceConfig

CONFIG = SweepConfig(
    budgets=(
        Budget(flops=2e8, models=((4, 1), (6, 1)), batch_size=1),
        Budget(flops=4e8, models=((4, 1), (8, 1)), batch_size=1),
    ),
    invented=400,
    n_heads=1,
    length=32,
    questions=20,
    test_windows=20,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    told = []
    return folder, run_sweep(CONFIG, folder, processes=1, on_run=told.append), told


def test_every_run_is_made_and_told_once(made):
    folder, runs, told = made
    assert len(runs) == len(told) == len(cells(CONFIG)) == 4
    for run in runs:
        assert abs(run.flops / run.budget - 1) < 0.02
        assert 6 < run.loss < 8 and 0 <= run.accuracy <= 1 and run.nll > 0
        assert run.non_embedding < run.parameters
    assert not list((folder / "work").glob("*"))
    assert all(json.loads(p.read_text()) for p in (folder / "runs").glob("*.json"))


def test_every_step_of_a_run_is_told(tmp_path):
    only = replace(CONFIG, budgets=(replace(CONFIG.budgets[0], models=((4, 1),)),), questions=0)
    steps = []
    run_sweep(only, tmp_path, processes=1, on_step=steps.append)
    (cell,) = cells(only)
    assert [record["step"] for record in steps] == list(range(1, cell.steps + 1))
    with pytest.raises(ValueError, match="processes=2 is not allowed with on_step"):
        run_sweep(only, tmp_path, processes=2, on_step=steps.append)


def test_finished_runs_are_kept_and_missing_ones_made_to_the_same_digits(made, tmp_path):
    folder, runs, _ = made
    shutil.copytree(folder, tmp_path / "again")
    gone = sorted((tmp_path / "again" / "runs").glob("*.json"))[0]
    before = json.loads(gone.read_text())
    gone.unlink()
    assert len(finished(CONFIG, tmp_path / "again")) == 3
    told = []
    assert run_sweep(CONFIG, tmp_path / "again", processes=1, on_run=told.append) == runs
    (record,) = told
    assert {**record, "seconds": 0} == {**before, "seconds": 0}


@pytest.mark.slow
def test_two_processes_and_parts_give_what_one_gives(made, tmp_path):
    _, runs, _ = made
    prepare(CONFIG, tmp_path)
    parts = [{cell.name for cell in waiting(CONFIG, tmp_path, (n, 3))} for n in (1, 2, 3)]
    assert set.union(*parts) == {cell.name for cell in cells(CONFIG)}
    assert sum(map(len, parts)) == 4
    run_sweep(CONFIG, tmp_path, processes=1, part=(1, 3))
    assert run_sweep(CONFIG, tmp_path, processes=2) == runs


def test_a_run_that_was_stopped_goes_on(made, tmp_path, monkeypatch):
    from llama3lib.scaling import sweep as module
    from llama3lib.train.trainer import Trainer

    folder, _, _ = made
    cell = cells(CONFIG)[0]
    prepare(CONFIG, tmp_path)
    steps = []

    class Stops(Trainer):
        def fit(self, on_step=None):
            def stop(record):
                steps.append(record["step"])
                if len(steps) == 60:
                    self.save()
                    self.checkpoints.wait()
                    raise KeyboardInterrupt

            return super().fit(stop)

    monkeypatch.setattr(module, "Trainer", Stops)
    with pytest.raises(KeyboardInterrupt):
        one_run(CONFIG, cell, tmp_path)
    assert waiting(CONFIG, tmp_path)[0] == cell
    record = one_run(CONFIG, cell, tmp_path)
    assert steps[60] == 61  # not from the beginning
    kept = json.loads((folder / "runs" / f"{cell.name}.json").read_text())
    assert record["loss"] == kept["loss"]


def test_more_budgets_and_seeds_may_come_but_nothing_else_may_change(made):
    folder, _, _ = made
    more = replace(CONFIG, seeds=(0, 1))
    assert len(waiting(more, folder)) == 4
    with pytest.raises(ValueError, match=r"peak=0\.02 is not allowed: .* begun with 0\.01"):
        run_sweep(replace(CONFIG, peak=0.02), folder)


def test_a_run_that_diverges_is_left_out_and_named(tmp_path, caplog):
    wild = replace(CONFIG, peak=1e30, budgets=CONFIG.budgets[:1], warmup_share=0.0)
    with caplog.at_level(logging.WARNING):
        runs = run_sweep(wild, tmp_path, processes=1)
    assert runs == []
    assert "diverged and is left out" in caplog.text
    assert waiting(wild, tmp_path) == []


def test_text_of_ones_own_can_be_swept(tmp_path):
    own = replace(
        CONFIG,
        invented=None,
        questions=0,
        train=SourceConfig(stories=100),
        held_out=SourceConfig(stories=30, seed=9),
        budgets=(Budget(flops=3e7, models=((4, 1),), batch_size=1),),
    )
    (run,) = run_sweep(own, tmp_path, processes=1)
    assert 2 < run.loss < 6 and run.accuracy is None
    assert run.parameters == 2 * 256 * 4 + 4 * 16 + 3 * 4 * 8 + 3 * 4


def test_impossible_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="processes=0"):
        run_sweep(CONFIG, tmp_path, processes=0)
    with pytest.raises(ValueError, match=r"part=\(4, 3\)"):
        waiting(CONFIG, tmp_path, (4, 3))
