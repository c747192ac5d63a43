"""What the comparisons of chapter 05 learn is what it says."""

import numpy as np
import pytest

from llama3lib.worlds import domains


@pytest.mark.parametrize("length", [64, 256])
def test_strings_repeat_with_their_period(length):
    for text in domains.repeated(20, length, seed=0):
        symbols = np.array([ord(symbol) for symbol in text])
        assert len(symbols) == length - 1 and symbols.max() < domains.SYMBOLS
        periods = [
            p for p in range(length // 8, length // 2 + 1) if (symbols[p:] == symbols[:-p]).all()
        ]
        assert periods


def test_copy_windows_hold_one_string_each(tmp_path):
    shards = domains.copy_shards(tmp_path, (64, 128))
    for length in (64, 128):
        shard = shards[f"copy-{length}"]
        assert set(np.diff(shard.starts)) == {length}
        assert (shard.tokens[length - 1 :: length] == domains.SYMBOLS).all()


def test_texts_to_measure_on_are_others(tmp_path):
    shards = domains.text_shards(tmp_path)
    for kind in ("general", "maths"):
        train, test = shards[kind], shards[f"{kind}-test"]
        seen = {bytes(train.document(n)) for n in range(train.index["documents"])}
        fresh = [bytes(test.document(n)) not in seen for n in range(test.index["documents"])]
        assert sum(fresh) > 0.9 * len(fresh)
