"""The paper's numbers: derived ones are derived again, sources are named, claims are proven."""

import dataclasses
import math
import subprocess
import sys

import pytest

from llama3lib.model import PRESETS, get_preset
from llama3lib.model.flops import count_parameters, kv_cache_bytes
from llama3lib.model.rope import rope_frequencies
from llama3lib.paper import (
    RELIABILITIES,
    Fact,
    Table,
    all_facts,
    architecture,
    claims,
    contradictions,
    herd,
    infrastructure,
    scaling,
    training,
)


def test_every_entry_names_its_source():
    entries = dict(all_facts())
    assert len(entries) >= 200
    for name, entry in entries.items():
        assert entry.reliability in RELIABILITIES, name
        assert entry.section and "(" in entry.cite(), name


@pytest.mark.parametrize("size", architecture.SIZES)
def test_the_presets_are_table_3(size):
    args, row = get_preset(size), architecture.TABLE_3
    assert args.n_layers == row.cell("layers", size)
    assert args.dim == row.cell("model dimension", size)
    assert args.ffn_dim == row.cell("FFN dimension", size)
    assert args.n_heads == row.cell("attention heads", size)
    assert args.n_kv_heads == row.cell("key/value heads", size)
    assert args.rope_theta == row.cell("RoPE theta", size)
    assert args.head_dim == architecture.HEAD_DIM.value
    assert args.queries_per_kv_head == architecture.QUERIES_PER_KV_HEAD.cell(
        "queries per KV head", size
    )


@pytest.mark.parametrize("size", architecture.SIZES)
def test_sizes_and_caches_follow_from_the_shapes(size):
    args, count = get_preset(size), count_parameters(get_preset(size))
    totals, cache = architecture.TOTALS, architecture.KV_CACHE
    assert count.total == totals.cell("total", size)
    assert count.embedding == totals.cell("embedding", size)
    assert count.attention == args.n_layers * totals.cell("attention per layer", size)
    assert count.feed_forward == args.n_layers * totals.cell("FFN per layer", size)
    layer = (count.total - 2 * count.embedding - args.dim) // args.n_layers
    assert layer == totals.cell("layer", size)
    assert round(count.share("feed_forward"), 3) == totals.cell("FFN share", size)
    assert round(count.share("attention"), 3) == totals.cell("attention share", size)
    assert kv_cache_bytes(args) == cache.cell("bytes per token", size)
    assert round(kv_cache_bytes(args, 8192) / 2**30, 2) == cache.cell("GiB at 8,192", size)
    assert kv_cache_bytes(args, 131_072) / 2**30 == cache.cell("GiB at 131,072", size)
    each = args.replace(n_kv_heads=args.n_heads)
    row = "GiB at 131,072 if each query head had its own"
    assert kv_cache_bytes(each, 131_072) / 2**30 == cache.cell(row, size)
    assert round(2 * count.total / 1e9, 1) == cache.cell("weights in GB", size)


def test_other_sizes():
    assert count_parameters(PRESETS["llama3.2-1b"]).total == architecture.TOTALS_3_2.cell(
        "total", "1B"
    )
    assert count_parameters(PRESETS["llama3.2-3b"]).total == architecture.TOTALS_3_2.cell(
        "total", "3B"
    )
    eight = get_preset("8B")
    tied = count_parameters(eight.replace(tie_embeddings=True)).total
    assert tied == architecture.TOTAL_8B_IF_TIED.value
    printed = count_parameters(eight.replace(vocab_size=128_000)).total
    assert printed == architecture.TOTAL_8B_PRINTED_VOCABULARY.value


def _parameters(shape, size, *, tied, vocabulary=128_256):
    """Total from the shapes alone, written a second time on purpose."""
    dim, kv = shape.cell("model dimension", size), shape.cell("key/value heads", size)
    heads = shape.cell("attention heads", size)
    head = shape.cell("head dimension", size) if "head dimension" in shape.rows else dim // heads
    attention = 2 * dim * heads * head + 2 * dim * kv * head
    feed_forward = 3 * dim * shape.cell("FFN dimension", size)
    layers = shape.cell("layers", size)
    embedding = vocabulary * dim
    total = layers * (attention + feed_forward + 2 * dim) + dim + embedding * (1 if tied else 2)
    return embedding, attention, feed_forward, total, layers * kv * head * 4


@pytest.mark.parametrize("size", architecture.SIZES_3_2)
def test_llama_3_2_follows_from_its_shapes(size):
    shape, totals = architecture.SHAPES_3_2, architecture.TOTALS_3_2
    embedding, attention, feed_forward, total, cache = _parameters(shape, size, tied=True)
    layers, dim = shape.cell("layers", size), shape.cell("model dimension", size)
    assert totals.cell("embedding", size) == embedding
    assert totals.cell("attention per layer", size) == attention
    assert totals.cell("FFN per layer", size) == feed_forward
    assert totals.cell("layer", size) == attention + feed_forward + 2 * dim
    assert totals.cell("total", size) == total
    assert totals.cell("FFN share", size) == round(layers * feed_forward / total, 3)
    assert totals.cell("attention share", size) == round(layers * attention / total, 3)
    card = architecture.CARD_TOTALS_3_2.cell("total", size)
    assert total // 10**7 * 10**7 == card  # the card cuts off: 1.2358B is printed as 1.23B
    kept = architecture.KV_CACHE_3_2
    assert kept.cell("bytes per token", size) == cache
    assert kept.cell("GiB at 8,192", size) == cache * 8192 / 2**30
    assert kept.cell("GiB at 131,072", size) == cache * 131_072 / 2**30
    groups = shape.cell("attention heads", size) // shape.cell("key/value heads", size)
    each = kept.cell("GiB at 131,072 if each query head had its own", size)
    assert each == groups * cache * 131_072 / 2**30
    assert kept.cell("weights in GB", size) == round(2 * total / 1e9, 2)


def test_the_three_sizes_without_the_model_code():
    want = {"8B": 8_030_261_248, "70B": 70_553_706_496, "405B": 405_853_388_800}
    for size, total in want.items():
        assert _parameters(architecture.TABLE_3, size, tied=False)[3] == total
        assert architecture.TOTALS.cell("total", size) == total
    cost = want["8B"] - architecture.TOTAL_8B_PRINTED_VOCABULARY.value
    assert cost == architecture.SPECIAL_TOKENS_COST_8B.value
    twice = want["405B"] + 126 * 2 * 16_384 * 8 * 128
    assert twice == architecture.TOTAL_405B_SPLIT_16.value


@pytest.mark.parametrize("size", architecture.FFN_RULE.rows)
def test_the_rule_gives_every_ffn_width(size):
    dims = {**architecture.TABLE_3.row("model dimension")}
    dims |= {f"3.2 {s}": architecture.SHAPES_3_2.cell("model dimension", s) for s in ("1B", "3B")}
    multiplier, multiple, want = architecture.FFN_RULE.rows[size]
    width = int(multiplier * int(2 * 4 * dims[size] / 3))
    assert -(-width // multiple) * multiple == want


def test_special_tokens_follow_the_ranks():
    ids = list(architecture.SPECIAL_TOKEN_IDS.column("id").values())
    assert ids == list(range(128_000, 128_012)) and ids[0] == architecture.RANKS.value
    assert architecture.RANKS.value + architecture.SPECIAL_TOKENS.value == 128_256
    assert architecture.VOCABULARY.value == 128_256
    for name in architecture.STOP_TOKENS.value:
        assert name in architecture.SPECIAL_TOKEN_IDS.rows
    more = architecture.CHARACTERS_PER_TOKEN.value / architecture.CHARACTERS_PER_TOKEN_LLAMA_2.value
    assert round(more - 1, 3) == architecture.CHARACTERS_GAINED.value
    seen = herd.TOKENS.value * architecture.CHARACTERS_PER_TOKEN.value
    assert round(seen / 1e12) * 10**12 == architecture.CHARACTERS_SEEN.value


def test_wavelengths_without_the_model_code():
    waves = [2 * math.pi * 5e5 ** (i / 64) for i in range(64)]
    low, high = architecture.ROPE_KEPT_BELOW.value, architecture.ROPE_DIVIDED_ABOVE.value
    context = architecture.ROPE_ORIGINAL_CONTEXT.value
    assert low == context / architecture.ROPE_HIGH_FREQ_FACTOR.value
    assert high == context / architecture.ROPE_LOW_FREQ_FACTOR.value
    between = {str(i): round(w) for i, w in enumerate(waves) if low <= w <= high}
    assert between == architecture.ROPE_BLENDED.column("wavelength")
    assert (29, 6, 29) == architecture.ROPE_KEPT_BLENDED_DIVIDED.value
    longest = architecture.ROPE_LONGEST_WAVELENGTH
    assert round(waves[-1], -4) == longest.cell("theta 500,000", "wavelength")
    old = 2 * math.pi * 1e4 ** (63 / 64)
    assert round(old) == longest.cell("theta 10,000", "wavelength")


def test_rope_and_tokenizer():
    scaling_ = get_preset("8B").rope_scaling
    assert scaling_.factor == architecture.ROPE_FACTOR.value
    ratio = rope_frequencies(128, 5e5) / rope_frequencies(128, 5e5, scaling_)
    kept, divided = int((ratio == 1).sum()), int((ratio > 7.9999).sum())
    assert (kept, 64 - kept - divided, divided) == architecture.ROPE_KEPT_BLENDED_DIVIDED.value
    assert PRESETS["llama3.2-1b"].rope_scaling.factor == architecture.ROPE_FACTOR_3_2.value
    saved = (
        1
        - architecture.CHARACTERS_PER_TOKEN_LLAMA_2.value / architecture.CHARACTERS_PER_TOKEN.value
    )
    assert round(saved, 3) == architecture.TOKENS_SAVED.value
    assert 16 * 8 - 2 == architecture.PIPELINE_SLOTS.value


def test_table_4_products_and_table_5_sums():
    table = infrastructure.TABLE_4
    for name in table.rows:
        row = table.row(name)
        assert row["TP"] * row["CP"] * row["PP"] * row["DP"] == row["GPUs"]
        tokens = row["DP"] * row["batch/DP"] * row["sequence"]
        assert abs(tokens / row["tokens/batch"] - 1) < 0.06
    rows = infrastructure.TABLE_5
    assert sum(rows.column("count").values()) == infrastructure.UNEXPECTED.value == 419
    assert infrastructure.PLANNED.value + 419 == infrastructure.INTERRUPTIONS.value
    hardware = 419 - sum(
        rows.cell(name, "count") for name in ("Software bug", "Network switch/cable", "Dependency")
    )
    assert round(hardware / 419, 2) == infrastructure.HARDWARE_SHARE.value
    assert 16 * 192 * 8 == (
        infrastructure.GPUS_PER_RACK.value
        * infrastructure.RACKS_PER_POD.value
        * infrastructure.PODS.value
    )


def test_training_sums():
    first, second = training.BATCH_CHANGES.value
    small, middle, large = training.BATCH_TOKENS.value
    assert first / small == training.FIRST_BATCH_STEPS.value
    assert training.ANNEALING_TOKENS.value / large == training.ANNEALING_STEPS.value
    steps = first / small + (second - first) / middle + (herd.TOKENS.value - second) / large
    assert abs(steps - training.STEPS_FOR_ALL_TOKENS.value) < 1
    assert steps < training.DECAY_STEPS.value


@pytest.mark.parametrize("claim", claims.ALL, ids=lambda claim: claim.claimed[:30])
def test_claims_are_settled_by_their_proof(claim):
    assert claim.proof() is True and claim.section and claim.truth


@pytest.mark.parametrize("found", contradictions.ALL, ids=lambda c: f"{c.where} {c.printed}")
def test_contradictions_are_real(found):
    assert found.check() is True and found.where and found.explanation


def test_a_contradiction_can_fail_its_check():
    right = contradictions.ALL[0]
    assert right.check()
    assert not dataclasses.replace(right, computed=35.2).check()
    assert not dataclasses.replace(right, printed=right.computed).check()


def test_a_claim_can_fail_its_proof(monkeypatch):
    stale = next(claim for claim in claims.ALL if "6,144" in claim.claimed)
    monkeypatch.setitem(claims.STALE_WIDTHS, "8B", (14_336, 8))
    assert stale.proof() is False


def test_the_paper_comes_without_torch():
    code = "import sys, llama3lib.paper, llama3lib.utils.files; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_tables_and_facts_cannot_be_written_to():
    with pytest.raises(TypeError):
        architecture.TABLE_3.rows["layers"] = (1, 2, 3)
    with pytest.raises(TypeError):
        architecture.TABLE_3.rows["layers"][0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        herd.TOKENS.value = 1
    rows = {"a": [1]}
    table = Table(title="t", section="§1", columns=("x",), rows=rows)
    rows["a"][0] = 2
    assert table.cell("a", "x") == 1


def test_every_public_number_is_found_by_name():
    entries = dict(all_facts())
    for module in (architecture, herd, infrastructure, scaling, training):
        short = module.__name__.rpartition(".")[2]
        for name, value in vars(module).items():
            if name.isupper() and not name.startswith("_") and isinstance(value, Fact | Table):
                assert entries[f"{short}.{name}"] is value


def test_names_that_do_not_exist_are_told_with_those_that_do():
    with pytest.raises(ValueError, match="column='7B'.*8B, 70B, 405B"):
        architecture.TABLE_3.cell("layers", "7B")
    with pytest.raises(ValueError, match="row='depth'.*layers"):
        architecture.TABLE_3.row("depth")
    with pytest.raises(ValueError, match="reliability='rumour'"):
        Fact(1, "", "§1", "rumour")
    with pytest.raises(ValueError, match="section=''"):
        Fact(1, "", "")
    with pytest.raises(ValueError, match="value=None"):
        Fact(None, "", "§1")
    with pytest.raises(ValueError, match="only once"):
        Table(title="t", section="§1", columns=("x", "x"), rows={})
    with pytest.raises(ValueError, match="row='b'"):
        Table(title="t", section="§1", columns=("x",), rows={"a": (1,)}, marks={("b", "x"): ""})
    with pytest.raises(ValueError, match="row 'a' has 1 values for 2 columns"):
        Table(title="t", section="§1", columns=("x", "y"), rows={"a": (1,)})
    assert architecture.TABLE_3.to_records()[0] == {"": "layers", "8B": 32, "70B": 80, "405B": 126}
    assert str(herd.TOKENS) == "15,600,000,000,000 tokens"
