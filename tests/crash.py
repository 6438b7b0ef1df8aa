"""An ingest killed at random points and run again, against one that nobody disturbed.

    python -m tests.crash --kills 10 --files 300 [--executor process] [--engine hashing] [--seed 0]

Every kill has a store of its own: ``fti ingest`` is started as a user starts it, killed (``kill
-9``, with the processes that it started) at a random moment of the time that it took undisturbed,
and run again to its end. All that is served must then be byte for byte what the undisturbed store
holds: texts, ledger lines, chunks with their offsets, and vectors. Exits with 1 where it is not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fti.store.store import Store
from tests.support.processes import ROOT

#: What differs between two runs of anything: when it happened.
_TIMES = ("attempted_at", "ingested_at", "retry_at")


def write_files(folder: Path, count: int, rng: random.Random) -> None:
    """Pages of a few paragraphs; some say the same as others, one in fifty cannot be read."""
    things = "anvil bellows chisel drill easel file gouge hammer kiln lathe mallet plane".split()
    for number in range(count):
        parts = []
        for part in range(rng.randint(1, 4)):
            thing, other = rng.sample(things, 2)
            said = [
                f"The {thing} {number}-{part} is beside the {other} in room {rng.randint(1, 99)}."
                for _ in range(rng.randint(3, 12))
            ]
            parts.append(f"## The {thing}\n\n" + " ".join(said))
        page = f"# Page {number}\n\n" + "\n\n".join(parts) + "\n"
        path = folder / f"part-{number % 7}" / f"{number:04}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 50 == 49:
            path.with_suffix(".pdf").write_bytes(b"%PDF-1.7 broken")
        else:
            path.write_text(page, "utf-8")


def start(store: Path, folder: Path, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    """``fti ingest`` in a group of its own."""
    command = [
        sys.executable, "-c", "from fti.app.cli import main; main()", "ingest", str(folder),
        "--store", str(store), "--json", "--executor", options.executor,
        "--set", f"embedder.engine={options.engine}", "--set", "features.batch_documents=16",
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def finish(store: Path, folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Run to the end; its report and how long it took."""
    began = time.monotonic()
    process = start(store, folder, options)
    said, _ = process.communicate()
    assert process.returncode in (0, 3), process.returncode
    return json.loads(said), time.monotonic() - began


def content(root: Path) -> str:
    """Sha256 of all that a store serves, without when it came there."""
    store = Store(root)
    digest = hashlib.sha256()
    for name in ("documents", "chunks"):
        table = store.features._lance.open(name).search().to_arrow()
        rows = sorted(table.to_pylist(), key=lambda row: str(row["id"]))
        for row in rows:
            kept = {k: v for k, v in row.items() if k not in _TIMES}
            if isinstance(kept.get("attempts"), int) and row.get("state") == "failed":
                kept.pop("attempts")  # what cannot be read was tried once more
            digest.update(repr(sorted(kept.items())).encode())
    assert store.features.heal().broken == frozenset()
    return digest.hexdigest()


def main() -> None:
    """Kill, run again and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executor", choices=("local", "process"), default="local")
    parser.add_argument(
        "--engine", choices=("sentence-transformers", "hashing"), default="sentence-transformers"
    )
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / "files"
        write_files(folder, options.files, rng)
        whole, lasted = finish(Path(aside) / "undisturbed", folder, options)
        wanted = content(Path(aside) / "undisturbed")
        print(f"undisturbed: {whole['added']} added, {len(whole['failed'])} failed, "
              f"{whole['chunks']} chunks, {lasted:.1f} s", flush=True)  # fmt: skip
        equal = []
        for number in range(options.kills):
            store = Path(aside) / f"store-{number}"
            # The first second or so is Python's: an ingest that has not begun tells nothing.
            moment = rng.uniform(lasted - whole["seconds"], lasted)
            process = start(store, folder, options)
            time.sleep(moment)
            ended = process.poll() is not None
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            report, _ = finish(store, folder, options)
            equal.append(content(store) == wanted)
            print(f"killed after {moment:.1f} s{' (it had ended)' if ended else ''}: "
                  f"{report['unchanged']} were stored, {report['added']} added now, "
                  f"{report['embedded_chunks']} chunks embedded now, "
                  f"equal: {str(equal[-1]).lower()}", flush=True)  # fmt: skip
        print(f"equal: {sum(equal)} of {len(equal)}")
        if not all(equal):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
