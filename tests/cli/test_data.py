"""`llama3 data`: shows a recipe, runs it, resumes, and says in one line what is wrong."""

import json
import random
import re
import sys
import tomllib

import pytest

from llama3lib.cli import main as cli
from llama3lib.data.document import Document
from llama3lib.data.readers import write_jsonl
from llama3lib.data.recipe import WEB
from llama3lib.data.tokens import TokenShard
from llama3lib.tokenizer import Tokenizer

RECIPE = """
title = "Plain"

[[steps]]
use = "minhash_dedup"

[[steps]]
use = "gopher"
least_words = 5
stop_words = 0

[[steps]]
use = "pii"
"""


def run(capsys, *argv):
    code = cli.main(["data", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *argv):
    """The one line on standard error."""
    code, out, err = run(capsys, *argv)
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("llama3: ")
    return err


@pytest.fixture
def work(tmp_path):
    """A recipe, some documents, and a tokenizer of bytes."""
    rng = random.Random(0)
    texts = [" ".join(f"word{rng.randint(0, 99)}" for _ in range(30)) for _ in range(20)]
    texts += [texts[0], "too short", "mail someone@example.com about this page, please"]
    write_jsonl([Document(text, "x") for text in texts], tmp_path / "in" / "a.jsonl.gz")
    write_jsonl([Document(texts[1], "x")], tmp_path / "in" / "b.jsonl")
    (tmp_path / "plain.toml").write_text(RECIPE, encoding="utf-8")
    Tokenizer({bytes([i]): i for i in range(256)}).save(tmp_path / "bytes.model")
    return tmp_path


def test_shows_the_recipe_that_comes_along(capsys):
    code, out, _ = run(capsys, "web")
    assert code == 0 and out == WEB and tomllib.loads(out)["steps"]


def test_shows_a_recipe_file_after_checking_it(capsys, work):
    assert run(capsys, work / "plain.toml")[:2] == (0, RECIPE)
    (work / "plain.toml").write_text(RECIPE.replace("gopher", "goper"), encoding="utf-8")
    assert "did you mean 'gopher'" in refused(capsys, work / "plain.toml")


def test_runs_and_resumes(capsys, work):
    argv = [work / "plain.toml", work / "in", work / "out"]
    code, out, err = run(capsys, *argv)
    assert code == 0 and err == ""
    told, lines = out.splitlines()[:5], out.splitlines()[5:]
    assert told[0] == "task 0 of 4: pass 1 of 2, up to minhash_dedup"
    for n in (1, 2, 3, 4):
        where = "2 of 2, up to the end" if n > 2 else "1 of 2, up to minhash_dedup"
        assert re.fullmatch(rf"task {n} of 4: pass {where}, 0:\d\d:\d\d left", told[n])
    rows = [line.split(maxsplit=3) for line in lines[1:5]]
    assert rows == [
        ["read", "24", "24"],
        ["minhash_dedup", "24", "22", "near-duplicate 2"],
        ["gopher", "22", "21", "too short 1"],
        ["pii", "21", "21"],
    ]
    assert str(work / "out" / "documents") in lines[-1] and "funnel.html" in lines[-1]
    before = [path.read_bytes() for path in sorted((work / "out" / "documents").iterdir())]
    assert b"[EMAIL]" in before[0] and len(before) == 2
    (work / "out" / "documents" / "part-00001.jsonl").unlink()
    code, again, _ = run(capsys, *argv)
    assert code == 0 and again.splitlines()[5:] == lines
    assert before == [p.read_bytes() for p in sorted((work / "out" / "documents").iterdir())]


def test_a_run_needs_input_and_output(capsys, work):
    assert "OUTPUT is missing" in refused(capsys, work / "plain.toml", work / "in")


def test_bad_input_is_told_in_one_line(capsys, work):
    good = [work / "plain.toml", work / "in", work / "out"]
    assert "recipe" in refused(capsys, work / "none.toml")
    assert "recipe" in refused(capsys, "webb", *good[1:])
    assert "does not exist" in refused(capsys, good[0], work / "none", good[2])
    assert "must end in one of" in refused(capsys, good[0], work / "plain.toml", good[2])
    assert "workers=0" in refused(capsys, *good, "--workers", 0)
    assert "within the input" in refused(capsys, *good[:2], work / "in" / "out")
    assert "not an empty folder" in refused(capsys, *good[:2], work)
    assert not (work / "out").exists()


def test_a_wrong_tokenizer_is_told_before_the_run(capsys, work):
    good = [work / "plain.toml", work / "in", work / "out"]
    assert "none" in refused(capsys, *good, "--tokenizer", work / "none")
    (work / "bad.model").write_text("no ranks at all")
    refused(capsys, *good, "--tokenizer", work / "bad.model")
    assert "slurm" in refused(
        capsys, *good, "--tokenizer", work / "bytes.model", "--engine", "slurm"
    )
    assert not (work / "out").exists()


def test_the_folder_of_another_recipe_is_left_alone(capsys, work):
    argv = [work / "plain.toml", work / "in", work / "out"]
    assert run(capsys, *argv)[0] == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in (work / "out").rglob("*"))
    argv[0].write_text(RECIPE.replace("= 5", "= 6"), encoding="utf-8")
    assert "another recipe or input" in refused(capsys, *argv)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (work / "out").rglob("*"))


def test_a_damaged_line_is_counted_and_a_missing_package_named(capsys, work, monkeypatch):
    with open(work / "in" / "b.jsonl", "a", encoding="utf-8") as file:
        file.write("no json\n")
    code, out, _ = run(capsys, work / "plain.toml", work / "in", work / "out")
    assert code == 0 and re.search("^read .* no JSON 1$", out, re.M)
    monkeypatch.delitem(sys.modules, "llama3lib.data.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "datatrove", None)
    for name in [name for name in sys.modules if name.startswith("datatrove.")]:
        monkeypatch.setitem(sys.modules, name, None)
    argv = [work / "plain.toml", work / "in", work / "other", "--engine", "local"]
    assert "llama3lib[cluster]" in refused(capsys, *argv)
    monkeypatch.setitem(sys.modules, "lxml", None)
    (work / "page.html").write_text("<p>page", encoding="utf-8")
    message = refused(capsys, "web", work / "page.html", work / "other")
    assert "lxml is not installed: pip install 'llama3lib[data]'" in message
    assert not (work / "other").exists()


def test_an_engine_with_a_package_of_its_own_and_slurm_without_its_command(
    capsys, work, monkeypatch
):
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    text = '[[steps]]\nuse = "extract"\nengine = "trafilatura"\n'
    (work / "own.toml").write_text(text, encoding="utf-8")
    assert "pip install 'trafilatura'" in refused(
        capsys, work / "own.toml", work / "in", work / "out"
    )
    monkeypatch.setenv("PATH", str(work))
    argv = [work / "plain.toml", work / "in", work / "out", "--engine", "slurm"]
    assert "sbatch" in refused(capsys, *argv)
    assert not (work / "out").exists()


def test_tokens(capsys, work):
    argv = [work / "plain.toml", work / "in", work / "out", "--tokenizer", work / "bytes.model"]
    for _ in range(2):  # the second time they are written anew
        code, out, _ = run(capsys, *argv)
        assert code == 0 and out.splitlines()[-1].startswith("Tokens: ")
    shard = TokenShard(work / "out" / "tokens")
    shard.verify()
    tokenizer = Tokenizer.from_file(work / "bytes.model")
    files = sorted((work / "out" / "documents").iterdir())
    texts = [json.loads(line)["text"] for f in files for line in f.read_text().splitlines()]
    assert shard.index["documents"] == len(texts) == 21
    for place, text in enumerate(texts):
        assert shard.document(place).tolist() == tokenizer.encode(text, bos=True, eos=True)
    per_token = sum(map(len, texts)) / len(shard)
    assert f"Tokens: {len(shard):,}" in out and f"{per_token:.2f} characters each" in out


def test_nothing_left_is_told_and_no_shard_written(capsys, work):
    text = RECIPE.replace("least_words = 5", "least_words = 500")
    (work / "plain.toml").write_text(text, encoding="utf-8")
    argv = [work / "plain.toml", work / "in", work / "out", "--tokenizer", work / "bytes.model"]
    code, _, err = run(capsys, *argv)
    assert code == 2 and err.count("\n") == 1 and "empty" in err
    assert not (work / "out" / "tokens").exists()
