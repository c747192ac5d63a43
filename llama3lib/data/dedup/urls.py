"""URL de-duplication: of each page, the most recent version stays (paper section 3.1.1)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from llama3lib.data.dates import instant
from llama3lib.data.document import CorpusStep, Document, Drop

_TRACKING = ("utm_", "fbclid", "gclid", "mc_cid", "mc_eid", "ref_src", "sessionid", "phpsessid")


def normalize_url(url: str) -> str:
    """One spelling for addresses that lead to the same page.

    Lower-case scheme and host, `http` as `https`, no `www.`, no default port, no fragment, no
    tracking parameters, parameters in order, no slash at the end, no `<>` around it.
    """
    url = url.strip().removeprefix("<").removesuffix(">")
    url = url.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:  # such as a broken IPv6 host: still a name, though no address
        return url
    if not host:
        return url
    host = host.removeprefix("www.")
    if port and port not in (80, 443):
        host = f"{host}:{port}"
    scheme = "https" if parts.scheme in ("http", "https") else parts.scheme
    # bytes of older character sets must survive: other bytes are another page
    pairs = parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    kept = sorted(pair for pair in pairs if not pair[0].lower().startswith(_TRACKING))
    query = urlencode(kept, errors="surrogateescape")
    return urlunsplit((scheme, host, parts.path.rstrip("/") or "/", query, ""))


@dataclass(frozen=True, kw_only=True)
class KeepNewestURL(CorpusStep):
    """Of all documents with one `url`, keep the one with the latest `date`.

    Dates are compared as instants, whatever their time zones; what is no date is older than all.
    Equal dates: the one that comes last in the input. Documents without a URL stay. The decision
    is the list of ids to drop, with the id of the version that stays.
    """

    name: ClassVar[str] = "url_dedup"

    def collect(self, document: Document) -> Any:
        url = document.metadata.get("url")
        return [normalize_url(str(url)), instant(document.metadata.get("date"))] if url else None

    def decide(self, notes: Iterable[tuple[str, Any]]) -> dict[str, str]:
        newest: dict[str, tuple[str, str]] = {}
        older: list[tuple[str, str]] = []
        for name, note in notes:
            if note is None:
                continue
            url, date = note
            known = newest.get(url)
            if known is None or date >= known[0]:
                newest[url] = (date, name)
                name = known[1] if known else ""
            if name:
                older.append((name, url))
        return {name: newest[url][1] for name, url in older}

    def apply(self, document: Document, decision: dict[str, str]) -> Document | Drop:
        newer = decision.get(document.id)
        return Drop("older version", f"newest: {newer}") if newer is not None else document
