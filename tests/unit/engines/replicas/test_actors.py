"""Work given out in batches: here, and what Ray has to say of workers, told as our errors."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fti.pipelines.engines.llama_cpp.native_server import cores
from fti.pipelines.engines.replicas.actors import InProcess, Replicas, _Replica
from fti.pipelines.engines.replicas.cluster import (
    TRIES,
    cluster,
    packed,
    ray_errors,
    require_ray,
    unpacked,
)
from fti.pipelines.engines.replicas.elsewhere import Elsewhere, require_same
from fti.store.errors import ConfigError, ContractError, EngineError, QuestionTooLong
from fti.store.types import ModelIdentity


def test_one_process_takes_a_batch_when_it_is_asked_for() -> None:
    began: list[int] = []

    def double(batch: int) -> int:
        began.append(batch)
        return 2 * batch

    made = InProcess(double).each([3, 4])
    assert not began
    assert next(made) == (0, 6)
    assert began == [3]
    assert list(made) == [(1, 8)]


def test_nothing_to_do_asks_no_cluster() -> None:
    assert list(Replicas(lambda: str.upper, doing="shout").each([])) == []


def test_an_error_of_ours_arrives_whole() -> None:
    def fails() -> str:
        raise QuestionTooLong("too long", hint="Ask less.")

    with pytest.raises(QuestionTooLong, match="too long") as caught:
        unpacked(packed(fails))
    assert caught.value.hint == "Ask less."
    assert unpacked(packed(lambda: [1, "b"])) == [1, "b"]
    with pytest.raises(ZeroDivisionError):  # a defect is Ray's to tell, with its traceback
        packed(lambda: 1 // 0)


def test_a_replica_keeps_to_its_share_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    everything = cores()
    replica = _Replica(lambda: lambda batch: (batch, cores()), threads=1)
    assert unpacked(replica({"number": 0, "batch": packed(lambda: "a")})["made"]) == ("a", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert cores() == everything, "more than there are is not to be had"


def test_a_replica_that_cannot_be_made_says_why_with_its_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # and back to what it was

    def refuses() -> Any:
        raise EngineError("no such weights", hint="Fetch them.")

    replica = _Replica(refuses, threads=1)
    with pytest.raises(EngineError, match="no such weights"):
        unpacked(replica({"number": 0, "batch": b""})["made"])


def test_what_ray_says_of_workers_is_an_error_with_what_to_do() -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    report = (
        "The actor died unexpectedly before finishing this task.\n\tpid: 7\nThe actor is dead. "
        "Worker exit type: SYSTEM_ERROR Worker exit detail: End of file."
    )
    cases = {
        exceptions.OutOfMemoryError("4 worker(s) were killed due to the node running low on memory."
                                    "\nObject store: []"):
            (f"ran out of memory {TRIES + 1} times while it was to read: 4 worker(s) were killed "
             "due to the node running low on memory.", "--workers"),
        MemoryError(): ("ran out of memory while it was to read", "--workers"),
        exceptions.ActorDiedError(): (f"died {TRIES + 1} times while it was to read", "--workers"),
        exceptions.RayActorError(None, report):
            ("read: The actor is dead. Worker exit type: SYSTEM_ERROR", "--executor local"),
        exceptions.WorkerCrashedError(): ("died", "--executor local"),
        exceptions.GetTimeoutError("Timed out while starting actors.\nmore"):
            ("Ray could not read: Timed out while starting actors.", "--executor local"),
    }  # fmt: skip
    for raised, (message, hint) in cases.items():
        with pytest.raises(EngineError) as caught, ray_errors("read"):
            raise raised
        assert message in caught.value.message
        assert "\n" not in caught.value.message
        assert "run the same command again" in caught.value.hint
        assert hint in caught.value.hint


def test_a_defect_in_an_actor_is_told_by_its_last_line() -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    text = (
        "ray::submit()\n  File ...\nValueError: boom\n\nThe above exception was the direct cause "
        "of the following exception:\n\nTo change retry attempts, configure it."
    )
    error = exceptions.RayTaskError("submit", text, ValueError("boom"))
    with pytest.raises(EngineError, match=r"Ray could not read: .*boom"), ray_errors("read"):
        raise error


@pytest.mark.parametrize("name", ["ray", "lance"])
def test_a_package_that_is_missing_is_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"not installed: {name}") as caught:
        require_ray("lance")
    assert "fti-llm[scale]" in caught.value.hint
    if name == "ray":
        with pytest.raises(ConfigError, match="not installed: ray"), cluster():
            raise AssertionError("there is none")


def test_a_replica_of_something_else_is_refused_with_what_differs() -> None:
    require_same("assistant", {"model": "base"}, {"model": "base", "more": 1})
    with pytest.raises(ContractError, match="its device is 'cpu', and 'cuda' is asked for") as one:
        require_same("assistant", {"model": "base", "device": "cuda"},
                     {"model": "base", "device": "cpu"})  # fmt: skip
    assert "another assistant" in one.value.message
    assert "base" not in one.value.message
    assert "generator.device" in one.value.hint


def test_a_generator_elsewhere_generates_nothing_here() -> None:
    class Counter:
        def count(self, messages: Any) -> int:
            return len(messages)

    away = Elsewhere(ModelIdentity(id="m"), 512, {"engine": "transformers"}, Counter())
    assert (away.identity.id, away.context_tokens, away.counter.count(())) == ("m", 512, 0)
    with pytest.raises(AssertionError, match="with replicas"):
        away.generate([])
