"""The language model by itself: no passages, and told what the caller would have it told.

Front ends ask a model for titles, tags and questions to go on with, in words of their own and with
a system text of their own. That is no question to the documents, and nothing here makes it one: the
prompt is what the caller sent, cut to what the model holds, and the text is what the model said.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.generator import Generator
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.inference_config import InferenceConfig
from fti.store.contracts.prompt_contract import Contract, ParsedResponse, PromptForm, TokenCounter
from fti.store.errors import EmptyQuestion
from fti.store.store import Store
from fti.store.types import Message, Passage

#: Its name, and what answers of it name as their model.
PLAIN = "plain"
_MOST_NEW_TOKENS = 1024


class PlainForm(PromptForm):
    """No wording at all: the turns as they were sent, after the caller's system text."""

    system: str = ""

    def messages(
        self,
        question: str,
        passages: Sequence[Passage] = (),
        history: Sequence[Message] = (),
    ) -> tuple[Message, ...]:
        """The conversation as it was sent; there are no passages."""
        if not question.strip():
            raise EmptyQuestion("The question is empty.", hint="Ask in words.")
        turns = [turn for turn in history if turn.role != "system"]
        system = [Message(role="system", content=self.system)] if self.system else []
        return (*system, *turns, Message(role="user", content=question.strip()))

    def parse(self, text: str, passages: int) -> ParsedResponse:
        """The text as it is: nothing is cited, and nothing is a refusal."""
        return ParsedResponse(text=text.strip(), markers=(), spans=(), abstained=False)

    def may_become_abstention(self, text: str) -> bool:
        """Never."""
        return False


class PlainContract(Contract):
    """The budgets of a prompt without passages: all of it may be the conversation's."""

    form: PlainForm = PlainForm()

    def _surely_fits(self, question: str, counter: TokenCounter) -> bool:
        # What each form takes is remembered; here each caller has a form of its own.
        return False

    def _of_history(self) -> int:
        return self.max_prompt_tokens


class PlainAssistant(Assistant):
    """Answers as the language model does, without documents.

    Args:
        store: where answers are logged.
        embedder: whose vectors the store holds; nothing is searched.
        generator: the language model.
        config: how it is sampled.
    """

    def __init__(
        self, store: Store, embedder: Embedder, generator: Generator, config: InferenceConfig
    ) -> None:
        new = min(_MOST_NEW_TOKENS, generator.context_tokens // 4)
        contract = PlainContract(
            base=generator.identity,
            embedder=embedder.identity,
            max_prompt_tokens=generator.context_tokens - new,
            max_new_tokens=new,
            max_passages=1,
            max_passage_tokens=16,
        )
        super().__init__(
            store, embedder, None, generator, contract, config, model=PLAIN, use_retrieval=False
        )

    def _told_by(self, system: str) -> Self:
        """This one, told what a caller would have it told."""
        told = copy.copy(self)
        form = PlainForm(system=system)
        told.contract = self.contract.model_copy(update={"form": form})
        return told

    def _understood(self, question: str, turns: Sequence[Message]) -> str:
        return question
