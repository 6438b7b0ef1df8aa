"""One GGUF file in llama.cpp, in this process: prompts as ids in, pieces of text out.

llama.cpp's server is a library here. It generates for several prompts in one pass (``seats``), and
each seat keeps the keys and values of its last prompt: one that begins alike is read only from
where it differs. The package opens its HTTP door in any case, so that is put where nobody else
comes in: a socket in a folder of this user alone.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.store.errors import EngineError, GenerationFailed, ModelUnavailable

#: What a piece of text and its id say to whoever reads on: True ends the answer.
Take = Callable[[str, int | None], bool]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SIGACTION = 512  # bytes; room for any platform's struct sigaction
_ENDING_S = 10.0  # for the pass that runs when the program ends
_LONGEST_SOCKET = 100  # of the 104 to 108 that systems allow in a socket's path


@dataclass(eq=False, slots=True)
class Seat:
    """A place for one answer, and the ids whose keys and values lie there."""

    number: int
    held: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a text ended: ``stop`` at an id that ends texts, ``length``; None where it was left."""

    reason: str | None
    tokens: int


class NativeServer:
    """llama.cpp with one model.

    Args:
        path: the GGUF file.
        context_tokens: of each seat, prompt and answer together.
        seats: answers that are made together.
        on_cpu: whether to leave an accelerator alone that the installed build knows.

    Raises:
        ModelUnavailable: llama.cpp is not installed.
        EngineError: it cannot load the file.
    """

    def __init__(
        self, path: Path, *, context_tokens: int, seats: int, on_cpu: bool = False
    ) -> None:
        library = _library()
        self._door = _Door()
        params = library.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context_tokens * seats
        params.n_parallel = seats
        params.kv_unified = False  # each attends to its own, not past those of all others
        params.cache_ram_mib = 0  # copies of what seats held before: up to 8 GiB of them
        params.n_threads_http = 1
        params.hostnames = self._door.hostnames
        params.api_keys = self._door.keys
        params.ui = params.endpoint_slots = False
        params.verbosity = 0
        params.fit_params = False
        if on_cpu:
            params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores()
        try:
            with _own_signals():
                self._server: Any = library.Server(params)
        except RuntimeError as error:
            self._door.close()
            raise EngineError(
                f"llama.cpp cannot load {str(path)!r} with {seats} times {context_tokens} tokens "
                "of context.",
                hint="If memory ran out, set a smaller generator.batch_size or "
                "generator.context_tokens; if the file is damaged, remove it.",
            ) from error
        self._free = [Seat(number) for number in range(seats)]
        self._seats = seats
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.users = 1
        _servers.add(self)

    def close(self) -> None:
        """One user less; with the last, what is under way ends and the model leaves memory."""
        with _sharing:
            self.users -= 1
            if self.users:
                return
            for key in [key for key, server in _shared.items() if server is self]:
                del _shared[key]
        self._end()

    def end_with_program(self) -> None:
        """End, and wait for what is under way, also where it was closed already.

        The interpreter would kill the threads in it, and C++ that is left in this way aborts the
        program.
        """
        self._end()
        with self._changed:
            self._changed.wait_for(lambda: len(self._free) == self._seats, timeout=_ENDING_S)

    def _end(self) -> None:
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._server = None  # the last call under way lets go of it for good
        self._door.close()

    @contextmanager
    def seat(self, prompt: Sequence[int], gone: Callable[[], bool]) -> Iterator[Seat | None]:
        """A seat for one answer, in the order asked: of the free ones that which holds most of it.

        Args:
            prompt: ids.
            gone: whether who asks has left meanwhile; the seat is then None.
        """
        ticket = object()
        seat: Seat | None = None
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not self._closing and not gone():
                    if self._free and self._waiting[0] is ticket:
                        seat = max(self._free, key=lambda s: _alike(s.held, prompt))
                        self._free.remove(seat)
                        break
                    self._changed.wait(timeout=0.1)
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield seat
        finally:
            if seat is not None:
                with self._changed:
                    self._free.append(seat)
                    self._changed.notify_all()

    def likeliest(self, seat: Seat, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
        """The likeliest next ids with their natural logarithms of probability, likeliest first.

        None where the likeliest is a part of a character: llama.cpp says nothing before the rest.

        Raises:
            GenerationFailed: llama.cpp broke off.
        """
        found: list[tuple[int, float]] = []

        def take(chunk: dict[str, Any]) -> None:
            for token in _tokens(chunk):
                found.extend((t["id"], t["logprob"]) for t in token["top_logprobs"])

        self._ask(seat, prompt, {"n_predict": 1, "temperature": 0.0, "logprobs": count}, take)
        return found[:count]

    def write(
        self,
        seat: Seat,
        prompt: Sequence[int],
        take: Take,
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> Ended:
        """Continue a prompt, piece by piece.

        Args:
            seat: where.
            prompt: ids.
            take: told each piece of text, and the id that completed it where there is one.
            max_new_tokens: at most this many.
            temperature: 0 is greedy.
            top_p: of the likeliest ids, those that together reach it.
            seed: of the choice.

        Raises:
            GenerationFailed: llama.cpp broke off.
        """
        ended: list[Ended] = []
        written = 0

        def read(chunk: dict[str, Any]) -> bool:
            nonlocal written
            choice = chunk["choices"][0]
            tokens = _tokens(chunk)
            written += len(tokens)
            if choice.get("text") or tokens:
                left = take(choice.get("text") or "", tokens[-1]["id"] if tokens else None)
                if left or self._closing:
                    return True
            if choice.get("finish_reason"):
                told = (chunk.get("usage") or {}).get("completion_tokens", written)
                ended.append(Ended(choice["finish_reason"], told))
            return False

        sampled = {"temperature": temperature, "top_p": top_p, "seed": seed} | _PLAIN
        body = {"n_predict": max_new_tokens, "stream": True, "logprobs": 1}
        # The chances left after sampling cost nothing; those before it are a pass over all ids.
        self._ask(seat, prompt, body | sampled | {"post_sampling_probs": True}, read)
        return ended[0] if ended else Ended(None, written)

    def _ask(
        self,
        seat: Seat,
        prompt: Sequence[int],
        body: dict[str, Any],
        read: Callable[[dict[str, Any]], bool | None],
    ) -> None:
        server = self._server
        if server is None:
            raise GenerationFailed("The model was closed meanwhile.")
        broke: list[BaseException] = []

        def hear(chunk: Any) -> bool:
            try:
                error = chunk.get("error") or (chunk if "choices" not in chunk else None)
                if error:
                    raise GenerationFailed(f"llama.cpp broke off: {error.get('message')}")
                return bool(read(chunk))
            except BaseException as caught:  # it would be lost in the native code
                broke.append(caught)
                return True

        seat.held = list(prompt)
        request = {"prompt": list(prompt), "id_slot": seat.number, "cache_prompt": True} | body
        if request.get("stream"):
            server.handle_completions(request, hear)
        else:
            hear(server.handle_completions(request))
        if broke:
            raise broke[0]


_servers: weakref.WeakSet[NativeServer] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for server in list(_servers):
        server.end_with_program()


_shared: dict[tuple[Path, int, int, bool], NativeServer] = {}
_sharing = threading.Lock()


def shared_server(path: Path, *, context_tokens: int, seats: int, on_cpu: bool) -> NativeServer:
    """llama.cpp with a model, loaded once for all who use it in this way; see ``NativeServer``."""
    key = (path, context_tokens, seats, on_cpu)
    with _sharing:
        server = _shared.get(key)
        if server is None:
            server = NativeServer(path, context_tokens=context_tokens, seats=seats, on_cpu=on_cpu)
            _shared[key] = server
        else:
            server.users += 1
        return server


#: Nothing but temperature and top_p decides: llama.cpp's own defaults do more.
_PLAIN = {
    "samplers": ["top_p", "temperature"],
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "dry_multiplier": 0.0,
}


def cores() -> int:
    """How many threads to compute with: a physical core each, of those that are ours.

    ``OMP_NUM_THREADS`` may say that fewer are, as it does to a replica among others.
    """
    import psutil

    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = max(1, min(ours or 1, psutil.cpu_count(logical=False) or ours or 1))
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(most, int(told))) if told.isdigit() else most


def _library() -> Any:
    """The package, imported where it is first needed."""
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            "The engine 'llamacpp' needs the package 'xllamacpp', which is not installed.",
            hint="Run `pip install 'fti-llm[llamacpp]'`, or set generator.engine: transformers.",
        ) from error
    except ImportError as error:
        raise ModelUnavailable(
            f"The package 'xllamacpp' cannot be loaded: {error}.",
            hint="On Debian and its kin run `apt-get install libgomp1`.",
        ) from error
    return xllamacpp


def _tokens(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    return (chunk["choices"][0].get("logprobs") or {}).get("content") or []


def _alike(held: Sequence[int], prompt: Sequence[int]) -> int:
    """With how many ids both begin."""
    for at, (one, other) in enumerate(zip(held, prompt, strict=False)):
        if one != other:
            return at
    return min(len(held), len(prompt))


class _Door:
    """Where llama.cpp's HTTP server listens: nowhere that another user or a page can reach."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="fti-")  # readable by this user alone
        socket = str(Path(self._folder) / "llama.sock")
        local = os.name == "posix" and len(socket) < _LONGEST_SOCKET
        self.hostnames = [socket if local else "127.0.0.1"]
        self.keys = [secrets.token_hex(32)]

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does on Ctrl-C: llama.cpp's server puts its own handlers there.

    By the C library, since Python's own call works in the main thread alone.
    """
    if sys.platform == "win32":
        yield
        return
    libc = ctypes.CDLL(None)
    kept = {number: ctypes.create_string_buffer(_SIGACTION) for number in _SIGNALS}
    for number, before in kept.items():
        libc.sigaction(int(number), None, before)
    try:
        yield
    finally:
        for number, before in kept.items():
            libc.sigaction(int(number), before, None)
