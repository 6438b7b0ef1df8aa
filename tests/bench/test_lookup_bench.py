"""What it costs to read chunks by key, against looking through all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fti.store.features.feature_store import FeatureStore
from fti.store.store import Store
from tests.bench.scale import IDENTITY, documents

ROWS = 30_000


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    found = Store(tmp_path_factory.mktemp("lookup")).features
    found.create(IDENTITY)
    for batch in documents(ROWS):
        found.replace(batch)
    found.maintain(thoroughly=True)
    return found


@pytest.mark.benchmark(group=f"ten chunks of {ROWS} by key: lookup against a scan")
@pytest.mark.parametrize("way", ["lookup", "scan"])
def test_lookup(benchmark: Any, features: FeatureStore, way: str) -> None:
    chunks = features.sample(500)
    keys = [c.id for d in dict.fromkeys(chunks.document_ids) for c in features.chunks(d)[:1]]
    hashes = {c.id: c.content_hash for c in features.lookup(keys).values()}
    rng = np.random.default_rng(0)
    table = features._searchable()

    def turn() -> int:
        some = rng.choice(keys, 10, replace=False).tolist()
        if way == "lookup":
            return len(features.lookup(some))
        wanted = ", ".join(f"'{hashes[key]}'" for key in some)
        query = table.search().where(f"content_hash IN ({wanted})").select(["id", "text"])
        return int(query.to_arrow().num_rows)

    assert benchmark(turn) == 10
    p99 = float(np.quantile(benchmark.stats.stats.data, 0.99)) * 1000
    benchmark.extra_info["p99_ms"] = round(p99, 2)
    print(f"\n{way}: p99 {p99:.2f} ms")
