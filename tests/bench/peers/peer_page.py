"""The page and the plot of what was measured: ``docs/peers.md`` and ``docs/peers.svg``."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from fti.store.proof.significance import differences
from tests.bench.peers.peer_scores import reciprocal

NAMES = {
    "fti": "fti",
    "txtai": "txtai",
    "langchain": "LangChain, Chroma",
    "llamaindex": "LlamaIndex, LanceDB",
    "haystack": "Haystack",
}
OURS = "fti"

_SMALLER = (
    "fti ends its chunks where sentences, paragraphs and headings end and made 2,097 of these "
    "articles, each embedded with its title; txtai made 1,674, LangChain 1,919, LlamaIndex 1,613. "
    "By the chunk fti is first: 33.7 ms, the others 35.3 to 38.6."
)
_ONE_CORE = (
    "fti embeds a lone question on one core, so that other work on the machine does not hold it up "
    "([Under load](measured.md#under-load)); the others use all. In processor time it is first: "
    "16.3 ms by vectors and 19.8 for a hybrid search, LangChain 29.1 and 36.7, txtai 33.2."
)
#: Why fti is not first, by the row: a sentence that a person has written after looking into it, in
#: the run of that day. After another run, look again.
LOOKED_INTO = "2026-12-01"
WHY: dict[str, str] = {
    "ingest, s": _SMALLER,
    "processor time of it, s": "as above: smaller chunks, and more of them.",
    "hybrid as shipped: p50, ms": _ONE_CORE,
    "hybrid as shipped: p95, ms": "as above: one core instead of two.",
    "vectors: p50, ms": "as above: one core instead of two.",
    "vectors: p95, ms": "as above: one core instead of two.",
    "vectors: recall@1": "not beyond chance: -0.027 [-0.057, +0.003] in pairs.",
    "vectors: recall@5": "not beyond chance: -0.002 [-0.022, +0.018] in pairs.",
    "vectors: MRR@10": "not beyond chance: -0.015 [-0.034, +0.004] in pairs.",
    "words: p50, ms": "by 0.1 ms.",
    "words: recall@5": "not beyond chance: -0.008 [-0.027, +0.010] in pairs.",
}

Measured = Mapping[str, Any]
Value = float | None


@dataclass(frozen=True)
class Row:
    """A measure of every peer.

    Attributes:
        name: as the table says it.
        value: of a peer; None where it has none, not a number where it ended with an error.
        digits: behind the point.
        more: whether more is better.
        differs: by what share two values must differ to be told apart; times vary from run to run.
    """

    name: str
    value: Callable[[Measured], Value]
    digits: int = 1
    more: bool = False
    differs: float = 0.0

    def first(self, peers: Mapping[str, Measured]) -> list[str]:
        """The peers that are best, those within ``differs`` of the best one with it."""
        all_of_them = {name: self.value(peer) for name, peer in peers.items()}
        values = {n: v for n, v in all_of_them.items() if v is not None and not math.isnan(v)}
        if not values:
            return []
        if self.more:
            best = max(values.values())
            return [n for n, v in values.items() if round(v, 4) >= round(best, 4)]
        best = min(values.values())
        return [n for n, v in values.items() if v <= best * (1 + self.differs) + 1e-9]

    def cell(self, peer: Measured, *, best: bool) -> str:
        """As the table shows it."""
        value = self.value(peer)
        if value is None:
            return ""
        if math.isnan(value):
            return "failed"
        text = f"{value:,.{self.digits}f}"
        return f"**{text}**" if best else text


def _of(phase: str, field: str) -> Callable[[Measured], Value]:
    def value(peer: Measured) -> Value:
        found = peer[phase]
        return math.nan if "failed" in found and field == "wall_s" else found[field]

    return value


def _asked(setting: str, field: str) -> Callable[[Measured], Value]:
    def value(peer: Measured) -> Value:
        name = peer["settings"]["best"] if setting == "best" else setting
        found = peer["asked"].get(name)
        return None if found is None else found[field]

    return value


KEEPING = (
    Row("ingest, s", _of("ingest", "wall_s"), differs=0.02),
    Row("processor time of it, s", _of("ingest", "cpu_s"), differs=0.02),
    Row("again, unchanged, s", _of("again", "wall_s"), 2, differs=0.02),
    Row("doubled chunks after it", _of("again", "doubled"), 0),
    Row("one article edited, s", _of("edit", "wall_s"), 2, differs=0.02),
    Row("stale chunks after the edit", _of("edit", "stale"), 0),
    Row("doubled chunks after the edit", _of("edit", "doubled"), 0),
    Row("one article removed, s", _of("remove", "wall_s"), 2, differs=0.02),
    Row("stale chunks after the removal", _of("remove", "stale"), 0),
)
MEMORY = (
    Row("memory, ingest, MB", _of("ingest", "peak_mb"), 0, differs=0.02),
    Row("memory, questions, MB", lambda peer: peer["asking_mb"], 0, differs=0.02),
    Row("start and load, s", lambda peer: peer["start_s"], differs=0.02),
)


def asking(setting: str, said: str) -> tuple[Row, ...]:
    """The rows of one way of asking."""
    return (
        Row(f"{said}: p50, ms", _asked(setting, "p50"), differs=0.02),
        Row(f"{said}: p95, ms", _asked(setting, "p95"), differs=0.02),
        Row(f"{said}: recall@1", _asked(setting, "recall@1"), 3, more=True),
        Row(f"{said}: recall@5", _asked(setting, "recall@5"), 3, more=True),
        Row(f"{said}: MRR@10", _asked(setting, "mrr@10"), 3, more=True),
    )


BEST = asking("best", "best hybrid")
SHIPPED = asking("hybrid", "hybrid as shipped")
SINGLE = (*asking("vector", "vectors"), *asking("text", "words"))
TABLES = (KEEPING, BEST, SHIPPED, SINGLE, MEMORY)


def write_page(found: Measured, docs: Path) -> list[str]:
    """Write both files; the rows where fti is not first and no reason is given."""
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "peers.svg").write_text(drawn(found), "utf-8")
    (docs / "peers.md").write_text(page(found), "utf-8")
    return [name for name in behind(found["peers"]) if name not in WHY]


def behind(peers: Mapping[str, Measured]) -> list[str]:
    """The rows where fti is not first."""
    rows = [row for table in TABLES for row in table]
    return [
        row.name
        for row in rows
        if OURS in peers and (first := row.first(peers)) and OURS not in first
    ]


def table(rows: Sequence[Row], peers: Mapping[str, Measured]) -> str:
    """A Markdown table: a row a measure, a column a peer, the best in bold."""
    lines = [
        "| | " + " | ".join(NAMES[name] for name in peers) + " |",
        "|---|" + "---|" * len(peers),
    ]
    for row in rows:
        first = row.first(peers)
        if first:
            cells = [row.cell(peer, best=name in first) for name, peer in peers.items()]
            lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(found: Measured) -> str:
    """``docs/peers.md``."""
    peers, machine = found["peers"], found["machine"]
    versions = "; ".join(
        f"{NAMES[name]}: " + ", ".join(f"{p} {v}" for p, v in peer["versions"].items())
        for name, peer in peers.items()
    )
    late = behind(peers)
    parts = [
        "# Peers",
        said(
            f"""fti and four other ways to build retrieval, in one run on one machine:
            {found["date"]}, {machine["cores"]} cores ({machine["processor"] or machine["system"]}),
            {machine["memory_gb"]} GB, Python {machine["python"]}, load {machine["load_before"]}
            before the run. This command makes each peer's environment and writes the page, its
            plot and [the figures](../tests/bench/peers/measured.json):"""
        ),
        "```sh\nmake bench-peers DATA=FOLDER\n```",
        *(
            ["**This is a limited run that tries the program out. It measures nothing.**"]
            if found["limited"]
            else []
        ),
        "![Time, latency and quality of each peer](peers.svg)",
        said(f"{versions}."),
        "## What was done",
        said(
            f"""{found["articles"]} SQuAD articles, the same all-MiniLM-L6-v2 weights in fp32 for
            all, no network. Every peer has [a module of its own](../tests/bench/peers/) that
            follows that project's documentation, an environment of its own with pinned packages,
            and a process of its own for each job. Times begin when the model is loaded and has
            embedded one text; what comes before is the row "start and load"."""
        ),
        said(
            f"""Each splits with its own splitter, because that is what its users do, at the size
            that fti has by default: {found["max_tokens"]} tokens of the model,
            {found["overlap_tokens"]} of them repeated. Haystack counts words, one for each 1.31
            tokens; the chunker of txtai repeats nothing. fti embeds the title with each chunk and
            LlamaIndex the name of the file, as they come; the others do neither."""
        ),
        said(
            f"""{found["questions"]} questions, one at a time, after 20 others that warm up; all
            peers in turn, {found["rounds"]} times over. A chunk is right when it is of the gold
            article and holds an accepted answer. The best hybrid of each was chosen by MRR@10 and
            recall@5 on {found["development"]} other questions, about other articles where the data
            has them; all that were tried are in the figures. There is no cross-encoder, since all
            could have one. The fusion that fti ships was once chosen on questions of that kind."""
        ),
        "## Keeping documents",
        table(KEEPING, peers),
        said(
            """The edit rewrites one paragraph of an article and cuts its last one. A chunk is stale
            when its file does not say it any more, and doubled when the store has it more often
            than the file. Each peer was updated as its documentation says: by the ingest again
            over the folder, which finds what changed (fti, LangChain, LlamaIndex), or by all
            documents written again over those of the same ids (txtai, Haystack), which embeds
            everything again. Where nothing finds out what is gone (txtai, Haystack), the removed
            article was named."""
        ),
    ]
    parts += [*failures(peers), *by_hand(peers)]
    parts += ["## Asking", table(BEST, peers), chosen(peers)]
    if compared := against(peers):
        parts.append(compared)
    parts += ["As shipped, with no weight or depth chosen:", table(SHIPPED, peers)]
    parts += ["Vectors or words alone:", table(SINGLE, peers)]
    parts += [
        said(
            """A hybrid index of txtai searches both whatever the weights, so it has no figures
            there; a retriever of LlamaIndex embeds the question even where words alone are
            searched."""
        )
    ]
    parts += ["## Memory and start", table(MEMORY, peers)]
    parts += ["## Where fti is not first"]
    if late:
        parts.append(f"Looked into, with figures, after the run of {LOOKED_INTO}.")
    parts.append(
        "\n".join(
            said(f"- **{name.strip()}**: {WHY.get(name.strip(), 'not looked into.')}").replace(
                "\n", "\n  "
            )
            for name in late
        )
        if late
        else "In no row. Times within 2 % of the best count as the best."
    )
    return "\n\n".join(parts) + "\n"


def said(text: str) -> str:
    """A paragraph, in lines."""
    return textwrap.fill(
        " ".join(text.split()), 100, break_long_words=False, break_on_hyphens=False
    )


def failures(peers: Mapping[str, Measured]) -> list[str]:
    """A paragraph for each peer that could not do what its documentation says."""
    done = {"edit": "edit", "remove": "removal"}
    return [
        said(
            f"""{NAMES[name]} ended the {done[phase]} with an error, so that it has no time there
            and its store stayed as it was: {peer[phase]["failed"].splitlines()[0]}"""
        )
        for name, peer in peers.items()
        for phase in done
        if "failed" in peer[phase]
    ]


def by_hand(peers: Mapping[str, Measured]) -> list[str]:
    """What it takes who deletes the chunks himself where something was left."""
    phases = {"edit_by_hand": "edit", "remove_by_hand": "removal"}
    done = [
        f"{NAMES[name]}, {phases[phase]}: {peer[phase]['wall_s']:.2f} s, {peer[phase]['stale']} "
        f"stale, {peer[phase]['doubled']} doubled"
        for name, peer in peers.items()
        for phase in phases
        if phase in peer
    ]
    return (
        [said(f"With the file's chunks deleted by hand first: {'; '.join(done)}.")] if done else []
    )


def chosen(peers: Mapping[str, Measured]) -> str:
    """Which hybrid was best of each."""
    best_of = "; ".join(
        f"{NAMES[name]}: {'as shipped' if (best := p['settings']['best']) == 'hybrid' else best}"
        for name, p in peers.items()
    )
    return said(f"Chosen were: {best_of}.")


def against(peers: Mapping[str, Measured]) -> str:
    """fti's best hybrid against each other's, question by question."""
    if OURS not in peers or len(peers) == 1:
        return ""

    def ranks(name: str) -> list[int]:
        return list(peers[name]["asked"][peers[name]["settings"]["best"]]["ranks"])

    ours = reciprocal(ranks(OURS))
    pairs = {n: (ours - reciprocal(ranks(n))).tolist() for n in peers if n != OURS}
    lines = [
        f"| {NAMES[name]} | {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}] | {d.p_holm:.2g} |"
        for name, d in differences(pairs).items()
    ]
    return "\n".join(
        ["fti's MRR@10 less the other's, by question, with the 95 % interval, and p after Holm:",
         "", "| | difference | p |", "|---|---|---|", *lines]
    )  # fmt: skip


PANELS = (
    ("Ingest, s", KEEPING[0]),
    ("Again, unchanged, s", KEEPING[2]),
    ("One article edited, s", KEEPING[4]),
    ("Stale or doubled after it", Row("", lambda p: p["edit"]["stale"] + p["edit"]["doubled"], 0)),
    ("Best hybrid, median, ms", BEST[0]),
    ("Best hybrid, 95 of 100 within, ms", BEST[1]),
    ("Best hybrid, recall@1", BEST[2]),
    ("Best hybrid, MRR@10", BEST[4]),
)
_STYLE = """
text{font:13px system-ui,sans-serif;fill:#1f2328}
.head{font-weight:600}.bar{fill:#9aa4b0}.ours{fill:#0072b2}.paper{fill:#ffffff}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6e7681}.ours{fill:#56b4e9}
.paper{fill:#0d1117}}
"""
_LEFT, _WIDE, _ROW, _VALUE, _COLUMNS = 150, 190, 22, 60, 2


def drawn(found: Measured) -> str:
    """``docs/peers.svg``: small panels of bars, in the colours that the reader's system has."""
    peers = found["peers"]
    high = 40 + _ROW * len(peers)
    wide = _LEFT + _WIDE + _VALUE
    width, height = wide * _COLUMNS, high * -(-len(PANELS) // _COLUMNS) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><title>{escape(_title(found))}</title>'
        f'<style>{_STYLE}</style><rect class="paper" width="{width}" height="{height}"/>'
    ]
    for number, (head, row) in enumerate(PANELS):
        x, y = wide * (number % _COLUMNS), high * (number // _COLUMNS) + 24
        parts.append(f'<text class="head" x="{x + _LEFT}" y="{y}">{escape(head)}</text>')
        values = [row.value(peer) or 0.0 for peer in peers.values()]
        most = max((value for value in values if not math.isnan(value)), default=0) or 1
        for line, (name, peer) in enumerate(peers.items()):
            value = values[line]
            at = y + 10 + _ROW * line
            own = "ours" if name == OURS else "bar"
            length = 0.0 if math.isnan(value) else _WIDE * value / most
            told = row.cell(peer, best=False)
            parts.append(
                f'<text x="{x + _LEFT - 8}" y="{at + 14}" text-anchor="end">{escape(NAMES[name])}'
                f'</text><rect class="{own}" x="{x + _LEFT}" y="{at}" width="{length:.1f}" '
                f'height="{_ROW - 5}" rx="2"/><text x="{x + _LEFT + length + 6:.1f}" y="{at + 14}">'
                f"{told}</text>"
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _title(found: Measured) -> str:
    peers = ", ".join(NAMES[name] for name in found["peers"])
    return f"{peers} on {found['articles']} articles and {found['questions']} questions"
