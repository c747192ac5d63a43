"""Needles: prompts exact to the token, models whose memory is known, and the gate."""

from itertools import islice

import numpy as np
import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.eval import (
    LongContextGate,
    Needle,
    NeedleGrid,
    city_needle,
    copy_grid,
    found_needles,
    hidden_needles,
    needle_grid,
    needle_prompt,
    repeated_strings,
)
from llama3lib.inference import SamplingParams, generate_tokens
from llama3lib.model import ModelArgs, Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.worlds.stories import stories

BYTES = Tokenizer({bytes([i]): i for i in range(256)})
NEEDLE = Needle(sentence="The key is under the red stone.", question="The key is", answer=" under")


class Copier(Transformer):
    """Says what followed the longest match of the last tokens, within the last `memory` tokens."""

    def __init__(self, vocab_size, memory, max_seq_len=4096):
        args = ModelArgs(
            dim=4,
            n_layers=1,
            n_heads=1,
            n_kv_heads=1,
            ffn_dim=4,
            vocab_size=vocab_size,
            max_seq_len=max_seq_len,
        )
        super().__init__(args)
        self.memory, self.output = memory, torch.nn.Identity()

    def hidden_states(self, tokens, positions=None, attn_metadata=None):
        rows = [[self.guess(row[: t + 1]) for t in range(len(row))] for row in tokens.tolist()]
        guesses = torch.tensor(rows)
        return 10 * torch.nn.functional.one_hot(guesses, self.args.vocab_size).float()

    def guess(self, row):
        row, best, chosen = row[-self.memory :], 0, 0
        for end in range(len(row) - 1, 0, -1):
            size = 0
            while size < min(end, 24) and row[end - 1 - size] == row[-1 - size]:
                size += 1
            if size > best:
                best, chosen = size, row[end]
        return chosen


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-base")


@pytest.mark.parametrize("length", [120, 257, 400])
@pytest.mark.parametrize("depth", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("bos", [True, False])
def test_prompts_are_exact_to_the_token_and_hold_everything(tokenizer, length, depth, bos):
    hay = list(islice(stories(3), 5))
    prompt, answer = needle_prompt(tokenizer, hay, NEEDLE, length=length, depth=depth, bos=bos)
    assert len(prompt) + len(answer) == length
    assert (prompt[0] == tokenizer.bos_id) == bos
    text = tokenizer.decode(prompt[bos:])
    assert text.count(NEEDLE.sentence) == 1
    assert text.endswith("\nThe key is") and tokenizer.decode(answer) == " under"
    before = text.index(NEEDLE.sentence)
    if depth == 0:
        assert not text[:before].strip()
    elif depth == 1:
        assert text[before + len(NEEDLE.sentence) :].strip() == "The key is"
    else:
        assert text[:before].rstrip(" \n").endswith((".", "!", "?"))
        assert before / len(text) <= depth + 0.02


def test_the_haystack_begins_again_if_it_is_short(tokenizer):
    prompt, _ = needle_prompt(tokenizer, "Ada sat.", NEEDLE, length=300, depth=0.5)
    assert tokenizer.decode(prompt).count("Ada sat.") > 20


def test_without_sentences_the_needle_stands_where_it_was_asked_for():
    prompt, _ = needle_prompt(BYTES, "abc", NEEDLE, length=200, depth=0.5, bos=False)
    room = 200 - len(f" {NEEDLE.sentence} " + "\nThe key is" + " under")
    text = BYTES.decode(prompt)
    assert text.index(" The key is under the") in range(room // 2 - 4, room // 2 + 1)


def test_a_model_with_memory_finds_and_one_with_less_finds_what_is_near():
    needles = [city_needle(seed) for seed in (0, 1)]
    far, near = (
        needle_grid(
            Copier(512, memory),
            BYTES,
            "Grass grew by the river. Nobody came. ",
            needles,
            lengths=[200, 320],
            depths=[0.0, 1.0],
        )
        for memory in (4096, 150)
    )
    assert far.solved(320) and far.share.tolist() == [[1, 1], [1, 1]]
    assert (far.tries == 2).all() and far.nats.max() < 0.1
    assert near.share.tolist() == [[0, 1], [0, 1]]
    assert near.nats[1, 0] > 1 > near.nats[1, 1]
    assert not near.solved(200) and near.worst(320) == 0


def test_found_means_that_greedy_generation_writes_the_answer(tokenizer):
    model = load_model("tiny-base")
    hay = list(islice(stories(8), 3))
    outcomes = []
    for depth in (0.0, 0.5, 1.0):
        for answer in (" a", " the", " was a", " had a", None):

            def ask(answer, depth=depth):
                needle = Needle(sentence="Omar is a cook.", question="Omar", answer=answer)
                prompt, ids = needle_prompt(tokenizer, hay, needle, length=150, depth=depth)
                grid = needle_grid(model, tokenizer, hay, [needle], lengths=[150], depths=[depth])
                return prompt, ids, int(grid.found[0, 0])

            if answer is None:  # whatever it writes is found
                start, _, _ = ask(" a")
                answer = tokenizer.decode(
                    generate_tokens(model, start, SamplingParams(max_tokens=1))
                )
            prompt, ids, found = ask(answer)
            written = list(generate_tokens(model, prompt, SamplingParams(max_tokens=len(ids))))
            assert found == (written == ids)
            outcomes.append(found)
    assert 3 <= sum(outcomes) < len(outcomes)


def test_city_needles_differ_by_seed_and_repeat():
    assert city_needle(3) == city_needle(3)
    assert len({city_needle(seed).sentence for seed in range(50)}) == 50
    needle = city_needle(0)
    assert needle.sentence == needle.question.split("? ")[1] + needle.answer + "."


def test_repeated_strings_repeat():
    tokens, periods = repeated_strings(20, 64, seed=5)
    assert tokens.shape == (20, 65) and 0 <= tokens.min() and tokens.max() < 64
    assert periods.min() >= 16 and periods.max() <= 32 and len(periods.unique()) > 5
    for row, period in zip(tokens, periods.tolist(), strict=True):
        assert torch.equal(row[period:], row[:-period])
    again, _ = repeated_strings(20, 64, seed=5)
    other, _ = repeated_strings(20, 64, seed=6)
    assert torch.equal(tokens, again) and not torch.equal(tokens, other)


def test_copying_is_counted_where_it_is_possible():
    made = copy_grid(Copier(64, 4096), lengths=[32, 64], depths=[0.0, 0.5], rows=6, batch_size=4)
    # by hand: inputs from the last of the first period are left out, since nothing tells yet
    tokens, periods = repeated_strings(6, 64)
    counts = np.zeros((2, 2))
    model = Copier(64, 4096)
    for row, period in zip(tokens.tolist(), periods.tolist(), strict=True):
        for t in range(period, 64):
            group = int((t - period) / (64 - period) >= 0.5)
            counts[group] += [model.guess(row[: t + 1]) == row[t + 1], 1]
    assert made.found[1].tolist() == counts[:, 0].tolist()
    assert made.tries[1].tolist() == counts[:, 1].tolist()
    assert made.share.min() > 0.85 and made.share[:, 1].min() == 1
    assert made.nats.max() < 2


def test_copying_farther_than_the_memory_fails_at_long_lengths_only():
    made = copy_grid(Copier(64, 40), lengths=[32, 64, 160], rows=6)
    assert made.worst(32) > 0.6 and made.share[2].max() < 0.1
    assert made.nats[2].min() > made.nats[0].max()


def test_a_model_that_knows_nothing_copies_by_chance():
    args = ModelArgs(
        dim=32, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=32, vocab_size=64, max_seq_len=64
    )
    blank = Transformer(args)
    torch.nn.init.zeros_(blank.output.weight)
    made = copy_grid(blank, lengths=[64], depths=[0.0])
    assert made.nats[0, 0] == pytest.approx(np.log(64), abs=1e-5)
    assert made.share[0, 0] < 0.1


def test_hidden_needles_stand_where_they_are_said_to():
    for depth, place in ((0.0, 4), (1.0, 94), (0.5, 49)):  # 19 slots of 5 before the question
        made = hidden_needles(8, 103, depth, others=6, alike=2, seed=3)
        row = torch.cat([made.keys[:, 0], made.values[:, :1]], 1)
        assert torch.equal(made.tokens[:, place : place + 5], row)
    for tokens, keys, values in zip(made.tokens, made.keys, made.values, strict=True):
        text = tokens.tolist()
        runs = [text[i : i + 5] for i in range(4, 99, 5)]
        assert all([*k, v] in runs for k, v in zip(keys.tolist(), values.tolist(), strict=True))
        assert (keys[1:, 2:] == keys[0, 2:]).all() and not (keys[1:, :2] == keys[0, :2]).all()
    again = hidden_needles(8, 103, 0.5, others=6, alike=2, seed=3)
    assert torch.equal(made.tokens, again.tokens)
    full = hidden_needles(2, 5 * 4 + 4, 1.0, others=3)  # a needle in every slot
    assert full.values.shape == (2, 4)


def test_needles_are_found_by_those_who_can_reach_them():
    hidden = [hidden_needles(20, 104, depth, others=3, seed=1) for depth in (0.0, 1.0)]
    far, near = (found_needles(Copier(64, 4096), one, asked=4) for one in hidden)
    assert far.shape == (20, 4) and far.mean() > 0.95 and near.mean() > 0.95
    far, near = (found_needles(Copier(64, 30), one) for one in hidden)
    assert far.mean() < 0.2 and near.mean() > 0.95


GRID = NeedleGrid(
    (8, 16, 32),
    (0.0, 1.0),
    np.array([[4, 4], [4, 3], [4, 4]]),
    np.full((3, 2), 4),
    np.zeros((3, 2)),
)


def test_solved_means_everywhere_and_at_all_shorter_lengths():
    assert GRID.solved(8) and not GRID.solved(16)
    assert not GRID.solved(32)  # a longer one that works does not repair a shorter one
    assert GRID.solved(32, at_least=0.75) and GRID.worst(32) == 0.75
    assert len(GRID.table()) == 6
    row = dict(length=16, depth=1.0, found=3, tries=4, share=0.75, nats=0.0)
    assert GRID.table()[3] == row


@pytest.mark.parametrize(
    ("short_loss", "length", "recovered", "solved"),
    [(2.0, 8, True, True), (2.06, 8, False, True), (2.04, 16, True, False)],
)
def test_the_gate_wants_both(short_loss, length, recovered, solved):
    gate = LongContextGate(reference_loss=2.0, tolerance=0.05)
    report = gate.check(short_loss, GRID, length)
    assert (report.recovered, report.solved) == (recovered, solved)
    assert report.passed == (recovered and solved)
    assert report.allowed_loss == 2.05 and report.short_loss == short_loss
    assert (report.needle_share, report.needed_share) == (GRID.worst(length), 1.0)
    assert not gate.check(float("nan"), GRID, 8).passed


def test_wrong_input_is_named(tokenizer):
    model = Copier(512, 10)
    ask = dict(length=100, depth=0.5)
    cases = [
        (lambda: Needle(sentence="", question="x", answer="y"), "sentence=''"),
        (lambda: needle_prompt(BYTES, "", NEEDLE, **ask), "haystack is not allowed to be empty"),
        (lambda: needle_prompt(BYTES, [], NEEDLE, **ask), "haystack is not allowed to be empty"),
        (lambda: needle_prompt(BYTES, "a " + NEEDLE.sentence, NEEDLE, **ask), "has the needle"),
        (lambda: needle_prompt(BYTES, "a", NEEDLE, length=100, depth=1.5), "depth=1.5"),
        (lambda: needle_prompt(BYTES, "a", NEEDLE, length=20, depth=0), r"length=20 .*: \d+ or"),
        (lambda: needle_grid(model, BYTES, "a", [], lengths=[99]), "needles is not allowed"),
        (lambda: needle_grid(model, BYTES, "a", [NEEDLE], lengths=[99, 99]), "lengths="),
        (lambda: needle_grid(model, BYTES, "a", [NEEDLE], lengths=[99], depths=[]), "depths="),
        (lambda: needle_grid(model, BYTES, "a", [NEEDLE], lengths=[5000]), "max_seq_len=4096"),
        (lambda: repeated_strings(0, 64), "rows=0"),
        (lambda: repeated_strings(1, 7), "length=7"),
        (lambda: repeated_strings(1, 64, symbols=1), "symbols=1"),
        (lambda: copy_grid(model, lengths=[64], depths=[0.5]), "depths="),
        (lambda: copy_grid(model, lengths=[64], depths=[0, 1]), "depths="),
        (lambda: copy_grid(model, lengths=[8], depths=[0, 0.99], rows=1), "leave a group empty"),
        (lambda: copy_grid(model, lengths=[64], symbols=600), r"symbols has id \d+: 0 to 511"),
        (lambda: copy_grid(model, lengths=[64], batch_size=0), "batch_size=0"),
        (lambda: hidden_needles(0, 64, 0.5), "rows=0"),
        (lambda: hidden_needles(1, 64, 1.5), "depth=1.5"),
        (lambda: hidden_needles(1, 64, 0.5, key=4, alike=5), "alike=5"),
        (lambda: hidden_needles(1, 23, 0.5, others=3), "length=23 .*: 24 or more"),
        (lambda: found_needles(model, hidden_needles(1, 64, 0.5), asked=2), "asked=2"),
        (lambda: found_needles(model, hidden_needles(1, 64, 0.5, symbols=600)), "symbols has id"),
        (lambda: GRID.worst(9), r"length=9 was not measured: use one of \(8, 16, 32\)"),
        (lambda: GRID.solved(8, at_least=0), "at_least=0"),
        (lambda: NeedleGrid((8,), (0.0,), GRID.found, GRID.tries, GRID.nats), "found has shape"),
        (lambda: LongContextGate(reference_loss=float("nan")), "reference_loss=nan"),
        (lambda: LongContextGate(reference_loss=1.0, tolerance=-1), "tolerance=-1"),
        (lambda: LongContextGate(reference_loss=1.0, at_least=2), "at_least=2"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
