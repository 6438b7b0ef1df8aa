"""A store is switched to a fine-tuned embedder by proof, wholly or not at all, and back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fti.app.build import Engines, build_embedder, build_retriever
from fti.app.embedder_choice import standing_on
from fti.app.operations.promoting.gating import Promotion
from fti.app.operations.promoting.promotion import promote
from fti.app.operations.promoting.switching import roll_back_embedder
from fti.app.operations.training.embedder_training import make_pairs
from fti.app.settings import Settings, load_settings
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.engines.embedders.trained_embedder import open_embedder, save_embedder
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.errors import ContractError, GateRefused, InputError, StoreError
from fti.store.progress import quiet
from fti.store.store import Store
from fti.store.types import Case
from fti.store.versioned.model_version import ModelVersion
from tests.support.tiny_embedder import ALIASES, OWNERS, THINGS, pair_dataset
from tests.support.values import a_contract

pytestmark = pytest.mark.heavy


class Workshop:
    """A store whose vectors a tiny embedder made, and versions of it that are better or not.

    "Better" knows what the foreign words mean, and hears no other words: what training would learn,
    without the training. "Same" was trained to no avail.
    """

    def __init__(self, root: Path, tiny: Path) -> None:
        self.root, self.tiny = root, tiny
        docs = root / "docs"
        docs.mkdir()
        for thing in THINGS:
            for owner in OWNERS[:3]:
                text = f"# Things\n\nThe {thing} of the {owner} was moved.\n"
                (docs / f"{thing}-{owner}.md").write_text(text, "utf-8")
        self.store = Store(root / "store")
        self.settings = self.with_("gate.rule=better")
        ingest([str(docs)], store=self.store, embedder=build_embedder(self.settings),
               config=self.settings.features)  # fmt: skip
        self.cases = [
            Case(id=f"{thing}-{owner}", answers=("moved",), document=f"{thing}-{owner}.md",
                 question=f"Where is the {ALIASES[thing]} of the {ALIASES[owner]}?")
            for thing in THINGS for owner in OWNERS[:3]
        ]  # fmt: skip
        self.store.cases.freeze("quiz", self.cases)
        self.pairs = pair_dataset(self.store)

    def with_(self, *overrides: str) -> Settings:
        given = [f"embedder.id={self.tiny}", "embedder.device=cpu", "model=base",
                 "inference.retrieval.mode=vector", *overrides]  # fmt: skip
        return load_settings(store=self.root / "store", overrides=given, environment={})

    def register(self, kind: str) -> ModelVersion:
        import torch

        opened = open_embedder(EmbedderConfig(id=str(self.tiny), device="cpu"))
        embeddings = opened.model[0].auto_model.embeddings
        words = embeddings.word_embeddings.weight
        ids = opened.model.tokenizer.get_vocab()
        with torch.no_grad():
            meant = {word: words[ids[word]].clone() for word in ALIASES}
            if kind == "better":  # content words by their meaning, wherever they stand
                words.zero_()
                embeddings.position_embeddings.weight.zero_()
                for word, alias in ALIASES.items():
                    words[ids[alias]] = words[ids[word]] = meant[word]
        folder = self.root / kind
        contract = save_embedder(opened, folder)
        version = self.store.models.publish(
            "finder", folder, contract=contract, dataset=self.pairs, run_id="r-1", metrics={}
        )
        shutil.rmtree(folder)
        return version

    def promote(self, ref: str, **how: Any) -> Promotion:
        return promote(self.settings, self.store, ref, alias="champion", **how)

    def hits(self) -> int:
        retriever = build_retriever(self.settings, self.store)
        return sum(
            retriever.search(case.question, 1)[0].source.endswith("/" + case.document)
            for case in self.cases
        )


@pytest.fixture
def workshop(tmp_path: Path, tiny_embedder: Path) -> Workshop:
    return Workshop(tmp_path, tiny_embedder)


def test_a_better_embedder_takes_the_store_over_and_gives_it_back(workshop: Workshop) -> None:
    store = workshop.store
    better = workshop.register("better")
    before, version, hits = store.features.identity(), store.features.version(), workshop.hits()
    engines = Engines(workshop.settings)  # as a service holds them
    assert engines.embedder.identity == before
    found = workshop.promote(better.ref)
    assert found.against == f"{workshop.tiny.name}"
    assert found.reason.startswith("recall@1 +")
    assert found.difference is not None
    assert found.difference.low > 0
    assert set(found.evidence["runs"]) == {workshop.tiny.name, "registry:finder/1"}

    assert store.features.identity() == better.vector_contract.identity("finder/1")
    assert store.features.version() > version, "a new version of the features"
    assert store.features.checkout(version).identity() == before, "the old one can be read"
    assert workshop.hits() > hits + 5, "the same profile now searches with the new embedder"
    held = standing_on(store)
    assert held is not None
    assert held.ref == "finder/1"
    engines.follow(store)
    assert engines.embedder.identity == store.features.identity()

    again = ingest([str(workshop.root / "docs")], store=store, config=workshop.settings.features,
                   embedder=build_embedder(workshop.settings))  # fmt: skip
    assert (again.unchanged, again.embedded_chunks) == (30, 0), "the ledger went along"
    with pytest.raises(GateRefused, match="champion already, and the store's vectors are its"):
        workshop.promote(better.ref)

    store.models.promote("finder", 1, "spare", reason="")
    workshop.register("better")
    workshop.promote("finder/2", force=True, reason="a drill")
    assert store.models.history("finder", "champion")[-1].evidence["forced"] is True  # type: ignore[index]
    assert roll_back_embedder(workshop.settings, store, "finder", "champion") == 1
    assert store.features.identity() == better.vector_contract.identity("finder/1")
    with pytest.raises(StoreError, match="no version before 1") as caught:
        roll_back_embedder(workshop.settings, store, "finder", "champion")
    assert "--re-embed --set embedder.tuned=false" in caught.value.hint
    base = workshop.with_("embedder.tuned=false")
    ingest([str(workshop.root / "docs")], store=store, embedder=build_embedder(base),
           config=base.features, re_embed=True)  # fmt: skip
    assert store.features.identity() == before


def test_an_embedder_that_is_not_better_changes_nothing(workshop: Workshop) -> None:
    same = workshop.register("same")
    before, version = workshop.store.features.identity(), workshop.store.features.version()
    with pytest.raises(GateRefused, match=r"not switched from .* to finder/1 \(on quiz/1\)") as no:
        workshop.promote(same.ref)
    assert "recall@1: The challenger is not better" in no.value.message
    assert "--force --reason" in no.value.hint
    assert workshop.store.features.identity() == before
    assert workshop.store.features.version() == version
    assert workshop.store.models.aliases("finder") == {}
    assert not list(workshop.store.layout.features.glob("chunks_rebuild*"))


def test_what_stands_in_the_way_of_a_switch_is_said(workshop: Workshop, tmp_path: Path) -> None:
    better = workshop.register("better")
    with pytest.raises(InputError, match="needs a reason"):
        workshop.promote(better.ref, force=True)
    other = workshop.with_("embedder.engine=hashing")
    with pytest.raises(ContractError, match=r"finder/1 was trained from .* the profile's embedder"):
        promote(other, workshop.store, better.ref, alias="champion")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    workshop.store.models.publish("reader", adapter, contract=a_contract(), dataset=workshop.pairs,
                                  run_id="r-2", metrics={})  # fmt: skip
    workshop.store.models.promote("reader", 1, "champion", reason="")
    with pytest.raises(
        GateRefused, match=r"reader@champion \(reader/1\) was trained behind another"
    ):
        workshop.promote(better.ref)
    assert workshop.promote(better.ref, force=True, reason="all anew").evidence["forced"]


def test_no_version_that_vectors_or_readers_rest_on_is_collected(workshop: Workshop) -> None:
    store = workshop.store
    finder = workshop.register("better")
    behind = a_contract(embedder=finder.vector_contract.identity("finder/1"))
    files = workshop.root / "files"
    files.mkdir()
    (files / "card.md").write_text("A reader.", "utf-8")
    store.models.publish("reader", files, contract=behind, dataset=workshop.pairs, run_id="r-2",
                         metrics={})  # fmt: skip
    workshop.register("better")
    for ref in ("finder/1", "finder/2"):
        store.models.mark(ref, "retire")
    assert store.models.removable({"finder/2": "the store's vectors were made by it"}) == {
        "finder/1": "reader/1 was trained behind it",
        "finder/2": "the store's vectors were made by it",
    }
    assert store.models.collect({"finder/2": "in use"}) == {}


def test_pairs_are_mined_from_the_live_search(workshop: Workshop, tmp_path: Path) -> None:
    import json

    shutil.rmtree(workshop.store.layout.cases)  # what is measured on is never trained on
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(
        json.dumps({"id": c.id, "question": c.question, "answers": [c.id.split("-")[1]],
                    "document": c.document}) for c in workshop.cases), "utf-8")  # fmt: skip
    easy = workshop.with_("negatives.margin=0")
    made = make_pairs(easy, workshop.store, source=str(path), name="miner",
                      progress=quiet)  # fmt: skip
    assert (made.name, made.settings["from"]) == ("miner-pairs", "miner-cases/1")
    rows = list(workshop.store.datasets.rows(made.ref, "train"))
    assert len(rows) > 15
    held_out = set(made.documents["validation"])
    for row in rows:
        assert row.answer in row.passages[0].text
        assert all(row.answer not in p.text for p in row.passages[1:])
        assert not held_out & {p.document_id for p in row.passages}
    assert workshop.store.models.names() == []
