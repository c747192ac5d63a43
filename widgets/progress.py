"""What a learner has done, in one JSON file on their own disk: no account, nothing is sent."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from llama3lib.utils.files import atomic_write

VERSION = 1
_EMPTY = {"version": VERSION, "checks": {}, "hints": {}, "predictions": {}, "quiz": {}}


def default_path() -> Path:
    """The file's place: LLAMA3_COURSE_PROGRESS if set, else the user's data folder."""
    if named := os.environ.get("LLAMA3_COURSE_PROGRESS"):
        return Path(named)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA", home / "AppData" / "Roaming"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", home / ".local" / "share"))
    return base / "llama3-course" / "progress.json"


class Ledger:
    """The file, read at every use and written whole, so several notebooks can share it.

    A file that cannot be read is kept beside as `.broken` and a new one begun. A disk that
    cannot be written costs the record, never the lesson.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """Where the record is kept."""
        return self._path or default_path()

    def read(self) -> dict:
        """The whole record; an empty one if there is none yet."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            data = {}
        except OSError as error:
            print(f"(Progress cannot be read: {error})")
            data = {}
        except ValueError:
            aside = self.path.with_suffix(f".broken-{int(time.time())}")
            self.path.replace(aside)
            print(f"(The progress file was damaged. It is kept as {aside.name}; a new one begins.)")
            data = {}
        if not isinstance(data, dict):
            data = {}
        kept = {key: data.get(key, default) for key, default in _EMPTY.items()}
        return json.loads(json.dumps(kept))

    def change(self, edit: Callable[[dict], None]) -> None:
        """Read, apply `edit` to the record, write whole."""
        data = self.read()
        edit(data)
        text = json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True)
        try:
            with atomic_write(self.path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            print(f"(Progress cannot be kept: {error})")

    def record_check(self, name: str, passed: bool) -> None:
        """One press of `check`."""

        def edit(data: dict) -> None:
            entry = data["checks"].setdefault(name, {"tries": 0, "passed_at": None})
            entry["tries"] += 1
            if passed and entry["passed_at"] is None:
                entry["passed_at"] = _now()

        self.change(edit)

    def record_hint(self, name: str, level: int) -> None:
        """A hint was read. Told in the report, never counted against anybody."""

        def edit(data: dict) -> None:
            data["hints"][name] = max(level, data["hints"].get(name, 0))

        self.change(edit)

    def lock_prediction(self, name: str, value: float | str, *, again: bool = False) -> bool:
        """Keep a prediction; False if one was locked before and `again` is not asked for."""
        before = self.read()["predictions"].get(name)
        if before is not None and not again:
            return False
        entry = {"value": value, "locked_at": _now(), "again": before is not None, "truth": None}
        self.change(lambda data: data["predictions"].__setitem__(name, entry))
        return True

    def prediction(self, name: str) -> dict | None:
        """The locked prediction of that name, or None."""
        return self.read()["predictions"].get(name)

    def record_truth(self, name: str, truth: float | str) -> None:
        """What the locked prediction was to be compared with."""

        def edit(data: dict) -> None:
            if name in data["predictions"]:
                data["predictions"][name]["truth"] = truth

        self.change(edit)

    def record_answer(self, quiz: str, question: int, option: int, correct: bool) -> None:
        """One answer to a quiz question."""

        def edit(data: dict) -> None:
            entry = data["quiz"].setdefault(quiz, {}).setdefault(
                str(question), {"tries": 0, "right": False, "first_right": correct}
            )
            entry["tries"] += 1
            entry["right"] = entry["right"] or correct
            entry["last"] = option

        self.change(edit)


_current = Ledger()


def ledger() -> Ledger:
    """The record in use."""
    return _current


def use_ledger(path: Path | None) -> Ledger:
    """Keep the record in another file from now on; None: the default place."""
    global _current
    _current = Ledger(path)
    return _current


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M")
