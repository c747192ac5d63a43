"""The trainer against brute force and against `tokenizers`."""

import random
from collections import Counter

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from llama3lib.tokenizer import LLAMA3_PATTERN, ranks_from_merges, train_bpe
from llama3lib.tokenizer.bpe import count_words
from llama3lib.worlds import stories


@pytest.mark.parametrize("seed", range(8))
def test_every_merge_is_a_most_frequent_pair(seed):
    rng = random.Random(seed)
    texts = ["".join(rng.choice("aab c") for _ in range(60)) for _ in range(6)] + ["aaaaaaa aaa"]
    merges = train_bpe(texts, 256 + 40)
    assert replay(texts, merges) == len(merges) > 5


def replay(texts, merges):
    """Count every pair anew at each step and look whether the merge was a most frequent one."""
    words = {tuple(bytes([b]) for b in word): n for word, n in count_words(texts).items()}
    for done, pair in enumerate(merges):
        pairs = Counter()
        for word, n in words.items():
            for at in zip(word, word[1:], strict=False):
                pairs[at] += n
        assert pairs[pair] == max(pairs.values()), f"merge {done}: {pair}"
        merged = {}
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                hit = word[i : i + 2] == pair
                out.append(word[i] + word[i + 1] if hit else word[i])
                i += 2 if hit else 1
            merged[tuple(out)] = merged.get(tuple(out), 0) + n
        words = merged
    return len(merges)


def test_same_merges_as_tokenizers_until_the_first_tie():
    texts = [story for story, _ in zip(stories(3), range(400), strict=False)]
    ours = train_bpe(texts, 256 + 60)
    foreign = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_PATTERN), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    foreign.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    foreign.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=316, initial_alphabet=alphabet, show_progress=False)
    )
    theirs = {token for token, i in foreign.get_vocab().items() if i >= 256}
    mine = {(a + b).decode().replace(" ", "Ġ") for a, b in ours}
    # the counts are far apart in this text, so only the last merges could be ties
    assert len(mine & theirs) >= 58


def test_training_stops_when_nothing_is_left_and_reports_progress():
    seen = []
    merges = train_bpe(["ab ab"], 1000, progress=lambda done, of: seen.append((done, of)))
    assert merges == [(b"a", b"b"), (b" ", b"ab")]
    assert seen == [(1, 744), (2, 744)]
    assert ranks_from_merges(merges)[b" ab"] == 257


@pytest.mark.parametrize(
    "texts, size, pattern, words",
    [
        (["a"], 255, LLAMA3_PATTERN, "vocab_size=255"),
        (["a"], 300, "(", "not a regular expression"),
        ([b"a"], 300, LLAMA3_PATTERN, "bytes"),
    ],
)
def test_bad_input_is_named(texts, size, pattern, words):
    with pytest.raises(ValueError, match=words):
        train_bpe(texts, size, pattern=pattern)
