"""Log lines are JSON on stderr, our own and the libraries'."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from fti.app.service.api import create_app
from fti.app.service.logs import configure_logs
from fti.store.store import Store
from tests.support.service import Client, assistant_over


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_of_ours_and_of_libraries_are_json_with_time_and_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs()
    structlog.get_logger("fti.test").info("answered", id="a-1")
    logging.getLogger("uvicorn.error").warning("it %s", "rains")
    logging.getLogger("httpx").info("GET http://somewhere")
    out, err = capsys.readouterr()
    assert out == ""
    ours, library = map(json.loads, err.splitlines())
    assert (ours["event"], ours["id"], ours["level"]) == ("answered", "a-1", "info")
    assert (library["event"], library["logger"]) == ("it rains", "uvicorn.error")
    assert ours["timestamp"].endswith("Z")


def test_a_traceback_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    structlog.get_logger("fti.test").error("defect", exc_info=ZeroDivisionError("a bug"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: a bug" in json.loads(line)["exception"]


def test_the_lines_of_a_request_carry_its_id_and_its_key_and_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    key, text = store.keys.create("web")
    with Client(create_app(assistant_over(store))) as client:
        configure_logs()  # after the client, whose own lines are none of the service's
        sent = {"Authorization": f"Bearer {text}", "X-Request-Id": "from-the-proxy"}
        asked = {"messages": [{"role": "user", "content": "Where is the treasure?"}]}
        response = client.post("/v1/chat/completions", json=asked, headers=sent)
    assert response.status_code == 503, "nothing was ingested"
    written = capsys.readouterr().err
    lines = {line["event"]: line for line in map(json.loads, written.splitlines())}
    assert lines["request_failed"]["code"] == "store_empty"
    assert lines["request"]["status"] == 503
    for line in (lines["request_failed"], lines["request"]):
        assert line["request"] == "from-the-proxy"
    assert lines["request_failed"]["key"] == key.id
    assert "treasure" not in written
    assert text not in written
