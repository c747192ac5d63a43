"""What a run tells: lines that are not told twice, spikes, speed, and a band to compare with."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timing_tools import deadline
from train_tools import ARGS

from llama3lib.model.flops import flops_per_token
from llama3lib.train import metrics
from llama3lib.train.metrics import MetricLog, Speed, SpikeAlarm, peak_flops, read_metrics

LOSSES = st.floats(0, 20, allow_nan=False)


def steps(folder):
    return [row["step"] for row in read_metrics(folder)]


def test_every_line_is_there_as_soon_as_it_is_written(tmp_path):
    log = MetricLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, loss=step / 3)
        assert [row["loss"] for row in read_metrics(tmp_path)] == [
            n / 3 for n in range(1, step + 1)
        ]
    log.sync()
    log.flush()
    log.write(4, loss=0.1)  # after the file was closed
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3, 4]


def test_numbers_come_back_bit_by_bit(tmp_path):
    values = [0.1 + 0.2, 1e-323, math.pi, 1 / 3, 2.0**-60]
    log = MetricLog(tmp_path)
    for step, value in enumerate(values):
        log.write(step, loss=value)
    MetricLog(tmp_path, from_step=99)
    assert [row["loss"] for row in read_metrics(tmp_path)] == values


def test_what_is_no_number_is_null_in_the_file(tmp_path):
    log = MetricLog(tmp_path)
    log.write(1, loss=1.5, grad_norm=math.nan, phase="NaN")
    log.write(2, held_out_loss=math.inf)
    with open(log.path, "a") as file:
        file.write('{"step": 3, "loss": -Infinity}\n')  # of an older run
    MetricLog(tmp_path, from_step=3)
    text = log.path.read_text(encoding="utf-8")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert rows == list(read_metrics(tmp_path)) == [
        {"step": 1, "loss": 1.5, "grad_norm": None, "phase": "NaN"},
        {"step": 2, "held_out_loss": None},
        {"step": 3, "loss": None},
    ]  # fmt: skip


@pytest.mark.parametrize("step", range(6))
def test_going_on_takes_back_what_came_after(tmp_path, step):
    log = MetricLog(tmp_path)
    for n in range(1, 6):
        log.write(n, loss=n)
        log.write(n, held_out=n)
    again = MetricLog(tmp_path, from_step=step)
    assert steps(tmp_path) == [n for n in range(1, step + 1) for _ in range(2)]
    again.write(step + 1, loss=0)
    assert steps(tmp_path)[-1] == step + 1


def test_nothing_is_told_twice_of_one_step(tmp_path):
    log = MetricLog(tmp_path)
    log.write(1, loss=1.0)
    log.write(1, held_out=2.0)
    log.write(1, held_out=2.0)
    log.write(2, loss=1.0)
    log.write(2, held_out=3.0)
    again = MetricLog(tmp_path, from_step=2)
    again.write(2, held_out=3.0)
    again.write(2, gate="x")
    again.write(3, held_out=3.0)
    again.write(3, held_out=3.0)
    told = [(row["step"], list(row)[1]) for row in read_metrics(tmp_path)]
    assert told == [
        (1, "loss"), (1, "held_out"), (2, "loss"), (2, "held_out"), (2, "gate"), (3, "held_out"),
    ]  # fmt: skip


def test_lines_that_are_no_records_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = json.dumps({"step": 1, "loss": 2.5})
    path.write_bytes(f'{good}\n[1]\n{{"step": null}}\nx\n'.encode() + b"\xff\n" + good[:9].encode())
    assert list(read_metrics(tmp_path)) == [{"step": 1, "loss": 2.5}]
    assert list(read_metrics(tmp_path / "nothing")) == []


def test_tensorboard_hides_only_what_will_be_told_again(tmp_path):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = MetricLog(tmp_path, tensorboard=True)
    for step in range(1, 7):
        log.write(step, loss=float(step), phase="one", spike=False)
    log.flush()
    again = MetricLog(tmp_path, from_step=4, tensorboard=True)
    again.write(5, loss=50.0)
    again.flush()
    events = loading.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss"]
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert found == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 50.0}


def test_a_missing_tensorboard_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'llama3lib\[train\]'"):
        MetricLog(tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def alarmed(losses, **options):
    alarm = SpikeAlarm(**options)
    return [alarm.is_spike(loss) for loss in losses]


def middle_of(values):
    ranked, half = sorted(values), len(values) // 2
    return ranked[half] if len(values) % 2 else (ranked[half - 1] + ranked[half]) / 2


@settings(max_examples=200, deadline=None)
@given(st.lists(LOSSES, max_size=40), st.integers(1, 12), st.floats(0.5, 20), st.floats(0.01, 2))
def test_spikes_are_those_of_the_rule_by_hand(losses, window, factor, least):
    wanted = []
    for n, loss in enumerate(losses):
        last = losses[max(0, n - window) : n]
        middle = middle_of(last) if len(last) == window else math.inf
        spread = 1.4826 * middle_of([abs(one - middle) for one in last]) if last else 0.0
        wanted.append(loss > middle + max(least, factor * spread))
    assert alarmed(losses, window=window, factor=factor, least=least) == wanted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(2.0, 2.1), min_size=64, max_size=100), st.floats(0.3, 1e6))
def test_a_jump_is_a_spike_a_fall_and_noise_are_none(losses, jump):
    assert not any(alarmed(losses))
    limit = max(0.2, 8 * 1.4826 * 0.1)
    assert alarmed([*losses, 2.1 + limit + jump])[-1]
    assert not alarmed([*losses, 0.0])[-1]
    assert not alarmed([*losses, 2.15])[-1]


@settings(max_examples=50, deadline=None)
@given(st.lists(LOSSES, max_size=150), st.integers(0, 150))
def test_an_alarm_that_goes_on_says_the_same(losses, cut):
    whole = SpikeAlarm()
    first = [whole.is_spike(loss) for loss in losses[:cut]]
    again = SpikeAlarm(json.loads(json.dumps(list(whole.losses))))
    rest = [again.is_spike(loss) for loss in losses[cut:]]
    assert first + rest == alarmed(losses)


def test_one_spike_does_not_raise_the_limit_for_the_next():
    quiet = [2.0 + 0.01 * (n % 5) for n in range(64)]
    assert alarmed([*quiet, 9.0, 2.0, 9.0])[-3:] == [True, False, True]


def test_speed_and_share_of_the_peak(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: now[0])
    speed = Speed(ARGS, 1e9)
    now[0] += 2.0
    told = speed.measure(1000, 16)
    assert told["tokens_per_s"] == 500.0
    # 6 FLOPs for each weight in a product, and causal attention's 6 * width * (length + 1) a layer
    products = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32 + 256 * 16
    flops = 6 * products + 6 * 16 * 17
    assert flops == flops_per_token(ARGS, 16).training
    assert told["mfu"] == round(500 * flops / 1e9, 4) > 0.01
    now[0] += 5.0
    speed.restart()  # an evaluation, say
    now[0] += 0.5
    assert speed.measure(1000, 16)["tokens_per_s"] == 2000.0
    assert Speed(ARGS, None).measure(10, 16).keys() == {"tokens_per_s"}


def test_the_measured_peak_is_what_products_reach():
    with deadline(5):
        peak = peak_flops(torch.device("cpu"), torch.float32)
    assert 1e8 < peak < 1e14
