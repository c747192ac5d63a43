"""Dates of documents as instants, however a page, a table or an archive writes them."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

_YEAR_OR_MONTH = re.compile(r"(\d{4})(?:-(\d\d))?")
_SECONDS = re.compile(r"\d{10}|\d{13}")
_DIGITS = re.compile(r"(\d{8})(\d{6})")  # of a capture in an archive's index
_LEAST_MILLISECONDS = 1e11  # as seconds this were the year 5138
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(date: Any) -> str:
    """A date as text that sorts as time does, in UTC; "" if it is none.

    Read are ISO 8601 with and without time and zone (none: UTC), a year or a month alone, RFC 5322
    (`Wed, 01 May 2024 12:00:00 GMT`), 14 digits, and seconds or milliseconds since 1970.
    """
    try:
        moment = _moment(date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC).replace(tzinfo=None)
        return moment.isoformat(timespec="microseconds")
    except (ValueError, TypeError, OverflowError, IndexError):
        return ""


def _moment(date: Any) -> datetime:
    if isinstance(date, int | float) and not isinstance(date, bool):
        seconds = date / 1000 if abs(date) >= _LEAST_MILLISECONDS else date
        return _EPOCH + timedelta(seconds=seconds)
    text = str(date).strip()
    if _SECONDS.fullmatch(text):
        return _moment(int(text))
    if found := _YEAR_OR_MONTH.fullmatch(text):
        return datetime(int(found[1]), int(found[2] or 1), 1)
    if found := _DIGITS.fullmatch(text):
        text = f"{found[1]}T{found[2]}"
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)
