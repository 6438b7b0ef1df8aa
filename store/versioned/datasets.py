"""Datasets of instruction rows or preference pairs: immutable versions, a JSONL file per split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fti.store.errors import DatasetNotFound, InputError, IntegrityError, StoreError
from fti.store.files.atomic import dump_line, iter_lines
from fti.store.files.layout import Layout
from fti.store.tabular.value_tables import also_pandas, table_of_values
from fti.store.tabular.where import Where
from fti.store.types import (
    SPLITS,
    DatasetKind,
    DatasetVersion,
    EmbedderIdentity,
    FileEntry,
    InstructionExample,
    PreferenceExample,
    RetrievalContract,
    Split,
    now,
    sha256_hex,
)
from fti.store.versioned.version_store import VersionStore
from fti.store.versioned.versions import VersionedFolders, check_name, file_sha256

if TYPE_CHECKING:
    import pyarrow as pa

Example = InstructionExample | PreferenceExample
_Row = TypeVar("_Row", InstructionExample, PreferenceExample)
_CALLED: Mapping[DatasetKind, str] = {
    "instruction": "instruction rows",
    "preference": "preference pairs",
}


class DatasetStore(VersionStore[DatasetVersion]):
    """Dataset versions under the store's root.

    A split with rows is ``<split>.jsonl``, one example per line, loadable with
    ``datasets.load_dataset("json", data_files=...)``; a split without rows has no file.
    """

    def __init__(self, layout: Layout) -> None:
        folders = VersionedFolders(
            layout.datasets,
            what="dataset",
            not_found=DatasetNotFound,
            allowed_suffixes={".jsonl"},
            storage=layout.storage,
        )
        super().__init__(folders, DatasetVersion)

    def check_name(self, name: str) -> None:
        """Refuse a name that no dataset can have, before the work of making one.

        Raises:
            InvalidName: it is not a plain name.
        """
        check_name(name, "dataset")

    def publish(
        self,
        name: str,
        *,
        rows: Mapping[Split, Sequence[_Row]],
        features_version: int,
        embedder: EmbedderIdentity,
        prompt_digest: str,
        run_id: str,
        retrieval: RetrievalContract | None = None,
        settings: Mapping[str, Any] | None = None,
        statistics: Mapping[str, Any] | None = None,
        documents: Mapping[Split, Collection[str]] | None = None,
    ) -> DatasetVersion:
        """Publish rows as the next version of ``name``.

        Args:
            name: a new name, or one that has versions.
            rows: examples by split, in the order to keep; all of one type.
            features_version: version of the chunks that the rows were made from.
            embedder: whose retrieval chose the distractors.
            prompt_digest: of the form that rendered ``messages``.
            run_id: the run that built it.
            retrieval: how the passages in the rows were found.
            settings: what it was built with.
            statistics: what is worth knowing of the rows.
            documents: document ids by split; by default those that the rows name.

        Raises:
            InvalidName: ``name`` is not a plain name.
            StoreError: there are no rows, two have one id, one stands under another split than its
                own, or a document stands in two splits.
        """
        self._check(rows)
        first = next(row for part in rows.values() for row in part)
        kind: DatasetKind = "preference" if isinstance(first, PreferenceExample) else "instruction"
        named: Mapping[Split, Collection[str]] = documents or {
            split: {d for row in rows.get(split, ()) for d in row.documents} for split in SPLITS
        }
        by_split = {split: tuple(sorted(named.get(split, ()))) for split in SPLITS}
        _check_apart(by_split)

        def fill(folder: Path) -> None:
            for split in SPLITS:
                examples = rows.get(split, ())
                if examples:
                    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as handle:
                        for row in examples:
                            handle.write(dump_line(row.model_dump(mode="json")) + "\n")

        def version(number: int, files: tuple[FileEntry, ...]) -> DatasetVersion:
            return DatasetVersion(
                name=name,
                version=number,
                kind=kind,
                created_at=now(),
                rows={split: len(rows.get(split, ())) for split in SPLITS},
                kinds=dict(sorted(Counter(r.kind for part in rows.values() for r in part).items())),
                documents=by_split,
                digest=sha256_hex("".join(f"{f.path} {f.sha256}\n" for f in files)),
                features_version=features_version,
                embedder=embedder,
                retrieval=retrieval,
                prompt_digest=prompt_digest,
                run_id=run_id,
                files=files,
                settings=settings or {},
                statistics=statistics or {},
            )

        return self._publish(name, fill, version)

    def require_as_published(self, dataset: DatasetVersion) -> None:
        """Refuse a dataset whose files or manifest are not what was published.

        Raises:
            IntegrityError: says what differs.
        """
        found = self.get(dataset.ref)
        faults = list(self.verify(dataset.ref))
        if found.digest != dataset.digest:
            faults.append(f"its digest is {found.digest[:12]}, not {dataset.digest[:12]}")
        if faults:
            raise IntegrityError(
                f"Dataset {dataset.ref} is not as published: {'; '.join(faults)}.",
                hint=f"Build it again with: fti dataset build {dataset.name}",
            )

    def rows(self, ref: str, split: Split) -> Iterator[InstructionExample]:
        """The instruction rows of one split, in published order; none when the split is empty.

        Raises:
            DatasetNotFound: there is no such version; says what there is.
            InputError: it holds preference pairs.
            IntegrityError: the file is missing or differs from the manifest.
        """
        return self._examples(ref, split, "instruction", InstructionExample)

    def pairs(self, ref: str, split: Split) -> Iterator[PreferenceExample]:
        """The preference pairs of one split, in published order; none when the split is empty.

        Raises:
            DatasetNotFound: there is no such version; says what there is.
            InputError: it holds instruction rows.
            IntegrityError: the file is missing or differs from the manifest.
        """
        return self._examples(ref, split, "preference", PreferenceExample)

    def examples(self, ref: str, split: Split) -> Iterator[Example]:
        """What a version of either kind holds, as ``rows`` or ``pairs`` gives it."""
        if self.get(ref).kind == "preference":
            return self.pairs(ref, split)
        return self.rows(ref, split)

    def to_arrow(
        self,
        ref: str | None = None,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> pa.Table:
        """The examples of a version as an Arrow table, split after split, or all versions.

        Args:
            ref: of a version, as ``get`` takes it. Without, a row is a version.
            columns: some of the fields of ``InstructionExample``, ``PreferenceExample`` or
                ``DatasetVersion``; all without.
            where: only rows for which these conditions hold, as ``split=test``; see
                ``tabular.value_tables``.

        Raises:
            DatasetNotFound: there is no such version; says what there is.
            InputError, InvalidFilter: a column or a condition does not exist.
            IntegrityError: files are not as published.
        """
        if ref is None:
            return table_of_values(self.list(), DatasetVersion, columns=columns, where=where)
        version = self.get(ref)
        kind = PreferenceExample if version.kind == "preference" else InstructionExample
        rows = (row for split in SPLITS for row in self.examples(version.ref, split))
        return table_of_values(rows, kind, columns=columns, where=where)

    to_pandas = also_pandas(to_arrow)

    def _examples(
        self, ref: str, split: Split, kind: DatasetKind, form: type[_Row]
    ) -> Iterator[_Row]:
        version = self.get(ref)
        if version.kind != kind:
            raise InputError(
                f"Dataset {version.ref} holds {_CALLED[version.kind]}, and {_CALLED[kind]} are "
                "needed here.",
                hint="Choose another: fti dataset list",
            )
        if split not in SPLITS:
            raise DatasetNotFound(
                f"Dataset {version.ref} has no split {split!r}.",
                hint=f"Its splits are: {', '.join(SPLITS)}.",
            )
        entry = next((f for f in version.files if f.path == f"{split}.jsonl"), None)
        if entry is None:
            return iter(())
        path = self.path(version.ref) / entry.path
        if path.is_symlink() or not path.is_file() or file_sha256(path) != entry.sha256:
            raise IntegrityError(
                f"{entry.path!r} of dataset {version.ref} is missing or was changed.",
                hint=f"Build it again with: fti dataset build {version.name}",
            )
        return (form.model_validate(json.loads(line)) for line in iter_lines(path))

    @staticmethod
    def _check(rows: Mapping[Split, Sequence[_Row]]) -> None:
        seen: set[str] = set()
        for split, examples in rows.items():
            for row in examples:
                if row.split != split or split not in SPLITS:
                    raise StoreError(
                        f"Row {row.id!r} says split {row.split!r} and stands under {split!r}."
                    )
                if row.id in seen:
                    raise StoreError(f"Two rows have the id {row.id!r}.")
                seen.add(row.id)
        if not seen:
            raise StoreError(
                "The dataset has no rows.", hint="Ingest more documents, or loosen the filters."
            )


def _check_apart(documents: Mapping[Split, Collection[str]]) -> None:
    home: dict[str, Split] = {}
    for split, ids in documents.items():
        for document in ids:
            if home.setdefault(document, split) != split:
                raise StoreError(
                    f"Document {document!r} stands in the splits {home[document]!r} and {split!r}.",
                    hint="Split by document before making rows.",
                )
