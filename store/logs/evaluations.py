"""Evaluations as tables: the scores of each, and how every case went.

An evaluation is a run; its cases with their scores are what it keeps under ``cases``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fti.store.errors import RunNotFound
from fti.store.logs.runs import RunLog
from fti.store.tabular.value_tables import also_pandas, flat, table_of_rows
from fti.store.tabular.where import Where
from fti.store.types import Run

if TYPE_CHECKING:
    import pyarrow as pa

_CASES = "cases"  # as an evaluation attaches them to its run
_OF_RUN = ("id", "started_at", "finished_at", "status", "code_version", "error")
_INPUTS = ("model", "contract", "case_set", "frozen", "features_version", "system", "use_retrieval")


class Evaluations:
    """The evaluations among a store's runs."""

    def __init__(self, runs: RunLog) -> None:
        self._runs = runs

    def list(self, limit: int | None = None) -> Sequence[Run]:
        """Runs that evaluated, newest first."""
        return self._runs.list("evaluate", limit)

    def to_arrow(
        self,
        runs: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> pa.Table:
        """Every evaluation with its scores as an Arrow table, or the cases of some.

        Args:
            runs: ids of evaluations: a row is a case, under ``run`` and ``model``, with its scores
                and, under ``fault``, what went wrong. Without, a row is an evaluation, newest
                first, and a score is named by its path: ``answers.f1.mean``.
            columns: some of them; all without.
            where: only rows for which these conditions hold, as ``fault=retrieval_miss`` or
                ``answers.f1.mean>0.5``.

        Raises:
            RunNotFound: there is no such run, or it was no evaluation that came to its end.
            InputError, InvalidFilter: a column or a condition does not exist.
            IntegrityError: the record of a run cannot be read.
        """
        if runs is None:
            rows = map(_scores, self.list())
            return table_of_rows(rows, columns=columns, where=where, known=(*_OF_RUN, *_INPUTS))
        ids = [runs] if isinstance(runs, str) else runs
        cases = (row for run_id in ids for row in self._cases(run_id))
        return table_of_rows(cases, columns=columns, where=where, known=("run", "model", "id"))

    to_pandas = also_pandas(to_arrow)

    def _cases(self, run_id: str) -> Iterator[dict[str, Any]]:
        run = self._runs.get(run_id)
        if run.kind != "evaluate":
            raise RunNotFound(
                f"Run {run_id!r} is no evaluation: it is of the kind {run.kind!r}.",
                hint="See those there are: store.evaluations.list()",
            )
        for row in self._runs.attached(run_id, _CASES):
            yield {"run": run_id, "model": run.inputs.get("model", ""), **row}


def _scores(run: Run) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in _OF_RUN},
        **{name: run.inputs.get(name, "") for name in _INPUTS},
        **dict(flat(run.metrics)),
    }
