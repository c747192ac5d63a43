"""From a folder of one's own text to a model: tokenizer, tokens, training, export, generation."""

import json
import shlex
import signal
import sys

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.cli import main as cli
from llama3lib.data.tokens import TokenShard
from llama3lib.train import load_config
from llama3lib.train.export import export
from llama3lib.utils.locks import locked

RECIPE = """
title = "Mine"
device = "cpu"
save_every = 5
evaluate_every = 20

[model]
dim = 16
n_layers = 1
n_heads = 2
n_kv_heads = 1
ffn_dim = 32
vocab_size = 256
max_seq_len = 64

[data.mine]
documents = "text"

[held_out]
stories = 3
seed = 9

[optimizer]
warmup = 2

[[phases]]
name = "main"
steps = 40
batch_size = 2
length = 32
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A recipe and a folder of text beside it, in the folder that we are in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    rows = [
        {"text": f"Boat {n} had {n * n} lamps, and a red sail with {n} stars."} for n in range(60)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "text" / "a.jsonl").write_text(lines + '{"title": "no text"}\n')
    (tmp_path / "my.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def run(capsys, *argv):
    code = cli.main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *argv):
    """The one line on standard error."""
    code, _, err = run(capsys, *argv)
    assert code == 2 and err.count("\n") == 1 and err.startswith("llama3: "), err
    return err


def test_a_run_on_bytes_tells_how_it_goes_and_opens_everywhere(capsys, work):
    transformers = pytest.importorskip("transformers")
    code, out, err = run(capsys, "train", "my.toml", "run")
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert any(line.startswith("data        mine: 60 documents, ") for line in lines)
    assert "            left out 1 of 61 rows: no text field 1 (first: a.jsonl#60)" in lines
    assert any(line.startswith("held out    3 documents, ") for line in lines)
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1", *map(str, range(2, 41, 2))]
    assert all(": main, loss " in line and " tokens/s" in line for line in steps)
    assert "held-out" not in steps[9] and "held-out loss " in steps[10]  # step 20 and on
    assert lines[-2].startswith("40 steps, ") and "held-out loss " in lines[-2]

    code, text, _ = run(capsys, "generate", "run/model", "--prompt", "Boat", "--max-tokens", 8)
    assert code == 0 and text.strip()
    words = transformers.AutoTokenizer.from_pretrained("run/model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained("run/model").eval()
    ours = load_tokenizer("run/model")
    ids = ours.encode("Boat é\0", bos=True)
    assert words("Boat é\0")["input_ids"] == ids and max(ids) < 256
    assert TokenShard("run/data/mine").document(0)[0] == ids[0] == words.bos_token_id
    assert words.eos_token_id == ours.eos_id == TokenShard("run/data/mine").tokens[-1]
    with torch.no_grad():
        logits = load_model("run/model")(torch.tensor([ids]))
        torch.testing.assert_close(theirs(torch.tensor([ids])).logits, logits, atol=2e-6, rtol=1e-5)


def test_a_tokenizer_of_one_s_own_goes_all_the_way(capsys, work, monkeypatch):
    line = ("tokenizer", "train", "text", "words", "--vocab-size", 580)
    code, out, err = run(capsys, *line)
    assert code == 0 and err == "" and out.startswith("60 documents\nleft out 1 of 61 rows: ")
    assert "merge 68 of 68" in out and "580 tokens; " in out and "model.vocab_size = 580" in out
    words = load_tokenizer("words")
    assert words.n_vocab == 580 and len(words.encode("Boat 7 had 49 lamps")) < 10
    code, out, _ = run(capsys, "tokenizer", "show", "words")
    assert code == 0 and "580: 324 ordinary, 256 special" in out
    assert f"<|begin_of_text|> {words.bos_id}" in out and "cut as in Llama 3" in out
    changes = ["--set", "tokenizer=words", "--set", "model.vocab_size=580"]
    changes += ["--set", "phases.0.steps=4"]
    assert run(capsys, "train", "my.toml", "run", *changes)[0] == 0
    monkeypatch.chdir(work / "text")  # the run knows where its tokenizer is
    assert run(capsys, "export", "../run", "../out")[0] == 0
    assert load_tokenizer(work / "out").digest == words.digest
    (work / "words" / "tokenizer.json").unlink()  # it would be read first
    (work / "words" / "tokenizer.model").write_bytes(
        (work / "words" / "tokenizer.model").read_bytes().rsplit(b"\n", 2)[0] + b"\n"
    )
    assert "another one than in training" in refused(capsys, "export", "../run", "../again")
    assert not (work / "again").exists()


def test_tokenizers_that_cannot_be_made(capsys, work):
    assert "vocab_size=511" in refused(
        capsys, "tokenizer", "train", "text", "w", "--vocab-size", 511
    )
    assert "does not exist" in refused(capsys, "tokenizer", "train", "none", "w")
    assert "not empty" in refused(capsys, "tokenizer", "train", "text", "text")
    strict = ("--most-left-out", 0)
    assert "left out 1 of 61 rows" in refused(capsys, "tokenizer", "train", "text", "w", *strict)
    code, out, _ = run(capsys, "tokenizer", "train", "text", "w", "--vocab-size", 9999)
    assert code == 0 and "no pair of neighbours is left after " in out
    made = load_tokenizer("w").n_vocab
    assert 580 < made < 9999 and f"model.vocab_size = {made}" in out
    assert "no-such" in refused(capsys, "tokenizer", "show", "no-such")
    assert sorted(path.name for path in work.iterdir()) == ["my.toml", "text", "w"]


def test_tokens_made_beforehand_train_the_same(capsys, work):
    """Both ways from text to tokens: the command and the trainer."""
    (work / "plain.toml").write_text('title = "Plain"\n[[steps]]\nuse = "pii"\n')
    argv = ("data", "plain.toml", "text", "clean", "--tokenizer", "bytes")
    assert run(capsys, *argv)[0] == 0
    ends = []
    for kind, path in (("documents", "clean/documents"), ("shard", "clean/tokens")):
        changes = ["--set", f"data.mine.{kind}={path}", "--set", "phases.0.steps=3"]
        assert run(capsys, "train", "my.toml", kind, *changes)[0] == 0
        ends.append(load_model(work / kind / "model"))
    pairs = zip(ends[0].parameters(), ends[1].parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_documented_line_for_own_text(capsys, work):
    changes = ["data.stories.documents=text", "held_out.documents=text/a.jsonl"]
    changes += ["phases.0.steps=2", "optimizer.warmup=1", "phases.0.length=64", "save_every=1"]
    words = [word for change in changes for word in ("--set", change)]
    code, out, _ = run(capsys, "train", "small-cpu", "run", *words, "--dry-run")
    assert code == 0 and "data        stories: 60 documents, " in out and "epochs" in out
    assert not (work / "run").exists()
    assert run(capsys, "train", "small-cpu", "run", *words)[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.mine.documents=none", "data.mine: input="),
        ("held_out.documents=empty.jsonl", "held_out: no text is left"),
        ("data.mine.most_left_out=0", "left out 1 of 61 rows"),
        ("tokenizer=tiny-base", "model.vocab_size=256"),
        ("phases.0.length=900", "held_out is not allowed: the text has "),
    ],
)
def test_what_is_wrong_with_the_data_is_found_by_a_dry_run_too(capsys, work, change, message):
    (work / "empty.jsonl").write_text("")
    for more in ((), ("--dry-run",)):
        assert message in refused(capsys, "train", "my.toml", "run", "--set", change, *more)
    assert not (work / "run" / "config.json").exists()


def test_a_second_process_in_the_same_folder_is_refused(capsys, work):
    with locked(work / "run" / ".lock") as ours:  # as another process holds it
        assert ours
        assert "RUN='run' is not allowed: another process" in refused(
            capsys, "train", "my.toml", "run"
        )
        assert [path.name for path in (work / "run").iterdir()] == [".lock"]


def test_ctrl_c_tells_what_is_saved_and_the_line_that_goes_on(capsys, work, monkeypatch):
    words = ["train", "my.toml", "run", "--set", "title=my run", "--set", "phases.0.steps=9"]

    def stopped():
        code, out, err = run(capsys, *words)
        assert code == 130 and err == ""
        told, line = out.splitlines()[-2:]
        assert shlex.split(line) == ["llama3", *words]
        return told

    def ctrl_c(*_, **__):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("llama3lib.data.texts.read_documents", ctrl_c)
        assert stopped().startswith("stopped; no step was made. ")
    with monkeypatch.context() as patch:
        patch.setattr("llama3lib.cli.progress.Progress.reach", ctrl_c)
        assert stopped().startswith("stopped; saved after step 1. ")
    code, out, _ = run(capsys, *words)
    assert code == 0 and "goes on after step 1\n" in out and "9 steps, " in out


def test_a_missing_tensorboard_is_told_before_the_run(capsys, work, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    err = refused(capsys, "train", "my.toml", "run", "--tensorboard")
    assert "pip install 'llama3lib[train]'" in err and not (work / "run").exists()


def test_lessons_of_symbols_are_exported_without_a_tokenizer(work):
    from llama3lib.train import Trainer
    from llama3lib.worlds import domains

    config = load_config("my.toml", ["phases.0.steps=2", "optimizer.warmup=1"])
    Trainer(config, {"mine": domains.byte_shard(["abc" * 40], work / "s")}, work / "run").fit()
    export(work / "run", work / "out")
    assert not (work / "out" / "tokenizer.json").exists()
