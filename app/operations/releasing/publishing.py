"""A model version pushed to a repository of a model hub, through huggingface_hub.

Where to and as whom are huggingface_hub's own business: ``HF_ENDPOINT``, ``HF_TOKEN`` or a stored
login. The token is read by it alone, and cut out of whatever it says when something fails.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fti.store.errors import HubError, InvalidName
from fti.store.types import Value
from fti.store.versioned.model_version import CARD_FILE

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion

PushFormat = Literal["adapter", "merged"]

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_ID = re.compile(r'base_model: "[\w.-]+/[\w.-]+"')


class Pushed(Value):
    """What was pushed: the commit that holds it, and where that is seen."""

    ref: str
    repo: str
    commit: str
    url: str
    files: tuple[str, ...]


def push(
    settings: Settings,
    store: Store,
    version: ModelVersion,
    *,
    repo: str,
    format: PushFormat = "adapter",
    private: bool = True,
    branch: str | None = None,
) -> Pushed:
    """Push a verified version in one commit; the repository is made where there is none.

    Args:
        settings: the profile; ``merged`` needs the base that the version was trained from.
        store: where the version lies.
        version: what to push.
        repo: ``OWNER/NAME``.
        format: ``adapter`` pushes the version as it is (of an embedder: the whole model),
            ``merged`` a whole model that transformers alone loads.
        private: whether a repository that is made is private.
        branch: to commit to; None: the main one.

    Raises:
        InvalidName: ``repo`` is not OWNER/NAME.
        IntegrityError: the version is not as published.
        ContractError: an embedder is to be merged, or the profile's base is another.
        HubError: the hub cannot be reached, or does not let this be done.
    """
    if not _REPO.fullmatch(repo):
        raise InvalidName(
            f"{repo!r} is no repository of a hub.", hint="Write OWNER/NAME: --repo acme/reader"
        )
    with tempfile.TemporaryDirectory(prefix="fti-push-") as made:
        folder = Path(made) / "model"
        if format == "merged":
            from fti.app.operations.releasing.exporting import export_merged

            _ = version.prompt_contract  # an embedder is whole already
            export_merged(settings, store, version, out=folder)
        else:
            store.models.export(version.ref, folder)
        _fit_card(folder / CARD_FILE)
        with _hub_errors(repo):
            from huggingface_hub import HfApi

            hub = HfApi(library_name="fti-llm")
            hub.create_repo(repo, private=private, exist_ok=True)
            if branch is not None:
                hub.create_branch(repo, branch=branch, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=branch,
                commit_message=f"Add {version.ref}",
            )
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return Pushed(
        ref=version.ref,
        repo=repo,
        commit=str(commit.oid),
        url=str(commit.commit_url),
        files=tuple(files),
    )


def _fit_card(path: Path) -> None:
    """Leave a base out of the card's head that no hub has: a hub refuses such a card."""
    if not path.is_file():
        return
    text = path.read_text("utf-8")
    kept = [
        line
        for line in text.splitlines(keepends=True)
        if not line.startswith("base_model:") or _HUB_ID.fullmatch(line.strip())
    ]
    path.write_text("".join(kept), "utf-8")


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Name what a hub refuses, with what to do."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except HFValidationError as error:
        raise InvalidName(f"{repo!r} is no repository of a hub: {error}") from error
    except LocalTokenNotFoundError as error:
        raise HubError(
            "There is no token to push with.", hint="Set HF_TOKEN, or run: hf auth login"
        ) from error
    except OfflineModeIsEnabled as error:
        raise HubError(
            "huggingface_hub is told to stay offline.", hint="Unset HF_HUB_OFFLINE to push."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        hint = {
            401: "Set HF_TOKEN to a valid token with write access, or run: hf auth login",
            403: f"The token may not write to {repo!r}: use one with write access to it.",
            404: "Name a repository of yours, OWNER/NAME.",
            409: "Somebody else pushed meanwhile; push again.",
        }.get(status, "Try again later.")
        said = _without_token(error.server_message or "")
        raise HubError(
            f"The hub {constants.ENDPOINT} answered {status} to pushing {repo!r}"
            + (f": {said}" if said else "."),
            hint=hint,
        ) from None  # its text may hold what was sent
    except (httpx2.HTTPError, OSError) as error:
        raise HubError(
            f"The hub {constants.ENDPOINT} cannot be reached: {_without_token(str(error))}",
            hint="Check the network and HF_ENDPOINT.",
        ) from None
    except ValueError as error:  # what the hub says of a card or of an object
        raise HubError(
            f"The hub {constants.ENDPOINT} refused {repo!r}: {_without_token(str(error))}"
        ) from None


def _without_token(text: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    clean = text.replace(token, "***") if token else text
    return " ".join(clean.split())[:500]
