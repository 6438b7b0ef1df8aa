"""Which documents are trained on, which choose checkpoints, and which are evaluated on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.ingesting.resemblance import near_duplicate_groups
from fti.store.types import SPLITS, Chunk, Document, Split, sha256_hex

#: A row of a split shows only passages of documents of these splits: what is trained on never
#: holds text that is evaluated on, while held-out questions meet the whole collection.
SHOWN: Mapping[Split, tuple[Split, ...]] = {
    "train": ("train",),
    "validation": ("train", "validation"),
    "test": SPLITS,
}


def split_documents(documents: Sequence[Document], config: DatasetConfig) -> dict[str, Split]:
    """Which split each document is in, by id.

    Documents are put in an order by a hash of the seed, file name and title (not the folder, so
    that the same collection elsewhere splits alike), and cut where the shares end: a document that
    comes to a collection moves few others. Near-duplicates go where the first of them goes.
    Every split with a share gets a document while there are enough; training first, then test.
    """
    groups = near_duplicate_groups([d.text for d in documents], threshold=config.near_duplicate)
    seen: Counter[str] = Counter()
    place: dict[str, str] = {}
    for document in sorted(documents, key=lambda d: (d.content_hash, d.source)):
        key = f"{PurePosixPath(document.source).name}\n{document.title}"
        place[document.id] = sha256_hex(f"{config.seed}\n{key}\n{seen[key]}")
        seen[key] += 1
    return split_groups([[documents[i].id for i in group] for group in groups], place, config)


def split_groups(
    groups: Sequence[Sequence[str]], place: Mapping[str, str], config: DatasetConfig
) -> dict[str, Split]:
    """Which split each member of each group is in; the members of a group stay together.

    Args:
        groups: ids, every one in one group.
        place: by id, what it is ordered by.
        config: the shares.
    """
    total = sum(map(len, groups))
    parts: dict[Split, list[Sequence[str]]] = {split: [] for split in SPLITS}
    passed = 0
    for group in sorted(groups, key=lambda group: min(place[member] for member in group)):
        middle = (passed + len(group) / 2) / total
        passed += len(group)
        split: Split = "train" if middle < config.train else "test"
        if split == "test" and (middle < config.train + config.validation or not config.test):
            split = "validation"
        parts[split].append(group)
    if groups and not parts["train"]:
        parts["train"].append((parts["validation"] or parts["test"]).pop(0))
    wanted: dict[Split, float] = {"test": config.test, "validation": config.validation}
    for split, share in wanted.items():
        if share and not parts[split]:
            other = max(SPLITS, key=lambda s: len(parts[s]))
            if len(parts[other]) > 1:
                parts[split].append(parts[other].pop())
            elif split == "test" and parts["validation"]:
                parts[split].append(parts["validation"].pop())
    return {member: s for s in SPLITS for group in parts[s] for member in group}


def apart(chunks: Sequence[Chunk], split_of: Mapping[str, Split]) -> list[Chunk]:
    """Chunks whose text stands in documents of one split only.

    The same passage in documents of two splits would carry evaluation into training.
    """
    homes: dict[str, set[Split]] = defaultdict(set)
    for chunk in chunks:
        homes[chunk.content_hash].add(split_of[chunk.document_id])
    return [chunk for chunk in chunks if len(homes[chunk.content_hash]) == 1]
