"""Line de-duplication against a plain count."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.data.dedup.lines import DropRepeatedLines, normalize_line
from llama3lib.data.document import Document, Dropped
from llama3lib.data.encoding import stable_hash

LINES = ["Home", "HOME ", "Page 1", "Page 22", "", "  ", "About us", "ü", "Ü", "end.", "{", "}"]


def run(step, documents):
    return {d.document.id if isinstance(d, Dropped) else d.id: d for d in step(documents)}


def corpus(rng, documents=60, files=5, languages=("en",)):
    out = []
    for number in range(documents):
        own = [f"own line {number}{sign}" for sign in "abc"]
        lines = rng.choices([*LINES, *own], k=rng.randint(1, 8))
        name = f"f{rng.randrange(files)}.jsonl#{number}"
        out.append(Document("\n".join(lines), name, {"language": rng.choice(languages)}))
    return out


def brute_force(step, documents):
    """What must be left of each document, worked out with a Counter of texts."""
    counts = Counter()

    def key(document, line):
        group = document.metadata["language"] if step.per_language else ""
        file = stable_hash(document.id.split("#")[0]) % step.buckets
        return file, group, normalize_line(line)

    for document in documents:
        counts.update(key(document, line) for line in document.text.splitlines())
    out = {}
    for document in documents:
        lines = document.text.splitlines()
        out[document.id] = [
            line
            for line in lines
            if len(normalize_line(line)) < step.least_characters
            or not any(map(str.isalnum, line))  # a brace belongs to code
            or counts[key(document, line)] <= step.most
        ]
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 6),
)
def test_against_a_counter(seed, most, buckets, per_language, least):
    step = DropRepeatedLines(
        most=most, buckets=buckets, per_language=per_language, least_characters=least
    )
    documents = corpus(random.Random(seed), languages=("en", "de"))
    found, expected = run(step, documents), brute_force(step, documents)
    for document in documents:
        item, lines = found[document.id], expected[document.id]
        before = document.text.splitlines()
        if len(lines) == len(before):
            assert item is document
        elif not "".join(lines).strip():
            assert isinstance(item, Dropped) and item.reason == "only repeated lines"
        else:
            assert item.text == "\n".join(lines)
            assert item.metadata["lines_removed"] == len(before) - len(lines)


def test_seven_times_go_and_six_stay():
    for times, left in ((6, 6), (7, 0)):
        documents = [Document(f"Menu\nown {chr(97 + n)}", f"d{n}") for n in range(times)]
        texts = [item.text for item in run(DropRepeatedLines(), documents).values()]
        assert sum("Menu" in text for text in texts) == left


def test_seven_times_in_one_document_count_too():
    (item,) = run(DropRepeatedLines(), [Document("x\n" * 7 + "y", "d")]).values()
    assert item.text == "y" and item.metadata["lines_removed"] == 7


def test_code_keeps_the_lines_that_programs_share():
    code = ["for x in y:", "    return True", "}", "True", "print(x)"]
    known = {"code_lines": ["True", "for x in y:", "print(x)"]}
    rows = [Document("\n".join(["Menu", *code, f"own {c}"]), c, known) for c in "abcdefghi"]
    texts = [item.text for item in run(DropRepeatedLines(), rows).values()]
    assert texts == ["\n".join([*code, f"own {c}"]) for c in "abcdefghi"]
    odd = [Document("Menu\nown", f"d{n}", {"code_lines": 3}) for n in range(7)]
    assert len(run(DropRepeatedLines(), odd)) == 7  # what comes from outside may be anything


def test_a_later_pass_adds_to_the_count_whatever_stands_there():
    for before, after in ((2, 9), ("some", 7), (None, 7), ([], 7), (float("nan"), 7)):
        document = Document("x\n" * 7 + "y", "d", {"lines_removed": before})
        (item,) = run(DropRepeatedLines(), [document]).values()
        assert item.metadata["lines_removed"] == after


def test_normal_form():
    assert normalize_line("  Seite 12\t von  340 ") == "seite 00 von 000"
    assert normalize_line("٣ a") == "0 a"
    assert normalize_line(" \t") == ""


def test_counts_do_not_depend_on_how_files_are_spread_over_shards():
    documents = corpus(random.Random(1), documents=200, files=8)
    step = DropRepeatedLines(buckets=3)
    notes = [(d.id, step.collect(d)) for d in documents]
    decision = step.decide(notes)
    by_file = sorted(notes, key=lambda note: note[0].split("#")[0])
    assert step.decide(by_file) == step.decide(notes[::-1]) == decision
    assert all(row == sorted(row) for row in decision) and len(decision) == 3


def test_a_file_is_in_one_bucket_and_buckets_do_not_see_each_other():
    step = DropRepeatedLines(buckets=4)
    names = [f"file{n}" for n in range(40)]
    buckets = {name: {step.bucket(Document("", f"{name}#{n}")) for n in range(5)} for name in names}
    assert all(len(found) == 1 for found in buckets.values())
    assert set().union(*buckets.values()) == {0, 1, 2, 3}
    one, other = next((a, b) for a in names for b in names if buckets[a] != buckets[b])
    documents = [Document(f"Menu\nown {n}x", f"{one}#{n}") for n in range(4)]
    documents += [Document(f"Menu\nown {n}y", f"{other}#{n}") for n in range(4)]
    assert all("Menu" in d.text for d in run(step, documents).values())
    alone = run(DropRepeatedLines(), documents)
    assert not any("Menu" in d.text for d in alone.values())


def test_languages_are_counted_apart_if_wanted():
    documents = [
        Document(f"OK\nown {chr(97 + n)}", f"d{n}", {"language": "en" if n % 2 else "de"})
        for n in range(8)
    ]
    apart = run(DropRepeatedLines(per_language=True), documents)
    together = run(DropRepeatedLines(), documents)
    assert all("OK" in d.text for d in apart.values())
    assert not any("OK" in d.text for d in together.values())


def test_bucket_size_of_the_paper():
    assert DropRepeatedLines.of_bucket_size(30_000_000).buckets == 1
    assert DropRepeatedLines.of_bucket_size(30_000_001).buckets == 2
    assert DropRepeatedLines.of_bucket_size(0).buckets == 1
    assert DropRepeatedLines().most == 6


def test_decision_survives_json_and_bad_settings_are_named():
    import json

    step = DropRepeatedLines(most=1)
    document = Document("a\na\nb", "d")
    decision = json.loads(json.dumps(step.decide([("d", step.collect(document))])))
    assert step.apply(document, step.prepare(decision)).text == "b"
    for name in ("most", "buckets", "least_characters"):
        with pytest.raises(ValueError, match=f"{name}=0"):
            DropRepeatedLines(**{name: 0})


def test_the_same_id_twice_is_refused():
    with pytest.raises(ValueError, match="not allowed twice"):
        list(DropRepeatedLines()([Document("a", "x"), Document("b", "x")]))
