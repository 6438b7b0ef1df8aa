"""What monitoring and validation found, by API: run by run, without paths of the server."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from fti.app.operations.observing.monitor_run import run_monitor
from fti.app.service.api import create_app
from fti.app.settings import load_settings
from fti.pipelines.feature.validating.expectations import Expectations, ExpectationsConfig
from fti.pipelines.feature.validating.validate_features import validate_features
from fti.store.store import Store
from tests.support.service import assistant_over, filled_store


def calling(store: Store) -> TestClient:
    return TestClient(create_app(assistant_over(store)), base_url="http://127.0.0.1:8000")


def test_an_unmonitored_store_has_nothing_to_show(tmp_path: Path) -> None:
    client = calling(filled_store(tmp_path / "store"))
    assert client.get("/v1/monitoring").json() == {
        "object": "list", "data": [], "newest": None, "validations": [],
    }  # fmt: skip
    assert "fti_monitor" not in client.get("/metrics").text


def test_runs_are_shown_oldest_first_with_the_newest_in_full(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "store")
    settings = load_settings(
        store=store.layout.root,
        overrides=("embedder.engine=hashing", "monitoring.alert_when=[documents>0]"),
        environment={},
    )
    runs = [run_monitor(settings, store).run for _ in range(2)]
    expected = {"columns": {"title": {"checks": {"str_length": {"min_value": 99}}}}}
    config = ExpectationsConfig(collections={"*": Expectations(documents=expected)})
    validated = validate_features(store=store, config=config)
    client = calling(store)
    found = client.get("/v1/monitoring").json()
    assert [one["run"] for one in found["data"]] == runs
    assert found["data"][0]["figures"]["documents"] == len(store.features.records())
    assert found["newest"]["run"] == runs[1]
    assert [alert["what"] for alert in found["newest"]["alerts"]] == ["rule documents"]
    assert {one["pipeline"] for one in found["newest"]["promises"]} >= {"answer", "ingest"}
    (validation,) = found["validations"]
    assert (validation["id"], validation["metrics"]["broken"]) == (validated.run, 1)
    assert str(tmp_path) not in client.get("/v1/monitoring").text
    assert len(client.get("/v1/monitoring?limit=1").json()["data"]) == 1
    metrics = client.get("/metrics").text
    assert "fti_monitor_alerts 1.0" in metrics
    assert "fti_validation_broken 1.0" in metrics
