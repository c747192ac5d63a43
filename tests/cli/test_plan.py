"""`llama3 plan` and `llama3 simulate`: what they print, and clear refusals."""

import re

import pytest

from llama3lib.cli import main as cli
from llama3lib.paper.infrastructure import TABLE_4
from llama3lib.parallel.hardware import STANDARD

ROW_2 = (
    *("plan", "405B", "--gpus", "16384", "--batch-tokens", "16777216", "--tp", "8", "--cp", "1"),
    *("--pp", "16", "--stages", "8", "--sequences", "1", "--recompute", "selective"),
)
SMALL = ("plan", "8B", "--gpus", "8", "--sequence", "8192", "--batch-tokens", "262144")


def run(capsys, *argv):
    assert cli.main([*argv]) == 0
    return capsys.readouterr().out


def test_the_papers_table_beside_the_prediction(capsys):
    out = run(capsys, "plan", "paper")
    assert all(name in out for name in TABLE_4.rows)
    printed = [float(n) for n in re.findall(r"printed +(\d+)", out)]
    predicted = [float(n) for n in re.findall(r"predicted +(\d+)", out)]
    assert printed == [430, 400, 380] and predicted == pytest.approx(printed, rel=0.1)
    assert "this explanation is ours" in out and "FLOPs: 6 for each weight" in out


def test_a_layout_of_the_paper_with_its_bill(capsys):
    out = run(capsys, *ROW_2, "--tokens", "15.6e12", "--price", "2")
    assert out.startswith("1 layouts fit into 76 GB")
    assert " 8   1  16   128   8    1    16 selective" in out
    for part in ("weights 6.38", "gradients 12.75", "bubble 10.3%", "TP, server", "DP, network"):
        assert part in out
    hours = int(re.search(r"([\d,]+) GPU-hours\n", out)[1].replace(",", ""))
    cost = int(re.search(r"cost ([\d,]+) at 2", out)[1].replace(",", ""))
    assert cost == pytest.approx(2 * hours, abs=2) and "30,840,000 GPU-hours for the 405B" in out
    assert "97% of them" in out


def test_layouts_are_ranked_and_counted(capsys):
    out = run(capsys, *SMALL, "--top", "4")
    rows = re.findall(r"^ +\d+ +\d+ +\d+ +\d+ .*?([\d.e-]+)$", out, re.M)
    assert len(rows) == 4 and rows == sorted(rows, key=float)
    assert "cost" not in out
    unknown = run(capsys, *SMALL, "--tokens", "1e12")
    assert "cost unknown: give --price" in unknown
    assert "the model card tells 1,460,000" in unknown


def test_memory_and_hardware_can_be_ones_own(capsys, tmp_path):
    count = [
        int(run(capsys, *SMALL, *more).split()[0].replace(",", ""))
        for more in (
            (),
            ("--memory", "141"),
            ("--memory", "141", "--recompute", "full"),
        )
    ]
    assert count[1] > count[0] and count[1] > count[2]
    mine = tmp_path / "mine.toml"
    mine.write_text(STANDARD.read_text().replace("0.54", "0.27"))
    fast, slow = (
        float(re.search(r"\n +8 +1 .*? ([\d.]+)$", run(capsys, *ROW_2, *more), re.M)[1])
        for more in ((), ("--hardware", str(mine)))
    )
    assert 1.8 < slow / fast < 1.95  # all but messages takes twice as long


def test_a_folder_or_a_bundled_model_will_do(capsys):
    out = run(
        capsys, "plan", "tiny-base", "--gpus", "2", "--sequence", "64", "--batch-tokens", "512"
    )
    assert "layouts fit" in out and "0.00," not in out


def test_a_run_is_simulated(capsys):
    out = run(capsys, "simulate", "--seed", "3")
    assert out == run(capsys, "simulate", "--seed", "3") != run(capsys, "simulate")
    assert "Faulty GPU" in out and "148.0" in out and "more than 90%" in out
    assert re.search(r"Young: 4\.3, Daly: 4\.3, best of those tried on 10,000 days: 4\.[1-5]", out)
    few = run(capsys, "simulate", "--gpus", "1024", "--pause", "0", "--interval", "5")
    assert "Young" not in few and " 9.2" in few  # 148 / 16


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["plan", "8B", "--batch-tokens", "8192"], "gpus=None"),
        (["plan", "8B", "--gpus", "8"], "batch_tokens=None"),
        (["plan", "9B", "--gpus", "8", "--batch-tokens", "8192"], "'9B' is no folder"),
        ([*SMALL, "--top", "0"], "top=0"),
        ([*SMALL, "--memory", "-1"], "memory_gb=-1"),
        ([*SMALL, "--memory", "2"], "reserved_gb=4"),
        ([*SMALL, "--price", "-1"], "price_per_gpu_hour=-1"),
        ([*SMALL, "--hardware", "none.toml"], "none.toml"),
        ([*SMALL, "--tokens", "0"], "tokens=0"),
        ([*SMALL, "--tp", "3"], "gpus=8"),
        (["plan", "405B", "--gpus", "8", "--batch-tokens", "8192"], "none of"),
        (["simulate", "--days", "0"], "days=0"),
        (["simulate", "--slowdown", "2"], "slowdown=2"),
        (["simulate", "--pause", "0"], "pause=0"),
        (["simulate", "--seed", "-1"], "seed=-1"),
    ],
)
def test_wrong_input_is_told_in_one_line(argv, named, capsys):
    assert cli.main([*argv]) == 2
    err = capsys.readouterr().err
    assert named in err and err.count("\n") == 1
