"""``fti forget`` and the pictures of ``fti trace``, over a store with a model and an answer."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.app.reports.lineage_report import as_svg, graph_of_answer, graph_of_document
from fti.pipelines.inference.batch.answer_table import answer_batch
from fti.pipelines.inference.batch.outputs import open_output
from fti.pipelines.inference.evaluating.evaluation import evaluate
from fti.pipelines.inference.tracing.answer_lineage import trace_answer
from fti.pipelines.inference.tracing.document_lineage import trace_document
from fti.store.answer_types import Answer
from fti.store.errors import DocumentNotFound, InputError
from fti.store.types import Case
from tests.unit.inference.conftest import World
from tests.unit.inference.evaluating.test_evaluation import trained_on

KILN = "/docs/workshop/kiln.md"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


@pytest.fixture
def traced(world: World, tmp_path: Path) -> tuple[str, Answer]:
    """A champion trained on the kiln's document, and its answer."""
    ref = trained_on(world, tmp_path, KILN)
    name, _, number = ref.partition("/")
    world.store.models.promote(name, int(number), "champion", reason="the only one")
    case = Case(id="1", question="When?", answers=("Thursdays",), document="workshop/kiln.md")
    world.store.cases.freeze("asked", [case])
    return ref, world.assistant(model=ref).answer("When is the kiln fired?")


def fti(world: World, *words: str) -> Any:
    root = str(world.store.layout.root)
    done = CliRunner().invoke(
        app, [*words, "--store", root, "--json"], catch_exceptions=False
    )  # fmt: skip
    assert done.exit_code == 0, done.stdout
    return json.loads(done.stdout)


def test_what_must_be_made_anew_without_a_document_is_named(
    world: World, traced: tuple[str, Answer]
) -> None:
    ref, answer = traced
    lineage = trace_document(world.store, KILN)
    assert lineage.case_sets == ("asked/1",)
    assert [m.aliases for m in lineage.models] == [("champion",)]
    assert [step.ref for step in lineage.rebuild] == [
        "cases asked/1", "dataset rows/1", f"model {ref}",
    ]  # fmt: skip
    model = lineage.rebuild[-1]
    assert "serves as" in model.why
    assert model.command.startswith("fti finetune rows --name ")
    untouched = trace_document(world.store, "/docs/workshop/hours.md")
    assert untouched.rebuild == ()
    assert answer.id in [a.answer for a in lineage.answers]


def test_an_answer_leads_to_the_documents_and_chunks_behind_its_model(
    world: World, traced: tuple[str, Answer]
) -> None:
    dataset = trace_answer(world.store, traced[1].id).model.dataset
    assert dataset is not None
    trained = [d for d in dataset.made_from if d.source == KILN]
    assert [(d.split, d.state) for d in trained] == [("train", "indexed")]
    assert trained[0].chunks
    world.store.features.delete([trained[0].document_id])
    again = trace_answer(world.store, traced[1].id).model.dataset
    assert again is not None
    assert [d.state for d in again.made_from if d.document_id == trained[0].document_id] == [
        "deleted"
    ]


def test_the_picture_has_a_box_for_everything_and_an_arrow_for_every_step(
    world: World, traced: tuple[str, Answer]
) -> None:
    ref, answer = traced
    graph = graph_of_answer(trace_answer(world.store, answer.id))
    drawn = ET.fromstring(as_svg(graph, "t").encode())
    titles = [el.text for el in drawn.iter(f"{SVG}title")]
    assert any(t and t.startswith(f"model {ref}") for t in titles)
    assert any(t and t.startswith("document kiln.md") for t in titles)
    assert len(list(drawn.iter(f"{SVG}path"))) == len(graph.edges)
    assert ("dataset", "model") in graph.edges
    backwards = graph_of_document(trace_document(world.store, KILN))
    assert ("rows/1", f"model {ref}") in backwards.edges
    assert answer.id in backwards.nodes


def test_names_in_a_picture_are_text(world: World) -> None:
    source = "/docs/<script>alert(1)</script>&.md"
    world.put({source: "# A\n\nThe bell rings on Sundays."})
    drawn = as_svg(graph_of_document(trace_document(world.store, source)), "<b>")
    assert "<script>" not in drawn
    ET.fromstring(drawn.encode())


def test_many_chunks_become_one_box(world: World) -> None:
    text = "# Long\n\n" + "\n\n".join(f"Paragraph number {n}." for n in range(40))
    world.put({"/docs/long.md": text})
    graph = graph_of_document(trace_document(world.store, "long.md"))
    assert sum(n.kind == "chunk" for n in graph.nodes.values()) == 13
    assert "and 28 more" in {n.name for n in graph.nodes.values()}


def test_trace_draws_into_a_file(world: World, traced: tuple[str, Answer], tmp_path: Path) -> None:
    for name, begin in (("a.svg", "<?xml"), ("a.html", "<!doctype html>")):
        fti(world, "trace", "--document", KILN, "--picture", str(tmp_path / name))
        assert (tmp_path / name).read_text("utf-8").startswith(begin)
    assert "anew with: fti dataset build rows" in (tmp_path / "a.html").read_text("utf-8")
    with pytest.raises(InputError, match=r"neither \.svg nor \.html"):
        fti(world, "trace", traced[1].id, "--picture", str(tmp_path / "a.png"))


def test_forget_removes_and_names_what_rests_on_it(
    world: World, traced: tuple[str, Answer]
) -> None:
    ref, answer = traced
    planned = fti(world, "forget", "workshop/kiln.md", "--dry-run")
    assert planned["erased"]["chunks"] == 0
    assert world.store.features.record(KILN) is not None
    done = fti(world, "forget", "workshop/kiln.md")
    assert (done["source"], done["erased"]["chunks"]) == (KILN, 2)
    assert [m["ref"] for m in done["models"]] == [ref]
    assert [d["ref"] for d in done["datasets"]] == ["rows/1"]
    assert done["answers"] == [answer.id]
    assert done["rebuild"] == planned["rebuild"]
    assert world.store.features.record(KILN) is None
    assert not [p for p in world.store.features.search_text("kiln", 9) if p.source == KILN]
    assert trace_document(world.store, KILN).state == "deleted"


def test_forget_names_where_answers_that_quote_it_still_stand(world: World, tmp_path: Path) -> None:
    assistant, asked = world.assistant(), [{"id": "k", "question": "When is the kiln fired?"}]
    out = tmp_path / "answers.jsonl"
    for output in (open_output(world.store, out, None), open_output(world.store, None, "asked")):
        answer_batch(asked, assistant=assistant, store=world.store, out=output)
    case = Case(id="1", question=asked[0]["question"], answers=("Thursdays",), document="kiln.md")
    run = evaluate(assistant, [case], store=world.store).run
    journal = world.store.layout.batches / "cut.jsonl"
    journal.parent.mkdir()
    journal.write_text(out.read_text("utf-8"), "utf-8")
    assert "kiln.md" in out.read_text("utf-8")

    remains = fti(world, "forget", "workshop/kiln.md", "--dry-run")["remains"]
    assert fti(world, "forget", "workshop/kiln.md")["remains"] == remains
    assert [(r["kind"], r["where"], r["answers"]) for r in remains] == [
        ("log", str(world.store.layout.answers / "*.jsonl"), 3),
        ("table", "asked", 1),
        ("evaluation", str(world.store.layout.runs / run), 1),
        ("file", str(out), 1),
        ("file", str(journal), 1),
    ]
    world.put({"/docs/bell.md": "# Bell\n\nThe bell rings on Sundays."})
    assert fti(world, "forget", "bell.md", "--dry-run")["remains"] == []


def test_an_unknown_document_cannot_be_forgotten(world: World) -> None:
    with pytest.raises(DocumentNotFound, match=r"No document 'nowhere\.md'"):
        fti(world, "forget", "nowhere.md")
