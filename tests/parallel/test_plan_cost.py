"""Predicted steps: Table 4 with one set of assumptions, sums by hand, and a complete search."""

import dataclasses
import tomllib
from itertools import product

import pytest

from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import flops_per_token
from llama3lib.paper import infrastructure as paper
from llama3lib.paper.herd import TOKENS
from llama3lib.parallel.cost import bill, step_cost
from llama3lib.parallel.hardware import STANDARD, Hardware, load_hardware
from llama3lib.parallel.layout import Layout
from llama3lib.parallel.planner import divisors, predict, search, table_4_layout

H100 = load_hardware()
ROWS = list(paper.TABLE_4.rows)


@pytest.fixture(scope="module")
def table():
    args = get_preset("405B")
    return {name: predict(args, *table_4_layout(name), H100) for name in ROWS}


def test_table_4_comes_out_with_one_set_of_assumptions(table):
    printed = paper.TABLE_4.column("TFLOPs/GPU")
    told = {name: plan.cost.tflops for name, plan in table.items()}
    assert told == pytest.approx(printed, rel=0.02)
    assert sorted(told, key=told.get) == sorted(printed, key=printed.get)
    for one, other in product(ROWS, ROWS):
        ratio = told[one] / told[other]
        assert ratio == pytest.approx(printed[one] / printed[other], abs=0.03)
    for name, plan in table.items():
        assert plan.cost.mfu(H100) == pytest.approx(paper.TABLE_4.cell(name, "MFU"), abs=0.01)
        assert plan.layout.gpus == paper.TABLE_4.cell(name, "GPUs")
        assert plan.layout.batch_sequences * paper.TABLE_4.cell(name, "sequence") == 2**24
        assert plan.memory.total < H100.room < 80e9


def test_the_fall_to_41_is_the_bubble_of_smaller_batches(table):
    """The paper's reason: a smaller batch for each replica at the same global batch (§3.3.2)."""
    first, second = (table[name].cost for name in ROWS[:2])
    assert second.bubble / second.seconds > 1.8 * first.bubble / first.seconds
    # without the bubble the two rows are alike, and nothing else falls by much
    busy = [c.flops / c.gpus / (c.seconds - c.bubble) for c in (first, second)]
    assert busy[1] / busy[0] == pytest.approx(1, abs=0.01)
    assert second.tflops / first.tflops < 0.95


def test_the_fall_to_38_is_attention_and_its_gathers(table):
    second, third = (table[name].cost for name in ROWS[1:])
    lost = third.attention * 0.5 / 3.5 + third.traffic["CP"].waits  # scores a second time; gathers
    assert third.bubble / third.seconds == pytest.approx(second.bubble / second.seconds, rel=0.01)
    assert third.flops / third.gpus / (third.seconds - lost) / 1e12 > second.tflops


def test_a_step_by_hand():
    """All links infinitely fast, all efficiency 1: FLOPs over the peak, and the bubble."""
    perfect = dataclasses.replace(
        H100,
        product_efficiency=1.0,
        attention_efficiency=1.0,
        server_gb_per_s=1e30,
        network_gb_per_s=1e30,
        server_latency_us=0.0,
        network_latency_us=0.0,
    )
    args = ModelArgs(dim=8, n_layers=4, n_heads=4, n_kv_heads=2, ffn_dim=16, vocab_size=32)
    flops = flops_per_token(args, 16)
    assert (flops.matrices, flops.attention) == (2 * (4 * 576 + 256), 2 * 4 * 8 * 17)
    peak = H100.peak_tflops * 1e12
    alone = step_cost(args, Layout(micro_batches=3, sequences=2), 16, perfect)
    assert alone.products == pytest.approx(96 * 3 * flops.matrices / peak)
    assert alone.attention == pytest.approx(96 * 3.5 * flops.attention / peak)
    assert alone.seconds == alone.products + alone.attention
    assert alone.flops == 96 * 3 * (flops.matrices + flops.attention)
    again = step_cost(args, Layout(micro_batches=3, sequences=2, recompute="full"), 16, perfect)
    assert again.recompute == pytest.approx(96 * (2 * 4 * 576 + flops.attention) / peak)
    piped = step_cost(args, Layout(pp=2, micro_batches=6), 16, perfect)
    block = 16 * (3 * 2 * 576 + 3.5 * 2 * 8 * 17) / peak
    head = 16 * 6 * 256 / peak
    assert piped.imbalance == pytest.approx(6 * head / 2)
    assert piped.bubble == pytest.approx(2 * block + head)  # of 6 micro-batches, 1/6
    many = step_cost(args, Layout(tp=2, cp=2, pp=2, dp=2, micro_batches=6), 16, perfect)
    assert many.seconds == pytest.approx(piped.seconds / 4)


def test_traffic_by_hand():
    args, slow = get_preset("8B"), dataclasses.replace(H100, link_efficiency=1.0)
    cost = step_cost(args, Layout(tp=8, cp=2, pp=2, dp=4, micro_batches=4), 8192, slow)
    stream, tokens = 4096 * 2, 4096
    tp, cp, pp, dp = (cost.traffic[name] for name in ("TP", "CP", "PP", "DP"))
    assert (tp.link, cp.link, pp.link, dp.link) == ("server", "network", "network", "network")
    assert tp.sent == 4 * 16 * 10 * stream * tokens * 7 / 8
    assert tp.waits == pytest.approx(4 * 16 * 8 * (stream * tokens * 7 / 8 / 450e9 + 7 * 3e-6))
    # one key/value head a rank, keys and values, of all 8,192 tokens; three times
    assert cp.sent == 4 * 16 * 3 * 2 * 128 * 2 * 8192 / 2
    assert pp.sent == 2 * 4 * stream * tokens / 8
    each = 16 * (218_103_808 / 8 + 8192) + 128_256 * 4096 / 8  # and the last norm on one of them
    assert dp.sent == pytest.approx((2 + 4) * each * 7 / 8, rel=1e-4)
    within = step_cost(args, Layout(tp=2, cp=2, dp=2, micro_batches=4), 8192, slow)
    assert {one.link for one in within.traffic.values()} == {"server"}
    sharded = step_cost(args, Layout(dp=8, micro_batches=4, reshard=True), 8192, slow)
    whole = step_cost(args, Layout(dp=8, micro_batches=4), 8192, slow)
    assert sharded.traffic["DP"].sent == pytest.approx(whole.traffic["DP"].sent * (16 + 4) / 6)


def test_gpu_hours_against_the_model_card(table):
    run = bill(table[ROWS[1]].cost, 2**24, TOKENS.value, H100)
    assert run.gpu_hours == pytest.approx(paper.GPU_HOURS.cell("GPU-hours", "405B"), rel=0.05)
    assert run.t_co2 == pytest.approx(paper.CO2_405B.value, rel=0.05)
    assert run.mwh == pytest.approx(run.gpu_hours * 0.7 / 1000)
    assert run.days == pytest.approx(run.gpu_hours / 16_384 / 24) and run.price == 0
    dear = dataclasses.replace(H100, price_per_gpu_hour=2.5, effective_time=0.45)
    assert bill(table[ROWS[1]].cost, 2**24, TOKENS.value, dear).price == 5 * run.gpu_hours


def test_the_hardware_file_has_the_papers_numbers():
    told = tomllib.loads(STANDARD.read_text(encoding="utf-8"))
    assert told["peak_tflops"] == paper.BF16_PEAK.value
    assert told["memory_gb"] == paper.GPU_MEMORY.value
    assert told["watts"] == paper.GPU_POWER.value
    assert told["gpus_per_server"] == paper.GPUS_PER_SERVER.value
    assert told["network_gb_per_s"] * 8 == paper.LINK_SPEED.value
    assert told["effective_time"] == paper.EFFECTIVE_TIME.value
    assert told["t_co2_per_mwh"] == paper.CO2_PER_MWH.value


def test_a_file_replaces_what_it_names(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nmemory_gb = 141\n')
    assert load_hardware(path) == dataclasses.replace(H100, name="mine", memory_gb=141.0)
    for text, named in (
        ("memory = 1", "did you mean 'memory_gb'"),
        ("watts = 0", "watts=0"),
        ("link_efficiency = 1.1", "link_efficiency=1.1"),
        ("product_efficiency = 0.0", "product_efficiency=0.0"),
        ("reserved_gb = 81", "reserved_gb=81"),
        ("power_overhead = 0.5", "power_overhead=0.5"),
        ("network_latency_us = nan", "number"),
        ("gpus_per_server = 1.5", "gpus_per_server=1.5"),
        ("[", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=named):
            load_hardware(path)


@pytest.mark.parametrize("gpus", [1, 4, 6])
def test_the_search_leaves_nothing_out(gpus):
    args = get_preset("tiny").replace(n_layers=4)
    found = [
        p.layout for p in search(args, gpus=gpus, sequence=64, batch_tokens=768, hardware=H100)
    ]
    every = set()
    numbers = range(1, 13)
    for tp, cp, pp, dp in product(range(1, gpus + 1), repeat=4):
        for v, m, size in product(range(1, 7), numbers, numbers):
            if tp * cp * pp * dp != gpus or dp * m * size != 12:
                continue
            for recompute in ("none", "selective", "full"):
                layout = Layout(
                    tp=tp,
                    cp=cp,
                    pp=pp,
                    dp=dp,
                    stages=v,
                    micro_batches=m,
                    sequences=size,
                    recompute=recompute,
                )
                try:
                    layout.check(args, 64)
                except ValueError:
                    continue
                every.add(layout)
    assert set(found) == every and len(found) == len(every)


def test_what_is_found_fits_and_is_ranked():
    found = search(
        get_preset("70B"),
        gpus=64,
        sequence=8192,
        batch_tokens=2**20,
        hardware=H100,
        fixed={"tp": 8, "recompute": "selective"},
    )
    assert found and {(p.layout.tp, p.layout.recompute) for p in found} == {(8, "selective")}
    assert all(p.memory.total <= H100.room and p.layout.gpus == 64 for p in found)
    assert [p.cost.seconds for p in found] == sorted(p.cost.seconds for p in found)


def test_the_papers_layout_is_the_best_for_long_sequences():
    best = search(
        get_preset("405B"),
        gpus=16_384,
        sequence=131_072,
        batch_tokens=2**24,
        hardware=H100,
        fixed={"sequences": 1},
    )[0].layout
    assert (best, 131_072) == table_4_layout(ROWS[2])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(gpus=0), "gpus=0"),
        (dict(gpus=7), "gpus=7"),
        (dict(batch_tokens=9000), "a multiple of sequence=8192, as 8192"),
        (dict(gpus=8), "none of .* fits into 76.0 GB; the least is .* GB with TP 8"),
        (dict(fixed={"tp": 3}), "gpus=64"),
        (dict(fixed={"tp": 0}), "tp=0"),
        (dict(fixed={"recompute": "some"}), "recompute='some'"),
    ],
)
def test_wrong_searches_are_refused(change, named):
    asked = dict(gpus=64, sequence=8192, batch_tokens=2**20, hardware=H100) | change
    with pytest.raises(ValueError, match=named):
        search(get_preset("405B" if change == dict(gpus=8) else "8B"), **asked)


def test_divisors():
    assert divisors(12) == [1, 2, 3, 4, 6, 12] and divisors(16) == [1, 2, 4, 8, 16]
    assert divisors(1) == [1]


def test_a_link_is_the_slowest_part():
    assert isinstance(H100, Hardware) and H100.link(8).name == "server"
    assert H100.link(9).name == "network"
    assert H100.link(16).bytes_per_second == 50e9 * 0.8
