"""`llama3 sft`: tells what is in the data, trains, hands over, goes on after a kill."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from timing_tools import patient, wait_until
from train_tools import everything, same, stored, told
from transformers import AutoModelForCausalLM, AutoTokenizer

from llama3lib.checkpoint import is_chat_model, load_args, load_model, load_tokenizer
from llama3lib.cli import main as cli
from llama3lib.tokenizer import ChatFormat, Message, chat_format_of
from llama3lib.train import read_metrics
from llama3lib.worlds.annotator import demonstrations

OPTIONS = ("--lr", "2e-3", "--steps", "6", "--length", "64", "--batch-size", "4", "--device", "cpu")
OPTIONS += ("--save-every", "2", "--evaluate-every", "3")


def lines(count, seed=0):
    return [
        json.dumps({"prompt": task.prompt, "completion": said})
        for task, said in demonstrations(count, seed)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Demonstrations, one of them broken."""
    path = tmp_path_factory.mktemp("data") / "demos.jsonl"
    rows = lines(120)
    rows.insert(4, '{"prompt": "add 1 2", "completion": ""}')
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def run(capsys, *argv):
    code = cli.main(["sft", "tiny-skills", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """A finished run, and what was printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = [sys.executable, "-m", "llama3lib.cli.main", "sft", "tiny-skills"]
    told = subprocess.run(
        [*command, str(data), str(folder), *OPTIONS], capture_output=True, encoding="utf-8"
    )
    assert told.returncode == 0, told.stderr
    return folder, told.stdout


def test_dry_run_tells_all_and_writes_nothing(capsys, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, data, "--dry-run", *OPTIONS)
    assert (code, err, everything(tmp_path)) == (0, "", {})
    assert "121 rows, 1 of them not used" in out
    assert "demos.jsonl:5: empty answer (completion)" in out
    for word in ("learned", "held out", "packed", "windows of 64", "memory", "time", "steps"):
        assert word in out, word
    assert "first loss" not in out


def test_long_dialogs_are_told_as_cut(capsys, data):
    code, out, _ = run(capsys, data, "--dry-run", "--length", "36", "--most-bad", "0.9")
    assert code == 0 and "too long and cut" in out


def test_what_a_run_tells_and_leaves(done):
    folder, out = done
    rows = list(read_metrics(folder))
    losses = [row["held_out_loss"] for row in rows if "held_out_loss" in row]
    assert [row["step"] for row in rows if "held_out_loss" in row] == [0, 3, 6]
    assert losses[-1] < losses[0] - 1
    assert f"held-out loss {losses[0]:.3f} before, {losses[-1]:.3f} after" in out
    notes = json.loads((folder / "model" / "provenance.json").read_text(encoding="utf-8"))
    assert notes["made_by"] == "llama3 sft" and notes["from"] == "tiny-skills"
    assert notes["dialogs"]["rows"] == 121 and notes["dialogs"]["unused_rows"] == {
        "empty answer": 1
    }
    assert notes["dialogs"]["trained_on"] + notes["dialogs"]["held_out"] == 120


def test_the_result_opens_in_transformers_and_in_ours_alike(done):
    folder = done[0] / "model"
    theirs, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder),
    )
    ours = load_tokenizer(folder)
    assert is_chat_model(folder) and isinstance(chat_format_of(ours), ChatFormat)
    asked = [{"role": "user", "content": "max 3 8 5"}]
    text = theirs.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    ids = theirs(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    dialog = [Message(role="user", content="max 3 8 5")]
    assert ids[0].tolist() == ChatFormat(ours).encode_dialog(dialog, add_generation_prompt=True).ids
    with torch.no_grad():
        torch.testing.assert_close(
            model.eval()(ids).logits, load_model(folder)(ids), rtol=1e-4, atol=1e-4
        )
    assert model.generation_config.eos_token_id == sorted(ours.stop_ids)
    assert load_args(folder) == load_args("tiny-skills")


def test_a_finished_run_trains_no_more(capsys, data, done):
    before = told(done[0])
    code, out, _ = run(capsys, data, done[0], *OPTIONS)
    assert code == 0 and "before, " in out
    assert told(done[0]) == before


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"prompt": "add 1 2"}', "missing key"),
        ('{"messages": [{"role": "human", "content": "a"}]}', "unknown role"),
        ('{"prompt": "a", "completion": NaN}', "not a finite number"),
    ],
)
def test_bad_data_stops_before_training(capsys, tmp_path, row, said):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*lines(8), row]) + "\n", encoding="utf-8")
    code, _, err = run(capsys, path, tmp_path / "run", *OPTIONS)
    assert code == 2 and err.count("\n") == 1
    assert "rows.jsonl:9" in err and said in err and "most_bad=5.0%" in err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--length", "300"), "length=300"),
        (("--lr", "0"), "lr=0"),
        (("--mesh", "width=2"), "width"),
        (("--held-out", "1"), "held_out=1"),
    ],
)
def test_wrong_options_are_named(capsys, data, tmp_path, options, said):
    code, _, err = run(capsys, data, tmp_path / "run", *options)
    assert code == 2 and said in err


def test_without_a_folder_there_is_only_a_dry_run(capsys, data):
    code, _, err = run(capsys, data)
    assert code == 2 and "--dry-run" in err


def start(data, folder, *more):
    command = [sys.executable, "-m", "llama3lib.cli.main", "sft", "tiny-skills", str(data)]
    return subprocess.Popen(
        [*command, str(folder), *OPTIONS, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_to_the_same_bits(data, done, tmp_path):
    folder = tmp_path / "run"
    for step in (1, 3):
        process = start(data, folder)
        there = lambda step=step: any(  # noqa: E731
            row["step"] >= step for row in (read_metrics(folder) if folder.exists() else ())
        )
        wait_until(there, patient(60))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(data, folder).wait() == 0
    assert same(stored(folder), stored(done[0]))
    assert told(folder) == told(done[0])


@pytest.mark.distributed
def test_two_ranks_learn_the_same(data, done, tmp_path):
    folder = tmp_path / "run"
    process = start(data, folder, "--mesh", "dp=2")
    _, err = process.communicate()
    assert process.returncode == 0, err
    for row, right in zip(told(folder), told(done[0]), strict=True):
        for name in ("loss", "held_out_loss"):
            assert row.get(name) == pytest.approx(right.get(name), abs=1e-4)
