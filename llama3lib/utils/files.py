"""Files that are written whole or not at all."""

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from llama3lib.utils.require import require


def sha256_file(path: str | os.PathLike, chunk: int = 1 << 20) -> str:
    """Hex digest of a file, read in pieces so that size does not matter."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(chunk):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends well.

    After an error, or a crash at any moment, `path` is what it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path, "tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = _mode(temporary)
        yield temporary
        temporary.chmod(mode)  # some writers put a private file of their own in its place
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block ends well.

    Raises ValueError if `path` holds anything and `overwrite` is False. With `overwrite` the old
    folder is moved aside, replaced, and only then deleted; if that fails it is moved back. A power
    cut between the two renames leaves the old folder beside `path`, under a name that ends in
    ".old".
    """
    path = Path(path)
    ok = not path.exists() or path.is_dir()
    require(ok, "path", str(path), "it is a file, a folder is needed")
    ok = not path.is_dir() or not any(path.iterdir()) or overwrite
    require(ok, "path", str(path), "the folder is not empty")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path, "tmp")
    try:
        temporary.mkdir()
        mode = _mode(temporary) & 0o666
        yield temporary
        for entry in [*temporary.rglob("*"), temporary]:
            if entry.is_dir():
                _sync_folder(entry)
            elif entry.is_file():
                entry.chmod(mode)
                _sync(entry)
        _swap(temporary, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        os.rename(new, path)
        return
    old = _sibling(path, "old")
    try:
        os.rename(path, old)
        os.rename(new, path)
    except BaseException:  # Ctrl-C too: what was moved aside is the only copy now
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(path: Path, suffix: str) -> Path:
    """A new name in the same folder, so that renaming never crosses a file system."""
    return path.parent / f".{path.name}.{secrets.token_hex(8)}.{suffix}"


def _mode(path: Path) -> int:
    """Permissions of a file just made: what the user's own settings give a new one."""
    return stat.S_IMODE(path.stat().st_mode)


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is durable by itself
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
