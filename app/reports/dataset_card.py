"""The card of a dataset version as one HTML file: what it holds, how it came to be, samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fti.app.reports import charts
from fti.app.reports.markup import Markup, el, join, table
from fti.app.reports.page import card, page, section
from fti.store.types import (
    SPLITS,
    DatasetVersion,
    InstructionExample,
    Message,
    Passage,
    PreferenceExample,
    Split,
)

_MOST_TEXT = 700  # characters of a passage or turn in a sample
_MOST_SOURCES = 40

FILTERS = {
    "passage_in_one_split": "the passage stands in documents of one split only",
    "answer_not_in_passage": "the answer stands in the passage",
    "answer_long": "the answer has at most 15 words",
    "answer_pronoun": "the answer is more than a pronoun",
    "answer_empty": "the answer says something",
    "question_length": "the question has 4 to 30 words",
    "question_vague": "the question names what it is about",
    "answer_in_question": "the question does not give the answer away",
    "unbalanced": "brackets and quotation marks come in pairs",
    "unreadable": "it reads as words and figures",
    "evidence_thin": "the sentence that it was made from has content",
    "boilerplate": "the sentence is no page furniture",
    "same_words": "no question before it has the same words",
    "few_per_passage": "few from each passage",
    "share_of_kind": "each kind of question within its share",
    "exact_duplicate": "asked once",
    "near_duplicate": "nothing that resembles it has the same answer",
    "in_frozen_cases": "no frozen case asks it (train and validation)",
    "reachable": "the search finds its passage",
    "something_else_to_show": "there is another passage to show",
    "asks_nothing_personal": "it does not ask for personal data",
    "written_reply_is_json": "the model's reply could be read",
    "written_quote_not_in_passage": "the model's quote stands in the passage",
    "written_answer_not_supported": "the quote bears out the model's answer",
    "kind_with_an_answer": "the row asks for an answer from a passage",
    "another_passage_answers": "another passage suggests a wrong answer",
    "share_of_abstention": "abstentions within their share",
    "max_pairs": "within the greatest number of pairs",
}


def as_html(
    version: DatasetVersion,
    samples: Mapping[Split, Sequence[InstructionExample | PreferenceExample]],
    sources: Mapping[str, str],
) -> str:
    """The whole card as one file.

    Args:
        version: what it is of.
        samples: some of the rows, by split.
        sources: by document id, where the document came from.
    """
    title = f"Dataset {version.ref}"
    what = "preference pairs" if version.kind == "preference" else "instruction rows"
    total = sum(version.rows.values())
    documents = sum(map(len, version.documents.values()))
    return page(
        title,
        el("h1", title),
        el("p", f"{total} {what} from {documents} documents, built "
           f"{version.created_at:%Y-%m-%d %H:%M} UTC by run {version.run_id}. Digest "
           f"{version.digest}.", class_="lead"),
        _cards(version),
        section("What it holds", _holdings(version)),
        section("What was kept at each filter", _filters(version)),
        section("Lengths in tokens", _lengths(version)),
        section("Balance", _balance(version)),
        section("Where it comes from", _origin(version, sources)),
        section("Samples", *_samples(samples)),
        section("Settings", el("pre", json.dumps(dict(version.settings), indent=2,
                                                 ensure_ascii=False, default=str))),
        el("footer", "Training never sees the test split; documents that nearly repeat each other "
           "are in one split."),
    )  # fmt: skip


def _cards(version: DatasetVersion) -> Markup:
    tokens = version.statistics.get("tokens", {})
    shown = [
        card(f"{version.rows.get(split, 0)}", f"{split} rows",
             f"{len(version.documents.get(split, ()))} documents")
        for split in SPLITS
    ]  # fmt: skip
    prompt = tokens.get("prompt", {})
    if prompt.get("n"):
        shown.append(card(f"{prompt['median']}", "tokens per prompt (median)",
                          f"95th percentile {prompt['p95']}"))  # fmt: skip
    return el("div", *shown, class_="cards")


def _holdings(version: DatasetVersion) -> Markup:
    by_split = version.statistics.get("balance", {}).get("kinds_by_split") or {
        "all": dict(version.kinds)
    }
    colours = {
        kind: charts.PALETTE[n % len(charts.PALETTE)] for n, kind in enumerate(version.kinds)
    }
    return charts.figure(
        charts.stacks("Kinds of rows by split", {s: c for s, c in by_split.items() if c}, colours),
        "A bar per split, divided by the kind of row; the number behind it counts its rows.",
    )


def _filters(version: DatasetVersion) -> Markup:
    filters: Sequence[Mapping[str, Any]] = version.statistics.get("filters", ())
    if not filters:
        return _missing()
    rows: list[list[object]] = [
        [
            FILTERS.get(_plain(f["filter"]), str(f["filter"]).replace("_", " ")),
            f["considered"],
            f["kept"],
            "" if f["share"] is None else f"{100 * f['share']:.1f} %",
        ]
        for f in filters
    ]
    kept = {f["filter"]: float(f["kept"]) for f in filters if f["share"] not in (None, 1.0)}
    shares = {
        f["filter"]: f"{f['kept']} ({100 * f['share']:.0f} %)"
        for f in filters
        if f["share"] is not None
    }
    chart = charts.figure(
        charts.counts("Left after each filter that turned something away", kept, notes=shares),
        "How many were left behind each filter that turned something away, and the share of what "
        "it was shown. Sources join on the way, so that a number may rise.",
    )
    return join(
        chart if kept else None,
        el("div", table(["filter", "considered", "kept", "share"], rows), class_="wide"),
    )


def _plain(name: str) -> str:
    """A model's questions pass the same filters as others, under names of their own."""
    return name if name in FILTERS else name.removeprefix("written_")


def _lengths(version: DatasetVersion) -> Markup:
    tokens = version.statistics.get("tokens", {})
    parts: list[Markup] = []
    rows: list[list[object]] = []
    for name, found in tokens.items():
        if not isinstance(found, Mapping) or not found.get("n"):
            continue
        bins = [(_range(b), float(b["count"])) for b in found["histogram"]]
        parts.append(
            charts.figure(
                charts.histogram(f"Tokens of the {name}", bins, across=f"tokens of the {name}"),
                f"How many rows have so many tokens in their {name} part.",
            )
        )
        rows.append([name, *(found[k] for k in ("min", "mean", "median", "p95", "max", "sum"))])
    if not rows:
        return _missing()
    columns = ["part", "least", "mean", "median", "95th percentile", "most", "in all"]
    return join(el("p", f"Counted with: {tokens.get('tokenizer')}."), table(columns, rows), *parts)


def _range(one: Mapping[str, Any]) -> str:
    return f"{one['from']}" if one["from"] == one["to"] else f"{one['from']}–{one['to']}"


def _balance(version: DatasetVersion) -> Markup:
    balance = version.statistics.get("balance", {})
    named = {
        "styles": "How questions were made",
        "openings": "How questions begin",
        "gold_position": "Where the cited passage stands",
        "passages": "Passages shown",
        "chosen_abstains": "Whether the better side refuses",
    }
    parts: list[Markup] = []
    for key, caption in named.items():
        found = balance.get(key, {})
        values = found.get("counts", {})
        if not values:
            continue
        ordered = dict(sorted(values.items(), key=lambda item: -item[1]))
        even = found.get("evenness")
        parts.append(
            charts.figure(
                charts.counts(caption, ordered, notes={}),
                f"{caption}. Evenness {even} (1: all alike, 0: one alone).",
            )
        )
    spread = balance.get("rows_per_document", {})
    if spread.get("n"):
        parts.append(
            el("p", f"Rows per document: {spread['min']} to {spread['max']}, median "
               f"{spread['median']}, over {spread['documents']} documents.")
        )  # fmt: skip
    return join(*parts) if parts else _missing()


def _origin(version: DatasetVersion, sources: Mapping[str, str]) -> Markup:
    facts: list[list[object]] = [
        ["features version", version.features_version],
        ["embedder", version.embedder.id],
    ]
    for name, counts in version.statistics.get("sources", {}).items():
        facts.append([name, ", ".join(f"{k} {v}" for k, v in counts.items())])
    frozen = version.statistics.get("frozen_cases", {})
    if frozen:
        found = ", ".join(f"{k} {v}" for k, v in frozen.get("found", {}).items()) or "none"
        facts.append(["frozen case sets", ", ".join(frozen.get("sets", ())) or "there are none"])
        facts.append(["rows left out for them", found])
    masked = version.statistics.get("masked", {})
    facts.append(["masked", ", ".join(f"{k} {v}" for k, v in masked.items()) or "nothing"])
    lists = []
    for split in SPLITS:
        ids = version.documents.get(split, ())
        names = [sources.get(i, i) for i in ids[:_MOST_SOURCES]]
        more = f" and {len(ids) - len(names)} more" if len(ids) > len(names) else ""
        lists.append(
            el("details", el("summary", f"{len(ids)} documents of {split}"),
               el("p", ", ".join(names) + more))
        )  # fmt: skip
    return join(table(["what", "value"], facts, text_columns=2), *lists)


def _samples(
    samples: Mapping[Split, Sequence[InstructionExample | PreferenceExample]],
) -> list[Markup]:
    return [_sample(row) for split in SPLITS for row in samples.get(split, ())]


def _sample(row: InstructionExample | PreferenceExample) -> Markup:
    facts: list[tuple[str, object]] = []
    if isinstance(row, PreferenceExample):
        cited = {*row.chosen_citations}
        facts += [("better", row.chosen_response.strip()), ("worse", row.rejected_response.strip())]
    else:
        cited = {*row.citations}
        facts.append(("response", row.response.strip()))
        if row.style and row.style != row.kind:
            facts.append(("made by", row.style))
        if row.evidence:
            facts.append(("evidence", row.evidence))
    return el(
        "div",
        el("h3", el("span", row.kind, class_="tag kind"), row.question),
        *(_turn(turn) for turn in row.history),
        el("dl", *(join(el("dt", name), el("dd", value)) for name, value in facts)),
        el("details", el("summary", f"{len(row.passages)} passages, {row.split}, row {row.id}"),
           *(_passage(n, p, n in cited) for n, p in enumerate(row.passages, start=1)))
        if row.passages
        else None,
        class_="case",
    )  # fmt: skip


def _turn(turn: Message) -> Markup:
    return el("p", el("b", f"{turn.role}: "), _cut(turn.content))


def _passage(number: int, passage: Passage, cited: bool) -> Markup:
    return el(
        "div",
        el("small", f"[{number}] {passage.heading}"),
        el("p", _cut(passage.text)),
        class_="passage relevant" if cited else "passage",
    )


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT].rstrip() + " …"


def _missing() -> Markup:
    return el("p", "This version was built before such figures were kept, or without a tokenizer.")
