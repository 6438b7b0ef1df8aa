"""What holds before a model is served, before a question is asked, and of every answer."""

from __future__ import annotations

from collections.abc import Sequence

from fti.pipelines.engines.cross_encoders.reranking import Reranker
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.generator import Generator
from fti.pipelines.inference.answering import answer_measures as measures
from fti.pipelines.inference.answering.retrieve import retrieval_contract
from fti.pipelines.inference.inference_config import InferenceConfig
from fti.store.answer_types import Answer
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.prompt_contract import Contract, TokenCounter
from fti.store.contracts.retrieval_contract import passage_differences
from fti.store.errors import (
    ContractError,
    EmbedderMismatch,
    EmptyQuestion,
    PostconditionFailed,
    QuestionTooLong,
)
from fti.store.store import Store

SERVE = PipelineContract("serve")
ASK = PipelineContract("ask")
ANSWER = PipelineContract("answer")


@SERVE.precondition(
    "The loaded base model is the one that the contract names", raises=ContractError
)
def same_base(contract: Contract, generator: Generator, model: str) -> None:
    """To the byte; a server shows no files, so one without digests is compared by name."""
    agreed, loaded = contract.base, generator.identity
    faults = []
    if not (agreed.weights_sha256 and loaded.weights_sha256) and agreed.id != loaded.id:
        faults.append(f"base model: the contract says {agreed.id!r}, loaded is {loaded.id!r}")
    for name in ("weights_sha256", "tokenizer_sha256"):
        ours, theirs = getattr(agreed, name), getattr(loaded, name)
        if ours and theirs and ours != theirs:
            faults.append(
                f"base {name}: the contract says {ours[:12]!r} ({agreed.id!r}), loaded is "
                f"{theirs[:12]!r} ({loaded.id!r})"
            )
    _require_served(model, faults)


@SERVE.precondition("Retrieval is by the embedder that the contract names", raises=ContractError)
def same_embedder(contract: Contract, embedder: Embedder, model: str, use_retrieval: bool) -> None:
    """A model is served behind the retrieval that it was trained behind."""
    agreed, served = contract.embedder.model_dump(), embedder.identity.model_dump()
    faults = [
        f"embedder {key}: the contract says {agreed[key]!r}, serving has {served[key]!r}"
        for key in agreed
        if agreed[key] != served[key]
    ]
    _require_served(model, faults if use_retrieval else [])


@SERVE.precondition(
    "Passages are found as the contract says, or the settings say to warn", raises=ContractError
)
def same_retrieval(
    contract: Contract,
    reranker: Reranker | None,
    config: InferenceConfig,
    model: str,
    use_retrieval: bool,
) -> None:
    """A model is shown at serving what it was shown at training."""
    if not use_retrieval or config.other_retrieval == "warn":
        return
    served = retrieval_contract(config.retrieval, reranker)
    faults = passage_differences(contract.retrieval, served, shown=contract.max_passages)
    if faults:
        raise ContractError(
            f"The model {model!r} cannot be served here: {'; '.join(faults)}.",
            hint="Serve it with the profile that its dataset was built with, build the dataset and "
            "fine-tune again, or take the difference upon you: "
            "--set inference.other_retrieval=warn",
        )


@SERVE.precondition("The generator holds the contract's prompt and answer", raises=ContractError)
def fits_context(contract: Contract, generator: Generator, model: str) -> None:
    """Both budgets together."""
    needed, held = contract.max_prompt_tokens + contract.max_new_tokens, generator.context_tokens
    fault = f"context: the contract needs {needed} tokens, the generator holds {held}"
    _require_served(model, [fault] if needed > held else [])


@SERVE.precondition("The store's vectors are this embedder's", raises=EmbedderMismatch)
def same_vectors(store: Store, embedder: Embedder) -> None:
    """Vectors of two embedders do not compare."""
    store.features.require_identity(embedder.identity)


@ASK.precondition("There is a question in the question", raises=EmptyQuestion)
def has_words(question: str, contract: Contract) -> None:
    """Something visible, at least."""
    contract.form.messages(question)


@ASK.precondition("The question alone fits the prompt", raises=QuestionTooLong)
def fits_prompt(question: str, contract: Contract, counter: TokenCounter) -> None:
    """Passages and history are cut to the budget, a question is not."""
    contract.require_room(question, counter=counter)


@ASK.enforced
def accepted(question: str, contract: Contract, counter: TokenCounter) -> str:
    """A question that may be asked, as it is."""
    return question


@ANSWER.postcondition("Each citation points at the shown passage that its marker numbers")
def cites_what_was_shown(result: Answer) -> None:
    """And stands where the marker stands."""
    for citation in result.citations:
        number = citation.marker
        shown = result.passages[number - 1] if number <= len(result.passages) else None
        marker = result.text[citation.start : citation.end]
        if shown is None or shown.chunk_id != citation.chunk_id or marker != f"[{number}]":
            raise PostconditionFailed(
                f"The answer {result.id} cites [{number}] as {citation.source!r}; shown were "
                f"{len(result.passages)} passages, and {marker!r} stands there."
            )


@ANSWER.postcondition("A refusal cites nothing")
def refusal_cites_nothing(result: Answer) -> None:
    """What is not answered rests on no passage."""
    if result.abstained and result.citations:
        raise PostconditionFailed(
            f"The answer {result.id} refuses and cites {len(result.citations)} passages."
        )


ANSWER.requires("latency_p95_s", "at most", "s", measures.latency_p95_s)
ANSWER.requires("first_token_p95_s", "at most", "s", measures.first_token_p95_s)
ANSWER.requires("refusal_rate", "at most", "", measures.refusal_rate)
ANSWER.requires("cost_per_1000", "at most", "per 1000", measures.cost_per_1000)


def _require_served(model: str, faults: Sequence[str]) -> None:
    if faults:
        raise ContractError(
            f"The model {model!r} cannot be served here: {'; '.join(faults)}.",
            hint="Serve it with the profile it was trained under, or fine-tune again.",
        )
