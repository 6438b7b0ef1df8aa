"""Retrieval as good as it can be: the gold passage, and nothing else.

What a reader gets wrong with the right passage before it is the reader's fault; the distance
between this and real retrieval is what better retrieval could win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.evaluating.scoring import ScoredCase
from fti.store.errors import InputError
from fti.store.features.filters import Condition, Where, conditions
from fti.store.types import Passage, SearchMode

_WITHIN = 200  # chunks of the gold document that are looked through


class OracleRetriever(Retriever):
    """Finds the gold passage of the case it was aimed at.

    It is the relevant passage of the gold document that the question finds best; where the case has
    no answers, or no chunk holds one whole, the document's best passage.

    Args:
        retriever: whose store, models and settings are used.
    """

    def __init__(self, retriever: Retriever) -> None:
        super().__init__(
            retriever.features, retriever.embedder, retriever.reranker, retriever.config
        )
        self._case: ScoredCase | None = None

    def aim(self, scored: ScoredCase) -> None:
        """Make this the case whose passage is found next.

        Raises:
            InputError: the case names no document.
        """
        if not scored.documents:
            raise InputError(
                f"The case {scored.case.id!r} names no document to take the gold passage from.",
                hint="Leave +oracle out, or name a document in every case.",
            )
        self._case = scored

    def search(
        self,
        query: str,
        k: int | None = None,
        mode: SearchMode | None = None,
        where: Where | None = None,
        *,
        vector: NDArray[np.float32] | None = None,
        collections: Sequence[str] = (),
        keep: Callable[[Passage], bool] | None = None,
    ) -> list[Passage]:
        """The gold passage."""
        assert self._case is not None, "evaluation aims before it asks"
        document = next(iter(self._case.documents))
        inside = (*conditions(where), Condition("document", "=", (document,)))
        found = super().search(
            query, _WITHIN, "vector", inside, vector=vector, collections=collections, keep=keep
        )
        gold = [p for p in found if self._case.relevant(p)] or found
        return [p.model_copy(update={"rank": n}) for n, p in enumerate(gold[:1], start=1)]

    def relevant(self, passages: Sequence[Passage], min_similarity: float | None = None) -> bool:
        """Always: the model is to be asked, however far the question is from the passage."""
        return True
