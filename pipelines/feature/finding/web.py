"""Pages of the web and files of object stores, fetched so that they can be read like any file.

Only what the user names is asked for: an ``http(s)`` page, a sitemap with the pages it lists, or an
``s3://`` or ``gs://`` address. Everything is bounded: bytes, pages, redirects, time. ``robots.txt``
is obeyed (RFC 9309). Addresses inside a private network are refused unless that is allowed: the
check is made where the connection is opened, on the address that is connected to, so that neither a
redirect nor a name that resolves anew gets around it.
"""

from __future__ import annotations

import gzip
import html
import re
import ssl
import time
import urllib.robotparser
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urljoin, urlsplit

from fti.pipelines.feature.finding.fetched import Fetched, NotFetched, kept
from fti.pipelines.feature.finding.object_stores import is_object_store, objects
from fti.pipelines.feature.finding.public_addresses import PrivateAddressError, guarded_backend
from fti.pipelines.feature.reading.readers import READERS, SourcesConfig
from fti.store.errors import ExtractionError, SourceNotFound

AGENT = "fti"
_REDIRECTS = 5
_LONGEST_WAIT_S = 10.0  # between two pages, whatever robots.txt asks for
_LOC = re.compile(rb"<loc>\s*(?:<!\[CDATA\[)?\s*(.*?)\s*(?:\]\]>)?\s*</loc>", re.DOTALL)
_SUFFIXES: Mapping[str, str] = {
    "text/html": ".html", "application/xhtml+xml": ".xhtml", "application/pdf": ".pdf",
    "text/plain": ".txt", "text/markdown": ".md", "text/csv": ".csv", "application/json": ".json",
    "application/xml": ".xml", "text/xml": ".xml", "application/epub+zip": ".epub",
}  # fmt: skip


def is_address(text: str) -> bool:
    """Whether a source is an address and no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def fetch(address: str, *, folder: Path, config: SourcesConfig) -> Iterable[Fetched | NotFetched]:
    """What an address names: one page or object, all of a sitemap, all under a prefix.

    Args:
        address: ``http``, ``https``, ``s3`` or ``gs``.
        folder: where what is fetched is kept.
        config: the bounds.

    Raises:
        SourceNotFound: addresses of this kind are not read, or what reads them is not installed.
    """
    scheme = urlsplit(address).scheme.lower()
    if scheme in ("http", "https"):
        return _Site(folder, config).take(address)
    if is_object_store(address):
        return objects(address, folder, config)
    raise SourceNotFound(
        f"{address!r} is an address that is not read.",
        hint="Read are http, https, s3 and gs, besides files and folders.",
    )


# The web


class _Site:
    """Fetches pages one after another, by the rules of their hosts."""

    def __init__(self, folder: Path, config: SourcesConfig) -> None:
        import httpcore

        self._folder = folder
        self._config = config
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            network_backend=guarded_backend(config.allow_private_addresses),
            max_connections=4,
        )
        self._robots: dict[str, urllib.robotparser.RobotFileParser] = {}
        self._asked: dict[str, float] = {}

    def take(self, address: str) -> list[Fetched | NotFetched]:
        with self._pool:
            try:
                data, kind, final = self._get(address)
                if not _is_sitemap(data):
                    return [self._keep(address, data, kind, final)]
                pages, failed = self._listed(address, data)
            except (ExtractionError, _GoneError) as error:
                return [_not_fetched(address, error)]
            found: list[Fetched | NotFetched] = list(failed)
            for page in pages:
                try:
                    body, kind, final = self._get(page)
                    found.append(self._keep(page, body, kind, final))
                except (ExtractionError, _GoneError) as error:
                    found.append(_not_fetched(page, error))
            return found

    def _listed(self, address: str, data: bytes) -> tuple[list[str], list[NotFetched]]:
        """The pages of a sitemap and of those it names, on its own host only."""
        host = urlsplit(address).netloc
        pages: dict[str, None] = {}
        failed: list[NotFetched] = []
        todo = [(address, data)]
        seen = {address}
        while todo:
            where, content = todo.pop(0)
            nested = b"<sitemapindex" in content
            for match in _LOC.finditer(content):
                found = html.unescape(match[1].decode("utf-8", "replace"))
                if urlsplit(found).netloc != host or found in seen:
                    continue
                if not nested:
                    pages[found] = None
                elif len(seen) <= self._config.max_pages:
                    seen.add(found)
                    try:
                        todo.append((found, self._get(found)[0]))
                    except (ExtractionError, _GoneError) as error:
                        failed.append(_not_fetched(found, error))
            if len(pages) > self._config.max_pages:
                failed.append(
                    NotFetched(
                        where,
                        f"the sitemap lists more than {self._config.max_pages} pages; the rest is "
                        "left out (max_pages)",
                    )
                )
                break
        return list(pages)[: self._config.max_pages], failed

    def _keep(self, address: str, data: bytes, kind: str, final: str) -> Fetched:
        if not data:
            raise ExtractionError("the page is empty")
        name = PurePosixPath(urlsplit(final).path).name
        suffix = PurePosixPath(name).suffix.lower()
        given = _SUFFIXES.get(kind)
        if given and READERS.get(suffix) is not READERS[given]:
            name = f"{PurePosixPath(name).stem or 'index'}{given}"
        elif not given and (not suffix or suffix not in READERS):
            raise ExtractionError(f"pages of type {kind!r} are not read")
        return kept(address, self._folder, name, data)

    def _get(self, address: str) -> tuple[bytes, str, str]:
        """Body, media type and final address."""
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ExtractionError(f"{address!r} is no address of the web")
            if parts.username is not None:
                raise ExtractionError("the address carries a user name, which pages do not need")
            self._wait_for(address)
            status, headers, data = self._ask(address)
            if status in (301, 302, 303, 307, 308) and "location" in headers:
                address = urljoin(address, headers["location"])
                continue
            if status in (404, 410):
                raise _GoneError(f"the server answered {status}")
            if status != 200:
                raise ExtractionError(
                    f"the server answered {status}", transient=status >= 500 or status == 429
                )
            return data, headers.get("content-type", "").split(";")[0].strip().lower(), address
        raise ExtractionError(f"it redirects more than {_REDIRECTS} times")

    def _wait_for(self, address: str) -> None:
        """Obey robots.txt: whether the page may be asked for, and how soon after the last."""
        parts = urlsplit(address)
        site = f"{parts.scheme}://{parts.netloc}"
        if site not in self._robots:
            self._robots[site] = self._rules(site)
        rules = self._robots[site]
        if not rules.can_fetch(AGENT, address):
            raise ExtractionError(f"robots.txt of {parts.netloc} does not allow it")
        pause = min(float(rules.crawl_delay(AGENT) or 0), _LONGEST_WAIT_S)
        wait = self._asked.get(site, -pause) + pause - time.monotonic()
        if pause and wait > 0:
            time.sleep(wait)
        self._asked[site] = time.monotonic()

    def _rules(self, site: str) -> urllib.robotparser.RobotFileParser:
        rules = urllib.robotparser.RobotFileParser()
        address = f"{site}/robots.txt"
        for _ in range(_REDIRECTS + 1):
            status, headers, data = self._ask(address)
            if not (300 <= status < 400 and "location" in headers):
                break
            address = urljoin(address, headers["location"])
        if 200 <= status < 300:
            rules.parse(data.decode("utf-8", "replace").splitlines())
        elif 300 <= status < 500 and status not in (401, 403, 429):
            rules.parse([])  # there are no rules
        else:  # RFC 9309: what cannot be known is forbidden
            rules.parse(["User-agent: *", "Disallow: /"])
        return rules

    def _ask(self, address: str) -> tuple[int, dict[str, str], bytes]:
        import httpcore

        seconds = self._config.fetch_timeout_s
        deadline = time.monotonic() + seconds
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        host = urlsplit(_encoded(address)).netloc
        headers = [("Host", host), ("User-Agent", AGENT), ("Accept-Encoding", "gzip")]
        try:
            with self._pool.stream(
                "GET", _encoded(address), headers=headers, extensions={"timeout": timeout}
            ) as response:
                found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in
                         response.headers}  # fmt: skip
                data = bytearray()
                for block in response.iter_stream():
                    data += block
                    if len(data) > self._config.max_bytes:
                        raise ExtractionError(
                            f"the page is larger than {self._config.max_bytes} bytes (max_bytes)"
                        )
                    if time.monotonic() > deadline:
                        raise ExtractionError(
                            f"the page took longer than {seconds:g} s (fetch_timeout_s)",
                            transient=True,
                        )
        except PrivateAddressError as error:
            raise ExtractionError(
                f"{error} is an address of a private network",
                hint="If it is meant, set features.sources.allow_private_addresses to true.",
            ) from error
        except (
            httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError,
            httpcore.UnsupportedProtocol, OSError, ValueError,
        ) as error:  # fmt: skip
            what = str(error) or type(error).__name__
            raise ExtractionError(f"it cannot be reached: {what}", transient=True) from error
        body = bytes(data)
        if found.get("content-encoding", "").lower() == "gzip" or body[:2] == b"\x1f\x8b":
            body = _unzipped(body, self._config.max_bytes)
        return response.status, found, body


class _GoneError(Exception):
    """The server says that there is nothing."""


def _not_fetched(address: str, error: Exception) -> NotFetched:
    if isinstance(error, _GoneError):
        return NotFetched(address, str(error), gone=True)
    reason = error.message if isinstance(error, ExtractionError) else str(error)
    return NotFetched(address, reason)


def _is_sitemap(data: bytes) -> bool:
    head = data[:2000]
    return b"<urlset" in head or b"<sitemapindex" in head


def _unzipped(data: bytes, limit: int) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        found = inflate.decompress(data, limit + 1)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ExtractionError(f"what it sends packed cannot be unpacked: {error}") from error
    if len(found) > limit:
        raise ExtractionError(f"the page unpacks to more than {limit} bytes (max_bytes)")
    return found


def _encoded(address: str) -> str:
    """The address in ASCII, as it is sent; its fragment is the browser's."""
    parts = urlsplit(address)
    host = (parts.hostname or "").encode("idna").decode("ascii")
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{path}{query}"


# Object stores
