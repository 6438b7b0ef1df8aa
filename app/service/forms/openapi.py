"""The description of the API: FastAPI's, with the errors that occur in the form that they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What happened, what to do next."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "messages[0].content"},
                "code": {"type": "string", "description": "For programs."},
            },
        }
    },
}
_OCCUR = {
    "400": "The request cannot be used.",
    "401": "A valid API key is needed.",
    "403": "The key, or the page that sent it, may not do this.",
    "404": "There is no such thing.",
    "413": "The body is too large.",
    "421": "Without API keys: sent to a name that the service does not know.",
    "429": "Too many requests; Retry-After says when to come again.",
    "500": "A defect, or a store or model that is damaged or does not fit.",
    "503": "Nothing can be answered now.",
    "507": "There is no room on the disk, or no right to write.",
}
_OF_BODIES = {"408": "The body came too slowly (service.body_timeout_s)."}
_OF_ANSWERS = {"504": "The answer took longer than service.answer_timeout_s."}
_OCCUR_WITH_JOBS = {"409": "Another job goes on."}


def described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What ``fti.app.openapi`` is to be."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas["Error"] = _ERROR
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
            for path, operations in schema["paths"].items():
                of_path = _OCCUR_WITH_JOBS if path.startswith("/v1/jobs") else {}
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    answers = "chat" in operation.get("tags", ())
                    occur = _OCCUR | of_path | (_OF_ANSWERS if answers else {})
                    occur |= _OF_BODIES if "requestBody" in operation else {}
                    for status, why in occur.items():
                        said = {"description": why, "content": content}
                        operation["responses"].setdefault(status, said)
        return app.openapi_schema or {}

    return openapi
