"""Vectors written by many processes at once and made part of the store in one commit.

A fragment is files of a table that no version of it names yet: readers do not see it, and one that
is never committed is removed with old versions. Needs pylance, which LanceDB's own client has no
part of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fti.store.lance import shapes
from fti.store.types import EmbedderIdentity


def write_fragment(
    address: str, keys: Sequence[str], vectors: NDArray[np.float32], identity: EmbedderIdentity
) -> list[str]:
    """Write remembered vectors beside the others; what ``commit`` needs to make them visible.

    Args:
        address: of the table; see ``FeatureStore.vectors_address``.
        keys: sha256 of the embedded texts, new and distinct.
        vectors: of the texts, a row each.
        identity: which embedder made them.
    """
    from lance.fragment import write_fragments

    rows = shapes.vectors_table(keys, vectors, shapes.vectors_schema(identity))
    written = write_fragments(rows, address, mode="append")
    return [json.dumps(fragment.to_json()) for fragment in written]


def commit(address: str, fragments: Sequence[str]) -> None:
    """Make fragments part of a table, all of them in one version."""
    import lance
    from lance.fragment import FragmentMetadata

    found = [FragmentMetadata.from_json(fragment) for fragment in fragments]
    lance.LanceDataset.commit(
        address,
        lance.LanceOperation.Append(found),
        read_version=lance.dataset(address).version,
    )
