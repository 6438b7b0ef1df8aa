"""Which HTTP status each error means, and OpenAI's error body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fti.store import errors

STATUS: dict[type[errors.FtiError], int] = {
    errors.FtiError: 500,
    errors.InputError: 400,
    errors.SourceNotFound: 404,
    errors.ExtractionError: 400,
    errors.UploadTooLarge: 413,
    errors.QuestionTooLong: 400,
    errors.EmptyQuestion: 400,
    errors.InvalidCases: 400,
    errors.InvalidFilter: 400,
    errors.InvalidName: 400,
    errors.AccessError: 403,
    errors.InvalidApiKey: 401,
    errors.ReadOnlyKey: 403,
    errors.JobsNotAllowed: 403,
    errors.RoleNeeded: 403,
    errors.OutsideCollections: 403,
    errors.UnknownHost: 421,
    errors.CrossSite: 403,
    errors.BodyTooLarge: 413,
    errors.RateLimitExceeded: 429,
    errors.QuotaExceeded: 429,
    errors.ConfigError: 500,
    errors.NotFoundError: 404,
    errors.ModelNotFound: 404,
    errors.AliasNotFound: 404,
    errors.DatasetNotFound: 404,
    errors.CaseSetNotFound: 404,
    errors.AnswerNotFound: 404,
    errors.DocumentNotFound: 404,
    errors.CollectionNotFound: 404,
    errors.VersionNotFound: 404,
    errors.JobNotFound: 404,
    errors.KeyNotFound: 404,
    errors.BackupNotFound: 404,
    errors.RunNotFound: 404,
    errors.StoreError: 500,
    errors.StoreEmpty: 503,
    errors.StoreLocked: 503,
    errors.StoreFormatError: 500,
    errors.StoreFull: 507,
    errors.StoreReadOnly: 507,
    errors.IntegrityError: 500,
    errors.ExpectationsBroken: 500,
    errors.EmbedderMismatch: 500,
    errors.ContractError: 500,
    errors.EngineError: 500,
    errors.ModelUnavailable: 503,
    errors.GenerationFailed: 500,
    errors.ServerUnavailable: 503,
    errors.TimedOut: 504,
    errors.Overloaded: 429,
    errors.JobRunning: 409,
    errors.HubError: 502,
    errors.PostconditionFailed: 500,
    errors.TrainingError: 500,
    errors.GateRefused: 409,
}
"""One line per error class; a test checks that none is missing."""


def status_of(error: errors.FtiError) -> int:
    """HTTP status of an error."""
    return STATUS[type(error)]


def headers_of(error: errors.FtiError) -> dict[str, str]:
    """What a client is told beside the body: when to come again, how to be let in."""
    status = status_of(error)
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, errors.RateLimitExceeded | errors.ServerUnavailable):
        return {"Retry-After": str(error.retry_after_s)}
    return {"Retry-After": "5"} if status in (429, 503) else {}


def body_of(error: errors.FtiError, told: Callable[[str], str]) -> dict[str, Any]:
    """OpenAI's error body; a server-side message goes to the client, a traceback never does.

    Args:
        error: what happened.
        told: its message as clients may read it, without paths of this machine.
    """
    return body(told(str(error)), code=error.code, status=status_of(error))


def body(message: str, *, code: str, status: int, param: str | None = None) -> dict[str, Any]:
    """An error body in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


DEFECT = body("An internal error; the service's log has the details.", code="internal", status=500)
"""What the client is told of a bug; its traceback goes to the log."""
