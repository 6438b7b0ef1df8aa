"""Training in several processes that ``accelerate launch`` started: who writes, and agreeing.

Each process holds the whole model and computes a share of every step (data parallel). The first
one alone writes to the store, measures, and tells the time; the others follow what it says. In a
process by itself all of this is nothing.
"""

from __future__ import annotations

from typing import Any


def join(device: str) -> None:
    """Take one's place among the processes, where there are several; before weights are loaded.

    On GPUs each process then means its own device by ``cuda``.
    """
    import torch.distributed
    from accelerate import PartialState
    from accelerate.utils import get_int_from_env

    if not torch.distributed.is_initialized() and get_int_from_env(["WORLD_SIZE"], 1) > 1:
        PartialState(cpu=device == "cpu")


def rank() -> int:
    """Which of the processes this is; the first is 0."""
    import torch.distributed

    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    import torch.distributed

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def agreed(value: Any) -> Any:
    """What the first process says, in all of them; all must ask."""
    if world() == 1:
        return value
    import torch.distributed

    said = [value]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def wait() -> None:
    """Go on when all have come here."""
    if world() > 1:
        import torch.distributed

        torch.distributed.barrier()
