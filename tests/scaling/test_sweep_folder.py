"""A sweep's folder: nothing is mixed, wrong settings are told early, damaged files are named."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch

from llama3lib.scaling import Budget, SweepConfig, cells, finished, one_run, run_sweep
from llama3lib.scaling import sweep as sweep_module
from llama3lib.scaling.records import record_path, runs_in
from llama3lib.scaling.sweep import diverged, repeats, waiting
from llama3lib.train import SourceConfig

CONFIG = SweepConfig(
    budgets=(Budget(flops=2e8, models=((4, 1), (6, 1)), batch_size=1),),
    invented=300,
    n_heads=1,
    length=32,
    test_windows=10,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    run_sweep(CONFIG, folder, processes=1)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def test_runs_under_one_name_are_not_mixed(copy):
    wide = replace(CONFIG.budgets[0], batch_size=2, models=((4, 1),))
    for call in (waiting, finished, run_sweep):
        with pytest.raises(ValueError, match=r"batch_size=2 .* run with batch_size=1"):
            call(replace(CONFIG, budgets=(wide,)), copy)
    near = replace(CONFIG.budgets[0], flops=2.00005e8)
    with pytest.raises(ValueError, match=r"budget=200005000\.0 .* budget=200000000\.0"):
        finished(replace(CONFIG, budgets=(near,)), copy)


def test_a_stopped_run_is_not_gone_on_with_under_other_settings(tmp_path):
    cell = cells(CONFIG)[0]
    with pytest.raises(KeyboardInterrupt):
        one_run(CONFIG, cell, tmp_path, stop=lambda: True)
    (work_folder,) = (tmp_path / "work").glob("*/checkpoints")
    other = replace(CONFIG, peak=0.02)
    assert waiting(other, tmp_path)  # nothing is finished: the settings may change
    assert json.loads((tmp_path / "sweep.json").read_text())["peak"] == 0.02
    with pytest.raises(KeyboardInterrupt):
        one_run(other, cells(other)[0], tmp_path, stop=lambda: True)
    both = list((tmp_path / "work").glob("*/checkpoints"))
    assert len(both) == 2 and work_folder in both


def test_what_cannot_be_run_is_told_before_anything_is_written(tmp_path):
    wrong = [
        (replace(CONFIG, warmup_share=0.999), "warmup"),
        (replace(CONFIG, n_heads=3), "dim=4 is not allowed"),
    ]
    for config, named in wrong:
        with pytest.raises(ValueError, match=named):
            run_sweep(config, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="cuda:99"):
        run_sweep(replace(CONFIG, device="cuda:99"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    short = replace(
        CONFIG,
        invented=None,
        train=SourceConfig(stories=100),
        held_out=SourceConfig(stories=1, seed=9),
        length=4096,
        budgets=(Budget(flops=1e12, models=((4, 1),), batch_size=1),),
    )
    with pytest.raises(ValueError, match="length=4096 is not allowed: "):
        run_sweep(short, tmp_path / "short")
    assert len(waiting(replace(short, length=32), tmp_path / "short")) == 1  # not spoilt


@pytest.mark.parametrize("lost", [float("nan"), 3e38])
def test_a_loss_that_is_no_number_only_at_the_end_is_a_run_that_diverged(
    lost, tmp_path, monkeypatch
):
    class LastStep(sweep_module.Trainer):
        def fit(self, on_step=None):
            result = super().fit(on_step)
            with torch.no_grad():
                result.model.norm.weight.fill_(lost)
            return result

    monkeypatch.setattr(sweep_module, "Trainer", LastStep)
    only = replace(CONFIG, budgets=(replace(CONFIG.budgets[0], models=((4, 1),)),))
    assert run_sweep(only, tmp_path, processes=1) == []
    assert diverged(only, tmp_path) == [cells(only)[0].name]


def test_text_that_is_read_again_is_warned_of_and_recorded(tmp_path, caplog):
    again = replace(
        CONFIG, invented=20, budgets=(replace(CONFIG.budgets[0], models=((4, 1),), flops=5e8),)
    )
    (cell,) = cells(again)
    assert "1 of 1 runs read their text more than once" in repeats(again, tmp_path, [cell])
    assert repeats(replace(again, invented=10_000), tmp_path, [cell]) == ""
    with caplog.at_level(logging.WARNING):
        run_sweep(again, tmp_path, processes=1)
    assert "more than once" in caplog.text
    record = json.loads(record_path(tmp_path, cell).read_text())
    index = json.loads((tmp_path / "text" / "index.json").read_text())
    assert record["epochs"] == pytest.approx(cell.tokens / index["tokens"], abs=1e-3)
    assert record["epochs"] > 1


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"folder='.*file' is not allowed: it is a file"):
        run_sweep(CONFIG, tmp_path / "file")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"loss": "low"}', b"\xff"])
def test_a_damaged_run_is_named_with_the_cure(text, copy):
    path = record_path(copy, cells(CONFIG)[0])
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (lambda: finished(CONFIG, copy), lambda: runs_in(copy)):
        with pytest.raises(ValueError) as caught:
            read()
        assert str(path) in str(caught.value) and "remove it" in str(caught.value)
    whole = {"budget": 2e8, "flops": 2e8, "parameters": 1, "tokens": 1, "seed": 0}
    for loss in ("low", float("nan"), -1):
        path.write_text(json.dumps(whole | {"loss": loss}))
        with pytest.raises(ValueError, match=r"seed0\.json is damaged"):
            runs_in(copy)


def test_damaged_settings_and_notes_are_named_or_written_again(copy):
    (copy / "text.json").write_text("")
    assert waiting(CONFIG, copy) == []
    assert json.loads((copy / "text.json").read_text()) == {"documents": 300, "seed": 0}
    (copy / "sweep.json").write_text("")
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        waiting(CONFIG, copy)


def test_all_runs_of_a_folder_but_one_kind_a_curve(copy):
    first, second = sorted((copy / "runs").glob("*.json"))
    record = json.loads(first.read_text())
    first.with_name(first.name.replace("-seed", "-cosine4-seed")).write_text(json.dumps(record))
    second.write_text(json.dumps(json.loads(second.read_text()) | {"loss": None}))
    runs, left_out = runs_in(copy)
    assert [run.loss for run in runs] == [record["loss"]]
    assert left_out == [
        f"{second.stem} (diverged)",
        f"{first.stem.replace('-seed', '-cosine4-seed')} (longer cosine)",
    ]
