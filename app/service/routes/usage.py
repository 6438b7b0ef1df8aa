"""What callers used, and what they asked forgotten."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from fti.app.operations.usage_report import usage_json
from fti.app.service.forms import schemas
from fti.app.service.routes.parts import CallerPart, StorePart
from fti.store.errors import RoleNeeded
from fti.store.upkeep.asked_questions import erase_asked

router = APIRouter(prefix="/v1", tags=["usage"])


@router.get("/usage")
def usage(
    store: StorePart,
    caller: CallerPart,
    days: Annotated[int, Query(ge=1, le=366, description="How far back; today is one.")] = 30,
    key: Annotated[
        str, Query(description="Of this key alone, by its id; a key that operates sees others.")
    ] = "",
) -> dict[str, Any]:
    """Requests and tokens by key and day (UTC): the caller's own, or all for who operates."""
    mine = None if caller.operates or not caller.key else [caller.key]
    return usage_json(store, days=days, keys=mine if not key or mine else [key])


@router.post("/forget")
def forget(
    given: schemas.ForgetRequest, request: Request, store: StorePart, caller: CallerPart
) -> dict[str, Any]:
    """Erase what one key, or one user of the clients, asked: answers, and what was said of them.

    For keys with the role ``operate``.
    """
    if not (caller.key or request.app.state.local):
        raise RoleNeeded(
            "Without a key, answers are erased only by a service that listens on this machine "
            "alone.",
            hint="Make a key: fti keys create NAME --role operate",
        )
    return erase_asked(store, key=given.key, user=given.user, dry=given.dry_run).model_dump(
        mode="json"
    )
