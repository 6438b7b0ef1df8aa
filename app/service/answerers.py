"""What answers under which name: loaded on demand, kept while used, swapped when an alias moves.

A request holds its assistant from its beginning to its end, so an answer never changes models on
the way. A name that means a version (``reader@champion``) is looked up again and again; the new
version is loaded beside the old one and takes its place only when it is whole. One that cannot be
served is logged, and the old one stays. So it is with the embedder, where the store is switched to
another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from fti.app.service.service_config import ServiceConfig
from fti.pipelines.inference.answering.answer import Assistant
from fti.store.errors import FtiError, IntegrityError, InvalidName, ModelNotFound, NotFoundError
from fti.store.store import Store

log = structlog.get_logger("fti.api")

#: Makes the assistant of ``base``, ``extractive`` or ``name/number``; slow, called in a thread.
Build = Callable[[str], Assistant]

_TRY_AGAIN_S = 30.0  # a version that could not be loaded, perhaps for want of memory
_BUILT_IN = ("base", "extractive")  # where nothing else is said


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A name that requests may use, and what it means now."""

    name: str
    ref: str
    created: int
    default: bool
    kind: Literal["llm", "embedder"] = "llm"


@dataclass(eq=False, slots=True)
class Held:
    """An assistant and how many requests use it."""

    assistant: Assistant
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)


class Answerers:
    """The assistants of a service, by name.

    Args:
        first: loaded already; answers requests that name no model.
        config: how many to keep, how often to look after aliases.
        name: under which ``first`` was asked for (``reader@champion``); empty: its own.
        build: makes others; without it nothing but ``first`` is served.
        built_in: what ``build`` knows beside the versions of the registry.
    """

    def __init__(
        self,
        first: Assistant,
        config: ServiceConfig,
        *,
        name: str = "",
        build: Build | None = None,
        built_in: Sequence[str] = _BUILT_IN,
    ) -> None:
        self.first = first
        self._built_in = tuple(built_in)
        self.default = name or first.model
        self.started = int(time.time())
        self._config = config
        self._build = build
        self._held = {first.model: Held(first)}
        self._meant = {self.default: first.model}  # names that can move, and what they mean
        self._refused: dict[str, float] = {}  # versions that could not be loaded, and when
        self._loading = asyncio.Lock()

    @property
    def store(self) -> Store:
        """Where the answers come from."""
        return self.first.store

    def cards(self) -> list[ModelCard]:
        """Every name that can be asked for, the default first. Reads the registry."""
        found = {self.default: self._meant[self.default], self.first.model: self.first.model}
        created: dict[str, int] = {}
        if self._build is not None:
            registry = self.store.models
            found |= {name: name for name in self._built_in}
            for name in registry.names():
                try:
                    aliases = registry.aliases(name)
                except IntegrityError:  # its versions can be named by their numbers still
                    continue
                for alias, number in sorted(aliases.items()):
                    served = self._meant.get(f"{name}@{alias}", f"{name}/{number}")
                    found.setdefault(f"{name}@{alias}", served)
            for ref in registry.refs():
                model, _, version = ref.partition("/")
                try:
                    if int(version) in registry.retired(model):
                        continue
                    held = registry.get(ref)
                except IntegrityError:  # cannot be loaded any more, so it is not offered
                    found = {n: m for n, m in found.items() if m != ref or m in self._held}
                    continue
                if held.kind == "embedder":  # it answers nothing
                    found = {name: meant for name, meant in found.items() if meant != ref}
                    continue
                created[ref] = int(held.created_at.timestamp())
                found.setdefault(ref, ref)
        cards = [
            ModelCard(name, ref, created.get(ref, self.started), name == self.default)
            for name, ref in found.items()
        ]
        embedder = self.first.retriever.embedder.identity.id
        return [*cards, ModelCard(embedder, embedder, self.started, False, "embedder")]

    async def take(self, name: str | None) -> Held:
        """The assistant that a name means now, held until ``give_back``; loaded where needed.

        Raises:
            ModelNotFound: nothing is served under this name; says what is.
            FtiError: it cannot be loaded here.
        """
        name = name or self.default
        ref = self._meant.get(name)
        if ref is None:
            ref = await asyncio.to_thread(self._find, name)
        held = self._held.get(ref) or await self._load(ref)
        if "/" not in name and name not in self._built_in:
            self._meant.setdefault(name, ref)
        held.users += 1
        held.last_used = time.monotonic()
        return held

    def give_back(self, held: Held) -> None:
        """The request is over."""
        held.users -= 1
        if not held.users and held not in self._held.values():  # of before a switch
            _close(held.assistant)
        self._drop_unused()

    async def follow(self) -> None:
        """Keep the names at what they mean, until cancelled."""
        while True:
            await asyncio.sleep(self._config.alias_poll_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Serve what each alias means now; where that cannot be loaded, keep what it meant."""
        await self._follow_embedder()
        for name, served in list(self._meant.items()):
            if self._build is None or name in self._built_in or "/" in name:
                continue
            wanted = ""
            try:
                wanted = (await asyncio.to_thread(self.store.models.get, name)).ref
                if wanted == served or self._refused_lately(wanted):
                    continue
                await self._load(wanted)
            except FtiError as error:
                self._refuse(name, wanted, served, error)
                continue
            except Exception as error:  # a door of its own: nobody asked, so nobody is told
                log.error("defect", model=name, exc_info=error)
                self._refuse(name, wanted, served, error)
                continue
            self._meant[name] = wanted
            log.info("model_swapped", name=name, before=served, now=wanted)
            self._drop_unused()

    async def _follow_embedder(self) -> None:
        """Serve with the embedder that made the store's vectors, if it can be loaded.

        What answers by default is made anew with it, and everything else when it is asked for.
        """
        ours = self.first.retriever.embedder.identity
        try:
            held = await asyncio.to_thread(self.store.features.identity)
        except FtiError as error:
            log.error("store_unreadable", reason=str(error))
            return
        if self._build is None or held is None or held == ours or self._refused_lately(held.id):
            return
        ref = self._meant[self.default]
        try:
            async with self._loading:
                fresh = Held(await asyncio.to_thread(self._build, ref))
                before, self._held = self._held, {ref: fresh}
                self.first = fresh.assistant
        except FtiError as error:
            self._refuse("embedder", held.id, ours.id, error)
            return
        except Exception as error:  # as for models
            log.error("defect", model=ref, exc_info=error)
            self._refuse("embedder", held.id, ours.id, error)
            return
        log.info("embedder_swapped", before=ours.id, now=held.id)
        for each in before.values():
            if not each.users:
                _close(each.assistant)

    def _refuse(self, name: str, wanted: str, served: str, error: Exception) -> None:
        if not self._refused_lately(wanted):
            log.error("model_refused", name=name, wanted=wanted, serving=served, reason=str(error))
            self._refused[wanted] = time.monotonic()

    def _refused_lately(self, ref: str) -> bool:
        at = self._refused.get(ref)
        return at is not None and time.monotonic() - at < _TRY_AGAIN_S

    def _find(self, name: str) -> str:
        if self._build is not None and name in self._built_in:
            return name
        if name == self.first.model:
            return name
        try:
            if self._build is None:
                raise ModelNotFound("")
            return self.store.models.get(name).ref
        except (NotFoundError, InvalidName) as error:
            cards = self.cards()
            if any(card.name == name and card.kind == "embedder" for card in cards):
                raise ModelNotFound(
                    f"The model {name!r} makes vectors and answers nothing.",
                    hint="Ask it at /v1/embeddings.",
                ) from error
            served = ", ".join(card.name for card in cards if card.kind == "llm")
            raise ModelNotFound(
                f"The model {name!r} is not served here.", hint=f"Served: {served}."
            ) from error

    async def _load(self, ref: str) -> Held:
        async with self._loading:
            if ref in self._held:
                return self._held[ref]
            assert self._build is not None  # _find gives nothing else to load
            began = time.perf_counter()
            assistant = await asyncio.to_thread(self._build, ref)
            log.info("model_loaded", model=ref, seconds=round(time.perf_counter() - began, 3))
            held = self._held[ref] = Held(assistant)
            return held

    def _drop_unused(self) -> None:
        """Let go of the assistants that are too many, those unused for longest first."""
        kept = self._meant[self.default]
        unused = [(h.last_used, ref) for ref, h in self._held.items() if not h.users]
        for _, ref in sorted(unused):
            if len(self._held) <= self._config.max_models:
                return
            if ref != kept:
                _close(self._held.pop(ref).assistant)
                log.info("model_dropped", model=ref)


def _close(assistant: Assistant) -> None:
    close = getattr(assistant.generator, "close", None)
    if close is not None:
        close()
