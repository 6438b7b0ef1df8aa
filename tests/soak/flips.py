"""Many turned bits over all files of a store: each is found by verify, or has no effect.

    python -m tests.soak.flips --flips 200 [--seed 0]

Says for each file how many were found, how many lie in files that nothing rests on, and how many
changed nothing that can be read. Exits with 1 when one changed something and was not found.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fti.store.errors import FtiError
from fti.store.store import Store
from fti.store.upkeep.checking import check_store
from tests.support.flips import contents, differences, filled, flip, without_effect


def main() -> int:
    """Turn the bits, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts: Counter[tuple[str, str]] = Counter()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        root = filled(Path(folder) / "store")
        before = contents(root)
        for number in range(options.flips):
            # Every other one by file: most bytes lie in a few kinds of them.
            with flip(root, rng, by_file=number % 2 > 0) as path:
                verdict = "found" if _found(root) else ""
                if not verdict and without_effect(path):
                    verdict = "nothing rests on the file"
                elif not verdict:
                    changed = differences(contents(root), before)
                    verdict = f"MISSED: {', '.join(changed)}" if changed else "reads the same"
                    missed += bool(changed)
            counts[_kind(path.relative_to(root)), verdict] += 1
    for (kind, verdict), count in sorted(counts.items()):
        sys.stdout.write(f"{count:4}  {kind}: {verdict}\n")
    sys.stdout.write(f"{options.flips} turned bits, {missed} with an effect and not found\n")
    return 1 if missed else 0


def _found(root: Path) -> bool:
    try:
        return bool(check_store(Store(root)).problems)
    except FtiError:  # the store cannot even be opened, and says so
        return True


def _kind(path: Path) -> str:
    """Paths without what differs from file to file of a kind."""
    return re.sub(r"[0-9a-f]{8}[0-9a-f-]*|\d[\d-]+[\w-]*", "*", path.as_posix())


if __name__ == "__main__":
    sys.exit(main())
