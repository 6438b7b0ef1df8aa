"""How this machine embeds quickest, measured once and kept in the store.

On a CPU the time of a text depends on how many tokens each core puts through the model at once: too
few waste its arithmetic, too many its caches. Which number is best differs from machine to machine.
It is measured before the first ingest that is long enough to be worth it, on texts of our own, and
noted in the store's ``machine.json`` under the machine, the versions and the embedder that it holds
for.
"""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.embedders.sentence_embedder import SentenceTransformerEmbedder
from fti.store.files.atomic import read_sealed, write_sealed
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Value, now

#: Bytes of files from which on an ingest takes minutes, and a probe pays.
WORTHWHILE_BYTES = 1 << 20
#: Tokens given to the model at once on each core, with padding, that are tried.
TRIED = (512, 768, 1024, 2048)
_TEXTS = 48
_ROUNDS = 2


class MachineProbe(Value):
    """What was measured.

    ``tokens_at_once`` is the quickest; ``texts_per_s`` has every number that was tried. It holds
    for this ``machine`` (processor, cores, torch) and ``embedder`` (digest).
    """

    machine: str
    embedder: str
    tokens_at_once: int
    texts_per_s: dict[int, float]
    at: datetime


def machine() -> str:
    """This machine, as far as the speed of embedding depends on it, and how it is used."""
    return f"{_processor()}, {os.cpu_count() or 1} cores, torch {version('torch')}, by core"


def kept_probe(store: Store, embedder: Embedder) -> MachineProbe | None:
    """What was measured here with this embedder, if it was."""
    here, digest = machine(), embedder.identity.digest
    found = [p for p in _kept(store) if (p.machine, p.embedder) == (here, digest)]
    return found[-1] if found else None


def settle(
    embedder: Embedder, *, store: Store, worthwhile: bool, progress: Progress = quiet
) -> MachineProbe | None:
    """Let an embedder work as is quickest here; measured now where that is worthwhile.

    An embedder with a batch size of its own, on an accelerator, or without weights stays as it is.

    Returns:
        What it goes by; None where nothing was measured.
    """
    if not isinstance(embedder, SentenceTransformerEmbedder) or embedder.tokens_at_once is None:
        return None
    probe = kept_probe(store, embedder)
    if probe is None and worthwhile:
        probe = measure(embedder, progress=progress)
        others = [
            p for p in _kept(store) if (p.machine, p.embedder) != (probe.machine, probe.embedder)
        ]
        body = [p.model_dump(mode="json") for p in (*others, probe)]
        write_sealed(store.layout.machine, {"probes": body})
    if probe is not None:
        embedder.tokens_at_once = probe.tokens_at_once
    return probe


def measure(
    embedder: SentenceTransformerEmbedder,
    *,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = quiet,
) -> MachineProbe:
    """Time each number of tokens in turn, twice; the better of the two counts."""
    texts = _texts()
    before = embedder.tokens_at_once
    best: dict[int, float] = {}
    embedder.embed_documents(texts[:2])  # what is loaded at the first use is not part of it
    done = 0
    try:
        for _ in range(_ROUNDS):
            for tokens in TRIED:
                progress(ProgressEvent("probe", done, _ROUNDS * len(TRIED), "embedding, once"))
                embedder.tokens_at_once = tokens
                began = clock()
                embedder.embed_documents(texts)
                rate = len(texts) / max(clock() - began, 1e-9)
                best[tokens] = max(best.get(tokens, 0.0), round(rate, 2))
                done += 1
    finally:
        embedder.tokens_at_once = before
    progress(ProgressEvent("probe", done, done))
    return MachineProbe(
        machine=machine(),
        embedder=embedder.identity.digest,
        tokens_at_once=max(best, key=lambda tokens: best[tokens]),
        texts_per_s=best,
        at=now(),
    )


def _texts() -> Sequence[str]:
    """Texts as long as chunks are: most near the limit, some short."""
    rng = random.Random(0)
    words = "the kiln is fired on every day of a week by whoever keeps tools in order".split()
    lengths = [rng.choice((40, 120, 170, 180, 190, 200)) for _ in range(_TEXTS)]
    return [" ".join(rng.choice(words) for _ in range(length)) for length in lengths]


def _kept(store: Store) -> list[MachineProbe]:
    path = store.layout.machine
    if not path.is_file():
        return []
    try:
        held = read_sealed(path)["probes"]
        return [MachineProbe.model_validate(p) for p in held]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # a note that cannot be read is measured anew


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
