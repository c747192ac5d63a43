"""From recipes to shards: reused only if nothing has changed, and never one that is half made."""

import json
import os

import pytest
from train_tools import ARGS, everything, recipe

from llama3lib.checkpoint import load_tokenizer
from llama3lib.data.document import Document
from llama3lib.data.readers import write_jsonl
from llama3lib.tokenizer import Tokenizer
from llama3lib.train import SourceConfig, open_sources
from llama3lib.train import sources as module
from llama3lib.train.config import TrainConfig
from llama3lib.worlds import stories

BYTES = load_tokenizer("bytes")


def config(source, held_out=None, **more):
    given = {"model": ARGS.replace(vocab_size=768), "tokenizer": "bytes"} | more
    phases = recipe().phases
    optimizer = recipe().optimizer
    return TrainConfig(
        data={"a": source}, held_out=held_out, phases=phases, optimizer=optimizer, **given
    )


@pytest.fixture
def made(monkeypatch):
    """Which shards are written, by their folder's name."""
    names, write = [], module.write_shard

    def write_shard(texts, folder, tokenizer):
        names.append(folder.name)
        return write(texts, folder, tokenizer)

    monkeypatch.setattr(module, "write_shard", write_shard)
    return names


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "in" / "a.jsonl"
    write_jsonl([Document(f"text {n} é", "x") for n in range(9)], path)
    return path


def rows_of(shard):
    return [shard.document(n).tolist() for n in range(shard.index["documents"])]


def texts_of(shard):
    """The texts of a shard of bytes, each of which begins and ends as a document does."""
    rows = rows_of(shard)
    assert all((row[0], row[-1]) == (BYTES.bos_id, BYTES.eos_id) for row in rows)
    return [bytes(row[1:-1]).decode() for row in rows]


def test_stories_documents_and_shards(tmp_path, documents):
    shard = open_sources(config(SourceConfig(stories=3, seed=4)), tmp_path / "s")["a"]
    supply = stories(4)
    assert texts_of(shard) == [next(supply) for _ in range(3)]
    shard = open_sources(config(SourceConfig(documents=str(documents))), tmp_path / "d")["a"]
    assert texts_of(shard) == [f"text {n} é" for n in range(9)]
    again = open_sources(config(SourceConfig(shard=str(tmp_path / "d" / "a"))), tmp_path / "none")
    assert again["a"].index == shard.index and not (tmp_path / "none").exists()


def test_a_tokenizer_opens_and_closes_each_document(tmp_path, documents):
    source = SourceConfig(documents=str(documents))
    shard = open_sources(config(source, tokenizer="tiny-base"), tmp_path)["a"]
    tokenizer = load_tokenizer("tiny-base")
    wanted = [tokenizer.encode(f"text {n} é", bos=True) + [tokenizer.eos_id] for n in range(9)]
    assert rows_of(shard) == wanted and shard.index["vocab_size"] == tokenizer.n_vocab


def test_any_text_survives_as_bytes(tmp_path):
    odd = "one\0two \x7f \xc0 \u07ff \uffff \U0010ffff <|end_of_text|>"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": odd}) + "\n")
    shard = open_sources(config(SourceConfig(documents=str(tmp_path / "a.jsonl"))), tmp_path)["a"]
    assert texts_of(shard) == [odd] and shard.index["vocab_size"] == 256


def test_held_out_text_is_a_source_of_its_own(tmp_path):
    told = config(SourceConfig(stories=2), SourceConfig(stories=1, seed=9))
    assert open_sources(told, tmp_path).keys() == {"a", "held-out"}


def test_nothing_is_written_twice(tmp_path, made, documents):
    for source in (SourceConfig(stories=3), SourceConfig(documents=str(documents))):
        folder = tmp_path / str(source.stories)
        first = open_sources(config(source), folder)["a"]
        before = everything(folder)
        assert open_sources(config(source), folder)["a"].index == first.index
        assert everything(folder) == before
    assert made == ["a", "a"]


def change_content(path):
    text = path.read_text("utf-8")
    path.write_text(text.replace("text 3", "TEXT 3"), "utf-8")
    os.utime(path, ns=(1, 1))  # the size is the same: only the time tells


CHANGES = {
    "content": change_content,
    "longer": lambda path: path.write_text(path.read_text("utf-8") * 2, "utf-8"),
    "one more file": lambda path: (path.parent / "b.txt").write_text("more"),
    "another name": lambda path: path.rename(path.with_name("c.jsonl")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_files_is_seen(tmp_path, made, documents, change):
    source = config(SourceConfig(documents=str(documents.parent)))
    before = open_sources(source, tmp_path / "data")["a"].index
    CHANGES[change](documents)
    after = open_sources(source, tmp_path / "data")["a"].index
    assert made == ["a", "a"]
    assert (after == before) == (change == "another name")


def test_other_settings_write_another_shard(tmp_path, made, documents):
    Tokenizer({bytes([i]): i for i in range(256)}).save(tmp_path / "plain.model")
    pieces = {bytes([i]): i for i in range(256)} | {b"te": 256}
    Tokenizer(pieces).save(tmp_path / "merged.model")
    stories_, files = SourceConfig(stories=3), SourceConfig(documents=str(documents))
    settings = [
        config(stories_),
        config(SourceConfig(stories=4)),
        config(SourceConfig(stories=4, seed=1)),
        config(files),
        config(files, tokenizer=str(tmp_path / "plain.model")),
        config(files, tokenizer=str(tmp_path / "merged.model")),
    ]
    found = [open_sources(one, tmp_path / "data")["a"].index["sha256"] for one in settings]
    assert made == ["a"] * 6 and len(set(found)) == 6
    # another file with the same vocabulary is the same tokenizer
    (tmp_path / "merged.model").rename(tmp_path / "renamed.model")
    open_sources(config(files, tokenizer=str(tmp_path / "renamed.model")), tmp_path / "data")
    assert len(made) == 6


@pytest.mark.parametrize("damage", ["tokens.bin", "index.json", "starts.npy", "note", "no note"])
def test_a_damaged_shard_of_our_own_is_written_again(tmp_path, made, damage):
    told = config(SourceConfig(stories=5))
    first = open_sources(told, tmp_path)["a"].index
    if damage == "no note":
        (tmp_path / "a.json").unlink()
    else:
        path = tmp_path / "a.json" if damage == "note" else tmp_path / "a" / damage
        path.write_bytes(path.read_bytes()[:-7])
    assert open_sources(told, tmp_path)["a"].index == first and made == ["a", "a"]
    open_sources(told, tmp_path)
    assert made == ["a", "a"]


def test_a_new_shard_never_goes_by_the_note_of_the_old_one(tmp_path, made, monkeypatch):
    """Killed between the two files: the next run with the old settings must not take the new."""
    old, new = (config(SourceConfig(stories=n)) for n in (3, 6))
    open_sources(old, tmp_path)

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "atomic_write", killed)
    with pytest.raises(KeyboardInterrupt):
        open_sources(new, tmp_path)
    monkeypatch.undo()
    assert open_sources(old, tmp_path)["a"].index["documents"] == 3


def test_what_is_missing_or_does_not_fit_is_told(tmp_path, documents):
    files = SourceConfig(documents=str(documents))
    cases = [
        (config(SourceConfig(shard=str(tmp_path / "none"))), "none' cannot be read"),
        (config(SourceConfig(documents=str(tmp_path / "none"))), "none"),
        (config(files, tokenizer="tiny-bose"), "tiny-bose"),
        (config(files, model=ARGS.replace(vocab_size=200)), "vocab_size=200 .* 'a' go up to 255"),
        (config(files, model=ARGS, tokenizer="tiny-base"), "vocab_size=256 .* up to 767"),
    ]
    for told, message in cases:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            open_sources(told, tmp_path / "data")
    (tmp_path / "empty").mkdir()
    for content, why in (('{"text": " \\n"}\n', "left out 1 of 1 rows"), ("", "there is no row")):
        (tmp_path / "empty" / "a.jsonl").write_text(content)
        for told in (config(SourceConfig(documents=str(tmp_path / "empty"), most_left_out=1.0)),):
            with pytest.raises(ValueError, match=rf"^data\.a: no text is left: {why}"):
                open_sources(told, tmp_path / "data")
    assert not (tmp_path / "data" / "a").exists()
