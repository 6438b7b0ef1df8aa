"""What the profile promises of each pipeline: the values that its requirements are held to.

A section a pipeline, a field a requirement. None promises nothing; it is measured all the same.
"""

from __future__ import annotations

from pydantic import Field

from fti.store.types import Value

Promise = float | None


def _most(says: str) -> Promise:
    found: Promise = Field(default=None, ge=0, description=says)
    return found


def _share(says: str) -> Promise:
    found: Promise = Field(default=None, ge=0, le=1, description=says)
    return found


_MEMORY = "No process held more memory (resident, units of 2**20 bytes) by the end of a run."
_SECONDS = "95 of 100 runs took no longer, in seconds."


class IngestPromises(Value):
    """Of reading, embedding and storing documents."""

    chunks_per_s: Promise = _most("Chunks are embedded and stored at such a rate, or faster.")
    failed_share: Promise = _share("No more of the documents could not be taken.")
    index_recall: Promise = _share("The vector index finds such a part of the exact ten nearest.")
    memory_mb: Promise = _most(_MEMORY)


class WatchPromises(Value):
    """Of a folder that is watched."""

    freshness_p99_s: Promise = _most("99 of 100 changed files can be found within so many seconds.")


class FollowPromises(Value):
    """Of a stream that is followed."""

    freshness_p99_s: Promise = _most(
        "99 of 100 records can be found so many seconds after they happened, a backlog too."
    )
    records_per_s: Promise = _most("Records are stored at such a rate, or faster, while some come.")
    failed_share: Promise = _share("No more of the records could not be taken.")
    memory_mb: Promise = _most(_MEMORY)


class WritePromises(Value):
    """Of data frames that are written as features."""

    chunks_per_s: Promise = _most("Rows are stored at such a rate, or faster.")
    memory_mb: Promise = _most(_MEMORY)


class ReEmbedPromises(Value):
    """Of all vectors made anew."""

    index_recall: Promise = _share("The vector index finds such a part of the exact ten nearest.")
    memory_mb: Promise = _most(_MEMORY)


class ValidatePromises(Value):
    """Of the validation of what landed."""

    age_h: Promise = _most("The newest validation ended so many hours ago at most.")
    seconds_p95: Promise = _most(_SECONDS)


class BuildPromises(Value):
    """Of what makes something of the documents: datasets, pairs, thresholds."""

    seconds_p95: Promise = _most(_SECONDS)
    memory_mb: Promise = _most(_MEMORY)


class FinetunePromises(Value):
    """Of the training of a language model."""

    tokens_per_s: Promise = _most("The slowest training went at such a rate, or faster.")
    memory_mb: Promise = _most(_MEMORY)


class EvaluatePromises(Value):
    """Of evaluations."""

    latency_p95_s: Promise = _most("In the slowest evaluation 95 of 100 cases took no longer.")


class AnswerPromises(Value):
    """Of answers to users."""

    latency_p95_s: Promise = _most("95 of 100 answers took no longer, in seconds.")
    first_token_p95_s: Promise = _most("95 of 100 began within so many seconds.")
    refusal_rate: Promise = _share("No more of the questions were refused.")
    cost_per_1000: Promise = _most(
        "A thousand answers cost no more, by the prices of the section batch."
    )


class BatchPromises(Value):
    """Of tables of questions."""

    answers_per_s: Promise = _most("Questions are answered at such a rate, or faster.")
    failed_share: Promise = _share("No more of the questions could not be answered.")
    cost_per_1000: Promise = _most("A thousand answers cost no more, by the same prices.")
    memory_mb: Promise = _most(_MEMORY)


class QuestionsPromises(Value):
    """Of questions that are answered as they come."""

    freshness_p99_s: Promise = _most(
        "99 of 100 answers are kept so many seconds after they were asked for, a backlog too."
    )


class MonitorPromises(Value):
    """Of monitoring itself."""

    age_h: Promise = _most("The newest monitoring ended so many hours ago at most.")
    seconds_p95: Promise = _most(_SECONDS)


class UpkeepPromises(Value):
    """Of what keeps the store in order."""

    seconds_p95: Promise = _most(_SECONDS)


class PromisesConfig(Value):
    """What each pipeline is to keep to, beside its conditions."""

    days: int = Field(default=7, ge=1, le=3650, description="How far back is measured.")
    min_answers: int = Field(
        default=20, ge=1, description="Answers below which nothing is said of the promises of them."
    )
    ingest: IngestPromises = IngestPromises()
    watch: WatchPromises = WatchPromises()
    follow: FollowPromises = FollowPromises()
    write: WritePromises = WritePromises()
    re_embed: ReEmbedPromises = ReEmbedPromises()
    validation: ValidatePromises = ValidatePromises()
    repair: UpkeepPromises = UpkeepPromises()
    forget: UpkeepPromises = UpkeepPromises()
    dataset: BuildPromises = BuildPromises()
    pairs: BuildPromises = BuildPromises()
    negatives: BuildPromises = BuildPromises()
    rebuild_dataset: BuildPromises = BuildPromises()
    finetune: FinetunePromises = FinetunePromises()
    finetune_embedder: BuildPromises = BuildPromises()
    rebuild: BuildPromises = BuildPromises()
    calibrate: BuildPromises = BuildPromises()
    evaluate: EvaluatePromises = EvaluatePromises()
    evaluate_retrieval: EvaluatePromises = EvaluatePromises()
    answer: AnswerPromises = AnswerPromises()
    batch: BatchPromises = BatchPromises()
    questions: QuestionsPromises = QuestionsPromises()
    monitor: MonitorPromises = MonitorPromises()
    monitor_answers: UpkeepPromises = UpkeepPromises()

    def value(self, pipeline: str, name: str) -> float | None:
        """What is promised; None where nothing is."""
        found: float | None = getattr(getattr(self, section_of(pipeline)), name)
        return found


def section_of(pipeline: str) -> str:
    """The section that holds a pipeline's promises."""
    # ``validate`` is a method of every value.
    return "validation" if pipeline == "validate" else pipeline.replace("-", "_")


def promise_says(pipeline: str, name: str) -> str:
    """The sentence of a promise."""
    section = type(getattr(PromisesConfig(), section_of(pipeline)))
    return str(section.model_fields[name].description)
