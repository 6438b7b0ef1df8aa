"""What a pipeline needs and promises, declared where it is enforced.

A ``PipelineContract`` is put around the pipeline's own function. The function's signature declares
the typed inputs and the output; conditions are functions that take the inputs they name. Every
call of the pipeline checks types, preconditions and invariants before it, and types, invariants and
postconditions after it. There is no second list: what ``fti contracts`` prints is what runs.

    INGEST = PipelineContract("ingest")

    @INGEST.precondition("The store's vectors are this embedder's", raises=EmbedderMismatch)
    def same_embedder(store: Store, embedder: Embedder) -> None: ...

    INGEST.requires("failed_share", "at most", "", share("ingest", "failed", "added"))

    @INGEST.enforced
    def ingest(sources: ..., *, store: Store, embedder: Embedder) -> IngestReport: ...

How well a pipeline is to do stands beside the conditions: see ``requirements``. Design by contract
(Meyer 1992). A condition raises the error that its caller is to see; one that a result breaks is a
defect, and raises ``PostconditionFailed``.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar

from fti.store.contracts.requirements import Bound, Measure, Requirement
from fti.store.errors import FtiError, PostconditionFailed

P = ParamSpec("P")
R = TypeVar("R")
_Check = TypeVar("_Check", bound=Callable[..., None])

ConditionKind = Literal["precondition", "invariant", "postcondition"]
#: The parameter by which a postcondition takes what the pipeline returns.
RESULT = "result"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Condition:
    """A sentence, the check behind it, and the error that its violation is."""

    pipeline: str
    kind: ConditionKind
    says: str
    raises: type[FtiError]
    check: Callable[..., None]

    @property
    def name(self) -> str:
        """``pipeline.check``: what a violation names as its ``condition``."""
        return f"{self.pipeline}.{self.check.__name__}"

    def enforce(self, values: Mapping[str, Any]) -> None:
        """Check it against the pipeline's arguments (and ``result``).

        Raises:
            FtiError: it does not hold; of the class that is declared, naming this condition.
        """
        wanted = inspect.signature(self.check).parameters
        try:
            self.check(**{name: values[name] for name in wanted})
        except FtiError as error:
            if isinstance(error, self.raises):  # not what went wrong on the way to an answer
                error.condition = self.name
            raise


@dataclass(frozen=True, slots=True)
class Port:
    """A typed input or the output of a pipeline."""

    name: str
    type: str


@dataclass
class PipelineContract:
    """The conditions of one pipeline, the function that they are enforced on, and how well it is to
    do."""

    pipeline: str
    conditions: list[Condition] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)
    function: Callable[..., Any] | None = None

    def precondition(self, says: str, *, raises: type[FtiError]) -> Callable[[_Check], _Check]:
        """Declare what must hold before the pipeline does anything."""
        return self._declaring("precondition", says, raises)

    def invariant(self, says: str, *, raises: type[FtiError]) -> Callable[[_Check], _Check]:
        """Declare what holds before and after."""
        return self._declaring("invariant", says, raises)

    def postcondition(
        self, says: str, *, raises: type[FtiError] = PostconditionFailed
    ) -> Callable[[_Check], _Check]:
        """Declare what holds of the ``result``."""
        return self._declaring("postcondition", says, raises)

    def requires(self, name: str, bound: Bound, unit: str, measure: Measure) -> None:
        """Declare a promise that is measured afterwards; the profile has its value.

        Args:
            name: of the setting in the pipeline's section of ``promises``.
            bound: whether the value is the most or the least.
            unit: of the value; empty for shares.
            measure: gives the value from what the store keeps.
        """
        self.requirements.append(Requirement(self.pipeline, name, bound, unit, measure))

    def enforced(self, function: Callable[P, R]) -> Callable[P, R]:
        """The pipeline's function, with its contract around it.

        Raises, when called:
            TypeError: an argument or the result is not of its declared type.
            FtiError: a condition does not hold.
        """
        signature = inspect.signature(function)
        if self.function is None:
            self.function = function
        for condition in self.conditions:
            unknown = set(inspect.signature(condition.check).parameters)
            unknown -= {*signature.parameters, RESULT}
            assert not unknown, f"{condition.name} takes {unknown}, which the pipeline does not"

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            hints = _hints(function)
            for name, value in bound.arguments.items():
                self._require_type(name, value, hints.get(name, Any))
            self._enforce("precondition", bound.arguments)
            self._enforce("invariant", bound.arguments)
            result = function(*args, **kwargs)
            self._require_type("its result", result, hints.get("return", Any))
            self._enforce("invariant", bound.arguments)
            self._enforce("postcondition", {**bound.arguments, RESULT: result})
            return result

        call.__contract__ = self  # type: ignore[attr-defined]  # for the test of completeness
        return call

    def require(self, **values: Any) -> None:
        """Check what must hold before, for who foresees what the pipeline would do.

        Raises:
            FtiError: a condition does not hold.
        """
        self._enforce("precondition", values)
        self._enforce("invariant", values)

    def inputs(self) -> list[Port]:
        """The typed inputs, as the function's signature has them."""
        assert self.function is not None
        parameters = inspect.signature(self.function).parameters.values()
        return [Port(p.name, str(p.annotation)) for p in parameters if p.name != "self"]

    def output(self) -> Port:
        """The typed output."""
        assert self.function is not None
        return Port(RESULT, str(inspect.signature(self.function).return_annotation))

    def _declaring(
        self, kind: ConditionKind, says: str, raises: type[FtiError]
    ) -> Callable[[_Check], _Check]:
        def declare(check: _Check) -> _Check:
            assert self.function is None, (
                "conditions stand before the function they are enforced on"
            )
            self.conditions.append(Condition(self.pipeline, kind, says, raises, check))
            return check

        return declare

    def _enforce(self, kind: ConditionKind, values: Mapping[str, Any]) -> None:
        for condition in self.conditions:
            if condition.kind == kind:
                condition.enforce(values)

    def _require_type(self, name: str, value: Any, hint: Any) -> None:
        if not conforms(value, hint):
            raise TypeError(
                f"The pipeline {self.pipeline!r} takes or gives {name!r} as {hint}, and this is "
                f"{type(value).__name__}."
            )


def contract_of(function: Callable[..., Any]) -> PipelineContract:
    """The contract that a function is enforced under."""
    found: PipelineContract = function.__contract__  # type: ignore[attr-defined]
    return found


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value is of a type: its class, not what is inside containers.

    A protocol is met by whatever has its members; hints of other forms are met by everything.
    """
    if hint is Any:
        return True
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, option) for option in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    kind = types.NoneType if hint is None else origin or hint
    if not isinstance(kind, type):
        return True
    if getattr(kind, "_is_protocol", False) and not kind.__module__.startswith("collections"):
        members = [name for name in dir(kind) if not name.startswith("_")]
        return all(inspect.getattr_static(value, m, _MISSING) is not _MISSING for m in members)
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, kind)


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function)
