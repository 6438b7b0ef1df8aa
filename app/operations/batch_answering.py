"""A table of questions answered by the assistant of a profile."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fti.app.build import Engines, build_assistant

if TYPE_CHECKING:
    from pathlib import Path

    from fti.app.settings import Settings
    from fti.pipelines.engines.replicas.actors import ExecutorName
    from fti.pipelines.inference.batch.answer_table import BatchReport
    from fti.store.progress import Progress
    from fti.store.store import Store


def run_batch(
    settings: Settings,
    store: Store,
    questions: Path,
    *,
    out: Path | None = None,
    table: str | None = None,
    model: str | None = None,
    limit: int | None = None,
    keep_outdated: bool = False,
    executor: ExecutorName = "local",
    workers: int | None = None,
    progress: Progress,
) -> BatchReport:
    """Answer a table of questions into one file or one table of the store.

    With the executor ``ray`` by ``workers`` replicas of the assistant.
    """
    from fti.pipelines.inference.batch.answer_table import answer_batch
    from fti.pipelines.inference.batch.outputs import open_output
    from fti.pipelines.inference.batch.question_tables import read_questions

    # What can be wrong with the files is found before a model is loaded.
    output = open_output(store, out, table)
    read_questions(questions)
    answer = partial(
        answer_batch,
        questions,
        store=store,
        out=output,
        config=settings.batch,
        limit=limit,
        keep_outdated=keep_outdated,
        progress=progress,
    )
    if executor == "local":
        return answer(assistant=build_assistant(settings, store, model=model))
    from fti.app.operations.replicating import assistant_there, leave_weights, needs_gpu
    from fti.pipelines.engines.replicas.cluster import cluster
    from fti.pipelines.inference.batch.asked_together import OnRay

    recipe = assistant_there(settings, store, model)
    with cluster():
        engines = leave_weights(Engines(settings), recipe)
        return answer(
            assistant=build_assistant(settings, store, model=recipe.model, engines=engines),
            executor=OnRay(recipe, workers, needs_gpu(settings.generator)),
        )
