"""From recipes to shards: reused only if nothing has changed, and never one that is half made."""

import json
import os

import pytest
from train_tools import ARGS, changed, everything, phase, recipe

from llama3lib.checkpoint import load_tokenizer
from llama3lib.data.document import Document
from llama3lib.data.readers import write_jsonl
from llama3lib.tokenizer import Tokenizer
from llama3lib.train import SourceConfig, open_sources
from llama3lib.train import sources as module
from llama3lib.train import survey as survey_module
from llama3lib.train.config import HELD_OUT, TrainConfig
from llama3lib.train.survey import source_lines, survey
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


def test_what_cannot_be_is_told_before_anything_is_written(tmp_path, made, documents):
    good = SourceConfig(documents=str(documents))
    missing = SourceConfig(documents=str(tmp_path / "none"))
    small = ARGS.replace(vocab_size=200)
    for told, message in (
        (config(good, missing), r"^held_out: input='.*none' is not allowed: it does not exist"),
        (config(good, model=small), "vocab_size=200"),
    ):
        with pytest.raises(ValueError, match=message):
            open_sources(told, tmp_path / "data")
    assert made == [] and not (tmp_path / "data").exists()


def test_lost_rows_are_told_each_time_and_refused_beyond_the_share(tmp_path, made, documents):
    with open(documents, "a", encoding="utf-8") as file:
        file.write('{"story": "x"}\n')
    told = []
    for _ in range(2):  # written, then found
        source = SourceConfig(documents=str(documents), most_left_out=0.1)
        open_sources(
            config(source), tmp_path / "data", on_source=lambda name, stock: told.append(stock)
        )
    assert made == ["a"] and told[0] == told[1]
    assert (told[0].documents, told[0].account.reasons) == (9, {"no text field": 1})
    strict = config(SourceConfig(documents=str(documents), most_left_out=0.09))
    for folder in (tmp_path / "data", tmp_path / "new"):
        with pytest.raises(ValueError, match=r"^data\.a: left out 1 of 10 rows: no text field 1"):
            open_sources(strict, folder)
    assert not (tmp_path / "new" / "a").exists() and not list(tmp_path.rglob("*.tmp"))


def test_tokens_of_another_tokenizer_are_refused(tmp_path, documents):
    files = SourceConfig(documents=str(documents))
    open_sources(config(files, tokenizer="tiny-base"), tmp_path / "data")
    shard = SourceConfig(shard=str(tmp_path / "data" / "a"))
    assert open_sources(config(shard, tokenizer="tiny-base"), tmp_path)["a"].index["documents"] == 9
    with pytest.raises(ValueError, match=r"^data\.a: shard=.* not of the recipe's tokenizer"):
        open_sources(config(shard), tmp_path)


def test_a_survey_finds_what_a_run_would_and_writes_nothing(tmp_path, documents):
    with open(documents, "a", encoding="utf-8") as file:
        file.write('{"story": "x"}\n')
    source = SourceConfig(documents=str(documents), most_left_out=0.1)
    phases = (phase(length=8),)
    told = config(source, SourceConfig(stories=3), tokenizer="tiny-base")
    told = changed(told, phases=phases)
    before, surveyed, opened = everything(tmp_path), {}, {}
    survey(told, tmp_path / "run", on_source=surveyed.__setitem__)
    assert everything(tmp_path) == before
    open_sources(told, tmp_path / "run" / "data", on_source=opened.__setitem__)
    assert surveyed == opened and surveyed.keys() == {"a", HELD_OUT}
    assert survey(told, tmp_path / "run") == opened  # of the shards that are there now
    line, left_out = source_lines(told, "a", opened["a"])
    epochs = phases[0].tokens / opened["a"].tokens
    assert line.endswith(f"a: 9 documents, {opened['a'].tokens:,} tokens, {epochs:.2f} epochs")
    assert left_out.strip().startswith("left out 1 of 10 rows")


def test_a_survey_reckons_long_sources_from_their_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(survey_module, "_LETTERS", 2000)
    monkeypatch.setattr(survey_module, "_STORIES", 40)
    supply = [text for text, _ in zip(stories(5), range(300), strict=False)]
    write_jsonl([Document(text, "x") for text in supply], tmp_path / "a.jsonl")
    truth = sum(len(text.encode()) + 2 for text in supply)
    for source in (SourceConfig(documents=str(tmp_path / "a.jsonl")), SourceConfig(stories=300)):
        stock = survey(config(source), tmp_path / "run")["a"]
        assert stock.documents == 300 and not stock.exact
        assert stock.tokens == pytest.approx(truth, rel=0.1)
        assert "about 300 documents, about " in source_lines(config(source), "a", stock)[0]


def test_a_survey_tells_all_that_is_wrong_at_once(tmp_path, documents):
    (tmp_path / "empty.jsonl").write_text("")
    data = {
        "a": SourceConfig(documents=str(tmp_path / "none")),
        "b": SourceConfig(documents=str(documents)),
    }
    told = changed(
        config(data["b"], SourceConfig(documents=str(tmp_path / "empty.jsonl"))), data=data
    )
    with pytest.raises(ValueError) as caught:
        survey(told, tmp_path / "run")
    first, second = str(caught.value).split("; ")
    assert first.startswith("data.a: ") and second.startswith("held_out: no text is left")
    short = changed(told, data={"b": data["b"]}, held_out=None)
    for one in (short, config(SourceConfig(stories=9))):
        with pytest.raises(ValueError, match=r"^phases\.0 .* tokens, a window needs 3001"):
            survey(changed(one, phases=(phase(length=3000),)), tmp_path / "run")
    told = changed(config(SourceConfig(stories=9), data["b"]), phases=(phase(length=1000),))
    with pytest.raises(ValueError, match=r"^held_out is not .* tokens, a window needs 1001"):
        survey(told, tmp_path / "run")


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
