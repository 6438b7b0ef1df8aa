"""Which texts have a remembered vector, without asking the table for each.

A scan of the embedding cache reads the keys of all its fragments, and an ingest makes several of
these a commit: looked up batch by batch, 100,000 new texts read some 5,000,000 keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HELD = "S16"  # of a key, a sha256 in hex: 64 bits tell texts apart, and 16 bytes are held of each


class RememberedKeys:
    """The keys of one version of an embedding cache, by their beginnings.

    Args:
        table: the cache; its keys are read.
    """

    def __init__(self, table: Any) -> None:
        self.version = int(table.version)
        found = [np.empty(0, dtype=_HELD)]
        for batch in table.search().select(["key"]).to_batches(8192):
            found.append(_held(batch.column(0).to_pylist()))
        self._keys: NDArray[np.bytes_] = np.unique(np.concatenate(found))

    def likely(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the cache has, and hardly ever one that it has not."""
        at = np.searchsorted(self._keys, wanted := _held(keys))
        inside = at < len(self._keys)
        inside[inside] = self._keys[at[inside]] == wanted[inside]
        return [key for key, has in zip(keys, inside, strict=True) if has]

    def add(self, keys: Sequence[str], version: int) -> None:
        """Take up what a commit added, and the version that it made."""
        new = np.unique(_held(keys))
        self._keys = np.insert(self._keys, np.searchsorted(self._keys, new), new)
        self.version = version


def _held(keys: Iterable[str]) -> NDArray[np.bytes_]:
    return np.array(list(keys), dtype=_HELD)
