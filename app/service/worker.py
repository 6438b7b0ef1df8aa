"""The models behind the service: who waits for them, and answers brought to the event loop.

An answer is made in a thread and its events are queued for the reader. The model is free again when
it has finished, however slowly the reader reads; a reader that goes away stops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from fti.app.service.answerers import Answerers, Held
from fti.app.service.counters import Metrics
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.inference.answering.answer_events import AnswerEvent, AnswerStream
from fti.store.answer_types import Sampling
from fti.store.errors import InputError, Overloaded, TimedOut
from fti.store.features.filters import Where
from fti.store.types import Message

_T = TypeVar("_T")
_ASIDE = 2  # searches and embeddings at once, so that they cannot crowd out the answers
_BUSY_HINT = "Try again in a few seconds."


class Worker:
    """The service's assistants with one bounded queue before them.

    Args:
        answerers: the assistants by name; used from threads.
        config: how many at once, how many may wait and how long.
        metrics: told of waits and answers.
    """

    def __init__(self, answerers: Answerers, config: ServiceConfig, metrics: Metrics) -> None:
        self.answerers = answerers
        self._config = config
        self._metrics = metrics
        self._usage = answerers.store.usage
        self._turns = Turns(config.concurrency, config)
        self._aside = Turns(_ASIDE, config)
        # Threads of their own: asyncio's default has a handful, which loading models needs too.
        self._threads = ThreadPoolExecutor(config.concurrency + _ASIDE, "answer")
        self.answering = 0  # answers that are being made
        metrics.watch(waiting=lambda: self.waiting, answering=lambda: self.answering)

    def close(self) -> None:
        """Take no more work; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._turns.waiting

    async def events(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        model: str | None = None,
        sampling: Callable[[Sampling], Sampling] = lambda configured: configured,
        collections: Sequence[str] = (),
        where: Where | None = None,
        at: str = "",
        key: str = "",
        user: str = "",
        system: str = "",
        previous: str = "",
        kept: Sequence[Message] | None = None,
    ) -> AsyncGenerator[AnswerEvent, None]:
        """The events of one answer, when the model is free.

        Args:
            question: what is asked.
            history: earlier turns, oldest first.
            model: name of what shall answer; None: the default.
            sampling: how tokens are chosen, given how that is configured.
            collections: all that may be answered from; none: the whole store.
            where: only passages for which these conditions hold.
            at: an earlier version of the features to answer from.
            key: id of the API key that asks.
            user: digest of the person that it is asked for.
            system: what the caller would have the model told; only the plain model is.
            previous: id of the answer that this one goes on from.
            kept: turns to keep with the answer; None: no other goes on from it.

        Raises:
            ModelNotFound: nothing is served under the name.
            Overloaded: the queue is full, or the wait took longer than allowed.
            TimedOut: the answer took longer than allowed.
        """
        held = await self.answerers.take(model)
        try:
            await self._turns.take()
        except BaseException:
            self.answerers.give_back(held)
            raise
        answer = held.assistant.stream(
            question,
            history,
            sampling=sampling(held.assistant.sampling),
            collections=collections,
            where=where,
            at=at,
            key=key,
            user=user,
            system=system,
            previous=previous,
            kept=kept,
        )
        made = self._made(held, answer, key)
        async with aclosing(made) as events:
            async for event in events:
                yield event

    async def _made(
        self, held: Held, answer: AnswerStream, key: str
    ) -> AsyncGenerator[AnswerEvent, None]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[AnswerEvent | TimedOut | None] = asyncio.Queue()

        def work() -> None:
            with answer:
                for event in answer:
                    if event.answer is not None:  # whoever is still there to read it
                        self._usage.add(key, event.answer.usage)
                    loop.call_soon_threadsafe(queue.put_nowait, event)

        def finished(ended: asyncio.Future[None]) -> None:
            self.answering -= 1
            # Looked at even where nobody is left to be told.
            error = None if ended.cancelled() else ended.exception()
            if error is not None and not isinstance(error, InputError):
                self._metrics.failed(held.assistant.model)
            self._turns.release()
            self.answerers.give_back(held)
            queue.put_nowait(None)

        late = TimedOut(
            f"The answer took longer than {self._config.answer_timeout_s:g} s.",
            hint="Ask for fewer tokens (max_tokens), or raise service.answer_timeout_s.",
        )
        self.answering += 1
        # The thread's spans belong to the request's trace.
        done = loop.run_in_executor(self._threads, copy_context().run, work)
        done.add_done_callback(finished)
        alarm = loop.call_later(self._config.answer_timeout_s, queue.put_nowait, late)
        try:
            while (event := await queue.get()) is not None:
                if isinstance(event, TimedOut):
                    raise event
                if event.answer is not None:
                    self._metrics.answered(event.answer)
                yield event
            done.result()  # raises what the thread raised
        finally:
            alarm.cancel()
            answer.cancel()

    async def aside(self, work: Callable[[], _T]) -> _T:
        """What ``work`` (a search, embeddings) gives, in a thread; few at once, beside answers.

        Raises:
            Overloaded: too many wait, or the wait took longer than allowed.
        """
        await self._aside.take()
        done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        done.add_done_callback(lambda _: self._aside.release())
        return await asyncio.shield(done)


class Turns:
    """So many at once, so many waiting, and nobody for too long.

    Args:
        at_once: how many may hold a turn.
        config: how many may wait and how long.
    """

    def __init__(self, at_once: int, config: ServiceConfig) -> None:
        self._config = config
        self._free = asyncio.Semaphore(at_once)
        self.waiting = 0

    def release(self) -> None:
        """Give a turn back."""
        self._free.release()

    async def take(self) -> None:
        """Wait for a turn; each one taken must be released.

        Raises:
            Overloaded: too many wait, or the wait took longer than allowed.
        """
        if self._free.locked() and self.waiting >= self._config.max_queue:
            raise Overloaded(
                f"The service is busy: {self.waiting} requests wait for the model.",
                hint=_BUSY_HINT,
            )
        self.waiting += 1
        try:
            async with asyncio.timeout(self._config.queue_timeout_s):
                await self._free.acquire()
        except TimeoutError as error:
            raise Overloaded(
                f"The model was not free within {self._config.queue_timeout_s:g} s.",
                hint=_BUSY_HINT,
            ) from error
        finally:
            self.waiting -= 1


async def unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """What ``work`` gives; it is cancelled when the client goes away first.

    Frameworks notice that only while they send, and a question may wait or compute for long before
    there is anything to send. The request's body must have been read.

    Raises:
        ClientDisconnect: nobody is there to be answered.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
