"""Files and folders appear whole or not at all."""

import os
import stat

import pytest

from llama3lib.utils.files import atomic_folder, atomic_write, sha256_file


def test_write_is_whole(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("one", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "one"
    if os.name != "nt":
        assert stat.S_IMODE(target.stat().st_mode) & 0o400


def test_an_error_leaves_what_was_there(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), atomic_write(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folders_are_swapped_whole(tmp_path):
    target = tmp_path / "f"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1", encoding="utf-8")
    with pytest.raises(ValueError, match="not empty"), atomic_folder(target):
        pass
    with pytest.raises(RuntimeError), atomic_folder(target, overwrite=True) as folder:
        (folder / "b").write_text("2", encoding="utf-8")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["a"]
    with atomic_folder(target, overwrite=True) as folder:
        (folder / "b").write_text("2", encoding="utf-8")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="it is a file"), atomic_folder(tmp_path / "file"):
        pass


def test_digest_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a", chunk=2).startswith("ba7816bf8f01cfea414140de5dae2223")
