"""Conversations from elsewhere: chat and instruction files, and datasets of the Hub.

Four forms are told apart by their columns: ``messages`` (OpenAI), ``conversations`` (ShareGPT),
``prompt`` with ``completion`` (texts or messages), and ``instruction`` with ``output`` (Alpaca).
Nothing of a dataset is run: scripts are not loaded, and a Hub dataset is one commit of it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti.pipelines.engines.weights import LOAD_ERRORS
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.splits import split_groups
from fti.pipelines.feature.ingesting.resemblance import near_duplicate_groups
from fti.store.errors import InvalidCases, SourceNotFound
from fti.store.files.atomic import iter_lines
from fti.store.types import Message, Role, sha256_hex

_FILES = {
    ".jsonl": "json", ".json": "json", ".ndjson": "json", ".parquet": "parquet", ".csv": "csv",
}  # fmt: skip
_HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@#]*))?(?:#(?P<split>[\w.-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ROLES: Mapping[str, Role] = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "system": "system",
}  # fmt: skip
_FORMS = (
    "messages: [{role, content}, ...]; conversations: [{from, value}, ...]; prompt and completion; "
    "or instruction, input and output"
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns that end with an assistant's, and what names them within their source."""

    turns: tuple[Message, ...]
    origin: str


class _Unusable(Exception):
    """Why a row of a source is no conversation, in a word for the report."""


def load_chats(source: str, tally: Tally) -> list[Conversation]:
    """Read a file, a folder of ``save_to_disk``, or a Hub dataset as ``OWNER/NAME@COMMIT[#split]``.

    Rows that are no conversation are counted, not loaded.

    Raises:
        SourceNotFound: there is no such file, or the Hub dataset is not to be had from here.
        InvalidCases: a Hub dataset without its commit, a file that cannot be read (names the line),
            or columns of none of the forms; nothing usable in it.
    """
    path = Path(source).expanduser()
    if path.exists():
        rows, name = _local(path), path.name
    else:
        rows, name = _from_hub(source), source
    found: list[Conversation] = []
    unusable: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        try:
            found.append(Conversation(_turns(row, name), f"{name}#{number}"))
        except _Unusable as reason:
            unusable[str(reason)] += 1
    tally.imported.update(unusable)
    tally.imported["conversations"] += len(found)
    if not found:
        why = ", ".join(f"{reason} {count}" for reason, count in unusable.most_common())
        raise InvalidCases(
            f"{source!r} holds no conversation that can be used; left out: {why or 'no rows'}.",
            hint=f"A row has {_FORMS}.",
        )
    return found


def from_chats(
    conversations: Sequence[Conversation], config: DatasetConfig, tally: Tally
) -> list[Asked]:
    """A row per answer of an assistant, with the turns before it; near-duplicates in one split.

    A system turn is left out: the wording around a question belongs to the model's contract.
    """
    texts = ["\n".join(m.content for m in c.turns) for c in conversations]
    ids = [f"{n}\n{text}" for n, text in enumerate(texts)]
    groups = near_duplicate_groups(texts, threshold=config.near_duplicate)
    place = {
        key: sha256_hex(f"{config.seed}\n{text}") for key, text in zip(ids, texts, strict=True)
    }
    split_of = split_groups([[ids[i] for i in group] for group in groups], place, config)
    asked: list[Asked] = []
    for key, conversation in zip(ids, conversations, strict=True):
        turns = [m for m in conversation.turns if m.role != "system"]
        tally.imported["system_turns_left_out"] += len(conversation.turns) - len(turns)
        for at, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            if at == 0 or turns[at - 1].role != "user":
                tally.imported["answers_without_question"] += 1
                continue
            asked.append(
                Asked(
                    kind="chat",
                    question=turns[at - 1].content.strip(),
                    answer=turn.content.strip(),
                    document="",
                    chunks=(),
                    split=split_of[key],
                    tag=conversation.origin,
                    history=tuple(turns[: at - 1]),
                    shown=(),
                )
            )
    return asked


# Reading


def _local(path: Path) -> Iterator[Mapping[str, Any]]:
    from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

    if path.is_dir():
        if not any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            raise InvalidCases(
                f"{str(path)!r} is a folder that datasets.save_to_disk did not write.",
                hint=f"Name a file of it: {', '.join(_FILES)}.",
            )
        with _quiet():
            loaded = load_from_disk(str(path), keep_in_memory=True)
        parts = loaded.values() if isinstance(loaded, DatasetDict) else [loaded]
        return (row for part in parts for row in part)
    builder = _FILES.get(path.suffix.lower())
    if builder is None:
        raise InvalidCases(
            f"{str(path)!r} is no file that conversations are read from.",
            hint=f"Name one of these kinds: {', '.join(_FILES)}, or a folder of save_to_disk.",
        )
    if builder == "json":
        _check_lines(path)
    # The library's cache of a local file would keep a copy of it in the user's home.
    with tempfile.TemporaryDirectory(prefix="fti-import-") as cache, _quiet():
        try:
            loaded = load_dataset(
                builder, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True
            )
        except LOAD_ERRORS as error:  # what its parsers raise
            raise InvalidCases(
                f"{str(path)!r} cannot be read as {builder}: {_innermost(error)}.",
                hint="Its rows must have the same columns, of the same types.",
            ) from error
        assert isinstance(loaded, Dataset)
        return iter(loaded.to_list())


def _check_lines(path: Path) -> None:
    """Name the line that is no JSON; the library says only that there is one."""
    if path.suffix.lower() == ".json":
        return  # may be one value over many lines
    for number, line in enumerate(iter_lines(path), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidCases(
                f"Row {number} of {str(path)!r} is not JSON: {error}.", hint="Mend or remove it."
            ) from error
        if not isinstance(row, dict):
            raise InvalidCases(
                f"Row {number} of {str(path)!r} is {type(row).__name__}, not an object.",
                hint=f"A row has {_FORMS}.",
            )


def _from_hub(source: str) -> Iterator[Mapping[str, Any]]:
    match = _HUB.fullmatch(source)
    if match is None or source.startswith((".", "/", "~")):
        raise SourceNotFound(
            f"There is no file or folder {source!r}, and it is no Hub dataset.",
            hint="Name an existing file, or OWNER/NAME@COMMIT of a dataset of the Hub.",
        )
    name, revision, split = match["id"], match["revision"] or "", match["split"] or "train"
    if not _COMMIT.fullmatch(revision):
        raise InvalidCases(
            f"There is no file {source!r}, and the Hub dataset {name!r} is not pinned to a commit"
            + (f": {revision!r} may move." if revision else "."),
            hint=f"Write {name}@ and the 40 hex digits of the commit, from its page of files.",
        )
    from datasets import load_dataset

    with _quiet():
        try:
            loaded = load_dataset(name, revision=revision, split=split)
        except LOAD_ERRORS as error:  # no connection, no such dataset, an unknown split
            raise SourceNotFound(
                f"The dataset {name!r} at {revision[:12]} (split {split!r}) is not on this machine "
                f"and cannot be fetched: {_innermost(error)}.",
                hint="Fetch it where the Hub can be reached, and import the folder that "
                "save_to_disk writes; HF_HUB_OFFLINE=1 forbids fetching.",
            ) from error
    return iter(loaded)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars: a command's own are shown."""
    from datasets import disable_progress_bars, enable_progress_bars, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:200] if first else 'no reason given'}".rstrip(".")


# Rows to turns


def _turns(row: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    if row.get("messages") is not None:
        turns = _listed(row["messages"])
    elif row.get("conversations") is not None:
        turns = _listed(row["conversations"])
    elif "prompt" in row and "completion" in row:
        turns = (*_side(row["prompt"], "user"), *_side(row["completion"], "assistant"))
    elif "instruction" in row and ("output" in row or "response" in row):
        more = row.get("input") or row.get("context") or ""
        asked = "\n\n".join(_text(part) for part in (row["instruction"], more) if part)
        answer = row["output"] if "output" in row else row["response"]
        turns = (*_side(asked, "user"), *_side(answer, "assistant"))
    else:
        raise InvalidCases(
            f"The rows of {name!r} have the columns {sorted(row)}, which are none of the forms "
            "that can be imported.",
            hint=f"A row has {_FORMS}.",
        )
    if not any(m.role == "user" for m in turns):
        raise _Unusable("no_question")
    if not any(m.role == "assistant" for m in turns):
        raise _Unusable("no_answer")
    return turns


def _side(value: Any, role: Role) -> tuple[Message, ...]:
    return _listed(value) if isinstance(value, list) else _message(role, value)


def _listed(turns: Any) -> tuple[Message, ...]:
    if not isinstance(turns, list):
        raise _Unusable("no_list_of_turns")
    found: list[Message] = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise _Unusable("no_list_of_turns")
        said = turn.get("role") or turn.get("from")
        role = _ROLES.get(str(said).casefold())
        if role is None:
            raise _Unusable("unknown_role")  # a tool's turns mean nothing without the tool
        found += _message(role, turn.get("content") if "content" in turn else turn.get("value"))
    return tuple(found)


def _message(role: Role, value: Any) -> tuple[Message, ...]:
    text = _text(value)
    if not text.strip():
        raise _Unusable("empty_turn")
    return (Message(role=role, content=text),)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unusable("empty_turn" if value is None else "not_text")
    return value
