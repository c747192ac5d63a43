"""The tokenizer against tiktoken, `tokenizers`, the released vocabulary, and 100,000 strings."""

import json
import random

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from llama3lib.checkpoint import load_tokenizer
from llama3lib.tokenizer import (
    LLAMA3_PATTERN,
    Tokenizer,
    ranks_from_merges,
    special_tokens,
    train_bpe,
)
from llama3lib.tokenizer.cutting import short_pieces
from llama3lib.tokenizer.hf_json import to_hf_json

TEXTS = [
    "Hello, world! It's 12345 o'clock.",
    "  two  spaces\tand\n\n\nlines ",
    "naïve café, 你好世界, привет, 🙂🙃 \u200d",
    "def f(x):\n    return x ** 2  # square\n",
    "<|eot_id|> and <|begin_of_text|> typed by a user",
    "",
]


@pytest.fixture(scope="module")
def small():
    return Tokenizer(ranks_from_merges(train_bpe(TEXTS * 3, 400)), name="small")


def test_special_tokens_stand_where_the_release_has_them():
    names = special_tokens(128_000)
    assert len(names) == 256 and min(names.values()) == 128_000 and max(names.values()) == 128_255
    assert names["<|begin_of_text|>"] == 128_000 and names["<|end_of_text|>"] == 128_001
    assert names["<|finetune_right_pad_id|>"] == 128_004 and names["<|eom_id|>"] == 128_008
    assert names["<|start_header_id|>"] == 128_006 and names["<|eot_id|>"] == 128_009
    assert names["<|python_tag|>"] == 128_010 and names["<|image|>"] == 128_011
    assert names["<|reserved_special_token_2|>"] == 128_012
    assert names["<|reserved_special_token_245|>"] == 128_255


def test_ids_are_tiktokens_and_give_the_text_back(small):
    plain = tiktoken.Encoding(
        "t", pat_str=LLAMA3_PATTERN, mergeable_ranks=small.mergeable_ranks, special_tokens={}
    )
    for text in TEXTS:
        ids = small.encode(text)
        assert ids == plain.encode_ordinary(text)
        assert small.decode(ids) == text
        assert small.encode(text, bos=True, eos=True) == [small.bos_id, *ids, small.eos_id]


def test_special_tokens_only_when_asked_for(small):
    text = "a<|eot_id|>b"
    assert small.eot_id not in small.encode(text)
    assert small.encode(text, allow_special=True) == [
        *small.encode("a"),
        small.eot_id,
        *small.encode("b"),
    ]
    assert small.decode(small.encode(text, allow_special=True)) == text


# pieces that special tokens are made of, so that look-alikes come up often
_ODD = [
    "<|",
    "|>",
    "eot_id",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<|reserved_special_token_7|>",
    "\r\n",
    " ",
    "'s",
]
_PLANES = [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]


def _random_text(rng):
    parts = []
    for _ in range(rng.randint(0, 6)):
        if rng.random() < 0.35:
            parts.append(rng.choice(_ODD))
        else:
            low, high = rng.choice(_PLANES)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 5))))
    return "".join(parts)


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**63), drawn=st.text(max_size=60))
def test_100_000_strings_round_trip_and_none_is_special(seed, drawn):
    tokenizer = load_tokenizer("tiny-base")
    rng = random.Random(seed)
    for text in [drawn, *(_random_text(rng) for _ in range(99))]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not any(map(tokenizer.is_special, ids))


@pytest.mark.parametrize("character", ["a", " ", "\n", "1", "é", "🙂", "-"])
def test_a_million_equal_characters(small, character):
    ids = small.encode(character * 1_000_000)
    assert small.decode(ids) == character * 1_000_000


def test_long_text_is_cut_only_where_it_must_be():
    words = "some words and more\n" * 40_000
    assert [len(piece) for piece in short_pieces(words)] == [400_000, 400_000]
    run = "x" * 60_000
    assert [len(piece) for piece in short_pieces("a b " + run + " c")] == [25_004, 25_000, 10_002]
    assert [len(p) for p in short_pieces(" " * 25_001)] == [25_000, 1]
    assert [len(p) for p in short_pieces("x" * 24_999 + " " + "y" * 24_999)] == [49_999]


def test_streaming_gives_whole_characters_only(small):
    decoder = small.stream_decoder()
    pieces = [decoder.push(i) for i in small.encode("🙂é")]
    assert "".join(pieces) + decoder.flush() == "🙂é"
    assert all("\ufffd" not in piece for piece in pieces) and "" in pieces
    half = small.stream_decoder()
    assert half.push(small.encode("🙂")[0]) == "" and half.flush() == "\ufffd"


@pytest.mark.parametrize(
    "text, words", [("a\ud800b", r"U\+D800.*character 1"), (b"bytes", "bytes"), (None, "NoneType")]
)
def test_text_that_is_no_text_is_refused(small, text, words):
    with pytest.raises(ValueError, match=words):
        small.encode(text)


@pytest.mark.parametrize("bad", [-1, 10**6, "x", None])
def test_unknown_ids_are_refused(small, bad):
    with pytest.raises(ValueError, match="not in the vocabulary"):
        small.decode([bad])


def test_files_of_both_kinds_give_the_same_tokenizer(small, tmp_path):
    small.save(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.json").write_text(json.dumps(to_hf_json(small)), encoding="utf-8")
    for file in ("tokenizer.model", "tokenizer.json"):
        again = Tokenizer.from_file(tmp_path / file)
        assert again.special_tokens == small.special_tokens
        assert all(again.encode(text) == small.encode(text) for text in TEXTS)
    foreign = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    foreign.encode_special_tokens = True
    rng = random.Random(0)
    for text in [*TEXTS, *(_random_text(rng) for _ in range(2000))]:
        assert foreign.encode(text, add_special_tokens=False).ids == small.encode(text), text


@pytest.mark.parametrize("name", ["small", "bytes"])
def test_a_written_tokenizer_reads_a_prompt_as_we_do(small, name):
    """Begin-of-text in front of a text and of each of a pair, special tokens where they are on."""
    ours = small if name == "small" else Tokenizer.of_bytes()
    foreign = tokenizers.Tokenizer.from_str(json.dumps(to_hf_json(ours)))
    assert all(foreign.token_to_id(token) == i for token, i in ours.special_tokens.items())
    rng = random.Random(2)
    texts = [*TEXTS, *(_random_text(rng) for _ in range(1000))]
    for text, other in zip(texts, texts[1:], strict=False):
        ids = ours.encode(text, bos=True, allow_special=True)
        assert foreign.encode(text).ids == ids, text
        both = ids + ours.encode(other, bos=True, allow_special=True)
        assert foreign.encode(text, other).ids == both, (text, other)


def test_bytes_hold_every_text_and_their_special_tokens_no_text(tmp_path):
    ours = Tokenizer.of_bytes()
    rng = random.Random(3)
    for text in ["\0", "\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff", *TEXTS, _random_text(rng)]:
        assert ours.encode(text) == list(text.encode()) and ours.decode(ours.encode(text)) == text
    ends = [ours.bos_id, ours.eos_id]
    assert ours.encode("é", bos=True, eos=True) == [ends[0], 0xC3, 0xA9, ends[1]]
    assert ours.n_vocab == 256 and len(ours.special_tokens) == 13
    for i in ours.special_tokens.values():
        with pytest.raises(UnicodeDecodeError):
            bytes([i]).decode()
        for last in range(0x80, 0xC0):  # nor with what may follow
            with pytest.raises(UnicodeDecodeError):
                bytes([i, last]).decode()
    (tmp_path / "tokenizer.json").write_text(json.dumps(to_hf_json(ours)), encoding="utf-8")
    again = Tokenizer.from_file(tmp_path)
    assert again.digest == ours.digest == load_tokenizer("bytes").digest
    assert again.encode("é<|eot_id|>", allow_special=True) == [0xC3, 0xA9, ours.eot_id]


def test_a_digest_tells_tokenizers_apart(small):
    ranks = small.mergeable_ranks
    others = [
        Tokenizer(ranks, pattern=r"\S+|\s+"),
        Tokenizer(ranks, special_tokens={"<|begin_of_text|>": 900}),
        Tokenizer({token: rank for token, rank in ranks.items() if rank < 300}),
        Tokenizer.of_bytes(),
    ]
    digests = {tokenizer.digest for tokenizer in (small, *others)}
    assert len(digests) == 5 and Tokenizer(ranks, name="other").digest == small.digest


@pytest.mark.parametrize("own_pattern", [True, False])
def test_vocabularies_trained_elsewhere_give_their_ids(tmp_path, own_pattern):
    foreign = tokenizers.Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not own_pattern)
    if own_pattern:
        split = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_PATTERN), "isolated")
        foreign.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    else:
        foreign.pre_tokenizer = level
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],  # they come first, so ids are not ranks
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [_random_text(random.Random(i)) for i in range(300)] + TEXTS * 20
    foreign.train_from_iterator(corpus, trainer)
    foreign.save(str(tmp_path / "tokenizer.json"))
    foreign.encode_special_tokens = True
    ours = Tokenizer.from_file(tmp_path)
    assert ours.special_tokens == {"<s>": 0, "</s>": 1}
    for i in range(10_000):
        text = _random_text(random.Random(10_000 + i))
        ids = ours.encode(text)
        assert ids == foreign.encode(text).ids, text
        assert ours.decode(ids) == text
    with pytest.raises(ValueError, match="no special token <|eot_id|>"):
        _ = ours.eot_id


_GOOD = "".join(f"{__import__('base64').b64encode(bytes([i])).decode()} {i}\n" for i in range(256))


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("tokenizer.model", "", "no tokens"),
        ("tokenizer.model", "!!!! 0\n", "line 1"),
        ("tokenizer.model", _GOOD + "YWI=\n", "line 257"),
        ("tokenizer.model", _GOOD + "YWI= 255\n", "line 257.*255 appears twice"),
        ("tokenizer.model", _GOOD + "YWI= 900\n", "without gaps"),
        ("tokenizer.model", _GOOD.replace("AA== 0\n", "YWI= 0\n"), "byte 0"),
        ("tokenizer.json", "{}", "'model' is missing"),
        ("tokenizer.json", "{ not json", "Expecting"),
        ("tokenizer.json", '{"model": {"type": "WordPiece"}}', "WordPiece"),
        (
            "tokenizer.json",
            '{"model": {"type": "BPE"}, "normalizer": {"type": "NFC"}}',
            "normalizer",
        ),
        (
            "tokenizer.json",
            '{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Metaspace"}}',
            "Metaspace",
        ),
        (
            "tokenizer.json",
            '{"model": {"vocab": {}}, "pre_tokenizer": {"type": "ByteLevel"}}',
            "merges",
        ),
    ],
)
def test_bad_files_are_named_with_the_place(tmp_path, name, content, words):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words) as error:
        Tokenizer.from_file(tmp_path)
    assert name in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        Tokenizer.from_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Tokenizer.from_file(tmp_path / "nowhere")


def test_merges_that_are_not_by_rank_are_refused(small, tmp_path):
    data = to_hf_json(small)
    data["model"]["ignore_merges"] = False
    data["model"]["merges"].reverse()
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=r"merge"):
        Tokenizer.from_file(tmp_path)


def test_the_released_vocabulary():
    tokenizer = Tokenizer.llama3()
    assert tokenizer.n_vocab == 128_256
    assert tokenizer.encode("Hello, world!") == [9906, 11, 1917, 0]
    assert tokenizer.encode("12345678901234567890")[:3] == [4513, 10961, 16474]
    assert tokenizer.encode("hello  world   !") == [15339, 220, 1917, 256, 758]
    assert len(tokenizer.encode("a" * 60_000)) == 7500
    assert sorted(tokenizer.stop_ids) == [128_001, 128_008, 128_009]


def test_saving_is_whole_and_refuses_what_does_not_fit(small, tmp_path):
    odd = Tokenizer(small.mergeable_ranks, special_tokens={"<s>": 900})
    with pytest.raises(ValueError, match="not Llama 3's layout"):
        odd.save(tmp_path / "x.model")
    assert list(tmp_path.iterdir()) == []
