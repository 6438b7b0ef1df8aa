"""Which way of searching finds the answer: vectors, words, or both, with paired intervals.

    python -m tests.bench.retrieval --data DIR [--corpus squad|docs|headings] [--questions 1000]

``DIR`` holds ``squad/`` (``corpus/``, ``questions.jsonl``, ``train/articles/``,
``train/questions.jsonl``) or ``docs_site/fastapi/`` (FastAPI's documentation in Markdown, ``en/``
and translations). All articles are ingested together. How the two lists are fused is chosen on
training questions, and reported on the others.

A SQuAD passage is right when it is of the gold article and holds an answer. The questions of
``docs`` were written by hand from headings of the English pages, as people ask who do not know the
page's words (``fastapi_questions.tsv``: page, heading, question); a passage is right when it stands
under that heading. The pages are halved, and the fusion for each half is chosen on the other (two
folds of cross-fitting), so that every question is reported and none was tuned on. ``headings`` asks
the headings themselves, word for word; since the path of headings is part of what is searched, this
favours words.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from fti.pipelines.engines.embedders.embedder_loading import load_embedder
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.evaluating.metrics import contains_answer
from fti.pipelines.inference.inference_config import RetrievalConfig
from fti.store.features.search import combine, combine_bounded, fuse, highest_match
from fti.store.proof.significance import differences
from fti.store.store import Store
from fti.store.types import Fusion, Passage

QUESTIONS = Path(__file__).with_name("fastapi_questions.tsv")
DEPTH = 50
GRID = [
    *(Fusion(vector_weight=w / 10, rrf_k=k) for w, k in product(range(1, 10), (10, 30, 60))),
    *(Fusion(method="weighted", vector_weight=w / 10) for w in range(1, 10)),
    *(Fusion(method="bounded", vector_weight=w / 20) for w in range(2, 13)),
]


@dataclass(frozen=True)
class Asked:
    """A question and what makes a passage right."""

    text: str
    right: Callable[[Passage], bool]


@dataclass(frozen=True)
class Found:
    """What both searches found for one question: scores by id, and which ids are right."""

    near: dict[str, float]
    similarity: dict[str, float]
    worded: dict[str, float]
    highest: float
    right: frozenset[str]

    def order(self, mode: str, fusion: Fusion) -> list[str]:
        """Ids, best first."""
        near = sorted(self.near, key=lambda i: (-self.near[i], i))
        worded = sorted(self.worded, key=lambda i: (-self.worded[i], i))
        if mode == "vector":
            return near
        if mode == "text":
            return worded
        if fusion.method == "weighted":
            return [i for i, _ in combine(self.similarity, self.worded, fusion.vector_weight)]
        if fusion.method == "bounded":
            fused = combine_bounded(
                self.similarity, self.worded, fusion.vector_weight, self.highest
            )
            return [i for i, _ in fused]
        weights = (2 * fusion.vector_weight, 2 - 2 * fusion.vector_weight)
        return [i for i, _ in fuse([near, worded], fusion.rrf_k, weights)]


def scores(found: Sequence[Found], mode: str, fusion: Fusion) -> dict[str, np.ndarray]:
    """Per question: whether one of the first 5 is right, and 1 / rank of the first of 10."""
    hit, reciprocal = [], []
    for one in found:
        ranks = [n for n, i in enumerate(one.order(mode, fusion)[:10], 1) if i in one.right]
        hit.append(float(bool(ranks) and ranks[0] <= 5))
        reciprocal.append(1 / ranks[0] if ranks else 0.0)
    return {"recall@5": np.asarray(hit), "mrr@10": np.asarray(reciprocal)}


def squad(data: Path) -> tuple[list[str], list[Asked], list[Asked]]:
    """Sources, training questions and the others."""
    root = data / "squad"

    def asked(path: Path) -> list[Asked]:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
        return [
            Asked(
                row["question"],
                lambda p, name=Path(row["document"]).name, answers=row["answers"]: (
                    p.source.endswith("/" + name) and contains_answer(p.text, answers)
                ),
            )
            for row in rows
        ]

    train = asked(root / "train" / "questions.jsonl")
    return [str(root / "corpus"), str(root / "train" / "articles")], train, asked(
        root / "questions.jsonl"
    )  # fmt: skip


def docs(data: Path) -> tuple[list[str], list[Asked], list[Asked]]:
    """Sources, and the questions that were written by hand: by halves of the pages."""
    root = data / "docs_site"
    rows = [line.split("\t") for line in QUESTIONS.read_text("utf-8").splitlines()]
    even = set(sorted({page for page, _, _ in rows})[::2])
    halves: tuple[list[Asked], list[Asked]] = ([], [])
    for page, written, question in rows:
        source, heading = str(root / "fastapi" / "en" / page), _plain(written)
        halves[page not in even].append(
            Asked(
                question,
                lambda p, source=source, heading=heading: (
                    p.source == source and heading in map(_plain, p.section)
                ),
            )
        )
    return [str(root)], *halves


def _plain(heading: str) -> str:
    """A heading without its marks."""
    return re.sub(r"[`*]|\{.*", "", heading).strip()


def headings(data: Path) -> tuple[list[str], list[Asked], list[Asked]]:
    """Sources, and questions from headings: those of even documents for training."""
    root = data / "docs_site"
    train: list[Asked] = []
    held_out: list[Asked] = []
    for number, path in enumerate(sorted(root.rglob("*.md"))):
        for line in path.read_text("utf-8").splitlines():
            words = line.lstrip("#").split("{")[0].strip(" `")
            if not line.startswith(("## ", "### ")) or len(words.split()) < 3:
                continue
            (held_out if number % 2 else train).append(
                Asked(
                    f"How is this done: {words.lower()}?",
                    lambda p, source=str(path), heading=words: (
                        p.source == source and any(heading in s for s in p.section)
                    ),
                )
            )
    return [str(root)], train, held_out


def main() -> None:
    """Ingest, ask, tune, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", choices=["squad", "docs", "headings"], default="squad")
    parser.add_argument("--questions", type=int, default=1000, help="of either part, at most")
    parser.add_argument("--store", type=Path, help="keep the store here, to ask again quickly")
    options = parser.parse_args()
    corpus = {"squad": squad, "docs": docs, "headings": headings}[options.corpus]
    sources, *asked = corpus(options.data)
    rng = random.Random(7)
    parts = [rng.sample(p, min(options.questions, len(p))) for p in asked]
    with tempfile.TemporaryDirectory() as aside:
        store = Store(options.store or Path(aside))
        embedder = load_embedder(EmbedderConfig())
        report = ingest(sources, store=store, embedder=embedder, config=FeatureConfig())
        print(f"{options.corpus}: {report.chunks} chunks, {[len(p) for p in parts]} questions")
        first, second = (
            [ask(store, question, vector) for question, vector in zip(
                part, embedder.embed_queries([q.text for q in part]), strict=True
            )]
            for part in parts
        )  # fmt: skip
    # (chosen on, reported on)
    folds = [(first, second), (second, first)] if options.corpus == "docs" else [(first, second)]
    chosen = [choose(tuning) for tuning, _ in folds]
    print(f"chosen on the training questions: {[f.model_dump() for f in chosen]}")

    def of(mode: str, fusions: Sequence[Fusion]) -> dict[str, np.ndarray]:
        parts = [scores(t, mode, f) for (_, t), f in zip(folds, fusions, strict=True)]
        return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}

    plain, default = [Fusion()] * len(folds), [RetrievalConfig().fusion] * len(folds)
    systems = {
        "vector": of("vector", plain),
        "text": of("text", plain),
        "hybrid, by rank": of("hybrid", plain),
        "hybrid, default": of("hybrid", default),
        "hybrid, tuned": of("hybrid", chosen),
    }
    for name, found in systems.items():
        print(f"{name:16}" + "".join(f"  {m} {v.mean():.3f}" for m, v in found.items()))
    for hybrid, single in product(list(systems)[2:], ("vector", "text")):
        pairs = {
            m: (systems[hybrid][m] - systems[single][m]).tolist() for m in ("recall@5", "mrr@10")
        }
        for metric, d in differences(pairs).items():
            print(
                f"{hybrid} - {single}: {metric} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}], "
                f"p {d.p_holm:.2g}"
            )


def choose(found: Sequence[Found]) -> Fusion:
    """The fusion that does best on these questions."""

    def worth(fusion: Fusion) -> float:
        return float(sum(s.mean() for s in scores(found, "hybrid", fusion).values()))

    return max(GRID, key=worth)


def ask(store: Store, question: Asked, vector: np.ndarray) -> Found:
    """What both searches find, as deep as fusion looks."""
    found = store.features.search_hybrid(question.text, vector, 2 * DEPTH, candidates=DEPTH)
    return Found(
        near={p.chunk_id: p.similarity or 0.0 for p in found if "vector" in p.found_by},
        similarity={p.chunk_id: p.similarity or 0.0 for p in found},
        worded={p.chunk_id: p.text_score or 0.0 for p in found if "text" in p.found_by},
        highest=highest_match(question.text, sum(store.features.chunk_counts().values())),
        right=frozenset(p.chunk_id for p in found if question.right(p)),
    )


if __name__ == "__main__":
    main()
