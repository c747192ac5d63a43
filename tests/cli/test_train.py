"""`llama3 train` and `llama3 export`: plans, runs, goes on, hands over, and says what is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from timing_tools import patient, wait_until
from train_tools import drawn_model, everything, steps_told, weights

from llama3lib.checkpoint import CheckpointManager, load_model, load_tokenizer
from llama3lib.cli import main as cli
from llama3lib.cli.train import expected
from llama3lib.tokenizer import Tokenizer
from llama3lib.train import load_config, open_sources, read_metrics
from llama3lib.train.trainer import Trainer

ROOT = Path(cli.__file__).parents[2]
RECIPE = """
title = "Tiny"
tokenizer = "bytes.model"
device = "cpu"
save_every = 4
evaluate_every = 5

[model]
dim = 16
n_layers = 1
n_heads = 2
n_kv_heads = 1
ffn_dim = 32
vocab_size = 512
max_seq_len = 32

[data.stories]
stories = 3

[held_out]
stories = 2
seed = 9

[optimizer]
warmup = 2
decay_steps = 20

[[phases]]
name = "main"
steps = 6
batch_size = 2
length = 16

[[phases]]
name = "anneal"
steps = 4
batch_size = 2
length = 32
rate = "anneal"
rope_theta = 1e6
average_every = 2
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A recipe with a tokenizer beside it, in the folder that we are in."""
    monkeypatch.chdir(tmp_path)
    pieces = {bytes([i]): i for i in range(256)}
    Tokenizer(pieces).save(tmp_path / "bytes.model")
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
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


def cells(out):
    return dict(line.split(maxsplit=1) for line in out.splitlines()[1:])


def test_a_recipe_is_shown_as_it_is(capsys, work):
    assert run(capsys, "train", "tiny.toml") == (0, RECIPE, "")
    code, out, _ = run(capsys, "train", "tiny-cpu")
    assert code == 0 and "[[phases]]" in out


def test_dry_run_tells_the_plan_and_writes_nothing(capsys, work):
    before = everything(work)
    code, out, err = run(capsys, "train", "tiny.toml", "run", "--dry-run")
    assert code == 0 and err == "" and everything(work) == before
    plan = {line[:12].strip(): line[12:] for line in out.splitlines()[1:]}
    count = sum(p.numel() for p in drawn_model(load_config("tiny.toml").model).parameters())
    assert plan["parameters"] == f"{count:,}"
    assert (plan["steps"], plan["tokens"]) == ("10", f"{6 * 32 + 4 * 64}")
    assert plan["memory"].split()[1] == "GB" and "from steps measured here" in plan["time"]
    assert plan["first loss"].startswith("6.24 nats")  # ln 512
    assert "last loss" not in plan  # nobody has measured this recipe


def test_dry_run_tells_the_last_loss_only_of_the_recipe_that_was_measured(capsys):
    code, out, _ = run(capsys, "train", "tiny-cpu", "--dry-run", "--set", "seed=7")
    assert code == 0 and "last loss" in out
    for change in ("model.dim=160", "optimizer.peak=1e-3", "phases.0.steps=10"):
        config = load_config("tiny-cpu", [change])
        assert expected(config) == ""
    code, out, _ = run(capsys, "train", "8b-multi", "--dry-run")
    assert code == 0 and "8,030,261,248" in out and "H100" in out


def test_a_run_its_exports_and_their_provenance(capsys, work):
    code, out, err = run(capsys, "train", "tiny.toml", "run")
    assert code == 0 and err == ""
    assert "10 steps, 448 tokens, last loss " in out and "loss spikes: 0" in out
    folder = work / "run"
    assert [row["step"] for row in steps_told(folder)] == list(range(1, 11))
    rows = list(read_metrics(folder))
    assert [r["step"] for r in rows if "held_out_loss" in r] == [5, 6, 10]
    manager = CheckpointManager(folder / "checkpoints")
    assert manager.steps() == [4, 8, 10]
    for name, phase in (("model", None), ("averaged-anneal", "anneal")):
        provenance = json.loads((folder / name / "provenance.json").read_text(encoding="utf-8"))
        assert provenance["made_by"] == "llama3 train" and provenance["recipe"]["title"] == "Tiny"
        index = json.loads((folder / "data" / "stories" / "index.json").read_text())
        data = {"stories": 3, "seed": 0, "tokens_sha256": index["sha256"]}
        assert provenance["data"] == {"stories": data}
        assert (provenance["step"], provenance["tokens"], provenance["averaged_phase"]) == (
            10,
            448,
            phase,
        )
        losses = [row["loss"] for row in rows if "loss" in row]
        assert provenance["train_loss_of_last_steps"] == pytest.approx(sum(losses) / 10, abs=1e-4)
        held_out = [row["held_out_loss"] for row in rows if "held_out_loss" in row][-1]
        assert provenance["held_out_loss"] == (None if phase else held_out)
        assert len(provenance["weights_sha256"]) == 64 and provenance["torch"] == torch.__version__
    model = load_model(folder / "model")
    stored = manager.load_tensors(10, "model")
    assert all(torch.equal(stored[n], tensor) for n, tensor in weights(model).items())
    assert model.args.rope_theta == 1e6 and load_tokenizer(folder / "model").n_vocab == 512
    mean = weights(load_model(folder / "averaged-anneal"))
    kept = CheckpointManager(folder / "weights" / "anneal")
    two = [kept.load_tensors(step, "model") for step in (8, 10)]
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (two[0][name] + two[1][name]) / 2)


@pytest.mark.parametrize("tied", ["true", "false"])
def test_an_export_is_the_trainer_s_model_here_and_in_transformers(capsys, work, tied):
    transformers = pytest.importorskip("transformers")
    change = f"model.tie_embeddings={tied}"
    run(capsys, "train", "tiny.toml", "run", "--set", change)
    assert run(capsys, "export", "run", "out")[:2] == (0, "written: out\n")
    config = load_config("tiny.toml", [change])
    shards = open_sources(config, work / "run" / "data")
    trained = Trainer(config, shards, work / "run").fit().model.eval()
    tokens = torch.randint(256, (2, 32), generator=torch.Generator().manual_seed(0))
    ours = load_model(work / "out")
    theirs = transformers.LlamaForCausalLM.from_pretrained(work / "out").eval()
    with torch.no_grad():
        wanted = trained(tokens)
        assert torch.equal(ours(tokens), wanted) and ours.args == trained.args
        torch.testing.assert_close(theirs(tokens).logits, wanted, atol=2e-6, rtol=1e-5)
    assert everything(work / "out") == everything(work / "run" / "model")


def test_export_of_a_step_and_what_it_refuses(capsys, work):
    run(capsys, "train", "tiny.toml", "run")
    assert run(capsys, "export", "run", "early", "--step", 4)[0] == 0
    stored = CheckpointManager(work / "run" / "checkpoints").load_tensors(4, "model")
    early = load_model(work / "early")
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights(early).items())
    assert early.args.rope_theta == 5e5  # the second phase had not begun
    provenance = json.loads((work / "early" / "provenance.json").read_text(encoding="utf-8"))
    assert (provenance["step"], provenance["tokens"], provenance["held_out_loss"]) == (4, 128, None)
    assert "'none' is neither a folder nor" in refused(capsys, "export", "none", "out")
    assert "step=5 is not allowed: one of [4, 8, 10]" in refused(
        capsys, "export", "run", "out", "--step", 5
    )
    for phase in ("main", "../checkpoints", "x"):
        err = refused(capsys, "export", "run", "out", "--average", phase)
        assert "weights were kept of ['anneal']" in err
    assert "not empty" in refused(capsys, "export", "run", "early")
    assert not (work / "out").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tiny-cpo", "run"], "did you mean 'tiny-cpu'"),
        (["none.toml", "run"], "no such file"),
        (["tiny.toml", "run", "--set", "steps=3"], "'steps' is not known"),
        (["tiny.toml", "run", "--set", "optimizer.peek=3"], "did you mean 'peak'"),
        (["tiny.toml", "run", "--set", "optimizer.peak=high"], "optimizer.peak='high'"),
        (["tiny.toml", "run", "--set", "optimizer.peak=inf"], "peak=inf"),
        (["tiny.toml", "run", "--set", "phases.7.steps=3"], "row 0 to 1"),
        (["tiny.toml", "run", "--set", "seed"], "NAME=VALUE"),
        (["tiny.toml", "run", "--set", "device=abacus"], "device='abacus'"),
        (["tiny.toml", "run", "--set", "gpus=512"], "gpus=512"),
        (["tiny.toml", "run", "--set", "model.vocab_size=300"], "vocab_size=300"),
        (["tiny.toml", "run", "--set", "phases.1.length=999"], "phases.1 (anneal), data.stories"),
        (["tiny.toml", "run", "--set", "phases.1.length=99999"], "GB, here are"),
        (["tiny.toml", "run", "--set", "tokenizer=none.model"], "none.model"),
        (["tiny.toml", "run", "--set", "data.stories.stories=0"], "stories=0"),
        (["8b-multi", "run"], "gpus="),
        (["8b-multi", "run", "--set", "gpus=0", "--set", "device=cpu"], "GB"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(capsys, work, argv, message):
    assert message in refused(capsys, "train", *argv)
    assert not list(work.rglob("*.tmp")) and not (work / "run" / "config.json").exists()


def test_a_folder_of_other_things_is_left_alone(capsys, work):
    (work / "mine" / "model").mkdir(parents=True)
    (work / "mine" / "model" / "notes.txt").write_text("mine")
    (work / "mine" / "config.json").write_text('{"dim": 3}')
    before = everything(work)
    assert "is not of a run" in refused(capsys, "train", "tiny.toml", "mine")
    assert "it is a file" in refused(capsys, "train", "tiny.toml", "tiny.toml")
    assert everything(work) == before


def test_other_settings_than_the_run_was_begun_with(capsys, work):
    run(capsys, "train", "tiny.toml", "run", "--set", "phases.1.steps=2")
    before = everything(work / "run" / "checkpoints")
    err = refused(capsys, "train", "tiny.toml", "run", "--set", "seed=5")
    assert "seed=5 is not allowed: the run was begun with 0" in err
    assert everything(work / "run" / "checkpoints") == before


def test_a_diverging_run_is_code_1_and_one_line(capsys, work):
    change = ["--set", "optimizer.peak=1e30", "--set", "optimizer.clip=1e30"]
    code, _, err = run(capsys, "train", "tiny.toml", "run", *change)
    assert code == 1 and err.count("\n") == 1 and err.startswith("llama3: step ")


GATED = RECIPE.replace("average_every = 2", "").replace(
    'rate = "anneal"', "gate = true\ngate_every = 2\nmost_steps = 6"
)


def test_on_spike_is_an_option_and_a_setting(capsys, work):
    code, _, _ = run(capsys, "train", "tiny.toml", "run", "--on-spike", "rollback")
    assert code == 0
    assert json.loads((work / "run" / "config.json").read_text())["on_spike"] == "rollback"


def test_a_gate_holds_the_loss_against_that_before_the_first_gate(capsys, work):
    """A length of 32 bytes holds no needle, so the grid is another one; the reference is ours."""
    (work / "gated.toml").write_text(GATED.replace("length = 32", "length = 512"), "utf-8")
    code, _, err = run(capsys, "train", "gated.toml", "run")
    assert code == 1 and "the gate of phase 'anneal' did not let through in 6 steps" in err
    rows = list(read_metrics(work / "run"))
    before = next(row["held_out_loss"] for row in rows if row["step"] == 6 and len(row) == 2)
    gates = [row for row in rows if "gate" in row]
    assert [row["step"] for row in gates] == [10, 12]
    assert {row["allowed_loss"] for row in gates} == {before + 0.01}
    assert len({row["short_loss"] for row in gates}) == 2
    # a run that is begun anew in the midst of the phase has the same reference
    shutil.rmtree(work / "run" / "checkpoints" / "step-00000012")
    assert run(capsys, "train", "gated.toml", "run")[0] == 1
    again = [row for row in read_metrics(work / "run") if "gate" in row]
    assert again == gates


def test_a_gate_without_text_to_judge_by(capsys, work):
    (work / "gated.toml").write_text(GATED.replace("[held_out]", "[data.more]"), "utf-8")
    assert "held_out" in refused(capsys, "train", "gated.toml", "run")


def child(work, *argv):
    # a shell that puts a job in the background lets it ignore Ctrl-C; here it must not
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "import sys; from llama3lib.cli import main as cli; sys.exit(cli.main())"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *argv], cwd=work, env=env, stdout=-1, stderr=-1,
        encoding="utf-8",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C in another way")
def test_ctrl_c_is_130_and_the_same_line_goes_on(capsys, work):
    words = ["train", "tiny.toml", "run", "--set", "phases.0.steps=4000", "--set", "save_every=50"]
    process = child(work, *words)
    wait_until(lambda: process.poll() is not None or len(steps_told(work / "run")) > 60, 120)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=patient(120))
    assert process.returncode == 130 and err == "", err
    last = CheckpointManager(work / "run" / "checkpoints").steps()[-1]
    assert f"stopped; saved after step {last:,}." in out and last > 60
    assert len(steps_told(work / "run")) == last
    words[4] = f"phases.0.steps={last + 3}"  # the phase under way may end earlier
    code, out, _ = run(capsys, *words)
    assert code == 0 and f"goes on after step {last:,}" in out
    assert [row["step"] for row in steps_told(work / "run")] == list(range(1, last + 8))
