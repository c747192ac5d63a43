"""The loop: phases, rates, data, averages, gates, speed of what it tells; all on tiny runs."""

import collections
import dataclasses
import math

import pytest
import torch
from train_tools import (
    ARGS,
    changed,
    drawn_model,
    phase,
    recipe,
    same,
    shard_of,
    sources,
    steps_told,
    stored,
    told,
    weights,
)

from llama3lib.checkpoint import CheckpointManager
from llama3lib.data.loader import StatefulDataLoader
from llama3lib.data.packing import window_count
from llama3lib.train import StoppedError, Trainer, TrainResult, planned_rates, read_metrics
from llama3lib.train import trainer as module


@dataclasses.dataclass
class Report:
    score: float
    passed: bool


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("shards"), "abc")


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch):
    monkeypatch.setattr(module, "peak_flops", lambda device, dtype: 1e12)


def watched(monkeypatch):
    """The batches that a trainer takes, as they come."""
    seen, train_step = [], module.train_step

    def step(model, optimizer, batch, **options):
        seen.append(batch)
        return train_step(model, optimizer, batch, **options)

    monkeypatch.setattr(module, "train_step", step)
    return seen


def test_what_a_run_tells_and_leaves(shards, tmp_path):
    config = recipe(phase("one", 4), phase("two", 3, 4, 16, rate="constant"), keep_last=2)
    seen = []
    result = Trainer(config, shards, tmp_path, evaluate=lambda m: {"loss_there": 1.5}).fit(
        lambda record: seen.append(record)
    )
    rows = steps_told(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert [row["phase"] for row in rows] == ["one"] * 4 + ["two"] * 3
    assert [row["tokens"] for row in rows] == [32, 64, 96, 128, 192, 256, 320]
    assert [record for record in read_metrics(tmp_path) if "loss" in record] == seen
    assert {"tokens_per_s", "mfu", "memory"} <= seen[0].keys()
    assert isinstance(result, TrainResult)
    assert (result.steps, result.tokens, result.loss) == (7, 320, rows[-1]["loss"])
    assert (result.spikes, result.averaged) == (0, {})
    # step 4 is the end of a phase and a step to evaluate at: told once; step 7 is the end
    assert [row["step"] for row in told(tmp_path) if "loss_there" in row] == [4, 7]
    manager = CheckpointManager(tmp_path / "checkpoints")
    assert manager.steps() == [6, 7]
    assert same(manager.load_tensors(7, "model"), weights(result.model))
    assert (tmp_path / "config.json").is_file()
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_rates_are_those_that_were_planned(shards, tmp_path):
    config = recipe(
        phase("a", 5),
        phase("b", 4, rate="constant"),
        phase("c", 4, rate="anneal"),
        optimizer={"warmup": 3, "decay_steps": 12, "minimum": 1e-3},
    )
    Trainer(config, shards, tmp_path).fit()
    assert [row["lr"] for row in steps_told(tmp_path)] == planned_rates(config)


def test_micro_batches_change_nothing_but_rounding(shards, tmp_path):
    config = recipe(phase(steps=5, batch_size=5))
    rows = []
    for micro_batch, parts in ((None, 1), (1, 5), (2, 3), (5, 1), (99, 1)):
        folder, passes = tmp_path / f"{micro_batch}", []
        trainer = Trainer(changed(config, micro_batch=micro_batch), shards, folder)
        trainer.model.register_forward_hook(lambda *_, to=passes: to.append(1))
        trainer.fit()
        assert len(passes) == 5 * parts
        rows.append([row["loss"] for row in steps_told(folder)])
    assert rows[0] == rows[3] == rows[4]
    for other in rows[1:3]:
        assert other == pytest.approx(rows[0], rel=2e-5)


def test_checkpointing_changes_no_bit_of_a_run(shards, tmp_path):
    config = recipe(phase(steps=5))
    ends = [
        Trainer(changed(config, checkpointing=on), shards, tmp_path / str(on)).fit()
        for on in (False, True)
    ]
    assert same(*(weights(end.model) for end in ends))


def test_bfloat16_runs_close_to_float32(shards, tmp_path):
    config = recipe(phase(steps=6))
    for precision in ("float32", "bfloat16"):
        Trainer(changed(config, precision=precision), shards, tmp_path / precision).fit()
    exact, rough = (
        [row["loss"] for row in steps_told(tmp_path / name)] for name in ("float32", "bfloat16")
    )
    assert rough != exact and rough == pytest.approx(exact, rel=5e-3)


def test_no_window_comes_twice_in_an_epoch_across_a_batch_ramp(tmp_path, monkeypatch):
    shards = {
        name: shard_of(tmp_path / name, [f"{name}{n:05d}xxxxxxxx" for n in range(size)])
        for name, size in {"a": 40, "b": 25}.items()
    }
    length = 15  # as many as a document: each window can be told by its text
    counts = {name: window_count(shard, length) for name, shard in shards.items()}
    parts = [phase(f"p{n}", 7, n, length, mix={"a": 2.0, "b": 1.0}) for n in (1, 2, 3, 5)]
    parts.insert(2, phase("other", 5, 3, 30))  # another length between them counts apart
    seen = watched(monkeypatch)
    config = recipe(*parts, optimizer={"warmup": 2, "decay_steps": 80})
    Trainer(config, shards, tmp_path / "run").fit()
    read = collections.defaultdict(list)
    for batch in seen:
        if batch.inputs.shape[1] == length:
            for name, row in zip(batch.sources, batch.tokens.tolist(), strict=True):
                read[name].append(tuple(row[:length]))
    assert sum(map(len, read.values())) == 7 * (1 + 2 + 3 + 5)
    for name, rows in read.items():
        assert len(rows) > counts[name] / 2
        for start in range(0, len(rows), counts[name]):
            epoch = rows[start : start + counts[name]]
            assert len(set(epoch)) == len(epoch)
    assert len(read["a"]) > counts["a"]  # a second epoch was begun


def test_a_mix_that_changes_gives_the_shares_asked_for(shards, tmp_path, monkeypatch):
    seen = watched(monkeypatch)
    mixes = [{"a": 1.0}, {"a": 0.5, "b": 0.5}, None, {"b": 0.25, "c": 0.75}]
    parts = [phase(f"p{n}", 10, 4, 16, mix=mix) for n, mix in enumerate(mixes)]
    Trainer(recipe(*parts, names="abc"), shards, tmp_path).fit()
    per_phase = [
        collections.Counter(name for batch in seen[10 * n : 10 * n + 10] for name in batch.sources)
        for n in range(4)
    ]
    assert per_phase == [{"a": 40}, {"a": 20, "b": 20}, {"a": 20, "b": 20}, {"b": 10, "c": 30}]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_share_the_batches_of_one_trainer(shards, tmp_path, monkeypatch, ranks):
    """Each rank's loader, begun in the second phase with what was drawn before."""
    seen = watched(monkeypatch)
    config = recipe(phase("one", 4, 3, 16), phase("two", 5, 7, 16))
    Trainer(config, shards, tmp_path).fit()
    mine = {name: shards[name] for name in "ab"}
    first = StatefulDataLoader(mine, batch_size=3, length=16, seed=config.seed)
    for _ in range(4):
        first.next()
    loaders = [
        StatefulDataLoader(
            mine, batch_size=7, length=16, seed=config.seed, first_step=4, drawn=first.drawn(),
            rank=rank, ranks=ranks,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    for batch in seen[4:]:
        parts = [loader.next() for loader in loaders]
        rows = [parts[row % ranks].tokens[row // ranks] for row in range(7)]
        assert torch.equal(torch.stack(rows), batch.tokens)


def test_positions_of_all_phases_so_far(shards, tmp_path):
    config = recipe(
        phase("short", 2, 2, 16),
        phase("long", 2, 1, 64, rope_theta=1e6),
        phase("last", 2, 2, 32),
    )
    trainer = Trainer(config, shards, tmp_path)
    seen = []
    trainer.fit(lambda record: seen.append((trainer.model.args, len(trainer.model.freqs_cis))))
    assert [rows for _, rows in seen] == [32, 32, 64, 64, 64, 64]
    assert [args.rope_theta for args, _ in seen] == [5e5] * 2 + [1e6] * 4
    assert [args.max_seq_len for args, _ in seen] == [32, 32, 64, 64, 64, 64]


def test_averages_are_means_of_the_weights_of_their_steps(shards, tmp_path):
    config = recipe(phase("main", 4), phase("anneal", 7, rate="anneal", average_every=2))
    trainer, kept = Trainer(config, shards, tmp_path), []
    result = trainer.fit(
        lambda record: record["step"] in (6, 8, 10) and kept.append(weights(trainer.model))
    )
    assert result.averaged.keys() == {"anneal"}
    for name, mean in result.averaged["anneal"].items():
        wanted = sum(one[name].double() for one in kept) / 3
        torch.testing.assert_close(mean, wanted.float(), atol=0, rtol=0)
    assert same(trainer.averaged("anneal"), result.averaged["anneal"])
    with pytest.raises(ValueError, match="phase='main'"):
        trainer.averaged("main")


def gated(**more):
    options = {"gate": True, "gate_every": 2, "most_steps": 9} | more
    return recipe(phase("long", 3, **options), phase("after", 2))


@pytest.mark.parametrize(("opens_at", "steps"), [(1, 3), (2, 5), (3, 7), (4, 9)])
def test_a_gate_is_asked_until_it_lets_through(shards, tmp_path, opens_at, steps):
    asked = []

    def gate(model, phase):
        assert not model.training and phase.name == "long"
        asked.append(len(steps_told(tmp_path)))
        return Report(len(asked) / 2, len(asked) >= opens_at)

    result = Trainer(gated(), shards, tmp_path, gate=gate).fit()
    assert asked == [3, 5, 7, 9][:opens_at]
    assert result.steps == steps + 2 and result.model.training
    rows = [row for row in told(tmp_path) if "gate" in row]
    assert [row["passed"] for row in rows] == [False] * (opens_at - 1) + [True]
    assert rows[-1] == {"step": steps, "score": opens_at / 2, "passed": True, "gate": "long"}


def test_a_gate_that_never_opens_stops_the_run_and_can_be_given_more_time(shards, tmp_path):
    config = gated()

    def trainer(config, answer):
        return Trainer(config, shards, tmp_path, gate=lambda m, p: Report(0.0, answer))

    with pytest.raises(StoppedError, match=r"'long' did not let .* 9 steps.*step 9 in "):
        trainer(config, False).fit()
    with pytest.raises(StoppedError):
        trainer(config, False).fit()
    assert len(steps_told(tmp_path)) == 9
    assert len([row for row in told(tmp_path) if "gate" in row]) == 4
    longer = changed(config, phases=(changed(config.phases[0], most_steps=12), config.phases[1]))
    with pytest.raises(StoppedError, match="in 12 steps"):
        trainer(longer, False).fit()
    assert trainer(longer, True).fit().steps == 14


def test_a_finished_run_computes_nothing_more(shards, tmp_path):
    config = recipe(phase(steps=4, length=64, average_every=2, rope_theta=1e4))
    first = Trainer(config, shards, tmp_path).fit()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")}
    again = Trainer(config, shards, tmp_path).fit(lambda record: pytest.fail("a step"))
    assert same(weights(again.model), weights(first.model))
    assert again.model.args == first.model.args  # the table of positions too
    assert torch.equal(again.model.freqs_cis, first.model.freqs_cis)
    assert same(again.averaged["main"], first.averaged["main"])
    assert (again.steps, again.tokens, again.loss) == (first.steps, first.tokens, first.loss)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").rglob("*")} == before
    assert len(steps_told(tmp_path)) == 4


def test_a_given_model_of_another_shape_is_refused(shards, tmp_path):
    with pytest.raises(ValueError, match="model is not allowed"):
        Trainer(recipe(), shards, tmp_path, model=drawn_model(ARGS.replace(ffn_dim=48)))
    tied = ARGS.replace(tie_embeddings=True)
    with pytest.raises(ValueError, match="model is not allowed"):
        Trainer(recipe(), shards, tmp_path, model=drawn_model(tied))


def test_tied_embeddings_train_as_one_matrix(shards, tmp_path):
    config = recipe(phase(steps=4), model=ARGS.replace(tie_embeddings=True))
    result = Trainer(config, shards, tmp_path / "whole").fit()
    assert result.model.output.weight is result.model.tok_embeddings.weight
    parts = changed(config, phases=(phase(steps=4, batch_size=2),))
    Trainer(parts, shards, tmp_path / "parts").fit()
    again = Trainer(parts, shards, tmp_path / "parts")
    assert again.model.output.weight is again.model.tok_embeddings.weight
    assert same(stored(tmp_path / "parts"), stored(tmp_path / "whole"))


def test_the_first_loss_is_that_of_a_model_that_knows_nothing(shards, tmp_path):
    Trainer(recipe(phase(steps=30, batch_size=4)), shards, tmp_path).fit()
    losses = [row["loss"] for row in steps_told(tmp_path)]
    assert losses[0] == pytest.approx(math.log(256), abs=0.05)
    assert losses[-1] < 3.6
