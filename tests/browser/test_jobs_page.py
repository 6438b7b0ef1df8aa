"""Jobs on the registry page, as a person starts, watches and stops them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog.testing
from playwright.sync_api import Page, expect

from fti.app.service.api import create_app
from fti.app.service.job_starter import Profile
from fti.store.logs.jobs import JobRecord
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from tests.browser.test_page import HOSTILE, WIDTHS
from tests.support.service import assistant_over, serving

pytestmark = [pytest.mark.browser, pytest.mark.heavy]

OpenPage = Callable[..., Page]
PROFILE = """\
model: extractive
embedder: {engine: hashing, dimension: 256}
generator: {engine: extractive, min_similarity: 0.1}
"""
TRAINING = {"kind": "finetune", "dataset": "handbook", "name": "reader"}


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    path = tmp_path / "light.yaml"
    path.write_text(PROFILE, "utf-8")
    return Profile(path)


@pytest.fixture
def training(store: Store) -> Iterator[JobRecord]:
    """A job that goes on in a process which does nothing but wait to be stopped."""
    record, handle = store.jobs.start("finetune", TRAINING)
    waiting = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        pass_fds=(handle,),
        start_new_session=True,
    )
    store.jobs.handed_over(record.id, handle, waiting.pid)
    os.close(handle)
    yield record
    waiting.kill()
    waiting.wait()


def note(store: Store, job: JobRecord, *steps: int) -> None:
    with store.jobs.noting(job) as noting:
        for step in steps:
            values = {"loss": 4 / step, "validation_loss": 3.5, "seconds_left": 120.0}
            noting(ProgressEvent("finetune", step, 40, values=values))


def test_a_training_is_watched_stopped_and_taken_up_again(
    store: Store, training: JobRecord, profile: Profile, open_page: OpenPage
) -> None:
    note(store, training, 1, 2, 4)
    store.jobs.text_file(training.id).write_text(f"finetune, attempt 1\n{HOSTILE}\n", "utf-8")
    with serving(create_app(assistant_over(store), profile=profile)) as base:
        page = open_page(f"{base}/registry")
        jobs = page.get_by_role("list", name="Jobs", exact=True)
        row = jobs.get_by_role("button", name="Fine-tune: reader on handbook")
        expect(row).to_contain_text("running")
        expect(page.get_by_text("finetune 4 of 40 · loss 1.000 · about 2 min left")).to_be_visible()
        expect(page.get_by_role("progressbar", name="Progress of the job")).to_have_attribute(
            "value", "4"
        )
        plot = page.get_by_role("img", name="Loss by step: 1.000 at step 4, best on validation 3.5")
        expect(plot).to_be_visible()
        note(store, training, 8)  # seen without anybody doing anything
        expect(page.get_by_role("img", name="Loss by step: 0.500 at step 8")).to_be_visible()
        page.get_by_text("Log", exact=True).click()
        expect(page.get_by_role("region", name="Log of the job")).to_contain_text(HOSTILE)

        page.get_by_text("Build a dataset", exact=True).click()
        expect(page.get_by_text("Another can be started when this one has ended")).to_be_visible()
        form = page.locator('form[data-kind="dataset"]')
        assert form.evaluate("form => form.inert")

        page.get_by_role("button", name="Stop").click()
        expect(row).to_contain_text("stopped")
        expect(page.get_by_text("It was stopped.")).to_be_visible()
        assert not form.evaluate("form => form.inert")
        page.get_by_role("button", name="Go on").click()  # there is no such dataset
        expect(row).to_contain_text("failed", timeout=240_000)
        state = page.get_by_role("status").filter(has_text="There is no dataset 'handbook'")
        expect(state).to_be_visible()


def test_a_job_is_started_from_its_form(
    store: Store, profile: Profile, open_page: OpenPage
) -> None:
    with serving(create_app(assistant_over(store), profile=profile)) as base:
        page = open_page(f"{base}/registry")
        expect(page.get_by_text("No job was started yet")).to_be_visible()
        page.get_by_text("Fine-tune", exact=True).click()
        expect(page.get_by_text("Build a dataset first.").first).to_be_visible()
        expect(page.get_by_role("button", name="Train")).to_be_disabled()
        page.get_by_text("Build a dataset", exact=True).click()
        form = page.locator('form[data-kind="dataset"]')
        form.get_by_label("Name").fill("No name")
        form.get_by_role("button", name="Build").click()
        expect(page.get_by_role("alert")).to_contain_text("'No name'")
        form.get_by_label("Name").fill("handbook")
        form.get_by_label("Mask personal data").check()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        row = page.get_by_role("button", name="Build a dataset: handbook")
        expect(row).to_contain_text("running")
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(row).not_to_contain_text("running", timeout=240_000)
        (job,) = store.jobs.list()
        assert job.asked == {"kind": "dataset", "name": "handbook", "mask_pii": True}
        expect(page.get_by_role("status").filter(has_text=job.summary)).to_be_visible()
        assert job.state == "done"
        models = page.get_by_role("region", name="version, made, rows")
        expect(models.get_by_role("row", name="handbook/1")).to_be_visible()


def test_a_key_that_may_not_is_told_which_may(
    store: Store, profile: Profile, open_page: OpenPage
) -> None:
    _, key = store.keys.create("looker")
    with serving(create_app(assistant_over(store), profile=profile)) as base:
        page = open_page(f"{base}/registry")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Continue").click()
        page.get_by_text("Build a dataset", exact=True).click()
        page.locator('form[data-kind="dataset"]').get_by_label("Name").fill("handbook")
        page.get_by_role("button", name="Build").click()
        expect(page.get_by_role("alert")).to_contain_text("fti keys create NAME --jobs")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_jobs_fit_every_screen(
    store: Store, training: JobRecord, open_page: OpenPage, width: str, scheme: str
) -> None:
    note(store, training, *range(1, 30))
    store.jobs.text_file(training.id).write_text("a long line without end " * 40, "utf-8")
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(f"{base}/registry", viewport=WIDTHS[width], color_scheme=scheme)
        expect(page.get_by_role("img", name="Loss by step")).to_be_visible()
        for summary in page.locator("#start summary").all():
            summary.click()
        page.get_by_text("Log", exact=True).click()
        expect(page.get_by_role("region", name="Log of the job")).to_be_visible()
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
