"""Readers run in a process of their own, so that no file can hang, kill or exhaust an ingest.

The process is started for the first file that needs it and used for all that follow. It is ended
and started anew when a file takes too long, too much memory, or kills it. It is given bytes and
gives back text as JSON: it opens no file, and nothing that comes from it is unpickled.
"""

from __future__ import annotations

import base64
import json
import math
import signal
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Self

from fti.pipelines.feature.reading.readers import READERS, Attachment, Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.base import WALL_FACTOR
from fti.store.errors import ExtractionError

# What a parser may raise over a file it was not written for. Its own faults end there; a full disk
# and an interrupt do not come this way, since readers are given bytes and touch no file.
_PARSER_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,  # what lxml raises over XML
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_START_S = 120.0  # a second, but on a machine that is busy with training
_LENGTH = 8  # bytes of the length before each message
# The search path is handed over, not looked up again: the current folder must not decide what runs.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from fti.pipelines.feature.reading.parsing import serve; serve()"
)


def parse(suffix: str, data: bytes, config: SourcesConfig) -> list[Extracted]:
    """What the reader of ``suffix`` finds, in this process.

    Raises:
        ExtractionError: no reader, or it refuses the file or fails on it.
    """
    reader = READERS.get(suffix)
    if reader is None:
        raise ExtractionError(
            f"files ending in {suffix!r} are not read",
            hint=f"Read are {', '.join(sorted(filter(None, READERS)))}.",
        )
    try:
        return reader.read(data, config)
    except _PARSER_FAULTS as error:
        reason = f"the reader failed on it: {type(error).__name__}: {error}"
        raise ExtractionError(reason) from error
    except MemoryError as error:
        raise ExtractionError("reading it needs more memory than there is") from error


class Parser:
    """Parses in a process of its own where the reader asks for it. Close it, or use ``with``.

    Not for several threads at once.
    """

    def __init__(self, config: SourcesConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._files = 0  # how many this process was given

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # what was not sent yet has nobody to go to
                    continue

    def parse(self, suffix: str, data: bytes) -> list[Extracted]:
        """As the function ``parse``.

        Raises:
            ExtractionError: also when reading takes too long, too much memory, or kills the
                process.
        """
        reader = READERS.get(suffix)
        if reader is None or not (reader.isolated and self._config.isolate):
            return parse(suffix, data, self._config)
        while True:
            used = self._files > 0
            try:
                return self._ask(suffix, data)
            except _OutOfMemoryError:
                self.close()
                if used:  # what files before it left behind may be to blame
                    continue
                raise ExtractionError(
                    "reading it needs more than "
                    f"{self._config.max_memory_bytes} bytes of memory (max_memory_bytes)",
                    hint="Split it, or raise features.sources.max_memory_bytes.",
                ) from None

    def _ask(self, suffix: str, data: bytes) -> list[Extracted]:
        process = self._running()
        self._files += 1
        late = threading.Event()
        wall_s = WALL_FACTOR * self._config.timeout_s
        reply = self._within(wall_s, process, late, suffix.encode("utf-8"), data)
        if reply is not None:
            if late.is_set():  # just in time, but the process is gone
                self.close()
            return _unpack(json.loads(reply))
        code = process.wait()
        self.close()
        hint = "If the file is only large, raise features.sources.timeout_s."
        if code == -getattr(signal, "SIGXCPU", 0):
            raise ExtractionError(
                f"reading it took more than {self._config.timeout_s:g} s of processor time and was "
                "given up (timeout_s)",
                hint=hint,
            )
        if late.is_set():
            raise ExtractionError(
                f"reading it took longer than {wall_s:g} s and was given up ({WALL_FACTOR} times "
                "timeout_s)",
                hint=hint,
                transient=True,
            )
        raise ExtractionError(
            f"reading it ended the reading process ({_ending(code)})", transient=True
        )

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._files = 0
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Parsers talk about strange files; what matters of it comes as the reason.
            stderr=subprocess.DEVNULL,
        )
        late = threading.Event()
        config = self._config.model_dump_json().encode("utf-8")
        if self._within(_START_S, process, late, config) is None:
            code = process.wait()
            self.close()
            raise ExtractionError(
                f"the process that reads such files does not start ({_ending(code)})",
                hint="Raise features.sources.max_memory_bytes, or set features.sources.isolate to "
                "false.",
                transient=True,
            )
        return process

    def _within(
        self,
        seconds: float,
        process: subprocess.Popen[bytes],
        late: threading.Event,
        *message: bytes,
    ) -> bytes | None:
        """The reply to a message; None when the process died, ``late`` set when it was too slow."""

        def end() -> None:
            late.set()
            process.kill()

        assert process.stdin
        assert process.stdout
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            for part in message:
                _send(process.stdin, part)
            return _receive(process.stdout)
        except OSError:  # it died while it was written to
            return None
        finally:
            timer.cancel()


class _OutOfMemoryError(Exception):
    """The process could not get the memory it asked for."""


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(len(message).to_bytes(_LENGTH, "big"))
    pipe.write(message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes | None:
    """The next message; None where there is no whole one."""
    length = pipe.read(_LENGTH)
    if len(length) < _LENGTH:
        return None
    size = int.from_bytes(length, "big")
    message = pipe.read(size)
    return message if len(message) == size else None


def _pack(found: list[Extracted]) -> dict[str, Any]:
    return {
        "found": [
            {
                "text": f.text,
                "title": f.title,
                "metadata": dict(f.metadata),
                "key": f.key,
                "record": base64.b64encode(f.record).decode("ascii"),
                "empty_reason": f.empty_reason,
                "attached": [
                    {"name": a.name, "data": base64.b64encode(a.data).decode("ascii")}
                    for a in f.attached
                ],
            }
            for f in found
        ]
    }


def _unpack(reply: Mapping[str, Any]) -> list[Extracted]:
    if reply.get("memory"):
        raise _OutOfMemoryError
    if "reason" in reply:
        raise ExtractionError(reply["reason"], hint=reply["hint"])
    return [
        Extracted(
            text=f["text"],
            title=f["title"],
            metadata=f["metadata"],
            key=f["key"],
            record=base64.b64decode(f["record"]),
            empty_reason=f["empty_reason"],
            attached=tuple(
                Attachment(a["name"], base64.b64decode(a["data"])) for a in f["attached"]
            ),
        )
        for f in reply["found"]
    ]


def serve() -> None:
    """What the process does: answer messages until its input ends."""
    import os

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is interrupted ends this process too
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # A library that prints must not write into the replies, nor one that asks read the requests.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    settings = _receive(requests)
    if settings is None:
        return
    config = SourcesConfig.model_validate_json(settings)
    _limit_memory(config.max_memory_bytes)
    _send(replies, b"ready")
    while True:
        suffix, data = _receive(requests), _receive(requests)
        if suffix is None or data is None:
            return
        _limit_time(config.timeout_s)
        try:
            reply = json.dumps(_answer(suffix.decode("utf-8"), data, config)).encode("ascii")
        except MemoryError:
            reply = b'{"memory": true}'
        _send(replies, reply)


def _answer(suffix: str, data: bytes, config: SourcesConfig) -> dict[str, Any]:
    try:
        return _pack(parse(suffix, data, config))
    except ExtractionError as error:
        if isinstance(error.__cause__, MemoryError):
            return {"memory": True}
        return {"reason": error.message, "hint": error.hint}


def _limit_memory(max_bytes: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    except (ImportError, ValueError, OSError):
        return  # a system without such limits: the time limit still holds


def _limit_time(seconds: float) -> None:
    """End this process by SIGXCPU once it has used so much more processor time."""
    try:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(used.ru_utime + used.ru_stime + seconds)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        if hard != resource.RLIM_INFINITY:
            until = min(until, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
    except (ImportError, ValueError, OSError):
        return  # a system without such limits: the limit on waiting still holds
