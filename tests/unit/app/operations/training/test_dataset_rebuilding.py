"""A dataset built again from its record comes out the same, whatever has happened since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.build import Engines
from fti.app.cli import app
from fti.app.operations.ingestion import ingest_documents
from fti.app.operations.training.dataset_building import make_dataset
from fti.app.operations.training.dataset_rebuilding import rebuild_dataset
from fti.app.settings import Settings, load_settings
from fti.pipelines.feature.dataset.sources.reviewed import to_review
from fti.store.answer_types import Feedback
from fti.store.errors import ContractError, IntegrityError, StoreError
from fti.store.files.atomic import read_sealed, write_sealed
from fti.store.logs.answers import new_answer_id
from fti.store.progress import quiet
from fti.store.store import Store
from fti.store.types import Case, DatasetVersion
from tests.support.values import a_passage, an_answer

MACHINES = ("kiln", "lathe", "saw", "printer", "mill", "press")
OVERRIDES = [
    "embedder.engine=hashing", "generator.engine=extractive", "reranker.engine=lexical",
    "inference.retrieval.diversity=0.2", "inference.retrieval.k=7",
]  # fmt: skip


class Workshop:
    """A store with a dataset of every kind of source."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "docs").mkdir()
        for n, machine in enumerate(MACHINES):
            self.write(machine, f"The {machine} holds {20 + n} trays. It was bought in {1950 + n}.")
        self.settings = self.profile()
        self.store = Store(root / "store")
        self.ingest()
        self.chats = root / "chats.jsonl"
        rows = [{"prompt": f"Name tool {n} of a bench.", "completion": f"tool {n}"} for n in "ab"]
        self.chats.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        self.store.cases.freeze("held", [self.case("saw", 22)])
        self.built = self.build()

    def profile(self, *overrides: str) -> Settings:
        return load_settings(
            store=self.root / "store", overrides=[*OVERRIDES, *overrides], environment={}
        )

    def write(self, machine: str, text: str) -> None:
        page = f"# The {machine}\n\n## Using the {machine}\n\n{text}\n"
        (self.root / "docs" / f"{machine}.md").write_text(page, "utf-8")

    def ingest(self) -> None:
        ingest_documents(self.settings, self.store, [str(self.root / "docs")], progress=quiet)

    def case(self, machine: str, trays: int) -> Case:
        question = f"How many trays fit into the {machine}?"
        return Case(id=machine, question=question, answers=(str(trays),), document=f"{machine}.md")

    def build(self) -> DatasetVersion:
        lathe = self.store.features.find_document("docs/lathe.md")[0].id
        chunk = self.store.features.chunks(lathe)[0]
        passage = a_passage(chunk.text, chunk_id=chunk.id, document_id=lathe)
        answer = an_answer(new_answer_id(), text="21 trays. [1]", passages=(passage,))
        self.store.answers.append(answer)
        self.store.answers.feedback(Feedback(answer_id=answer.id, rating="up"))
        reviews = [r.model_copy(update={"accept": True}) for r in to_review(self.store)]
        return make_dataset(
            self.settings,
            self.store,
            name="halls",
            embedder=Engines(self.settings).embedder,
            cases=[self.case("kiln", 20), self.case("saw", 22), self.case("mill", 24)],
            reviews=reviews,
            imports=[str(self.chats)],
            progress=quiet,
        )

    def change_everything(self) -> None:
        """Documents, case sets and feedback as they come and go."""
        self.write("kiln", "The kiln was sold to a museum, and nobody misses its trays.")
        self.write("forge", "The forge holds 90 trays. It was bought in 2001.")
        self.ingest()
        self.store.cases.freeze("later", [self.case("kiln", 20), self.case("mill", 24)])
        answer = an_answer(new_answer_id())
        self.store.answers.append(answer)
        self.store.answers.feedback(Feedback(answer_id=answer.id, rating="up"))

    def rebuild(self, *overrides: str) -> Any:
        return rebuild_dataset(self.profile(*overrides), self.store, self.built.ref, progress=quiet)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def test_it_comes_out_the_same_whatever_has_happened_since(built: Workshop) -> None:
    assert {"case", "chat", "feedback", "question"} <= set(built.built.kinds)
    run = built.store.runs.get(built.built.run_id)
    assert len(run.inputs["cases_digest"]) == len(run.inputs["reviews_digest"]) == 64
    built.change_everything()
    # The settings of rows are the version's own, not the profile's.
    found = built.rebuild("inference.retrieval.mode=text", "dataset.seed=99", "dataset.max_rows=3")
    assert found.equal, found.differences
    assert found.differences == found.circumstances == ()
    assert found.files == dict.fromkeys((f.path for f in built.built.files), True)
    assert found.inputs["frozen_cases"] == "held/1", "not those that were frozen later"
    assert [d.ref for d in built.store.datasets.list()] == ["halls/1"], "nothing is published"
    assert not list(built.store.layout.checkpoints.glob("rebuild-*"))
    assert len(built.store.runs.list("dataset")) == 1


def test_another_reranker_or_embedder_is_refused(built: Workshop) -> None:
    with pytest.raises(
        ContractError, match=r"another reranker .*recorded 'lexical', loaded 'none'"
    ):
        built.rebuild("reranker.engine=none")
    with pytest.raises(ContractError, match="another embedder"):
        built.rebuild("embedder.dimension=64")


def test_an_import_that_was_changed_is_refused(built: Workshop) -> None:
    before = built.chats.read_bytes()
    try:
        built.chats.write_bytes(before + b"\n")
        with pytest.raises(IntegrityError, match="not as it was"):
            built.rebuild()
        built.chats.unlink()
        with pytest.raises(IntegrityError, match="or gone"):
            built.rebuild()
    finally:
        built.chats.write_bytes(before)


def test_what_differs_is_shown_and_the_command_fails(built: Workshop) -> None:
    path = built.store.layout.runs / built.built.run_id / "run.json"
    before = path.read_bytes()
    run = read_sealed(path)
    run["settings"]["form"]["response_lead"] = (
        "" if run["settings"]["form"]["response_lead"] else " "
    )
    command = ["dataset", "rebuild", built.built.ref, "--store", str(built.root / "store")]
    command += [part for each in OVERRIDES for part in ("--set", each)]
    try:
        write_sealed(path, {k: v for k, v in run.items() if k != "sum"})
        done = CliRunner().invoke(app, [*command, "--json"])
    finally:
        path.write_bytes(before)
    assert done.exit_code == 1
    body = json.loads(done.stdout)
    assert body["equal"] is False
    assert body["differences"][0]["what"] == "train row 1: response"
    assert CliRunner().invoke(app, command).exit_code == 0


def test_what_was_kept_is_checked(built: Workshop) -> None:
    path = built.store.layout.runs / built.built.run_id / "cases.jsonl"
    before = path.read_bytes()
    try:
        path.write_bytes(b"".join(before.splitlines(keepends=True)[1:]))
        with pytest.raises(IntegrityError, match="cases that run"):
            built.rebuild()
    finally:
        path.write_bytes(before)


def test_a_version_of_an_earlier_fti_says_so(built: Workshop) -> None:
    path = built.store.layout.runs / built.built.run_id / "run.json"
    before = path.read_bytes()
    run = read_sealed(path)
    del run["settings"]["form"]
    try:
        write_sealed(path, {k: v for k, v in run.items() if k != "sum"})
        with pytest.raises(StoreError, match="kept counts of its cases"):
            built.rebuild()
    finally:
        path.write_bytes(before)
