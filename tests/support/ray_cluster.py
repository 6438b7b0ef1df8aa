"""A Ray cluster on this machine for the tests of a module, and the actors that it runs."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import pytest

from tests.support.processes import ROOT

_ACTOR = "ray::MapWorker(Map(_Replica))"


@dataclass(frozen=True)
class RayCluster:
    """What it is reached by, and the folder that tells its processes from those of another."""

    env: Mapping[str, str]
    folder: str

    def replicas(self) -> list[int]:
        """The processes of actors that hold a replica now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith(_ACTOR):
                    parent = process.parent()
                    if parent is not None and self.folder in " ".join(parent.cmdline()):
                        found.append(process.pid)
            except (psutil.NoSuchProcess, psutil.AccessDenied, IndexError):
                continue
        return found


@contextmanager
def ray_cluster(processors: int, *, gpus: int = 0) -> Iterator[RayCluster]:
    """A cluster of so many processors; the tests are skipped where Ray is not installed.

    Ray gives out as many GPUs as it is told there are: which, and not that they compute, is tested.
    """
    pytest.importorskip("ray", reason="the package ray is not installed: fti-llm[scale]")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # Paths of sockets are short: pytest's own folders are too long for Ray.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        words = [
            "start", "--head", "--block", f"--port={port}", f"--num-cpus={processors}",
            f"--num-gpus={gpus}", "--disable-usage-stats", "--node-ip-address=127.0.0.1",
            "--include-dashboard=false", "--object-store-memory=100000000", f"--temp-dir={folder}",
        ]  # fmt: skip
        # Ray asks for a token as soon as a cluster is one for others.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            # Its workers import what tests hand them.
            env=os.environ | token | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "Ray runtime started" in line:
                    break
            else:
                raise AssertionError(said)
            yield RayCluster(token | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, folder)
        finally:
            # Asked to stop, it takes its time; workers end with the process that started them.
            for ours in [p for p in psutil.process_iter() if _in(p, folder)]:
                with suppress(psutil.NoSuchProcess):
                    ours.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _in(process: psutil.Process, folder: str) -> bool:
    try:
        return folder in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
