"""`llama3 reward` and `llama3 sft --lora`: through the trainer of all, to folders others open."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from timing_tools import patient, wait_until
from train_tools import same, stored, told
from transformers import AutoModelForSequenceClassification

from llama3lib.checkpoint import CheckpointError, load_model, load_tokenizer
from llama3lib.cli import main as cli
from llama3lib.posttrain.reward import ranked_row, rewards_of
from llama3lib.posttrain.reward_data import prepare_pairs, rows_of, write_pair_shards
from llama3lib.posttrain.reward_folder import load_reward_model, save_reward_model
from llama3lib.posttrain.sft import SftConfig, open_shards
from llama3lib.tokenizer import chat_format_of
from llama3lib.train import read_metrics

OPTIONS = ("--lr", "2e-3", "--steps", "30", "--length", "64", "--batch-size", "8")
OPTIONS += ("--device", "cpu", "--save-every", "4", "--evaluate-every", "15")


def pairs(count):
    """Of two numbers the better answer names the smaller one."""
    rows = []
    for i in range(count):
        a, b = i % 10, (i + i // 10 + 1) % 10
        if a != b:
            row = {"prompt": f"min {a} {b}", "chosen": str(min(a, b)), "rejected": str(max(a, b))}
            rows.append(row | ({"edited": f"{min(a, b)}."} if i % 5 == 0 else {}))
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [json.dumps(row) for row in pairs(150)]
    rows.insert(2, '{"prompt": "max 1 2", "chosen": "2"}')
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def run(*argv):
    command = [sys.executable, "-m", "llama3lib.cli.main", *map(str, argv)]
    return subprocess.run(command, capture_output=True, encoding="utf-8")


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    ended = run("reward", "tiny-skills", data, folder, *OPTIONS)
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout


def test_a_run_tells_what_it_read_and_how_far_it_is(done):
    folder, out = done
    assert "1 of them not used" in out and "pairs.jsonl:3: " in out
    assert "held out accuracy before: " in out
    rows = [row for row in read_metrics(folder) if "held_out_accuracy" in row]
    assert [row["step"] for row in rows] == [0, 15, 30]
    assert all(0 <= row["accuracy_low"] <= row["accuracy_high"] <= 1 for row in rows)
    assert rows[-1]["held_out_accuracy"] > max(0.8, rows[0]["held_out_accuracy"])
    losses = [row["loss"] for row in read_metrics(folder) if "loss" in row]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    notes = json.loads((folder / "model" / "provenance.json").read_text(encoding="utf-8"))
    assert notes["kind"] == "reward" and notes["pairs"]["unused_rows"]


def test_transformers_gives_the_same_rewards(done):
    folder, _ = done
    model, tokenizer = load_reward_model(folder / "model"), load_tokenizer(folder / "model")
    foreign = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    prompt = tokenizer.encode("max 3 8", bos=True)
    answers = [tokenizer.encode(text) for text in ("8", "3", "88")]
    (ours,) = rewards_of(model, [ranked_row(prompt, answers, [2, 0, 1])])
    with torch.no_grad():
        theirs = [float(foreign(torch.tensor([prompt + a])).logits[0, 0]) for a in answers]
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_what_is_no_reward_model_is_refused(tmp_path, done):
    with pytest.raises(CheckpointError, match="no reward model"):
        load_reward_model("llama3lib/assets/tiny-base")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_reward_model(tmp_path)
    with pytest.raises(ValueError, match="without a head"):
        save_reward_model(load_model("tiny-base"), tmp_path / "x")
    with pytest.raises(CheckpointError):
        load_model(done[0] / "model")


def test_a_killed_run_ends_with_the_same_weights(done, data, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "llama3lib.cli.main", "reward", "tiny-skills"]
    process = subprocess.Popen(
        [*command, str(data), str(folder), *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: folder.is_dir() and len(told(folder)) > 9, patient(60))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ended = run("reward", "tiny-skills", data, folder, *OPTIONS)
    assert ended.returncode == 0 and "goes on after step" in ended.stdout, ended.stderr
    assert same(stored(folder), stored(done[0]))


def test_adapters_are_trained_and_merged(capsys, tmp_path):
    rows = [json.dumps({"prompt": f"max {i % 10} 3", "completion": "ok"}) for i in range(60)]
    (tmp_path / "d.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    words = ["sft", "tiny-skills", str(tmp_path / "d.jsonl"), str(tmp_path / "run"), *OPTIONS]
    words[words.index("--steps") + 1] = "6"
    assert cli.main([*words, "--lora", "4", "--held-out", "0"]) == 0, capsys.readouterr()
    tensors = stored(tmp_path / "run")
    trained = {name for name in tensors if name.startswith("optimizer.") and "lora_" not in name}
    assert not trained
    before, after = load_model("tiny-skills"), load_model(tmp_path / "run" / "model")
    name = "layers.0.attention.wq"
    a, b = (tensors[f"model.{name}.lora_{letter}"] for letter in "ab")
    assert b.abs().max() > 0
    want = before.get_submodule(name).weight.float() + 2 * b @ a
    assert torch.allclose(after.get_submodule(name).weight, want, atol=1e-6)
    assert torch.equal(after.tok_embeddings.weight, before.tok_embeddings.weight.float())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lora", "0"), "lora=0"),
        (("--lora", "2", "--mesh", "tp=2"), "with dp alone"),
    ],
)
def test_wrong_adapters_are_refused(capsys, tmp_path, data, words, said):
    assert cli.main(["sft", "tiny-skills", str(data), str(tmp_path / "run"), *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_an_option_without_effect_is_refused(capsys, data):
    assert cli.main(["reward", "tiny-skills", str(data), "--dry-run", "--lora", "4"]) == 2
    assert "lora=4 is not allowed" in capsys.readouterr().err


def test_rows_come_back_from_their_shard(tmp_path, data):
    chat = chat_format_of(load_tokenizer("tiny-skills"))
    made = prepare_pairs(data, chat, 64, SftConfig())
    write_pair_shards(made, tmp_path, chat)
    shards = open_shards(tmp_path)
    assert rows_of(shards["dialogs"]) == made.train
    assert rows_of(shards["held-out"]) == made.held_out


def test_pairs_that_do_not_fit_are_told(capsys, tmp_path, data):
    words = ["reward", "tiny-skills", str(data), str(tmp_path / "run"), "--length", "20"]
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert "too long" in err and err.count("\n") == 1
    assert cli.main(["reward", "tiny-skills", str(data), "--dry-run", "--length", "64"]) == 0
    out = capsys.readouterr().out
    assert "answers" in out and "windows of 64" in out
