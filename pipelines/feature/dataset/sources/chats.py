"""Conversations from elsewhere: chat and instruction files, and datasets of the Hub.

Four forms are told apart by their columns: ``messages`` (OpenAI), ``conversations`` (ShareGPT),
``prompt`` with ``completion`` (texts or messages), and ``instruction`` with ``output`` (Alpaca).
Nothing of a dataset is run: scripts are not loaded, and a Hub dataset is one commit of it.

What their makers mean by them: an empty system turn is none, a developer is the system, content may
be a list of parts, and an answer of weight 0 (or ``train: false``) is there for what follows and is
not learned. Whoever uses a tool answers from what it said, and there are no tools here: such a
conversation is taken up to the question that led to the first use of one.
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
from fti.store.delimited import read_table
from fti.store.errors import InvalidCases, SourceNotFound
from fti.store.files.atomic import iter_lines
from fti.store.types import Message, Role, sha256_hex
from fti.store.versioned.versions import file_sha256

_FILES = {
    ".jsonl": "json", ".json": "json", ".ndjson": "json", ".parquet": "parquet", ".csv": "csv",
    ".tsv": "csv",
}  # fmt: skip
_HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@#]*))?(?:#(?P<split>[\w.-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ROLES: Mapping[str, Role] = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "chatgpt": "assistant", "ai": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_TOOLS = frozenset({"tool", "function", "function_call", "function_response", "observation",
                    "tool_call", "tool_response", "ipython"})  # fmt: skip
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
_COLUMNS = (
    ("messages",), ("conversations",), ("prompt", "completion"), ("instruction", "output"),
    ("instruction", "response"),
)  # fmt: skip
_FORMS = (
    "messages: [{role, content}, ...]; conversations: [{from, value}, ...]; prompt and completion; "
    "or instruction, input and output"
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns of user and assistant, and what names them within their source.

    ``unlearned`` are the places of answers that are there for what follows only.
    """

    turns: tuple[Message, ...]
    origin: str
    unlearned: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Turn:
    role: Role
    content: str
    learned: bool = True
    tool: bool = False  # uses a tool, or is what one said


@dataclass(frozen=True, slots=True)
class _Taken:
    turns: tuple[_Turn, ...]
    cut: bool


_NO_FORM = "none_of_the_forms"


class _Unusable(Exception):
    """Why a row of a source is no conversation, in a word for the report."""


def source_digest(source: str) -> str:
    """sha256 of what ``load_chats`` reads of a source; a Hub dataset is pinned by its name.

    Raises:
        SourceNotFound: there is no such file.
    """
    path = Path(source).expanduser()
    if not path.exists():
        return sha256_hex(source)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    lines = (f"{each.relative_to(path)} {file_sha256(each)}" for each in files)
    return sha256_hex("\n".join(lines))


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
    columns: list[str] = []
    for number, row in enumerate(rows, start=1):
        tally.imported["rows"] += 1
        try:
            taken = _before_tools(_turns(row))
        except _Unusable as reason:
            unusable[str(reason)] += 1
            if str(reason) == _NO_FORM and number == 1:
                columns = sorted(map(str, row))
            continue
        if taken.cut:
            tally.imported["cut_at_a_tool"] += 1
        places = {at for at, turn in enumerate(taken.turns) if not turn.learned}
        messages = tuple(Message(role=t.role, content=t.content) for t in taken.turns)
        found.append(Conversation(messages, f"{name}#{number}", frozenset(places)))
    tally.imported.update(unusable)
    tally.imported["conversations"] += len(found)
    if not found and columns and set(unusable) == {_NO_FORM}:
        raise InvalidCases(
            f"The rows of {name!r} have the columns {columns}, which are none of the forms that "
            "can be imported.",
            hint=f"A row has {_FORMS}.",
        )
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
        numbered = [(n, m) for n, m in enumerate(conversation.turns) if m.role != "system"]
        turns = [message for _, message in numbered]
        tally.imported["system_turns_left_out"] += len(conversation.turns) - len(turns)
        for at, (number, turn) in enumerate(numbered):
            if turn.role != "assistant":
                continue
            if number in conversation.unlearned:
                tally.imported["answers_of_weight_0"] += 1
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
    tally.imported["answers"] += len(asked)
    return asked


# Reading


def _local(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.is_dir():
        if not any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            raise InvalidCases(
                f"{str(path)!r} is a folder that datasets.save_to_disk did not write.",
                hint=f"Name a file of it: {', '.join(_FILES)}.",
            )
        from datasets import DatasetDict, load_from_disk

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
    if path.suffix.lower() == ".json":
        return iter(_json_rows(path))
    if builder == "json":
        return _json_lines(path)
    if builder == "csv":
        return _table_rows(path)
    from datasets import Dataset, load_dataset

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


def _json_rows(path: Path) -> list[Mapping[str, Any]]:
    """Rows of a file that is one value: a list of them, one, or an object that holds the list."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return list(_json_lines(path))  # a line each, whatever the file's name says
    if isinstance(value, dict) and not any(set(form) <= value.keys() for form in _COLUMNS):
        lists = [v for v in value.values() if isinstance(v, list) and v]
        value = lists[0] if len(lists) == 1 else value
    rows = value if isinstance(value, list) else [value]
    return [_row(row, path, number) for number, row in enumerate(rows, start=1)]


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(iter_lines(path), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidCases(
                f"Row {number} of {str(path)!r} is not JSON: {error}.", hint="Mend or remove it."
            ) from error
        yield _row(row, path, number)


def _row(row: Any, path: Path, number: int) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise InvalidCases(
            f"Row {number} of {str(path)!r} is {type(row).__name__}, not an object.",
            hint=f"A row has {_FORMS}.",
        )
    return row


def _table_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a table; lists of turns stand in its cells as JSON."""
    for needs in _COLUMNS:
        try:
            rows = list(read_table(path, needs=needs))
            break
        except InvalidCases:
            continue
    else:
        rows = list(read_table(path))
    for _, row in rows:
        yield {name: _value(cell) for name, cell in row.items()}


def _value(cell: str | None) -> Any:
    if cell is None or not cell.lstrip().startswith("[{"):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


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


def _turns(row: Mapping[str, Any]) -> tuple[_Turn, ...]:
    if row.get("messages") is not None:
        return _listed(row["messages"])
    if row.get("conversations") is not None:
        return _listed(row["conversations"])
    if "prompt" in row and "completion" in row:
        return (*_side(row["prompt"], "user"), *_side(row["completion"], "assistant"))
    if "instruction" in row and ("output" in row or "response" in row):
        more = row.get("input") or row.get("context") or ""
        asked = "\n\n".join(_text(part) for part in (row["instruction"], more) if part)
        answer = row["output"] if "output" in row else row["response"]
        return (*_side(asked, "user"), *_side(answer, "assistant"))
    raise _Unusable(_NO_FORM)


def _before_tools(turns: tuple[_Turn, ...]) -> _Taken:
    """The turns up to the question that led to the first use of a tool."""
    first = next((at for at, turn in enumerate(turns) if turn.tool), None)
    kept = turns
    if first is not None:
        while first and turns[first - 1].role != "assistant":
            first -= 1
        kept = turns[:first]
    if not any(turn.role == "user" for turn in kept):
        raise _Unusable("no_question" if first is None else "only_with_tools")
    if not any(turn.role == "assistant" for turn in kept):
        raise _Unusable("no_answer" if first is None else "only_with_tools")
    return _Taken(kept, cut=first is not None)


def _side(value: Any, role: Role) -> tuple[_Turn, ...]:
    return _listed(value) if isinstance(value, list) else (_spoken(role, _text(value)),)


def _listed(turns: Any) -> tuple[_Turn, ...]:
    if not isinstance(turns, list):
        raise _Unusable("no_list_of_turns")
    found: list[_Turn] = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise _Unusable("no_list_of_turns")
        said = str(turn.get("role") or turn.get("from")).casefold()
        if said in _TOOLS or turn.get("tool_calls") or turn.get("function_call"):
            found.append(_Turn("assistant", "", tool=True))
            continue
        role = _ROLES.get(said)
        if role is None:
            raise _Unusable("unknown_role")
        content = turn.get("content") if "content" in turn else turn.get("value")
        if content is None and isinstance(turn.get("refusal"), str):
            content = turn["refusal"]
        if role == "system":
            # Without words it says nothing, and is there since a form has a place for it.
            if content is None or not (text := _text(content)).strip():
                continue
            found.append(_Turn(role, text))
            continue
        found.append(_spoken(role, _text(content), learned=_is_learned(turn)))
    return tuple(found)


def _is_learned(turn: Mapping[str, Any]) -> bool:
    """Whether a model is to say this turn, and not only to read it."""
    weight, train = turn.get("weight"), turn.get("train")
    if weight is not None and (not isinstance(weight, int | float) or weight < 0):
        raise _Unusable("no_such_weight")
    return weight != 0 and train is not False


def _spoken(role: Role, text: str, *, learned: bool = True) -> _Turn:
    if not text.strip():
        raise _Unusable("empty_turn")
    return _Turn(role, text, learned)


def _text(value: Any) -> str:
    """The text of a turn, which may come as a list of parts that are text."""
    if isinstance(value, list):
        return "".join(_part(part) for part in value)
    if not isinstance(value, str):
        raise _Unusable("empty_turn" if value is None else "not_text")
    return value


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise _Unusable("not_text")
    kind = part.get("type") or "text"
    text = part.get("refusal" if kind == "refusal" else "text")
    if kind not in _TEXT_PARTS or not isinstance(text, str):
        raise _Unusable("not_text")  # pictures and sound, without which the rest is half
    return text
