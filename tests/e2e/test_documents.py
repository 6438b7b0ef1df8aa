"""Documents in, answers out: what changes on disk is what is answered from."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Fti


def test_ingest_search_ask_and_trace_from_another_directory(fti: Fti, handbook: Path) -> None:
    fti.installed = True
    report = fti.run("ingest", str(handbook))
    assert (report["added"], report["failed"], report["deleted"]) == (3, [], 0)
    assert report["chunks"] == report["embedded_chunks"] >= 3

    fti.installed = False  # one start of the script is like another
    found = fti.run("search", "kiln degrees", "-k", "2")["passages"]
    assert found[0]["document"] == str(handbook / "kiln.txt")
    text = (handbook / "kiln.txt").read_text("utf-8")
    assert found[0]["text"] in text
    assert {"rank", "score", "document", "title", "start", "end", "text", "chunk_id"} <= set(
        found[0]
    )

    fti.installed = True
    answer = fti.run("ask", "At how many degrees does the kiln fire stoneware?")
    fti.installed = False
    assert "1240 degrees" in answer["answer"]
    assert not answer["abstained"]
    assert answer["citations"][0]["document"] == str(handbook / "kiln.txt")

    lineage = fti.run("trace", answer["id"])
    assert answer["id"] in json.dumps(lineage)
    assert str(handbook / "kiln.txt") in json.dumps(lineage)
    backwards = fti.run("trace", "--document", str(handbook / "kiln.txt"))
    assert answer["id"] in json.dumps(backwards)


def test_edit_delete_and_ask_again(fti: Fti, handbook: Path) -> None:
    fti.run("ingest", str(handbook))
    kiln = handbook / "kiln.txt"
    kiln.write_text(kiln.read_text("utf-8").replace("1240", "1185"), "utf-8")
    (handbook / "hours.md").unlink()

    again = fti.run("ingest", str(handbook), "--delete-missing")
    assert (again["added"], again["updated"], again["unchanged"], again["deleted"]) == (0, 1, 1, 1)

    answer = fti.run("ask", "At how many degrees does the kiln fire stoneware?")
    assert "1185" in answer["answer"]
    assert "1240" not in json.dumps(answer)
    hours = fti.run("search", "When does the workshop open on Saturdays?", "-k", "50")
    assert not [p for p in hours["passages"] if p["document"].endswith("hours.md")]


def test_ingesting_the_same_folder_again_changes_nothing(fti: Fti, handbook: Path) -> None:
    first = fti.run("ingest", str(handbook))
    second = fti.run("ingest", str(handbook))
    assert (second["unchanged"], second["added"], second["updated"]) == (3, 0, 0)
    assert second["embedded_chunks"] == 0
    assert second["chunks"] == first["chunks"]


def test_a_vanished_document_stays_until_deletion_is_asked_for(fti: Fti, handbook: Path) -> None:
    fti.run("ingest", str(handbook))
    (handbook / "hours.md").unlink()
    kept = fti.run("ingest", str(handbook))
    assert (kept["deleted"], kept["missing"]) == (0, 1)
    gone = fti.run("ingest", str(handbook), "--delete-missing")
    assert gone["deleted"] == 1


def test_a_renamed_document_is_not_embedded_again(fti: Fti, handbook: Path) -> None:
    fti.run("ingest", str(handbook))
    (handbook / "kiln.txt").rename(handbook / "kiln-2.txt")
    (handbook / "kiln-2.txt").rename(handbook / "kiln.txt.txt")
    moved = fti.run("ingest", str(handbook), "--delete-missing")
    assert (moved["added"], moved["deleted"]) == (1, 1)


@pytest.mark.heavy
def test_watch_makes_a_change_searchable_and_prints_a_line(fti: Fti, handbook: Path) -> None:
    process = fti.start("watch", str(handbook))
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["added"] == 3
        (handbook / "bike.md").write_text("# Bikes\n\nThe bike stand holds two bikes.\n", "utf-8")
        second = json.loads(process.stdout.readline())
        assert second["added"] == 1
        found = fti.run("search", "bike stand", "--mode", "text")["passages"]
        assert found[0]["document"].endswith("bike.md")
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.heavy
def test_kill_in_the_middle_of_an_ingest_loses_and_doubles_nothing(
    fti: Fti, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(400):
        paragraphs = "\n\n".join(
            f"Entry {n}-{p}: shelf {n * 7 + p} holds box {n * 13 + p} with {p + 2} spare parts "
            "for the lathe, counted by the volunteers every spring."
            for p in range(12)
        )
        (folder / f"shelf-{n:03}.md").write_text(f"# Shelf {n}\n\n{paragraphs}\n", "utf-8")
    tables = fti.home / "store" / "features"

    def half_written() -> bool:
        # The second commit of chunks has happened: some documents are in, most are not.
        return len(list(tables.glob("chunks.lance/_versions/*"))) >= 3

    fti.kill_when(half_written, "ingest", str(folder))

    healed = fti.run("ingest", str(folder))
    assert healed["failed"] == []
    assert healed["added"] + healed["updated"] + healed["unchanged"] == 400
    steady = fti.run("ingest", str(folder))
    assert (steady["unchanged"], steady["embedded_chunks"]) == (400, 0)

    fresh = Fti(tmp_path / "fresh", fti.env)
    fresh.home.mkdir()
    expected = fresh.run("ingest", str(folder))
    assert steady["chunks"] == expected["chunks"]
    for query in ("shelf 70 box", "spare parts for the lathe"):
        mine = fti.run("search", query, "-k", "200", "--mode", "text")["passages"]
        theirs = fresh.run("search", query, "-k", "200", "--mode", "text")["passages"]
        assert len({p["chunk_id"] for p in mine}) == len(mine) == len(theirs)


@pytest.mark.heavy
def test_two_writers_at_once_leave_one_copy_of_everything(fti: Fti, handbook: Path) -> None:
    processes = [fti.start("ingest", str(handbook), "--json") for _ in range(3)]
    reports = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode in (0, 1), err
        reports.append((process.returncode, json.loads(out)))
    finished = [r for code, r in reports if code == 0]
    assert sum(r["added"] for r in finished) == 3
    for code, report in reports:
        if code == 1:
            assert report["error"]["code"] == "store_locked"
    found = fti.run("search", "workshop kiln fees", "-k", "50")["passages"]
    assert len({p["chunk_id"] for p in found}) == len(found)
    assert len(found) == fti.run("ingest", str(handbook))["chunks"]


@pytest.mark.heavy
def test_a_full_disk_is_named_and_the_store_stays_whole(fti: Fti, tmp_path: Path) -> None:
    small = tmp_path / "small-disk"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root; the unit tests simulate ENOSPC")
    try:
        docs = tmp_path / "docs"
        docs.mkdir()
        (docs / "first.md").write_text("# First\n\nThe first page is about anvils.\n", "utf-8")
        store = str(small / "store")
        assert fti.run("ingest", str(docs), "--store", store)["added"] == 1
        for n in range(300):
            words = " ".join(f"word{n}x{i}" for i in range(3000))
            (docs / f"big-{n:03}.txt").write_text(words, "utf-8")
        failed = fti.run("ingest", str(docs), "--store", store, code=1)
        assert failed["error"]["code"] == "store_full", failed
        found = fti.run("search", "anvils", "--store", store)["passages"]
        assert found[0]["document"].endswith("first.md")
    finally:
        time.sleep(0.2)
        subprocess.run(["umount", "-l", str(small)], check=False)
