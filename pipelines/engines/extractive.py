"""The generator without a language model: it repeats the nearest retrieved sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fti.pipelines.engines.causal_lm.decoding import before_stop
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.generator import Delta, Generation, GenerationRequest
from fti.pipelines.engines.sentences import split_sentences
from fti.store.answer_types import FinishReason, Usage
from fti.store.contracts.prompt_contract import TokenCounter
from fti.store.types import Message, ModelIdentity


class ExtractiveGenerator:
    """Repeats the sentence of the passages that lies nearest to the question, and cites it.

    Deterministic and without a language model: the baseline that any model should beat. Below
    ``min_similarity``, and without passages, its answer is empty, which a contract reads as
    abstaining.

    Args:
        embedder: compares sentences with the question.
        min_similarity: cosine below which it abstains.
    """

    def __init__(self, embedder: Embedder, *, min_similarity: float = 0.35) -> None:
        self._embedder = embedder
        self._min_similarity = min_similarity
        self._counter = EmbedderCounter(embedder)

    @property
    def identity(self) -> ModelIdentity:
        """The method, with the embedder's weights as its own."""
        embedder = self._embedder.identity
        return ModelIdentity(
            id="extractive", revision=embedder.id, weights_sha256=embedder.weights_sha256
        )

    @property
    def counter(self) -> TokenCounter:
        """Counts with the embedder's tokenizer."""
        return self._counter

    @property
    def context_tokens(self) -> int:
        """Sentences are compared one by one, so this is only a bound on the work."""
        return 8192

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """The whole answer in one piece."""
        answer = self._answer(request)
        yield Delta(answer.text, answer.finish_reason, answer.usage)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """One answer after the other."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: GenerationRequest) -> Generation:
        prompt_tokens = self._counter.count(request.messages)
        sentences = [
            (number, sentence)
            for number, passage in enumerate(request.passages, start=1)
            for sentence in split_sentences(passage.text)
        ]
        if request.cancel.is_set():
            return Generation("", "cancelled", Usage(prompt_tokens=prompt_tokens))
        text = ""
        finish: FinishReason = "stop"
        if sentences:
            question = self._embedder.embed_query(request.question)
            vectors = self._embedder.embed_documents([sentence for _, sentence in sentences])
            similarities = vectors @ question
            best = int(similarities.argmax())  # the first of equals
            if similarities[best] >= self._min_similarity:
                number, sentence = sentences[best]
                shown = self._counter.truncate(sentence, request.max_new_tokens)
                finish = "stop" if shown == sentence else "length"
                text, met = before_stop(f"{shown} [{number}]", request.stop)
                finish = "stop" if met else finish
        usage = Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=len(self._embedder.token_spans(text)),
        )
        return Generation(text, finish, usage)


class EmbedderCounter:
    """Counts in an embedder's tokens; a ``fti.store.contracts.prompt_contract.TokenCounter``."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of all contents together."""
        return sum(len(self._embedder.token_spans(message.content)) for message in messages)

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of ``text`` that has at most ``max_tokens`` tokens."""
        spans = self._embedder.token_spans(text)
        if len(spans) <= max_tokens:
            return text
        return text[: spans[max_tokens - 1][1]].rstrip() if max_tokens > 0 else ""
