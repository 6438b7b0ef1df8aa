"""The shared storage in one hand: what every pipeline is given."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from fti.store.features.feature_store import FeatureStore
from fti.store.features.history import PruneReport, RetentionConfig
from fti.store.features.ledger_table import LedgerTable
from fti.store.files.layout import Layout
from fti.store.logs.answers import AnswerLog
from fti.store.logs.answertables import AnswerTables
from fti.store.logs.evaluations import Evaluations
from fti.store.logs.jobs import JobLog
from fti.store.logs.keys import KeyStore
from fti.store.logs.rejected import RejectedLog
from fti.store.logs.results import CaseResults
from fti.store.logs.runs import RunLog
from fti.store.logs.step_states import PipelineStates
from fti.store.logs.usage import UsageLog
from fti.store.versioned.casesets import CaseSets
from fti.store.versioned.datasets import DatasetStore
from fti.store.versioned.registry import ModelRegistry

#: Ingests whose versions stay whatever their age.
KEPT_INGESTS = 5


class Store:
    """All stores under one root. Opening makes the root when needed and loads nothing heavy.

    Args:
        root: the folder.
        read_consistency_s: how old, in seconds, a reader's view of the features may be, and of all
            that lies in a bucket.
        migrating: open a store of an older format too, to migrate it.
    """

    def __init__(
        self, root: Path | str, *, read_consistency_s: float = 0.0, migrating: bool = False
    ) -> None:
        self.layout = Layout(Path(root), migrating=migrating, read_consistency_s=read_consistency_s)
        self.features = FeatureStore(self.layout, read_consistency_s=read_consistency_s)
        self.ledger = LedgerTable(self.features)
        self.datasets = DatasetStore(self.layout)
        self.cases = self.casesets = CaseSets(self.layout)
        self.models = ModelRegistry(self.layout)
        self.runs = RunLog(self.layout)
        self.features.recording = self.runs.running
        self.evaluations = Evaluations(self.runs)
        self.results = CaseResults(self.layout)
        self.answers = AnswerLog(self.layout)
        self.rejected = RejectedLog(self.layout)
        self.tables = AnswerTables(self.layout)
        self.keys = KeyStore(self.layout)
        self.usage = UsageLog(self.layout)
        self.pipelines = PipelineStates(self.layout)
        self.jobs = JobLog(self.layout)

    def prune_features(
        self, *, older_than: timedelta, keep_last: int, dry: bool = False
    ) -> PruneReport:
        """Remove old versions of the features; the caller holds ``Layout.writing``.

        Those that nothing names go: no tag, dataset or model, nor one of the last ingests.
        """
        keep = self._features_that_stay(keep_last)
        return self.features.history.prune(keep, older_than=older_than, dry=dry)

    def expire_features(self, retention: RetentionConfig) -> PruneReport | None:
        """Remove versions beyond what is to stay, now and then; None when none had to go.

        The caller holds ``Layout.writing``. What ``prune_features`` keeps stays.
        """
        history = self.features.history
        if not history.due(retention):
            return None
        return history.expire(retention, self._features_that_stay(KEPT_INGESTS))

    def features_in_use(self) -> dict[int, str]:
        """Versions of the features that a dataset was made from, with who refers to each.

        A model refers to one through the dataset that it was trained on.
        """
        trained: dict[str, list[str]] = {}
        for model in self.models.survey()[0]:
            trained.setdefault(model.dataset, []).append(f"model {model.ref}")
        used: dict[int, list[str]] = {}
        for dataset in self.datasets.list():
            who = [f"dataset {dataset.ref}", *trained.get(dataset.ref, ())]
            used.setdefault(dataset.features_version, []).extend(who)
        return {version: ", ".join(who) for version, who in sorted(used.items())}

    def _features_that_stay(self, last: int) -> dict[int, str]:
        return self.features.history.last(last) | self.features_in_use()
