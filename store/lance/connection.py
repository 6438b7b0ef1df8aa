"""The LanceDB connection of one feature store: its tables opened, made, pinned and dropped.

They lie in a folder or, by its URL, in an object store, which LanceDB reaches by itself with the
credentials that the environment has (``AWS_…``, ``GOOGLE_…``).
Handles follow the latest version; ``snapshot`` is one version, so that several queries agree.
What LanceDB raises is renamed here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from fti.store.errors import StoreError, StoreFull, StoreReadOnly, VersionNotFound
from fti.store.files.atomic import WRITABLE_HINT
from fti.store.files.places import Place, file_sizes
from fti.store.lance import memory, shapes
from fti.store.lance.library import lancedb

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)

#: In the metadata of a column of the chunks: while several commits are to be one, the version that
#: there was before them.
_MARKED, _BEFORE = "document_id", "fti.before"
_LOOK_BACK = 3  # versions; one is not indexed, between a rebuild's two commits


class Lance:
    """Tables under one folder. Nothing is opened before the first use.

    Args:
        folder: where the tables lie.
        chunks: name of the table of chunks.
        max_age: how old a reader's view may be.
        at: a version of the chunks to stay at; None follows the latest.
        documents_at: the version of the documents that belongs to it, where that is known.
        url: where they lie instead, in an object store.
        guard: called before each change; raises where this process may write no more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        chunks: str,
        max_age: timedelta,
        at: int | None = None,
        documents_at: int | None = None,
        url: str = "",
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.url = url
        self._guard = guard
        self.chunks = chunks
        self.at = at
        self._documents_at = documents_at
        self._max_age = max_age
        self._lock = threading.RLock()
        self._connection: Any = None
        self._handles: dict[str, Any] = {}
        self._pinned: dict[str, tuple[int, Any]] = {}  # with their versions: asking takes as long

    def open(self, name: str) -> Any:
        """The table, following its latest version; None when there is none."""
        with self._lock:
            if name not in self._handles:
                if not self.url and not (self.folder / f"{name}.lance").is_dir():
                    return None
                with self.reading():
                    try:
                        self._handles[name] = self._connect().open_table(name)
                    except ValueError as error:
                        # A folder that a crash left empty; in an object store, any absent one.
                        if "not found" in str(error):
                            return None
                        raise
            return self._handles[name]

    def latest(self, name: str) -> Any:
        """The table as it is now, to be changed; None when there is none.

        A change is made to the version that the handle sees, and a reader's may be old: what
        another process wrote since would be passed over.
        """
        with self._lock, self.reading():
            table = self.open(name)
            if table is not None:
                table.checkout_latest()
            return table

    def newest(self) -> Any:
        """The chunks at their latest version that is whole, indexed or not; None without any."""
        with self._lock, self.reading():
            latest = self.open(self.chunks)
            return None if latest is None else self._at(self.chunks, int(latest.version))

    def whole(self, version: int) -> int:
        """The version of the chunks that readers of this one see: see ``as_one``.

        Raises:
            VersionNotFound: there is no such version.
        """
        with self._lock, self.reading():
            return int(self._at(self.chunks, version).version)

    def to_change(self) -> Any:
        """The chunks as they are now, to be changed; None when there are none.

        What a crash left of ``as_one`` is undone. Only for who holds the right to write.
        """
        with self._lock:
            table = self.latest(self.chunks)
            if table is not None and (before := _before(table)) is not None:
                with self.writing():
                    self._at(self.chunks, before).restore()
                    table.checkout_latest()
                self._pinned.clear()
            return table

    @contextlib.contextmanager
    def as_one(self, table: Any) -> Iterator[None]:
        """Commits to the chunks within are one to readers: until the end they stay at the version
        before. If it does not come to the end, the next writer goes back to that as well.

        Args:
            table: the chunks, as ``to_change`` gave them.
        """
        with self.writing():
            _mark(table, str(int(table.version)))
            yield
        with self.writing():
            _mark(table, None)

    def ensure(self, name: str, schema: Any) -> Any:
        """The table as it is now, to be changed; made empty when there is none."""
        with self._lock, self.writing():
            table = self.latest(name)
            if table is None:
                table = self._connect().create_table(name, schema=schema)
                self._handles[name] = table
            return table

    def overwrite(self, name: str, batches: Any, schema: Any) -> Any:
        """Replace all rows and the schema in one commit; earlier versions stay."""
        with self._lock, self.writing():
            table = self._connect().create_table(
                name, data=batches, schema=schema, mode="overwrite"
            )
            self._handles[name] = table
            self._pinned.clear()
            return table

    def rewrite(self, name: str, *, forget_versions: bool) -> int:
        """Write a table anew; how many earlier versions were removed, all of them when asked."""
        with self._lock, self.writing():
            table = self.open(name)
            before = len(table.list_versions())
            rows = with_schema(table.search().to_batches(1024), table.schema)
            table = self.overwrite(name, rows, table.schema)
            if forget_versions:
                # All but the latest; an age of nothing is warned about.
                table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
            self._pinned.clear()
            return before + 1 - len(table.list_versions())

    def drop(self, name: str) -> None:
        """Remove a table with all its versions, if there is one."""
        with self._lock, self.writing():
            self._handles.pop(name, None)
            if self.url or (self.folder / f"{name}.lance").is_dir():
                self._connect().drop_table(name, ignore_missing=True)

    def names(self) -> list[str]:
        """The tables there are."""
        if not self.url:
            # LanceDB would bring in its client for catalogs to say so, which takes a second.
            return sorted(path.stem for path in self.folder.glob("*.lance") if path.is_dir())
        with self.reading():
            return list(self._connect().list_tables().tables)

    def address(self, name: str) -> str:
        """Where a table lies, as other tools open it."""
        return f"{self.url.rstrip('/') or self.folder}/{name}.lance"

    def size(self, name: str) -> int:
        """Bytes of a table with all its versions."""
        if self.url:
            return sum(Place(self.url).sizes(f"{name}.lance").values())
        return sum(file_sizes(self.folder / f"{name}.lance"))

    def snapshot(self) -> Any:
        """The chunks at one version, for reading; None when there are none.

        Raises:
            VersionNotFound: the version to stay at does not exist.
        """
        with self._lock, self.reading():
            latest = self.open(self.chunks)
            if latest is None:
                return None
            if self.at is not None:
                return self._pin(self.chunks, self.at)
            return self._newest_indexed(int(latest.version))

    def documents(self) -> Any:
        """The documents as they were when the chunks of ``snapshot`` were; None without any."""
        latest = self.open(shapes.DOCUMENTS)
        if self.at is None or latest is None:
            return latest
        with self._lock, self.reading():
            if shapes.DOCUMENTS in self._pinned:
                return self._pinned[shapes.DOCUMENTS][1]
            if self._documents_at is None:
                self._documents_at = self.documents_beside(self.at)
            return self._pin(shapes.DOCUMENTS, self._documents_at)

    def documents_beside(self, version: int) -> int:
        """The version of the documents that belongs to one of the chunks, by when they came.

        Each commit of chunks is followed by its commit of documents, before the next of chunks.
        """
        with self.reading():
            later = [
                v["timestamp"]
                for v in self.open(self.chunks).list_versions()
                if v["version"] > version
            ]
            versions = [
                int(v["version"])
                for v in self.open(shapes.DOCUMENTS).list_versions()
                if not later or v["timestamp"] < min(later)
            ]
        return max(versions, default=1)

    def apart(self, name: str) -> Any:
        """The table through a connection of its own that keeps little of its indexes in memory.

        For what asks much of an index once: the others keep up to 6 GB, for the next search.
        """
        with self.reading():
            return self._connected(index_cache_size_bytes=memory.INDEX_CACHE).open_table(name)

    def restoring(self, chunks: int, documents: int) -> tuple[Any, Any]:
        """Handles of their own at these versions, to be restored from.

        Raises:
            VersionNotFound: one does not exist.
        """
        with self._lock, self.reading():
            found = (self._at(self.chunks, chunks), self._at(shapes.DOCUMENTS, documents))
        return found

    def refresh(self) -> None:
        """Forget handles: another one has changed the shapes."""
        with self._lock:
            self._handles.clear()
            self._pinned.clear()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Name what goes wrong in LanceDB's core, a RuntimeError there, as the store's."""
        try:
            yield
        except RuntimeError as error:
            raise StoreError(
                f"The features in {self.url or str(self.folder)!r} cannot be used: {error}",
                hint="See what is damaged, and what mends it, with: fti store verify",
            ) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Name a disk that is full or not to be written. What was committed stays, and nothing
        else becomes visible.

        Raises:
            StoreLocked: the right to write was lost.
        """
        self._guard()
        try:
            with self.reading():
                yield
        except (OSError, StoreError) as error:
            if isinstance(error, StoreFull | StoreReadOnly):
                raise
            if _says(error, _UNWRITABLE):
                raise StoreReadOnly(
                    f"The features in {str(self.folder)!r} cannot be written.", hint=WRITABLE_HINT
                ) from error
            if not _says(error, _NO_SPACE):
                raise
            raise StoreFull(
                f"No space left on the disk while writing {str(self.folder)!r}.",
                hint="Free some space and run the same command again: it goes on where it stopped.",
            ) from error

    def _newest_indexed(self, latest: int) -> Any:
        """The chunks as they are, or as they were while new ones are not indexed yet.

        Replacing all chunks is one commit and their index for words another, because LanceDB drops
        the index with the rows; between the two, a search for words would fail.
        """
        held = self._pinned.get(self.chunks)
        if held is not None and held[0] == latest:
            return held[1]
        for version in range(latest, max(0, latest - _LOOK_BACK), -1):
            try:
                table = self._pin(self.chunks, version)
            except StoreError:  # pruned
                break
            if _has_text_index(table) or not table.count_rows():
                return table
        return self._pin(self.chunks, latest)

    def _pin(self, name: str, version: int) -> Any:
        held = self._pinned.get(name)
        if held is None or held[0] != version:
            self._pinned[name] = held = (version, self._at(name, version))
        return held[1]

    def _at(self, name: str, version: int) -> Any:
        table = self._connect().open_table(name)
        try:
            table.checkout(version)
            if name == self.chunks and (before := _before(table)) is not None:
                table.checkout(before)
        except ValueError as error:
            raise VersionNotFound(
                f"The features have no version {version}; the latest is {self.open(name).version}.",
                hint="See: fti versions list",
            ) from error
        return table

    def _connect(self) -> Any:
        if self._connection is None:
            self._connection = self._connected()
        return self._connection

    def _connected(self, **caches: int) -> Any:
        # Read when it is imported. Below errors it tells of empty partitions and the like, a line
        # each, amid a command's progress.
        os.environ.setdefault("LANCEDB_LOG", "error")
        memory.spare()
        metadata = memory.METADATA_CACHE_AFAR if self.url else memory.METADATA_CACHE
        try:
            return lancedb().connect(
                self.url or str(self.folder),
                read_consistency_interval=self._max_age,
                session=lancedb().Session(metadata_cache_size_bytes=metadata, **caches),
            )
        except ValueError as error:  # by LanceDB's word for it
            raise StoreError(
                f"The features at {self.url or str(self.folder)!r} cannot be reached: {error}",
                hint="Check the address, the credentials and the rights, then run it again.",
            ) from error


def with_schema(reader: Any, schema: Any) -> Any:
    """The batches under a schema with its metadata, which a scan leaves out."""
    import pyarrow as pa

    batches = (pa.RecordBatch.from_arrays(b.columns, schema=schema) for b in reader)
    return pa.RecordBatchReader.from_batches(schema, batches)


def _mark(table: Any, before: str | None) -> None:
    table.update_field_metadata({"path": _MARKED, "metadata": {_BEFORE: before}})


def _before(table: Any) -> int | None:
    """Where a version of the chunks is amid ``Lance.as_one``, the version before all of that."""
    found = (table.schema.field(_MARKED).metadata or {}).get(_BEFORE.encode())
    return None if found is None else int(found)


def _has_text_index(table: Any) -> bool:
    return any(list(index.columns) == ["search_text"] for index in table.list_indices())


def _says(error: BaseException | None, codes: Collection[int]) -> bool:
    """Whether the system said one of these, to Python or to LanceDB's core."""
    said = [f"(os error {code})" for code in codes] + [os.strerror(code) for code in codes]
    while error is not None:
        if isinstance(error, OSError) and error.errno in codes:
            return True
        if any(words in str(error) for words in said):
            return True
        error = error.__cause__
    return False
