"""Token shards and windows against naive versions; damaged and foreign shards."""

import json
import random
import shutil

import numpy as np
import pytest
import torch

from llama3lib.data.loader import Batch
from llama3lib.data.packing import window, window_count
from llama3lib.data.tokens import TokenShard, write_token_shard

END = 7


def ids_of(text):
    return [int(part) for part in text.split()]


def rows_of(rng, documents, vocab_size, longest=30):
    lengths = [rng.randint(0, longest) for _ in range(documents)]
    return [[rng.randrange(vocab_size) for _ in range(length)] for length in lengths]


def written(folder, rows, vocab_size=100, **options):
    texts = (" ".join(map(str, row)) for row in rows)
    return write_token_shard(texts, ids_of, folder, vocab_size=vocab_size, end=END, **options)


@pytest.mark.parametrize(
    ("vocab_size", "kind"), [(8, "<u2"), (1 << 16, "<u2"), ((1 << 16) + 1, "<u4"), (128_256, "<u4")]
)
def test_round_trip(tmp_path, vocab_size, kind):
    rows = rows_of(random.Random(0), 50, vocab_size) + [[vocab_size - 1, 0]]
    shard = written(tmp_path / "s", rows, vocab_size)
    assert shard.dtype == np.dtype(kind) and shard.index["documents"] == len(rows)
    flat = [token for row in rows for token in (*row, END)]
    assert shard.tokens.tolist() == flat and len(shard) == len(flat)
    for place, row in enumerate(rows):
        assert shard.document(place).tolist() == [*row, END]
    assert (tmp_path / "s" / "tokens.bin").stat().st_size == len(flat) * int(kind[-1])
    shard.verify()
    again = TokenShard(str(tmp_path / "s"))
    assert (again.tokens == shard.tokens).all() and again.index == shard.index


def test_the_same_texts_give_the_same_bytes(tmp_path):
    rows = rows_of(random.Random(1), 20, 100)
    for name in "ab":
        written(tmp_path / name, rows)
    for file in ("tokens.bin", "starts.npy", "index.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_shards_of_one_document_even_of_an_empty_one(tmp_path):
    assert written(tmp_path / "s", [[]]).tokens.tolist() == [END]


@pytest.mark.parametrize("token", [100, 70_000, -1, 2**40])
def test_ids_outside_of_the_vocabulary_leave_nothing(tmp_path, token):
    with pytest.raises(ValueError, match=f"token {token} is not allowed: 0 to 99"):
        written(tmp_path / "s", [[1, 2], [3, token]])
    assert not list(tmp_path.iterdir())


def test_nothing_is_half_written(tmp_path):
    def texts():
        yield "1 2"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_token_shard(texts(), ids_of, tmp_path / "s", vocab_size=9, end=END)
    with pytest.raises(ValueError, match="empty"):
        written(tmp_path / "s", [])
    assert not list(tmp_path.iterdir())
    old = written(tmp_path / "s", [[1]])
    with pytest.raises(ValueError, match="not empty"):
        written(tmp_path / "s", [[2]])
    with pytest.raises(ValueError, match="token 999"):
        written(tmp_path / "s", [[999]], overwrite=True)
    assert TokenShard(tmp_path / "s").index == old.index
    assert written(tmp_path / "s", [[2]], overwrite=True).tokens.tolist() == [2, END]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("end", [-1, 9, 10])
def test_the_end_must_be_a_token(tmp_path, end):
    with pytest.raises(ValueError, match=f"end={end}"):
        write_token_shard(["1"], ids_of, tmp_path / "s", vocab_size=9, end=end)


@pytest.fixture
def good(tmp_path):
    return written(tmp_path / "good", rows_of(random.Random(2), 12, 100))


def test_missing_and_truncated_files_are_refused(good):
    for name in ("tokens.bin", "starts.npy", "index.json"):
        path = good.folder / name
        raw = path.read_bytes()
        path.unlink()
        with pytest.raises(ValueError, match="cannot be read"):
            TokenShard(good.folder)
        for size in (0, 1, 9, len(raw) // 2, len(raw) - 2):
            path.write_bytes(raw[:size])
            with pytest.raises(ValueError, match="cannot be read"):
                TokenShard(good.folder)
        path.write_bytes(raw)
    TokenShard(good.folder).verify()


def test_every_flipped_byte_of_the_data_is_found(good):
    for name in ("tokens.bin", "starts.npy"):
        path = good.folder / name
        raw = path.read_bytes()
        for place in range(len(raw)):
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x41]) + raw[place + 1 :])
            with pytest.raises(ValueError):
                TokenShard(good.folder).verify()
        path.write_bytes(raw)
    TokenShard(good.folder).verify()


def test_starts_that_do_not_rise_are_found_without_checksums(good):
    right = np.load(good.folder / "starts.npy")
    for place, value in ((0, 1), (3, right[4] + 1), (3, right[2]), (-1, right[-1] - 1), (2, -5)):
        wrong = right.copy()
        wrong[place] = value
        np.save(good.folder / "starts.npy", wrong)
        with pytest.raises(ValueError, match="cannot be read"):
            TokenShard(good.folder)
    for wrong in (right[:-1], right.astype("<i4"), right.astype(float), right[None], right[0]):
        np.save(good.folder / "starts.npy", wrong)
        with pytest.raises(ValueError, match="cannot be read"):
            TokenShard(good.folder)


def test_foreign_and_hostile_files_are_refused(good, tmp_path):
    index = json.loads((good.folder / "index.json").read_text())
    changes = [
        {"format": "other"},
        {"format": 5},
        {"dtype": "<i2"},
        {"dtype": "O"},
        {"dtype": ["<u2"]},
        {"dtype": "<f2"},
        {"tokens": index["tokens"] + 1},
        {"tokens": str(index["tokens"])},
        {"documents": index["documents"] - 1},
        {"documents": None},
    ]
    for told in ["[]", "null", "3", "{}", *(json.dumps(index | change) for change in changes)]:
        (good.folder / "index.json").write_text(told)
        with pytest.raises(ValueError, match="cannot be read"):
            TokenShard(good.folder)
    (good.folder / "index.json").write_text(json.dumps(index))
    np.save(good.folder / "starts.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        TokenShard(good.folder)
    (good.folder / "starts.npy").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match="cannot be read"):
        TokenShard(good.folder)
    shutil.rmtree(good.folder)
    for place in (good.folder, tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match="cannot be read"):
            TokenShard(place)


def naive_windows(rows, length):
    """Windows worked out token by token from the documents."""
    stream = [(token, n) for n, row in enumerate(rows) for token in (*row, END)]
    for start in range(0, len(stream) - length, length):
        part = stream[start : start + length + 1]
        yield [token for token, _ in part], [n - part[0][1] for _, n in part]


@pytest.mark.parametrize("length", [1, 2, 5, 16, 100])
def test_windows_against_a_naive_loop(tmp_path, length):
    rows = rows_of(random.Random(length), 40, 100, longest=12)
    shard = written(tmp_path / "s", rows)
    expected = list(naive_windows(rows, length))
    assert window_count(shard, length) == len(expected)
    for place, (tokens, owners) in enumerate(expected):
        found = window(shard, place, length)
        assert found.tokens.tolist() == tokens and found.document_ids.tolist() == owners
        assert found.tokens.dtype == found.document_ids.dtype == np.int64


def test_targets_are_masked_just_at_borders(tmp_path):
    rows = rows_of(random.Random(5), 60, 100, longest=9)
    shard = written(tmp_path / "s", rows)
    for tokens, owners in naive_windows(rows, 16):
        batch = Batch(torch.tensor([tokens]), torch.tensor([owners]), ("s",))
        wanted = [
            tokens[i + 1] if owners[i + 1] == owners[i] else -100 for i in range(len(tokens) - 1)
        ]
        assert batch.targets.tolist() == [wanted] and batch.inputs.tolist() == [tokens[:-1]]
        # what is masked follows an end, and nothing else does
        assert all((t == -100) <= (i == END) for t, i in zip(wanted, tokens, strict=False))
    assert window_count(shard, 16) > 5


def test_places_and_lengths_that_do_not_exist(good):
    for length in (0, -1):
        with pytest.raises(ValueError, match="length="):
            window_count(good, length)
    with pytest.raises(ValueError, match="a window needs"):
        window_count(good, len(good))
    assert window_count(good, len(good) - 1) == 1
    for place in (-1, window_count(good, 4), 10**9):
        with pytest.raises(ValueError, match="place="):
            window(good, place, 4)
