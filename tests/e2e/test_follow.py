"""``--follow`` of ``fti ingest`` and ``fti batch``: a pipe or Redis, killed and fed nonsense."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import FTI, Fti
from tests.support.redis import redis_server


def follow(fti: Fti, *args: str, stdin: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [FTI, "ingest", "--follow", *args],
        cwd=fti.home,
        env=fti.environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(fti: Fti, *args: str, stdin: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [FTI, "batch", "--follow", *args],
        cwd=fti.home,
        env=fti.environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(source: str, text: str) -> str:
    return json.dumps({"source": source, "text": text})


def test_a_pipe_is_followed_and_sigterm_ends_it_cleanly(fti: Fti) -> None:
    process = follow(fti)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line("t/1", "The kiln fires on Fridays.") + "\nnonsense\n")
    process.stdin.flush()
    seen = 0
    while seen < 2:
        batch = json.loads(process.stdout.readline())
        seen += batch["records"]
    found = fti.run("search", "kiln", "--mode", "text")["passages"]
    assert found[0]["document"] == "t/1"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "2 records" in err
    assert "Traceback" not in err
    lineage = fti.run("trace", "--document", "t/1")
    assert (lineage["state"], len(lineage["chunks"])) == ("indexed", 1)


def test_json_prints_one_object_when_the_pipe_ends(fti: Fti, tmp_path: Path) -> None:
    lines = tmp_path / "records.jsonl"
    lines.write_text("".join(line(f"t/{n}", f"Note number {n}.") + "\n" for n in range(3)), "utf-8")
    with lines.open() as stdin:
        process = follow(fti, "--json", stdin=stdin)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert (report["records"], report["added"], report["ended"]) == (3, 3, "stream")
    assert {"added", "updated", "unchanged", "deleted", "failed", "chunks", "seconds"} <= set(
        report
    )


def test_what_cannot_be_followed_is_misuse(fti: Fti, handbook: Path) -> None:
    body = fti.run("ingest", "--follow", str(handbook), code=2)
    assert "standard input or one Redis" in body["error"]["message"]
    assert "fti watch" in body["error"]["hint"]
    body = fti.run("ingest", "--follow", "-", "--re-embed", code=2)
    assert "a stream has none" in body["error"]["message"]
    body = fti.run("ingest", "--follow", "redis://127.0.0.1:9/0", code=2)
    assert "127.0.0.1:9" in body["error"]["message"]
    assert fti.run("ingest", code=2)["error"]["hint"].startswith("Name files or folders")


@pytest.mark.heavy
def test_kill_9_while_following_redis_loses_and_doubles_nothing(fti: Fti) -> None:
    import redis

    with redis_server() as url, redis.Redis.from_url(url) as client:
        for n in range(300):
            client.xadd("docs", {"record": line(f"t/{n}", f"Note {n}: shelf {n * 7}.")})
        args = (url, "--stream", "docs", "--consumer", "one")
        process = follow(fti, *args)
        assert process.stdout is not None
        process.stdout.readline()  # one commit is done, others are not
        process.kill()
        process.communicate(timeout=30)

        again = follow(fti, *args)
        deadline = time.monotonic() + 120
        while client.xpending("docs", "fti")["pending"] or client.xinfo_groups("docs")[0]["lag"]:
            assert again.poll() is None, again.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        again.send_signal(signal.SIGTERM)
        _, err = again.communicate(timeout=60)
        assert again.returncode == 0, err
    passages = fti.run("search", "note shelf", "--mode", "text", "-k", "1000")["passages"]
    assert sorted(p["document"] for p in passages) == sorted(f"t/{n}" for n in range(300))


def test_questions_of_a_pipe_are_answered_line_by_line(fti: Fti, handbook: Path) -> None:
    fti.run("ingest", str(handbook))
    questions = "".join(
        json.dumps({"id": str(n), "question": "When is the kiln fired?"}) + "\n" for n in range(3)
    )
    process = answer(fti, "-", "--out", "-", "--model", "extractive")
    out, err = process.communicate(questions + "nonsense\n", timeout=120)
    assert process.returncode == 3, err
    assert [json.loads(row)["id"] for row in out.splitlines()] == ["0", "1", "2"]
    assert "4 records" in err
    assert "3 answered" in err
    assert "Traceback" not in err


def test_what_cannot_be_answered_as_a_stream_is_misuse(fti: Fti, handbook: Path) -> None:
    body = fti.run("batch", "--follow", "questions.csv", "--table", "t", code=2)
    assert "standard input or one Redis" in body["error"]["message"]
    body = fti.run("batch", "--follow", code=2)
    assert "where the answers go" in body["error"]["message"]
    body = fti.run("batch", "--follow", "--out", "answers.parquet", code=2)
    assert ".jsonl" in body["error"]["hint"]
    body = fti.run("batch", "--follow", "--out", "-", code=2)
    assert "--json prints one object" in body["error"]["message"]
    body = fti.run("batch", "--follow", "--table", "t", "--limit", "3", code=2)
    assert "about tables" in body["error"]["message"]
    assert "no questions" in fti.run("batch", "--table", "t", code=2)["error"]["message"]


@pytest.mark.heavy
def test_kill_9_while_answering_redis_leaves_one_answer_for_each(fti: Fti, handbook: Path) -> None:
    import redis

    fti.run("ingest", str(handbook))
    with redis_server() as url, redis.Redis.from_url(url) as client:
        for n in range(200):
            record = json.dumps({"id": f"q{n}", "question": f"When is kiln {n} fired?"})
            client.xadd("questions", {"record": record})
        args = (
            url, "--out", url, "--consumer", "one", "--model", "extractive",
            "--set", "batch.group=8",
        )  # fmt: skip
        process = answer(fti, *args)
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())  # one group is done, others are not
        assert first["answered"] == first["freshness"]["n"] > 0
        process.kill()
        process.communicate(timeout=30)
        assert 0 < client.xlen("answers") < 200

        again = answer(fti, *args)
        deadline = time.monotonic() + 120
        while client.xpending("questions", "fti")["pending"] or client.xlen("answers") < 200:
            assert again.poll() is None, again.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        again.send_signal(signal.SIGTERM)
        _, err = again.communicate(timeout=60)
        assert again.returncode == 0, err
        ids = [fields[b"id"].decode() for _, fields in client.xrange("answers")]
    assert sorted(ids) == sorted(f"q{n}" for n in range(200))
