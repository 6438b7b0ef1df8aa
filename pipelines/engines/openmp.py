"""How the threads of a matrix product wait for one another.

OpenMP divides each product among threads, and each waits at its end for the slowest. By default
those who wait turn in a circle for about a millisecond before they sleep. Where other work wants
the cores too (a second process, a training beside a service), they take from the slowest the core
that it needs, at some hundred products a token. OpenMP reads its settings once, when it is loaded,
so they have to be made before torch or llama.cpp are imported
(https://gcc.gnu.org/onlinedocs/libgomp/, "Environment Variables").
"""

from __future__ import annotations

import os

#: Turns of waiting, some ten microseconds: as long as Python takes from one product to the next.
#: Once several Python threads have multiplied, OpenMP counts more threads than there are cores, and
#: they turn a hundred times at most; under this policy a thousand times, which is just enough.
_BRIEFLY = {"GOMP_SPINCOUNT": "10000", "OMP_WAIT_POLICY": "ACTIVE"}


def wait_briefly() -> None:
    """Have them sleep soon, unless the environment says how they wait.

    Products are as fast as without where nothing else wants the cores, and a dozen times as fast
    where something does.
    """
    if not _BRIEFLY.keys() & os.environ.keys():
        os.environ.update(_BRIEFLY)


def wait_asleep() -> None:
    """Have them sleep at once, unless the environment says how they wait: llama.cpp waits several
    times within each layer.
    """
    if _BRIEFLY.items() <= os.environ.items():
        for name in _BRIEFLY:
            del os.environ[name]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
