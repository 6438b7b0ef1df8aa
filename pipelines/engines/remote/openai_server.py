"""A generator behind HTTP: any server that speaks OpenAI's chat completions.

vLLM, llama.cpp's server, Ollama, another ``fti serve``, or a provider. The server applies its own
chat template, so what training and serving must agree on is the messages, not the ids.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from fti.pipelines.engines.encoding import PromptEncoder
from fti.pipelines.engines.generator import Delta, Generation, GenerationRequest, ServerConfig
from fti.pipelines.engines.remote.circuit import Attempt, Circuit
from fti.store.answer_types import FinishReason, Usage
from fti.store.contracts.prompt_contract import TokenCounter
from fti.store.errors import (
    FtiError,
    GenerationFailed,
    ModelUnavailable,
    QuestionTooLong,
    ServerUnavailable,
    TimedOut,
)
from fti.store.types import Message, ModelIdentity

_BUSY = {429, 502, 503, 504}
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0
_POLL_S = 0.05  # how soon a cancel is noticed while the server says nothing
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class OpenAIGenerator:
    """Asks an OpenAI-compatible server, always by streaming, so that a cancel reaches it.

    Args:
        model: the name that the server knows the model by.
        server: where it is and how to reach it.
        section: of the settings that name it, for hints.
        base: the name of what the model is an adapter of; none: itself.
    """

    def __init__(
        self, model: str, server: ServerConfig, *, section: str = "generator", base: str = ""
    ) -> None:
        self._model = model
        self._section = section
        self._identity = ModelIdentity(id=base or model)
        self._server = server
        self._url = server.base_url.rstrip("/") + "/chat/completions"
        self._counter: TokenCounter = server_counter(server)
        self._circuit = Circuit(
            self._url, failures=server.circuit_failures, open_s=server.circuit_open_s
        )
        self._client = server_client(server)
        # A prompt that the server renders otherwise was never trained on; asked once.
        self._unchecked = server.tokenizer != ""
        self._checking = threading.Lock()

    @property
    def identity(self) -> ModelIdentity:
        """The model's name; a server does not show its files."""
        return self._identity

    @property
    def counter(self) -> TokenCounter:
        """The configured tokenizer's counter, or an estimate on the safe side."""
        return self._counter

    @property
    def context_tokens(self) -> int:
        """As configured."""
        return self._server.context_tokens

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """Generate piece by piece.

        Raises:
            ModelUnavailable: the server cannot be reached, or refuses the model or the key.
            ServerUnavailable: it is too busy, or failed so often that it is left alone for now.
            QuestionTooLong: the server says that the prompt exceeds its context.
            TimedOut: it fell silent.
            GenerationFailed: it broke off, or sent what cannot be read.
            ContractError: it renders prompts otherwise than the configured tokenizer.
        """
        self._check_prompts()
        exchange = _Exchange(
            self._client, self._url, self._body(request), request.cancel, self._section
        )
        for number in range(self._server.retries + 1):
            try:
                with self._circuit.attempt() as attempt:
                    yield from self._judged(exchange, request, attempt)
            except _TryAgain as again:
                if number == self._server.retries or self._circuit.state != "closed":
                    raise again.error from again.error.__cause__
                wait = min(again.after_s or _FIRST_WAIT_S * 2**number, _LONGEST_WAIT_S)
                if request.cancel.wait(wait):
                    yield Delta("", "cancelled", Usage())
                    return
            else:
                return

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Generate whole answers, several requests in flight at a time."""
        with ThreadPoolExecutor(max_workers=self._server.concurrency) as pool:
            return list(pool.map(self._whole, requests))

    def _check_prompts(self) -> None:
        with self._checking:
            if not self._unchecked or not isinstance(self._counter, PromptEncoder):
                return
            from fti.pipelines.engines.remote.server_contract import same_prompts

            try:
                same_prompts(self._client, self._server, self._model, self._counter)
            except httpx.HTTPError:
                return  # the request itself will say what is wrong; asked again at the next
            self._unchecked = False

    def _whole(self, request: GenerationRequest) -> Generation:
        deltas = list(self.stream(request))
        last = deltas[-1]
        return Generation(
            text="".join(delta.text for delta in deltas),
            finish_reason=last.finish_reason or "stop",
            usage=last.usage or Usage(),
        )

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        stop = {"stop": list(request.stop)} if request.stop else {}
        return stop | {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _judged(
        self, exchange: _Exchange, request: GenerationRequest, attempt: Attempt
    ) -> Iterator[Delta]:
        """One try, with a verdict on the server: one that refuses a request works all the same."""
        try:
            yield from self._answer(exchange, request)
        except _TryAgain as again:
            attempt.works = again.busy
            raise
        except (GenerationFailed, TimedOut):
            attempt.works = False
            raise
        except FtiError:
            attempt.works = True
            raise
        else:
            attempt.works = None if request.cancel.is_set() else True

    def _answer(self, exchange: _Exchange, request: GenerationRequest) -> Iterator[Delta]:
        finish: FinishReason | None = None
        usage: Usage | None = None
        text = ""
        for chunk in exchange.chunks():
            usage = _usage(chunk) or usage
            choices = chunk.get("choices") or []
            if not choices:
                continue
            piece = (choices[0].get("delta") or {}).get("content") or ""
            if piece:
                text += piece
                yield Delta(piece)
            reason = choices[0].get("finish_reason")
            if reason:
                finish = "length" if reason == "length" else "stop"
        if request.cancel.is_set() and finish is None:
            finish = "cancelled"
        if finish is None:
            raise GenerationFailed(
                f"The server at {self._url!r} ended its answer in the middle.",
                hint="Look at the server's log; it may have run out of memory.",
            )
        if usage is None:
            said = self._counter.count([Message(role="assistant", content=text)])
            usage = Usage(
                prompt_tokens=self._counter.count(request.messages), completion_tokens=said
            )
        yield Delta("", finish, usage)


def server_client(server: ServerConfig) -> httpx.Client:
    """A client of a server, with its key and limits of time."""
    key = server.api_key
    return httpx.Client(
        headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
        timeout=httpx.Timeout(server.timeout_s, connect=server.connect_timeout_s),
        # A server on this machine is never behind the proxy that the environment names.
        trust_env=urlsplit(server.base_url).hostname not in _LOOPBACK,
    )


class _TryAgain(Exception):
    """The server was busy or unreachable, and nothing had been said yet.

    ``busy`` ones work, and only want less of it.
    """

    def __init__(self, error: FtiError, after_s: float | None = None, *, busy: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s
        self.busy = busy


_END = object()


@dataclass
class _Exchange:
    """One request and its stream of chunks, read in a thread so that a cancel never waits."""

    client: httpx.Client
    url: str
    body: dict[str, Any]
    cancel: threading.Event
    section: str

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Parsed chunks until the server is done or ``cancel`` is set."""
        lines: queue.Queue[Any] = queue.Queue()
        gone = threading.Event()
        reader = threading.Thread(target=self._read, args=(lines, gone), daemon=True)
        reader.start()
        try:
            while not self.cancel.is_set():
                try:
                    item = lines.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if item is _END:
                    return
                if isinstance(item, BaseException):
                    raise item
                chunk = self._parse(item)
                if chunk is None:
                    return
                if chunk:
                    yield chunk
        finally:
            gone.set()  # the reader closes the connection, and with it the server's work

    def _read(self, lines: queue.Queue[Any], gone: threading.Event) -> None:
        try:
            # Escaped to ASCII, so that a lone surrogate in a question travels too.
            body = json.dumps(self.body)
            headers = {"Content-Type": "application/json"}
            with self.client.stream("POST", self.url, content=body, headers=headers) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._refusal(response)
                for line in response.iter_lines():
                    if gone.is_set():
                        return
                    lines.put(line)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            lines.put(_TryAgain(self._unreachable(error), busy=False))
        except httpx.ReadTimeout as error:
            late = TimedOut(
                f"The server at {self.url!r} fell silent (ReadTimeout).",
                hint=f"If it is only slow, raise {self.section}.server.timeout_s.",
            )
            late.__cause__ = error
            lines.put(late)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            failed = GenerationFailed(
                f"The connection to {self.url!r} broke: {type(error).__name__}.",
                hint="Look at the server's log.",
            )
            failed.__cause__ = error
            lines.put(failed)
        except (_TryAgain, FtiError) as error:
            lines.put(error)
        finally:
            lines.put(_END)  # whatever happens here, nobody waits for ever

    def _unreachable(self, error: Exception) -> FtiError:
        failed = ModelUnavailable(
            f"No server answers at {self.url!r} ({type(error).__name__}).",
            hint=f"Start it, or correct {self.section}.server.base_url.",
        )
        failed.__cause__ = error
        return failed

    def _refusal(self, response: httpx.Response) -> Exception:
        status = response.status_code
        said = _server_message(response)
        where = f"The server at {self.url!r} answered {status}: {said}"
        if status in (401, 403):
            return ModelUnavailable(where, hint=f"Check {self.section}.server.api_key.")
        if status == 404:
            model = self.body["model"]
            return ModelUnavailable(
                where,
                hint=f"Check {self.section}.server.base_url, and that it serves {model!r}.",
            )
        if status in _BUSY:
            after_s = _retry_after(response)
            busy = ServerUnavailable(
                where,
                hint="It is overloaded or still loading; try again later.",
                retry_after_s=max(1, round(after_s or 5)),
            )
            return _TryAgain(busy, after_s, busy=status == 429)
        if status == 413 or (status == 400 and "context" in said.lower()):
            return QuestionTooLong(
                where,
                hint=f"Ask a shorter question, or lower {self.section}.server.context_tokens.",
            )
        return GenerationFailed(where)

    def _parse(self, line: str) -> dict[str, Any] | None:
        """A chunk; empty for a line that carries none; None at the end of the stream."""
        if not line.startswith("data:"):
            return {}
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return None
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise GenerationFailed(
                f"The server at {self.url!r} sent a line that is not JSON: {data[:80]!r}.",
                hint="Is it an OpenAI-compatible chat completions endpoint?",
            ) from error
        if not isinstance(chunk, dict) or "error" in chunk:
            said = chunk.get("error") if isinstance(chunk, dict) else chunk
            message = said.get("message", said) if isinstance(said, dict) else said
            raise GenerationFailed(f"The server at {self.url!r} broke off: {message!s:.300}")
        return chunk


def _usage(chunk: dict[str, Any]) -> Usage | None:
    counts = chunk.get("usage")
    if not isinstance(counts, dict):
        return None
    return Usage(
        prompt_tokens=int(counts.get("prompt_tokens") or 0),
        completion_tokens=int(counts.get("completion_tokens") or 0),
    )


def _server_message(response: httpx.Response) -> str:
    with suppress(ValueError, AttributeError, TypeError):
        error = response.json()["error"] if "error" in response.json() else response.json()
        message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        if message:
            return f"{message!s:.300}"
    return f"{response.text:.300}" or response.reason_phrase


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def server_counter(server: ServerConfig) -> TokenCounter:
    """Counts with the tokenizer that is configured for a server, or estimates.

    Raises:
        ModelUnavailable: the tokenizer is not on this machine.
    """
    if not server.tokenizer:
        return EstimatedCounter()
    from fti.pipelines.engines.causal_lm.loading import load_tokenizer
    from fti.pipelines.engines.weights import find_model

    folder = find_model(server.tokenizer, revision=server.tokenizer_revision)
    return PromptEncoder(load_tokenizer(folder))


class EstimatedCounter:
    """Counts tokens without a tokenizer: one per three bytes of UTF-8, and eight per turn.

    On the safe side: common tokenizers take about four bytes of English per token, and one to one
    and a half tokens (three bytes) per Chinese character. Prompts come out somewhat shorter than
    the context would allow; name the model's tokenizer to use it fully.
    """

    def count(self, messages: Sequence[Message]) -> int:
        """Estimated tokens of the whole prompt."""
        return 8 + sum(8 + self._tokens(message.content) for message in messages)

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of ``text`` whose estimate is at most ``max_tokens``."""
        if self._tokens(text) <= max_tokens:
            return text
        cut = text.encode("utf-8", "replace")[: 3 * max(0, max_tokens)]
        return cut.decode("utf-8", "ignore").rstrip()

    @staticmethod
    def _tokens(text: str) -> int:
        return -(-len(text.encode("utf-8", "replace")) // 3)
