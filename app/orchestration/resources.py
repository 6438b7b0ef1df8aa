"""What steps read and write, and by what it is known whether it has changed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fti.store.errors import ExtractionError, NotFoundError
from fti.store.types import sha256_hex
from fti.store.versioned.versions import file_sha256

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.store.progress import Progress
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion


ResourceKind = Literal[
    "files", "documents", "features", "dataset", "cases", "model", "trained", "evaluation",
    "alias", "answers", "report", "chats",
]  # fmt: skip
#: Without a name, all there are.
_MANY: tuple[ResourceKind, ...] = ("cases", "answers")


@dataclass(frozen=True, slots=True)
class Context:
    """What steps work with."""

    settings: Settings
    store: Store
    progress: Progress


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that lies in the store or in files."""

    kind: ResourceKind
    name: str = ""

    def __str__(self) -> str:
        """As the graph shows it."""
        return f"{self.kind} {self.name or ('(all)' if self.kind in _MANY else '')}".strip()

    def overlaps(self, other: Resource) -> bool:
        """Whether the two are the same thing, or one is a part of the other."""
        return self.kind == other.kind and (self.name == other.name or not self.name)

    def digest(self, context: Context) -> str:
        """Of what lies there now; empty when there is nothing."""
        store = context.store
        try:
            match self.kind:
                case "files":
                    return _files_digest(self.name.split("\n"), context)
                case "documents":
                    return store.features.documents_digest() if store.features.exists() else ""
                case "features":
                    return store.features.content_digest() if store.features.exists() else ""
                case "dataset":
                    return store.datasets.get(self.name).digest
                case "cases" if not self.name:
                    return sha256_hex("\n".join(f"{c.ref} {c.digest}" for c in store.cases.list()))
                case "cases":
                    return store.cases.get(self.name).digest
                case "model":
                    return _version_digest(newest(store, self.name))
                case "trained":
                    return _version_digest(newest_trained(store, self.name))
                case "evaluation":
                    return _newest_evaluation(store, self.name)
                case "alias":
                    name, _, alias = self.name.partition("@")
                    return str(store.models.aliases(name).get(alias, ""))
                case "answers" if not self.name:  # given to anybody: the newest
                    return "".join(answer.id for answer in store.answers.list(1))
                case "answers":
                    return _answers_digest(store, self.name)
                case "chats":
                    from fti.pipelines.feature.dataset.sources.chats import source_digest

                    return source_digest(self.name)
                case "report":
                    return file_sha256(Path(self.name)) if Path(self.name).is_file() else ""
        except NotFoundError:
            return ""


def newest(store: Store, name: str) -> ModelVersion:
    """The newest version of a model.

    Raises:
        ModelNotFound: there is none.
    """
    return store.models.get(f"{name}/latest")


def newest_trained(store: Store, name: str) -> ModelVersion:
    """The newest version of a model that a training made, and not a calibration of it.

    Raises:
        ModelNotFound: there is none.
    """
    versions = sorted(store.models.list(name), key=lambda version: version.version)
    trained = [version for version in versions if "calibration" not in version.metrics]
    return trained[-1] if trained else newest(store, name)


def _version_digest(version: ModelVersion) -> str:
    files = (f"{file.path} {file.sha256}" for file in version.files)
    return sha256_hex("\n".join([version.ref, *files]))


def _files_digest(sources: Sequence[str], context: Context) -> str:
    """Of the bytes of all files that the sources name, found as an ingest finds them.

    What lies behind an address is known only to who fetches it: with one, no two digests agree.
    """
    from fti.pipelines.feature.finding.discovering import discover
    from fti.pipelines.feature.finding.sources import fingerprint
    from fti.pipelines.feature.finding.web import is_address

    addresses = [source for source in sources if is_address(source)]
    paths = [source for source in sources if source not in addresses]
    lines = [f"{address} {uuid.uuid4()}" for address in addresses]
    for file in discover(paths, config=context.settings.features.sources).files:
        try:
            lines.append(f"{file.source} {fingerprint(file)}")
        except ExtractionError as error:  # the ingest will say so of this one file
            lines.append(f"{file.source} {error.message}")
    return sha256_hex("\n".join(lines))


def _newest_evaluation(store: Store, name: str) -> str:
    model, _, cases = name.partition(" on ")
    ref = newest(store, model).ref
    digest = store.cases.get(cases).digest
    for run in store.runs.list("evaluate"):
        asked = run.inputs.get("model"), run.inputs.get("case_set")
        if run.status == "done" and asked == (ref, digest):
            return run.id
    return ""


def _answers_digest(store: Store, name: str) -> str:
    kind, _, table = name.partition("table ")
    if not kind:
        return str(store.tables.version(table) or "")
    return file_sha256(Path(name)) if Path(name).is_file() else ""
