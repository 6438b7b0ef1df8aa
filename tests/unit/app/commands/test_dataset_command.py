"""``fti dataset`` as scripts call it: cards, differences, exports, feedback, pairs, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.app.reports.dataset_card import FILTERS, as_html
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.asking import quality
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.answer_types import Feedback
from fti.store.errors import AnswerNotFound, ConfigError, FtiError, InputError, InvalidCases
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.types import DatasetVersion, Message
from tests.support.chat_server import says, serving
from tests.support.values import EMBEDDER, a_pair, a_passage, a_row, an_answer

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\x00"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store that the environment names, under a profile without weights."""
    profile = tmp_path / "light.yaml"
    profile.write_text(
        "embedder: {engine: hashing, dimension: 256}\ngenerator: {engine: extractive}\n", "utf-8"
    )
    monkeypatch.setenv("FTI_CONFIG", str(profile))
    monkeypatch.setenv("FTI_STORE", str(tmp_path / "store"))
    return Store(tmp_path / "store")


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    for n, machine in enumerate(("kiln", "lathe", "saw", "mill")):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / f"{machine}.md").write_text(
            f"# The {machine}\n\nThe {machine} holds {20 + n} trays. The {machine} was bought in "
            f"{1950 + n} from a factory. The {machine} weighs {300 + n} kg with its stand.\n",
            "utf-8",
        )
    ingest([str(tmp_path / "docs")], store=store, embedder=HashingEmbedder(256),
           config=FeatureConfig())  # fmt: skip
    return store


def fti(*args: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["dataset", *args, "--json"])
    assert done.exit_code == code, (done.exception, done.output)
    return json.loads(done.stdout.splitlines()[0])


def refused(kind: type[FtiError], match: str, *args: str) -> None:
    done = CliRunner().invoke(app, ["dataset", *args])
    assert isinstance(done.exception, kind), (done.exception, done.output)
    assert re.search(match, str(done.exception)), done.exception


def publish(store: Store, name: str, rows: Any, **changes: Any) -> DatasetVersion:
    fields: dict[str, Any] = {
        "features_version": 1, "embedder": EMBEDDER, "prompt_digest": "5" * 64,
        "run_id": "r-20260301-120000-0123ab",
    }  # fmt: skip
    return store.datasets.publish(name, rows=rows, **(fields | changes))


# Cards


def test_a_card_shows_plots_and_samples_and_nothing_that_runs(
    filled: Store, tmp_path: Path
) -> None:
    built = fti("build", "machines")
    shown = fti("show", "machines", "--html", str(tmp_path / "card.html"), "--rows", "1")
    page = (tmp_path / "card.html").read_text("utf-8")

    assert shown["card"] == str(tmp_path / "card.html")
    assert shown["statistics"]["filters"]
    assert built["digest"] in page
    assert page.count('class="chart"') >= 6
    assert "Counted with: hashing" in page
    assert shown["examples"][0]["question"].replace('"', "&quot;") in page
    assert "<script" not in page
    assert re.findall(r"(?:href|src)=", page) == []


def test_text_of_rows_never_becomes_markup(store: Store) -> None:
    passage = a_passage(EVIL, title=EVIL, section=(EVIL,))
    turn = Message(role="user", content=EVIL)
    row = a_row(question=EVIL, response=EVIL, evidence=EVIL, style=EVIL, passages=(passage,),
                history=(turn,))  # fmt: skip
    pair = a_pair(question=EVIL, chosen_response=EVIL, rejected_response=EVIL, passages=(passage,))
    for version, sample in (
        (publish(store, "rows", {"train": [row]}, settings={EVIL: EVIL}), row),
        (
            publish(store, "pairs", {"train": [pair]}, statistics={"sources": {EVIL: {EVIL: 1}}}),
            pair,
        ),
    ):
        page = as_html(version, {"train": [sample]}, {"d-train": EVIL})

        assert "<script" not in page
        assert "<img" not in page
        assert "\x00" not in page
        assert "&lt;script&gt;" in page


def test_a_version_without_statistics_has_a_card_too(store: Store) -> None:
    version = publish(store, "old", {"train": [a_row()]})

    page = as_html(version, {"train": [a_row()]}, {})

    assert page.count("before such figures were kept") == 3
    assert "When does the hall open?" in page


def test_every_filter_is_explained_on_the_card() -> None:
    assert set(quality.FILTERS) < set(FILTERS)


# Differences


def test_a_difference_names_rows_documents_and_settings(store: Store) -> None:
    publish(
        store, "faq",
        {"train": [a_row("r1"), a_row("r2", question="Who?")]},
        settings={"seed": 1, "mask": []}, documents={"train": ["a", "b"], "test": ["c"]},
    )  # fmt: skip
    publish(
        store, "faq",
        {"train": [a_row("r1"), a_row("r3", answer="at ten", kind="case")],
         "test": [a_row("r4", "test", question="How?")]},
        settings={"seed": 2, "mask": []}, documents={"train": ["a"], "test": ["b", "d"]},
    )  # fmt: skip

    found = fti("diff", "faq/1", "faq/2", "--rows", "1")

    assert (found["added"], found["removed"], found["kept"]) == (2, 1, 1)
    assert found["rows"] == {"train": [2, 2], "validation": [0, 0], "test": [0, 1]}
    assert found["kinds"] == {"case": [0, 1], "cloze": [2, 2]}
    assert found["settings"] == {"seed": [1, 2]}
    assert (found["documents_added"], found["documents_removed"]) == (["d"], ["c"])
    assert found["documents_moved"] == {"b": ["train", "test"]}
    assert [r["id"] for r in found["added_samples"]] == ["r3"]
    text = CliRunner().invoke(app, ["dataset", "diff", "faq/1", "faq/2"]).stdout
    assert "document moved: b from train to test" in text
    assert "- [cloze] Who?" in text
    assert fti("diff", "faq/1", "faq/1")["same_digest"] is True


def test_a_question_with_another_answer_is_changed_and_not_only_new(store: Store) -> None:
    for answer in ("at nine", "at ten"):
        publish(store, "faq", {"train": [a_row(f"r-{answer}", answer=answer)]})

    found = fti("diff", "faq/1", "faq/2")

    assert (found["added"], found["removed"], found["changed"]) == (1, 1, 1)


def test_rows_and_pairs_are_not_compared(store: Store) -> None:
    publish(store, "faq", {"train": [a_row()]})
    publish(store, "liked", {"train": [a_pair()]})

    refused(InputError, "faq/1 is of kind instruction and liked/1 of kind preference",
            "diff", "faq", "liked")  # fmt: skip


# Exports


@pytest.mark.parametrize("name", ["faq", "liked"])
def test_exports_load_with_the_datasets_library(store: Store, tmp_path: Path, name: str) -> None:
    from datasets import disable_progress_bars, load_dataset, load_from_disk

    disable_progress_bars()
    messages = (Message(role="user", content="Question: When does the hall open?"),)
    publish(store, "faq", {"train": [a_row("r1", messages=messages), a_row("r2")],
                           "test": [a_row("r3", "test")]})  # fmt: skip
    publish(store, "liked", {"train": [a_pair("p1", messages=messages), a_pair("p2")],
                             "test": [a_pair("p3", "test")]})  # fmt: skip
    out = {f: tmp_path / f for f in ("messages", "rows", "arrow", "parquet")}
    for form, folder in out.items():
        fti("export", name, "--out", str(folder), "--format", form)
    lines = {
        form: [json.loads(x) for x in (out[form] / "train.jsonl").read_text("utf-8").splitlines()]
        for form in ("messages", "rows")
    }
    arrow = load_from_disk(str(out["arrow"]))
    parquet = load_dataset(
        "parquet", data_files={"train": str(out["parquet"] / "train.parquet")},
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip

    assert set(arrow) == {"train", "test"}
    assert arrow["train"].to_list() == parquet["train"].to_list()
    assert [r["id"] for r in lines["rows"]] == arrow["train"]["id"][:]
    said = lines["messages"][0]
    if name == "faq":
        assert said["messages"][-1] == {"role": "assistant", "content": "at nine [1]"}
        assert arrow["train"][0]["messages"] == said["messages"]
    else:
        assert said["prompt"] == [{"role": "user", "content": messages[0].content}]
        assert said["chosen"] == [{"role": "assistant", "content": "at nine [1]"}]
        assert arrow["train"][0]["rejected"] == said["rejected"]


# Building


def test_feedback_is_written_reviewed_and_built_from(filled: Store, tmp_path: Path) -> None:
    lathe = filled.features.find_document("lathe.md")[0].id
    passages = [
        a_passage(c.text, chunk_id=c.id, document_id=c.document_id, rank=n)
        for n, c in enumerate((*filled.features.chunks(lathe), *filled.features.chunks()), start=1)
        if n < 3
    ]
    answer = an_answer(new_answer_id(), question="How heavy is the lathe with its stand?",
                       text="22 trays. [1]", passages=tuple(passages))  # fmt: skip
    filled.answers.append(answer)
    filled.answers.feedback(
        Feedback(answer_id=answer.id, rating="down", correction="301 kg", comment="no")
    )
    path = tmp_path / "review.jsonl"

    assert fti("feedback", "--out", str(path)) == {
        "out": str(path), "verdicts": 1, "corrections": 1
    }  # fmt: skip
    refused(InputError, "is there already, and may hold decisions", "feedback", "--out", str(path))
    review = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(review | {"accept": True}) + "\n", "utf-8")
    built = fti("build", "machines", "--feedback", str(path), "--set", "dataset.synthetic=never")
    pairs = fti("pairs", "liked", "--from", "machines", "--feedback", str(path))

    assert built["kinds"] == {"feedback": 1}
    assert (pairs["kind"], pairs["kinds"]["correction"]) == ("preference", 1)
    listed = fti("list")["datasets"]
    assert [(d["name"], d["kind"]) for d in listed] == [
        ("liked", "preference"), ("machines", "instruction")
    ]  # fmt: skip
    path.write_text(json.dumps(review | {"accept": True, "answer_id": "a-1"}) + "\n", "utf-8")
    refused(AnswerNotFound, "no answer 'a-1'", "build", "x", "--feedback", str(path))


def test_a_model_behind_a_server_writes_after_an_estimate(filled: Store, tmp_path: Path) -> None:
    reply = {"question": "How many trays does the kiln hold?", "answer": "20 trays",
             "quote": "The kiln holds 20 trays"}  # fmt: skip
    with serving() as server:
        server.responses, server.repeats = [says(json.dumps(reply))], True
        model = f"{{engine: openai, id: acme, server: {{base_url: '{server.url}'}}}}"
        profile = tmp_path / "writing.yaml"
        profile.write_text(
            "embedder: {engine: hashing, dimension: 256}\ngenerator: {engine: extractive}\n"
            f"dataset: {{synthetic: never, writer: {{generator: {model}}}}}\n",
            "utf-8",
        )
        command = ("build", "written", "--write", "--config", str(profile))
        expected = fti(*command, "--estimate")
        asked_before = len(server.bodies)
        built = fti(*command, "--set", "dataset.unanswerable=0")

    assert (expected["passages"], expected["kept"], asked_before) == (4, 0, 0)
    assert expected["tokens"] == expected["prompt_tokens"] + 4 * 512
    assert built["kinds"] == {"written": 1}  # the others' passages do not hold the quote
    assert len(server.bodies) == 4


def test_builds_that_cannot_be_are_refused(filled: Store, tmp_path: Path) -> None:
    refused(
        InputError, "--estimate says what a model.s writing will take", "build", "x", "--estimate"
    )
    refused(ConfigError, "'extractive' is no language model", "build", "x", "--write")
    refused(InvalidCases, "'acme/chats' is not pinned", "build", "x", "--import", "acme/chats")
    refused(InputError, "Nobody has said anything", "feedback", "--out", str(tmp_path / "r.jsonl"))
    assert not (tmp_path / "r.jsonl").exists()
    assert fti("list") == {"datasets": [], "damaged": []}


def test_personal_data_is_masked_by_one_option(filled: Store) -> None:
    fti("build", "machines", "--mask-pii", "--set", "dataset.max_rows=4")

    assert filled.datasets.get("machines").settings["mask"] == [
        "email", "phone", "iban", "card", "ip"
    ]  # fmt: skip
