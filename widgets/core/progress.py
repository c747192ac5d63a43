"""What a learner has done, in one JSON file on their own disk: no account, nothing is sent."""

import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_data_path

from llama3lib.utils.files import atomic_write

VERSION = 1
PAUSE = 600.0
"""Seconds without an entry after which the clock of a chapter stands still."""
RENAMES: tuple[dict[str, dict[str, str]], ...] = (
    # exercises in the order in which they come; predictions under names of their own
    {
        "exercises": {
            "01.3": "01.2",
            "01.4": "01.3",
            "01.5": "01.4",
            "01.2": "01.5",
            "02.2": "02.1",
            "02.3": "02.2",
            "02.1": "02.3",
            "02.5": "02.4",
            "02.4": "02.5",
            "09.6": "09.5",
            "09.5": "09.6",
        },
        "predictions": {
            "01.2": "P01.1",
            "01.3": "P01.2",
            "01.4": "P01.3",
            "01.5": "P01.4",
            "01.7": "P01.6",
            "01.8": "P01.7",
            "01.9": "P01.8",
            "01.10": "P01.9",
            "01.11": "P01.10",
            "01.12": "P01.11",
            "01.13": "P01.12",
            "01.14": "P01.13",
            "01.15": "P01.14",
            "01.16": "P01.15",
            "02.1": "P02.1",
            "02.13": "P02.2",
            "02.2": "P02.3",
            "02.3": "P02.4",
            "02.4": "P02.5",
            "02.5": "P02.6",
            "02.6": "P02.7",
            "02.14": "P02.8",
            "02.7": "P02.9",
            "02.15": "P02.10",
            "02.8": "P02.11",
            "02.9": "P02.12",
            "02.10": "P02.14",
            "02.12": "P02.15",
            "02.11": "P02.16",
            "02.16": "P02.17",
            "02.17": "P02.18",
            "03.1": "P03.1",
            "03.2": "P03.2",
            "03.3": "P03.3",
            "03.4": "P03.4",
            "03.5": "P03.5",
            "03.6": "P03.6",
            "03.7": "P03.7",
            "03.8": "P03.8",
            "03.9": "P03.9",
            "03.13": "P03.10",
            "03.10": "P03.11",
            "03.11": "P03.12",
            "03.12": "P03.13",
            "05.1": "P05.1",
            "05.2": "P05.2",
            "05.3": "P05.3",
            "05.4": "P05.4",
            "05.5": "P05.5",
            "05.6": "P05.6",
            "05.7": "P05.7",
            "05.11": "P05.8",
            "05.8": "P05.9",
            "05.9": "P05.10",
            "05.10": "P05.11",
            "09.1": "P09.1",
            "09.2": "P09.2",
            "09.3": "P09.3",
            "09.4": "P09.4",
            "09.5": "P09.5",
            "09.6": "P09.6",
            "09.7": "P09.7",
            "09.8": "P09.8",
            "09.9": "P09.9",
            "09.10": "P09.10",
            "09.11": "P09.11",
            "09.12": "P09.12",
            "09.13": "P09.13",
        },
    },
    # further experiments, each with a prediction where its question arises
    {
        "predictions": {
            "P01.13": "P01.14",
            "P01.14": "P01.15",
            "P01.15": "P01.16",
            "P05.10": "P05.12",
            "P05.11": "P05.13",
            "P09.6": "P09.7",
            "P09.7": "P09.8",
            "P09.8": "P09.9",
            "P09.9": "P09.10",
            "P09.10": "P09.11",
            "P09.11": "P09.12",
            "P09.12": "P09.13",
            "P09.13": "P09.14",
        },
    },
)
"""Ids that a new edition of a chapter renamed, old to new; one step for each such edition.

As {"exercises": {"05.3": "05.4"}, "predictions": {"05.9": "05.10"}}. A record counts the steps it
has been through; only add steps at the end.
"""
_RENAMED = {"exercises": ("checks", "hints"), "predictions": ("predictions",)}
_EMPTY = {"checks": {}, "hints": {}, "predictions": {}, "quiz": {}, "time": {}}


def chapter_of(name: str) -> str:
    """The chapter of an exercise (01.4), a prediction (P01.4) or a quiz (01)."""
    return name.removeprefix("P").split(".")[0]


def default_path() -> Path:
    """The file's place: LLAMA3_COURSE_PROGRESS if set, else the user's data folder."""
    if named := os.environ.get("LLAMA3_COURSE_PROGRESS"):
        return Path(named)
    folder = user_data_path("llama3-course", appauthor=False, roaming=True)
    return folder / "progress.json"


class Ledger:
    """The file, read at every use and written whole, so several notebooks can share it.

    A file that cannot be understood is kept beside as `.broken` and a new one begun. A disk that
    cannot be read or written costs the record, never the lesson. Entries this version does not
    know are carried along unchanged.
    """

    def __init__(self, path: Path | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = path, now

    @property
    def path(self) -> Path:
        """Where the record is kept."""
        return Path(self._path) if self._path else default_path()

    def read(self) -> dict:
        """The whole record; an empty one if there is none yet."""
        data: dict = {"renames": len(RENAMES)}
        try:
            data = _renamed(_understood(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except OSError as error:
            print(f"(Progress cannot be read: {error})")
        except ValueError:
            self._keep_aside()
        return {"version": VERSION} | copy.deepcopy(_EMPTY) | data

    def _keep_aside(self) -> None:
        aside, number = self.path.with_suffix(".broken"), 1
        while aside.exists():
            number += 1
            aside = self.path.with_suffix(f".broken-{number}")
        try:
            self.path.replace(aside)
        except OSError as error:
            print(f"(The progress file is damaged and cannot be moved: {error})")
        else:
            print(f"(The progress file was damaged. It is kept as {aside.name}; a new one begins.)")

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
                entry["passed_at"] = self._stamp()
            self._tick(data, name)

        self.change(edit)

    def record_hint(self, name: str, level: int) -> None:
        """A hint was read. Told in the report, never counted against anybody."""

        def edit(data: dict) -> None:
            data["hints"][name] = max(level, data["hints"].get(name, 0))
            self._tick(data, name)

        self.change(edit)

    def lock_prediction(self, name: str, value: float | str, *, again: bool = False) -> bool:
        """Keep a prediction; False if one was locked before and `again` is not asked for.

        With `again` the earlier values stay in the record.
        """
        before = self.read()["predictions"].get(name)
        if before is not None and not again:
            return False
        earlier = [*before["earlier"], before["value"]] if before else []
        entry = {"value": value, "locked_at": self._stamp(), "earlier": earlier, "truth": None}

        def edit(data: dict) -> None:
            data["predictions"][name] = entry
            self._tick(data, name)

        self.change(edit)
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

    def record_answer(self, quiz: str, question: str, option: str, correct: bool) -> None:
        """One answer to a quiz question. Both are kept as text, so reordering loses nothing."""

        def edit(data: dict) -> None:
            entry = (
                data["quiz"]
                .setdefault(quiz, {})
                .setdefault(question, {"tries": 0, "right": False, "first_right": correct})
            )
            entry["tries"] += 1
            entry["right"] = entry["right"] or correct
            entry["last"] = option
            self._tick(data, quiz)

        self.change(edit)

    def minutes(self, chapter: str) -> float:
        """Minutes between the entries of a chapter, pauses over ten minutes left out."""
        return self.read()["time"].get(chapter, {}).get("seconds", 0.0) / 60

    def _tick(self, data: dict, name: str) -> None:
        now = self._now()
        clock = data["time"].setdefault(chapter_of(name), {"seconds": 0.0, "last": now})
        passed = now - clock["last"]
        clock["seconds"] += passed if 0 <= passed <= PAUSE else 0.0
        clock["last"] = now

    def _stamp(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self._now()))


def _understood(text: str) -> dict:
    """The record in a file's text. Raises ValueError if it is none."""
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("the record must be an object")
    if not isinstance(data.get("renames", 0), int):
        raise ValueError("renames of the record is not a number")
    for part in _EMPTY:
        entries = data.get(part, {})
        nested = part != "hints"
        if not isinstance(entries, dict) or any(
            not isinstance(entry, dict if nested else int) for entry in entries.values()
        ):
            raise ValueError(f"{part} of the record is not as expected")
    for name, fields in _FIELDS.items():
        entries = list(data.get(name, {}).values())
        if name == "quiz":
            entries = [answer for quiz in entries for answer in quiz.values()]
        if any(not isinstance(entry, dict) or not fields <= set(entry) for entry in entries):
            raise ValueError(f"an entry of {name} lacks a field")
    return data


def _renamed(data: dict) -> dict:
    """The record under today's ids. An entry whose new id is taken keeps its old one."""
    done = data.get("renames", 0)
    for step in RENAMES[done:]:
        for kind, table in step.items():
            for part in _RENAMED[kind]:
                entries = data.get(part, {})
                made = {old: entry for old, entry in entries.items() if old not in table}
                for old in entries.keys() & table.keys():
                    wishes = (table[old], old, f"{old} (before)")
                    made[next(name for name in wishes if name not in made)] = entries[old]
                data[part] = made
    return data | {"renames": max(done, len(RENAMES))}


_FIELDS = {
    "checks": {"tries", "passed_at"},
    "predictions": {"value", "locked_at", "earlier", "truth"},
    "quiz": {"tries", "right", "first_right", "last"},
    "time": {"seconds", "last"},
}

_current = Ledger()


def ledger() -> Ledger:
    """The record in use."""
    return _current


def use_ledger(path: str | Path | None) -> Ledger:
    """Keep the record in another file from now on; None: the default place."""
    global _current
    _current = Ledger(Path(path) if path else None)
    return _current
