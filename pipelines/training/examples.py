"""Dataset rows to what the model is trained on: the very ids that serving would send.

The prompt is composed and fitted by the contract, with the model's own tokenizer, and encoded by
``engines.encoding``; nothing here adds a word or a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.encoding import (
    EncodedExample,
    PromptEncoder,
    encode_example,
    encode_text,
)
from fti.pipelines.engines.evidence import Remembering, nearest_sentences
from fti.store.contracts.prompt_contract import Contract, FittedPrompt
from fti.store.errors import ContractError, QuestionTooLong
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.types import InstructionExample, Passage, PreferenceExample, sha256_hex

TOO_LONG_RESPONSE = "response_too_long"
TOO_LONG_QUESTION = "question_too_long"
ANSWER_CUT = "answer_cut_away"
TOO_MANY_REFUSALS = "refusal_above_share"
REJECTED_HIDDEN = "rejected_cites_what_is_not_shown"


Row = TypeVar("Row", bound=InstructionExample | PreferenceExample)


@dataclass(frozen=True)
class EncodedRows:
    """Encoded rows with the ids of the rows they come from, and what did not fit, by reason."""

    examples: list[EncodedExample]
    ids: list[str]
    dropped: dict[str, int]

    @property
    def tokens(self) -> int:
        """Ids in all, prompts and responses."""
        return sum(len(e.input_ids) for e in self.examples)


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Two responses to one prompt, as ids."""

    chosen: EncodedExample
    rejected: EncodedExample

    @property
    def tokens(self) -> int:
        """Ids of both."""
        return len(self.chosen.input_ids) + len(self.rejected.input_ids)


@dataclass(frozen=True)
class EncodedPairs:
    """Encoded pairs with the ids of the rows they come from, and what did not fit, by reason."""

    examples: list[EncodedPair]
    ids: list[str]
    dropped: dict[str, int]


def drawn(rows: list[Row], most: int | None, seed: int) -> list[Row]:
    """At most so many of the rows in their order, drawn by the seed and their ids; None: all."""
    if most is None or len(rows) <= most:
        return rows
    first = sorted(rows, key=lambda row: sha256_hex(f"{seed}\n{row.id}"))[:most]
    chosen = {row.id for row in first}
    return [row for row in rows if row.id in chosen]


def encode_rows(
    rows: Sequence[InstructionExample],
    *,
    contract: Contract,
    encoder: PromptEncoder,
    embedder: Embedder | None = None,
    progress: Progress = quiet,
) -> EncodedRows:
    """Encode rows under a contract; a row that cannot be learned from as it is served is dropped.

    Dropped are rows whose response is longer than serving generates, whose question alone fills
    the prompt, and whose cited passage is cut so that the answer is no longer to be seen: they
    would teach the model to answer from nothing. Where rows with an answer are dropped, refusals
    are thinned to the share that they have in the dataset: a model that saw twice as many would
    refuse twice as readily. Which ones stay depends on their ids alone.

    Args:
        rows: of a dataset.
        contract: what the model will be served under.
        encoder: the model's tokenizer.
        embedder: selects the evidence, where the contract asks for that.
        progress: told after every row.

    Raises:
        ContractError: the contract selects evidence, and there is no embedder.
    """
    _require_embedder(contract, embedder)
    if embedder is not None:
        embedder = Remembering(embedder)
    examples: dict[str, EncodedExample] = {}
    dropped: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        progress(ProgressEvent("encode", number, len(rows), row.id))
        found = _encoded(row, contract, encoder, embedder)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            examples[row.id] = found[0]
    for surplus in _surplus_refusals(rows, examples):
        del examples[surplus]
        dropped[TOO_MANY_REFUSALS] += 1
    return EncodedRows([*examples.values()], [*examples], dict(sorted(dropped.items())))


def _surplus_refusals(rows: Sequence[InstructionExample], kept: Collection[str]) -> list[str]:
    """Ids of kept refusals beyond the share that refusals have among all rows."""
    refusals = [row.id for row in rows if not row.answer]
    answered = len(rows) - len(refusals)
    if not answered:
        return []
    left = sum(bool(row.answer) and row.id in kept for row in rows)
    room = -(-left * len(refusals) // answered)  # rounded up
    there = sorted((i for i in refusals if i in kept), key=sha256_hex)
    return there[room:]


def encode_pairs(
    rows: Sequence[PreferenceExample],
    *,
    contract: Contract,
    encoder: PromptEncoder,
    embedder: Embedder | None = None,
    progress: Progress = quiet,
) -> EncodedPairs:
    """Encode pairs under a contract; one that cannot be learned from as it is served is dropped.

    Beside what ``encode_rows`` drops by the chosen response, those go whose rejected response is
    too long, or cites a passage that is not shown: no model could give it.

    Args and Raises as ``encode_rows``.
    """
    _require_embedder(contract, embedder)
    if embedder is not None:
        embedder = Remembering(embedder)
    pairs: list[EncodedPair] = []
    ids: list[str] = []
    dropped: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        progress(ProgressEvent("encode", number, len(rows), row.id))
        better = InstructionExample(
            id=row.id, kind="question", question=row.question, history=row.history,
            answer=row.chosen, citations=row.chosen_citations, passages=row.passages,
            response=row.chosen_response, split=row.split, documents=row.documents,
            chunk_ids=row.chunk_ids,
        )  # fmt: skip
        found = _encoded(better, contract, encoder, embedder)
        if isinstance(found, str):
            dropped[found] += 1
            continue
        chosen, prompt = found
        places = {p.chunk_id: number for number, p in enumerate(prompt.passages, start=1)}
        cited = [places.get(row.passages[n - 1].chunk_id) for n in row.rejected_citations]
        if row.rejected and None in cited:
            dropped[REJECTED_HIDDEN] += 1
            continue
        markers = [place for place in cited if place is not None] if row.rejected else []
        response = contract.form.response(row.rejected, markers)
        if len(encode_text(encoder.tokenizer, response)) + 1 > contract.max_new_tokens:
            dropped[TOO_LONG_RESPONSE] += 1
            continue
        rejected = encode_example(encoder.tokenizer, prompt.messages, response)
        pairs.append(EncodedPair(chosen, rejected))
        ids.append(row.id)
    return EncodedPairs(pairs, ids, dict(sorted(dropped.items())))


def _encoded(
    row: InstructionExample,
    contract: Contract,
    encoder: PromptEncoder,
    embedder: Embedder | None,
) -> tuple[EncodedExample, FittedPrompt] | str:
    """The row as ids with the prompt it stands in, or why it cannot be learned from."""
    if embedder is not None and contract.evidence_sentences:
        narrowed = _evidence(row, contract, embedder)
        if narrowed is None:
            return ANSWER_CUT
        row = narrowed
    response = contract.form.response(row.answer, row.citations if row.answer else ())
    # The end of the turn is generated too.
    if len(encode_text(encoder.tokenizer, response)) + 1 > contract.max_new_tokens:
        return TOO_LONG_RESPONSE
    try:
        fitted = contract.fit(row.question, row.passages, counter=encoder, history=row.history)
    except QuestionTooLong:
        return TOO_LONG_QUESTION
    if not _answer_remains(row, fitted.passages):
        return ANSWER_CUT
    return encode_example(encoder.tokenizer, fitted.messages, response), fitted


def _require_embedder(contract: Contract, embedder: Embedder | None) -> None:
    if contract.evidence_sentences and embedder is None:
        raise ContractError(
            f"The contract shows the {contract.evidence_sentences} nearest sentences of the "
            "passages, and no embedder was given to find them."
        )


def _evidence(
    row: InstructionExample, contract: Contract, embedder: Embedder
) -> InstructionExample | None:
    """The row as serving would show it; None when what it cites is not shown any more."""
    shown = nearest_sentences(
        row.question,
        row.passages[: contract.max_passages],
        embedder,
        count=contract.evidence_sentences,
        choice=contract.evidence_choice,
    )
    places = {passage.chunk_id: number for number, passage in enumerate(shown, start=1)}
    cited = [row.passages[number - 1] for number in row.citations]
    for passage in cited:
        number = places.get(passage.chunk_id)
        if number is None or _folded(row.answer) not in _folded(shown[number - 1].text):
            return None
    return row.model_copy(
        update={"passages": shown, "citations": tuple(places[p.chunk_id] for p in cited)}
    )


def _answer_remains(row: InstructionExample, shown: Sequence[Passage]) -> bool:
    """Whether what the answer cites is still in the prompt.

    An answer that is no quotation cannot be looked for: then its passage must stand there whole.
    """
    for number in row.citations:
        if number > len(shown):
            return False
        kept, whole = shown[number - 1].text, row.passages[number - 1].text
        quoted = _folded(row.answer) in _folded(whole)
        if quoted and _folded(row.answer) not in _folded(kept):
            return False
        if not quoted and kept.strip() != whole.strip():
            return False
    return True


def _folded(text: str) -> str:
    return " ".join(text.split())
