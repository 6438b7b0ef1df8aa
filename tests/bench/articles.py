"""How much of a page's article the HTML reader keeps, and how much else it lets in.

    python -m tests.bench.articles --data FOLDER

``FOLDER`` is a checkout of scrapinghub/article-extraction-benchmark: ``ground-truth.json`` and
``html/*.html.gz``. Precision and recall are of runs of four words, as in its own ``evaluate.py``,
averaged over the pages; those of single words stand beside them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.pipelines.feature.reading.readers.web.html import read_html

_WORD = re.compile(r"\w+")


def runs(text: str, length: int) -> Counter[tuple[str, ...]]:
    """Runs of so many words, with how often each occurs."""
    words = _WORD.findall(text.lower())
    return Counter(tuple(words[i : i + length]) for i in range(max(1, len(words) - length + 1)))


def shares(true: Counter[tuple[str, ...]], read: Counter[tuple[str, ...]]) -> tuple[float, float]:
    """Precision and recall."""
    common = sum((true & read).values())
    return common / sum(read.values()), common / sum(true.values())


def report(name: str, found: Sequence[tuple[float, float]]) -> None:
    """Print one line."""
    precision, recall = (mean(values) for values in zip(*found, strict=True))
    print(f"{name:12} precision {precision:.3f}  recall {recall:.3f}")


def main() -> None:
    """Read all pages and print what was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    folder: Path = parser.parse_args().data
    truth = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    found: dict[int, list[tuple[float, float]]] = {4: [], 1: []}
    seconds = 0.0
    for key, entry in truth.items():
        page = gzip.decompress((folder / "html" / f"{key}.html.gz").read_bytes())
        started = time.process_time()
        (read,) = read_html(page, SourcesConfig())
        seconds += time.process_time() - started
        for length, values in found.items():
            values.append(shares(runs(entry["articleBody"], length), runs(read.text, length)))
    report("four words", found[4])
    report("single words", found[1])
    print(f"{len(truth)} pages, {seconds / len(truth) * 1000:.0f} ms of processor time each")


if __name__ == "__main__":
    main()
