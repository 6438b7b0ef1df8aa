"""The one composition root: settings in, working parts out.

Whatever embeds, searches, answers, judges or writes questions is put together here and nowhere
else; commands, operations and the service ask for what they need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from fti.store.contracts.prompt_contract import Contract, TokenCounter
from fti.store.errors import ConfigError, ContractError, ModelUnavailable, StoreEmpty
from fti.store.types import EmbedderIdentity, ModelIdentity, RetrievalContract

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
    from fti.pipelines.engines.cross_encoders.entailment import Entailment
    from fti.pipelines.engines.cross_encoders.reranking import Reranker
    from fti.pipelines.engines.embedders.embedding import Embedder
    from fti.pipelines.engines.generator import Generator, GeneratorConfig
    from fti.pipelines.engines.replicas.elsewhere import Elsewhere
    from fti.pipelines.feature.dataset.round_trip import ReaderReplicas, RoundTrip
    from fti.pipelines.feature.dataset.sources.question_writing import Writer
    from fti.pipelines.feature.dataset.sources.writer import QuestionWriter
    from fti.pipelines.inference.answering.answer import Assistant
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.pipelines.inference.evaluating.judging import Judge
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion

BASE = "base"
EXTRACTIVE = "extractive"


def built_in(settings: Settings) -> tuple[str, ...]:
    """What can answer beside the versions of the registry."""
    from fti.pipelines.inference.answering.plain_model import PLAIN

    # The extractive engine is no language model, and says nothing by itself.
    return (BASE, EXTRACTIVE, *((PLAIN,) if settings.generator.engine != EXTRACTIVE else ()))


class Engines:
    """The models of a profile, each loaded at its first use and then shared.

    Args:
        settings: the profile, resolved.

    Attributes:
        elsewhere: what generates, where only its replicas hold its weights.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.elsewhere: Elsewhere | None = None
        if settings.generator.engine == "llamacpp":
            from fti.pipelines.engines.openmp import wait_asleep

            wait_asleep()  # before the embedder's torch is imported

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder: the profile's, or the version of it that the store was switched to."""
        from fti.app.embedder_choice import load_profile_embedder

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
        from fti.pipelines.engines.causal_lm.loading import load_to_answer

        if self.settings.generator.engine != "transformers":
            return None
        return load_to_answer(self.settings.generator)

    def extractive(self) -> Generator:
        """The baseline without a language model: the retrieved sentence nearest to the question."""
        from fti.pipelines.engines.extractive import ExtractiveGenerator

        return ExtractiveGenerator(
            self.embedder, min_similarity=self.settings.generator.min_similarity
        )

    def generator(self, version: ModelVersion | None = None, *, store: Store) -> Generator:
        """The base model, the base with a version's adapter, or a version that is a whole model."""
        from fti.pipelines.engines.generation import load_generator

        if self.elsewhere is not None:
            return self.elsewhere
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
        if config.engine == "llamacpp":
            from fti.pipelines.engines.llama_cpp.llamacpp_generator import load_llamacpp

            return load_llamacpp(config, whole=folder, base=version.contract.base)
        if config.engine != "transformers":
            raise ContractError(
                f"The engine {config.engine!r} cannot load {version.ref}, which is a whole model.",
                hint="Use a profile with generator.engine: transformers or llamacpp; or have the "
                f"server serve it: fti models export {version.ref} --format merged --out FOLDER, "
                "vllm serve FOLDER, and its name in generator.id.",
            )
        base = version.contract.base
        return serve_here(load_whole(folder, config, base, to_answer=True), config)


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
        at: a version of its features, or a tag; empty: the one of the settings.

    Raises:
        StoreEmpty, VersionNotFound: before any model is loaded.
    """
    from fti.pipelines.inference.answering.retrieve import Retriever, searched

    engines = Engines(settings)
    require_documents(store)
    features = store.features.checkout(at) if at else None
    features = features or searched(store.features, settings.inference.retrieval)
    return Retriever(features, engines.embedder, engines.reranker, settings.inference.retrieval)


def base_contract(
    settings: Settings,
    base: ModelIdentity,
    embedder: EmbedderIdentity,
    retrieval: RetrievalContract | None,
) -> Contract:
    """The contract that the profile's base model is served and trained under.

    Args:
        settings: resolved settings.
        base: the model.
        embedder: whose vectors are searched.
        retrieval: how passages are found: as served, or as for the rows to train on.
    """
    prompt = settings.prompt
    return Contract(
        form=prompt.form,
        base=base,
        embedder=embedder,
        retrieval=retrieval,
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
        model: ``base``, ``extractive``, ``plain``, ``NAME@ALIAS`` or ``NAME/N``; None means
            ``settings.model``.
        use_retrieval: whether passages are retrieved at all.
        engines: models that are loaded already.
        may_be_empty: accept a store without documents: a service may start before they come.
    """
    from fti.pipelines.engines.generation import engine_settings
    from fti.pipelines.engines.generator import GeneratorConfig
    from fti.pipelines.inference.answering.answer import Assistant
    from fti.pipelines.inference.answering.plain_model import PLAIN, PlainAssistant
    from fti.pipelines.inference.answering.retrieve import retrieval_contract

    name = model or settings.model
    # What can be refused without loading a model is refused first.
    if name == PLAIN and PLAIN not in built_in(settings):
        raise ConfigError(
            "The profile's engine 'extractive' is no language model, and says nothing by itself.",
            hint="Use a profile with one: --set generator.engine=transformers",
        )
    version = None if name in (BASE, EXTRACTIVE, PLAIN) else store.models.get(name)
    if use_retrieval and not may_be_empty and name != PLAIN:
        require_documents(store)
    engines = engines or Engines(settings)
    if name == PLAIN:
        generator = engines.generator(store=store)
        return PlainAssistant(store, engines.embedder, generator, settings.inference)
    config = settings.generator
    if name == EXTRACTIVE:
        config = GeneratorConfig(engine="extractive", min_similarity=config.min_similarity)
    generator = (
        engines.extractive() if name == EXTRACTIVE else engines.generator(version, store=store)
    )
    elsewhere = engines.elsewhere if name != EXTRACTIVE else None
    contract = (
        base_contract(
            settings,
            generator.identity,
            engines.embedder.identity,
            retrieval_contract(settings.inference.retrieval, engines.reranker),
        )
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
        engine=engine_settings(config) if elsewhere is None else elsewhere.engine,
    )


def build_writer(settings: Settings, store: Store, embedder: Embedder) -> QuestionWriter:
    """The language model that writes questions, ready to.

    Raises:
        ConfigError: the profile has no language model for it.
        ModelUnavailable: the weights are not on this machine, or the server does not answer.
    """
    from fti.pipelines.engines.generation import load_generator
    from fti.pipelines.feature.dataset.sources.writer import QuestionWriter

    config = settings.dataset.writer
    generator = load_generator(writing_model(settings), embedder=embedder)
    return QuestionWriter(generator, config, store.results, seed=settings.dataset.seed)


def writing_model(settings: Settings) -> GeneratorConfig:
    """Which language model ``build_writer`` loads.

    Raises:
        ConfigError: the profile has none.
    """
    model = settings.dataset.writer.generator or settings.generator
    if model.engine == "extractive":
        raise ConfigError(
            "The engine 'extractive' is no language model, and writes no questions.",
            hint="Name one in dataset.writer.generator, such as {engine: openai, id: MODEL, "
            "server: {base_url: http://HOST/v1}}.",
        )
    return model


def build_trained_writer(settings: Settings, store: Store, embedder: Embedder) -> Writer:
    """The built-in question writer, under the machine settings of the profile's generator.

    Raises:
        ModelUnavailable: its weights are not on this machine.
    """
    from fti.pipelines.engines.generation import load_generator
    from fti.pipelines.feature.dataset.sources.trained_writer import TrainedWriter

    return TrainedWriter(
        load_generator(trained_writing_model(settings), embedder=embedder),
        settings.dataset.writer,
        store.results,
        seed=settings.dataset.seed,
    )


def trained_writing_model(settings: Settings) -> GeneratorConfig:
    """Which language model ``build_trained_writer`` loads."""
    from fti.pipelines.engines.generator import GeneratorConfig
    from fti.pipelines.engines.weights import BUILTIN_WRITER

    own = settings.generator
    return GeneratorConfig(id=BUILTIN_WRITER, device=own.device, batch_size=max(own.batch_size, 16))


def build_round_trip(
    settings: Settings,
    store: Store,
    engines: Engines,
    replicas: Callable[[Assistant], ReaderReplicas] | None = None,
) -> RoundTrip | None:
    """What asks the base model what a writer wrote; None where the profile has no language model.

    Args:
        settings: resolved settings.
        store: where the passages lie.
        engines: models that are loaded already.
        replicas: opens replicas of the assistant that is given; None: it is asked here.

    Raises:
        ModelUnavailable: its weights are not on this machine.
    """
    from fti.pipelines.feature.dataset.round_trip import RoundTrip

    if settings.generator.engine == EXTRACTIVE or not settings.dataset.writer.round_trip:
        return None
    assistant = build_assistant(settings, store, model=BASE, engines=engines)
    return RoundTrip(
        assistant.generator,
        assistant.contract,
        engines.embedder,
        store.results,
        batch=settings.generator.batch_size,
        executor=None if replicas is None else replicas(assistant),
    )


def token_counter(settings: Settings, embedder: Embedder) -> tuple[TokenCounter, str]:
    """What counts tokens as the profile's generator does, and the name of its tokenizer.

    Statistics must not ask for weights: where the generator's tokenizer is not on this machine,
    the embedder's counts, and the name says so.
    """
    from fti.pipelines.engines.extractive import EmbedderCounter

    config = settings.generator
    by_embedder = EmbedderCounter(embedder), f"{embedder.identity.id} (the embedder's)"
    if config.engine == "extractive":
        return by_embedder
    try:
        counter = model_counter(config)
    except ModelUnavailable:
        return by_embedder
    if config.server is not None:
        return counter, config.server.tokenizer or "estimate: a token per 3 bytes"
    return counter, config.id


def model_counter(config: GeneratorConfig) -> TokenCounter:
    """What counts tokens as a language model does; its weights are not loaded.

    Raises:
        ModelUnavailable: its tokenizer is not on this machine.
    """
    from fti.pipelines.engines.causal_lm.loading import load_tokenizer
    from fti.pipelines.engines.encoding import PromptEncoder
    from fti.pipelines.engines.remote.openai_server import server_counter
    from fti.pipelines.engines.weights import find_model

    if config.server is not None:
        return server_counter(config.server)
    return PromptEncoder(load_tokenizer(find_model(config.id, revision=config.revision)))
