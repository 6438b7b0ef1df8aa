"""How fresh a stream is: ten documents a second through a pipe, with the default embedder."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.embedder_loading import load_embedder
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.streaming.follow import follow
from fti.pipelines.feature.streaming.follow_report import FollowReport
from fti.store.store import Store
from fti.store.streams.record_streams import LineStream

RATE, SECONDS = 10, 20


def _produce(writing: int) -> None:
    due = time.monotonic()
    for n in range(RATE * SECONDS):
        text = " ".join(
            f"Item {n}-{i} costs {i} cents and lies on shelf {n + i}." for i in range(12)
        )
        said = {"source": f"items/{n}", "text": text, "at": datetime.now(UTC).isoformat()}
        os.write(writing, json.dumps(said).encode() + b"\n")
        due += 1 / RATE
        time.sleep(max(0.0, due - time.monotonic()))
    os.close(writing)


@pytest.mark.benchmark(group=f"{RATE} documents a second: from event to searchable")
def test_freshness(benchmark: Any, tmp_path: Path) -> None:
    embedder = load_embedder(EmbedderConfig())
    embedder.embed_documents(["to be warm"])

    def run() -> FollowReport:
        reading, writing = os.pipe()
        threading.Thread(target=_produce, args=(writing,)).start()
        config = FeatureConfig()
        report = follow(LineStream(reading, config.stream), store=Store(tmp_path / "store"),
                        embedder=embedder, config=config, stop=threading.Event())  # fmt: skip
        os.close(reading)
        return report

    report = benchmark.pedantic(run, rounds=1)
    assert report.added == RATE * SECONDS
    assert report.freshness is not None
    benchmark.extra_info.update(report.freshness.model_dump(), batches=report.batches)
    print(f"\nfreshness: {report.freshness}, {report.batches} commits")
