"""What clients are told of where things lie: documents' names, and no other path of this machine.

A document is named relative to what was ingested, with that folder's own name in front:
``handbook/rules/kiln.md`` of ``fti ingest /srv/acme/handbook``. A file that was ingested by itself,
or uploaded, has its own name. What came from an address keeps it. Messages for the person before
the machine name files by their paths; here these are shortened.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from fti.pipelines.inference.tracing.answer_lineage import AnswerLineage
from fti.pipelines.inference.tracing.document_lineage import DocumentLineage
from fti.store.answer_types import Answer, Correction
from fti.store.errors import StoreError
from fti.store.features.filters import Condition
from fti.store.store import Store
from fti.store.types import Passage, RetrievalContract, nfc

log = structlog.get_logger("fti.api")

#: A path in quotes, or one by itself; addresses have a slash or a colon before theirs.
_PATH = re.compile(
    r"""(['"])(?=/)(?P<quoted>(?:(?!\1).)+)\1|(?<![\w.:/~-])(?P<bare>/[^\s'"<>|,;]+)"""
)
_SETTLED_NS = 2_000_000_000
_BEHIND = ".:)]}"  # of a sentence, not of a path


class PublicNames:
    """The names of one store's documents. May be shared between threads.

    Args:
        store: its runs say what was ingested.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._looked_at: int | None = None
        self._roots: frozenset[str] = frozenset()

    def of(self, source: str) -> str:
        """The name of a document, by its source."""
        if not source.startswith("/"):  # an address, or a record's own name
            return source
        for folder in self._uploads():
            if source.startswith(f"{folder}/"):
                return source.removeprefix(f"{folder}/")
        above = [r for r in self._ingested() if source == r or source.startswith(_under(r))]
        if above:
            outermost = min(above, key=len)
            if outermost == "/":
                return source.removeprefix("/")
            return outermost.rsplit("/", 1)[-1] + source.removeprefix(outermost)
        # Of a store from elsewhere: its own name and its folder's tell it apart well enough.
        file, inner = _split(source)
        return "/".join(file.strip("/").split("/")[-2:]) + inner

    def passage(self, passage: Passage) -> Passage:
        """A passage under its document's name."""
        return passage.model_copy(update={"source": self.of(passage.source)})

    def answer(self, answer: Answer) -> Answer:
        """An answer whose passages and citations are under their documents' names."""
        return answer.model_copy(
            update={
                "where": tuple(map(self.told, answer.where)),
                "warnings": tuple(map(self.told, answer.warnings)),
                "passages": tuple(map(self.passage, answer.passages)),
                "citations": tuple(
                    c.model_copy(update={"source": self.of(c.source)}) for c in answer.citations
                ),
            }
        )

    def lineage(self, lineage: AnswerLineage) -> AnswerLineage:
        """How an answer came to be, by names."""
        passages = tuple(
            p.model_copy(update={"source": self.of(p.source)}) for p in lineage.passages
        )
        model = lineage.model
        facts: dict[str, Any] = {"missing": self.told(model.missing)}
        facts["base"] = model.base.model_copy(update={"id": self.told(model.base.id)})
        if model.dataset is not None:
            made_from = tuple(
                d.model_copy(update={"source": self.of(d.source)}) for d in model.dataset.made_from
            )
            damaged = self.told(model.dataset.damaged)
            named = {"made_from": made_from, "damaged": damaged}
            facts["dataset"] = model.dataset.model_copy(update=named)
        told = {
            "where": tuple(map(self.told, lineage.where)),
            "warnings": tuple(map(self.told, lineage.warnings)),
            "engine": self.told_all(lineage.engine),
            "retrieval": lineage.retrieval and self._retrieval(lineage.retrieval),
        }
        return lineage.model_copy(
            update={"passages": passages, "model": model.model_copy(update=facts), **told}
        )

    def _retrieval(self, contract: RetrievalContract) -> RetrievalContract:
        reranker = contract.reranker
        if reranker is not None:
            reranker = reranker.model_copy(update={"id": self.told(reranker.id)})
        where = tuple(map(self.told, contract.where))
        return contract.model_copy(update={"reranker": reranker, "where": where})

    def document(self, lineage: DocumentLineage) -> DocumentLineage:
        """What came of a document, by its name."""
        told = {"source": self.of(lineage.source), "cause": self.told(lineage.cause)}
        return lineage.model_copy(update=told)

    def correction(self, correction: Correction) -> Correction:
        """A correction of an answer whose documents are under their names."""
        return correction.model_copy(update={"answer": self.answer(correction.answer)})

    def sources(self, name: str) -> Sequence[str]:
        """The sources of the documents that have this name, or of that which has this source."""
        records, meant = self._store.features.records(), nfc(name)
        return [r.source for r in records if meant in (nfc(r.source), nfc(self.of(r.source)))]

    def meant(self, conditions: Sequence[Condition]) -> tuple[Condition, ...]:
        """Conditions on documents' names, as conditions on their sources."""
        return tuple(map(self._meant, conditions))

    def _meant(self, condition: Condition) -> Condition:
        if condition.key not in ("document", "source"):
            return condition
        found: list[str] = []
        for value in condition.values:
            found += self.sources(value) or [value]
        operator = condition.operator
        operator = "in" if operator == "=" and len(found) > 1 else operator
        return Condition(condition.key, operator, tuple(found), condition.limits)

    def told(self, text: str) -> str:
        """A message without the paths of this machine."""
        for root in (str(self._store.layout.root), *self._store.layout.former_roots()):
            # LanceDB's core writes absolute paths without the first slash.
            text = text.replace(f"{root}/", "").replace(f"{root[1:]}/", "")
            shown = Path(root).name.replace("\\", r"\\")
            text = re.sub(rf"{re.escape(root)}(?![\w-])", shown, text)
        return _PATH.sub(self._shortened, text)

    def told_all(self, value: Any) -> Any:
        """A JSON value whose texts are ``told``, keys included."""
        if isinstance(value, str):
            return self.told(value)
        if isinstance(value, Mapping):
            return {self.told(str(k)): self.told_all(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.told_all(each) for each in value]
        return value

    def _shortened(self, match: re.Match[str]) -> str:
        path = match["quoted"] or match["bare"]
        bare = path.rstrip(_BEHIND) if match["bare"] else path
        if not _is_here(bare):
            return match[0]
        above = any(bare == r or bare.startswith(_under(r)) for r in self._ingested())
        short = self.of(bare) if above else PurePosixPath(bare).name or "/"
        return match[0].replace(bare, short)

    def _uploads(self) -> list[str]:
        layout = self._store.layout
        roots = (str(layout.root), *layout.former_roots())
        return [str(Path(root) / layout.uploads.name) for root in roots]

    def _ingested(self) -> frozenset[str]:
        """The files and folders that were ever ingested."""
        if self._store.layout.store_url:
            return self._ingested_by_all()
        runs = self._store.layout.runs
        at = runs.stat().st_mtime_ns if runs.is_dir() else 0
        if at != self._looked_at:
            with self._lock:
                self._look()
                # A folder that was just made may have had no record yet.
                self._looked_at = at if time.time_ns() - at > _SETTLED_NS else None
        return self._roots

    def _ingested_by_all(self) -> frozenset[str]:
        """The same of a store in a bucket: looked up once a second, and after the first time by a
        thread, since names are asked for where nothing may wait. A root that is not known yet makes
        the names in it shorter, never longer.
        """
        at = int(time.monotonic())
        if self._looked_at is None:
            with self._lock:
                self._look()
                self._looked_at = at
        elif at != self._looked_at and self._lock.acquire(blocking=False):
            self._looked_at = at
            threading.Thread(target=self._look_beside, name="fti-names", daemon=True).start()
        return self._roots

    def _look_beside(self) -> None:
        try:
            self._look()
        except StoreError as error:
            log.warning("runs_unreadable", reason=str(error))
        finally:
            self._lock.release()

    def _look(self) -> None:
        for run in list(self._store.runs.beside(self._seen)):
            self._seen.add(run.id)
            self._roots |= set(_sources(run.inputs.get("sources", "")))


def _sources(text: str) -> list[str]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [each for each in found if isinstance(each, str) and each.startswith("/")]


def _under(root: str) -> str:
    return root if root.endswith("/") else f"{root}/"


def _split(source: str) -> tuple[str, str]:
    """The file of a source, and what is named inside of it."""
    at = min((i for i in (source.find("!/"), source.find("#")) if i > 0), default=len(source))
    return source[:at], source[at:]


@lru_cache(maxsize=256)
def _is_folder(first: str) -> bool:
    return Path("/", first).is_dir()


def _is_here(path: str) -> bool:
    """Whether a path is one of this machine, and not of the API: its first folder is there."""
    first = path.strip("/").split("/")[0]
    return bool(first) and _is_folder(first)
