"""Nothing half-written, whatever happens while writing."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti.store.errors import StoreError, StoreFull, StoreLocked, StoreReadOnly
from fti.store.files import atomic
from tests.support.processes import kill, run_python, start_python, wait_for_line


def _failing(number: int):
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_written_file_holds_the_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    atomic.write_bytes(path, b"one")
    atomic.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreReadOnly),
        (errno.EACCES, StoreReadOnly),
    ],
)
def test_a_failed_write_keeps_the_old_file_and_names_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[StoreError]
) -> None:
    path = tmp_path / "file.bin"
    atomic.write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", _failing(number))
    with pytest.raises(expected, match=r"file\.bin"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_another_system_error_is_not_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        atomic.write_bytes(tmp_path / "file.bin", b"new")


def test_a_file_system_that_cannot_flush_folders_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _failing(errno.EINVAL))
    atomic.fsync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        atomic.fsync_folder(tmp_path)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_json_survives_both_forms_and_a_line_has_no_line_end(value: dict[str, object]) -> None:
    assert json.loads(atomic.dump_json(value)) == value
    line = atomic.dump_line(value)
    assert "\n" not in line
    assert json.loads(line.encode("utf-8")) == value


def test_half_a_surrogate_pair_is_escaped_not_fatal() -> None:
    value = {"name": "caf\udce9 é"}
    assert json.loads(atomic.dump_json(value)) == value
    assert json.loads(atomic.dump_line(value).encode("utf-8")) == value


def test_not_a_number_is_refused_because_it_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic.dump_json({"loss": float("nan")})


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    texts = ["a\u2028b", "c\x85d", "e\x0cf"]
    for text in texts:
        atomic.append_line(path, atomic.dump_line({"text": text}))
    assert [json.loads(line)["text"] for line in atomic.iter_lines(path)] == texts


def test_a_line_after_one_that_a_crash_cut_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": ')
    atomic.append_line(path, '{"n": 3}')
    assert list(atomic.iter_lines(path)) == [b'{"n": 1}', b'{"n":', b'{"n": 3}']


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    atomic.append_line(path, "one")
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:2]))
    with pytest.raises(StoreFull, match=r"log\.jsonl"):
        atomic.append_line(path, "two")
    assert path.read_bytes() == b"one\n"


def test_lines_of_concurrent_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    script = """
import json, sys
from pathlib import Path
from fti.store.files.atomic import append_line
for n in range(100):
    append_line(Path(sys.argv[1]), json.dumps({"who": sys.argv[2], "n": n, "pad": "x" * 9000}))
"""
    processes = [start_python(script, path, who) for who in "abc"]
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for who in "abc":
        assert [line["n"] for line in found if line["who"] == who] == list(range(100))


def test_killing_an_appender_costs_at_most_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    script = """
import json, sys
from pathlib import Path
from fti.store.files.atomic import append_line
n = 0
while True:
    append_line(Path(sys.argv[1]), json.dumps({"n": n, "pad": "x" * 200_000}))
    print(n, flush=True)
    n += 1
"""
    process = start_python(script, path)
    while int(wait_for_line(process)) < 5:
        pass
    kill(process)
    atomic.append_line(path, json.dumps({"n": -1}))
    lines = list(atomic.iter_lines(path))
    readable = []
    for line in lines:
        try:
            readable.append(json.loads(line)["n"])
        except ValueError:
            continue
    assert len(lines) - len(readable) <= 1
    assert readable[-1] == -1
    assert readable[:-1] == list(range(len(readable) - 1))
    assert len(readable) >= 7


def test_a_staged_folder_is_gone_after_a_failure(tmp_path: Path) -> None:
    def stage() -> None:
        with atomic.staged_folder(tmp_path / "root") as folder:
            (folder / "half").write_text("x", "utf-8")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreFull):
        stage()
    assert list((tmp_path / "root").iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from fti.store.files.atomic import writer_lock
with writer_lock(Path(sys.argv[1]), timeout_s=5, what="ingest of docs"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    holder = start_python(HOLD, path)
    try:
        assert wait_for_line(holder) == "held"
        with (
            pytest.raises(StoreLocked, match=f"process {holder.pid}: ingest of docs") as caught,
            atomic.writer_lock(path, timeout_s=0.1, what="mine"),
        ):
            pytest.fail("two writers at once")
        assert caught.value.hint
    finally:
        kill(holder)


def test_a_killed_writer_lets_go_at_once(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    holder = start_python(HOLD, path)
    assert wait_for_line(holder) == "held"
    kill(holder)
    with atomic.writer_lock(path, timeout_s=0, what="mine"):
        assert path.with_suffix(".owner").read_text("utf-8") == f"{os.getpid()}: mine\n"
    assert not path.with_suffix(".owner").exists()


def test_the_lock_is_let_go_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"

    def fail() -> None:
        with atomic.writer_lock(path, timeout_s=0, what="first"):
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    with atomic.writer_lock(path, timeout_s=0, what="second"):
        pass


def test_a_lock_that_cannot_be_made_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    def refuse(self: FileLock, timeout: float) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.raises(StoreError, match="cannot be written: Permission denied"),
        atomic.writer_lock(tmp_path / "writer.lock", timeout_s=0, what="mine"),
    ):
        pytest.fail("a lock without a file")


def test_writers_take_turns_across_processes(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fti.store.files.atomic import writer_lock
folder = Path(sys.argv[1])
for _ in range(20):
    with writer_lock(folder / "l.lock", timeout_s=60, what="count"):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""
    (tmp_path / "count").write_text("0", "utf-8")
    processes = [start_python(script, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
    assert (tmp_path / "count").read_text("utf-8") == "40"


def test_what_is_written_is_read_by_another_process(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "v.json", {"größe": 1})
    script = "import sys, pathlib; print(ascii(pathlib.Path(sys.argv[1]).read_text('utf-8')))"
    assert "gr\\xf6\\xdfe" in run_python(script, tmp_path / "v.json")
