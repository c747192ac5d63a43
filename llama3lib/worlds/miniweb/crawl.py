"""Serve the mini-web on this machine and crawl it into a web archive (WARC).

The server answers for all hosts of the mini-web on one local port, told apart by the `Host` header
as real servers do. The crawler follows links from page to page, so that what the pipeline reads
went the whole way: HTTP, links, archive.
"""

import contextlib
import http.client
import re
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from llama3lib.data.warc import WarcWriter
from llama3lib.utils.files import atomic_write
from llama3lib.worlds.miniweb.web import MiniWeb

_LINK = re.compile(r"""<a\s[^>]{0,200}?href\s*=\s*["']([^"'<>]{1,2000})["']""", re.IGNORECASE)
_MOST_BYTES = 4 << 20
_PER_INDEX = 200  # links on one page of a site's index


@contextlib.contextmanager
def serve(web: MiniWeb, as_of: str = "9999") -> Iterator[int]:
    """Serve the pages as they were at a date (ISO 8601) on 127.0.0.1; yields the port."""
    pages = {page.url: page for page in web.pages if page.date <= as_of}
    answers = {url: (page.html.encode("utf-8"), page.date) for url, page in pages.items()}
    for site in web.sites:
        own = sorted(url for url in pages if urlsplit(url).hostname == site.host)
        answers |= {url: (body, "") for url, body in _indexes(site.host, own)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet; two would wait 40 ms for each other

        def do_GET(self) -> None:
            body, date = answers.get(f"http://{self.headers.get('Host')}{self.path}", (None, ""))
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body or b"")))
            if date:
                self.send_header("Last-Modified", date)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a thousand lines would drown everything else."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _indexes(host: str, urls: list[str]) -> Iterator[tuple[str, bytes]]:
    """A site's start page and further pages that link to all of its pages."""
    parts = [urls[start : start + _PER_INDEX] for start in range(0, len(urls), _PER_INDEX)] or [[]]
    for number, part in enumerate(parts):
        path = "/" if number == 0 else f"/index-{number}.html"
        more = f'<a href="/index-{number + 1}.html">More</a>' if number + 1 < len(parts) else ""
        links = "".join(f'<li><a href="{urlsplit(url).path}">page</a></li>' for url in part)
        yield f"http://{host}{path}", f"<html><body><ul>{links}</ul>{more}</body></html>".encode()


def crawl(
    web: MiniWeb,
    folder: str | Path,
    snapshots: tuple[str, ...] = ("2023", "9999"),
    files: int = 4,
) -> list[Path]:
    """Crawl the mini-web into `.warc.gz` files, some for each snapshot; returns their paths.

    Each snapshot sees the web as it was at its date: so a page that changed is archived twice, as
    in Common Crawl, and URL de-duplication has something to do. Each file has some of the hosts.
    """
    hosts = [site.host for site in web.sites]
    paths = []
    for number, as_of in enumerate(snapshots):
        with serve(web, as_of) as port:
            for part in range(min(files, len(hosts))):
                path = Path(folder) / f"crawl-{number}-{part}.warc.gz"
                with atomic_write(path) as temporary, open(temporary, "wb") as file:
                    _crawl_into(WarcWriter(file), hosts[part::files], port)
                paths.append(path)
    return paths


def _crawl_into(writer: WarcWriter, hosts: list[str], port: int) -> int:
    """Follow links breadth first from each host's start page, within the hosts given."""
    allowed, count = set(hosts), 0
    queue = deque(f"http://{host}/" for host in hosts)
    seen = set(queue)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        while queue:
            url = queue.popleft()
            parts = urlsplit(url)
            connection.request("GET", parts.path or "/", headers={"Host": parts.hostname or ""})
            response = connection.getresponse()
            body = response.read(_MOST_BYTES)
            kind = response.getheader("Content-Type") or "text/html"
            date = response.getheader("Last-Modified")
            if response.status != 200:
                continue
            for target in _LINK.findall(body.decode("utf-8", "replace")):
                link = urljoin(url, target).split("#")[0]
                if link not in seen and urlsplit(link).hostname in allowed:
                    seen.add(link)
                    queue.append(link)
            if date:  # index pages only lead the way
                writer.write(url, body, kind, date)
                count += 1
    finally:
        connection.close()
    return count
