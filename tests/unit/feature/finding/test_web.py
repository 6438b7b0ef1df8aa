"""Pages, sitemaps and objects: what is fetched, what is refused, and what is obeyed."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.finding.discovering import discover
from fti.pipelines.feature.finding.fetched import Fetched, NotFetched
from fti.pipelines.feature.finding.web import fetch
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.store.errors import SourceNotFound
from fti.store.store import Store

HTML = "text/html; charset=utf-8"
OPEN = SourcesConfig(allow_private_addresses=True, max_bytes=20_000, fetch_timeout_s=10)


class Site:
    """A server on this machine: bodies by path, and what it was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.address = ""

    def put(self, path: str, body: str | bytes, kind: str = HTML, status: int = 200,
            **headers: str) -> None:  # fmt: skip
        data = body.encode() if isinstance(body, str) else body
        self.pages[path] = (status, {"Content-Type": kind, **headers}, data)

    def page(self, path: str, text: str) -> None:
        self.put(path, f"<html><head><title>{path[1:]}</title></head><body><p>{text}</p></body>")

    def move(self, path: str, to: str) -> None:
        self.put(path, "", status=302, Location=to)

    def sitemap(self, path: str, *pages: str, index: bool = False) -> None:
        kind = "sitemapindex" if index else "urlset"
        entries = "".join(f"<url><loc> {p} </loc></url>" for p in pages)
        self.put(path, f"<?xml version='1.0'?><{kind}>{entries}</{kind}>", "application/xml")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            status, headers, body = site.pages.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def got(address: str, tmp_path: Path, config: SourcesConfig = OPEN) -> list[Fetched | NotFetched]:
    return list(fetch(address, folder=tmp_path, config=config))


def reason(address: str, tmp_path: Path, config: SourcesConfig = OPEN) -> str:
    (one,) = got(address, tmp_path, config)
    assert isinstance(one, NotFetched)
    return one.reason


def test_pages_become_documents_and_are_kept_up_to_date(site: Site, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def run(**options: Any) -> IngestReport:
        config = FeatureConfig(sources=OPEN)
        return ingest([f"{site.address}/hours", f"{site.address}/fees.txt"], store=store,
                      embedder=HashingEmbedder(64), config=config, **options)  # fmt: skip

    site.page("/hours", "The hall opens at nine in the morning.")
    site.put("/fees.txt", "An hour costs four euros.", "text/plain")
    assert run().added == 2
    (passage,) = store.features.search_text("nine morning", 1)
    assert (passage.source, passage.title) == (f"{site.address}/hours", "hours")
    assert (run().unchanged, run().embedded_chunks) == (2, 0)

    site.page("/hours", "The hall opens at noon.")
    assert run().updated == 1
    site.put("/hours", "", status=503)
    broken = run()
    assert [f.reason for f in broken.failed] == ["the server answered 503"]
    assert len(store.features.search_text("noon", 1)) == 1, "the last good version stays"
    del site.pages["/hours"]
    assert (run().missing, run().failed) == (1, ())
    assert run(delete_missing=True).deleted == 1
    assert store.features.search_text("noon", 1) == []


def test_a_sitemap_names_the_pages_of_its_own_host(site: Site, tmp_path: Path) -> None:
    site.page("/a", "Page a.")
    site.page("/b?x=1&y=2", "Page b.")
    site.sitemap("/more.xml", f"{site.address}/b?x=1&amp;y=2", f"{site.address}/none")
    site.put("/sitemap.xml.gz", gzip.compress(
        f"<urlset><url><loc>{site.address}/a</loc></url><url><loc>http://192.0.2.1/x</loc></url>"
        "</urlset>".encode()), "application/gzip")  # fmt: skip
    site.sitemap(
        "/index.xml", f"{site.address}/more.xml", f"{site.address}/sitemap.xml.gz",
        f"{site.address}/index.xml", index=True,
    )  # fmt: skip
    found = got(f"{site.address}/index.xml", tmp_path)
    assert {f.address for f in found if isinstance(f, Fetched)} == {
        f"{site.address}/a", f"{site.address}/b?x=1&y=2",
    }  # fmt: skip
    assert [f.address for f in found if isinstance(f, NotFetched)] == [f"{site.address}/none"]


def test_a_sitemap_is_bounded(site: Site, tmp_path: Path) -> None:
    for name in "abc":
        site.page(f"/{name}", "A page.")
    site.sitemap("/sitemap.xml", *(f"{site.address}/{n}" for n in "abc"))
    two = OPEN.model_copy(update={"max_pages": 2})
    found = got(f"{site.address}/sitemap.xml", tmp_path, two)
    assert sum(isinstance(f, Fetched) for f in found) == 2
    assert [f.reason for f in found if isinstance(f, NotFetched)] == [
        "the sitemap lists more than 2 pages; the rest is left out (max_pages)"
    ]


def test_robots_are_obeyed(site: Site, tmp_path: Path) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /private\n", "text/plain")
    site.page("/private/a", "Secret.")
    site.page("/open", "Open.")
    assert "robots.txt" in reason(f"{site.address}/private/a", tmp_path)
    assert isinstance(got(f"{site.address}/open", tmp_path)[0], Fetched)
    assert "/private/a" not in site.asked
    site.move("/way", "/private/a")
    assert "robots.txt" in reason(f"{site.address}/way", tmp_path), "by no way round either"
    site.put("/robots.txt", "", status=500)
    assert "robots.txt" in reason(f"{site.address}/open", tmp_path), "unknown rules forbid"


PRIVATE = (
    "127.0.0.1 localhost [::1] 10.0.0.1 169.254.169.254 192.168.1.1 0.0.0.0 224.0.0.1 "
    "[64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [2002:c0a8:101::] [::127.0.0.1] "
    "[::10.0.0.1] [fec0::1] [::ffff:10.0.0.1] "
    "[::ffff:127.0.0.1] 2130706433"
)


@pytest.mark.parametrize("host", PRIVATE.split())
def test_addresses_of_private_networks_are_refused(host: str, tmp_path: Path) -> None:
    assert "private network" in reason(f"http://{host}:9/", tmp_path, SourcesConfig())


def test_a_redirect_into_a_private_network_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ipaddress

    site.move("/way", "http://127.0.0.2:9/admin")
    real = ipaddress.ip_address
    public = real("8.8.8.8")
    monkeypatch.setattr(
        "fti.pipelines.feature.finding.public_addresses.ipaddress.ip_address",
        lambda a: public if a == "127.0.0.1" else real(a),
    )
    config = OPEN.model_copy(update={"allow_private_addresses": False})
    assert "127.0.0.2" in reason(f"{site.address}/way", tmp_path, config)


def test_what_cannot_be_read_is_refused_with_its_reason(site: Site, tmp_path: Path) -> None:
    site.put("/large", "x" * 30_000)
    site.put("/bomb", gzip.compress(b"x" * 3_000_000), HTML, **{"Content-Encoding": "gzip"})
    site.put("/torn", b"\x1f\x8bnonsense", HTML)
    site.put("/video", "x", "video/mp4")
    site.put("/empty", "")
    site.put("/teapot", "", status=418)
    site.move("/loop", "/loop")
    site.move("/file", "file:///etc/passwd")
    for path, why in {
        "/large": "larger than 20000 bytes",
        "/bomb": "unpacks to more than 20000 bytes",
        "/torn": "cannot be unpacked",
        "/video": "pages of type 'video/mp4' are not read",
        "/empty": "the page is empty",
        "/teapot": "the server answered 418",
        "/none": "the server answered 404",
        "/loop": "redirects more than 5 times",
        "/file": "no address of the web",
    }.items():
        assert why in reason(site.address + path, tmp_path), path
    assert "user name" in reason(site.address.replace("//", "//me:pw@") + "/large", tmp_path)
    closed = SourcesConfig(allow_private_addresses=True, fetch_timeout_s=2)
    assert "cannot be reached" in reason("http://127.0.0.1:9/", tmp_path, closed)


def test_other_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="is an address that is not read"):
        got("ftp://example.org/a", tmp_path)
    with pytest.raises(SourceNotFound, match="only files and folders"):
        discover(["https://example.org/a"])


# Object stores


def test_objects_under_an_address_become_documents(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/pile/a.md": b"# A\n\nApple.", "/pile/deep/b.txt": b"Bread.",
                 "/pile/.hidden.md": b"x", "/pile/large.txt": b"x" * 30_000})  # fmt: skip
    try:
        store = Store(tmp_path / "store")
        report = ingest(["memory://pile"], store=store, embedder=HashingEmbedder(64),
                        config=FeatureConfig(sources=OPEN))  # fmt: skip
    finally:
        memory.rm("/pile", recursive=True)
    assert report.added == 2
    assert {r.source for r in store.features.records()} == {
        "memory:///pile/a.md", "memory:///pile/deep/b.txt",
    }  # fmt: skip
    assert ["larger than 20000 bytes" in f.reason for f in report.failed] == [True]
    with pytest.raises(SourceNotFound, match="nothing at"):
        got("memory://nowhere", tmp_path)


def test_objects_that_are_no_documents_are_skipped_by_kind_and_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/box/a.md": b"# A\n\nApple.", "/box/~$a.docx": b"lock", "/box/film.mp4": b"x",
                 "/box/deep/Thumbs.db": b"x", "/box/new.xyz": b"\0\1"})  # fmt: skip
    asked: list[str] = []
    read = memory.cat_file

    def cat_file(path: str, *given: Any, **named: Any) -> bytes:
        asked.append(path.rpartition("/")[2])
        content: bytes = read(path, *given, **named)
        return content

    monkeypatch.setattr(memory, "cat_file", cat_file)
    try:
        found = got("memory://box", tmp_path)
        alone = got("memory://box/film.mp4", tmp_path)
    finally:
        memory.rm("/box", recursive=True)
    skipped = {f.address: f.reason for f in found if isinstance(f, NotFetched) and f.skipped}
    assert skipped == {
        "memory:///box/~$a.docx": "lock file",
        "memory:///box/film.mp4": "video (.mp4)",
        "memory:///box/deep/Thumbs.db": "system file",
    }
    assert sorted(asked) == ["a.md", "film.mp4", "new.xyz"], "the film once, where it was named"
    assert len(alone) == 1


def test_a_store_whose_reader_is_not_installed_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec.core

    def missing(address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(SourceNotFound, match="not installed") as refused:
        got("s3://bucket/folder", tmp_path)
    assert "fti-llm[remote]" in refused.value.hint
