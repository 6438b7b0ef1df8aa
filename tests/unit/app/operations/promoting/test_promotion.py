"""Promotion: refused without proof, with the figures and what to do; forced only with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fti.app.operations.promoting.gating import Promotion
from fti.app.operations.promoting.promotion import promote
from fti.app.settings import Settings, load_settings
from fti.store.errors import CaseSetNotFound, GateRefused, InputError
from fti.store.store import Store
from fti.store.types import Case
from tests.support.values import EMBEDDER, a_contract, a_retrieval, a_row

CASES = [Case(id=f"c{n}", question=f"When is kiln {n} fired?", document="k.md") for n in range(30)]
OTHER_EMBEDDER = EMBEDDER.model_copy(update={"id": "other"})
INFERENCE = {"temperature": 0.0, "retrieval": {"mode": "hybrid"}}


class Registry:
    """A store with model versions and made-up evaluations of them."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root / "store")
        self.settings = load_settings(store=root / "store", overrides=["model=base"],
                                      environment={})  # fmt: skip
        self.frozen = self.store.cases.freeze("handbook", CASES)
        self.files = root / "adapter"
        self.files.mkdir()
        (self.files / "adapter_config.json").write_text("{}")
        self.dataset = self.store.datasets.publish(
            "rows", rows={"train": [a_row()], "test": [a_row("t", "test")]}, features_version=1,
            embedder=EMBEDDER, prompt_digest="p", run_id="r-1",
        )  # fmt: skip
        for _ in range(2):
            self.store.models.publish(
                "reader", self.files, contract=a_contract(), dataset=self.dataset, run_id="r-2",
                metrics={},
            )  # fmt: skip

    def evaluated(
        self,
        model: str,
        f1: Sequence[float],
        *,
        features: str = "7",
        case_set: str | None = None,
        ended_at: str | None = None,
        settings: Mapping[str, Any] | None = None,
        **scores: Sequence[float],
    ) -> str:
        rows = [
            {"id": case.id, "f1": value, **{name: of[n] for name, of in scores.items()}}
            for n, (case, value) in enumerate(zip(CASES, f1, strict=True))
        ]
        with self.store.runs.running(
            "evaluate",
            inputs={
                "model": model,
                "case_set": self.frozen.digest if case_set is None else case_set,
                "features_version": features,
            },
            settings={"use_retrieval": True, "inference": INFERENCE} | dict(settings or {}),
        ) as run:
            self.store.runs.attach(run.id, "cases", rows)
            run.outputs["features_version"] = features if ended_at is None else ended_at
        return run.id

    def promote(self, model: str = "reader/1", *, gate: str = "", **how: Any) -> Promotion:
        settings: Settings = self.settings
        if gate:
            settings = load_settings(store=self.settings.store, environment={},
                                     overrides=["model=base", f"gate={gate}"])  # fmt: skip
        return promote(settings, self.store, model, **({"alias": "champion"} | how))

    def refused(self, model: str = "reader/1", **how: Any) -> GateRefused:
        with pytest.raises(GateRefused) as refusal:
            self.promote(model, **how)
        assert refusal.value.hint, "a refusal says what to do"
        assert "champion" not in self.store.models.aliases("reader")
        return refusal.value


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


LOW = [0.2] * 30
HIGH = [0.6] * 25 + [0.1] * 5


def test_a_version_that_is_better_beyond_chance_becomes_the_champion(registry: Registry) -> None:
    ours, theirs = registry.evaluated("reader/1", HIGH), registry.evaluated("base", LOW)
    found = registry.promote(gate="{floors: {f1: 0.4}}")
    assert (found.against, found.alias, found.version) == ("base", "champion", 1)
    assert found.reason.startswith("f1 +0.317 against base, 95 % interval [+0.2")
    assert found.reason.endswith("on 30 cases of handbook/1")
    assert found.difference is not None
    assert found.difference.low > 0
    (change,) = registry.store.models.history("reader", "champion")
    assert change.evidence is not None
    assert change.evidence["runs"] == {"reader/1": ours, "base": theirs}
    assert change.evidence["cases_digest"] == registry.frozen.digest
    assert change.evidence["floors"] == {"f1": 0.4}
    assert change.evidence["differences"]["f1"]["p_holm"] < 0.05


def test_the_next_version_must_be_better_than_the_champion(registry: Registry) -> None:
    registry.evaluated("reader/1", HIGH)
    registry.evaluated("base", LOW)
    registry.promote()
    registry.evaluated("reader/2", HIGH)
    with pytest.raises(GateRefused, match=r"reader/2 is not promoted over reader/1 .*not better"):
        registry.promote("reader/2")
    with pytest.raises(GateRefused, match="champion already"):
        registry.promote("reader/1")
    equal = registry.promote("reader/2", gate="{rule: not_worse}")
    assert equal.against == "reader/1"


def test_without_an_evaluation_on_the_frozen_set_there_is_no_proof(registry: Registry) -> None:
    never = registry.refused()
    assert "never evaluated" in never.message
    assert "fti evaluate handbook/1 --model reader/1 --compare" in never.hint
    registry.evaluated("reader/1", HIGH, case_set="other")
    assert "cases that are not frozen only" in registry.refused().message
    registry.evaluated("reader/1", HIGH, settings={"use_retrieval": False})
    assert "not of what is served" in registry.refused().message
    registry.evaluated("reader/1", HIGH, settings={"oracle": True})
    assert "not of what is served" in registry.refused().message
    registry.evaluated("reader/1", HIGH, settings={"include_trained": True})
    assert "--include-trained" in registry.refused().message
    registry.evaluated("reader/1", HIGH)
    assert "no evaluation of 'base' on handbook/1" in registry.refused().message
    registry.evaluated("reader/2", HIGH)
    registry.evaluated("base", LOW)
    assert registry.promote().version == 1


def test_both_must_have_seen_the_same_passages(registry: Registry) -> None:
    registry.evaluated("reader/1", HIGH, features="8")
    old = registry.evaluated("base", LOW, features="7")
    refusal = registry.refused()
    assert f"features version 8, {old} version 7" in refusal.message
    registry.evaluated("base", LOW, features="7", ended_at="8")
    assert "version 7 to 8" in registry.refused().message
    registry.evaluated("base", LOW, features="8")
    assert registry.promote().against == "base"


def shaped(**changes: Any) -> dict[str, Any]:
    """What an evaluation's run says of what shaped its answers."""
    retrieval = a_retrieval(**changes.pop("retrieval", {})).model_dump(mode="json")
    said = {
        "retrieval": retrieval,
        "embedder": EMBEDDER.model_dump(mode="json"),
        "engine": {"engine": "transformers", "device": "cpu", "dtype": "float32"},
        "contract": a_contract().model_dump(mode="json"),
    }
    return said | changes


RERANKER = {"id": "judge", "revision": "r1", "weights_sha256": "a" * 64, "tokenizer_sha256": ""}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"inference": {"temperature": 0.0, "retrieval": {"mode": "text"}}},
            "inference.retrieval.mode: 'hybrid' for reader/1, 'text' for base",
        ),
        ({"retrieval": {"reranker": RERANKER}}, "reranker: 'none' for reader/1"),
        (
            {"engine": {"engine": "transformers", "device": "cpu", "dtype": "bfloat16"}},
            "engine.dtype: 'float32' for reader/1, 'bfloat16' for base",
        ),
        (
            {"embedder": OTHER_EMBEDDER.model_dump(mode="json")},
            "embedder.id: 'hashing' for reader/1, 'other' for base",
        ),
        (
            {"contract": a_contract(max_passages=1).model_dump(mode="json")},
            "contract.max_passages: 5 for reader/1, 1 for base",
        ),
        ({"engine": None}, "engine: {base} does not say"),
    ],
)
def test_what_shaped_only_one_sides_answers_is_named(
    registry: Registry, changes: Mapping[str, Any], named: str
) -> None:
    registry.evaluated("reader/1", HIGH, settings=shaped())
    base = registry.evaluated("base", LOW, settings=shaped(**changes))
    refusal = registry.refused()
    assert "different settings" in refusal.message
    assert named.format(base=base) in refusal.message
    registry.evaluated("base", LOW, settings=shaped())
    assert registry.promote().against == "base"


def test_judges_count_where_both_were_asked(registry: Registry) -> None:
    registry.evaluated("reader/1", HIGH, settings=shaped(judge="one"))
    registry.evaluated("base", LOW, settings=shaped(judge="two"))
    assert "judge: 'one' for reader/1, 'two' for base" in registry.refused().message
    registry.evaluated("base", LOW, settings=shaped(judge=""))
    assert registry.promote().against == "base"


def test_a_versions_own_contract_is_no_difference_but_evidence(registry: Registry) -> None:
    registry.evaluated("reader/1", LOW, settings=shaped())
    registry.evaluated("base", [0.0] * 30, settings=shaped())
    registry.promote()
    other = a_contract(max_passages=2).model_dump(mode="json")
    registry.evaluated("reader/2", HIGH, settings=shaped(contract=other))
    found = registry.promote("reader/2")
    assert found.evidence["contracts"] == ["contract.max_passages: 2, before 5"]


def test_what_was_measured_with_other_passages_than_trained_with_is_refused(
    registry: Registry,
) -> None:
    trained = a_contract(retrieval=a_retrieval(mode="vector"))
    ref = registry.store.models.publish(
        "searcher", registry.files, contract=trained, dataset=registry.dataset, run_id="r-2",
        metrics={},
    ).ref  # fmt: skip
    run = registry.evaluated(ref, HIGH, settings=shaped())
    registry.evaluated("base", LOW, settings=shaped())
    refusal = registry.refused(ref)
    assert f"search mode: the contract says vector, {run} had hybrid" in refusal.message


def test_a_floor_is_reached_by_the_interval_not_by_the_mean(registry: Registry) -> None:
    registry.evaluated("reader/1", HIGH, abstention=[1.0] * 27 + [0.0] * 3)
    registry.evaluated("base", LOW, abstention=[1.0] * 27 + [0.0] * 3)
    refusal = registry.refused(gate="{floors: {abstention: 0.85, faithfulness: 0.5}}")
    assert "abstention is 0.900, 95 % interval [0." in refusal.message
    assert "its lower end must reach 0.85" in refusal.message
    assert "faithfulness was not measured" in refusal.message
    assert registry.promote(gate="{floors: {abstention: 0.7}}").version == 1


def test_no_other_score_may_be_significantly_worse(registry: Registry) -> None:
    registry.evaluated("reader/1", HIGH, citation_recall=[0.0] * 20 + [1.0] * 10)
    registry.evaluated("base", LOW, citation_recall=[1.0] * 30)
    refusal = registry.refused()
    assert "citation_recall is significantly worse than base's: -0.667" in refusal.message
    assert "over 30 cases" in refusal.message


def test_a_difference_that_may_be_chance_is_refused(registry: Registry) -> None:
    registry.evaluated("reader/1", [0.0, 1.0] * 15)
    registry.evaluated("base", [1.0, 0.0] * 14 + [0.0, 0.0])
    assert "may be chance" in registry.refused().message


def test_the_case_set_is_the_only_one_or_named(registry: Registry) -> None:
    registry.evaluated("reader/1", HIGH)
    registry.evaluated("base", LOW)
    registry.store.cases.freeze("other", CASES[:3])
    refusal = registry.refused()
    assert "2 frozen case sets to decide on: handbook, other" in refusal.message
    assert "--cases handbook" in refusal.hint
    assert "on other/1" in registry.refused(cases="other").message
    with pytest.raises(CaseSetNotFound):
        registry.promote(cases="handbok")
    assert registry.promote(gate="{cases: handbook/1}").evidence["cases"] == "handbook/1"


def test_without_a_frozen_set_the_refusal_says_how_to_make_one(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.store = Store(tmp_path / "empty")
    registry.store.models.publish("reader", registry.files, contract=a_contract(),
                                  dataset=registry.dataset, run_id="r-2", metrics={})  # fmt: skip
    refusal = registry.refused()
    assert "No case set is frozen" in refusal.message
    assert "fti cases freeze" in refusal.hint


def test_force_needs_a_reason_and_both_are_kept(registry: Registry) -> None:
    for reason in ("", "  "):
        with pytest.raises(InputError, match="needs a reason"):
            registry.promote(force=True, reason=reason)
    found = registry.promote(force=True, reason="the only one that cites")
    assert found.reason == "the only one that cites"
    (change,) = registry.store.models.history("reader", "champion")
    assert change.reason == "the only one that cites"
    assert change.evidence is not None
    assert change.evidence["forced"] is True
    assert "never evaluated" in change.evidence["refusal"]


def test_other_aliases_are_set_as_asked(registry: Registry) -> None:
    found = registry.promote(alias="challenger")
    assert (found.reason, found.evidence) == ("set by hand", {})
    assert registry.store.models.aliases("reader") == {"challenger": 1}
