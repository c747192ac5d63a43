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


def _failing(monkeypatch, fails):
    """Let os.rename fail at the calls with these numbers."""
    real, calls = os.rename, []

    def rename(old, new):
        calls.append(new)
        if len(calls) in fails:
            raise fails[len(calls)]
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)


@pytest.mark.parametrize("error", [OSError("busy"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", [1, 2])
def test_a_failed_swap_puts_the_old_folder_back(tmp_path, monkeypatch, error, call):
    target = tmp_path / "f"
    target.mkdir()
    (target / "a").write_text("old", encoding="utf-8")
    _failing(monkeypatch, {call: error})
    with pytest.raises(type(error)), atomic_folder(target, overwrite=True) as folder:
        (folder / "b").write_text("new", encoding="utf-8")
    assert (target / "a").read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_the_old_folder_is_never_deleted_before_the_new_one_stands(tmp_path, monkeypatch):
    target = tmp_path / "f"
    target.mkdir()
    (target / "a").write_text("old", encoding="utf-8")
    _failing(monkeypatch, {2: OSError("busy"), 3: OSError("busy")})
    with pytest.raises(OSError), atomic_folder(target, overwrite=True):
        pass
    [aside] = tmp_path.glob(".f.*.old")
    assert (aside / "a").read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_text("x", encoding="utf-8")
    (tmp_path / "dir").mkdir()
    ordinary = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    with atomic_write(tmp_path / "a") as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)  # as writers do that make a private file of their own
    with atomic_folder(tmp_path / "f") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "b").touch(mode=0o600)
    for path in (tmp_path / "a", tmp_path / "f" / "deep" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == ordinary
    folders = [tmp_path / "dir", tmp_path / "f", tmp_path / "f" / "deep"]
    assert len({stat.S_IMODE(path.stat().st_mode) for path in folders}) == 1


def test_the_umask_of_the_process_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("other threads would see it"))
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_bytes(b"x")
    with atomic_folder(tmp_path / "f"):
        pass
