"""The model behind the service: who waits for it, and its answers brought to the event loop.

An answer is made in a thread and its events are queued for the reader. The model is free again when
it has finished, however slowly the reader reads; a reader that goes away stops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from app.service import ServiceConfig
from pipelines.inference.answer import AnswerEvent, Assistant
from store.errors import Overloaded
from store.types import Message, Sampling

_T = TypeVar("_T")
_BUSY_HINT = "Try again in a few seconds."


class Worker:
    """One assistant with a bounded queue before it.

    Args:
        assistant: answers; used from threads.
        config: how many at once, how many may wait and how long.
    """

    def __init__(self, assistant: Assistant, config: ServiceConfig) -> None:
        self.assistant = assistant
        self._config = config
        self._turns = asyncio.Semaphore(config.concurrency)
        self.waiting = 0  # requests in the queue

    async def events(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        sampling: Sampling | None = None,
    ) -> AsyncIterator[AnswerEvent]:
        """The events of one answer, when the model is free.

        Raises:
            Overloaded: the queue is full, or the wait took longer than allowed.
        """
        await self._take_turn()
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[AnswerEvent | None] = asyncio.Queue()
        answer = self.assistant.stream(question, history, sampling=sampling)

        def work() -> None:
            with answer:
                for event in answer:
                    loop.call_soon_threadsafe(queue.put_nowait, event)

        def finished(_: asyncio.Future[None]) -> None:
            self._turns.release()
            queue.put_nowait(None)

        done = loop.run_in_executor(None, work)
        done.add_done_callback(finished)
        try:
            while (event := await queue.get()) is not None:
                yield event
            done.result()  # raises what the thread raised
        finally:
            answer.cancel()

    async def _take_turn(self) -> None:
        if self._turns.locked() and self.waiting >= self._config.max_queue:
            raise Overloaded(
                f"The service is busy: {self.waiting} requests wait for the model.",
                hint=_BUSY_HINT,
            )
        self.waiting += 1
        try:
            async with asyncio.timeout(self._config.queue_timeout_s):
                await self._turns.acquire()
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
