"""Every number marked "computed" about compute, scaling, the cluster and scores is computed."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama3lib.paper import (
    architecture,
    herd,
    inference,
    infrastructure,
    results,
    scaling,
    training,
)

FLOPS = herd.FLOPS.value
GPUS = infrastructure.GPUS.value


def digits(value, count):
    """The value rounded to so many digits."""
    return float(f"{value:.{count}g}")


def test_the_law_with_every_pair_of_digits():
    for name, (alpha, a, tokens, parameters) in scaling.LAW_TABLE.rows.items():
        got = scaling.optimal_tokens(FLOPS, alpha, a)
        assert round(got / 1e12, 2) == tokens, name
        assert round(FLOPS / 6 / got / 1e9) == parameters, name
    text, figure = scaling.LAW_TABLE.rows["text"], scaling.LAW_TABLE.rows["figure"]
    assert text[:2] == (scaling.EXPONENT.value, scaling.COEFFICIENT.value)
    assert figure[:2] == (scaling.EXPONENT_FIGURE.value, scaling.COEFFICIENT_FIGURE.value)
    top = scaling.LAW_TABLE.cell("upper corner of rounding", "tokens (T)")
    assert top < scaling.OPTIMAL_TOKENS.value / 1e12
    for name, want in scaling.AT_1E20.rows.items():
        alpha, a, *_ = scaling.LAW_TABLE.rows[name]
        tokens = scaling.optimal_tokens(1e20, alpha, a)
        assert (digits(tokens, 4), digits(1e20 / 6 / tokens, 4)) == want


def test_sums_around_the_law():
    slope = math.log(FLOPS)
    assert round(slope, 1) == scaling.SENSITIVITY.value
    assert round(math.exp(0.005 * slope) - 1, 2) == scaling.SHIFT_OF_ALPHA.value
    assert round(math.log10(FLOPS / scaling.BUDGETS.value[-1]), 2) == scaling.ORDERS.value
    assert (scaling.BUDGETS.value[0], scaling.BUDGETS.value[-1]) == scaling.BUDGET_ENDS.value
    assert len(scaling.BUDGETS.value) == 10
    n, d = scaling.OPTIMAL_PARAMETERS.value, scaling.OPTIMAL_TOKENS.value
    assert digits(6 * n * d, 3) == scaling.FLOPS_OF_OPTIMUM.value
    ratio = scaling.FLOPS_PER_PRODUCT
    assert round(FLOPS / n / d, 2) == ratio.cell("402B on 16.55T", "C / (N·D)")
    trained = herd.PARAMETERS.value * herd.TOKENS.value
    assert round(FLOPS / trained, 2) == ratio.cell("405B on 15.6T", "C / (N·D)")
    assert round(FLOPS / 6 / d / 1e9) == scaling.PARTNER.value / 1e9


def test_tokens_per_parameter_and_six_nd():
    column = scaling.TOKENS_PER_PARAMETER.column("tokens per parameter")
    small = herd.TOKENS_SMALL.value
    assert column["402B on 16.55T"] == round(16.55e12 / 402e9, 1)
    assert column["405B on 15.6T"] == round(herd.TOKENS.value / herd.PARAMETERS.value, 1)
    assert column["70B on 15T"] == round(small / 70e9)
    assert column["8B on 15T"] == small / 8e9
    assert scaling.TWENTY_TO_ONE.value == 20 * herd.PARAMETERS.value
    for name, (n, d, flops) in scaling.SIX_ND.rows.items():
        assert digits(6 * n * d, 3) == flops, name
        if name in architecture.SIZES:
            assert digits(n, 3) == digits(architecture.TOTALS.cell("total", name), 3)
    assert scaling.SIX_ND.cell("Llama 2 70B", "tokens") == herd.LLAMA_2_TOKENS.value
    before = scaling.SIX_ND.cell("Llama 2 70B", "FLOPs")
    assert round(FLOPS / before, 1) == scaling.TIMES_LLAMA_2.value
    assert abs(6 * architecture.TOTALS.cell("total", "405B") * 15.6e12 / FLOPS - 1) < 0.01


@given(st.floats(1e15, 1e30), st.floats(1.01, 100))
def test_the_law_is_a_power(flops, more):
    pair = scaling.EXPONENT_FIGURE.value, scaling.COEFFICIENT_FIGURE.value
    ratio = scaling.optimal_tokens(flops * more, *pair) / scaling.optimal_tokens(flops, *pair)
    assert math.isclose(ratio, more ** pair[0], rel_tol=1e-9)


@pytest.mark.parametrize("flops", [0, -1.0, math.nan])
def test_the_law_needs_a_budget(flops):
    with pytest.raises(ValueError, match="flops="):
        scaling.optimal_tokens(flops, 0.5, 0.3)


def test_the_cluster():
    pod = infrastructure.GPUS_PER_RACK.value * infrastructure.RACKS_PER_POD.value
    assert pod == infrastructure.GPUS_PER_POD.value
    assert pod * infrastructure.PODS.value == infrastructure.CLUSTER_GPUS.value
    servers = infrastructure.STORAGE_SERVERS.value
    each = infrastructure.STORAGE.value * 1000 / servers
    assert each == infrastructure.STORAGE_PER_SERVER.value
    whole = GPUS * infrastructure.CHECKPOINT_SIZE.value[1] / 1e12
    assert round(whole, 1) == infrastructure.CHECKPOINT_TOTAL.value
    slow, fast = (whole / speed for speed in infrastructure.STORAGE_SPEED.value)
    assert (round(slow), round(fast, 1)) == infrastructure.CHECKPOINT_SECONDS.value
    power = GPUS * infrastructure.GPU_POWER.value / 1e6
    assert round(power, 1) == infrastructure.GPUS_POWER.value


def test_table_4_against_the_peak():
    for name in infrastructure.TABLE_4.rows:
        row = infrastructure.TABLE_4.row(name)
        share = 100 * row["TFLOPs/GPU"] / infrastructure.BF16_PEAK.value
        told = infrastructure.TABLE_4_PEAK_SHARE.row(name)
        assert told == {
            "TFLOPs/989.4": round(share, 1),
            "printed MFU": round(100 * row["MFU"]),
        }
    row = infrastructure.TABLE_4.row("128K sequences")
    early = infrastructure.TABLE_4_ROW_3_DP_EARLY.value
    assert (row["DP"], early) == (8, 4)
    assert row["TP"] * row["CP"] * row["PP"] * early == row["GPUs"] / 2


def test_sums_of_parallelism():
    for v, m, bubble in infrastructure.BUBBLES.rows.values():
        assert digits(15 / (v * m), 2) == bubble
    parts = 16
    work = [sum(range(i * 64, (i + 1) * 64)) for i in range(parts)]
    assert round(work[-1] / work[0]) in (31, 32)  # the exact ratio tends to 31 for long sequences
    assert 2 * parts - 1 == infrastructure.CONTIGUOUS_SPLIT.value
    slots = architecture.TABLE_3.cell("layers", "405B") + len(infrastructure.END_CHUNKS.value)
    assert slots == infrastructure.STAGES_PER_RANK.value * 16  # with one layer in each other chunk
    total = architecture.TOTALS.cell("total", "405B")
    assert round(2 * total / 128 / 1e9, 2) == infrastructure.WEIGHTS_PER_GPU.value


def test_table_5_by_count_and_by_category():
    table, total = infrastructure.TABLE_5, infrastructure.UNEXPECTED.value
    for name, share in infrastructure.TABLE_5_BY_COUNT.column("count/419").items():
        row = table.row(name)
        assert share == round(100 * row["count"] / total, 1)
        assert (share == row["printed %"]) is (name != "Faulty GPU")
    assert set(infrastructure.TABLE_5_BY_COUNT.rows) == set(table.rows)
    rows = [table.row(name) for name in table.rows]
    for category, want in infrastructure.TABLE_5_CATEGORIES.rows.items():
        mine = [row for row in rows if row["category"] == category]
        count = sum(row["count"] for row in mine)
        printed = round(sum(row["printed %"] for row in mine), 1)
        assert (count, round(100 * count / total, 1), printed) == want
    assert set(table.column("category").values()) == set(infrastructure.TABLE_5_CATEGORIES.rows)
    printed = sum(table.column("printed %").values())
    assert round(printed, 1) == infrastructure.TABLE_5_PRINTED_SUM.value == 94.9
    by_column = infrastructure.TABLE_5_CATEGORIES.cell("GPU", "printed %")
    assert round(by_column / 100, 3) == infrastructure.GPU_SHARE_PRINTED.value


def test_rates():
    days, total = infrastructure.SNAPSHOT.value, infrastructure.UNEXPECTED.value
    hours, every = 24 * days, infrastructure.INTERRUPTIONS.value
    assert round(hours / total, 2) == infrastructure.HOURS_BETWEEN_UNEXPECTED.value
    assert round(hours / every, 2) == infrastructure.HOURS_BETWEEN_ANY.value
    assert round(total / days, 1) == infrastructure.UNEXPECTED_PER_DAY.value
    counts = infrastructure.TABLE_5_CATEGORIES.column("count")
    assert round(counts["GPU"] / days, 1) == infrastructure.GPU_ISSUES_PER_DAY.value
    assert round(counts["Network"] / days, 2) == infrastructure.NETWORK_ISSUES_PER_DAY.value
    assert round(days * GPUS / total / 365.25, 1) == infrastructure.YEARS_PER_GPU.value
    lost = (1 - infrastructure.EFFECTIVE_TIME.value) * hours * 60 / every
    assert round(lost, 1) == infrastructure.LOSS_PER_INTERRUPTION.value
    young = math.sqrt(2 * 2 * 60 * hours / total)
    assert round(young) == infrastructure.CHECKPOINT_EVERY.value


def test_cost():
    hours = infrastructure.GPU_HOURS.cell("GPU-hours", "405B")
    assert sum(infrastructure.GPU_HOURS.row("GPU-hours").values()) == (
        infrastructure.GPU_HOURS_TOTAL.value
    )
    assert round(hours / GPUS / 24, 1) == infrastructure.DAYS_OF_405B.value
    mean = FLOPS / hours / 3600 / 1e12
    assert round(mean) == infrastructure.MEAN_SPEED_OF_405B.value
    assert round(100 * mean / infrastructure.BF16_PEAK.value, 1) == 34.6
    assert round(FLOPS / (GPUS * 400e12) / 86_400, 1) == infrastructure.DAYS_AT_400.value
    seen = infrastructure.SNAPSHOT.value * 86_400 * GPUS * 400e12
    assert digits(seen, 3) == infrastructure.FLOPS_IN_SNAPSHOT.value
    assert infrastructure.CO2_405B.value < infrastructure.CO2.value
    energy = hours * infrastructure.GPU_POWER.value / 1e6
    each = infrastructure.CO2_405B.value / energy
    assert round(each, 4) == infrastructure.CO2_PER_MWH.value


def _steps(small, middle, large):
    first, second = training.BATCH_CHANGES.value
    before = first / small + (second - first) / middle
    steps = before + (herd.TOKENS.value - second) / large
    return steps, second + (training.DECAY_STEPS.value - before) * large


def _cosine(step):
    peak, last = training.PEAK_LEARNING_RATE.value, training.FINAL_LEARNING_RATE.value
    warm, end = training.WARM_UP.value, training.DECAY_STEPS.value
    return last + (peak - last) * (1 + math.cos(math.pi * (step - warm) / (end - warm))) / 2


def test_steps_of_the_recipe():
    decimal, decimal_tokens = _steps(*training.BATCH_TOKENS.value)
    binary, binary_tokens = _steps(4 * 2**20, 8 * 2**20, 16 * 2**20)
    assert math.ceil(decimal) == training.STEPS_FOR_ALL_TOKENS.value
    assert round(binary, -3) == training.STEPS_BINARY.value
    told = training.TOKENS_FOR_ALL_STEPS.value
    assert tuple(round(x / 1e11) * 10**11 for x in (decimal_tokens, binary_tokens)) == told
    ends = digits(_cosine(decimal), 2), digits(_cosine(binary), 2)
    assert ends == training.LEARNING_RATE_AT_END.value
    assert min(ends) > training.FINAL_LEARNING_RATE.value
    long = training.LONG_CONTEXT_TOKENS.value / (16 * 2**20)
    assert round(long, -3) == training.LONG_CONTEXT_STEPS.value
    sequences = training.ANNEALING_TOKENS.value / training.ANNEALING_CONTEXT.value
    assert round(sequences) == training.ANNEALING_SEQUENCES.value
    assert training.ANNEALING_STUDY_TOKENS.value == 1000 * training.ANNEALING_TOKENS.value
    peak = architecture.TABLE_3.cell("peak learning rate", "405B")
    assert training.PEAK_LEARNING_RATE.value == peak


@pytest.mark.parametrize("rival", results.TABLE_2_RECORD.rows)
def test_wins_of_the_405b_in_table_2(rival):
    want = results.TABLE_2_RECORD.rows[rival]
    assert results.wins(results.TABLE_2, "Llama 3 405B", rival) == want
    backwards = results.wins(results.TABLE_2, rival, "Llama 3 405B")
    assert backwards == (want[1], want[0], want[2])


def test_records_are_those_known():
    assert dict(results.TABLE_2_RECORD.rows) == {
        "GPT-4 (0125)": (14, 1, 1),
        "GPT-4o": (9, 7, 0),
        "Claude 3.5 Sonnet": (8, 6, 1),
        "Nemotron 4 340B": (10, 0, 0),
    }


def test_largest_leads():
    leads = {
        name: round(row["Llama 3 405B"] - row["GPT-4 (0125)"], 1)
        for name in results.TABLE_2.rows
        for row in [results.TABLE_2.row(name)]
    }
    top = sorted(leads, key=leads.get, reverse=True)[:5]
    told = results.TABLE_2_LEADS.column("lead")
    assert told == {name: leads[name] for name in [*top, "IFEval"]}


def test_table_2_is_complete():
    table = results.TABLE_2
    assert (len(table.rows), len(table.columns), len(table.marks)) == (16, 11, 4)
    gaps = [name for row in table.rows.values() for name in row if name is None]
    assert len(gaps) == 23
    assert all(isinstance(v, float) for row in table.rows.values() for v in row if v is not None)
    assert set(results.PARAMETERS_IN_NAME) | {"Mixtral 8x22B"} == results.OPEN_WEIGHTS
    assert set(table.columns) >= results.OPEN_WEIGHTS


@pytest.mark.parametrize("row", results.QUESTIONS.rows)
def test_printed_intervals_follow_the_formula(row):
    questions = results.QUESTIONS.cell(row, "questions")
    for model, score in results.BASE_MODELS.row(row).items():
        if score is not None:
            printed = results.BASE_INTERVALS.cell(row, model)
            # both numbers are rounded: half a digit of the interval, and of the score
            assert abs(results.interval(score, questions) - printed) <= 0.06, model


def test_intervals_stand_where_scores_stand():
    for row in results.BASE_INTERVALS.rows:
        for model, half in results.BASE_INTERVALS.row(row).items():
            assert (half is None) is (results.BASE_MODELS.cell(row, model) is None)
    assert set(results.BASE_MODELS.rows) - set(results.BASE_INTERVALS.rows) == {"MMLU", "MMLU-Pro"}


@given(st.floats(0, 100), st.integers(1, 10**6))
def test_an_interval_is_that_of_a_share(score, questions):
    half = results.interval(score, questions)
    deviation = 100 * math.sqrt(max(0, score / 100 - (score / 100) ** 2))
    assert math.isclose(half, 1.96 * deviation / math.sqrt(questions), abs_tol=1e-5)
    assert half <= 98 / math.sqrt(questions) + 1e-9


def test_an_interval_of_seen_answers():
    answers = [1] * 73 + [0] * 27
    spread = statistics.pstdev(answers)
    assert math.isclose(results.interval(73, 100), 196 * spread / 10)
    with pytest.raises(ValueError, match="score=101"):
        results.interval(101, 10)
    with pytest.raises(ValueError, match="questions=0"):
        results.interval(50, 0)


def test_the_sums_of_serving():
    from llama3lib.model import get_preset
    from llama3lib.model.flops import count_parameters

    args = get_preset("405B")
    count = count_parameters(args)
    assert round(count.feed_forward / count.total, 3) == inference.FFN_PARAMETERS.value
    quantised = count.feed_forward / args.n_layers * (args.n_layers - 2)  # not the first, the last
    assert round(quantised / 1e9, 1) == inference.FP8_PARAMETERS.value
    assert round(2 * count.total / 1e9, 1) == inference.BF16_GIGABYTES.value
    assert round((2 * count.total - quantised) / 1e9) == inference.FP8_GIGABYTES.value
    server = infrastructure.GPUS_PER_SERVER.value * infrastructure.GPU_MEMORY.value
    assert server == inference.SERVER_GIGABYTES.value < inference.BF16_GIGABYTES.value
    assert server * inference.PIPELINE_PARALLEL.value > inference.BF16_GIGABYTES.value
    assert round(inference.SCALE_BOUND.value / 448, 2) == inference.LARGEST_SCALE.value
