"""Shards of dialogs: masks go with their ids, windows never split a dialog, nothing gets lost."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.data.loader import StatefulDataLoader
from llama3lib.data.packing import whole_windows, window, window_count
from llama3lib.data.tokens import TokenShard, write_dialog_shard, write_token_shard
from llama3lib.tokenizer import EncodedDialog


def dialogs_of(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [
        EncodedDialog(rng.integers(1, 99, n).tolist(), (rng.random(n) < 0.5).tolist())
        for n in sizes
    ]


def written(folder, sizes, **options):
    options = {"vocab_size": 99, "overwrite": True} | options
    return write_dialog_shard(dialogs_of(sizes), folder, **options)


def test_round_trip(tmp_path):
    dialogs = dialogs_of([5, 2, 9])
    shard = written(tmp_path / "s", [5, 2, 9])
    assert shard.has_mask and shard.starts.tolist() == [0, 5, 7, 16]
    assert shard.tokens.tolist() == [i for d in dialogs for i in d.ids]
    assert shard.asked.tolist() == [on for d in dialogs for on in d.loss_mask]
    shard.verify()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=80))
def test_each_document_is_in_one_window_that_it_fits_in(sizes):
    sizes = np.asarray(sizes)
    windows = whole_windows(sizes, 20)
    assert sorted(itertools.chain(*(w.tolist() for w in windows))) == list(range(len(sizes)))
    used = [int(sizes[w].sum()) for w in windows]
    assert max(used) <= 20
    # no two windows could be one, or best fit would have made them one
    assert len(used) < 2 or sum(sorted(used)[:2]) > 20


def test_packing_is_nearly_full():
    sizes = np.random.default_rng(0).integers(10, 120, 4000)
    windows = whole_windows(sizes, 257)
    assert sizes.sum() / (257 * len(windows)) > 0.98


def test_a_window_written_out(tmp_path):
    whole = [EncodedDialog([7, 8, 9], [False, True, True]), EncodedDialog([5, 6], [False, True])]
    shard = write_dialog_shard(whole, tmp_path / "s", vocab_size=10)
    (count, packed) = window_count(shard, 5), window(shard, 0, 5)
    assert count == 1
    assert packed.tokens.tolist() == [7, 8, 9, 5, 6, 0]
    assert packed.document_ids.tolist() == [0, 0, 0, 1, 1, 2]
    assert packed.asked.tolist() == [False, True, True, False, True, False]
    batch = StatefulDataLoader({"s": shard}, batch_size=1, length=5).next()
    assert batch.targets.tolist() == [[8, 9, -100, 6, -100]]


def test_the_first_token_of_a_dialog_is_never_a_target(tmp_path):
    every = [EncodedDialog([n, n + 1], [True, True]) for n in range(1, 9)]
    shard = write_dialog_shard(every, tmp_path / "s", vocab_size=10)
    batch = StatefulDataLoader({"s": shard}, batch_size=2, length=7).next()
    asked = batch.targets != -100
    assert bool((asked.sum(1) == 4).all())
    assert torch.equal(batch.targets[asked], batch.inputs[asked] + 1)


def test_every_asked_token_is_a_target_once_in_an_epoch(tmp_path):
    sizes = np.random.default_rng(1).integers(2, 30, 100).tolist()
    shard = written(tmp_path / "s", sizes)
    loader = StatefulDataLoader({"s": shard}, batch_size=1, length=40)
    seen = []
    for _ in range(loader.windows["s"]):
        targets = loader.next().targets
        seen += targets[targets != -100].tolist()
    pairs = [zip(d.ids[1:], d.loss_mask[1:], strict=True) for d in dialogs_of(sizes)]
    wanted = [i for pair in pairs for i, on in pair if on]
    assert sorted(seen) == sorted(wanted)


def test_dialogs_go_together_with_texts(tmp_path):
    texts = write_token_shard(
        ["1 2 3 4 5 6 7 8"] * 4,
        lambda t: [*map(int, t.split())],
        tmp_path / "t",
        vocab_size=99,
        end=0,
    )
    sources = {"dialogs": written(tmp_path / "d", [5, 6, 7, 8]), "texts": texts}
    batch = StatefulDataLoader(sources, batch_size=4, length=8).next()
    for row, source in enumerate(batch.sources):
        assert bool(batch.asked[row].all()) == (source == "texts")


def test_a_dialog_that_is_too_long_is_named(tmp_path):
    shard = written(tmp_path / "s", [5, 12, 6])
    with pytest.raises(ValueError, match="dialog 1 has 12 tokens, a window of length 10 has room"):
        window_count(shard, 10)
    assert window_count(shard, 11) == 2


def test_masks_belong_to_what_a_run_was_begun_with(tmp_path):
    one = written(tmp_path / "a", [5, 5])
    flipped = [EncodedDialog(d.ids, [not on for on in d.loss_mask]) for d in dialogs_of([5, 5])]
    other = write_dialog_shard(flipped, tmp_path / "b", vocab_size=99)
    assert one.index["sha256"] == other.index["sha256"] and one.digest != other.digest


@pytest.mark.parametrize("damage", ["short", "flipped", "missing"])
def test_a_damaged_mask_is_noticed(tmp_path, damage):
    shard = written(tmp_path / "s", [5, 6])
    path = tmp_path / "s" / "asked.bin"
    raw = bytearray(path.read_bytes())
    raw[3] ^= 1
    {
        "short": lambda: path.write_bytes(raw[:-1]),
        "flipped": lambda: path.write_bytes(raw),
        "missing": path.unlink,
    }[damage]()
    with pytest.raises(ValueError, match=r"asked\.bin"):
        TokenShard(shard.folder).verify()


def test_dialogs_that_are_none_are_refused(tmp_path):
    for bad in ([], [EncodedDialog([1], [True])], [EncodedDialog([1, 2], [True])]):
        with pytest.raises(ValueError, match="dialog"):
            write_dialog_shard(bad, tmp_path / "s", vocab_size=9)
    with pytest.raises(ValueError, match="token 9"):
        write_dialog_shard([EncodedDialog([1, 9], [True] * 2)], tmp_path / "s", vocab_size=9)
    assert not (tmp_path / "s").exists()
