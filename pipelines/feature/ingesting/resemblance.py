"""Which texts say nearly the same, without comparing every pair.

MinHash over shingles with banded locality-sensitive hashing (Broder 1997, "On the resemblance and
containment of documents"): the share of hash functions whose least values agree estimates the
Jaccard resemblance of two sets of shingles, and only texts that agree on a whole band are compared.
Everything here is a pure function of its arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.feature.asking.quality import words

_BANDS, _ROWS = 32, 4  # 128 permutations; a pair of resemblance 0.5 shares a band with p = 0.87
_WORDS, _CHARACTERS = 5, 5
_BLOCK = 4096

Shingles = Callable[[str], Collection[str]]
_Signature = NDArray[np.uint32]


def word_shingles(text: str) -> set[str]:
    """Runs of five words, case folded: for documents. A shorter text is one shingle."""
    found = words(text)
    return {" ".join(found[i : i + _WORDS]) for i in range(max(1, len(found) - _WORDS + 1))}


def character_shingles(text: str) -> set[str]:
    """Runs of five characters of the case-folded words: for texts as short as a question."""
    flat = " ".join(words(text))
    return {flat[i : i + _CHARACTERS] for i in range(max(1, len(flat) - _CHARACTERS + 1))}


def near_duplicate_groups(
    texts: Sequence[str], *, threshold: float, shingles: Shingles = word_shingles
) -> list[list[int]]:
    """Group texts that resemble one another, transitively.

    Args:
        texts: whole documents, or other texts that ``shingles`` suits.
        threshold: estimated Jaccard resemblance of shingles from which two texts are one.
        shingles: what of a text is compared.

    Returns:
        Indices into ``texts``, every index once, groups and members in ascending order.
    """
    return similar_groups([_signature(shingles(text)) for text in texts], threshold=threshold)


def document_signature(text: str) -> bytes:
    """What a document is compared by, to be kept: see ``similar_groups``."""
    return _signature(word_shingles(text)).tobytes()


def read_signatures(kept: NDArray[np.uint8]) -> _Signature:
    """The inverse of ``document_signature``, for many documents: a row of bytes each."""
    return kept.view(np.uint32)


def similar_groups(
    signatures: Sequence[_Signature] | _Signature, *, threshold: float
) -> list[list[int]]:
    """``near_duplicate_groups`` of texts whose signatures are known.

    Band by band, so that beyond the signatures little is held of each text.
    """
    if len(signatures) == 0:
        return []
    matrix = np.asarray(signatures)
    parent = list(range(len(matrix)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for bucket in _buckets(matrix):
        # A bucket's members of one group need one comparison, not one each.
        seen: dict[int, int] = {}
        for index in bucket:
            for other in seen.values():
                if root(other) != root(index) and (
                    float(np.mean(matrix[index] == matrix[other])) >= threshold
                ):
                    low, high = sorted((root(other), root(index)))
                    parent[high] = low
            seen = {root(member): member for member in (*seen.values(), index)}
    groups: dict[int, list[int]] = {}
    for index in range(len(matrix)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def _buckets(matrix: NDArray[np.uint32]) -> Iterator[list[int]]:
    """Of each band, texts that agree on the whole of it, ascending; those alone are left out."""
    for band in range(_BANDS):
        rows = matrix[:, band * _ROWS : (band + 1) * _ROWS]
        order = np.lexsort(rows.T)
        sorted_rows = rows[order]
        begins = np.flatnonzero((sorted_rows[1:] != sorted_rows[:-1]).any(axis=1)) + 1
        edges = np.concatenate([[0], begins, [len(order)]])
        for at in np.flatnonzero(np.diff(edges) > 1):
            yield order[edges[at] : edges[at + 1]].tolist()


class SimilarTexts:
    """Texts that others are looked up among.

    Args:
        threshold: estimated Jaccard resemblance of shingles from which a text counts as there.
        shingles: what of a text is compared.
    """

    def __init__(self, *, threshold: float, shingles: Shingles = character_shingles) -> None:
        self._threshold = threshold
        self._shingles = shingles
        self._signatures: list[_Signature] = []
        self._buckets: dict[tuple[int, bytes], list[int]] = {}

    def add(self, text: str) -> int:
        """Put a text in; its number, counted from 0."""
        signature = _signature(self._shingles(text))
        for key in _bands(signature):
            self._buckets.setdefault(key, []).append(len(self._signatures))
        self._signatures.append(signature)
        return len(self._signatures) - 1

    def like(self, text: str) -> list[int]:
        """Numbers of the texts that resemble this one, ascending."""
        signature = _signature(self._shingles(text))
        candidates = {n for key in _bands(signature) for n in self._buckets.get(key, ())}
        return sorted(
            n
            for n in candidates
            if float(np.mean(signature == self._signatures[n])) >= self._threshold
        )


def _bands(signature: _Signature) -> Iterator[tuple[int, bytes]]:
    for band in range(_BANDS):
        yield band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()


def _signature(shingles: Collection[str]) -> _Signature:
    """The least value of each hash function over the shingles."""
    hashes = np.array(
        sorted(
            int.from_bytes(
                hashlib.blake2b(s.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
            )
            for s in shingles
        ),
        dtype=np.uint64,
    )
    factors, terms = _hash_family()
    least = np.full(len(factors), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, None]
        # Multiply-shift hashing (Dietzfelbinger et al. 1997): overflow is the modulus.
        values = ((block * factors + terms) >> np.uint64(32)).astype(np.uint32)
        least = np.minimum(least, values.min(axis=0))
    return least


@cache
def _hash_family() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    generator = np.random.default_rng(1997)
    count = _BANDS * _ROWS
    factors = generator.integers(1, 2**63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    terms = generator.integers(0, 2**63, size=count, dtype=np.uint64)
    return factors, terms
