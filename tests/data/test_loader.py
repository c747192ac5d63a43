"""The loader: permutations, shares, resuming, and the same global batch for any ranks."""

import collections
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.data.loader import StatefulDataLoader, permuted
from llama3lib.data.tokens import write_token_shard

WEIGHTS = {"code": 0.17, "text": 0.55, "web": 0.28}


def shard_of(folder, first, windows, length=4):
    """A shard whose windows can be told apart by their first token."""
    texts = [" ".join(map(str, range(first, first + windows * length)))]
    encode = lambda text: [int(part) for part in text.split()]  # noqa: E731
    return write_token_shard(texts, encode, folder, vocab_size=100_000, end=0)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    sizes = {"code": 30, "text": 101, "web": 57}
    return {
        name: shard_of(folder / name, 1000 * n, size)
        for n, (name, size) in enumerate(sizes.items(), 1)
    }


def loader_of(sources, **options):
    options = {"batch_size": 16, "length": 4, "weights": WEIGHTS, "seed": 3} | options
    return StatefulDataLoader(sources, **options)


def rows_of(batch):
    return list(zip(batch.sources, batch.tokens.tolist(), strict=True))


def take(loader, count):
    return [rows_of(loader.next()) for _ in range(count)]


@pytest.mark.parametrize(
    ("key", "sizes"),
    [
        (0, range(1, 500)),
        (2**64 - 1, range(1, 2001, 53)),
        pytest.param(0, range(1, 2001), marks=pytest.mark.long),
        pytest.param(2**64 - 1, range(1, 2001, 7), marks=pytest.mark.long),
    ],
)
def test_permuted_is_a_permutation_exhaustively(key, sizes):
    for size in sizes:
        image = bytearray(size)
        for place in range(size):
            image[permuted(place, size, key + size)] = 1
        assert all(image)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(-(2**70), 2**70))
def test_permuted_with_any_key(size, key):
    assert sorted(permuted(place, size, key) for place in range(size)) == list(range(size))


def test_permuted_large_and_out_of_range():
    size = 10**12 + 7
    images = {permuted(place, size, 5) for place in range(2000)}
    assert len(images) == 2000 and all(0 <= image < size for image in images)
    for place in (-1, 10):
        with pytest.raises(ValueError, match=f"place={place}"):
            permuted(place, 10, 0)


def test_permuted_looks_random():
    size, keys = 64, 3000
    first = np.bincount([permuted(0, size, key * 7919) for key in range(keys)], minlength=size)
    chi = ((first - keys / size) ** 2 / (keys / size)).sum()
    assert chi < 63 + 6 * math.sqrt(2 * 63)  # chi-squared with 63 degrees of freedom
    line = [permuted(place, 1009, 1) for place in range(1009)]
    assert abs(np.corrcoef(range(1009), line)[0, 1]) < 0.15
    assert len({tuple(permuted(p, 10, key) for p in range(10)) for key in range(200)}) > 150


def test_every_window_comes_just_once_in_an_epoch(sources):
    loader = loader_of({"web": sources["web"]}, batch_size=5, weights=None)
    rows = [tuple(tokens) for batch in take(loader, 57) for _, tokens in batch]  # 5 epochs
    epochs = [rows[start : start + 57] for start in range(0, 285, 57)]
    assert all(len(set(epoch)) == 57 for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 5  # each in another order
    assert loader.epochs() == {"web": 5.0}


def test_every_source_is_read_epoch_by_epoch_in_a_mix(sources):
    loader = loader_of(sources)
    read = collections.defaultdict(list)
    for batch in take(loader, 60):
        for name, tokens in batch:
            read[name].append(tokens[0])
    for name, windows in loader.windows.items():
        assert loader.epochs()[name] == len(read[name]) / windows
        for start in range(0, len(read[name]) - windows, windows):
            assert len(set(read[name][start : start + windows])) == windows


def test_each_batch_has_its_shares_to_within_one_row(sources):
    for batch_size in (1, 2, 3, 16, 64):
        loader = loader_of(sources, batch_size=batch_size)
        total = collections.Counter()
        for step in range(400):
            picks = collections.Counter(loader.names[pick] for pick in loader.picks(step))
            assert sum(picks.values()) == batch_size
            for name, weight in WEIGHTS.items():
                assert abs(picks[name] - weight * batch_size) < 1 + 1e-9
            total += picks
        for name, weight in WEIGHTS.items():
            # a sum of 400 numbers that are within one row of their mean
            assert abs(total[name] - weight * batch_size * 400) < 4 * math.sqrt(400 / 4)


def test_sources_without_weight_are_never_read(sources):
    loader = loader_of(sources, weights={"code": 0, "text": 1, "web": 3})
    assert {name for batch in take(loader, 20) for name, _ in batch} == {"text", "web"}
    assert loader.weights == {"text": 0.25, "web": 0.75}


@pytest.mark.parametrize("ranks", range(1, 17))
def test_the_global_batch_is_the_same_for_any_number_of_ranks(sources, ranks):
    expected = take(loader_of(sources), 6)
    loaders = [loader_of(sources, rank=rank, ranks=ranks) for rank in range(ranks)]
    for batch in expected:
        parts = [rows_of(loader.next()) for loader in loaders]
        assert [parts[row % ranks][row // ranks] for row in range(16)] == batch
    assert len({json.dumps(loader.state_dict()) for loader in loaders}) == 1


def test_resume_at_any_step_and_with_other_ranks(sources):
    whole = loader_of(sources)
    states, batches = [], []
    for _ in range(25):
        states.append(json.loads(json.dumps(whole.state_dict())))
        batches.append(rows_of(whole.next()))
    for step, state in enumerate(states):
        ranks = 1 + step % 5
        parts = []
        for rank in range(ranks):
            loader = loader_of(sources, rank=rank, ranks=ranks)
            take(loader, step % 3)  # whatever was read before
            loader.load_state_dict(state)
            parts.append(rows_of(loader.next()))
            assert loader.step == step + 1
        assert [parts[row % ranks][row // ranks] for row in range(16)] == batches[step]


def test_a_state_is_no_view_of_the_loader(sources):
    loader = loader_of(sources)
    state = loader.state_dict()
    before = json.dumps(state)
    take(loader, 3)
    state["weights"]["code"] = 9
    assert loader.weights["code"] == pytest.approx(0.17)
    other = loader_of(sources)
    other.load_state_dict(json.loads(before))
    assert take(other, 1) == take(loader_of(sources), 1)


def test_changed_settings_are_refused(sources, tmp_path):
    state = loader_of(sources).state_dict()
    changes = {
        "seed": {"seed": 4},
        "batch_size": {"batch_size": 15},
        "length": {"length": 5},
        "weights": {"weights": WEIGHTS | {"web": 0.29}},
    }
    for name, change in changes.items():
        with pytest.raises(ValueError, match=f"^{name}="):
            loader_of(sources, **change).load_state_dict(state)
    longer = sources | {"web": shard_of(tmp_path / "longer", 5000, 58)}
    with pytest.raises(ValueError, match="^windows="):
        loader_of(longer).load_state_dict(state)
    others = sources | {"web": shard_of(tmp_path / "others", 5000, 57)}
    with pytest.raises(ValueError, match="^data="):
        loader_of(others).load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        {"step": None},
        {"step": -1},
        {"step": 2},
        {"step": "1"},
        {"drawn": None},
        {"drawn": [16]},
        {"drawn": [1, 2, 3]},
        {"seed": None},
    ],
)
def test_damaged_states_are_refused_and_change_nothing(sources, change):
    loader = loader_of(sources)
    loader.next()
    state = loader.state_dict()
    with pytest.raises(ValueError):
        loader.load_state_dict(state | change)
    with pytest.raises(ValueError):
        loader.load_state_dict({k: v for k, v in state.items() if k not in change})
    assert loader.state_dict() == state
    loader.load_state_dict(state)


def test_seeds_give_other_orders(sources):
    assert take(loader_of(sources), 3) != take(loader_of(sources, seed=4), 3)
    assert take(loader_of(sources), 3) == take(loader_of(sources), 3)


def test_shapes_and_iteration(sources):
    loader = loader_of(sources, rank=1, ranks=3)
    batch = next(iter(loader))
    assert batch.tokens.shape == batch.document_ids.shape == (5, 5)
    assert batch.inputs.shape == batch.targets.shape == (5, 4)
    assert batch.tokens.dtype == torch.int64 and len(batch.sources) == 5
    assert loader.step == 1


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"batch_size": 2, "ranks": 3},
        {"rank": 1},
        {"rank": -1},
        {"ranks": 0},
        {"length": 0},
        {"length": 10**6},
        {"seed": -1},
        {"seed": 2**64},
        {"weights": {}},
        {"weights": {"code": 1}},
        {"weights": WEIGHTS | {"more": 1}},
        {"weights": dict.fromkeys(WEIGHTS, 0)},
        {"weights": WEIGHTS | {"web": -0.1}},
        {"weights": WEIGHTS | {"web": math.nan}},
        {"weights": WEIGHTS | {"web": math.inf}},
    ],
)
def test_bad_settings_are_refused(sources, change):
    with pytest.raises(ValueError, match="|".join([*change, "a window needs"])):
        loader_of(sources, **change)


def test_no_sources_are_refused():
    with pytest.raises(ValueError, match="weights="):
        StatefulDataLoader({}, batch_size=1, length=1)
