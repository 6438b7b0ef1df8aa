"""Frozen case sets: the questions that systems are measured on, named, numbered and immutable.

A version is ``cases/<name>/<number>/`` with ``cases.jsonl`` (see ``store.versions``). Its digest
says which questions with which answers it holds, whatever the order of lines, so that an evaluation
of the same questions from a file counts as one of the frozen set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from fti.store.errors import CaseSetNotFound, IntegrityError, InvalidCases
from fti.store.files.atomic import dump_line, iter_lines
from fti.store.files.layout import Layout
from fti.store.tabular.value_tables import also_pandas, table_of_values
from fti.store.tabular.where import Where
from fti.store.types import Case, FileEntry, Value, now, sha256_hex
from fti.store.versioned.version_store import VersionStore
from fti.store.versioned.versions import VersionedFolders, file_sha256

if TYPE_CHECKING:
    import pyarrow as pa

_FILE = "cases.jsonl"


class CaseSetVersion(Value):
    """A frozen case set: how many cases it holds, their digest, and where they came from."""

    name: str
    version: int = Field(ge=1)
    created_at: datetime
    cases: int = Field(ge=1)
    answerable: int
    digest: str
    source: str = ""
    tags: tuple[str, ...] = ()
    files: tuple[FileEntry, ...]

    @property
    def ref(self) -> str:
        """``name/number``, as commands take it."""
        return f"{self.name}/{self.version}"


def cases_digest(cases: Iterable[Case]) -> str:
    """sha256 of a case set, whatever the order of its cases.

    Tags enter it only where there are some: sets from before there were tags keep their digest.
    """
    lines = (c.model_dump_json(exclude=None if c.tags else {"tags"}) for c in cases)
    return sha256_hex("\n".join(sorted(lines)))


class CaseSets(VersionStore[CaseSetVersion]):
    """Case set versions under the store's root."""

    def __init__(self, layout: Layout) -> None:
        folders = VersionedFolders(
            layout.cases,
            what="case set",
            not_found=CaseSetNotFound,
            allowed_suffixes={".jsonl"},
            storage=layout.storage,
        )
        super().__init__(folders, CaseSetVersion)

    def freeze(self, name: str, cases: Sequence[Case], *, source: str = "") -> CaseSetVersion:
        """Keep cases as the next version of ``name``; the version that holds them, if one does.

        Args:
            name: a new name, or one that has versions.
            cases: at least one, with distinct ids.
            source: where they came from, for people.

        Raises:
            InvalidName: ``name`` is not a plain name.
            InvalidCases: there are no cases, or two have one id.
        """
        if not cases:
            raise InvalidCases(f"There are no cases to freeze as {name!r}.")
        ids = [case.id for case in cases]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise InvalidCases(f"Two cases have the id {twice!r}.", hint="Give each its own.")
        digest = cases_digest(cases)
        for number in self._folders.versions(name):
            known = self._load(name, number)
            if known.digest == digest:
                return known

        def fill(folder: Path) -> None:
            lines = (dump_line(case.model_dump(mode="json")) + "\n" for case in cases)
            (folder / _FILE).write_text("".join(lines), encoding="utf-8")

        def version(number: int, files: tuple[FileEntry, ...]) -> CaseSetVersion:
            return CaseSetVersion(
                name=name,
                version=number,
                created_at=now(),
                cases=len(cases),
                answerable=sum(case.answerable or bool(case.relevant) for case in cases),
                digest=digest,
                source=source,
                tags=tuple(sorted({tag for case in cases for tag in case.tags})),
                files=files,
            )

        return self._publish(name, fill, version)

    def cases(self, ref: str) -> Sequence[Case]:
        """The cases of a version, in the order they were frozen in.

        Raises:
            CaseSetNotFound: there is no such version; says what there is.
            IntegrityError: they are not as frozen.
        """
        version = self.get(ref)
        path = self._folders.path(version.name, version.version) / _FILE
        entry = next((f for f in version.files if f.path == _FILE), None)
        if entry is None or not path.is_file() or file_sha256(path) != entry.sha256:
            raise IntegrityError(
                f"The cases of {version.ref} are missing or were changed.",
                hint=f"Restore {str(path)!r} from a backup, or freeze the set anew.",
            )
        return [Case.model_validate(json.loads(line)) for line in iter_lines(path)]

    def to_arrow(
        self,
        ref: str | None = None,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> pa.Table:
        """The cases of a version as an Arrow table, or all versions.

        Args:
            ref: of a version, as ``get`` takes it. Without, a row is a version.
            columns: some of the fields of ``Case`` or ``CaseSetVersion``; all without.
            where: only rows for which these conditions hold, as ``tags=prices``; see
                ``tabular.value_tables``.

        Raises:
            CaseSetNotFound: there is no such version; says what there is.
            InputError, InvalidFilter: a column or a condition does not exist.
            IntegrityError: the cases are not as frozen.
        """
        if ref is None:
            return table_of_values(self.list(), CaseSetVersion, columns=columns, where=where)
        return table_of_values(self.cases(ref), Case, columns=columns, where=where)

    to_pandas = also_pandas(to_arrow)

    def with_digest(self, digest: str) -> CaseSetVersion | None:
        """The first frozen set that holds the cases of this digest, if one does."""
        return next((version for version in self.list() if version.digest == digest), None)
