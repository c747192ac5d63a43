"""The record of a learner: kept whole, shared by notebooks, never lost, never in the way."""

import json

import pytest

from widgets.core.progress import PAUSE, Ledger, default_path, ledger, use_ledger


@pytest.fixture
def record(tmp_path):
    return Ledger(tmp_path / "deep" / "progress.json")


def test_checks_count_tries_and_keep_the_first_pass(tmp_path):
    clock = iter(range(0, 100_000, 60))
    record = Ledger(tmp_path / "p.json", now=lambda: next(clock))
    for passed in (False, True, False, True):
        record.record_check("01.1", passed)
    entry = record.read()["checks"]["01.1"]
    assert entry["tries"] == 4
    first = entry["passed_at"]
    assert first is not None
    record.record_check("01.1", True)
    assert record.read()["checks"]["01.1"]["passed_at"] == first


def test_two_notebooks_do_not_undo_each_other(tmp_path):
    one, other = Ledger(tmp_path / "p.json"), Ledger(tmp_path / "p.json")
    one.record_check("01.1", True)
    other.record_check("01.2", False)
    one.record_hint("01.2", 2)
    assert set(other.read()["checks"]) == {"01.1", "01.2"}
    assert other.read()["hints"] == {"01.2": 2}


def test_locked_predictions_stay_and_again_keeps_the_earlier_one(record):
    assert record.lock_prediction("01.2", 30)
    assert not record.lock_prediction("01.2", 50)
    assert record.prediction("01.2")["value"] == 30
    assert record.lock_prediction("01.2", 50, again=True)
    record.record_truth("01.2", 47.5)
    entry = record.prediction("01.2")
    assert (entry["value"], entry["earlier"], entry["truth"]) == (50, [30], 47.5)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "",
        "[]",
        "\x00\x01",
        '{"checks": []}',
        '{"renames": "two"}',
        '{"checks": {"01.1": 3}}',
        '{"checks": {"01.1": {}}}',
        '{"hints": {"01.1": "two"}}',
        '{"quiz": {"01": {"why?": 1}}}',
        '{"predictions": {"01.1": {"value": 1}}}',
    ],
)
def test_damaged_file_is_kept_aside_and_said(record, capsys, text):
    record.path.parent.mkdir()
    for number in ("", "-2"):
        record.path.write_text(text, encoding="utf-8")
        record.record_check("01.1", True)
        record.record_hint("01.1", 1)
        aside = record.path.with_suffix(f".broken{number}")
        assert aside.read_text(encoding="utf-8") == text
        assert aside.name in capsys.readouterr().out
        assert record.read()["checks"]["01.1"]["tries"] == 1


def test_bytes_that_are_no_text_are_kept_aside(record):
    record.path.parent.mkdir()
    record.path.write_bytes(b"\xff\xfe\x80")
    record.record_hint("01.1", 1)
    assert record.path.with_suffix(".broken").read_bytes() == b"\xff\xfe\x80"


def test_what_a_later_version_wrote_is_carried_along(record):
    record.path.parent.mkdir()
    record.path.write_text('{"version": 7, "badges": ["x"]}', encoding="utf-8")
    record.record_hint("01.1", 1)
    data = json.loads(record.path.read_text(encoding="utf-8"))
    assert (data["version"], data["badges"]) == (7, ["x"])


def test_a_disk_that_cannot_be_written_costs_only_the_record(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    record = Ledger(tmp_path / "file" / "progress.json")
    record.record_check("01.1", True)
    assert "cannot be" in capsys.readouterr().out


def test_minutes_leave_out_pauses(tmp_path):
    times = iter([0, 300, 300 + PAUSE + 1, 300 + PAUSE + 61])
    record = Ledger(tmp_path / "p.json", now=lambda: next(times))
    for _ in range(4):
        record.record_hint("01.1", 1)
    assert record.minutes("01") == pytest.approx((300 + 60) / 60)
    assert record.minutes("02") == 0


def test_place_of_the_file(tmp_path, monkeypatch):
    assert default_path() == ledger().path == tmp_path / "progress.json"  # set by the fixture
    use_ledger(tmp_path / "other.json")
    try:
        ledger().record_hint("01.1", 1)
        assert (tmp_path / "other.json").exists()
    finally:
        use_ledger(None)
    monkeypatch.delenv("LLAMA3_COURSE_PROGRESS")
    assert default_path().parts[-2:] == ("llama3-course", "progress.json")


def test_renamed_ids_keep_their_record_and_are_renamed_once(record, monkeypatch):
    """A number may go to another exercise: all of a step are renamed at the same time."""
    monkeypatch.setattr("widgets.core.progress.RENAMES", ())
    for name in ("05.3", "05.4", "05.6"):
        record.record_check(name, True)
    record.record_hint("05.4", 2)
    record.lock_prediction("05.4", 30)
    step = {"exercises": {"05.3": "05.4", "05.4": "05.5", "05.9": "05.10"}}
    monkeypatch.setattr("widgets.core.progress.RENAMES", (step,))
    record.record_check("05.6", False)
    for _ in range(2):  # as read, and as written and read again
        data = record.read()
        assert set(data["checks"]) == {"05.4", "05.5", "05.6"}
        assert data["hints"] == {"05.5": 2}
        assert set(data["predictions"]) == {"05.4"}
        record.record_hint("05.5", 1)
    more = {"predictions": {"05.4": "05.1"}, "exercises": {"05.4": "05.6"}}
    monkeypatch.setattr("widgets.core.progress.RENAMES", (step, more))
    data = record.read()
    assert set(data["predictions"]) == {"05.1"}
    assert set(data["checks"]) == {"05.4", "05.5", "05.6"}  # 05.6 was taken: nothing is lost


def test_a_new_record_needs_no_renaming(record, monkeypatch):
    monkeypatch.setattr("widgets.core.progress.RENAMES", ({"exercises": {"05.3": "05.4"}},))
    record.record_check("05.3", True)
    assert set(record.read()["checks"]) == {"05.3"}
