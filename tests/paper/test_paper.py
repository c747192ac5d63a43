"""The paper's numbers: derived ones are derived again, sources are named, claims are proven."""

import math

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
    results,
    scaling,
    training,
)


def test_every_entry_names_its_source():
    entries = dict(all_facts())
    assert len(entries) >= 90
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


def test_compute():
    six_nd = 6 * architecture.TOTALS.cell("total", "405B") * herd.TOKENS.value
    assert abs(six_nd / herd.FLOPS.value - 1) < 0.01
    figure = scaling.COEFFICIENT_FIGURE.value * herd.FLOPS.value**scaling.EXPONENT_FIGURE.value
    printed = scaling.COEFFICIENT.value * herd.FLOPS.value**scaling.EXPONENT.value
    target = scaling.OPTIMAL_TOKENS.value
    assert abs(figure / target - 1) < 0.03 and printed / target < 0.7


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


def test_wins_of_the_405b_in_table_2():
    wins = {
        "GPT-4 (0125)": (14, 1, 1),
        "GPT-4o": (9, 7, 0),
        "Claude 3.5 Sonnet": (8, 6, 1),
        "Nemotron 4 340B": (10, 0, 0),
    }
    for rival, want in wins.items():
        assert results.wins(results.TABLE_2, "Llama 3 405B", rival) == want


@pytest.mark.parametrize(
    "row, questions",
    [("HumanEval", 164), ("GSM8K", 1319), ("MATH", 5000), ("ARC-C", 1172), ("MBPP", 500)],
)
def test_printed_intervals_follow_the_formula(row, questions):
    for model, score in results.BASE_MODELS.row(row).items():
        if score is not None and model.startswith("Llama"):
            share = score / 100
            half = 196 * math.sqrt(share * (1 - share) / questions)
            assert abs(half - results.BASE_INTERVALS.cell(row, model)) <= 0.06


@pytest.mark.parametrize("claim", claims.ARCHITECTURE, ids=lambda claim: claim.claimed[:30])
def test_claims_are_settled_by_their_proof(claim):
    assert claim.proof() is True and claim.section and claim.truth


@pytest.mark.parametrize("found", contradictions.ALL, ids=lambda c: f"{c.where} {c.printed}")
def test_contradictions_are_real(found):
    assert found.holds()


def test_names_that_do_not_exist_are_told_with_those_that_do():
    with pytest.raises(ValueError, match="column='7B'.*8B, 70B, 405B"):
        architecture.TABLE_3.cell("layers", "7B")
    with pytest.raises(ValueError, match="row='depth'.*layers"):
        architecture.TABLE_3.row("depth")
    with pytest.raises(ValueError, match="reliability='rumour'"):
        Fact(1, "", "§1", "rumour")
    with pytest.raises(ValueError, match="row 'a' has 1 values for 2 columns"):
        Table(title="t", section="§1", columns=("x", "y"), rows={"a": (1,)})
    assert architecture.TABLE_3.to_records()[0] == {"": "layers", "8B": 32, "70B": 80, "405B": 126}
    assert str(herd.TOKENS) == "15,600,000,000,000 tokens"
