from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fti.pipelines.engines.cross_encoders.reranking import LexicalReranker, Reranker
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.extractive import EmbedderCounter
from fti.pipelines.feature.asking.quality import FILTERS, folded, holds
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.instructions import build_dataset
from fti.pipelines.feature.dataset.sources.reviewed import to_review
from fti.pipelines.feature.dataset.splits import split_documents
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.splitting.chunking import ChunkingConfig
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.inference_config import RetrievalConfig
from fti.store.answer_types import Feedback
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.errors import EmbedderMismatch, InputError, StoreEmpty
from fti.store.features.feature_store import FeatureStore
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.types import SPLITS, Case, DatasetVersion, Document, InstructionExample
from tests.support.values import a_passage, an_answer

FORM = PromptForm(system="", question_position="both")
EMBEDDER = HashingEmbedder()
MACHINES = (
    "kiln", "lathe", "saw", "printer", "mill", "press", "planer", "router", "drill", "forge",
    "loom", "grinder",
)  # fmt: skip
NAMES = ("Ines Okafor", "Bram Holloway", "Rosa Bellini", "Walter Brandreth", "Odile Marchetti")


def page(n: int, machine: str) -> str:
    name = NAMES[n % len(NAMES)]
    return f"""# The {machine}

## Using the {machine}

The {machine} holds {20 + 3 * n} trays. The {machine} was bought in {1950 + 7 * n} from a factory.
The {machine} is looked after by {name} on Mondays. The key of the {machine} hangs on a hook behind
door {n + 2}. If the {machine} stops, press the {("red", "green", "blue")[n % 3]} button twice.

## Cleaning the {machine}

The {machine} is cleaned every {n + 3} weeks because dust clogs its vent number {n}. A visitor pays
{4 + n} pounds for an hour at the {machine}. The manual of the {machine} has {60 + 11 * n} pages.
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("instructions")
    for n, machine in enumerate(MACHINES):
        (root / "docs").mkdir(exist_ok=True)
        (root / "docs" / f"{machine}.md").write_text(page(n, machine), "utf-8")
    store = Store(root / "store")
    ingest([str(root / "docs")], store=store, embedder=EMBEDDER, config=FeatureConfig())
    return store


def serving(features: FeatureStore) -> Retriever:
    """What serves under the default profile."""
    return Retriever(features, EMBEDDER)


def build(
    store: Store, cases: Iterable[Case] | None = None, retriever: Any = serving, **changes: Any
) -> DatasetVersion:
    return build_dataset(
        "machines",
        store=store,
        embedder=EMBEDDER,
        retriever=retriever,
        config=DatasetConfig(**changes),
        form=FORM,
        cases=None if cases is None else list(cases),
    )


@pytest.fixture(scope="module")
def built(filled: Store) -> DatasetVersion:
    return build(filled)


def rows_of(store: Store, dataset: DatasetVersion) -> list[InstructionExample]:
    return [row for split in SPLITS for row in store.datasets.rows(dataset.ref, split)]


@pytest.fixture(scope="module")
def rows(filled: Store, built: DatasetVersion) -> list[InstructionExample]:
    return rows_of(filled, built)


def document(name: str, text: str) -> Document:
    return Document(
        id=f"d-{name}", source=f"/somewhere/{name}", title=name, text=text, content_hash=name,
        media_type="text/plain",
    )  # fmt: skip


def test_answers_stand_in_the_passage_that_is_cited(rows: list[InstructionExample]) -> None:
    answerable = [r for r in rows if r.answer]

    assert len(answerable) > 50
    for row in answerable:
        (cited,) = row.citations
        passage = row.passages[cited - 1]
        assert row.answer in folded(passage.text)
        assert passage.chunk_id in row.chunk_ids
        assert passage.document_id in row.documents
        assert 1 <= len(row.answer.split()) <= 15
        assert row.response == f"{row.answer} [{cited}]"


def test_nothing_shown_answers_an_unanswerable_row(
    filled: Store, rows: list[InstructionExample]
) -> None:
    asked = {(r.kind, r.question): r for r in rows_of(filled, build(filled, unanswerable=0))}
    unanswerable = [r for r in rows if r.kind == "unanswerable"]

    assert unanswerable
    for row in unanswerable:
        assert (row.answer, row.citations, row.response) == ("", (), FORM.abstention)
        assert row.passages
        assert not {p.chunk_id for p in row.passages} & set(row.chunk_ids)
        (answer,) = {r.answer for r in asked.values() if r.question == row.question}
        assert not any(holds(p.text, answer) for p in row.passages)


@pytest.mark.parametrize("share", [0.0, 0.15, 0.4])
def test_the_share_of_unanswerable_rows_is_as_asked(filled: Store, share: float) -> None:
    dataset = build(filled, unanswerable=share)

    assert dataset.kinds.get("unanswerable", 0) / sum(dataset.rows.values()) == pytest.approx(
        share, abs=0.04
    )


def test_training_rows_show_no_passage_of_a_held_out_document(
    rows: list[InstructionExample], built: DatasetVersion
) -> None:
    held_out = {
        "train": {*built.documents["validation"], *built.documents["test"]},
        "validation": {*built.documents["test"]},
        "test": set[str](),
    }

    assert all(built.rows[split] for split in SPLITS)
    for row in rows:
        assert not {p.document_id for p in row.passages} & held_out[row.split]
    assert all(len(r.passages) == 4 for r in rows)


def test_every_document_is_named_in_one_split(built: DatasetVersion, filled: Store) -> None:
    named = [document for split in SPLITS for document in built.documents[split]]

    assert sorted(named) == sorted(r.id for r in filled.features.records())
    assert len(built.documents["train"]) == 8
    assert len(built.documents["validation"]) == len(built.documents["test"]) == 2


def test_a_row_shows_what_the_retriever_that_serves_retrieves(
    filled: Store, rows: list[InstructionExample]
) -> None:
    retriever = serving(filled.features)
    tested = 0
    for row in rows:
        if row.split != "test" or row.kind == "unanswerable":
            continue
        served = [p.chunk_id for p in retriever.retrieve(row.question).passages][:4]
        if set(row.chunk_ids) & set(served):
            assert [p.chunk_id for p in row.passages] == served
            tested += 1
        assert [p.rank for p in row.passages] == [1, 2, 3, 4]
    assert tested > 5


@pytest.fixture(scope="module")
def in_pieces(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Sections of several chunks, and a page about each machine that says nearly the same twice."""
    root = tmp_path_factory.mktemp("pieces")
    (root / "docs").mkdir()
    for n, machine in enumerate(MACHINES):
        (root / "docs" / f"{machine}.md").write_text(page(n, machine), "utf-8")
        (root / "docs" / f"{machine} log.md").write_text(
            f"# Log of the {machine}\n\nThe {machine} was oiled by a volunteer in the early spring "
            f"of the year {1990 + n} with four litres of oil.\n\nThe {machine} was oiled by a "
            f"volunteer in the early spring of the year {2000 + n} with four litres of oil.\n",
            "utf-8",
        )
    store = Store(root / "store")
    config = FeatureConfig(chunking=ChunkingConfig(max_tokens=40, overlap_tokens=0, min_tokens=8))
    ingest([str(root / "docs")], store=store, embedder=EMBEDDER, config=config)
    return store


@pytest.mark.parametrize(
    ("reranker", "config"),
    [
        (None, RetrievalConfig(mode="text")),
        (None, RetrievalConfig(near_copies=0.3)),
        (None, RetrievalConfig(diversity=0.6)),
        (None, RetrievalConfig(context="section", k=3)),
        (LexicalReranker(), RetrievalConfig()),
    ],
)
def test_rows_follow_the_profiles_retrieval(
    in_pieces: Store, reranker: Reranker | None, config: RetrievalConfig
) -> None:
    retriever, default = Retriever(in_pieces.features, EMBEDDER, reranker, config), serving
    half_to_test = {"train": 0.4, "validation": 0.1, "test": 0.5, "max_rows": 60}
    built = build(in_pieces, None, retriever.over, unanswerable=0, **half_to_test)
    tested = 0
    differ = False
    for row in rows_of(in_pieces, built):
        if row.split != "test":
            continue
        # As the assistant asks for them: at least as many as the prompt shows.
        served = [p.text for p in retriever.retrieve(row.question, max(config.k, 4)).passages][:4]
        if any(row.answer in folded(text) for text in served):
            assert [p.text for p in row.passages] == served
            tested += 1
            usual = default(in_pieces.features).retrieve(row.question).passages[:4]
            differ = differ or served != [p.text for p in usual]
    assert tested > 5
    assert differ, "a default would pass for it"
    assert built.retrieval == retriever.contract


def test_a_row_to_learn_from_shows_what_serving_would_without_the_held_out_documents(
    filled: Store, rows: list[InstructionExample], built: DatasetVersion
) -> None:
    learned = set(built.documents["train"])
    retriever = serving(filled.features)
    tested = 0
    for row in rows:
        if row.split != "train" or row.kind == "unanswerable":
            continue
        everything = retriever.retrieve(row.question, 40).passages
        served = [p.chunk_id for p in everything if p.document_id in learned][:4]
        if set(row.chunk_ids) & set(served):
            assert [p.chunk_id for p in row.passages] == served
            tested += 1
    assert tested > 20


def test_there_are_several_styles_and_few_clozes(built: DatasetVersion, filled: Store) -> None:
    styles = filled.runs.get(built.run_id).metrics["styles"]

    assert len([s for s in styles if s not in ("cloze", "unanswerable")]) >= 5
    assert built.kinds["question"] > built.kinds["cloze"] + built.kinds["heading"]


def test_the_same_inputs_give_the_same_digest(filled: Store, built: DatasetVersion) -> None:
    again, other = build(filled), build(filled, seed=8)

    assert again.digest == built.digest
    assert again.version > built.version  # other tests of this module build versions too
    assert other.digest != built.digest


def test_no_question_is_asked_twice(rows: list[InstructionExample]) -> None:
    asked = [r.question for r in rows]

    assert len(asked) == len(set(asked))
    assert len({r.id for r in rows}) == len(rows)


def test_messages_are_rendered_by_the_form(rows: list[InstructionExample]) -> None:
    assert all(r.messages == FORM.messages(r.question, r.passages) for r in rows)


def test_datasets_loads_the_files(filled: Store, built: DatasetVersion) -> None:
    lines = (filled.datasets.path(built.ref) / "train.jsonl").read_text("utf-8").splitlines()

    assert {"question", "messages", "response", "passages"} <= set(json.loads(lines[0]))
    assert len(lines) == built.rows["train"]


def test_the_number_of_rows_is_bounded_and_shared_among_documents(filled: Store) -> None:
    dataset = build(filled, max_rows=24)
    counts: dict[str, int] = {}
    for row in rows_of(filled, dataset):
        counts[row.documents[0]] = counts.get(row.documents[0], 0) + 1

    assert sum(dataset.rows.values()) == 24
    assert set(counts.values()) == {2}


def test_the_run_says_what_was_left_out(filled: Store, built: DatasetVersion) -> None:
    run = filled.runs.get(built.run_id)

    assert run.status == "done"
    assert run.outputs["dataset"] == built.ref
    assert run.metrics["rows"] == built.rows
    assert run.settings["seed"] == 7
    assert isinstance(run.metrics["rejected"], dict)


def test_the_share_kept_at_each_filter_is_reported(filled: Store, built: DatasetVersion) -> None:
    filters = {f["filter"]: f for f in built.statistics["filters"]}
    chain = list(filters)

    assert chain[0] == "passage_in_one_split"
    assert chain.index("answer_not_in_passage") < chain.index("answer_pronoun")
    assert chain.index("same_words") < chain.index("exact_duplicate") < chain.index("reachable")
    for first, then in zip(list(FILTERS), list(FILTERS)[1:], strict=False):
        assert filters[first]["kept"] == filters[then]["considered"]
    for found in filters.values():
        assert found["share"] is None or found["share"] == pytest.approx(
            found["kept"] / found["considered"], abs=1e-4
        )
    assert filters["few_per_passage"]["share"] < 1
    assert filters["reachable"]["kept"] == sum(built.rows.values())
    assert filled.runs.get(built.run_id).metrics["filters"] == built.statistics["filters"]


def test_a_row_says_how_it_was_made(rows: list[InstructionExample]) -> None:
    for row in rows:
        assert row.style
        assert row.evidence
        if row.kind == "cloze":
            assert row.answer in row.evidence


def test_lengths_and_balance_are_kept_with_the_version(filled: Store) -> None:
    dataset = build_dataset(
        "counted", store=filled, embedder=EMBEDDER, retriever=serving,
        config=DatasetConfig(max_rows=20), form=FORM,
        counter=EmbedderCounter(EMBEDDER), tokenizer="hashing",
    )  # fmt: skip
    made = rows_of(filled, dataset)
    tokens, balance = dataset.statistics["tokens"], dataset.statistics["balance"]

    prompts = [EmbedderCounter(EMBEDDER).count(r.messages) for r in made]
    assert (tokens["tokenizer"], tokens["prompt"]["n"]) == ("hashing", 20)
    assert (tokens["prompt"]["min"], tokens["prompt"]["max"]) == (min(prompts), max(prompts))
    assert tokens["prompt"]["sum"] == sum(prompts)
    assert sum(b["count"] for b in tokens["prompt"]["histogram"]) == 20
    assert tokens["response"]["min"] >= 2
    assert balance["kinds"]["counts"] == dataset.kinds
    assert 0 < balance["kinds"]["evenness"] <= 1
    assert balance["rows_per_document"]["documents"] == len({r.documents for r in made})
    assert sum(balance["gold_position"]["counts"].values()) == sum(bool(r.answer) for r in made)


def test_what_a_frozen_set_asks_is_not_learned(
    filled: Store, rows: list[InstructionExample]
) -> None:
    asked = {r.split: r for r in rows if r.kind == "question"}
    cases = [Case(id=s, question=r.question, answers=("x",)) for s, r in asked.items()]
    version = filled.cases.freeze("held-out", cases)
    try:
        dataset = build(filled)
    finally:
        shutil.rmtree(filled.layout.cases)
    questions = {r.question: r.split for r in rows_of(filled, dataset)}

    assert asked["train"].question not in questions
    assert asked["validation"].question not in questions
    assert questions[asked["test"].question] == "test"
    found = dataset.statistics["frozen_cases"]
    assert found["sets"] == [version.ref]
    assert found["found"][version.ref] >= 2


def test_personal_data_is_masked_where_asked_for(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}.md").write_text(
            f"# Desk {n}\n\nThe desk {n} holds {n + 30} chairs. The desk {n} is reached by "
            f"+44 20 7946 095{n}. The warden of desk {n} is Rosa Bell{n}, rosa{n}@example.org.\n",
            "utf-8",
        )
    store = Store(tmp_path / "store")
    ingest([str(tmp_path)], store=store, embedder=EMBEDDER, config=FeatureConfig())

    plain, masked = build(store), build(store, mask=("phone", "email"))

    assert "@example.org" in plain_text(store, plain)
    text = plain_text(store, masked)
    assert "@example.org" not in text
    assert "7946" not in text
    assert "[PHONE]" in text
    assert set(masked.statistics["masked"]) == {"email", "phone"}
    assert masked.digest != plain.digest


def test_every_source_gives_rows_and_the_same_ones_again(filled: Store, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    rows = [{"prompt": f"Name tool {n} of a bench.", "completion": f"tool {n}"} for n in range(9)]
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    lathe = filled.features.find_document("docs/lathe.md")[0].id
    chunk = filled.features.chunks(lathe)[0]
    passage = a_passage(chunk.text, chunk_id=chunk.id, document_id=lathe)
    answer = an_answer(new_answer_id(), text="23 trays. [1]", passages=(passage,))
    filled.answers.append(answer)
    filled.answers.feedback(Feedback(answer_id=answer.id, rating="up"))
    reviews = [r.model_copy(update={"accept": True}) for r in to_review(filled)]

    first, second = (
        build_dataset(
            "mixed", store=filled, embedder=EMBEDDER, retriever=serving, form=FORM,
            cases=CASES[:2], reviews=reviews, imports=[str(chats)],
            config=DatasetConfig(synthetic="never", unanswerable=0, max_imported_share=0.5),
        )
        for _ in range(2)
    )  # fmt: skip
    made = {r.kind: r for r in rows_of(filled, first)}

    assert first.digest == second.digest
    assert first.kinds == {"case": 2, "chat": 3, "feedback": 1}  # imports: half of all, as was set
    assert (made["feedback"].answer, made["feedback"].citations) == ("23 trays.", (1,))
    assert made["chat"].messages == FORM.messages(made["chat"].question)
    assert (made["chat"].documents, made["chat"].passages) == ((), ())
    assert first.statistics["sources"]["feedback"] == {"used": 1}
    run = filled.runs.get(first.run_id)
    assert (run.inputs["reviews"], run.inputs["imports"]) == ("1", str(chats))


def plain_text(store: Store, dataset: DatasetVersion) -> str:
    return "\n".join(r.model_dump_json() for r in rows_of(store, dataset))


CASES = [
    Case(
        id="1", question="How many trays has the lathe?", answers=("23",), document="docs/lathe.md"
    ),
    Case(id="2", question="Who minds the saw?", answers=("rosa bellini!",), document="saw.md"),
    Case(id="3", question="Who paid for the mill?", answers=(), document="docs/mill.md"),
    Case(id="4", question="How old is it?", answers=("a century",), document="docs/mill.md"),
    Case(id="5", question="Who minds the piano?", answers=("nobody",), document="docs/piano.md"),
    Case(id="6", question="Who minds what?", answers=("nobody",)),
]


def test_cases_follow_their_document_and_are_answered_from_it(
    filled: Store, built: DatasetVersion
) -> None:
    dataset = build(filled, CASES, synthetic="never", unanswerable=0.34)
    found = {r.question: r for r in rows_of(filled, dataset)}

    assert set(found) == {c.question for c in CASES[:3]}
    trays = found["How many trays has the lathe?"]
    assert (trays.kind, trays.answer) == ("case", "23")
    assert found["Who minds the saw?"].answer == "Rosa Bellini"
    unknown = found["Who paid for the mill?"]
    assert (unknown.kind, unknown.response) == ("unanswerable", FORM.abstention)
    for row in found.values():
        (home,) = (s for s in SPLITS if row.documents[0] in dataset.documents[s])
        assert row.split == home
    assert dataset.documents == built.documents
    assert filled.runs.get(dataset.run_id).metrics["cases"] == {
        "answer_not_found": 1,
        "document_not_found": 1,
        "no_document": 1,
        "used": 3,
    }


def test_cases_are_mixed_with_written_questions_or_not(filled: Store) -> None:
    mixed = build(filled, CASES, unanswerable=0)
    alone = build(filled, CASES, synthetic="without_cases", unanswerable=0.34)

    assert mixed.kinds["case"] == 2
    assert mixed.kinds["question"] > 20
    assert alone.kinds == {"case": 2, "unanswerable": 1}


def test_unanswerable_cases_beyond_their_share_are_left_out(filled: Store) -> None:
    many = [
        Case(id=f"u{n}", question=f"Who painted wall {n}?", document="docs/mill.md")
        for n in range(9)
    ]
    dataset = build(filled, [*CASES[:2], *many], synthetic="never", unanswerable=0.5)

    assert dataset.kinds == {"case": 2, "unanswerable": 2}
    assert filled.runs.get(dataset.run_id).metrics["cases"] == {
        "unanswerable_beyond_share": 7,
        "used": 4,
    }


def test_near_duplicates_stay_on_one_side() -> None:
    words = [f"w{n}" for n in range(200)]
    documents = [
        document(f"{n}-{copy}", " ".join(f"{w}{n}" for w in words) + f" copy {copy}")
        for n in range(8)
        for copy in range(3)
    ]

    split_of = split_documents(documents, DatasetConfig())

    for n in range(8):
        assert len({split_of[f"d-{n}-{copy}"] for copy in range(3)}) == 1
    assert set(split_of.values()) == set(SPLITS)


def test_the_split_does_not_depend_on_the_folder() -> None:
    here = [document(f"{n}.md", f"text {n}") for n in range(20)]
    there = [d.model_copy(update={"source": f"/else{d.source}"}) for d in here]

    assert split_documents(here, DatasetConfig()) == split_documents(there, DatasetConfig())


def test_a_new_document_moves_few_others() -> None:
    documents = [document(f"{n}.md", f"text {n}") for n in range(101)]
    before = split_documents(documents[:100], DatasetConfig())
    after = split_documents(documents, DatasetConfig())

    assert sum(before[d.id] != after[d.id] for d in documents[:100]) <= 2


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "validation": 1, "test": 1}),
        (40, {"train": 28, "validation": 4, "test": 8}),
    ],
)
def test_every_split_gets_a_document_while_there_are_enough(
    count: int, expected: dict[str, int]
) -> None:
    split_of = split_documents(
        [document(f"{n}.md", f"text {n}") for n in range(count)], DatasetConfig()
    )

    assert {s: list(split_of.values()).count(s) for s in split_of.values()} == expected


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValidationError, match=r"is 1\.2, not 1"):
        DatasetConfig(train=0.9)


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreEmpty) as caught:
        build(Store(tmp_path / "store"))

    assert "fti ingest" in caught.value.hint


def test_another_embedder_than_the_stores_is_refused(filled: Store) -> None:
    with pytest.raises(EmbedderMismatch):
        build_dataset(
            "machines", store=filled, embedder=HashingEmbedder(dimension=64), retriever=serving,
            config=DatasetConfig(), form=FORM,
        )  # fmt: skip


def test_documents_without_a_question_in_them_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello.\n", "utf-8")
    store = Store(tmp_path / "store")
    ingest([str(tmp_path / "a.txt")], store=store, embedder=EMBEDDER, config=FeatureConfig())

    with pytest.raises(InputError, match="No row could be made from 1 documents"):
        build(store)
    assert store.runs.list("dataset")[0].status == "failed"


def chats_file(path: Path, count: int) -> str:
    rows = [
        {"prompt": f"Which hook has the key of locker {n}?", "completion": f"Hook {n * 7}."}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("settings", "used", "left_out"),
    [
        ({}, 40, {}),
        ({"max_imported_share": 0.25}, 4, {"beyond_max_imported_share": 36}),
        ({"max_rows": 30}, 30, {"beyond_max_rows": 10}),
    ],
)
def test_all_imported_conversations_are_used_unless_a_setting_bounds_them(
    filled: Store, tmp_path: Path, settings: dict[str, Any], used: int, left_out: dict[str, int]
) -> None:
    cases = [
        Case(
            id=m, question=f"Who looks after the {m}?", answers=(NAMES[n % 5],), document=f"{m}.md"
        )
        for n, m in enumerate(MACHINES)
    ]
    dataset = build_dataset(
        "imported", store=filled, embedder=EMBEDDER, retriever=serving, form=FORM, cases=cases,
        config=DatasetConfig(synthetic="never", unanswerable=0, **settings),
        imports=[chats_file(tmp_path / "chats.jsonl", 40)],
    )  # fmt: skip

    assert dataset.kinds["chat"] == used
    counted = {"rows": 40, "conversations": 40, "answers": 40, "used": used}
    assert dataset.statistics["sources"]["imported"] == counted | left_out


def test_conversations_need_no_documents(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    dataset = build_dataset(
        "imported", store=store, embedder=EMBEDDER, retriever=serving, form=FORM,
        config=DatasetConfig(),
        imports=[chats_file(tmp_path / "chats.jsonl", 20)],
    )  # fmt: skip

    assert dataset.kinds == {"chat": 20}
    assert dataset.features_version == 0
    with pytest.raises(StoreEmpty, match="no documents"):
        build(store)
