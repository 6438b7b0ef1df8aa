"""JSON and JSON Lines: each record becomes text, with its title as a heading.

A JSON Lines file in which every record has ``_id`` and ``text`` is a BEIR corpus: each record
becomes a document of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fti.pipelines.feature.reading.readers.base import (
    MAX_METADATA_KEYS,
    Extracted,
    SourcesConfig,
    facts,
)
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.plain import encoding_fact
from fti.store.errors import ExtractionError
from fti.store.page_starts import PAGE_STARTS
from fti.store.plain_text import clean, clean_line

_TITLES = ("title", "name", "heading", "subject", "question", "headline")
_TEXTS = ("text", "content", "body", "abstract", "answer", "description", "summary")
_MAX_WARNED_LINES = 5
_MAX_DEPTH = 32
_BEIR_KEYS = frozenset({"_id", "title", "text", "metadata"})


def read_json_lines(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """One JSON value on every line.

    Lines that cannot be read are left out and named in ``metadata["warnings"]``.

    Raises:
        ExtractionError: no line can be read.
    """
    text, encoding = decode(data)
    records: list[Any] = []
    raw: list[str] = []
    broken: list[str] = []
    # Only a newline separates records: others, such as U+2028, may stand inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(_parse(line))
            raw.append(line.strip())
        except ValueError as error:
            broken.append(f"line {number} is not JSON: {_reason(error)}")
    if broken and not records:
        raise ExtractionError(broken[0], hint="Every line must be one JSON value.")
    more = (
        f"; and {len(broken) - _MAX_WARNED_LINES} more" if len(broken) > _MAX_WARNED_LINES else ""
    )
    warnings = facts(warnings="; ".join(broken[:_MAX_WARNED_LINES]) + more)
    if config.json_text:
        return _documents(records, config.json_text, warnings)
    if records and all(map(_is_beir, records)):
        return [_beir(r, line, warnings) for r, line in zip(records, raw, strict=True)]
    metadata = facts(records=len(records)) | encoding_fact(encoding) | warnings
    return [Extracted(_together(records), metadata=metadata)]


def read_json(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """A JSON value: a list of records, or an object rendered as ``key: value`` lines."""
    text, encoding = decode(data)
    if not text.strip():
        return [Extracted("", empty_reason="nothing but white space")]
    try:
        value = _parse(text)
    except ValueError as error:
        raise ExtractionError(f"the file is not JSON: {_reason(error)}") from error
    if config.json_text:
        return _documents(value if isinstance(value, list) else [value], config.json_text, {})
    title = ""
    if isinstance(value, list):
        metadata, rendered = facts(records=len(value)), _together(value)
    else:
        title = _first(value, _TITLES)[1] if isinstance(value, dict) else ""
        metadata, rendered = {}, _record(value, level=1)
    return [Extracted(rendered, title=title, metadata=metadata | encoding_fact(encoding))]


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return str(error)


def _is_beir(record: object) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("_id"), str | int)
        and isinstance(record.get("text"), str)
        and record.keys() <= _BEIR_KEYS
    )


def _beir(record: Mapping[str, Any], line: str, warnings: dict[str, str]) -> Extracted:
    title = record.get("title")
    found = record.get("metadata")
    extra = (
        {k: v for k, v in found.items() if isinstance(v, str) and k != PAGE_STARTS}
        if isinstance(found, dict)
        else {}
    )
    return Extracted(
        record["text"],
        title=title if isinstance(title, str) else "",
        metadata=facts(**extra) | warnings,
        key=str(record["_id"]),
        record=line.encode("utf-8", "surrogatepass"),
    )


def _documents(records: Sequence[Any], field: str, warnings: Mapping[str, str]) -> list[Extracted]:
    """A document for each record, from the text in ``field``.

    Its key is what the record calls itself, where that is one of its own; else its number. Records
    without the text are documents without text, and say so.

    Raises:
        ExtractionError: no record has the field.
    """
    texts = [_at(record, field.split(".")) for record in records]
    if records and not any(isinstance(text, str) for text in texts):
        names = sorted(records[0]) if isinstance(records[0], dict) else []
        raise ExtractionError(
            f"no record has a text in {field!r} (json_text)",
            hint=f"The first has: {', '.join(map(repr, names[:12]))}." if names else "",
        )
    names = [_own_name(record) for record in records]
    counts = Counter(names)
    found = []
    for number, (record, text, name) in enumerate(zip(records, texts, names, strict=True), 1):
        rest = record if isinstance(record, dict) else {}
        title_key, title = _first({k: v for k, v in rest.items() if k != field}, _TITLES)
        plain = {
            key: value
            for key, value in list(rest.items())[:MAX_METADATA_KEYS]
            if key not in (field, title_key, PAGE_STARTS) and not isinstance(value, dict | list)
        }
        metadata = facts(**{str(k): _scalar(v) for k, v in plain.items()})
        found.append(
            Extracted(
                text if isinstance(text, str) else "",
                title=title,
                metadata={**metadata, **warnings},
                key=name if name and counts[name] == 1 else str(number),
                record=json.dumps(record, sort_keys=True).encode("utf-8"),
                empty_reason="" if isinstance(text, str) else f"no text in {field!r}",
            )
        )
    return found


def _at(record: object, path: Sequence[str]) -> object:
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _own_name(record: object) -> str:
    found = (record.get("_id", record.get("id")) if isinstance(record, dict) else None) or ""
    return str(found) if isinstance(found, str | int) else ""


def _together(records: Sequence[Any]) -> str:
    return "\n\n".join(text for record in records if (text := _record(record, level=2)))


def _record(value: Any, *, level: int) -> str:
    """A record as Markdown: its title as a heading, its texts as paragraphs, the rest as lines."""
    if not isinstance(value, dict):
        return "\n".join(_lines("", value, 0))
    title_key, title = _first(value, _TITLES)
    parts = [f"{'#' * level} {clean_line(title)}"] if title else []
    texts = [key for key in _TEXTS if isinstance(value.get(key), str) and value[key].strip()]
    parts += [clean(value[key]) for key in texts]
    rest = {k: v for k, v in value.items() if k != title_key and k not in texts}
    lines = list(_lines("", rest, 0))
    return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, str]:
    """The first of ``keys`` whose value is a text of one line, and that value."""
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and value.strip() and "\n" not in value.strip():
            return key, value.strip()
    return "", ""


def _lines(name: str, value: Any, depth: int) -> Iterator[str]:
    """``name: value`` lines; nested names joined by dots, lists of plain values by commas."""
    if depth > _MAX_DEPTH:
        raise ExtractionError(f"the JSON is nested deeper than {_MAX_DEPTH} levels at {name!r}")
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _lines(f"{name}.{key}" if name else str(key), item, depth + 1)
    elif isinstance(value, list):
        plain = [_scalar(item) for item in value if not isinstance(item, dict | list)]
        if any(plain):
            yield f"{name}: {', '.join(filter(None, plain))}" if name else ", ".join(plain)
        for i, item in enumerate(value, start=1):
            if isinstance(item, dict | list):
                yield from _lines(f"{name}.{i}" if name else str(i), item, depth + 1)
    elif text := _scalar(value):
        yield f"{name}: {text}" if name else text


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) else json.dumps(value)
