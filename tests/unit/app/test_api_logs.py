"""Log lines are JSON on stderr, our own and the libraries'."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.logs import configure_logs


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
