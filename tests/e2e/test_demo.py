"""The demo, cut short: every step runs, and stdout holds one JSON object."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Fti


@pytest.mark.heavy
@pytest.mark.timeout(900)  # with the built-in model itself, as a user runs it
def test_the_demo_goes_round_the_whole_loop_and_prints_one_object(fti_default: Fti) -> None:
    store = str(fti_default.home / "demo")
    facts = fti_default.run(
        "demo", "--train-seconds", "5", "--cases", "5", "--store", store,
        "--set", "dataset.max_rows=60", timeout=840,
    )  # fmt: skip
    assert facts["ingest"]["added"] == 40
    cited = {c["document"].rpartition("/")[2] for a in facts["asked"] for c in a["citations"]}
    assert {"laser-cutters.md", "tool-library.html"} <= cited
    assert min(facts["dataset"]["rows"].values()) > 0
    assert facts["model"]["ref"] == "reader/1"
    assert set(facts["evaluation"]) == {
        "base, without retrieval", "base, with retrieval",
        "reader/1, without retrieval", "reader/1, with retrieval",
        "extractive, with retrieval",
    }  # fmt: skip
    assert facts["gain"]["low"] <= facts["gain"]["mean"] <= facts["gain"]["high"]
    assert facts["promotion"]["reason"]
    assert facts["lineage"]["answer"] == facts["served"]["id"]
    assert facts["served"]["sources"]
