"""What landed, as frames that expectations are written about: documents, chunks, collections.

Metadata of documents is text; each key that any document has is a column ``metadata.KEY``, empty
where a document lacks it. Ages are days until the frames were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fti.pipelines.feature.monitoring.languages import language
from fti.store.features.feature_store import FeatureStore
from fti.store.lance.shapes import COLLECTION
from fti.store.types import SourceRecord

if TYPE_CHECKING:
    import pandas as pd

_DAY_S = 86_400.0


class Landed:
    """The frames of a store as it is now; each is made when it is asked for first.

    Args:
        features: the documents and chunks.
        at: until when ages are counted.
    """

    def __init__(self, features: FeatureStore, at: datetime) -> None:
        self._features = features
        self._at = at
        self._records = features.records()
        self._documents: pd.DataFrame | None = None
        self._chunks: pd.DataFrame | None = None

    def collections(self) -> list[str]:
        """The collections that any source is in."""
        return sorted({r.collection for r in self._records if r.collection})

    def documents(self, collection: str | None) -> pd.DataFrame:
        """A row per document that is served: ``source``, ``title``, ``collection``, ``media_type``,
        ``characters``, ``chunks``, ``language``, ``age_days``, ``near_copy``, ``metadata.KEY``."""
        if self._documents is None:
            self._documents = self._all_documents()
        return _of(self._documents, collection)

    def chunks(self, collection: str | None) -> pd.DataFrame:
        """A row per chunk: ``source``, ``collection``, ``characters``, ``words``, ``section``."""
        if self._chunks is None:
            self._chunks = self._all_chunks()
        return _of(self._chunks, collection)

    def collection(self, collection: str | None) -> pd.DataFrame:
        """One row: ``documents``, ``chunks``, ``failed``, ``failed_share`` and ``empty_share`` of
        the sources, ``near_copies`` as a share of the documents, ``newest_days`` and
        ``oldest_days`` since a document was taken."""
        import pandas as pd

        mine = [r for r in self._records if collection is None or r.collection == collection]
        served = [r for r in mine if r.chunks]
        ages = [self._age(r) for r in served]
        return pd.DataFrame(
            {
                "source": ["every document" if collection is None else f"collection {collection}"],
                "documents": [len(served)],
                "chunks": [sum(r.chunks for r in served)],
                "failed": [sum(r.state == "failed" for r in mine)],
                "failed_share": [_share(mine, lambda r: r.state == "failed")],
                "empty_share": [_share(mine, lambda r: r.state == "empty")],
                "near_copies": [_share(served, lambda r: bool(r.duplicate_of))],
                "newest_days": [min(ages, default=float("nan"))],
                "oldest_days": [max(ages, default=float("nan"))],
            }
        )

    def _all_documents(self) -> pd.DataFrame:
        import pandas as pd

        records = {r.id: r for r in self._records}
        columns: dict[str, list[Any]] = {
            name: []
            for name in ("source", "title", "collection", "media_type", "characters", "chunks",
                         "language", "age_days", "near_copy")
        }  # fmt: skip
        metadata: list[dict[str, str]] = []
        for document in self._features.documents():
            record = records[document.id]
            row = (document.source, document.title, record.collection, document.media_type,
                   len(document.text), record.chunks, language(document.text), self._age(record),
                   bool(record.duplicate_of))  # fmt: skip
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
            metadata.append({k: v for k, v in document.metadata.items() if k != COLLECTION})
        texts = ("source", "title", "collection", "media_type", "language")
        frame = {
            name: _text_column(values) if name in texts else values
            for name, values in columns.items()
        }
        for key in sorted({key for one in metadata for key in one}):
            frame[f"metadata.{key}"] = _text_column([one.get(key) for one in metadata])
        return pd.DataFrame(frame).astype(
            {"characters": "int64", "chunks": "int64", "age_days": "float64", "near_copy": "bool"}
        )

    def _all_chunks(self) -> pd.DataFrame:
        import pandas as pd

        collections = {r.source: r.collection for r in self._records}
        table = self._features.to_arrow(["source", "section", "text"])
        sources, texts = table["source"].to_pylist(), table["text"].to_pylist()
        sections = (" / ".join(path or ()) for path in table["section"].to_pylist())
        return pd.DataFrame(
            {
                "source": _text_column(sources),
                "collection": _text_column([collections.get(s, "") for s in sources]),
                "section": _text_column(sections),
                "characters": [len(text) for text in texts],
                "words": [len(text.split()) for text in texts],
            }
        ).astype({"characters": "int64", "words": "int64"})

    def _age(self, record: SourceRecord) -> float:
        taken = record.ingested_at or record.attempted_at
        return round((self._at - taken).total_seconds() / _DAY_S, 4)


def _of(frame: pd.DataFrame, collection: str | None) -> pd.DataFrame:
    if collection is None:
        return frame
    return frame[frame["collection"] == collection].reset_index(drop=True)


def _text_column(values: Iterable[str | None]) -> pd.Series[Any]:
    """Texts, of one type whatever is missing."""
    import pandas as pd

    return pd.Series(list(values), dtype="str")


def _share(records: Sequence[SourceRecord], of: Callable[[SourceRecord], bool]) -> float:
    return sum(map(of, records)) / len(records) if records else 0.0
