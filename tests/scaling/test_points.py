"""Point files: ours and those of others, with columns of many names; bad rows are named."""

import json
import math

import numpy as np
import pytest

from llama3lib.scaling import Run, by_budget, fit_isoflop, read_runs, stored_path, write_runs
from llama3lib.scaling.points import NAMES, ColumnError, provenance, stored_names
from llama3lib.scaling.records import read_record, write_record


def table(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_runs_are_written_and_read_back(tmp_path):
    runs = [
        Run(parameters=1000, tokens=2e4, loss=2.5, flops=1.3e8, budget=1.2e8, non_embedding=300),
        Run(parameters=2000, tokens=1e4, loss=2.25, seed=3, nll=0.5, accuracy=0.75),
    ]
    path = tmp_path / "deep" / "points.json"
    write_runs(path, runs, {"made_by": "me"})
    assert read_runs(path) == runs
    assert provenance(path) == {"made_by": "me"}


def test_what_is_left_out_follows_from_six_n_d():
    run = Run(parameters=7e10, tokens=1.4e12, loss=2.0)
    assert run.flops == run.budget == 6 * 7e10 * 1.4e12
    assert run.tokens_per_parameter == 20


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("parameters,tokens,loss", "1e9,2e10,2.5"),
        ("N,D,L", "1e9,2e10,2.5"),
        ("Model Size,Training Tokens,loss", "1000000000.0,2e10,2.5"),
        ("loss;n_params;n_tokens", "2.5;1,000,000,000;2e10"),
        ("Model_Size\tTraining FLOP\tFinal Loss", "1e9\t1.2e20\t2.5"),
        ("num_parameters,train_tokens,eval_loss", "1e9,2e10,2.5"),
        ("total_params,num_tokens,loss", "1e9,2e10,2.5"),
        (",params,training_tokens,val-loss,note", "0,1e9,2e10,2.5,best"),
    ],
)
def test_tables_of_others_are_read(tmp_path, head, row):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{head}\r\n{row}\r\n".encode())
    (run,) = read_runs(path)
    assert (run.parameters, run.tokens, run.loss) == pytest.approx((1e9, 2e10, 2.5))
    assert run.flops == pytest.approx(1.2e20)


@pytest.mark.parametrize("wrapped", [True, False])
def test_json_lists_and_objects_are_read(tmp_path, wrapped):
    rows = [{"Params": 1e9, "Tokens": 2e10, "Loss": 2.5}]
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"runs": rows} if wrapped else rows))
    assert read_runs(path)[0].loss == 2.5
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows * 2) + "\n\n")
    assert len(read_runs(path)) == 2


def test_a_column_can_be_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("own count,tokens,loss\n1e9,2e10,2.5\n")
    with pytest.raises(ValueError, match=r"no column for parameters, only \['own count'"):
        read_runs(path)
    assert read_runs(path, names={"parameters": "own count"})[0].parameters == 1e9
    with pytest.raises(ValueError, match="'size'"):
        read_runs(path, names={"parameters": "size"})


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1])
@pytest.mark.parametrize("field", ["parameters", "tokens", "loss"])
def test_numbers_that_no_run_has_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}="):
        Run(**{"parameters": 1.0, "tokens": 1.0, "loss": 1.0, field: value})


def test_budgets_are_sorted_and_runs_within_them():
    runs = [
        Run(parameters=n, tokens=1, loss=1, budget=c) for c, n in ((2e9, 5), (1e9, 7), (1e9, 3))
    ]
    assert {c: [r.parameters for r in rs] for c, rs in by_budget(runs).items()} == {
        1e9: [3, 7],
        2e9: [5],
    }


def test_stored_points_come_with_provenance():
    assert stored_names()
    for name in stored_names():
        assert read_runs(stored_path(name))
        told = provenance(stored_path(name))
        assert {"made_by", "machine", "what"} <= set(told)
    with pytest.raises(ValueError, match="points='none'"):
        stored_path("none")


def test_no_parameters_beside_flops_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: parameters=0\.0"):
        read_runs(table(tmp_path, "parameters,flops,loss\n0,1e18,2.5\n"))


@pytest.mark.parametrize(
    ("head", "names", "named"),
    [
        ("parameters,tokens,loss,val_loss", {}, r"\['loss', 'val_loss'\] all fit loss"),
        ("n,model_size,tokens,loss", {}, r"\['n', 'model_size'\] all fit parameters"),
        ("N,n,tokens,loss", {}, r"\['N', 'n'\] all fit parameters; give names={'parameters': …}"),
        ("N,tokens,loss", {"non_embedding": "N"}, "no column for parameters"),
    ],
)
def test_two_columns_for_one_field_are_refused(tmp_path, head, names, named):
    path = table(tmp_path, f"{head}\n1e9,2e10,2.5,2.5\n"[: None if head.count(",") == 3 else -5])
    with pytest.raises(ColumnError, match=named):
        read_runs(path, names=names)


def test_naming_one_of_them_is_the_cure(tmp_path):
    path = table(tmp_path, "n,model_size,tokens,loss,val_loss\n1,1e9,2e10,2.5,2.75\n")
    (run,) = read_runs(path, names={"parameters": "model_size", "loss": "val_loss"})
    assert (run.parameters, run.loss) == (1e9, 2.75)
    path = table(tmp_path, "N,model_size,tokens,loss\n1e8,1e9,2e10,2.5\n")
    (run,) = read_runs(path, names={"non_embedding": "N"})
    assert (run.parameters, run.non_embedding) == (1e9, 1e8)


def test_a_column_serves_one_field_and_a_name_stands_once(tmp_path):
    path = table(tmp_path, "N,tokens,loss,loss\n1e9,2e10,2.5,3.5\n")
    with pytest.raises(ValueError, match="two columns are called 'loss'"):
        read_runs(path)
    with pytest.raises(ValueError, match=r"'N' is named for \['parameters', 'non_embedding'\]"):
        read_runs(path, names={"parameters": "N", "non_embedding": "N"})
    with pytest.raises(ValueError, match="'los' is no field of a run"):
        read_runs(path, names={"los": "loss"})
    path = table(tmp_path, '[{"N": 1e9, "tokens": 2e10, "loss": 2.5, "loss": 3.5}]', "a.json")
    with pytest.raises(ValueError, match=r"a\.json.*'loss' stands twice"):
        read_runs(path)


def test_no_spelling_is_that_of_two_fields():
    spellings = [spelling for of_one in NAMES.values() for spelling in of_one]
    assert len(set(spellings)) == len(spellings)


@pytest.mark.parametrize(
    "flops", ["compute_flops", "training_compute_flop", "Training compute (FLOP)", "Training FLOP"]
)
def test_columns_of_flops_are_known(tmp_path, flops):
    (run,) = read_runs(table(tmp_path, f"n_params,n_tokens,{flops},loss\n1e9,2e10,1.3e20,2.5\n"))
    assert run.flops == run.budget == 1.3e20


@pytest.mark.parametrize("between", ["", "Training Tokens,"])
def test_the_columns_of_a_published_table_are_known(tmp_path, between):
    head = f"x,y,color,Model Size,{between}Training FLOP,hex_color,loss"
    cells = f"1.0,2.0,#faebdd,1e9,{between and '2e10,'}1.2e20,#faebdd,2.5"
    (run,) = read_runs(table(tmp_path, f"{head}\n{cells}\n"))
    assert (run.parameters, run.loss) == (1e9, 2.5)
    assert (run.tokens, run.flops) == pytest.approx((2e10, 1.2e20))


@pytest.mark.parametrize(("share", "warned"), [(1, 0), (0.35, 0), (2.9, 0), (3.1, 1), (1e-15, 1)])
def test_flops_in_another_unit_are_warned_of(tmp_path, caplog, share, warned):
    rows = "".join(f"1e9,2e10,{part * 1.2e20},2.5\n" for part in (share, share, 1))
    read_runs(table(tmp_path, f"N,D,compute,loss\n{rows}"))
    assert len(caplog.records) == warned
    told = f"column 'compute': flops are {share:.3g} times 6 ·"
    assert all(told in one.getMessage() for one in caplog.records)


def test_stored_points_are_read_without_a_warning(caplog):
    assert sum(len(read_runs(stored_path(name))) for name in stored_names()) > 60
    assert not caplog.records


def test_files_of_others_have_no_provenance(tmp_path):
    for name, text in (
        ("a.csv", "N,D,L\n1,1,1\n"),
        ("a.jsonl", '{"N": 1}\n{"N": 2}\n'),
        ("a.json", '{"provenance": "a paper", "runs": []}'),
        ("b.json", "[]"),
    ):
        assert provenance(table(tmp_path, text, name)) == {}
    with pytest.raises(ValueError, match="cannot be read"):
        provenance(tmp_path / "none.csv")


def test_what_is_no_number_is_null_in_every_file(tmp_path):
    run = Run(parameters=1000, tokens=2e4, loss=2.5)
    path = tmp_path / "points.json"
    write_runs(path, [run], {"worst": [math.inf, np.float32("nan")], "said": "NaN"})
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert provenance(path) == {"worst": [None, None], "said": "NaN"} and read_runs(path) == [run]
    record = {"budget": 1.0, "flops": 1.0, "parameters": 9, "tokens": 9, "loss": -math.inf}
    write_record(tmp_path / "run.json", record | {"seed": 0})
    assert read_record(tmp_path / "run.json")["loss"] is None  # it diverged


def test_numbers_of_numpy_are_written(tmp_path):
    numbers = {"parameters": np.int64(1000), "tokens": np.float64(2e4), "loss": np.float32(2.5)}
    run = Run(**numbers, seed=np.int64(3))
    write_runs(tmp_path / "points.json", [run], {"of": np.int64(7)})
    assert read_runs(tmp_path / "points.json") == [run]
    assert provenance(tmp_path / "points.json") == {"of": 7}
    with pytest.raises(TypeError, match="object"):
        write_runs(tmp_path / "other.json", [run], {"of": object()})
    assert not (tmp_path / "other.json").exists()


def test_a_seed_is_a_whole_number(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: seed=1\.7 is not allowed: a whole number"):
        read_runs(table(tmp_path, "N,D,L,seed\n1,1,1,1.7\n"))
    (run,) = read_runs(table(tmp_path, "N,D,L,seed\n1,1,1,2.0\n"))
    assert run.seed == 2 and isinstance(run.seed, int)


def test_whole_numbers_beyond_all_floats_are_refused():
    for field in ("parameters", "tokens", "loss", "budget"):
        with pytest.raises(ValueError, match=f"{field}=1000"):
            Run(**{"parameters": 1, "tokens": 1, "loss": 1, field: 10**400})


def rounded(budget, digits=17):
    """Six runs whose budget is told only by parameters and tokens, of so many digits."""
    sizes = [float(f"{budget**0.5 / 11 * 1.37**i:.{digits}g}") for i in range(-3, 3)]
    losses = [2 + 1e6 * budget**-0.4 + 0.05 * (i + 0.4) ** 2 for i in range(-3, 3)]
    return [
        Run(parameters=n, tokens=float(f"{budget / (6 * n):.{digits}g}"), loss=loss)
        for n, loss in zip(sizes, losses, strict=True)
    ]


@pytest.mark.parametrize("digits", [17, 4])
def test_budgets_that_rounding_made_unlike_are_one(digits):
    planned = (1e18, 3e18, 1e19)
    runs = [run for budget in planned for run in rounded(budget, digits)]
    assert len({run.budget for run in runs}) > 3
    groups = by_budget(runs)
    assert list(groups) == pytest.approx(planned, rel=2e-3)
    assert [len(found) for found in groups.values()] == [6, 6, 6]
    assert all(budget in [run.budget for run in found] for budget, found in groups.items())
    assert [c.budget for c in fit_isoflop(runs, resamples=10).curves] == list(groups)


def test_a_chain_of_small_steps_is_no_single_budget():
    runs = [Run(parameters=1, tokens=1, loss=1, budget=1e9 * 1.006**i) for i in range(6)]
    assert [len(found) for found in by_budget(runs).values()] == [2, 2, 2]
    assert [len(found) for found in by_budget(runs, tolerance=0.04).values()] == [6]
    assert len(by_budget(runs, tolerance=0)) == 6
    assert by_budget([]) == {}
    for wrong in (-0.1, 1, math.nan):
        with pytest.raises(ValueError, match="tolerance="):
            by_budget(runs, tolerance=wrong)


def test_the_key_is_the_median_of_the_budgets_and_equal_ones_stay_exact():
    runs = [
        Run(parameters=n, tokens=1, loss=1, budget=c)
        for n, c in ((3, 1.001e9), (1, 1.002e9), (2, 1e9), (9, 3e10), (8, 3e10))
    ]
    groups = by_budget(runs)
    assert {c: [run.parameters for run in rs] for c, rs in groups.items()} == {
        1.001e9: [1, 2, 3],
        3e10: [8, 9],
    }
    for name in stored_names():
        stored = read_runs(stored_path(name))
        assert set(by_budget(stored)) == {run.budget for run in stored}
