"""Every error that fti raises on purpose, in one tree.

    FtiError
    ├── InputError                 what the caller gave cannot be used
    │   ├── SourceNotFound         a path or URL to ingest does not exist
    │   ├── ExtractionError        one source cannot become text: a line in the report
    │   ├── UploadTooLarge         an upload takes too long, or becomes too many passages
    │   ├── QuestionTooLong        the question alone does not fit the model's context
    │   ├── EmptyQuestion          there is no question in the question
    │   ├── InvalidCases           a case, question or dataset file has a line that cannot be read
    │   ├── InvalidFilter          a filter cannot be read, or names what passages lack
    │   └── InvalidName            a dataset, model or alias name is not a plain name
    ├── AccessError                the service does not let this caller do this
    │   ├── InvalidApiKey          no API key, or none that lets in
    │   ├── ReadOnlyKey            the key may not change documents, nor judge answers
    │   ├── JobsNotAllowed         the caller may not start or stop jobs
    │   ├── RoleNeeded             the key is for other things
    │   ├── OutsideCollections     the key may use certain collections only, and asked for more
    │   ├── UnknownHost            without keys: sent to a name that the service does not know
    │   ├── CrossSite              without keys: a page of another site wants to change something
    │   ├── BodyTooLarge           the request is larger than the service takes
    │   └── RateLimitExceeded      the key was used too often; says when to come again
    │       └── QuotaExceeded      the key has used up the tokens of its day
    ├── ConfigError                a profile, option or FTI_ variable is unknown or out of range
    ├── NotFoundError              something named does not exist; says what there is
    │   ├── ModelNotFound
    │   ├── AliasNotFound
    │   ├── DatasetNotFound
    │   ├── CaseSetNotFound
    │   ├── AnswerNotFound
    │   ├── DocumentNotFound
    │   ├── CollectionNotFound     no document is in such a collection
    │   ├── VersionNotFound        the features have no such version or tag
    │   ├── JobNotFound            the service did no such upload or job, or long ago
    │   ├── KeyNotFound
    │   ├── BackupNotFound
    │   └── RunNotFound
    ├── StoreError                 the shared storage cannot be used as asked
    │   ├── StoreEmpty             nothing has been ingested yet
    │   ├── StoreLocked            another writer holds the store
    │   ├── StoreFormatError       the store has the format of a newer or an older fti
    │   ├── StoreFull              the disk is full; nothing half-written remains
    │   ├── StoreReadOnly          the store may be read here and not be written
    │   ├── IntegrityError         a published file is missing or differs from its manifest
    │   ├── ExpectationsBroken     what landed is not as the profile expects it to be
    │   └── EmbedderMismatch       the table's vectors come from another embedder
    ├── ContractError              a model version and its surroundings do not agree
    ├── EngineError                a model cannot do its work
    │   ├── ModelUnavailable       its weights are not on this machine; says how to fetch them
    │   ├── GenerationFailed       generation broke off
    │   ├── ServerUnavailable      the server that generates is overloaded or keeps failing
    │   ├── TimedOut               an answer took longer than is allowed
    │   └── Overloaded             more requests than the service will queue
    ├── JobRunning                 a job goes on already; there is one at a time
    ├── HubError                   a model hub cannot be reached, or refuses what is pushed
    ├── PostconditionFailed        a pipeline's result is not what it promises: a defect
    ├── TrainingError              training cannot start or does not converge to numbers
    └── GateRefused                promotion was refused by the evaluation gate

A message says what happened, with the value in ``repr``; ``hint`` says what to do next, as a
command where there is one.
"""

from __future__ import annotations


class FtiError(Exception):
    """Base of all errors that fti raises on purpose.

    Args:
        message: what happened, with the offending value.
        hint: what to do next; empty when there is nothing to add.
    """

    #: Process exit code of the command line: 1 failed, 2 misused.
    exit_code: int = 1
    #: The condition of a pipeline's contract that this is a violation of; see ``store.conditions``.
    condition: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        """Machine-readable name: the class name in snake case, without a trailing ``_error``."""
        name = type(self).__name__
        snake = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
        return snake.removesuffix("_error") or snake

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip() if self.hint else self.message


class InputError(FtiError):
    """What the caller gave cannot be used."""

    exit_code = 2


class SourceNotFound(InputError):
    """A path or URL to ingest does not exist."""


class ExtractionError(InputError):
    """One source cannot become text.

    Args:
        message: the reason.
        hint: what to do next.
        transient: whether the same bytes may be readable another time.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient


class UploadTooLarge(InputError):
    """An upload takes too long, or becomes too many passages."""


class QuestionTooLong(InputError):
    """The question alone does not fit the model's context."""


class EmptyQuestion(InputError):
    """There is no question in the question."""


class InvalidCases(InputError):
    """A case, question or dataset file has a line that cannot be read."""


class InvalidFilter(InputError):
    """A filter cannot be read, or names what passages do not have."""


class InvalidName(InputError):
    """A dataset, model or alias name is not a plain name."""


class AccessError(FtiError):
    """The service does not let this caller do this."""


class InvalidApiKey(AccessError):
    """No API key, or none that lets in."""


class ReadOnlyKey(AccessError):
    """The key may not change documents, nor judge answers."""


class JobsNotAllowed(AccessError):
    """The caller may not start or stop jobs."""


class RoleNeeded(AccessError):
    """The key is for other things."""


class OutsideCollections(AccessError):
    """The key may use certain collections only, and asked for more."""


class UnknownHost(AccessError):
    """Without keys: sent to a name that the service does not know."""


class CrossSite(AccessError):
    """Without keys: a page of another site wants to change something."""


class BodyTooLarge(AccessError):
    """The request is larger than the service takes."""


class RateLimitExceeded(AccessError):
    """The key was used too often.

    Args:
        message: what happened.
        hint: what to do next.
        retry_after_s: seconds after which the next request is let in.
    """

    def __init__(self, message: str, *, hint: str = "", retry_after_s: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class QuotaExceeded(RateLimitExceeded):
    """The key has used up the tokens of its day."""


class ConfigError(FtiError):
    """A profile, option or ``FTI_`` variable is unknown or out of range."""

    exit_code = 2


class NotFoundError(FtiError):
    """Something named does not exist."""


class ModelNotFound(NotFoundError):
    """No such model or model version."""


class AliasNotFound(NotFoundError):
    """No such alias of a model."""


class DatasetNotFound(NotFoundError):
    """No such dataset or dataset version."""


class CaseSetNotFound(NotFoundError):
    """No such frozen case set or version of it."""


class AnswerNotFound(NotFoundError):
    """No answer with this id was logged."""


class DocumentNotFound(NotFoundError):
    """No document with this source or id was ingested."""


class CollectionNotFound(NotFoundError):
    """No document is in such a collection."""


class VersionNotFound(NotFoundError):
    """The features have no such version or tag."""


class JobNotFound(NotFoundError):
    """The service did no such upload or job, or long ago."""


class KeyNotFound(NotFoundError):
    """No API key with this id was made."""


class BackupNotFound(NotFoundError):
    """No such backup at this place."""


class RunNotFound(NotFoundError):
    """No run with this id was logged."""


class StoreError(FtiError):
    """The shared storage cannot be used as asked."""


class StoreEmpty(StoreError):
    """Nothing has been ingested yet."""


class StoreLocked(StoreError):
    """Another writer holds the store."""


class StoreFormatError(StoreError):
    """The store has the format of a newer or an older fti."""


class StoreFull(StoreError):
    """The disk is full."""


class StoreReadOnly(StoreError):
    """The store may be read here and not be written."""


class IntegrityError(StoreError):
    """A published file is missing or differs from its manifest."""


class ExpectationsBroken(StoreError):
    """What landed is not as the profile expects it to be."""


class EmbedderMismatch(StoreError):
    """The table's vectors come from another embedder."""


class ContractError(FtiError):
    """A model version and its surroundings do not agree."""


class EngineError(FtiError):
    """A model cannot do its work."""


class ModelUnavailable(EngineError):
    """The weights are not on this machine."""


class GenerationFailed(EngineError):
    """Generation broke off."""


class ServerUnavailable(EngineError):
    """The server that generates is overloaded, or failed so often that it is left alone for now.

    Args:
        message: what happened.
        hint: what to do next.
        retry_after_s: seconds after which it may work again.
    """

    def __init__(self, message: str, *, hint: str = "", retry_after_s: int = 5) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class TimedOut(EngineError):
    """An answer took longer than is allowed."""


class Overloaded(EngineError):
    """More requests than the service will queue."""


class JobRunning(FtiError):
    """A job goes on already, and there is one at a time."""


class HubError(FtiError):
    """A model hub cannot be reached, or refuses what is pushed."""


class PostconditionFailed(FtiError):
    """A pipeline's result is not what its contract promises: a defect, or a damaged store."""


class TrainingError(FtiError):
    """Training cannot start, or its loss is no longer a number."""


class GateRefused(FtiError):
    """Promotion was refused by the evaluation gate."""
