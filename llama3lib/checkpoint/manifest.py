"""A folder of one step: its name, its manifest, and what an interrupted run leaves behind.

A folder `step-00001200` counts once it has a `manifest.json` with size and SHA-256 of every other
file. It is written last, and the folder gets its name after that.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.utils.files import sha256_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MANIFEST = "manifest.json"
_FORMAT = {"format": "llama3lib training checkpoint", "version": 1}
_STEP = re.compile(r"step-(0\d{7}|[1-9]\d{7,18})")
_LEFT_OVER = re.compile(r"\.(step-\d{8,19})\.[0-9a-f]{16}\.(tmp|old)")
_SURELY_DEAD = 3600.0  # seconds without a write, where there are no locks to ask


class DamagedError(CheckpointError):
    """A checkpoint whose files are not those that were written; an older one may do."""


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def step_folders(folder: Path) -> dict[int, Path]:
    """Every folder that is named like a checkpoint, by step, ascending."""
    try:
        found = [entry for entry in folder.iterdir() if _STEP.fullmatch(entry.name)]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
    return dict(sorted((int(entry.name[5:]), entry) for entry in found if entry.is_dir()))


def describe_file(path: Path) -> dict[str, int | str]:
    """Size and SHA-256 of a file, as they stand in the manifest."""
    return {"size": path.stat().st_size, "sha256": sha256_file(path)}


def write_manifest(path: Path, step: int, keep: bool, files: Mapping[str, dict]) -> None:
    """Write the manifest of a folder whose other files are complete."""
    data = {**_FORMAT, "step": step, "keep": keep, "files": dict(files)}
    (path / MANIFEST).write_bytes(_encode(data))


def read_manifest(path: Path) -> dict:
    """The manifest of a step's folder, with the keys "step", "keep" and "files".

    Raises DamagedError if it is missing, or is not byte by byte what `write_manifest` writes.
    """
    file = path / MANIFEST
    try:
        raw = file.read_bytes()
        data = json.loads(raw)
        same = raw == _encode(data)  # one spelling only: no other keys hide in it, none twice
    except FileNotFoundError:
        raise DamagedError(f"{file} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file} is damaged: {error}"[:300]) from None
    if not same or not _is_manifest(data, path):
        raise DamagedError(f"{file} is damaged, or of another program or version")
    return data


def check_files(path: Path, files: Mapping[str, dict], names: Sequence[str]) -> None:
    """Compare files with what the manifest says of them. Raises DamagedError naming the first."""
    for name in names:
        file = path / name
        try:
            found = file.lstat()
            if not stat.S_ISREG(found.st_mode):  # a link could lead anywhere, a pipe never ends
                raise DamagedError(f"{file} is damaged: it is no plain file")
            if found.st_size != files[name]["size"]:
                wanted = files[name]["size"]
                raise DamagedError(f"{file} has {found.st_size} bytes, {wanted} were written")
            if sha256_file(file) != files[name]["sha256"]:
                raise DamagedError(f"{file} is damaged: its SHA-256 is not the one in {MANIFEST}")
        except FileNotFoundError:
            raise DamagedError(f"{file} is missing") from None
        except OSError as error:
            raise DamagedError(f"{file} cannot be read: {error}") from error


def remove_step(path: Path) -> None:
    """Delete a checkpoint; one that is half deleted no longer has a checkpoint's name."""
    aside = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
    os.rename(path, aside)
    _remove(aside)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """While this lasts, no process takes our temporary folders for left-overs."""
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, exclusive=False):
        yield


def remove_left_overs(folder: Path) -> None:
    """Delete what killed runs were writing, and put back what they had moved aside.

    Does nothing while another process writes. A system that has no locks cannot tell us: there
    what has not changed for an hour is taken for dead.
    """
    if not folder.is_dir():
        return
    with _lock(folder, exclusive=True) as alone:
        for entry in folder.iterdir() if alone is not False else ():
            match = _LEFT_OVER.fullmatch(entry.name)
            if match is None or not (alone or _is_old(entry)):
                continue
            home = folder / match[1]
            with contextlib.suppress(OSError):  # who may only read here can still read
                if match[2] == "old" and not home.exists():
                    os.rename(entry, home)
                else:
                    _remove(entry)


def _encode(data: object) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()


def _is_manifest(data: object, path: Path) -> bool:
    if not isinstance(data, dict) or data.keys() != {*_FORMAT, "step", "keep", "files"}:
        return False
    files = data["files"]
    return (
        all(data[key] == value for key, value in _FORMAT.items())
        and type(data["step"]) is int
        and step_folder(path.parent, data["step"]).name == path.name
        and type(data["keep"]) is bool
        and isinstance(files, dict)
        and all(_is_entry(name, entry) for name, entry in files.items())
    )


def _is_entry(name: str, entry: object) -> bool:
    """Whether a file is one in this very folder, with a size and a sum."""
    return (
        re.fullmatch(r"[A-Za-z0-9_.-]+", name) is not None
        and name not in (".", "..", MANIFEST)
        and isinstance(entry, dict)
        and entry.keys() == {"size", "sha256"}
        and type(entry["size"]) is int
        and type(entry["sha256"]) is str
    )


@contextlib.contextmanager
def _lock(folder: Path, *, exclusive: bool) -> Iterator[bool | None]:
    """Lock a folder: writers share it, and who cleans up has it alone or not at all.

    Yields True with the lock, False if others have it, None where nobody can say. A process that
    is killed loses its locks, which is more than a file with its number could tell.
    """
    handle = None
    try:
        try:
            handle = os.open(folder, os.O_RDONLY) if fcntl else None
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
            held = True if fcntl else None
        except BlockingIOError:
            held = False
        except OSError:  # a network file system without locks
            held = None
        yield held
    finally:
        if handle is not None:
            os.close(handle)


def _is_old(path: Path) -> bool:
    times = [entry.lstat().st_mtime for entry in [path, *path.rglob("*")]]
    return max(times) < time.time() - _SURELY_DEAD


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
