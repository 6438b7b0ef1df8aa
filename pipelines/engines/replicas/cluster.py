"""The Ray cluster: connected to or started, how much it holds, and its errors in our words.

Documentation: https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html (what dies).
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeVar

from fti.store.errors import ConfigError, EngineError, FtiError

#: How often what died is started again, and its work given to it again, before a run ends. Ray's
#: own default is for ever: a batch that kills whoever does it would never end.
TRIES = 3
_LISTENS_S = 10.0

Made = TypeVar("Made")


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start one here; end it with the block.

    A cluster that is there already stays. Inside the block, whatever is printed goes to stderr:
    Ray tells of workers that died on stdout, where the result of a command is to be.

    Raises:
        ConfigError: Ray is not installed.
        EngineError: no cluster answers, or none can be started.
    """
    require_ray()
    import ray

    began_here = not ray.is_initialized()
    with redirect_stdout(sys.stderr):
        if began_here:
            _start()
        try:
            yield
        finally:
            if began_here:
                ray.shutdown()


def places(workers: int | None, *, gpu: bool = False) -> int:
    """How many replicas: as many as are asked for, else one for each GPU or processor."""
    return workers or max(1, (_amount("GPU") if gpu else 0) or _amount("CPU"))


def processors() -> int:
    """How many processors the cluster has."""
    return _amount("CPU")


def gpus(wanted: bool) -> int:
    """How many GPUs a replica is given: one, where it is to have one and the cluster has any."""
    return 1 if wanted and _amount("GPU") else 0


def once(make: Callable[[], Made], *, doing: str, gpu: bool = False) -> Made:
    """What a call gives on some machine of the cluster, in a process that then ends.

    Raises:
        FtiError: what it raised, as it raised it.
        EngineError: the process keeps dying.
    """
    import ray

    with ray_errors(doing):
        options = {"num_cpus": 1, "num_gpus": gpus(gpu), "max_calls": 1, "max_retries": TRIES}
        made: Made = unpacked(ray.get(ray.remote(**options)(_call).remote(make)))
    return made


def ray_data(*, ordered: bool) -> Any:
    """Ray Data, inside ``cluster``; with ``ordered`` rows come out in the order they went in."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = ordered
    return ray.data


def with_actors(apply: Callable[..., Any], actor: type, **how: Any) -> Any:
    """``map`` or ``map_batches`` of a dataset by actors that are started again ``TRIES`` times."""
    with warnings.catch_warnings():
        # Restarts have no other name yet; pyproject.toml asks for a Ray that knows this one.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return apply(actor, num_cpus=1, max_restarts=TRIES, max_task_retries=TRIES, **how)


def require_ray(*packages: str) -> None:
    """Refuse to go on without Ray, or without another package that the extra brings.

    Raises:
        ConfigError: one is not installed.
    """
    for name in ("ray", "ray.data", *packages):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"The executor ray needs a package that is not installed: {error.name}.",
                hint="Install it: pip install 'fti-llm[scale]'",
            ) from error


@dataclass(frozen=True)
class _Raised:
    error: FtiError | MemoryError


def packed(work: Callable[[], Any]) -> bytes:
    """What an actor gives back: what the work makes, or the error that it raised.

    Of an error that leaves an actor of Ray Data, no more than its words arrive.
    """
    try:
        return pickle.dumps(work())
    except (FtiError, MemoryError) as error:
        return pickle.dumps(_Raised(error))


def unpacked(given: bytes) -> Any:
    """What ``packed`` was given, which is what an actor of ours made; raises what it raised."""
    made = pickle.loads(given)
    if isinstance(made, _Raised):
        raise made.error
    return made


@contextmanager
def ray_errors(doing: str) -> Iterator[None]:
    """What Ray has to say of its workers, as an error of ours; errors of ours pass.

    Args:
        doing: what they were to do: "answer questions".
    """
    from ray.exceptions import (
        OutOfMemoryError,
        RayActorError,
        RayError,
        RayTaskError,
        WorkerCrashedError,
    )

    again = "What was done is kept; run the same command again"
    memory = f"{again}, with fewer replicas (--workers N) or smaller batches, or on machines with "
    memory += "more memory."
    times = f"{TRIES + 1} times while it was to {doing}"
    try:
        yield
    except MemoryError as error:
        raise EngineError(
            f"A worker of Ray ran out of memory while it was to {doing}.", hint=memory
        ) from error
    except OutOfMemoryError as error:
        raise EngineError(
            f"A worker of Ray ran out of memory {times}: {_first(error)}", hint=memory
        ) from error
    except (RayActorError, WorkerCrashedError) as error:
        raise EngineError(
            f"A worker of Ray died {times}: {_ending(error)}",
            hint=f"{again}. If memory ran out, use fewer replicas: --workers N. If it dies at the "
            "same place again, --executor local shows what happens there.",
        ) from error
    except RayError as error:
        said = str(error).split("The above exception was", 1)[0].strip()
        last = said.splitlines()[-1] if isinstance(error, RayTaskError) and said else _first(error)
        raise EngineError(
            f"Ray could not {doing}: {last}",
            hint=f"{again}, with --executor local if the cluster is at fault.",
        ) from error


def this_machine() -> str:
    """The name of the machine, to say where something is otherwise."""
    return socket.gethostname()


def _call(make: Callable[[], Any]) -> bytes:
    return packed(make)


def _start() -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told unless somebody says so
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are told by ``ray_errors``
    named = os.environ.get("RAY_ADDRESS", "")
    try:
        _require_listener(named)
        with warnings.catch_warnings():
            # LanceDB warns of a fork; Ray's processes are others as soon as they are there.
            warnings.simplefilter("ignore", RuntimeWarning)
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ValueError, OSError) as error:
        what = f"No Ray cluster answers at {named!r}" if named else "Ray could not start here"
        raise EngineError(
            f"{what}: {_first(error)}",
            hint="Start one with `ray start --head` and give its RAY_ADDRESS (and RAY_AUTH_TOKEN, "
            "where it has one), or leave both out to have one started on this machine.",
        ) from error


def _require_listener(address: str) -> None:
    """Find at once that nobody listens: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENS_S).close()


def _amount(resource: str) -> int:
    import ray

    return int(ray.cluster_resources().get(resource, 0))


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _ending(error: Exception) -> str:
    """The line of Ray's report that says how the process ended."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if "exit type" in line), lines[-1]).strip()
