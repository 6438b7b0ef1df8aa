"""The numbered versions of the feature store: recorded, tagged, gone back to, let go of.

A version is a version of the table of chunks; with it belongs one of the table of documents. Every
ingest that changed something records the pair in ``versions.jsonl``. Tags are LanceDB's own, on the
table of chunks, so that any tool which prunes that table meets them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from fti.store.errors import InvalidName, StoreEmpty, VersionNotFound
from fti.store.features.bykey import has_pylance
from fti.store.files.atomic import open_line, open_sealed, seal_line, sealed_json
from fti.store.files.layout import Layout
from fti.store.lance import shapes
from fti.store.lance.connection import Lance
from fti.store.lance.indexing import NEVER
from fti.store.moments import LONGEST
from fti.store.types import Value, now
from fti.store.versioned.versions import check_name

#: A reader may still be at a version that was the latest a moment ago.
SHORTEST_AGE = timedelta(hours=1)
_VERSIONS = "features/versions.jsonl"
_EXPIRED = "features/expired.json"
_KEPT = "fti.kept."  # tags of ours that protect versions from one pruning
_TAGGED = "tagged version"  # in LanceDB's refusal to prune past one
_EARLIER = 20  # up to how many versions' ends a refused pruning is tried


class FeatureVersion(Value):
    """One state of documents and chunks, as an ingest left it."""

    version: int
    documents_version: int
    created_at: datetime
    documents: int
    chunks: int
    embedder: str
    run: str = ""
    tags: tuple[str, ...] = ()


class RetentionConfig(Value):
    """When versions of the features are let go of without being told to."""

    versions: int | None = Field(
        default=1000,
        ge=1,
        description="So many of the latest versions stay; earlier ones are removed once they are "
        "``hours`` old, except what `fti versions prune` keeps too. None: only that command "
        "removes any.",
    )
    hours: float = Field(
        default=1.0,
        ge=0,
        le=LONGEST / timedelta(hours=1),
        description="Age below which all stay; at least the last hour does, for readers.",
    )


class PruneReport(Value):
    """What pruning removed: versions of the chunks, and bytes on disk. ``kept`` says why others
    that are as old stayed."""

    removed: tuple[int, ...]
    freed_bytes: int
    kept: Mapping[int, str]


class History:
    """Versions of one feature store.

    Args:
        layout: where the store lies.
        lance: its tables.
    """

    def __init__(self, layout: Layout, lance: Lance) -> None:
        self._storage = layout.storage
        self._lance = lance

    def record(self, *, documents: int, chunks: int, embedder: str, run: str) -> FeatureVersion:
        """Note what the tables are now as a version; noting the same pair again changes nothing."""
        table, texts = self._tables()
        found = FeatureVersion(
            version=int(table.version),
            documents_version=int(texts.version),
            created_at=now(),
            documents=documents,
            chunks=chunks,
            embedder=embedder,
            run=run,
        )
        before = self._recorded().get(found.version)
        if before is not None and before.documents_version == found.documents_version:
            return before
        self._storage.append(_VERSIONS, [seal_line(found.model_dump_json(exclude={"tags"}))])
        return found

    def versions(self) -> list[FeatureVersion]:
        """The recorded versions that still exist, oldest first, with their tags."""
        there = {version for version, _ in self._existing(shapes.CHUNKS)}
        named = self._names()
        return [
            found.model_copy(update={"tags": tuple(named.get(version, ()))})
            for version, found in sorted(self._recorded().items())
            if version in there
        ]

    def extent(self) -> tuple[int, int]:
        """How many versions of the chunks there are, and the bytes that all of them take."""
        return len(self._existing(shapes.CHUNKS)), self._size()

    def tags(self) -> dict[str, int]:
        """Versions by tag, in order of name."""
        table = self._lance.open(shapes.CHUNKS)
        if table is None:
            return {}
        with self._lance.reading():
            found = table.tags.list()
        return {
            name: int(found[name]["version"])
            for name in sorted(found)
            if not name.startswith(_KEPT)
        }

    def resolve(self, reference: str) -> int:
        """The version that a number or a tag means.

        Raises:
            VersionNotFound: there is no such version or tag.
            StoreEmpty: nothing was ever ingested.
        """
        self._tables()
        there = [version for version, _ in self._existing(shapes.CHUNKS)]
        if reference.isascii() and reference.isdigit():
            if int(reference) in there:
                return int(reference)
            known = [str(found.version) for found in self.versions()][-5:]
            raise VersionNotFound(
                f"The features have no version {reference}; the latest is {max(there)}.",
                hint=f"Ingests left, for example: {', '.join(known)}. See: fti versions list"
                if known
                else "See: fti versions list",
            )
        tags = self.tags()
        if reference not in tags:
            raise _no_tag(reference, tags)
        return tags[reference]

    def documents_version(self, version: int) -> int | None:
        """The version of the documents that belongs to one of the chunks; None if not recorded."""
        found = self._recorded().get(version)
        return found.documents_version if found else None

    def tag(self, name: str, version: int) -> int | None:
        """Give a version a name, or move the name to it; the version that it named before.

        Raises:
            InvalidName: the name is not plain, or could be taken for a number.
            VersionNotFound: there is no such version.
        """
        check_name(name, "tag")
        if name.isdigit() or name.startswith(_KEPT):
            raise InvalidName(
                f"{name!r} is not a name for a tag.", hint="Choose a word, such as before-move."
            )
        self.resolve(str(version))
        version = self._lance.whole(version)
        table, _ = self._tables()
        before = self.tags().get(name)
        with self._lance.writing():
            if before is None:
                table.tags.create(name, version)
            else:
                table.tags.update(name, version)
        return before

    def untag(self, name: str) -> int:
        """Take a tag away; the version that it named.

        Raises:
            VersionNotFound: there is no such tag.
        """
        table, _ = self._tables()
        tags = self.tags()
        if name not in tags:
            raise _no_tag(name, tags)
        with self._lance.writing():
            table.tags.delete(name)
        return tags[name]

    def restore(self, version: int) -> None:
        """Make documents and chunks what they were at a version; that is a new version.

        A crash in between leaves chunks of that version with newer documents, which the next
        ingest finds and takes again.
        """
        chunks, documents = self._lance.restoring(version, self._paired(version))
        with self._lance.writing():
            chunks.restore()
            documents.restore()
        self._lance.refresh()

    def prune(
        self, keep: Mapping[int, str], *, older_than: timedelta, dry: bool = False
    ) -> PruneReport:
        """Remove versions older than an age, with the files that only they use.

        The latest version, tagged ones and those in ``keep`` stay readable. LanceDB alone can
        remove no version that is younger than one it must keep; with pylance installed those go
        too.

        Args:
            keep: versions with the reason why each stays.
            older_than: at least ``SHORTEST_AGE`` counts, for readers that are still there.
            dry: remove nothing, and say what would go.
        """
        self._tables()
        if not dry:
            self._lance.to_change()  # what a crash left needs the version that it goes back to
        before = self._existing(shapes.CHUNKS)
        latest = max(version for version, _ in before)
        named = {v: "tagged " + ", ".join(names) for v, names in self._names().items()}
        staying = {**keep, **named, latest: "the latest"}
        cutoff = now() - max(older_than, SHORTEST_AGE)
        old = {version for version, at in before if at < cutoff}
        if dry:
            kept = {v: staying[v] for v in sorted(old & set(staying))}
            return PruneReport(removed=tuple(sorted(old - set(kept))), freed_bytes=0, kept=kept)
        size = self._size()
        there = {version for version, _ in before}
        chunks = {version for version in staying if version in there}
        # Documents of younger versions are younger too, but for those of the oldest of these.
        young = min((version for version, at in before if at >= cutoff), default=latest)
        documents = {self._paired(version) for version in (*chunks, young)}
        for name, wanted in ((shapes.CHUNKS, chunks), (shapes.DOCUMENTS, documents)):
            with self._protected(name, wanted):
                self._remove(name, wanted, cutoff)
        self._lance.refresh()
        after = {version for version, _ in self._existing(shapes.CHUNKS)}
        self._forget_records(after)
        return PruneReport(
            removed=tuple(sorted(old - after)),
            freed_bytes=max(0, size - self._size()),
            kept={
                v: staying.get(v, "older ones must be kept; with pylance it would go")
                for v in sorted(old & after)
            },
        )

    def last(self, count: int) -> dict[int, str]:
        """The last versions and those that the last ingests left, with why they stay."""
        recorded = self.versions()
        ingests = [found for found in recorded if found.run]
        return {v.version: f"of the last {count}" for v in (*recorded[-count:], *ingests[-count:])}

    def due(self, retention: RetentionConfig) -> bool:
        """Whether there may be more versions than are to stay, without counting them.

        They are numbered one by one, and a tenth of them more than was looked at last is awaited.
        """
        table = self._lance.open(shapes.CHUNKS)
        if retention.versions is None or table is None:
            return False
        try:
            looked = int(open_sealed(self._storage.read(_EXPIRED))["version"])
        except (OSError, ValueError, KeyError, TypeError):
            looked = 0  # nothing was ever removed: so many there are at most
        version = int(table.version)
        if looked > version:  # a table that was made anew counts from 1
            looked = 0
        return version - looked > (
            max(1, retention.versions // 10) if looked else retention.versions
        )

    def expire(self, retention: RetentionConfig, keep: Mapping[int, str]) -> PruneReport | None:
        """Remove what is not to stay; None when there are not too many versions.

        Args:
            retention: how many stay, and which are old enough.
            keep: as in ``prune``.
        """
        table, _ = self._tables()
        self._storage.write(_EXPIRED, sealed_json({"version": int(table.version)}))
        there = sorted(at for _, at in self._existing(shapes.CHUNKS))
        if retention.versions is None or len(there) <= retention.versions:
            return None
        beyond = now() - there[-retention.versions]
        return self.prune(keep, older_than=max(beyond, timedelta(hours=retention.hours)))

    def broken_lines(self) -> int:
        """How many lines of what was recorded cannot be read; one that a crash cut is one."""
        return sum(entry is None for entry in self._lines())

    # Inside

    def _remove(self, name: str, wanted: set[int], cutoff: datetime) -> None:
        table = self._lance.open(name)
        if has_pylance():
            import lance

            lance.dataset(self._lance.address(name)).cleanup_old_versions(
                older_than=now() - cutoff, error_if_tagged_old_versions=False
            )
            return
        # LanceDB refuses to prune past a tagged version: it prunes up to the oldest that stays. The
        # age is measured when it comes to that, after compacting; so that is done before, and the
        # end lies as early as it may. It counts from LanceDB's own clock, though, a little later
        # than this one: where a version that stays was written within that time, it refuses and
        # removes nothing. Then once more, and in the end up to an earlier version: what is left
        # goes the next time.
        versions = self._existing(name)
        oldest = min((at for v, at in versions if v in wanted), default=cutoff)
        before = sorted((at for _, at in versions if at < min(oldest, cutoff)), reverse=True)
        with self._lance.writing():
            if before:
                table.optimize(cleanup_older_than=NEVER)
            for last in (*before[:1] * 5, *before[1:_EARLIER]):
                try:
                    table.optimize(cleanup_older_than=now() - last - timedelta(milliseconds=1))
                except RuntimeError as error:
                    if _TAGGED not in str(error):
                        raise
                else:
                    break

    @contextmanager
    def _protected(self, name: str, wanted: set[int]) -> Iterator[None]:
        """Tags of our own on the versions while the block runs, and none that a crash left."""
        table = self._lance.open(name)
        with self._lance.writing():
            held = {t for t in table.tags.list() if t.startswith(_KEPT)}
            mine = {f"{_KEPT}{version}": version for version in wanted}
            for tag in held - set(mine):
                table.tags.delete(tag)
            for tag in set(mine) - held:
                table.tags.create(tag, mine[tag])
            try:
                yield
            finally:
                for tag in mine:
                    table.tags.delete(tag)

    def _paired(self, version: int) -> int:
        recorded = self.documents_version(version)
        return self._lance.documents_beside(version) if recorded is None else recorded

    def _names(self) -> dict[int, list[str]]:
        named: dict[int, list[str]] = {}
        for name, version in self.tags().items():
            named.setdefault(version, []).append(name)
        return named

    def _recorded(self) -> dict[int, FeatureVersion]:
        """By version; of several records of one the last counts. A line cut by a crash does not."""
        found: dict[int, FeatureVersion] = {}
        for entry in self._lines():
            if entry is not None:
                found[entry.version] = entry
        return found

    def _lines(self) -> Iterator[FeatureVersion | None]:
        """What was recorded, oldest first; None for a line that cannot be read."""
        for line in self._storage.lines(_VERSIONS):
            try:
                yield FeatureVersion.model_validate(open_line(line))
            except ValueError:
                yield None

    def _forget_records(self, there: set[int]) -> None:
        """Leave out what was noted about versions that are gone."""

        def gone(line: bytes) -> bool:
            try:
                return FeatureVersion.model_validate(open_line(line)).version not in there
            except ValueError:
                return True

        self._storage.drop_lines(_VERSIONS, gone, alone=True)

    def _existing(self, name: str) -> Sequence[tuple[int, datetime]]:
        table = self._lance.open(name)
        if table is None:
            return []
        with self._lance.reading():
            return [
                (int(v["version"]), v["timestamp"].astimezone(UTC)) for v in table.list_versions()
            ]

    def _size(self) -> int:
        return sum(map(self._lance.size, (shapes.CHUNKS, shapes.DOCUMENTS)))

    def _tables(self) -> tuple[Any, Any]:
        chunks, documents = self._lance.open(shapes.CHUNKS), self._lance.open(shapes.DOCUMENTS)
        if chunks is None or documents is None:
            raise StoreEmpty(
                f"The store {str(self._lance.folder.parent)!r} is empty.",
                hint="Ingest documents first: fti ingest PATH",
            )
        return chunks, documents


def _no_tag(name: str, tags: Mapping[str, int]) -> VersionNotFound:
    return VersionNotFound(
        f"The features have no tag {name!r}.",
        hint=f"Tags are: {', '.join(tags)}."
        if tags
        else "There is no tag yet; set one with: fti versions tag NAME",
    )
