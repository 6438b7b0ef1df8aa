"""An S3-compatible server of one test: moto's, on a port of its own, over HTTP."""

from __future__ import annotations

import contextlib
import logging
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

BUCKET = "bucket"


@contextlib.contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """The variables of the environment by which clients reach it and its one bucket.

    Requests are handled one at a time: moto looks whether an object is there and writes it in two
    steps, so that only then a conditional PUT succeeds for one of many, as it does on S3.
    """
    pytest.importorskip("moto", reason="needs the test extra: pip install 'fti-llm[dev]'")
    pytest.importorskip("s3fs", reason="needs the extra: pip install 'fti-llm[remote]'")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    handler = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def serve(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        with one_at_a_time:
            return list(handler(environ, respond))

    with serving(serve) as url:
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"))
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextlib.contextmanager
def serving(application: Callable[..., Iterable[bytes]]) -> Iterator[str]:
    """The address of a WSGI application that is served meanwhile, on a port of its own."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="object-store", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
