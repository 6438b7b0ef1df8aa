"""Whether two ways to find passages give the same ones, and in words what makes them differ."""

from __future__ import annotations

from fti.store.types import Fusion, ModelIdentity, RetrievalContract


def passage_differences(
    agreed: RetrievalContract | None,
    served: RetrievalContract | None,
    *,
    shown: int,
    there: str = "serving has",
) -> list[str]:
    """What changes which passages a model is shown, a line each; empty where nothing does.

    A setting that has no part in the search does not count: how lists are fused where words alone
    are searched, say. Only fields that both contracts name are compared, and nothing where one of
    them is absent: an fti that knew no such contract made it.

    Args:
        agreed: what the contract says.
        served: what is there.
        shown: how many passages a prompt holds.
        there: what introduces the ``served`` side in words.
    """
    if agreed is None or served is None:
        return []
    both = agreed.model_fields_set & served.model_fields_set
    found: list[str] = []

    def compare(field: str, ours: str, theirs: str) -> None:
        if field in both and ours != theirs:
            found.append(f"{_CALLED[field]}: the contract says {ours}, {there} {theirs}")

    compare("mode", agreed.mode, served.mode)
    if "hybrid" in (agreed.mode, served.mode) and agreed.mode == served.mode:
        compare("fusion", _fusion(agreed.fusion), _fusion(served.fusion))
    compare("reranker", _model(agreed.reranker), _model(served.reranker))
    compare("near_copies", f"{agreed.near_copies:g}", f"{served.near_copies:g}")
    compare("diversity", f"{agreed.diversity:g}", f"{served.diversity:g}")
    compare("context", agreed.context, served.context)
    sections = agreed.context == served.context == "section"
    if sections:
        compare(
            "section_characters", str(agreed.section_characters), str(served.section_characters)
        )
    fetched = [max(one.candidates, one.k, shown) for one in (agreed, served)]
    if {"candidates", "k"} <= both:
        compare("candidates", str(fetched[0]), str(fetched[1]))
    # A shorter list begins every longer one; passages join in sections as many as are found.
    if sections:
        compare("k", str(max(agreed.k, shown)), str(max(served.k, shown)))
    return found


def threshold_differences(
    agreed: RetrievalContract | None, served: RetrievalContract | None
) -> list[str]:
    """What changes whether the model is asked at all, though it is shown the same passages."""
    if agreed is None or served is None or agreed.min_similarity == served.min_similarity:
        return []
    return [
        f"{_CALLED['min_similarity']}: the contract says {agreed.min_similarity:g}, serving has "
        f"{served.min_similarity:g}"
    ]


_CALLED = {
    "mode": "search mode",
    "fusion": "fusion of both searches",
    "reranker": "reranker",
    "near_copies": "resemblance of near copies",
    "diversity": "diversity",
    "context": "context of a passage",
    "section_characters": "characters of a section",
    "candidates": "candidates fetched",
    "k": "passages found",
    "min_similarity": "least similarity (min_similarity)",
}


def _fusion(fusion: Fusion) -> str:
    if fusion.method != "rrf":
        return f"{fusion.method}, {fusion.vector_weight:g} by vectors"
    return f"by rank (rrf), k {fusion.rrf_k}, {fusion.vector_weight:g} by vectors"


def _model(identity: ModelIdentity | None) -> str:
    if identity is None:
        return "none"
    marks = [identity.revision[:12], identity.weights_sha256[:12]]
    return " ".join([repr(identity.id), *(mark for mark in marks if mark)])
