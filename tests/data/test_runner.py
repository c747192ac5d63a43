"""Runs as files: the same as in memory, resumable after anything, never over another's work."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from timing_tools import patient

from llama3lib.data import funnel
from llama3lib.data.document import Document
from llama3lib.data.funnel import Funnel
from llama3lib.data.readers import Limits, read_documents, to_json, write_jsonl
from llama3lib.data.recipe import make_recipe, web_recipe
from llama3lib.data.runner import run_recipe
from llama3lib.data.shards import Plan, dropped, output_text, phases
from llama3lib.data.warc import WarcWriter
from llama3lib.utils.locks import locked
from llama3lib.worlds.miniweb import crawl, make_web

SMALL = make_recipe(
    {
        "title": "small",
        "steps": [
            {"use": "url_dedup"},
            {"use": "minhash_dedup"},
            {"use": "line_dedup", "most": 3},
            {"use": "gopher", "least_words": 3, "stop_words": 0},
            {"use": "pii"},
        ],
    }
)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    crawl(make_web(200, seed=2), folder, files=3)
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """JSON lines of all kinds, in three files, one of them without a good line."""
    folder = tmp_path_factory.mktemp("lines")
    rng = random.Random(0)
    words = [f"word{n}" for n in range(300)]
    for name in ("a.jsonl", "b.jsonl.gz", "sub/c.jsonl.zst"):
        rows = []
        for n in range(80):
            text = " ".join(rng.choices(words, k=rng.randint(5, 60))) + f"\nfoot\nown {n}"
            url = f"http://h.example/{rng.randint(0, 60)}"
            rows.append(Document(text, "x", {"url": url, "date": f"20{rng.randint(10, 24)}"}))
        rows += rng.sample(rows, 20)
        (folder / name).parent.mkdir(exist_ok=True)
        write_jsonl(rows, folder / name)
    (folder / "bad.jsonl").write_text('{"no": "text"}\n[1]\n{"text": 3}\nno json\n', "utf-8")
    return folder


def everything(folder):
    """All result files of a run, byte for byte; what is left of killed writers does not count."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".tmp")
    }


def texts_of(folder):
    return b"".join(path.read_bytes() for path in sorted((folder / "documents").iterdir()))


@pytest.fixture(scope="module")
def finished(lines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "out"
    return folder, run_recipe(SMALL, lines, folder)


@pytest.mark.parametrize("kind", ["archives", "lines"])
def test_the_same_as_in_memory(kind, tmp_path, request):
    source = request.getfixturevalue(kind)
    recipe = web_recipe() if kind == "archives" else SMALL
    told = Funnel(keep_dropped=True)
    items = told.leaving("read", read_documents(source))
    expected = "".join(to_json(d) + "\n" for d in funnel.run(items, recipe.steps, told))
    found = run_recipe(recipe, source, tmp_path / "out")
    plan = Plan(recipe, source, tmp_path / "out")
    assert output_text(plan) == expected and texts_of(tmp_path / "out").decode() == expected
    read = found.counts[0]
    assert read.documents_out == told.count("read").documents_out
    told.counts.remove(told.count("read"))
    assert found.as_dict()["steps"][1:] == told.as_dict()["steps"]
    assert read.documents_in == read.documents_out + sum(read.reasons.values())
    rows = sorted(
        (d.document.id, d.step, d.reason, d.detail, d.document.metadata.get("url", ""))
        for d in told.dropped
    )
    assert sorted(dropped(plan)) == rows and len(rows) > 20


def test_what_is_written(finished, lines):
    folder, found = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {".lock", "documents", "funnel.html", "funnel.json", "run.json", "work"}
    assert json.loads((folder / "funnel.json").read_text())["steps"] == found.as_dict()["steps"]
    parts = sorted(path.name for path in (folder / "documents").iterdir())
    assert parts == [f"part-0000{n}.jsonl" for n in range(4)]
    assert found.counts[0].reasons == {"no text field": 3, "no JSON": 1}
    html = (folder / "funnel.html").read_text()
    assert "<script" not in html and "src=" not in html and "href=" not in html


def test_every_item_of_a_folder_is_in_the_output_or_in_the_account_by_name(tmp_path):
    """A page, a missing one, a picture, a request, a row, a file that no reader knows."""
    source = tmp_path / "in"
    source.mkdir()
    with open(source / "a.warc.gz", "wb") as file:
        writer = WarcWriter(file)
        for number, (kind, status) in enumerate(
            [("text/html", "200 OK"), ("text/html", "404 Not Found"), ("image/png", "200 OK")]
        ):
            page = b"<p>" + b"some words of a page. " * 20
            writer.write(f"http://a.example/{number}", page, kind, "2024-05-01T12:00:00Z", status)
    (source / "b.jsonl").write_text('{"url": "http://a.example/3"}\n', "utf-8")
    (source / "notes.pdf").write_bytes(b"%PDF")
    (source / ".hidden").write_bytes(b"")
    recipe = make_recipe({"steps": [{"use": "pii"}]})
    found = run_recipe(recipe, source, tmp_path / "out")
    fallen = {
        (row.url or row.id, row.reason) for row in dropped(Plan(recipe, source, tmp_path / "out"))
    }
    assert fallen == {
        ("http://a.example/1", "other status"),
        ("http://a.example/2", "other type"),
        ("http://a.example/3", "no text field"),
        ("notes.pdf", "other file"),
    }
    assert found.counts[0].documents_in == 5 and found.counts[0].documents_out == 1
    told = json.loads((tmp_path / "out" / "funnel.json").read_text("utf-8"))["steps"][0]
    assert told["samples"]["other type"][0]["url"] == "http://a.example/2"
    assert "http://a.example/1" in (tmp_path / "out" / "funnel.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("package", "name", "steps"),
    [
        ("warcio", "a.warc", ["pii"]),
        ("webencodings", "a.html", ["pii"]),
        ("charset_normalizer", "a.txt", ["pii"]),
        ("zstandard", "a.jsonl.zst", ["pii"]),
        ("duckdb", "a.parquet", ["pii"]),
        ("lxml", "a.jsonl", ["pii", "extract"]),
        ("py3langid", "a.jsonl", ["language"]),
    ],
)
def test_a_missing_package_stops_the_run_before_anything_is_written(
    tmp_path, monkeypatch, package, name, steps
):
    (tmp_path / name).write_bytes(b'{"text": "a"}\n')
    monkeypatch.setitem(sys.modules, package, None)
    recipe = make_recipe({"steps": [{"use": step} for step in steps]})
    with pytest.raises(ModuleNotFoundError) as caught:
        run_recipe(recipe, tmp_path / name, tmp_path / "out")
    assert caught.value.name == package and not (tmp_path / "out").exists()


def test_a_second_run_changes_no_byte(finished, lines):
    folder, found = finished
    before = everything(folder)
    assert run_recipe(SMALL, lines, folder).as_dict() == found.as_dict()
    assert everything(folder) == before


@pytest.mark.parametrize("seed", range(6))
def test_resume_after_anything_was_deleted(finished, lines, tmp_path, seed):
    before = everything(finished[0])
    rng = random.Random(seed)
    folder = tmp_path / "out"
    for name, raw in before.items():
        lost = name != "run.json" and rng.random() < 0.5
        if seed % 2:  # only marks and results
            lost = lost and ("/done/" in name or name.startswith("documents"))
        if not lost:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(raw)
    run_recipe(SMALL, lines, folder)
    assert everything(folder) == before


def test_phases_end_at_corpus_steps():
    names = [
        (p.decided and p.decided.name, [s.name for s in p.steps], p.noted and p.noted.name)
        for p in phases(SMALL)
    ]
    assert names == [
        (None, [], "url_dedup"),
        ("url_dedup", [], "minhash_dedup"),
        ("minhash_dedup", [], "line_dedup"),
        ("line_dedup", ["gopher", "pii"], None),
    ]


def test_small_pages_share_a_shard(tmp_path, monkeypatch):
    source = tmp_path / "in"
    source.mkdir()
    for n in range(10):
        (source / f"{n}.txt").write_text("word " * 20)
    (source / "3b.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.setattr("llama3lib.data.shards._GROUP_BYTES", 300)
    shards = Plan(SMALL, source, tmp_path / "out").shards
    assert [file.name for shard in shards for file in shard] == sorted(
        [*(f"{n}.txt" for n in range(10)), "3b.jsonl"]
    )
    assert [len(shard) for shard in shards] == [3, 1, 1, 3, 3]


def test_files_of_others_are_refused_and_left_alone(finished, lines, tmp_path):
    folder, _ = finished
    before = everything(folder)
    other = replace(SMALL, steps=SMALL.steps[:-1])
    bigger = tmp_path / "bigger"
    write_jsonl([Document("one more", "x")], bigger / "a.jsonl")
    for recipe, source, options in (
        (other, lines, {}),
        (replace(SMALL, title="other"), lines, {}),
        (SMALL, bigger, {}),
        (SMALL, lines, {"limits": Limits(record_bytes=1 << 20)}),
    ):
        with pytest.raises(ValueError, match="another recipe or input"):
            run_recipe(recipe, source, folder, **options)
    assert everything(folder) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(ValueError, match="not an empty folder"):
            run_recipe(SMALL, lines, tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b'{"format": 1}'])
def test_a_damaged_run_file_is_another_run(lines, tmp_path, raw):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_bytes(raw)
    with pytest.raises(ValueError, match="another recipe"):
        run_recipe(SMALL, lines, tmp_path / "out")


def test_the_output_may_not_lie_within_the_input(tmp_path):
    source = tmp_path / "in"
    write_jsonl([Document("some words", "x")], source / "a.jsonl")
    for folder in (source, source / "out", tmp_path / "x" / ".." / "in" / "out"):
        with pytest.raises(ValueError, match="within the input"):
            run_recipe(SMALL, source, folder)
    assert [path.name for path in source.iterdir()] == ["a.jsonl"]
    run_recipe(SMALL, source / "a.jsonl", source / "out")  # beside a single file is fine


def test_bad_arguments_write_nothing(lines, tmp_path):
    cases = [
        ({"engine": "spark"}, "engine='spark'"),
        ({"workers": 0}, "workers=0"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            run_recipe(SMALL, lines, tmp_path / "out", **options)
    (tmp_path / "empty").mkdir()
    for source in ("missing", "empty"):
        with pytest.raises(ValueError, match="input="):
            run_recipe(SMALL, tmp_path / source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_belongs_to_one_process_at_a_time(lines, tmp_path):
    out = tmp_path / "out"
    with locked(out / ".lock"):  # as another process has it
        with pytest.raises(ValueError, match="output=.*out.*another process is at work"):
            run_recipe(SMALL, lines, out)
        assert [path.name for path in out.iterdir()] == [".lock"]
    told, seen = [], []

    def watch(name, items):
        seen.append(name)
        with locked(out / ".lock") as theirs:
            assert not theirs
        yield from items

    run_recipe(SMALL, lines, out, progress=lambda *now: told.append(now), watch=watch)
    tasks = told[0][1]
    assert [now[:2] for now in told] == [(n, tasks) for n in range(tasks + 1)]
    assert len(seen) == tasks
    run_recipe(SMALL, lines, out)


def test_a_start_that_was_killed_is_no_foreign_folder(lines, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".run.json.0123456789abcdef.tmp").write_text("{")
    run_recipe(SMALL, lines, tmp_path / "out")


HOSTILE = [
    {"text": "a b c d", "lines_removed": "many", "url": "http://h/?q=\ud800", "date": None},
    {"text": "\ud800 a b c", "language": ["x"], "pii": 3, "kind": {}, "id": 5},
    {"text": "a b c\u2028d\x00e\r\nf", "url": ["http://x"], "date": {"a": 1}},
    {"text": "a b c d", "metadata": {"url": "http://[", "text": "b"}, "steps": None},
    {"text": "n u l l", "score": float("nan"), "big": 10**400},
    {"text": ""},
]


def test_hostile_metadata_stops_nothing_and_gives_the_same_as_in_memory(tmp_path):
    source = tmp_path / "in.jsonl"
    rows = [json.dumps(row) for row in HOSTILE]
    deep = [f'{{"text": "deep", "a": {"[" * n + "]" * n}}}' for n in (10, 100, 300, 100_000)]
    source.write_text("\n".join(rows + deep) + "\n", encoding="utf-8")
    names = ["url_dedup", "minhash_dedup", "line_dedup", "outliers", "pii", "downsample"]
    for extra in ({}, {"per_language": True}):
        steps = [
            {"use": name} | (extra if name in ("minhash_dedup", "line_dedup") else {})
            for name in names
        ]
        recipe = make_recipe({"steps": steps})
        folder = tmp_path / f"out{len(extra)}"
        found = run_recipe(recipe, source, folder)
        assert found.counts[0].documents_in == 10
        kept = list(funnel.run(Funnel().leaving("read", read_documents(source)), recipe.steps))
        assert output_text(Plan(recipe, source, folder)) == "".join(to_json(d) + "\n" for d in kept)


RUN = """
import sys
from llama3lib.data.recipe import web_recipe
from llama3lib.data.runner import run_recipe
run_recipe(web_recipe(), sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_kill_9_at_random_moments(archives, tmp_path):
    recipe = web_recipe()
    run_recipe(recipe, archives, tmp_path / "whole")
    folder, rng = tmp_path / "killed", random.Random(0)
    kills = 0
    for _ in range(40):
        command = [sys.executable, "-c", RUN, str(archives), str(folder)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=env)
        if kills < 4:
            marks = len(list(folder.rglob("*.json*")))
            # let it write some files more, then kill it in the midst of whatever it does
            wanted, end = marks + rng.randint(1, 9), time.monotonic() + patient(60)
            while process.poll() is None and time.monotonic() < end:
                if len(list(folder.rglob("*.json*"))) >= wanted:
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.005)
        _, errors = process.communicate(timeout=patient(120))
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        kills += 1
    assert process.returncode == 0 and kills >= 2
    assert everything(folder) == everything(tmp_path / "whole")
